"""Climbs of a bound of counts by surrogates: Gaussian densities with the same slopes.

A surrogate has the bound's slopes at one place (:mod:`mrgp.likelihoods.surrogate`), and is climbed at the cost of a
Gaussian likelihood, without a search for q. The bound is asked once in a round, where the climb of the surrogate ends:
it never falls.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from scipy.optimize import Bounds, minimize

from mrgp.inference.density import Density, Sites
from mrgp.inference.optimise import Objective, Rounds, sites_at
from mrgp.parts.emissions import Emission
from mrgp.recordings.recording import MultiRegionData

FIRST, MOST = 10, 40  # L-BFGS iterations on a surrogate
NEAR, FARTHEST = 8.0, 64.0  # scales of the objective: how far a round moves a coordinate
FAITHFUL, ENOUGH, ODD = 0.5, 0.05, 4.0  # of the promised gain: trusted further, followed, not believed
HALVINGS = 4  # of a step that does not raise the bound
LARGE = 3e5  # counts: of fewer a search for q takes less than the surrogate's compilation saves


def quicker(emission: Emission, data: MultiRegionData, tolerance: float) -> Rounds | None:
    """Quicker way up a bound, where it is worth its compilation; else None."""
    if not emission.is_of_counts or data.values.size < LARGE:
        return None
    return partial(rounds, beside=emission.own_sites, tolerance=tolerance)


def rounds(
    objective: Objective, loss: float, slope: np.ndarray, *, beside: tuple[str, ...], tolerance: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Climb from the objective's start; yields where every round has ended, and the loss there.

    Rounds end where one gains less than ``tolerance`` nats, or half of what its surrogate promised: where spikes are
    few, latents are so uncertain that loadings change how uncertain, of which a surrogate knows nothing.

    Args:
        objective: Of a bound.
        loss, slope: Of the objective at its start.
        beside: Names of sites that surrogates say nothing of. They move along the bound's slope, as far as the scales
            of the objective say.
        tolerance: Nats.
    """
    here, most, radius = np.zeros(objective.size), FIRST, NEAR
    apart = objective.marks(beside)
    while True:
        surrogate = _surrogate(*objective.arguments(here), objective.guess, objective.within)
        near = partial(_evaluated, objective, surrogate)
        base, own_slope = near(here)
        unsaid = slope - own_slope  # of sites beside, and of what the search for q has left

        found = minimize(
            _promised, here, (near, here, unsaid, apart), jac=True, method="L-BFGS-B",
            bounds=Bounds(here - radius, here + radius), options={"maxcor": MOST, "maxiter": most},
        )  # fmt: skip
        expected = base - float(found.fun)
        if not np.isfinite(expected) or expected <= 0:
            return
        for halving in range(HALVINGS):
            there = here + 0.5**halving * (found.x - here)
            tried, tried_slope = objective(there)
            gained = loss - tried
            if np.isfinite(tried) and ENOUGH * 0.5**halving < gained / expected < ODD:
                break
        else:
            return
        faithful = halving == 0 and gained > FAITHFUL * expected
        here, loss, slope = there, tried, tried_slope
        yield here, loss
        if gained < tolerance or not faithful:
            return
        most, radius = min(2 * most, MOST), min(2 * radius, FARTHEST)


def _promised(
    x: np.ndarray, near: Callable[[np.ndarray], tuple[float, np.ndarray]], here: np.ndarray, unsaid: np.ndarray,
    apart: np.ndarray,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """Loss and slope of a surrogate that was made at ``here``, with what it leaves unsaid."""
    value, slope = near(x)
    away = x - here
    return value + unsaid @ away + 0.5 * (apart * away) @ away, slope + unsaid + apart * away


def _evaluated(objective: Objective, surrogate: Any, x: np.ndarray) -> tuple[float, np.ndarray]:
    value, gradient = _near(*objective.arguments(x), surrogate)
    return float(value), np.asarray(gradient, float)


@partial(jax.jit, static_argnums=0)
def _surrogate(
    density: Density, x: Array, origin: Sites, scale: Sites, frozen: Sites, data: Any, guess: Any, within: float
) -> Any:
    return density.surrogate(sites_at(density, x, origin, scale, frozen, data), data, guess, within)


@partial(jax.jit, static_argnums=0)
def _near(
    density: Density, x: Array, origin: Sites, scale: Sites, frozen: Sites, data: Any, surrogate: Any
) -> tuple[Array, Array]:
    """Negative density of a surrogate, and its gradient."""

    def negative(x: Array) -> Array:
        return -density.near(sites_at(density, x, origin, scale, frozen, data), data, surrogate)

    return jax.value_and_grad(negative)(x)
