r"""Geometry of paths of latents, or of any activity: dimensions, angles, tangling.

- Participation ratio of a covariance with eigenvalues l_k: (sum_k l_k)^2 / sum_k l_k^2, d for d equal ones. Noise that
  is independent between dimensions raises it.
- Of what repeats from trial to trial it is found by cross-validation (Stringer et al. 2019, Nature 571): components
  v_k of the mean response of one half of the trials, and the covariance of both halves' mean responses along each,

      l_k = < (M_1 v_k) (M_2 v_k) >,

  to which noise adds nothing on average, for it differs between halves.
- Principal angles between two populations: those between the spans of their time courses. 0 is a course that both
  have, 90 degrees one that the other knows nothing of.
- Tangling (Russo et al. 2018, Neuron 97): Q(t) = max_s |x'(t) - x'(s)|^2 / (|x(t) - x(s)|^2 + c), large where the
  same state is left in different directions, which no autonomous flow does. c is a tenth of the total variance.
"""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.linalg import subspace_angles

from mrgp.recordings.checks import DataError

ENOUGH = 0.95  # of the variance, in the components that count
SOFTENING = 0.1  # of the total variance: c of tangling
SPLITS = 20  # random halves of the trials
AT_ONCE = 2**24  # entries of a table of distances


def participation_ratio(values: ArrayLike | xr.DataArray) -> float:
    """Number of dimensions that vary, if all varied alike.

    Args:
        values: (..., dimension), such as latents (trial, time, latent); rows with NaN are left out.

    Raises:
        DataError: there are fewer than two rows, or nothing varies.
    """
    rows = _rows(values)
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(rows.T)))
    if not variances.max() > 0:
        raise DataError("values are the same in all rows: there is nothing that varies, give others")
    return float(variances.sum() ** 2 / (variances**2).sum())


def cross_validated_dimensionality(
    values: ArrayLike | xr.DataArray,
    conditions: ArrayLike | None = None,
    *,
    n_splits: int = SPLITS,
    share: float = ENOUGH,
    seed: int = 0,
) -> xr.Dataset:
    """Count the dimensions of what repeats from trial to trial.

    Args:
        values: (trial, time, dimension), counts of neurons or latents, without NaN.
        conditions: Of the trials, (trial,), two trials of each at least; None where all are of one.
        n_splits: Random halves of the trials, over which variances are averaged.
        share: Of the variance that repeats, in the components that are counted.
        seed: Of the halves.

    Returns:
        ``variance`` (component,), l_k above, in squared units of the values, largest components of a half first; its
        ``sd`` over splits; ``participation_ratio`` of these, and ``n_components`` that have ``share`` of them.
        Variances below 0 count as 0 in both.

    Raises:
        DataError: values are not of this shape, a condition has one trial only, or nothing repeats.
        ValueError: a number is out of its range.
    """
    x = np.asarray(values, float)
    if x.ndim != 3 or not np.isfinite(x).all():
        raise DataError(f"values have shape {x.shape}, or are not finite: give numbers (trial, time, dimension)")
    kinds = np.zeros(len(x), int) if conditions is None else np.unique(np.asarray(conditions), return_inverse=True)[1]
    if kinds.shape != x.shape[:1] or min(np.bincount(kinds)) < 2:
        raise DataError(f"conditions are for {kinds.size} of {len(x)} trials: give one each, two trials of every kind")
    if n_splits < 1 or not 0 < share <= 1:
        raise ValueError(f"n_splits is {n_splits} and share {share}: give 1 split or more, and a share up to 1")
    rng = np.random.default_rng(seed)
    each = []
    for _ in range(n_splits):
        halves = _halves(x, kinds, rng)
        each += [_along(halves[0], halves[1]), _along(halves[1], halves[0])]
    variance = np.mean(each, axis=0)
    kept = np.maximum(variance, 0.0)
    if not kept.sum() > 0:
        raise DataError("nothing repeats from trial to trial: give trials of the same conditions")
    reached = np.cumsum(kept) >= share * kept.sum() * (1 - 1e-12)
    return xr.Dataset(
        {
            "variance": ("component", variance),
            "sd": ("component", np.std(each, axis=0)),
            "participation_ratio": ((), kept.sum() ** 2 / (kept**2).sum(), {"units": "1"}),
            "n_components": ((), int(np.argmax(reached)) + 1, {"units": "1"}),
        }
    )


