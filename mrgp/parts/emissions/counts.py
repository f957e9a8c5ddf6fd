"""Spike counts whose log-rates the latents drive."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from scipy.special import gammaln, xlogy

from mrgp.part import SAMPLED
from mrgp.parts.emissions.base import OWN, Emission, Expected, Priors, moments_of_neurons
from mrgp.parts.emissions.beginning_of_counts import LOADING_SPREAD, CountsBeginning, mean_counts
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS, OFFSET, Readout
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument, Part


class Counts(Emission, abstract=True):
    """Distribution of counts y >= 0 of mean exp(eta), neuron by neuron.

    Shapes end in (neuron,). Counts with parameters of their own hold them in fields that
    :meth:`sample` fills.
    """

    eta_unit: ClassVar[str] = "log-rate"
    is_of_counts: ClassVar[bool] = True
    support: ClassVar[dist.constraints.Constraint] = dist.constraints.nonnegative_integer
    loading_spread: ClassVar[float] = LOADING_SPREAD
    offset_spread: ClassVar[float] = 3.0  # of the log-rate around the log of the mean count
    course_spread: ClassVar[float] = 1.0

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

    # ---- as an emission ------------------------------------------------------------------------------------------

    def check_values(self, data: MultiRegionData) -> None:
        require_counts(data)

    def check(self, data: MultiRegionData) -> None:
        require_counts(data)
        require_spikes(data)

    def trivial_log_likelihood(self, data: MultiRegionData) -> np.ndarray:
        """Log-likelihood of Poisson counts of each neuron's own mean, in nats, (neuron,)."""
        _, mean, _ = moments_of_neurons(data)

        def of_entries(counts: np.ndarray) -> np.ndarray:
            return xlogy(counts, mean) - mean - gammaln(counts + 1)

        scores = [np.where(block.mask, of_entries(block.values), 0.0).sum((0, 1)) for block in data.blocks()]
        return np.sum(scores, axis=0)

    def unit(self, data: MultiRegionData) -> Array:
        return jnp.ones(data.values.shape[-1])

    def sample(
        self, data: MultiRegionData, assignment: LatentLayout, loadings: Array, priors: Priors = OWN
    ) -> Readout:
        with numpyro.plate("neuron", data.values.shape[-1]):
            # Around the log of each mean count, so that silence has a rate too.
            level = OFFSET.sample(dist.Normal(jnp.log(mean_counts(data)), self.offset_spread))
        told = noise_like({LOADINGS.name: loadings, OFFSET.name: level})
        return Readout(loadings, told, level, counts=self)

    def given(self, readout: Readout, eta: Array) -> dist.Distribution:
        return GivenLogRates(readout.counts, eta)

    def sites_of(self, noise: np.ndarray, level: np.ndarray, loadings: np.ndarray) -> dict[str, np.ndarray]:
        """Sites of designed neurons: the offset makes the mean count exp(level) / noise.

        A mean count of m per bin measures a log-rate with the error variance 1 / m.
        """
        return {OFFSET.name: level - np.log(noise) - 0.5 * (loadings**2).sum(1)}

    def noise_of(self, sites: Mapping[str, Any]) -> Any:
        return noise_like(sites)

    @property
    def beginning(self) -> CountsBeginning:
        return CountsBeginning(self)


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


GAUSSIAN_NOISE = ("give whole numbers of 0 or more, or use ", Argument("emission", "gaussian"))


def require_counts(data: MultiRegionData, *remedy: Part) -> None:
    """Raise DataError unless every value is a whole number, 0 or more.

    Args:
        data: The recording.
        remedy: End of the message; none for that of a model.
    """
    if (entry := uncounted(data)) is None:
        return
    neuron, place = data.name_entry(*entry)
    found = f"{neuron}: {data.values[*entry]:g} in {place} is no spike count; "
    raise DataError(found, *(remedy or GAUSSIAN_NOISE))


def uncounted(data: MultiRegionData) -> tuple[int, int, int] | None:
    """Find the first trial, time and neuron of a value that is no count; None if there is none.

    It is negative, or no whole number.
    """
    if data.values.dtype.kind == "u":
        return None
    for block in data.blocks():
        wrong = (block.values < 0) | (block.values != np.round(block.values))
        if wrong.any():
            trial, time, neuron = np.argwhere(wrong)[0].tolist()
            return trial + block.trials.start, time, neuron
    return None


def require_spikes(data: MultiRegionData) -> None:
    """Raise DataError if a whole region is silent.

    Of single neurons the prior of their rates knows enough.
    """
    for name, part in data.layout.region_slices.items():
        if not np.asarray(data.values)[:, :, part].any():
            raise DataError(f"region {name} has no spike in these trials: leave the region out of the recording")


def noise_like(sites: Mapping[str, Any]) -> Any:
    """Variance of the error with which one bin measures each log-rate, (neuron,).

    It is the inverse of Fisher's information.
    """
    rate = jnp.exp(sites[OFFSET.name] + 0.5 * (sites[LOADINGS.name] ** 2).sum(-1))
    return 1 / rate


def expected_rate(mean: Array, variance: Array) -> tuple[Array, Array]:
    """E[exp eta] and E[exp(2 eta)] of eta ~ N(mean, variance)."""
    first = jnp.exp(mean + 0.5 * variance)
    return first, jnp.square(first) * jnp.exp(variance)


def prediction(counts: Counts, mean: Array, variance: Array) -> tuple[Array, Array]:
    """Mean and variance of a new count for eta ~ N(mean, variance)."""
    first, second = expected_rate(mean, variance)
    return first, jax.nn.relu(second - first**2) + counts.variance(first, second)
