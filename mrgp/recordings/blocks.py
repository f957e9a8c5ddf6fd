"""Blocks into which long trials are cut: for folds, where there are few trials, or one."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import START
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.times import require_regular
from mrgp.recordings.units import positive_seconds
from mrgp.runtime.sentences import Argument

SHORTEST = 2  # bins: a step is the least that says something of dynamics


def in_blocks(data: MultiRegionData, duration: float) -> MultiRegionData:
    """Cut every trial into blocks of about so many seconds, which follow each other.

    Blocks of a trial differ by at most one bin, and every bin is in one of them. Those in which nothing was observed
    are left out. Trials have the coordinates of the one that they were cut from, but ``start_time`` is their own; they
    are not aligned to its event, unless none was cut.

    Raises:
        ValueError: the duration is no positive number of seconds.
        DataError: a block would have less than two bins, or bins are at irregular times.
    """
    require_regular(data.layout, "a recording in blocks")
    bins = round(positive_seconds("block", duration) / data.bin_width)
    if bins < SHORTEST:
        few = f" is {duration:g} s, less than {SHORTEST} bins of {1e3 * data.bin_width:g} ms: raise it"
        raise DataError(Argument("block"), few)
    ends = np.full(data.n_trials, data.n_bins) if data.length is None else np.asarray(data.length)
    pieces = []
    for trial, end in enumerate(ends.tolist()):
        edges = np.linspace(0, end, max(1, round(end / bins)) + 1).round().astype(int)
        pieces += [(trial, first, last) for first, last in pairwise(edges.tolist())]
    mask = np.asarray(data.mask)
    pieces = [(trial, first, last) for trial, first, last in pieces if mask[trial, first:last].any()]
    shape = len(pieces), max(last - first for _, first, last in pieces), data.layout.total_neurons
    values, seen = np.zeros(shape, data.values.dtype), np.zeros(shape, bool)
    for place, (trial, first, last) in enumerate(pieces):
        values[place, : last - first] = data.values[trial, first:last]
        seen[place, : last - first] = mask[trial, first:last]
    whole = np.array([trial for trial, _, _ in pieces])
    coords: dict[str, Any] = {name: own[whole] for name, own in data.trial_coords.items()}
    if START in coords and coords[START].dtype.kind in "fiu":
        coords[START] = coords[START] + data.bin_width * np.array([first for _, first, _ in pieces])
    layout = replace(data.layout, event="", begin=0.0) if any(first for _, first, _ in pieces) else data.layout
    holes = None if seen.all() else seen
    cut = data.with_contents(values, holes, data.trial_origin[whole], trial_coords=coords, layout=layout)
    cut.batch_size = data.batch_size
    return cut
