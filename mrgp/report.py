"""A fit as files in a folder, and as a table that fits on a screen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mrgp.align import Match, match_latents
from mrgp.checks import DataError
from mrgp.data import MultiRegionData
from mrgp.fit import SHARED, Fit
from mrgp.io import write_json
from mrgp.metrics.fitness import reconstruction
from mrgp.plots import direction
from mrgp.summaries import over_time

PROBABILITY = 0.9   # of the intervals reported


def write_results(fit: Fit, folder: Path, bounds: xr.Dataset | None = None) -> dict[str, Any]:
    """Write ``fit.nc`` and ``summary.json``, each replaced whole; returns the summary.

    The summary is :meth:`Fit.summary`, with ``delay_intervals`` where ``bounds`` (from :meth:`Fit.delay_intervals`,
    over time where delays vary) are given. Seconds and nats.

    Raises:
        FloatingPointError: the fit ended at a log-likelihood that is not finite.
        OSError: the folder cannot be written.
    """
    summary = fit.summary()
    if summary["log_likelihood"] is not None and not np.isfinite(summary["log_likelihood"]):
        raise FloatingPointError("the log-likelihood of the fit is not finite: check the units of the recording")
    if bounds is not None:
        # A delay at its bound has no interval, which JSON has no number for.
        limits = {name: _without_nan(bounds[name].values) for name in ("lower", "upper", "sd")}
        what = "mean_delay_intervals" if fit.delays_vary else "delay_intervals"
        summary[what] = {"probability": bounds.attrs["probability"], **limits}
    fit.save(folder / "fit.nc")
    write_json(folder / "summary.json", summary)
    return summary


def _without_nan(values: np.ndarray) -> list[Any]:
    shown = values.astype(object)
    shown[np.isnan(values)] = None
    return shown.tolist()


def table(fit: Fit, bounds: xr.Dataset | None = None, truth: xr.DataArray | None = None) -> str:
    """Delays in ms, with intervals and in words, timescales, of noise too, and which regions read which latent.

    Args:
        fit: Of any model; what it does not have is not in the table.
        bounds: From :meth:`Fit.delay_intervals`, over time where delays vary.
        truth: Delays in the order of the fit's latents.
    """
    timescales = {kind: 1e3 * fit.timescales[kind].values for kind in ("across", "within")}
    first, *others = fit.populations
    reads = fit.shared_by().values if fit.has_relevance else np.ones((len(others) + 1, len(timescales["across"])), bool)
    rows = []
    for k, timescale in enumerate(timescales["across"]):
        latent = {"across latent": str(k), "timescale (ms)": _duration(timescale)}
        readers = [region for region, reading in zip(fit.populations, reads[:, k], strict=True) if reading]
        late = [region for region in others if region in readers] if fit.has_delays and first in readers else []
        if not fit.has_delays:
            rows.append(latent if fit.has_relevance else latent | {"region": "all regions"})
        rows += [latent | {"region": region} | _delay_columns(fit, k, region, first, bounds, truth) for region in late]
        if fit.has_delays and not late:
            without = f" without {first}" if len(readers) > 1 else " alone"
            rows.append(latent | {"region": ", ".join(readers) + without if readers else "none"})
    tables = [_aligned(rows)]
    within = zip(fit.within_names, timescales["within"], strict=True)
    tables.append(_aligned([{"within latent": name, "timescale (ms)": _duration(ms)} for name, ms in within]))
    if fit.model.remembers:
        noise = zip(fit.populations, 1e3 * fit.noise_timescales.values, strict=True)
        tables.append(_aligned([{"region": name, "noise timescale (ms)": _duration(ms)} for name, ms in noise]))
    if fit.has_relevance:
        tables.append(_reading(fit))
    return "\n\n".join("\n".join(lines) for lines in tables if lines)


def _reading(fit: Fit) -> list[str]:
    """Which regions read which latent: percent of shared variance, in brackets where that is next to nothing."""
    share, count = fit.shared_variance, fit.assignment.n_across
    rows = []
    for k in range(count):
        percent = {str(region): float(100 * share.values[r, k]) for r, region in enumerate(fit.populations)}
        cells = {name: f"{value:.1f}" if value >= 100 * SHARED else f"({value:.1f})" for name, value in percent.items()}
        rows.append({"across latent": str(k), **{f"% of {name}": cell for name, cell in cells.items()}})
    below = f"% of the variance that a region's latents explain; in brackets, below {100 * SHARED:.0f}%: not read there"
    return [*_aligned(rows), below] if rows else []


def _duration(ms: float) -> str:
    """A timescale in ms; latents that remember nothing are white, those that never settle grow."""
    if np.isinf(ms):
        return "grows"
    return f"{ms:.0f}" if ms > 0 else "white"


def _delay_columns(
    fit: Fit, k: int, region: str, first: str, bounds: xr.Dataset | None, truth: xr.DataArray | None
) -> dict[str, str]:
    at = {"region": region, "across_latent": k}

    def milliseconds(delays: xr.DataArray) -> float:
        return 1e3 * float((delays.mean("time") if "time" in delays.dims else delays).sel(at))

    delay, mean = milliseconds(fit.delays), "mean " * fit.delays_vary
    columns = {} if truth is None else {f"true {mean}delay (ms)": f"{milliseconds(truth):+.1f}"}
    columns[f"{mean}delay (ms)"] = f"{delay:+.1f}"
    lower = upper = delay
    if bounds is not None:
        lower, upper = milliseconds(bounds["lower"]), milliseconds(bounds["upper"])
        columns[f"{100 * bounds.attrs['probability']:.0f}% interval"] = (
            "none: at max_delay" if np.isnan(lower) else f"{lower:+.1f} to {upper:+.1f}"
        )
    if fit.delays_vary:
        course = over_time(fit.delays).sel(at)
        columns["from, to (ms)"] = f"{1e3 * float(course['lowest']):+.1f}, {1e3 * float(course['highest']):+.1f}"
        columns["farthest from it at (s)"] = f"{float(course['farthest_at']):.2f}"
    columns["direction" if bounds is not None else "direction (no interval)"] = direction(region, first, lower, upper)
    return columns


def _aligned(rows: list[dict[str, str]]) -> list[str]:
    """Lines of a table, numbers to the right; no lines where there are no rows."""
    if not rows:
        return []
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [name, *(row.get(name, "") for row in rows)] for name in names}
    padded: list[list[str]] = []
    for name, cells in columns.items():
        pad: Callable[[str, int], str] = str.ljust if name.startswith(("region", "direction")) else str.rjust
        padded.append([pad(cell, max(map(len, cells))) for cell in cells])
    return ["   ".join(line).rstrip() for line in zip(*padded, strict=True)]


def matched_delays(fit: Fit, truth: xr.Dataset) -> xr.DataArray:
    """True delays of a simulation in the order of the fit's across latents: those of most similar loadings.

    (region, across_latent), or (region, across_latent, time) where either delay varies; NaN for latents that the truth
    has none for, and where a region does not read the true one.
    """
    estimated, true, *_ = match_loadings(fit, truth)
    order = np.full(fit.delays.sizes["across_latent"], -1)
    order[estimated] = true
    known = truth["delay"].where(truth["shared_by"]) if "shared_by" in truth else truth["delay"]
    matched = known.isel(across_latent=order)
    matched = matched.where(xr.DataArray(order >= 0, dims="across_latent"))
    if "time" in fit.delays.dims and "time" not in matched.dims:
        matched = matched.expand_dims(time=fit.delays["time"].values, axis=-1)
    return matched.assign_coords({name: fit.delays[name] for name in fit.delays.dims}).rename("delay")


def match_loadings(fit: Fit, truth: xr.Dataset) -> Match:
    """Which across latent of the fit is which of a simulation: those of most similar loadings."""
    ours, theirs = fit.delays.sizes["across_latent"], truth.sizes["across_latent"]
    return match_latents(fit.sites["loadings"][:, :ours], truth["loadings"].values[:, :theirs])


def explained_variance(fit: Fit, data: MultiRegionData | None = None) -> xr.DataArray:
    """Share of each region's variance over bins and trials that the reconstruction explains, (region,).

    Every neuron's own mean is taken off first; NaN entries are left out. The reconstruction knows the bin that it
    explains, so noise that a model follows counts in its favour: compare models on neurons or trials held out.

    Raises:
        DataError: the fit was loaded from a file and there is no recording.
    """
    data = fit.data if data is None else data
    if data is None:
        raise DataError("this fit was loaded from a file and holds no recording: pass data=")
    return reconstruction(fit, data)["r2"].rename("explained_variance")
