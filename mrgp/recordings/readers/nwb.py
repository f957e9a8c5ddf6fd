"""Reader of NWB files: spikes of sorted units, counted in the bins of trials."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mrgp.recordings.checks import DataError, damage_named, need, warn
from mrgp.recordings.readers.sorted_spikes import REGION, SortedSpikes, SortedUnits, named_areas, with_times
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.spikes import patient
from mrgp.recordings.times import read_window
from mrgp.recordings.unit_choice import area_name
from mrgp.recordings.units import read_bin_width

REGION_COLUMNS = ("location", "region", "brain_region", "brain_area")  # of a units table, where people write it
PEAK = ("peak_channel_id", "peak_electrode_id")  # of a units table, the id of an electrode
NOWHERE = "unknown"  # the word of the format for a place that nobody knows


@dataclass(frozen=True)
class Nwb(SortedSpikes):
    """Spikes of an NWB file's units, counted in bins of ``bin_width``.

    Options are as :func:`mrgp.load_nwb` has them.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".nwb",)
    about: ClassVar[str] = "sorted units and trials, counted in bins of --bin-width (needs pynwb)"

    def read(self, path: Path) -> MultiRegionData:
        read_bin_width(self.bin_width)
        if self.trials is not None and not isinstance(self.trials, str):
            raise DataError(f"trials of {path.name} are the name of a table in it, not {type(self.trials).__name__}")
        pynwb = need("pynwb", f"reading {path.name}")
        with damage_named(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on versions of the format
            with pynwb.NWBHDF5IO(path=str(path), mode="r", load_namespaces=True) as file:
                contents = file.read()
                times, labels = _units(contents, path.name)
                columns = _columns(contents.units, self.units or ())
                areas, doubt = _regions(contents, self.region_of_unit, labels, path.name)
                invalid = _invalid(contents)
                observed = _observed(contents.units, labels, invalid)
                table = _trials(contents, self.trials or "trials", path.name)
        if doubt:
            warn(doubt)
        units = SortedUnits(dict(zip(labels, times, strict=True)), areas, columns, observed)
        spans, table = with_times(table, self.timed_by(), self.trials or "trials")
        begin, end = spans if self.window is None else (spans[0] + edge for edge in read_window(self.window))
        if touched := int(np.any((begin[:, None] < invalid[:, 1]) & (end[:, None] > invalid[:, 0]), axis=1).sum()):
            overlap = f"{touched} of {begin.size} trials overlap invalid_times of {path.name}"
            warn(f"{overlap}: their bins there are missing")
        return self.counts(units, table, path.name)


def load_nwb(
    path: str | Path,
    bin_width: float,
    *,
    region_of_unit: str | Sequence[str] | Mapping[Any, str] | None = None,
    regions: Sequence[str] | None = None,
    trials: str = "trials",
    align: str | None = None,
    window: tuple[float, float] | None = None,
    region_map: Mapping[str, Any] | None = None,
    merge_layers: bool = False,
    min_neurons: int = 1,
    units: Mapping[str, Any] | None = None,
    condition_of_trial: str | None = None,
    drop_dead: bool | None = False,
) -> MultiRegionData:
    """Count the spikes of an NWB file's units in the bins of its trials.

    Needs pynwb, which the extra ``mrgp[nwb]`` installs. Units are labelled by their id; columns of the trials' table
    with one number or text per trial become ``trial_coords``. Bins outside a unit's ``obs_intervals``, and of all units
    those in the file's ``invalid_times``, are missing (NaN), not silent: a trial that is touched keeps its other bins,
    one that has none left is left out.

    Args:
        path: The file.
        bin_width: Seconds per bin.
        region_of_unit: Column of the units table that names the region, or one name per unit. None for the first of
            the columns location, region, brain_region and brain_area; without one, the ``location`` of each unit's
            electrodes, of the electrode whose id is its ``peak_channel_id``, or of its electrode group. "unknown" is
            none.
        regions: Which regions, in this order (delays are measured from the first); units of others are left out.
            None for all, in the order of their first units.
        trials: The table of trials, or of any other intervals in the file.
        align: Column of that table with the time of an event (default start_time); with ``window``. Trials without the
            event (NaN) are left out, with a warning.
        window: From, to in seconds around the event, such as (-0.2, 0.5). None for trials from start_time to stop_time,
            the shorter ones ending in NaN.
        region_map: Region -> the name, or names, that its units have in the file; units of other names keep theirs.
        merge_layers: Join the layers of a cortical area of the Allen atlas: VISp2/3 and VISp5 are VISp.
        min_neurons: Regions of fewer units are left out, with a warning that names them.
        units: Column of the units table -> the value, or values, of the units that are counted, such as
            ``{"quality": "good"}``.
        condition_of_trial: Column of the trials' table whose values are their conditions, which a mean of psth tells
            apart, "none" where there is no value; None for a column "condition", if there is one.
        drop_dead: Leave out units without spikes in any trial, with a warning that names them; None keeps them.

    Raises:
        DataError: pynwb is not installed, or the file is missing, damaged or without what is needed.

    Warns:
        How many units have no region, trials no time of the event, and spikes no trial.

    Source: Rübel et al. 2022, eLife 11 (the format).
    """
    path = Path(path)
    if path.is_dir() or not path.is_file():
        raise DataError(f"{path} is a folder: give a file" if path.is_dir() else f"there is no file {path}")
    reader = Nwb(
        bin_width=bin_width, regions=regions, drop_dead=drop_dead, window=window, align=align, trials=trials,
        region_of_unit=region_of_unit, region_map=region_map, merge_layers=merge_layers, min_neurons=min_neurons,
        units=units, condition_of_trial=condition_of_trial,
    )  # fmt: skip
    return reader.read(path)


def _units(contents: Any, source: str) -> tuple[list[np.ndarray], list[Any]]:
    """Spike times of each unit in seconds, and the units' ids."""
    table = contents.units
    if table is None or not len(table):
        raise DataError(f"{source} has no units table: its spikes must be sorted into units")
    if "spike_times" not in table.colnames:
        raise DataError(f"the units of {source} have no spike_times: sort its spikes into units first")
    labels = np.asarray(table.id[:]).tolist()
    if len(set(labels)) < len(labels):
        raise DataError(f"two units of {source} have the id {max(labels, key=labels.count)}: give each its own")
    column, rows = table["spike_times"], patient(range(len(table)), desc="reading spikes", unit=" units")
    return [np.asarray(column[unit], float) for unit in rows], labels


def _columns(table: Any, wanted: Collection[str]) -> dict[str, list[Any]]:
    """Values of the units in the ``wanted`` columns that have one per unit.

    Other such columns stand there without values: a message lists their names.
    """
    plain = [name for name in table.colnames if not hasattr(table[name], "target") and name != "electrodes"]
    return {name: np.asarray(table[name][:]).tolist() if name in wanted else [] for name in plain}


def _regions(
    contents: Any, region_of_unit: str | Sequence[str] | Mapping[Any, str] | None, labels: list[Any], source: str
) -> tuple[list[str], str]:
    """Name the region of each unit, '' where there is none, and a doubt about them, '' for none."""
    table = contents.units
    if region_of_unit is not None and not isinstance(region_of_unit, str):
        return named_areas(region_of_unit, labels, source), ""
    likely = [name for name in REGION_COLUMNS if name in table.colnames]
    name = next(iter(likely), None) if region_of_unit is None else region_of_unit
    if name is not None:
        if name not in table.colnames:
            known = ", ".join(key for key in table.colnames if key not in ("spike_times", "obs_intervals")) or "none"
            raise DataError(f"the units of {source} have no column {name!r} for regions: there is {known}")
        column = table[name]
        if hasattr(column, "target"):
            raise DataError(f"column {name!r} of {source} has several values per unit: name another for regions")
        return list(map(_area, column[:])), ""
    peak = next((name for name in PEAK if name in table.colnames), None)
    rows = None if peak is None else _rows_of_peaks(contents, np.asarray(table[peak][:], float))
    if "electrodes" in table.colnames and any(areas := _locations(table["electrodes"], rows, labels, source)):
        return areas, ""
    if rows is not None:
        doubt = ""
        groups = dict.fromkeys(map(str, contents.electrodes["group_name"][:]))
        if len(groups) > len(held := {str(contents.electrodes["group_name"][row]) for row in rows if row is not None}):
            doubt = f"{peak} puts the units of {source} on {', '.join(sorted(held))}, of {', '.join(groups)}: "
            doubt += "if it counts the channels of each by themselves, give region_of_unit"
        return ["" if row is None else _area(contents.electrodes["location"][row]) for row in rows], doubt
    if "electrode_group" in table.colnames:
        return [_area(group.location) for group in table["electrode_group"][:]], ""
    no_id = "" if peak is None else f", for {peak} is no id of its electrodes"
    nowhere = f"{source} does not say where its units are{no_id}: pass "
    raise DataError(nowhere, REGION, ", a column or one name per unit")


def _area(value: Any) -> str:
    """Name a region; '' where there is none, or nobody knows it."""
    name = area_name(value)
    return "" if name == NOWHERE else name


def _rows_of_peaks(contents: Any, peaks: np.ndarray) -> list[int | None] | None:
    """Find the electrode that each unit is largest at, by its id, as a row; None for none.

    The whole is None where peaks are something else, such as channels counted on each probe: one is no id, or is that
    of an electrode of another group than its unit's.
    """
    electrodes, units = contents.electrodes, contents.units
    if electrodes is None:
        return None
    row_of = {peak: row for row, peak in enumerate(np.asarray(electrodes.id[:]).tolist())}
    there = np.isfinite(peaks) & (peaks >= 0)
    if any(peak not in row_of for peak in peaks[there]):
        return None
    rows = [row_of[peak] if known else None for peak, known in zip(peaks.tolist(), there, strict=True)]
    if "electrode_group" in units.colnames:
        own, groups = units["electrode_group"][:], electrodes["group"][:]
        if any(row is not None and groups[row] is not own[unit] for unit, row in enumerate(rows)):
            return None
    return rows


def _locations(electrodes: Any, peaks: list[int | None] | None, labels: list[Any], source: str) -> list[str]:
    """Name the one location of each unit's electrodes; of several or none, that of its peak."""
    rows = electrodes.target if hasattr(electrodes, "target") else electrodes
    location = np.asarray(rows.table["location"][:], object)
    ends = np.asarray(electrodes.data[:], int) if rows is not electrodes else np.arange(1, len(labels) + 1)
    areas = []
    of_units = np.split(np.asarray(rows.data[:], int), ends)[: len(labels)]
    for label, part, peak in zip(labels, of_units, peaks or [None] * len(labels), strict=True):
        own = np.array([peak]) if peak is not None and (peak in part or not part.size) else part
        found = sorted(set(map(_area, location[own])))
        if len(found) > 1:
            where = f"unit {label} of {source} has electrodes in {', '.join(found)}"
            raise DataError(f"{where}: pass ", REGION, ", a column or one name per unit")
        areas.append(found[0] if found else "")
    return areas


def _invalid(contents: Any) -> np.ndarray:
    """Intervals in seconds that the file marks as invalid, (interval, 2).

    They are sorted, and merged where they overlap.
    """
    table = contents.invalid_times
    if table is None or not len(table):
        return np.empty((0, 2))
    starts, stops = (np.asarray(table[name][:], float) for name in ("start_time", "stop_time"))
    merged: list[list[float]] = []
    for start, stop in sorted(zip(starts.tolist(), stops.tolist(), strict=True)):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return np.array(merged)


def _observed(table: Any, labels: list[Any], invalid: np.ndarray) -> dict[Any, np.ndarray] | None:
    """Intervals in seconds in which each unit was recorded, (interval, 2), less ``invalid``.

    None for always.
    """
    always = np.array([[-np.inf, np.inf]])
    spans = dict.fromkeys(labels, always)
    if "obs_intervals" in table.colnames:
        for unit, label in enumerate(labels):
            span = np.asarray(table["obs_intervals"][unit], float).reshape(-1, 2)
            spans[label] = span if span.size else always
    elif not len(invalid):
        return None
    return {label: _without(span, invalid) for label, span in spans.items()}


def _without(spans: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Cut the intervals ``invalid``, which are sorted, out of ``spans`` (interval, 2)."""
    for start, stop in invalid:
        before = np.stack([spans[:, 0], np.minimum(spans[:, 1], start)], 1)
        after = np.stack([np.maximum(spans[:, 0], stop), spans[:, 1]], 1)
        spans = np.concatenate([before, after])
        spans = spans[spans[:, 0] < spans[:, 1]]
    return spans


def _trials(contents: Any, name: str, source: str) -> dict[str, np.ndarray]:
    """Read the columns of a table of intervals that have one number or text per interval."""
    own = {key: getattr(contents, key) for key in ("trials", "epochs")}
    tables = {key: table for key, table in own.items() if table is not None} | dict(contents.intervals or {})
    if name not in tables:
        remedy = f"choose from {', '.join(tables)}" if tables else "it needs one, with start_time and stop_time"
        raise DataError(f"{source} has no table {name!r} of trials: {remedy}")
    table = tables[name]
    if not len(table):
        raise DataError(f"the table {name!r} of trials in {source} is empty: name another")
    columns = {column: table[column] for column in table.colnames}
    return {key: np.asarray(value[:]) for key, value in columns.items() if not hasattr(value, "target")}
