"""Files that are written whole or not at all."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def write_atomically(path: str | Path, writer: Callable[[Path], object]) -> None:
    """Write a file, or a folder in its place, whole or not at all.

    Call ``writer`` with a temporary path beside ``path`` (same suffix), then move the result into place. Readers see
    the old file or the new one, never a part. If anything fails the temporary file is removed.

    Raises:
        OSError: the folder is missing or cannot be written, or its disk is full; the message names it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)  # unlike tempfile's, this file has the permissions the user expects
    except OSError as error:
        raise OSError(f"cannot write {path.name} into folder {path.parent}: {error.strerror}") from error
    try:
        writer(temporary)
        _move(temporary, path)
    except OSError as error:
        why = str(error) if error.errno is None else os.strerror(error.errno)  # HDF5 tells a story
        kept = f"what was there before is {'whole' if path.exists() else 'still nothing'}"
        raise OSError(f"cannot write {path.name} into folder {path.parent}: {why}; {kept}") from error
    finally:
        if not temporary.is_dir():
            temporary.unlink(missing_ok=True)


def _move(made: Path, path: Path) -> None:
    """Move what was made into place.

    A folder that was there makes room first, and is then removed.
    """
    if not path.is_dir():
        os.replace(made, path)
        return
    aside = made.with_name(f"{made.name}.before")
    os.replace(path, aside)
    try:
        os.replace(made, path)
    except OSError:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside)


def write_netcdf(path: str | Path, dataset: Any) -> None:
    """Write a dataset of xarray, or a tree of them, as NetCDF, as :func:`write_atomically` does.

    The file is made in memory: HDF5 ends the process where a disk is full.

    Raises:
        OSError: the folder is missing or cannot be written, or its disk is full; the message names it.
    """
    content = dataset.to_netcdf(engine="h5netcdf")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON, as :func:`write_atomically` does.

    Arrays become lists, and what JSON has no form for becomes text.

    Raises:
        ValueError: NaN and infinity, which are no JSON.
    """
    text = json.dumps(value, indent=1, allow_nan=False, default=_as_json) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def _as_json(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
