"""Reader of files of one array by NumPy, which are mapped into memory and not read whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from mrgp.recordings.arguments import counts_of_neurons
from mrgp.recordings.checks import DataError, damage_named
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.readers.mapping import mapped
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument

PER_REGION = "per region, for a .npy file, or a .mat file that does not say it"


@dataclass(frozen=True)
class Npy(Reader):
    """One array (trials, bins, neurons), in which several regions stand side by side.

    Values of dtype uint8 or uint16, and numbers in double precision of which none is missing, stay in the file until
    they are needed: a recording of it takes no memory of its own. Of any other dtype the recording is a copy.

    Args:
        regions: Names of all regions (default region1, region2, ...).
        n_neurons: Neurons per region; None where there is one region.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    about: ClassVar[str] = "one array (trials, bins, neurons), regions side by side, with --bin-width; mapped, not read"
    told: ClassVar[tuple[str, ...]] = ("n_neurons",)

    n_neurons: Sequence[int] | None = Reader.option(PER_REGION, "N,N")

    def read(self, path: Path) -> MultiRegionData:
        with damage_named(path), path.open("rb") as stream:
            array = mapped(path, stream, path.name)
        if array.ndim != 3:
            raise DataError(f"the array of {path.name} is {array.shape}: make it (trials, bins, neurons)")
        counts = [array.shape[2]] if self.n_neurons is None else counts_of_neurons(self.n_neurons)
        if sum(counts) != array.shape[2] or min(counts) < 1:
            wrong = f"{path.name} has {array.shape[2]} neurons, not {' + '.join(map(str, counts))}"
            remedy = Argument("n_neurons", ("N", "N", "..."), python="n_neurons=(n1, n2, ...)")
            raise DataError(f"{wrong}: give those per region by ", remedy)
        names = list(self.regions or (f"region{r + 1}" for r in range(len(counts))))
        if len(names) != len(counts):
            named = Argument("regions", python="regions=")
            raise DataError(f"{path.name} has {len(counts)} regions, ", named, f" names {len(names)}: name each")
        ends = np.cumsum(counts)
        parts = {name: array[:, :, end - n : end] for name, n, end in zip(names, counts, ends, strict=True)}
        return self.recording(parts, path.name)
