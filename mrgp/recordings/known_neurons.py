"""Selection of the neurons of a recording that a fit knows."""

from collections.abc import Mapping

import numpy as np

from mrgp.recordings.checks import DataError, neurons_named, warn
from mrgp.recordings.layout import Layout
from mrgp.recordings.neurons import Neurons
from mrgp.recordings.recording import MultiRegionData

KEEP = "load it with drop_dead=None, which keeps neurons that are silent there"
LACKING = "give one that has it, or fit again without it"


def known_neurons(layout: Layout, neurons: Mapping[str, Neurons], data: MultiRegionData) -> MultiRegionData:
    """Select the neurons of ``data`` that a fit with this layout and these neurons knows.

    This is the result of :meth:`mrgp.results.fit.Fit.known`.
    """
    counts = dict(zip(layout.regions, layout.n_neurons, strict=True))
    if absent := [name for name in counts if name not in data.layout.regions]:
        have = ", ".join(data.layout.regions)
        raise DataError(f"the recording has no region {absent[0]}, which the fit knows: it has {have}")
    chosen: dict[str, list[int]] = {}
    left_out = []
    for name, theirs in data.neurons.items():
        count = len(theirs.positions)
        place = _places(name, neurons.get(name), theirs) if name in counts else []
        if place is None or place == list(range(count)):
            continue
        chosen[name] = place
        if unknown := np.setdiff1d(np.arange(count), place).tolist():
            left_out.append(neurons_named(name, np.array(unknown), theirs) if name in counts else f"region {name}")
    if left_out:
        warn(f"left out, as the fit does not know it: {'; '.join(left_out)}")
    return data.select_neurons(chosen) if chosen else data


def _places(region: str, mine: Neurons | None, theirs: Neurons) -> list[int] | None:
    """Places of the fit's neurons of a region among those of a recording.

    None where only their number can be compared.
    """
    if mine is None or not mine.comparable(theirs):
        return None
    places = mine.among(theirs)
    if None in places:
        which = neurons_named(region, np.array([places.index(None)]), mine)
        # Of neurons that were left out the labels are gone: more than those cannot have been there.
        maybe_silent = not mine.told_by_label(theirs) or places.count(None) <= theirs.n_left_out
        missing = f"{which}, which the fit knows, is not in the recording: "
        raise DataError(missing, KEEP if maybe_silent else LACKING)
    return [place for place in places if place is not None]
