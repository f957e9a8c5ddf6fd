r"""Emissions: the distribution of a value given a latent eta, which is its mean or, of counts, its log-rate.

With eta ~ N(m, v), inference needs the expected log-density l(m, v) = E log p(y | eta) and its derivatives

    dl/dm = E d log p / d eta,        -2 dl/dv = -E d^2 log p / d eta^2

(Opper & Archambeau 2009, Neural Comput. 21, eqs. 18-19), where the emission is not Gaussian.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpyro.distributions as dist
from jax import Array

from mrgp.part import Part
from mrgp.parts.latents import Assignment
from mrgp.parts.readout import Readout
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Sentence


class Expected(NamedTuple):
    """l(m, v), its slope dl/dm, and its curvature -2 dl/dv, of one shape; l without what does not depend on eta."""

    value: Array
    slope: Array
    curvature: Array


class UnitOfMean(NamedTuple):
    """How far a mean that moves is measured, neuron by neuron.

    Attributes:
        value: By what values grow where the mean grows by one unit, (neuron,).
        least_noise: The least variance of single trials in squared units, (neuron,).
        size: Of one unit, in what the site of the mean is in, (neuron,).
    """

    value: np.ndarray
    least_noise: np.ndarray
    size: np.ndarray


class Priors(NamedTuple):
    """Priors in the place of an emission's own; None leaves those.

    Attributes:
        noise: Of the variance of a neuron's noise.
        offset: Of its offset.
    """

    noise: dist.Distribution | None = None
    offset: dist.Distribution | None = None


OWN = Priors()


class Emission(Part, family="emission", tag="name", short=True):
    """The distribution of what is recorded of a neuron, given its latent eta."""

    is_of_counts: ClassVar[bool] = False  # latents drive log-rates
    is_autocorrelated: ClassVar[bool] = False  # noise is correlated over time
    own_sites: ClassVar[tuple[str, ...]] = ()  # beside loadings, noise and offset

    # ---- the recording -------------------------------------------------------------------------------------------

    def check_values(self, data: MultiRegionData) -> None:
        """Raise DataError where a value cannot be of this distribution."""

    def check(self, data: MultiRegionData) -> None:
        """Raise DataError where nothing can be inferred from a recording."""
        raise NotImplementedError

    def unsuited(self, data: MultiRegionData) -> Sentence | None:
        """Reason why the emission cannot describe a recording, or None."""
        return None

    def trivial_log_likelihood(self, data: MultiRegionData) -> np.ndarray:
        """Log-likelihood of each neuron with its own mean, and its variance or rate, in nats, (neuron,).

        Every model holds that one, with loadings of zero: no fit may end below it.
        """
        raise NotImplementedError

    # ---- the program ---------------------------------------------------------------------------------------------

    def loadings_scale(self, data: MultiRegionData) -> Array:
        """Prior sd of loadings that nothing is known of, (neuron,)."""
        raise NotImplementedError

    def sample(
        self, data: MultiRegionData, assignment: Assignment, loadings: Array, priors: Priors = OWN
    ) -> Readout:
        """Sample the emission's own parameters.

        Called inside a NumPyro program. Log-rates of counts have priors of their own, whatever is given.
        """
        raise NotImplementedError

    # ---- what inference asks -------------------------------------------------------------------------------------

    def noise_of(self, sites: Mapping[str, Any]) -> Any:
        """Variance with which one bin tells eta, (neuron,)."""
        raise NotImplementedError

    def scales(self, sites: Mapping[str, Any], n_bins: int, assignment: Assignment) -> dict[str, np.ndarray]:
        """About one posterior sd of loadings, offsets and the emission's own sites, in unconstrained coordinates.

        ``n_bins`` are those of all trials together.
        """
        raise NotImplementedError

    def usual_spread_of_mean(self, data: MultiRegionData) -> Array:
        """How far the mean of each neuron moves over a trial, a priori, (neuron,)."""
        raise NotImplementedError

    def unit_of_mean(self, data: MultiRegionData) -> UnitOfMean:
        """The unit in which a mean that moves over a trial is measured."""
        raise NotImplementedError

    def first_course(self, data: MultiRegionData, modes: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """A first guess of the mean's course, (condition, neuron, mode).

        First that of all trials, with ``spread[0]`` (neuron,) a priori; where there are conditions, then that of each
        around the first, with ``spread[1]``.
        """
        raise NotImplementedError

    def nearly_gaussian(self, data: MultiRegionData) -> MultiRegionData:
        """The recording as values of nearly constant variance, in which a start is searched for."""
        return data

    def first_guess(self, rest: MultiRegionData, assignment: Assignment) -> dict[str, np.ndarray]:
        """A first guess of the emission's own sites; ``rest`` is the recording less its mean's course."""
        return {}

    def from_nearly_gaussian(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        """Sites that were found on :meth:`nearly_gaussian` values, as this emission has them."""
        return dict(sites)

    def loadings_of_values(self, loadings: np.ndarray, data: MultiRegionData) -> np.ndarray:
        """Loadings (neuron, column) in units of :meth:`nearly_gaussian` values."""
        return loadings

    def from_other(
        self, other: "Emission", sites: Mapping[str, Any], mean: np.ndarray, data: MultiRegionData
    ) -> dict[str, Any]:
        """Sites of a fit with another emission as this one has them; ``mean`` (neuron,) is that of its values.

        Raises:
            ValueError: they cannot become this emission's.
        """
        return {name: value for name, value in sites.items() if name not in other.own_sites or name in self.own_sites}


def moments_of_neurons(data: MultiRegionData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of entries of each neuron that were observed, their mean and their variance; (neuron,) each."""
    mask, values = data.mask, np.asarray(data.values)
    seen = mask.sum((0, 1))
    mean = values.sum((0, 1)) / np.maximum(seen, 1)
    squares = np.where(mask, values - mean, 0.0) ** 2
    return seen, mean, squares.sum((0, 1)) / np.maximum(seen, 1)
