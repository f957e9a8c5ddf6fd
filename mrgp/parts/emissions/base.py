r"""Distributions of spike counts given a log-rate eta, and what is expected of them where eta is Gaussian.

With eta ~ N(m, v), inference needs the expected log-density l(m, v) = E log p(y | eta) and its derivatives

    dl/dm = E d log p / d eta,        -2 dl/dv = -E d^2 log p / d eta^2

(Opper & Archambeau 2009, Neural Comput. 21, eqs. 18-19).
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from mrgp.parts.sites import Site

OFFSET = Site("offset", "neuron")


class Expected(NamedTuple):
    """l(m, v), its slope dl/dm, and its curvature -2 dl/dv, of one shape; l without what does not depend on eta."""

    value: Array
    slope: Array
    curvature: Array


class Counts(Protocol):
    """A distribution of counts y >= 0 of mean exp(eta), neuron by neuron; shapes end in (neuron,)."""

    def expected(self, y: Array, mean: Array, variance: Array) -> Expected: ...
    def normalizer(self, y: Array) -> Array:
        """What log p(y | eta) has besides :attr:`Expected.value`."""
        ...

    def sample(self, key: Array, eta: Array) -> Array: ...
    def excess(self, mean_square: Array) -> Array:
        """Variance of a count beyond its mean, given E[exp(2 eta)]."""
        ...


def expected_rate(mean: Array, variance: Array) -> tuple[Array, Array]:
    """E[exp eta] and E[exp(2 eta)] of eta ~ N(mean, variance)."""
    first = jnp.exp(mean + 0.5 * variance)
    return first, jnp.square(first) * jnp.exp(variance)


def prediction(counts: Counts, mean: Array, variance: Array) -> tuple[Array, Array]:
    """Mean and variance of a new count where eta ~ N(mean, variance)."""
    first, second = expected_rate(mean, variance)
    return first, jax.nn.relu(second - first**2) + first + counts.excess(second)
