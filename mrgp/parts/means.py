"""Means over a trial: the modes of their courses, a first guess, and how far they are likely to move."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from mrgp.parts.sites import Site

MEAN_CHANGE = Site("mean_change", "condition", "neuron", "mode")
MEAN_SPREAD = Site("mean_spread", "kind", "neuron")
OF_MEANS = (MEAN_CHANGE.name, MEAN_SPREAD.name)

GRID_OF_SPREADS = np.geomspace(0.04, 1.0, 7)  # of a neuron's unit: how far its mean may move over a trial
MIXING_STEPS = 100
TELLING_MODES = 64  # of a mean: its largest, which tell how far it moves
NEIGHBOURS, THEIR_WEIGHT = 9, 20.0  # modes whose noise is like a mode's own, and the trials that this counts for
LEAST_FREEDOM = 5.0  # trials beyond one of each condition, below which nothing tells the noise
TRIALS_AT_ONCE = 16


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
