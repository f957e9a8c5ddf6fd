"""Conversion of a fit to ArviZ, with named dimensions in the user's units."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from arviz import from_dict
from jax import Array
from numpyro import handlers
from numpyro.infer import Predictive

from mrgp.inference.run import Model
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.delays.varying import DELAY_CHANGE
from mrgp.parts.loadings import RELEVANCE
from mrgp.parts.sites import site_of
from mrgp.recordings.checks import warn
from mrgp.recordings.recording import MultiRegionData

if TYPE_CHECKING:
    from mrgp.results.fit import Fit
    from mrgp.results.gaussian_process_fit import GaussianProcessFit

GAUSSIAN_DRAWS = 100  # of a fit without draws of its own
MOST_DRAWS = 1000  # of a fit with them: each costs one likelihood
PARTS = (DELAY_CHANGE.name,)  # sites that another one, in the user's units, is made of


def build(
    fit: "GaussianProcessFit", data: MultiRegionData, n_draws: int | None, seed: int, latents: bool
) -> xr.DataTree:
    """Build the DataTree of :meth:`mrgp.results.fit.Fit.to_arviz`."""
    model, layout = fit.model, fit.layout
    n_chains, n_draws = _sizes(fit, n_draws)
    everything = fit.draws(n_chains * n_draws, seed, data)
    drawn = list(fit.uncertain_sites) if fit.samples is None else sorted(fit.samples)
    shown = [name for name in drawn if name not in PARTS]
    asked = (shown or list(fit.sites)) if not drawn else shown
    prior = _prior(fit, data, [*asked, *(name for name in PARTS if name in fit.sites)], n_draws, seed)
    dims = {name: list(site.dims) for name in fit.sites if (site := site_of(name)) is not None}
    tables = [{name: draws[name] for name in names} for draws, names in ((everything, shown), (prior, asked))]
    if {DELAY.name, *PARTS} & {*drawn, *asked}:
        for table, draws in zip(tables[not drawn :], (everything, prior)[not drawn :], strict=True):
            table[DELAY.name] = model.tables.delays({**everything, **draws}, layout, data.n_bins)
        dims[DELAY.name] = [str(dim) for dim in fit.delays.dims]
    count = np.maximum(data.mask.sum(1), 1)
    by_chain: dict[str, Any] = {}
    if drawn:
        keys = jax.random.split(jax.random.key(seed), n_chains * n_draws)
        arrays = {name: jnp.asarray(value) for name, value in everything.items()}
        by_chain["posterior"] = tables[0]
        by_chain["posterior_predictive"] = {
            "trial_mean": _replicas(model, data, arrays, data.mask / count[:, None], keys)
        }
    else:
        warn(
            f"{type(model).__name__} has no delays or timescales to draw: its tree has no posterior, and its "
            "parameters are in constant_data"
        )
    lacking = why_no_log_likelihood(fit)
    if lacking is None:
        by_chain["log_likelihood"] = {"y": trial_scores(model, data, arrays)}
    groups: dict[str, Any] = {
        group: {name: np.reshape(value, (n_chains, n_draws, *np.shape(value)[1:])) for name, value in table.items()}
        for group, table in by_chain.items()
    }
    groups["prior"] = {name: np.asarray(value)[None] for name, value in tables[1].items()}
    groups["observed_data"] = {"trial_mean": data.values.sum(1, dtype=float) / count}  # missing entries are 0
    groups["constant_data"] = {n: np.asarray(v) for n, v in fit.sites.items() if n not in (*shown, *PARTS)}
    if fit.sample_stats:
        chosen = np.linspace(0, fit.n_samples - 1, n_chains * n_draws).round().astype(int)
        groups["sample_stats"] = {n: v.ravel()[chosen].reshape(n_chains, -1) for n, v in fit.sample_stats.items()}
    dims |= {"y": ["trial"], "trial_mean": ["trial", "neuron"]}
    tree = from_dict(groups, dims=dims, coords=_coords(fit, data))
    for group in {"posterior", "prior"} & set(tree.children):
        # The first region's delay is 0 by definition: nothing that was drawn.
        if DELAY.name in tree[group] and RELEVANCE.name not in tree[group]:
            table = tree[group].to_dataset()
            later, others = table[[DELAY.name]].isel(region=slice(1, None)), table.drop_vars(DELAY.name)
            if any("region" in other.dims for other in others.data_vars.values()):
                later = later.rename(region="later_region")
            else:
                others = others.drop_dims("region", errors="ignore")
            tree[group] = xr.DataTree(later.merge(others))
    if latents:
        tree["latents"] = xr.DataTree(fit.latents(data))
    tree.attrs |= attributes(fit, _about(fit, drawn))
    if lacking is not None:
        tree.attrs["log_likelihood"] = f"not attached: {lacking}"
    return tree


def attributes(fit: "Fit", about: str) -> dict[str, Any]:
    """Attributes of a fit's tree; ``about`` says what is in its posterior."""
    return {
        "inference_method": f"{fit.method}: {about}",
        "versions": json.dumps(fit.versions),
        "units": "s, Hz, nats",
        "model": json.dumps(fit.model.to_settings(), default=str),
        "converged": int(fit.converged),
        "seed": fit.seed,
    }


