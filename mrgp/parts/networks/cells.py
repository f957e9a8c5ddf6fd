"""Cells: how the states of a learned dynamical system go from one bin to the next."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from mrgp.part import Part
from mrgp.parts.networks.network import layers
from mrgp.parts.networks.recurrent import LARGEST

type Step = Callable[[Array, Array], Array]
"""From states (trial, state) and inputs (trial, input) of a bin to the states of the next."""


class Cell(Part, family="cell", tag="name", short=True):
    """Learned step of a dynamical system; members make its network."""

    def make(self, n_inputs: int, n_states: int, key: Array) -> Any:
        """Make the step, a pytree of equinox's layers that is called as a :data:`Step`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Residual(Cell):
    """Step x + rate MLP(x, u), for as many states as the system has.

    Networks of gates need more, and find dynamics in them that are not there (Sedler, Versteeg & Pandarinath 2023,
    NBDT).

    Args:
        width: Units of each hidden layer.
        depth: Hidden layers.
        rate: Share of the way towards the network's value that a bin goes.
    """

    width: int = 128
    depth: int = 1
    rate: float = 0.1

    def make(self, n_inputs: int, n_states: int, key: Array) -> Any:
        network = layers().MLP(n_inputs + n_states, n_states, self.width, self.depth, jnp.tanh, key=key)
        return ResidualStep(network, self.rate)


class ResidualStep(NamedTuple):
    """Step x + rate MLP(x, u)."""

    network: Any
    rate: float

    def __call__(self, states: Array, inputs: Array) -> Array:
        change = jax.vmap(self.network)(jnp.concatenate([states, inputs], -1))
        return jnp.clip(states + self.rate * change, -LARGEST, LARGEST)


@dataclass(frozen=True)
class Gated(Cell):
    """Gated recurrent unit (Cho et al. 2014), as the generator of LFADS was published with."""

    known_as = "gru"

    def make(self, n_inputs: int, n_states: int, key: Array) -> Any:
        return GatedStep(layers().GRUCell(n_inputs, n_states, key=key))


class GatedStep(NamedTuple):
    """Step of a gated recurrent unit."""

    cell: Any

    def __call__(self, states: Array, inputs: Array) -> Array:
        return jnp.clip(jax.vmap(self.cell)(inputs, states), -LARGEST, LARGEST)
