r"""Coupled linear dynamics of several regions, with global states that nobody reads.

    x_{r,t+1} = A_r x_{r,t} + L_r (sum_s B_rs x_{s,t-l} + D_r g_t + e_t),        g_{t+1} = G g_t + q_t,

with e_t ~ N(0, I), L_r L_r' = I - A_r A_r', q_t ~ N(0, I - G G'). Neurons of region r read x_r, so that any change of
coordinates of x_r can be absorbed by their loadings. Coordinates are chosen in which **a region left alone has states
of variance 1, independent of each other**: then A_r is any contraction, and what edges add is measured in units of the
region's own innovations. What is left is a rotation for each region, and for g.

A trial begins anywhere in the process of all regions together. The state is x_t, g_t, and x_{t-1} ... x_{t-l}.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import block_diag

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout, symmetric
from mrgp.likelihoods.recursions.steady import accumulated
from mrgp.likelihoods.recursions.whole import Alike
from mrgp.likelihoods.statespace.assemble import Latents, SignalReader
from mrgp.likelihoods.statespace.linear import slowest_first
from mrgp.likelihoods.statespace.readout import Window
from mrgp.likelihoods.statespace.region_blocks import Regions
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS
from mrgp.parts.sites import Site

OWN = Site("own_dynamics", "state_after", "state")  # A, block-diagonal
COUPLING = Site("coupling", "state_after", "state")  # B, zero in the blocks of no edge
DRIVE = Site("drive", "state_after", "global_state")  # D
GLOBAL = Site("global_dynamics", "global_after", "global_state")  # G


class System(NamedTuple):
    """Transition and process noise of the whole state, (row, row) each."""

    transition: Array
    process_noise: Array


def system_of(own: Array, coupling: Array, drive: Array, shared: Array, lag: int) -> System:
    """Lay out the dynamics of x_t, g_t and the past of x.

    Args:
        own, coupling: A and B, (state_after, state).
        drive: D, (state_after, global_state).
        shared: G, (global_after, global_state).
        lag: Bins by which edges are later than the one bin that each takes.
    """
    n, m = drive.shape
    eye, zero = jnp.eye(n, dtype=own.dtype), jnp.zeros((n, n), own.dtype)
    root = jnp.linalg.cholesky(eye - own @ own.T)  # in blocks, as A is
    edges = root @ coupling
    now, past = (own + edges, []) if lag == 0 else (own, [zero] * (lag - 1) + [edges])
    top = jnp.concatenate([now, root @ drive, *past], 1)
    middle = jnp.concatenate([jnp.zeros((m, n), own.dtype), shared, jnp.zeros((m, lag * n), own.dtype)], 1)
    size = n + m + lag * n
    older = [_pick(n, 0 if k == 0 else n + m + (k - 1) * n, size) for k in range(lag)]
    A = jnp.concatenate([top, middle, *older])
    noise = jnp.zeros_like(A).at[:n, :n].set(root @ root.T)
    return System(A, noise.at[n : n + m, n : n + m].set(jnp.eye(m, dtype=own.dtype) - shared @ shared.T))


def _pick(count: int, first: int, size: int) -> np.ndarray:
    """Rows that read ``count`` states from ``first`` on, (count, size)."""
    return np.eye(size)[first : first + count]


def settled(system: System) -> Array:
    """Stationary covariance of the whole state, (row, row); no numbers where there is none."""
    return symmetric(accumulated(*system))


@dataclass(frozen=True)
class CoupledSpace:
    """State space of coupled regions; static, and its own prior.

    Parameters are ``within``: ``own_dynamics`` and ``coupling`` (state_after, state), ``drive`` (state_after,
    global_state), and ``global_dynamics`` (1 for each state, global_after, global_state), the same for all.

    Attributes:
        assignment: States of each region are its within latents.
        lag: Bins, beyond the one that every edge takes.
    """

    assignment: LatentLayout
    lag: int = 0

    is_stationary: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    kinds: ClassVar[tuple[Alike, ...]] = ()
    is_standard: ClassVar[bool] = False

    @property
    def prior(self) -> Self:
        """The state space itself, which represents no other prior."""
        return self

    @property
    def window(self) -> Window:
        """One bin per step, no registers of latents that are read."""
        return Window(0)

    def for_reading(self) -> Self:
        """Refuse: the process has steps, and no values between them."""
        raise ValueError("coupled linear dynamics have no values between bins: use refine=1")

    def assemble(self, latents: Latents) -> tuple[Dynamics, StateReadout]:
        """Build the dynamics and the readout of the model.

        See :class:`mrgp.likelihoods.statespace.assemble.Space`.
        """
        own, coupling, drive = (jnp.asarray(latents.within[site.name]) for site in (OWN, COUPLING, DRIVE))
        system = system_of(own, coupling, drive, jnp.asarray(latents.within[GLOBAL.name])[0], self.lag)
        n = len(own)
        weights = jnp.asarray(_pick(n, 0, len(system.transition)), own.dtype)
        return Dynamics(*system, settled(system)), StateReadout(weights[None], jnp.zeros((1, n), own.dtype))

    def signal_reader(self, latents: Latents, kind: str, refine: int) -> SignalReader:
        """Weights that read the states of regions; there are no across latents."""
        count = len(self.assignment.region_of_within) if kind == "within" else 0
        return SignalReader(jnp.ones((1, count, 1)), jnp.zeros((1, count)), 0)


def parameters_of(own: Array, coupling: Array, drive: Array, shared: Array) -> dict[str, Array]:
    """Parameters of within latents as :class:`CoupledSpace` takes them."""
    each = jnp.broadcast_to(shared, (len(own), *shared.shape))
    return {OWN.name: own, COUPLING.name: coupling, DRIVE.name: drive, GLOBAL.name: each}


def system_at(sites: Mapping[str, Any], lag: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transition, process noise and stationary covariance at given sites, (row, row) each."""
    own = jnp.asarray(sites[OWN.name])
    shared = jnp.asarray(sites.get(GLOBAL.name, np.zeros((0, 0))))
    drive = jnp.asarray(sites.get(DRIVE.name, np.zeros((len(own), 0))))
    system = system_of(own, jnp.asarray(sites[COUPLING.name]), drive, shared, lag)
    return np.asarray(system.transition), np.asarray(system.process_noise), np.asarray(settled(system))


