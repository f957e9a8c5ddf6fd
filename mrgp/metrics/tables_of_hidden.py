"""Tables of hidden neurons: how a prediction of them is written, and how it is scored."""

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.times import require_same_times


def hidden_neurons(data: MultiRegionData) -> Bool[np.ndarray, "neuron"]:
    """True for neurons of which nothing is recorded in these trials, (neuron,)."""
    return ~data.mask.any((0, 1))


def entries_to_score(seen: MultiRegionData, given: MultiRegionData) -> Bool[np.ndarray, "trial time neuron"]:
    """True for entries that ``seen`` has of neurons that ``given`` hides."""
    return seen.mask & hidden_neurons(given)


def require_neurons(name: str, layout: Layout, data: MultiRegionData) -> None:
    """Raise DataError if the recording has other neurons or times than a baseline.

    What trials are trials of concerns the model of a mean, and not which neurons there are.
    """
    if not data.layout.same_neurons(layout):
        raise DataError(f"the recording has {data.layout}, but {name} is of {layout}")
    other = f"the recording has bins at other times than {name} is of: score one with the same times"
    require_same_times(data, layout, other)


def prediction(
    data: MultiRegionData, mean: Float[np.ndarray, "trial time neuron"], sd: Float[np.ndarray, "trial time neuron"]
) -> xr.Dataset:
    """``<region>_mean`` and ``<region>_sd``, (trial, time, neuron_<region>)."""
    arrays = {}
    for region, part in data.layout.region_slices.items():
        dims = ("trial", "time", f"neuron_{region}")
        arrays[f"{region}_mean"] = (dims, mean[..., part])
        arrays[f"{region}_sd"] = (dims, sd[..., part])
    return xr.Dataset(arrays, {"trial": np.arange(data.n_trials), "time": data.times})


def of_trials(
    density: Float[np.ndarray, "trial time neuron"], scored: Bool[np.ndarray, "trial time neuron"]
) -> xr.DataArray:
    """Sum of log-densities over the entries scored, in nats, (trial,)."""
    total = np.where(scored, density, 0.0).sum((1, 2))
    return xr.DataArray(total, {"trial": np.arange(len(total))}, ("trial",), "log_predictive", {"units": "nats"})
