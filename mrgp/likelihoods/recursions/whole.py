"""Likelihood of a trial as one Gaussian over all its readouts.

Where trials are short and states many, this is less work than a filter.

Everything follows from the covariance V of a trial's readouts, (time x readout)^2, and from the information
exp(b' x - x' Lambda x / 2) about them, whose Lambda is block diagonal, a block for every time. V is block diagonal too,
a block for every latent, in another order: of all products only one factor, and what is solved by it, is of whole size.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import block_diag, solve_triangular

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout, per_trial
from mrgp.likelihoods.reduction import Information

JITTER = 4.0  # units of rounding for every readout, of a block's trace: what its root needs where it is singular


# A trial's readouts, cubed, cost as much as a filter where they are
OF_FILTER = 10.0  # times steps x states^3, where covariances are followed through time
OF_STEADY, SETTLING = 1.8, 30.0  # times (steps x trials + SETTLING x states) x states^2, where they are not
WORTH_TELLING = 250  # readouts of a trial from which on blocks of latents save more than they take to compile
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


@dataclass(frozen=True)
class Alike:
    """Latents that are independent of each other and of all others; static.

    Each has as many states and readouts as the others of its kind.

    Attributes:
        states: Of each latent, (latent, state).
        readouts: That read it, (latent, readout).
    """

    states: tuple[tuple[int, ...], ...]
    readouts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, states: np.ndarray, readouts: np.ndarray) -> Self:
        """Make it from tables of indices, (latent, state) and (latent, readout)."""
        return cls(*(tuple(map(tuple, table.tolist())) for table in (states, readouts)))

    def places(self, n_steps: int, readouts: int) -> np.ndarray:
        """Find each latent's readouts among those of a trial, (latent, time x its readout)."""
        own = np.arange(n_steps)[:, None] * readouts + np.asarray(self.readouts)[:, None]
        return own.reshape(len(self.readouts), -1)


def as_one(readouts: int, states: int = 0) -> tuple[Alike, ...]:
    """Take all readouts, and states if there are any, as those of one latent."""
    return (Alike.of(np.arange(states)[None], np.arange(readouts)[None]),)


def told_apart(
    kinds: tuple[Alike, ...], dynamics: Dynamics, readout: StateReadout, n_steps: int
) -> tuple[Alike, ...]:
    """Return ``kinds``, or all states as one latent's if there are none, or trials are small."""
    readouts = readout.weights.shape[1]
    if kinds and n_steps * readouts >= WORTH_TELLING:
        return kinds
    return as_one(readouts, len(dynamics.transition))


def _places(kinds: tuple[Alike, ...], n_steps: int) -> list[np.ndarray]:
    """Places of the readouts of each kind of latents."""
    readouts = sum(np.size(kind.readouts) for kind in kinds)
    return [kind.places(n_steps, readouts) for kind in kinds]


def _back(places: list[np.ndarray]) -> np.ndarray:
    """Find each of a trial's readouts among those that are ordered latent by latent."""
    return np.argsort(np.concatenate([place.ravel() for place in places]))


def _are_all(places: np.ndarray, size: int) -> bool:
    """True if places of one latent are all that there are, in order.

    What is taken by them then takes less to compile.
    """
    return np.array_equal(places, np.arange(size)[None])


def _entries(array: Array, places: np.ndarray) -> Array:
    """Take the entries of each latent from the last axis, (..., latent, place)."""
    return array[..., None, :] if _are_all(places, array.shape[-1]) else array[..., places]


