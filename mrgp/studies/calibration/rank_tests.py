"""Tests of a posterior's calibration by ranks, intervals and z-scores (Talts et al. 2018).

A truth drawn from the prior is, given its recording, one more draw of the posterior: its rank among L draws is uniform
on 0, ..., L, and intervals of probability p hold it with frequency p. Ranks that crowd at both ends tell of a posterior
that is too narrow, in the middle of one that is too wide, at one end of a bias.
"""

from functools import lru_cache

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy.stats import binom, chisquare

PROBABILITIES = (0.5, 0.8, 0.9, 0.95)
"""Of the central intervals whose coverage is counted."""

SIMULTANEOUS = 0.95  # probability that a whole ECDF of uniform ranks stays inside its band
REPEATS = 10_000  # samples that the band is found from: they place its 5% within 0.4%
MANY = 200  # ranks from which on there are 20 bins of 10 expected; 10 bins below
TOTAL = "all"
"""The row of the table that takes all quantities together; ``<kind> (all)`` takes those of one kind."""


def rank_of(truth: Float[np.ndarray, "quantity"], draws: Float[np.ndarray, "draw quantity"],
            rng: np.random.Generator) -> Int[np.ndarray, "quantity"]:  # fmt: skip
    """Count the draws below the truth, (quantity,).

    Draws that equal the truth are put on either side at random.
    """
    return (draws < truth).sum(0) + rng.integers(0, (draws == truth).sum(0) + 1)


