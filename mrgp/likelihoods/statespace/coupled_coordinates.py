r"""Coordinates of the states of coupled regions: rotations, and those of both kinds of start.

See :mod:`mrgp.likelihoods.statespace.coupled` for both kinds.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.linalg import block_diag

from mrgp.likelihoods.statespace.coupled import (
    COUPLING,
    DRIVE,
    FIRST_MEAN,
    FIRST_ROOT,
    GLOBAL,
    OWN,
    system_at,
    system_of,
)
from mrgp.likelihoods.statespace.linear import START_FLOOR, slowest_first, stationary_covariance
from mrgp.likelihoods.statespace.region_blocks import Regions
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS

TURNING = (OWN, COUPLING, DRIVE, GLOBAL, FIRST_MEAN, FIRST_ROOT, LOADINGS)  # sites that turn with states


def innovation_root(own: np.ndarray) -> np.ndarray:
    """L of L L' = I - A A', lower triangular and in blocks, (state, state)."""
    return np.linalg.cholesky(np.eye(len(own)) - own @ own.T)


def rotated(
    sites: Mapping[str, Any], assignment: LatentLayout, U: np.ndarray, V: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Rotate states to coordinates z, x = U z and g = V z.

    Both are orthogonal, and U is in the blocks of regions; None leaves global states as they are.
    """
    turned = {name: np.asarray(value) for name, value in sites.items()}
    regions, own = Regions(assignment.n_within), turned[OWN.name]
    turned[OWN.name] = np.where(regions.own, U.T @ own @ U, 0.0)
    if FIRST_MEAN.name in turned:
        back = U.T
    else:  # roots of the innovations turn on either side, U' L = L_z V' with a rotation V of its own
        back = np.linalg.solve(innovation_root(turned[OWN.name]), U.T @ innovation_root(own))
        back = np.where(regions.own, back, 0.0)
    turned[COUPLING.name] = back @ turned[COUPLING.name] @ U
    V = np.eye(len(turned.get(GLOBAL.name, ()))) if V is None else V
    if DRIVE.name in turned:
        turned |= {DRIVE.name: back @ turned[DRIVE.name] @ V, GLOBAL.name: V.T @ turned[GLOBAL.name] @ V}
    if FIRST_MEAN.name in turned:
        whole = whole_rotation(U, V, len(turned[FIRST_MEAN.name]))
        square = whole.T @ turned[FIRST_ROOT.name]
        turned |= {FIRST_MEAN.name: whole.T @ turned[FIRST_MEAN.name], FIRST_ROOT.name: lower(square)}
    C = turned[LOADINGS.name]
    turns = np.einsum("nk,nkj->nj", C, of_neurons(U, assignment))
    return turned | {LOADINGS.name: np.where(assignment.used, turns, C)}


def whole_rotation(U: np.ndarray, V: np.ndarray, size: int) -> np.ndarray:
    """Rotation of x_t, g_t and the past of x, (row, row)."""
    lag = (size - len(U) - len(V)) // max(len(U), 1)
    return block_diag(U, V, *[U] * lag)


def of_neurons(U: np.ndarray, assignment: LatentLayout) -> np.ndarray:
    """Rotation of the states that each neuron reads, (neuron, column, column)."""
    blocks = Regions(assignment.n_within).padded(jnp.asarray(U))
    return np.asarray(blocks)[assignment.region_of_neuron]


def lower(root: np.ndarray) -> np.ndarray:
    """Lower triangular S of the same S S', (row, row)."""
    return np.linalg.qr(root.T, mode="r").T


def ordered(sites: Mapping[str, Any], assignment: LatentLayout) -> dict[str, np.ndarray]:
    """Rotate states so that the modes of their own dynamics come slowest first.

    Those of each region turn among themselves, and so do global ones.
    """
    return rotated(sites, assignment, *ordering(sites, assignment))


def ordering(sites: Mapping[str, Any], assignment: LatentLayout) -> tuple[np.ndarray, np.ndarray]:
    """Rotations U of states and V of global states that order their modes."""
    U = block_diag(*(slowest_first(block) for block in own_blocks(sites, assignment)))
    return U, slowest_first(np.asarray(sites[GLOBAL.name])) if GLOBAL.name in sites else np.zeros((0, 0))


def aligned(
    draws: Mapping[str, Any], assignment: LatentLayout, reference: Mapping[str, Any], noise: np.ndarray
) -> dict[str, np.ndarray]:
    """Turn the states of each draw to where what reads them is nearest to that of ``reference``.

    Squares of neurons are weighted by 1 over their ``noise``. Draws in which not all is drawn that turns stay.

    Args:
        draws: Site -> array (..., *site).
        assignment: States of each region.
        reference: Sites of the fit.
        noise: Of neurons, (neuron,).
    """
    turning = [site.name for site in TURNING if site.name in reference]
    if not draws.keys() >= set(turning):
        return {name: np.asarray(value) for name, value in draws.items()}
    lead = np.shape(draws[OWN.name])[:-2]
    flat = {name: np.reshape(draws[name], (-1, *np.shape(draws[name])[len(lead) :])) for name in turning}
    goal, regions = np.asarray(reference[LOADINGS.name]) / noise[:, None], assignment.region_of_neuron
    turned: dict[str, list[np.ndarray]] = {name: [] for name in turning}
    for one in range(len(flat[OWN.name])):
        sites = {name: value[one] for name, value in flat.items()}
        blocks = [
            _nearest(sites[LOADINGS.name][regions == r, :size], goal[regions == r, :size])
            for r, size in enumerate(assignment.n_within)
        ]
        sites = rotated(sites, assignment, block_diag(*blocks))
        if DRIVE.name in sites:
            V = _nearest(sites[DRIVE.name], np.asarray(reference[DRIVE.name]))
            sites = rotated(sites, assignment, np.eye(len(sites[OWN.name])), V)
        for name in turning:
            turned[name].append(sites[name])
    found = {name: np.reshape(np.stack(values), np.shape(draws[name])) for name, values in turned.items()}
    return {name: np.asarray(value) for name, value in draws.items()} | found


