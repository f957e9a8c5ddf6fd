"""Reader of spikeinterface's sortings: spikes of units, counted in the bins of trials."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mrgp.recordings.checks import DataError
from mrgp.recordings.readers.segments import Clock, Segment
from mrgp.recordings.readers.sorted_spikes import SortedSpikes, SortedUnits, areas_of
from mrgp.recordings.recording import MultiRegionData

REGION_PROPERTIES = ("brain_area", "location", "region", "brain_region", "acronym")
SOURCE = "the sorting"


def from_spikeinterface(
    sorting: Any,
    bin_width: float,
    *,
    trials: Mapping[str, Any] | None = None,
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
    """Count the spikes of a sorting of spikeinterface in the bins of trials.

    The sorting, a ``BaseSorting``, may be a sorter's output, one that was curated, or one that was loaded from a
    folder; ``mrgp[spikeinterface]`` installs what makes it. Units are labelled by their ids, times are those of the
    sorting in seconds, with the times of its recording where it has one. Segments with clocks of their own are laid one
    after another.

    Args:
        sorting: The sorting.
        bin_width: Seconds per bin.
        trials: Columns of a table, a mapping or one of pandas: ``start_time`` and ``stop_time``, or the event to align
            to, in seconds or with a unit; others become ``trial_coords``. ``segment``, from 0, says of which segment
            times are, where there are several. None where each segment is a trial, which a registered recording says
            the ends of.
        region_of_unit: Property of the units that names the region, or one name per unit. None for the first of
            brain_area, location, region, brain_region and acronym.
        align: Column of the trials with the time of an event (default start_time); with ``window``. Trials without the
            event (NaN) are left out, with a warning.
        window: From, to in seconds around the event. None for trials from start_time to stop_time.
        regions: Which regions, in this order (delays are measured from the first); None for all.
        region_map: Region -> the name, or names, that its units have; units of other names keep theirs.
        merge_layers: Join the layers of a cortical area of the Allen atlas: VISp2/3 and VISp5 are VISp.
        min_neurons: Regions of fewer units are left out, with a warning that names them.
        units: Property of the units -> the value, or values, of the units that are counted, such as
            ``{"KSLabel": "good"}``.
        condition_of_trial: Column of the trials whose values are their conditions, which a mean of psth tells apart,
            "none" where there is no value; None for a column "condition", if there is one.
        drop_dead: Leave out units without spikes in any trial, with a warning that names them; None keeps them.

    Raises:
        DataError: units, trials or regions cannot be used.

    Warns:
        How many units have no region, trials no event, and spikes no trial.
    """
    if not hasattr(sorting, "get_unit_spike_train") or not hasattr(sorting, "get_num_segments"):
        raise DataError(f"the sorting is a {type(sorting).__name__}: pass a sorting of spikeinterface")
    options = SortedSpikes(
        bin_width=bin_width, regions=regions, drop_dead=drop_dead, window=window, align=align, region_map=region_map,
        merge_layers=merge_layers, min_neurons=min_neurons, units=units, condition_of_trial=condition_of_trial,
    )  # fmt: skip
    labels = list(np.asarray(sorting.unit_ids).tolist())
    clock = Clock.of([_segment(sorting, number) for number in range(sorting.get_num_segments())], SOURCE)
    table = clock.trials_of_segments(SOURCE) if trials is None else clock.trials_of_table(trials, SOURCE, align)
    columns = {str(name): _column(sorting.get_property(name)) for name in sorting.get_property_keys()}
    areas = areas_of(columns, REGION_PROPERTIES, region_of_unit, labels, SOURCE)
    return options.counts(SortedUnits(clock.times(), areas, columns, clock.observed()), table, SOURCE)


def _segment(sorting: Any, number: int) -> Segment:
    """Spikes of one segment, and its extent where a recording is registered."""
    labels, has_end = np.asarray(sorting.unit_ids).tolist(), sorting.has_recording()
    trains = {
        label: np.asarray(sorting.get_unit_spike_train(label, segment_index=number, return_times=not has_end))
        for label in labels
    }
    if not has_end:
        return Segment({label: times.astype(float) for label, times in trains.items()})
    seconds_at = _clock(sorting, number)
    begin, last = seconds_at(np.array([0, sorting.get_num_samples(segment_index=number) - 1]))
    times = {label: seconds_at(samples) for label, samples in trains.items()}
    return Segment(times, float(begin), float(last) + 1 / float(sorting.get_sampling_frequency()))


def _clock(sorting: Any, number: int) -> Callable[[np.ndarray], np.ndarray]:
    """Function from samples of a segment to seconds; there may be gaps between samples.

    Those of spikes alone are converted: the times of every sample of a session would be gigabytes.
    """
    if hasattr(sorting, "sample_index_to_time"):
        return lambda samples: np.asarray(sorting.sample_index_to_time(samples, segment_index=number), float)
    return np.asarray(sorting.get_times(segment_index=number), float).__getitem__  # of earlier versions


def _column(values: Any) -> list[Any]:
    """One value per unit; of a property of several numbers none."""
    array = np.asarray(values)
    return array.tolist() if array.ndim == 1 else []
