"""Loadings: which column drives which neuron, in what order they are shown, and how much of a region they explain."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.parts.latents import Assignment
from mrgp.parts.sites import Site

LOADINGS = Site("loadings", "neuron", "column", signed=True)
RELEVANCE = Site("alpha", "region", "column")  # the precision of loadings, by automatic relevance determination

VANISHED = 1e-3  # share of a region's shared variance, or of its noise: what explains less may not be there at all
SHARED = 0.02  # of a region's shared variance: below it a latent is not read there (Gokcen et al. 2023)
AUDIBLE = 1e-3  # of its noise: a region whose latents explain less reads none (their demo's value)


def readout_loadings(assignment: Assignment, loadings: Array) -> Array:
    """The block loadings (neuron, readout) of y = C x with all regions' readouts stacked in x."""
    own = assignment.region_of_neuron[:, None] == assignment.region_of_readout
    return jnp.where(own, loadings[:, assignment.column_of_readout], 0.0)


def ordered(assignment: Assignment, loadings: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Loadings (neuron, column) with the latents of each kind rotated to explain as much as they can one by one.

    The rotation that makes C' R^-1 C diagonal, largest first (Lawley & Maxwell 1971, ch. 2): it changes nothing where
    the latents of a kind are exchangeable. Across latents are rotated together in all regions, private ones region by
    region.
    """
    C, shared = np.array(loadings), assignment.n_across
    edges = np.cumsum([0, *assignment.n_neurons])
    own = zip(edges[:-1], edges[1:], assignment.n_within, strict=True)
    blocks = [(slice(None), slice(0, shared)), *((slice(a, b), slice(shared, shared + w)) for a, b, w in own)]
    for rows, columns in blocks:
        block = C[rows, columns]
        _, vectors = np.linalg.eigh(block.T @ (block / noise[rows, None]))
        C[rows, columns] = block @ vectors[:, ::-1]
    return C


def shared_variance(assignment: Assignment, loadings: np.ndarray, spread: np.ndarray | None) -> np.ndarray:
    """E[|c|^2] of each column of loadings as a share of its region's, (region, column); rows sum to 1."""
    power = _power(assignment, loadings, spread)
    return power / np.maximum(power.sum(1, keepdims=True), np.finfo(float).tiny)


def signal_to_noise(
    assignment: Assignment, loadings: np.ndarray, noise: np.ndarray, spread: np.ndarray | None
) -> np.ndarray:
    """Variance that latents explain in each region over that of its noise, (region,)."""
    return _power(assignment, loadings, spread).sum(1) / (assignment.member @ noise)


def _power(assignment: Assignment, loadings: np.ndarray, spread: np.ndarray | None) -> np.ndarray:
    """E[|c|^2] of each column of loadings of each region, (region, column)."""
    square = loadings**2 if spread is None else loadings**2 + np.diagonal(spread, axis1=1, axis2=2)
    return assignment.member @ (square * assignment.used)
