"""Fits: parameters, their uncertainty, and the forms in which they are kept and shown."""

from numpyro import distributions  # noqa: F401  whole: ArviZ may have left a numpyro that loads lazily, in pieces
