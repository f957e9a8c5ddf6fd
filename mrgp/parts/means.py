"""Means over a trial: constant, or a smooth course for every neuron with a likely spread."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from scipy.ndimage import uniform_filter1d

from mrgp.part import Part
from mrgp.parts.around_shared import AroundShared
from mrgp.parts.emissions.base import Emission
from mrgp.parts.modes import rough_modes
from mrgp.parts.sites import Site
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.units import positive_seconds
from mrgp.runtime.sentences import Argument

MEAN_CHANGE = Site("mean_change", "condition", "neuron", "mode")
MEAN_SPREAD = Site("mean_spread", "kind", "neuron")

GRID_OF_SPREADS = np.geomspace(0.04, 1.0, 7)  # of a neuron's unit: how far its mean may move over a trial
MIXING_STEPS = 100
TELLING_MODES = 64  # of a mean: its largest, which tell how far it moves
NEIGHBOURS, THEIR_WEIGHT = 9, 20.0  # modes whose noise is like a mode's own, and the trials that this counts for
LEAST_FREEDOM = 5.0  # trials beyond one of each condition, below which nothing tells the noise
TRIALS_AT_ONCE = 16


class Mean(Part, family="mean", tag="name", short=True):
    """Mean of each neuron that all trials of a condition share, besides its offset.

    ``duration`` is the length in seconds of the trials that a course is defined for; None for those of the recording.
    """

    moves: ClassVar[bool] = False  # over a trial
    own_sites: ClassVar[tuple[str, ...]] = ()
    held: ClassVar[tuple[str, ...]] = ()  # sites that climbs leave alone

    def sample(self, data: MultiRegionData, emission: Emission, duration: float | None) -> Array | None:
        """Sample the course that the mean adds to offsets, (condition, time, neuron), or None."""
        return None

    def course(self, sites: Mapping[str, Any], data: MultiRegionData, duration: float | None) -> Any:
        """Course that the mean adds to offsets at given sites, (condition, time, neuron)."""
        return 0.0

    def level(self, sites: Mapping[str, Any], data: MultiRegionData, duration: float | None) -> Any:
        """Average over time and conditions of the course that the mean adds to offsets, (neuron,)."""
        return 0.0

    def first_guess(
        self, data: MultiRegionData, emission: Emission, duration: float | None
    ) -> dict[str, np.ndarray]:
        """A first guess of the mean's sites."""
        return {}

    def scales(
        self, sites: Mapping[str, Any], data: MultiRegionData, noise: np.ndarray, duration: float | None
    ) -> dict[str, np.ndarray]:
        """Approximate posterior sd of the mean's sites.

        ``noise`` (neuron,) is the variance of one bin.
        """
        return {}


@dataclass(frozen=True)
class Constant(Mean):
    """One offset for every neuron: the response that all trials share is left to latents."""


