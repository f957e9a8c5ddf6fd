"""Layout of a recording: all that is fixed about it apart from its numbers."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

CONDITION = "condition"  # the trial coordinate that says which trials share a mean response


@dataclass(frozen=True)
class Layout:
    """Regions, neuron counts, bin width and conditions of a recording.

    This is all that is fixed apart from its numbers; hashable, so static under ``jax.jit``.

    Attributes:
        regions: region names; delays are measured from the first.
        n_neurons: neurons per region, in the same order.
        bin_width: seconds per bin.
        conditions: what trials can be trials of, sorted; () where they are all of one kind.
    """

    regions: tuple[str, ...]
    n_neurons: tuple[int, ...]
    bin_width: float
    conditions: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = zip(self.regions, self.n_neurons, strict=True)
        return f"{', '.join(f'{name} ({n} neurons)' for name, n in counts)}, bins of {1e3 * self.bin_width:g} ms"

    def same_neurons(self, other: "Layout") -> bool:
        """True if ``other`` is equal to this layout, conditions left aside."""
        return replace(self, conditions=other.conditions) == other

    @property
    def n_regions(self) -> int:
        return len(self.regions)

    @property
    def n_conditions(self) -> int:
        return max(1, len(self.conditions))

    @property
    def total_neurons(self) -> int:
        return sum(self.n_neurons)

    @property
    def region_of_neuron(self) -> Int[np.ndarray, "neuron"]:
        """Index of the region that each column of ``values`` belongs to."""
        return np.repeat(np.arange(self.n_regions), self.n_neurons)

    @property
    def region_slices(self) -> dict[str, slice]:
        """Columns of ``values`` per region."""
        edges = np.cumsum([0, *self.n_neurons]).tolist()
        return {name: slice(*edges[r : r + 2]) for r, name in enumerate(self.regions)}
