"""Reader of NumPy's archives, one array per region."""

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mrgp.recordings.checks import DataError, damage_named
from mrgp.recordings.layout import BEGIN, EVENT
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.readers.mapping import mapped
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.units import unmistaken

LARGE = 2**26  # bytes of an array that is mapped where its file allows it, or written so that it can be
LOCAL_HEADER = struct.Struct("<26xHH")  # of an archive's member: lengths of its name and of what is extra


@dataclass(frozen=True)
class Npz(Reader):
    """Arrays (trials, bins, neurons), one per region, and the scalar ``bin_width``.

    There may be ``times``, the start of each bin in seconds where bins do not follow each other, and the 1-D labels
    ``neuron_<region>`` and ``trial_<name>`` that :func:`mrgp.save_recording` writes. Large arrays that are not
    compressed are mapped: a single region stays in the file until it is needed, several are copied side by side once.
    So are large recordings written.
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
        arrays |= {} if data.layout.is_regular else {"times": data.times}
        arrays |= {EVENT: data.layout.event, BEGIN: data.layout.begin} if data.layout.event else {}
        save = np.savez if data.values.nbytes > LARGE else np.savez_compressed
        save(path, bin_width=unmistaken(data.bin_width), **arrays)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file, none of which may be a pickled object."""
    arrays = {}
    # Opened here because np.load leaves a damaged file open.
    with damage_named(path), path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        members = {member.filename: member for member in file.zip.infolist()}
        for name in file.files:
            try:
                large = _mapped(path, members.get(f"{name}.npy"), f"array {name!r} of {path.name}")
                arrays[name] = file[name] if large is None else large
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                what = f"array {name!r} of {path.name} is a pickled object"
                raise DataError(f"{what}, which could run code: save it as an array of numbers") from error
    return arrays


def _mapped(path: Path, member: zipfile.ZipInfo | None, what: str) -> np.ndarray | None:
    """Map the array of an archive's member; None if it is small, or cannot be mapped.

    What is mapped is not compared with its checksum.
    """
    if member is None or member.file_size < LARGE or member.compress_type != zipfile.ZIP_STORED:
        return None
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        begin = stream.seek(sum(LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))), 1)
        array = mapped(path, stream, what)
        if stream.tell() - begin + array.nbytes != member.file_size:
            raise ValueError(f"{what} is not as long as it says")
    return array
