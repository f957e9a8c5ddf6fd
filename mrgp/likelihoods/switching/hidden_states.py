"""Hidden Markov chains of states: probabilities by forward-backward, and the likeliest path."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp, xlogy


class States(NamedTuple):
    """Probabilities of states.

    Attributes:
        single: q(z_t), (trial, time, state).
        pair: q(z_t, z_{t+1}), (trial, time - 1, state, next state).
    """

    single: Array
    pair: Array


def forward_backward(first: Array, potentials: Array) -> tuple[States, Array]:
    """Probabilities of states, and the log normalizer of each trial, (trial,).

    Args:
        first: Log potential of the first bin, (state,).
        potentials: Of every step to the next bin, (trial, time - 1, state, next state).
    """
    return jax.vmap(_forward_backward, (None, 0))(first, potentials)


def _forward_backward(first: Array, potentials: Array) -> tuple[States, Array]:
    def forward(before: Array, step: Array) -> tuple[Array, Array]:
        now = logsumexp(before[:, None] + step, 0)
        return now, now

    def backward(after: Array, step: Array) -> tuple[Array, Array]:
        return logsumexp(step + after, 1), after

    last, later = lax.scan(forward, first, potentials)
    alpha = jnp.concatenate([first[None], later])
    beta_first, beta = lax.scan(backward, jnp.zeros_like(first), potentials, reverse=True)
    total = logsumexp(last)
    pair = jnp.exp(alpha[:-1, :, None] + potentials + beta[:, None, :] - total)
    single = jnp.exp(alpha + jnp.concatenate([beta_first[None], beta]) - total)
    return States(single, pair), total


def value_of(states: States, first: Array, potentials: Array) -> Array:
    """Expected log potentials of given probabilities plus their entropy, (trial,).

    It is highest, and the log normalizer, where they are those of :func:`forward_backward`.
    """
    told = states.single[:, 0] @ first + (states.pair * potentials).sum((1, 2, 3))
    return told - xlogy(states.pair, states.pair).sum((1, 2, 3)) + _inner(states.single) + _alone(states)


def _inner(single: Array) -> Array:
    """Sum of q log q over bins that have both neighbours, which pairs count twice."""
    return xlogy(single[:, 1:-1], single[:, 1:-1]).sum((1, 2))


def _alone(states: States) -> Array:
    """Entropy of states of trials of one bin, which have no pairs."""
    if states.pair.shape[1]:
        return jnp.zeros(len(states.single))
    return -xlogy(states.single, states.single).sum((1, 2))


def most_likely(first: Array, potentials: Array) -> Array:
    """Most likely path of states of each trial, (trial, time), by Viterbi's recursion."""

    def one(potentials: Array) -> Array:
        def forward(before: Array, step: Array) -> tuple[Array, Array]:
            scores = before[:, None] + step
            return scores.max(0), scores.argmax(0)

        def backward(after: Array, best: Array) -> tuple[Array, Array]:
            return best[after], after

        last, best = lax.scan(forward, first, potentials)
        start, path = lax.scan(backward, last.argmax(), best, reverse=True)
        return jnp.concatenate([start[None], path])

    return jax.vmap(one)(potentials)
