"""Files that are written whole or not at all."""

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def write_atomically(path: str | Path, writer: Callable[[Path], object]) -> None:
    """Write a file whole or not at all.

    Call ``writer`` with a temporary path beside ``path`` (same suffix), then move the result into place. Readers see
    the old file or the new one, never a part. If anything fails the temporary file is removed.

    Raises:
        OSError: the folder is missing or cannot be written; the message names it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)  # unlike tempfile's, this file has the permissions the user expects
    except OSError as error:
        raise OSError(f"cannot write {path.name} into folder {path.parent}: {error.strerror}") from error
    try:
        writer(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
