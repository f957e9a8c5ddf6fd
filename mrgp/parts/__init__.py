"""What a model is made of: kernels, loadings, means, delays, emissions."""
