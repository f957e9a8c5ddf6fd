r"""Ring attractor of head-direction cells: a bump of activity that turns as the head does.

Units at angles theta round a ring have inputs u and rates [u]_+,

.. math::
    \tau \frac{du(\theta)}{dt} = -u(\theta) + I + \frac{1}{n} \sum_{\theta'}
    \big( J_0 + J_1 \cos(\theta - \theta') + \tau \omega(t) J_1 \sin(\theta - \theta') \big) [u(\theta')]_+

(Ben-Yishai et al. 1995, PNAS 92; Zhang 1996, J. Neurosci. 16). With J_1 = 4 and J_0 = -pi I, a bump u = cos(theta -
phi) is at rest wherever phi is: the ring. The last weights are minus tau omega times the slope of those before, and
turn it at just the velocity omega, which wanders.
"""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from mrgp.recordings.recording import MultiRegionData
from mrgp.simulations.design import positive, require
from mrgp.simulations.simulation import SECONDS, Simulation

N_UNITS = 120  # of the ring
DRIVE = 1.0  # I
UNIFORM, COSINE = -np.pi * DRIVE, 4.0  # J_0, J_1: a bump of height 1, half the ring wide
TAU = 0.02  # s, of a unit
STEPS = 10  # of integration in TAU
REMEMBERS = 0.5  # s, for which the velocity of the head keeps its sign
SILENCE = 0.05  # rate away from the bump, as a share of that at its top
HETEROGENEITY = 0.3  # sd of the log of neurons' rates


def head_direction_ring(
    n_neurons: ArrayLike = (40, 30),
    *,
    n_trials: int = 40,
    n_bins: int = 100,
    bin_width: float = 0.05,
    rate: float = 15.0,
    velocity: float = 120.0,
    seed: int = 0,
) -> Simulation:
    """Simulate spike counts of regions that read one ring attractor.

    Args:
        n_neurons: Of every region; regions are "A", "B" and so on. Each neuron reads the unit at its preferred angle.
        n_trials: Trials, each from a direction that is drawn.
        n_bins: Bins of each.
        bin_width: Seconds per bin.
        rate: Of a typical neuron at the top of the bump in spikes per second.
        velocity: sd of the angular velocity of the head in degrees per second.
        seed: Of all that is drawn.

    Returns:
        The recording, and as truth ``direction`` (trial, time) in radians, that of the bump in the middle of each bin;
        ``velocity`` (trial, time) of the head in radians per second; ``rates`` (trial, time, neuron) in spikes per
        second; ``preferred`` (neuron,) in radians.

    Raises:
        ValueError: a size or a number is not positive.
    """
    sizes = np.atleast_1d(np.asarray(n_neurons))
    for name, size in (("n_neurons", sizes.min()), ("n_trials", n_trials), ("n_bins", n_bins)):
        require(size >= 1, f"{name} counts at least 1, not {size}")
    require(len(sizes) <= 26, f"n_neurons is of {len(sizes)} regions: give 26 at most")
    for name, value in (("bin_width", bin_width), ("rate", rate), ("velocity", velocity)):
        positive(name, value)
    rng = np.random.default_rng(seed)
    steps = max(1, round(bin_width / TAU * STEPS))
    step = bin_width / steps
    turning = wandering(rng, n_trials, n_bins * steps, step, np.radians(velocity))
    start = rng.uniform(-np.pi, np.pi, n_trials)
    inputs = bump_path(turning, start, step, steps)
    preferred = rng.uniform(-np.pi, np.pi, sizes.sum())
    unit = np.round(preferred / (2 * np.pi) * N_UNITS).astype(int) % N_UNITS
    top = rate * np.exp(HETEROGENEITY * rng.standard_normal(len(unit)))
    rates = top * (SILENCE + (1 - SILENCE) * np.maximum(inputs, 0.0)[:, :, unit])
    counts = rng.poisson(rates * bin_width)
    ends = np.cumsum(sizes)
    regions = {chr(ord("A") + r): slice(end - n, end) for r, (n, end) in enumerate(zip(sizes, ends, strict=True))}
    data = MultiRegionData({name: counts[..., part] for name, part in regions.items()}, bin_width, drop_dead=None)
    arrays: dict[str, Any] = {
        "direction": (("trial", "time"), bump_angle(inputs), {"units": "rad"}),
        "velocity": (("trial", "time"), turning[:, steps // 2 :: steps], {"units": "rad/s"}),
        "rates": (("trial", "time", "neuron"), rates, {"units": "Hz"}),
        "preferred": (("neuron",), preferred, {"units": "rad"}),
    }
    coords = {"time": ("time", data.times, SECONDS),
              "region_of_neuron": ("neuron", np.array(list(regions))[data.layout.region_of_neuron])}  # fmt: skip
    return Simulation(data, xr.Dataset(arrays, coords, {"bin_width": bin_width, "seed": seed}))


def wandering(rng: np.random.Generator, n_trials: int, n_steps: int, step: float, sd: float) -> np.ndarray:
    """Draw angular velocities (trial, step), radians per second, that change in ``REMEMBERS``."""
    kept = np.exp(-step / REMEMBERS)
    path = np.empty((n_trials, n_steps))
    path[:, 0] = sd * rng.standard_normal(n_trials)
    fresh = sd * np.sqrt(1 - kept**2) * rng.standard_normal((n_steps, n_trials))
    for t in range(1, n_steps):
        path[:, t] = kept * path[:, t - 1] + fresh[t]
    return path


def bump_path(turning: np.ndarray, start: np.ndarray, step: float, every: int) -> np.ndarray:
    """Follow the inputs (trial, bin, unit) of the ring, in the middle of bins.

    Its bump begins at angles ``start`` and is turned. ``turning`` is the velocity (trial, step) in radians per second,
    ``step`` in seconds, ``every`` the steps of a bin. Sums over the ring are its mean and first Fourier components: the
    weights have no others.
    """
    angles = 2 * np.pi * np.arange(N_UNITS) / N_UNITS
    cosine, sine = np.cos(angles), np.sin(angles)
    u = np.cos(angles - start[:, None])
    path = np.empty((len(turning), turning.shape[1] // every, N_UNITS))
    for t in range(turning.shape[1]):
        if t % every == every // 2:
            path[:, t // every] = u
        fired = np.maximum(u, 0.0)
        mean, c, s = (fired @ weight / N_UNITS for weight in (np.ones(N_UNITS), cosine, sine))
        still = UNIFORM * mean[:, None] + COSINE * (c[:, None] * cosine + s[:, None] * sine)
        turned = TAU * turning[:, t, None] * COSINE * (c[:, None] * sine - s[:, None] * cosine)
        u = u + step / TAU * (DRIVE - u + still + turned)
    return path


def bump_angle(inputs: np.ndarray) -> np.ndarray:
    """Angle of the bump in radians, from inputs (..., unit) of the ring."""
    angles = 2 * np.pi * np.arange(N_UNITS) / N_UNITS
    return np.angle(np.maximum(inputs, 0.0) @ np.exp(1j * angles))
