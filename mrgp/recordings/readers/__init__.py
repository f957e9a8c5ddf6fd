"""Readers of recordings, one file for each format; :class:`Reader` says how one is written.

The members here are known by the suffixes of their files, or by what their folders hold.
"""
# ruff: noqa: I001  in the order in which messages and the help name them

from mrgp.recordings.readers.base import Reader
from mrgp.recordings.readers.npz import Npz
from mrgp.recordings.readers.npy import Npy
from mrgp.recordings.readers.netcdf import NetCDF
from mrgp.recordings.readers.zarr import Zarr
from mrgp.recordings.readers.matlab import Matlab
from mrgp.recordings.readers.nwb import Nwb
from mrgp.recordings.readers.phy import Phy
from mrgp.recordings.readers.alf import Alf

__all__ = ["Alf", "Matlab", "NetCDF", "Npy", "Npz", "Nwb", "Phy", "Reader", "Zarr"]
