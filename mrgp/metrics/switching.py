"""States of switching dynamics against the truth, and the flow of latents in each."""

from itertools import permutations
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from mrgp.recordings.recording import MultiRegionData
from mrgp.results.switching_fit import SwitchingFit

MARGIN = 0.1  # of the range of latents, by which a plane goes beyond them
MOST_STATES = 8  # of which all orders are tried


class MatchedStates(NamedTuple):
    """States of a fit in the order of the true ones.

    Attributes:
        order: The fit's state that each true one is, (state,).
        share: Of bins in which the states agree.
    """

    order: np.ndarray
    share: float


def match_states(truth: ArrayLike, found: ArrayLike) -> MatchedStates:
    """Bring the states of a fit into the order in which most bins agree with the truth.

    Args:
        truth: True states, of any shape.
        found: Those of the fit, of the same shape; -1 where there is none.

    Raises:
        ValueError: shapes differ, or there are more than eight states.
    """
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape:
        raise ValueError(f"states are of shape {found.shape}, the true ones of {truth.shape}: give the same bins")
    n_states = int(max(truth.max(), found.max())) + 1
    if n_states > MOST_STATES:
        raise ValueError(f"{n_states} states are too many to try all orders: take at most {MOST_STATES}")
    both = np.zeros((n_states, n_states))
    inside = found >= 0
    np.add.at(both, (truth[inside], found[inside]), 1)
    order = max(permutations(range(n_states)), key=lambda order: both[np.arange(n_states), order].sum())
    return MatchedStates(np.array(order), float(both[np.arange(n_states), order].sum() / inside.sum()))


def adjusted_rand_index(truth: ArrayLike, found: ArrayLike) -> float:
    """Agreement of two partitions: 1 if they are the same, 0 on average by chance.

    With n_ij of N things in class i of one and class j of the other, and pairs(n) = n (n - 1) / 2, it is how far
    sum pairs(n_ij) is on its way from its expectation to its largest value (Hubert & Arabie 1985, J. Classification 2,
    193-218). Names of classes do not matter.

    Args:
        truth: Classes, of any shape.
        found: Classes of the same things.

    Raises:
        ValueError: shapes differ.
    """
    truth, found = np.asarray(truth), np.asarray(found)
    if truth.shape != found.shape:
        raise ValueError(f"classes are of shape {found.shape}, the true ones of {truth.shape}: give the same things")
    (_, rows), (_, columns) = (np.unique(part, return_inverse=True) for part in (truth.ravel(), found.ravel()))
    both = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(both, (rows, columns), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    own, other = pairs(both.sum(1)), pairs(both.sum(0))
    by_chance, largest = own * other / max(pairs(np.array([both.sum()])), 1.0), (own + other) / 2
    return 1.0 if largest == by_chance else (pairs(both) - by_chance) / (largest - by_chance)


def state_flows(fit: SwitchingFit, data: MultiRegionData | None = None, *, n_points: int = 15) -> xr.Dataset:
    """Compute the flow of latents in every state, in a plane.

    It is the plane of their two principal components, and goes through the mean of the latents.

    Args:
        fit: Of a model with switching dynamics and two latents or more.
        data: The recording whose latents are looked at; None for the fit's own.
        n_points: Points of the grid along each axis.

    Returns:
        ``velocity`` (state, second, first, component) in latent units per second, on the grid ``first`` and ``second``;
        ``latents`` (trial, time, component) on the plane, NaN after a trial's end; ``most_likely`` (trial, time);
        ``share`` of the latents' variance along each component.

    Raises:
        ValueError: there is one latent only.
    """
    states, mean = fit.states(data), fit.latents(data)["within_mean"].to_numpy()
    if mean.shape[-1] < 2:
        raise ValueError("a plane needs two latents: fit a model with more")
    path = states["most_likely"].to_numpy()
    cloud = mean[path >= 0]
    center = cloud.mean(0)
    _, size, axes = np.linalg.svd(cloud - center, full_matrices=False)
    plane = axes[:2]
    placed = np.where((path >= 0)[..., None], (mean - center) @ plane.T, np.nan)
    low, high = np.nanmin(placed, (0, 1)), np.nanmax(placed, (0, 1))
    margin = MARGIN * (high - low)
    first, second = (np.linspace(low[i] - margin[i], high[i] + margin[i], n_points) for i in range(2))
    points = center + np.stack(np.meshgrid(first, second), -1) @ plane
    of = fit.dynamics
    moved = np.einsum("kde,yxe->kyxd", np.asarray(of.matrix), points) + np.asarray(of.drift)[:, None, None]
    velocity = (moved - points) @ plane.T / fit.layout.bin_width
    arrays = {
        "velocity": (("state", "second", "first", "component"), velocity),
        "latents": (("trial", "time", "component"), placed), "most_likely": (("trial", "time"), path),
        "share": ("component", size[:2] ** 2 / (size**2).sum()),
    }  # fmt: skip
    coords = {"state": np.arange(len(velocity)), "first": first, "second": second, "time": states["time"].to_numpy()}
    return xr.Dataset(arrays, coords)
