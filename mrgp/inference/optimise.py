r"""Maximum a posteriori by L-BFGS on the marginal likelihood.

It uses coordinates in which the posterior is nearly round. Latents are integrated out by the model itself, so each
evaluation is one likelihood and its gradient. Every free parameter moves at once: near the optimum the curvature of a
loading is about n_bins_in_all / noise and that of a log noise variance n_bins_in_all / 2, so after scaling by those
(a model's ``scales``, see :class:`Objective`) the objective is nearly isotropic and L-BFGS needs tens of iterations
where expectation-maximization needs thousands. The objective never increases.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize
from tqdm import tqdm

from mrgp.inference.density import Density, Sites, constrain, unconstrain
from mrgp.likelihoods.best_gaussian import TOLERANCE
from mrgp.recordings.observations import placed
from mrgp.runtime.sharding import computing_over

INTERRUPTED = "interrupted"  # the reason of what the user stopped
OVERTAKEN = "left behind by a climb from another start"
CHANCE = 10  # iterations that each climb has before it is compared
BEHIND, FEW = 1.5, 20.0  # of what was left to gain, and nats
MEMORY = 30  # L-BFGS pairs; gradients are the cost, not the pairs
PATIENCE = 4  # iterations over which the gain must stay below the tolerance
SHARE, ROUGHEST = 0.01, 1.0  # of what the iteration before has gained, and nats: how exact a search inside a density is
WALL = 100.0  # nats: below the start by more than this, a loss counts by its logarithm only
BEYOND = 1e4  # nats: what counts as the loss where the density is no number


type Rounds = Callable[[Objective, float], Iterator[tuple[np.ndarray, float]]]
"""Way up from an objective's start, of a loss: it yields places, each higher, and their losses."""


@dataclass
class Ascent:
    """One climb of log p(y, parameters).

    Attributes:
        sites: Parameters at the top, constrained.
        log_joint: log p(y, sites) in nats.
        trace: log_joint after every iteration.
        converged: Whether the gain fell below the tolerance.
        reason: One sentence on why it stopped.
        evaluations: Likelihood-and-gradient evaluations.
        wall_s: Seconds, compilation included.
    """

    sites: Sites
    log_joint: float
    trace: list[float] = field(default_factory=list)
    converged: bool = False
    reason: str = ""
    evaluations: int = 0
    wall_s: float = 0.0


@partial(jax.jit, static_argnums=0)
def _objective(
    density: Density, x: Array, origin: Sites, scale: Sites, frozen: Sites, data: Any, guess: Any,
    within: float,
) -> tuple[tuple[Array, Any], Array]:  # fmt: skip
    """Negative density, a guess for the next search, and gradient, at origin + scale * x."""

    def negative(x: Array) -> tuple[Array, Any]:
        sites = sites_at(density, x, origin, scale, frozen, data)
        value, found = density.from_guess(sites, data, guess, within)
        return -value, found

    return jax.value_and_grad(negative, has_aux=True)(x)


@partial(jax.jit, static_argnums=0)
def sites_at(density: Density, x: Array, origin: Sites, scale: Sites, frozen: Sites, data: Any) -> Sites:
    """Constrained sites at origin + scale * x of a flat vector x, frozen ones included."""
    steps = ravel_pytree(origin)[1](x)
    free = {name: value + scale[name] * steps[name] for name, value in origin.items()}
    return {**constrain(density.transforms(data, frozen), free), **frozen}


@partial(jax.jit, static_argnums=0)
def _origin(density: Density, sites: Sites, frozen: Sites, data: Any) -> Sites:
    return unconstrain(density.transforms(data, frozen), sites)


@partial(jax.jit, static_argnums=0)
def _first_guess(density: Density, sites: Sites, data: Any) -> Any:
    return density.first_guess(sites, data)


