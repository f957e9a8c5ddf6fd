"""Climbs of a bound of counts that hold the pseudo-observations of q.

What defines q, pseudo-observations of log-rates, hardly changes along a climb: they say what was counted. With them
held, q still follows all parameters, and what is climbed is a bound itself, without a search for q
(:mod:`mrgp.likelihoods.surrogate`). The best q is looked for once in a round, where the climb has ended, beginning with
the q that is there: what a round yields is never lower than that climb.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from scipy.optimize import minimize

from mrgp.inference.density import Density, Sites
from mrgp.inference.optimise import PATIENCE, ROUGHEST, Objective, Rounds, sites_at, walled
from mrgp.parts.emissions import Emission
from mrgp.recordings.recording import MultiRegionData

FIRST, GROWTH, MOST = 15, 4, 960  # L-BFGS iterations of a round, and how many times as many the next ones take
HELD = 10  # of them, through which pseudo-observations are held
MEMORY = 100  # L-BFGS pairs
LARGE = 3e5  # counts: of fewer a search for q takes less than another compilation saves


def quicker(emission: Emission, data: MultiRegionData, tolerance: float) -> Rounds | None:
    """Quicker way up a bound, where it is worth its compilation; else None."""
    if not emission.is_of_counts or data.values.size < LARGE:
        return None
    return partial(rounds, tolerance=tolerance)


def rounds(
    objective: Objective, loss: float, *, tolerance: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Climb from the objective's start; yields where every round has ended, and the loss there.

    They end where one gains less than ``tolerance`` nats.

    Args:
        objective: Of a bound.
        loss: Of the objective at its start.
        tolerance: Nats.
    """
    here, most = np.zeros(objective.size), FIRST
    while True:
        held = _Held(objective, here, tolerance)
        minimize(
            walled(held, loss), here, jac=True, method="L-BFGS-B", callback=held.after,
            options={"maxcor": MEMORY, "maxiter": most, "ftol": 0, "gtol": 0},
        )  # fmt: skip
        if not held.losses or not held.losses[-1] < loss:
            return
        objective.guess = held.guess(held.place)
        tried, _ = objective(held.place)
        gained = loss - tried
        if not gained > 0:
            return
        here, loss = held.place, tried
        yield here, loss
        if gained < tolerance:
            return
        most = min(GROWTH * most, MOST)


class _Held:
    """Loss and slope with pseudo-observations held, made anew every few iterations of a climb.

    Each time q gets better the loss falls a little beside the climb, and slopes change by what q answers, which is a
    part of how the best bound bends: the climb learns that too.
    """

    def __init__(self, objective: Objective, here: np.ndarray, tolerance: float) -> None:
        self.objective, self.tolerance = objective, tolerance
        self.place, self.losses = here, list[float]()  # where the last iteration has ended, and the losses of all
        self.surrogate = surrogate_at(*objective.arguments(here), objective.guess, objective.within)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = held_at(*self.objective.arguments(x), self.surrogate)
        return float(value), np.asarray(gradient, float)

    def guess(self, x: np.ndarray) -> Any:
        """Make the start of a search for q at ``x``."""
        return _guess(*self.objective.arguments(x), self.surrogate)

    def after(self, intermediate_result: Any) -> None:
        """Make pseudo-observations anew, if it is time.

        A climb that gains less than the tolerance ends.
        """
        self.place = np.array(intermediate_result.x)
        self.losses.append(float(intermediate_result.fun))
        if len(self.losses) > PATIENCE and self.losses[-1 - PATIENCE] - self.losses[-1] < self.tolerance:
            raise StopIteration
        if len(self.losses) % HELD == 0:
            here = self.objective.arguments(self.place)
            self.surrogate = surrogate_at(*here, self.guess(self.place), ROUGHEST)


@partial(jax.jit, static_argnums=0)
def surrogate_at(
    density: Density, x: Array, origin: Sites, scale: Sites, frozen: Sites, data: Any, guess: Any, within: float
) -> Any:
    """Pseudo-observations of the density around ``x``."""
    return density.surrogate(sites_at(density, x, origin, scale, frozen, data), data, guess, within)


@partial(jax.jit, static_argnums=0)
def held_at(
    density: Density, x: Array, origin: Sites, scale: Sites, frozen: Sites, data: Any, surrogate: Any
) -> tuple[Array, Array]:
    """Negative density with the pseudo-observations of q held, and its gradient."""

    def negative(x: Array) -> Array:
        return -density.held(sites_at(density, x, origin, scale, frozen, data), data, surrogate)

    return jax.value_and_grad(negative)(x)


@partial(jax.jit, static_argnums=0)
def _guess(
    density: Density, x: Array, origin: Sites, scale: Sites, frozen: Sites, data: Any, surrogate: Any
) -> Any:
    return density.guess_of(sites_at(density, x, origin, scale, frozen, data), data, surrogate)
