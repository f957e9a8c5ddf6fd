"""A reader of files: tables of text."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

import mrgp


@dataclass(frozen=True)
class Csv(mrgp.Reader):
    """A line per bin: the number of its trial, then its values under the names of their regions."""

    separator: str = ","

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def read(self, path):
        (_, *regions), *lines = (line.split(self.separator) for line in path.read_text().splitlines())
        (trial, *columns), regions = np.array(lines, float).T, np.array(regions)
        values = {name: np.array(columns)[regions == name].T for name in dict.fromkeys(regions.tolist())}
        trials = np.unique(trial)
        return self.recording({name: [own[trial == t] for t in trials] for name, own in values.items()}, path.name)


table = """trial;V1;V1;V2
0;1;2;3
0;4;5;6
1;7;8;9
1;0;1;2"""
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "session.csv"
    path.write_text(table)
    data = mrgp.load_recording(path, bin_width=0.02, separator=";")   # a field of the class is an option
np.testing.assert_array_equal(data.region("V1"), [[[1, 2], [4, 5]], [[7, 8], [0, 1]]])   # (trial, time, neuron)
