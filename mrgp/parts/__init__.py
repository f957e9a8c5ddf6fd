"""Parts that make a model: kernels, loadings, means, delays, emissions."""
