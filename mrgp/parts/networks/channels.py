r"""Channels: how regions tell each other what they do.

An edge goes from one region to another; there is one for every ordered pair. A channel turns the rates of all regions
in a bin into what each edge carries away, and what has arrived over all edges into inputs of each region's dynamics.
Between the two a message travels for one bin, and for the delay of its edge.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from mrgp.part import Part
from mrgp.parts.networks.network import normal
from mrgp.parts.networks.of_regions import Places, each, of_each
from mrgp.parts.networks.perceptron import Perceptron
from mrgp.recordings.layout import Layout

SHAPE = 1.0  # of the Gamma prior of an edge's precision
TYPICAL = 0.3  # sd of a weight of an edge that is there, where all neurons of a region add to 1
FIRST = 0.3  # of weights, in the same units


class Edges(NamedTuple):
    """Ordered pairs of different regions, sorted by target.

    Attributes:
        source: (edge,).
        target: (edge,).
        n_regions: Of the recording.
    """

    source: np.ndarray
    target: np.ndarray
    n_regions: int

    @classmethod
    def of(cls, n_regions: int) -> "Edges":
        """All pairs of so many regions."""
        pairs = [(s, t) for t in range(n_regions) for s in range(n_regions) if s != t]
        source, target = np.array(pairs, int).reshape(-1, 2).T
        return cls(source, target, n_regions)

    @property
    def n_edges(self) -> int:
        return len(self.source)

    def by_target(self, of_edges: Array) -> Array:
        """Arrange (trial, edge, ...) as (trial, region, source, ...)."""
        return of_edges.reshape(len(of_edges), self.n_regions, self.n_regions - 1, *of_edges.shape[2:])


class Received(NamedTuple):
    """Messages as they reach the regions in a bin.

    Attributes:
        inputs: Of each region's dynamics, (trial, region, source, message).
        routing: Share that each edge lets through, (trial, edge).
    """

    inputs: Array
    routing: Array


class Channels(Part, family="channels", tag="name", short=True):
    """Kind of channel between regions; members make its network.

    The network has three methods. ``send(rates, edges)`` makes what edges carry (trial, edge, carried) of rates (trial,
    region, place); ``receive(arrived, states, gates, edges)`` makes :class:`Received` of what has arrived, of the
    regions' states (trial, region, state), and of gates (trial, edge) where there are; ``log_prior(places, edges)`` is
    a number.
    """

    def make(self, layout: Layout, n_messages: int, n_states: int, key: Array) -> Any:
        """Make the network."""
        raise NotImplementedError

    def n_carried(self, n_messages: int) -> int:
        """Count the numbers that an edge carries in a bin.

        Raises:
            ValueError: messages of so many numbers cannot be sent.
        """
        return n_messages

    @property
    def has_gates(self) -> bool:
        """True if edges are open in some trials and closed in others."""
        return False

    @property
    def begins_by_regression(self) -> bool:
        """True if the network begins at messages that a regression has found."""
        return False

    def first_guess(self, messages: np.ndarray) -> dict[str, np.ndarray]:
        """First guess of arrays of the network, by name, of which edges say ``messages``.

        These are weights (edge, message, place) of rates.
        """
        return {}


@dataclass(frozen=True)
class RateChannels(Channels):
    """Messages M_ji r_j(t), with a prior by which whole edges are pruned.

    The precision of the weights of an edge has a Gamma prior and is integrated out, so that what few weights cost is
    much and what more of the same edge cost is little.

    Args:
        by_regression: Weights begin where a ridge regression of the regions on the past of all has them, not as they
            happen to be drawn. It helps where noise hides what rates tell, as of sparse counts.
    """

    by_regression: bool = False
    known_as = "rates"

    @property
    def begins_by_regression(self) -> bool:
        return self.by_regression

    def make(self, layout: Layout, n_messages: int, n_states: int, key: Array) -> Any:
        return OwnWeights(_weights(Places.of(layout).there[Edges.of(layout.n_regions).source], n_messages, key))

    def first_guess(self, messages: np.ndarray) -> dict[str, np.ndarray]:
        return {"weights": messages}


class OwnWeights(NamedTuple):
    """Weights of every edge, (edge, message, place of a neuron in the source)."""

    weights: Array

    def send(self, rates: Array, edges: Edges) -> Array:
        """Messages (trial, edge, message) of rates (trial, region, place)."""
        return jnp.einsum("bep,emp->bem", rates[:, edges.source], self.weights)

    def receive(self, arrived: Array, states: Array, gates: Array | None, edges: Edges) -> Received:
        """Hand on what has arrived, (trial, edge, message)."""
        return Received(edges.by_target(arrived), jnp.ones(arrived.shape[:2], arrived.dtype))

    def log_prior(self, places: Places, edges: Edges) -> Array:
        """Log of the Student t density of each edge's weights."""
        count = places.there[edges.source].sum(-1)
        rate = SHAPE * TYPICAL**2 / count  # of a weight, so that all neurons add to TYPICAL^2
        size = self.weights.shape[1] * count
        squares = (self.weights**2).sum((1, 2))
        return -((SHAPE + size / 2) * jnp.log1p(squares / (2 * rate))).sum()


