"""Counts per bin from spike times and trials in seconds."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from tqdm import tqdm

from mrgp.recordings.arguments import named_by, names_of_regions, several
from mrgp.recordings.checks import DataError, warn
from mrgp.recordings.labels import MISSING, free_name, is_missing
from mrgp.recordings.plausibility import spike_doubts
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.texts import as_text
from mrgp.recordings.times import read_window
from mrgp.recordings.units import read_bin_width, seconds, unmistaken

ROUNDING = 1e-6  # of a bin: 0.1 + 0.2 is not 0.3, and a spike this close before an edge lies on it
LARGEST = 2**29  # counts, 4 GiB: more than that is a mistake in bin_width, or nothing that can be fitted

FILLING = 5  # zeros in a row, and more than spikes at any other instant: fewer may be spikes at the clock's start
UNPADDED = "cut each unit's row to its spikes, or fill it up with NaN"

patient = partial(tqdm, delay=1.0, disable=None, leave=False)  # a bar for who watches, once a second has passed


def from_spike_times(
    spike_times: Mapping[Any, ArrayLike] | Sequence[ArrayLike],
    region_of_unit: Mapping[Any, str] | Sequence[str],
    bin_width: float | str,
    *,
    start: ArrayLike | None = None,
    stop: ArrayLike | None = None,
    align: ArrayLike | None = None,
    window: tuple[float, float] | None = None,
    regions: Sequence[str] | None = None,
    observed: Mapping[Any, ArrayLike] | Sequence[ArrayLike] | None = None,
    trial_coords: Mapping[str, ArrayLike] | None = None,
    drop_dead: bool | None = False,
    event: str = "event",
) -> MultiRegionData:
    """Count the spikes of units in the bins of trials.

    Times are numbers of seconds, or carry their unit (quantities, neo, pint, timedelta: see
    :func:`mrgp.recordings.units.seconds`), which is then converted.

    A trial is a window of time: from ``start`` to ``stop``, or ``window`` around an event ``align``. Its bins begin at
    its start, bin t being [start + t bin_width, start + (t + 1) bin_width): a spike on an edge counts once, in the bin
    that it begins. Time at the end that fills no whole bin is left out. Shorter trials end in NaN.

    Args:
        spike_times: unit label -> its spike times in seconds, in any order; or one array per unit, labelled 0, 1, ...;
            a matrix (unit, spike) ends its shorter rows in NaN.
        region_of_unit: unit label -> name of its region; or one name per unit.
        bin_width: seconds per bin.
        start: start of each trial in seconds, (trial,); with ``stop``.
        stop: end of each trial in seconds, (trial,).
        align: time of one event per trial in seconds, (trial,); with ``window``.
        window: from, to in seconds relative to ``align``, such as (-0.2, 0.5).
        regions: which regions, in this order (delays are measured from the first); units of others are left out.
            Default: all, in the order of their first units.
        observed: unit label, or position, -> intervals (interval, 2) in seconds in which the unit was recorded. A bin
            that is not wholly in one of them is missing, not silent; trials in which every unit is are left out. None
            for what spike trains of neo say of themselves, and always for others.
        trial_coords: coordinate name -> one value per trial (stimulus, choice).
        drop_dead: leave out units without spikes in any trial, with a warning that names them; None keeps them.
        event: what ``align`` holds the times of, by which figures and reports name time 0.

    Returns:
        Counts, with the units' labels as ``neuron_coords``.

    Raises:
        DataError: times, trials or regions that cannot be used; the message names unit or trial.

    Warns:
        What is odd about spikes and trials though they can be counted, a sentence each; and how much is missing.
    """
    width = read_bin_width(bin_width)
    given = _by_label(spike_times)
    raw = {label: seconds(f"spike times of unit {label}", value) for label, value in given.items()}
    if not raw:
        raise DataError("there are no units: pass spike times of at least one")
    is_table = len({train.size for train in raw.values()}) == 1
    times = {label: _spikes(f"spike times of unit {label}", train, is_table) for label, train in raw.items()}
    areas = _regions(region_of_unit, times, all_named=regions is None)
    spans = _supports(given, times) if observed is None else _per_unit(observed, times, "observed")
    asked = dict.fromkeys(areas.values()) if regions is None else names_of_regions(regions)
    names = list(map(as_text, asked))
    if absent := [name for name in names if name not in areas.values()]:
        known = ", ".join(dict.fromkeys(area for area in areas.values() if area))
        raise DataError(f"no unit is in a region {absent[0]!r}: choose from {known}")
    units = {name: [label for label in times if areas[label] == name] for name in names}

    edges, n_bins = _bin_edges(_windows(start, stop, align, window), width, sum(map(len, units.values())))
    n_trials, longest = len(edges), edges.shape[1] - 1
    after = np.arange(longest) >= n_bins[:, None]
    whole = spans is None and not after.any()  # else NaN says what is missing
    dtype = np.min_scalar_type(max(train.size for train in times.values())) if whole else np.float64
    arrays = {name: np.empty((n_trials, longest, len(labels)), dtype) for name, labels in units.items()}
    spoken = 0.0
    for name, labels in units.items():
        for column, label in enumerate(patient(labels, desc=f"counting spikes of {name}", unit=" units")):
            counts = np.diff(np.searchsorted(times[label], edges))
            spoken += counts.sum()
            arrays[name][:, :, column] = counts
            if not whole:
                missing = after if spans is None else after | ~_inside(edges, _intervals(label, spans[label]), width)
                arrays[name][:, :, column][missing] = np.nan
    if spoken == 0:
        raise DataError(_nothing_counted([times[label] for labels in units.values() for label in labels], edges))
    coords = named_by("trial_coords", trial_coords, '{"stimulus": labels}, one label per trial')
    seen = np.ones(n_trials, bool)
    if spans is not None:
        seen = _seen_trials(arrays, after)
        arrays = {name: array[seen] for name, array in arrays.items()}
        coords = {name: _of_seen(coord, seen) for name, coord in coords.items()}
    used = {label: times[label] for labels in units.values() for label in labels}
    for doubt in spike_doubts(used, edges[seen][:, [0, -1]] + ROUNDING * width, zeros=spans is None):
        warn(doubt)
    around = None if window is None else (event, float(read_window(window)[0]))
    return MultiRegionData(
        arrays, unmistaken(width), neuron_coords=units, trial_coords=coords, drop_dead=drop_dead, event=around
    )


def trial_columns(table: Mapping[str, np.ndarray], regions: Sequence[str]) -> dict[str, np.ndarray]:
    """Find the columns of a table of trials that can be coordinates, under free names.

    These columns have one number or text per trial.
    """
    coords: dict[str, np.ndarray] = {}
    for name, column in table.items():
        if name in ("start_time", "stop_time") or column.ndim != 1:
            continue
        if column.dtype.kind == "O" and not all(isinstance(value, str | bytes) for value in column):
            continue
        coords[free_name(name, regions, coords)] = column
    return coords


def _by_label(spike_times: Any) -> dict[Any, Any]:
    if isinstance(spike_times, Mapping):
        return dict(spike_times)
    return dict(enumerate(several("spike_times", spike_times, "those of each unit, such as a list of arrays")))


def _per_unit(value: Any, times: Mapping[Any, Any], what: str) -> dict[Any, Any]:
    """Return one value per unit, by label."""
    if isinstance(value, Mapping):
        if lacking := [label for label in times if label not in value]:
            raise DataError(f"{what} says nothing of unit {lacking[0]}: add it, or leave the unit out")
        return {label: value[label] for label in times}
    if len(several(what, value, f"one for each of {len(times)} units")) != len(times):
        raise DataError(f"{what} has {len(value)} entries for {len(times)} units: give one per unit")
    return dict(zip(times, value, strict=True))


def _regions(region_of_unit: Any, times: Mapping[Any, Any], *, all_named: bool) -> dict[Any, str | None]:
    """Name the region of each unit; None where it has none, refused if ``all_named``."""
    areas: dict[Any, str | None] = {}
    for label, area in _per_unit(region_of_unit, times, "region_of_unit").items():
        missing = is_missing(area) or as_text(area) in MISSING
        if missing and all_named:
            raise DataError(f"unit {label} has no region ({area}): name it, or leave the unit out by regions=")
        areas[label] = None if missing else as_text(area)
    return areas


def _spikes(what: str, times: np.ndarray, is_row: bool) -> Float[np.ndarray, "spike"]:
    """Sort one unit's spike times, without the NaN that fill up a row of a matrix."""
    if is_row and times.ndim == 1:
        times = times[: 1 + max(np.flatnonzero(~np.isnan(times)), default=-1)]
    times = _row(what, times)
    if (np.diff(times) >= 0).all():
        if (zeros := int(np.sum(times == 0))) > 1:
            others = np.unique_counts(times[times != 0]).counts
            if not others.size or (zeros >= FILLING and zeros > others.max()):
                raise DataError(f"{what} hold {zeros} zeros, which look like padding: {UNPADDED}")
        return times
    # Of a row that rises up to its last numbers, and then stays where it was below them, those fill it up.
    filled = int(np.argmax((times != times[-1])[::-1]))
    rising = times[: times.size - filled]
    if (filled > 1 or times[-1] == 0) and times[-1] < rising[-1] and (np.diff(rising) >= 0).all():
        raise DataError(f"{what} end in {filled} x {times[-1]:g}, which looks like padding: {UNPADDED}")
    return np.sort(times)


