"""Parts that make a model: kernels, loadings, means, delays, emissions."""

from numpyro import distributions  # noqa: F401  whole: ArviZ may have left a numpyro that loads lazily, in pieces
