"""Load and save recordings.

No file is trusted to run code, and none is left half-written.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from mrgp.recordings.arguments import names_of_regions, read_path
from mrgp.recordings.checks import DataError
from mrgp.recordings.datasets import from_dataset
from mrgp.recordings.readers import Npz, Reader
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.files import write_atomically
from mrgp.runtime.folders import holds
from mrgp.runtime.sentences import joined


def load_recording(
    path: str | Path | Mapping[str, Any],
    *,
    bin_width: float | str | None = None,
    regions: Sequence[str] | None = None,
    drop_dead: bool | None = False,
    **options: Any,
) -> MultiRegionData:
    """Load a recording from a file, by its suffix, from a folder or from a mapping.

    - ``.npz`` or a mapping: one array (trials, bins, neurons) per region and the scalar ``bin_width``; also
      ``times`` of irregular bins, and the 1-D labels ``neuron_<region>`` and ``trial_<name>`` that
      :func:`save_recording` writes. Large arrays of a file that is not compressed are mapped (see
      :class:`mrgp.recordings.readers.Npz`).
    - ``.npy``: one array (trials, bins, neurons), regions side by side, mapped where it is uint8, uint16 or float64;
      ``n_neurons`` are the neurons per region (see :class:`mrgp.recordings.readers.Npy`).
    - ``.nc``, a ``.zarr`` store (with zarr, which the extra ``mrgp[zarr]`` installs) or a Dataset of xarray: as
      :meth:`MultiRegionData.to_xarray` makes it, or one variable (trial, time, neuron) per region and the attribute
      ``bin_width``.
    - ``.mat`` of the DLAG, mDLAG and pCCA toolboxes, or arrays as in an ``.npz``: see
      :class:`mrgp.recordings.readers.Matlab`. ``n_neurons`` are the neurons per region, where it does not say it.
    - ``.nwb``: spikes of its units, counted in bins of ``bin_width``. ``region_of_unit``, ``trials``, ``align``,
      ``window``, and the choice of units, are as :func:`mrgp.load_nwb` has them.
    - A folder of ALF, as the International Brain Laboratory writes it: a session, or one of its probes; counted in the
      same way (see :class:`mrgp.recordings.readers.Alf`).
    - A folder of Kilosort or Phy, with ``trials``: counted in the same way (see :class:`mrgp.recordings.readers.Phy`).
    - Any other for which there is a reader of yours: see :class:`mrgp.Reader`.

    Args:
        path: the file or folder, a mapping of arrays, or a Dataset of xarray.
        bin_width: seconds per bin, or with their unit, "60 s"; goes before what the file says.
        regions: which regions, in this order; for ``.mat`` their names (default region1, region2, ...).
        drop_dead: leave out neurons that never change, with a warning that names them; None keeps them.
        options: of the file's reader, those above or its own; None is as if it were not given.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind, or holds no usable recording.
    """
    regions = None if regions is None else names_of_regions(regions)
    every: dict[str, Any] = {"bin_width": bin_width, "regions": regions, "drop_dead": drop_dead}
    asked = {name: value for name, value in options.items() if value is not None}
    if isinstance(path, xr.Dataset):
        _own(Npz, options, asked, "the dataset")
        own = path if regions is None else path.assign_attrs(regions=json.dumps(regions))
        return MultiRegionData(**from_dataset(own, bin_width), drop_dead=drop_dead)
    if isinstance(path, Mapping):
        return Npz(**every, **_own(Npz, options, asked, "the mapping")).recording(path, "the mapping")
    path = read_path(path)
    reader = Reader.of_path(path)
    if reader is None:
        raise DataError(_unknown(path))
    if not path.exists():
        raise DataError(f"there is no file {path}: check the path")
    if reader.counted and bin_width is None:
        needed = "pass bin_width, such as 0.02 for counts in bins of 20 ms"
        raise DataError(f"{path.name} holds {reader.counted}: {needed}")
    return reader(**every, **_own(reader, options, asked, path.name)).read(path)


def _unknown(path: Path) -> str:
    """Say of a path that has no reader what recordings are."""
    folders = {other.folder: other.marks[0] for other in Reader.members().values() if other.folder}
    holding = joined([f"{name} (which holds {mark})" for name, mark in folders.items()], "or")
    if path.is_dir():
        return f"{path} is a folder: give the file of one recording, or a folder of {holding}"
    if not path.suffix and not path.exists():
        return f"there is no file or folder {path}: check the path"
    known = f"{joined(Reader.by_suffix(), 'or')} files, or folders of {joined(folders, 'or')}"
    return f"{path.name} is of an unknown kind: recordings are {known}"


def _own(reader: type[Reader], options: Mapping[str, Any], asked: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Options that were asked for and are the reader's own.

    Raises:
        DataError: one is for files of another format.
        TypeError: no reader has it.
    """
    own = reader.own_options()
    strange = [name for name in options if name not in own]
    for other in Reader.members().values():
        theirs = [name for name in strange if name in other.own_options()]
        strange = [name for name in strange if name not in theirs]
        misplaced = ", ".join(name for name in theirs if name in asked and name not in other.told)
        if misplaced and other.counted and not reader.counted:
            raise DataError(f"{source} holds no {other.counted}, which {misplaced} would be for: leave it out")
        if misplaced:
            raise DataError(f"{misplaced} is for {joined(other.formats(), 'and')} files, not {source}: leave it out")
    if strange:
        raise TypeError(f"load_recording() got an unexpected keyword argument {strange[0]!r}")
    return {name: value for name, value in asked.items() if name in own}


def save_recording(data: MultiRegionData, path: str | Path) -> None:
    """Write a recording as ``.npz``, ``.nc``, ``.zarr``, or as another reader ``writes``.

    An existing file is replaced only once the new one is complete.

    Raises:
        DataError: unknown suffix.
        OSError: the folder cannot be written; the message names it.
    """
    path = read_path(path)
    known = {suffix: reader for suffix, reader in Reader.by_suffix().items() if reader.writes}
    if path.suffix not in known:
        raise DataError(f"cannot write {path.name}: give a path that ends in {joined(known, 'or')}")
    if path.is_dir() and not holds(path, known[path.suffix].marks):
        raise DataError(f"{path.name} is a folder of something else: give another path, or move it away")
    write_atomically(path, lambda file: known[path.suffix].write(data, file))
