"""NumPyro distributions of multi-region recordings, with the Gaussian-process latents integrated out."""

from mrgp.distributions.dense import DenseGP
from mrgp.distributions.markov import MarkovGP
from mrgp.distributions.spectral import SpectralGP

__all__ = ["DenseGP", "MarkovGP", "SpectralGP"]
