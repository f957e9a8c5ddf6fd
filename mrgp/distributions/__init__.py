"""NumPyro distributions of multi-region recordings, with the Gaussian-process latents integrated out."""

import mrgp.kernels  # noqa: F401  loads numpyro whole, which ArviZ may have left to load lazily, in pieces
from mrgp.distributions.dense import DenseGP
from mrgp.distributions.markov import MarkovGP
from mrgp.distributions.spectral import SpectralGP

__all__ = ["DenseGP", "MarkovGP", "SpectralGP"]
