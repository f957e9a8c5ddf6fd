"""Steps up a concave function, by Newton's method with conjugate gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

CONJUGATE = 20  # products with the matrix of second derivatives, at most
HALVINGS = 10  # of a step that leads down
SMALL = 1e-12  # of the squared gradient, below which it is 0


def uphill[T](function: Callable[[T], Array], start: T) -> T:
    """Take one Newton step up a concave function; it never ends lower than it starts."""
    flat, back = ravel_pytree(start)

    def value(x: Array) -> Array:
        return function(back(x))

    slope_of = jax.grad(value)
    slope = slope_of(flat)

    def curved(v: Array) -> Array:
        return -jax.jvp(slope_of, (flat,), (v,))[1]

    direction = _solved(curved, slope)
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


def _solved(product: Callable[[Array], Array], right: Array) -> Array:
    """Solve M x = right by conjugate gradients, M being known by its products."""

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        count, x, rest, along, square = state
        moved = product(along)
        curvature = along @ moved
        share = jnp.where(curvature > 0, square / curvature, 0.0)
        x, rest = x + share * along, rest - share * moved
        following = rest @ rest
        end = jnp.where(curvature > 0, following, 0.0)
        return count + 1, x, rest, rest + following / jnp.maximum(square, SMALL) * along, end

    def goes_on(state: tuple[Array, ...]) -> Array:
        return (state[0] < CONJUGATE) & (state[-1] > SMALL * (1 + right @ right))

    start: tuple[Array, ...] = jnp.zeros((), int), jnp.zeros_like(right), right, right, right @ right
    return lax.while_loop(goes_on, step, start)[1]
