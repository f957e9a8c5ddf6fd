"""Pairing of estimated and true latents, and the error of their delays.

Latents have no order and no sign of their own: the error is taken once they are paired. Latents and loadings have mean
0 in the model, so their likeness is a cosine: no mean is removed.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment


class Match(NamedTuple):
    """Pairs of latents: ``estimated[i]`` goes with ``true[i]``, in the order of ``true``.

    ``signs`` * estimate[..., estimated] looks like truth[..., true], with the cosines ``likeness``, all >= 0.
    """

    estimated: Int[np.ndarray, "pair"]
    true: Int[np.ndarray, "pair"]
    signs: Float[np.ndarray, "pair"]
    likeness: Float[np.ndarray, "pair"]


def match_latents(estimate: ArrayLike, truth: ArrayLike) -> Match:
    """Pair latents so that the sum of their absolute cosines is largest.

    If the numbers of latents differ, only as many as the lesser number are paired.

    Args:
        estimate: Time courses (trial, time, latent) or loadings (neuron, latent).
        truth: The same samples, another number of latents maybe.

    Raises:
        ValueError: the samples differ in shape.
    """
    ours, theirs = np.asarray(estimate, float), np.asarray(truth, float)
    if ours.shape[:-1] != theirs.shape[:-1]:
        raise ValueError(f"estimate {ours.shape} and truth {theirs.shape} must agree in all axes but the last")
    cosine = _directions(ours).T @ _directions(theirs)
    true, estimated = linear_sum_assignment(-np.abs(cosine.T))
    found = cosine[estimated, true]
    return Match(estimated, true, np.where(found < 0, -1.0, 1.0), np.abs(found))


def delay_rmse(delays: ArrayLike, truth: ArrayLike, match: Match | None = None) -> float:
    r"""RMS error of the delays between all pairs of regions, in the unit given.

    .. math::
        \mathrm{RMSE}^2 = \mathrm{mean}_{i<j,\, k,\, t}
        \big[(\hat\delta_{j,k} - \hat\delta_{i,k}) - (\delta_{j,k} - \delta_{i,k})\big]^2

    so that the error does not depend on the region that delays are measured from.

    Args:
        delays: (region, across_latent), or (region, across_latent, time) where they vary.
        truth: The same; one of the two may be constant where the other varies. NaN where a region does not read a
            latent: its pairs are left out.
        match: Which latent is which, such as from :func:`match_latents`; None pairs them for the least error.

    Raises:
        ValueError: other shapes, different regions or times, or not one pair to compare.
    """
    ours, theirs = (_with_time(np.asarray(table, float)) for table in (delays, truth))
    if len(ours) != len(theirs) or len({ours.shape[-1], theirs.shape[-1]} - {1}) > 1:
        raise ValueError(f"delays {np.shape(delays)} and truth {np.shape(truth)} are of other regions or times")
    first, second = np.triu_indices(len(ours), 1)
    between, true = (table[second] - table[first] for table in (ours, theirs))
    errors = (between[:, :, None] - true[:, None]) ** 2  # (pair, estimated, true, time)
    known = ~np.isnan(errors)
    total, count = np.where(known, errors, 0.0).sum((0, 3)), known.sum((0, 3))
    pairs = linear_sum_assignment(total) if match is None else (match.estimated, match.true)
    if not count[pairs].any():
        raise ValueError("there is no pair of regions to compare: delays need two regions that read one latent")
    return float(np.sqrt(total[pairs].sum() / count[pairs].sum()))


def _directions(columns: np.ndarray) -> np.ndarray:
    """Scale columns to unit length, (sample, column); columns of zeros stay zero."""
    flat = columns.reshape(int(np.prod(columns.shape[:-1])), columns.shape[-1])
    return flat / np.maximum(np.linalg.norm(flat, axis=0), np.finfo(float).tiny)


def _with_time(table: np.ndarray) -> np.ndarray:
    if table.ndim not in (2, 3):
        raise ValueError(f"delays are (region, across_latent) or (region, across_latent, time), not {table.shape}")
    return table if table.ndim == 3 else table[..., None]