def judged(
    truth: Float[np.ndarray, "quantity"],
    draws: Float[np.ndarray, "draw quantity"],
    n_ranked: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Compare one posterior with the truth: rank, mean, sd, z-score and coverage.

    These are ``rank``, ``mean``, ``sd``, ``z``, (quantity,) each, and ``inside`` (quantity, probability).

    The rank is among ``n_ranked`` evenly spaced draws, so that those of a chain are less alike; the rest is of all.
    """
    chosen = np.linspace(0, len(draws) - 1, n_ranked).round().astype(int)
    mean, sd = draws.mean(0), draws.std(0, ddof=1)
    lower, upper = (np.quantile(draws, [0.5 + sign * p / 2 for p in PROBABILITIES], axis=0).T for sign in (-1, 1))
    inside = (lower <= truth[:, None]) & (truth[:, None] <= upper)
    return {"rank": rank_of(truth, draws[chosen], rng), "mean": mean, "sd": sd, "z": (mean - truth) / sd,
            "inside": inside}  # fmt: skip


def rank_bins(n: int, highest: int) -> Int[np.ndarray, "edge"]:
    """First rank of each bin in a histogram of n ranks 0, ..., ``highest``, and the end.

    Bins are as even as can be.
    """
    count = min(20 if n >= MANY else 10, highest + 1)
    return np.linspace(0, highest + 1, count + 1).round().astype(int)


def chi_square(ranks: np.ndarray, highest: int) -> tuple[float, float]:
    """Chi-square statistic and p value of ranks, uniform on 0, ..., ``highest`` if calibrated."""
    edges = rank_bins(len(ranks), highest)
    counts, _ = np.histogram(ranks, edges - 0.5)
    result = chisquare(counts, len(ranks) * np.diff(edges) / (highest + 1))
    return float(result.statistic), float(result.pvalue)


def ecdf_difference(ranks: np.ndarray, highest: int) -> Float[np.ndarray, "rank"]:
    """Share of ranks up to 0, ..., ``highest`` - 1, minus its value for uniform ranks, (rank,)."""
    places = np.arange(highest)
    return (np.asarray(ranks)[:, None] <= places).mean(0) - (places + 1) / (highest + 1)


@lru_cache(maxsize=64)
def ecdf_band(n: int, highest: int) -> tuple[Float[np.ndarray, "rank"], Float[np.ndarray, "rank"]]:
    """Lower and upper end of a simultaneous 95% band for :func:`ecdf_difference`.

    With n uniform ranks the whole difference stays between them with a probability of 95%.

    At each place the ends are binomial quantiles of one tail probability, found by simulation (Säilynoja et al. 2022).
    """
    uniform = np.arange(1, highest + 1) / (highest + 1)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n, np.full(highest + 1, 1 / (highest + 1)), REPEATS)[:, :-1].cumsum(1)
    below = binom.cdf(np.arange(-1, n + 1)[:, None], n, uniform)  # P(count < c) in row c, P(count <= c) in row c + 1
    place = np.arange(highest)
    tail = np.minimum(below[counts + 1, place], 1 - below[counts, place])
    level = np.quantile(tail.min(1), 1 - SIMULTANEOUS)
    # The counts whose tails are not beyond that level.
    kept = np.minimum(below[1:], 1 - below[:-1]) >= level
    lower, upper = kept.argmax(0), n - kept[::-1].argmax(0)
    return lower / n - uniform, upper / n - uniform


def summarised(results: xr.Dataset) -> pd.DataFrame:
    """Table of tests: one row per quantity, per kind of quantity, and for all together.

    Simulations whose fit failed are left out.

    Columns: ``n`` ranks; ``chi_square`` of their histogram and its ``p``; ``ecdf_distance``, the largest difference of
    the ranks' ECDF from uniform, ``ecdf_band``, where the simultaneous 95% band ends at that place, and
    ``ecdf_inside``, whether the whole ECDF is inside; ``covered_50`` to ``covered_95``, the share of central intervals
    that hold the truth, and ``error_50`` to ``error_95``, its binomial standard deviation if calibrated; ``mean_z`` and
    ``mean_square_z`` of (posterior mean - truth) / posterior sd, 0 and about 1 if calibrated.

    Rows that take quantities together count them as independent, which those of one simulation are only nearly; where
    the attribute ``independent`` is 0 there are none.

    Args:
        results: ``rank``, ``z`` (simulation, quantity) and ``inside`` (simulation, quantity, probability), NaN where
            the fit failed; coordinate ``kind`` (quantity); attribute ``draws``, the highest rank.
    """
    return pd.DataFrame({name: _row(results, chosen) for name, chosen in _groups(results).items()}).T.infer_objects()


def _groups(results: xr.Dataset) -> dict[str, Bool[np.ndarray, "quantity"]]:
    names, kinds = results["quantity"].values, results["kind"].values
    groups = {str(name): names == name for name in names}
    if not results.attrs.get("independent", True):
        return groups
    several = {str(kind): kinds == kind for kind in dict.fromkeys(kinds) if (kinds == kind).sum() > 1}
    groups |= {f"{kind} ({TOTAL})": chosen for kind, chosen in several.items()}
    return groups | ({TOTAL: np.ones(len(names), bool)} if len(names) > 1 else {})


def _row(results: xr.Dataset, chosen: Bool[np.ndarray, "quantity"]) -> dict[str, float | int | bool]:
    part = results.isel(simulation=np.isfinite(results["rank"].values).all(1), quantity=chosen)
    highest, ranks = int(results.attrs["draws"]), part["rank"].values.ravel()
    row: dict[str, float | int | bool] = {"n": ranks.size}
    row["chi_square"], row["p"] = chi_square(ranks, highest)
    difference, (lower, upper) = ecdf_difference(ranks, highest), ecdf_band(ranks.size, highest)
    farthest = int(np.abs(difference).argmax())
    row["ecdf_distance"] = abs(float(difference[farthest]))
    row["ecdf_band"] = float(upper[farthest] if difference[farthest] > 0 else -lower[farthest])
    tiny = 1e-12  # both are multiples of 1 / n, but for rounding
    row["ecdf_inside"] = bool(np.all((lower - tiny <= difference) & (difference <= upper + tiny)))
    for p in results["probability"].values:
        row[f"covered_{100 * p:g}"] = float(part["inside"].sel(probability=p).mean())
        row[f"error_{100 * p:g}"] = float(np.sqrt(p * (1 - p) / ranks.size))
    z = part["z"].values
    return {**row, "mean_z": float(z.mean()), "mean_square_z": float((z**2).mean())}
