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
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import NOISE, OFFSET, Readout
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class Gaussian(Emission):
    """Gaussian values y = eta + e, e ~ N(0, R), with independent noise in every bin.

    Priors are proper, flat where the data are informative, and worth far less than one trial: loadings ~
    N(0, (3 sd)^2), offset ~ N(mean, (10 sd)^2), noise ~ half-normal of twice the neuron's variance.
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
        with numpyro.plate("neuron", data.values.shape[-1]):
            variance = NOISE.sample(priors.noise or dist.HalfNormal(self.noise_spread * data.scale**2))
            level = OFFSET.sample(priors.offset or dist.Normal(data.center, self.offset_spread * data.scale))
        return Readout(loadings, variance, level)

    def given(self, readout: Readout, eta: Array) -> dist.Distribution:
        return dist.Normal(eta, jnp.sqrt(readout.noise))

    def sites_of(self, noise: np.ndarray, level: np.ndarray, loadings: np.ndarray) -> dict[str, np.ndarray]:
        return {NOISE.name: noise, OFFSET.name: level}

    def noise_of(self, sites: Mapping[str, Any]) -> Any:
        return sites[NOISE.name]
