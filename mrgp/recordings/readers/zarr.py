"""Reader of zarr stores, as :meth:`mrgp.MultiRegionData.to_xarray` describes a recording."""

import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mrgp.recordings.checks import DataError, damage_named, need
from mrgp.recordings.datasets import from_dataset, to_dataset
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.recording import MultiRegionData

FORMAT = 2  # of zarr, which all its versions read; text is no part of version 3
METADATA = (".zarray", ".zmetadata", "zarr.json")  # which say how arrays are encoded
PICKLE = "pickle"  # name of an encoding, which may be any of numcodecs'


@dataclass(frozen=True)
class Zarr(Reader):
    """One array (trial, time, neuron_<region>) per region, and the attribute ``bin_width``.

    Such a store is a folder. Needs zarr, which the extra ``mrgp[zarr]`` installs.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".zarr",)
    marks: ClassVar[tuple[str, ...]] = (".zgroup", "zarr.json")
    about: ClassVar[str] = "as mrgp.save_recording writes it, a folder (needs zarr)"
    writes: ClassVar[bool] = True

    def read(self, path: Path) -> MultiRegionData:
        import xarray as xr

        _refuse_pickles(path)
        need("zarr", f"reading {path.name}", "zarr")
        with damage_named(path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on stores whose metadata lie in many files
                dataset = xr.load_dataset(path, engine="zarr", chunks=None)
            dataset.attrs |= {} if self.regions is None else {"regions": json.dumps(list(self.regions))}
            return MultiRegionData(**from_dataset(dataset, self.bin_width), drop_dead=self.drop_dead)

    @classmethod
    def write(cls, data: MultiRegionData, path: Path) -> None:
        need("zarr", f"writing {path.name}", "zarr")
        arrays = {name: data.kept(name) for name in data.layout.regions}
        dataset = to_dataset(arrays, data.layout, data.neuron_coords, data.trial_coords)
        path.unlink(missing_ok=True)  # a file that holds the place of the folder
        try:
            dataset.to_zarr(path, zarr_format=FORMAT, consolidated=True)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise


def _refuse_pickles(path: Path) -> None:
    """Refuse a store with pickled arrays, which older versions of numcodecs decode unasked.

    Raises:
        DataError: its metadata name that encoding.
    """
    for folder, _, names in os.walk(path, followlinks=True):
        for name in set(names) & set(METADATA):
            try:
                metadata = json.loads((Path(folder) / name).read_bytes())
            except ValueError:
                continue  # damaged, which zarr says too
            if _names_pickle(metadata):
                what = f"an array of {path.name} is a pickled object, which could run code"
                raise DataError(f"{what}: save it as an array of numbers")


def _names_pickle(metadata: Any) -> bool:
    """True if some encoding in metadata is that of pickled objects."""
    if isinstance(metadata, list):
        return any(map(_names_pickle, metadata))
    if not isinstance(metadata, dict):
        return False
    named = (str(metadata.get(key, "")).rpartition(".")[2] for key in ("id", "name"))
    return PICKLE in named or any(map(_names_pickle, metadata.values()))
