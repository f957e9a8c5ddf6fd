"""Linear-Gaussian filtering and smoothing from information inputs: pure linear algebra, no neuron, no region."""