def _row(what: str, times: np.ndarray) -> Float[np.ndarray, "event"]:
    """Check that times are one row of finite numbers."""
    if times.ndim != 1:
        raise DataError(f"{what} have shape {times.shape}: give one row of seconds")
    if not np.isfinite(times).all():
        at = int(np.argmin(np.isfinite(times)))
        raise DataError(f"{what}: number {at} is {times[at]}; leave it out")
    return times


def _events(what: str, value: Any) -> Float[np.ndarray, "event"]:
    return _row(what, seconds(what, value))


def _supports(given: Mapping[Any, Any], times: Mapping[Any, np.ndarray]) -> dict[Any, np.ndarray] | None:
    """Intervals in which spike trains were recorded, by their own t_start and t_stop.

    Trains of neo have these; None if no train has.

    A train that stops with its last spike says nothing of the time after.
    """
    spans, told = {}, False
    for label, train in given.items():
        begin, end = -np.inf, np.inf
        if hasattr(train, "t_start") and hasattr(train, "t_stop"):
            told = True
            begin, end = (float(seconds(f"t_start of unit {label}", at)) for at in (train.t_start, train.t_stop))
            end = np.inf if times[label].size and end <= times[label][-1] else end
        spans[label] = np.array([[begin, end]])
    return spans if told else None


