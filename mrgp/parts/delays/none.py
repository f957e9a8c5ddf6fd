"""No delays: all regions read the course of a latent at the same time."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from mrgp.parts.delays.base import Delays, Extent


@dataclass(frozen=True)
class NoDelay(Delays):
    """Regions read a latent at the same time, delta = 0."""

    known_as: ClassVar[str] = "none"

    def sample(self, extent: Extent) -> Array:
        return jnp.zeros((1, extent.n_regions, extent.n_across))
