"""A file of records that grows with a long run, so that a stopped run can go on."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mrgp.runtime.files import write_atomically

FAILURES = (ArithmeticError, np.linalg.LinAlgError, ValueError, RuntimeError, MemoryError)
"""Errors of one fit of a study, which notes them and goes on with the others."""


def as_read(value: Any) -> Any:
    """Value as JSON gives it back; what JSON has no form for is text."""
    return json.loads(json.dumps(value, default=repr))


class Store:
    """Finished records, in one JSON file that is replaced whole.

    Without a path they are only in memory.

    Args:
        path: The file, or None.
        settings: All that the records depend on, JSON-ready.
        records: What the records are called in the file.
        what: What the file is of, for messages.

    Raises:
        ValueError: the file cannot be read, or its records were made with other settings.
    """

    def __init__(
        self, path: Path | None, settings: dict[str, Any], records: str = "simulations", what: str = "calibration"
    ) -> None:
        self.path, self.settings, self.records = path, settings, records
        self.done: list[dict[str, Any]] = []
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            return
        try:
            kept = json.loads(path.read_text())
            theirs, self.done = dict(kept["settings"]), list(kept[records])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a readable {what}: remove it to start afresh") from error
        if different := sorted(n for n in theirs | settings if theirs.get(n) != settings.get(n)):
            raise ValueError(f"{path} is of other settings ({', '.join(different)}): choose another folder")

    def append(self, record: dict[str, Any]) -> None:
        """Add one record, and write the file if there is one."""
        self.done.append(record)
        if self.path is not None:
            text = json.dumps({"settings": self.settings, self.records: self.done})
            write_atomically(self.path, lambda path: path.write_text(text))
