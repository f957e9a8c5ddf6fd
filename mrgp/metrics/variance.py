r"""Variance that latents explain in each region, and covariance between regions' copies.

These are population quantities. They are those of the fitted model itself, computed from its parameters and not from a
recording. A neuron's variance is

    var y_n = sum_k c_{n,k}^2 + R_n,

since every latent has variance 1; of a region it is the sum over its neurons.
"""

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from mrgp.likelihoods.statespace.linear import START_ROOT
from mrgp.metrics.metric import Metric, ScoredTrials, beside, plain
from mrgp.parts.kernels import correlations
from mrgp.parts.readout import LOADINGS, NOISE
from mrgp.recordings.checks import DataError
from mrgp.results.coupled_fit import of_coupled
from mrgp.results.fit import Fit, of_processes
from mrgp.results.gaussian_process_fit import GaussianProcessFit

PARTS = ("across", "within", "noise")


class Population(NamedTuple):
    """One region of a fit: the loadings of its neurons, and their noise.

    Attributes:
        across: (neuron, across_latent).
        within: (neuron, own_latent).
        noise: (neuron,).
        place: Of the model's region, which may pool several of the recording's.
    """

    across: np.ndarray
    within: np.ndarray
    noise: np.ndarray
    place: int

    @property
    def covariance(self) -> Float[np.ndarray, "neuron neuron"]:
        """Covariance of the region's neurons in one bin."""
        return self.across @ self.across.T + self.within @ self.within.T + np.diag(self.noise)


def require_loadings(fit: Fit) -> GaussianProcessFit:
    """Return the fit; raise DataError if the model reads no latents by loadings."""
    if not of_processes(fit):
        raise DataError(f"{type(fit.model).__name__} has no loadings, which this score is of")
    return fit


def population(fit: Fit, region: str) -> Population:
    """The loadings and noise of one region.

    Raises:
        DataError: there is no such region, or the model's latents have no constant variance, or no Gaussian noise.
    """
    fit = require_loadings(fit)
    if region not in fit.layout.regions:
        raise DataError(f"there is no region {region!r} here: choose from {', '.join(fit.layout.regions)}")
    if NOISE.name not in fit.sites:
        raise DataError("the model's neurons have no noise variance: its variances cannot be told apart")
    if START_ROOT.name in fit.sites:
        raise DataError("trials begin where they were learned to, so variances change: fit start='stationary'")
    part, assignment = fit.layout.region_slices[region], fit.assignment
    used = np.where(assignment.used[part], np.asarray(fit.sites[LOADINGS.name])[part], 0.0)
    place, shared = int(assignment.region_of_neuron[part.start]), assignment.n_across
    own = used[:, shared : shared + assignment.n_within[place]]
    if of_coupled(fit):  # whose states have other variances than 1, as others drive them
        own = own @ np.linalg.cholesky(fit.state_covariance(region))
    return Population(used[:, :shared], own, np.asarray(fit.sites[NOISE.name])[part], place)


def variance_explained(fit: Fit) -> xr.Dataset:
    """Divide each region's variance into across latents, within latents and noise.

    Returns:
        ``share`` (region, part): of latents ``across`` regions, latents ``within`` one, and ``noise``; rows sum to 1.
        ``latent_share`` (region, latent): of each latent ``across:k`` and ``within:j``, the j-th of the region's own.
        ``variance`` (region,): the total, in squared units of the data. Where loadings are known as a distribution
        (method "vb"), their expected squares.

    Raises:
        DataError: see :func:`population`.
    """
    fit = require_loadings(fit)
    regions, assignment = list(fit.layout.regions), fit.assignment
    powers, noises = np.zeros((len(regions), assignment.n_columns)), np.zeros(len(regions))
    for r, region in enumerate(regions):
        own, part = population(fit, region), fit.layout.region_slices[region]
        squares = np.concatenate([own.across, own.within], 1) ** 2
        if fit.loadings_covariance is not None:
            squares = squares + np.diagonal(fit.loadings_covariance[part], axis1=1, axis2=2)[:, : squares.shape[1]]
        powers[r, : squares.shape[1]] = squares.sum(0)
        noises[r] = own.noise.sum()
    totals = powers.sum(1) + noises
    shared = assignment.n_across
    kinds = np.stack([powers[:, :shared].sum(1), powers[:, shared:].sum(1), noises], 1)
    names = [f"across:{k}" for k in range(shared)] + [f"within:{j}" for j in range(assignment.n_columns - shared)]
    return xr.Dataset(
        {
            "share": (("region", "part"), kinds / totals[:, None], {"units": "1"}),
            "latent_share": (("region", "latent"), powers / totals[:, None], {"units": "1"}),
            "variance": ("region", totals, {"units": "squared data units"}),
        },
        {"region": regions, "part": list(PARTS), "latent": names},
    )


def copies_covariance(
    fit: GaussianProcessFit, first: int, second: int, aligned: bool
) -> Float[np.ndarray, "across_latent"]:
    r"""Covariance of two regions' copies of each across latent: (1 - eps) k_k(lag).

    At one time in both regions the lag is the difference of their delays, over which it is averaged where delays vary;
    ``aligned`` takes each latent where its copies meet, at lag 0.
    """
    count = fit.assignment.n_across
    if first == second or not count:
        return np.ones(count)
    shared = 1 - fit.model.gp_noise
    if aligned:
        return np.full(count, shared)
    delays = fit.delays.values.reshape(*fit.delays.shape[:2], -1) / fit.layout.bin_width  # (region, latent, time)
    lag = (delays[second] - delays[first]).T
    hyper = fit.model.tables.hyperparameters(fit.sites, "across", fit.layout)
    return shared * correlations(fit.model.kernel, lag, hyper).mean(0)


class VarianceExplained(Metric):
    """Share of each region's variance that is of across latents, of within latents and of noise."""

    known_as = "variance"
    needs = ScoredTrials
    heading = "variance explained"

    def score(self, case: ScoredTrials) -> xr.Dataset:
        return variance_explained(case.fit)

    def summary(self, table: xr.Dataset) -> dict[str, Any]:
        share = table["share"]
        return {"variance_explained": {str(part): plain(share.sel(part=part)) for part in share["part"].values}}

    def sentence(self, table: xr.Dataset) -> str:
        return ""

    def lines(self, table: xr.Dataset) -> list[str]:
        share = 100 * table["share"]
        parts = [f"{part} {beside(share.sel(part=part).values, 1)}" for part in share["part"].values.tolist()]
        return [f"variance by source (%): {', '.join(parts)}"]
