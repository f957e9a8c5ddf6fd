r"""Smoothing and posterior sampling by adjoint recursions.

They are those of de Jong (1989); see Durbin & Koopman (2012, ch. 4).

Smooth kernels and registers make the predicted covariance nearly singular, so the Rauch-Tung-Striebel gain, which
inverts it, is replaced by the equal adjoint form. With u_t = (I + Lambda V)^-1 (b_t - Lambda W m_t),

    lambda_t = u_t - Lambda gain' r_t,        r_{t-1} = W' lambda_t + A' r_t,       E[s_t | b] = m_t + P_t r_{t-1},
    N_{t-1} = W' Phi W + closed' N_t closed,  cov(s_t | b) = P_t - P_t N_{t-1} P_t,  Phi = (I + Lambda V)^-1 Lambda,
    cov(s_t, s_{t+1} | b) = P_t closed' (I - N_t P_{t+1}),

no inverse is taken and missing data need no special case. Draws follow from the same mean recursion: a draw from
the prior with its own synthetic information, corrected by the smoothed mean of the difference.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random

from mrgp.likelihoods.recursions.filter import Dynamics, Gains, StateReadout, per_trial, symmetric
from mrgp.likelihoods.recursions.scan import affine_scan, congruence_scan


class Smoothed(NamedTuple):
    """Posterior means of states (time, trial, state) and readouts (time, trial, readout).

    Readouts are x = W s + e.
    """

    states: Array
    readouts: Array


class Spread(NamedTuple):
    """Posterior covariances, shared by the trials of a pattern.

    Attributes:
        states: cov(s_t), (time, pattern, state, state).
        readouts: cov(x_t), (time, pattern, readout, readout).
        lagged: cov(s_t, s_{t+1}), (time - 1, pattern, state, state); rows are s_t.
    """

    states: Array
    readouts: Array
    lagged: Array


def smooth_means(
    gains: Gains, readout: StateReadout, means: Array, information: Array, pattern: Array, parallel: bool = False
) -> Smoothed:
    """Posterior means of states and readouts given all information.

    Args:
        gains: Of :func:`mrgp.likelihoods.recursions.filter.filter_gains`.
        readout: W and E.
        means: Predicted means, (time, trial, state).
        information: b, (time, trial, readout).
        pattern: (trial,), index into the gains' pattern axis.
        parallel: Run the recursion as a scan in parallel blocks.
    """
    weights = jnp.broadcast_to(readout.weights, (len(means), *readout.weights.shape[1:]))
    apply = jax.vmap(per_trial, in_axes=(0, 0, None))
    mu = jnp.einsum("tis,tbs->tbi", weights, means)
    residual = information - apply(gains.precision, mu, pattern)
    scaled = apply(gains.back, apply(gains.half, residual, pattern), pattern)
    inflow = jnp.einsum("tis,tbi->tbs", weights, scaled)
    adjoint_closed = jnp.swapaxes(gains.closed, -1, -2)
    before = affine_scan(adjoint_closed, inflow, pattern, reverse=True, parallel=parallel)  # r_{t-1}
    after = jnp.concatenate([before[1:], jnp.zeros_like(before[:1])])  # r_t
    adjoint = scaled - apply(gains.precision, apply(jnp.swapaxes(gains.gain, -1, -2), after, pattern), pattern)
    states = means + apply(gains.predicted, before, pattern)
    noise = jnp.broadcast_to(readout.noise, (len(means), readout.noise.shape[-1]))
    return Smoothed(states, jnp.einsum("tis,tbs->tbi", weights, states) + noise[:, None] * adjoint)


def smooth_covariances(gains: Gains, readout: StateReadout, parallel: bool = False) -> Spread:
    """Posterior covariances of states and readouts given all information."""
    steps = gains.closed.shape[0]
    weights = jnp.broadcast_to(readout.weights, (steps, *readout.weights.shape[1:]))
    noise = jnp.broadcast_to(readout.noise, (steps, readout.noise.shape[-1]))
    phi = gains.phi
    source = jnp.einsum("tis,tgij,tjr->tgsr", weights, phi, weights)
    before = congruence_scan(gains.closed, source, parallel=parallel)  # N_{t-1}
    after = jnp.concatenate([before[1:], jnp.zeros_like(before[:1])])
    states = symmetric(gains.predicted - gains.predicted @ before @ gains.predicted)
    # cov(x | b) = V - V Phi V - H N_t H',  H = W P closed' - E Lambda gain'
    cross = jnp.einsum("tis,tgsr->tgir", weights, gains.predicted)
    V = jnp.einsum("tgir,tjr->tgij", cross, weights) + jax.vmap(jnp.diag)(noise)[:, None]
    H = cross @ jnp.swapaxes(gains.closed, -1, -2) - noise[:, None, :, None] * (
        gains.precision @ jnp.swapaxes(gains.gain, -1, -2)
    )
    through = (gains.predicted @ jnp.swapaxes(gains.closed, -1, -2))[:-1]
    lagged = through - through @ before[1:] @ gains.predicted[1:]
    return Spread(states, symmetric(V - V @ phi @ V - H @ after @ jnp.swapaxes(H, -1, -2)), lagged)


def psd_root(matrix: Array) -> Array:
    """Square root S, S S' = matrix, of positive semi-definite matrices (..., n, n).

    Not for differentiation.
    """
    values, vectors = jnp.linalg.eigh(matrix)
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[..., None, :]


def sample_prior(key: Array, dynamics: Dynamics, readout: StateReadout, n_steps: int, n_trials: int) -> Smoothed:
    """Draw states and readouts from the model, (time, trial, ...)."""
    first, state_key, readout_key = random.split(key, 3)
    size, dtype = len(dynamics.transition), dynamics.transition.dtype
    start = random.normal(first, (n_trials, size), dtype) @ psd_root(dynamics.stationary).T
    start = start if dynamics.mean is None else start + dynamics.mean
    kicks = random.normal(state_key, (n_steps, n_trials, size), dtype) @ psd_root(dynamics.process_noise).T

    def step(state: Array, kick: Array) -> tuple[Array, Array]:
        return state @ dynamics.transition.T + kick, state

    _, states = lax.scan(step, start, kicks)
    weights = jnp.broadcast_to(readout.weights, (n_steps, *readout.weights.shape[1:]))
    white = random.normal(readout_key, (n_steps, n_trials, weights.shape[1]), dtype)
    return Smoothed(states, jnp.einsum("tis,tbs->tbi", weights, states) + jnp.sqrt(readout.noise)[:, None] * white)


def synthetic_information(key: Array, readouts: Array, precision: Array, pattern: Array) -> Array:
    """Draw information Lambda x + xi, xi ~ N(0, Lambda), about ``readouts`` x.

    A noisy measurement of the readouts would give it.
    """
    per_time = jnp.broadcast_to(precision, (len(readouts), *precision.shape[1:]))
    apply = jax.vmap(per_trial, in_axes=(0, 0, None))
    white = random.normal(key, readouts.shape, readouts.dtype)
    return apply(per_time, readouts, pattern) + apply(psd_root(per_time), white, pattern)
