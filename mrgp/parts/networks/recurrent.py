"""Recurrent networks over the bins of trials."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from mrgp.parts.networks.network import layers

LARGEST = 5.0  # of a state: one that grows without bound is of no use, and its slopes are infinite


def over_time[S](step: Callable[[S, Any], S], start: S, inputs: Any, reverse: bool = False) -> S:
    """Return all states of a recursion over the bins of trials, (trial, time, ...).

    Args:
        step: From the states of all trials (trial, ...), and their inputs in a bin, to the next states.
        start: The states before the first bin.
        inputs: Arrays (trial, time, ...), or a pytree of them.
        reverse: Go from the last bin to the first.
    """

    def both(states: S, own: Any) -> tuple[S, S]:
        following = step(states, own)
        return following, following

    by_bin = jax.tree.map(lambda array: jnp.swapaxes(array, 0, 1), inputs)
    states = lax.scan(both, start, by_bin, reverse=reverse)[1]
    return jax.tree.map(lambda array: jnp.swapaxes(array, 0, 1), states)


class GRU(NamedTuple):
    """Gated recurrent unit (Cho et al. 2014) with a start that is learned.

    Attributes:
        cell: ``equinox.nn.GRUCell``.
        start: State before the first bin, (state,).
    """

    cell: Any
    start: Array

    @classmethod
    def of(cls, n_inputs: int, size: int, key: Array) -> Self:
        """Make one with ``size`` states."""
        return cls(layers().GRUCell(n_inputs, size, key=key), jnp.zeros(size))

    def __call__(self, inputs: Array, reverse: bool = False) -> Array:
        """States after every bin, (trial, time, state), of inputs (trial, time, input)."""
        start = jnp.broadcast_to(self.start, (len(inputs), len(self.start)))
        return over_time(self.step, start, inputs, reverse)

    def step(self, states: Array, inputs: Array) -> Array:
        """States of trials (trial, state) one bin on, with inputs (trial, input)."""
        return jnp.clip(jax.vmap(self.cell)(inputs, states), -LARGEST, LARGEST)


class BothWays(NamedTuple):
    """Two recurrent networks that read a trial forwards and backwards."""

    forwards: GRU
    backwards: GRU

    @classmethod
    def of(cls, n_inputs: int, size: int, key: Array) -> Self:
        """Make them with ``size`` states each."""
        one, other = random.split(key)
        return cls(GRU.of(n_inputs, size, one), GRU.of(n_inputs, size, other))

    def __call__(self, inputs: Array) -> tuple[Array, Array]:
        """Summary of each trial (trial, 2 size), and of every bin (trial, time, 2 size).

        A trial's summary is what each network has read when it has read all.
        """
        ahead, back = self.forwards(inputs), self.backwards(inputs, reverse=True)
        return jnp.concatenate([ahead[:, -1], back[:, 0]], -1), jnp.concatenate([ahead, back], -1)
