"""Trials of several recordings of the same neurons, in one recording."""

from collections.abc import Sequence
from dataclasses import replace
from reprlib import repr as shortened

import numpy as np

from mrgp.recordings.arguments import several
from mrgp.recordings.checks import DataError
from mrgp.recordings.digests import Digests
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData


def join_trials(recordings: Sequence[MultiRegionData]) -> MultiRegionData:
    """Join the trials of recordings of the same neurons, one recording's after another's.

    They may be blocks of a session, or single trials of one recording, ``[data[3], data[0]]``; shorter trials end in
    missing bins. Trial coordinates are those that all of them have.

    Raises:
        DataError: there are none, or regions, neurons, bins, conditions or the event at time 0 differ. Whatever time 0
            is in each, they can be joined without an event (:func:`mrgp.with_event`).
    """
    if not len(several("recordings", recordings, "a list of recordings")):
        raise DataError("there are no recordings to join: give at least one")
    for number, other in enumerate(recordings):
        if not isinstance(other, MultiRegionData):
            raise DataError(f"number {number} of what is to be joined is no recording, but {shortened(other)}: load it")
    first = recordings[0]
    for number, other in enumerate(recordings):
        if other.layout != first.layout:
            raise DataError(_unlike(number, other.layout, first.layout))
        if other.origin != first.origin or not _same_labels(first, other):
            raise DataError(f"recording {number} has other neurons than the first one: select the same in both")
    shapes = [other.values.shape for other in recordings]
    longest, dtype = max(shape[1] for shape in shapes), np.result_type(*(other.values for other in recordings))
    values = np.zeros((sum(shape[0] for shape in shapes), longest, shapes[0][2]), dtype)
    mask = np.zeros(values.shape, bool)
    end = 0
    for other in recordings:
        rows = slice(end, end := end + other.n_trials)
        values[rows, : other.n_bins] = other.values
        mask[rows, : other.n_bins] = other.mask
    names = [name for name in first.trial_coords if all(name in other.trial_coords for other in recordings)]
    trials = {name: np.concatenate([other.trial_coords[name] for other in recordings]) for name in names}
    origin = np.concatenate([other.trial_origin for other in recordings])
    joined = first.with_contents(values, None if mask.all() else mask, origin, trial_coords=trials)
    if any(other.known_as is not None for other in recordings):
        each = [other.digests for other in recordings]
        whole = tuple(digest for digests in each for digest in digests.whole)
        joined.known_as = Digests(np.concatenate([digests.of_neurons for digests in each]), whole)
    return joined


def _unlike(number: int, other: Layout, first: Layout) -> str:
    """Say how a recording's layout differs from that of the first, and what makes them alike."""
    differ = f"recording {number} has {other}, the first one {first}"
    if replace(other, event=first.event, begin=first.begin) != first:
        conditions = "" if other.conditions == first.conditions else ", of other conditions or times"
        return f"{differ}{conditions}: make them alike, by select_neurons or among"
    if other.event == first.event:
        return f"{differ}: make both with the same window around {first.event}"
    aligned = first if first.event else other
    remedy = f"for trials that are, mrgp.with_event(recording, ({aligned.event!r}, {aligned.begin:g}))"
    return f"{differ}, and not all are aligned to one event: {remedy}, or for all, mrgp.with_event(recording, None)"


def _same_labels(one: MultiRegionData, other: MultiRegionData) -> bool:
    """True if neurons have the same labels, or none, in two recordings."""
    mine, theirs = one.neuron_coords, other.neuron_coords
    return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)

