r"""Errors of a fit against the truth of a simulation: delays, timescales, noise, loadings.

Loadings are compared by what they span.

Latents are paired by their loadings (see :mod:`mrgp.parts.matching`) before anything of theirs is compared. What a
model cannot know is not asked of it: no single loading, as latents of a kind may be rotated, but the space that they
span.
"""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.linalg import orth, subspace_angles

from mrgp.likelihoods.statespace.coupled import OWN
from mrgp.likelihoods.statespace.linear import TRANSITION
from mrgp.metrics.metric import Metric, SimulatedTrials, beside
from mrgp.metrics.variance import require_loadings
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.matching import Match, delay_rmse, match_latents
from mrgp.parts.readout import LOADINGS, NOISE
from mrgp.recordings.checks import DataError
from mrgp.results.fit import Fit
from mrgp.results.gaussian_process_fit import GaussianProcessFit

KINDS = ("across", "within", "all")
NEEDED = frozenset({DELAY.name, LOADINGS.name, "timescale_across", "timescale_within"})  # of a truth


def subspace_error(
    estimate: Float[np.ndarray, "neuron latent"],
    truth: Float[np.ndarray, "neuron true_latent"],
    noise: Float[np.ndarray, "neuron"] | None = None,
) -> float:
    r"""Share of the true loadings that the estimated ones do not span, from 0 to 1.

    .. math::
        e = \| (I - P) M \|_F / \| M \|_F, \qquad P \text{ the projection on the span of } \hat M

    (the normalised subspace error of Gokcen et al. 2022). It depends on the span of the estimate alone, and directions
    of large true loadings count for more; squared it is 1 less the normalised projection.

    Args:
        estimate, truth: Loadings; the numbers of latents may differ.
        noise: Variances of neurons: loadings are then compared in units of each neuron's noise, as the likelihood
            sees them. None compares them in the units of the data.

    Raises:
        ValueError: other neurons, or true loadings that are all 0.
    """
    ours, theirs = _scaled(estimate, truth, noise)
    basis = orth(ours) if ours.size else np.zeros((len(ours), 0))
    return float(np.linalg.norm(theirs - basis @ (basis.T @ theirs)) / np.linalg.norm(theirs))


def principal_angles(
    estimate: Float[np.ndarray, "neuron latent"],
    truth: Float[np.ndarray, "neuron true_latent"],
    noise: Float[np.ndarray, "neuron"] | None = None,
) -> Float[np.ndarray, "angle"]:
    """Angles in degrees between two spans of loadings, largest first.

    There are as many as the smaller span has dimensions. ``noise`` as in :func:`subspace_error`.
    """
    ours, theirs = _scaled(estimate, truth, noise)
    return np.degrees(subspace_angles(orth(ours), orth(theirs)))


