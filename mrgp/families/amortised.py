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
from typing import Any, ClassVar, NamedTuple

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
from mrgp.results.amortised_conditional import AmortisedConditional, DrawnLatents, LatentsShown
from mrgp.results.amortised_fit import AmortisedFit
from mrgp.results.draws import ETA, LATENTS
from mrgp.results.fit import Fit

LEAST_KNOWN = 1e-3  # share of the information, below which little is known and little is said
LEAST_SCALE = 1e-12  # in units of the recording: below it a neuron was the same in every bin


class Usual(NamedTuple):
    """Mean and sd of each neuron, (neuron,) each."""

    center: Array
    scale: Array

    def units(self, values: Array) -> Array:
        """Values (..., neuron) around each neuron's mean, in units of its sd."""
        # Neurons that never changed say nothing, whatever they do later.
        changed = self.scale > LEAST_SCALE
        return jnp.where(changed, (values - self.center) / jnp.maximum(self.scale, LEAST_SCALE), 0.0)


class Reading(NamedTuple):
    """Trials as a guide sees them, by the loadings of the neurons that it sees.

    Attributes:
        values: Around each neuron's mean in units of its sd, 0 where the guide sees none, (trial, time, neuron).
        shown: 1 where it sees one, 0 elsewhere.
        weights: Of a neuron's value in each sum, (neuron, latent).
        size: By which sums are divided, (trial, time, latent).
        share: Of the information on each latent that is seen, (trial, time, latent).
    """

    values: Array
    shown: Array
    weights: Array
    size: Array
    share: Array

    @property
    def all(self) -> Array:
        """Sums of values, and beside them the share that is seen, (trial, time, 2 x latent)."""
        return jnp.concatenate([self.values @ self.weights / self.size, self.share], -1)

    def beyond(self, expected: Array, values: Array, shown: Array, size: Array) -> Array:
        """Sums of the values of one bin less what was ``expected`` of the neurons, (trial, latent)."""
        return (values - shown * expected).astype(self.weights.dtype) @ self.weights / size


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
    has_own_posteriors: ClassVar[bool] = True  # without a guide, what is inferred of a trial has numbers
    reads_across: ClassVar[bool] = True  # a region may be hidden in training, and is then known by what others do

    def __post_init__(self) -> None:
        if isinstance(self.emission, Mapping):
            object.__setattr__(self, "emission", ByRegion.of(self.emission))
        self.resolve()
        if self.refinement < 0:
            raise ValueError(f"refinement counts at least 0 steps, not {self.refinement}")
        if self.emission.is_autocorrelated:
            model = type(self).__name__
            raise ValueError(f"{model} takes the bins of a trial as independent given eta: use emission='gaussian'")

    @property
    def is_bound(self) -> bool:
        return True

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

    @staticmethod
    def usual(data: MultiRegionData) -> "Usual":
        """Mean and sd of each neuron in the recording that the model was fitted to."""
        center = numpyro.param("input_center", jnp.asarray(data.center))
        scale = numpyro.param("input_scale", jnp.asarray(data.scale))
        return Usual(lax.stop_gradient(center), lax.stop_gradient(scale))

    def shown(self, data: MultiRegionData) -> tuple[Array, Array]:
        """Return values of trials, and 1 where the guide sees one, (trial, time, neuron) each.

        Values are in units of each neuron around its mean, and 0 where the guide sees none. Of training some entries
        are hidden, which the program then scores (coordinated dropout: Keshtkaran & Pandarinath 2019, NeurIPS), so that
        nothing is learned by copying, and neurons that nobody has seen are predicted.
        """
        seen = self.observed(data) & numpyro.deterministic(SHOWN, jnp.asarray(True))
        values = jnp.where(seen, self.usual(data).units(jnp.asarray(data.floats)), 0.0)
        return values.astype(jnp.float32), seen.astype(jnp.float32)

    def inputs(self, data: MultiRegionData) -> Array:
        """Values and mask as the guide sees them (see :meth:`shown`), (trial, time, 2 x neuron).

        Values of a bin are the larger the fewer are seen, so that their sum stays what it was.
        """
        values, seen = self.shown(data)
        share = jnp.maximum(seen.mean(-1, keepdims=True), 1 / seen.shape[-1])
        return jnp.concatenate([values / share, seen], -1)

    def reading(self, data: MultiRegionData, loadings: Array) -> "Reading":
        """Sum what the guide sees of trials by loadings (neuron, latent), in units of the emission.

        Values of the neurons seen are summed by what they tell of each latent that they read: the gradient of log p(y)
        at their means, in units of its own sd. So a guide learns nothing of single neurons but by the loadings, and
        those are learned by the program alone.
        """
        values, seen = self.shown(data)
        told = (self.usual(data).scale / self.unit(data)).astype(jnp.float32)  # sd of a neuron's gradient
        weights = lax.stop_gradient(loadings) * told[:, None]
        squares = weights**2
        whole = squares.sum(0)
        known = seen @ squares
        size = jnp.sqrt(jnp.maximum(known, LEAST_KNOWN * whole) + LEAST_SCALE)
        return Reading(values, seen, weights, size, known / (whole + LEAST_SCALE))

    def unit(self, data: MultiRegionData) -> Array:
        """Unit in which eta is measured, of the recording that the model was fitted to, (neuron,)."""
        return lax.stop_gradient(numpyro.param("unit", jnp.asarray(self.emission.unit(data))))

    def emission_sites(self, data: MultiRegionData) -> Readout:
        """Sample the emission's own parameters, and an offset for every neuron."""
        unread = jnp.zeros((data.layout.total_neurons, 1))
        return self.emission.sample(data, LatentLayout(data.layout.n_neurons, 1, (0,) * data.layout.n_regions), unread)

    def observe(self, data: MultiRegionData, signal: Array, readout: Readout, latents: Array) -> Array:
        """Sample the observed site ``y`` inside ``trials``; return which entries it scores.

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
        return scored

    # ---- what inference and results ask --------------------------------------------------------------------------

    def first_guess(self, data: MultiRegionData) -> Mapping[str, Any]:
        """First guess of some parameters from the recording.

        Their names are those that :attr:`mrgp.Fit.sites` has. Other sites begin at the means of their priors, and
        networks as they are made.
        """
        return {}

    def conditional(self, data: MultiRegionData, sites: Mapping[str, Any]) -> AmortisedConditional:
        return AmortisedConditional(self, data, unpacked(self, data, sites), self.refinement)
