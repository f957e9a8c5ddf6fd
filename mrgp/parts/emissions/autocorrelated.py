r"""Private noise that remembers: what a first-order autoregression leaves to be new in every bin.

With noise ``"ar1"`` the noise of a neuron of region r, and the GP noise eta of the region's readouts, keep their
variances but are correlated over time,

    e(t) = phi_r e(t - 1) + sqrt(1 - phi_r^2) sqrt(R) xi(t),      e(0) ~ N(0, R),      phi_r = exp(-bin / timescale_r).

One number per region serves all its neurons, so that the innovations of the observations,

    y~(0) = sqrt(1 - phi^2) y(0),     y~(t) = y(t) - phi y(t - 1) = C x~(t) + sqrt(1 - phi^2) sqrt(R) xi(t),

have white noise again, and the same loadings as y: x~ are the innovations of the readouts, each a combination of two
readings of the same state. The map from y to y~ is triangular, of log determinant log(1 - phi^2) / 2 per neuron.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mrgp.parts.sites import Site

NOISE_TIMESCALE = Site("noise_timescale", "region", unit="s")


def innovations(signals: Array, memory: Array) -> Array:
    """y~ of signals (trial, time, channel) with phi (channel,)."""
    first = jnp.sqrt(1 - memory**2) * signals[:, :1]
    return jnp.concatenate([first, signals[:, 1:] - memory * signals[:, :-1]], axis=1)


def restored(innovated: Array, memory: Array) -> Array:
    """The inverse of :func:`innovations`."""
    start = innovated[:, 0] / jnp.sqrt(1 - memory**2)

    def step(before: Array, new: Array) -> tuple[Array, Array]:
        now = memory * before + new
        return now, now

    _, later = jax.lax.scan(step, start, jnp.swapaxes(innovated[:, 1:], 0, 1))
    return jnp.concatenate([start[:, None], jnp.swapaxes(later, 0, 1)], axis=1)


def innovation_covariance(covariance: Array, memory: Array) -> Array:
    """Covariance (time * channel, time * channel) of the innovations of signals of a covariance of that shape."""
    n_channels = len(memory)
    n_bins = len(covariance) // n_channels

    def rows(matrix: Array) -> Array:
        columns = jnp.moveaxis(matrix.reshape(n_bins, n_channels, -1), -1, 0)
        return jnp.moveaxis(innovations(columns, memory), 0, -1).reshape(matrix.shape)

    return rows(rows(covariance).T).T
