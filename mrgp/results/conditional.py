r"""Latents and reconstruction of a recording from a fitted model; error of the state space.

Latents are read from the smoothed states on region 1's clock, at any offset within a bin: the same conditioning that
reads a delayed copy, E[g(t - delay) | s] = w(delay)' s, reads a finer grid.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.kalman import MarkovGP, Posterior
from mrgp.likelihoods.statespace.assemble import Prior
from mrgp.likelihoods.statespace.covariance import divergence, exact_covariance, lifted_covariance
from mrgp.parts.emissions.counts import prediction
from mrgp.parts.loadings import readout_loadings
from mrgp.recordings.recording import MultiRegionData


class Signals(NamedTuple):
    """Posterior means and standard deviations of the latents g, each (trial, fine_time, latent)."""

    across_mean: Array
    across_sd: Array
    within_mean: Array
    within_sd: Array


def latents(
    distribution: MarkovGP | CountGP, data: MultiRegionData, refine: int, within_names: Sequence[str]
) -> xr.Dataset:
    """Build the Dataset of :meth:`mrgp.results.fit.Fit.latents`."""
    read = jax.jit(lambda d, y: signals(d, y, refine))(distribution, jnp.asarray(data.values))
    arrays = {
        name: (("trial", "time", f"{name.split('_')[0]}_latent"), np.asarray(value))
        for name, value in read._asdict().items()
    }
    coords = {
        "trial": np.arange(data.n_trials),
        "time": np.arange(data.n_bins * refine) / refine * data.bin_width,
        "across_latent": np.arange(_latent(distribution).prior.assignment.n_across),
        "within_latent": list(within_names),
    }
    return xr.Dataset(arrays, coords)


def reconstruction(distribution: MarkovGP | CountGP, data: MultiRegionData) -> xr.Dataset:
    """Build the Dataset of :meth:`mrgp.results.fit.Fit.predict`."""
    mean, sd = jax.jit(predictions)(distribution, jnp.asarray(data.values))
    arrays = {}
    for region, part in data.layout.region_slices.items():
        dims = ("trial", "time", f"neuron_{region}")
        arrays[f"{region}_mean"] = (dims, np.asarray(mean[..., part]))
        arrays[f"{region}_sd"] = (dims, np.asarray(sd[..., part]))
    return xr.Dataset(arrays, {"trial": np.arange(data.n_trials), "time": data.times})


def signals(distribution: MarkovGP | CountGP, values: Array, refine: int) -> Signals:
    """Posterior of the latents of trials (trial, time, neuron), on region 1's clock.

    There are ``refine`` points per bin.
    """
    if refine > 1:
        distribution = distribution.with_space(distribution.space.for_reading())
    posterior, latent = distribution.posterior(values), _latent(distribution)
    across = _read(latent, posterior, "across", refine)
    return Signals(*across, *_read(latent, posterior, "within", refine))


def _latent(distribution: MarkovGP | CountGP) -> MarkovGP:
    """Return the Gaussian processes behind values or counts."""
    return distribution.latent if isinstance(distribution, CountGP) else distribution  # type: ignore[return-value]


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
    posterior, counted = distribution.posterior(values), distribution
    distribution = _latent(distribution)
    C = readout_loadings(distribution.prior.assignment, distribution.loadings)
    mean = posterior.readout_mean @ C.T + distribution.trial_mean
    covariance = posterior.readout_covariance
    patterns, steps, stacked = covariance.shape[:3]
    m = C.shape[1]
    square = covariance.reshape(patterns, steps, stacked // m, m, stacked // m, m)
    per_bin = jnp.einsum("gtbibj->gtbij", square).reshape(patterns, -1, m, m)[:, : distribution.n_bins]
    variance = jnp.einsum("ni,gtij,nj->gtn", C, per_bin, C)
    if isinstance(counted, CountGP):
        mean, variance = prediction(counted.counts, mean, variance[posterior.pattern])
        return mean, jnp.sqrt(variance)
    return mean, jnp.sqrt(variance + distribution.noise)[posterior.pattern]


def lift_error(distribution: MarkovGP | CountGP, n_bins: int) -> float:
    """KL divergence per trial, in nats, from the exact model to its state space.

    It is for trials of ``n_bins`` complete bins.

    What the state-space representation costs: below 0.1 nats no comparison of models can notice it. 0 where the state
    space is the model itself.
    """
    distribution = _latent(distribution)
    prior = distribution.prior
    if not isinstance(prior, Prior):
        return 0.0
    C = readout_loadings(distribution.prior.assignment, distribution.loadings)
    noise = distribution.noise
    if distribution.memory is not None:
        noise = noise * (1 - distribution.memory[distribution.prior.assignment.region_of_neuron] ** 2)
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
