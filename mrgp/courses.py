"""Courses of delays and means during a trial: their modes, and how far and how fast they are likely to move."""

from functools import lru_cache

import numpy as np
from scipy.linalg import eigh, solve_triangular

KNOTS_PER_TIMESCALE = 4 / 3  # leaves 1e-3 of the variance of a squared exponential between two knots
LEAST_ROUGH = 1e-3  # the same of a Matern process, whose modes fade slowly
LEAST_MODE = 1e-6  # of the first mode's variance: a mode below it cannot be seen in the delays
FIRST_TIMESCALE = 0.2  # s: where learning how fast delays change begins
TIMESCALE_STEPS = np.geomspace(0.5, 4.0, 10)  # of the present timescale: modes of a slow process cannot show a fast one
SHORTEST_CHANGE = 3.0  # bins: what changes faster than this cannot be told from noise
MISSED_TOP = 0.1  # prior sd: by how much a climb may miss the best weight of a mode
LEAST_SPREAD = 1e-3  # bins: a delay that changes by less does not change
MEAN_SPREADS = np.geomspace(0.04, 1.0, 7)  # of a neuron's unit: how far its mean may move over a trial
MIXING_STEPS = 100
SOLVED_AT_ONCE = 512  # courses: their matrices are in memory together


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
    weights = np.empty_like(told)
    which = which.ravel()  # of NumPy 2.0.0 it is a column
    for first in range(0, len(distinct), SOLVED_AT_ONCE):
        known = distinct[first : first + SOLVED_AT_ONCE]
        inside = np.linalg.inv(np.einsum("tm,at,tn->amn", modes, known, modes, optimize=True) + np.eye(modes.shape[1]))
        here = (which >= first) & (which < first + len(known))
        weights[here] = np.einsum("amn,an->am", inside[which[here] - first], told[here])
    return weights.reshape(*course.shape[:-1], modes.shape[1])


def likely_spreads(
    excess: np.ndarray, mask: np.ndarray, condition: np.ndarray, modes: np.ndarray, least_noise: np.ndarray
) -> np.ndarray:
    r"""How far the mean of each neuron is likely to move over a trial: in all conditions alike, and in each besides.

    A mean a + b_c of modes with spreads s and o shows in the average of condition c's n_c trials, projected on mode m,
    as N(0, (s^2 + o^2) |m|^2 + v / n_c), its covariance between conditions being s^2 |m|^2; v is the variance of single
    trials around the average, so that what latents add to trials is no mean. Every neuron has spreads of its own,
    drawn from a mixture over a grid that the neurons share, found by expectation-maximization: a neuron of few spikes
    takes those of the others. What is returned is the root of the expected s^2 and o^2.

    Args:
        excess: Values less each neuron's centre in the neuron's unit, (trial, time, neuron).
        mask: Where a value was measured, of the same shape.
        condition: Number of each trial's condition, (trial,).
        modes: Of the course, (time, mode), orthogonal.
        least_noise: The least v that can be, (neuron,).

    Returns:
        Spreads in the neuron's unit, (2, neuron); NaN where no condition has a second trial: then nothing tells v.
    """
    size = (modes**2).sum(0)
    numbers, place = np.unique(condition, return_inverse=True)
    counts = np.bincount(place)
    if len(condition) == len(numbers):
        return np.full((2, excess.shape[-1]), np.nan)
    means = np.empty((len(numbers), modes.shape[1], excess.shape[-1]))
    within = np.zeros(means.shape[1:])
    for number in range(len(numbers)):
        trials, known = excess[place == number], mask[place == number]
        course = np.where(known, trials, 0.0).sum(0) / np.maximum(known.sum(0), 1)
        told = np.einsum("btn,tm->bmn", np.where(known, trials, course), modes / np.sqrt(size))
        means[number] = told.mean(0)
        within += ((told - means[number]) ** 2).sum(0)
    noise = np.maximum(within / (len(condition) - len(numbers)), least_noise)
    one = len(numbers) == 1
    grid = np.array([(shared, own) for shared in MEAN_SPREADS for own in ((0.0,) if one else MEAN_SPREADS)])
    evidence = np.empty((len(grid), excess.shape[-1]))
    for point, (shared, own) in enumerate(grid):
        precision = 1 / (own**2 * size[:, None] + noise / counts[:, None, None])
        common = shared**2 * size[:, None]
        inflation = 1 + common * precision.sum(0)
        square = (precision * means**2).sum(0) - common * (precision * means).sum(0) ** 2 / inflation
        evidence[point] = -0.5 * (square + np.log(inflation) - np.log(precision).sum(0)).sum(0)
    likely = np.exp(evidence - evidence.max(0))
    share = np.full((len(grid), 1), 1 / len(grid))
    for _ in range(MIXING_STEPS):
        belongs = share * likely / (share * likely).sum(0)
        share = belongs.mean(1, keepdims=True)
    return np.sqrt(np.einsum("gn,gk->kn", belongs, grid**2))


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
