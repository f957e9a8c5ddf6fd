"""Summary of a fit in numbers that JSON can hold, in seconds and nats.

It holds only entries that exist for the model.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from mrgp.results.fit import Fit
    from mrgp.results.gaussian_process_fit import GaussianProcessFit


def of_any(fit: "Fit", of_latents: dict[str, Any]) -> dict[str, Any]:
    """Build the summary of a fit of any model; ``of_latents`` are entries of its own."""
    model = fit.model
    has_density = fit.data is not None and not model.is_autoencoder
    summary: dict[str, Any] = {
        "model": type(model).__name__.lower(),
        "method": fit.method,
        "settings": model.to_settings(),
        "log_likelihood": float(fit.log_likelihood().sum()) if has_density else None,
        "log_joint": None,
    }
    if fit.climbs.summarised is not None and not fit.method_class.gives_draws and len(fit.trace):
        summary[fit.climbs.summarised] = float(fit.trace[-1])
    summary |= {"regions": list(fit.populations), **of_latents}
    if fit.preprocessing is not None:
        summary["preprocessing"] = fit.preprocessing
    return summary | {
        "fixed": list(fit.fixed),
        "converged": bool(fit.converged),
        "reason": fit.reason,
        "iterations": fit.iterations,
        "wall_s": fit.wall_s,
        "seed": fit.seed,
        "notes": list(fit.notes),
        "versions": fit.versions,
    }


def of_latents(fit: "GaussianProcessFit") -> dict[str, Any]:
    """Entries of a fit with Gaussian processes: delays, timescales, and who reads what."""
    summary: dict[str, Any] = {"within_latents": fit.within_names}
    if fit.has_delays:
        summary |= {"delays": fit.delays.values.tolist(), "delay_dims": list(fit.delays.dims)}
        if fit.delays_vary:
            summary["delays_over_time"] = {n: v.values.tolist() for n, v in over_time(fit.delays).items()}
    timescales = {kind: fit.timescales[kind].values for kind in ("across", "within")}
    summary["timescales"] = {kind: numbers(values) for kind, values in timescales.items() if (values > 0).any()}
    if fit.model.emission.is_autocorrelated:
        summary["noise_timescales"] = numbers(fit.noise_timescales.values)
    if fit.has_relevance:
        summary["shared_variance"] = fit.shared_variance.values.tolist()
        summary["shared_by"] = fit.shared_by().values.tolist()
    return summary


def numbers(values: np.ndarray) -> list[float | None]:
    """Convert values to numbers that JSON can hold, None where one is not finite.

    JSON has no infinity, which is the timescale of a mode that grows.
    """
    return [float(value) if np.isfinite(value) else None for value in values]


def over_time(delays: xr.DataArray) -> xr.Dataset:
    """Mean, lowest and highest delay over time, and the time farthest from the mean.

    ``delays`` are (region, across_latent, time).
    """
    mean = delays.mean("time")
    farthest = delays["time"][abs(delays - mean).argmax("time")].drop_vars("time")
    parts = {"mean": mean, "lowest": delays.min("time"), "highest": delays.max("time"), "farthest_at": farthest}
    return xr.Dataset(parts, attrs={"units": "s"})
