"""Methods that infer a model's parameters, whichever model it is.

The members here are known by name.
"""
# ruff: noqa: I001  in the order in which messages and the help name them

from numpyro import distributions  # noqa: F401  whole: ArviZ may have left a numpyro that loads lazily, in pieces

from mrgp.inference.method import Method
from mrgp.inference.map import MAP
from mrgp.inference.variational_bayes.vb import VB
from mrgp.inference.expectation_maximization.em import EM
from mrgp.inference.laplace import Laplace
from mrgp.inference.svi import SVI
from mrgp.inference.nuts import NUTS

__all__ = ["EM", "MAP", "NUTS", "SVI", "VB", "Laplace", "Method"]