class Objective:
    """Negative of a density as a function of one flat vector, for SciPy.

    The vector is in scaled coordinates.

    Args:
        density: What is to be maximised, such as ``LogJoint(model)``.
        data: A pytree.
        sites: Where to start, constrained.
        scale: About one posterior standard deviation of each site in its unconstrained coordinate.
        frozen: Names of sites held at their start.
        guess: Where a search inside the density begins; None for its own first guess.
    """

    def __init__(
        self, density: Density, data: Any, sites: Mapping[str, Any], scale: Mapping[str, Any],
        frozen: tuple[str, ...] = (), guess: Any = None,
    ) -> None:  # fmt: skip
        self.density, (self.data, self.mesh) = density, placed(data)
        self.frozen = {name: jnp.asarray(sites[name]) for name in frozen}
        self.transforms = density.transforms(data, self.frozen)
        arrays = {name: jnp.asarray(value) for name, value in sites.items()}
        self.origin = _origin(density, arrays, self.frozen, self.data)
        self.scale = {
            name: jnp.asarray(np.broadcast_to(np.asarray(scale.get(name, 1.0), value.dtype), value.shape))
            for name, value in self.origin.items()
        }
        self.size = sum(value.size for value in self.origin.values())
        self.evaluations = 0
        self.guess = _first_guess(density, arrays, self.data) if guess is None else guess
        self.follows = False  # whether each evaluation begins its search where the one before ended
        self.within = TOLERANCE  # nats: where a search inside the density ends

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluations += 1
        with computing_over(self.mesh):
            (value, found), gradient = _objective(*self.arguments(x), self.guess, self.within)
        if self.follows and np.isfinite(value):
            self.guess = found
        return float(value), np.asarray(gradient, float)

    def settle(self, within: float) -> None:
        """Begin all later searches with the best at the start, found to ``within`` nats as they are."""
        self.within, self.follows = within, True
        self(np.zeros(self.size))
        self.follows = False

    def sites(self, x: np.ndarray) -> Sites:
        """Constrained sites at ``x``, frozen ones included."""
        return sites_at(*self.arguments(x))

    def arguments(self, x: np.ndarray) -> tuple[Density, np.ndarray, Sites, Sites, Sites, Any]:
        """Arguments of compiled functions of ``x``.

        They are the density, the coordinates, their origin and scale, frozen sites, and the data.
        """
        return self.density, np.asarray(x, jnp.result_type(float)), self.origin, self.scale, self.frozen, self.data

    def unravel(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Cut a flat vector into entries of the sites, in the order of raveled trees."""
        ordered = sorted(self.origin)
        cuts = np.split(np.asarray(x), np.cumsum([self.origin[name].size for name in ordered])[:-1])
        return {name: cut.reshape(self.origin[name].shape) for name, cut in zip(ordered, cuts, strict=True)}

    def ravel(self, tree: Mapping[str, Any]) -> np.ndarray:
        """Join numbers for every entry of every site to a flat vector."""
        return np.concatenate([np.zeros(0), *(np.ravel(tree[name]) for name in sorted(self.origin))])

    def marks(self, names: Collection[str]) -> np.ndarray:
        """Flat vector of 1 for the entries of the sites ``names``, and 0 for all others."""
        return self.ravel({name: np.full(value.shape, float(name in names)) for name, value in self.origin.items()})


def walled(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]], first: float
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return a function f, of value and slope, with a wall.

    Above ``first``, the value at the start, it grows by a logarithm only. The function is f up to it, and ``first`` +
    WALL log(1 + (f - first) / WALL) above it. A step that goes too far costs a finite number, from which a line search
    finds its way back. No climb ends above its start, so that optima are those of the density.
    """

    def soft(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = function(x)
        if value <= first:
            return value, gradient
        beyond = (value - first) / WALL
        slope = gradient / (1 + beyond)
        if not np.isfinite(beyond) or not np.isfinite(slope).all():
            return first + BEYOND, np.zeros_like(gradient)
        return first + WALL * np.log1p(beyond), slope

    return soft


def is_overtaken(trace: Sequence[float], rival: Sequence[float]) -> bool:
    """True if a climb has no hope of the height of its rival's end.

    It then is behind by more than BEHIND times what the rival still had to gain after as many iterations, and nats.
    """
    done = len(trace)
    if done < CHANCE or done > len(rival):
        return False
    return rival[done - 1] - trace[-1] > BEHIND * (rival[-1] - rival[done - 1]) + FEW


def maximise(
    objective: Objective,
    *,
    tolerance: float,
    max_iterations: int,
    spent: int = 0,
    patience: int = PATIENCE,
    progress: str | None = None,
    on_iteration: Callable[[Sites], None] | None = None,
    ahead: Rounds | None = None,
    rival: Sequence[float] = (),
) -> Ascent:
    """Climb until the gain over ``patience`` iterations is below ``tolerance`` nats.

    The climb begins at the objective's start. ``max_iterations`` are those of a whole fit, of which earlier climbs have
    ``spent`` some. ``KeyboardInterrupt`` ends the climb where it is, unconverged; ``on_iteration`` sees every iterate.
    ``ahead`` is a quicker way up, as far as it goes. ``rival`` is the trace of a climb from another start: one that it
    leaves behind ends early, for the reason OVERTAKEN (see :func:`is_overtaken`).
    """
    started = time.perf_counter()
    trace: list[float] = []
    best = np.zeros(objective.size)
    state = {"reason": f"stopped after {max_iterations} iterations", "converged": False}
    bar = tqdm(desc=progress, unit=" iterations", disable=progress is None, leave=False, mininterval=0.5)

    def reached(x: np.ndarray, value: float) -> None:
        nonlocal best
        if value >= trace[-1]:  # not where a search inside the density was a little less exact than the one before
            best = np.array(x)
        trace.append(max(value, trace[-1]))
        objective.within = float(np.clip(SHARE * (trace[-1] - trace[-2]), TOLERANCE, ROUGHEST))
        bar.update()
        bar.set_postfix_str(f"log p = {trace[-1]:.2f}")
        if on_iteration is not None:
            on_iteration(objective.sites(best))

    def after(intermediate_result: Any) -> None:
        reached(intermediate_result.x, -float(intermediate_result.fun))
        if len(trace) > patience and trace[-1] - trace[-1 - patience] < tolerance:
            state.update(reason=f"gain below {tolerance:g} nats over {patience} iterations", converged=True)
            raise StopIteration
        if is_overtaken(trace, rival):
            state.update(reason=OVERTAKEN)
            raise StopIteration

    objective.follows = True  # of a climb, whose steps are short; a difference of two values needs two equal searches
    first, _ = objective(best)
    if not np.isfinite(first):
        raise FloatingPointError(
            "the log-likelihood is not finite at the start: check the recording's units, or give a start yourself"
        )
    trace.append(-first)
    begun = -np.inf
    try:
        for place, loss in () if ahead is None else ahead(objective, first):
            reached(place, -loss)
            if len(trace) > max_iterations - spent:
                break
        while True:
            result = minimize(
                walled(objective, first), best, jac=True, method="L-BFGS-B", callback=after,
                options={"maxcor": MEMORY, "maxiter": max_iterations - spent - len(trace) + 1,
                         "maxfun": 20 * max_iterations, "ftol": 0, "gtol": 0},
            )  # fmt: skip
            if state["converged"] or state["reason"] == OVERTAKEN or result.status == 1:
                break
            # The line search found no further gain: the top of double precision, unless it is steep there.
            flat = float(np.abs(result.jac).max()) < 1.0
            if flat or trace[-1] - begun < tolerance:
                reason = "no further gain in double precision" if flat else str(result.message)
                state.update(reason=reason, converged=flat)
                break
            begun, objective.within = trace[-1], TOLERANCE  # once more, without what the line search went by
    except KeyboardInterrupt:
        state.update(reason=INTERRUPTED, converged=False)
    finally:
        bar.close()
    return Ascent(
        objective.sites(best), trace[-1], trace, bool(state["converged"]), str(state["reason"]), objective.evaluations,
        time.perf_counter() - started,
    )  # fmt: skip
