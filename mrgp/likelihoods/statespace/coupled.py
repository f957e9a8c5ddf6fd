r"""Coupled linear dynamics of several regions, with global states that nobody reads.

    x_{r,t+1} = A_r x_{r,t} + L_r (sum_s B_rs x_{s,t-l} + D_r g_t + e_t),        g_{t+1} = G g_t + q_t,

with e_t ~ N(0, I), L_r L_r' = I - A_r A_r', q_t ~ N(0, I - G G'). Neurons of region r read x_r, so that any change of
coordinates of x_r can be absorbed by their loadings. Coordinates are chosen in which **a region left alone has states
of variance 1, independent of each other**: then A_r is any contraction, and what edges add is measured in units of the
region's own innovations. What is left is a rotation for each region, and for g.

A trial begins anywhere in the process of all regions together. The state is x_t, g_t, and x_{t-1} ... x_{t-l}.

Where **the first state is learned**, s_0 ~ N(m0, S S' + floor I) with m0 and S of the whole state, nothing has to be
stable. Coordinates are then those in which L = I and q_t ~ N(0, I): A_r and G are any matrices, and B_rs is measured in
sds of the target's innovations by sd of the source's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout, symmetric
from mrgp.likelihoods.recursions.steady import accumulated
from mrgp.likelihoods.recursions.whole import Alike
from mrgp.likelihoods.statespace.assemble import Latents, SignalReader
from mrgp.likelihoods.statespace.linear import START_FLOOR
from mrgp.likelihoods.statespace.readout import Window
from mrgp.parts.latents import LatentLayout
from mrgp.parts.sites import Site

OWN = Site("own_dynamics", "state_after", "state")  # A, block-diagonal
COUPLING = Site("coupling", "state_after", "state")  # B, zero in the blocks of no edge
DRIVE = Site("drive", "state_after", "global_state")  # D
GLOBAL = Site("global_dynamics", "global_after", "global_state")  # G
FIRST_MEAN = Site("first_state_mean", "whole_state")  # m0, where it is learned
FIRST_ROOT = Site("first_state_root", "whole_state", "start_direction")  # S, lower triangular


class System(NamedTuple):
    """Transition and process noise of the whole state, (row, row) each."""

    transition: Array
    process_noise: Array


def system_of(
    own: Array, coupling: Array, drive: Array, shared: Array, lag: int, learned_start: bool = False
) -> System:
    """Lay out the dynamics of x_t, g_t and the past of x.

    Args:
        own, coupling: A and B, (state_after, state).
        drive: D, (state_after, global_state).
        shared: G, (global_after, global_state).
        lag: Bins by which edges are later than the one bin that each takes.
        learned_start: Whether coordinates are those of a first state that is learned.
    """
    n, m = drive.shape
    eye, zero = jnp.eye(n, dtype=own.dtype), jnp.zeros((n, n), own.dtype)
    root = eye if learned_start else jnp.linalg.cholesky(eye - own @ own.T)  # in blocks, as A is
    edges = root @ coupling
    now, past = (own + edges, []) if lag == 0 else (own, [zero] * (lag - 1) + [edges])
    top = jnp.concatenate([now, root @ drive, *past], 1)
    middle = jnp.concatenate([jnp.zeros((m, n), own.dtype), shared, jnp.zeros((m, lag * n), own.dtype)], 1)
    size = n + m + lag * n
    older = [_pick(n, 0 if k == 0 else n + m + (k - 1) * n, size) for k in range(lag)]
    A = jnp.concatenate([top, middle, *older])
    noise = jnp.zeros_like(A).at[:n, :n].set(root @ root.T)
    left = jnp.eye(m, dtype=own.dtype) - (0.0 if learned_start else shared @ shared.T)
    return System(A, noise.at[n : n + m, n : n + m].set(left))


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
    global_state), and ``global_dynamics`` (1 for each state, global_after, global_state), the same for all. Where the
    start is learned there are also ``first_state_mean`` (1 for each state, row) and ``first_state_root`` (1 for each
    state, row, row).

    Attributes:
        assignment: States of each region are its within latents.
        lag: Bins, beyond the one that every edge takes.
        learned_start: Whether the first state has a mean and a covariance of its own.
    """

    assignment: LatentLayout
    lag: int = 0
    learned_start: bool = False

    remembers: ClassVar[bool] = True
    kinds: ClassVar[tuple[Alike, ...]] = ()
    is_standard: ClassVar[bool] = False

    @property
    def prior(self) -> Self:
        """The state space itself, which represents no other prior."""
        return self

    @property
    def is_stationary(self) -> bool:
        """True unless the first state is learned."""
        return not self.learned_start

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
        shared = jnp.asarray(latents.within[GLOBAL.name])[0]
        system = system_of(own, coupling, drive, shared, self.lag, self.learned_start)
        n = len(own)
        weights = jnp.asarray(_pick(n, 0, len(system.transition)), own.dtype)
        readout = StateReadout(weights[None], jnp.zeros((1, n), own.dtype))
        if not self.learned_start:
            return Dynamics(*system, settled(system)), readout
        mean, root = (jnp.asarray(latents.within[site.name])[0] for site in (FIRST_MEAN, FIRST_ROOT))
        return Dynamics(*system, first_covariance(root), mean), readout

    def signal_reader(self, latents: Latents, kind: str, refine: int) -> SignalReader:
        """Weights that read the states of regions; there are no across latents."""
        count = len(self.assignment.region_of_within) if kind == "within" else 0
        return SignalReader(jnp.ones((1, count, 1)), jnp.zeros((1, count)), 0)


def first_covariance(root: Array) -> Array:
    """Covariance of a first state that is learned, (row, row)."""
    return root @ root.T + START_FLOOR * jnp.eye(len(root), dtype=root.dtype)


def parameters_of(
    own: Array, coupling: Array, drive: Array, shared: Array, first: Mapping[str, Array]
) -> dict[str, Array]:
    """Parameters of within latents as :class:`CoupledSpace` takes them.

    ``first`` are those of a learned start.
    """
    whole = {GLOBAL.name: shared, **first}
    each = {name: jnp.broadcast_to(value, (len(own), *value.shape)) for name, value in whole.items()}
    return {OWN.name: own, COUPLING.name: coupling, DRIVE.name: drive, **each}


def system_at(sites: Mapping[str, Any], lag: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transition, process noise and stationary covariance, (row, row) each.

    Sites are those of a stationary start.
    """
    own = jnp.asarray(sites[OWN.name])
    shared = jnp.asarray(sites.get(GLOBAL.name, np.zeros((0, 0))))
    drive = jnp.asarray(sites.get(DRIVE.name, np.zeros((len(own), 0))))
    system = system_of(own, jnp.asarray(sites[COUPLING.name]), drive, shared, lag)
    return np.asarray(system.transition), np.asarray(system.process_noise), np.asarray(settled(system))
