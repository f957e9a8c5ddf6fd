"""Arrays of files that are mapped into memory: nothing is read before it is needed."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mrgp.recordings.checks import DataError

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""Readers of headers of plain arrays, by version."""


def mapped(path: Path, stream: BinaryIO, what: str) -> np.ndarray:
    """Map the array whose header ``stream`` stands at in a file, read-only.

    Raises:
        DataError: it is made of pickled objects.
        ValueError: there is no such array, or not all of it.
    """
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the format")
    shape, is_fortran, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise DataError(f"{what} is a pickled object, which could run code: save it as an array of numbers")
    order: Any = "F" if is_fortran else "C"
    return np.memmap(path, dtype, "r", stream.tell(), shape, order)