def signal_angles(
    first: ArrayLike | xr.DataArray, second: ArrayLike | xr.DataArray, share: float = ENOUGH
) -> xr.DataArray:
    """Find the principal angles between what two populations do at the same time.

    The smallest comes first. Of each population the components count that have ``share`` of its variance together; the
    angles are as many as the smaller number of these. They are of one time: what one has later counts as far as it is
    the same at once.

    Args:
        first: (trial, time, neuron), such as ``fit.predict()["V1_mean"]``; bins with NaN are left out of both.
        second: The same trials and bins of another population.
        share: Of a population's variance.

    Returns:
        (angle,) in degrees.

    Raises:
        DataError: trials or bins are not the same, or a population does not vary.
    """
    one, other = (np.asarray(values, float) for values in (first, second))
    if one.ndim != 3 or one.shape[:2] != other.shape[:2]:
        raise DataError(f"populations have shapes {one.shape} and {other.shape}: give the same trials and bins of both")
    there = np.isfinite(one).all(-1) & np.isfinite(other).all(-1)
    spans = [_span(values[there], share) for values in (one, other)]
    angles = np.sort(np.degrees(subspace_angles(*spans)))
    return xr.DataArray(angles, dims="angle", name="angle", attrs={"units": "degrees"})


def tangling(values: ArrayLike | xr.DataArray, bin_width: float) -> xr.DataArray:
    """Measure how tangled paths are at every time.

    Args:
        values: (trial, time, dimension), three bins or more, such as latents; NaN after the end of a trial.
        bin_width: Seconds per bin.

    Returns:
        Q (trial, time) in 1/s^2, NaN where values or their differences over time are.

    Raises:
        DataError: values are not of this shape, or nothing varies.
    """
    x = np.asarray(values, float)
    if x.ndim != 3 or x.shape[1] < 3:
        raise DataError(f"values have shape {x.shape}: give (trial, time, dimension), three bins or more")
    speed = np.gradient(x, bin_width, axis=1)
    there = np.isfinite(x).all(-1) & np.isfinite(speed).all(-1)
    states, velocities = x[there], speed[there]
    softening = SOFTENING * states.var(0).sum() if len(states) else 0.0
    if not softening > 0:
        raise DataError("values are the same in all bins: there is no path, give others")
    worst = np.empty(len(states))
    size = max(1, AT_ONCE // max(1, len(states)))
    for start in range(0, len(states), size):
        block = slice(start, start + size)
        worst[block] = (_squares(velocities[block], velocities) / (_squares(states[block], states) + softening)).max(1)
    found = np.full(x.shape[:2], np.nan)
    found[there] = worst
    return xr.DataArray(found, dims=("trial", "time"), name="tangling", attrs={"units": "1/s^2"})


def _rows(values: Any) -> Float[np.ndarray, "row dimension"]:
    """Rows of values without NaN."""
    x = np.asarray(values, float)
    rows = x.reshape(-1, x.shape[-1]) if x.ndim > 1 else np.empty((0, 1))
    rows = rows[np.isfinite(rows).all(1)]
    if len(rows) < 2:
        raise DataError(f"values have shape {x.shape}, of which {len(rows)} rows are numbers: give two at least")
    return rows


def _halves(x: np.ndarray, kinds: np.ndarray, rng: np.random.Generator) -> list[Float[np.ndarray, "row dimension"]]:
    """Mean responses of two random halves of every condition's trials, less their mean."""
    first = np.zeros(len(x), bool)
    for kind in range(kinds.max() + 1):
        own = rng.permutation(np.flatnonzero(kinds == kind))
        first[own[: len(own) // 2]] = True
    every = range(kinds.max() + 1)
    means = [np.concatenate([x[part & (kinds == kind)].mean(0) for kind in every]) for part in (first, ~first)]
    return [mean - mean.mean(0) for mean in means]


def _along(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "component"]:
    """Covariance of two halves along the principal components of the first."""
    components = np.linalg.svd(one, full_matrices=False)[2]
    return ((one @ components.T) * (other @ components.T)).mean(0)


def _span(rows: np.ndarray, share: float) -> Float[np.ndarray, "row component"]:
    """Time courses of the components that have a share of the variance, orthonormal."""
    courses, sizes, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    if not sizes.size or not sizes[0] > 0:
        raise DataError("a population does not vary: leave it out, or give other bins")
    reached = np.cumsum(sizes**2) >= share * (sizes**2).sum() * (1 - 1e-12)
    return courses[:, : int(np.argmax(reached)) + 1]


def _squares(one: np.ndarray, other: np.ndarray) -> Float[np.ndarray, "first second"]:
    """Squared distances between two sets of points."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.maximum(squares, 0.0)
