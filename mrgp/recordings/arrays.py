"""Arrays of regions as the user gives them: order of axes, numbers, shapes.

Axes of arrays that name them (xarray) are arranged by these names.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from mrgp.recordings.checks import DataError
from mrgp.recordings.units import seconds
from mrgp.recordings.written_times import IN_SECONDS

AXES = ("trial", "time", "neuron")

WORDS = {
    **dict.fromkeys(("trial", "repeat", "repetition", "rep", "epoch", "sweep", "presentation", "stimulus"), "trial"),
    **dict.fromkeys(("time", "t", "bin", "frame", "timepoint", "timestep"), "time"),
    **dict.fromkeys(("neuron", "unit", "cell", "channel", "electrode", "roi", "site"), "neuron"),
}
"""Axes by the first word of the names that people give them."""

SAME_STEP = 1e-3  # of a bin: a time coordinate that steps by less beside it does not contradict the bin width


def arranged(where: str, value: Any, axes: Sequence[str] = AXES) -> Any:
    """Arrange an array of xarray so that its dimensions are in the order of ``axes``.

    Anything else is returned as it is.

    Names that say nothing (``dim_0``) are taken to be in order already.

    Raises:
        DataError: a name says that an axis is another one than its place does, or two names say the same.
    """
    if not isinstance(value, xr.DataArray) or value.ndim != len(axes):
        return value
    found = [_axis(name) for name in value.dims]
    told = [axis for axis in found if axis in axes]
    dims = ", ".join(map(str, value.dims))
    remedy = f"arrange it as ({', '.join(axes)})"
    if len(set(told)) < len(told):
        raise DataError(f"{where} has dimensions ({dims}), of which two are a {max(told, key=told.count)}: {remedy}")
    if len(told) == len(axes) - 1:  # what is left over is the other
        (left,) = set(axes) - set(told)
        found = [axis if axis in axes else left for axis in found]
    elif any(axis in axes and axis != expected for axis, expected in zip(found, axes, strict=True)) and len(told) == 1:
        raise DataError(f"{where} has dimensions ({dims}), and its {told[0]} stands in another's place: {remedy}")
    if set(found) != set(axes):
        return value
    return value.transpose(*(value.dims[found.index(axis)] for axis in axes))


def check_index(arrays: dict[str, Any], width: float) -> None:
    """Refuse arrays of xarray whose coordinates contradict each other or the bin width.

    The arrays are arranged already (see :func:`arranged`); ``width`` is in seconds.

    Raises:
        DataError: trials are others, or bins are of another width.
    """
    of_first: tuple[str, np.ndarray] | None = None
    for name, array in arrays.items():
        if not isinstance(array, xr.DataArray) or array.ndim != len(AXES):
            continue
        trial, time = array.dims[:2]
        if trial in array.coords:
            index = array.coords[trial].values
            if of_first is not None and len(index) == len(of_first[1]) and not np.array_equal(index, of_first[1]):
                raise DataError(f"regions {of_first[0]} and {name} differ in their {trial} labels: align them first")
            of_first = of_first or (name, index)
        if time in array.coords and len(array.coords[time]) > 1:
            at = array.coords[time]
            if at.attrs.get("units") not in IN_SECONDS and at.dtype.kind != "m":
                continue  # counted, or of a unit of its own
            step = float(np.diff(seconds(f"times of region {name}", at)).mean())
            if abs(step - width) > SAME_STEP * width:
                raise DataError(
                    f"region {name} has a {time} coordinate of bins of {step:g} s, but bin_width is {width:g} s: "
                    "give one of them only, or mend one"
                )


def read_region(name: str, value: Any) -> np.ndarray:
    """Read one region as a numeric array (trials, bins, neurons).

    A list of trials (bins, neurons) is padded with NaN, so that integers of trials of different length become float64.
    """
    if isinstance(value, list | tuple):
        places = [f"trial {b} of region {name}" for b in range(len(value))]
        trials = [_numeric(where, arranged(where, trial, AXES[1:])) for where, trial in zip(places, value, strict=True)]
        if any(trial.ndim != 2 or trial.shape[1] != trials[0].shape[1] for trial in trials):
            shapes = ", ".join(sorted({str(trial.shape) for trial in trials}))
            raise DataError(f"region {name}: trials have shapes {shapes}; each must be (bins, neurons)")
        longest = max((len(trial) for trial in trials), default=0)
        alike = all(trial.dtype == trials[0].dtype for trial in trials)
        holds = alike and all(len(trial) == longest or trial.dtype.kind == "f" for trial in trials)  # NaN, too
        dtype = trials[0].dtype if trials and holds else np.float64
        array = np.zeros((len(trials), longest, trials[0].shape[1] if trials else 0), dtype)
        for padded, trial in zip(array, trials, strict=True):
            padded[: len(trial)] = trial
            padded[len(trial) :] = np.nan if len(trial) < longest else 0
    else:
        array = _numeric(f"region {name}", value)
    if array.ndim != 3:
        raise DataError(f"region {name} has shape {array.shape}: arrange it as (trials, bins, neurons)")
    if 0 in array.shape:
        what = ("trials", "bins", "neurons")[array.shape.index(0)]
        raise DataError(f"region {name} has no {what} (shape {array.shape}): leave it out or load it again")
    return array


def choose(n: int, indices: ArrayLike | slice, what: str) -> np.ndarray:
    """Positions that are chosen among ``n`` by integers, booleans or a slice.

    Messages name them ``what``.

    Raises:
        DataError: there are no such positions.
    """
    try:
        wanted = indices if isinstance(indices, slice) else np.asarray(indices)
        if isinstance(wanted, np.ndarray) and wanted.size == 0:
            return np.empty(0, int)
        chosen = np.atleast_1d(np.arange(n)[wanted])
        if chosen.ndim > 1:
            raise IndexError("positions are one row")
        return chosen
    except (IndexError, TypeError, ValueError) as error:
        raise DataError(f"cannot choose these {what}, there are {n}: {error}") from error


def _numeric(where: str, value: Any) -> np.ndarray:
    try:
        # A masked array would lose its mask in np.asarray without a word.
        masked = isinstance(value, np.ma.MaskedArray)
        whole = masked and value.dtype.kind != "f"  # which hold no NaN
        array = np.ma.filled(value.astype(np.float64) if whole else value, np.nan) if masked else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is not one array of numbers ({error}): convert it first") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} holds {array.dtype} instead of real numbers: convert it to float")
    return array


def _axis(name: Any) -> str | None:
    word = str(name).strip().lower().replace(" ", "_").split("_")[0]
    return WORDS.get(word) or WORDS.get(word.removesuffix("s"))
