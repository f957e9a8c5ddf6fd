"""Random networks of gated units on a random graph, in trials of five kinds of task."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mrgp.simulations.design import require
from mrgp.simulations.setting import Network, Setting, recorded
from mrgp.simulations.simulation import Simulation
from mrgp.simulations.talking import Arrivals, Edge, Region, orthonormal, random_weights, run, smooth_stimuli

KINDS = ("go", "anti-go", "delayed decision", "multisensory", "categorisation")
CHANNELS = 4  # of a stimulus: fixation, two of the stimulus, rule
RULES = (0.0, -1.0, 0.5, 1.0, -0.5)  # of the five kinds
JITTER = 0.3  # sd of smooth noise on every channel
SENSORY = 0.5  # share of regions that get stimuli; at least one
EDGES = 0.4  # probability of an edge
MESSAGES_OF = 2  # dimensions
RECURRENT = 1.2  # gain: gated units then have a life of their own
DRIVE = 0.35  # rms effect on a unit of what arrives with norm 1
SENT = 1.5  # norm of the rows of P: rates vary less than 1
GATE = -1.0  # offset of gates: units move by about a fourth of the way in a bin


def random_networks(
    seed: int = 0,
    *,
    n_regions: int | None = None,
    n_units: int = 32,
    graph: ArrayLike | None = None,
    delay: ArrayLike = 0.0,
    longest_delay: float | None = None,
    **options: Any,
) -> Simulation:
    r"""Simulate random gated networks that talk along a random directed graph.

    With arrivals a through matrices of orthonormal columns,

    .. math::
        z_t = (1 - g_t) z_{t-1} + g_t \tanh(W \tanh z_{t-1} + B a_t), \qquad
        g_t = \operatorname{sigmoid}(V \tanh z_{t-1} + C a_t - 1), \qquad h_t = \tanh z_t.

    Trials are go, anti-go, delayed decision, multisensory and categorisation, in turn: stimuli come to the sensory
    regions, with their jitter; others get the jitter only.

    Args:
        seed: Of all that is drawn.
        n_regions: None for 3 or 4, as drawn.
        n_units: Units of each region.
        graph: Edges (source, target), True or False; None to draw each with probability 0.4, and at least one.
        delay: Of messages in bins, beyond the one that each takes; one number, or one per edge, source by source.
        longest_delay: Of messages in bins: delays of edges are drawn between 0 and this, instead of ``delay``.
        **options: Others of :class:`mrgp.simulations.setting.Setting`.

    Returns:
        See :func:`mrgp.simulations.setting.recorded`; conditions of trials are the five kinds, and ``sensory`` in the
        attributes of the truth names regions that get stimuli.

    Raises:
        ValueError: a size is too small, or the graph has another shape, no edge, or one from a region to itself.
    """
    require(longest_delay is None or not np.any(delay), "give delay or longest_delay, not both")
    rng = np.random.default_rng(seed)
    drawn = int(rng.integers(3, 5))
    n = drawn if n_regions is None else n_regions
    require(2 <= n <= 26, f"n_regions is from 2 to 26, not {n_regions}")
    table = random_graph(rng, n) if graph is None else checked_graph(graph, n)
    ends = [(int(source), int(target)) for source, target in np.argwhere(table)]
    if longest_delay is not None:
        require(longest_delay >= 0, f"longest_delay is 0 or more bins, not {longest_delay}")
        delay = rng.uniform(0, longest_delay, len(ends))
    setting = Setting(delay=delay, **options)
    setting.sizes(n_units=n_units)
    delays = setting.delays(len(ends))
    require(n_units >= CHANNELS, f"n_units is {n_units}: {CHANNELS} channels of a stimulus need as many or more")
    edges = [
        Edge(source, target, SENT * rng.standard_normal((MESSAGES_OF, n_units)) / np.sqrt(n_units), delay)
        for (source, target), delay in zip(ends, delays, strict=True)
    ]
    sensory = np.sort(rng.choice(n, max(1, round(SENSORY * n)), replace=False))
    kinds = rng.permutation(np.arange(setting.n_trials) % len(KINDS))
    stimuli = JITTER * smooth_stimuli(rng, setting.n_trials, setting.n_bins, n, CHANNELS)
    for place, region in enumerate(sensory):
        stimuli[:, :, region] += task(rng, kinds, setting.n_bins, place)
    common = setting.common_input(rng)
    regions = [gated(rng, n_units, int(table[:, r].sum()), setting.n_trials) for r in range(n)]
    course = run(regions, edges, stimuli, common, setting.squash, heard=setting.hears(edges))
    network, names = Network(edges, course, stimuli, common), [chr(ord("A") + r) for r in sensory]
    return recorded(setting, network, rng, seed, conditions=np.array(KINDS)[kinds], sensory=names)


def random_graph(rng: np.random.Generator, n_regions: int) -> np.ndarray:
    """Draw directed edges between different regions, at least one, (source, target)."""
    while True:
        table = (rng.random((n_regions, n_regions)) < EDGES) & ~np.eye(n_regions, dtype=bool)
        if table.any():
            return table


def checked_graph(graph: ArrayLike, n_regions: int) -> np.ndarray:
    """Return a graph as bool, (source, target), or refuse it."""
    table = np.asarray(graph)
    shape = n_regions, n_regions
    require(table.shape == shape, f"graph has shape {table.shape}, not (source, target) = {shape}: give n_regions too")
    require(np.isin(table, (0, 1)).all() and table.any(), "graph is of True and False, and has an edge")
    require(not np.diag(table).any(), "graph has an edge from a region to itself: its own dynamics are that")
    return table.astype(bool)


def gated(rng: np.random.Generator, n_units: int, n_incoming: int, n_trials: int) -> Region:
    """Draw a region of gated units; see :func:`random_networks`."""
    W, V = random_weights(rng, n_units, RECURRENT), random_weights(rng, n_units, 1.0)
    sizes = [CHANNELS, *[MESSAGES_OF] * n_incoming, 1]
    B, C = (
        np.concatenate([DRIVE * np.sqrt(n_units) * orthonormal(rng, n_units, n) for n in sizes], 1)
        for _ in range(2)
    )

    def step(z: np.ndarray, arrived: Arrivals) -> np.ndarray:
        messages = arrived.messages.reshape(len(z), -1)
        a, h = np.concatenate([arrived.stimulus, messages, arrived.common], -1), np.tanh(z)
        gate = 1 / (1 + np.exp(-(h @ V.T + a @ C.T + GATE)))
        return (1 - gate) * z + gate * np.tanh(h @ W.T + a @ B.T)

    return Region(0.3 * rng.standard_normal((n_trials, n_units)), step, np.tanh)


def task(rng: np.random.Generator, kinds: np.ndarray, n_bins: int, place: int) -> np.ndarray:
    """Stimuli of trials for one sensory region, (trial, time, channel).

    Fixation is on until the trial's last quarter. The stimulus, a direction (cosine and sine) times a strength, is on
    once, or twice in delayed decision and categorisation, where the second direction is another. In multisensory trials
    every sensory region gets it, else the first one only (``place`` 0). Rules are on throughout.
    """
    n_trials = len(kinds)
    stimuli, t = np.zeros((n_trials, n_bins, CHANNELS)), np.arange(n_bins)
    stimuli[:, :, 0] = t < 0.75 * n_bins
    stimuli[:, :, 3] = np.array(RULES)[kinds, None]
    twice = np.isin(kinds, [KINDS.index("delayed decision"), KINDS.index("categorisation")])
    heard = (place == 0) | (kinds == KINDS.index("multisensory"))
    for when, shown in ((0.15, heard), (0.5, heard & twice)):
        begin = np.floor(n_bins * (when + 0.1 * rng.random(n_trials)))[:, None]
        on = (t >= begin) & (t < begin + 0.2 * n_bins) & shown[:, None]
        angle, strength = 2 * np.pi * rng.integers(0, 8, n_trials) / 8, rng.uniform(0.5, 1.5, n_trials)
        stimuli[:, :, 1] += on * (strength * np.cos(angle))[:, None]
        stimuli[:, :, 2] += on * (strength * np.sin(angle))[:, None]
    return stimuli