def _windows(start: Any, stop: Any, align: Any, window: Any) -> Float[np.ndarray, "trial 2"]:
    """Start and stop of each trial in seconds."""
    given = tuple(value is not None for value in (start, stop, align, window))
    if given == (True, True, False, False):
        begin, end = _events("starts of trials", start), _events("stops of trials", stop)
    elif given == (False, False, True, True):
        around = read_window(window)
        events = _events("events to align to", align)
        begin, end = events + around[0], events + around[1]
    else:
        raise DataError("trials are given by start= and stop=, or by align= and window=: give one of the pairs")
    if begin.shape != end.shape:
        raise DataError(f"there are {begin.size} starts but {end.size} stops of trials: give one of each per trial")
    if not begin.size:
        raise DataError("there are no trials: give at least one")
    if (end <= begin).any():
        trial = int(np.argmax(end <= begin))
        times = f"{begin[trial]:g} s and stops at {end[trial]:g} s"
        raise DataError(f"trial {trial} is empty, it starts at {times}: mend it or leave it out")
    return np.stack([begin, end], axis=1)


def _bin_edges(
    windows: Float[np.ndarray, "trial 2"], width: float, n_units: int
) -> tuple[Float[np.ndarray, "trial edge"], Int[np.ndarray, "trial"]]:
    """Edges of each trial's bins, (trial, edge), and its number of bins, (trial,).

    The last edge is repeated up to the number of edges of the longest trial.
    """
    start, stop = windows.T
    exact = (stop - start) / width
    n_bins = np.floor(exact + ROUNDING)
    if (n_bins < 1).any():
        trial = int(np.argmax(n_bins < 1))
        lasts = f"trial {trial} lasts {stop[trial] - start[trial]:g} s, less than one bin of {width:g} s"
        raise DataError(f"{lasts}: give bin_width in seconds, 0.02 for 20 ms, or leave the trial out")
    if n_bins.max() * len(windows) * n_units > LARGEST:
        size = f"{len(windows)} trials x {n_bins.max():g} bins of {width:g} s x {n_units} units"
        raise DataError(f"{size} are too many counts: take wider bins, such as 0.02 for 20 ms, or fewer")
    step = np.minimum(np.arange(int(n_bins.max()) + 1), n_bins[:, None])
    edges = start[:, None] + width * step
    # A trial that ends where the next one starts must end at the very same number.
    whole = (np.abs(exact - n_bins) <= ROUNDING)[:, None] & (step == n_bins[:, None])
    edges = np.where(whole, stop[:, None], edges) - ROUNDING * width
    order = np.argsort(edges[:, 0], kind="stable")
    overlap = edges[order[:-1], -1] - edges[order[1:], 0]
    if (overlap > ROUNDING * width).any():
        at = int(np.argmax(overlap))
        pair, several = f"trials {order[at]} and {order[at + 1]}", int((overlap > ROUNDING * width).sum())
        pairs = f"{several} pairs of trials overlap, most of all {pair}" if several > 1 else f"{pair} overlap"
        warn(f"{pairs} by {overlap[at]:g} s: models take them as independent, though they share spikes")
    return edges, n_bins.astype(int)


