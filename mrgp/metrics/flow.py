"""Direction of signal flow for every pair of regions and every latent.

It says which region goes ahead, by how much, and how strongly.
"""

from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from mrgp.metrics.metric import Metric, ScoredTrials, plain
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit, of_processes

DIRECTIONS = ("first leads", "second leads", "unclear", "not shared")


def signal_flow(
    fit: Fit,
    probability: float = 0.9,
    data: MultiRegionData | None = None,
    intervals: bool = True,
    progress: bool = False,
) -> xr.Dataset:
    """Make a table of delays between all pairs of regions, latent by latent.

    Args:
        fit: Of a model with delays.
        probability: Of the intervals.
        data: The recording, where the fit neither holds it nor has its intervals saved.
        intervals: Compute intervals; without them ``direction`` is the sign of the delay.
        progress: Show the progress of what intervals need.

    Returns:
        Over (pair, across_latent), with coordinates ``first`` and ``second`` (pair,), regions in the recording's
        order: ``delay`` of the second behind the first in seconds, its mean over the trial where it varies, with
        ``lower`` and ``upper``; ``direction``: "first leads", "second leads", "unclear" where the interval holds 0,
        "not shared" where one of them does not read the latent; ``share_first`` and ``share_second``, of the variance
        that latents explain in each; ``strength``, the geometric mean of the two. Of a latent not shared the delay is
        NaN and the strength 0.

    Raises:
        DataError: the model has no delays, or intervals are asked for and there is no recording to compute them from.
    """
    if not (of_processes(fit) and fit.has_delays):
        raise DataError(f"this {type(fit.model).__name__} has no delays between regions: fit dlag, adm or mdlag")
    regions, n_latents = list(fit.populations), fit.delays.sizes["across_latent"]
    pairs = list(combinations(range(len(regions)), 2))
    reads = fit.shared_by().values if fit.has_relevance else np.ones((len(regions), n_latents), bool)
    mean = (fit.delays.mean("time") if fit.delays_vary else fit.delays).values
    share = fit.shared_variance.values[:, :n_latents]
    shape = len(pairs), n_latents
    tables = {name: np.full(shape, np.nan) for name in ("delay", "lower", "upper", "share_first", "share_second")}
    if intervals:
        known = {
            i: fit.delay_intervals(probability, data, progress, over_time=True, reference=regions[i])
            for i in range(len(regions) - 1)
        }
    direction = np.full(shape, DIRECTIONS[3], dtype=object)
    for p, (i, j) in enumerate(pairs):
        both = reads[i] & reads[j]
        tables["share_first"][p], tables["share_second"][p] = share[i], share[j]
        tables["delay"][p] = np.where(both, mean[j] - mean[i], np.nan)
        tables["lower"][p], tables["upper"][p] = tables["delay"][p], tables["delay"][p]
        if intervals:
            for name in ("delay", "lower", "upper"):
                tables[name][p] = np.where(both, known[i][name].values[j], np.nan)
        ahead = np.where(tables["lower"][p] > 0, DIRECTIONS[0], DIRECTIONS[2]).astype(object)
        ahead[tables["upper"][p] < 0] = DIRECTIONS[1]
        direction[p, both] = ahead[both]
    strength = np.where(np.isnan(tables["delay"]), 0.0, np.sqrt(tables["share_first"] * tables["share_second"]))
    dims = ("pair", "across_latent")
    seconds = {"units": "s"}
    arrays: dict[str, Any] = {
        name: (dims, table, seconds if name in ("delay", "lower", "upper") else {"units": "1"})
        for name, table in tables.items()
    }
    arrays |= {"strength": (dims, strength, {"units": "1"}), "direction": (dims, direction.astype(str))}
    coords = {
        "first": ("pair", [regions[i] for i, _ in pairs]),
        "second": ("pair", [regions[j] for _, j in pairs]),
        "across_latent": np.arange(n_latents),
    }
    attrs = {"probability": probability if intervals else np.nan, "regions": regions}
    return xr.Dataset(arrays, coords, attrs)


def flow_matrix(flow: xr.Dataset) -> xr.DataArray:
    """Matrix of signal flow between regions, (sender, receiver).

    Each entry sums the strengths of the latents in which the sender leads. ``flow`` is from :func:`signal_flow`.
    Latents whose direction is unclear count for neither way.
    """
    regions = [str(region) for region in np.atleast_1d(flow.attrs["regions"])]
    total = np.zeros((len(regions), len(regions)))
    for pair in range(flow.sizes["pair"]):
        row = flow.isel(pair=pair)
        i, j = regions.index(str(row["first"].values)), regions.index(str(row["second"].values))
        for ahead, (sender, receiver) in zip(DIRECTIONS[:2], ((i, j), (j, i)), strict=True):
            total[sender, receiver] += float(row["strength"].values[row["direction"].values == ahead].sum())
    return xr.DataArray(total, {"sender": regions, "receiver": regions}, ("sender", "receiver"), "flow", {"units": "1"})


def flow_rows(flow: xr.Dataset) -> list[dict[str, Any]]:
    """List one row per pair of regions and latent; times are in seconds."""
    rows = []
    for p in range(flow.sizes["pair"]):
        for k in range(flow.sizes["across_latent"]):
            cell = flow.isel(pair=p, across_latent=k)
            words = {name: str(cell[name].values) for name in ("first", "second", "direction")}
            names = ("delay", "lower", "upper", "share_first", "share_second", "strength")
            rows.append({"across_latent": k, **words, **{name: plain(cell[name]) for name in names}})
    return rows


def flow_lines(flow: xr.Dataset) -> list[str]:
    """Describe each pair of regions and latent in words, the strongest first."""
    lines = []
    for row in sorted(flow_rows(flow), key=lambda row: -row["strength"]):
        who = f"latent {row['across_latent']}, {row['first']} and {row['second']}"
        if row["direction"] == DIRECTIONS[3]:
            lines.append(f"{who}: not shared")
            continue
        ahead = {DIRECTIONS[0]: f"{row['first']} leads", DIRECTIONS[1]: f"{row['second']} leads"}
        delay, low, high = (1e3 * row[name] for name in ("delay", "lower", "upper"))
        interval = f" ({low:+.1f} to {high:+.1f})" if low < high else ""
        share = f"{100 * row['share_first']:.0f}% and {100 * row['share_second']:.0f}% of what latents explain there"
        lines.append(f"{who}: {ahead.get(row['direction'], 'direction unclear')}, {delay:+.1f} ms{interval}; {share}")
    return lines


class SignalFlow(Metric):
    """Delays between all pairs of regions, latent by latent, and their direction."""

    known_as = "flow"
    needs = ScoredTrials
    heading = "signal flow"

    def score(self, case: ScoredTrials) -> xr.Dataset:
        return signal_flow(case.fit, intervals=has_intervals(case.fit))

    def remark(self, case: ScoredTrials) -> str:
        without = "directions are those of the best delays; fit.delay_intervals(), called before, adds intervals"
        return "" if has_intervals(case.fit) else without

    def summary(self, table: xr.Dataset) -> dict[str, Any]:
        return {"signal_flow": flow_rows(table)}

    def lines(self, table: xr.Dataset) -> list[str]:
        return ["", *flow_lines(table)]


def has_intervals(fit: Fit) -> bool:
    """True if intervals of delays are there without a new computation."""
    return fit.saved_curvature is not None or fit.n_samples > 0
