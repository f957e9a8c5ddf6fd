r"""Reaches from a centre to targets around it, whose course regions share.

They have as many latents of their own.

The course of a reach is its velocity, and a preparation that holds its direction until it begins,

.. math::
    s = [\, v \cos\phi,\; v \sin\phi,\; h \cos\phi,\; h \sin\phi \,], \qquad \phi = \theta + \epsilon

with a bell v(t) of the speed, and h(t) that rises after the target is shown and falls as the hand moves. Directions
phi are around those of targets, so that no decoder is always right; reaction times, durations and speeds are of each
trial. Private latents are smooth, of the same number and size, and know nothing of the target. Neurons read both
through a network that is drawn:

.. math::
    \log \lambda_r = a_r + g\, A_r \sin(B_r [s; p_r] + b_r)

whose units are tuned to places in the space of latents, so that no linear map reads them off.
"""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from mrgp.recordings.layout import CONDITION
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.units import positive_seconds
from mrgp.simulations.design import positive, require
from mrgp.simulations.simulation import SECONDS, Simulation

N_SHARED = 4  # latents of a reach
SHOWN = 0.1  # s, when the target is shown
REACTION = (0.25, 0.04)  # s, mean and sd, from there until the hand moves
LASTS = (0.35, 0.04)  # s, mean and sd, of the movement
FASTER = 0.15  # sd of the log of a trial's speed
RISES = 0.04  # s, in which preparation rises and falls
SMOOTH = 0.06  # s, sd of the Gaussian that private latents are smoothed by
HIDDEN = 4  # times as many units of the network that neurons read as latents
STEEP = 1.5  # sd in radians of the arguments of sines: they go up and down again
HETEROGENEITY = 0.5  # sd of the log of neurons' rates


def centre_out_reach(
    n_neurons: ArrayLike = (66, 52),
    n_directions: int = 8,
    *,
    n_trials: int = 208,
    n_bins: int = 45,
    bin_width: float = 0.02,
    rate: float = 20.0,
    gain: float = 1.0,
    spread: float = 10.0,
    private: float = 1.0,
    seed: int = 0,
) -> Simulation:
    """Simulate spike counts of regions that share a reach, and have private latents besides.

    Args:
        n_neurons: Of every region; regions are "A", "B" and so on.
        n_directions: Targets around the centre, of which every trial has one, all equally often.
        n_trials: Trials, in random order.
        n_bins: Bins of each.
        bin_width: Seconds per bin.
        rate: Mean rate of a typical neuron in spikes per second.
        gain: g, sd of a neuron's log-rate.
        spread: sd in degrees of a reach's direction around its target.
        private: Standard deviation of private latents, where those of the reach have 1; 0 for none.
        seed: Of everything.

    Returns:
        The recording, with the target as ``condition``, "0" and so on. Its truth has ``across`` (trial, time,
        across_latent), ``within`` (trial, time, within_latent), ``log_rate`` (trial, time, neuron) of counts in a bin,
        ``direction`` (trial,) in degrees, and ``movement`` (trial,), when it begins, in seconds. Coordinates
        ``region_of_neuron``, ``region_of_within``, ``condition_of_trial`` name regions and targets.

    Raises:
        ValueError: a number is out of its range.
    """
    sizes = [int(n) for n in np.atleast_1d(np.asarray(n_neurons))]
    for name, count in (("n_neurons", min(sizes)), ("n_trials", n_trials), ("n_bins", n_bins)):
        require(count >= 1, f"{name} counts at least 1, not {count}")
    require(len(sizes) <= 26, f"n_neurons is of 26 regions at most, not {len(sizes)}")
    require(n_directions >= 2, f"n_directions counts at least 2, not {n_directions}")
    width = positive_seconds("bin_width", bin_width)
    positive("rate", rate)
    for name, value in (("gain", gain), ("spread", spread), ("private", private)):
        require(0 <= value < np.inf, f"{name} is a number from 0 on, not {value}")
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.arange(n_trials) % n_directions)
    direction = 360 / n_directions * target + spread * rng.standard_normal(n_trials)
    movement = SHOWN + np.maximum(rng.normal(*REACTION, n_trials), width)
    times = (np.arange(n_bins) + 0.5) * width
    shared = standard(_reach(rng, times, np.radians(direction), movement))
    names = [chr(ord("A") + r) for r in range(len(sizes))]
    own = [private * _private(rng, n_trials, n_bins, width) for _ in names]
    both = [np.concatenate([shared, part], -1) for part in own]
    log_rates = [_log_rates(rng, read, size, gain) for read, size in zip(both, sizes, strict=True)]
    levels = [np.log(rate * width) + HETEROGENEITY * rng.standard_normal(size) for size in sizes]
    # Rates have the mean that is asked for, whatever the gain.
    log_rate = [eta - np.log(np.exp(eta).mean((0, 1))) + level for eta, level in zip(log_rates, levels, strict=True)]
    counts = {name: rng.poisson(np.exp(eta)).astype(float) for name, eta in zip(names, log_rate, strict=True)}
    labels = target.astype(str)
    data = MultiRegionData(counts, width, drop_dead=None, trial_coords={CONDITION: labels})
    arrays: dict[str, Any] = {
        "across": (("trial", "time", "across_latent"), shared),
        "within": (("trial", "time", "within_latent"), np.concatenate(own, -1)),
        "log_rate": (("trial", "time", "neuron"), np.concatenate(log_rate, -1)),
        "direction": ("trial", direction % 360, {"units": "degrees"}),
        "movement": ("trial", movement, SECONDS),
    }
    coords = {
        "time": ("time", data.times, SECONDS), "condition_of_trial": ("trial", labels),
        "region_of_neuron": ("neuron", np.repeat(names, sizes)),
        "region_of_within": ("within_latent", np.repeat(names, N_SHARED)),
    }  # fmt: skip
    attrs = {"bin_width": width, "seed": seed, "gain": gain, "spread": spread}
    return Simulation(data, xr.Dataset(arrays, coords, attrs))


