r"""Covariance matrices of the readouts over a whole trial, exact and lifted.

Readouts are ordered time-major: index (t, readout). The exact covariance is the definition of the model,

    cov(x_{r,k}(t), x_{s,k}(t')) = (1 - eps) k_k((t - delay_r) - (t' - delay_s)) + eps [r = s][t = t'],

and every approximation is measured against it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.likelihoods.statespace.assemble import Latents, Prior, Space
from mrgp.parts.emissions.autocorrelated import innovation_covariance


def exact_covariance(prior: Prior, latents: Latents, n_bins: int) -> Array:
    """Covariance (time * readout, time * readout) of the readouts of the exact model.

    Of their innovations, where noise is autocorrelated (see ``emissions.autocorrelated``).
    """
    assignment = prior.assignment
    n_regions, n_across = assignment.n_regions, assignment.n_across
    latent = np.concatenate([np.tile(np.arange(n_across), n_regions), n_across + np.arange(sum(assignment.n_within))])
    names = latents.across.keys()
    hyper = {name: jnp.concatenate([latents.across[name], latents.within[name]])[latent] for name in names}
    delay = jnp.broadcast_to(latents.delay, (n_bins, n_regions, n_across)).reshape(n_bins, n_regions * n_across)
    delay = jnp.pad(delay, [(0, 0), (0, sum(assignment.n_within))])
    clock = jnp.arange(n_bins, dtype=delay.dtype)[:, None] - delay  # (time, readout)
    lag = clock[:, :, None, None] - clock
    shared = (latent[:, None] == latent)[None, :, None, :]
    covariance = jnp.where(shared, prior.kernel.correlation(lag, hyper), 0.0)
    size = clock.size
    eps, covariance = prior.gp_noise, covariance.reshape(size, size)
    if latents.autocorrelation is None:
        return (1 - eps) * covariance + eps * jnp.eye(size, dtype=delay.dtype)
    phi = latents.autocorrelation[assignment.region_of_readout]
    fresh = jnp.tile(1 - phi**2, n_bins)
    return (1 - eps) * innovation_covariance(covariance, phi) + eps * jnp.diag(fresh)


def lifted_covariance(space: Space, latents: Latents, n_bins: int) -> Array:
    """Covariance (time * readout, time * readout) of the readouts of the state-space model."""
    dynamics, readout = space.assemble(latents)
    steps = -(-n_bins // space.window.step)
    weights = jnp.broadcast_to(readout.weights, (steps, *readout.weights.shape[1:]))
    noise = jnp.broadcast_to(readout.noise, (steps, readout.noise.shape[-1]))

    def advance(power: Array, _: None) -> tuple[Array, Array]:
        return dynamics.transition @ power, power

    _, ahead = jax.lax.scan(advance, dynamics.stationary, None, length=steps)  # cov(s_{t+n}, s_t)
    lag = np.subtract.outer(np.arange(steps), np.arange(steps))
    forward = jnp.einsum("tis,tusv,ujv->tiuj", weights, ahead[np.maximum(lag, 0)], weights)
    size = steps * weights.shape[1]
    lower = forward.reshape(size, size)
    own = np.repeat(np.arange(steps), weights.shape[1])
    full = jnp.where(own[:, None] >= own, lower, lower.T) + jnp.diag(noise.reshape(size))
    keep = n_bins * (weights.shape[1] // space.window.step)
    return full[:keep, :keep]


def divergence(exact: Array, approximate: Array, precision: Array) -> Array:
    r"""KL divergence, in nats, between the laws of observations under two covariances.

    The covariances are those of the readouts.

    Args:
        exact: V0 (size, size).
        approximate: V1 (size, size).
        precision: Lambda of the observations (size, size), singular or not.

    Returns:
        KL(N(0, S0) || N(0, S1)) with S = I + U' V U and Lambda = U U', the observations whitened by their noise.
    """
    values, vectors = jnp.linalg.eigh(precision)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))
    eye = jnp.eye(len(precision), dtype=precision.dtype)
    first, second = (jnp.linalg.cholesky(eye + root.T @ V @ root) for V in (exact, approximate))
    ratio = jax.scipy.linalg.solve_triangular(second, first, lower=True)
    log_ratio = jnp.log(jnp.diagonal(second)).sum() - jnp.log(jnp.diagonal(first)).sum()
    return 0.5 * ((ratio**2).sum() - len(precision)) + log_ratio