def innovation_root(own: np.ndarray) -> np.ndarray:
    """L of L L' = I - A A', lower triangular and in blocks, (state, state)."""
    return np.linalg.cholesky(np.eye(len(own)) - own @ own.T)


def rotated(sites: Mapping[str, Any], assignment: LatentLayout, U: np.ndarray) -> dict[str, np.ndarray]:
    """Rotate the states of regions to coordinates z, x = U z; U is orthogonal and in blocks."""
    turned = {name: np.asarray(value) for name, value in sites.items()}
    regions, own = Regions(assignment.n_within), turned[OWN.name]
    turned[OWN.name] = np.where(regions.own, U.T @ own @ U, 0.0)
    # Roots of the innovations turn on either side, U' L = L_z V' with a rotation V of its own.
    back = np.linalg.solve(innovation_root(turned[OWN.name]), U.T @ innovation_root(own))
    back = np.where(regions.own, back, 0.0)
    turned[COUPLING.name] = back @ turned[COUPLING.name] @ U
    if DRIVE.name in turned:
        turned[DRIVE.name] = back @ turned[DRIVE.name]
    blocks = np.asarray(regions.padded(jnp.asarray(U)))[assignment.region_of_neuron]
    C = turned[LOADINGS.name]
    return turned | {LOADINGS.name: np.where(assignment.used, np.einsum("nk,nkj->nj", C, blocks), C)}


def ordered(sites: Mapping[str, Any], assignment: LatentLayout) -> dict[str, np.ndarray]:
    """Rotate states so that the modes of their own dynamics come slowest first.

    Those of each region turn among themselves, and so do global ones.
    """
    turned = rotated(sites, assignment, block_diag(*(slowest_first(block) for block in own_blocks(sites, assignment))))
    if GLOBAL.name in turned:
        V = slowest_first(turned[GLOBAL.name])
        turned |= {GLOBAL.name: V.T @ turned[GLOBAL.name] @ V, DRIVE.name: turned[DRIVE.name] @ V}
    return turned


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
    turning = [site.name for site in (OWN, COUPLING, DRIVE, GLOBAL, LOADINGS) if site.name in reference]
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
            sites |= {GLOBAL.name: V.T @ sites[GLOBAL.name] @ V, DRIVE.name: sites[DRIVE.name] @ V}
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