def standard(latents: np.ndarray) -> np.ndarray:
    """Latents (trial, time, latent) with mean 0 and variance 1; one that never moves is 0."""
    around = latents - latents.mean((0, 1))
    return around / np.maximum(around.std((0, 1)), np.finfo(float).tiny)


def _reach(rng: np.random.Generator, times: np.ndarray, angle: np.ndarray, movement: np.ndarray) -> np.ndarray:
    """Velocity and preparation of reaches that begin at ``movement`` (s), (trial, time, 4)."""
    n_trials = len(angle)
    lasts = np.maximum(rng.normal(*LASTS, n_trials), 2 * RISES)[:, None]
    fast = np.exp(FASTER * rng.standard_normal((n_trials, 1)))
    share = (times - movement[:, None]) / lasts
    speed = fast * np.where((share > 0) & (share < 1), np.sin(np.pi * np.clip(share, 0, 1)) ** 2, 0.0)
    held = _step((times - SHOWN) / RISES) * _step((movement[:, None] - times) / RISES)
    both = np.stack([np.cos(angle), np.sin(angle)], -1)[:, None]
    return np.concatenate([speed[..., None] * both, held[..., None] * both], -1)


def _private(rng: np.random.Generator, n_trials: int, n_bins: int, width: float) -> np.ndarray:
    """Smooth latents of variance 1 that are of one region, (trial, time, latent)."""
    white = rng.standard_normal((n_trials, n_bins, N_SHARED))
    return standard(gaussian_filter1d(white, SMOOTH / width, axis=1, mode="wrap"))


def _log_rates(rng: np.random.Generator, latents: np.ndarray, n_neurons: int, gain: float) -> np.ndarray:
    """Log-rates of neurons that read latents through a network, (trial, time, neuron)."""
    n_latents = latents.shape[-1]
    n_units = HIDDEN * n_latents
    into = STEEP * rng.standard_normal((n_latents, n_units)) / np.sqrt(n_latents)
    units = np.sin(latents @ into + rng.uniform(0, 2 * np.pi, n_units))
    return gain * standard(units @ rng.standard_normal((n_units, n_neurons)))


def _step(x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 to 1."""
    return 0.5 * (1 + np.tanh(x))
