"""First guess of the dynamics of coupled regions.

Scores of the factors of each region are regressed on its own past, and on that of the others.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mrgp.likelihoods.statespace.coupled import system_of
from mrgp.likelihoods.statespace.coupled_coordinates import innovation_root
from mrgp.likelihoods.statespace.region_blocks import Regions
from mrgp.parts.latents import LatentLayout
from mrgp.recordings.recording import MultiRegionData

LARGEST = 0.98  # singular value of a region's own dynamics, to begin with
STABLE = 0.98  # spectral radius of all regions together, to begin with
RIDGE = 1e-3  # of the mean square of what is regressed on


class FirstSystem(NamedTuple):
    """First guess of dynamics.

    Attributes:
        own, coupling: A and B, (state_after, state).
        innovations: Covariance of what is left of L^-1 x, (state, state).
    """

    own: np.ndarray
    coupling: np.ndarray
    innovations: np.ndarray

    def driven_by(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Guess how ``count`` global states drive regions from what innovations share.

        The guess is (state, global_state).
        """
        values, vectors = np.linalg.eigh(self.innovations)
        found = min(count, len(values))
        columns = vectors[:, ::-1][:, :found] * np.sqrt(np.maximum(values[::-1][:found] - 1, 0.05))
        return np.concatenate([columns, 0.1 * rng.standard_normal((len(values), count - found))], 1)


def first_system(
    data: MultiRegionData, loadings: np.ndarray, assignment: LatentLayout, regions: Regions, lag: int
) -> tuple[FirstSystem, np.ndarray]:
    """Guess dynamics and loadings of pseudo-neurons of unit noise.

    Args:
        data: Pseudo-neurons.
        loadings: Of their factors, (pseudo-neuron, column), in any scale.
        assignment: Whose factors these are.
        regions: Their sizes and edges.
        lag: Bins by which edges are later than the next bin.

    Returns:
        The dynamics, and loadings of states that a region left alone has with variance 1.
    """
    scores, changed = [], np.array(loadings)
    values = data.floats - data.center
    for part, size in zip(data.layout.region_slices.values(), regions.sizes, strict=True):
        C = loadings[part, :size]
        signal = values[..., part] @ np.linalg.solve(C.T @ C + np.eye(size), C.T).T
        if size == 0:
            scores.append(signal)
            continue
        flat = signal.reshape(-1, size)
        square = flat.T @ flat / len(flat)
        T = np.linalg.cholesky(square + 1e-6 * max(np.trace(square) / size, 1e-12) * np.eye(size))
        scores.append(np.linalg.solve(T, flat.T).T.reshape(signal.shape))
        changed[part, :size] = C @ T
    x = np.concatenate(scores, -1)
    return _regressed(x, regions, lag), changed


def _regressed(x: np.ndarray, regions: Regions, lag: int) -> FirstSystem:
    """Regress states (trial, time, state) on the past of their region and of the others.

    They have unit variance.
    """
    n = x.shape[-1]
    own, coupling, innovations = np.zeros((n, n)), np.zeros((n, n)), np.eye(n)
    if x.shape[1] < lag + 2:
        return FirstSystem(own, coupling, innovations)
    now, past, earlier = x[:, lag + 1 :], x[:, lag:-1], x[:, : x.shape[1] - lag - 1]
    after, before, old = (part.reshape(-1, n) for part in (now, past, earlier))
    left = np.zeros_like(after)
    for part in (part for part in regions.slices if part.stop > part.start):
        heard = regions.coupled[part.start]
        known = np.concatenate([before[:, part], old[:, heard]], 1)
        square = known.T @ known
        square += RIDGE * np.trace(square) / len(square) * np.eye(len(square))
        weights = np.linalg.solve(square, known.T @ after[:, part])
        size = part.stop - part.start
        U, values, V = np.linalg.svd(weights[:size].T)
        own[part, part] = (U * np.minimum(values, LARGEST)) @ V
        coupling[part, heard] = weights[size:].T
        left[:, part] = after[:, part] - known @ weights
    root = innovation_root(own)
    coupling = np.linalg.solve(root, coupling)
    white = np.linalg.solve(root, left.T)
    innovations = white @ white.T / max(len(left), 1)
    while radius_of(own, coupling, lag) > STABLE:
        own, coupling = 0.99 * own, 0.9 * coupling
    return FirstSystem(own, coupling, innovations)


def radius_of(own: np.ndarray, coupling: np.ndarray, lag: int) -> float:
    """Spectral radius of all regions together, below 1 where they are stable."""
    none = jnp.zeros((len(own), 0))
    system = system_of(jnp.asarray(own), jnp.asarray(coupling), none, none[:0], lag)
    return float(np.abs(np.linalg.eigvals(system.transition)).max())


def stable_edges(own: np.ndarray, coupling: np.ndarray, lag: int) -> np.ndarray:
    """Shrink edges until regions are stable together, (state_after, state).

    They are stable without any. Two edges may hold each other in check: without one of them, the other alone may be too
    strong.
    """
    if radius_of(own, coupling, lag) < 1:
        return coupling
    alone = radius_of(own, np.zeros_like(coupling), lag)
    while radius_of(own, coupling, lag) > max(STABLE, 0.5 * (1 + alone)):
        coupling = 0.9 * coupling
    return coupling
