"""Arguments of the wrong kind, refused in a sentence where they enter."""

import os
from collections.abc import Collection, KeysView, Mapping, Sequence, ValuesView
from numbers import Real
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from mrgp.recordings.checks import DataError


def by_name(what: str, value: Any, example: str) -> Mapping[Any, Any]:
    """Return what has to be a mapping, such as ``example``.

    Raises:
        DataError: it is none.
    """
    if not isinstance(value, Mapping):
        raise DataError(f"{what} is {shortened(value)}: give a mapping such as {example}")
    return value


def named_by(what: str, value: Any, example: str) -> dict[Any, Any]:
    """Return what has to be a mapping, or None for an empty one."""
    return {} if value is None else dict(by_name(what, value, example))


def several(what: str, value: Any, wanted: str) -> Sequence[Any]:
    """Return what has to have entries in order, such as a list or an array; text has none.

    Raises:
        DataError: it has not; the message says what is ``wanted``.
    """
    if isinstance(value, KeysView | ValuesView):  # of a mapping, whose order is kept
        value = list(value)
    unordered = isinstance(value, str | bytes | Mapping | set | frozenset)
    if unordered or not hasattr(value, "__len__") or not hasattr(value, "__getitem__") or getattr(value, "ndim", 1) < 1:
        raise DataError(f"{what} is {shortened(value)}: give {wanted}")
    return value


def names_of_regions(value: Any) -> list[Any]:
    """Return the regions that are asked for, in order.

    Raises:
        DataError: they are no list of names.
    """
    names = list(several("regions", value, 'a list of their names, such as ["V1", "V2"]'))
    if not names or any(isinstance(name, list | dict | set) or getattr(name, "ndim", 0) for name in names):
        raise DataError(f'regions is {shortened(value)}: give a list of their names, such as ["V1", "V2"]')
    return names


def known_name(value: Any, known: Sequence[str]) -> str:
    """Return a region that there is.

    Raises:
        DataError: it is not known; the message says which are.
    """
    if value not in known:
        raise DataError(f"there is no region {value!r} here: choose from {', '.join(known)}")
    return str(value)


def known_names(value: Any, known: Sequence[str]) -> list[str]:
    """Return regions of which the order does not matter; there may be none.

    Raises:
        DataError: they are no list or set, or one of them is not known.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Collection) or not getattr(value, "ndim", 1):
        raise DataError(f'regions is {shortened(value)}: give a list of names, such as ["V1", "V2"]')
    return [known_name(name, known) for name in value]


def counts_of_neurons(value: Any) -> list[int]:
    """Return the neurons per region.

    Raises:
        DataError: they are no list of whole numbers.
    """
    wanted = "a list of the neurons of each region, such as (72, 22)"
    counts = list(several("n_neurons", value, wanted))
    if not all(isinstance(count, Real) and float(count).is_integer() for count in counts):
        raise DataError(f"n_neurons is {shortened(value)}: give {wanted}")
    return list(map(int, counts))


def read_path(value: Any) -> Path:
    """Return the path of a file or folder.

    Raises:
        DataError: it is none.
    """
    if not isinstance(value, str | os.PathLike):
        raise DataError(f"the path is {shortened(value)}: give the name of a file or folder, or a mapping of arrays")
    return Path(value)
