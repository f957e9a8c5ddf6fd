r"""Kalman filter for observations that arrive as information.

Covariances are shared by trials.

The model is a state s and a few readouts x of it,

    s_{t+1} = A s_t + q_t,   q ~ N(0, Q),   s_0 ~ N(m0, P0),       x_t = W_t s_t + e_t,   e_t ~ N(0, diag E_t),

and what was measured enters only through exp(b_t' x_t - x_t' Lambda_t x_t / 2). That form needs no inverse of
Lambda, so readouts that nothing measures (a missing bin, fewer neurons than latents, a pruned latent) are no
special case. The normalizer log E exp(sum_t b_t' x_t - x_t' Lambda_t x_t / 2) is the data-dependent part of a
log-likelihood.

Covariances depend on Lambda but not on b: they are computed once per *pattern* of missing data and shared by its
trials. Arrays over time have a time axis of length 1 when they are constant; where nothing depends on time, see
``recursions.steady``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve_triangular


class Shift(NamedTuple):
    """Transition of latents with a front of few states, and registers of what the front was.

    Registers shift, but for the first, which the front fills; nothing of that needs a product of matrices.

    Attributes:
        from_front: What the front becomes, and the registers that it fills, (latent, row, front).
        shifted: Number of registers of a latent that shift on.
    """

    from_front: Array
    shifted: int

    @property
    def n_states(self) -> int:
        latents, rows, _ = self.from_front.shape
        return latents * (rows + self.shifted)

    def advanced(self, states: Array) -> Array:
        """States (state, column) one step later, but for noise."""
        latents, rows, front = self.from_front.shape
        each = states.reshape(latents, rows + self.shifted, states.shape[-1])
        eye = jnp.eye(latents, dtype=states.dtype)
        laid = jnp.einsum("kqp,kl->kqlp", self.from_front, eye).reshape(latents * rows, latents * front)
        fronts = each[:, :front].reshape(latents * front, states.shape[-1])
        filled = (laid @ fronts).reshape(latents, rows, states.shape[-1])
        kept = each[:, front : front + self.shifted]
        return jnp.concatenate([filled, kept], 1).reshape(states.shape)


class Dynamics(NamedTuple):
    """Transition A (state, state), noise Q (state, state), and the law of the first state.

    P0 (state, state), ``stationary`` unless a model learns it, and its mean m0 (state,), None for zeros. Where states
    are latents with registers, ``shifts`` say so, kind after kind of latents.
    """

    transition: Array
    process_noise: Array
    stationary: Array
    mean: Array | None = None
    shifts: tuple[Shift, ...] = ()

    def advanced(self, states: Array) -> Array:
        """A s of states (state, column)."""
        if not self.shifts:
            return self.transition @ states
        ends = np.cumsum([shift.n_states for shift in self.shifts])[:-1]
        parts = jnp.split(states, ends)
        return jnp.concatenate([shift.advanced(part) for shift, part in zip(self.shifts, parts, strict=True)])


class StateReadout(NamedTuple):
    """Weights W (time or 1, readout, state) and the diagonal of E (time or 1, readout).

    W P W' + E > 0 at all times.
    """

    weights: Array
    noise: Array


class Gains(NamedTuple):
    """Gains of the filter, from covariances alone; all arrays lead with (time, pattern).

    Attributes:
        predicted: P_t, covariance of s_t given the past, (..., state, state).
        closed: A (I - L Lambda W), the closed-loop transition, (..., state, state).
        gain: A L with L = P W' (I + Lambda V)^-1, V = W P W' + E, (..., state, readout).
        ahead: A P W', (..., state, readout).
        precision: Lambda, (..., readout, readout).
        half, back, phi: Of the :class:`Update`, (..., readout, readout).
        log_determinant: -log |I + Lambda V| / 2, (...).
    """

    predicted: Array
    closed: Array
    gain: Array
    ahead: Array
    precision: Array
    half: Array
    back: Array
    phi: Array
    log_determinant: Array


class Update(NamedTuple):
    """Result of one measurement update.

    P W', L, -log|I + Lambda V| / 2, the filtered covariance; H and J of (I + Lambda V)^-1 = J H, for which
    V (I + Lambda V)^-1 = H'H; and Phi = (I + Lambda V)^-1 Lambda. Where Lambda is large, J (H r) has many more digits
    than (J H) r.
    """

    cross: Array
    gain: Array
    log_determinant: Array
    filtered: Array
    half: Array
    back: Array
    phi: Array


def symmetric(matrix: Array) -> Array:
    """Symmetric part of a matrix, against round-off."""
    return 0.5 * (matrix + jnp.swapaxes(matrix, -1, -2))


def measurement_update(predicted: Array, weights: Array, noise: Array, precision: Array) -> Update:
    r"""Condition N(., P) on information with precision Lambda about W s + e, in Joseph form.

    With V = W P W' + E = S S' and B = I + S' Lambda S, everything follows from the Cholesky factor of B, whose
    eigenvalues are at least 1: V (I + Lambda V)^-1 = S B^-1 S', (I + Lambda V)^-1 = S'^-1 B^-1 S', and that times
    Lambda is S'^-1 (I - B^-1) S^-1.
    """
    cross = predicted @ weights.T
    root = jnp.linalg.cholesky(symmetric(weights @ cross) + jnp.diag(noise))
    eye = jnp.eye(len(noise), dtype=root.dtype)
    factor = jnp.linalg.cholesky(eye + root.T @ precision @ root)
    half = solve_triangular(factor, root.T, lower=True)
    inverse = solve_triangular(factor, eye, lower=True)
    back = _of_transposed(root, inverse.T)
    gain = cross @ back @ half
    weighted = gain @ precision
    # Joseph: (I - L Lambda W) P (I - L Lambda W)' + L (Lambda + Lambda E Lambda) L', kept low-rank.
    left = predicted - weighted @ cross.T
    filtered = left - (left @ weights.T) @ weighted.T + weighted @ gain.T + (weighted * noise) @ weighted.T
    phi = symmetric(_of_transposed(root, _of_transposed(root, eye - inverse.T @ inverse).T))
    return Update(cross, gain, -jnp.log(jnp.diagonal(factor)).sum(), symmetric(filtered), half, back, phi)


def _of_transposed(root: Array, matrix: Array) -> Array:
    """root'^-1 matrix of a lower triangular root."""
    return solve_triangular(root, matrix, lower=True, trans=1)


