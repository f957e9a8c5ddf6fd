"""What is checked of a recording's arrays as they enter; each message names the place and the remedy."""

import importlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mrgp.neurons import Neurons
from mrgp.sentences import Part, Refusal

# Taken by the saved forms of a recording: dimensions, the bin width, and arguments of numpy.savez.
_RESERVED_NAMES = frozenset({"trial", "time", "bin_width", "file", "allow_pickle"})

LONGEST_REASON = 120  # characters of what a library says of a file: some write paragraphs

MOST_NAMED = 20  # neurons that a message lists by name

type Coords = dict[str, np.ndarray]


class DataError(Refusal):
    """A recording that cannot be used as it is; the message names the place and what mends it."""


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """One sentence for whatever a reader raises on a broken file: each library has errors of its own."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: ask for the permission to") from error
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
        raise DataError(f"{path.name} is damaged or is no recording ({reason}): get it again") from error


def need(module: str, what_for: str) -> Any:
    """A module that comes with an extra; a sentence on how to get it where it is absent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it has to say to programmers
            return importlib.import_module(module)
    except ImportError as error:
        remedy = f"pip install {module}, or mrgp with its extra [nwb]"
        raise DataError(f"{what_for} needs {module}, which is not installed ({error}): {remedy}") from error


def read_bin_width(value: Any) -> float:
    """Seconds per bin, above 0."""
    try:
        width = float(value)
    except (TypeError, ValueError):
        width = np.nan
    if not 0 < width < np.inf:
        raise DataError(f"bin_width is {value!r}: give the seconds per bin, such as 0.02 for 20 ms")
    return width


def read_region(name: str, value: Any) -> np.ndarray:
    """One region as a numeric array (trials, bins, neurons); a list of trials is padded with NaN."""
    if not isinstance(name, str) or not name or "/" in name or name in _RESERVED_NAMES:
        raise DataError(f"{name!r} cannot be the name of a region: use a string like 'V1'")
    if isinstance(value, list | tuple):
        trials = [_numeric(f"trial {b} of region {name}", trial) for b, trial in enumerate(value)]
        if any(trial.ndim != 2 or trial.shape[1] != trials[0].shape[1] for trial in trials):
            shapes = ", ".join(sorted({str(trial.shape) for trial in trials}))
            raise DataError(f"region {name}: trials have shapes {shapes}; each must be (bins, neurons)")
        longest = max((len(trial) for trial in trials), default=0)
        array = np.full((len(trials), longest, trials[0].shape[1] if trials else 0), np.nan)
        for padded, trial in zip(array, trials, strict=True):
            padded[: len(trial)] = trial
    else:
        array = _numeric(f"region {name}", value)
    if array.ndim != 3:
        raise DataError(f"region {name} has shape {array.shape}: arrange it as (trials, bins, neurons)")
    if 0 in array.shape:
        what = ("trials", "bins", "neurons")[array.shape.index(0)]
        raise DataError(f"region {name} has no {what} (shape {array.shape}): leave it out or load it again")
    return array


def _numeric(where: str, value: Any) -> np.ndarray:
    try:
        # A masked array would lose its mask in np.asarray without a word.
        masked = isinstance(value, np.ma.MaskedArray)
        array = np.ma.filled(value.astype(np.float64), np.nan) if masked else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is not one array of numbers ({error}): convert it first") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} holds {array.dtype} instead of real numbers: convert it to float")
    return array


def read_coords(kind: str, coords: Mapping[str, ArrayLike] | None, sizes: Mapping[str, int]) -> Coords:
    """Labels by region (one per neuron) or by name (one per trial)."""
    read = {name: np.asarray(labels) for name, labels in (coords or {}).items()}
    for name, array in read.items():
        if array.shape != (sizes.get(name),):
            wanted = f"{sizes[name]} labels" if name in sizes else f"a region's name ({', '.join(sizes)})"
            raise DataError(f"{kind}_coords[{name!r}] has shape {array.shape}: it needs {wanted}")
    # Files hold text, not Python objects.
    return {name: array.astype(str) if array.dtype == object else array for name, array in read.items()}


def neurons_named(name: str, places: np.ndarray, own: Neurons) -> str:
    """Some of a region's neurons, ``own``, as their user knows them: by position and label."""
    named = [own.named(place) for place in places[:MOST_NAMED].tolist()]
    more = f" and {places.size - MOST_NAMED} more" if places.size > MOST_NAMED else ""
    return f"region {name}, neuron{'s' if places.size > 1 else ''} {', '.join(named)}{more}"


def check_finite(name: str, array: np.ndarray, own: Neurons) -> None:
    """Raise DataError where a value is infinite."""
    infinite = np.isinf(array) if array.dtype.kind == "f" else np.zeros(1)
    if infinite.any():
        trial, time, neuron = np.argwhere(infinite)[0]
        where = f"{neurons_named(name, np.array([neuron]), own)}: infinite value in trial {trial}, bin {time}"
        raise DataError(f"{where}; put NaN where a value is missing")


def living_neurons(array: np.ndarray) -> np.ndarray:
    """Which neurons of an array (trial, time, neuron) with NaN take two values or more, bool (neuron,)."""
    # fmax and fmin pass over NaN. Who moves in the first trial is alive, so that few need the long scan.
    alive = np.fmax.reduce(array[0], axis=0) > np.fmin.reduce(array[0], axis=0)
    still = array[:, :, ~alive]
    alive[~alive] = np.fmax.reduce(still, axis=(0, 1)) > np.fmin.reduce(still, axis=(0, 1))
    return alive


def check_living(name: str, array: np.ndarray, own: Neurons, alive: np.ndarray, *remedy: Part) -> None:
    """Raise DataError that ends in ``remedy`` where a neuron is not ``alive``."""
    dead = np.flatnonzero(~alive)
    if dead.size:
        never = dead[np.isnan(array[:, :, dead]).all(axis=(0, 1))]
        what = "never observed (all NaN)" if never.size else "dead, the same value in every observed bin"
        raise DataError(f"{neurons_named(name, never if never.size else dead, own)}: {what}; ", *remedy)


def tell_left_out(name: str, own: Neurons, alive: np.ndarray, stacklevel: int) -> None:
    """Warn of the neurons of a region that are left out, which is refused where all are."""
    dead = np.flatnonzero(~alive)
    if dead.size == alive.size:
        raise DataError(f"region {name}: every neuron is dead; leave the region out of the recording")
    if dead.size:
        warnings.warn(f"left out as dead: {neurons_named(name, dead, own)}", stacklevel=stacklevel + 1)
