"""Values of some bins ago, between bins, from those of all past bins."""

import jax.numpy as jnp
from jax import Array


def lag_weights(delay: Array, n_lags: int) -> Array:
    """Weights of whole bins in the value that was ``delay`` bins ago, (..., lag).

    Lags are 0, 1, ..., ``n_lags`` - 1 bins. The weights are those of cubic convolution (Keys 1981, IEEE Trans. Acoust.
    29, 1153-1160): exact at whole bins, exact of straight lines and parabolas between them, and smooth in ``delay``, so
    that it can be learned. At the ends values count as staying what they are.
    """
    lags = jnp.arange(-1, n_lags + 1)
    x = jnp.abs(lags - delay[..., None])
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))
    inside = weights[..., 1:-1]
    return inside.at[..., 0].add(weights[..., 0]).at[..., -1].add(weights[..., -1])
