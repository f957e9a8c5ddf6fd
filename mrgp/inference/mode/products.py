r"""Products of Hessians with vectors, as differences of slopes at an objective's start.

Of counts the density is a bound, whose slopes take a search for the best q: what a search leaves over is in every
difference. So the q of the start is found as exactly as rounding allows; every search begins there, and ends no sooner;
and a difference is taken over a longer step. From any other beginning, and ended at a thousandth of a nat, products of
sparse counts were 8% from symmetric.

**The bound with pseudo-observations held** (:func:`mrgp.likelihoods.surrogate.held_bound`) needs no search. It lies
below the best bound and touches it at the start, so that its Hessian is no smaller: of loadings, offsets and means by a
few percent, of delays and timescales by up to twice.
"""

from collections.abc import Callable

import numpy as np

from mrgp.inference.mode.krylov import Product
from mrgp.inference.optimise import Objective
from mrgp.inference.surrogates import LARGE, held_at, surrogate_at
from mrgp.runtime.sharding import computing_over

DIFFERENCE = 1e-3  # in posterior standard deviations: third-order error 1e-3, round-off 1e-7 of 1e6 nats / 1e-3
SEARCHED = 3e-2  # the same where slopes take a search: over 1e-2 what is left of it was .006 of a curvature of 1
EXACT = 1e-9  # nats: where such a search ends


def hessian_product(objective: Objective) -> Product:
    """Return the function v -> H v at the objective's start.

    Searches inside the density begin with what is best there from now on.
    """
    searches = _searches(objective)
    if searches:
        objective.settle(EXACT)
    return _differences(lambda x: objective(x)[1], objective.size, SEARCHED if searches else DIFFERENCE)


def held_product(objective: Objective) -> Product | None:
    """Return v -> H v of the bound with pseudo-observations held.

    None where there is no such bound, or counts are so few that it would take longer to compile.
    """
    if not _searches(objective) or objective.data.values.size < LARGE:
        return None
    here = objective.arguments(np.zeros(objective.size))
    with computing_over(objective.mesh):
        told = surrogate_at(*here, objective.guess, EXACT)

    def slope(x: np.ndarray) -> np.ndarray:
        with computing_over(objective.mesh):
            return np.asarray(held_at(*objective.arguments(x), told)[1], float)

    return _differences(slope, objective.size, DIFFERENCE)


def _searches(objective: Objective) -> bool:
    return objective.density.searches and objective.guess is not None


def _differences(slope: Callable[[np.ndarray], np.ndarray], size: int, step: float) -> Product:
    here = slope(np.zeros(size))

    def product(v: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(v)
        if length == 0:
            return np.zeros_like(v)
        return (slope(step / length * v) - here) * (length / step)

    return product
