"""Readers of typed values, and names of options as they are typed. Imports nothing heavy."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from mrgp.cli.catalogue import HYPOTHESES
from mrgp.recordings.written_times import written_seconds

MISUSED = 2  # the exit code of wrong use

FLAGS = {
    "shape": "--relevance-shape", "rate": "--relevance-rate", "remove_condition_mean": "--remove-mean",
    "n_folds": "--folds",
}  # fmt: skip
"""Options whose name is not that of the argument they are for."""


class Parser(argparse.ArgumentParser):
    """An argument parser that says in one sentence what is wrong, and where help is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(MISUSED, f"mrgp: {message} (see {self.prog} --help)\n")


# --- names of options


def flag(option: str) -> str:
    """Name of an option as it is typed."""
    return FLAGS.get(option, f"--{option.replace('_', '-')}")


def typed(argument: Any) -> str:
    """Write an argument of a sentence (:class:`mrgp.runtime.sentences.Argument`) as it is typed."""
    value = argument.value
    if argument.shell:
        return argument.shell
    if value is None or value is True:
        return flag(argument.name)
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{flag(argument.name)} {text}"


# --- numbers


def _number(text: str, convert: Callable[[str], Any], least: float, what: str) -> Any:
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or not least <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


count = partial(_number, convert=int, least=0, what="a whole number, 0 or more")
positive_count = partial(_number, convert=int, least=1, what="a whole number, 1 or more")
positive = partial(_number, convert=float, least=sys.float_info.min, what="a positive number")
number = partial(_number, convert=float, least=-sys.float_info.max, what="a number")


def share(text: str) -> float:
    """Read a probability, above 0 and below 1."""
    value = _number(text, float, 0.0, "a probability between 0 and 1")
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a probability between 0 and 1")
    return value


def width(text: str) -> float | str:
    """Read a positive number of seconds, or text with a unit, ``20ms``, as it stands."""
    written = written_seconds(text)
    if written is not None and 0 < written < float("inf"):
        return text
    seconds: float = _number(text, float, sys.float_info.min, "a positive number of seconds, nor one such as 20ms")
    return seconds


# --- several values, separated by commas


def counts(text: str) -> int | tuple[int, ...]:
    """Read one number for all regions, or one per region: ``1`` or ``17,1``."""
    numbers = tuple(count(part) for part in text.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


def numbers(text: str) -> tuple[int, ...]:
    """Read different numbers to try, ``0,1,2``."""
    read = tuple(count(part) for part in text.split(","))
    if len(set(read)) < len(read):
        raise argparse.ArgumentTypeError(f"{text!r} has a number twice")
    return read


def widths(text: str) -> tuple[int | tuple[int, ...], ...]:
    """Read numbers of private latents to try: ``1,2``, or region by region ``16/1,17/1``."""
    read = tuple(counts(part.replace("/", ",")) for part in text.split(","))
    if len(set(read)) < len(read):
        raise argparse.ArgumentTypeError(f"{text!r} has a candidate twice")
    return read


def sizes(text: str) -> tuple[int, ...]:
    """Read numbers of neurons, ``72,22``."""
    return tuple(positive_count(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Read different names."""
    read = tuple(part.strip() for part in text.split(","))
    if "" in read or len(set(read)) < len(read):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different names such as V1,V2")
    return read


def groups(text: str) -> dict[str, tuple[str, ...]]:
    """Read names and what belongs to each, ``VISp=VISp1+VISp5,CA=CA1+CA3``."""
    read = {}
    for part in text.split(","):
        name, sign, values = part.partition("=")
        own = tuple(value.strip() for value in values.split("+"))
        if not (name.strip() and sign and all(own)) or name.strip() in read:
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME=A+B,.. such as VISp=VISp1+VISp5,CA=CA1+CA3")
        read[name.strip()] = own
    return read


def hypotheses(text: str) -> tuple[str, ...]:
    """Read names of hypotheses, two at least."""
    read = names(text)
    if len(read) < 2 or not set(read) <= set(HYPOTHESES):
        raise argparse.ArgumentTypeError(f"{text!r} is not two or more of {','.join(HYPOTHESES)}")
    return read


def bounds(text: str) -> tuple[float, float]:
    """Read the shortest and the longest, ``0.01,1``."""
    parts = text.split(",")
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not two positive numbers LOW,HIGH such as 0.01,1")
    low, high = (positive(part) for part in parts)
    if low >= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH: the first is not below the second")
    return low, high


# --- pairs


def trials(text: str) -> slice:
    """Read positions of trials, the end not included: ``300:400``, ``:50``, ``350:``."""
    start, colon, stop = text.partition(":")
    ends = [count(part) if part else None for part in (start, stop)]
    if not colon or ends == [None, None] or (None not in ends and ends[0] >= ends[1]):  # type: ignore[operator]
        raise argparse.ArgumentTypeError(f"{text!r} is not START:STOP, trials by position such as 300:400")
    return slice(*ends)


def site(text: str) -> tuple[str, float]:
    """Read the name of a parameter and its value, ``delay=0``."""
    name, sign, value = text.partition("=")
    if not (name.strip() and sign):
        raise argparse.ArgumentTypeError(f"{text!r} is not SITE=VALUE such as delay=0")
    return name.strip(), number(value)
