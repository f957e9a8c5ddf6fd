"""Storage of a recording's values: their dtype, and regions side by side in one array."""

import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mrgp.recordings.checks import DataError

COUNTED = (np.uint8, np.uint16)  # in which whole numbers are kept, where they hold them


def kept_dtype(arrays: Mapping[str, np.ndarray], wanted: DTypeLike | None) -> np.dtype:
    """Find the dtype in which the arrays of regions are kept together.

    Numbers of a dtype of ``COUNTED`` keep it; other integers and truth values are kept in the smallest that holds them
    all; everything else in double precision, unless single precision is ``wanted`` of arrays that have no more.

    Raises:
        DataError: another dtype is wanted, or single precision would lose digits.
    """
    if wanted is not None:
        try:
            dtype = np.dtype(wanted)
        except (TypeError, ValueError):
            dtype = np.dtype(object)
        if dtype not in (np.float32, np.float64):
            raise DataError(f"dtype is float32 or float64, not {wanted}: leave it out, and counts stay small integers")
        for name, array in arrays.items():
            if not np.can_cast(array.dtype, dtype):
                raise DataError(f"region {name} holds {array.dtype}, of which {dtype} loses digits: leave dtype out")
        return dtype
    (first, *others) = {array.dtype for array in arrays.values()}
    if first in COUNTED and not others:
        return first
    if all(array.dtype.kind in "bui" for array in arrays.values()):
        for small in COUNTED:
            if all(_holds(small, array) for array in arrays.values()):
                return np.dtype(small)
    return np.dtype(np.float64)


def side_by_side(arrays: Mapping[str, np.ndarray], dtype: np.dtype) -> np.ndarray:
    """Join the arrays (trial, time, neuron) of regions, (trial, time, neuron) of all.

    Arrays that a file is mapped to, and that lie side by side there, are not copied; all others are, once.
    """
    parts = list(arrays.values())
    first = parts[0]
    alike = all(part.dtype == dtype and part.strides == first.strides and _is_mapped(part) for part in parts)
    places = [part.__array_interface__["data"][0] for part in parts]
    ends = [place + part.shape[2] * part.strides[2] for place, part in zip(places, parts, strict=True)]
    if alike and places[1:] == ends[:-1]:
        shape = (*first.shape[:2], sum(part.shape[2] for part in parts))
        return np.lib.stride_tricks.as_strided(first, shape, first.strides, writeable=False)
    return np.concatenate(parts, axis=2, dtype=dtype, casting="unsafe")  # of numbers that it holds


def _holds(small: type, array: np.ndarray) -> bool:
    if np.can_cast(array.dtype, small):
        return True
    return bool(array.min() >= 0) and bool(array.max() <= np.iinfo(small).max)


def _is_mapped(array: np.ndarray) -> bool:
    """True if an array's numbers lie in a file, and cannot be changed through an array."""
    if array.flags.writeable:
        return False
    owner: Any = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    return owner is not None