def _intervals(label: Any, value: Any) -> Float[np.ndarray, "interval 2"]:
    intervals = seconds(f"intervals in which unit {label} was observed", getattr(value, "values", value))
    if intervals.size % 2 or np.isnan(intervals).any():
        raise DataError(f"intervals in which unit {label} was observed are not (interval, 2): mend them")
    intervals = intervals.reshape(-1, 2)
    return intervals[np.argsort(intervals[:, 0])]


def _inside(edges: np.ndarray, intervals: np.ndarray, width: float) -> np.ndarray:
    """True for bins that lie wholly in one of the intervals, which are sorted by start."""
    slack = 2 * ROUNDING * width
    last = np.searchsorted(intervals[:, 0], edges[:, :-1] + slack, side="right")
    reached = np.concatenate([[-np.inf], np.maximum.accumulate(intervals[:, 1])])
    return edges[:, 1:] <= reached[last] + slack


def _seen_trials(arrays: Mapping[str, np.ndarray], after: np.ndarray) -> np.ndarray:
    """Trials in which any unit was observed, bool (trial,).

    Warns of trials that are left out and of bins that are missing before a trial's end.
    """
    there = {name: ~np.isnan(array) for name, array in arrays.items()}
    seen = np.any([known.any(axis=(1, 2)) for known in there.values()], axis=0)
    if not seen.any():
        raise DataError("no unit was observed in any trial: check the intervals in which units were observed")
    if not seen.all():
        left = ", ".join(map(str, np.flatnonzero(~seen)[:20])) + (" ..." if np.sum(~seen) > 20 else "")
        warn(f"left out {np.sum(~seen)} of {seen.size} trials, in which no unit was observed: {left}")
    lacking = {name: ~known[seen] & ~after[seen, :, None] for name, known in there.items()}
    if trials := int(np.any([missing.any(axis=(1, 2)) for missing in lacking.values()], axis=0).sum()):
        units = sum(int(missing.any(axis=(0, 1)).sum()) for missing in lacking.values())
        warn(f"in {trials} of {seen.sum()} trials, {units} unit(s) were not observed all the time: bins are missing")
    return seen


def _of_seen(coord: Any, seen: np.ndarray) -> Any:
    """Select the labels of the trials that stay.

    Labels of another number are all returned; they are refused later.
    """
    if len(coord) != seen.size:
        return coord
    if isinstance(coord, list | tuple):  # of several types, maybe
        return [label for label, stays in zip(coord, seen, strict=True) if stays]
    return np.asanyarray(coord)[seen]


def _nothing_counted(times: Sequence[np.ndarray], edges: np.ndarray) -> str:
    if not any(spikes.size for spikes in times):
        return "no unit has any spikes: check the spike times"
    first, last = min(s[0] for s in times if s.size), max(s[-1] for s in times if s.size)
    trials = f"trials from {edges[:, 0].min():g} to {edges[:, -1].max():g} s"
    return f"no spike falls into a trial, spikes are from {first:g} to {last:g} s, {trials}: give both on one clock"
