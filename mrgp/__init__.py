"""Delayed Gaussian-process models of multi-region neural recordings, with honest uncertainty."""

import pkgutil

# Started from the repository root, the source folder would hide an installed `mrgp.models`: look in both.
__path__ = pkgutil.extend_path(__path__, __name__)

from mrgp import runtime  # noqa: F401, I001  double precision, before any array exists
from mrgp.checks import DataError
from mrgp.data import Layout, MultiRegionData
from mrgp.distributions import DenseGP, MarkovGP, SpectralGP
from mrgp.fit import Fit
from mrgp.io import fetch_v1v2, load_recording, save_recording
from mrgp.kernels import (
    Kernel,
    Matern12,
    Matern32,
    Matern52,
    RationalQuadratic,
    Spectral,
    SquaredExponential,
    Stretched,
    Sum,
    White,
)
from mrgp.preset import load_fit
from mrgp.statespace.readout import Window
from mrgp import models  # type: ignore[attr-defined]  # lives in models/; every preset is known by name once mrgp is imported

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "DenseGP",
    "Fit",
    "Kernel",
    "Layout",
    "MarkovGP",
    "Matern12",
    "Matern32",
    "Matern52",
    "MultiRegionData",
    "RationalQuadratic",
    "Spectral",
    "SpectralGP",
    "SquaredExponential",
    "Stretched",
    "Sum",
    "White",
    "Window",
    "fetch_v1v2",
    "load_fit",
    "load_recording",
    "models",
    "save_recording",
]
