"""Entry of a recording: what a user brings is read, checked, and laid side by side."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mrgp.recordings.arguments import named_by
from mrgp.recordings.arrays import arranged, check_index, read_region
from mrgp.recordings.checks import DataError, check_finite, check_living, living_neurons, tell_left_out
from mrgp.recordings.labels import Coords, check_names, labels_of, read_coords
from mrgp.recordings.layout import CONDITION, Layout
from mrgp.recordings.neurons import Neurons, all_of
from mrgp.recordings.storage import kept_dtype, side_by_side
from mrgp.recordings.times import read_event, read_times
from mrgp.recordings.units import read_bin_width
from mrgp.runtime.sentences import Argument

DROP_DEAD = Argument("drop_dead", True)


class Contents(NamedTuple):
    """Contents of a recording, checked.

    Attributes:
        layout: Regions, neuron counts, bin width.
        values: (trial, time, neuron), regions side by side, NaN where missing; in the dtype in which they are kept.
        neuron_coords: Region -> labels (neuron,).
        trial_coords: Name -> values (trial,).
        origin: Region -> where its neurons stood in the arrays that were brought.
    """

    layout: Layout
    values: np.ndarray
    neuron_coords: Coords
    trial_coords: Coords
    origin: dict[str, Neurons]


def read_contents(
    regions: Mapping[str, ArrayLike | Sequence[ArrayLike]],
    bin_width: float | str,
    neuron_coords: Mapping[str, ArrayLike] | None,
    trial_coords: Mapping[str, ArrayLike] | None,
    drop_dead: bool | None,
    dtype: DTypeLike | None,
    times: ArrayLike | None = None,
    event: tuple[str, float] | None = None,
) -> Contents:
    """Read the arguments of :class:`mrgp.MultiRegionData`.

    Raises:
        DataError: they make no recording; the message names region and neuron and says what mends it.
    """
    width = read_bin_width(bin_width)
    if not isinstance(regions, Mapping) or not regions:
        raise DataError("a recording needs at least one region: pass a mapping like {'V1': array}")
    neuron_coords = named_by("neuron_coords", neuron_coords, '{"V1": labels}, one label per neuron')
    trial_coords = named_by("trial_coords", trial_coords, '{"stimulus": labels}, one label per trial')
    check_names(list(regions), list(trial_coords))
    named = {name: arranged(f"region {name}", value) for name, value in regions.items()}
    check_index(named, width)
    arrays = {name: read_region(name, value) for name, value in named.items()}
    first, expected = next((name, array.shape) for name, array in arrays.items())
    for name, array in arrays.items():
        for what, size, wanted in zip(("trials", "bins"), array.shape, expected, strict=False):
            if size != wanted:
                raise DataError(
                    f"region {name} has {size} {what} but region {first} has {wanted}: "
                    f"cut both to the same {what}, or put NaN where one is missing"
                )
    stamps = () if times is None else read_times(times, expected[1], width)
    labels = read_coords("neuron", neuron_coords, {name: a.shape[2] for name, a in arrays.items()})
    trials = read_coords("trial", trial_coords, dict.fromkeys(trial_coords, expected[0]))
    origin = {name: all_of(array.shape[2]) for name, array in arrays.items()}
    for name, array in arrays.items():
        own = origin[name].labelled(labels.get(name))
        check_finite(name, array, own)
        if drop_dead is None or (alive := living_neurons(array)).all():
            continue
        if not drop_dead:
            check_living(name, array, own, alive, "remove it, or pass ", DROP_DEAD, " to leave such neurons out")
        tell_left_out(name, own, alive)
        arrays[name], origin[name] = array[:, :, alive], origin[name].only(np.flatnonzero(alive))
        labels.update({name: labels[name][alive]} if name in labels else {})
    kinds = tuple(sorted(set(labels_of(trials.get(CONDITION, ())))))
    counts = tuple(array.shape[2] for array in arrays.values())
    layout = Layout(tuple(arrays), counts, width, kinds, stamps, *read_event(event, not stamps))
    return Contents(layout, side_by_side(arrays, kept_dtype(arrays, dtype)), labels, trials, origin)
