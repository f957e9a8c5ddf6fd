"""Blocks of trials, one after the other: memory grows with a block, not with the recording.

What is computed of a block is computed again for its derivatives, and never stored. Small recordings are one block, and
their programs have no loop.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

LARGE = 2**25  # numbers of all trials: of more, a quarter of a GiB in double precision, trials go in blocks
AT_ONCE = 2**20  # numbers of a block: what is made of them stays in the cache, which is worth a factor of two


def size_of_blocks(n_trials: int, per_trial: int) -> int:
    """Number of trials that are computed together, given the numbers that each needs."""
    if n_trials * per_trial <= LARGE:
        return n_trials
    return min(n_trials, max(1, AT_ONCE // per_trial))


def in_blocks[T](function: Callable[..., T], size: int, axes: Sequence[int], *arrays: Any) -> T:
    """Apply a function to ``size`` trials of each array at a time, and join its results.

    The last block ends with the last trial; what it shares with the one before is computed twice.

    Args:
        function: Of blocks of the arrays; its results lead with their trials.
        size: Trials of a block.
        axes: On which axis each array has trials.
        arrays: Arrays, or None.
    """
    (n_trials, *_) = (array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if array is not None)
    if size == n_trials:
        return function(*arrays)
    n_blocks = -(-n_trials // size)
    starts = jnp.minimum(size * jnp.arange(n_blocks), n_trials - size)

    def of_block(start: Array) -> T:
        return function(
            *(
                None if array is None else lax.dynamic_slice_in_dim(jnp.asarray(array), start, size, axis)
                for array, axis in zip(arrays, axes, strict=True)
            )
        )

    def joined(blocks: Array) -> Array:
        before = blocks[:-1].reshape(-1, *blocks.shape[2:])
        return jnp.concatenate([before, blocks[-1, n_blocks * size - n_trials :]])

    return jax.tree.map(joined, lax.map(jax.checkpoint(of_block, prevent_cse=False), starts))
