r"""Ordered, orthonormal directions in the activity of a region.

They say what the region shares, what it keeps, and what predicts another. Columns of loadings are neither orthogonal
nor ordered, so they are not themselves the directions of most shared variance. All modes here derive from the
covariances of the fitted model in one bin,

    S_i = A_i A_i' + B_i B_i' + diag R_i,        S_ij = A_i K_ij A_j',

A being loadings of across latents, B of within latents, and K_ij diagonal: the correlation of the two regions' copies
of each latent at equal time, or at the latent's own delay (``aligned``).

- Dominant modes of A_i or B_i are its left singular vectors: the u_1 of most variance u' A A' u, then u_2 orthogonal to
  it, and so on (Gokcen et al. 2022).
- Predictive modes of j from i: the best linear prediction of y_j given y_i is B y_i, B = S_ji S_i^-1. Of rank q the
  least squared error is that of U_q U_q' B, U being the left singular vectors of the fitted part B S_i^1/2 =
  S_ji S_i^-1/2: reduced-rank regression (Semedo et al. 2019), whose squared singular values are the variances that
  the modes predict. U are directions in j, the rows U' B their weights in i.
- Correlative modes: canonical correlations, the singular values of S_i^-1/2 S_ij S_j^-1/2 = U diag(rho) V'; neurons
  weigh with S_i^-1/2 U and S_j^-1/2 V, so that what they read has variance 1.
"""

from typing import Any

import numpy as np
import xarray as xr

from mrgp.metrics.variance import Population, copies_covariance, population
from mrgp.recordings.checks import DataError
from mrgp.results.fit import Fit
from mrgp.results.gaussian_process_fit import GaussianProcessFit


def dominant_modes(fit: Fit, region: str) -> xr.Dataset:
    """Find orthonormal modes of a region's loadings, those of the most variance first.

    Returns:
        ``across`` (neuron, across_mode) and ``within`` (neuron, within_mode), of unit length; ``across_variance`` and
        ``within_variance``, the variance in squared data units that each explains; ``across_share``, ``within_share``,
        as a share of all that the latents of its kind explain in this region. Signs: the largest weight is positive.

    Raises:
        DataError: see :func:`mrgp.metrics.variance.population`.
    """
    own = population(fit, region)
    arrays: dict[str, Any] = {}
    for kind, loadings in (("across", own.across), ("within", own.within)):
        modes, sizes, _ = np.linalg.svd(loadings, full_matrices=False)
        variance = sizes**2
        share = variance / max(variance.sum(), np.finfo(float).tiny)
        arrays[kind] = (("neuron", f"{kind}_mode"), modes * _signs(modes))
        arrays[f"{kind}_variance"] = (f"{kind}_mode", variance, {"units": "squared data units"})
        arrays[f"{kind}_share"] = (f"{kind}_mode", share, {"units": "1"})
    return xr.Dataset(arrays, {"neuron": np.arange(len(own.noise))}, {"region": region})


def predictive_modes(fit: GaussianProcessFit, source: str, target: str, aligned: bool = False) -> xr.Dataset:
    """Find directions of the target that the source predicts best, in one bin.

    Returns:
        ``target_mode`` (target_neuron, mode), orthonormal; ``source_weight`` (source_neuron, mode): the mode's value
        is predicted by source_weight' (y_source - mean); ``variance`` (mode,), what is predicted, in squared data
        units; ``share`` (mode,), of the target's total variance: their sum is the population R^2.

    Raises:
        DataError: there is no such region, or they are one and the same.
    """
    first, second, cross = _pair(fit, source, target, aligned)
    root = _inverse_root(first)
    modes, sizes, right = _leading(cross.T @ root, fit.assignment.n_across)
    signs = _signs(modes)
    total = float(np.trace(second.covariance))
    return xr.Dataset(
        {
            "target_mode": (("target_neuron", "mode"), modes * signs),
            "source_weight": (("source_neuron", "mode"), root @ right * sizes * signs),
            "variance": ("mode", sizes**2, {"units": "squared data units"}),
            "share": ("mode", sizes**2 / total, {"units": "1"}),
        },
        attrs={"source": source, "target": target, "aligned": int(aligned)},
    )


def correlative_modes(fit: GaussianProcessFit, first: str, second: str, aligned: bool = False) -> xr.Dataset:
    """Find pairs of directions whose activity is most correlated, in one bin.

    Returns:
        ``correlation`` (mode,), canonical correlations, largest first; ``first_weight`` (first_neuron, mode) and
        ``second_weight`` (second_neuron, mode), in inverse data units: each mode's value has variance 1.

    Raises:
        DataError: there is no such region, or they are one and the same.
    """
    one, other, cross = _pair(fit, first, second, aligned)
    roots = _inverse_root(one), _inverse_root(other)
    left, sizes, right = _leading(roots[0] @ cross @ roots[1], fit.assignment.n_across)
    weights = roots[0] @ left
    signs = _signs(weights)
    return xr.Dataset(
        {
            "correlation": ("mode", sizes, {"units": "1"}),
            "first_weight": (("first_neuron", "mode"), weights * signs),
            "second_weight": (("second_neuron", "mode"), roots[1] @ right * signs),
        },
        attrs={"first": first, "second": second, "aligned": int(aligned)},
    )


def _pair(fit: GaussianProcessFit, first: str, second: str, aligned: bool) -> tuple[Population, Population, np.ndarray]:
    """Two regions, and the covariance of their neurons in one bin."""
    if first == second:
        raise DataError(f"modes are of two regions, not of {first} and itself: name another")
    one, other = population(fit, first), population(fit, second)
    return one, other, (one.across * copies_covariance(fit, one.place, other.place, aligned)) @ other.across.T


def _inverse_root(own: Population) -> np.ndarray:
    """Symmetric root S^-1/2 of the inverse of a region's covariance S."""
    values, vectors = np.linalg.eigh(own.covariance)
    return (vectors / np.sqrt(values)) @ vectors.T


def _leading(matrix: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left singular vectors, values and right vectors of a matrix, ``most`` at the most.

    Vectors are columns. There are no more of them than the latents allow.
    """
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    kept = min(most, len(sizes))
    return left[:, :kept], sizes[:kept], right[:kept].T


def _signs(columns: np.ndarray) -> np.ndarray:
    """Signs that make the largest weight of every column positive, (column,)."""
    if not columns.size:
        return np.ones(columns.shape[1])
    return np.where(columns[np.abs(columns).argmax(0), np.arange(columns.shape[1])] < 0, -1.0, 1.0)
