"""Who the neurons of a recording are, so that they are known again in another one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from jaxtyping import Int

from mrgp.recordings.texts import as_text

WHOLE = re.compile(r"(-?\d+)\.0")


@dataclass(frozen=True)
class Neurons:
    """Some neurons of one region.

    Attributes:
        positions: Where each stood in the array that the recording was made from.
        out_of: How many neurons that array had.
        labels: Of each, as text; None where they have none.
    """

    positions: tuple[int, ...]
    out_of: int
    labels: tuple[str, ...] | None = None

    def only(self, chosen: Sequence[int] | Int[np.ndarray, "neuron"]) -> Self:
        """Some of them, without labels."""
        return replace(self, positions=tuple(self.positions[i] for i in chosen), labels=None)

    def labelled(self, labels: Any) -> Self:
        """The same neurons with labels, one each, or None."""
        return replace(self, labels=None if labels is None else tuple(map(as_text, np.asarray(labels))))

    def named(self, place: int) -> str:
        """One of them, by its place here, and by its label or, where others were left out, by where it stood before."""
        if self.labels is not None:
            return f"{place} (label {self.labels[place]})"
        return f"{place}" if self.positions[place] == place else f"{place} ({self.positions[place]} as loaded)"

    def comparable(self, other: "Neurons") -> bool:
        """Whether labels, or positions in arrays of one size, say which neuron of ``other`` is which of these."""
        return self.told_by_label(other) or self.out_of == other.out_of

    def among(self, other: "Neurons") -> list[int | None]:
        """Where each of these stands among those of ``other``, None where it is not there; they must be comparable."""
        by_label = self.told_by_label(other)
        mine, theirs = ((n.known_by if by_label else n.positions) for n in (self, other))
        place: dict[Any, int] = {name: i for i, name in enumerate(theirs)}
        return [place.get(name) for name in mine]

    @property
    def known_by(self) -> tuple[str, ...]:
        """The labels, whole numbers the same with and without ".0", as tables of text and older files write them."""
        return tuple(whole[1] if (whole := WHOLE.fullmatch(label)) else label for label in self.labels or ())

    @property
    def n_left_out(self) -> int:
        """How many neurons of the array are not among these."""
        return self.out_of - len(self.positions)

    def told_by_label(self, other: "Neurons") -> bool:
        """Whether both have labels of which none is there twice."""
        return all(n.labels is not None and len(set(n.known_by)) == len(n.labels) for n in (self, other))


def all_of(n_neurons: int) -> Neurons:
    """The neurons of an array as they are."""
    return Neurons(tuple(range(n_neurons)), n_neurons)


def neurons_from(positions: Sequence[int], out_of: int, labels: Sequence[str] | None) -> Neurons:
    """Neurons as a file gives their fields back."""
    return Neurons(tuple(positions), out_of, None if labels is None else tuple(labels))
