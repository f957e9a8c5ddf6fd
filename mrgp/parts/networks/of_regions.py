"""One network for every region, side by side: regions are an axis of arrays, not a loop."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jax import Array, random

from mrgp.parts.networks.network import library, network
from mrgp.recordings.layout import Layout

type Apply = Callable[..., Array]


def _called(network: Any, *inputs: Array) -> Array:
    return network(*inputs)


class Places(NamedTuple):
    """Neurons of regions as a table that is as wide as the largest region.

    Attributes:
        neuron: Column of the recording, (region, place); 0 where a region has no more neurons.
        there: 1 where there is a neuron, 0 elsewhere, (region, place).
    """

    neuron: np.ndarray
    there: np.ndarray

    @classmethod
    def of(cls, layout: Layout) -> Self:
        """Make the table of a recording."""
        sizes, widest = np.array(layout.n_neurons), max(layout.n_neurons)
        there = np.arange(widest) < sizes[:, None]
        first = np.cumsum([0, *layout.n_neurons[:-1]])
        return cls(np.where(there, first[:, None] + np.arange(widest), 0), there.astype(np.float32))

    def __call__(self, values: Array) -> Array:
        """Values (..., neuron) as (..., region, place), 0 where there is no neuron."""
        return values[..., self.neuron] * jnp.asarray(self.there, values.dtype)

    def back(self, values: Array) -> Array:
        """Values (..., region, place) as (..., neuron)."""
        return values.reshape(*values.shape[:-2], -1)[..., np.flatnonzero(self.there)]


def of_each[T](make: Callable[[Array], T], count: int, key: Array) -> T:
    """Make ``count`` networks of one kind whose arrays have a first axis for them."""
    return library().filter_vmap(make)(random.split(key, count))


def network_of_each[T](layout: Layout, name: str, make: Callable[[Array], T]) -> T:
    """Enter networks of one kind, one for each region, as parameters of a program."""
    return network(name, partial(of_each, make, layout.n_regions))


def each(networks: Any, *inputs: Array, axis: int = 1, by: Apply = _called) -> Array:
    """Apply each of ``count`` networks to its part of the inputs.

    Args:
        networks: As :func:`of_each` makes them.
        inputs: Arrays with the networks along ``axis``.
        axis: Of the inputs, and of the result.
        by: What is done, from a network and its inputs.
    """
    whole = library()
    into = (whole.if_array(0), *[axis] * len(inputs))
    return whole.filter_vmap(by, in_axes=into, out_axes=axis)(networks, *inputs)
