"""Latents and predictions of an amortised model for a recording, from draws of its guide."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import xarray as xr
from jax import Array, random
from jax.scipy.special import logsumexp
from numpyro import handlers

from mrgp.inference.amortised_bound import Trace, log_weights, traces
from mrgp.inference.amortised_parameters import Values, WithGuide
from mrgp.recordings.recording import MultiRegionData

LATENTS, ETA = "latents", "eta"  # deterministic sites of the program
DRAWS = 200  # of the guide
SEED = 0  # what is said of a recording is the same each time


type Read = Callable[[Trace, Trace, Array, Any], Any]


@dataclass(frozen=True)
class AmortisedConditional:
    """An amortised model with its parameters, given a recording.

    Attributes:
        model: The program, and its guide.
        data: The recording.
        values: Of the parameters.
    """

    model: WithGuide
    data: MultiRegionData
    values: Values

    def log_likelihood(self) -> np.ndarray:
        """Importance-weighted bound of log p(y) of each trial in nats, (trial,).

        log of the mean of p(y, z) / q(z | y) over draws of the guide (Burda et al. 2016, ICLR).
        """
        weights = self._over_draws(_log_weights, DRAWS)
        return np.asarray(logsumexp(weights, 0) - np.log(DRAWS))

    def latents(self, refine: int = 1) -> xr.Dataset:
        """Posterior mean and sd of the latents.

        They are ``across_mean`` and ``across_sd``, (trial, time, across_latent).

        Raises:
            ValueError: points between bins are asked for.
        """
        if refine != 1:
            raise ValueError(f"{type(self.model).__name__} has no latents between bins: use refine=1")
        x = np.asarray(self._over_draws(_latents, DRAWS))
        dims = ("trial", "time", "across_latent")
        coords = {"trial": np.arange(len(x[0])), "time": self.data.times, "across_latent": np.arange(x.shape[-1])}
        return xr.Dataset({"across_mean": (dims, x.mean(0)), "across_sd": (dims, x.std(0))}, coords)

    def predictive(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of a new observation, each (trial, time, neuron)."""
        mean, square = (np.asarray(part).mean(0) for part in self._over_draws(_moments, DRAWS))
        return mean, np.sqrt(np.maximum(square - mean**2, 0.0))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of every entry before anything was observed, from draws of the program."""
        keys = random.split(random.key(SEED), DRAWS)

        def one(key: Array) -> tuple[Array, Array]:
            return _moments({}, handlers.trace(self._program(key)).get_trace(self.data), key, None)

        mean, square = (np.asarray(part).mean(0) for part in jax.lax.map(one, keys))
        return mean, np.maximum(square - mean**2, 0.0)

    def _program(self, key: Array) -> Any:
        return handlers.substitute(handlers.seed(self.model, key), data=self.values.all)

    def sample(self, key: Array) -> np.ndarray:
        """Draw latents from the program, and values from these, (trial, time, neuron)."""
        run = handlers.trace(self._program(key)).get_trace(self.data)
        return np.asarray(_emission_of(run).sample(random.fold_in(key, 1)))

    def draws(self, n_draws: int, seed: int, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw latents from the guide, and weighted sums over time of new trials.

        ``weights`` are (trial, time, neuron); latents (draw, trial, time, latent), and sums (draw, trial, neuron).
        """
        latents, sums = self._over_draws(_replica, n_draws, seed, weights)
        return np.asarray(latents), np.asarray(sums)

    def _over_draws(self, read: Read, n_draws: int, seed: int = SEED, also: Any = None) -> Any:
        """Read something off every draw of the guide, (draw, ...)."""
        keys = random.split(random.key(seed), n_draws)
        return _mapped(self.model, read, self.values, self.data, keys, also)


@partial(jax.jit, static_argnums=(0, 1))  # what is read is a function of the module, so that it is compiled once
def _mapped(model: WithGuide, read: Read, values: Values, data: MultiRegionData, keys: Array, also: Any) -> Any:
    def one(key: Array) -> Any:
        guide_key, own_key = random.split(key)
        return read(*traces(model, values, data, guide_key), own_key, also)

    return jax.lax.map(one, keys)


def _log_weights(drawn: Trace, run: Trace, key: Array, also: None) -> Array:
    return log_weights(drawn, run)


def _latents(drawn: Trace, run: Trace, key: Array, also: None) -> Array:
    return run[LATENTS]["value"]


def _moments(drawn: Trace, run: Trace, key: Array, also: None) -> tuple[Array, Array]:
    """Mean of values given eta, and of their squares, (trial, time, neuron) each."""
    given = _emission_of(run)
    return given.mean, given.variance + given.mean**2


def _replica(drawn: Trace, run: Trace, key: Array, weights: Array) -> tuple[Array, Array]:
    """Latents, and the sums over time of new trials with ``weights``."""
    return run[LATENTS]["value"], (_emission_of(run).sample(key) * weights).sum(1)


def _emission_of(run: Trace) -> dist.Distribution:
    """Distribution of values given eta, entry by entry, whether observed or not."""
    given = run["y"]["fn"]
    while isinstance(given, dist.ExpandedDistribution | dist.Independent | dist.MaskedDistribution):
        given = given.base_dist
    return given
