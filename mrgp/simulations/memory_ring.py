"""Ring of rate networks that each pass a private stimulus on, two bins late."""

from typing import Any

import numpy as np

from mrgp.simulations.design import require
from mrgp.simulations.setting import Network, Setting, recorded
from mrgp.simulations.simulation import Simulation
from mrgp.simulations.talking import (
    Arrivals,
    Edge,
    Region,
    delayed_series,
    orthonormal,
    random_weights,
    run,
    smooth_stimuli,
)

LATE = 2  # bins, after which a stimulus is passed on
GAIN = 0.9  # of the recurrent weights: near the edge of chaos, networks remember for longest
LEAK = 0.8  # of a unit in a bin
DRIVE = 1.0  # norm of what a stimulus or message of norm 1 gives to units: their rates then have an sd of about 0.4
TRAINING = (128, 60)  # trials and bins at least, on which what is sent is fitted
RIDGE = 1e-4  # of the units' mean variance: rates have no noise
ENOUGH = 0.9  # R2 of messages about what they carry


def memory_ring(
    n_regions: int = 3, n_units: int = 32, n_inputs: int = 2, *, seed: int = 0, **options: Any
) -> Simulation:
    """Simulate regions that pass their private stimuli on round a ring, two bins late.

    Each is a random network of leaky tanh units. What is sent is read from its rates by ridge regression on the
    stimulus two bins before, as the messages that come in are those wanted; then the loop is closed. A delay of
    messages comes on top.

    Args:
        n_regions: Regions of the ring, 2 or more.
        n_units: Units of each.
        n_inputs: Dimensions of a stimulus and of a message.
        seed: Of all that is drawn.
        **options: Of :class:`mrgp.simulations.setting.Setting`: trials, counts, units recorded, delays and so on.

    Returns:
        See :func:`mrgp.simulations.setting.recorded`; ``passed_on`` in the attributes of the truth is the least R2 of
        an edge's messages about the stimulus that they carry.

    Raises:
        ValueError: a size is too small, or so few units that stimuli are not passed on.
    """
    setting = Setting(**options)
    setting.sizes(n_units=n_units, n_inputs=n_inputs)
    require(2 <= n_regions <= 26, f"n_regions of a ring is from 2 to 26, not {n_regions}")
    n_arriving = 2 * n_inputs + 1
    require(n_units >= n_arriving, f"n_units is {n_units}: {n_inputs} inputs need {n_arriving} or more")
    rng, delays = np.random.default_rng(seed), setting.delays(n_regions)
    shortest = int(LATE + 2 + delays.max())
    require(setting.n_bins >= shortest, f"n_bins is {setting.n_bins}, but stimuli arrive late: give {shortest}")
    weights = [random_weights(rng, n_units, GAIN) for _ in range(n_regions)]
    into = [DRIVE * orthonormal(rng, n_units, n_arriving) for _ in range(n_regions)]
    n_trials, n_bins = TRAINING[0], max(TRAINING[1], setting.n_bins)
    stimuli = smooth_stimuli(rng, n_trials, n_bins, n_regions, n_inputs)
    common = setting.common * smooth_stimuli(rng, n_trials, n_bins, 1)
    edges = [Edge(i, (i + 1) % n_regions, np.zeros((n_inputs, n_units)), delay) for i, delay in enumerate(delays)]
    regions = [leaky(W, B, n_trials) for W, B in zip(weights, into, strict=True)]
    wanted = passed_on(stimuli, edges)
    course = run(regions, edges, stimuli, common, setting.squash, setting.squash(wanted))
    edges = [
        edge._replace(readout=ridge(delayed_series(course.rates[edge.source], edge.delay), wanted[:, :, e]))
        for e, edge in enumerate(edges)
    ]
    stimuli = smooth_stimuli(rng, setting.n_trials, setting.n_bins, n_regions, n_inputs)
    common = setting.common_input(rng)
    regions = [leaky(W, B, setting.n_trials) for W, B in zip(weights, into, strict=True)]
    heard = setting.hears(edges)
    course = run(regions, edges, stimuli, common, setting.squash, heard=heard)
    wanted = setting.squash(passed_on(stimuli, edges))
    share = 1 - ((course.messages - wanted) ** 2).sum((0, 1, 3)) / ((wanted - wanted.mean((0, 1))) ** 2).sum((0, 1, 3))
    worst = float(share[heard.all(0)].min())
    why = f"messages carry stimuli with an R2 of {worst:.2f}, below {ENOUGH}: give n_units more, or n_inputs less"
    require(worst >= ENOUGH, why)
    return recorded(setting, Network(edges, course, stimuli, common), rng, seed, passed_on=worst)


def leaky(weights: np.ndarray, into: np.ndarray, n_trials: int) -> Region:
    """Network of leaky tanh units that starts at rest; see :func:`memory_ring`."""

    def step(z: np.ndarray, arrived: Arrivals) -> np.ndarray:
        messages = arrived.messages.sum(1)
        drive = np.concatenate([arrived.stimulus, messages, arrived.common], -1) @ into.T
        return (1 - LEAK) * z + LEAK * (np.tanh(z) @ weights.T + drive)

    return Region(np.zeros((n_trials, len(weights))), step, np.tanh)


def passed_on(stimuli: np.ndarray, edges: list[Edge]) -> np.ndarray:
    """Stimuli of the sources, two bins and the delay late, (trial, time, edge, input).

    They are 0 before the trial.
    """
    before = np.concatenate([np.zeros_like(stimuli[:, :LATE]), stimuli], 1)[:, : 1 + stimuli.shape[1]]
    return np.stack([delayed_series(before[:, :, edge.source], edge.delay) for edge in edges], 2)


def ridge(rates: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Fit the readout (message, unit) of what is wanted (trial, time, message) from rates."""
    h, m = rates.reshape(-1, rates.shape[-1]), wanted.reshape(-1, wanted.shape[-1])
    moment = h.T @ h
    moment += RIDGE * np.trace(moment) / len(moment) * np.eye(len(moment))
    return np.linalg.solve(moment, h.T @ m).T
