"""Arrays and tables in a folder, and tables in memory: no file is trusted to run code."""

import csv
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import numpy as np

from mrgp.recordings.checks import DataError, damage_named, need
from mrgp.recordings.labels import is_missing
from mrgp.recordings.texts import as_text
from mrgp.recordings.units import seconds

PARQUET = (".pqt", ".parquet")


def read_array(path: Path) -> np.ndarray:
    """Read the array of an ``.npy`` file; a column (rows, 1) becomes a row.

    Raises:
        DataError: it is damaged, or made of pickled objects.
    """
    with damage_named(path):
        with path.open("rb") as stream:
            magic = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if magic == (1, 0) else np.lib.format.read_array_header_2_0
            dtype = header(stream)[2]
        if dtype.hasobject:
            how = "np.save(path, array.astype(str)) for text"
            raise DataError(f"{path.name} is a pickled object, which could run code: save it as plain values, {how}")
        array = np.load(path, allow_pickle=False)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Read a table of text with a header, divided by commas or tabs, or one of parquet.

    Returns column -> one value per row. A column whose values are all numbers, or empty, is of numbers; NaN where it
    is empty.

    Raises:
        DataError: it is damaged, or one of parquet and pyarrow is not installed.
    """
    if path.suffix in PARQUET:
        return _parquet(path)
    with damage_named(path), path.open(newline="", encoding="utf-8-sig") as stream:
        header = stream.readline()
        stream.seek(0)
        names, *rows = [row for row in csv.reader(stream, delimiter="\t" if "\t" in header else ",") if row]
        if uneven := [number for number, row in enumerate(rows) if len(row) != len(names)]:
            row = f"row {uneven[0] + 1} of {path.name}"
            raise DataError(f"{row} has not the {len(names)} values of its header: mend it")
    return {name.strip(): _column([row[place] for row in rows]) for place, name in enumerate(names)}


def columns_of(table: Any) -> dict[str, np.ndarray]:
    """Return the columns of a mapping or of a table of pandas.

    Times that carry a unit become seconds. Whole numbers become floats where they are times, that is in columns whose
    name ends in "time" or "times".
    """
    if not isinstance(table, Mapping) and not hasattr(table, "columns"):
        raise DataError(f"the trials are {shortened(table)}: give a mapping of columns, or a table of pandas")
    names = list(table)
    columns = {}
    for name in names:
        values = table[name]
        with_unit = hasattr(values, "rescale") or getattr(getattr(values, "dtype", None), "kind", "") == "m"
        columns[str(name)] = seconds(f"column {name!r} of the trials", values) if with_unit else np.asarray(values)
    for name, column in columns.items():
        if column.dtype.kind in "iu" and name.endswith(("time", "times")):
            columns[name] = column.astype(float)
    return columns


def given_trials(trials: str | Path | Mapping[str, Any], folder: Path) -> dict[str, np.ndarray]:
    """Return columns of trials, from a mapping or from a file of text.

    Raises:
        DataError: there is no such file, it is none of text, or columns are not of one length.
    """
    if not isinstance(trials, str | Path):
        table = columns_of(trials)
    else:
        paths = [folder / trials, Path(trials)]
        if not any(path.is_file() for path in paths):
            raise DataError(f"there is no table {trials} of trials, in {folder.name} or by its path: check its name")
        table = read_table(next(path for path in paths if path.is_file()))
    lengths = {np.shape(column)[:1] for column in table.values()}
    if len(lengths) != 1 or () in lengths:
        raise DataError("trials are columns of one length, of times in seconds and of labels: give those")
    return table


def is_readable(path: Path) -> bool:
    """True unless a table is one of parquet, and pyarrow is not installed."""
    return path.suffix not in PARQUET or importlib.util.find_spec("pyarrow") is not None


def _parquet(path: Path) -> dict[str, np.ndarray]:
    """Read a table of parquet, with its index where that has a name."""
    parquet = need("pyarrow.parquet", f"reading {path.name}", "parquet", "pyarrow")
    with damage_named(path):
        frame = parquet.read_table(path).to_pandas()
        frame = frame.reset_index() if frame.index.name else frame
        columns = {str(name): frame[name].to_numpy() for name in frame}
    return {
        name: values.astype(float) if values.dtype.kind in "biuf" else _column(list(map(_cell, values)))
        for name, values in columns.items()
    }


def _cell(value: Any) -> str:
    return "" if is_missing(value) else as_text(value)


def _column(texts: list[str]) -> np.ndarray:
    try:
        return np.array([float(text) if text.strip() else np.nan for text in texts], float)
    except ValueError:
        return np.array([text.strip() for text in texts], str)
