"""Gaussian values, with noise of its own in every neuron."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from mrgp.parts.emissions.base import OWN, Emission, Priors, UnitOfMean, moments_of_neurons
from mrgp.parts.latents import LatentLayout
from mrgp.parts.modes import weights_of_modes
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET, Readout
from mrgp.recordings.recording import MultiRegionData

USUAL_SPREAD = 0.5  # of a neuron's standard deviation: how far its mean response moves, a priori
LEAST_NOISE = 1e-6  # of a neuron's variance: what single trials differ by where their means are compared


@dataclass(frozen=True)
class Gaussian(Emission):
    """Gaussian values y = eta + e, e ~ N(0, R), with independent noise in every bin.

    Priors are proper, flat where the data are informative, and worth far less than one trial: loadings ~
    N(0, (3 sd)^2), offset ~ N(mean, (10 sd)^2), noise ~ half-normal of twice the neuron's variance.
    """

    def check(self, data: MultiRegionData) -> None:
        data.require_living()

    def trivial_log_likelihood(self, data: MultiRegionData) -> np.ndarray:
        seen, _, variance = moments_of_neurons(data)
        return -0.5 * seen * (np.log(2 * np.pi * np.maximum(variance, np.finfo(float).tiny)) + 1)

    def loadings_scale(self, data: MultiRegionData) -> Array:
        return 3 * jnp.asarray(data.scale)

    def sample(
        self, data: MultiRegionData, assignment: LatentLayout, loadings: Array, priors: Priors = OWN
    ) -> Readout:
        with numpyro.plate("neuron", data.values.shape[-1]):
            variance = NOISE.sample(priors.noise or dist.HalfNormal(2 * data.scale**2))
            level = OFFSET.sample(priors.offset or dist.Normal(data.center, 10 * data.scale))
        return Readout(loadings, variance, level)

    def given(self, readout: Readout, eta: Array) -> dist.Distribution:
        return dist.Normal(eta, jnp.sqrt(readout.noise))

    def sites_of(self, noise: np.ndarray, level: np.ndarray, loadings: np.ndarray) -> dict[str, np.ndarray]:
        return {NOISE.name: noise, OFFSET.name: level}

    def noise_of(self, sites: Mapping[str, Any]) -> Any:
        return sites[NOISE.name]

    def scales(self, sites: Mapping[str, Any], n_bins: int, assignment: LatentLayout) -> dict[str, np.ndarray]:
        of_mean = 1 / np.sqrt(n_bins / np.asarray(sites[NOISE.name]))
        of_noise = np.sqrt(2.0) * np.asarray(1 / np.sqrt(n_bins))
        return {LOADINGS.name: of_mean[:, None], OFFSET.name: of_mean, NOISE.name: of_noise}

    def usual_spread_of_mean(self, data: MultiRegionData) -> Array:
        return USUAL_SPREAD * jnp.asarray(data.scale)

    def unit_of_mean(self, data: MultiRegionData) -> UnitOfMean:
        scale = np.asarray(data.scale)
        return UnitOfMean(scale, np.full(len(scale), LEAST_NOISE), scale)

    def first_course(self, data: MultiRegionData, modes: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Average trials, and smooth the averages as if all else were white noise."""
        mask, values = data.mask, np.asarray(data.values)

        def smoothed(trials: Any, around: np.ndarray, spread: np.ndarray) -> np.ndarray:
            count = mask[trials].sum(0)
            course = values[trials].sum(0) / np.maximum(count, 1) - (data.center + around) * (count > 0)
            precision = count * (spread / data.scale) ** 2
            return spread[:, None] * weights_of_modes(modes, (course / spread).T, precision.T)

        shared = smoothed(slice(None), np.zeros(mask.shape[1:]), spread[0])
        change = np.tile(shared, (data.layout.n_conditions, 1, 1))
        if len(spread) > 1:
            for number in range(len(change)):
                change[number] += smoothed(np.asarray(data.condition) == number, modes @ shared.T, spread[1])
        return change

    def from_other(
        self, other: Emission, sites: Mapping[str, Any], mean: Callable[[], np.ndarray], data: MultiRegionData
    ) -> dict[str, Any]:
        if other.is_of_counts:
            raise ValueError("start is a fit of counts, whose parameters are of log-rates: leave start out")
        return super().from_other(other, sites, mean, data)
