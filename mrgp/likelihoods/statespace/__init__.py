"""Gaussian processes as linear state spaces, with delays in the readout."""
