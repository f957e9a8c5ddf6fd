"""Identity of neurons, by which they are recognized in another recording."""

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
    """Neurons of one region, all or some, with their identity.

    Attributes:
        positions: Where each stood in the array that the recording was made from.
        out_of: How many neurons that array had.
        labels: Of each, as text; None where they have none.
    """

    positions: tuple[int, ...]
    out_of: int
    labels: tuple[str, ...] | None = None

    def only(self, chosen: Sequence[int] | Int[np.ndarray, "neuron"]) -> Self:
        """Select some of the neurons, without labels."""
        return replace(self, positions=tuple(self.positions[i] for i in chosen), labels=None)

    def labelled(self, labels: Any) -> Self:
        """Return these neurons with other labels, one each, or with none (None)."""
        return replace(self, labels=None if labels is None else tuple(map(as_text, np.asarray(labels))))

    def named(self, place: int) -> str:
        """Name one neuron by its place here and its label.

        Without labels, its place as loaded is named instead where others were left out.
        """
        if self.labels is not None:
            return f"{place} (label {self.labels[place]})"
        return f"{place}" if self.positions[place] == place else f"{place} ({self.positions[place]} as loaded)"

    def comparable(self, other: "Neurons") -> bool:
        """True if labels or positions tell which neuron of ``other`` is which neuron here.

        Positions do so if both come from arrays with equally many neurons.
        """
        return self.told_by_label(other) or self.out_of == other.out_of

    def among(self, other: "Neurons") -> list[int | None]:
        """Places of these neurons among those of ``other``; None for a neuron that is not there.

        Both must be comparable (see :meth:`comparable`).
        """
        by_label = self.told_by_label(other)
        mine, theirs = ((n.known_by if by_label else n.positions) for n in (self, other))
        place: dict[Any, int] = {name: i for i, name in enumerate(theirs)}
        return [place.get(name) for name in mine]

    @property
    def known_by(self) -> tuple[str, ...]:
        """Labels for comparison: a whole number loses its ".0".

        Tables of text and older files write whole numbers with it.
        """
        return tuple(whole[1] if (whole := WHOLE.fullmatch(label)) else label for label in self.labels or ())

    @property
    def n_left_out(self) -> int:
        """Number of neurons of the array that are not among these."""
        return self.out_of - len(self.positions)

    def told_by_label(self, other: "Neurons") -> bool:
        """True if both have labels and no label occurs twice."""
        return all(n.labels is not None and len(set(n.known_by)) == len(n.labels) for n in (self, other))


def all_of(n_neurons: int) -> Neurons:
    """All neurons of an array, in its order, without labels."""
    return Neurons(tuple(range(n_neurons)), n_neurons)


def neurons_from(positions: Sequence[int], out_of: int, labels: Sequence[str] | None) -> Neurons:
    """Restore neurons from the fields that a file holds."""
    return Neurons(tuple(positions), out_of, None if labels is None else tuple(labels))
