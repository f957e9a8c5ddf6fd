"""Trials that share a covariance of q: those in which the same was observed."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from mrgp.likelihoods.base import DelayedGP
from mrgp.recordings.missing import exact_patterns


class Groups(NamedTuple):
    """Groups of trials that share a covariance.

    Attributes:
        pattern: (trial,).
        seen: (time, pattern, neuron), 1 where observed; None where everything was.
        size: Trials of each pattern, at least 1, (pattern,).
        alone: Whether every trial is its own pattern.
    """

    pattern: Array
    seen: Array | None
    size: Array
    alone: bool

    def of_trials(self, array: Array) -> Array:
        """Expand (time, pattern, ...) to (time, trial or 1, ...)."""
        return array if self.alone or array.shape[1] == 1 else array[:, self.pattern]

    def mean(self, array: Array) -> Array:
        """Average (time, trial, ...) over the trials of each pattern: (time, pattern, ...)."""
        if self.alone:
            return array
        if len(self.size) == 1:
            return array.mean(1, keepdims=True)
        nothing = jnp.zeros((array.shape[0], len(self.size), *array.shape[2:]), array.dtype)
        return nothing.at[:, self.pattern].add(array) / self.size.reshape(-1, *[1] * (array.ndim - 2))

    def total(self, array: Array) -> Array:
        """Sum (trial, ...) over the trials of each pattern: (pattern, ...)."""
        if self.alone:
            return array
        nothing = jnp.zeros((len(self.size), *array.shape[1:]), array.dtype)
        return nothing.at[self.pattern].add(array)

    @classmethod
    def of(cls, latent: DelayedGP, n_trials: int, shared: bool) -> "Groups":
        """Group trials by their pattern of missing data, or each by itself if not ``shared``."""
        missing = exact_patterns(latent.patterns(n_trials), latent.n_bins, latent.event_shape[1])
        observed, pattern = missing.observed, missing.pattern
        count = 1 if observed is None else len(observed)
        if not shared:
            observed = None if observed is None else observed[pattern]
            pattern, count = jnp.arange(n_trials), n_trials
        size = jnp.zeros(count).at[pattern].add(1.0)
        seen = None if observed is None else jnp.swapaxes(observed, 0, 1).astype(size.dtype)
        return cls(pattern, seen, jnp.maximum(size, 1.0), not shared)
