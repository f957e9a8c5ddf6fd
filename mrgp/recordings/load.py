"""Load and save recordings.

No file is trusted to run code, and none is left half-written.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from mrgp.recordings.checks import DataError, damage_named
from mrgp.recordings.readers.matlab import read_mat
from mrgp.recordings.readers.npz import read_npz, recording_from
from mrgp.recordings.readers.nwb import load_nwb
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.files import write_atomically


def load_recording(
    path: str | Path | Mapping[str, Any],
    *,
    bin_width: float | None = None,
    regions: Sequence[str] | None = None,
    n_neurons: Sequence[int] | None = None,
    region_of_unit: str | Sequence[str] | None = None,
    trials: str | None = None,
    align: str | None = None,
    window: tuple[float, float] | None = None,
    drop_dead: bool | None = False,
) -> MultiRegionData:
    """Load a recording from a file, by its suffix, or from a mapping.

    - ``.npz`` or a mapping: one array (trials, bins, neurons) per region and the scalar ``bin_width``; also
      the 1-D labels ``neuron_<region>`` and ``trial_<name>`` that :func:`save_recording` writes.
    - ``.nc``: as written from :meth:`MultiRegionData.to_xarray`.
    - ``.mat`` of the DLAG, mDLAG and pCCA toolboxes, any version: a struct array ``seqTrue``, ``seq``, ``seqTrain``
      or ``Ytrain`` with fields ``trialId``, ``T``, ``y`` (neurons x bins), ``binWidth`` in ms and ``yDims``, neurons
      per region, by themselves or in a struct such as ``trueParams``. Trials of ``seqTest`` or ``Ytest`` follow those
      of training, and the trial coordinate ``split`` tells which are which. Without such an array: arrays as in an
      ``.npz``, with ``bin_width`` in seconds or ``binWidth`` in ms.
    - ``.nwb``: spikes of its units, counted in bins of ``bin_width``: see :func:`mrgp.load_nwb`.

    Args:
        path: the file, or a mapping of arrays.
        bin_width: seconds per bin; goes before what the file says.
        regions: which regions, in this order; for ``.mat`` their names (default region1, region2, ...).
        n_neurons: neurons per region, for a ``.mat`` file that does not say it.
        region_of_unit, trials, align, window: for ``.nwb`` only, as :func:`mrgp.load_nwb` has them.
        drop_dead: leave out neurons that never change, with a warning that names them; None keeps them.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind, or holds no usable recording.
    """
    if isinstance(path, Mapping):
        return recording_from(path, "the mapping", bin_width, regions, drop_dead)
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path} is a folder: give the file of one recording")
    if suffix not in (".npz", ".nc", ".mat", ".nwb"):
        raise DataError(f"{path.name} is of an unknown kind: recordings are .npz, .nc, .mat or .nwb files")
    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path")
    counting = {"region_of_unit": region_of_unit, "trials": trials, "align": align, "window": window}
    counting = {name: value for name, value in counting.items() if value is not None}
    if suffix == ".nwb":
        if bin_width is None:
            raise DataError(f"{path.name} holds spike times: pass bin_width, such as 0.02 for counts in bins of 20 ms")
        return load_nwb(path, bin_width, regions=regions, drop_dead=drop_dead, **counting)  # type: ignore[arg-type]
    if counting:
        raise DataError(f"{path.name} holds no spike times, which {', '.join(counting)} would be for: leave it out")
    if suffix == ".npz":
        return recording_from(read_npz(path), path.name, bin_width, regions, drop_dead)
    if suffix == ".mat":
        arrays = read_mat(path, bin_width, regions, n_neurons)
        return recording_from(arrays, path.name, bin_width, regions, drop_dead)
    with damage_named(path):
        if hdf5 := h5py.is_hdf5(path):
            with h5py.File(path) as file:  # of files that fail here, h5netcdf prints a traceback
                file.attrs.get("_nc3_strict")
        dataset = xr.load_dataset(path, engine="h5netcdf" if hdf5 else "scipy")
        dataset.attrs |= {} if bin_width is None else {"bin_width": bin_width}
        dataset.attrs |= {} if regions is None else {"regions": json.dumps(list(regions))}
        return MultiRegionData.from_xarray(dataset, drop_dead=drop_dead)


def save_recording(data: MultiRegionData, path: str | Path) -> None:
    """Write a recording as ``.npz`` or ``.nc``.

    An existing file is replaced only once the new one is complete.

    Raises:
        DataError: unknown suffix.
        OSError: the folder cannot be written; the message names it.
    """
    path = Path(path)
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {name: data.region(name) for name in data.layout.regions}
        arrays |= {f"neuron_{name}": labels for name, labels in data.neuron_coords.items()}
        arrays |= {f"trial_{name}": values for name, values in data.trial_coords.items()}
        write_atomically(path, lambda file: np.savez_compressed(file, bin_width=data.bin_width, **arrays))
    elif path.suffix == ".nc":
        dataset = data.to_xarray()
        # The list of coordinates in such a file is divided by spaces.
        spaced = [name for name in data.trial_coords if any(map(str.isspace, name))]
        write_atomically(path, lambda file: dataset.reset_coords(spaced).to_netcdf(file, engine="h5netcdf"))
    else:
        raise DataError(f"cannot write {path.name}: give a path that ends in .npz or .nc")