def why_no_log_likelihood(fit: "GaussianProcessFit") -> str | None:
    """Explain why draws are not of the whole posterior, and what to do; None if they are.

    Leave-one-out from draws of a few sites, all others at their best values, would not see what those gained by having
    seen a trial.
    """
    if fit.samples is not None and not fit.undrawn_sites:
        return None
    if not fit.uncertain_sites:
        return "there are no delays or timescales to draw: score held-out trials by mrgp.cross_validate"
    names = ", ".join(name for name in fit.undrawn_sites if fit.samples is not None or name not in fit.uncertain_sites)
    return f"method {fit.method!r} has not drawn {names or 'anything'}: {fit.method_class.draws_all}"


def _sizes(fit: "GaussianProcessFit", n_draws: int | None) -> tuple[int, int]:
    """Number of chains, and of draws in each."""
    if fit.samples is None:
        return 1, n_draws or GAUSSIAN_DRAWS
    n_chains, length = next(iter(fit.samples.values())).shape[:2]
    return n_chains, min(length, max((n_draws or MOST_DRAWS) // n_chains, 1))


def _about(fit: "GaussianProcessFit", drawn: Sequence[str]) -> str:
    top = "maximum of the bound" if fit.climbs.is_bound else "maximum"
    if not drawn:
        return f"the {top}, a point and no posterior"
    if fit.samples is not None:
        return f"draws of {', '.join(drawn)}"
    return f"Gaussian at the {top} over {', '.join(drawn)}, all else profiled out"


def _prior(
    fit: "GaussianProcessFit", data: MultiRegionData, names: Sequence[str], n_draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws of sites from the prior, (draw, ...) each."""
    known = {name: jnp.asarray(fit.sites[name]) for name in (*fit.fixed, *fit.model.held)}
    predictive = Predictive(handlers.condition(fit.model, data=known), num_samples=n_draws, return_sites=list(names))
    return {name: np.asarray(value) for name, value in predictive(jax.random.key(seed), data).items()}


@dataclass(frozen=True)
class TrialScores:
    """log p(y_trial | sites) of a model in nats, (trial,).

    Equal ones share a compiled function.
    """

    model: Model

    def __call__(self, data: MultiRegionData, sites: Mapping[str, Any]) -> Array:
        return self.model.likelihood_at(data, sites).log_prob(data.values)


def trial_scores(model: Model, data: MultiRegionData, draws: Mapping[str, Any]) -> np.ndarray:
    """log p(y_trial | draw) in nats for draws of all sites, (draw, trial)."""
    arrays = {name: jnp.asarray(value) for name, value in draws.items()}
    return np.asarray(_over_draws(TrialScores(model), data, arrays))


@partial(jax.jit, static_argnums=0)
def _over_draws(scores: TrialScores, data: MultiRegionData, draws: dict[str, Any]) -> Any:
    return jax.lax.map(partial(scores, data), draws)


@partial(jax.jit, static_argnums=0)
def _replicas(model: Model, data: MultiRegionData, draws: dict[str, Any], weights: Any, keys: Any) -> Any:
    """Draw a recording at every draw; return the mean of each trial, (draw, trial, neuron).

    ``weights`` (trial, time, neuron) average over the observed bins.
    """

    def one(inputs: Any) -> Any:
        sites, key = inputs
        return (model.likelihood_at(data, sites).sample(key) * weights).sum(1)

    return jax.lax.map(one, (draws, keys))


def _coords(fit: "GaussianProcessFit", data: MultiRegionData) -> dict[str, Any]:
    labels = [f"{name}:{i}" for name, n in zip(fit.layout.regions, fit.layout.n_neurons, strict=True) for i in range(n)]
    return {
        "region": list(fit.populations),
        "across_latent": np.arange(fit.assignment.n_across),
        "within_latent": fit.within_names,
        "neuron": labels,
        "condition": list(fit.layout.conditions or ("all",)),
        "trial": np.arange(data.n_trials),
        "time": data.times,
        "column": np.arange(fit.assignment.n_columns),
    }
