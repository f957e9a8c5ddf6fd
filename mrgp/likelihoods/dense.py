r"""Exact likelihood by one Cholesky factor of a trial's whole covariance.

It is the reference for all others.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, random

from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.recursions.whole import ReadoutMoments, log_normalizer, moments
from mrgp.likelihoods.reduction import Information
from mrgp.likelihoods.statespace.assemble import Prior
from mrgp.likelihoods.statespace.covariance import exact_covariance
from mrgp.recordings.missing import Missing, exact_patterns


class DenseGP(DelayedGP):
    """Likelihood of exact Gaussian processes, O((time x readouts)^3).

    That is the cost once per pattern of missing data, shared by its trials.
    """

    prior: Prior

    def patterns(self, n_trials: int) -> Missing:
        return exact_patterns(super().patterns(n_trials), self.n_bins, len(self.noise))

    def normalizer(self, information: Information) -> Array:
        return log_normalizer(self._covariance, information.vectors, information.precision, information.pattern)

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
