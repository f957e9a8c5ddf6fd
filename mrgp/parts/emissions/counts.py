"""Spike counts whose log-rates the latents drive: priors, and a start of the search.

The start is found on counts made nearly Gaussian.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from scipy.special import gammaln, xlogy
from scipy.stats import poisson

from mrgp.part import SAMPLED
from mrgp.parts.emissions.base import OWN, Emission, Expected, Priors, UnitOfMean, moments_of_neurons
from mrgp.parts.latents import LatentLayout
from mrgp.parts.modes import weights_of_modes
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET, Readout
from mrgp.parts.sites import site_of
from mrgp.recordings.checks import DataError
from mrgp.recordings.preprocessing import TRANSFORMS, Transform, square_root
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument

LOADING_SPREAD = 1.0  # prior sd of loadings: a latent at one sd changes a rate by a factor of e
OFFSET_SPREAD = 3.0  # of the log-rate around the log of the mean count
COURSE_SPREAD = 1.0  # how far a log-rate moves over a trial, a priori
LEAST_COUNT = 1e-3  # per bin: what stands for the mean count of a neuron that never fired
LARGEST_START = 2.0  # norm of a neuron's loadings where a climb begins: one sd of its latents changes its rate by e^2
SAME_MEAN = 0.5  # sd, or of the mean where that is less: means of the same values in other trials, for most neurons
COURSE_STEPS = 8  # of Newton's method; a log-rate moves by at most LONGEST in one
LONGEST = 1.0
STABILISING: Transform = "anscombe"  # what the search for a start makes of counts

type Function = Callable[[np.ndarray], np.ndarray]

FUNCTIONS: dict[str, Function] = {"counts": lambda counts: counts, **TRANSFORMS}
"""What a Gaussian model may have been fitted to."""


class Counts(Emission, abstract=True):
    """Distribution of counts y >= 0 of mean exp(eta), neuron by neuron.

    Shapes end in (neuron,). Counts with parameters of their own are bound to sampled values of them by :meth:`bound`.
    """

    is_of_counts: ClassVar[bool] = True
    support: ClassVar[dist.constraints.Constraint] = dist.constraints.nonnegative_integer

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the class a pytree, whose leaves are the parameters that were sampled."""
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_pytree_node(cls, _sampled, _with_sampled)

    def expected(self, y: Array, mean: Array, variance: Array) -> Expected:
        """Expected log-density for eta ~ N(mean, variance), and its derivatives."""
        raise NotImplementedError

    def normalizer(self, y: Array) -> Array:
        """Terms of log p(y | eta) that :attr:`Expected.value` leaves out."""
        raise NotImplementedError

    def draw(self, key: Array, eta: Array) -> Array:
        """Draw counts with log-rates eta."""
        raise NotImplementedError

    def variance(self, rate: Array, square: Array) -> Array:
        """Expected variance of a value given eta, from E[exp eta] and E[exp(2 eta)]."""
        raise NotImplementedError

    def bound(self, n_neurons: int) -> "Counts":
        """Return the distribution with its parameters sampled.

        Called inside a NumPyro program.
        """
        return self

    # ---- as an emission ------------------------------------------------------------------------------------------

    def check_values(self, data: MultiRegionData) -> None:
        require_counts(data)

    def check(self, data: MultiRegionData) -> None:
        require_counts(data)
        require_spikes(data)

    def trivial_log_likelihood(self, data: MultiRegionData) -> np.ndarray:
        """Log-likelihood of Poisson counts of each neuron's own mean, in nats, (neuron,)."""
        _, mean, _ = moments_of_neurons(data)
        values = np.asarray(data.values)
        return np.where(data.mask, xlogy(values, mean) - mean - gammaln(values + 1), 0.0).sum((0, 1))

    def loadings_scale(self, data: MultiRegionData) -> Array:
        return jnp.full(data.values.shape[-1], LOADING_SPREAD)

    def sample(
        self, data: MultiRegionData, assignment: LatentLayout, loadings: Array, priors: Priors = OWN
    ) -> Readout:
        with numpyro.plate("neuron", data.values.shape[-1]):
            # Around the log of each mean count, so that silence has a rate too.
            level = OFFSET.sample(dist.Normal(jnp.log(mean_counts(data)), OFFSET_SPREAD))
        told = noise_like({LOADINGS.name: loadings, OFFSET.name: level})
        return Readout(loadings, told, level, counts=self.bound(data.values.shape[-1]))

    def given(self, readout: Readout, eta: Array) -> dist.Distribution:
        return GivenLogRates(readout.counts, eta)

    def sites_of(self, noise: np.ndarray, level: np.ndarray, loadings: np.ndarray) -> dict[str, np.ndarray]:
        """Sites of designed neurons: the offset makes the mean count exp(level) / noise.

        A mean count of m per bin measures a log-rate with the error variance 1 / m.
        """
        return {OFFSET.name: level - np.log(noise) - 0.5 * (loadings**2).sum(1)}

    def noise_of(self, sites: Mapping[str, Any]) -> Any:
        return noise_like(sites)

    def scales(self, sites: Mapping[str, Any], n_bins: int, assignment: LatentLayout) -> dict[str, np.ndarray]:
        told = n_bins / np.asarray(self.noise_of(sites))
        # Where few spikes say less than the priors, those count.
        of_loadings, of_offset = (1 / np.sqrt(told + spread**-2) for spread in (LOADING_SPREAD, OFFSET_SPREAD))
        return {LOADINGS.name: of_loadings[:, None], OFFSET.name: of_offset}

    def usual_spread_of_mean(self, data: MultiRegionData) -> Array:
        return jnp.full(data.values.shape[-1], COURSE_SPREAD)

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
        self, other: Emission, sites: Mapping[str, Any], mean: Callable[[], np.ndarray], data: MultiRegionData
    ) -> dict[str, Any]:
        if not other.is_of_counts:
            sites = from_gaussian(sites, data, function_behind(mean(), data))
        return super().from_other(other, sites, mean, data)


