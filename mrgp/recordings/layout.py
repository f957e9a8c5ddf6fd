"""Layout of a recording: all that is fixed about it apart from its numbers."""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

CONDITION = "condition"  # the trial coordinate that says which trials share a mean response
EVENT, BEGIN = "aligned_to", "first_bin_at"  # names in files of arrays, of a layout's event and begin
START = "start_time"  # the one that says when each began in its session, in seconds; tables of trials in NWB call it so


@dataclass(frozen=True)
class Layout:
    """Regions, neuron counts, bin width and conditions of a recording.

    This is all that is fixed apart from its numbers; hashable, so static under ``jax.jit``.

    Attributes:
        regions: region names; delays are measured from the first.
        n_neurons: neurons per region, in the same order.
        bin_width: seconds per bin.
        conditions: what trials can be trials of, sorted; () where they are all of one kind.
        times: start of each bin in seconds, in all trials; () where each begins as the one before it ends.
        event: name of what is at time 0 in every trial; "" where nobody says.
        begin: when the first bin begins, in seconds after it; 0 where ``times`` say it.
    """

    regions: tuple[str, ...]
    n_neurons: tuple[int, ...]
    bin_width: float
    conditions: tuple[str, ...] = ()
    times: tuple[float, ...] = field(default=(), repr=False)
    event: str = field(default="", repr=False)
    begin: float = field(default=0.0, repr=False)

    def __str__(self) -> str:
        counts = zip(self.regions, self.n_neurons, strict=True)
        bins = f"bins of {1e3 * self.bin_width:g} ms{'' if self.is_regular else ' at irregular times'}"
        around = f", from {self.begin:+g} s around {self.event}" if self.event else ""
        return f"{', '.join(f'{name} ({n} neurons)' for name, n in counts)}, {bins}{around}"

    def same_neurons(self, other: "Layout") -> bool:
        """True if ``other`` is equal to this layout, conditions, times and the event left aside."""
        own = replace(self, conditions=other.conditions, times=other.times)
        return replace(own, event=other.event, begin=other.begin) == other

    def same_times(self, other: "Layout", n_bins: int) -> bool:
        """True if bins are as far apart as in ``other``, and at its times if these are irregular."""
        one, two = (replace(layout, begin=0.0).starts(n_bins) for layout in (self, other))
        return bool(np.array_equal(one, two))

    def window(self, n_bins: int) -> str:
        """Say what trials are aligned to, and from when to when they last; "" where unknown."""
        starts = self.starts(n_bins)
        return f"{self.event}, {starts[0]:g} to {starts[-1] + self.bin_width:.6g} s" if self.event else ""

    @property
    def is_regular(self) -> bool:
        """True if each bin begins as the one before it ends."""
        return not self.times

    def starts(self, n_bins: int) -> Float[np.ndarray, "time"]:
        """Return the start of each of ``n_bins`` bins in seconds, (time,).

        Those beyond ``times`` follow each other.
        """
        known = np.array(self.times[:n_bins])
        first = known[-1] + self.bin_width if len(known) else self.begin
        return np.concatenate([known, first + np.arange(n_bins - len(known)) * self.bin_width])

    def time_axis(self, n_bins: int) -> tuple[str, Float[np.ndarray, "time"], dict[str, str]]:
        """Return the starts of bins as a coordinate that names unit and event."""
        return "time", self.starts(n_bins), {"units": "s"} | ({"event": self.event} if self.event else {})

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
