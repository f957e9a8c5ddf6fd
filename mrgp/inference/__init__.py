"""Methods that infer a model's parameters, whichever model it is."""

from numpyro import distributions  # noqa: F401  whole: ArviZ may have left a numpyro that loads lazily, in pieces
