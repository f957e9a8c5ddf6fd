"""Arrays and tables of text in a folder: none is trusted to run code."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mrgp.recordings.checks import DataError, damage_named

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
    """Read a table of text with a header, divided by commas or tabs.

    Returns column -> one value per row. A column whose values are all numbers, or empty, is of numbers; NaN where it
    is empty.

    Raises:
        DataError: it is damaged, or a file of parquet, which would need a package more.
    """
    if path.suffix in PARQUET:
        mend = f'pandas.read_parquet("{path.name}").to_csv("{path.with_suffix(".csv").name}", index=False)'
        raise DataError(f"{path.name} is parquet, which is not read here: write it as text beside it, by {mend}")
    with damage_named(path), path.open(newline="", encoding="utf-8-sig") as stream:
        header = stream.readline()
        stream.seek(0)
        names, *rows = [row for row in csv.reader(stream, delimiter="\t" if "\t" in header else ",") if row]
        if uneven := [number for number, row in enumerate(rows) if len(row) != len(names)]:
            row = f"row {uneven[0] + 1} of {path.name}"
            raise DataError(f"{row} has not the {len(names)} values of its header: mend it")
    return {name.strip(): _column([row[place] for row in rows]) for place, name in enumerate(names)}


def given_trials(trials: str | Path | Mapping[str, Any], folder: Path) -> dict[str, np.ndarray]:
    """Return columns of trials, from a mapping or from a file of text.

    Raises:
        DataError: there is no such file, it is none of text, or columns are not of one length.
    """
    if isinstance(trials, Mapping):
        table = {str(name): np.asarray(column) for name, column in trials.items()}
    else:
        paths = [folder / trials, Path(trials)]
        if not any(path.is_file() for path in paths):
            raise DataError(f"there is no table {trials} of trials, in {folder.name} or by its path: check its name")
        table = read_table(next(path for path in paths if path.is_file()))
    if not table or len({len(column) for column in table.values()}) > 1:
        raise DataError("trials are columns of one length, of times in seconds and of labels: give those")
    return table


def _column(texts: list[str]) -> np.ndarray:
    try:
        return np.array([float(text) if text.strip() else np.nan for text in texts], float)
    except ValueError:
        return np.array([text.strip() for text in texts], str)
