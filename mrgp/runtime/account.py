"""Account that a result gives of itself: verdict, diagnostics, tables and figures.

It is written beside the result as ``report.json`` while the recording is at hand, so that ``mrgp report`` needs neither
the recording nor the model to tell of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from mrgp.runtime.files import write_json

FILE = "report.json"
FORMAT = 1  # of the file


class State(StrEnum):
    """State of a diagnostic."""

    GOOD = "good"
    LOOK = "look"
    BAD = "bad"


def graded(value: float, look: float, bad: float) -> State:
    """Grade a number that is worse the farther it lies beyond ``look`` and then ``bad``.

    ``bad`` lies above ``look`` where large numbers are bad, and below it where small ones are. What is no number is
    bad.
    """
    sign = 1.0 if bad >= look else -1.0
    if not sign * value <= sign * bad:
        return State.BAD
    return State.GOOD if sign * value <= sign * look else State.LOOK


@dataclass(frozen=True)
class Light:
    """Diagnostic: its state, the number behind it, what that means and what to do about it."""

    name: str
    state: State
    number: str
    sentence: str


@dataclass(frozen=True)
class Table:
    """Table of text, with a heading and a remark below."""

    title: str
    rows: Sequence[Mapping[str, str]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """Figure by the name of its file, without the suffix.

    ``alt`` says what it shows to whoever cannot see it.
    """

    name: str
    title: str
    alt: str


@dataclass(frozen=True)
class Account:
    """Account of a result.

    Attributes:
        kind: The kind of result, in a word or two.
        title: What it is of.
        verdict: Answer in sentences.
        facts: What was done to what, by name.
        lights: Diagnostics.
        tables, pictures: Tables, and figures that there may be.
        notes: Remarks of the run.
        text: Text with its own lines, such as a wide table.
        made_with: Settings, seeds and digests that make the result again, ready for JSON.
        versions: Of the packages that the result depends on.
    """

    kind: str
    title: str
    verdict: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    lights: Sequence[Light] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    text: str = ""
    made_with: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        """Write ``report.json`` into a folder; the file is replaced whole."""
        write_json(Path(folder) / FILE, {"format": FORMAT, **asdict(self)})

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: the text is no account, or one of another version.
        """
        try:
            fields = json.loads(text)
            if fields.pop("format") != FORMAT:
                raise ValueError("it is of another version")
            lights = [Light(**{**light, "state": State(light["state"])}) for light in fields.pop("lights")]
            tables = [Table(**table) for table in fields.pop("tables")]
            pictures = [Picture(**picture) for picture in fields.pop("pictures")]
            return cls(lights=lights, tables=tables, pictures=pictures, **fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("it is no account of a result") from error


def counted(number: int, what: str) -> str:
    """Write a count with its noun: "1 latent", "2 latents"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def capitalised(text: str) -> str:
    """Write the first letter as a capital, and leave names in the rest as they are."""
    return text[:1].upper() + text[1:]
