"""Reader of neo's blocks and segments: spike trains, counted in the bins of trials."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrgp.recordings.checks import DataError
from mrgp.recordings.readers.segments import SEGMENT, Clock, Segment
from mrgp.recordings.readers.sorted_spikes import SortedSpikes, SortedUnits, areas_of
from mrgp.recordings.readers.tables import columns_of
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.units import seconds

REGION_ANNOTATIONS = ("location", "region", "brain_region", "brain_area", "acronym")
ID = "unit_id"  # annotation by which neo's readers tell units, where they are not told by names
SOURCE = "the block"


def from_neo(
    block: Any,
    bin_width: float,
    *,
    trials: str | Mapping[str, Any] | None = None,
    region_of_unit: str | Sequence[str] | Mapping[Any, str] | None = None,
    align: str | None = None,
    window: tuple[float, float] | None = None,
    regions: Sequence[str] | None = None,
    region_map: Mapping[str, Any] | None = None,
    merge_layers: bool = False,
    min_neurons: int = 1,
    units: Mapping[str, Any] | None = None,
    condition_of_trial: str | None = None,
    drop_dead: bool | None = False,
) -> MultiRegionData:
    """Count the spike trains of a block of neo in the bins of trials.

    Times carry their units, and are converted. Trains of a segment are those of units: told by their names where these
    are all different, else by their annotation ``unit_id``, else by their order, which is the same in every segment.
    Segments whose clocks all begin anew are laid one after another. Bins outside a train's ``t_start`` and ``t_stop``
    are missing, not silent.

    Args:
        block: ``neo.Block``, ``neo.Segment``, or a list of segments.
        bin_width: Seconds per bin, or with a unit, ``20 * quantities.ms``.
        trials: None where each segment is a trial, from its start to its stop; annotations become ``trial_coords``. The
            name of epochs, in all segments that have them: from their times on for their durations; labels and
            array annotations become ``trial_coords``. The name of events, with ``window``. Or columns of a table, a
            mapping or one of pandas: ``start_time``, ``stop_time``, and ``segment``, from 0, where there are several.
        region_of_unit: Annotation of the trains that names the region, or one name per unit. None for the first of
            location, region, brain_region, brain_area and acronym.
        align: Event in every trial that ``window`` is around (default its start): a column of the trials, or the name
            of events, of which the first within each trial counts, or before the next where trials have no stop.
            Trials without it are left out, with a warning.
        window: From, to in seconds around the event. None for trials from start_time to stop_time.
        regions: Which regions, in this order (delays are measured from the first); None for all.
        region_map: Region -> the name, or names, that its units have; units of other names keep theirs.
        merge_layers: Join the layers of a cortical area of the Allen atlas: VISp2/3 and VISp5 are VISp.
        min_neurons: Regions of fewer units are left out, with a warning that names them.
        units: Annotation of the trains -> the value, or values, of the units that are counted.
        condition_of_trial: Column of the trials, or annotation of segments, whose values are their conditions, which a
            mean of psth tells apart, "none" where there is no value; None for one called "condition", if any.
        drop_dead: Leave out units without spikes in any trial, with a warning that names them; None keeps them.

    Raises:
        DataError: trains, trials or regions cannot be used, or times have a unit that is no time.

    Warns:
        How many units have no region, trials no event, and spikes no trial.
    """
    found = _segments(block)
    options = SortedSpikes(
        bin_width=bin_width, regions=regions, drop_dead=drop_dead, window=window, align=align,
        trials=trials if isinstance(trials, str) else None, region_map=region_map, merge_layers=merge_layers,
        min_neurons=min_neurons, units=units, condition_of_trial=condition_of_trial,
    )  # fmt: skip
    labels = _labels([list(segment.spiketrains) for segment in found])
    clock = Clock.of([_segment(segment, own) for segment, own in zip(found, labels, strict=True)], SOURCE)
    if trials is None:
        table = clock.trials_of_segments(SOURCE)
    elif isinstance(trials, str):
        table = clock.trials_of_table(_marked(found, trials), SOURCE, align)
    else:
        table = clock.trials_of_table(trials, SOURCE, align)
    is_event = align is not None and align not in table and "start_time" in table
    if is_event and (marks := _events(found, str(align), clock)) is not None:
        table[str(align)] = _first_within(marks, table)
    columns = _columns(list(found[0].spiketrains))
    areas = areas_of(columns, REGION_ANNOTATIONS, region_of_unit, labels[0], SOURCE)
    return options.counts(SortedUnits(clock.times(), areas, columns, clock.observed()), table, SOURCE)


def _segments(block: Any) -> list[Any]:
    """Segments of a block, which hold trains.

    Raises:
        DataError: it is no block, or has none.
    """
    if hasattr(block, "segments"):
        found = list(block.segments)
    else:
        found = list(block) if isinstance(block, list | tuple) else [block]
    if strange := [one for one in found if not hasattr(one, "spiketrains")]:
        raise DataError(f"the block is a {type(strange[0]).__name__}: pass a neo.Block, or its segments")
    if not found or not len(found[0].spiketrains):
        raise DataError(f"{SOURCE} has no spike trains: pass one whose first segment has a train of every unit")
    return found


def _labels(trains: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Labels of the units of every segment, by name, by annotation or by order."""
    for read in (_name, _unit_id):
        labels = [[read(train) for train in own] for own in trains]
        known = all(None not in own and "" not in own and len(set(own)) == len(own) for own in labels)
        if known and all(own == labels[0] for own in labels):
            return labels
        if known and all(set(own) == set(labels[0]) for own in labels):
            raise DataError(f"units of {SOURCE} are in another order in some segments: sort their trains alike")
    return [list(range(len(own))) for own in trains]


