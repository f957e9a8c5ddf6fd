"""Tables of a fit's latents, as rows of text.

Delays in ms, with intervals and in words; timescales; and the regions that read each latent.
"""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from mrgp.parts.loadings import SHARED
from mrgp.results.summary import over_time
from mrgp.runtime.display import Rows

if TYPE_CHECKING:
    from mrgp.results.gaussian_process_fit import GaussianProcessFit

BELOW = (
    f"% of the variance that a region's latents explain; in brackets, below {100 * SHARED:.0f}%: not read there"
)
"""What the percentages of the last table are, of a fit with relevance."""


def latents(
    fit: "GaussianProcessFit", bounds: xr.Dataset | None = None, truth: xr.DataArray | None = None
) -> list[Rows]:
    """Tables of delays, of timescales, and of the regions that read each latent.

    Delays are in ms, with intervals and in words; timescales are of noise too.

    Args:
        fit: Of any model; what it does not have is in no table.
        bounds: From ``fit.delay_intervals``, over time where delays vary.
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
    tables: list[Rows] = [rows]
    within = zip(fit.within_names, timescales["within"], strict=True)
    tables.append([{"within latent": name, "timescale (ms)": _duration(ms)} for name, ms in within])
    if fit.model.emission.is_autocorrelated:
        noise = zip(fit.populations, 1e3 * fit.noise_timescales.values, strict=True)
        tables.append([{"region": name, "noise timescale (ms)": _duration(ms)} for name, ms in noise])
    if fit.has_relevance:
        tables.append(_reading(fit))
    return [rows for rows in tables if rows]


def _reading(fit: "GaussianProcessFit") -> Rows:
    """Percent of a region's shared variance per latent; in brackets where it is next to nothing.

    It says which regions read which latent.
    """
    share, count = fit.shared_variance, fit.assignment.n_across
    rows = []
    for k in range(count):
        percent = {str(region): float(100 * share.values[r, k]) for r, region in enumerate(fit.populations)}
        cells = {name: f"{value:.1f}" if value >= 100 * SHARED else f"({value:.1f})" for name, value in percent.items()}
        rows.append({"across latent": str(k), **{f"% of {name}": cell for name, cell in cells.items()}})
    return rows


def _duration(ms: float) -> str:
    """Format a timescale in ms: "white" for 0, "grows" for infinity.

    Latents that remember nothing are white, those that never settle grow.
    """
    if np.isinf(ms):
        return "grows"
    return f"{ms:.0f}" if ms > 0 else "white"


def _delay_columns(
    fit: "GaussianProcessFit", k: int, region: str, first: str, bounds: xr.Dataset | None, truth: xr.DataArray | None
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


def direction(region: str, first: str, lower: float, upper: float) -> str:
    """Say which of two regions leads, or "unclear", from an interval of their delay.

    The delay is that of ``region`` behind ``first``.
    """
    if lower > 0:
        return f"{region} lags {first}"
    return f"{region} leads {first}" if upper < 0 else "unclear"
