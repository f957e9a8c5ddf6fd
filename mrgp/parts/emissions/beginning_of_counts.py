"""Beginning of a fit of counts: a start that is found on counts made nearly Gaussian."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.stats import poisson

from mrgp.parts.emissions.beginning import Beginning, TellingBins, UnitOfMean
from mrgp.parts.latents import LatentLayout
from mrgp.parts.modes import weights_of_modes
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.parts.sites import site_of
from mrgp.recordings.preprocessing import TRANSFORMS, Transform, square_root
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.thinning import thinned

if TYPE_CHECKING:
    from mrgp.parts.emissions.base import Emission

LOADING_SPREAD = 1.0  # prior sd of loadings: a latent at one sd changes a rate by a factor of e
LEAST_COUNT = 1e-3  # per bin: what stands for the mean count of a neuron that never fired
LARGEST_START = 2.0  # norm of a neuron's loadings where a climb begins: one sd of its latents changes its rate by e^2
SAME_MEAN = 0.5  # sd, or of the mean where that is less: means of the same values in other trials, for most neurons
COURSE_STEPS = 8  # of Newton's method; a log-rate moves by at most LONGEST in one
LONGEST = 1.0
STABILISING: Transform = "anscombe"  # what the search for a start makes of counts

type Function = Callable[[np.ndarray], np.ndarray]

FUNCTIONS: dict[str, Function] = {"counts": lambda counts: counts, **TRANSFORMS}
"""What a Gaussian model may have been fitted to."""


class CountsBeginning(Beginning):
    """Beginning of a fit of counts; sites are of log-rates."""

    def scales(self, sites: Mapping[str, Any], told: TellingBins, assignment: LatentLayout) -> dict[str, np.ndarray]:
        noise = np.asarray(self.emission.noise_of(sites))
        # Where few spikes say less than the priors, those count.
        of_loadings = 1 / np.sqrt(told.loadings / noise[:, None] + self.emission.loading_spread**-2)
        of_offset = 1 / np.sqrt(told.offset / noise + self.emission.offset_spread**-2)
        return {LOADINGS.name: of_loadings, OFFSET.name: of_offset}

    def with_noise(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        return dict(sites)  # counts have none beside their own

    def unit_of_mean(self, data: MultiRegionData) -> UnitOfMean:
        value = np.asarray(mean_counts(data))  # a count grows by that where its log-rate grows by 1
        return UnitOfMean(value, 1 / value, np.ones(len(value)))

    def first_course(self, data: MultiRegionData, modes: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return course_start(data, modes, spread)

    def nearly_gaussian(self, data: MultiRegionData) -> MultiRegionData:
        return square_root(data, STABILISING)

    def from_nearly_gaussian(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        return from_gaussian(sites, data, TRANSFORMS[STABILISING]) if NOISE.name in sites else dict(sites)

    def loadings_of_values(self, loadings: np.ndarray, data: MultiRegionData) -> np.ndarray:
        return loadings * slope_of(TRANSFORMS[STABILISING], np.asarray(mean_counts(data)))[:, None]

    def from_other(
        self, other: "Emission", sites: Mapping[str, Any], mean: Callable[[], np.ndarray], data: MultiRegionData
    ) -> dict[str, Any]:
        if not other.is_of_counts:
            sites = from_gaussian(sites, data, function_behind(mean(), data))
        return super().from_other(other, sites, mean, data)


def mean_counts(data: MultiRegionData) -> Array:
    """Mean of the observed counts per bin, (neuron,), kept above 0."""
    return jnp.maximum(jnp.asarray(data.center), LEAST_COUNT)


def slope_of(function: Function, mean: np.ndarray) -> np.ndarray:
    """Slope d E[g(y)] / d log(mean) for Poisson counts y, of the shape of ``mean``.

    It is mean E[g(y + 1) - g(y)], g being ``function``.
    """
    counts = np.arange(int(mean.max() + 10 * np.sqrt(mean.max()) + 20))
    gain = function(counts + 1.0) - function(counts + 0.0)
    return mean * (poisson.pmf(counts, mean[..., None]) * gain).sum(-1)


def function_behind(mean: np.ndarray, data: MultiRegionData) -> Function:
    """Find the transform of the counts that a Gaussian fit was made from.

    It is recognised by the means of the fit's values, (neuron,).

    Raises:
        ValueError: of none that is known, such as one of z-scores.
    """
    counts = thinned(data).with_nan()
    seen = ~np.isnan(counts).all((0, 1))
    apart = {}
    for name, function in FUNCTIONS.items():
        values = function(counts[..., seen])
        own, spread = np.nanmean(values, (0, 1)), np.nanstd(values, (0, 1))
        size = np.minimum(own, spread)  # where neurons hardly fire, means are small beside spreads
        apart[name] = np.median(np.abs(mean[seen] - own) / np.where(size > 0, size, 1.0))
    nearest = min(apart, key=apart.__getitem__)
    if apart[nearest] > SAME_MEAN:
        raise ValueError(
            f"start is a fit of values that are not these counts, nor their {' or '.join(TRANSFORMS)} roots: its "
            "loadings cannot become those of log-rates; leave start out"
        )
    return FUNCTIONS[nearest]


def from_gaussian(sites: Mapping[str, Any], data: MultiRegionData, function: Function) -> dict[str, Any]:
    """Convert sites of a Gaussian model to those of a model of counts.

    The Gaussian model is of a ``function`` of the counts; its loadings become those of log-rates. A neuron of n spikes
    tells a loading to 1 / sqrt(n) beside the prior's LOADING_SPREAD: it is shrunk by what the prior holds, and no
    neuron starts beyond LARGEST_START, for the slope of a rare burst is no slope. Offsets make the mean count right,
    whatever the loadings.
    """
    rest = {name: value for name, value in sites.items() if name != NOISE.name and not _is_of_columns(name)}
    mean = np.asarray(mean_counts(data))
    loadings = np.asarray(sites[LOADINGS.name]) / slope_of(function, mean)[:, None]
    spikes = mean * data.mask.sum((0, 1))
    size = np.linalg.norm(loadings, axis=1)
    loadings = loadings * (np.minimum(1.0, LARGEST_START / np.maximum(size, LARGEST_START))
                           * spikes / (spikes + LOADING_SPREAD**-2))[:, None]  # fmt: skip
    return {**rest, LOADINGS.name: loadings, OFFSET.name: np.log(mean) - 0.5 * (loadings**2).sum(1)}


def _is_of_columns(name: str) -> bool:
    """True if the site describes columns of loadings.

    Its units are not those of log-rates.
    """
    site = site_of(name)
    return site is not None and "column" in site.dims


def course_start(data: MultiRegionData, modes: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """First guess of ``mean_change``, (condition, neuron, mode), by Poisson regression.

    Each neuron is regressed on the modes: first with all trials and ``spread[0]`` (neuron,) a priori; where conditions
    have courses of their own, then with each condition's trials around the first, and ``spread[1]``.
    """
    mask, values = data.mask, data.floats
    level = np.log(np.asarray(mean_counts(data)))[:, None]
    shared = _regression(values.sum(0).T, mask.sum(0).T, level, modes, spread[0][:, None])
    change = np.tile(shared, (data.layout.n_conditions, 1, 1))
    if len(spread) > 1:
        for number in range(len(change)):
            own = np.asarray(data.condition) == number
            total, trials = values[own].sum(0).T, mask[own].sum(0).T
            change[number] += _regression(total, trials, level + shared @ modes.T, modes, spread[1][:, None])
    return change


def _regression(
    total: np.ndarray, trials: np.ndarray, level: np.ndarray, modes: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """Weights of the modes of log-rates around ``level``, (neuron, mode).

    They are inferred from ``total`` counts of ``trials`` trials, (neuron, time).
    """
    eta = np.broadcast_to(level, total.shape)
    for _ in range(COURSE_STEPS):
        expected = trials * np.exp(eta)
        working = eta - level + (total - expected) / np.maximum(expected, 1e-12)
        weights = spread * weights_of_modes(modes, working / spread, expected * spread**2)
        eta = eta + np.clip(level + weights @ modes.T - eta, -LONGEST, LONGEST)
    return weights
