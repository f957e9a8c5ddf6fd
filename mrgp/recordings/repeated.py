"""Recordings in which every neuron stands several times, in groups of other names."""

from dataclasses import replace

import jax.numpy as jnp

from mrgp.recordings.recording import MultiRegionData


def repeated(data: MultiRegionData, groups: tuple[str, ...]) -> MultiRegionData:
    """Return the recording with all neurons once in each group; groups replace its regions.

    Its arrays are of JAX, and it may be made inside ``jit``.
    """
    (values, observed, pattern, length, condition, center, scale, *of_trials), (layout, *static) = data.tree_flatten()
    count, own = len(groups), (layout.total_neurons,) * len(groups)
    values, center, scale = (jnp.concatenate([part] * count, -1) for part in (values, center, scale))
    observed = None if observed is None else jnp.concatenate([observed] * count, -1)
    children = values, observed, pattern, length, condition, center, scale, *of_trials
    return MultiRegionData.tree_unflatten((replace(layout, regions=groups, n_neurons=own), *static), children)  # type: ignore[arg-type]
