"""E-step: expected sums over states, given a recording, and what an M-step makes of them."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.inference.run import Model
from mrgp.recordings.missing import Missing
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Sentence


class Moments(NamedTuple):
    """Expected sums given a recording, and its log-likelihood.

    y is measured from ``data.center``.

    Attributes:
        log_likelihood: log p(y | parameters), nats.
        transitions: Number of pairs (s_t, s_{t+1}) within trials.
        present, following: sum s_t s_t' and sum s_{t+1} s_{t+1}' over those pairs, (state, state).
        lagged: sum s_{t+1} s_t', (state, state).
        start, start_square: sum s_0 (state,) and s_0 s_0' (state, state) over trials.
        square: sum [s; 1] [s; 1]' over the bins of each neuron, (neuron or 1, state + 1, state + 1).
        product: sum y [s; 1], (neuron, state + 1).
        power: sum y^2, (neuron,).
    """

    log_likelihood: Array
    transitions: Array
    present: Array
    following: Array
    lagged: Array
    start: Array
    start_square: Array
    square: Array
    product: Array
    power: Array


@partial(jax.jit, static_argnums=0)
def expectation(model: Model, data: MultiRegionData, exact: Missing, sites: Mapping[str, Any]) -> Moments:
    """Do the E-step: find the expected sums and the log-likelihood at ``sites``.

    ``exact`` is the recording's missing data with every trial's end in its pattern.
    """
    distribution = model.likelihood_at(data, sites)
    posterior = distribution.with_missing(exact).posterior(data.values)
    states = posterior.state_mean, posterior.state_covariance, posterior.state_lagged
    return moments_of(*states, data, exact, distribution.log_prob(data.values).sum())


def moments_of(
    mean: Array, covariance: Array, lagged: Array, data: MultiRegionData, exact: Missing, log_likelihood: Array
) -> Moments:
    """Sum the moments of states over a recording.

    Args:
        mean: (time, trial, state).
        covariance: (time, pattern, state, state).
        lagged: Of a bin's state (rows) with the next, (time - 1, pattern, state, state).
        data: The recording.
        exact: Its missing data with every trial's end in its pattern.
        log_likelihood: What to say of it, nats.
    """
    m = jnp.swapaxes(mean, 0, 1)  # (trial, time, state)
    n_trials, n_bins, _ = m.shape
    lengths = jnp.full(n_trials, n_bins) if data.length is None else data.length
    inside = (jnp.arange(n_bins) < lengths[:, None]).astype(m.dtype)
    groups = covariance.shape[1]
    member = jax.nn.one_hot(exact.pattern, groups, dtype=m.dtype)  # (trial, pattern)
    count = member.T @ inside  # (pattern, time)
    covariance = jnp.swapaxes(covariance, 0, 1)

    def total(weight: Array) -> Array:
        """Expected sum of s_t s_t', weighted by ``weight`` (trial, time)."""
        spread = jnp.einsum("gt,gtij->ij", member.T @ weight, covariance)
        return spread + jnp.einsum("bti,bt,btj->ij", m, weight, m)

    pairs = inside[:, 1:]
    following = jnp.einsum("gt,tgij->ji", count[:, 1:], lagged)
    following = following + jnp.einsum("bti,bt,btj->ij", m[:, 1:], pairs, m[:, :-1])
    first = jnp.zeros_like(inside).at[:, 0].set(inside[:, 0])

    known = jnp.concatenate([m, jnp.ones((*m.shape[:2], 1))], axis=-1)  # [s; 1]
    padded = jnp.pad(covariance, [(0, 0), (0, 0), (0, 1), (0, 1)])
    if exact.observed is None:
        y = data.floats - data.center
        square = (jnp.einsum("gt,gtij->ij", count, padded) + jnp.einsum("bti,btj->ij", known, known))[None]
    else:
        seen = exact.observed.astype(m.dtype)  # (pattern, time, neuron)
        y = data.floats - data.center * seen[exact.pattern]
        each = padded * count[..., None, None] + jnp.einsum("bg,bti,btj->gtij", member, known, known)
        square = jnp.einsum("gtn,gtij->nij", seen, each)
    return Moments(
        log_likelihood,
        pairs.sum(),
        total(jnp.pad(pairs, [(0, 0), (0, 1)])),
        total(jnp.pad(pairs, [(0, 0), (1, 0)])),
        following,
        m[:, 0].sum(0),
        total(first),
        square,
        jnp.einsum("btn,bti->ni", y, known),
        (y**2).sum((0, 1)),
    )


class Updates(Protocol):
    """M-step of a model.

    Attributes:
        has_priors: Whether it climbs log p(y, parameters), and not log p(y | parameters).
    """

    @property
    def has_priors(self) -> bool: ...

    def objection(self) -> Sentence | None:
        """Reason why it cannot update its model, or None."""

    def __call__(self, data: MultiRegionData, moments: Moments, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Sites of a higher expected log-density than those at which ``moments`` were computed."""
