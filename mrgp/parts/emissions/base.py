r"""Emissions: the distribution of a value given a latent eta.

eta is the mean of the value or, of counts, its log-rate. With eta ~ N(m, v), inference needs the expected log-density
l(m, v) = E log p(y | eta) and its derivatives

    dl/dm = E d log p / d eta,        -2 dl/dv = -E d^2 log p / d eta^2

(Opper & Archambeau 2009, Neural Comput. 21, eqs. 18-19), where the emission is not Gaussian.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpyro.distributions as dist
from jax import Array

from mrgp.part import Part
from mrgp.parts.emissions.beginning import Beginning
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import Readout
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Sentence


class Expected(NamedTuple):
    """Expected log-density l(m, v), slope dl/dm and curvature -2 dl/dv, of one shape.

    l is without terms that do not depend on eta.
    """

    value: Array
    slope: Array
    curvature: Array


class Priors(NamedTuple):
    """Priors that replace those of an emission; None keeps its own.

    Attributes:
        noise: Of the variance of a neuron's noise.
        offset: Of its offset.
    """

    noise: dist.Distribution | None = None
    offset: dist.Distribution | None = None


OWN = Priors()


class Emission(Part, family="emission", tag="name", short=True):
    """Distribution of the values of a neuron given its latent eta.

    Attributes:
        loading_spread: Prior sd of loadings under the weak prior, in units of eta (see :meth:`unit`).
        offset_spread: Prior sd of offsets around the mean, in the same units.
        course_spread: How far a neuron's mean response moves over a trial, a priori, in the same units.
    """

    eta_unit: ClassVar[str] = "data units"
    is_of_counts: ClassVar[bool] = False  # latents drive log-rates
    is_uniform: ClassVar[bool] = True  # all neurons have the same family of distributions
    is_autocorrelated: ClassVar[bool] = False  # noise is correlated over time
    own_sites: ClassVar[tuple[str, ...]] = ()  # beside loadings, noise and offset
    loading_spread: ClassVar[float]
    offset_spread: ClassVar[float]
    noise_spread: ClassVar[float]
    course_spread: ClassVar[float]

    # ---- the recording -------------------------------------------------------------------------------------------

    def check_values(self, data: MultiRegionData) -> None:
        """Raise DataError if a value cannot come from this distribution."""

    def check(self, data: MultiRegionData) -> None:
        """Raise DataError if nothing can be inferred from a recording."""
        raise NotImplementedError

    def unsuited(self, data: MultiRegionData) -> Sentence | None:
        """Reason why the emission cannot describe a recording, or None."""
        return None

    def trivial_log_likelihood(self, data: MultiRegionData) -> np.ndarray:
        """Log-likelihood of neurons with their own means alone, in nats, (neuron,).

        Values have each neuron's own variance, counts its rate. Every model holds that one, with loadings of zero: no
        fit may end below it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define trivial_log_likelihood(self, data)")

    # ---- the program ---------------------------------------------------------------------------------------------

    def unit(self, data: MultiRegionData) -> Array:
        """Unit in which eta is measured, (neuron,): the sd of values, or 1 for log-rates."""
        raise NotImplementedError

    def loadings_scale(self, data: MultiRegionData) -> Array:
        """Prior sd of loadings under the weak prior, (neuron,)."""
        return self.loading_spread * self.unit(data)

    def usual_spread_of_mean(self, data: MultiRegionData) -> Array:
        """Prior spread of each neuron's mean over a trial, (neuron,)."""
        return self.course_spread * self.unit(data)

    def sample(
        self, data: MultiRegionData, assignment: LatentLayout, loadings: Array, priors: Priors = OWN
    ) -> Readout:
        """Sample the emission's own parameters.

        Called inside a NumPyro program. Log-rates of counts have priors of their own, whatever is given.
        """
        raise NotImplementedError

    def given(self, readout: Readout, eta: Array) -> dist.Distribution:
        """Distribution of values given eta, (..., neuron).

        ``readout`` has the parameters that :meth:`sample` returned. Entries are independent.
        """
        raise NotImplementedError(f"{type(self).__name__} has no distribution of single values given eta")

    def sites_of(self, noise: np.ndarray, level: np.ndarray, loadings: np.ndarray) -> dict[str, np.ndarray]:
        """Sites of neurons that are designed for a simulation.

        One bin is to measure eta with error variances ``noise`` (neuron,), around ``level`` (neuron,), under
        ``loadings`` (neuron, column): see :meth:`noise_of`. Sites left out are drawn from their priors.
        """
        return {}

    # ---- what inference asks -------------------------------------------------------------------------------------

    def noise_of(self, sites: Mapping[str, Any]) -> Any:
        """Variance of the error with which one bin measures eta, (neuron,)."""
        raise NotImplementedError

    @property
    def beginning(self) -> Beginning:
        """Beginning of a fit: first guesses, and how far a climb may step."""
        return Beginning(self)


def moments_of_neurons(data: MultiRegionData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of observed entries, mean and variance of each neuron; (neuron,) each."""
    sums = [(block.mask.sum((0, 1)), block.values.sum((0, 1))) for block in data.blocks()]
    seen, total = (np.sum(parts, axis=0) for parts in zip(*sums, strict=True))
    mean = total / np.maximum(seen, 1)
    squares = [(np.where(block.mask, block.values - mean, 0.0) ** 2).sum((0, 1)) for block in data.blocks()]
    return seen, mean, np.sum(squares, axis=0) / np.maximum(seen, 1)
