"""Conversion of a fit with a guide to ArviZ: draws of every trial's latents."""

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from arviz import from_dict

from mrgp.parts.sites import site_of
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.amortised_conditional import why_no_density
from mrgp.results.arviz import attributes

if TYPE_CHECKING:
    from mrgp.results.fit import Fit

DRAWS = 100  # where nothing else is asked for
ABOUT = "draws of the latents from the guide, all else at one value"
WHY_NOT = (
    "not attached: log p(y) of a trial is bounded, draw by draw it is no likelihood: score held-out trials by "
    "mrgp.cross_validate"
)


def build(fit: "Fit", data: MultiRegionData, n_draws: int | None, seed: int, latents: bool) -> xr.DataTree:
    """Build the DataTree of :meth:`mrgp.results.fit.Fit.to_arviz`."""
    given: Any = fit.conditional(data)  # of a guide, from which latents can be drawn
    layout = fit.layout
    count = np.maximum(data.mask.sum(1), 1)
    drawn, replicas = given.draws(n_draws or DRAWS, seed, data.mask / count[:, None])
    constants = {name: np.asarray(value) for name, value in fit.sites.items()}
    is_read = fit.model.is_autoencoder
    axis = "latent" if is_read else fit.latent_axis
    groups: dict[str, Any] = {
        **({} if is_read else {"posterior": {"latents": drawn[None]}}),
        "posterior_predictive": {"trial_mean": replicas[None]},
        "observed_data": {"trial_mean": data.values.sum(1, dtype=float) / count},  # missing entries are 0
        "constant_data": constants | ({"latents": drawn[0]} if is_read else {}),
    }
    coords = {
        "trial": np.arange(data.n_trials),
        "time": data.times,
        axis: np.arange(drawn.shape[-1]),
        "neuron": [f"{name}:{i}" for name, n in zip(layout.regions, layout.n_neurons, strict=True) for i in range(n)],
    }
    named = {name: list(site.dims) for name in fit.sites if (site := site_of(name)) is not None}
    dims = named | {"latents": ["trial", "time", axis], "trial_mean": ["trial", "neuron"]}
    tree = from_dict(groups, dims=dims, coords=coords)
    if latents:
        tree["latents"] = xr.DataTree(fit.latents(data))
    about = "draws of values given the latents that were read" if is_read else ABOUT
    why_not = f"not attached: {why_no_density(type(fit.model).__name__)}" if is_read else WHY_NOT
    tree.attrs |= attributes(fit, about) | {"log_likelihood": why_not}
    return tree
