r"""The exact likelihood by one Cholesky factor of the trial's whole covariance: the reference for all others."""

import jax
import jax.numpy as jnp
from jax import Array, random
from jax.scipy.linalg import solve_triangular

from mrgp.distributions.base import DelayedGP
from mrgp.kalman.filter import per_trial
from mrgp.statespace.assemble import Prior
from mrgp.statespace.covariance import exact_covariance
from mrgp.statespace.reduce import Information, Missing, exact_patterns


class DenseGP(DelayedGP):
    """Exact Gaussian processes, O((time x readouts)^3) once per pattern of missing data, shared by its trials."""

    prior: Prior

    def patterns(self, n_trials: int) -> Missing:
        return exact_patterns(super().patterns(n_trials), self.n_bins, len(self.noise))

    def normalizer(self, information: Information) -> Array:
        V = exact_covariance(self.prior, self.latents, self.n_bins)
        patterns, readouts = information.precision.shape[1:3]
        blocks = jnp.broadcast_to(information.precision, (self.n_bins, patterns, readouts, readouts))
        root = jnp.linalg.cholesky(V)

        def shared(precision: Array) -> tuple[Array, Array]:
            """S B^-1/2 and -log|B|/2 of one pattern, B = I + S' Lambda S, V = S S'."""
            weighted = jnp.einsum("tij,tjn->tin", precision, root.reshape(self.n_bins, readouts, -1))
            B = jnp.eye(len(V), dtype=V.dtype) + root.T @ weighted.reshape(len(V), -1)
            factor = jnp.linalg.cholesky(B)
            return solve_triangular(factor, root.T, lower=True), -jnp.log(jnp.diagonal(factor)).sum()

        half, log_determinant = jax.lax.map(shared, jnp.swapaxes(blocks, 0, 1))
        b = jnp.swapaxes(information.vectors, 0, 1).reshape(information.vectors.shape[1], -1)
        scaled = per_trial(half, b, information.pattern)
        return 0.5 * (scaled**2).sum(-1) + log_determinant[information.pattern]

    def sample_readouts(self, key: Array, n_trials: int) -> Array:
        root = jnp.linalg.cholesky(exact_covariance(self.prior, self.latents, self.n_bins))
        white = random.normal(key, (n_trials, len(root)), root.dtype)
        return (white @ root.T).reshape(n_trials, self.n_bins, -1)