@dataclass(frozen=True)
class PSTH(Mean):
    """Offset and smooth course over the trial for every neuron.

    Every condition has a course of its own, if trials have conditions.

    The site ``mean_change`` (condition, neuron, mode), in units of the recording, or of log-rates, weighs the principal
    modes of a Matern-3/2 process. Of its standard deviations, the site ``mean_spread`` (kind, neuron), the first is of
    a course that all conditions share, the second of what each has besides; one condition has only the first. A fit
    sets them where the evidence is highest, the courses integrated out (see :func:`likely_spreads`), and holds them: no
    joint maximum would find them.

    Args:
        timescale: How fast the mean may change, seconds; the onset of a response takes some 0.05.
    """

    timescale: float = 0.05

    moves: ClassVar[bool] = True
    own_sites: ClassVar[tuple[str, ...]] = (MEAN_CHANGE.name, MEAN_SPREAD.name)
    held: ClassVar[tuple[str, ...]] = (MEAN_SPREAD.name,)
    short_forms: ClassVar[Mapping[str, str]] = {"mean_timescale": "timescale"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "timescale", float(positive_seconds("timescale", self.timescale)))

    def modes(self, data: MultiRegionData, duration: float | None) -> np.ndarray:
        """The modes of the mean's course, (time, mode), in the order of their variance.

        Raises:
            DataError: trials are longer than those that the mean was fitted to.
        """
        bins = data.n_bins if duration is None else round(duration / data.bin_width)
        if data.n_bins > bins:
            raise DataError(
                f"trials have {data.n_bins} bins, but the mean was fitted to {bins}: cut them, or fit ",
                Argument("mean", "constant"),
            )
        return rough_modes(bins, self.timescale / data.bin_width)[: data.n_bins]

    def sample(self, data: MultiRegionData, emission: Emission, duration: float | None) -> Array:
        modes, groups = self.modes(data, duration), data.layout.n_conditions
        usual = emission.usual_spread_of_mean(data)
        usual = jnp.broadcast_to(usual, (min(groups, 2), len(usual)))
        spread = MEAN_SPREAD.sample(dist.HalfNormal(usual).to_event(2))
        shared = jnp.broadcast_to(spread[0, :, None], (usual.shape[1], modes.shape[1]))
        prior: dist.Distribution = dist.Normal(0.0, shared[None]).to_event(3)
        if groups > 1:
            prior = AroundShared(shared, spread[1, :, None], groups)
        return jnp.einsum("tm,cnm->ctn", modes, MEAN_CHANGE.sample(prior))

    def course(self, sites: Mapping[str, Any], data: MultiRegionData, duration: float | None) -> Any:
        return np.einsum("tm,cnm->ctn", self.modes(data, duration), sites[MEAN_CHANGE.name])

    def level(self, sites: Mapping[str, Any], data: MultiRegionData, duration: float | None) -> Any:
        return (sites[MEAN_CHANGE.name] @ self.modes(data, duration).mean(0)).mean(0)

    def first_guess(
        self, data: MultiRegionData, emission: Emission, duration: float | None
    ) -> dict[str, np.ndarray]:
        spread = self.likely_spread(data, emission, duration)
        change = emission.beginning.first_course(data, self.modes(data, duration), spread)
        return {MEAN_SPREAD.name: spread, MEAN_CHANGE.name: change}

    def likely_spread(self, data: MultiRegionData, emission: Emission, duration: float | None) -> np.ndarray:
        """Likely value of the site ``mean_spread``, (kind, neuron), from the evidence.

        It is the prior's scale where the recording does not tell it.
        """
        unit, usual = emission.beginning.unit_of_mean(data), np.asarray(emission.usual_spread_of_mean(data))
        modes = self.modes(data, duration)[:, :TELLING_MODES]
        size = (modes**2).sum(0)
        given = data.floats, data.mask, np.asarray(data.condition)
        averages = averages_of_conditions(*given, modes / np.sqrt(size), np.asarray(data.center), unit.value)
        likely = likely_spreads(averages, size, unit.least_noise) * unit.size
        return np.where(np.isnan(likely), usual, likely)[: data.layout.n_conditions]

    def scales(
        self, sites: Mapping[str, Any], data: MultiRegionData, noise: np.ndarray, duration: float | None
    ) -> dict[str, np.ndarray]:
        trials = np.bincount(np.asarray(data.condition), minlength=data.layout.n_conditions)
        told = trials[:, None, None] / noise[:, None] * (self.modes(data, duration) ** 2).sum(0)
        return {MEAN_CHANGE.name: 1 / np.sqrt(told + np.asarray(sites[MEAN_SPREAD.name])[-1][:, None] ** -2.0)}


class Averages(NamedTuple):
    """Averages of each condition's trials on the modes of a mean, with their noise.

    Attributes:
        mean: In units of each neuron, (condition, mode, neuron).
        trials: Trials that each is an average of, in observed bins by bins of a trial, (condition, neuron).
        noise: Variance of a single trial around its condition's average, (mode, neuron); NaN where nothing tells it.
    """

    mean: np.ndarray
    trials: np.ndarray
    noise: np.ndarray


