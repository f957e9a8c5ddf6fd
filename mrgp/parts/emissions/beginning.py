"""Beginning of a fit of any emission: first guesses, and how far a climb may step.

The search for a start is made for Gaussian values. Emissions of other values turn theirs into such, and turn what the
search has found into sites of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mrgp.parts.latents import LatentLayout
from mrgp.parts.modes import weights_of_modes
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.recording import MultiRegionData

if TYPE_CHECKING:
    from mrgp.parts.emissions.base import Emission

WIDEST_NOISE = 1.0  # of the log of a noise variance: of which nothing is known
LEAST_NOISE = 1e-6  # of a neuron's variance: a neuron that the latents explain altogether has no likelihood


class UnitOfMean(NamedTuple):
    """Unit of each neuron in which a mean that moves is measured.

    Attributes:
        value: By what values grow where the mean grows by one unit, (neuron,).
        least_noise: The least variance of single trials in squared units, (neuron,).
        size: Of one unit, in what the site of the mean is in, (neuron,).
    """

    value: np.ndarray
    least_noise: np.ndarray
    size: np.ndarray


class TellingBins(NamedTuple):
    """Number of bins that tell of a neuron's parameters.

    Each tells as much as the neuron's own noise leaves. They are fewer than there are where latents are not known.

    Attributes:
        n_bins: All of them.
        loadings: (neuron, column).
        noise: (neuron,).
        offset: (neuron,).
    """

    n_bins: float
    loadings: np.ndarray
    noise: np.ndarray
    offset: np.ndarray

    @classmethod
    def by_all(cls, n_bins: float, assignment: LatentLayout) -> "TellingBins":
        """All bins tell of everything, as where latents are known."""
        every = np.full(assignment.used.shape, float(n_bins))
        return cls(n_bins, every, every[:, 0], every[:, 0])

    def times(self, n_trials: int) -> "TellingBins":
        """Return those of as many trials."""
        of_all = n_trials * self.loadings, n_trials * self.noise, n_trials * self.offset
        return TellingBins(n_trials * self.n_bins, *of_all)


def least_noise(data: MultiRegionData) -> np.ndarray:
    """Smallest noise variances that Gaussian values are taken to have, (neuron,)."""
    return LEAST_NOISE * data.scale**2


@dataclass(frozen=True)
class Beginning:
    """Beginning of a fit with an emission; this one is for Gaussian values.

    Attributes:
        emission: The emission of the model that is fitted.
    """

    emission: "Emission"

    def scales(self, sites: Mapping[str, Any], told: TellingBins, assignment: LatentLayout) -> dict[str, np.ndarray]:
        """Approximate posterior sd of loadings, offsets and the emission's own sites.

        It is in unconstrained coordinates.
        """
        noise = np.asarray(self.emission.noise_of(sites))
        of_noise = 1 / np.sqrt(told.noise / 2 + WIDEST_NOISE**-2)
        of_loadings = np.sqrt(noise[:, None] / told.loadings)
        return {LOADINGS.name: of_loadings, OFFSET.name: np.sqrt(noise / told.offset), NOISE.name: of_noise}

    def with_noise(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        """Raise noise to the least that the emission takes for it; return all sites."""
        return {**sites, NOISE.name: np.maximum(np.asarray(sites[NOISE.name]), least_noise(data))}

    def first_guess(self, rest: MultiRegionData, assignment: LatentLayout) -> dict[str, np.ndarray]:
        """First guess of the emission's own sites.

        ``rest`` is the recording less its mean's course.
        """
        return {}

    # ---- a mean that moves ---------------------------------------------------------------------------------------

    def unit_of_mean(self, data: MultiRegionData) -> UnitOfMean:
        """Unit in which a mean that moves over a trial is measured."""
        scale = np.asarray(data.scale)
        return UnitOfMean(scale, np.full(len(scale), LEAST_NOISE), scale)

    def first_course(self, data: MultiRegionData, modes: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """First guess of the mean's course, (condition, neuron, mode).

        First that of all trials, with ``spread[0]`` (neuron,) a priori; where there are conditions, then that of each
        around the first, with ``spread[1]``. Here trials are averaged, and the averages smoothed as if all else were
        white noise.
        """
        mask, values = data.mask, data.floats

        def smoothed(trials: Any, around: np.ndarray, spread: np.ndarray) -> np.ndarray:
            count = mask[trials].sum(0)
            course = values[trials].sum(0) / np.maximum(count, 1) - (data.center + around) * (count > 0)
            precision = count * (spread / data.scale) ** 2
            return spread[:, None] * weights_of_modes(modes, (course / spread).T, precision.T)

        shared = smoothed(slice(None), np.zeros(mask.shape[1:]), spread[0])
        change = np.tile(shared, (data.layout.n_conditions, 1, 1))
        if len(spread) > 1:
            for number in range(len(change)):
                change[number] += smoothed(np.asarray(data.condition) == number, modes @ shared.T, spread[1])
        return change

    # ---- the search on nearly Gaussian values, and other fits ----------------------------------------------------

    def nearly_gaussian(self, data: MultiRegionData) -> MultiRegionData:
        """Transform the recording to values of nearly constant variance, to search for a start."""
        return data

    def from_nearly_gaussian(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        """Convert sites found on :meth:`nearly_gaussian` values to sites of this emission."""
        return dict(sites)

    def loadings_of_values(self, loadings: np.ndarray, data: MultiRegionData) -> np.ndarray:
        """Convert loadings (neuron, column) to units of :meth:`nearly_gaussian` values."""
        return loadings

    def from_other(
        self, other: "Emission", sites: Mapping[str, Any], mean: Callable[[], np.ndarray], data: MultiRegionData
    ) -> dict[str, Any]:
        """Convert sites of a fit with another emission to sites of this one.

        ``mean`` computes the mean of that fit's values, (neuron,), where it is needed.

        Raises:
            ValueError: they cannot become this emission's.
        """
        if other.is_of_counts and not self.emission.is_of_counts:
            raise ValueError("start is a fit of counts, whose parameters are of log-rates: leave start out")
        lost = set(other.own_sites) - set(self.emission.own_sites)
        return {name: value for name, value in sites.items() if name not in lost}
