"""Reader of NumPy's archives, one array per region."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mrgp.recordings.checks import DataError, damage_named
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class Npz(Reader):
    """Arrays (trials, bins, neurons), one per region, and the scalar ``bin_width``.

    There may be the 1-D labels ``neuron_<region>`` and ``trial_<name>`` that :func:`mrgp.save_recording` writes.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".npz",)
    about: ClassVar[str] = (
        "one array (trials, bins, neurons) per region, by its name, and bin_width in seconds; NaN = missing"
    )
    writes: ClassVar[bool] = True

    def read(self, path: Path) -> MultiRegionData:
        return self.recording(_arrays(path), path.name)

    @classmethod
    def write(cls, data: MultiRegionData, path: Path) -> None:
        arrays: dict[str, Any] = {name: data.kept(name) for name in data.layout.regions}
        arrays |= {f"neuron_{name}": labels for name, labels in data.neuron_coords.items()}
        arrays |= {f"trial_{name}": values for name, values in data.trial_coords.items()}
        np.savez_compressed(path, bin_width=data.bin_width, **arrays)


def _arrays(path: Path) -> dict[str, np.ndarray]:
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
