"""Patterns of missing entries.

Covariances are computed once for all trials that miss the same entries.
"""

from itertools import groupby
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike


def mask_of(values: np.ndarray) -> np.ndarray | None:
    """Find which values (trial, time, neuron) are not NaN; None if all are numbers.

    Integers always are.
    """
    if values.dtype.kind != "f" or not any(np.isnan(trial).any() for trial in values):
        return None
    return ~np.isnan(values)


def share_patterns(mask: np.ndarray) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Describe a mask (trial, time, neuron) by as few patterns as are easily found.

    Returns ``observed``, ``pattern`` and ``length`` as :class:`Missing` has them.

    Going from the longest trial to the shortest, a trial joins the first pattern that agrees on [0, length).
    """
    n_trials, n_bins, _ = mask.shape
    seen = mask.any(axis=2)
    length = np.where(seen.any(axis=1), n_bins - np.argmax(seen[:, ::-1], axis=1), 0).astype(np.int32)
    pattern, ragged = np.zeros(n_trials, np.int32), length if (length < n_bins).any() else None
    if mask.all(axis=2)[np.arange(n_bins) < length[:, None]].all():
        return None, pattern, ragged
    packed = np.packbits(mask, axis=2)
    founders: list[int] = []  # the trial that each pattern was taken from
    for bins, trials in groupby(np.argsort(-length, kind="stable").tolist(), key=length.__getitem__):
        known = {packed[f, :bins].tobytes(): p for p, f in reversed(list(enumerate(founders)))}
        for trial in trials:
            pattern[trial] = known.setdefault(packed[trial, :bins].tobytes(), len(founders))
            if pattern[trial] == len(founders):
                founders.append(trial)
    return mask[founders], pattern, ragged


class Missing(NamedTuple):
    """Observed entries of a recording, stored once for each pattern.

    ``observed`` is None where nothing is missing within the trials' lengths, ``length`` where all trials fill all bins.

    Attributes:
        observed: (pattern, time, neuron), bool.
        pattern: (trial,), index into ``observed``.
        length: (trial,), number of bins of each trial.
    """

    observed: Array | None
    pattern: Array
    length: Array | None


def entries(missing: Missing, shape: tuple[int, ...]) -> Array:
    """True where an entry was observed, of ``shape`` (trial, time, neuron)."""
    return jnp.broadcast_to(jnp.asarray(present(missing, shape[1])) > 0, shape)


def written_out(missing: Missing, n_bins: int, n_neurons: int) -> np.ndarray:
    """Mask of the observed entries, (trial, time, neuron), on the host; not to be written to."""
    if missing.observed is None and missing.length is None:
        return np.broadcast_to(np.True_, (len(missing.pattern), n_bins, n_neurons))
    observed, length = _of_trials(missing, n_bins, n_neurons)
    return observed[missing.pattern] & (np.arange(n_bins) < length[:, None])[:, :, None]


def share_missing(missing: Missing, n_bins: int, n_neurons: int) -> float:
    """Share of entries that were not observed, each trial counted as long as the longest."""
    if missing.observed is None and missing.length is None:
        return 0.0
    observed, length = _of_trials(missing, n_bins, n_neurons)
    seen = observed.sum(2).cumsum(1)[missing.pattern, length - 1]
    return float(1 - seen.sum(dtype=float) / (len(length) * n_bins * n_neurons))


def _of_trials(missing: Missing, n_bins: int, n_neurons: int) -> tuple[np.ndarray, np.ndarray]:
    """Patterns (pattern, time, neuron) and lengths (trial,), also where nothing is missing."""
    always = np.ones((1, n_bins, n_neurons), bool)
    observed = always if missing.observed is None else np.asarray(missing.observed)
    length = np.full(len(missing.pattern), n_bins) if missing.length is None else np.asarray(missing.length)
    return observed, length


def mean_and_sd(values: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of each neuron over what was observed, (neuron,) each.

    Two passes: however large the mean, the sd has all its digits. Both are in double precision, trial by trial.
    """
    count: Any = np.maximum(values.shape[0] * values.shape[1] if mask is None else mask.sum(axis=(0, 1)), 1)
    rough = values.sum(axis=(0, 1), dtype=np.float64) / count
    shift, square = np.zeros_like(rough), np.zeros_like(rough)
    for trial, seen in zip(values, values if mask is None else mask, strict=True):
        rest = trial - rough if mask is None else np.where(seen, trial - rough, 0.0)
        shift += rest.sum(axis=0)
        square += np.einsum("tn,tn->n", rest, rest)
    shift /= count
    return rough + shift, np.sqrt(np.maximum(square / count - shift**2, np.finfo(float).tiny))


def gapless(mask: np.ndarray) -> bool:
    """True if every neuron was observed in all bins of a trial, up to its end, or in none.

    The mask is (trial, time, neuron).
    """
    count, length = mask.sum(1), mask.any(2).sum(1)
    return bool(np.all((count == 0) | (count == length[:, None])))


def exact_patterns(missing: Missing, n_bins: int, n_neurons: int) -> Missing:
    """Write the end of every trial into its pattern, as computations that look back need it.

    Filtering forward, a short trial shares the pattern of a long one; smoothing it does not.
    """
    if missing.length is None:
        return missing
    full = jnp.ones((1, n_bins, n_neurons), bool) if missing.observed is None else jnp.asarray(missing.observed)
    ends: Any = jnp.stack([missing.pattern, missing.length], -1)  # (trial, 2)
    pattern: Any = jnp.arange(len(missing.length))
    if not isinstance(ends, jax.core.Tracer):  # inside a traced function every trial keeps a pattern of its own
        ends, pattern = np.unique(np.asarray(ends), axis=0, return_inverse=True)
    inside = jnp.arange(n_bins) < ends[:, 1:]
    return Missing(full[ends[:, 0]] & inside[..., None], jnp.asarray(pattern), None)


def centred(values: Array, mean: Array, condition: Array | None, missing: Missing) -> Array:
    """Subtract the mean (condition, time or 1, neuron) from observations (trial, time, neuron).

    Missing entries stay zero.
    """
    mean = mean if condition is None else mean[condition]
    return values - mean * present(missing, values.shape[1])


def present(missing: Missing, n_bins: int) -> Array | float:
    """Mask of the observed entries, to multiply arrays (trial, time, neuron) with."""
    there: Array | float = 1.0
    if missing.observed is not None:
        there = there * missing.observed[missing.pattern]
    if missing.length is not None:
        there = there * inside(missing.length, len(missing.pattern), n_bins)[..., None]
    return there


def inside(length: ArrayLike | None, n_trials: int, n_bins: int) -> Array:
    """True for bins before a trial's end, (trial, time).

    ``length`` is that of each trial in bins, (trial,), None where all are whole.
    """
    ends = n_bins if length is None else jnp.asarray(length)[:, None]
    return jnp.broadcast_to(jnp.arange(n_bins) < ends, (n_trials, n_bins))
