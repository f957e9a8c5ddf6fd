r"""Direction, size and evidence of each delay, from its posterior.

The Savage-Dickey ratio compares the model with a delay to the same model without: by how much the posterior density of
no delay has fallen below the prior's (Dickey 1971),

    BF = p(delta = 0) / p(delta = 0 | y).

Delays of pairs are behind the pair's first region. The posterior of artanh(delta / bound) is taken as Gaussian, with
the moments of the draws where there are any. For the ratio it is that of delta, cut where the prior ends: one delay is
uniform within D = max_delay, the difference of two is triangular within 2 D, and both have the density 1 / (2 D) at 0.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import norm

from mrgp.parts.delays.constant import DELAY
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.units import one_time
from mrgp.results import uncertainty
from mrgp.results.gaussian_process_fit import GaussianProcessFit

EDGE = 1 - 1e-9  # of the bound: draws beyond it have no artanh


def delay_table(
    fit: GaussianProcessFit,
    data: MultiRegionData | None = None,
    *,
    probability: float = 0.9,
    rope: float | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Table of delays: one row per latent and pair of regions, ``second`` behind ``first``.

    Args:
        fit: A :class:`mrgp.Fit` with delays. Of delays that vary, their mean over the trial.
        data: Its recording, where the fit was loaded from a file.
        probability: Of the interval.
        rope: Region of practical equivalence in seconds: a |delay| below it counts as none; None for half a bin.
        progress: Show a progress bar.

    Returns:
        Columns ``latent``, ``first``, ``second``; ``delay_ms``, ``sd_ms``, ``lower_ms``, ``upper_ms``; ``positive``,
        the probability that ``second`` lags ``first`` (feedforward, if that is the order of the hierarchy) and
        ``negative``, that it leads; ``log_bayes_factor``, natural, for a delay against none; ``in_rope``, the
        probability that |delay| is below ``rope``. All but the delay are NaN where one presses against ``max_delay``.
    """
    if not fit.has_delays:
        raise ValueError(f"{type(fit.model).__name__} has no delays here: fit DLAG, ADM or MDLAG to several regions")
    if DELAY.name in fit.fixed:
        raise ValueError("the delays of this fit were fixed: there is nothing to ask of them")
    if not 0 < probability < 1:
        raise ValueError(f"probability is between 0 and 1, not {probability}")
    small = 0.5 * fit.layout.bin_width if rope is None else one_time("rope", rope, "a positive number of seconds")
    if small <= 0:
        raise ValueError(f"rope is a positive number of seconds, not {rope}")
    z = norm.ppf(0.5 + probability / 2)
    rows = []
    for i, j in combinations(range(len(fit.populations)), 2):
        first, second = fit.populations[i], fit.populations[j]
        centers, sds, bound = _gaussian(fit, data, first, progress)
        largest = fit.model.delays.bound(fit.layout.bin_width)
        widest = bound / np.sqrt(3 + 3 * (i > 0))  # sd of the prior
        for k in range(fit.assignment.n_across):
            center, sd = centers[j, k], sds[j, k]
            delay, width = bound * np.tanh(center), width_of(center, sd, bound)
            inside = np.arctanh(min(small / bound, EDGE))
            rows.append({
                "latent": k,
                "first": first,
                "second": second,
                "delay_ms": 1e3 * delay,
                "sd_ms": 1e3 * min(width, widest),
                "lower_ms": 1e3 * bound * np.tanh(center - z * sd),
                "upper_ms": 1e3 * bound * np.tanh(center + z * sd),
                "positive": norm.cdf(center / sd),
                "negative": norm.cdf(-center / sd),
                "log_bayes_factor": _log_bayes_factor(delay, width, largest, i > 0),
                "in_rope": norm.cdf((inside - center) / sd) - norm.cdf((-inside - center) / sd),
            })  # fmt: skip
    return pd.DataFrame(rows)


def width_of(center: float, sd: float, bound: float) -> float:
    """Standard deviation in seconds of a delay, from ``sd`` of artanh(delay / bound).

    ``center`` is the mean of artanh(delay / bound).
    """
    return bound * (1 - np.tanh(center) ** 2) * sd


def _log_bayes_factor(delay: float, sd: float, largest: float, difference: bool) -> float:
    """Natural log of the Bayes factor for a delay against none.

    With ``difference`` the delay is that between two delays, each within ``largest``.
    """
    reach = largest * (1 + difference)
    grid = np.linspace(-reach, reach, 2001)
    prior = np.maximum(1 - np.abs(grid) / reach, 0.0) if difference else np.ones_like(grid)
    near = delay + sd * np.linspace(-8, 8, 2001)  # a narrow posterior falls between the points of the grid
    points = np.sort(np.concatenate([grid, near[np.abs(near) <= reach]]))
    kept = np.trapezoid(np.interp(points, grid, prior) * norm.pdf(points, delay, sd), points)
    return float(np.log(kept) - np.log(2 * largest) - norm.logpdf(0.0, delay, sd))


def _gaussian(
    fit: GaussianProcessFit, data: MultiRegionData | None, reference: str, progress: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Center and sd of artanh(delay / bound), (region, across_latent), and the bound in seconds.

    Delays are behind ``reference``.
    """
    if fit.samples is None or fit.method_class.ends_at_maximum:
        lean = uncertainty.delay_gaussian(fit, fit.curvature(data, progress), True, reference)
        return lean.center, lean.sd, lean.bound
    uncertainty.require_own(fit, data)
    tables = uncertainty.delay_draws(fit, fit.draws(fit.n_samples), reference)
    tables = tables.mean(-1) if fit.delays_vary else tables
    bound = fit.model.delays.bound(fit.layout.bin_width) * (1 + (fit.populations.index(reference) > 0))
    free = np.arctanh(np.clip(tables / bound, -EDGE, EDGE))
    return free.mean(0), np.maximum(free.std(0, ddof=1), 1e-12), bound
