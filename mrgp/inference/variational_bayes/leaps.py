"""Leaps between rounds of variational Bayes, kept only where they raise the bound."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.inference.driver import Driver
from mrgp.inference.variational_bayes.rounds import FIRST_CLIMB, Rounds, better, make_round
from mrgp.inference.variational_bayes.updates import resting_variance, revival
from mrgp.parts.readout import LOADINGS

COLLINEAR, PRESENT = 0.9, 0.01  # cosine and share from which on two latents seem to be one in a region
ALIKE = 0.98  # cosine from which on loadings of a trial's latents are those from which it began


def cleared(state: Rounds) -> bool:
    """Set vanishing loadings to zero where that raises the bound; return True if any were."""
    living = np.asarray(state.setting.living)
    blocks = [block for place in np.argwhere(state.vanishing) if (block := state.block(*place) & living).any()]
    if not blocks:
        return False
    resting = resting_variance(state.model, state.sites, state.setting)  # the same whatever else is at zero
    if _zeroed(state, np.any(blocks, axis=0), resting):
        return True
    outcomes = [_zeroed(state, block, resting) for block in blocks]
    return any(outcomes)


def _zeroed(state: Rounds, block: np.ndarray, resting: Array) -> bool:
    """Hold a block of loadings at zero if that raises the bound; return True if it did.

    The block is (neuron, column) bool. ``resting`` (neuron,) is their variance there.
    """
    kept = jnp.asarray(~block)
    alone = resting[:, None, None] * jnp.eye(block.shape[1])
    covariance = jnp.where(kept[:, :, None] & kept[:, None, :], state.setting.covariance, alone)
    setting = state.setting._replace(covariance=covariance, living=state.setting.living & kept)
    return better(state, setting.held(state.sites), setting, 0.0)


def revived(state: Rounds, tolerance: float) -> bool:
    """Let go of loadings held at zero where the bound gains more than ``tolerance``.

    Returns True if any were let go. The most gainful first, after which others may have nothing left to explain.
    """
    assignment, some = state.assignment, False
    tried = np.zeros((assignment.n_regions, assignment.n_columns), bool)
    while not np.all(np.asarray(state.setting.living) | ~assignment.used):
        found = revival(state.model, state.sites, state.setting)
        gain = np.where(tried, -np.inf, found.gain)
        region, column = np.unravel_index(gain.argmax(), gain.shape)
        if gain[region, column] <= tolerance:
            return some
        tried[region, column] = True
        block = jnp.asarray(state.block(region, column))
        loadings = jnp.where(block, found.mean, state.sites[LOADINGS.name])
        diagonal = (found.variance * block)[:, :, None] * jnp.eye(block.shape[1])
        covariance = jnp.where(diagonal > 0, diagonal, state.setting.covariance)
        setting = state.setting._replace(covariance=covariance, living=state.setting.living | block)
        some |= better(state, {**state.sites, LOADINGS.name: loadings}, setting, tolerance)
    return some


def remove_unread(state: Rounds) -> None:
    """Remove latents that no region reads, if others remain."""
    n_across, n_columns = state.assignment.n_across, state.assignment.n_columns
    keep = np.flatnonzero((np.asarray(state.setting.living) & state.assignment.used)[:, :n_across].any(0))
    if len(keep) in (0, n_across):
        return
    columns = np.concatenate([keep, np.arange(n_across, n_columns)])
    state.model, state.sites = state.model.fitting.keeping(state.sites, state.setting.data.layout, keep)
    setting = state.setting
    covariance = setting.covariance[:, columns][:, :, columns]
    state.setting = setting._replace(covariance=covariance, living=setting.living[:, columns])
    state.removed += n_across - len(keep)


def turned(state: Rounds, tolerance: float, driver: Driver) -> bool:
    """Turn a pair of latents that share a direction in a region, if that raises the bound.

    Returns True if a turn was kept.
    """
    for first, second, angle in list(_turns(state)):
        c, s = np.cos(angle), np.sin(angle)
        loadings = state.sites[LOADINGS.name]
        turned = loadings.at[:, first].set(c * loadings[:, first] + s * loadings[:, second])
        turned = turned.at[:, second].set(c * loadings[:, second] - s * loadings[:, first])
        living = state.setting.living
        either = living[:, [first]] | living[:, [second]]
        setting = state.setting._replace(living=living.at[:, jnp.array([first, second])].set(either))
        trial = replace(state, sites={**state.sites, LOADINGS.name: turned}, setting=setting, trace=[], evaluations=0)
        for longest in (FIRST_CLIMB, 4 * FIRST_CLIMB, 8 * FIRST_CLIMB):
            make_round(trial, tolerance, longest, driver)
            if trial.trace[-1] > state.trace[-1] + tolerance or _is_back(trial, state):
                break
        state.evaluations += trial.evaluations
        if trial.trace[-1] > state.trace[-1] + tolerance:
            state.sites, state.setting = trial.sites, trial.setting
            state.trace.append(trial.trace[-1])
            return True
    return False


def _is_back(trial: Rounds, home: Rounds) -> bool:
    """Return True if all loadings have turned back to those of ``home``.

    Then there is nothing new to find.
    """
    there, here = (np.asarray(state.sites[LOADINGS.name]) for state in (trial, home))
    sizes = np.linalg.norm(there, axis=0) * np.linalg.norm(here, axis=0)
    return bool(((there * here).sum(0) >= ALIKE * sizes).all())


def _turns(state: Rounds) -> Iterator[tuple[int, int, float]]:
    """Find pairs of across latents that share a direction in a region, and angles to turn by.

    Their loadings in the region lie along one line, and the angles part them.
    """
    loadings, assignment, share = np.asarray(state.sites[LOADINGS.name]), state.assignment, state.share
    for first, second in combinations(range(assignment.n_across), 2):
        for region in range(assignment.n_regions):
            if share[region, [first, second]].min() < PRESENT:
                continue
            a, b = loadings[assignment.region_of_neuron == region][:, [first, second]].T
            size = np.linalg.norm(a), np.linalg.norm(b)
            if min(size) == 0:  # a region that reads nothing
                continue
            cosine = a @ b / (size[0] * size[1])
            if abs(cosine) > COLLINEAR:
                angle = np.arctan2(np.sign(cosine) * size[1], size[0])
                yield first, second, float(angle)  # the second no longer reaches the region
                yield first, second, float(angle - np.sign(angle) * np.pi / 2)  # nor the first
