"""File of a fit: NetCDF with its sites as arrays.

Everything else is in a header of JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from mrgp.inference.mode.curvature import Curvature
from mrgp.part import rebuilt
from mrgp.parts.emissions.counts import Counts
from mrgp.parts.emissions.gaussian import Gaussian
from mrgp.parts.means import MEAN_CHANGE, MEAN_SPREAD
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.neurons import neurons_from
from mrgp.runtime.files import write_netcdf

if TYPE_CHECKING:
    from mrgp.results.fit import Fit

FORMAT = 2  # of the saved file
NOT_SHARED = 1e-3  # of a condition's own spread: that of a course which earlier priors did not have


def write(fit: "Fit", path: Path) -> None:
    """Write a :class:`mrgp.results.fit.Fit`.

    An existing file is replaced only once the new one is complete.
    """
    arrays: dict[str, Any] = {
        name: ([f"{name}_{axis}" for axis in range(np.ndim(value))], value) for name, value in fit.sites.items()
    }
    arrays["trace"] = (("iteration",), fit.trace)
    if fit.loadings_covariance is not None:
        arrays["loadings_covariance"] = (("loadings_0", "loadings_1", "loadings_2"), fit.loadings_covariance)
    if fit.start_heights is not None:
        arrays["start_heights"] = (("start",), fit.start_heights)
    layout = fit.layout
    header = {
        "settings": fit.model.to_settings(),
        "layout": [list(layout.regions), list(layout.n_neurons), layout.bin_width, list(layout.conditions)],
        "times": list(layout.times),
        "event": [layout.event, layout.begin],
        "n_bins": fit.n_bins,
        "run": [
            fit.method,
            bool(fit.converged),
            fit.reason,
            fit.iterations,
            fit.evaluations,
            fit.wall_s,
            fit.seed,
        ],
        "notes": list(fit.notes),
        "fixed": list(fit.fixed),
        "trained_on": list(fit.training_trials),
        "preprocessing": fit.preprocessing,
        "versions": fit.versions,
        "neurons": {name: asdict(neurons) for name, neurons in fit.neurons.items()},
        "curvature": None,
    }
    for prefix, draws in (("samples", fit.samples or {}), ("stats", fit.sample_stats)):
        for name, value in draws.items():
            own = [f"{name}_{axis}" for axis in range(value.ndim - 2)]
            arrays[f"{prefix}.{name}"] = (("chain", "draw", *own), value)
    if fit.saved_curvature is not None:
        header["curvature"] = [list(fit.saved_curvature.names), fit.saved_curvature.positive]
        arrays["curvature_mean"] = (("parameter",), fit.saved_curvature.mean)
        arrays["curvature_covariance"] = (("parameter", "other_parameter"), fit.saved_curvature.covariance)
    dataset = xr.Dataset(arrays, attrs={"mrgp_fit": FORMAT, "header": json.dumps(header)})
    write_netcdf(path, dataset)


def read(path: Path) -> dict[str, Any]:
    """Read the fields of a fit from a file that :func:`write` wrote."""
    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path")
    try:
        dataset = xr.load_dataset(path, engine="h5netcdf")
    except Exception as error:
        raise DataError(f"{path} is damaged or not a fit: fit again, or restore the file") from error
    if dataset.attrs.get("mrgp_fit") != FORMAT:
        raise DataError(f"{path} is not a fit saved by this version of mrgp")
    header = json.loads(dataset.attrs["header"])
    try:
        model = rebuilt("model", header["settings"])
    except ValueError as error:  # a kernel or a model that is not defined here
        raise DataError(f"{path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a fit saved by this version of mrgp") from error
    curvature = None
    if header["curvature"] is not None:
        names, positive = header["curvature"]
        curvature = Curvature(
            tuple(names), dataset["curvature_mean"].values, dataset["curvature_covariance"].values, positive
        )
    regions, counts, bin_width, *conditions = header["layout"]
    method, converged, reason, iterations, evaluations, wall_s, seed = header["run"]
    skip = ("trace", "curvature_mean", "curvature_covariance", "loadings_covariance", "start_heights")
    values = {str(name): value.values for name, value in dataset.data_vars.items()}
    return {
        "model": model,
        "layout": Layout(tuple(regions), tuple(counts), bin_width, tuple(*conditions), *_timed(header)),
        "n_bins": header["n_bins"],
        "sites": _with_spread({name: value for name, value in values.items() if name not in skip and "." not in name}),
        "samples": _after("samples.", values) or None,
        "sample_stats": _after("stats.", values),
        "method": method,
        "trace": dataset["trace"].values,
        "converged": converged,
        "reason": reason,
        "iterations": iterations,
        "evaluations": evaluations,
        "wall_s": wall_s,
        "seed": seed,
        "notes": tuple(header["notes"]),
        "fixed": tuple(header["fixed"]),
        "trained_on": tuple(header.get("trained_on", ())),  # files of the first version have neither
        "preprocessing": header.get("preprocessing"),
        "versions": header["versions"],
        "neurons": {name: neurons_from(**own) for name, own in header.get("neurons", {}).items()},
        "saved_curvature": curvature,
        "loadings_covariance": values.get("loadings_covariance"),
        "start_heights": values.get("start_heights"),
    }


def _timed(header: Mapping[str, Any]) -> tuple[tuple[float, ...], str, float]:
    """Times of bins, name of the event and when trials begin, which earlier files do not have."""
    return (tuple(header.get("times", ())), *header.get("event", ("", 0.0)))


def _with_spread(sites: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add ``mean_spread`` to sites of earlier files, which do not have it.

    Their means moved by half of a neuron's sd, or log-rates by 1, in each condition.
    """
    if MEAN_CHANGE.name not in sites or MEAN_SPREAD.name in sites:
        return sites
    own = np.full(len(sites[OFFSET.name]), Counts.course_spread)
    if NOISE.name in sites:
        own = Gaussian.course_spread * np.sqrt(sites[NOISE.name] + np.square(sites[LOADINGS.name]).sum(1))
    alone = len(sites[MEAN_CHANGE.name]) == 1
    return {**sites, MEAN_SPREAD.name: own[None] if alone else np.stack([NOT_SHARED * own, own])}


def _after(prefix: str, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
