"""Readers of sorted spikes: shared options, and the way from units and trials to counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any, ClassVar

import numpy as np

from mrgp.recordings.arguments import several
from mrgp.recordings.checks import DataError, warn
from mrgp.recordings.layout import CONDITION
from mrgp.recordings.plausibility import outside_doubts
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.spikes import from_spike_times, trial_columns
from mrgp.recordings.times import read_window
from mrgp.recordings.unit_choice import UnitChoice, area_name
from mrgp.runtime.sentences import Argument

REGION = Argument("region_of_unit", python="region_of_unit=")


@dataclass(frozen=True)
class SortedUnits:
    """Units of a file, before any is chosen.

    Args:
        times: Label of the unit -> its spike times in seconds.
        areas: Region of each unit, '' for none.
        columns: Name -> one value per unit, such as its quality.
        observed: Label -> intervals (interval, 2) in seconds in which the unit was recorded; None for always.
    """

    times: dict[Any, np.ndarray]
    areas: list[str]
    columns: dict[str, list[Any]]
    observed: dict[Any, np.ndarray] | None = None


@dataclass(frozen=True)
class SortedSpikes(Reader, abstract=True):
    """Reader of spikes of sorted units, which are counted in bins of trials.

    Where the name of a region has a slash, which files cannot hold, it becomes "_": VISp2/3 is VISp2_3.

    Args:
        window: From, to in seconds around the event ``align``; None for trials from start to stop.
        align: Column of the trials with the time of an event; None for their start.
        trials: The table of trials.
        region_of_unit: Column of the units that names their region, or one name per unit.
        region_map: Region -> the name, or names, that its units have in the file; units of other names keep theirs.
        merge_layers: Join the layers of a cortical area of the Allen atlas: VISp2/3 and VISp5 are VISp.
        min_neurons: Regions of fewer units are left out, with a warning that names them.
        units: Column of the units -> the value, or values, of those that are counted.
        condition_of_trial: Column of the trials whose values are their conditions, which a mean of psth tells apart:
            "contrastLeft"; a trial without a value has the condition "none". None for a column "condition", if any.
    """

    counted: ClassVar[str] = "spike times"

    window: tuple[float, float] | None = Reader.option(
        "trials are this long around an event, such as -0.2 0.5 (from their start to their stop)", ("FROM", "TO")
    )
    align: str | None = Reader.option("the event, a column of the trials (start_time)", "COLUMN")
    trials: str | Mapping[str, Any] | None = Reader.option(
        "the table of trials: a name in an .nwb (trials), else a .csv or .tsv file", "TABLE"
    )
    region_of_unit: str | Sequence[str] | Mapping[Any, str] | None = Reader.option(
        "of the units (location or acronym, else of electrodes or channels)", "COLUMN"
    )
    region_map: Mapping[str, Any] | None = Reader.option("regions under other names, joined", "NAME=A+B,..")
    merge_layers: bool = Reader.option("join layers of areas of the Allen atlas: VISp2/3 is VISp", "", False)
    min_neurons: int = Reader.option("leave out regions of fewer units (1)", "N", 1)
    units: Mapping[str, Any] | None = Reader.option("units with these values in a column", "COLUMN=A+B,..")
    condition_of_trial: str | None = Reader.option("of the trials: what --mean psth tells apart (condition)", "COLUMN")

    def __post_init__(self) -> None:
        for what, column in {"align": self.align, "condition_of_trial": self.condition_of_trial}.items():
            if not isinstance(column, str | None):
                raise DataError(f"{what} is {shortened(column)}: give the name of a column of the trials")
        if self.window is not None:
            read_window(self.window)
        self.choice()

    def choice(self) -> UnitChoice:
        """Choice of units that the options ask for."""
        return UnitChoice(self.regions, self.region_map, self.merge_layers, self.min_neurons, self.units)

    def timed_by(self) -> tuple[str, ...]:
        """Columns of the trials that the options need."""
        if self.window is None and self.align is not None:
            align = f"align={self.align!r}"
            raise DataError(f"{align} needs a window in seconds around it: such as window=(-0.2, 0.5)")
        return ("start_time", "stop_time") if self.window is None else (self.align or "start_time",)

    def counts(self, units: SortedUnits, trials: Mapping[str, np.ndarray], source: str) -> MultiRegionData:
        """Count the spikes of the units that are chosen, in the bins of trials.

        Args:
            units: All units.
            trials: Columns, (trial,), with ``start_time`` and ``stop_time``, or the event, in seconds.
            source: The name of the file, for messages.

        Warns:
            How many units have no region, trials no time, and spikes no trial if gaps between trials do not tell why.
        """
        width: Any = self.bin_width
        wanted = self.timed_by()
        kept, areas, names = self.choice().choose(units.areas, units.columns, source)
        names = [name for name in names if name]
        if not names:
            raise DataError(f"no unit of {source} has a region: pass ", REGION, ", a column or one name per unit")
        if homeless := areas.count(""):
            warn(f"left out {homeless} of {len(areas)} units without a region")
        times, table = with_times(dict(trials), wanted, self.trials if isinstance(self.trials, str) else "trials")
        labels = list(units.times)
        chosen = {labels[unit]: area for unit, area in zip(kept, areas, strict=True) if area in names}
        spikes = {label: units.times[label] for label in chosen}
        begin, end = times if self.window is None else (times[0] + edge for edge in read_window(self.window))
        for doubt in outside_doubts(spikes, np.stack([begin, end], 1)):
            warn(doubt)
        window = {"start": begin, "stop": end} if self.window is None else {"align": times[0], "window": self.window}
        coords = trial_columns(table, names)
        if self.condition_of_trial is not None:
            coords[CONDITION] = conditions_of(table, self.condition_of_trial, source)
        observed = None if units.observed is None else {label: units.observed[label] for label in chosen}
        return from_spike_times(
            spikes, chosen, width, regions=names, trial_coords=coords, drop_dead=self.drop_dead, observed=observed,
            event=self.align or "start_time", **window,
        )  # fmt: skip


def conditions_of(table: Mapping[str, np.ndarray], column: str, source: str) -> np.ndarray:
    """Return the values of a column of the trials as text, "none" where there is no value."""
    known = trial_columns(table, ())
    if column not in known:
        raise DataError(f"the trials of {source} have no column {column!r}: choose from {', '.join(known) or 'none'}")
    return np.array([area_name(value) or "none" for value in known[column]])


def by_cluster(times: np.ndarray, clusters: np.ndarray, source: str) -> dict[int, np.ndarray]:
    """Divide spikes among their clusters: cluster -> its spike times, sorted.

    Args:
        times: In seconds, (spike,), in any order; spikes without a time (NaN) are left out, with a warning.
        clusters: Cluster of each spike, (spike,).
        source: The name of the file, for messages.

    Raises:
        DataError: there are no spikes, or not one cluster for each.
    """
    if times.ndim != 1 or times.shape != clusters.shape:
        shapes = f"times {times.shape} and clusters {clusters.shape}"
        raise DataError(f"spikes of {source} have {shapes}: they are one number per spike each, get both files again")
    if clusters.dtype.kind not in "iu" and not np.array_equal(clusters, np.round(clusters)):
        raise DataError(f"clusters of spikes of {source} are no whole numbers: get the file again")
    there = np.isfinite(times)
    if lost := int(np.sum(~there)):
        warn(f"left out {lost} of {times.size} spikes of {source} without a time")
    times, clusters = times[there], clusters[there].astype(np.int64)
    if not times.size:
        raise DataError(f"{source} holds no spikes: check that its sorting has run")
    order = np.lexsort((times, clusters))
    labels, begins = np.unique(clusters[order], return_index=True)
    return dict(zip(labels.tolist(), np.split(times[order], begins[1:]), strict=True))


def named_areas(region_of_unit: Sequence[str] | Mapping[Any, str], labels: Sequence[Any], source: str) -> list[str]:
    """Return the region of each unit from one name per unit, in their order or by label."""
    if isinstance(region_of_unit, Mapping):
        return [area_name(region_of_unit.get(label)) for label in labels]
    if len(several("region_of_unit", region_of_unit, "a column, or one name per unit")) != len(labels):
        raise DataError(f"region_of_unit has {len(region_of_unit)} names for the {len(labels)} units of {source}")
    return list(map(area_name, region_of_unit))


def areas_of(
    columns: Mapping[str, list[Any]],
    likely: Sequence[str],
    region_of_unit: str | Sequence[str] | Mapping[Any, str] | None,
    labels: Sequence[Any],
    source: str,
) -> list[str]:
    """Name the region of each unit by the first ``likely`` column there is, or as given.

    It is '' where a unit has none.

    Raises:
        DataError: no column says it.
    """
    if region_of_unit is not None and not isinstance(region_of_unit, str):
        return named_areas(region_of_unit, labels, source)
    names = likely if region_of_unit is None else (region_of_unit,)
    name = next((name for name in names if columns.get(name)), None)
    if name is None:
        there = f"nothing in {source} says where its units are, there is {', '.join(columns) or 'nothing'}: pass "
        raise DataError(there, REGION)
    return list(map(area_name, columns[name]))


def with_times(
    table: dict[str, np.ndarray], wanted: Sequence[str], name: str
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Return the wanted times of the trials that have them all, and these trials' table."""
    for column in wanted:
        if column not in table or table[column].dtype.kind not in "fiu":
            known = ", ".join(key for key, value in table.items() if value.dtype.kind == "f")
            raise DataError(f"the table {name!r} has no column {column!r} of times: choose from {known}")
    times = [np.asarray(table[column], float) for column in wanted]
    there = np.all(np.isfinite(times), axis=0)
    if not there.any():
        raise DataError(f"no trial has a time in {' and '.join(wanted)}: choose another column")
    if not there.all():
        count = int(np.sum(~there))
        warn(f"left out {count} trials without a time in {' and '.join(wanted)}")
    return [time[there] for time in times], {key: value[there] for key, value in table.items()}
