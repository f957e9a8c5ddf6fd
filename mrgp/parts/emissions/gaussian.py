"""Gaussian values, with noise of its own in every neuron."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from mrgp.parts.emissions.base import OWN, Emission, Priors, moments_of_neurons
from mrgp.parts.emissions.beginning import LEAST_NOISE, least_noise
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET, Readout
from mrgp.recordings.recording import MultiRegionData


class Variance(dist.HalfNormal):
    """Half-normal prior of noise variances, which falls below the least that they are taken for.

    The likelihood is the same for all of those, and says no way back.
    """

    pytree_data_fields = ("least",)

    def __init__(self, scale: Any, least: Any) -> None:
        self.least = least
        super().__init__(scale)

    def log_prob(self, value: Any) -> Array:
        below = jnp.log(jnp.minimum(value / self.least, 1.0))
        return super().log_prob(value) - 0.5 * below**2


@dataclass(frozen=True)
class Gaussian(Emission):
    """Gaussian values y = eta + e, e ~ N(0, R), with independent noise in every bin.

    Priors are proper, flat where the data are informative, and worth far less than one trial: loadings ~
    N(0, (3 sd)^2), offset ~ N(mean, (10 sd)^2), noise ~ half-normal of twice the neuron's variance. What is below
    a millionth of that variance is taken as a millionth: of a neuron that latents explain altogether, as of one that is
    there twice, the likelihood has no maximum.
    """

    loading_spread: ClassVar[float] = 3.0
    offset_spread: ClassVar[float] = 10.0
    noise_spread: ClassVar[float] = 2.0
    course_spread: ClassVar[float] = 0.5

    def check(self, data: MultiRegionData) -> None:
        data.require_living()

    def trivial_log_likelihood(self, data: MultiRegionData) -> np.ndarray:
        seen, _, variance = moments_of_neurons(data)
        return -0.5 * seen * (np.log(2 * np.pi * np.maximum(variance, np.finfo(float).tiny)) + 1)

    def unit(self, data: MultiRegionData) -> Array:
        return jnp.asarray(data.scale)

    def sample(
        self, data: MultiRegionData, assignment: LatentLayout, loadings: Array, priors: Priors = OWN
    ) -> Readout:
        least = least_noise(data)
        with numpyro.plate("neuron", data.values.shape[-1]):
            variance = NOISE.sample(priors.noise or Variance(self.noise_spread * data.scale**2, least))
            level = OFFSET.sample(priors.offset or dist.Normal(data.center, self.offset_spread * data.scale))
        return Readout(loadings, variance if priors.noise else jnp.maximum(variance, least), level)

    def given(self, readout: Readout, eta: Array) -> dist.Distribution:
        return dist.Normal(eta, jnp.sqrt(readout.noise))

    def sites_of(self, noise: np.ndarray, level: np.ndarray, loadings: np.ndarray) -> dict[str, np.ndarray]:
        return {NOISE.name: noise, OFFSET.name: level}

    def noise_of(self, sites: Mapping[str, Any]) -> Any:
        noise = sites[NOISE.name]
        if LOADINGS.name not in sites:
            return noise
        least = LEAST_NOISE * (noise + (sites[LOADINGS.name] ** 2).sum(-1))  # a millionth of a neuron's variance
        return noise + (least - noise) * (noise < least)
