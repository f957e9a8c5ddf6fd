r"""Hamiltonian moves that carry draws from near a posterior to the posterior itself.

Each draw makes a few moves of its own (Neal 2011, eqs. 5.18 to 5.20): a momentum of unit normals, leapfrog steps over
about a quarter of a turn, and the accept-or-reject rule that leaves the posterior as it is. In coordinates where the
posterior is nearly a standard normal (``mode.coordinates``) one such move forgets almost all of where it began, so
that a Gaussian, a guide, or the draws given one trial more are a good start, and what was wrong with them (skewness, a
spread of their own that was missing) is gone after a few. Draws stay independent of each other.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import log_density
from tqdm import tqdm

from mrgp.inference.mode.coordinates import Coordinates, Whitened
from mrgp.inference.run import Model
from mrgp.likelihoods.likelihood import Dense

LEAST_MOVES, MOST_MOVES = 4, 8  # after two the size of loadings, which moves slowest, is not at rest where all else is
QUARTER = np.pi / 2  # of a turn around a standard normal: where a move has forgotten its start
FIRST_STEP = 1.2  # times size^(-1/4), the usual scaling: 9 of 10 moves are accepted where the posterior is Gaussian
MOST_STEPS = 16  # of a move: where shorter ones are needed the coordinates are no good, and more would not help
POOR, EASY = 0.65, 0.95  # shares of moves accepted below which steps become shorter, above which longer
SHORTER, LONGER = 0.6, 1.2
LEAST_ACCEPTED = 0.4  # at the end
LEAST_MOVED = 0.98  # share of the draws that have moved at least once
SAME_HEIGHT, SAME_SPREAD = 0.1, 0.01  # what the last move changed, in sds of the log density and in log sd
TOGETHER = 2e5  # entries of the recordings that are worked on side by side
SMALL = 200  # rows of a trial's covariance up to which it is quicker than a filter, by a factor of two to ten


class Carried(NamedTuple):
    """Draws of a posterior, and whether they have settled in it.

    Attributes:
        x: Where they are now, (..., coordinate) per site of :class:`Whitened`.
        settled: Whether the last move changed nothing that can be seen.
        reason: Why the moves ended, in a sentence.
    """

    x: dict[str, np.ndarray]
    settled: bool
    reason: str


def carried(
    program: Whitened,
    argument: Any,
    coordinates: Coordinates,
    x: Mapping[str, Any],
    key: Array,
    *,
    held: str | None = None,
    most: int = MOST_MOVES,
    progress: bool = False,
) -> Carried:
    """Carry draws x to the posterior of ``program`` by as many moves as it takes.

    Args:
        program: In its own coordinates.
        argument: What it takes: the recording.
        coordinates: Around the maximum.
        x: Draws, (..., coordinate) per site, such as standard normals.
        key: The same key gives the same draws.
        held: A site that stays as it is: the others then come from the posterior given it.
        most: Moves at the most.
        progress: Show a progress bar.
    """
    program = _quickest(program, argument)
    _, unravel = ravel_pytree(program.center(coordinates))
    moving = ravel_pytree({name: jnp.full_like(v, name != held) for name, v in program.center(coordinates).items()})[0]
    lead = np.shape(next(iter(x.values())))[:-1]
    flat = {name: jnp.reshape(value, (-1, value.shape[-1])) for name, value in x.items()}
    places = jax.vmap(lambda one: ravel_pytree(one)[0])(flat)
    step = FIRST_STEP * max(float(moving.sum()), 1.0) ** -0.25
    moved = np.zeros(len(places), bool)
    heights, spreads, settled, share = [], [], False, 0.0
    for count in tqdm(range(1, most + 1), desc="moving draws", disable=not progress, leave=False):
        key, own = jax.random.split(key)
        steps = min(int(np.ceil(QUARTER / (0.8 * step))), MOST_STEPS)  # 0.8: the mean of what steps are drawn from
        places, height, accepted, taken = _move(
            program, argument, coordinates, places, moving, jax.random.split(own, len(places)), step, steps,
            _side_by_side(program, argument),
        )  # fmt: skip
        moved |= np.asarray(taken)
        share = float(accepted.mean())
        heights.append(np.asarray(height))
        spreads.append(float(jnp.log(places[:, moving > 0].std(0) + 1e-12).mean()))
        step *= SHORTER if share < POOR else LONGER if share > EASY else 1.0
        if count >= LEAST_MOVES and share > LEAST_ACCEPTED and _at_rest(heights, spreads, int(moving.sum())):
            settled = bool(moved.mean() >= LEAST_MOVED)
            if settled:
                break
    reason = f"{count} moves of each draw, {100 * share:.0f}% accepted, {100 * moved.mean():.0f}% of the draws moved"
    ends = jax.vmap(unravel)(places)
    return Carried({n: np.asarray(v).reshape(*lead, v.shape[-1]) for n, v in ends.items()}, settled, reason)


def _at_rest(heights: list[np.ndarray], spreads: list[float], size: int) -> bool:
    """True if the last move hardly changed the draws: their mean log density and their spread.

    A change that chance makes does not count.
    """
    before, now = heights[-2], heights[-1]
    chance = 2 / np.sqrt(len(now))
    if not np.isfinite(now).all():
        return False
    higher = abs(now.mean() - before.mean()) / max(now.std(), 1e-12)
    wider = abs(spreads[-1] - spreads[-2])
    return bool(higher < max(SAME_HEIGHT, chance) and wider < max(SAME_SPREAD, chance / np.sqrt(size)))


def _quickest(program: Whitened, data: Any) -> Whitened:
    """Choose the exact likelihood for trials so short that it costs less than a state space."""
    model = program.program
    if not _has_states(model) or model.is_state_space or not data.is_complete:
        return program
    if not model.likelihood.reads_between_bins:
        return program
    if data.n_bins * model.assignment(data.layout).n_readouts > SMALL:
        return program
    return replace(program, program=model.replace(likelihood=Dense()))


def _has_states(program: Any) -> TypeGuard[Model]:
    """True of a model under the Markov likelihood, not of any other program."""
    likelihood = getattr(program, "likelihood", None)
    return likelihood is not None and likelihood.is_statespace


def _side_by_side(program: Whitened, argument: Any) -> int | None:
    """Number of draws that share a pass over time, so that memory is bounded.

    None means one by one: there is no such pass, or no memory for two draws.
    """
    if not _has_states(program.program):
        return None
    fitting = int(min(32, TOGETHER // max(np.size(argument.values), 1)))
    return fitting if fitting > 1 else None


@partial(jax.jit, static_argnums=(0, 8))
def _move(
    program: Whitened, argument: Any, coordinates: Coordinates, places: Array, moving: Array, keys: Array,
    longest: float, steps: int, together: int | None,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Make one move of every draw.

    Returns where it ends, its log density, its chance to be accepted, and whether it was.
    """
    _, unravel = ravel_pytree(program.center(coordinates))

    def depth(place: Array) -> Array:
        return -log_density(program, (argument, coordinates), {}, unravel(place))[0]

    slope = jax.value_and_grad(depth)

    def one(inputs: tuple[Array, Array]) -> tuple[Array, Array, Array, Array]:
        start, key = inputs
        kick, length, lot = jax.random.split(key, 3)
        momentum = moving * jax.random.normal(kick, start.shape)
        step = longest * jax.random.uniform(length, minval=0.6)  # of equal lengths some orbits would never mix

        def leap(i: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            place, momentum, first, _ = state
            height, gradient = slope(place)
            end = (i == 0) | (i == steps)
            momentum = momentum - jnp.where(end, 0.5, 1.0) * step * moving * gradient
            place = jnp.where(i == steps, place, place + step * momentum)
            return place, momentum, jnp.where(i == 0, height, first), height

        state = (start, momentum, jnp.zeros(()), jnp.zeros(()))
        place, after, first, last = jax.lax.fori_loop(0, steps + 1, leap, state)
        rise = last - first + 0.5 * (after @ after - momentum @ momentum)
        # A draw that begins where there is no density takes any place that has some.
        chance = jnp.where(jnp.isfinite(first), jnp.exp(jnp.minimum(0.0, -rise)), 1.0)
        chance = jnp.where(jnp.isfinite(last) & jnp.isfinite(after).all(), chance, 0.0)
        taken = jax.random.uniform(lot) < chance
        return jnp.where(taken, place, start), -jnp.where(taken, last, first), chance, taken

    return jax.lax.map(one, (places, keys), batch_size=together)
