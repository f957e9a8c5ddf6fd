"""Courses of delays over a trial: modes of a smooth process, likely spreads and timescales."""

from functools import lru_cache

import numpy as np
from scipy.linalg import eigh, solve_triangular

KNOTS_PER_TIMESCALE = 4 / 3  # leaves 1e-3 of the variance of a squared exponential between two knots
LEAST_MODE = 1e-6  # of the first mode's variance: a mode below it cannot be seen in the delays
FIRST_TIMESCALE = 0.2  # s: where learning how fast delays change begins
TIMESCALE_STEPS = np.geomspace(0.5, 4.0, 10)  # of the present timescale: modes of a slow process cannot show a fast one
SHORTEST_CHANGE = 3.0  # bins: what changes faster than this cannot be told from noise
MISSED_TOP = 0.1  # prior sd: by how much a climb may miss the best weight of a mode
LEAST_SPREAD = 1e-3  # bins: a delay that changes by less does not change


@lru_cache
def smooth_modes(n_bins: int, timescale: float) -> np.ndarray:
    """Principal modes of a squared-exponential process of unit variance, (time, mode).

    They cover ``n_bins`` bins. Their squares sum to the variance; ``timescale`` is in bins. The process is first
    represented by its values at knots, K(t, knots) L^-T with K(knots, knots) = L L', that reach one timescale beyond
    both ends, so that the cost is linear in time.
    """
    spacing = timescale / KNOTS_PER_TIMESCALE
    knots = np.arange(-timescale, n_bins + timescale + spacing, spacing)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * ((a[:, None] - b) / timescale) ** 2)

    root = np.linalg.cholesky(kernel(knots, knots) + 1e-6 * np.eye(len(knots)))
    values = solve_triangular(root, kernel(knots, np.arange(n_bins)), lower=True).T
    left, sizes, _ = np.linalg.svd(values, full_matrices=False)
    return (left * sizes)[:, sizes**2 > LEAST_MODE * sizes[0] ** 2]


def most_evident(
    modes: np.ndarray, change: np.ndarray, spread: np.ndarray, precision: np.ndarray, timescale: float, *,
    bin_width: float, typical: float, learn_spread: bool, learn_timescale: bool,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """Find timescale l and spreads s of highest evidence for the courses of one latent.

    The search starts from the values of a fit. Each course f is taken as measured with one precision h per bin, that of
    its level per bin: then its modes are measured as f* = f (1 + g) / g with variance 1 / h, g = s^2 h |mode|^2, and
    the evidence of (s, l) is the density of f* under N(0, s^2 K_l + 1 / h), where f* is not a shift that the level can
    make. A climb ends near the top, not on it: ``change`` has an error of some MISSED_TOP, which (1 + g) / g makes
    large in modes that the recording says little of, so that they do not count.

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
    """Measured f* of :func:`most_evident`, (course, direction), with error and directions.

    Returns f*, the covariance of its error, and its directions (time, direction).
    """
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
