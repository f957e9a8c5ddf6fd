"""Membership of neurons in populations, with probabilities."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Membership(NamedTuple):
    """Probabilities of the populations of neurons.

    Copies of neurons are all neurons in the first population, then all in the second, and so on.

    Attributes:
        share: (neuron, population), rows add to 1.
    """

    share: Array

    @classmethod
    def known(cls, n_neurons: int) -> "Membership":
        """Neurons that all have one copy."""
        return cls(jnp.ones((n_neurons, 1)))

    @property
    def weights(self) -> Array:
        """Probability of each copy, (copy,)."""
        return self.share.T.ravel()

    def copied(self, values: Array) -> Array:
        """Repeat values (..., neuron) for each population, (..., copy)."""
        n_neurons, count = self.share.shape
        return jnp.broadcast_to(values[..., None, :], (*values.shape[:-1], count, n_neurons)).reshape(
            *values.shape[:-1], count * n_neurons
        )

    def mixed(self, copies: Array) -> Array:
        """Expectation (..., neuron) of values of copies."""
        n_neurons, count = self.share.shape
        return (copies.reshape(*copies.shape[:-1], count, n_neurons) * self.share.T).sum(-2)

    def picked(self, key: Array, copies: Array) -> Array:
        """Draw one copy of each neuron by its probability, the same in all of (...)."""
        n_neurons = len(self.share)
        drawn = jax.random.categorical(key, jnp.log(self.share))
        return copies[..., drawn * n_neurons + jnp.arange(n_neurons)]
