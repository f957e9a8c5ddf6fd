r"""Likelihood in the frequency domain, where frequencies are taken as independent.

Each frequency is treated exactly.

The Fourier coefficients X(f) of a trial's readouts have the covariance that the true process gives them at each
frequency, the expected cross-periodogram (the debiased Whittle likelihood of Sykulski et al. 2019, eqs. 8 and 10),

    V_rs(f) = (1 - eps) sum_tau (1 - |tau| / T) k(tau - (delay_r - delay_s)) exp(-2 pi i f tau) + eps [r = s].

A delay is a phase, as in a circulant model, but one that a trial of finite length damps: what leaves the trial at one
end does not come back at the other, so that estimates of delays are not drawn to zero by its edges.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, random

from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.frequencies import Blocks, log_normalizers
from mrgp.likelihoods.reduction import Information
from mrgp.likelihoods.statespace.assemble import Prior
from mrgp.parts.kernels import Hyperparameters
from mrgp.runtime.sentences import MARKOV, Refusal


class SpectralGP(DelayedGP):
    """Likelihood of independent frequencies, O(time x readouts^3).

    It is for a fast start, and good for long trials.

    Needs complete trials of equal length and delays that are constant in time.
    """

    prior: Prior

    def _frequencies(self) -> tuple[np.ndarray, np.ndarray]:
        """Independent frequencies in cycles per bin, and the number that each stands for.

        These numbers sum to ``n_bins``.
        """
        frequency = np.fft.rfftfreq(self.n_bins)
        alone = (frequency == 0) | (frequency == 0.5)
        return frequency, np.where(alone, 1.0, 2.0)

    def spectrum(self) -> Blocks:
        """Covariance V(f) of the readouts at each frequency, which is Hermitian."""
        if self.delay.shape[0] != 1:
            raise Refusal("the spectral likelihood needs delays that are constant in time: use ", MARKOV)
        assignment, eps = self.prior.assignment, self.prior.gp_noise
        delay = self.delay[0]
        pairs = self._periodogram(self.across, delay[:, None] - delay)  # (frequency, region, region, across)
        same = eps * jnp.eye(len(delay))[:, :, None]
        own = self._periodogram(self.within, jnp.zeros(sum(assignment.n_within)))
        return Blocks((1 - eps) * pairs + same, (1 - eps) * own + eps)

    def _periodogram(self, hyper: Hyperparameters, shift: Array) -> Array:
        """Expected cross-periodogram of two copies of a latent, (frequency, ..., latent).

        The copies are ``shift`` (..., latent) bins apart.
        """
        lag = jnp.arange(self.n_bins, dtype=shift.dtype).reshape(-1, *[1] * shift.ndim)
        share = lag / self.n_bins
        kernel = self.prior.kernel.correlation
        wrapped = (1 - share) * kernel(lag - shift, hyper) + share * kernel(lag - self.n_bins - shift, hyper)
        return jnp.fft.rfft(wrapped, axis=0)

    def normalizer(self, information: Information) -> Array:
        if self.missing is not None and (self.missing.observed is not None or self.missing.length is not None):
            remedy = ", or keep the trials without missing bins"
            raise Refusal("the spectral likelihood needs complete trials of equal length: use ", MARKOV, remedy)
        vectors = jnp.fft.rfft(jnp.moveaxis(information.vectors, 0, -1), norm="ortho")  # (trial, readout, frequency)
        _, count = self._frequencies()
        precision = information.precision[0, 0]
        return log_normalizers(self.spectrum(), precision, vectors.transpose(2, 1, 0), jnp.asarray(count))

    def sample_readouts(self, key: Array, n_trials: int) -> Array:
        root = jnp.linalg.cholesky(self.spectrum().dense())
        # White noise in time has the spectrum of a real signal; colour it frequency by frequency.
        white = random.normal(key, (self.n_bins, n_trials, root.shape[-1]), self.delay.dtype)
        waves = jnp.einsum("fij,fbj->fbi", root, jnp.fft.rfft(white, axis=0, norm="ortho"))
        return jnp.swapaxes(jnp.fft.irfft(waves, n=self.n_bins, axis=0, norm="ortho"), 0, 1)