def _nearest(values: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Find the rotation U that brings ``values`` U nearest to ``goal``."""
    left, _, right = np.linalg.svd(values.T @ goal)
    return left @ right


def own_blocks(sites: Mapping[str, Any], assignment: LatentLayout) -> list[np.ndarray]:
    """Own dynamics A_r of each region, (state_after, state) each."""
    return [np.asarray(sites[OWN.name])[part, part] for part in Regions(assignment.n_within).slices]


# ---- from one kind of start to the other -----------------------------------------------------------------------------


def with_learned_start(sites: Mapping[str, Any], assignment: LatentLayout, lag: int) -> dict[str, np.ndarray]:
    """Write a system that begins in its stationary process as one whose first state is learned.

    With x = L z and g = L_g z, innovations have variance 1.
    """
    found = {name: np.asarray(value) for name, value in sites.items()}
    own = found[OWN.name]
    shared = found.get(GLOBAL.name, np.zeros((0, 0)))
    *_, P = system_at(found, lag)
    root, of_global = innovation_root(own), innovation_root(shared)
    whole = block_diag(root, of_global, *[root] * lag)
    half = np.linalg.solve(whole, P)
    square = np.linalg.solve(whole, half.T)
    first = {FIRST_MEAN.name: np.zeros(len(P)), FIRST_ROOT.name: root_of(square)}
    found |= {OWN.name: np.linalg.solve(root, own @ root), COUPLING.name: found[COUPLING.name] @ root, **first}
    if len(shared):
        found |= {
            GLOBAL.name: np.linalg.solve(of_global, shared @ of_global),
            DRIVE.name: found[DRIVE.name] @ of_global,
        }
    return found | {LOADINGS.name: _read(found[LOADINGS.name], root, assignment)}


def settled_coordinates(
    sites: Mapping[str, Any], assignment: LatentLayout
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Write a system whose first state is learned in the coordinates of a stationary start.

    Returns its sites and T of x = T z; sites of a stationary start as they are.

    Raises:
        np.linalg.LinAlgError: a region left alone, or the global states, have no stationary covariance.
    """
    found = {name: np.asarray(value) for name, value in sites.items()}
    own = found[OWN.name]
    if FIRST_MEAN.name not in found:
        return found, np.eye(len(own))
    blocks = own_blocks(sites, assignment)
    T = block_diag(*(np.linalg.cholesky(stationary_covariance(block, np.eye(len(block)))) for block in blocks))
    regions = Regions(assignment.n_within)
    alone = np.where(regions.own, np.linalg.solve(T, own @ T), 0.0)
    back = np.linalg.inv(T @ innovation_root(alone))  # a rotation
    del found[FIRST_MEAN.name], found[FIRST_ROOT.name]
    found |= {OWN.name: alone, COUPLING.name: back @ found[COUPLING.name] @ T}
    if GLOBAL.name in found:
        shared = found[GLOBAL.name]
        S = np.linalg.cholesky(stationary_covariance(shared, np.eye(len(shared))))
        found |= {GLOBAL.name: np.linalg.solve(S, shared @ S), DRIVE.name: back @ found[DRIVE.name] @ S}
    return found | {LOADINGS.name: _read(found[LOADINGS.name], T, assignment)}, T


def sds_of_states(sites: Mapping[str, Any], assignment: LatentLayout, lag: int) -> np.ndarray:
    """Standard deviation of each number of the whole state, (row,), in the long run.

    The first state is learned; ones where nothing settles.
    """
    own = jnp.asarray(sites[OWN.name])
    shared = jnp.asarray(sites.get(GLOBAL.name, np.zeros((0, 0))))
    drive = jnp.asarray(sites.get(DRIVE.name, np.zeros((len(own), 0))))
    system = system_of(own, jnp.asarray(sites[COUPLING.name]), drive, shared, lag, learned_start=True)
    try:
        P = stationary_covariance(*map(np.asarray, system))
    except np.linalg.LinAlgError:
        return np.ones(len(system.transition))
    return np.sqrt(np.diagonal(P))


def _read(loadings: np.ndarray, T: np.ndarray, assignment: LatentLayout) -> np.ndarray:
    """Loadings of states z, x = T z."""
    changed = np.einsum("nk,nkj->nj", loadings, of_neurons(T, assignment))
    return np.where(assignment.used, changed, loadings)


def root_of(square: np.ndarray) -> np.ndarray:
    """Root S of a first state's covariance S S' + floor I, lower triangular."""
    values, vectors = np.linalg.eigh(0.5 * (square + square.T))
    return lower(vectors * np.sqrt(np.maximum(values - START_FLOOR, 0.0)))
