"""States, latents and predictions of switching linear dynamics, given a recording."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array, lax, random
from numpyro import handlers

from mrgp.likelihoods.switching.chain import drawn
from mrgp.likelihoods.switching.distribution import SwitchingLinear
from mrgp.likelihoods.switching.hidden_states import most_likely
from mrgp.likelihoods.switching.posterior import Posterior, eta_of, potentials
from mrgp.parts.emissions import Emission
from mrgp.parts.emissions.counts import prediction
from mrgp.parts.latents import LatentLayout
from mrgp.parts.populations import Populations
from mrgp.parts.switching import SwitchingDynamics
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.conditional import within_names
from mrgp.results.draws import ETA, LATENTS, VALUES, mean_of

STATES = "hidden_states"  # of drawn trials, (trial, time)
DRAWS = 200  # of the model, for moments of values before anything was observed
SEED = 0  # these are the same each time


class SwitchingModel(Protocol):
    """Interface that results need of a model with switching dynamics."""

    @property
    def emission(self) -> Emission: ...

    def __call__(self, data: MultiRegionData) -> None: ...
    @property
    def populations(self) -> Populations: ...
    def assignment(self, layout: Layout) -> LatentLayout: ...


@dataclass(frozen=True)
class SwitchingConditional:
    """A model with switching dynamics and its parameters, given a recording.

    Attributes:
        model: The model.
        data: The recording.
        sites: Parameters.
    """

    model: SwitchingModel
    data: MultiRegionData
    sites: Mapping[str, Any]

    @cached_property
    def law(self) -> SwitchingLinear:
        """Distribution of the recording's trials."""
        return _law(self.model, self.data, self._arrays)

    @cached_property
    def posterior(self) -> Posterior:
        """Posterior of states and latents."""
        return _posterior(self.law, jnp.asarray(self.data.values))

    @property
    def dynamics(self) -> SwitchingDynamics:
        return self.law.system.dynamics

    def log_likelihood(self) -> np.ndarray:
        """Lower bound of log p(y_trial | parameters) in nats, (trial,)."""
        return np.asarray(self.posterior.bound)

    def most_likely(self) -> np.ndarray:
        """Most likely path of states of each trial given q(x), (trial, time)."""
        return np.asarray(_most_likely(self.law, jnp.asarray(self.data.values), self.posterior))

    def latents(self, refine: int = 1) -> xr.Dataset:
        """Posterior mean and sd of the latents.

        They are ``within_mean`` and ``within_sd``, (trial, time, within_latent).

        Raises:
            ValueError: points between bins are asked for.
        """
        if refine != 1:
            raise ValueError(f"{type(self.model).__name__} has no latents between bins: use refine=1")
        moments, layout = self.posterior.moments, self.data.layout
        dims = ("trial", "time", "within_latent")
        variance = np.diagonal(moments.covariance, axis1=-2, axis2=-1)
        coords = {
            "trial": np.arange(self.data.n_trials), "time": self.data.times,
            "within_latent": within_names(self.model.populations.layout(layout), self.model.assignment(layout)),
        }  # fmt: skip
        arrays = {"within_mean": (dims, np.asarray(moments.mean)), "within_sd": (dims, np.sqrt(variance))}
        return xr.Dataset(arrays, coords)

    def predictive(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of a new observation of every entry, each (trial, time, neuron)."""
        mean, variance = _predicted(self.law, self.posterior)
        return np.asarray(mean), np.sqrt(np.asarray(variance))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of every entry before anything was observed, from draws of the model."""
        mean, variance = _prior_moments(self.law, random.key(SEED))
        return np.asarray(mean), np.asarray(variance)

    def sample(self, key: Array) -> np.ndarray:
        """Draw new trials of the recording's shape, (trial, time, neuron)."""
        return self.drawn(key)[VALUES]

    def drawn(self, key: Array) -> dict[str, np.ndarray]:
        """Draw trials: states, latents, eta and values by name."""
        paths = jax.jit(SwitchingLinear.paths)(self.law, key)
        named = {STATES: paths.states, LATENTS: paths.latents, ETA: paths.eta, VALUES: paths.values}
        return {name: np.asarray(value) for name, value in named.items()}

    def draws(self, n_draws: int, seed: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw latents from the posterior, and weighted sums over time of new trials.

        ``weights`` are (trial, time, neuron); latents (draw, trial, time, latent), and sums (draw, trial, neuron).
        """
        keys = random.split(random.key(seed), n_draws)
        latents, sums = _draws(self.law, self.posterior, keys, jnp.asarray(weights))
        return np.asarray(latents), np.asarray(sums)

    @property
    def _arrays(self) -> dict[str, Array]:
        return {name: jnp.asarray(value) for name, value in self.sites.items()}


@partial(jax.jit, static_argnums=0)
def _law(model: SwitchingModel, data: MultiRegionData, sites: dict[str, Array]) -> SwitchingLinear:
    program = handlers.substitute(handlers.seed(model, 0), data=sites)
    return handlers.trace(program).get_trace(data)[VALUES]["fn"]


@jax.jit
def _posterior(law: SwitchingLinear, values: Array) -> Posterior:
    return law.posterior(values)


@jax.jit
def _most_likely(law: SwitchingLinear, values: Array, posterior: Posterior) -> Array:
    dynamics = law.system.dynamics
    known = potentials(dynamics, posterior.moments, law.trials(values).inside)
    return most_likely(jnp.log(dynamics.first_state), known)


@jax.jit
def _predicted(law: SwitchingLinear, posterior: Posterior) -> tuple[Array, Array]:
    readout = law.system.readout
    mean, variance = eta_of(law.system.loadings, readout.offset, posterior.moments)
    counts, mixed = readout.counts, law.membership.mixed
    mean, variance = (mean, variance + readout.noise) if counts is None else prediction(counts, mean, variance)
    center = mixed(mean)
    return center, mixed(variance + (mean - law.membership.copied(center)) ** 2)


@jax.jit
def _prior_moments(law: SwitchingLinear, key: Array) -> tuple[Array, Array]:
    """Mean and variance of draws."""

    def moments(key: Array) -> tuple[Array, Array]:
        values = law.paths(key).values
        return values, values**2

    mean, square = mean_of(moments, random.split(key, DRAWS))
    return mean, jnp.maximum(square - mean**2, 0.0)


@jax.jit
def _draws(law: SwitchingLinear, posterior: Posterior, keys: Array, weights: Array) -> tuple[Array, Array]:
    system = law.system

    def one(key: Array) -> tuple[Array, Array]:
        own, other = random.split(key)
        of_neurons = random.fold_in(key, 1)
        x = drawn(own, posterior.chain)
        eta = x @ system.loadings.T + system.readout.offset
        values = law.emission.given(system.readout, eta).sample(other)
        return x, (law.membership.picked(of_neurons, values) * weights).sum(1)

    return lax.map(one, keys)
