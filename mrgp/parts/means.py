"""Means over a trial: the modes of their courses, a first guess, and how far they are likely to move."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from mrgp.parts.emissions.counts import mean_counts
from mrgp.parts.sites import Site
from mrgp.recordings.recording import MultiRegionData

MEAN_CHANGE = Site("mean_change", "condition", "neuron", "mode")
MEAN_SPREAD = Site("mean_spread", "kind", "neuron")
OF_MEANS = (MEAN_CHANGE.name, MEAN_SPREAD.name)

LEAST_ROUGH = 1e-3  # of the largest mode's variance: modes of a Matern process fade slowly
USUAL_SPREAD = 0.5  # of a neuron's standard deviation: how far its mean response moves, a priori
GRID_OF_SPREADS = np.geomspace(0.04, 1.0, 7)  # of a neuron's unit: how far its mean may move over a trial
MIXING_STEPS = 100
TELLING_MODES = 64  # of a mean: its largest, which tell how far it moves
NEIGHBOURS, THEIR_WEIGHT = 9, 20.0  # modes whose noise is like a mode's own, and the trials that this counts for
LEAST_FREEDOM = 5.0  # trials beyond one of each condition, below which nothing tells the noise
SOLVED_AT_ONCE = 10**7  # numbers in the matrices of courses that are in memory together
TRIALS_AT_ONCE = 16
COURSE_STEPS = 8  # of Newton's method; a log-rate moves by at most LONGEST in one
LONGEST = 1.0


@lru_cache(maxsize=32)
def rough_modes(n_bins: int, timescale: float) -> np.ndarray:
    """Principal modes of a Matern-3/2 process of unit variance over ``n_bins`` bins, (time, mode), largest first.

    Rough enough for the onset of a response. ``timescale`` is in bins.
    """
    lag = np.sqrt(3) * np.abs(np.subtract.outer(np.arange(n_bins), np.arange(n_bins))) / timescale
    values, vectors = np.linalg.eigh((1 + lag) * np.exp(-lag))
    kept = np.flatnonzero(values > LEAST_ROUGH * values[-1])[::-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def weights_of_modes(modes: np.ndarray, course: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Posterior mean (..., mode) of standard normal weights of ``modes`` given a noisy ``course`` (..., time).

    ``precision`` (..., time) are the inverse noise variances, 0 where nothing was measured. Courses that were measured
    alike are solved for together.
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


class Averages(NamedTuple):
    """Averages of each condition's trials on the modes of a mean, and what they are known to.

    Attributes:
        mean: In units of each neuron, (condition, mode, neuron).
        trials: Trials that each is an average of, in observed bins by bins of a trial, (condition, neuron).
        noise: Variance of a single trial around its condition's average, (mode, neuron); NaN where nothing tells it.
    """

    mean: np.ndarray
    trials: np.ndarray
    noise: np.ndarray


def averages_of_conditions(
    values: np.ndarray, mask: np.ndarray, condition: np.ndarray, along: np.ndarray, center: np.ndarray, unit: np.ndarray
) -> Averages:
    """Averages of trials (trial, time, neuron), zero where ``mask`` is, on orthonormal modes ``along`` (time, mode).

    Noise is that of the modes around as well: of few trials each alone would be known to a factor of two.
    """
    groups = [np.flatnonzero(condition == number) for number in np.unique(condition)]
    mean = np.empty((len(groups), along.shape[1], len(unit)))
    trials, squares = np.empty((len(groups), len(unit))), np.zeros(mean.shape[1:])
    for number, group in enumerate(groups):
        parts = np.array_split(group, -(-len(group) // TRIALS_AT_ONCE))
        seen = np.sum([mask[part].sum(0) for part in parts], 0)
        course = np.sum([values[part].sum(0) for part in parts], 0) / np.maximum(seen, 1)
        trials[number] = seen.sum(0) / len(seen)
        mean[number] = along.T @ (np.where(seen > 0, course - center, 0.0) / unit)
        for part in parts:
            apart = np.where(mask[part], values[part] - course, 0.0) / unit
            squares += np.square(np.einsum("btn,tm->bmn", apart, along, optimize=True)).sum(0)
    freedom = np.maximum(trials - 1, 0.0).sum(0)
    alone = squares / np.maximum(freedom, 1.0)
    around = uniform_filter1d(alone, NEIGHBOURS, axis=0, mode="nearest")
    noise = (freedom * alone + THEIR_WEIGHT * around) / (freedom + THEIR_WEIGHT)
    return Averages(mean, trials, np.where(freedom >= LEAST_FREEDOM, noise, np.nan))


def likely_spreads(averages: Averages, size: np.ndarray, least_noise: np.ndarray) -> np.ndarray:
    r"""Likely spreads of each neuron's mean over a trial: that of all conditions, and that of each besides.

    A mean a + b_c of modes with spreads s and o shows in the average of condition c's n_c trials, projected on mode m,
    as N(0, (s^2 + o^2) |m|^2 + v / n_c), its covariance between conditions being s^2 |m|^2; v is the variance of single
    trials around the average, so that what latents add to trials is no mean. Every neuron has spreads of its own,
    drawn from a mixture over a grid that the neurons share, found by expectation-maximization: a neuron of few spikes
    takes those of the others. What is returned is the root of the expected s^2 and o^2.

    Args:
        averages: Of the conditions.
        size: |m|^2 of each mode, (mode,).
        least_noise: The least v that can be, (neuron,).

    Returns:
        Spreads in the neuron's unit, (2, neuron); NaN where nothing tells them: of noise too few trials, and of
        differences between conditions a single one.
    """
    one = len(averages.mean) == 1
    pairs = [(shared, own) for shared in GRID_OF_SPREADS for own in ((0.0,) if one else GRID_OF_SPREADS)]
    grid, known = np.array(pairs), np.isfinite(averages.noise[0])
    found = np.full((2, averages.noise.shape[1]), np.nan)
    if not known.any():
        return found
    mean, trials = averages.mean[..., known], averages.trials[:, None, known]
    noise = np.maximum(averages.noise[:, known], least_noise[known])
    evidence = np.empty((len(grid), mean.shape[-1]))
    for point, (shared, own) in enumerate(grid):
        precision = np.where(trials > 0, 1 / (own**2 * size[:, None] + noise / np.maximum(trials, 1e-9)), 0.0)
        common = shared**2 * size[:, None]
        inflation = 1 + common * precision.sum(0)
        square = (precision * mean**2).sum(0) - common * (precision * mean).sum(0) ** 2 / inflation
        determinant = np.log(inflation) - np.log(np.where(trials > 0, precision, 1.0)).sum(0)
        evidence[point] = -0.5 * (square + determinant).sum(0)
    likely = np.exp(evidence - evidence.max(0))
    share = np.full((len(grid), 1), 1 / len(grid))
    for _ in range(MIXING_STEPS):
        belongs = share * likely / (share * likely).sum(0)
        share = belongs.mean(1, keepdims=True)
    found[:, known] = np.sqrt(np.einsum("gn,gk->kn", belongs, grid**2))
    if one:
        found[1] = np.nan
    return found


def course_start(data: MultiRegionData, modes: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """A first guess of ``mean_change`` (condition, neuron, mode): Poisson regression of each neuron on the modes.

    First of all trials, with ``spread[0]`` (neuron,) a priori; where conditions have courses of their own, then of each
    condition's trials around the first, with ``spread[1]``.
    """
    mask, values = data.mask, np.asarray(data.values)
    level = np.log(np.asarray(mean_counts(data)))[:, None]
    shared = _regression(values.sum(0).T, mask.sum(0).T, level, modes, spread[0][:, None])
    change = np.tile(shared, (data.layout.n_conditions, 1, 1))
    if len(spread) > 1:
        for number in range(len(change)):
            own = np.asarray(data.condition) == number
            total, trials = values[own].sum(0).T, mask[own].sum(0).T
            change[number] += _regression(total, trials, level + shared @ modes.T, modes, spread[1][:, None])
    return change


def _regression(
    total: np.ndarray, trials: np.ndarray, level: np.ndarray, modes: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """Weights (neuron, mode) of log-rates around ``level``, given ``total`` counts of ``trials``, (neuron, time)."""
    eta = np.broadcast_to(level, total.shape)
    for _ in range(COURSE_STEPS):
        expected = trials * np.exp(eta)
        working = eta - level + (total - expected) / np.maximum(expected, 1e-12)
        weights = spread * weights_of_modes(modes, working / spread, expected * spread**2)
        eta = eta + np.clip(level + weights @ modes.T - eta, -LONGEST, LONGEST)
    return weights
