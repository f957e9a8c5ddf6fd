"""Reader of zarr stores, as :meth:`mrgp.MultiRegionData.to_xarray` describes a recording."""

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mrgp.recordings.checks import damage_named, need
from mrgp.recordings.datasets import from_dataset, to_dataset
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.recording import MultiRegionData

FORMAT = 2  # of zarr, which all its versions read; text is no part of version 3


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
        dataset = to_dataset(arrays, data.times, data.bin_width, data.neuron_coords, data.trial_coords)
        path.unlink(missing_ok=True)  # a file that holds the place of the folder
        try:
            dataset.to_zarr(path, zarr_format=FORMAT, consolidated=True)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
