r"""Law of noise variances R whose prior is half-normal, given what is left of the values.

With S = E sum_t (y_t - c'x_t - d)^2 over the N observed bins of a neuron, the best q of its variance is

    q(R) = N(R; 0, h^2) 2 R^(-N/2) exp(-S / 2R) / Z(S),        R > 0,

of no named family, but of one dimension: Z and E[1/R] are sums over a grid of log R, which is exact to round-off, as
the integrand falls off on either side faster than any exponential (a trapezoid of sinh steps).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

STEPS = np.linspace(-4.5, 4.5, 181)  # a peak of sd 1 is 20 steps wide, and the grid reaches 45 sds


class NoiseLaw(NamedTuple):
    """Moments of q(R).

    Attributes:
        log_normalizer: log Z, (neuron,).
        precision: E[1/R], (neuron,).
    """

    log_normalizer: Array
    precision: Array


def noise_law(left: ArrayLike, bins: ArrayLike, scale: ArrayLike) -> NoiseLaw:
    """Moments of q(R), (neuron,) each.

    Args:
        left: S.
        bins: N.
        scale: h of the half-normal prior.
    """
    u, weights = _grid(left, bins, scale)
    normalizer = jax.scipy.special.logsumexp(weights, axis=0)
    return NoiseLaw(normalizer, jnp.exp(weights - normalizer - u).sum(0))


def drawn_noise(
    rng: np.random.Generator, left: ArrayLike, bins: ArrayLike, scale: ArrayLike, n_draws: int
) -> np.ndarray:
    """Draws of R from q, (draw, neuron)."""
    u, weights = (np.asarray(part) for part in _grid(left, bins, scale))
    each = np.exp(weights - weights.max(0))
    below = np.cumsum(each, 0) - 0.5 * each  # by the middle of each step
    uniform = rng.random((n_draws, u.shape[1]))
    drawn = [np.interp(uniform[:, n], below[:, n] / below[-1, n], u[:, n]) for n in range(u.shape[1])]
    return np.exp(np.stack(drawn, 1))


def _grid(*of_neurons: ArrayLike) -> tuple[Array, Array]:
    """Grid of log R, and the logarithm of what each of its points counts, (point, neuron) each."""
    left, bins, scale = map(jnp.asarray, of_neurons)
    p, q = 0.5 * bins * scale**2, 0.5 * left * scale**2
    middle = jnp.log(2 * jnp.sqrt(p / 3) * jnp.sinh(jnp.arcsinh(1.5 * q / p * jnp.sqrt(3 / p)) / 3))  # see ``readouts``
    middle = jax.lax.stop_gradient(middle)
    width = jax.lax.stop_gradient(1 / jnp.sqrt(0.5 * left * jnp.exp(-middle) + 2 * jnp.exp(2 * middle) / scale**2))
    steps = jnp.asarray(STEPS, middle.dtype)[:, None]
    u = middle + width * jnp.sinh(steps)
    density = (1 - 0.5 * bins) * u - 0.5 * left * jnp.exp(-u) - 0.5 * jnp.exp(2 * u) / scale**2
    each = jnp.log(STEPS[1] - STEPS[0]) + jnp.log(width) + jnp.log(jnp.cosh(steps))
    return u, density + each + 0.5 * jnp.log(2 / jnp.pi) - jnp.log(scale)