class GivenLogRates(dist.Distribution):
    """Counts given their log-rates eta, of any shape; entries are independent."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = dist.constraints.nonnegative
    pytree_data_fields = ("counts", "eta")

    def __init__(self, counts: Counts, eta: Array) -> None:
        self.counts, self.eta = counts, eta
        super().__init__(batch_shape=jnp.shape(eta), validate_args=False)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.counts.draw(key, jnp.broadcast_to(self.eta, (*sample_shape, *self.batch_shape)))

    def log_prob(self, value: Array) -> Array:
        return self.counts.expected(value, self.eta, jnp.zeros_like(self.eta)).value + self.counts.normalizer(value)

    @property
    def mean(self) -> Array:
        return jnp.exp(self.eta)

    @property
    def variance(self) -> Array:
        return self.counts.variance(jnp.exp(self.eta), jnp.exp(2 * self.eta))


def _sampled(counts: Counts) -> tuple[tuple[Any, ...], Counts]:
    names = [field.name for field in fields(counts) if field.metadata.get(SAMPLED)]  # type: ignore[arg-type]
    return tuple(getattr(counts, name) for name in names), counts.replace(**dict.fromkeys(names))


def _with_sampled(unbound: Counts, values: tuple[Any, ...]) -> Counts:
    names = [field.name for field in fields(unbound) if field.metadata.get(SAMPLED)]  # type: ignore[arg-type]
    return unbound.replace(**dict(zip(names, values, strict=True)))


# ---- counts of a recording -------------------------------------------------------------------------------------------


def require_counts(data: MultiRegionData) -> None:
    """Raise DataError unless every value is a whole number, 0 or more."""
    values = np.asarray(data.values)
    wrong = (values < 0) | (values != np.round(values))
    if not wrong.any():
        return
    entry = np.argwhere(wrong)[0].tolist()
    neuron, place = data.name_entry(*entry)
    found = f"{neuron}: {values[*entry]:g} in {place} is no spike count; give whole numbers of 0 or more, or use "
    raise DataError(found, Argument("emission", "gaussian"))


def require_spikes(data: MultiRegionData) -> None:
    """Raise DataError if a whole region is silent.

    Of single neurons the prior of their rates knows enough.
    """
    for name, part in data.layout.region_slices.items():
        if not np.asarray(data.values)[:, :, part].any():
            raise DataError(f"region {name} has no spike in these trials: leave the region out of the recording")


def mean_counts(data: MultiRegionData) -> Array:
    """Mean of the observed counts per bin, (neuron,), kept above 0."""
    return jnp.maximum(jnp.asarray(data.center), LEAST_COUNT)


def noise_like(sites: Mapping[str, Any]) -> Any:
    """Variance of the error with which one bin measures each log-rate, (neuron,).

    It is the inverse of Fisher's information.
    """
    rate = jnp.exp(sites[OFFSET.name] + 0.5 * (sites[LOADINGS.name] ** 2).sum(-1))
    return 1 / rate


# ---- a start ---------------------------------------------------------------------------------------------------------


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
    counts = data.with_nan()
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
    mask, values = data.mask, np.asarray(data.values)
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


def expected_rate(mean: Array, variance: Array) -> tuple[Array, Array]:
    """E[exp eta] and E[exp(2 eta)] of eta ~ N(mean, variance)."""
    first = jnp.exp(mean + 0.5 * variance)
    return first, jnp.square(first) * jnp.exp(variance)


def prediction(counts: Counts, mean: Array, variance: Array) -> tuple[Array, Array]:
    """Mean and variance of a new count for eta ~ N(mean, variance)."""
    first, second = expected_rate(mean, variance)
    return first, jax.nn.relu(second - first**2) + counts.variance(first, second)
