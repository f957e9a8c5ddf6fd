"""Simulated populations whose linear dynamics switch with a hidden state."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.linalg import block_diag
from scipy.stats import special_ortho_group

from mrgp.likelihoods.switching.distribution import drawn_paths
from mrgp.parts.readout import LOADINGS, OFFSET
from mrgp.parts.switching import DRIFT, ENTER, LOGITS, MATRIX, STAY, SwitchingDynamics
from mrgp.recordings.recording import MultiRegionData
from mrgp.simulations.design import positive, require
from mrgp.simulations.simulation import SECONDS, Simulation

THREE: Mapping[str, int] = MappingProxyType({"A": 75, "B": 75, "C": 75})
RADIUS = 0.97  # spectral radius of every state's matrix: latents remember some thirty bins
TURN = 0.5  # radians a bin, up to which a population's own latents rotate
COUPLING = 0.1  # sd of entries of blocks between populations
DRIFTED = 0.3  # sd of drifts, in units of process noise
TRIGGER = 0.15  # norm of the weights by which one population calls a state, per sd of process noise

FARTHEST, BISECTIONS = 20.0, 50  # of a search for offsets: softplus(-20) is as good as silent


class Design(NamedTuple):
    """Parameters of simulated populations.

    Attributes:
        dynamics: Of latents and states.
        coupled: True where a population drives another, (state, target, source).
    """

    dynamics: SwitchingDynamics
    coupled: np.ndarray


def design(
    rng: np.random.Generator, n_regions: int, n_latents: int, n_states: int, stickiness: float, absent: float,
    trigger: float,
) -> Design:  # fmt: skip
    """Draw dynamics: rotations within populations, random blocks between them.

    A share of these blocks is ``absent``.
    """
    size = n_regions * n_latents
    matrices, coupled = np.zeros((n_states, size, size)), np.ones((n_states, n_regions, n_regions), bool)
    pairs = np.argwhere(~np.eye(n_regions, dtype=bool))
    for state in range(n_states):
        gone = pairs[rng.permutation(len(pairs))[: round(absent * len(pairs))]]
        coupled[state, gone[:, 0], gone[:, 1]] = False
        blocks = [_rotation(rng, n_latents) for _ in range(n_regions)]
        between = COUPLING * rng.standard_normal((size, size))
        within = np.kron(np.eye(n_regions), np.ones((n_latents, n_latents)))
        there = np.kron(coupled[state], np.ones((n_latents, n_latents)))
        whole = block_diag(*blocks) + between * there * (1 - within)
        matrices[state] = RADIUS * whole / np.abs(np.linalg.eigvals(whole)).max()
    drift = DRIFTED * rng.standard_normal((n_states, size))
    enter = np.zeros((n_states, size))
    for state in range(n_states):
        its = slice((state % n_regions) * n_latents, (state % n_regions + 1) * n_latents)
        weights = rng.standard_normal(n_latents)
        enter[state, its] = trigger * weights / np.linalg.norm(weights)
    parts = (
        matrices, drift, stickiness * np.eye(n_states), enter, np.zeros_like(enter), np.full(n_states, 1 / n_states),
        np.zeros(size), np.ones(size),
    )  # fmt: skip
    return Design(SwitchingDynamics(*map(jnp.asarray, parts)), coupled)


def simulate_switching(
    regions: Mapping[str, int] = THREE,
    n_latents: int = 5,
    n_states: int = 3,
    *,
    n_trials: int = 1,
    n_bins: int = 3000,
    bin_width: float = 0.02,
    stickiness: float = 5.0,
    absent: float = 1 / 3,
    trigger: float = TRIGGER,
    noise: float = 0.1,
    mean_count: float | None = 0.25,
    seed: int = 0,
) -> Simulation:
    """Simulate populations that drive each other differently in every hidden state.

    One population calls each state. Counts are Poisson with rates softplus(eta).

    Args:
        regions: Region name -> number of neurons.
        n_latents: Latents of each region.
        n_states: States.
        n_trials, n_bins: Trials, and bins of each.
        bin_width: Seconds.
        stickiness: Logit of staying in a state, beside those of leaving, which are 0 but for what calls a state.
        absent: Share of ordered pairs of regions that do not drive each other, in each state others.
        trigger: Norm of the weights by which a population calls its state, per sd of process noise.
        noise: sd of process noise; loadings are N(0, 1), so that it measures how loud latents are.
        mean_count: Of every neuron in a bin, expected of these latents; None for Gaussian values of noise variance 1.
        seed: Of everything.

    Returns:
        The recording; as truth ``states`` (trial, time), ``latents`` (trial, time, latent) in sds of process noise, the
        parameters by the names of :class:`mrgp.models.SwitchingLDS`, and ``coupled`` (state, target, source).

    Raises:
        ValueError: a size or a number is out of range.
    """
    sizes = {"n_latents": n_latents, "n_states": n_states, "n_trials": n_trials, **regions}
    for name, size in sizes.items():
        require(size >= 1, f"{name} counts at least 1, not {size}")
    require(n_bins >= 2, f"n_bins counts at least 2, not {n_bins}")
    require(0 <= trigger < np.inf, f"trigger is a number from 0 on, not {trigger}")
    require(0 <= absent <= 1, f"absent is a share in [0, 1], not {absent}")
    numbers = {"bin_width": bin_width, "noise": noise, **({} if mean_count is None else {"mean_count": mean_count})}
    for name, value in numbers.items():
        positive(name, value)
    rng = np.random.default_rng(seed)
    made = design(rng, len(regions), n_latents, n_states, stickiness, absent, trigger)
    of = made.dynamics
    keys = jax.random.split(jax.random.key(seed), n_trials)
    states, latents = (np.asarray(part) for part in jax.jit(drawn_paths, static_argnums=2)(keys, of, n_bins))
    loadings = [noise * rng.standard_normal((count, n_latents)) for count in regions.values()]
    read = latents @ block_diag(*loadings).T
    if mean_count is None:
        offset = rng.standard_normal(read.shape[-1])
        values = read + offset + rng.standard_normal(read.shape)
    else:
        offset = _offset(read, mean_count)
        values = rng.poisson(np.logaddexp(0, read + offset))
    parts = np.split(values, np.cumsum(list(regions.values()))[:-1], axis=-1)
    data = MultiRegionData(dict(zip(regions, parts, strict=True)), bin_width, drop_dead=None)
    arrays: dict[str, Any] = {
        "states": (("trial", "time"), states), "latents": (("trial", "time", "within_latent"), latents),
        "coupled": (("state", "target", "source"), made.coupled), OFFSET.name: (OFFSET.dims, offset),
        LOADINGS.name: (LOADINGS.dims, np.concatenate(loadings)),
    }  # fmt: skip
    arrays |= {site.name: (site.dims, np.asarray(of.sites[site.name])) for site in (MATRIX, DRIFT, LOGITS, ENTER, STAY)}
    coords = {"time": ("time", data.times, SECONDS), "target": list(regions), "source": list(regions)}
    return Simulation(data, xr.Dataset(arrays, coords, {"bin_width": bin_width, "seed": seed}))


def _offset(read: np.ndarray, mean_count: float) -> np.ndarray:
    """Find offsets (neuron,) by which the mean of softplus(read + offset) is ``mean_count``."""
    flat = read.reshape(-1, read.shape[-1])
    low, high = -flat.max(0) - FARTHEST, mean_count - flat.min(0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = np.logaddexp(0, flat + middle).mean(0) > mean_count
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


def _rotation(rng: np.random.Generator, size: int) -> np.ndarray:
    """Rotation by random angles in random planes."""
    if size == 1:
        return np.ones((1, 1))
    basis, turns = special_ortho_group.rvs(size, random_state=rng), []
    for angle in rng.uniform(-TURN, TURN, size // 2):
        turns.append(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))
    whole = block_diag(*turns, *([1.0] * (size % 2)))
    return basis @ whole @ basis.T
