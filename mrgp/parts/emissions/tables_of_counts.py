"""Terms of log p of a count alone, or of it and its neuron: looked up, as most are small.

A gamma function for every count costs as much as all else that a bound asks of it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import digamma, gammaln

SIZE = 128  # counts below it are looked up, unless one is larger


def log_factorial(y: Array) -> Array:
    """Logarithm of y! of counts y."""
    table = jnp.concatenate([jnp.zeros(1, y.dtype), jnp.cumsum(jnp.log(jnp.arange(1, SIZE, dtype=y.dtype)))])
    return lax.cond(_are_small(y), lambda y: table[y.astype(int)], lambda y: gammaln(y + 1), y)


@jax.custom_jvp
def log_rising(y: Array, dispersion: Array) -> Array:
    """Sum over j < y of log(1 + j dispersion).

    Counts y are (..., neuron), ``dispersion`` is (neuron,).
    """

    def plain(y: Array) -> Array:
        size = 1 / dispersion
        return gammaln(y + size) - gammaln(size) + y * jnp.log(dispersion)

    return lax.cond(_are_small(y), lambda y: _looked_up(jnp.log1p(_products(dispersion)), y), plain, y)


@log_rising.defjvp
def _log_rising_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """Derivative by the dispersion; counts are data."""
    y, dispersion = primals

    def plain(y: Array) -> Array:
        size = 1 / dispersion
        return (y - size * (digamma(y + size) - digamma(size))) / dispersion

    def by_table(y: Array) -> Array:
        return _looked_up(jnp.arange(SIZE - 1.0)[:, None] / (1 + _products(dispersion)), y)

    return log_rising(y, dispersion), lax.cond(_are_small(y), by_table, plain, y) * tangents[1]


def _are_small(y: Array) -> Array:
    return jnp.max(y, initial=0) < SIZE


def _products(dispersion: Array) -> Array:
    """Products j dispersion, (count - 1, neuron)."""
    return jnp.arange(SIZE - 1, dtype=dispersion.dtype)[:, None] * dispersion


def _looked_up(terms: Array, y: Array) -> Array:
    """Sum over j < y of ``terms`` (count, neuron)."""
    n_neurons = terms.shape[1]
    table = jnp.concatenate([jnp.zeros((1, n_neurons), terms.dtype), jnp.cumsum(terms, 0)])
    return table.ravel()[y.astype(int) * n_neurons + np.arange(n_neurons)]
