"""Delayed Gaussian-process models of multi-region neural recordings, with honest uncertainty.

What is listed in ``__all__`` is imported when it is first asked for: JAX and ArviZ take seconds, and a question to the
command line should not wait for them.
"""

import importlib.util
import pkgutil
from typing import TYPE_CHECKING, Any

# Started from the repository root, the source folder would hide an installed `mrgp.models`: look in both.
__path__ = pkgutil.extend_path(__path__, __name__)

from mrgp import runtime  # noqa: F401  double precision, before any array exists

if TYPE_CHECKING:
    from mrgp import models  # type: ignore[attr-defined]  # lives in models/
    from mrgp import plots as plots
    from mrgp.aggregation import aggregate
    from mrgp.bootstrap import Bootstrap, bootstrap_delays
    from mrgp.checks import DataError
    from mrgp.compare import DelayComparison, Hypothesis, compare_delays
    from mrgp.crossval import cross_validate
    from mrgp.data import MultiRegionData
    from mrgp.delay_evidence import delay_table
    from mrgp.distributions import DenseGP, MarkovGP, SpectralGP
    from mrgp.evaluation import Evaluation, evaluate
    from mrgp.fetch import fetch_v1v2
    from mrgp.fit import Fit
    from mrgp.io import load_recording, save_recording
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
    from mrgp.layout import Layout
    from mrgp.loo import leave_one_out
    from mrgp.nwb import load_nwb
    from mrgp.preprocessing import preprocess, remove_mean, smooth_over_time, square_root, standardize
    from mrgp.rebuild import load_fit
    from mrgp.selection import Candidate, CrossValidation
    from mrgp.spikes import from_spike_times
    from mrgp.statespace.readout import Window
    from mrgp.symmetries import align_draws, relative_to
    from mrgp.tsgroup import from_pynapple
    from mrgp.workers import process_pool

__version__ = "0.1.0"

__all__ = [
    "Bootstrap",
    "Candidate",
    "CrossValidation",
    "DataError",
    "DelayComparison",
    "DenseGP",
    "Evaluation",
    "Fit",
    "Hypothesis",
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
    "aggregate",
    "align_draws",
    "bootstrap_delays",
    "compare_delays",
    "cross_validate",
    "delay_table",
    "evaluate",
    "fetch_v1v2",
    "from_pynapple",
    "from_spike_times",
    "leave_one_out",
    "load_fit",
    "load_nwb",
    "load_recording",
    "models",
    "preprocess",
    "process_pool",
    "relative_to",
    "remove_mean",
    "save_recording",
    "smooth_over_time",
    "square_root",
    "standardize",
]

_HOMES = {
    "aggregation": ["aggregate"],
    "bootstrap": ["Bootstrap", "bootstrap_delays"],
    "checks": ["DataError"],
    "compare": ["DelayComparison", "Hypothesis", "compare_delays"],
    "data": ["MultiRegionData"],
    "crossval": ["cross_validate"],
    "delay_evidence": ["delay_table"],
    "distributions": ["DenseGP", "MarkovGP", "SpectralGP"],
    "evaluation": ["Evaluation", "evaluate"],
    "fetch": ["fetch_v1v2"],
    "fit": ["Fit"],
    "io": ["load_recording", "save_recording"],
    "kernels": [
        "Kernel",
        "Matern12",
        "Matern32",
        "Matern52",
        "RationalQuadratic",
        "Spectral",
        "SquaredExponential",
        "Stretched",
        "Sum",
        "White",
    ],
    "layout": ["Layout"],
    "loo": ["leave_one_out"],
    "nwb": ["load_nwb"],
    "preprocessing": ["preprocess", "remove_mean", "smooth_over_time", "square_root", "standardize"],
    "rebuild": ["load_fit"],
    "spikes": ["from_spike_times"],
    "statespace.readout": ["Window"],
    "symmetries": ["align_draws", "relative_to"],
    "tsgroup": ["from_pynapple"],
    "selection": ["Candidate", "CrossValidation"],
    "workers": ["process_pool"],
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"mrgp.{_MODULES[name]}"), name)
    elif not name.startswith("_") and importlib.util.find_spec(f"mrgp.{name}") is not None:
        value = importlib.import_module(f"mrgp.{name}")
    else:
        raise AttributeError(f"module 'mrgp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
