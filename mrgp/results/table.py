"""Output of a fit: files in a folder, and a table that fits on a screen."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mrgp.results.fit import Fit, of_processes
from mrgp.results.rows import BELOW
from mrgp.runtime.display import aligned
from mrgp.runtime.files import write_json

PROBABILITY = 0.9   # of the intervals reported


def write_results(fit: Fit, folder: Path, bounds: xr.Dataset | None = None) -> dict[str, Any]:
    """Write ``fit.nc`` and ``summary.json``, each replaced whole; return the summary.

    The summary is :meth:`Fit.summary`, with ``delay_intervals`` where ``bounds`` (from ``fit.delay_intervals``, over
    time where delays vary) are given. Seconds and nats.

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
    """Format the tables of a fit as text (see :meth:`mrgp.Fit.tables`)."""
    lines = ["\n".join(aligned(rows)) for rows in fit.tables(bounds, truth)]
    if of_processes(fit) and fit.has_relevance and fit.assignment.n_across:
        lines[-1] += f"\n{BELOW}"
    return "\n\n".join(lines)


