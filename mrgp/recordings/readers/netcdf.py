"""Reader of NetCDF files, as :meth:`mrgp.MultiRegionData.to_xarray` describes a recording."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mrgp.recordings.checks import damage_named
from mrgp.recordings.datasets import from_dataset, to_dataset
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class NetCDF(Reader):
    """One variable (trial, time, neuron_<region>) per region, and the attribute ``bin_width``."""

    suffixes: ClassVar[tuple[str, ...]] = (".nc",)
    about: ClassVar[str] = "as `mrgp simulate` writes it"
    writes: ClassVar[bool] = True

    def read(self, path: Path) -> MultiRegionData:
        import h5py
        import xarray as xr

        with damage_named(path):
            if hdf5 := h5py.is_hdf5(path):
                with h5py.File(path) as file:  # of files that fail here, h5netcdf prints a traceback
                    file.attrs.get("_nc3_strict")
            dataset = xr.load_dataset(path, engine="h5netcdf" if hdf5 else "scipy")
            dataset.attrs |= {} if self.regions is None else {"regions": json.dumps(list(self.regions))}
            return MultiRegionData(**from_dataset(dataset, self.bin_width), drop_dead=self.drop_dead)

    @classmethod
    def write(cls, data: MultiRegionData, path: Path) -> None:
        # The list of coordinates in such a file is divided by spaces.
        spaced = [name for name in data.trial_coords if any(map(str.isspace, name))]
        arrays = {name: data.kept(name) for name in data.layout.regions}
        dataset = to_dataset(arrays, data.layout, data.neuron_coords, data.trial_coords)
        # In memory, then to the file: HDF5 ends the process where a disk is full.
        path.write_bytes(dataset.reset_coords(spaced).to_netcdf(engine="h5netcdf"))
