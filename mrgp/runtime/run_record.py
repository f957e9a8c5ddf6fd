"""Record of a command: what was typed, what it read, with which versions, and how it ended.

It is ``run.json`` in the folder of the results, written as the work begins and again as it ends, so that a folder tells
how it was made, and a run that was killed is known for one.
"""

import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from mrgp.runtime.versions import versions

FILE = "run.json"


@dataclass
class RunRecord:
    """Record of one command.

    Attributes:
        command: As it was typed.
        began, ended: Times (UTC, ISO 8601); "" before.
        wall_s: Seconds between them.
        failure: Why it ended early, in a sentence; "" if it did not.
        read: Of every file or folder that was read: ``file``, as it was typed; ``sha256`` of a file's bytes; and
            ``digest`` of a recording, its ``fingerprint`` as it was read.
        notes: Warnings that it printed.
        versions, machine: What the results depend on.
    """

    command: str
    began: str = ""
    ended: str = ""
    wall_s: float = 0.0
    failure: str = ""
    read: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)

    _folder = None  # of the results, once the work has begun
    _clock = 0.0

    @property
    def is_done(self) -> bool:
        """True if the command came to its end."""
        return bool(self.ended) and not self.failure

    def add_file(self, path: Path, recording: Any = None) -> None:
        """Note a file that was read, and the recording that was in it."""
        own = {"file": str(path)}
        if path.is_file():
            with path.open("rb") as file:
                own["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        if recording is not None:
            own |= {"digest": recording.fingerprint, "holds": str(recording.layout)}
        if own not in self.read:
            self.read.append(own)

    def add_note(self, text: str) -> None:
        """Note a warning that was printed."""
        self.notes.append(text)

    def begin(self, folder: Path) -> None:
        """Write the record as the work begins."""
        self._folder, self._clock = folder, time.monotonic()
        self.began, self.versions, self.machine = _now(), versions(), _machine()
        self._write()

    def end(self, failure: str = "") -> None:
        """Write the record as the work ends; nothing if it never began."""
        if self._folder is None:
            return
        self.ended, self.failure = _now(), failure
        self.wall_s, self.machine = time.monotonic() - self._clock, _machine()
        self._write()

    def _write(self) -> None:
        from mrgp.runtime.files import write_json  # with NumPy, which a question to the command line does not wait for

        assert self._folder is not None
        write_json(self._folder / FILE, asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a record.

        Raises:
            ValueError: the text is no record.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError("it is no record of a run") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine() -> dict[str, str]:
    """Say what computes: Python, system, and JAX's device and precision once it is imported."""
    told = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    if jax := sys.modules.get("jax"):
        told["device"] = jax.default_backend()
        told["precision"] = "double" if jax.config.jax_enable_x64 else "single"
    return told
