"""What is checked of a recording's arrays as they enter; each message names the place and the remedy."""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

LONGEST_REASON = 120  # characters of what a library says of a file: some write paragraphs

WITHIN = (str(Path(__file__).parent) + os.sep,)  # warnings point at the line of the user's that led here


class DataError(ValueError):
    """A recording that cannot be used as it is; the message names the place and what mends it."""


def warn(message: str) -> None:
    """Warn the user, at the line of theirs that called the library."""
    warnings.warn(message, skip_file_prefixes=WITHIN)


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


def living_neurons(name: str, array: np.ndarray, labels: np.ndarray | None, drop_dead: bool) -> np.ndarray:
    """Which neurons take two values or more, bool (neuron,); refuses, or warns of, the others."""

    def describe(neurons: np.ndarray) -> str:
        named = [str(i) if labels is None else f"{i} (label {labels[i]})" for i in neurons[:20]]
        more = f" and {neurons.size - 20} more" if neurons.size > 20 else ""
        return f"region {name}, neuron{'s' if neurons.size > 1 else ''} {', '.join(named)}{more}"

    infinite = np.isinf(array) if array.dtype.kind == "f" else np.zeros(1)
    if infinite.any():
        trial, time, neuron = np.argwhere(infinite)[0]
        where = f"{describe(np.array([neuron]))}: infinite value in trial {trial}, bin {time}"
        raise DataError(f"{where}; put NaN where a value is missing")
    # fmax and fmin pass over NaN. Who moves in the first trial is alive, so that few need the long scan.
    alive = np.fmax.reduce(array[0], axis=0) > np.fmin.reduce(array[0], axis=0)
    still = array[:, :, ~alive]
    alive[~alive] = np.fmax.reduce(still, axis=(0, 1)) > np.fmin.reduce(still, axis=(0, 1))
    dead = np.flatnonzero(~alive)
    if dead.size and not drop_dead:
        never = dead[np.isnan(array[:, :, dead]).all(axis=(0, 1))]
        what = "never observed (all NaN)" if never.size else "dead, the same value in every observed bin"
        remedy = "remove it, or pass drop_dead=True to leave such neurons out"
        raise DataError(f"{describe(never if never.size else dead)}: {what}; {remedy}")
    if dead.size == alive.size:
        raise DataError(f"region {name}: every neuron is dead; leave the region out of the recording")
    if dead.size:
        warn(f"left out as dead: {describe(dead)}")
    return alive
