"""A fit as files in a folder, and as a table that fits on a screen."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mrgp.align import Match, match_latents
from mrgp.checks import DataError
from mrgp.data import MultiRegionData
from mrgp.fit import Fit
from mrgp.io import write_json
from mrgp.metrics.fitness import reconstruction
from mrgp.shown import aligned
from mrgp.tables import BELOW, latents

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
    """The tables of :func:`mrgp.tables.latents` as text."""
    lines = ["\n".join(aligned(rows)) for rows in latents(fit, bounds, truth)]
    if fit.has_relevance and fit.assignment.n_across:
        lines[-1] += f"\n{BELOW}"
    return "\n\n".join(lines)


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
