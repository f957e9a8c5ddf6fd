"""Recordings as datasets of xarray, which NetCDF files hold."""

import json
from collections.abc import Mapping
from reprlib import repr as shortened
from typing import Any

import numpy as np
import xarray as xr

from mrgp.recordings.arrays import arranged
from mrgp.recordings.checks import DataError
from mrgp.recordings.labels import Coords, free_name
from mrgp.recordings.layout import Layout
from mrgp.recordings.times import follow_each_other
from mrgp.recordings.units import read_bin_width, seconds, unmistaken
from mrgp.recordings.written_times import IN_SECONDS


def to_dataset(
    arrays: Mapping[str, np.ndarray], layout: Layout, neuron_coords: Coords, trial_coords: Coords
) -> xr.Dataset:
    """Make the dataset of a recording: one variable (trial, time, neuron_<region>) per region.

    Args:
        arrays: Region -> (trial, time, neuron), NaN where missing.
        layout: Of the recording.
        neuron_coords: Region -> labels (neuron,).
        trial_coords: Name -> values (trial,).
    """
    times = layout.starts(next(iter(arrays.values())).shape[1])
    coords: dict[str, Any] = {"time": ("time", times, {"units": "s"})}
    coords |= {name: ("trial", coord) for name, coord in trial_coords.items()}
    coords |= {f"neuron_{name}": labels for name, labels in neuron_coords.items()}
    variables = {name: (("trial", "time", f"neuron_{name}"), array) for name, array in arrays.items()}
    # Some file formats sort variables by name, and the order of regions is part of the recording.
    attrs = {"bin_width": unmistaken(layout.bin_width), "regions": json.dumps(list(arrays))}
    return xr.Dataset(variables, coords, attrs | ({"event": layout.event} if layout.event else {}))


def from_dataset(dataset: xr.Dataset, bin_width: float | str | None = None) -> dict[str, Any]:
    """Read the arguments of a recording off its dataset.

    Without ``attrs["regions"]`` every variable is a region. With a ``bin_width`` other than the dataset's, bins that
    follow each other there do so here.

    Raises:
        DataError: there is no bin width, or a region is no variable of three dimensions.
    """
    if not isinstance(dataset, xr.Dataset):
        raise DataError(f"the dataset is {shortened(dataset)}: give a Dataset of xarray")
    if bin_width is None and "bin_width" not in dataset.attrs:
        raise DataError('the dataset has no attrs["bin_width"]: set it to the seconds per bin')
    own = dataset.attrs.get("bin_width", bin_width)
    every = [str(name) for name, array in dataset.data_vars.items() if array.ndim != 1]
    names = json.loads(dataset.attrs.get("regions", "null")) or every
    arrays = {}
    for name in names:
        if name not in dataset or dataset[name].ndim != 3:
            dims = ("trial", "time", f"neuron_{name}")
            raise DataError(f"region {name} must be a variable of the dataset with dimensions {dims}")
        arrays[name] = arranged(f"region {name}", dataset[name])
    labels = {name: array.coords[array.dims[2]] for name, array in arrays.items() if array.dims[2] in array.coords}
    time = next((array.coords[array.dims[1]] for array in arrays.values() if array.dims[1] in array.coords), None)
    timed = time is not None and (time.attrs.get("units") in IN_SECONDS or time.dtype.kind == "m")  # else counted
    irregular = timed and not follow_each_other(seconds("times", time), read_bin_width(own))
    begin, event = float(seconds("times", time)[0]) if timed else 0.0, dataset.attrs.get("event")
    # A file holds those as plain variables whose names its list of coordinates has no place for.
    axes = {array.dims[:1] for array in arrays.values()}
    of_trials = {str(name): array.values for name, array in dataset.variables.items() if array.dims in axes}
    return {
        "regions": {name: array.values for name, array in arrays.items()},
        "bin_width": own if bin_width is None else bin_width,
        "neuron_coords": {name: array.values for name, array in labels.items()},
        "times": time if irregular else None,
        "event": (event, begin) if isinstance(event, str) and event.strip() else None,  # files of others have own ones
        "trial_coords": {free_name(name, names) if name == "trial" else name: of for name, of in of_trials.items()},
    }
