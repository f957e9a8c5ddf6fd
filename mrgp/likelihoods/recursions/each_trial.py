r"""Filter and smoother for trials that each have covariances of their own.

The model is that of ``recursions.filter``, with weights that are constant, and measurements c are given by roots F of
their precisions, Lambda_t = F F', and h_t = F' c_t: exp(-|F' x - h|^2 / 2). With C = P W', V = W C + E, and the
Cholesky factor L of I + F' V F, all of one update follows from

    J = L^-1 F',   D = C J',   w = L^-1 (h - F' mu),      P <- P - D D',   m <- m + D w,
    log E exp(-|F' x - h|^2 / 2) = -|w|^2 / 2 - log |L|,

and the adjoints (see ``recursions.smoother``) from Y = J W, with a = A' r_t, g = w - D' a, and N_A = A' N_t A,

    r_{t-1} = a + Y' g,                              E[x_t] = mu + C' r_{t-1} + E J' g,
    N_{t-1} = (I - D Y)' N_A (I - D Y) + Y' Y,       cov x_t = V - (V J')(V J')' - T N_A T',   T = C' - V J' D'.

Arrays are matrices of which each entry is a vector over trials, (row, column, trial): products of small matrices are
sums of such vectors, and A is applied to all trials at once. A library's product of 64 pairs of small matrices takes
three times as long.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout


class Steps(NamedTuple):
    """Results of the covariance recursion, each (time, row, column, trial).

    Attributes:
        cross: C = P W', (..., state, readout, trial).
        gain: D, (..., state, readout, trial).
        half: J, (..., readout, readout, trial).
        factor: L, (..., readout, readout, trial).
    """

    cross: Array
    gain: Array
    half: Array
    factor: Array


def steps_of(dynamics: Dynamics, readout: StateReadout, roots: Array) -> Steps:
    """Run the covariance recursion for roots F, (time, readout, readout, trial)."""
    A, W, E = dynamics.transition, readout.weights[0], readout.noise[0]
    eye = jnp.eye(len(W), dtype=W.dtype)[..., None]

    def step(P: Array, F: Array) -> tuple[Array, Steps]:
        cross = _swapped(_applied(W, P))
        V = _applied(W, cross) + jnp.diag(E)[..., None]
        L = _cholesky(eye + _product(_swapped(F), _product(V, F)))
        J = _solved(L, _swapped(F))
        D = _product(cross, _swapped(J))
        filtered = P - _product(D, _swapped(D))
        following = _applied(A, _swapped(_applied(A, filtered)))
        return 0.5 * (following + _swapped(following)) + dynamics.process_noise[..., None], Steps(cross, D, J, L)

    start = jnp.broadcast_to(dynamics.stationary[..., None], (*dynamics.stationary.shape, roots.shape[-1]))
    return _scan(step, start, roots)


def smoothed_means(
    dynamics: Dynamics, readout: StateReadout, roots: Array, steps: Steps, measured: Array
) -> tuple[Array, Array]:
    """Posterior means of readouts, and innovations w, each (time, readout, trial).

    ``measured`` is h, (time, readout, trial).
    """
    A, W, E = dynamics.transition, readout.weights[0], readout.noise[0][:, None]

    def forward(m: Array, given: tuple[Array, Array, Steps]) -> tuple[Array, tuple[Array, Array]]:
        F, h, own = given
        mu = W @ m
        w = _solved(own.factor, (h - _along(_swapped(F), mu))[:, None])[:, 0]
        return A @ (m + _along(own.gain, w)), (mu, w)

    def backward(r: Array, given: tuple[Steps, Array, Array]) -> tuple[Array, Array]:
        own, mu, w = given
        a = A.T @ r
        adjoint = _along(_swapped(own.half), w - _along(_swapped(own.gain), a))
        before = a + W.T @ adjoint
        return before, mu + _along(_swapped(own.cross), before) + E * adjoint

    zero = jnp.zeros((len(A), roots.shape[-1]), A.dtype)
    mu, w = _scan(forward, zero, (roots, measured, steps))
    return _scan(backward, zero, (steps, mu, w), reverse=True), w


def smoothed_covariances(dynamics: Dynamics, readout: StateReadout, steps: Steps) -> Array:
    """Posterior covariances of readouts of every bin, (time, readout, readout, trial)."""
    A, W, E = dynamics.transition, readout.weights[0], readout.noise[0]

    def backward(N: Array, own: Steps) -> tuple[Array, Array]:
        within = _applied(A.T, _swapped(_applied(A.T, N)))
        J, D = own.half, own.gain
        Y = _swapped(_applied(W.T, _swapped(J)))
        Z = _product(within, D)
        low = _product(Z, Y)
        middle = _product(_swapped(D), Z) + jnp.eye(len(W), dtype=A.dtype)[..., None]
        before = within - low - _swapped(low) + _product(_swapped(Y), _product(middle, Y))
        V = _applied(W, own.cross) + jnp.diag(E)[..., None]
        VJ = _product(V, _swapped(J))
        T = _swapped(own.cross) - _product(VJ, _swapped(D))
        covariance = V - _product(VJ, _swapped(VJ)) - _product(_product(T, within), _swapped(T))
        return 0.5 * (before + _swapped(before)), 0.5 * (covariance + _swapped(covariance))

    return _scan(backward, jnp.zeros((*A.shape, steps.cross.shape[-1]), A.dtype), steps, reverse=True)


def log_normalizers(steps: Steps, innovations: Array) -> Array:
    """log E exp(-|F' x - h|^2 / 2) of each trial, (trial,)."""
    diagonal = jnp.diagonal(steps.factor, axis1=1, axis2=2)  # (time, trial, readout)
    return -jnp.log(diagonal).sum((0, 2)) - 0.5 * (innovations**2).sum((0, 1))


def _scan(step: Any, start: Array, inputs: Any, reverse: bool = False) -> Any:
    """Outputs of a recursion; for its slopes, steps are done again rather than kept."""
    return lax.scan(jax.checkpoint(step, prevent_cse=False), start, inputs, reverse=reverse)[1]


def _swapped(matrix: Array) -> Array:
    return jnp.swapaxes(matrix, 0, 1)


def _applied(shared: Array, matrix: Array) -> Array:
    """Product of one matrix for all trials with those of trials, (row, column, trial)."""
    return jnp.tensordot(shared, matrix, 1)


def _product(left: Array, right: Array) -> Array:
    """Product of matrices of trials, (row, column, trial)."""
    return (left[:, :, None] * right[None]).sum(1)


def _along(matrix: Array, vector: Array) -> Array:
    """Product of matrices (row, column, trial) and vectors (column, trial)."""
    return (matrix * vector[None]).sum(1)


def _cholesky(matrix: Array) -> Array:
    """Lower factor of (row, column, trial), column by column."""
    columns: list[Array] = []
    for j in range(len(matrix)):
        rest = matrix[j:, j]
        if columns:
            done = jnp.stack([column[j:] for column in columns])  # (column, row, trial)
            rest = rest - (done * done[:, :1]).sum(0)
        column = rest / jnp.sqrt(rest[:1])
        columns.append(jnp.concatenate([jnp.zeros_like(matrix[:j, j]), column]))
    return jnp.stack(columns, 1)


def _solved(factor: Array, right: Array) -> Array:
    """factor^-1 right for lower factors (row, row, trial), right (row, column, trial)."""
    rows: list[Array] = []
    for i in range(len(factor)):
        rest = right[i]
        if rows:
            rest = rest - (factor[i, :i, None] * jnp.stack(rows)).sum(0)
        rows.append(rest / factor[i, i])
    return jnp.stack(rows)
