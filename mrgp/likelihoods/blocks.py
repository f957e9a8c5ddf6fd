"""Blocks of trials, one after the other: memory grows with a block, not with the recording.

What is computed of a block is computed again for its derivatives, and never stored. Small recordings are one block, and
their programs have no loop.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from mrgp.recordings.observations import LARGE
from mrgp.runtime.sharding import by_share, n_shares

AT_ONCE = 2**20  # numbers of a block: what is made of them stays in the cache, which is worth a factor of two


def is_large(numbers: int) -> bool:
    """True if so many numbers are worked on in parts, and never stored in double precision."""
    return numbers > LARGE


def size_of_blocks(n_trials: int, per_trial: int) -> int:
    """Number of trials that are computed together, given the numbers that each needs."""
    if not is_large(n_trials * per_trial):
        return n_trials
    return min(n_trials, max(1, AT_ONCE // per_trial))


def in_blocks[T](function: Callable[..., T], size: int, axes: Sequence[int], *arrays: Any) -> T:
    """Apply a function to ``size`` trials of each array at a time, and join its results.

    The last block ends with the last trial; what it shares with the one before is computed twice. Where devices share
    the trials, a block has some of every device's.

    Args:
        function: Of blocks of the arrays; its results lead with their trials.
        size: Trials of a block.
        axes: On which axis each array has trials.
        arrays: Arrays, or None.
    """
    (n_trials, *_) = (array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if array is not None)
    if size == n_trials:
        return function(*arrays)
    shares = n_shares()
    own = -(-n_trials // shares)  # trials of a device
    size = min(size, own)
    n_blocks = -(-own // size)
    shared = [array if array is None else by_share(array, axis) for array, axis in zip(arrays, axes, strict=True)]

    def of_block(start: Array) -> T:
        def of_array(array: Array, axis: int) -> Array:
            some = lax.dynamic_slice_in_dim(array, start, size, axis + 1)
            return some.reshape(*some.shape[:axis], shares * size, *some.shape[axis + 2 :])

        blocks = (None if array is None else of_array(array, axis) for array, axis in zip(shared, axes, strict=True))
        return jax.tree.map(lambda found: found.reshape(shares, size, *found.shape[1:]), function(*blocks))

    def joined(blocks: Array) -> Array:
        before = jnp.moveaxis(blocks[:-1], 0, 1).reshape(shares, -1, *blocks.shape[3:])
        last = blocks[-1, :, n_blocks * size - own :]
        return jnp.concatenate([before, last], axis=1).reshape(-1, *blocks.shape[3:])[:n_trials]

    starts = jnp.minimum(size * jnp.arange(n_blocks), own - size)
    return jax.tree.map(joined, lax.map(jax.checkpoint(of_block, prevent_cse=False), starts))
