r"""The circulant likelihood: in the frequency domain a delay is a phase, and frequencies are independent.

Readouts follow the periodic process with spectrum S_k(f), the expected periodogram of a trial of the true process
(the debiased Whittle likelihood of Sykulski et al. 2019, eq. 8), so that no wrapped sum is truncated:

    V(f) = (1 - eps) H(f) diag(S(f)) H(f)^* + eps I,         H_{(r,k),k}(f) = exp(-2 pi i f delay_{r,k}).

At the Nyquist frequency of an even number of bins, H is its real part, as a real signal requires.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jax.scipy.linalg import solve_triangular

from mrgp.distributions.base import DelayedGP
from mrgp.statespace.assemble import Prior
from mrgp.statespace.reduce import Information


class SpectralGP(DelayedGP):
    """Periodic Gaussian processes, O(time x readouts^3): a fast start, and good for long trials.

    Needs complete trials of equal length and delays that are constant in time.
    """

    prior: Prior

    def _frequencies(self) -> tuple[np.ndarray, np.ndarray]:
        """Cycles per bin of the independent frequencies, and how many of the ``n_bins`` each stands for."""
        frequency = np.fft.rfftfreq(self.n_bins)
        alone = (frequency == 0) | (frequency == 0.5)
        return frequency, np.where(alone, 1.0, 2.0)

    def spectrum(self) -> tuple[Array, Array]:
        """Mixing H (frequency, readout, latent) and spectra S (frequency, latent) of across, then within latents."""
        if self.delay.shape[0] != 1:
            raise ValueError("the spectral likelihood needs delays that are constant in time: use likelihood='markov'")
        names = self.across.keys()
        hyper = {name: jnp.concatenate([self.across[name], self.within[name]]) for name in names}
        lag = jnp.arange(self.n_bins, dtype=self.delay.dtype)[:, None]
        share = lag / self.n_bins
        n_latents = hyper["timescale"].shape[0]
        grid = jnp.broadcast_to(lag, (self.n_bins, n_latents))
        kernel = self.prior.kernel.correlation
        wrapped = (1 - share) * kernel(grid, hyper) + share * kernel(self.n_bins - grid, hyper)
        density = jnp.maximum(jnp.fft.rfft(wrapped, axis=0).real, 0.0)  # (frequency, latent)
        assignment = self.prior.assignment
        frequency, _ = self._frequencies()
        angle = -2 * jnp.pi * frequency[:, None] * self.delay[0].reshape(-1)  # (frequency, region * across)
        phase = jnp.where((frequency == 0.5)[:, None], jnp.cos(angle).astype(complex), jnp.exp(1j * angle))
        picks = np.tile(np.eye(assignment.n_across), (assignment.n_regions, 1))
        across = phase[:, :, None] * picks
        extra = sum(assignment.n_within)
        H = jnp.pad(across, [(0, 0), (0, extra), (0, extra)])
        own = np.pad(np.eye(extra), [(assignment.n_regions * assignment.n_across, 0), (assignment.n_across, 0)])
        return H + own, density

    def normalizer(self, information: Information) -> Array:
        if self.missing is not None and (self.missing.observed is not None or self.missing.length is not None):
            raise ValueError(
                "the spectral likelihood needs complete trials of equal length: use likelihood='markov', "
                "or keep the trials without missing bins with data.select_trials"
            )
        H, density = self.spectrum()
        eps = self.prior.gp_noise
        precision = information.precision[0, 0]
        eye = jnp.eye(len(precision), dtype=H.dtype)
        V = (1 - eps) * (H * density[:, None, :]) @ jnp.conj(jnp.swapaxes(H, -1, -2)) + eps * eye
        root = jnp.linalg.cholesky(V)
        adjoint = jnp.conj(jnp.swapaxes(root, -1, -2))
        factor = jnp.linalg.cholesky(eye + adjoint @ precision.astype(H.dtype) @ root)
        half = solve_triangular(factor, adjoint, lower=True)  # (frequency, readout, readout)
        b = jnp.fft.rfft(information.vectors, axis=0, norm="ortho")  # (frequency, trial, readout)
        scaled = jnp.einsum("fij,fbj->fbi", half, b)
        _, count = self._frequencies()
        log_determinant = -jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1).real).sum(-1) @ count
        return 0.5 * jnp.einsum("f,fbi->b", count, scaled.real**2 + scaled.imag**2) + log_determinant

    def sample_readouts(self, key: Array, n_trials: int) -> Array:
        H, density = self.spectrum()
        eps = self.prior.gp_noise
        signal_key, noise_key = random.split(key)
        # White noise in time has the spectrum of a real signal; colour it frequency by frequency.
        white = random.normal(signal_key, (self.n_bins, n_trials, density.shape[-1]), density.dtype)
        waves = jnp.fft.rfft(white, axis=0, norm="ortho") * jnp.sqrt(density)[:, None]
        mixed = jnp.einsum("fil,fbl->fbi", H, waves)
        signal = jnp.fft.irfft(mixed, n=self.n_bins, axis=0, norm="ortho")
        noise = random.normal(noise_key, signal.shape, signal.dtype)
        return jnp.swapaxes(jnp.sqrt(1 - eps) * signal + jnp.sqrt(eps) * noise, 0, 1)
