"""Likelihood of a trial as one Gaussian over all its readouts.

Where trials are short and states many, this is less work than a filter.

Everything follows from the covariance V of a trial's readouts, (time x readout)^2, and from the information
exp(b' x - x' Lambda x / 2) about them, whose Lambda is block diagonal, a block for every time.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout, per_trial

JITTER = 4.0  # units of rounding for every readout, of a block's trace: what its root needs where it is singular


# A trial's readouts, cubed, cost as much as a filter where they are
OF_FILTER = 10.0  # times steps x states^3, where covariances are followed through time
OF_STEADY, SETTLING = 1.8, 30.0  # times (steps x trials + SETTLING x states) x states^2, where they are not
MOST_NUMBERS = 2e7  # in the factors of all patterns together


class ReadoutMoments(NamedTuple):
    """Moments of readouts x given information exp(b' x - x' Lambda x / 2).

    Attributes:
        mean: (time, trial, readout).
        covariance: At every time, (time, pattern, readout, readout).
        log_determinant: -log|I + V Lambda| / 2 of each trial, V being the prior covariance of x; (trial,).
    """

    mean: Array
    covariance: Array
    log_determinant: Array


def costs_less(n_steps: int, readouts: int, states: int, n_patterns: int, trials: int | None) -> bool:
    """True if one factor of a whole trial costs less than the steps of a filter.

    The filter has one gain for all steps, and is run on so many ``trials``, unless they are None.
    """
    size = n_steps * readouts
    if trials is None:
        cost = OF_FILTER * n_steps * states**3
    else:
        cost = OF_STEADY * (n_steps * trials + SETTLING * states) * states**2
    return size**3 <= cost and n_patterns * size**2 <= MOST_NUMBERS


def stationary_covariance(dynamics: Dynamics, readout: StateReadout, n_steps: int) -> Array:
    """Covariance V of the readouts of a stationary process, (time x readout)^2.

    The process is always read in the same way.
    """
    W, A = readout.weights[0], dynamics.transition

    def later(cross: Array, _: None) -> tuple[Array, Array]:
        return A @ cross, W @ cross

    _, lagged = lax.scan(later, dynamics.stationary @ W.T, None, length=n_steps)  # cov(x_{t+k}, x_t)
    lag = jnp.arange(n_steps)[:, None] - jnp.arange(n_steps)
    blocks = lagged[jnp.abs(lag)]
    blocks = jnp.where((lag >= 0)[..., None, None], blocks, jnp.swapaxes(blocks, -1, -2))
    size = n_steps * len(W)
    V = jnp.swapaxes(blocks, 1, 2).reshape(size, size)
    return V + jnp.diag(jnp.tile(readout.noise[0], n_steps))


@jax.custom_jvp
def log_normalizer(covariance: Array, vectors: Array, precision: Array, pattern: Array) -> Array:
    """log E exp(b'x - x' Lambda x / 2) of each trial, (trial,).

    Args:
        covariance: V, positive definite.
        vectors: b, (time, trial, readout).
        precision: Lambda, (time or 1, pattern, readout, readout).
        pattern: (trial,).
    """
    return _posterior(covariance, vectors, precision, pattern)[0]


@log_normalizer.defjvp
def _log_normalizer_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    """Derivative of :func:`log_normalizer`.

    With S = (V^-1 + Lambda)^-1, m = S b, u = b - Lambda m and G = Lambda - Lambda S Lambda the change is

    u' dV u / 2 - tr(G dV) / 2 + m' db - (m' dLambda m + tr(S dLambda)) / 2.
    """
    _, vectors, precision, pattern = primals
    dV, db, dprecision, _ = tangents
    scores, half, scaled = _posterior(*primals)
    n_steps, n_trials, readouts = vectors.shape
    blocks = jnp.broadcast_to(precision, (n_steps, *precision.shape[1:]))
    by_time = half.reshape(*half.shape[:2], n_steps, readouts)
    told = jnp.einsum("gntj,tgji->gnti", by_time, blocks).reshape(half.shape)  # B^-1/2 S' Lambda, V = S S'
    mean = jnp.swapaxes(per_trial(jnp.swapaxes(half, -1, -2), scaled, pattern).reshape(n_trials, n_steps, -1), 0, 1)
    rest = vectors - jnp.einsum("tbij,tbj->tbi", blocks if len(half) == 1 else blocks[:, pattern], mean)
    rest = jnp.swapaxes(rest, 0, 1).reshape(n_trials, -1)
    cube = dV.reshape(n_steps, readouts, n_steps, readouts)
    at_once = cube[jnp.arange(n_steps), :, jnp.arange(n_steps)]
    trace = jnp.einsum("tgij,tij->g", blocks, at_once) - jnp.einsum("gni,ij,gnj->g", told, dV, told, optimize=True)
    spread = jnp.einsum("gnti,gntj->tgij", by_time, by_time)
    change = 0.5 * ((rest @ dV) * rest).sum(-1) - 0.5 * trace[pattern] + (mean * db).sum((0, 2))
    dblocks = jnp.broadcast_to(dprecision, blocks.shape)
    square = jnp.einsum("tbi,tbij,tbj->b", mean, dblocks if len(half) == 1 else dblocks[:, pattern], mean)
    return scores, change - 0.5 * (square + jnp.einsum("tgij,tgij->g", spread, dblocks)[pattern])


def _posterior(covariance: Array, vectors: Array, precision: Array, pattern: Array) -> tuple[Array, Array, Array]:
    """log Z, a root H of the posterior's covariance, and H b.

    H'H is that covariance, (pattern, n, n); H b is (trial, n).
    """
    n_steps, n_trials, readouts = vectors.shape
    blocks = jnp.broadcast_to(precision, (n_steps, *precision.shape[1:]))
    root = jnp.linalg.cholesky(covariance)

    def shared(precision: Array) -> tuple[Array, Array]:
        """B^-1/2 S' and -log|B| / 2 of one pattern, with B = I + S' Lambda S and V = S S'."""
        weighted = jnp.einsum("tij,tjn->tin", precision, root.reshape(n_steps, readouts, -1))
        B = jnp.eye(len(root), dtype=root.dtype) + root.T @ weighted.reshape(len(root), -1)
        factor = jnp.linalg.cholesky(B)
        return solve_triangular(factor, root.T, lower=True), -jnp.log(jnp.diagonal(factor)).sum()

    half, log_determinant = lax.map(shared, jnp.swapaxes(blocks, 0, 1))
    scaled = per_trial(half, jnp.swapaxes(vectors, 0, 1).reshape(n_trials, -1), pattern)
    return 0.5 * (scaled**2).sum(-1) + log_determinant[pattern], half, scaled


def moments(covariance: Array, vectors: Array, precision: Array, pattern: Array) -> ReadoutMoments:
    """Moments of readouts given information, as for :func:`log_normalizer`.

    Not for differentiation.

    With Lambda = R R', block by block, and I + R' V R = L L' the covariance is V - J' J, J = L^-1 R' V.
    """
    n_steps, n_trials, readouts = vectors.shape
    blocks = jnp.broadcast_to(precision, (n_steps, *precision.shape[1:]))
    limits = jnp.finfo(blocks.dtype)
    least = JITTER * readouts * limits.eps * jnp.trace(blocks, axis1=-2, axis2=-1) + limits.tiny
    roots = jnp.linalg.cholesky(blocks + least[..., None, None] * jnp.eye(readouts, dtype=blocks.dtype))
    size = len(covariance)
    own = covariance.reshape(n_steps, readouts, n_steps, readouts)[jnp.arange(n_steps), :, jnp.arange(n_steps)]

    def shared(root: Array) -> tuple[Array, Array, Array]:
        read = jnp.einsum("tji,tjn->tin", root, covariance.reshape(n_steps, readouts, size))  # R' V
        both = jnp.einsum("ntj,tji->nti", read.reshape(size, n_steps, readouts), root)
        factor = jnp.linalg.cholesky(jnp.eye(size, dtype=root.dtype) + both.reshape(size, size))
        half = solve_triangular(factor, read.reshape(size, size), lower=True)
        by_time = half.reshape(size, n_steps, readouts)
        known = own - jnp.einsum("nti,ntj->tij", by_time, by_time)
        return half, known, -jnp.log(jnp.diagonal(factor)).sum()

    half, known, log_determinant = lax.map(shared, jnp.swapaxes(roots, 0, 1))
    b = jnp.swapaxes(vectors, 0, 1).reshape(n_trials, -1)
    mean = b @ covariance - per_trial(jnp.swapaxes(half, -1, -2), per_trial(half, b, pattern), pattern)
    mean = jnp.swapaxes(mean.reshape(n_trials, n_steps, readouts), 0, 1)
    return ReadoutMoments(mean, jnp.swapaxes(known, 0, 1), log_determinant[pattern])