def averages_of_conditions(
    values: np.ndarray, mask: np.ndarray, condition: np.ndarray, along: np.ndarray, center: np.ndarray, unit: np.ndarray
) -> Averages:
    """Average the trials of each condition, and project on orthonormal modes ``along``.

    Trials are (trial, time, neuron), zero where ``mask`` is; modes are (time, mode). Noise is that of the modes around
    as well: of few trials each alone would be known to a factor of two.
    """
    groups = [np.flatnonzero(condition == number) for number in np.unique(condition)]
    mean = np.empty((len(groups), along.shape[1], len(unit)))
    trials, squares = np.empty((len(groups), len(unit))), np.zeros(mean.shape[1:])
    for number, group in enumerate(groups):
        parts = np.array_split(group, -(-len(group) // TRIALS_AT_ONCE))
        seen = np.sum([mask[part].sum(0) for part in parts], 0)
        course = np.sum([values[part].sum(0) for part in parts], 0) / np.maximum(seen, 1)
        trials[number] = seen.sum(0) / len(seen)
        mean[number] = along.T @ (np.where(seen > 0, course - center, 0.0) / unit)
        for part in parts:
            apart = np.where(mask[part], values[part] - course, 0.0) / unit
            squares += np.square(np.einsum("btn,tm->bmn", apart, along, optimize=True)).sum(0)
    freedom = np.maximum(trials - 1, 0.0).sum(0)
    alone = squares / np.maximum(freedom, 1.0)
    around = uniform_filter1d(alone, NEIGHBOURS, axis=0, mode="nearest")
    noise = (freedom * alone + THEIR_WEIGHT * around) / (freedom + THEIR_WEIGHT)
    return Averages(mean, trials, np.where(freedom >= LEAST_FREEDOM, noise, np.nan))


def likely_spreads(averages: Averages, size: np.ndarray, least_noise: np.ndarray) -> np.ndarray:
    r"""Likely spreads of each neuron's mean over a trial, shared and of single conditions.

    The first is of the course that all conditions share, the second of what each has besides.

    A mean a + b_c of modes with spreads s and o shows in the average of condition c's n_c trials, projected on mode m,
    as N(0, (s^2 + o^2) |m|^2 + v / n_c), its covariance between conditions being s^2 |m|^2; v is the variance of single
    trials around the average, so that what latents add to trials is no mean. Every neuron has spreads of its own,
    drawn from a mixture over a grid that the neurons share, found by expectation-maximization: a neuron of few spikes
    takes those of the others. What is returned is the root of the expected s^2 and o^2.

    Args:
        averages: Of the conditions.
        size: |m|^2 of each mode, (mode,).
        least_noise: The least v that can be, (neuron,).

    Returns:
        Spreads in the neuron's unit, (2, neuron); NaN where nothing tells them: of noise too few trials, and of
        differences between conditions a single one.
    """
    one = len(averages.mean) == 1
    pairs = [(shared, own) for shared in GRID_OF_SPREADS for own in ((0.0,) if one else GRID_OF_SPREADS)]
    grid, known = np.array(pairs), np.isfinite(averages.noise[0])
    found = np.full((2, averages.noise.shape[1]), np.nan)
    if not known.any():
        return found
    mean, trials = averages.mean[..., known], averages.trials[:, None, known]
    noise = np.maximum(averages.noise[:, known], least_noise[known])
    evidence = np.empty((len(grid), mean.shape[-1]))
    for point, (shared, own) in enumerate(grid):
        precision = np.where(trials > 0, 1 / (own**2 * size[:, None] + noise / np.maximum(trials, 1e-9)), 0.0)
        common = shared**2 * size[:, None]
        inflation = 1 + common * precision.sum(0)
        square = (precision * mean**2).sum(0) - common * (precision * mean).sum(0) ** 2 / inflation
        determinant = np.log(inflation) - np.log(np.where(trials > 0, precision, 1.0)).sum(0)
        evidence[point] = -0.5 * (square + determinant).sum(0)
    likely = np.exp(evidence - evidence.max(0))
    share = np.full((len(grid), 1), 1 / len(grid))
    for _ in range(MIXING_STEPS):
        belongs = share * likely / (share * likely).sum(0)
        share = belongs.mean(1, keepdims=True)
    found[:, known] = np.sqrt(np.einsum("gn,gk->kn", belongs, grid**2))
    if one:
        found[1] = np.nan
    return found
