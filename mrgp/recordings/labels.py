"""Labels and names of trials, neurons and regions.

They identify, and so they are kept as they are, never rounded, never missing.
"""

from collections.abc import Collection, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import BEGIN, CONDITION, EVENT
from mrgp.recordings.texts import as_text

type Coords = dict[str, np.ndarray]

KINDS = "biufUSMm"  # of arrays that files can hold: truth values, numbers, text, bytes, times
EXACT = 2.0**53  # whole numbers beyond are no longer all there among float64

MISSING = frozenset({"nan", "NaN", "None", "NaT", "<NA>"})  # as text: tables that were made text have it for no label

# Dimensions of a saved recording, and what is written beside its arrays.
_TAKEN = frozenset({"trial", "time", "times", "bin_width", "regions", EVENT, BEGIN})
_OF_SAVEZ = frozenset({"file", "allow_pickle"})  # arguments of numpy.savez, beside which regions stand


def is_missing(value: Any) -> bool:
    """True for None, NaN, NaT and pandas' NA, and for a value that a mask hides."""
    if value is None or value is np.ma.masked or type(value).__name__ == "NAType":
        return True
    return isinstance(value, float | np.floating | np.datetime64 | np.timedelta64) and bool(value != value)


def read_labels(what: str, item: str, labels: ArrayLike, *, measured: bool = False) -> np.ndarray:
    """Convert labels to an array that a file can hold, with no digit lost.

    Args:
        what: How they are called, for messages.
        item: One of what they are of, such as "trial".
        labels: Numbers, text, bytes, truth values or times; where kinds are mixed they become text.
        measured: They may be numbers that were measured, of which NaN says that there was none.

    Raises:
        DataError: one is missing (None, NaN), or of a kind that no file holds.
    """
    given: Any = labels.tolist() if isinstance(labels, np.ma.MaskedArray) else labels
    array = given if isinstance(given, np.ndarray) else _array(given)
    if array.dtype.kind == "f":
        if not measured and np.isnan(array).any():
            raise DataError(_lacking(what, item, array, np.isnan(array)))
        return array
    if array.dtype.kind in "Mm" and np.isnat(array).any():
        raise DataError(_lacking(what, item, array, np.isnat(array)))
    if array.dtype.kind in "OT":
        missing = np.array([is_missing(value) for value in array.ravel()], bool).reshape(array.shape)
        if missing.any():
            raise DataError(_lacking(what, item, array, missing))
        return _as_texts(array)
    if array.dtype.kind == "S":
        return _as_texts(array)
    if array.dtype.kind not in KINDS:
        raise DataError(f"{what} are {array.dtype}: give numbers or text")
    return array.astype(f"{array.dtype.kind}8[ns]") if array.dtype.kind in "Mm" else array  # as files hold them


def labels_of(conditions: ArrayLike) -> list[str]:
    """Convert the conditions of trials to text, the same text for 1 and 1.0.

    Raises:
        DataError: a trial has none.
    """
    texts = [as_text(value) for value in np.asarray(conditions)]
    if lacking := [trial for trial, text in enumerate(texts) if text in MISSING or text in ("inf", "-inf")]:
        raise DataError(f"trial {lacking[0]} has no condition ({texts[lacking[0]]}): leave it out")
    return texts


def numbers_of(conditions: ArrayLike | None, known: tuple[str, ...], n_trials: int) -> np.ndarray:
    """Index into the ``known`` conditions of each trial, (trial,); zeros where none are known."""
    kinds = labels_of(conditions) if known and conditions is not None else [""] * n_trials
    return np.searchsorted(np.array(known or ("",)), kinds).astype(np.int32)


def places_of(starts: np.ndarray | None, origin: np.ndarray) -> np.ndarray:
    """Places of trials in their session, (trial,).

    Args:
        starts: When each began in seconds, NaN where nobody knows; None, or anything but numbers, for the next.
        origin: Its position in the arrays that the recording was made from.
    """
    return np.asarray(origin if starts is None or starts.dtype.kind not in "biuf" else starts, np.float64)


def names_among(conditions: tuple[str, ...], names: Collection[str]) -> tuple[str, ...]:
    """Replace conditions by their names among ``names``, which may have six digits only.

    Files of earlier versions hold conditions that are numbers to six digits.
    """
    rounded = tuple(text if text in names or _six_digits(text) not in names else _six_digits(text)
                    for text in conditions)  # fmt: skip
    return rounded if len(set(rounded)) == len(conditions) else conditions


