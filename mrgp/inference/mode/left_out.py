r"""Predictive densities of single trials given all others, from a Gaussian at the maximum.

With f the log density of all in the coordinates of ``mode.coordinates``, where it bends by about one in every
direction, and l_i the log-likelihood of a trial, both integrals of

.. math::
    \log p(y_i \mid y_{-i}) = \log \int e^{f(x)} dx - \log \int e^{f(x) - l_i(x)} dx

are Gaussian, each around its own maximum (Laplace's method, Tierney & Kadane 1986, J. Am. Stat. Assoc. 81, 82-86, whose
errors cancel in the ratio to first order). Of the curvature I a trial has had the share s_i that it has of the observed
entries, so that without it I - s_i (I - K) is left, K being the prior's: trials have to be exchangeable, with the same
parameters and neurons. A maximum that is far from that of all trials is climbed to, and its height is f's own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import log_density
from tqdm import tqdm

from mrgp.inference.density import Sites, log_prior
from mrgp.inference.mode.coordinates import Coordinates, Whitened

FAR = 3.0  # times what is usual: the move of a maximum, beyond which a trial is left out by a climb
MOST_STEPS, SHORTEST, SETTLED = 30, 1e-3, 0.01  # of such a climb: Newton steps, the shortest share of one, nats

type Scores = Callable[[Any, Sites], Array]
"""log p(y_trial | sites), (trial,); static, and equal ones share a compiled function."""


class LeftOut(NamedTuple):
    """Trials, each given all others.

    Attributes:
        score: log p(y_i | all others) in nats, (trial,).
        seen: log p(y_i | all), where the trial has been seen, (trial,).
        moved: Distance in sds by which the maximum moves when a trial is left out, (trial,).
        settled: Whether that maximum was found, (trial,).
    """

    score: np.ndarray
    seen: np.ndarray
    moved: np.ndarray
    settled: np.ndarray


def left_out(
    program: Whitened, scores: Scores, data: Any, coordinates: Coordinates, share: np.ndarray, progress: bool = False
) -> LeftOut:
    """Predict every trial from all others.

    Args:
        program: In its own coordinates.
        scores: Log-likelihoods of the trials.
        data: What both take: the recording.
        coordinates: Around the maximum.
        share: Of the observed entries that a trial has, (trial,).
        progress: Show a progress bar.
    """
    at_top, slopes, pull, bends = map(np.asarray, _expansion(program, scores, data, coordinates))
    prior, turned = np.linalg.eigh(0.5 * (bends + bends.T))
    taken = share[:, None] * (1 - np.clip(prior, 0.0, 1.0))  # of the curvature of 1 by a trial, (trial, direction)
    curvature = np.maximum(1 - taken, np.finfo(float).tiny)
    pull, slopes = turned.T @ pull, slopes @ turned
    height = 0.5 * pull @ pull  # of the maximum of all, above the origin
    steps = (pull - slopes) / curvature
    heights, moved = 0.5 * (steps**2 * curvature).sum(1), np.linalg.norm(steps - pull, axis=1)
    settled = np.ones(len(at_top), bool)
    usual = max(1.0, np.sqrt(len(pull) / len(at_top)))  # sds
    far = np.flatnonzero(~(moved <= FAR * usual))
    for trial in tqdm(far, desc="leaving out", unit=" trials", disable=not progress, leave=False):

        def others(x: np.ndarray, trial: int = trial) -> tuple[float, np.ndarray]:
            value, slope = _without(program, scores, data, coordinates, jnp.asarray(turned @ x), trial)
            return float(value), turned.T @ np.asarray(slope)

        place, heights[trial], settled[trial] = _climbed(others, curvature[trial])
        moved[trial] = np.linalg.norm(place - pull)
    score = at_top + height - heights + 0.5 * np.log(curvature).sum(1)
    twice = 1 + taken  # the curvature, were the trial there once more
    seen = at_top - height + 0.5 * ((pull + slopes) ** 2 / twice).sum(1) - 0.5 * np.log(twice).sum(1)
    return LeftOut(score, seen, moved, settled)


def _climbed(
    density: Callable[[np.ndarray], tuple[float, np.ndarray]], curvature: np.ndarray
) -> tuple[np.ndarray, float, bool]:
    """Climb from 0 by Newton steps of a curvature that stays.

    Returns the place, what was gained, and whether the climb came to rest.
    """
    place, share = np.zeros(len(curvature)), 1.0
    start, slope = density(place)
    height = start
    for _ in range(MOST_STEPS):
        step = slope / curvature
        if 0.5 * slope @ step < SETTLED:
            return place, height - start, True
        there, its_slope = density(place + share * step)
        while not there > height and share > SHORTEST:
            share *= 0.5
            there, its_slope = density(place + share * step)
        if not there > height:
            break
        place, height, slope, share = place + share * step, there, its_slope, min(1.0, 2 * share)
    return place, height - start, False


@partial(jax.jit, static_argnums=(0, 1))
def _expansion(program: Whitened, scores: Scores, data: Any, coordinates: Coordinates) -> tuple[Array, ...]:
    """Expand the log density around the maximum.

    Returns the scores of trials there, their slopes (trial, coordinate), the slope of the whole, and the prior's
    curvature (coordinate, coordinate).
    """
    zero, unravel = ravel_pytree(program.center(coordinates))

    def of_trials(x: Array) -> Array:
        return scores(data, _sites(program, data, coordinates, unravel(x)))

    def prior(x: Array) -> Array:
        sites, volume = program.sites(data, coordinates, unravel(x))
        return volume + log_prior(program.program, tuple(sites), {**coordinates.frozen, **sites}, data)

    axes = jnp.eye(len(zero))
    at_top, along = jax.linearize(of_trials, zero)  # a filter once, and then what is linear of it along every axis
    pull, bend = jax.linearize(jax.grad(prior), zero)
    slopes = jax.lax.map(along, axes).T
    return at_top, slopes, slopes.sum(0) + pull, -jax.lax.map(bend, axes)


@partial(jax.jit, static_argnums=(0, 1))
def _without(
    program: Whitened, scores: Scores, data: Any, coordinates: Coordinates, x: Array, trial: Array
) -> tuple[Array, Array]:
    """Log density at x without a trial, and its slope."""
    _, unravel = ravel_pytree(program.center(coordinates))

    def density(x: Array) -> Array:
        whole = log_density(program, (data, coordinates), {}, unravel(x))[0]
        return whole - scores(data, _sites(program, data, coordinates, unravel(x)))[trial]

    return jax.value_and_grad(density)(x)


def _sites(program: Whitened, data: Any, coordinates: Coordinates, x: Sites) -> Sites:
    return {**coordinates.frozen, **program.sites(data, coordinates, x)[0]}
