"""Checks of a recording's arrays as they enter.

Each message names the place and the remedy.
"""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mrgp.recordings.neurons import Neurons
from mrgp.runtime.sentences import Part, Refusal

LONGEST_REASON = 120  # characters of what a library says of a file: some write paragraphs
MOST_NAMED = 20  # neurons that a message lists by name

WITHIN = (str(Path(__file__).parents[1]) + os.sep,)  # warnings point at the line of the user's that led here


class DataError(Refusal):
    """A recording that cannot be used as it is; the message names the place and what mends it."""


def warn(message: str) -> None:
    """Warn the user, at the line of their code that called the library."""
    warnings.warn(message, skip_file_prefixes=WITHIN)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raise one DataError of a single sentence for any error of a reader on a broken file.

    Each library has errors of its own.
    """
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


def need(module: str, what_for: str, extra: str = "nwb", package: str = "") -> Any:
    """Import an optional module; raise DataError that says how to install it if it is absent.

    ``extra`` is the one of mrgp's extras that has it, ``package`` its name there, if that is another.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it has to say to programmers
            return importlib.import_module(module)
    except ImportError as error:
        remedy = f"pip install {package or module}, or mrgp with its extra [{extra}]"
        raise DataError(f"{what_for} needs {module}, which is not installed ({error}): {remedy}") from error


def neurons_named(name: str, places: np.ndarray, own: Neurons) -> str:
    """Name the neurons at ``places`` of a region by position and label, as their user does."""
    named = [own.named(place) for place in places[:MOST_NAMED].tolist()]
    more = f" and {places.size - MOST_NAMED} more" if places.size > MOST_NAMED else ""
    return f"region {name}, neuron{'s' if places.size > 1 else ''} {', '.join(named)}{more}"


def check_finite(name: str, array: np.ndarray, own: Neurons) -> None:
    """Raise DataError if a value is infinite."""
    if array.dtype.kind != "f":
        return
    for trial, values in enumerate(array):
        if not np.isinf(values).any():
            continue
        time, neuron = np.argwhere(np.isinf(values))[0]
        where = f"{neurons_named(name, np.array([neuron]), own)}: infinite value in trial {trial}, bin {time}"
        raise DataError(f"{where}; put NaN where a value is missing")


def living_neurons(array: np.ndarray) -> np.ndarray:
    """True for neurons of an array (trial, time, neuron) that take two values or more.

    The result is (neuron,), bool; NaN is passed over.

    NaN is passed over.
    """
    # fmax and fmin pass over NaN. Who moves in a trial is alive, so that later ones are read for few.
    highest, lowest = (function.reduce(array[0], axis=0) for function in (np.fmax, np.fmin))
    alive = highest > lowest
    for trial in array[1:]:
        still = np.flatnonzero(~alive)
        if not still.size:
            break
        own = trial[:, still]
        highest[still] = np.fmax(highest[still], np.fmax.reduce(own, axis=0))
        lowest[still] = np.fmin(lowest[still], np.fmin.reduce(own, axis=0))
        alive[still] = highest[still] > lowest[still]
    return alive


def check_living(name: str, array: np.ndarray, own: Neurons, alive: np.ndarray, *remedy: Part) -> None:
    """Raise DataError that ends in ``remedy`` if a neuron is not ``alive``."""
    dead = np.flatnonzero(~alive)
    if dead.size:
        never = dead[[bool(np.isnan(array[:, :, neuron]).all()) for neuron in dead]]
        what = "never observed (all NaN)" if never.size else "dead, the same value in every observed bin"
        raise DataError(f"{neurons_named(name, never if never.size else dead, own)}: {what}; ", *remedy)


def tell_left_out(name: str, own: Neurons, alive: np.ndarray) -> None:
    """Warn of a region's neurons that are left out as dead; raise DataError if all are dead."""
    dead = np.flatnonzero(~alive)
    if dead.size == alive.size:
        raise DataError(f"region {name}: every neuron is dead; leave the region out of the recording")
    if dead.size:
        warn(f"left out as dead: {neurons_named(name, dead, own)}")
