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

LEAST_NOISE = 1e-6  # of a neuron's variance: what single trials differ by where their means are compared


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


@dataclass(frozen=True)
class Beginning:
    """Beginning of a fit with an emission; this one is for Gaussian values.

    Attributes:
        emission: The emission of the model that is fitted.
    """

    emission: "Emission"

    def scales(self, sites: Mapping[str, Any], n_bins: int, assignment: LatentLayout) -> dict[str, np.ndarray]:
        """Approximate posterior sd of loadings, offsets and the emission's own sites.

        It is in unconstrained coordinates. ``n_bins`` are those of all trials together.
        """
        of_mean = 1 / np.sqrt(n_bins / np.asarray(sites[NOISE.name]))
        of_noise = np.sqrt(2.0) * np.asarray(1 / np.sqrt(n_bins))
        return {LOADINGS.name: of_mean[:, None], OFFSET.name: of_mean, NOISE.name: of_noise}

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
