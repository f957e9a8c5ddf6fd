r"""Latents and reconstruction of a recording from a fitted model; error of the state space.

Latents are read from the smoothed states on region 1's clock, at any offset within a bin: the same conditioning that
reads a delayed copy, E[g(t - delay) | s] = w(delay)' s, reads a finer grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from mrgp.inference.run import Model
from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.kalman import MarkovGP, Posterior
from mrgp.likelihoods.likelihood import Kalman
from mrgp.likelihoods.statespace.assemble import Prior
from mrgp.likelihoods.statespace.covariance import divergence, exact_covariance, lifted_covariance
from mrgp.parts.emissions.counts import prediction
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import readout_loadings
from mrgp.recordings.layout import Layout
from mrgp.recordings.observations import placed
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sharding import computing_over, gathered


class Signals(NamedTuple):
    """Posterior means and standard deviations of the latents g, each (trial, fine_time, latent)."""

    across_mean: Array
    across_sd: Array
    within_mean: Array
    within_sd: Array


class Conditional(Protocol):
    """Model with its parameters, given a recording."""

    def log_likelihood(self) -> np.ndarray:
        """log p(y_trial | parameters) in nats, (trial,)."""

    def latents(self, refine: int = 1) -> xr.Dataset:
        """Posterior mean and sd of the latents, ``refine`` points per bin."""

    def predictive(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of a new observation of every entry, each (trial, time, neuron)."""

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of every entry before anything was observed, each (trial, time, neuron)."""

    def sample(self, key: Array) -> np.ndarray:
        """Draw new trials of the recording's shape from the model, (trial, time, neuron)."""


@dataclass(frozen=True)
class GaussianConditional:
    """Gaussian processes with their parameters, given a recording.

    Attributes:
        model: A :class:`mrgp.families.gaussian_process.GaussianProcesses`.
        data: The recording.
        sites: Parameters.
        loadings_covariance: Of loadings that are known as a distribution, (neuron, column, column); else None.
    """

    model: Model
    data: MultiRegionData
    sites: Mapping[str, Any]
    loadings_covariance: np.ndarray | None = None

    def log_likelihood(self) -> np.ndarray:
        data, mesh = placed(self.data)
        with computing_over(mesh):
            return np.asarray(_trial_scores(self.model, data, {n: jnp.asarray(v) for n, v in self.sites.items()}))

    @cached_property
    def states(self) -> MarkovGP | CountGP:
        """State-space form of the model, whatever likelihood it has."""
        model = self.model
        if not model.likelihood.is_statespace:
            model = model.replace(likelihood=Kalman())
        if model.likelihood.registers is None:
            model = model.fitting.adapted(self.data, self.sites, 1.0)
        distribution, spread = model.likelihood_at(self.data, self.sites), self.loadings_covariance
        return distribution if spread is None else distribution.with_spread(jnp.asarray(spread))

    def latents(self, refine: int = 1) -> xr.Dataset:
        """Latents on region 1's clock (see :meth:`mrgp.results.fit.Fit.latents`)."""
        data, distribution = self.data, self.states
        read = jax.jit(lambda d, y: signals(d, y, refine))(distribution, jnp.asarray(data.values))
        arrays = {
            name: (("trial", "time", f"{name.split('_')[0]}_latent"), np.asarray(value))
            for name, value in read._asdict().items()
        }
        assignment = self.model.assignment(data.layout)
        coords = {
            "trial": np.arange(data.n_trials),
            "time": data.layout.begin + np.arange(data.n_bins * refine) / refine * data.bin_width,
            "across_latent": np.arange(assignment.n_across),
            "within_latent": within_names(data.layout, assignment),
        }
        return xr.Dataset(arrays, coords)

    def predictive(self) -> tuple[np.ndarray, np.ndarray]:
        mean, sd = jax.jit(predictions)(self.states, jnp.asarray(self.data.values))
        return np.asarray(mean), np.asarray(sd)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        distribution = self.model.likelihood_at(self.data, self.sites)
        return np.asarray(distribution.mean), np.asarray(distribution.variance)

    def sample(self, key: Array) -> np.ndarray:
        return np.asarray(self.states.sample(key))


@partial(jax.jit, static_argnums=0)
def _trial_scores(model: Model, data: MultiRegionData, sites: dict[str, Array]) -> Array:
    return gathered(model.likelihood_at(data, sites).log_prob(data.trimmed.values))


