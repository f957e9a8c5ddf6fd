"""How well delays and kernel parameters are known: a Gaussian at the maximum, its intervals and its draws.

It lives in the unconstrained coordinates of the sites that were inferred, everything else profiled out (see
``inference.curvature``). These functions are methods of :class:`mrgp.fit.Fit`, which documents them.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.stats import norm

from mrgp.data import MultiRegionData, stand_in
from mrgp.inference.bound import Bound, Setting
from mrgp.inference.curvature import Curvature, profile_curvature
from mrgp.inference.map import LogJoint, Objective, transforms_of
from mrgp.statespace.reduce import VANISHED, shared_variance

UNIFORM_PRECISION = 3 / np.pi**2  # of a delay's unconstrained coordinate where nothing is known of it: a logistic


def curvature_at(fit: Any, data: MultiRegionData, progress: bool) -> Curvature:
    """Of log p(y, parameters), or of the bound with the means of loadings, noise and offsets profiled out."""
    scale, names = fit.model.scales(data, fit.sites), fit.uncertain_sites
    frozen = tuple(sorted({*fit.fixed, *fit.model.held}))
    if fit.loadings_covariance is None:
        return profile_curvature(Objective(LogJoint(fit.model), data, fit.sites, scale, frozen), names, progress)
    setting = Setting.of(data, fit.sites["loadings"], fit.loadings_covariance)
    objective = Objective(Bound(fit.model), setting, fit.sites, scale, frozen)
    share = shared_variance(fit.assignment, fit.sites["loadings"], fit.loadings_covariance)
    # Loadings that have vanished do not follow delays.
    unread = (share < VANISHED)[fit.assignment.region_of_neuron] | ~fit.assignment.used
    return profile_curvature(objective, names, progress, {"loadings": unread}, {"delay": UNIFORM_PRECISION})


def delay_intervals(
    fit: Any, curvature: Curvature, probability: float, over_time: bool, reference: str
) -> xr.Dataset:
    """The Dataset of :meth:`mrgp.fit.Fit.delay_intervals`."""
    widths = np.sqrt(np.diag(curvature.covariance))
    steps = np.concatenate([np.zeros((1, len(widths))), np.diag(1e-4 * widths), np.diag(-1e-4 * widths)])
    moved = {**fit.sites, **sites_from(fit, curvature, curvature.mean + steps)}
    tables = fit.model.delay_table(moved, fit.layout, fit.n_bins)
    tables = np.broadcast_to(tables, (len(steps), *fit.delays.shape))
    shown = fit.delays
    if over_time and fit.delays_vary:
        tables, shown = tables.mean(-1), shown.mean("time")
    bound = max(fit.model.delay_bound(fit.layout), 1e-12)
    widest = bound / np.sqrt(3)  # sd of the prior
    if place := fit.populations.index(reference):
        tables = tables - tables[:, [place]]
        bound, widest = 2 * bound, np.sqrt(2) * widest
    ups, downs = np.split(np.arctanh(np.clip(tables[1:] / bound, -1 + 1e-15, 1 - 1e-15)), 2)
    slopes = np.moveaxis((ups - downs) / (2e-4 * widths.reshape(-1, *[1] * shown.ndim)), 0, -1)
    sd = np.sqrt(np.einsum("...i,ij,...j->...", slopes, curvature.covariance, slopes))
    center, z = np.arctanh(tables[0] / bound), norm.ppf(0.5 + probability / 2)
    names = {
        "delay": tables[0],
        "lower": bound * np.tanh(center - z * sd),
        "upper": bound * np.tanh(center + z * sd),
        "sd": np.minimum(bound * (1 - np.tanh(center) ** 2) * sd, widest),
    }
    arrays = {name: (shown.dims, table) for name, table in names.items()}
    return xr.Dataset(arrays, shown.coords, {"units": "s", "probability": probability})


def draws(fit: Any, curvature: Curvature, n_draws: int, seed: int) -> dict[str, np.ndarray]:
    """The draws of :meth:`mrgp.fit.Fit.draws`; the curvature knows how the other sites respond."""
    rng = np.random.default_rng(seed)
    flat = np.zeros((n_draws, 0))
    if curvature.names:  # models of white latents have nothing to draw
        flat = rng.multivariate_normal(curvature.mean, curvature.covariance, n_draws, method="eigh")
    sites = sites_from(fit, curvature, flat)
    transforms = transforms_of(fit.model, stand_in(fit.layout), curvature.names)
    for name, response in (curvature.response or {}).items():
        center = np.asarray(transforms[name].inv(jnp.asarray(fit.sites[name])))
        moved = center + np.tensordot(flat - curvature.mean, response, 1)
        sites[name] = np.asarray(transforms[name](jnp.asarray(moved)))
    rest = {name: value for name, value in fit.sites.items() if name not in sites}  # fixed, or relevance
    return sites | {name: np.broadcast_to(value, (n_draws, *np.shape(value))) for name, value in rest.items()}


def sites_from(fit: Any, curvature: Curvature, flat: np.ndarray) -> dict[str, np.ndarray]:
    """Constrained sites from unconstrained vectors (draw, parameter)."""
    sites, first = {}, 0
    transforms = transforms_of(fit.model, stand_in(fit.layout), [n for n in fit.sites if n not in curvature.names])
    for name in curvature.names:
        shape = fit.sites[name].shape
        size = int(np.prod(shape))
        block = flat[:, first : first + size].reshape(-1, *shape)
        sites[name] = np.asarray(transforms[name](jnp.asarray(block)))
        first += size
    return sites
