"""Emissions: the distribution of an observation given its latents.

The members here are known by name.
"""
# ruff: noqa: I001  in the order in which messages and the help name them

from mrgp.parts.emissions.base import Emission
from mrgp.parts.emissions.gaussian import Gaussian
from mrgp.parts.emissions.autocorrelated import AutocorrelatedGaussian
from mrgp.parts.emissions.poisson import Poisson
from mrgp.parts.emissions.negative_binomial import NegativeBinomial
from mrgp.parts.emissions.by_region import ByRegion

__all__ = ["AutocorrelatedGaussian", "ByRegion", "Emission", "Gaussian", "NegativeBinomial", "Poisson"]
