r"""Gaussian Markov chains in natural parameters, and their moments.

.. math::
    q(x) \propto \exp\Big(\sum_t -\tfrac12 x_t' J_t x_t + h_t' x_t + \sum_{t > 0} x_t' O_t x_{t-1}\Big)

Elimination forward in time, F_t = J_t - O_t F_{t-1}^{-1} O_t', and substitution backward give means, covariances and
the entropy in one pass each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.scipy.linalg import cho_solve


class Chain(NamedTuple):
    """Natural parameters of Gaussian Markov chains.

    Attributes:
        precision: J, (..., time, latent, latent).
        link: O, of each bin with the one before, 0 in the first, (..., time, latent, latent).
        vector: h, (..., time, latent).
    """

    precision: Array
    link: Array
    vector: Array

    def towards(self, other: "Chain", share: Array) -> "Chain":
        """Move towards another chain by a share (trial,) of the way in natural parameters."""

        def mixed(mine: Array, theirs: Array) -> Array:
            return mine + share.reshape(-1, *([1] * (mine.ndim - 1))) * (theirs - mine)

        return jax.tree.map(mixed, self, other)

    def scaled(self, by: Array) -> "Chain":
        """Return the chain of latents that are ``by`` (latent,) times as large."""
        square = by[:, None] * by
        return Chain(self.precision / square, self.link / square, self.vector / by)


class Moments(NamedTuple):
    """Moments of a chain.

    Attributes:
        mean: (..., time, latent).
        covariance: (..., time, latent, latent).
        lagged: Covariance of each bin with the one before, 0 in the first, (..., time, latent, latent).
        entropy: Of the bins inside trials, in nats, (...).
    """

    mean: Array
    covariance: Array
    lagged: Array
    entropy: Array

    @property
    def square(self) -> Array:
        """E[x_t x_t'], (..., time, latent, latent)."""
        return self.covariance + self.mean[..., :, None] * self.mean[..., None, :]

    @property
    def product(self) -> Array:
        """E[x_t x_{t-1}'], (..., time, latent, latent); of no meaning in the first bin."""
        before = jnp.roll(self.mean, 1, -2)
        return self.lagged + self.mean[..., :, None] * before[..., None, :]

    def scaled(self, by: Array, inside: Array) -> "Moments":
        """Return the moments of latents that are ``by`` (latent,) times as large."""
        square = by[:, None] * by
        entropy = self.entropy + inside.sum(-1) * jnp.log(by).sum()
        return Moments(self.mean * by, self.covariance * square, self.lagged * square, entropy)


def moments(chain: Chain, inside: Array) -> Moments:
    """Moments of chains of trials, of which bins are ``inside`` (trial, time), 1 or 0."""
    return jax.vmap(_moments)(chain, inside)


def _eliminated(chain: Chain) -> tuple[Array, Array, Array]:
    """Eliminate forward: F_t^{-1}, that times its vector, half the log determinant of F_t."""
    eye = jnp.eye(chain.vector.shape[-1])

    def step(before: tuple[Array, Array], now: Chain) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        inverse, place = before
        root = jnp.linalg.cholesky(now.precision - now.link @ inverse @ now.link.T)
        inverse = cho_solve((root, True), eye)
        place = inverse @ (now.vector + now.link @ place)
        return (inverse, place), (inverse, place, jnp.log(jnp.diagonal(root)).sum())

    return lax.scan(step, (jnp.zeros_like(eye), jnp.zeros_like(eye[0])), chain)[1]


def _moments(chain: Chain, inside: Array) -> Moments:
    inverse, place, half = _eliminated(chain)
    later = jnp.concatenate([chain.link[1:], jnp.zeros_like(chain.link[:1])])
    gain = inverse @ jnp.swapaxes(later, -1, -2)  # of a bin on the one after it

    def step(after: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        mean, covariance = after
        inverse, place, gain = now
        lagged = covariance @ gain.T  # of the bin after with this one
        mean, covariance = place + gain @ mean, inverse + gain @ lagged
        return (mean, covariance), (mean, covariance, lagged)

    nothing = jnp.zeros_like(place[0]), jnp.zeros_like(inverse[0])
    mean, covariance, lagged = lax.scan(step, nothing, (inverse, place, gain), reverse=True)[1]
    before = jnp.concatenate([jnp.zeros_like(lagged[:1]), lagged[:-1]])
    size = chain.vector.shape[-1]
    entropy = (inside * (0.5 * size * (1 + np.log(2 * np.pi)) - half)).sum()
    return Moments(mean, 0.5 * (covariance + jnp.swapaxes(covariance, -1, -2)), before, entropy)


def drawn(key: Array, chain: Chain) -> Array:
    """Draw one path of each trial's chain, (trial, time, latent)."""
    return jax.vmap(_drawn)(random.split(key, len(chain.vector)), chain)


def _drawn(key: Array, chain: Chain) -> Array:
    inverse, place, _ = _eliminated(chain)
    later = jnp.concatenate([chain.link[1:], jnp.zeros_like(chain.link[:1])])
    noise = random.normal(key, chain.vector.shape)

    def step(after: Array, now: tuple[Array, ...]) -> tuple[Array, Array]:
        inverse, place, later, noise = now
        x = place + inverse @ (later.T @ after) + jnp.linalg.cholesky(inverse) @ noise
        return x, x

    return lax.scan(step, jnp.zeros_like(place[0]), (inverse, place, later, noise), reverse=True)[1]