def _name(train: Any) -> Any:
    return train.name


def _unit_id(train: Any) -> Any:
    return train.annotations.get(ID)


def _segment(segment: Any, labels: Sequence[Any]) -> Segment:
    """Spikes of one segment in seconds."""
    trains = dict(zip(labels, segment.spiketrains, strict=True))
    times = {label: seconds(f"spike times of unit {label}", train) for label, train in trains.items()}
    observed = {
        label: (float(seconds(f"t_start of unit {label}", train.t_start)),
                float(seconds(f"t_stop of unit {label}", train.t_stop)))
        for label, train in trains.items()
    }  # fmt: skip
    begin = min((span[0] for span in observed.values()), default=np.nan)
    end = max((span[1] for span in observed.values()), default=np.nan)
    coords = {name: value for name, value in segment.annotations.items() if isinstance(value, str | int | float)}
    return Segment(times, begin, end, observed, coords)


def _columns(trains: Sequence[Any]) -> dict[str, list[Any]]:
    """Annotations of the trains, one value per unit; '' where a train has none."""
    names = dict.fromkeys(name for train in trains for name in train.annotations)
    return {str(name): [train.annotations.get(name, "") for train in trains] for name in names}


def _marked(segments: Sequence[Any], name: str) -> dict[str, np.ndarray]:
    """Columns of the epochs or events of this name, in seconds of their segments' clocks.

    Raises:
        DataError: there are none.
    """
    parts = []
    for number, segment in enumerate(segments):
        for marks in [*segment.epochs, *segment.events]:
            if marks.name != name:
                continue
            start = seconds(f"times of {name}", marks.times)
            own: dict[str, Any] = {"start_time": start, SEGMENT: np.full(start.size, number)}
            if hasattr(marks, "durations"):
                own["stop_time"] = start + seconds(f"durations of {name}", marks.durations)
            if len(marks.labels) == start.size:
                own["label"] = np.asarray(marks.labels, str)
            parts.append(own | columns_of(marks.array_annotations))
    if not parts:
        named = dict.fromkeys(str(m.name) for segment in segments for m in [*segment.epochs, *segment.events])
        raise DataError(f"{SOURCE} has no epochs or events {name!r}: choose from {', '.join(named) or 'none'}")
    shared = [column for column in parts[0] if all(column in own for own in parts)]
    table = {column: np.concatenate([own[column] for own in parts]) for column in shared}
    return table if len(segments) > 1 else {column: values for column, values in table.items() if column != SEGMENT}


def _events(segments: Sequence[Any], name: str, clock: Clock) -> np.ndarray | None:
    """Times of the events of a name on the one clock, sorted; None if there are none."""
    own = [
        seconds(f"times of {name}", event.times) + shift
        for segment, shift in zip(segments, clock.shifts, strict=True) for event in segment.events if event.name == name
    ]  # fmt: skip
    return np.sort(np.concatenate(own)) if own else None


def _first_within(marks: np.ndarray, table: Mapping[str, np.ndarray]) -> np.ndarray:
    """First of the events in each trial, (trial,); NaN where there is none."""
    start = np.asarray(table["start_time"], float)
    stop = table.get("stop_time", _next_start(start))
    at = np.searchsorted(marks, start)
    first = np.append(marks, np.inf)[at]
    return np.where(first < stop, first, np.nan)


def _next_start(start: np.ndarray) -> np.ndarray:
    """Start of the next trial, (trial,); infinity after the last."""
    later = np.append(np.unique(start[np.isfinite(start)]), np.inf)
    return later[np.minimum(np.searchsorted(later, start, side="right"), len(later) - 1)]