@dataclass(frozen=True)
class GraphChannels(Channels):
    """Messages of one network for all edges, each behind a gate that is open in few trials.

    A region says the same to all others; a gate decides who hears it. The logit of a gate in a trial is normal, and
    rarely above zero.

    Args:
        width: Hidden units of the network.
    """

    width: int = 32
    known_as = "graph"

    @property
    def has_gates(self) -> bool:
        return True

    def make(self, layout: Layout, n_messages: int, n_states: int, key: Array) -> Any:
        first, second = random.split(key)
        says = _weights(Places.of(layout).there, n_messages, first)
        return Graph(says, Perceptron.of((n_messages, self.width, n_messages), second))


class Graph(NamedTuple):
    """Projections of regions (region, message, place), and the network of all edges."""

    says: Array
    network: Perceptron

    def send(self, rates: Array, edges: Edges) -> Array:
        """Messages (trial, edge, message) of rates (trial, region, place)."""
        said = self.network(jnp.einsum("brp,rmp->brm", rates, self.says))
        return said[:, edges.source]

    def receive(self, arrived: Array, states: Array, gates: Array | None, edges: Edges) -> Received:
        """Let through what gates (trial, edge) let through."""
        assert gates is not None
        return Received(edges.by_target(arrived * gates[..., None]), gates)

    def log_prior(self, places: Places, edges: Edges) -> Array:
        """Log of normal densities."""
        return normal(self)


@dataclass(frozen=True)
class AttentionChannels(Channels):
    """Messages to which the target attends as its own state asks for them.

    A source sends a key and a value. The target's state makes a query, and its attention goes to the sources, or to
    none, by a softmax in every bin.

    Args:
        heads: Queries at the same time, each for its share of the message.
        size: Numbers of a key.
    """

    heads: int = 1
    size: int = 4
    known_as = "attention"

    def __post_init__(self) -> None:
        for name in ("heads", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"AttentionChannels: {name} counts at least 1, not {getattr(self, name)}")

    def n_carried(self, n_messages: int) -> int:
        if n_messages % self.heads:
            raise ValueError(f"n_messages = {n_messages} cannot be shared out to {self.heads} heads: take a multiple")
        return n_messages + self.heads * self.size

    def make(self, layout: Layout, n_messages: int, n_states: int, key: Array) -> Any:
        first, second = random.split(key)
        sizes = n_states, self.heads * self.size
        asks = of_each(partial(Perceptron.of, sizes), layout.n_regions, second)
        return Attention(_weights(Places.of(layout).there, self.n_carried(n_messages), first), asks, self.heads)


class Attention(NamedTuple):
    """Projections of regions (region, carried, place), their queries, and the number of heads."""

    says: Array
    asks: Any
    heads: int

    def send(self, rates: Array, edges: Edges) -> Array:
        """Keys, then values, (trial, edge, carried) of rates (trial, region, place)."""
        return jnp.einsum("brp,rmp->brm", rates, self.says)[:, edges.source]

    def receive(self, arrived: Array, states: Array, gates: Array | None, edges: Edges) -> Received:
        """Weigh values by how well their keys suit the target's query."""
        query = each(self.asks, states)
        query = query.reshape(*query.shape[:2], self.heads, query.shape[-1] // self.heads)
        by_target, size = edges.by_target(arrived), query.shape[-1]
        n_keys = self.heads * size
        n_values = by_target.shape[-1] - n_keys
        keys = by_target[..., :n_keys].reshape(*by_target.shape[:3], self.heads, size)
        suits = jnp.einsum("brhk,brshk->brsh", query, keys) / jnp.sqrt(size)
        to_none = jnp.zeros((*suits.shape[:2], 1, self.heads), suits.dtype)
        share = jax.nn.softmax(jnp.concatenate([suits, to_none], 2), 2)[:, :, :-1]
        values = by_target[..., n_keys:].reshape(*by_target.shape[:3], self.heads, n_values // self.heads)
        inputs = (share[..., None] * values).reshape(*by_target.shape[:3], n_values)
        return Received(inputs, share.mean(-1).reshape(len(arrived), edges.n_edges))

    def log_prior(self, places: Places, edges: Edges) -> Array:
        """Log of normal densities."""
        return normal(self)


def _weights(there: np.ndarray, n_numbers: int, key: Array) -> Array:
    """Draw weights of the neurons that are ``there`` (sender, place): (sender, number, place)."""
    scale = FIRST / np.sqrt(there.sum(-1))[:, None, None]
    return scale * random.normal(key, (len(there), n_numbers, there.shape[1])) * there[:, None]
