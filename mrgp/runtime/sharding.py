"""Trials shared out among devices, of one process or of several that run the same program.

Arrays over trials are cut into as many pieces as there are devices; everything else is on all of them. What is computed
of a trial is computed where it is, by JAX's own rules; only sums over trials are exchanged. Several processes meet by
``jax.distributed.initialize`` before anything is computed.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

TRIALS = "trial"


def mesh_over(devices: Sequence[Any]) -> Mesh:
    """Make the mesh of devices among which trials are shared out."""
    return jax.make_mesh((len(devices),), (TRIALS,), axis_types=(AxisType.Auto,), devices=devices)


def shared_out(array: Any, mesh: Mesh) -> Array:
    """Give every device of a mesh its share of the trials, which an array leads with.

    Zeros are added at the end, up to a number of trials that the devices divide. A process reads only the trials of its
    own devices.
    """
    n_trials, rest = len(array), np.shape(array)[1:]
    own = -(-n_trials // mesh.size)

    def piece(index: Any) -> np.ndarray:
        some = np.asarray(array[index[0]])
        return np.concatenate([some, np.zeros((own - len(some), *rest), some.dtype)]) if len(some) < own else some

    sharding = NamedSharding(mesh, PartitionSpec(TRIALS))
    return jax.make_array_from_callback((own * mesh.size, *rest), sharding, piece)


def on_all(array: Any, mesh: Mesh) -> Array:
    """Give every device of a mesh the whole array."""
    return jax.make_array_from_callback(
        np.shape(array), NamedSharding(mesh, PartitionSpec()), lambda index: np.asarray(array)[index]
    )


def computing_over(mesh: Mesh | None) -> AbstractContextManager[Any]:
    """Let programs know of a mesh, if there is one, as they are traced and run."""
    return nullcontext() if mesh is None else jax.set_mesh(mesh)


def gathered(array: Array) -> Array:
    """Inside a program, bring an array over trials to all devices of the mesh, if there is one."""
    if n_shares() == 1:
        return array
    return jax.lax.with_sharding_constraint(array, PartitionSpec())


def n_shares() -> int:
    """Number of devices that share the trials of the program that is being traced."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.shape.get(TRIALS, 1)


def by_share(array: Any, axis: int) -> Array:
    """Inside a program, split the axis of trials into devices and trials of each.

    Zeros are added at the end, up to a number of trials that the devices divide.
    """
    array, shares = jnp.asarray(array), n_shares()
    if spare := -array.shape[axis] % shares:
        array = jnp.pad(array, [(0, spare if place == axis else 0) for place in range(array.ndim)])
    array = array.reshape(*array.shape[:axis], shares, -1, *array.shape[axis + 1 :])
    if shares == 1:
        return array
    return jax.lax.with_sharding_constraint(array, PartitionSpec(*[None] * axis, TRIALS))