def recovery_errors(fit: Fit, truth: xr.Dataset) -> xr.Dataset:
    """Find the errors of a fit against the truth of a simulation (``Simulation.truth``).

    Returns:
        ``delay_rmse`` (seconds) and ``delay_rmse_bins``, over pairs of regions, latents and bins, as
        :func:`mrgp.parts.matching.delay_rmse` has it; NaN where the model has no delays or the regions share no latent.
        ``timescale_error`` (latent,), estimate / truth - 1 of every true latent, ``across:k`` or ``V1:j``; NaN where
        either has none, or where timescales belong to mixtures of latents (LDS). ``subspace_error`` (region, loadings)
        and ``largest_angle`` in degrees, for the loadings of the ``across`` latents, of those ``within``, and of
        ``all``, in the units of the data; NaN where one has none. ``noise_error`` (region,), root mean square of
        estimate / truth - 1, where both have noise.

    Raises:
        DataError: the model has no loadings, or the truth is not of such a one.
        ValueError: the truth is of other neurons.
    """
    fit = require_loadings(fit)
    if missing := sorted(NEEDED - set(truth.variables)):
        raise DataError(f"the truth has no {missing[0]}: it is of no model with latents across and within regions")
    ours, theirs = np.asarray(fit.sites[LOADINGS.name]), truth[LOADINGS.name].values
    if len(ours) != len(theirs):
        raise ValueError(f"the truth has {len(theirs)} neurons, the fit {len(ours)}: they are not of one recording")
    regions = list(fit.layout.regions)
    table = xr.Dataset({"timescale_error": _timescale_errors(fit, truth)}, {"region": regions, "loadings": list(KINDS)})
    seconds = _delay_error(fit, truth)
    table["delay_rmse"] = ((), seconds, {"units": "s"})
    table["delay_rmse_bins"] = ((), seconds / fit.layout.bin_width, {"units": "bins"})
    table["timescale_error"].attrs["units"] = "1"
    errors, angles = np.full((2, len(regions), len(KINDS)), np.nan)
    for r, part in enumerate(fit.layout.region_slices.values()):
        for j, kind in enumerate(KINDS):
            mine, true = _columns(fit, ours, part, kind), _true_columns(truth, theirs, part, kind)
            if np.any(mine) and np.any(true):
                errors[r, j], angles[r, j] = subspace_error(mine, true), principal_angles(mine, true)[0]
    table["subspace_error"] = (("region", "loadings"), errors, {"units": "1"})
    table["largest_angle"] = (("region", "loadings"), angles, {"units": "degrees"})
    if NOISE.name in fit.sites and NOISE.name in truth:
        relative = (np.asarray(fit.sites[NOISE.name]) / truth[NOISE.name].values - 1) ** 2
        size = [float(np.sqrt(relative[part].mean())) for part in fit.layout.region_slices.values()]
        table["noise_error"] = ("region", size, {"units": "1"})
    return table


def _scaled(estimate: Any, truth: Any, noise: Any) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = np.asarray(estimate, float), np.asarray(truth, float)
    if len(ours) != len(theirs):
        raise ValueError(f"loadings of {len(ours)} neurons cannot be compared with those of {len(theirs)}")
    if not np.any(theirs):
        raise ValueError("the true loadings are all 0: they span nothing")
    weight = 1.0 if noise is None else np.sqrt(np.asarray(noise, float))[:, None]
    return ours / weight, theirs / weight


def _columns(fit: GaussianProcessFit, loadings: np.ndarray, part: slice, kind: str) -> np.ndarray:
    """Estimated loadings of one region's neurons, of latents of one kind."""
    shared = fit.assignment.n_across
    used = np.where(fit.assignment.used[part], loadings[part], 0.0)
    return {"across": used[:, :shared], "within": used[:, shared:], "all": used}[kind]


def _true_columns(truth: xr.Dataset, loadings: np.ndarray, part: slice, kind: str) -> np.ndarray:
    shared = truth.sizes["across_latent"]
    return {"across": loadings[part, :shared], "within": loadings[part, shared:], "all": loadings[part]}[kind]


def _delay_error(fit: GaussianProcessFit, truth: xr.Dataset) -> float:
    if not fit.has_delays:
        return float("nan")
    known = truth[DELAY.name].where(truth["shared_by"]) if "shared_by" in truth else truth[DELAY.name]
    ours, theirs = fit.delays.sizes["across_latent"], truth.sizes["across_latent"]
    match = match_latents(fit.sites[LOADINGS.name][:, :ours], truth[LOADINGS.name].values[:, :theirs])
    try:
        return delay_rmse(fit.delays.values, known.values, match)
    except ValueError as error:
        if "no pair of regions" in str(error):
            return float("nan")
        raise


