"""Modes of courses over a trial: smooth curves of few numbers, and their best values."""

from functools import lru_cache

import numpy as np

LEAST_ROUGH = 1e-3  # of the largest mode's variance: modes of a Matern process fade slowly
SOLVED_AT_ONCE = 10**7  # numbers in the matrices of courses that are in memory together


@lru_cache(maxsize=32)
def rough_modes(n_bins: int, timescale: float) -> np.ndarray:
    """Principal modes of a Matern-3/2 process of unit variance, (time, mode), largest first.

    They cover ``n_bins`` bins, and are rough enough for the onset of a response. ``timescale`` is in bins.
    """
    lag = np.sqrt(3) * np.abs(np.subtract.outer(np.arange(n_bins), np.arange(n_bins))) / timescale
    values, vectors = np.linalg.eigh((1 + lag) * np.exp(-lag))
    kept = np.flatnonzero(values > LEAST_ROUGH * values[-1])[::-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def weights_of_modes(modes: np.ndarray, course: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Posterior mean of standard normal weights of ``modes``, (..., mode).

    The weights are inferred from a noisy ``course`` (..., time). ``precision`` (..., time) are the inverse noise
    variances, 0 where nothing was measured. Courses that were measured alike are solved for together.
    """
    told = (precision * course).reshape(-1, len(modes)) @ modes
    distinct, which = np.unique(precision.reshape(-1, len(modes)), axis=0, return_inverse=True)
    order, weights = np.argsort(which.ravel(), kind="stable"), np.empty_like(told)  # of NumPy 2.0.0 it is a column
    several = max(1, SOLVED_AT_ONCE // modes.shape[1] ** 2)
    for first in range(0, len(order), several):
        here = order[first : first + several]
        alike, place = np.unique(which.ravel()[here], return_inverse=True)
        inside = np.einsum("tm,at,tn->amn", modes, distinct[alike], modes, optimize=True) + np.eye(modes.shape[1])
        if len(alike) == 1:
            weights[here] = np.linalg.solve(inside[0], told[here].T).T
        else:
            weights[here] = np.linalg.solve(inside[place.ravel()], told[here][..., None])[..., 0]
    return weights.reshape(*course.shape[:-1], modes.shape[1])
