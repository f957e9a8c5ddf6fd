r"""Information of a recording on delays and kernel parameters, from its latents' spectra.

At each of a trial's frequencies a latent of spectrum S(f), read with the precision s (that of all its neurons in a bin,
c' R^-1 c), is a complex number known up to a Gaussian. Whittle's likelihood of many such numbers has the Fisher
information

    of a kernel parameter a        1/2 sum_f (dS/da s / (1 + S s))^2,
    of a region's delay            sum_f (2 pi f)^2 u v / (1 + u + v),    u, v = S s in the region, and in all others,

for every trial (the second is that of a phase between two signals, Hannan & Thomson 1973, Biometrika 60, 469-480).
Latents are taken one by one, as if all others were known: enough to say how far a climb may step.
"""

from collections.abc import Collection

import numpy as np

from mrgp.parts.kernels import Hyperparameters, Kernel, correlations

RELATIVE_STEP = 1e-3  # of a kernel parameter, over which its spectrum is differentiated


def spectrum(kernel: Kernel, hyper: Hyperparameters, n_bins: int) -> np.ndarray:
    """Expected periodogram of latents of variance 1, (frequency, latent).

    It has all frequencies of a trial.
    """
    lag = np.arange(n_bins)[:, None]
    share = lag / n_bins
    here, there = (correlations(kernel, lag - back, hyper) for back in (0, n_bins))
    return np.maximum(np.fft.fft((1 - share) * here + share * there, axis=0).real, 0.0)


def heard(precision: np.ndarray, gp_noise: float) -> np.ndarray:
    """Precision with which a latent is read if each region's copy has its own white noise."""
    return precision * (1 - gp_noise) / (1 + gp_noise * precision)


def of_kernel(
    kernel: Kernel, hyper: Hyperparameters, names: Collection[str], precision: np.ndarray, n_bins: int
) -> dict[str, np.ndarray]:
    """Information of a trial on the logarithms of kernel parameters, (latent,) each.

    The parameters are ``names``. ``precision`` s is (latent,).
    """
    S = spectrum(kernel, hyper, n_bins)
    found = {}
    for name in names:
        up, down = (
            spectrum(kernel, {**hyper, name: np.asarray(hyper[name]) * (1 + step)}, n_bins)
            for step in (RELATIVE_STEP, -RELATIVE_STEP)
        )
        slope = (up - down) / (2 * RELATIVE_STEP)
        found[name] = 0.5 * np.square(slope * precision / (1 + S * precision)).sum(0)
    return found


def of_delay(kernel: Kernel, hyper: Hyperparameters, precision: np.ndarray, n_bins: int) -> np.ndarray:
    """Information of a trial on delays in bins, (region, latent).

    ``precision`` is (region, latent).
    """
    S = spectrum(kernel, hyper, n_bins)[:, None]
    own = S * precision
    rest = S * precision.sum(0) - own
    turn = (2 * np.pi * np.fft.fftfreq(n_bins))[:, None, None]
    return (turn**2 * own * rest / (1 + own + rest)).sum(0)
