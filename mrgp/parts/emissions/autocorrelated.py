r"""Private noise that is correlated over time, by a first-order autoregression.

With noise ``"ar1"`` the noise of a neuron of region r, and the GP noise eta of the region's readouts, keep their
variances but are correlated over time,

    e(t) = phi_r e(t - 1) + sqrt(1 - phi_r^2) sqrt(R) xi(t),      e(0) ~ N(0, R),      phi_r = exp(-bin / timescale_r).

One number per region serves all its neurons, so that the innovations of the observations,

    y~(0) = sqrt(1 - phi^2) y(0),     y~(t) = y(t) - phi y(t - 1) = C x~(t) + sqrt(1 - phi^2) sqrt(R) xi(t),

have white noise again, and the same loadings as y: x~ are the innovations of the readouts, each a combination of two
readings of the same state. The map from y to y~ is triangular, of log determinant log(1 - phi^2) / 2 per neuron.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mrgp.parts.emissions.base import OWN, Emission, Priors
from mrgp.parts.emissions.beginning import Beginning, TellingBins
from mrgp.parts.emissions.gaussian import Gaussian
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import Readout
from mrgp.parts.sites import Site
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import AR1, WHITE, Argument, Refusal, Sentence

NOISE_TIMESCALE = Site("noise_timescale", "region", unit="s")

NOISE_SPREAD = 1.0  # of the logarithm of its timescale, around one bin
MEMORIES = (0.05, 0.95)  # what noise may start to keep from bin to bin


@dataclass(frozen=True)
class AutocorrelatedGaussian(Gaussian):
    """Values with Gaussian noise that is correlated over time, with a timescale for each region.

    So are counts that were smoothed: latents need not follow their noise then. Needs trials without holes.
    """

    is_autocorrelated: ClassVar[bool] = True
    own_sites: ClassVar[tuple[str, ...]] = (NOISE_TIMESCALE.name,)

    def unsuited(self, data: MultiRegionData) -> Sentence | None:
        if data.is_gapless:
            return None
        return AR1, " needs neurons that are there in all bins of a trial, or in none: take ", WHITE

    def given(self, readout: Readout, eta: Array) -> dist.Distribution:
        raise NotImplementedError("autocorrelated noise has no distribution of single values: take noise='white'")

    def sample(
        self, data: MultiRegionData, assignment: LatentLayout, loadings: Array, priors: Priors = OWN
    ) -> Readout:
        readout = super().sample(data, assignment, loadings, priors)
        regions = assignment.n_regions
        typical = dist.LogNormal(np.log(data.bin_width), NOISE_SPREAD).expand((regions,)).to_event(1)
        return readout._replace(autocorrelation=jnp.exp(-data.bin_width / NOISE_TIMESCALE.sample(typical)))

    @property
    def beginning(self) -> Beginning:
        return AutocorrelatedBeginning(self)


class AutocorrelatedBeginning(Beginning):
    """Beginning of a fit whose noise has timescales."""

    def scales(self, sites: Mapping[str, Any], told: TellingBins, assignment: LatentLayout) -> dict[str, np.ndarray]:
        own = 1 / np.sqrt(told.n_bins * np.array(assignment.n_neurons))
        return {**super().scales(sites, told, assignment), NOISE_TIMESCALE.name: own}

    def first_guess(self, rest: MultiRegionData, assignment: LatentLayout) -> dict[str, np.ndarray]:
        return {NOISE_TIMESCALE.name: noise_timescale_of(rest, assignment)}


def noise_timescale_of(data: MultiRegionData, assignment: LatentLayout) -> np.ndarray:
    """Estimate the timescale of noise in each region, in seconds, (region,).

    It comes from the median over neurons of their correlation with themselves from bin to bin.
    """
    rest = np.where(data.mask, data.floats - data.center, 0.0)
    kept = (rest[:, 1:] * rest[:, :-1]).sum((0, 1)) / np.maximum((rest[:, 1:] ** 2).sum((0, 1)), 1e-300)
    edges = np.cumsum([0, *assignment.n_neurons])
    typical = np.array([np.median(kept[a:b]) for a, b in pairwise(edges)])
    return -data.bin_width / np.log(np.clip(typical, *MEMORIES))


def innovations(signals: Array, phi: Array) -> Array:
    """Innovations y~ of signals (trial, time, channel) with phi (channel,)."""
    first = jnp.sqrt(1 - phi**2) * signals[:, :1]
    return jnp.concatenate([first, signals[:, 1:] - phi * signals[:, :-1]], axis=1)


def restored(innovated: Array, phi: Array) -> Array:
    """Invert :func:`innovations`."""
    start = innovated[:, 0] / jnp.sqrt(1 - phi**2)

    def step(before: Array, new: Array) -> tuple[Array, Array]:
        now = phi * before + new
        return now, now

    _, later = jax.lax.scan(step, start, jnp.swapaxes(innovated[:, 1:], 0, 1))
    return jnp.concatenate([start[:, None], jnp.swapaxes(later, 0, 1)], axis=1)


def remembering(white: np.ndarray, phi: Array | None) -> np.ndarray:
    """Make noise that remembers from white noise (trial, time, channel) of variance 1.

    Its variance stays. ``phi`` is (channel,); None keeps it white.
    """
    return white if phi is None else np.asarray(restored(jnp.sqrt(1 - phi**2) * jnp.asarray(white), phi))


def innovation_covariance(covariance: Array, phi: Array) -> Array:
    """Covariance of the innovations of signals, (time * channel, time * channel).

    The ``covariance`` of the signals has the same shape.
    """
    n_channels = len(phi)
    n_bins = len(covariance) // n_channels

    def rows(matrix: Array) -> Array:
        columns = jnp.moveaxis(matrix.reshape(n_bins, n_channels, -1), -1, 0)
        return jnp.moveaxis(innovations(columns, phi), 0, -1).reshape(matrix.shape)

    return rows(rows(covariance).T).T


NOISES = {"white": Gaussian, "ar1": AutocorrelatedGaussian}


def short_noise(emission: Emission) -> str | None:
    """Short form of an emission's noise: "white" or "ar1"; None of counts."""
    return next((name for name, kind in NOISES.items() if type(emission) is kind), None)


def with_noise(emission: Emission, noise: str, name: str) -> Emission:
    """Gaussian emission of a short form: "white" noise, or "ar1".

    ``name`` is that of the model, for messages.

    Raises:
        ValueError: there is no such noise, or the emission has none beside its own.
    """
    if noise not in NOISES:
        raise ValueError(f"{name}: noise is 'white' or 'ar1', not {noise!r}")
    if type(emission) in NOISES.values():
        return NOISES[noise]()
    if NOISES[noise].is_autocorrelated:
        alone = ": counts have no noise beside their own" if emission.is_of_counts else ""
        raise Refusal(f"{name}: ", AR1, " is of ", Argument("emission", "gaussian"), alone)
    return emission