def _submatrices(array: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """Take each latent's rows and columns of the last two axes, (..., latent, row, column)."""
    if _are_all(rows, array.shape[-2]) and _are_all(columns, array.shape[-1]):
        return array[..., None, :, :]
    return array[..., rows[:, :, None], columns[:, None, :]]


def _along_diagonal(blocks: tuple[Array, ...]) -> Array:
    """Lay blocks of each kind of latents, (latent, n, n), along the diagonal of one matrix."""
    laid = [jnp.einsum("kij,kl->kilj", block, jnp.eye(len(block), dtype=block.dtype)) for block in blocks]
    return block_diag(*(cube.reshape(cube.shape[0] * cube.shape[1], -1) for cube in laid))


def stationary_covariance(
    dynamics: Dynamics, readout: StateReadout, n_steps: int, kinds: tuple[Alike, ...]
) -> tuple[Array, ...]:
    """Covariance V of the readouts of a stationary process that is always read in the same way.

    For each kind of latents (latent, time x readout of the latent, the same).
    """
    lag = jnp.arange(n_steps)[:, None] - jnp.arange(n_steps)

    def of(kind: Alike) -> Array:
        state, read = np.asarray(kind.states), np.asarray(kind.readouts)
        W = _submatrices(readout.weights[0], read, state)
        A, P = (_submatrices(matrix, state, state) for matrix in (dynamics.transition, dynamics.stationary))

        def later(cross: Array, _: None) -> tuple[Array, Array]:
            return A @ cross, W @ cross

        _, lagged = lax.scan(later, P @ jnp.swapaxes(W, -1, -2), None, length=n_steps)  # cov(x_{t+k}, x_t)
        both = lagged[jnp.abs(lag)]
        both = jnp.where((lag >= 0)[..., None, None, None], both, jnp.swapaxes(both, -1, -2))
        size = n_steps * read.shape[1]
        noise = jax.vmap(jnp.diag)(jnp.tile(_entries(readout.noise[0], read), (1, n_steps)))
        return jnp.transpose(both, (2, 0, 3, 1, 4)).reshape(len(read), size, size) + noise

    return tuple(of(kind) for kind in kinds)


def of_bins(dynamics: Dynamics, readout: StateReadout, information: Information) -> Array:
    """Normalizer log E exp(b'x - x' Lambda x / 2) of each trial, where states forget at once.

    Every bin is a trial of its own. Returns (trial,).
    """
    (n_bins, n_trials, _), n_patterns = information.vectors.shape, information.precision.shape[1]
    kinds = as_one(readout.weights.shape[1], len(dynamics.transition))
    V = stationary_covariance(dynamics, readout, 1, kinds)
    first = n_patterns * jnp.arange(n_bins) if information.precision.shape[0] > 1 else jnp.zeros(n_bins, int)
    alone = information.vectors.reshape(1, n_bins * n_trials, -1), information.precision.reshape(1, -1, *V[0].shape[1:])
    scores = log_normalizer(kinds, V, *alone, (first[:, None] + information.pattern).ravel()).reshape(n_bins, -1)
    return (scores if information.valid is None else scores * information.valid).sum(0)


def dense_covariance(dynamics: Dynamics, readout: StateReadout, n_steps: int, kinds: tuple[Alike, ...]) -> Array:
    """Covariance V of the readouts of a stationary process, (time x readout)^2."""
    kinds = told_apart(kinds, dynamics, readout, n_steps)
    back = _back(_places(kinds, n_steps))
    return _along_diagonal(stationary_covariance(dynamics, readout, n_steps, kinds))[back][:, back]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_normalizer(
    kinds: tuple[Alike, ...], covariance: tuple[Array, ...], vectors: Array, precision: Array, pattern: Array
) -> Array:
    """log E exp(b'x - x' Lambda x / 2) of each trial, (trial,).

    Args:
        kinds: Of latents, which have the readouts that are not independent.
        covariance: V as blocks for each kind, (latent, n, n), positive definite.
        vectors: b, (time, trial, readout).
        precision: Lambda, (time or 1, pattern, readout, readout).
        pattern: (trial,).
    """
    return _posterior(kinds, covariance, vectors, precision, pattern)[0]


@log_normalizer.defjvp
def _log_normalizer_jvp(
    kinds: tuple[Alike, ...], primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Array, Array]:
    """Derivative of :func:`log_normalizer`.

    With S = (V^-1 + Lambda)^-1, m = S b, u = b - Lambda m and G = Lambda - Lambda S Lambda the change is

    u' dV u / 2 - tr(G dV) / 2 + m' db - (m' dLambda m + tr(S dLambda)) / 2.
    """
    _, vectors, precision, pattern = primals
    dV, db, dprecision, _ = tangents
    scores, half, scaled = _posterior(kinds, *primals)
    n_steps, n_trials, readouts = vectors.shape
    blocks = jnp.broadcast_to(precision, (n_steps, *precision.shape[1:]))
    by_time = half.reshape(*half.shape[:2], n_steps, readouts)
    told = jnp.einsum("gntj,tgji->gnti", by_time, blocks).reshape(half.shape)  # B^-1/2 S' Lambda, V = S S'
    mean = jnp.swapaxes(per_trial(jnp.swapaxes(half, -1, -2), scaled, pattern).reshape(n_trials, n_steps, -1), 0, 1)
    rest = vectors - jnp.einsum("tbij,tbj->tbi", blocks if len(half) == 1 else blocks[:, pattern], mean)
    rest = jnp.swapaxes(rest, 0, 1).reshape(n_trials, -1)
    change = (mean * db).sum((0, 2))
    for kind, place, block in zip(kinds, _places(kinds, n_steps), dV, strict=True):
        read = np.asarray(kind.readouts)
        count, size = read.shape
        cube = block.reshape(count, n_steps, size, n_steps, size)
        at_once = cube[:, np.arange(n_steps), :, np.arange(n_steps)]  # (time, latent, readout, readout)
        known = _submatrices(blocks, read, read)
        trace = jnp.einsum("tgkij,tkij->g", known, at_once)
        own, left = _entries(told, place), _entries(rest, place)
        trace -= jnp.einsum("gnki,kij,gnkj->g", own, block, own, optimize=True)
        change += 0.5 * jnp.einsum("bki,kij,bkj->b", left, block, left, optimize=True) - 0.5 * trace[pattern]
    spread = jnp.einsum("gnti,gntj->tgij", by_time, by_time)
    dblocks = jnp.broadcast_to(dprecision, blocks.shape)
    square = jnp.einsum("tbi,tbij,tbj->b", mean, dblocks if len(half) == 1 else dblocks[:, pattern], mean)
    return scores, change - 0.5 * (square + jnp.einsum("tgij,tgij->g", spread, dblocks)[pattern])


def _posterior(
    kinds: tuple[Alike, ...], covariance: tuple[Array, ...], vectors: Array, precision: Array, pattern: Array
) -> tuple[Array, Array, Array]:
    """log Z, a root H of the posterior's covariance, and H b.

    H'H is that covariance, (pattern, n, n); H b is (trial, n). Rows of H are readouts latent by latent, columns as in
    the vectors.
    """
    n_steps, n_trials, _ = vectors.shape
    blocks = jnp.broadcast_to(precision, (n_steps, *precision.shape[1:]))
    places, read = _places(kinds, n_steps), [np.asarray(kind.readouts) for kind in kinds]
    roots = [jnp.linalg.cholesky(block) for block in covariance]
    upright, back = _along_diagonal(tuple(roots)).T, _back(places)

    def shared(precision: Array) -> tuple[Array, Array]:
        """B^-1/2 S' and -log|B| / 2 of one pattern, with B = I + S' Lambda S and V = S S'."""

        def between(first: int, second: int) -> Array:
            rows, columns = roots[first], roots[second]
            told = _submatrices(precision, read[first].reshape(1, -1), read[second].reshape(1, -1))
            told = told.reshape(n_steps, *read[first].shape, *read[second].shape)
            by_time = columns.reshape(len(columns), n_steps, -1, columns.shape[-1])
            weighted = jnp.einsum("tkilj,ltjn->ktiln", told, by_time).reshape(*rows.shape[:2], -1)
            return jnp.einsum("kpm,kpn->kmn", rows, weighted).reshape(-1, weighted.shape[-1])

        numbers = range(len(kinds))
        B = jnp.eye(len(back), dtype=upright.dtype) + jnp.block([[between(a, b) for b in numbers] for a in numbers])
        factor = jnp.linalg.cholesky(B)
        half = _entries(solve_triangular(factor, upright, lower=True), back[None])[:, 0]
        return half, -jnp.log(jnp.diagonal(factor)).sum()

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
