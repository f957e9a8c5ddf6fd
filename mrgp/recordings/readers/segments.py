"""Segments of a session, whose clocks may be their own, on one clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrgp.recordings.checks import DataError
from mrgp.recordings.readers.tables import columns_of
from mrgp.runtime.sentences import Argument

SEGMENT = "segment"  # column of a table of trials: the segment, from 0, whose clock the times are of
APART = 1.0  # s, and the longest segment, between the end of a segment and the next: windows reach no other
TRIALS = Argument("trials", python="trials=")


@dataclass(frozen=True)
class Segment:
    """Spikes of one segment, in seconds of its own clock.

    Args:
        times: Label of the unit -> its spike times.
        begin, end: Of the segment; NaN where nobody knows.
        observed: Label of the unit -> from, to when it was recorded; None for the whole segment.
        coords: Name -> value, what is said of the segment where it is a trial.
    """

    times: dict[Any, np.ndarray]
    begin: float = np.nan
    end: float = np.nan
    observed: Mapping[Any, tuple[float, float]] | None = None
    coords: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Clock:
    """Segments on one clock.

    Attributes:
        segments: In their order.
        shifts: Seconds that are added to the times of each, (segment,); 0 where segments share a clock.
    """

    segments: Sequence[Segment]
    shifts: np.ndarray

    @classmethod
    def of(cls, segments: Sequence[Segment], source: str) -> "Clock":
        """Lay segments one after another, unless each begins after the one before has ended.

        Raises:
            DataError: units of a segment are not those of the first.
        """
        labels = list(segments[0].times)
        for number, other in enumerate(segments):
            if list(other.times) != labels:
                has = f"segment {number} of {source} has other units than segment 0"
                raise DataError(f"{has}: give every segment the same, an empty train where a unit is silent")
        begins, ends = np.array([_extent(segment) for segment in segments]).T
        if len(segments) == 1 or (begins[1:] >= ends[:-1]).all():
            return cls(segments, np.zeros(len(segments)))
        lasts = ends - begins
        starts = np.cumsum(np.concatenate([[0.0], (lasts + lasts.max() + APART)[:-1]]))
        return cls(segments, starts - begins)

    def times(self) -> dict[Any, np.ndarray]:
        """Label of the unit -> all its spike times, sorted."""
        return {
            label: np.sort(np.concatenate([one.times[label] + shift for one, shift in self._shifted()]))
            for label in self.segments[0].times
        }

    def observed(self) -> dict[Any, np.ndarray] | None:
        """Label of the unit -> intervals (interval, 2) of its recording; None if nobody says."""
        if all(segment.observed is None and np.isnan(segment.end) for segment in self.segments):
            return None
        return {label: np.array([self._span(one, shift, label) for one, shift in self._shifted()])
                for label in self.segments[0].times}  # fmt: skip

    def trials_of_segments(self, source: str) -> dict[str, np.ndarray]:
        """Columns of trials where each segment is one.

        Raises:
            DataError: a segment does not say when it ends.
        """
        if np.isnan([segment.end for segment in self.segments]).any():
            raise DataError(f"segments of {source} do not say when they end: pass ", TRIALS, ", a table of times")
        begins, ends = (np.array([getattr(one, name) for one in self.segments]) for name in ("begin", "end"))
        table = {"start_time": begins + self.shifts, "stop_time": ends + self.shifts}
        coords = [segment.coords or {} for segment in self.segments]
        for name in dict.fromkeys(name for own in coords for name in own):
            table[name] = np.array([own.get(name, "") for own in coords])
        return table

    def trials_of_table(self, table: Any, source: str, align: str | None) -> dict[str, np.ndarray]:
        """Columns of trials from a table whose times are of the segments' own clocks.

        Those that trials are cut by are moved to the one clock: starts, stops, and the column ``align``.

        Raises:
            DataError: there are several segments with clocks of their own, and no column says which is meant.
        """
        columns = columns_of(table)
        names = [name for name in ("start_time", "stop_time", align) if name in columns]
        which = columns.get(SEGMENT)
        if which is None and self.shifts.any():
            several = f"{source} has {len(self.segments)} segments, each with its own clock"
            raise DataError(f"{several}: add a column {SEGMENT!r} to the trials, numbers from 0")
        if which is not None:
            numbers = np.asarray(which, float)
            if not np.isin(numbers, np.arange(len(self.segments))).all():
                raise DataError(f"{SEGMENT} of the trials is from 0 to {len(self.segments) - 1}: mend the column")
            columns |= {name: columns[name] + self.shifts[numbers.astype(int)] for name in names if name is not None}
        return columns

    def _shifted(self) -> Any:
        return zip(self.segments, self.shifts, strict=True)

    @staticmethod
    def _span(segment: Segment, shift: float, label: Any) -> tuple[float, float]:
        """From, to when a unit was recorded.

        A train that stops with its last spike says nothing of the time after.
        """
        begin, end = (segment.observed or {}).get(label, (segment.begin, segment.end))
        times = segment.times[label]
        after = segment.end if times.size and end <= times.max() else end
        begin, after = (-np.inf if np.isnan(begin) else begin), (np.inf if np.isnan(after) else after)
        return begin + shift, max(after, times.max(initial=after)) + shift


def _extent(segment: Segment) -> tuple[float, float]:
    """Begin and end of a segment, or of its spikes where it does not say."""
    spikes = [times for times in segment.times.values() if times.size]
    first, last = min((t.min() for t in spikes), default=0.0), max((t.max() for t in spikes), default=0.0)
    begin, end = (min(0.0, first) if np.isnan(segment.begin) else segment.begin, segment.end)
    return float(begin), float(last if np.isnan(end) else end)