def conditions_among(own: tuple[str, ...], conditions: tuple[str, ...], present: np.ndarray) -> tuple[str, ...]:
    """Names that a recording's ``own`` conditions have among ``conditions``.

    Args:
        own: Of the recording, () where its trials have none.
        conditions: Those of the model; () where it has none.
        present: Index into ``own`` of each trial.

    Raises:
        DataError: trials have another condition, or none.
    """
    if conditions and not own:
        raise DataError(f"trials need a condition ({', '.join(conditions)}): give trial_coords['{CONDITION}']")
    named = names_among(own, conditions)
    if conditions and (unknown := [own[i] for i in np.unique(present) if named[i] not in conditions]):
        raise DataError(f"condition {unknown[0]} is not one of {', '.join(conditions)}: leave its trials out")
    return named


def _six_digits(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:  # no number
        return text


def check_names(regions: Sequence[Any], coordinates: Collection[Any]) -> None:
    """Refuse names of regions and trial coordinates that files cannot hold.

    These are the files and datasets that a recording is saved in.

    Raises:
        DataError: with the name, and another that would do.
    """
    for name in regions:
        if not _is_plain(name) or name in _TAKEN | _OF_SAVEZ:
            raise DataError(f"{name!r} cannot be the name of a region: use a string like 'V1'")
        if name.removeprefix("neuron_") in set(regions) - {name}:
            other = name.removeprefix("neuron_")
            raise DataError(f"region {name!r} is called like the neurons of region {other!r}: rename one of them")
    for name in coordinates:
        if not _is_plain(name):
            raise DataError(f"{name!r} cannot be the name of a trial coordinate: use a string like 'stimulus'")
        if (whose := _owner(name, regions)) is not None:
            raise DataError(f"trial_coords[{name!r}] has the name of {whose}: rename it, such as {name + '_'!r}")


def free_name(name: str, regions: Sequence[str], taken: Collection[str] = ()) -> str:
    """Find the name here for a trial coordinate that is called ``name`` elsewhere."""
    found = name.strip().replace("/", "_") or "_"
    while found in taken or not _is_plain(found) or _owner(found, regions) is not None:
        found += "_"
    return found


def _is_plain(name: Any) -> bool:
    """True if archives, HDF5 and xarray all keep the name as it is."""
    return isinstance(name, str) and name.strip() == name and name.strip(".") != "" and name.isprintable() and not (
        "/" in name or "\\" in name
    )  # fmt: skip


def _owner(name: str, regions: Sequence[str]) -> str | None:
    """Name the part of a recording that has this name already; None if the name is free."""
    if name in _TAKEN:
        return f"the recording's own {name}"
    if name in regions:
        return f"region {name}"
    if name.startswith("neuron_") and name.removeprefix("neuron_") in regions:
        return f"the neurons of region {name.removeprefix('neuron_')}"
    return f"region trial_{name} in files" if f"trial_{name}" in regions else None


def _array(labels: Any) -> np.ndarray:
    """Convert labels to an array, of objects if NumPy would change them.

    NumPy would round large whole numbers among others, and turn a missing label into text.
    """
    array = np.asarray(labels)
    if not isinstance(labels, Sequence) or isinstance(labels, str | bytes) or array.ndim != 1:
        return array
    rounded = array.dtype.kind == "f" and any(
        isinstance(value, Integral) and abs(int(value)) > EXACT for value in labels
    )
    if rounded or (array.dtype.kind in "US" and any(not isinstance(value, str | bytes) for value in labels)):
        array = np.empty(len(labels), object)
        array[:] = list(labels)
    return array


def _as_texts(array: np.ndarray) -> np.ndarray:
    texts = np.array([as_text(value) for value in array.ravel()], dtype=str)
    return texts.reshape(array.shape)


def _lacking(what: str, item: str, array: np.ndarray, missing: np.ndarray) -> str:
    at = int(np.argmax(missing))
    return f"{what}: {item} {at} has no label ({array.ravel()[at]}): give it one, or leave the {item} out"


def read_coords(kind: str, coords: Mapping[str, ArrayLike], sizes: Mapping[str, Any]) -> Coords:
    """Read labels by region (one per neuron) or by name (one per trial).

    Labels of trials may be numbers that were measured.

    Raises:
        DataError: labels are missing, too many or too few, or of a kind that no file holds.
    """
    read = {}
    for name, labels in coords.items():
        what, size = f"{kind}_coords[{name!r}]", sizes.get(name)
        shape = np.shape(labels)
        if size is None or shape != (size,):
            wanted = f"a region's name ({', '.join(sizes)})" if size is None else f"{size} labels"
            raise DataError(f"{what} has shape {shape}: it needs {wanted}")
        read[name] = read_labels(what, kind, labels, measured=kind == "trial")
    return read
