r"""Amortised models: latents of any kind, inferred by a guide that is trained with them.

.. math::
    z \sim p_\theta(z), \qquad \eta = f_\theta(z), \qquad y \sim p(y \mid \eta), \qquad q_\phi(z \mid y)

A member of the family writes the program, ``__call__``, and the guide, ``guide``. Both sample the latents of a trial
inside ``with self.trials(data) as some``, with everything but the trial in the event shape; ``some`` is the recording,
or the batch of its trials that is looked at. What a trial tells the guide is ``self.inputs(some)``. Networks are
entered outside the plate by :func:`mrgp.parts.networks.network`, or are ``numpyro.param``, pytrees of arrays::

    @dataclass(frozen=True)
    class Rotating(Amortised):
        n_latents: int = 2

        def __call__(self, data):
            readout = self.emission_sites(data)
            W = numpyro.param("W", lambda key: 0.1 * random.normal(key, (self.n_latents, data.layout.total_neurons)))
            with self.trials(data) as some:
                start = numpyro.sample("start", dist.Normal(jnp.zeros(self.n_latents)).to_event(1))
                x = ...  # (trial, time, latent), from start
                self.observe(some, x @ W, readout, latents=x)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpyro
from jax import Array, lax

from mrgp.families.model import Model
from mrgp.inference.amortised_bound import SCORED, SHOWN
from mrgp.inference.amortised_parameters import unpacked
from mrgp.inference.amortised_svi import AmortisedSVI
from mrgp.parts.emissions import ByRegion, Emission, Gaussian
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import Readout
from mrgp.recordings.missing import Missing, entries
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.amortised_conditional import ETA, LATENTS, AmortisedConditional, DrawnLatents, LatentsShown
from mrgp.results.amortised_fit import AmortisedFit
from mrgp.results.fit import Fit

LEAST_SCALE = 1e-12  # in units of the recording: below it a neuron was the same in every bin


@dataclass(frozen=True)
class Amortised(Model, abstract=True):
    """Base class of models whose latents are inferred by a guide.

    Args:
        emission: An :class:`mrgp.Emission` or its name: the distribution of a value given eta.
        refinement: Gradient steps by which what the guide says of a trial is bettered, wherever it is asked of a
            recording; none in training.
    """

    _: KW_ONLY
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    refinement: int = 0

    fit_class: ClassVar[type[Fit]] = AmortisedFit
    methods: ClassVar[tuple[str, ...]] = (AmortisedSVI.written_name(),)
    latents_shown: ClassVar[LatentsShown] = DrawnLatents()
    first_horizon: ClassVar[float] = 1.0  # share of a trial's bins that training scores at first; all when it is warm

    def __post_init__(self) -> None:
        if isinstance(self.emission, Mapping):
            object.__setattr__(self, "emission", ByRegion.of(self.emission))
        self.resolve()
        if self.refinement < 0:
            raise ValueError(f"refinement counts at least 0 steps, not {self.refinement}")
        if self.emission.is_autocorrelated:
            model = type(self).__name__
            raise ValueError(f"{model} takes the bins of a trial as independent given eta: use emission='gaussian'")

    def guide(self, data: MultiRegionData) -> None:
        """Sample the latents of each trial from q(z | y), at the sites of the program."""
        raise NotImplementedError

    # ---- pieces of programs and guides ---------------------------------------------------------------------------

    @contextmanager
    def trials(self, data: MultiRegionData) -> Iterator[MultiRegionData]:
        """Enter the plate of trials; gives those that are looked at, weighted to stand for all."""
        with numpyro.plate("trial", data.n_trials, subsample_size=data.batch_size) as index:
            yield data if data.batch_size is None else data.batch(index)

    @staticmethod
    def observed(data: MultiRegionData) -> Array:
        """True where an entry was observed, (trial, time, neuron)."""
        return entries(Missing(data.observed, data.pattern, data.length), data.values.shape)  # type: ignore[arg-type]

    def standardised(self, data: MultiRegionData) -> Array:
        """Values in units of each neuron around its mean, 0 where missing, (trial, time, neuron)."""
        # As of the recording that the model was fitted to, whatever it is asked about.
        center = lax.stop_gradient(numpyro.param("input_center", jnp.asarray(data.center)))
        scale = lax.stop_gradient(numpyro.param("input_scale", jnp.asarray(data.scale)))
        # Neurons that never changed there say nothing, whatever they do later.
        units = (data.floats - center) / jnp.maximum(scale, LEAST_SCALE)
        values = jnp.where(scale > LEAST_SCALE, units, 0.0)
        return jnp.where(self.observed(data), values, 0.0)

    def inputs(self, data: MultiRegionData) -> Array:
        """Values and mask of trials as the guide sees them, (trial, time, 2 x neuron).

        They are in single precision: standardised values, 0 where the guide sees none, and 1 where it sees one. Values
        of a bin are the larger the fewer are seen, so that their sum stays what it was. Of training some entries are
        hidden, which the program then scores (coordinated dropout: Keshtkaran & Pandarinath 2019, NeurIPS), so that
        nothing is learned by copying, and neurons that nobody has seen are predicted.
        """
        shown = numpyro.deterministic(SHOWN, jnp.asarray(True))
        seen = self.observed(data) & shown
        share = jnp.maximum(seen.mean(-1, keepdims=True), 1 / seen.shape[-1])
        values = jnp.where(seen, self.standardised(data), 0.0) / share
        return jnp.concatenate([values, seen], -1).astype(jnp.float32)

    def unit(self, data: MultiRegionData) -> Array:
        """Unit in which eta is measured, of the recording that the model was fitted to, (neuron,)."""
        return lax.stop_gradient(numpyro.param("unit", jnp.asarray(self.emission.unit(data))))

    def emission_sites(self, data: MultiRegionData) -> Readout:
        """Sample the emission's own parameters, and an offset for every neuron."""
        unread = jnp.zeros((data.layout.total_neurons, 1))
        return self.emission.sample(data, LatentLayout(data.layout.n_neurons, 1, (0,) * data.layout.n_regions), unread)

    def observe(self, data: MultiRegionData, signal: Array, readout: Readout, latents: Array) -> None:
        """Sample the observed site ``y`` inside ``trials``.

        Args:
            data: What :meth:`trials` gave.
            signal: eta less the offsets, (trial, time, neuron).
            readout: From :meth:`emission_sites`.
            latents: What :meth:`mrgp.Fit.latents` shows, (trial, time, latent).
        """
        numpyro.deterministic(LATENTS, latents)
        eta = numpyro.deterministic(ETA, signal + readout.offset)
        scored = self.observed(data) & numpyro.deterministic(SCORED, jnp.asarray(True))
        numpyro.sample("y", self.emission.given(readout, eta).mask(scored).to_event(2), obs=data.floats)

    # ---- what inference and results ask --------------------------------------------------------------------------

    def first_guess(self, data: MultiRegionData) -> Mapping[str, Any]:
        """First guess of some parameters from the recording.

        Their names are those that :attr:`mrgp.Fit.sites` has. Other sites begin at the means of their priors, and
        networks as they are made.
        """
        return {}

    def conditional(self, data: MultiRegionData, sites: Mapping[str, Any]) -> AmortisedConditional:
        return AmortisedConditional(self, data, unpacked(self, data, sites), self.refinement)
