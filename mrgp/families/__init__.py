"""Families of models: base classes of the models of the zoo."""

from numpyro import distributions  # noqa: F401  whole: ArviZ may have left a numpyro that loads lazily, in pieces
