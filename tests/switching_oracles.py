"""Small switching systems, and the moments of their values by dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np

from mrgp.likelihoods.switching.posterior import System, Trials
from mrgp.parts.readout import Readout
from mrgp.parts.switching import SwitchingDynamics


def dynamics(n_states, n_latents, *, recurrent, seed=0):
    rng = np.random.default_rng(seed)
    shape = n_states, n_latents
    weights = [rng.normal(0, 0.7, shape) if recurrent else np.zeros(shape) for _ in range(2)]
    parts = (
        rng.normal(0, 0.5, (n_states, n_latents, n_latents)), rng.normal(0, 1.0, shape),
        rng.normal(0, 0.3, (n_states, n_states)) + np.eye(n_states), *weights, rng.dirichlet(np.ones(n_states)),
        rng.normal(0, 0.5, n_latents), rng.uniform(0.5, 2, n_latents),
    )  # fmt: skip
    return SwitchingDynamics(*map(jnp.asarray, parts))


def system(of, n_neurons, counts=None, seed=1):
    rng = np.random.default_rng(seed)
    C, d = rng.normal(0, 0.6, (n_neurons, of.n_latents)), rng.normal(0, 0.3, n_neurons)
    noise = jnp.asarray(rng.uniform(0.3, 1.0, n_neurons))
    return System(of, jnp.asarray(C), Readout(jnp.asarray(C), noise, jnp.asarray(d), counts=counts))


def trials(values, seen=None, length=None):
    seen = np.ones(values.shape) if seen is None else seen
    inside = np.ones(values.shape[:2])
    if length is not None:
        inside = 1.0 * (np.arange(values.shape[1]) < np.asarray(length)[:, None])
        seen = seen * inside[..., None]
    return Trials(jnp.asarray(values * seen), jnp.asarray(1.0 * seen), jnp.asarray(inside))


def dense_moments(law, path):
    """Mean and covariance of a trial's values given its states."""
    of, C = jax.tree.map(np.asarray, law.dynamics), np.asarray(law.loadings)
    T, D = len(path), of.n_latents
    mean, cov = np.zeros((T, D)), np.zeros((T, D, T, D))
    mean[0], cov[0, :, 0] = of.first_mean, np.diag(of.first_variance)
    for t in range(1, T):
        A = of.matrix[path[t]]
        mean[t] = A @ mean[t - 1] + of.drift[path[t]]
        cov[t] = np.einsum("de,esf->dsf", A, cov[t - 1])
        cov[:t, :, t] = np.moveaxis(cov[t, :, :t], 0, -1)
        cov[t, :, t] = A @ cov[t - 1, :, t - 1] @ A.T + np.eye(D)
    values = np.einsum("nd,tdse,me->tnsm", C, cov, C).reshape(T * len(C), -1)
    eta = mean @ C.T + np.asarray(law.readout.offset)
    return eta.ravel(), values + np.kron(np.eye(T), np.diag(np.asarray(law.readout.noise)))
