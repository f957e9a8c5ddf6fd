"""One conversion from a fit to ArviZ, with named dimensions in the user's units."""

import json
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from arviz import from_dict

from mrgp.data import MultiRegionData

PARTS = ("delay_change",)  # sites that another one, in the user's units, is made of
DIMS = {
    "loadings": ["neuron", "column"],
    "noise": ["neuron"],
    "offset": ["neuron"],
    "alpha": ["region", "column"],
    "transition": ["latent_after", "across_latent"],
    "start_mean": ["across_latent"],
    "start_root": ["across_latent", "start_direction"],
}


def build(fit: Any, data: MultiRegionData, n_draws: int, seed: int) -> xr.DataTree:
    """The DataTree of :meth:`mrgp.fit.Fit.to_arviz`."""
    everything = fit.draws(n_draws, seed, data)
    model, dynamics = fit.model, fit.model.dynamics_sites(fit.layout)
    drawn = [name for name in dynamics if name not in fit.fixed]
    shown = [name for name in drawn if name not in PARTS] or list(fit.sites)
    draws = {name: everything[name] for name in shown}
    count = np.maximum(data.mask.sum(1), 1)

    @jax.jit
    def at_draws(draws: dict[str, Any], data: MultiRegionData, mask: Any, keys: Any) -> tuple[Any, Any]:
        def one(inputs: Any) -> tuple[Any, Any]:
            sites, key = inputs
            distribution = model.likelihood_at(data, sites)
            return distribution.log_prob(data.values), (distribution.sample(key) * mask).sum(1) / count

        return jax.lax.map(one, (draws, keys))

    keys = jax.random.split(jax.random.key(seed), n_draws)
    scores, replicas = at_draws(*jax.tree.map(jnp.asarray, (everything, data, data.mask)), keys)
    dims, coords, groups = {}, _coords(fit, data), {}
    groups["posterior"] = {name: np.asarray(value)[None] for name, value in draws.items()}
    if {"delay", *PARTS} & {*drawn, *draws}:
        groups["posterior"]["delay"] = fit.model.delay_table(everything, fit.layout, data.n_bins)[None]
        dims["delay"] = list(fit.delays.dims)
    for kind in ("across", "within"):
        dims |= {name: [f"{kind}_latent"] for name in fit.sites if name.endswith(f"_{kind}")}
    groups["log_likelihood"] = {"y": np.asarray(scores)[None]}
    dims["y"] = ["trial"]
    groups["posterior_predictive"] = {"trial_mean": np.asarray(replicas)[None]}
    mean = data.values.sum(1) / count  # missing entries are 0
    groups["observed_data"] = {"trial_mean": mean}
    dims["trial_mean"] = ["trial", "neuron"]
    groups["constant_data"] = {n: np.asarray(v) for n, v in fit.sites.items() if n not in (*draws, *PARTS)}
    dims |= DIMS
    tree = from_dict(groups, dims=dims, coords=coords)
    top = "maximum of the bound" if fit.method == "vb" else "maximum"
    about = f"Gaussian at the {top} over {', '.join(drawn)}, all else profiled out"
    if not drawn:
        warnings.warn(
            f"{type(model).__name__} has no delays or timescales to draw: its posterior repeats the parameters at the "
            "maximum, and arviz.loo finds all draws alike (without them it would be fit.log_likelihood().sum())",
            stacklevel=3,
        )
        about = f"the {top}, a point: its repetitions are no posterior"
    tree.attrs |= {
        "inference_method": f"{fit.method}: {about}",
        "versions": json.dumps(fit.versions),
        "units": "s, Hz, nats",
    }
    tree.attrs |= {
        "model": json.dumps(model.to_settings(), default=str),
        "converged": int(fit.converged),
        "seed": fit.seed,
    }
    return tree


def _coords(fit: Any, data: MultiRegionData) -> dict[str, Any]:
    labels = [f"{name}:{i}" for name, n in zip(fit.layout.regions, fit.layout.n_neurons, strict=True) for i in range(n)]
    return {
        "region": list(fit.populations),
        "across_latent": np.arange(fit.assignment.n_across),
        "within_latent": fit.within_names,
        "neuron": labels,
        "trial": np.arange(data.n_trials),
        "time": data.times,
        "column": np.arange(fit.assignment.n_columns),
    }
