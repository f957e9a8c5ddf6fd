"""Poisson counts."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array, random

from mrgp.parts.emissions.base import Expected
from mrgp.parts.emissions.counts import Counts
from mrgp.parts.emissions.tables_of_counts import log_factorial


@dataclass(frozen=True)
class Poisson(Counts):
    """Poisson counts y ~ Poisson(exp eta)."""

    def expected(self, y: Array, mean: Array, variance: Array) -> Expected:
        rate = jnp.exp(mean + 0.5 * variance)
        return Expected(y * mean - rate, y - rate, rate)

    def normalizer(self, y: Array) -> Array:
        return -log_factorial(y)

    def draw(self, key: Array, eta: Array) -> Array:
        return random.poisson(key, jnp.exp(eta)).astype(eta.dtype)

    def variance(self, rate: Array, square: Array) -> Array:
        return rate
