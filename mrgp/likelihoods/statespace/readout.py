r"""Delays in the readout: one scalar latent has one state, whatever the number of regions.

The state of a latent is its Markov state z at the *front* of a window, and registers that remember g further
back, ``spacing`` apart::

    s_n = [z(front), g(front - spacing), ..., g(front - n_registers * spacing)]

The window reaches ``center`` bins ahead of region 1's clock and as far behind it, so that region r's copy
g(t - delay) lies inside it for every |delay| <= max_delay and is read by conditioning,

    E[g(t - delay) | s] = w(delay)' s,   w = G^-1 k(delay),   G = cov(s),   k = cov(s, g(t - delay)).

What conditioning leaves, 1 - 2 w'k + w'Gw, is added to the region's GP noise, so every copy keeps variance 1.
One step of the state covers ``step`` bins; between two steps lie ``substeps`` registers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve

from mrgp.likelihoods.recursions.filter import Shift
from mrgp.likelihoods.statespace.lift import Lift
from mrgp.part import Part
from mrgp.parts.kernels import Hyperparameters

RIDGE = {8: 1e-11, 4: 1e-5}  # keeps the Cholesky of G finite where registers are nearly copies; by item size


@dataclass(frozen=True)
class Window(Part, family="window", tag=""):
    """Shape of a delayed latent's state, a static choice.

    It is made from the kernel and ``max_delay``.

    Attributes:
        n_registers: Registers behind the front; 0 for none.
        step: Bins covered by one step of the state.
        substeps: Registers per step; the spacing of registers is ``step / substeps`` bins.
        shifts: Bins by which the window of each latent, or of all, runs ahead of where it would lie around region 1's
            clock, so that its middle is that of what is read; () for none.
    """

    n_registers: int
    step: int = 1
    substeps: int = 1
    shifts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shifts", tuple(self.shifts))  # a list as JSON has it, and not hashable
        if self.step < 1 or self.substeps < 1 or self.n_registers < 0:
            raise ValueError(f"a window needs step >= 1, substeps >= 1 and n_registers >= 0, not {self}")
        if 0 < self.n_registers < self.substeps or (self.step > 1 and self.substeps > 1):
            raise ValueError(
                f"a window needs at least as many registers as substeps, and one of step and substeps 1: {self}"
            )

    @property
    def spacing(self) -> float:
        """Bins between registers."""
        return self.step / self.substeps

    @property
    def center(self) -> float:
        """Bins by which the front runs ahead of the last bin of its step."""
        return (self.n_registers * self.spacing - (self.step - 1)) / 2

    @property
    def lead(self) -> np.ndarray:
        """Bins by which the front of each latent's window runs ahead, (latent,).

        One number, (), if it is equal for all.
        """
        return self.center + np.asarray(self.shifts or 0.0)


class LatentBlocks(NamedTuple):
    """State-space blocks of several latents of one kind, with their stationary covariance.

    Attributes:
        transition: (latent, state, state)
        process_noise: (latent, state, state)
        stationary: (latent, state, state), the covariance of the state.
        shift: The transition once more, as what shifts and what does not.
    """

    transition: Array
    process_noise: Array
    stationary: Array
    shift: Shift


def latent_blocks(lift: Lift, window: Window, hyper: Hyperparameters) -> LatentBlocks:
    """Transition, process noise and stationary covariance of the windowed state.

    They are exact for the lift.
    """
    p, n, m = lift.order, window.n_registers, window.substeps
    latents = hyper["timescale"].shape[0]
    lags = jnp.arange(max(n, m) + 1) * window.spacing
    A = lift.propagate(jnp.broadcast_to(lags[:, None], (len(lags), latents)), hyper)  # (lag, latent, p, p)
    h = jnp.asarray(lift.read(), A.dtype)
    front = A @ h  # cov(z, g a lag earlier): (lag, latent, p)
    back = jnp.einsum("i,klij->klj", h, A)  # row h' A(lag)
    kappa = front @ h  # (lag, latent)

    apart = np.abs(np.subtract.outer(np.arange(1, n + 1), np.arange(1, n + 1)))
    registers = jnp.moveaxis(kappa[apart], -1, 0)
    cross = jnp.moveaxis(front[1 : n + 1], 0, -1)  # (latent, p, n)
    top = jnp.concatenate([jnp.broadcast_to(jnp.eye(p, dtype=A.dtype), (latents, p, p)), cross], -1)
    stationary = jnp.concatenate([top, jnp.concatenate([jnp.swapaxes(cross, -1, -2), registers], -1)], -2)

    # Registers 1..m of the next state lie after the old front and are predicted from z; the rest shift.
    predicted = jnp.moveaxis(back[m - 1 - np.arange(min(m, n))], 0, 1)  # (latent, m, p)
    from_z = jnp.concatenate([A[m], predicted], axis=1)
    shift = np.eye(n, k=-m)[min(m, n) :]
    rows = jnp.concatenate(
        [
            jnp.pad(from_z, [(0, 0), (0, 0), (0, n)]),
            jnp.broadcast_to(np.pad(shift, [(0, 0), (p, 0)]), (latents, n - min(m, n), p + n)),
        ],
        axis=1,
    )
    fresh = p + max(min(m, n) - 1, 0)  # register m is the old front itself: no noise enters it
    noise = stationary[:, :fresh, :fresh] - from_z[:, :fresh] @ jnp.swapaxes(from_z[:, :fresh], -1, -2)
    rest = p + n - fresh
    noise = jnp.pad(noise, [(0, 0), (0, rest), (0, rest)])
    return LatentBlocks(rows, noise, stationary, Shift(from_z, n - min(m, n)))


class Past(NamedTuple):
    """Offset and share of the bin before, which innovations subtract; each (point, latent).

    See ``emissions.autocorrelated``.

    Attributes:
        offset: Where the bin before is read, bins behind the front.
        phi: The share of it that is subtracted.
        first: Whether there is no bin before: then sqrt(1 - phi^2) g is read.
    """

    offset: Array
    phi: Array
    first: Array


def readout_weights(
    lift: Lift,
    window: Window,
    blocks: LatentBlocks,
    hyper: Hyperparameters,
    offset: Array,
    past: Past | None = None,
) -> tuple[Array, Array]:
    """Weights that read g at ``offset`` bins behind the front, and the variance they miss.

    The front is that of the window.

    Args:
        lift, window, hyper: As in :func:`latent_blocks`.
        blocks: What :func:`latent_blocks` returned.
        offset: (point, latent), bins; beyond either end of the window the latent is extrapolated.
        past: Read innovations instead of g: g(offset) - phi g(past offset).

    Returns:
        Weights (point, latent, state) and residual variances (point, latent).
    """
    k = _with_state(lift, window, hyper, offset)
    variance: Array | float = 1.0
    if past is not None:
        h = jnp.asarray(lift.read(), offset.dtype)
        apart = jnp.einsum("i,...ij,j->...", h, lift.propagate(jnp.abs(past.offset - offset), hyper), h)
        start = jnp.sqrt(1 - past.phi**2)
        later = k - past.phi[..., None] * _with_state(lift, window, hyper, past.offset)
        k = jnp.where(past.first[..., None], start[..., None] * k, later)
        variance = jnp.where(past.first, start**2, 1 + past.phi**2 - 2 * past.phi * apart)
    G = blocks.stationary
    if window.n_registers == 0 or G.size == 0:
        weights = k  # G = I
    else:
        ridge = RIDGE[G.dtype.itemsize] * jnp.eye(G.shape[-1], dtype=G.dtype)
        weights = jnp.moveaxis(solve(G + ridge, jnp.moveaxis(k, 0, -1), assume_a="pos"), -1, 0)
    missed = variance - jnp.einsum("qki,qki->qk", weights, 2 * k - jnp.einsum("kij,qkj->qki", G, weights))
    # Round-off may leave it just below 0; the correction is a constant, so that the derivative stays whole.
    return weights, missed + lax.stop_gradient(jnp.maximum(-missed, 0.0))


def _with_state(lift: Lift, window: Window, hyper: Hyperparameters, offset: Array) -> Array:
    """cov(g(offset behind the front), s), (point, latent, state)."""
    h = jnp.asarray(lift.read(), offset.dtype)
    behind = jnp.arange(1, window.n_registers + 1, dtype=offset.dtype) * window.spacing
    apart = jnp.concatenate([offset[None], offset - behind[:, None, None]])  # from the front and every register
    A = lift.propagate(jnp.abs(apart), hyper)  # (front and registers, point, latent, p, p)
    ahead = A @ h
    with_front = jnp.where(offset[..., None] >= 0, ahead[0], jnp.einsum("i,...ij->...j", h, A[0]))
    with_registers = ahead[1:] @ h
    return jnp.concatenate([with_front, jnp.moveaxis(with_registers, 0, -1)], axis=-1)
