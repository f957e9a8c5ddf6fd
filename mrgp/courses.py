"""Courses of delays and means during a trial: their modes, and how far and how fast they are likely to move."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh, solve_triangular
from scipy.ndimage import uniform_filter1d

KNOTS_PER_TIMESCALE = 4 / 3  # leaves 1e-3 of the variance of a squared exponential between two knots
LEAST_ROUGH = 1e-3  # the same of a Matern process, whose modes fade slowly
LEAST_MODE = 1e-6  # of the first mode's variance: a mode below it cannot be seen in the delays
FIRST_TIMESCALE = 0.2  # s: where learning how fast delays change begins
TIMESCALE_STEPS = np.geomspace(0.5, 4.0, 10)  # of the present timescale: modes of a slow process cannot show a fast one
SHORTEST_CHANGE = 3.0  # bins: what changes faster than this cannot be told from noise
MISSED_TOP = 0.1  # prior sd: by how much a climb may miss the best weight of a mode
LEAST_SPREAD = 1e-3  # bins: a delay that changes by less does not change
OF_MEANS = ("mean_change", "mean_spread")  # sites of a mean that changes over a trial
MEAN_SPREAD = 0.5  # of a neuron's standard deviation: how far its mean response moves, a priori
GRID_OF_SPREADS = np.geomspace(0.04, 1.0, 7)  # of a neuron's unit: how far its mean may move over a trial
MIXING_STEPS = 100
TELLING_MODES = 64  # of a mean: its largest, which tell how far it moves
NEIGHBOURS, THEIR_WEIGHT = 9, 20.0  # modes whose noise is like a mode's own, and the trials that this counts for
LEAST_FREEDOM = 5.0  # trials beyond one of each condition, below which nothing tells the noise
SOLVED_AT_ONCE = 10**7  # numbers in the matrices of courses that are in memory together
TRIALS_AT_ONCE = 16


def spread_evidence(mean: np.ndarray, covariance: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    r"""Log evidence of other spreads s' = ratio s than the one a course was inferred with, up to a constant, (ratio,).

    A course is s sum_m z_m mode_m, z ~ N(0, I). A posterior N(m, S) of z at spread s means a likelihood of precision
    Lambda = S^-1 - I and a natural vector v = S^-1 m; at s' the evidence is then

        -log|I + ratio^2 Lambda| / 2 + ratio^2 v' (I + ratio^2 Lambda)^-1 v / 2,

    0 for a delay that does not move.
    """
    values, vectors = np.linalg.eigh(covariance)
    values = np.clip(values, 1e-12, 1.0)  # no likelihood widens a prior
    natural, gained = (vectors.T @ mean) / values, 1 / values - 1
    spread = 1 + ratios[:, None] ** 2 * gained
    return 0.5 * (ratios[:, None] ** 2 * natural**2 / spread - np.log(spread)).sum(-1)


@lru_cache
def smooth_modes(n_bins: int, timescale: float) -> np.ndarray:
    """Principal modes of a squared exponential of unit variance over ``n_bins`` bins, (time, mode).

    Their squares sum to the variance; ``timescale`` is in bins. The process is first represented by its values at
    knots, K(t, knots) L^-T with K(knots, knots) = L L', that reach one timescale beyond both ends, so that the cost is
    linear in time.
    """
    spacing = timescale / KNOTS_PER_TIMESCALE
    knots = np.arange(-timescale, n_bins + timescale + spacing, spacing)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * ((a[:, None] - b) / timescale) ** 2)

    root = np.linalg.cholesky(kernel(knots, knots) + 1e-6 * np.eye(len(knots)))
    values = solve_triangular(root, kernel(knots, np.arange(n_bins)), lower=True).T
    left, sizes, _ = np.linalg.svd(values, full_matrices=False)
    return (left * sizes)[:, sizes**2 > LEAST_MODE * sizes[0] ** 2]


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


def most_evident(
    modes: np.ndarray, change: np.ndarray, spread: np.ndarray, precision: np.ndarray, timescale: float, *,
    bin_width: float, typical: float, learn_spread: bool, learn_timescale: bool,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """Timescale l and spreads s of highest evidence for one latent's courses, around those of a fit.

    Each course f is taken as measured with one precision h per bin, that of its level per bin: then its modes are
    measured as f* = f (1 + g) / g with variance 1 / h, g = s^2 h |mode|^2, and the evidence of (s, l) is the
    density of f* under N(0, s^2 K_l + 1 / h), where f* is not a shift that the level can make. A climb ends near the
    top, not on it: ``change`` has an error of some MISSED_TOP, which (1 + g) / g makes large in modes that the
    recording says little of, so that they do not count.

    Args:
        modes: Of the fit's process, (time, mode).
        change: The fit's courses f / s in these modes, (course, mode).
        spread: The fit's s in seconds, (course,), none of them near 0: there nothing of f* can be told.
        precision: h in 1 / seconds^2, (course,).
        timescale: The fit's l in seconds.
        bin_width: Of the recording, in seconds.
        typical: Scale of the half-normal prior of s in seconds.
        learn_spread, learn_timescale: False to leave s, or l, as it is.

    Returns:
        l in seconds, and s in seconds, (course,).
    """
    measured, error, directions = _measured(modes, change, spread, precision)
    n_bins = len(modes)
    grid = np.geomspace(LEAST_SPREAD * bin_width, 10 * typical, 60)
    spreads = np.tile(grid, (len(spread), 1)) if learn_spread else spread[:, None]
    shortest, longest = SHORTEST_CHANGE * bin_width, n_bins * bin_width
    timescales = np.array([timescale])
    if learn_timescale:
        timescales = np.clip(timescale * TIMESCALE_STEPS, shortest, max(longest, shortest))
    best, answer = -np.inf, (timescale, spread)
    for tried in timescales:
        lag = np.subtract.outer(np.arange(n_bins), np.arange(n_bins)) * bin_width / tried
        process = directions.T @ np.exp(-0.5 * lag**2) @ directions
        density = -0.5 * (spreads / typical) ** 2
        for course, (own, noise) in enumerate(zip(measured, error, strict=True)):
            values, turn = eigh(process, noise)  # the noise's variance is 1 along every column of turn
            variance = spreads[course, :, None] ** 2 * np.maximum(values, 0.0) + 1
            density[course] -= 0.5 * ((own @ turn) ** 2 / variance + np.log(variance)).sum(-1)
        total = density.max(-1).sum() - 0.5 * np.log(tried / FIRST_TIMESCALE) ** 2
        if total > best:
            chosen = np.take_along_axis(spreads, density.argmax(-1)[:, None], 1)[:, 0]
            best, answer = total, (float(tried), chosen)
    return answer


def _measured(
    modes: np.ndarray, change: np.ndarray, spread: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """f* of :func:`most_evident`, (course, direction), its error's covariance, and its directions (time, direction)."""
    size = (modes**2).sum(0)
    modes, change, size = modes[:, size > 0], change[:, size > 0], size[size > 0]
    gain = spread[:, None] ** 2 * size * precision[:, None]
    unit = spread[:, None] * np.sqrt(size) * (1 + gain) / gain
    along = modes / np.sqrt(size)
    centred = along - along.mean(0)  # the level, which may be anything, takes up what is constant
    left, kept, _ = np.linalg.svd(centred, full_matrices=False)
    directions = left[:, kept > 1e-6]
    known = along.T @ directions
    missed = np.einsum("md,cm,me->cde", known, (MISSED_TOP * unit) ** 2, known)
    error = missed + np.eye(directions.shape[1]) / precision[:, None, None]
    return (unit * change) @ known, error, directions
