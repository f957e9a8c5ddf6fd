"""Ring of three regions of two states each: a limit cycle, a line attractor, a double well."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mrgp.simulations.embedding import embedding, first
from mrgp.simulations.setting import Network, Setting, recorded
from mrgp.simulations.simulation import Simulation
from mrgp.simulations.talking import Arrivals, Edge, Region, Step, run, smooth_stimuli

PERIOD = 16.0  # bins in which the cycle closes
PULL = 0.2  # per bin, of radii near 0 away from it
ENDS = 1.3  # of the line
DECAY = 0.4  # of the states across the line and beside the wells, in one bin
STEEP = 0.25  # per bin, of states near 0 away from it
COUNTS = 0.76  # mean of a neuron in a bin
COMMON = 0.5
DELAYS = (1.0, 2.0, 3.0)  # bins


class Flow(NamedTuple):
    """Flow of two states, and how far it is pushed.

    Attributes:
        step: Of states (..., 2), from bin to bin.
        start: States on the attractor (..., 2), of places between -1 and 1.
        heard: Push of a message of 1 on the first state, in one bin.
        pushed: sd of the weights of stimulus and common input for each state: what sums up over a trial is weak.
    """

    step: Callable[[np.ndarray], np.ndarray]
    start: Callable[[np.ndarray], np.ndarray]
    heard: float
    pushed: tuple[float, float]


def cycle(z: np.ndarray) -> np.ndarray:
    """Turn states (..., 2) by one bin's share of the period, and pull them towards radius 1."""
    angle = 2 * np.pi / PERIOD
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (z @ turn) * growth((z**2).sum(-1, keepdims=True), PULL)


def growth(squared: np.ndarray, rate: float) -> np.ndarray:
    """Factor by which dr/dt = rate r (1 - r^2) changes r in one bin, from ``squared`` r^2.

    It is exact: states come back from wherever they are pushed to.
    """
    return 1 / np.sqrt(squared + (1 - squared) * np.exp(-2 * rate))


def line(z: np.ndarray) -> np.ndarray:
    """Keep the first state, as far as the line goes, and let the second decay."""
    return np.stack([np.clip(z[..., 0], -ENDS, ENDS), (1 - DECAY) * z[..., 1]], -1)


def wells(z: np.ndarray) -> np.ndarray:
    """Move the first state towards -1 or 1, and let the second decay."""
    x = z[..., 0]
    return np.stack([x * growth(x**2, STEEP), (1 - DECAY) * z[..., 1]], -1)


FLOWS = {
    "cycle": Flow(cycle, lambda x: np.stack([np.cos(np.pi * x), np.sin(np.pi * x)], -1), 0.2, (0.1, 0.1)),
    "line": Flow(line, lambda x: np.stack([x, 0 * x], -1), 0.08, (0.02, 0.2)),
    "wells": Flow(wells, lambda x: np.stack([np.sign(x), 0 * x], -1), 0.15, (0.05, 0.2)),
}
"""Flows of regions A, B and C by name."""


def three_flows(
    n_units: int = 32,
    *,
    counts: float | None = COUNTS,
    common: float = COMMON,
    delay: ArrayLike = DELAYS,
    seed: int = 0,
    **options: Any,
) -> Simulation:
    """Simulate a ring of a limit cycle (A), a line attractor (B) and a double well (C).

    A talks to B, B to C and C to A. Messages are the first state of their source, and push that of their target. By
    default spikes are counted, a common input that nobody records drives both states of all regions, and messages are
    1, 2 and 3 bins late.

    Args:
        n_units: Units of each region.
        counts, common, delay: Of :class:`mrgp.simulations.setting.Setting`, with other defaults.
        seed: Of all that is drawn.
        **options: Its other options.

    Returns:
        See :func:`mrgp.simulations.setting.recorded`; ``latents`` are the two states of each region.

    Raises:
        ValueError: a size is too small.
    """
    setting = Setting(counts=counts, common=common, delay=delay, **options)
    setting.sizes(n_units=n_units)
    rng, n_trials = np.random.default_rng(seed), setting.n_trials
    maps = [embedding(rng, n_units, 2) for _ in FLOWS]
    delays = setting.delays(len(FLOWS))
    edges = [Edge(r, (r + 1) % 3, own.readout(rng, first), delays[r]) for r, own in enumerate(maps)]
    stimuli = smooth_stimuli(rng, n_trials, setting.n_bins, 3, 1)
    shared = setting.common_input(rng)
    regions = []
    for flow, own in zip(FLOWS.values(), maps, strict=True):
        into = rng.standard_normal((2, 2)) * flow.pushed
        regions.append(Region(flow.start(rng.uniform(-1, 1, n_trials)), moved(flow, into), own.rates))
    course = run(regions, edges, stimuli, shared, setting.squash, heard=setting.hears(edges))
    network = Network(edges, course, stimuli, shared)
    return recorded(setting, network, rng, seed, latents=True, flows=list(FLOWS))


def moved(flow: Flow, into: np.ndarray) -> Step:
    """Step along a flow and then be pushed: the first state by messages, both by other inputs.

    ``into`` (input, state) weighs the stimulus and the common input.
    """

    def step(z: np.ndarray, arrived: Arrivals) -> np.ndarray:
        after = flow.step(z) + np.concatenate([arrived.stimulus, arrived.common], -1) @ into
        after[:, :1] += flow.heard * arrived.messages.sum(1)
        return after

    return step
