r"""LFADS: rates of each trial by learned dynamics, from its start and inferred inputs.

Pandarinath et al. (2018, Nat. Methods 15, 805-815); its dynamics by default after Sedler et al. (2023, NBDT).
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import distributions as dist
from numpyro import handlers

from mrgp.families.amortised import Amortised
from mrgp.inference.amortised_parameters import unpacked
from mrgp.parts.drift import Drift, NoDrift
from mrgp.parts.dynamics import Dynamics
from mrgp.parts.emissions import Emission, Poisson
from mrgp.parts.networks import BothWays, gaussian, layers, network, over_time, quiet, single
from mrgp.parts.networks.autoregression import Autoregression, law_of_inputs
from mrgp.parts.networks.cells import Cell, Residual
from mrgp.recordings.layout import Layout
from mrgp.recordings.missing import inside
from mrgp.recordings.recording import MultiRegionData, stand_in

OWN_EPOCHS = 300  # without a guide: hidden neurons of recordings of 70 to 220 trials are predicted best near here


@dataclass(frozen=True)
class LFADS(Amortised):
    r"""Learned dynamics that start anew in every trial, and are driven by a few inferred inputs.

    .. math::
        g_0 = m + W_0 z, \quad z \sim N(0, I), \qquad u_i \sim AR(1), \qquad g_t = \mathrm{cell}(g_{t-1}, u_t), \qquad
        f_t = W g_t, \qquad \eta_t = C f_t + D o + d

    with the drift D o of the trial, none by default. Regions are one population: every neuron reads the factors f. C
    and D are in units of the emission. The guide reads a trial forwards and backwards; of the inputs it infers every
    bin from the whole trial, so that they see the bin that they explain: compare models by hidden neurons, not by what
    they reconstruct. The program is trained first, with a posterior of each trial that has numbers of its own
    (``own_epochs`` of :class:`mrgp.AmortisedSVI`, 300 here), and then a guide for it: of a few hundred trials a guide
    learns these by heart too soon. To predict hidden neurons give as many inputs as factors, and ``refinement=100``.
    ``fit.posterior("states")`` are the states g, whose fixed points :func:`mrgp.metrics.fixed_points` finds. Sample
    sites: ``initial`` (trial; dim) and ``inputs`` (trial; time, input); ``input_timescale`` in seconds,
    ``input_spread``, and those of drift and emission.

    Args:
        n_factors: Factors f that neurons read.
        n_states: States g of the generator. Of dynamics "residual" take as many as the system has, or a few more.
        n_inputs: Inferred inputs u; 0 for dynamics that nothing drives.
        n_initial: Numbers z from which a trial starts.
        dynamics: "residual", "gru" or a :class:`mrgp.parts.networks.cells.Cell`.
        conditions: Whether the mean of z is another for each condition.
        width: States of each of the guide's two networks.
        drift: "none", "slow" or a :class:`mrgp.SlowDrift`: what changes slowly from trial to trial of a session, and
            is in no trial's latents.
        emission: An :class:`mrgp.Emission` or its name.
    """

    n_factors: int = 20
    n_states: int = 32
    n_inputs: int = 1
    n_initial: int = 32
    dynamics: Cell = Residual()  # noqa: RUF009  a frozen part
    conditions: bool = False
    width: int = 64
    _: KW_ONLY
    drift: Drift = NoDrift()  # noqa: RUF009  a frozen part
    emission: Emission = Poisson()  # noqa: RUF009  a frozen part

    has_dynamics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("n_factors", 1), ("n_states", 1), ("n_inputs", 0), ("n_initial", 1), ("width", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} counts at least {least}, not {getattr(self, name)}")

    @property
    def knows_conditions(self) -> bool:
        return self.conditions

    @property
    def usual_settings(self) -> Mapping[str, Any]:
        return {"own_epochs": OWN_EPOCHS}

    def __call__(self, data: MultiRegionData) -> None:
        readout, unit = self.emission_sites(data), self.unit(data)  # d, and what else the emission has
        start = network("start", lambda key: layers().Linear(self.n_initial, self.n_states, key=key))  # W_0, m
        cell = network("cell", lambda key: self.dynamics.make(self.n_inputs, self.n_states, key))
        factors = network("factors", lambda key: layers().Linear(self.n_states, self.n_factors, False, key=key))  # W
        neurons = self._neurons(data)  # C
        center, drift = self._center(data), self.drift.sample(data, unit)  # D, o
        law = law_of_inputs(self.n_inputs, data.bin_width)
        with self.trials(data) as some:
            z = single(numpyro.sample("initial", dist.Normal(center[some.condition], 1.0).to_event(1)))
            u = jnp.zeros((*some.values.shape[:2], 0), z.dtype)
            if law is not None:
                u = single(numpyro.sample("inputs", Autoregression(*law, data.n_bins, some.length)))
            g = over_time(cell, jax.vmap(start)(z), u)
            g = numpyro.deterministic("states", g)
            f = jax.vmap(jax.vmap(factors))(g)
            self.observe(some, drift.added(unit * jax.vmap(jax.vmap(neurons))(f), some), readout, latents=f)

    def guide(self, data: MultiRegionData) -> None:
        C, drift = self._neurons(data).weight, self.drift.sample(data, self.unit(data))
        n_read = 2 * self.n_factors + self.drift.n_told
        whole = network("whole", lambda key: BothWays.of(n_read, self.width, key))
        initial = network("initial_head", lambda key: layers().Linear(2 * self.width, 2 * self.n_initial, key=key))
        if self.n_inputs:
            bins = network("bins", lambda key: BothWays.of(n_read, self.width, key))
            inputs = network("inputs_head", lambda key: layers().Linear(2 * self.width, 2 * self.n_inputs, key=key))
        with self.trials(data) as some:
            seen = drift.beside(self.reading(some, C).all, some)
            numpyro.sample("initial", gaussian(jax.vmap(initial)(whole(seen)[0])).to_event(1))
            if self.n_inputs:
                q = gaussian(jax.vmap(jax.vmap(inputs))(bins(seen)[1]))
                if some.length is not None:  # bins after a trial's end cost nothing
                    q = q.mask(inside(some.length, *seen.shape[:2])[..., None])
                numpyro.sample("inputs", q.to_event(2))

    def learned_dynamics(self, layout: Layout, sites: Mapping[str, Any]) -> Dynamics:
        cell = unpacked(self, stand_in(layout), sites).networks["cell$params"]
        with handlers.seed(rng_seed=0), handlers.substitute(data={"cell$params": cell}):
            step = network("cell", lambda key: self.dynamics.make(self.n_inputs, self.n_states, key))

        def velocity(states: Array) -> Array:
            still = jnp.zeros((len(states), self.n_inputs), states.dtype)
            return (step(states, still) - states) / layout.bin_width

        return Dynamics(velocity, self.n_states, layout.bin_width, "states")

    def _neurons(self, data: MultiRegionData) -> Any:
        """Loadings of neurons, of the program and of the guide."""
        return network("neurons", lambda key: quiet(self.n_factors, data.layout.total_neurons, key))

    def _center(self, data: MultiRegionData) -> Array:
        """Mean of z in every condition, (condition, dim)."""
        n_conditions = max(1, len(data.layout.conditions))
        if not self.conditions:
            return jnp.zeros((n_conditions, self.n_initial), jnp.float32)
        return numpyro.param("initial_center", jnp.zeros((n_conditions, self.n_initial), jnp.float32))
