"""NumPyro distributions of multi-region recordings, with the latents integrated out.

Latents are Gaussian processes.
"""

import mrgp.parts.kernels  # noqa: F401  loads numpyro whole, which ArviZ may have left to load lazily, in pieces
from mrgp.likelihoods.dense import DenseGP
from mrgp.likelihoods.kalman import MarkovGP
from mrgp.likelihoods.spectral import SpectralGP

__all__ = ["DenseGP", "MarkovGP", "SpectralGP"]
