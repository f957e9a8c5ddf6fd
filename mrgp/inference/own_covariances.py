"""Climbs of a bound of counts in which every trial has a covariance of its own.

Such a bound costs ten times as much as one whose trials share a covariance, and bends nearly as that does: so that one
is climbed first. Where it ends, the slope of the bound itself is asked for, and **what it says beyond that of the
shared bound is taken for the same all around**: the shared bound with the pseudo-observations of its q held, and with
that slope added, is climbed, for next to nothing (see ``surrogates``). Where it ends higher, the bound itself mostly is
higher too, and the next round begins there. Where it is not, since the step was too long, the bound itself is climbed
for some iterations, in the coordinates in which the climb that went too far has found it to be round.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from mrgp.inference import surrogates
from mrgp.inference.density import Density, LogJoint
from mrgp.inference.optimise import ROUGHEST, SHARE, TOLERANCE, Objective, Rounds, walled
from mrgp.inference.run import Model
from mrgp.recordings.recording import MultiRegionData

LARGE = 3e4  # counts: of fewer the bound itself takes less than more compilations
CREEPING = 0.3  # nats that a round gains, or a few iterations, where a climb ends: from there on it creeps
MOST = 100  # L-BFGS iterations of the shared bound in a round, and their pairs
STILL_ROUND = 10  # iterations of the bound itself, where a step was too long
KEPT = 0.1  # share of the promised gain that a step is to have
DAMPED = 0.02  # of the curvature of a posterior sd: what a promise has to pay for going far
LARGEST = 3000  # parameters of which axes are found: of more it takes seconds
SHORTEST, LONGEST = 1e-3, 10.0  # lengths of axes, in posterior sds


def has_own(model: Model) -> bool:
    """True if each trial has a covariance of its own in the bound of a model."""
    return model.emission.is_of_counts and not model.shared_covariance


def cheaper[M: Model](model: M) -> M:
    """Model whose bound bends nearly as that of a model does, and costs less."""
    return model.replace(shared_covariance=True) if has_own(model) else model


def is_worth(model: Model, data: MultiRegionData) -> bool:
    """True if trials have own covariances, and there are counts enough to climb without first."""
    return has_own(model) and data.values.size >= LARGE


def in_reach(model: Model, data: MultiRegionData, tolerance: float) -> float:
    """Raise the tolerance of a climb, in nats, to where it would creep otherwise."""
    return max(tolerance, CREEPING) if is_worth(model, data) else tolerance


def quicker(model: Model, data: MultiRegionData, tolerance: float) -> Rounds | None:
    """Quicker way up the bound of a model, where it is worth its compilation; else None."""
    if not has_own(model):
        return surrogates.quicker(model.emission, data, tolerance)
    return partial(rounds, shared=LogJoint(cheaper(model)), tolerance=tolerance) if is_worth(model, data) else None


class Place(NamedTuple):
    """Place on a climb of the bound itself, with its loss and slope there."""

    x: np.ndarray
    loss: float
    slope: np.ndarray


def rounds(
    objective: Objective, loss: float, *, shared: Density, tolerance: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Climb from the objective's start; yields where every round has ended, and the loss there.

    They end where one gains less than ``tolerance`` nats.

    Args:
        objective: Of a bound with a covariance of each trial.
        loss: Of the objective at its start.
        shared: The same bound with a covariance that trials share.
        tolerance: Nats.
    """
    start = np.zeros(objective.size)
    cheap = Objective(shared, objective.data, objective.sites(start), objective.scale, tuple(objective.frozen))
    cheap.follows = True
    here = start
    for found, _ in surrogates.rounds(cheap, cheap(start)[0], tolerance=max(tolerance, 1.0)):
        here = found
    place = Place(here, *objective(here))
    if not place.loss < loss:
        place = Place(start, *objective(start))  # where a fit of the bound itself goes on
    else:
        yield place.x, place.loss
    while True:
        step = _promised(cheap, place)
        tried = Place(place.x + step.move, *objective(place.x + step.move))
        objective.within = float(np.clip(SHARE * step.gain, TOLERANCE, ROUGHEST))
        if not place.loss - tried.loss > KEPT * step.gain:
            tried = _climbed(objective, place, step.axes)
        gained = place.loss - tried.loss
        if not gained > 0:
            return
        place = tried
        yield place.x, place.loss
        if gained < tolerance:
            return


class Step(NamedTuple):
    """Step that the shared bound promises.

    Attributes:
        move: To where it ends, (parameter,).
        gain: That it promises, nats.
        axes: Of a system of coordinates in which it is round, (parameter, axis).
    """

    move: np.ndarray
    gain: float
    axes: np.ndarray


def _promised(cheap: Objective, place: Place) -> Step:
    """Climb the shared bound with the slope of the bound itself from ``place``."""
    cheap(place.x)  # the search for its q
    told = surrogates.surrogate_at(*cheap.arguments(place.x), cheap.guess, cheap.within)

    def held(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = surrogates.held_at(*cheap.arguments(x), told)
        return float(value), np.asarray(slope, float)

    base, own = held(place.x)
    unsaid = place.slope - own

    def promised(move: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = held(place.x + move)
        return value - base + unsaid @ move + 0.5 * DAMPED * move @ move, slope + unsaid + DAMPED * move

    still = np.zeros(cheap.size)
    options: dict[str, Any] = {"maxcor": MOST, "maxiter": MOST, "ftol": 0, "gtol": 0}
    result = minimize(walled(promised, 0.0), still, jac=True, method="L-BFGS-B", options=options)
    if cheap.size > LARGEST:
        return Step(result.x, -float(result.fun), np.eye(cheap.size))
    values, vectors = np.linalg.eigh(result.hess_inv.todense())
    return Step(result.x, -float(result.fun), vectors * np.sqrt(np.clip(values, SHORTEST**2, LONGEST**2)))


def _climbed(objective: Objective, place: Place, axes: np.ndarray) -> Place:
    """Climb the bound itself for some iterations, in coordinates of its own."""
    best = [place]

    def turned(z: np.ndarray) -> tuple[float, np.ndarray]:
        x = place.x + axes @ z
        loss, slope = objective(x)
        if loss < best[0].loss:
            best[0] = Place(x, loss, slope)
        return loss, axes.T @ slope

    minimize(
        walled(turned, place.loss), np.zeros(axes.shape[1]), jac=True, method="L-BFGS-B",
        options={"maxcor": STILL_ROUND, "maxiter": STILL_ROUND, "ftol": 0, "gtol": 0},
    )  # fmt: skip
    return best[0]
