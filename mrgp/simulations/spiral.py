"""Simulated spiral: three latents turn round a stable fixed point; neurons are Poisson."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from numpy.typing import ArrayLike

from mrgp.parts.dynamics import integrated, steps_of
from mrgp.parts.readout import LOADINGS, OFFSET
from mrgp.recordings.recording import MultiRegionData
from mrgp.simulations.design import positive, require
from mrgp.simulations.simulation import SECONDS, Simulation

TURNS = 0.6  # per second, around the fixed point
FASTER = 0.4  # share by which the third latent speeds the turning up or slows it down
DECAY = 2.5  # seconds, in which the turning latents fall to 1/e
DECAY_OF_THIRD = 1.5  # seconds
PUSH = 0.3  # per second and squared radius, on the third latent
FIXED_POINT = (0.0, 0.0, 0.0)
FARTHEST = 1.5  # start of a latent, in the units in which a neuron's loadings are drawn
FINE = 10  # steps of integration in a bin's width


def spiral_velocity(states: ArrayLike) -> Array:
    r"""Velocity of the spiral per second, (..., 3).

    With turns omega = 2 pi TURNS (1 + FASTER tanh w): du/dt = -u / DECAY - omega v, dv/dt = omega u - v / DECAY,
    dw/dt = -w / DECAY_OF_THIRD + PUSH (u^2 + v^2). Its only fixed point is 0, which is stable.
    """
    u, v, w = jnp.moveaxis(jnp.asarray(states), -1, 0)
    omega = 2 * np.pi * TURNS * (1 + FASTER * jnp.tanh(w))
    third = -w / DECAY_OF_THIRD + PUSH * (u**2 + v**2)
    return jnp.stack([-u / DECAY - omega * v, omega * u - v / DECAY, third], -1)


def simulate_spiral(
    n_neurons: int = 150,
    per_axis: int = 7,
    times: ArrayLike | None = None,
    *,
    n_bins: int = 251,
    bin_width: float = 0.02,
    rate: float = 10.0,
    spread: float = 0.6,
    seed: int = 0,
) -> Simulation:
    """Simulate trials that start on a grid and spiral into a fixed point.

    Args:
        n_neurons: Neurons of the one region, "A".
        per_axis: Starts on each of the three axes; their cube is the number of trials, in an order drawn by ``seed``.
        times: Starts of bins in seconds, (time,), at irregular times; None for ``n_bins`` that follow each other.
        n_bins: Bins of a trial.
        bin_width: Seconds.
        rate: Of a typical neuron at the fixed point in Hz; neurons differ by a factor e^0.5.
        spread: sd of a neuron's log-rate per unit of each latent.
        seed: Of loadings, rates, the order of trials and counts.

    Returns:
        The recording, and as truth ``latents`` (trial, time, latent), ``loadings`` (neuron, latent), ``offset``
        (neuron) of log counts per bin, and ``fixed_point`` (latent).

    Raises:
        ValueError: a size is not positive, or a number not positive and finite.
    """
    for name, size in (("n_neurons", n_neurons), ("per_axis", per_axis), ("n_bins", n_bins)):
        require(size >= 1, f"{name} counts at least 1, not {size}")
    for name, value in (("bin_width", bin_width), ("rate", rate), ("spread", spread)):
        positive(name, value)
    rng = np.random.default_rng(seed)
    starts = np.stack(np.meshgrid(*[np.linspace(-FARTHEST, FARTHEST, per_axis)] * 3), -1).reshape(-1, 3)
    begins = np.arange(n_bins) * bin_width if times is None else np.asarray(times, float)
    gaps = np.diff(begins)
    run = jax.jit(lambda z: integrated(spiral_velocity, z, gaps, steps_of(gaps, bin_width, FINE)))
    z = np.asarray(run(rng.permutation(starts)))
    C = rng.normal(0, spread, (n_neurons, 3))
    d = np.log(rate * bin_width) + rng.normal(0, 0.5, n_neurons)
    counts = rng.poisson(np.exp(z @ C.T + d))
    data = MultiRegionData({"A": counts}, bin_width, drop_dead=None, times=times)
    arrays: dict[str, Any] = {
        "latents": (("trial", "time", "latent"), z), LOADINGS.name: (("neuron", "latent"), C),
        OFFSET.name: (("neuron",), d), "fixed_point": (("latent",), np.array(FIXED_POINT)),
    }  # fmt: skip
    coords = {"time": ("time", data.times, SECONDS)}
    return Simulation(data, xr.Dataset(arrays, coords, {"bin_width": bin_width, "seed": seed}))
