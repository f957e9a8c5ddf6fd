"""Simulated recordings, whose truth is known."""

from numpyro import distributions  # noqa: F401  whole: ArviZ may have left a numpyro that loads lazily, in pieces