def _timescale_errors(fit: GaussianProcessFit, truth: xr.Dataset) -> xr.DataArray:
    """Errors estimate / truth - 1 of the timescales of all true latents.

    Latents are paired by loadings among those of their kind and region.
    """
    names, errors = [], []
    ours, theirs = np.asarray(fit.sites[LOADINGS.name]), truth[LOADINGS.name].values
    shared, truly_shared = fit.assignment.n_across, truth.sizes["across_latent"]
    pooled = fit.assignment.n_regions < fit.layout.n_regions
    mixed = bool({TRANSITION.name, OWN.name} & fit.sites.keys())  # modes of dynamics are no columns of loadings
    groups = [("across", slice(None), [f"across:{k}" for k in range(truly_shared)], truth["timescale_across"].values)]
    owner = truth["region_of_within"].values
    for region, part in fit.layout.region_slices.items():
        own = truth["timescale_within"].values[owner == region]
        groups.append((str(region), part, [f"{region}:{j}" for j in range(len(own))], own))
    for group, part, labels, true in groups:
        error = np.full(len(labels), np.nan)
        if group == "across":
            mine, guess = ours[:, :shared], fit.timescales["across"].values
            known = theirs[:, :truly_shared]
        else:
            width = 0 if pooled else fit.assignment.n_within[list(fit.layout.regions).index(group)]
            mine, known = ours[part, shared : shared + width], theirs[part, truly_shared : truly_shared + len(labels)]
            chosen = [name.rpartition(":")[0] == group for name in fit.within_names]
            guess = fit.timescales["within"].values[chosen]
        if mine.shape[1] and known.shape[1] and not mixed:
            match = match_latents(mine, known)
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = guess[match.estimated] / true[match.true] - 1
            error[match.true] = np.where((true[match.true] > 0) & (guess[match.estimated] > 0), relative, np.nan)
        names += labels
        errors += error.tolist()
    return xr.DataArray(errors, {"latent": names}, ("latent",), "timescale_error")


def matched_delays(fit: GaussianProcessFit, truth: xr.Dataset) -> xr.DataArray:
    """True delays of a simulation in the order of the fit's across latents.

    Latents of most similar loadings are taken for the same.

    (region, across_latent), or (region, across_latent, time) where either delay varies; NaN for latents that the truth
    has none for, and where a region does not read the true one.
    """
    estimated, true, *_ = match_loadings(fit, truth)
    order = np.full(fit.delays.sizes["across_latent"], -1)
    order[estimated] = true
    known = truth[DELAY.name].where(truth["shared_by"]) if "shared_by" in truth else truth[DELAY.name]
    matched = known.isel(across_latent=order)
    matched = matched.where(xr.DataArray(order >= 0, dims="across_latent"))
    if "time" in fit.delays.dims and "time" not in matched.dims:
        matched = matched.expand_dims(time=fit.delays["time"].values, axis=-1)
    return matched.assign_coords({name: fit.delays[name] for name in fit.delays.dims}).rename(DELAY.name)


def match_loadings(fit: GaussianProcessFit, truth: xr.Dataset) -> Match:
    """Pair the fit's across latents with those of a simulation, by most similar loadings."""
    ours, theirs = fit.delays.sizes["across_latent"], truth.sizes["across_latent"]
    return match_latents(fit.sites[LOADINGS.name][:, :ours], truth[LOADINGS.name].values[:, :theirs])


class Recovery(Metric):
    """Errors of delays, timescales, noise and subspaces against the truth of a simulation."""

    needs = SimulatedTrials
    heading = "errors against the truth"

    def score(self, case: SimulatedTrials) -> xr.Dataset:
        return recovery_errors(case.fit, case.truth)

    def lines(self, table: xr.Dataset) -> list[str]:
        found = [f"subspaces (all latents) {beside(table['subspace_error'].sel(loadings='all').values, 3)}"]
        if np.isfinite(table["delay_rmse"]):
            found.insert(0, f"delays {float(table['delay_rmse_bins']):.3f} bins")
        timescales = table["timescale_error"].values
        if np.isfinite(timescales).any():
            found.append(f"timescales {100 * np.nanmean(np.abs(timescales)):.1f}% on average")
        return ["", f"{self.heading}: {', '.join(found)}"]