def gains_of(transition: Array, predicted: Array, weights: Array, precision: Array, update: Update) -> Gains:
    """Gains of steps from their updates; leading axes broadcast."""
    ahead = transition @ update.cross
    closed = transition - ahead @ update.phi @ weights
    parts = ahead, precision, update.half, update.back, update.phi, update.log_determinant
    return Gains(predicted, closed, transition @ update.gain, *parts)


def filter_gains(
    dynamics: Dynamics, readout: StateReadout, precision: Array, n_steps: int
) -> Gains:
    """Run the covariance recursion once per pattern.

    Args:
        dynamics: A, Q, P0.
        readout: W and E.
        precision: Lambda, (time or 1, pattern, readout, readout).
        n_steps: Number of time steps.

    Returns:
        Gains of every step.
    """
    update = jax.vmap(measurement_update, in_axes=(0, None, None, 0))
    A = dynamics.transition
    varying, constant = split_time((readout.weights, readout.noise, precision), n_steps)

    def step(predicted: Array, inputs: tuple[Array, ...]) -> tuple[Array, Gains]:
        weights, noise, info = (c if v is None else v for v, c in zip(inputs, constant, strict=True))
        new = update(predicted, weights, noise, info)
        following = symmetric(A @ new.filtered @ A.T) + dynamics.process_noise
        return following, gains_of(A, predicted, weights, info, new)

    start = jnp.broadcast_to(dynamics.stationary, (precision.shape[1], *dynamics.stationary.shape))
    return lax.scan(step, start, varying, length=n_steps)[1]


def split_time(arrays: tuple[Array, ...], steps: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Separate arrays with a time axis from constant ones.

    Those have a time axis of length 1, which is dropped. Each array is None among the others.
    """
    varying = tuple(x[:steps] if x.shape[0] > 1 else None for x in arrays)
    constant = tuple(x[0] if x.shape[0] == 1 else None for x in arrays)
    return varying, constant


def per_trial(matrices: Array, vectors: Array, pattern: Array) -> Array:
    """Apply (pattern, row, column) matrices to (trial, column) vectors.

    Each trial has the matrix of its own pattern.
    """
    if matrices.shape[0] == 1:
        return vectors @ matrices[0].T
    return jnp.einsum("bij,bj->bi", matrices[pattern], vectors)


def filter_means(
    dynamics: Dynamics, readout: StateReadout, gains: Gains, information: Array, pattern: Array
) -> Array:
    """Predicted means E[s_t | b_0 .. b_{t-1}], (time, trial, state).

    ``information`` is b, (time, trial, readout). An innovation goes through both factors of (I + Lambda V)^-1, one
    after the other: where Lambda is large, their product would leave few of its digits.
    """
    varying, constant = split_time((readout.weights,), len(information))

    def step(mean: Array, inputs: tuple[tuple[Any, ...], Gains, Array]) -> tuple[Array, Array]:
        (own,), gain, b = inputs
        weights = constant[0] if own is None else own
        half = per_trial(gain.half, _residual(gain.precision, mean @ weights.T, b, pattern), pattern)
        innovation = per_trial(gain.back, half, pattern)
        return mean @ dynamics.transition.T + per_trial(gain.ahead, innovation, pattern), mean

    start = jnp.zeros((information.shape[1], gains.closed.shape[-1]), information.dtype)
    start = start if dynamics.mean is None else start + dynamics.mean
    return lax.scan(step, start, (varying, gains, information))[1]


def _residual(precision: Array, mu: Array, information: Array, pattern: Array) -> Array:
    """b - Lambda mu, (trial, readout)."""
    return information - per_trial(precision, mu, pattern)


def log_normalizer_terms(
    gains: Gains, readout: StateReadout, means: Array, information: Array, pattern: Array
) -> Array:
    """Contribution of each step to log E exp(b'x - x' Lambda x / 2), (time, trial).

    log E = b'mu - mu' Lambda mu / 2 + |H r|^2 / 2 - log|I + Lambda V| / 2, with mu = W m, r = b - Lambda mu and
    H'H = V (I + Lambda V)^-1.
    """

    def part(weights: Array, precision: Array, half: Array, log_determinant: Array, m: Array, b: Array) -> Array:
        mu = m @ weights.T
        residual = _residual(precision, mu, b, pattern)
        quadratic = ((b + residual) * mu).sum(-1) + (per_trial(half, residual, pattern) ** 2).sum(-1)
        return 0.5 * quadratic + log_determinant[pattern]

    constant = readout.weights.shape[0] == 1
    weights = readout.weights[0] if constant else readout.weights
    parts = (gains.precision, gains.half, gains.log_determinant, means, information)
    return jax.vmap(part, in_axes=(None if constant else 0, 0, 0, 0, 0, 0))(weights, *parts)
