r"""Gaussian factors of bins from the values themselves, where readouts are linear.

Around a guess x' of a region's latents, with eta = C x + d, s = d log p / d eta and lambda = -d^2 log p / d eta^2,

.. math::
    \log p(y \mid x) \approx -\tfrac12 (x - c)' \Lambda (x - c), \qquad \Lambda = C' \lambda C, \qquad
    c = x' + \Lambda^{-1} C' s

but for a constant. Of Gaussian values it is exact, whatever the guess; of counts it is Laplace's where the guess is the
posterior mode. Entries that are not seen have no part in it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

LEAST = 1e-8  # of a precision: latents that no neuron reads, and two that are read alike, have a factor all the same


def slopes(log_density: Callable[[Array], Array], eta: Array) -> tuple[Array, Array]:
    """Slope s and precision lambda of log-densities of single entries.

    Each is of the shape of ``eta``; precisions are 0 where a log-density is not concave.
    """
    score = jax.grad(lambda at: log_density(at).sum())
    slope, curvature = jax.jvp(score, (eta,), (jnp.ones_like(eta),))
    return slope, jnp.maximum(-curvature, 0.0)


def expanded(
    loadings: Array, guess: Array, slope: Array, precision: Array, seen: Array
) -> tuple[Array, Array]:
    """Center and root of the factors of a region's bins.

    Args:
        loadings: C of the region, (neuron, latent).
        guess: x', (trial, time, latent).
        slope: s, (trial, time, neuron).
        precision: lambda, (trial, time, neuron).
        seen: True for the entries that are seen, (trial, time, neuron).

    Returns:
        Centers (trial, time, latent), and lower roots F of Lambda = F F', (trial, time, latent, latent); 0 in bins of
        which nothing is seen.
    """
    size, some = loadings.shape[1], seen.any(-1)[..., None, None]
    told = jnp.where(seen, slope, 0.0) @ loadings
    information = jnp.einsum("btn,ni,nj->btij", jnp.where(seen, precision, 0.0), loadings, loadings)
    root = jnp.linalg.cholesky(jnp.where(some, information, 1.0 * jnp.eye(size)) + LEAST * jnp.eye(size))
    step = jax.scipy.linalg.cho_solve((root, True), told[..., None])[..., 0]
    return guess + step, jnp.where(some, root, 0.0)
