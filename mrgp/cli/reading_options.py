"""Options on how files are read, as the readers declare them, for the catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from mrgp.recordings.readers import Reader

TYPED: dict[Any, str] = {
    str: "text",
    str | None: "text",
    str | Mapping[str, Any] | None: "text",
    str | Mapping[Any, str] | None: "text",
    str | Sequence[str] | Mapping[Any, str] | None: "text",
    Mapping[str, Any] | None: "groups",
    Sequence[str] | None: "names",
    bool: "switch",
    int: "count",
    float | None: "positive",
    tuple[float, float] | None: "numbers",
    Sequence[int] | None: "counts",
}
"""Types of a reader's options, and which values are typed for them."""


def readers() -> list[type[Reader]]:
    """Every reader of the package, in the order of the help."""
    return [reader for reader in Reader.members().values() if reader.__module__.startswith("mrgp.")]


def folders() -> dict[str, tuple[str, ...]]:
    """Formats whose recordings are folders, and their marks; the first that fits counts."""
    return {reader.folder: reader.marks for reader in reversed(readers()) if reader.folder}


def options_of_reading() -> dict[str, tuple[str, Any]]:
    """Options of single readers: the values that each takes, and words for what is typed."""
    own = [option for reader in readers() for option in fields(reader) if option.name in reader.own_options()]
    return {option.name: (TYPED[option.type], option.metadata["typed"]) for option in own}


def help_of_reading() -> dict[str, str]:
    """Options of single readers and their help, which names the files that it is only for."""
    alone = {option: f"{', '.join(formats)}: " for option, formats in only_for().items()}
    own = [option for reader in readers() for option in fields(reader) if option.name in reader.own_options()]
    return {option.name: f"{alone.get(option.name, '')}{option.metadata['about']}" for option in own}


def only_for() -> dict[str, tuple[str, ...]]:
    """Options of single readers that are refused for other files, and the files of each."""
    named: dict[str, tuple[str, ...]] = {}
    for reader in readers():
        for option in reader.own_options():
            named[option] = named.get(option, ()) + reader.formats()
    told = {option for reader in readers() for option in reader.told}
    return {option: formats for option, formats in named.items() if option not in told}
