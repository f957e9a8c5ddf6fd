"""Starts of switching linear dynamics: components, and states of an autoregression."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.scipy.linalg import solve_triangular
from scipy.ndimage import gaussian_filter1d

from mrgp.likelihoods.switching.hidden_states import States, forward_backward
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.recording import MultiRegionData

SMOOTH = 2.0  # bins, sd of the window through which components are looked for
ROUNDS = 60  # of expectation-maximization of the autoregression
ATTEMPTS = 16  # beginnings of an autoregression, of which the likeliest is taken
CHUNK = 4  # steps for each of its coefficients, from which a state begins
FAINT = 0.1  # of these steps, by which the coefficients of all steps together count beside them
STAYS = 10.0  # steps in which a state is taken to have stayed, before any was seen
LEAST = 1e-3  # of a latent's variance, which the autoregression always misses


def smoothed(data: MultiRegionData) -> np.ndarray:
    """Smoothed values of bins in which something was seen, in sds, (bin, neuron)."""
    seen = data.mask
    rest = np.where(seen, data.floats - data.center, 0.0)
    window = partial(gaussian_filter1d, sigma=SMOOTH, axis=1, mode="constant")
    smooth = window(rest) / np.maximum(window(seen.astype(float)), LEAST)
    return smooth[seen.any(-1)] / data.scale


def components(
    data: MultiRegionData, assignment: LatentLayout, members: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Loadings on the principal components of each population's smoothed values.

    Components have unit variance; what is left is noise. ``data`` are nearly Gaussian values; sites are of neurons in
    their populations, one after the other. ``members`` are the columns of ``data`` that make each population's
    components, and ``assignment`` has, in each, those that read them: the members or all neurons.
    """
    flat, loadings, offset, variance = smoothed(data), [], [], []
    whole = flat.T @ flat / max(len(flat), 1)
    everyone = np.arange(flat.shape[1])
    for own, width, count in zip(members, assignment.n_within, assignment.n_neurons, strict=True):
        values, vectors = np.linalg.eigh(whole[np.ix_(own, own)])
        width, readers = min(width, len(values)), own if len(own) == count else everyone
        values, vectors = np.maximum(values[::-1][:width], LEAST), vectors[:, ::-1][:, :width]
        kept = np.zeros((count, assignment.n_columns))
        kept[:, :width] = whole[np.ix_(readers, own)] @ vectors / np.sqrt(values) * data.scale[readers, None]
        loadings.append(kept)
        offset.append(np.asarray(data.center, float)[readers])
        variance.append(np.square(np.asarray(data.scale))[readers])
    C, total = np.concatenate(loadings), np.concatenate(variance)
    noise = np.maximum(total - (C**2).sum(1), FAINT * total)
    return {LOADINGS.name: C, OFFSET.name: np.concatenate(offset), NOISE.name: noise}


@partial(jax.jit, static_argnums=3)
def autoregressive_states(key: Array, mean: Array, inside: Array, n_states: int) -> States:
    """States of a switching autoregression of latents, the likeliest of some attempts.

    ``mean`` are the latents, (trial, time, latent). Each state begins with the coefficients of one stretch of steps
    that is drawn by ``key``.
    """
    fits = lax.map(lambda key: _autoregression(key, mean, inside, n_states), random.split(key, ATTEMPTS))
    best = jnp.argmax(fits[1])
    return jax.tree.map(lambda part: part[best], fits[0])


def _autoregression(key: Array, mean: Array, inside: Array, n_states: int) -> tuple[States, Array]:
    n_trials, n_bins, size = mean.shape
    before = jnp.concatenate([mean, jnp.ones((n_trials, n_bins, 1))], -1)[:, :-1].reshape(-1, size + 1)
    after, there = mean[:, 1:].reshape(-1, size), inside[:, 1:].reshape(-1)
    least = LEAST * (there @ after**2 / there.sum() + LEAST)
    whole = _regressed(there, before, after, jnp.zeros((size + 1, size + 1)), jnp.zeros((size + 1, size)), least)
    length = min(CHUNK * (size + 1), len(there))
    starts = random.choice(key, len(there), (n_states,), replace=len(there) < n_states, p=there / there.sum())
    chunks = ((jnp.arange(len(there)) - starts[:, None]) % len(there) < length) * there
    prior = FAINT * length / there.sum()

    def regressed(weights: Array) -> Any:
        return jax.vmap(lambda own: _regressed(own, before, after, prior * whole[2], prior * whole[3], least))(weights)

    def stepped(law: Any, switches: Array) -> tuple[States, Array]:
        coefficients, root, _, _ = law
        rest = after - jnp.einsum("ti,kij->ktj", before, coefficients)
        white = jax.vmap(lambda a, b: solve_triangular(a, b.T, lower=True))(root, rest)
        half = jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
        scores = (-0.5 * (white**2).sum(1) - half[:, None]).T.reshape(n_trials, n_bins - 1, 1, n_states)
        known = jnp.where(inside[:, 1:, None, None] > 0, scores + jnp.log(switches), -jnp.log(n_states))
        states, total = forward_backward(jnp.full(n_states, -jnp.log(n_states)), known)
        return states, total.sum()

    def round_of(_: int, state: tuple[States, Array]) -> tuple[States, Array]:
        states = state[0]
        weights = states.single[:, 1:].reshape(-1, n_states).T * there
        return stepped(regressed(weights), _switches((states.pair * inside[:, 1:, None, None]).sum((0, 1))))

    return lax.fori_loop(0, ROUNDS, round_of, stepped(regressed(chunks), _switches(jnp.zeros((n_states, n_states)))))


def _switches(counted: Array) -> Array:
    """Probabilities of switches from expected numbers of them."""
    counts = counted + 1 + STAYS * jnp.eye(len(counted))
    return counts / counts.sum(1, keepdims=True)


def _regressed(
    weights: Array, before: Array, after: Array, square: Array, product: Array, least: Array
) -> tuple[Array, Array, Array, Array]:
    """Regress steps: coefficients, root of the covariance of what is left, and sums."""
    square = (before * weights[:, None]).T @ before + square
    product = (before * weights[:, None]).T @ after + product
    coefficients = jnp.linalg.solve(square + LEAST * jnp.eye(len(square)), product)
    rest = after - before @ coefficients
    total = weights.sum() + len(square)
    covariance = ((rest * weights[:, None]).T @ rest) / total + jnp.diag(least)
    return coefficients, jnp.linalg.cholesky(covariance), square, product
