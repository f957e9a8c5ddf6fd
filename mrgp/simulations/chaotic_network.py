r"""Spikes of a chaotic network of rate units, which has fast nonlinear dynamics.

.. math::
    \tau\, \dot x = -x + g W \tanh(x) + b\, p(t), \qquad W_{ij} \sim N(0, 1/n)

The benchmark of Sussillo et al. (2016) and Pandarinath et al. (2018, Nat. Methods 15): chaos for g above 1.
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array, lax

from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.units import positive_seconds
from mrgp.simulations.design import positive
from mrgp.simulations.simulation import Simulation

STEPS = 10  # of Euler's rule in a bin
LEAST_SHARE = 1 / 30  # of the largest rate, at which a unit that is off fires: its log-rate stays finite
PULSE = 3.0  # of the slope of a state, over one bin: it moves units by about their own sd
PULSE_BETWEEN = (0.25, 0.75)  # of a trial


def chaotic_network(
    gain: float = 1.5,
    *,
    n_units: int = 50,
    n_conditions: int = 100,
    n_repeats: int = 10,
    n_bins: int = 100,
    bin_width: float = 0.01,
    time_constant: float = 0.025,
    largest_rate: float = 30.0,
    pulses: bool = False,
    seed: int = 0,
) -> Simulation:
    """Simulate spike counts of a network whose course is another for every initial condition.

    A condition is an initial state; its repeats are the same rates with other spikes. With ``pulses`` every trial of
    every second condition is hit by an input of one bin, at a time of its own, that moves all units.

    Args:
        gain: g; the network is chaotic above 1.
        n_units: Units, each a neuron.
        n_conditions: Initial conditions.
        n_repeats: Trials of each.
        n_bins: Bins of a trial.
        bin_width: Seconds per bin.
        time_constant: tau in seconds.
        largest_rate: Of a unit in spikes per second.
        pulses: Whether there are inputs.
        seed: Of network, states and spikes.

    Returns:
        ``truth`` has ``log_rate`` (trial, time, neuron), of counts in a bin; ``state`` (trial, time, neuron);
        ``pulse`` (trial,), the bin of the input, -1 where there is none.

    Raises:
        ValueError: a number is not positive and finite.
    """
    for name, value in (
        ("gain", gain), ("n_units", n_units), ("n_conditions", n_conditions), ("n_repeats", n_repeats),
        ("n_bins", n_bins), ("largest_rate", largest_rate),
    ):  # fmt: skip
        positive(name, value)
    tau, width = positive_seconds("time_constant", time_constant), positive_seconds("bin_width", bin_width)
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(n_units, n_units)) / np.sqrt(n_units)
    start, into = rng.normal(size=(n_conditions, n_units)), rng.normal(size=n_units)
    condition = np.repeat(np.arange(n_conditions), n_repeats)
    low, high = (round(share * n_bins) for share in PULSE_BETWEEN)
    pulse = np.where(condition % 2, rng.integers(low, max(high, low + 1), len(condition)), -1) if pulses else -1
    pulse = np.broadcast_to(pulse, len(condition))
    drive = (np.arange(n_bins) == pulse[:, None]) * PULSE
    state = np.asarray(_course(gain * weights, into, start[condition], drive, width / STEPS / tau))
    share = LEAST_SHARE + (1 - LEAST_SHARE) * 0.5 * (1 + np.tanh(state))
    expected = largest_rate * width * share
    counts = rng.poisson(expected).astype(np.uint16)
    names = np.array([f"{c:0{len(str(n_conditions - 1))}d}" for c in condition])
    data = MultiRegionData({"network": counts}, bin_width=width, drop_dead=None, trial_coords={"condition": names})
    dims = ("trial", "time", "neuron")
    truth = xr.Dataset(
        {"log_rate": (dims, np.log(expected)), "state": (dims, state), "pulse": ("trial", pulse)},
        {"time": ("time", data.times, {"units": "s"}), "condition_of_trial": ("trial", names)},
        {"gain": gain, "time_constant": tau, "bin_width": width, "seed": seed},
    )
    return Simulation(data, truth)


@jax.jit
def _course(weights: Array, into: Array, start: Array, drive: Array, step: float) -> Array:
    """States after every bin, (trial, time, unit).

    ``step`` is in time constants; drive (trial, time).
    """

    def euler(state: Array, push: Array) -> Array:
        return state + step * (-state + jnp.tanh(state) @ weights.T + push[:, None] * into)

    def bin_of(state: Array, push: Array) -> tuple[Array, Array]:
        after = lax.fori_loop(0, STEPS, lambda _, now: euler(now, push), state)
        return after, after

    return jnp.swapaxes(lax.scan(bin_of, start, drive.T)[1], 0, 1)
