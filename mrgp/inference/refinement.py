"""Refinement of a guide's posterior of each trial, by steps on the bound of that trial.

A guide serves all trials with one network; what it misses of a trial (its amortisation gap: Cremer et al. 2018, ICML)
is won back by moving the numbers of q(z | y) themselves (Kim et al. 2018, ICML). Trials that none of the training
resembles (neurons hidden, half the length) gain most.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array, random
from numpyro import handlers
from numpyro.distributions import biject_to

from mrgp.inference.amortised_bound import Program, terms_of_trials, traces
from mrgp.inference.amortised_parameters import Values, WithGuide, is_of_trials
from mrgp.recordings.checks import need

STEP = 0.05  # of Adam at first, in units of the latents and in logarithms of sds; it shrinks to nothing
COMPARED = 16  # draws by which q before and after is compared
SURE = 2.0  # standard errors of its rise by which a bound must have risen


type Numbers = dict[str, dict[str, Array]]
"""Unconstrained parameters of the distribution of every site of trials, by name."""


class Refined(NamedTuple):
    """Posterior of each trial.

    Attributes:
        sites: Distribution of every site of a trial.
        gained: By how much the bound rose, (trial,), nats; 0 where the guide's posterior was kept.
    """

    sites: dict[str, dist.Distribution]
    gained: Array


@partial(jax.jit, static_argnums=(0, 4))
def refined(model: WithGuide, values: Values, data: Any, key: Array, n_steps: int) -> Refined:
    """Refine what the guide says of trials by ``n_steps`` steps of Adam.

    A trial whose bound has not clearly risen keeps what the guide says. Sites of a guide are taken as independent, each
    with the distribution that one draw of the others gives it.
    """
    optax = need("optax", "the refinement of a posterior", "deep")
    adam = optax.adam(optax.cosine_decay_schedule(STEP, n_steps))
    guide_key, own_key, judge_key = random.split(key, 3)
    first = guided(model, values, data, guide_key)

    def loss(free: Any, key: Array) -> Array:
        return -bound_of_trials(model, values, data, at_numbers(first, free), key).sum()

    def step(carried: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], None]:
        free, state = carried
        slopes = jax.tree.map(lambda slope: jnp.nan_to_num(slope, posinf=0.0, neginf=0.0), jax.grad(loss)(free, key))
        change, state = adam.update(slopes, state)  # a number without a slope stays where it is
        return (jax.tree.map(jnp.add, free, change), state), None

    start = numbers_of(first)
    (free, _), _ = jax.lax.scan(step, (start, adam.init(start)), random.split(own_key, n_steps))

    def judged(free: Any) -> Array:
        q = at_numbers(first, free)
        keys = random.split(judge_key, COMPARED)
        return jax.lax.map(lambda key: bound_of_trials(model, values, data, q, key), keys)

    change = judged(free) - judged(start)  # by the same draws
    gained = change.mean(0)
    better = gained > SURE * change.std(0) / COMPARED**0.5

    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(better.reshape(-1, *([1] * (new.ndim - 1))), new, old)

    return Refined(at_numbers(first, jax.tree.map(chosen, free, start)), jnp.where(better, gained, 0.0))


def bound_of_trials(
    model: WithGuide, values: Values, data: Any, q: dict[str, dist.Distribution], key: Array
) -> Array:
    """Bound of log p(y) of each trial in nats, (trial,), with one draw of ``q``."""
    of = terms_of_trials(*traces(model, values, data, key, guide=guide_of(q)))
    return of.likelihood - of.divergence


def guide_of(q: dict[str, dist.Distribution]) -> Program:
    """Guide that draws the sites of trials from ``q``."""

    def guide(data: Any) -> None:
        with numpyro.plate("trial", data.n_trials):
            for name, fn in q.items():
                numpyro.sample(name, fn)

    return guide


def guided(model: WithGuide, values: Values, data: Any, key: Array) -> dict[str, dist.Distribution]:
    """Distribution of every site of trials, by one run of the guide."""
    guide = handlers.substitute(handlers.seed(model.guide, key), data=values.all)
    drawn = handlers.trace(guide).get_trace(data)
    return {n: s["fn"] for n, s in drawn.items() if s["type"] == "sample" and is_of_trials(s) and not s["is_observed"]}


def numbers_of(q: dict[str, dist.Distribution]) -> Numbers:
    """Unconstrained parameters of distributions, (trial, ...) each."""
    bases = {name: _base(fn) for name, fn in q.items()}
    return {
        name: {n: biject_to(base.arg_constraints[n]).inv(getattr(base, n)) for n in base.reparametrized_params}
        for name, base in bases.items()
    }


def at_numbers(q: dict[str, dist.Distribution], numbers: Numbers) -> dict[str, dist.Distribution]:
    """Distributions of the same kinds with other parameters."""
    return {name: _with(fn, numbers[name]) for name, fn in q.items()}


def _base(fn: Any) -> dist.Distribution:
    """Distribution whose parameters are arrays over trials."""
    while isinstance(fn, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        fn = fn.base_dist
    return fn


def _with(fn: Any, free: dict[str, Array]) -> dist.Distribution:
    if isinstance(fn, dist.Independent):
        return dist.Independent(_with(fn.base_dist, free), fn.reinterpreted_batch_ndims)
    if isinstance(fn, dist.ExpandedDistribution):
        return _with(fn.base_dist, free).expand(fn.batch_shape)
    if isinstance(fn, dist.MaskedDistribution):
        return _with(fn.base_dist, free).mask(fn._mask)
    leaves, structure = jax.tree.flatten(fn)
    moved = jax.tree.unflatten(structure, leaves)
    for name, value in free.items():
        setattr(moved, name, biject_to(fn.arg_constraints[name])(value))
    return moved
