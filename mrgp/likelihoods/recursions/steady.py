r"""Filter of a stationary process that is measured in the same way at every step.

Its gain never changes.

With P the covariance at which the Riccati recursion rests, K the gain and F the closed loop there, a filter that begins
at s_0 ~ N(0, P) has K and F at every step, so that no covariance is followed through time. A trial's own start P0 is
wider by D = P0 - P, as if s_0 jumped by delta ~ N(0, D) besides. Of the jump the innovations tell a linear and a
quadratic form (as of the unknown starts of de Jong 1991, Ann. Stat. 19),

    log p(b | delta) = log Z(P) + r' delta - delta' N delta / 2,
    r = sum_t F'^t W' u_t,   u_t = (I + Lambda V)^-1 (b_t - Lambda W m_t),   V = W P W' + E,
    N = sum_t F'^t W' Phi W F^t,   Phi = (I + Lambda V)^-1 Lambda,

and integrated over the jump they give exactly

    log Z(P0) = log Z(P) + r' (I + D N)^-1 D r / 2 - log|I + D N| / 2.

P is found by doubling (Chu, Fan, Lin & Wang 2004, Int. J. Control 77): each pass doubles the number of steps taken, so
that ten or so stand for as many steps as a process remembers. Its derivative is that of a fixed point.
"""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array, lax

from mrgp.likelihoods.recursions.filter import (
    Dynamics,
    Gains,
    StateReadout,
    gains_of,
    measurement_update,
    symmetric,
)

DOUBLINGS = 40  # at the most
RESTING = 4.0  # units of rounding: a covariance that moves by less has come to rest
POLISH = 2  # steps of the recursion itself, which damp what doubling has rounded


