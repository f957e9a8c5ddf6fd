r"""Exact likelihood by one Cholesky factor of a trial's whole covariance.

It is the reference for all others.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, random

from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.recursions.whole import ReadoutMoments, as_one, log_normalizer, moments
from mrgp.likelihoods.reduction import Information
from mrgp.likelihoods.statespace.assemble import Prior
from mrgp.likelihoods.statespace.covariance import exact_covariance
from mrgp.parts.emissions.autocorrelated import remembering
from mrgp.parts.kernels import Hyperparameters, correlations
from mrgp.recordings.missing import Missing, exact_patterns

JITTER = 1e-9
"""Variance added to a latent at every point, for a Cholesky factor where delayed times coincide: a millionth
of the default GP noise, and about the factor's worst rounding error, n^2 2^-53 for n = 4000 points."""


class DenseGP(DelayedGP):
    """Likelihood of exact Gaussian processes, O((time x readouts)^3).

    That is the cost once per pattern of missing data, shared by its trials.
    """

    prior: Prior

    def patterns(self, n_trials: int) -> Missing:
        return exact_patterns(super().patterns(n_trials), self.n_bins, len(self.noise))

    def normalizer(self, information: Information) -> Array:
        kinds, told = as_one(self.prior.assignment.n_readouts), information
        return log_normalizer(kinds, (self._covariance[None],), told.vectors, told.precision, told.pattern)

    def smoother(self, n_patterns: int) -> Callable[[Information], ReadoutMoments]:
        V = self._covariance
        return lambda told: moments(V, told.vectors, told.precision, told.pattern)

    @property
    def _covariance(self) -> Array:
        return exact_covariance(self.prior, self.latents, self.n_bins)

    def sample_readouts(self, key: Array, n_trials: int) -> Array:
        root = jnp.linalg.cholesky(self._covariance)
        white = random.normal(key, (n_trials, len(root)), root.dtype)
        return (white @ root.T).reshape(n_trials, self.n_bins, -1)

    def draw_readouts(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw every latent jointly at all its delayed times, then the GP noise of every readout.

        Nothing is interpolated between bins, nothing is special at a trial's edges.

        Raises:
            ValueError: the kernel is no covariance.
        """
        assignment, eps, n_trials = self.prior.assignment, self.prior.gp_noise, int(np.prod(self.batch_shape))
        n_regions, n_across = assignment.n_regions, assignment.n_across
        bins = np.arange(self.n_bins, dtype=float)
        delay = np.broadcast_to(self.delay, (self.n_bins, n_regions, n_across))
        clock = bins - np.moveaxis(delay, 0, -1)  # (region, across_latent, time)
        shape = n_trials, n_regions, self.n_bins
        copies = [self._draw_latent(rng, clock[:, k].ravel(), self.across, k).reshape(shape) for k in range(n_across)]
        across = [copies[k][:, r] for r in range(n_regions) for k in range(n_across)]
        own = (self._draw_latent(rng, bins, self.within, j) for j in range(sum(assignment.n_within)))
        signals = np.stack([*across, *own], axis=-1)
        phi = None if self.autocorrelation is None else self.autocorrelation[assignment.region_of_readout]
        noise = remembering(rng.standard_normal(signals.shape), phi)
        return signals, np.sqrt(1 - eps) * signals + np.sqrt(eps) * noise

    def _draw_latent(
        self, rng: np.random.Generator, points: np.ndarray, hyper: Hyperparameters, latent: int
    ) -> np.ndarray:
        """Draw one latent at ``points`` in time, bins; (trial, point)."""
        lag = (points[:, None] - points)[..., None]
        own = {name: np.asarray(values)[[latent]] for name, values in hyper.items()}
        K = np.array(correlations(self.prior.kernel, lag, own)[..., 0])
        K[np.diag_indices_from(K)] += JITTER
        try:
            root = np.linalg.cholesky(K)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"{self.prior.kernel} is no covariance: it is not positive definite") from error
        return rng.standard_normal((int(np.prod(self.batch_shape)), len(points))) @ root.T
