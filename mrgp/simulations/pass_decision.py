"""Two regions that decide: one integrates noisy evidence to a bound, the other passes it on."""

from typing import Any

import numpy as np

from mrgp.simulations.embedding import embedding, first
from mrgp.simulations.setting import Network, Setting, recorded
from mrgp.simulations.simulation import Simulation
from mrgp.simulations.talking import Arrivals, Edge, Region, Step, run, smooth_stimuli

COHERENCES = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)  # evidence of a trial's kind
FLUCTUATION = 0.7  # sd of evidence around it
INTEGRATED = 0.06  # of evidence, in one bin: the strongest meets the bound after 17 bins
FOLLOWED = 0.5  # of the way to its input, in one bin
BOUND = 1.0
PRIVATE = 2  # more states of each region, which follow stimuli of their own and are sent nowhere
START = 0.05  # sd of a state before the first bin


def pass_decision(n_units: int = 32, *, reverse: bool = False, seed: int = 0, **options: Any) -> Simulation:
    r"""Simulate two regions that decide together: A talks to B, and only one of them integrates.

    A follower has :math:`z_t = z_{t-1} + 0.5 (x_t - z_{t-1})`, an integrator :math:`z_t = z_{t-1} + 0.06 x_t`, held
    within its bound of -1 and 1; neither leaks. A gets noisy evidence as x, and sends its z, which is B's x. Beside
    that each region follows private stimuli. States are embedded in units by a random nonlinear map.

    Args:
        n_units: Units of each region.
        reverse: A integrates and B follows; else A follows and B integrates.
        seed: Of all that is drawn.
        **options: Of :class:`mrgp.simulations.setting.Setting`. A common input drives the private states.

    Returns:
        See :func:`mrgp.simulations.setting.recorded`. A trial's condition is its coherence; the first latent of each
        region is z, the others are private. Inputs are the evidence, 0 in B, and the private stimuli.

    Raises:
        ValueError: a size is too small.
    """
    setting = Setting(**options)
    setting.sizes(n_units=n_units)
    rng, n_trials, n_bins = np.random.default_rng(seed), setting.n_trials, setting.n_bins
    maps = [embedding(rng, n_units, 1 + PRIVATE) for _ in range(2)]
    edges = [Edge(0, 1, maps[0].readout(rng, first), setting.delays(1)[0])]
    coherence = rng.permutation(np.resize(COHERENCES, n_trials))
    stimuli = smooth_stimuli(rng, n_trials, n_bins, 2, 1 + PRIVATE)
    stimuli[:, :, 0, 0] = coherence[:, None] + FLUCTUATION * stimuli[:, :, 0, 0]
    stimuli[:, :, 1, 0] = 0.0
    common, from_common = setting.common_input(rng), rng.standard_normal((2, PRIVATE))
    regions = []
    for r, own in enumerate(maps):
        start = START * rng.standard_normal((n_trials, 1 + PRIVATE))
        regions.append(Region(start, decider(integrates=(r == 0) == reverse, into=from_common[r]), own.rates))
    course = run(regions, edges, stimuli, common, setting.squash, heard=setting.hears(edges))
    network = Network(edges, course, stimuli, common)
    kinds = np.array([f"{c:+.2f}" for c in coherence])
    attrs = {"integrator": "A" if reverse else "B"}
    return recorded(setting, network, rng, seed, conditions=kinds, latents=True, **attrs)


def decider(integrates: bool, into: np.ndarray) -> Step:
    """Step of a region that integrates or follows; see :func:`pass_decision`.

    ``into`` (private,) weighs the common input in private states.
    """

    def step(z: np.ndarray, arrived: Arrivals) -> np.ndarray:
        x = arrived.stimulus[:, :1] + arrived.messages.sum(1)
        own = z[:, :1]
        own = np.clip(own + INTEGRATED * x, -BOUND, BOUND) if integrates else own + FOLLOWED * (x - own)
        private = z[:, 1:] + FOLLOWED * (arrived.stimulus[:, 1:] + arrived.common * into - z[:, 1:])
        return np.concatenate([own, private], -1)

    return step
