"""Models of spike counts, whose latents drive log-rates: priors, and a start from counts made nearly Gaussian."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from scipy.stats import poisson

from mrgp.parts.emissions.base import OFFSET, Counts
from mrgp.parts.emissions.negative_binomial import NegativeBinomial, sample_dispersion
from mrgp.parts.emissions.poisson import Poisson
from mrgp.recordings.checks import DataError
from mrgp.recordings.preprocessing import TRANSFORMS
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument

LOADING_SPREAD = 1.0  # prior sd of loadings: a latent at one sd changes a rate by a factor of e
OFFSET_SPREAD = 3.0  # of the log-rate around the log of the mean count
COURSE_SPREAD = 1.0  # how far a log-rate moves over a trial, a priori
LEAST_COUNT = 1e-3  # per bin: what stands for the mean count of a neuron that never fired
LARGEST_START = 2.0  # norm of a neuron's loadings where a climb begins: one sd of its latents changes its rate by e^2
SAME_MEAN = 0.5  # sd, or of the mean where that is less: means of the same values in other trials, for most neurons

type Function = Callable[[np.ndarray], np.ndarray]

FUNCTIONS: dict[str, Function] = {"counts": lambda counts: counts, **TRANSFORMS}
"""What a Gaussian model may have been fitted to."""


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
    """Raise DataError where a whole region is silent; of single neurons the prior of their rates knows enough."""
    for name, part in data.layout.region_slices.items():
        if not np.asarray(data.values)[:, :, part].any():
            raise DataError(f"region {name} has no spike in these trials: leave the region out of the recording")


def mean_counts(data: MultiRegionData) -> Array:
    """Mean count per bin, (neuron,), of what was observed; above 0."""
    return jnp.maximum(jnp.asarray(data.center), LEAST_COUNT)


def sample_count_offset(data: MultiRegionData) -> Array:
    """The site ``offset`` (neuron,) of log-rates: around the log of each mean count, so that silence has a rate too."""
    return OFFSET.sample(dist.Normal(jnp.log(mean_counts(data)), OFFSET_SPREAD))


def counts_of(emission: str, n_neurons: int) -> Counts:
    """The distribution of counts that ``emission`` names, its parameters sampled."""
    return Poisson() if emission == "poisson" else NegativeBinomial(sample_dispersion(n_neurons))


def noise_like(sites: Mapping[str, Any]) -> Any:
    """Variance with which one bin tells a neuron's log-rate, (neuron,): the inverse of Fisher's information."""
    rate = jnp.exp(sites["offset"] + 0.5 * (sites["loadings"] ** 2).sum(-1))
    return 1 / rate + sites.get("dispersion", 0.0)


# ---- a start ---------------------------------------------------------------------------------------------------------


def slope_of(function: Function, mean: np.ndarray) -> np.ndarray:
    """d E[g(y)] / d log(mean) of Poisson counts y, of the shape of ``mean``: mean E[g(y + 1) - g(y)]."""
    counts = np.arange(int(mean.max() + 10 * np.sqrt(mean.max()) + 20))
    gain = function(counts + 1.0) - function(counts + 0.0)
    return mean * (poisson.pmf(counts, mean[..., None]) * gain).sum(-1)


def function_behind(mean: np.ndarray, data: MultiRegionData) -> Function:
    """Of which function of counts the means are that a Gaussian model has, (neuron,).

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
    """Sites of a Gaussian model of a function of the counts, whose loadings become those of log-rates.

    A neuron of n spikes tells a loading to 1 / sqrt(n) beside the prior's LOADING_SPREAD: it is shrunk by what the
    prior holds, and no neuron starts beyond LARGEST_START, for the slope of a rare burst is no slope. Offsets make the
    mean count right, whatever the loadings.
    """
    rest = {name: value for name, value in sites.items() if name not in ("noise", "alpha")}
    mean = np.asarray(mean_counts(data))
    loadings = np.asarray(sites["loadings"]) / slope_of(function, mean)[:, None]
    spikes = mean * data.mask.sum((0, 1))
    size = np.linalg.norm(loadings, axis=1)
    loadings = loadings * (np.minimum(1.0, LARGEST_START / np.maximum(size, LARGEST_START))
                           * spikes / (spikes + LOADING_SPREAD**-2))[:, None]  # fmt: skip
    return {**rest, "loadings": loadings, "offset": np.log(mean) - 0.5 * (loadings**2).sum(1)}


