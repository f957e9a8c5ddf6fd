"""Messages that name arguments, as Python writes them or as users type them at a shell."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Argument:
    """Argument in a message, by its name alone or with a value.

    As text it is what Python writes, ``drop_dead=True``, or ``python`` where Python has no argument for it; the command
    line has its own way (:meth:`Refusal.typed`), or ``shell`` where it has no option for it.
    """

    name: str
    value: Any = None
    python: str = ""
    shell: str = ""

    def __str__(self) -> str:
        return self.python or (self.name if self.value is None else f"{self.name}={self.value!r}")


MAP, MARKOV, READOUT = Argument("method", "map"), Argument("likelihood", "markov"), Argument("lift", "readout")
AR1, WHITE = Argument("noise", "ar1"), Argument("noise", "white")

LEARNED = Argument("start", "learned", shell="--start-state learned")

type Part = str | Argument
type Sentence = tuple[Part, ...]


class Refusal(ValueError):
    """Error for a request that cannot be met; it says why, and what mends it.

    It is a sentence in parts, which are text or arguments.
    """

    def __init__(self, *parts: Part) -> None:
        super().__init__(*parts)

    def __str__(self) -> str:
        return self.typed(str)

    def typed(self, argument: Callable[[Argument], str]) -> str:
        """Return the message, with every argument as ``argument`` writes it."""
        return "".join(part if isinstance(part, str) else argument(part) for part in self.args)


def joined(names: Iterable[str], last: str) -> str:
    """List names, with a word before the last: "a, b or c"."""
    *others, end = names
    return f"{', '.join(others)} {last} {end}" if others else end