class Steady(NamedTuple):
    """Filter with one gain for all steps, and the jump at the start of its trials.

    Arrays lead with patterns.

    Attributes:
        dynamics: Of the process.
        weights: W, (readout, state).
        gains: Of every step, without a time axis.
        told: W F^t for every t, (time, pattern, readout, state).
        jump: D, (pattern, state, state).
    """

    dynamics: Dynamics
    weights: Array
    gains: Gains
    told: Array
    jump: Array

    @classmethod
    def of(cls, dynamics: Dynamics, readout: StateReadout, precision: Array, n_steps: int) -> Self:
        """Find the gain of a stationary process that begins at mean 0.

        Trials have at most ``n_steps``. W, E and Lambda (pattern, readout, readout) are the same at every step; so W
        and E have a time axis of length 1.
        """
        A, W, E = dynamics.transition, readout.weights[0], readout.noise[0]
        P = steady_covariance(dynamics, W, E, precision)
        update = jax.vmap(measurement_update, in_axes=(0, None, None, 0))(P, W, E, precision)
        gains = gains_of(A, P, W, precision, update)
        first = jnp.broadcast_to(W, (len(P), *W.shape))
        told = lax.scan(lambda told, _: (told @ gains.closed, told), first, None, length=n_steps)[1]
        return cls(dynamics, W, gains, told, dynamics.stationary - P)

    def log_normalizer(self, information: Array, pattern: Array, valid: Array | None) -> Array:
        """log E exp(sum_t b'x - x' Lambda x / 2) of each trial, (trial,).

        Args:
            information: b, (time, trial, readout).
            pattern: (trial,).
            valid: (time, trial), 0 after a trial's last step, else 1; None where trials are equally long.
        """

        def step(mean: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
            mu = self.weights @ mean
            residual = b - _per_column(self.gains.precision, mu, pattern)
            half = _per_column(self.gains.half, residual, pattern)
            term = 0.5 * ((b + residual) * mu + half**2).sum(0) + self.gains.log_determinant[pattern]
            innovation = _per_column(self.gains.back, half, pattern)
            return self.dynamics.advanced(mean) + _per_column(self.gains.ahead, innovation, pattern), (term, innovation)

        # Trials come last, so that registers, which only shift, shift as whole rows; products that could be taken of
        # all steps at once are faster here than transposing what they are of.
        start = jnp.zeros((self.weights.shape[1], information.shape[1]), information.dtype)
        # Of a step only its mean is kept for slopes; what else it makes costs less to make again than to keep: arrays
        # of 32 MiB and more are fresh pages at every evaluation, which takes as long as the filter.
        lean = jax.checkpoint(step, prevent_cse=False)
        terms, innovation = lax.scan(lean, start, jnp.swapaxes(information, 1, 2))[1]
        if valid is None:
            return terms.sum(0) + self._of_jump(innovation, pattern)
        return ((terms + self._of_jump_by_step(innovation, pattern)) * valid).sum(0)

    def _of_jump(self, innovation: Array, pattern: Array) -> Array:
        """Gain of log Z by the jump at the start, of whole trials, (trial,).

        Innovations are (time, readout, trial).
        """
        states = self.weights.shape[1]
        rows = jnp.swapaxes(self.told, 0, 1).reshape(len(self.gains.phi), -1, states)
        weighted = jnp.swapaxes(self.gains.phi @ self.told, 0, 1).reshape(rows.shape)
        linear = _per_column(_transposed(rows), innovation.reshape(-1, innovation.shape[-1]), pattern)
        system = jnp.eye(states, dtype=rows.dtype) + self.jump @ (_transposed(rows) @ weighted)
        settled = _per_column(jnp.linalg.solve(system, self.jump), linear, pattern)
        return 0.5 * (linear * settled).sum(0) - 0.5 * jnp.linalg.slogdet(system)[1][pattern]

    def _of_jump_by_step(self, innovation: Array, pattern: Array) -> Array:
        """Gain of log Z by the jump at the start, step by step, (time, trial).

        It is for trials that end one by one. The steps learn of the jump one after another: its law N(mean, covariance)
        is updated by the readouts W F^t delta.
        """
        eye = jnp.eye(len(self.weights), dtype=innovation.dtype)

        def step(law: tuple[Array, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            mean, covariance = law
            read, u = inputs
            cross = covariance @ _transposed(read)
            spread = symmetric(read @ cross)
            system = eye + self.gains.phi @ spread
            inverse = jnp.linalg.inv(system)
            expected = _per_column(read, mean, pattern)
            residual = u - _per_column(self.gains.phi, expected, pattern)
            moved = _per_column(inverse, residual, pattern)
            quadratic = ((u + residual) * expected + residual * _per_column(spread, moved, pattern)).sum(0)
            learned = cross @ inverse @ self.gains.phi @ _transposed(cross)
            law = mean + _per_column(cross, moved, pattern), symmetric(covariance - learned)
            return law, 0.5 * quadratic - 0.5 * jnp.linalg.slogdet(system)[1][pattern]

        start = jnp.zeros((self.weights.shape[1], innovation.shape[-1]), innovation.dtype), self.jump
        return lax.scan(step, start, (self.told, innovation))[1]


def _per_column(matrices: Array, vectors: Array, pattern: Array) -> Array:
    """Apply (pattern, row, column) matrices to (column, trial) vectors.

    Each trial has the matrix of its own pattern.
    """
    if matrices.shape[0] == 1:
        return matrices[0] @ vectors
    return jnp.einsum("bij,jb->ib", matrices[pattern], vectors)


def _transposed(matrices: Array) -> Array:
    return jnp.swapaxes(matrices, -1, -2)


def steady_covariance(dynamics: Dynamics, weights: Array, noise: Array, precision: Array) -> Array:
    """Predicted covariance at which the recursion rests, (pattern, state, state).

    W is (readout, state), the diagonal of E (readout,), Lambda (pattern, readout, readout).
    """
    rest = jax.vmap(_resting, in_axes=(None, None, None, None, 0))
    return rest(dynamics.transition, dynamics.process_noise, weights, noise, precision)


@jax.custom_jvp
def _resting(A: Array, Q: Array, W: Array, E: Array, told: Array) -> Array:
    """Fixed point of :func:`_step` for one pattern, by doubling from a start that is known."""
    solved = jnp.linalg.solve(jnp.eye(len(E), dtype=A.dtype) + told * E, told)
    G, H = W.T @ symmetric(solved) @ W, Q
    eye = jnp.eye(len(A), dtype=A.dtype)
    rest = RESTING * jnp.finfo(A.dtype).eps

    def goes_on(state: tuple[Any, ...]) -> Array:
        _, _, H, change, count = state
        return (change > rest * jnp.abs(H).max()) & (count < DOUBLINGS)

    def doubled(state: tuple[Any, ...]) -> tuple[Any, ...]:
        F, G, H, _, count = state
        both = jnp.linalg.solve(eye + G @ H, jnp.concatenate([F, G], -1))  # (I + G H)^-1 [F, G]
        through, seen = both[:, : len(F)], both[:, len(F) :]
        gained = symmetric(F.T @ (H @ through))
        return F @ through, symmetric(G + F @ seen @ F.T), H + gained, jnp.abs(gained).max(), count + 1

    change = jnp.asarray(jnp.inf, A.dtype)
    *_, P, _, _ = lax.while_loop(goes_on, doubled, (A.T, G, H, change, 0))
    return lax.fori_loop(0, POLISH, lambda _, P: _step(P, A, Q, W, E, told), P)


def _step(P: Array, A: Array, Q: Array, W: Array, E: Array, told: Array) -> Array:
    """One step of the Riccati recursion, from one predicted covariance to the next."""
    return symmetric(A @ measurement_update(P, W, E, told).filtered @ A.T) + Q


@_resting.defjvp
def _resting_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    """Derivative of the fixed point: dP = F dP F' + what a step from the same P changes.

    With Phi = (I + Lambda V)^-1 Lambda a step is A (P - P W' Phi W P) A' + Q, and
    dPhi = (I + Lambda V)^-1 dLambda (I + V Lambda)^-1 - Phi dV Phi.
    """
    A, _, W, E, told = primals
    dA, dQ, dW, dE, dtold = tangents
    P = _resting(*primals)
    cross = P @ W.T
    update = measurement_update(P, W, E, told)
    seen, read = (cross @ update.back) @ update.half, cross @ update.phi
    by_readout = P @ dW.T @ read.T
    dV = 2 * symmetric(dW @ cross) + jnp.diag(dE)
    filtered = P - read @ cross.T
    change = read @ dV @ read.T - seen @ dtold @ seen.T - 2 * symmetric(by_readout)
    change = A @ change @ A.T + 2 * symmetric(dA @ filtered @ A.T) + dQ
    return P, accumulated(A - A @ read @ W, change)


def accumulated(F: Array, change: Array) -> Array:
    """X = F X F' + change, linear in ``change``, by doubling."""

    def doubling(F: Array, change: Array) -> Array:
        rest = RESTING * jnp.finfo(F.dtype).eps

        def goes_on(state: tuple[Any, ...]) -> Array:
            _, X, gained, count = state
            return (gained > rest * jnp.abs(X).max()) & (count < DOUBLINGS)

        def doubled(state: tuple[Any, ...]) -> tuple[Any, ...]:
            F, X, _, count = state
            more = F @ X @ F.T
            return F @ F, X + more, jnp.abs(more).max(), count + 1

        return lax.while_loop(goes_on, doubled, (F, change, jnp.asarray(jnp.inf, F.dtype), 0))[1]

    return lax.custom_linear_solve(
        lambda X: X - F @ X @ F.T, change, lambda _, right: doubling(F, right), lambda _, right: doubling(F.T, right)
    )
