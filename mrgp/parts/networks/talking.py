"""Regions that talk: from the states of all regions in a bin to those in the next."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from mrgp.parts.networks.channels import Edges
from mrgp.parts.networks.of_regions import Places, each


class Now(NamedTuple):
    """State of all regions between two bins.

    Attributes:
        states: (trial, region, state).
        inputs: Of the bin before, (trial, region, input).
        history: What was said in the last bins, the latest first, (trial, lag, edge, carried).
    """

    states: Array
    inputs: Array
    history: Array


class Then(NamedTuple):
    """Numbers of a bin, or of all, (trial, time, ...).

    Attributes:
        before: States of the bin before, (..., region, state).
        inputs: (..., region, input).
        driving: Inputs and messages, (..., region, number).
        states: (..., region, state).
        factors: (..., region, factor).
        eta: Less the offsets, (..., neuron).
        messages: What has arrived, (..., edge, carried).
        routing: How far edges are open, (..., edge).
    """

    before: Array
    inputs: Array
    driving: Array
    states: Array
    factors: Array
    eta: Array
    messages: Array
    routing: Array


class Talking(NamedTuple):
    """Networks of all regions, and what they tell each other.

    Attributes:
        start: Networks from what a trial starts with to states.
        cell: Networks from states and what drives them to the next states.
        factors: Linear networks from states to factors.
        loadings: Of neurons on the factors of their region, (neuron, factor).
        unit: Of eta, (neuron,).
        channel: See :class:`mrgp.parts.networks.channels.Channels`.
        lags: Weights of the last bins in what arrives, (edge, lag).
        edges, places: Of the recording.
        region_of_neuron: (neuron,).
        heard: From eta less the offsets, (trial, neuron), and from what is held, to what other regions hear of neurons.
            Held is (neuron,), an expected value in place of a neuron's own, NaN for its own; None for all their own.
    """

    start: Any
    cell: Any
    factors: Any
    loadings: Array
    unit: Array
    channel: Any
    lags: Array
    edges: Edges
    places: Places
    region_of_neuron: Any
    heard: Callable[[Array, Array | None], Array]

    def begin(self, z: Array, n_inputs: int, held: Array | None = None) -> Now:
        """Begin trials at z (trial, region, dim); rates were always what they are at first."""
        states = each(self.start, z)
        said = self._said(self.read(states)[1], held)[:, None]
        history = jnp.broadcast_to(said, (len(said), self.lags.shape[-1], *said.shape[2:]))
        return Now(states, jnp.zeros((*states.shape[:2], n_inputs), states.dtype), history)

    def arriving(self, now: Now, noise: Array) -> Array:
        """Messages that arrive in the next bin, with ``noise``, (trial, edge, carried)."""
        return jnp.einsum("el,blem->bem", self.lags, now.history) + noise

    def driven(self, now: Now, inputs: Array, messages: Array, gates: Array | None) -> Then:
        """Numbers of the next bin, with these inputs (trial, region, input) and messages."""
        heard = self.channel.receive(messages, now.states, gates, self.edges)
        driving = jnp.concatenate([inputs, heard.inputs.reshape(*inputs.shape[:2], -1)], -1)
        states = each(self.cell, now.states, driving)
        return Then(now.states, inputs, driving, states, *self.read(states), messages, heard.routing)

    def after(self, now: Now, then: Then, held: Array | None = None) -> Now:
        """Go on to the bin after: what was done in this one is said."""
        history = jnp.concatenate([self._said(then.eta, held)[:, None], now.history[:, :-1]], 1)
        return Now(then.states, then.inputs, history)

    def read(self, states: Array) -> tuple[Array, Array]:
        """Factors (trial, region, factor), and eta less the offsets, (trial, neuron)."""
        factors = each(self.factors, states)
        eta = (self.loadings * factors[:, self.region_of_neuron]).sum(-1)
        return factors, self.unit.astype(eta.dtype) * eta

    def effects(self, then: Then, seen: Array) -> Array:
        """Compute how far messages move the neurons of their targets, (trial, time, edge).

        It is, in each bin, what they do with the message less what they would do with its mean over bins that are
        ``seen`` (trial, time): the root mean square over neurons, in units of eta.
        """
        weight = (seen / jnp.maximum(seen.sum(), 1)).astype(then.driving.dtype)
        usual = (weight[..., None, None] * then.driving).sum((0, 1))
        flat = then.before.reshape(-1, *then.before.shape[2:])
        n_sources, n_inputs = self.edges.n_regions - 1, then.inputs.shape[-1]
        n_messages = (usual.shape[-1] - n_inputs) // max(n_sources, 1)
        source_of = (jnp.arange(usual.shape[-1]) - n_inputs) // max(n_messages, 1)  # -1 for inputs

        def without(source: Array) -> Array:
            driving = jnp.where(source_of == source, usual, then.driving)
            moved = each(self.cell, flat, driving.reshape(-1, *driving.shape[2:]))
            added = self.places(self.read(then.states.reshape(moved.shape) - moved)[1] / self.unit)
            return jnp.sqrt((added**2).sum(-1) / self.places.there.sum(-1))

        moved = lax.map(without, jnp.arange(n_sources))  # (source, trial x time, region)
        return jnp.moveaxis(moved, 0, -1).reshape(*then.states.shape[:2], self.edges.n_edges)

    def _said(self, eta: Array, held: Array | None) -> Array:
        """Messages as they leave, (trial, edge, carried)."""
        return self.channel.send(self.places(self.heard(eta, held).astype(eta.dtype)), self.edges)
