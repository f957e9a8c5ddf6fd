"""Negative-binomial counts, whose variance exceeds their mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random
from scipy.stats import nbinom

from mrgp.part import SAMPLED
from mrgp.parts.emissions.base import OWN, Expected, Priors, moments_of_neurons
from mrgp.parts.emissions.beginning import TellingBins
from mrgp.parts.emissions.beginning_of_counts import CountsBeginning
from mrgp.parts.emissions.counts import Counts
from mrgp.parts.emissions.tables_of_counts import log_factorial, log_rising
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import OFFSET, Readout
from mrgp.parts.sites import Site
from mrgp.recordings.recording import MultiRegionData

DISPERSION = Site("dispersion", "neuron")

TYPICAL_DISPERSION, DISPERSION_SPREAD = 0.1, 1.5  # prior median and sd of the logarithm: 0.005 to 2 within two sd
NODES = 7  # of Gauss-Hermite quadrature: l is right to 1e-6 nats up to v = 1, to 2e-4 up to v = 4
LARGEST = 0.2  # of the log of the largest number: from there on log(1 + exp eta) is eta, and products are still numbers
LEAST_VARIANCE = 1e-30  # of a log-rate: at 0, as a neuron without loadings has it, a standard deviation has no slope


@dataclass(frozen=True)
class NegativeBinomial(Counts):
    """Counts of mean mu = exp(eta) and variance mu + dispersion mu^2.

    They are Poisson where the dispersion vanishes.

    log p = sum_{j<y} log(1 + j dispersion) - log y! + y eta - (y + 1 / dispersion) log(1 + dispersion exp(eta)).
    Expectations of its last term are by Gauss-Hermite quadrature.

    Attributes:
        dispersion: (neuron,), positive; None before it is sampled.
    """

    dispersion: Any = field(default=None, metadata={SAMPLED: True})

    own_sites: ClassVar[tuple[str, ...]] = (DISPERSION.name,)

    def sample(
        self, data: MultiRegionData, assignment: LatentLayout, loadings: Array, priors: Priors = OWN
    ) -> Readout:
        readout = super().sample(data, assignment, loadings, priors)
        prior = dist.LogNormal(np.log(TYPICAL_DISPERSION), DISPERSION_SPREAD)
        dispersion = DISPERSION.sample(prior.expand((data.values.shape[-1],)))
        return readout._replace(counts=self.replace(dispersion=dispersion))

    def expected(self, y: Array, mean: Array, variance: Array) -> Expected:
        found = _sums(mean, variance, self.dispersion)
        trials = y + 1 / self.dispersion
        value = _expected_value(y, mean, variance, self.dispersion)  # of the same sums, which XLA makes once
        return Expected(value, y - trials * found.share, trials * found.spread)

    def normalizer(self, y: Array) -> Array:
        return log_rising(y, jnp.broadcast_to(self.dispersion, y.shape[-1:])) - log_factorial(y)

    def draw(self, key: Array, eta: Array) -> Array:
        gamma_key, poisson_key = random.split(key)
        size = jnp.broadcast_to(1 / self.dispersion, eta.shape)
        rate = jnp.exp(eta) * random.gamma(gamma_key, size) * self.dispersion
        return random.poisson(poisson_key, rate).astype(eta.dtype)

    def variance(self, rate: Array, square: Array) -> Array:
        return rate + self.dispersion * square

    def trivial_log_likelihood(self, data: MultiRegionData) -> np.ndarray:
        """Log-likelihood with each neuron's own mean and variance, in nats, (neuron,).

        Poisson counts of that mean stand in its place where they are more likely.
        """
        own = super().trivial_log_likelihood(data)
        _, mean, variance = moments_of_neurons(data)
        mask, values = data.mask, np.asarray(data.values)
        for neuron in np.flatnonzero((variance > mean) & (mean > 0)):
            size = mean[neuron] ** 2 / (variance[neuron] - mean[neuron])
            counts = values[..., neuron][mask[..., neuron]].astype(float)
            scores = nbinom.logpmf(counts, size, size / (size + mean[neuron]))
            own[neuron] = max(own[neuron], scores.sum())
        return own

    def noise_of(self, sites: Mapping[str, Any]) -> Any:
        return super().noise_of(sites) + sites.get(DISPERSION.name, 0.0)

    @property
    def beginning(self) -> CountsBeginning:
        return DispersedBeginning(self)


class DispersedBeginning(CountsBeginning):
    """Beginning of a fit of counts whose dispersion is inferred."""

    def scales(self, sites: Mapping[str, Any], told: TellingBins, assignment: LatentLayout) -> dict[str, np.ndarray]:
        # A count's variance tells the dispersion, where it is not all Poisson.
        excess = np.exp(np.asarray(sites[OFFSET.name])) * np.asarray(sites[DISPERSION.name])
        own = 1 / np.sqrt(told.n_bins * 0.5 * (excess / (1 + excess)) ** 2 + DISPERSION_SPREAD**-2)
        return {**super().scales(sites, told, assignment), DISPERSION.name: own}

    def first_guess(self, rest: MultiRegionData, assignment: LatentLayout) -> dict[str, np.ndarray]:
        return {DISPERSION.name: np.full(rest.layout.total_neurons, TYPICAL_DISPERSION)}


class Sums(NamedTuple):
    """Expectations of functions of eta' = eta + log(dispersion), by quadrature.

    eta' is Gaussian; all are of one shape.

    Attributes:
        softplus: log(1 + exp eta').
        share: The logistic function sigma(eta').
        spread: sigma (1 - sigma).
        widening: Derivative of ``softplus`` by the variance of eta'.
    """

    softplus: Array
    share: Array
    spread: Array
    widening: Array


def _sums(mean: Array, variance: Array, dispersion: Array) -> Sums:
    """Compute the sums over pairs of nodes on both sides of the mean.

    The two nodes of a pair share a logarithm. With r = exp(eta') at the mean and f = exp(x sd), the two nodes at a
    distance x have r f and r / f. Where trials share variances f is computed once for all of them.
    """
    place, weight = np.polynomial.hermite_e.hermegauss(NODES)
    weight = weight / weight.sum()
    z = mean + jnp.log(dispersion)
    sd = jnp.sqrt(jnp.maximum(variance, LEAST_VARIANCE))
    largest = LARGEST * np.log(float(jnp.finfo(z.dtype).max))
    r = jnp.exp(jnp.minimum(z, largest))
    middle = NODES // 2
    softplus = jnp.maximum(z - largest, 0.0) + weight[middle] * jnp.log1p(r)
    share = weight[middle] * r / (1 + r)
    spread = weight[middle] * r / jnp.square(1 + r)
    widening: Any = 0.0
    for x, w in zip(place[middle + 1 :].tolist(), weight[middle + 1 :].tolist(), strict=True):
        f = jnp.exp(jnp.minimum(x * sd, largest))
        up, down = r * f, r / f
        odds = up + down + r * r  # (1 + up) (1 + down) - 1
        softplus = softplus + w * jnp.log1p(odds)
        share = share + w * (odds + r * r) / (1 + odds)
        spread = spread + w * (up / jnp.square(1 + up) + down / jnp.square(1 + down))
        widening = widening + w * x * (up - down) / (1 + odds)
    return Sums(softplus, share, spread, widening / (2 * sd))


@jax.custom_jvp
def _expected_value(y: Array, mean: Array, variance: Array, dispersion: Array) -> Array:
    """Expectation E[y eta - (y + 1 / dispersion) log(1 + dispersion exp eta)].

    Its derivatives are sums of the same nodes.
    """
    return y * mean - (y + 1 / dispersion) * _sums(mean, variance, dispersion).softplus


@_expected_value.defjvp
def _expected_value_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    y, mean, variance, dispersion = primals
    dy, dmean, dvariance, ddispersion = tangents
    found, trials = _sums(mean, variance, dispersion), y + 1 / dispersion
    change = (y - trials * found.share) * dmean - trials * found.widening * dvariance
    change = change + (found.softplus / dispersion - trials * found.share) / dispersion * ddispersion
    return y * mean - trials * found.softplus, change + (mean - found.softplus) * dy
