"""Steps up a concave function, by Newton's method with conjugate gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg

CONJUGATE = 20  # products with the matrix of second derivatives, at most
HALVINGS = 10  # of a step that leads down
EXACT = 1e-6  # of the gradient, and in its units: what is left of it then is 0


def uphill[T](function: Callable[[T], Array], start: T) -> T:
    """Take one Newton step up a concave function; it never ends lower than it starts."""
    flat, back = ravel_pytree(start)

    def value(x: Array) -> Array:
        return function(back(x))

    slope_of = jax.grad(value)
    slope = slope_of(flat)

    def curved(v: Array) -> Array:
        return -jax.jvp(slope_of, (flat,), (v,))[1]

    direction = cg(curved, slope, tol=EXACT, atol=EXACT, maxiter=CONJUGATE)[0]
    height = value(flat)

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        count, _, better = state
        return ~better & (count < HALVINGS)

    def tried(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, share, _ = state
        higher = value(flat + 0.5 * share * direction) >= height
        return count + 1, 0.5 * share, higher

    start_state: Any = (jnp.zeros((), int), jnp.asarray(2.0), jnp.asarray(False))
    _, share, better = lax.while_loop(goes_on, tried, start_state)
    return back(jnp.where(better, flat + share * direction, flat))
