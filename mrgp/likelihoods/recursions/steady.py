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

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout, measurement_update, per_trial, symmetric

DOUBLINGS = 40  # at the most
RESTING = 4.0  # units of rounding: a covariance that moves by less has come to rest
POLISH = 2  # steps of the recursion itself, which damp what doubling has rounded


def steady_log_normalizer(
    dynamics: Dynamics, readout: StateReadout, precision: Array, information: Array, pattern: Array, valid: Array | None
) -> Array:
    """log E exp(sum_t b'x - x' Lambda x / 2) of each trial, (trial,).

    Args:
        dynamics: Of a stationary process that begins at mean 0.
        readout: W and E, the same at every step: a time axis of length 1.
        precision: Lambda, the same at every step, (1, pattern, readout, readout).
        information: b, (time, trial, readout).
        pattern: (trial,).
        valid: (time, trial), 0 after a trial's last step, else 1; None where trials are equally long.
    """
    A, W, told = dynamics.transition, readout.weights[0], precision[0]
    P = steady_covariance(dynamics, W, readout.noise[0], told)
    update = jax.vmap(measurement_update, in_axes=(0, None, None, 0))(P, W, readout.noise[0], told)
    gain = A @ update.gain

    def ahead(mean: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
        mu = mean @ W.T
        residual = b - per_trial(told, mu, pattern)
        return mean @ A.T + per_trial(gain, residual, pattern), (mu, residual)

    start = jnp.zeros((information.shape[1], len(A)), information.dtype)
    mu, residual = lax.scan(ahead, start, information)[1]
    along = jax.vmap(per_trial, in_axes=(None, 0, None))
    explained = along(update.spread, residual, pattern)
    terms = 0.5 * ((information + residual) * mu + residual * explained).sum(-1) + update.log_determinant[pattern]
    innovation = residual - along(told, explained, pattern)
    phi = symmetric(told - told @ update.spread @ told)
    closed, jump = A - gain @ told @ W, dynamics.stationary - P
    if valid is None:
        return terms.sum(0) + _of_jump(jump, W, closed, phi, innovation, pattern)
    return ((terms + _of_jump_by_step(jump, W, closed, phi, innovation, pattern)) * valid).sum(0)


def steady_covariance(dynamics: Dynamics, weights: Array, noise: Array, precision: Array) -> Array:
    """Predicted covariance at which the recursion rests, (pattern, state, state).

    W is (readout, state), the diagonal of E (readout,), Lambda (pattern, readout, readout).
    """
    rest = jax.vmap(_resting, in_axes=(None, None, None, None, 0))
    return rest(dynamics.transition, dynamics.process_noise, weights, noise, precision)


def _of_jump(jump: Array, W: Array, closed: Array, phi: Array, innovation: Array, pattern: Array) -> Array:
    """Gain of log Z by the jump at the start, of whole trials, (trial,)."""
    n_steps = len(innovation)
    told = _told_by_step(W, closed, n_steps)
    if len(phi) == 1:
        linear = jnp.einsum("tbi,tis->bs", innovation, told[:, 0])
    else:
        linear = jnp.einsum("tbi,tbis->bs", innovation, told[:, pattern])
    system = jnp.eye(len(W.T), dtype=W.dtype) + jump @ _summed(W.T @ phi @ W, closed, n_steps)
    settled = per_trial(jnp.linalg.solve(system, jump), linear, pattern)
    return 0.5 * (linear * settled).sum(-1) - 0.5 * jnp.linalg.slogdet(system)[1][pattern]


def _transposed(matrices: Array) -> Array:
    return jnp.swapaxes(matrices, -1, -2)


def _told_by_step(W: Array, closed: Array, n_steps: int) -> Array:
    """W F^t for every t, (time, pattern, readout, state)."""
    first = jnp.broadcast_to(W, (len(closed), *W.shape))
    return lax.scan(lambda told, _: (told @ closed, told), first, None, length=n_steps)[1]


def _summed(source: Array, closed: Array, n_steps: int) -> Array:
    """Sum of F'^t source F^t over t < n_steps, by doubling.

    Sums of 2^k steps are joined where bit k of ``n_steps`` is 1.
    """

    def doubled(state: tuple[Any, ...], bit: Any) -> tuple[tuple[Any, ...], None]:
        found, through, source, closed = state
        found = found + bit * (_transposed(through) @ source @ through)
        through = bit * (through @ closed) + (1 - bit) * through
        return (found, through, source + _transposed(closed) @ source @ closed, closed @ closed), None

    bits = np.array([int(bit) for bit in reversed(f"{n_steps:b}")], source.dtype)
    through = jnp.broadcast_to(jnp.eye(source.shape[-1], dtype=source.dtype), source.shape)
    return lax.scan(doubled, (jnp.zeros_like(source), through, source, closed), bits)[0][0]


def _of_jump_by_step(jump: Array, W: Array, closed: Array, phi: Array, innovation: Array, pattern: Array) -> Array:
    """Gain of log Z by the jump at the start, step by step, (time, trial).

    It is for trials that end one by one.

    The steps learn of the jump one after another: its law N(mean, covariance) is updated by the readouts W F^t delta.
    """
    told = _told_by_step(W, closed, len(innovation))
    eye = jnp.eye(len(W), dtype=W.dtype)

    def step(law: tuple[Array, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        mean, covariance = law
        read, u = inputs
        cross = covariance @ _transposed(read)
        spread = symmetric(read @ cross)
        system = eye + phi @ spread
        inverse = jnp.linalg.inv(system)
        expected = per_trial(read, mean, pattern)
        residual = u - per_trial(phi, expected, pattern)
        moved = per_trial(inverse, residual, pattern)
        quadratic = ((u + residual) * expected + residual * per_trial(spread, moved, pattern)).sum(-1)
        learned = cross @ inverse @ phi @ _transposed(cross)
        law = mean + per_trial(cross, moved, pattern), symmetric(covariance - learned)
        return law, 0.5 * quadratic - 0.5 * jnp.linalg.slogdet(system)[1][pattern]

    start = jnp.zeros((innovation.shape[1], len(W.T)), W.dtype), jump
    return lax.scan(step, start, (told, innovation))[1]


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

    With Psi = (I + Lambda V)^-1 Lambda a step is A (P - P W' Psi W P) A' + Q, and
    dPsi = (I + Lambda V)^-1 dLambda (I + V Lambda)^-1 - Psi dV Psi.
    """
    A, _, W, E, told = primals
    dA, dQ, dW, dE, dtold = tangents
    P = _resting(*primals)
    cross = P @ W.T
    inverse = jnp.linalg.inv(jnp.eye(len(E), dtype=A.dtype) + told @ (W @ cross + jnp.diag(E)))  # (I + Lambda V)^-1
    psi = inverse @ told
    read = cross @ psi  # P W' Psi
    by_readout = P @ dW.T @ read.T
    dV = 2 * symmetric(dW @ cross) + jnp.diag(dE)
    seen = cross @ inverse
    filtered = P - read @ cross.T
    change = read @ dV @ read.T - seen @ dtold @ seen.T - 2 * symmetric(by_readout)
    change = A @ change @ A.T + 2 * symmetric(dA @ filtered @ A.T) + dQ
    return P, _accumulated(A - A @ read @ W, change)


def _accumulated(F: Array, change: Array) -> Array:
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
