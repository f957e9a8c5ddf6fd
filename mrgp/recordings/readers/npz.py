"""Reader of recordings in .npz files and in mappings of arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrgp.recordings.checks import DataError, damage_named
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file, none of which may be a pickled object."""
    arrays = {}
    # Opened here because np.load leaves a damaged file open.
    with damage_named(path), path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        for name in file.files:
            try:
                arrays[name] = file[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                what = f"array {name!r} of {path.name} is a pickled object"
                raise DataError(f"{what}, which could run code: save it as an array of numbers") from error
    return arrays


def recording_from(
    arrays: Mapping[str, Any],
    source: str,
    bin_width: float | None,
    regions: Sequence[str] | None,
    drop_dead: bool | None,
) -> MultiRegionData:
    """Make a recording from named arrays.

    Each name must be understood, so that no slip passes in silence.
    """
    found, labels, trials = {}, {}, {}
    for name, value in arrays.items():
        n_dims = 3 if isinstance(value, list | tuple) else np.ndim(value)  # lists: trials of different length
        kind, _, rest = str(name).partition("_")
        if name == "bin_width":
            bin_width = value if bin_width is None else bin_width
        elif n_dims == 3:
            found[name] = value
        elif n_dims == 1 and kind == "neuron" and rest in arrays:
            labels[rest] = value
        elif n_dims == 1 and kind == "trial":
            trials[rest] = value
        else:
            what = f"array {name!r} of {source} has {n_dims} dimension(s)"
            raise DataError(f"{what}: make it (trials, bins, neurons), one per region, or leave it out")
    if bin_width is None:
        remedy = Argument("bin_width", 0.02)
        raise DataError(f"{source} has no bin_width: add it (seconds per bin), or pass ", remedy, " for 20 ms")
    names = list(found if regions is None else regions)
    for name in names:
        if name not in found:
            raise DataError(f"{source} has no region {name!r}: choose from {', '.join(map(str, found)) or 'none'}")
    if len(set(names)) < len(names):
        raise DataError(Argument("regions"), f" names {max(names, key=names.count)} twice: name each once")
    labels = {name: labels[name] for name in names if name in labels}
    chosen = {name: found[name] for name in names}
    return MultiRegionData(chosen, bin_width, neuron_coords=labels, trial_coords=trials, drop_dead=drop_dead)