def within_names(layout: Layout, assignment: LatentLayout) -> list[str]:
    """Names of the within latents, by region and number: ``V1:0``."""
    widths = zip(layout.regions, assignment.n_within, strict=False)
    return [f"{name}:{j}" for name, width in widths for j in range(width)]


def signals(distribution: MarkovGP | CountGP, values: Array, refine: int) -> Signals:
    """Posterior of the latents of trials (trial, time, neuron), on region 1's clock.

    There are ``refine`` points per bin.
    """
    if refine > 1:
        distribution = distribution.with_space(distribution.space.for_reading())
    posterior, latent = distribution.posterior(values), distribution.gaussian
    across = _read(latent, posterior, "across", refine)
    return Signals(*across, *_read(latent, posterior, "within", refine))


def _read(distribution: MarkovGP, posterior: Posterior, kind: str, refine: int) -> tuple[Array, Array]:
    """Posterior mean and sd of one kind of latent, (trial, fine_time, latent) each."""
    reader = distribution.space.signal_reader(distribution.latents, kind, refine)
    weights, missed = reader.weights, reader.missed
    count, size = weights.shape[1:]
    n_trials, points = posterior.state_mean.shape[1], distribution.n_bins * refine
    if count == 0:
        empty = jnp.zeros((n_trials, points, 0))
        return empty, empty
    own = slice(reader.first, reader.first + count * size)
    states = posterior.state_mean[..., own].reshape(*posterior.state_mean.shape[:2], count, size)
    mean = jnp.einsum("pls,tbls->btpl", weights, states)
    square = posterior.state_covariance[..., own, own]
    square = square.reshape(*square.shape[:2], count, size, count, size)
    variance = jnp.einsum("pli,tglilj,plj->gtpl", weights, square, weights) + missed
    sd = jnp.sqrt(jnp.maximum(variance, 0.0)).reshape(variance.shape[0], -1, count)[:, :points]
    return mean.reshape(n_trials, -1, count)[:, :points], sd[posterior.pattern]


def predictions(distribution: MarkovGP | CountGP, values: Array) -> tuple[Array, Array]:
    """Posterior mean and standard deviation of a new y, both (trial, time, neuron)."""
    posterior, counts = distribution.posterior(values), distribution.counts
    distribution = distribution.gaussian
    C = readout_loadings(distribution.prior.assignment, distribution.loadings)
    mean = posterior.readout_mean @ C.T + distribution.trial_mean
    covariance = posterior.readout_covariance
    patterns, steps, stacked = covariance.shape[:3]
    m = C.shape[1]
    square = covariance.reshape(patterns, steps, stacked // m, m, stacked // m, m)
    per_bin = jnp.einsum("gtbibj->gtbij", square).reshape(patterns, -1, m, m)[:, : distribution.n_bins]
    variance = jnp.einsum("ni,gtij,nj->gtn", C, per_bin, C)
    if counts is not None:
        mean, variance = prediction(counts, mean, variance[posterior.pattern])
        return mean, jnp.sqrt(variance)
    return mean, jnp.sqrt(variance + distribution.noise)[posterior.pattern]


def lift_error(distribution: MarkovGP | CountGP, n_bins: int) -> float:
    """KL divergence per trial, in nats, from the exact model to its state space.

    It is for trials of ``n_bins`` complete bins.

    What the state-space representation costs: below 0.1 nats no comparison of models can notice it. 0 where the state
    space is the model itself.
    """
    distribution = distribution.gaussian
    prior = distribution.prior
    if not isinstance(prior, Prior):
        return 0.0
    C = readout_loadings(distribution.prior.assignment, distribution.loadings)
    noise = distribution.noise
    if distribution.autocorrelation is not None:
        noise = noise * (1 - distribution.autocorrelation[distribution.prior.assignment.region_of_neuron] ** 2)
    precision = C.T @ (C / noise[:, None])
    latents = distribution.latents
    if latents.delay.shape[0] > 1:
        latents = latents._replace(delay=latents.delay[:n_bins])

    @jax.jit
    def gap(precision: Array) -> Array:
        whole = jnp.kron(jnp.eye(n_bins, dtype=precision.dtype), precision)
        exact = exact_covariance(prior, latents, n_bins)
        return divergence(exact, lifted_covariance(distribution.space, latents, n_bins), whole)

    return float(gap(precision))
