r"""Decoding of conditions, such as the target of a reach, from latents.

.. math::
    p(\text{condition} = c \mid x) \propto \exp(w_c \cdot x + b_c), \qquad
    \hat w = \arg\min\; -\sum_b \log p(c_b \mid x_b) + \frac{\lambda}{2} \|w\|^2

x are a trial's latents, each averaged in some windows of time, in units of their sd over the trials trained on. Every
trial is decoded by weights that were fitted without it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from mrgp.recordings.checks import DataError

WINDOWS = 6  # of a trial: a reach has few parts
FOLDS = 8
PENALTY = 1.0  # per weight of a feature of variance 1: felt where trials are few, and by nothing else


def decode_conditions(
    latents: Float[np.ndarray, "trial time latent"] | xr.DataArray,
    conditions: ArrayLike | Sequence[str],
    *,
    n_windows: int = WINDOWS,
    n_folds: int = FOLDS,
    penalty: float = PENALTY,
    seed: int = 0,
) -> xr.Dataset:
    """Decode the condition of every trial from latents, by regression trained on other trials.

    Whatever latents a fit has, they may be rotated or shifted by any affine map without a change but for the penalty.

    Args:
        latents: Such as ``fit.latents()["across_mean"]``; bins that are NaN in a trial are left out of its windows.
        conditions: Of the trials, (trial,).
        n_windows: Equal parts of the trial in which latents are averaged; as many as there are bins at most.
        n_folds: Parts of the trials, each decoded by weights from the others; conditions are spread over them evenly.
        penalty: lambda above.
        seed: Of the folds.

    Returns:
        ``accuracy``, share of the trials decoded right; ``chance``, that of always saying the most frequent condition;
        ``decoded`` (trial,); ``confusion`` (true_condition, decoded_condition), how often.

    Raises:
        DataError: there are no latents, one condition only, or not one condition for each trial.
        ValueError: a number is out of its range.
    """
    values, labels = np.asarray(latents, float), np.asarray(conditions)
    if values.ndim != 3 or not values.size:
        raise DataError(f"latents have shape {values.shape}: give some, (trial, time, latent)")
    if labels.shape != values.shape[:1]:
        raise DataError(f"conditions have shape {labels.shape}, but there are {len(values)} trials: give one for each")
    names, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(f"all trials are of condition {names[0]}: there is nothing to decode")
    if n_windows < 1 or not (2 <= n_folds <= len(values) and 0 < penalty < np.inf):
        wrong = f"n_windows = {n_windows}, n_folds = {n_folds}, penalty = {penalty}"
        raise ValueError(f"{wrong}: give 1 window or more, 2 to {len(values)} folds, and a positive penalty")
    features = windows_of(values, min(n_windows, values.shape[1]))
    order = np.random.default_rng(seed).permutation(len(values))
    fold = np.empty(len(values), int)
    fold[order[np.argsort(number[order], kind="stable")]] = np.arange(len(values)) % n_folds
    found = np.empty(len(values), int)
    for k in range(n_folds):
        train = fold != k
        center, scale = features[train].mean(0), features[train].std(0)
        units = (features - center) / np.where(scale > 0, scale, 1.0)
        found[~train] = regression(units[train], number[train], len(names), penalty).most_likely(units[~train])
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (number, found), 1)
    arrays: dict[str, Any] = {
        "accuracy": ((), float((found == number).mean())), "chance": ((), float(counts.max() / len(values))),
        "decoded": ("trial", names[found]), "confusion": (("true_condition", "decoded_condition"), confusion),
    }  # fmt: skip
    return xr.Dataset(arrays, {"true_condition": names, "decoded_condition": names})


def windows_of(values: Float[np.ndarray, "trial time latent"], n_windows: int) -> Float[np.ndarray, "trial feature"]:
    """Average latents in equal parts of a trial; a part of which nothing is known is 0."""
    parts = np.array_split(values, n_windows, axis=1)
    known = [~np.isnan(part) for part in parts]
    means = [np.where(k, p, 0.0).sum(1) / np.maximum(k.sum(1), 1) for k, p in zip(known, parts, strict=True)]
    return np.concatenate(means, -1)


class Regression(NamedTuple):
    """Multinomial regression.

    Attributes:
        weights: Of features, the last row those of a constant, (feature + 1, class).
    """

    weights: Float[np.ndarray, "feature class"]

    def most_likely(self, features: Float[np.ndarray, "trial feature"]) -> np.ndarray:
        """Number of the class of each trial, (trial,)."""
        return np.argmax(features @ self.weights[:-1] + self.weights[-1], 1)


def regression(
    features: Float[np.ndarray, "trial feature"], number: np.ndarray, n_classes: int, penalty: float
) -> Regression:
    """Fit a multinomial regression of the ``number`` of each trial's class, (trial,)."""
    n_features, own = features.shape[1], np.eye(n_classes)[number]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(n_features + 1, n_classes)
        scores = features @ weights[:-1] + weights[-1]
        error = softmax(scores, 1) - own
        value = (logsumexp(scores, 1) - (scores * own).sum(1)).sum() + 0.5 * penalty * (weights[:-1] ** 2).sum()
        slope = np.concatenate([features.T @ error + penalty * weights[:-1], error.sum(0)[None]])
        return value, slope.ravel()

    best = minimize(loss, np.zeros((n_features + 1) * n_classes), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return Regression(best.x.reshape(n_features + 1, n_classes))
