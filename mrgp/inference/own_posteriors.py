"""Training of a program without a guide: every trial has a posterior of its own.

A guide that reads few trials learns them by heart long before the program has learned what they have to tell, and
trials kept apart then end the training of both. Means and sds of single trials (Hoffman et al. 2013, JMLR), as the
posteriors of Gaussian-process models are, carry nothing from one trial to another. A step costs less, too: no network
reads the trials.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, random

from mrgp.inference.amortised_bound import terms_of_trials, traces
from mrgp.inference.amortised_parameters import Parameters, Values, WithGuide, strides
from mrgp.inference.refinement import Numbers, at_numbers, guide_of, guided, numbers_of
from mrgp.recordings.checks import need

OWN_STEP = 0.02  # of a trial's numbers at first, in units of the latents and in logarithms of sds
LONGEST_STEP = 5.0  # of the gradient, in its usual units: one trial of many spikes throws nothing off its way


class Alone(NamedTuple):
    """Place that a training without a guide has reached.

    Attributes:
        free: Unconstrained values of all parameters; those of the guide stay as they are.
        numbers: Of the posterior of every trial.
        optimisers: Of both.
    """

    free: Values
    numbers: Numbers
    optimisers: tuple[Any, Any]


class Reached(NamedTuple):
    """Place after an epoch, and means over its steps.

    Attributes:
        place: Where it ended.
        bound: Of all trials, the divergence counted in full, nats.
        divergence: In it, nats.
        skipped: Steps that were not finite, and left out.
    """

    place: Alone
    bound: Array
    divergence: Array
    skipped: Array


def optimiser() -> Any:
    """Make Adam with steps of length one, which clips what is longer than usual."""
    optax = need("optax", "the training of a model with networks", "deep")
    return optax.chain(optax.clip_by_global_norm(LONGEST_STEP), optax.scale_by_adam())


def optimiser_of_numbers() -> Any:
    """Make Adam with steps of length one, which need no clipping.

    A trial of many spikes moves its own numbers alone.
    """
    return need("optax", "the training of a model with networks", "deep").scale_by_adam()


@partial(jax.jit, static_argnums=0)
def beginning(model: WithGuide, free: Values, data: Any, key: Array) -> Alone:
    """Place to begin from: what the guide, not yet trained, says of each trial."""
    numbers = numbers_of(guided(model, Parameters.of(model, data).constrained(free), data, key))
    return Alone(free, numbers, (optimiser().init(free), optimiser_of_numbers().init(numbers)))


@partial(jax.jit, static_argnums=(0, 1, 2))
def epoch_alone(
    model: WithGuide, n_steps: int, size: int, place: Alone, data: Any, key: Array, weight: Any, rate: Any,
    own_rate: Any,
) -> Reached:  # fmt: skip
    """Take ``n_steps`` steps, each on ``size`` trials.

    Args:
        model: Whose program is trained.
        n_steps: Steps.
        size: Trials of a step, at most all.
        place: Where it begins.
        data: All trials.
        key: Of random numbers.
        weight: Of the divergence of q from the prior.
        rate: Length of a step of the program.
        own_rate: Of the numbers of trials.
    """
    parameters, adams = Parameters.of(model, data), (optimiser(), optimiser_of_numbers())
    lengths = jax.tree.map(lambda stride: rate * stride, strides(place.free, jnp.where(weight < 1, 0.0, 1.0)))

    def loss(both: tuple[Values, Numbers], chosen: Array, key: Array) -> tuple[Array, tuple[Array, Array]]:
        form_key, own_key = random.split(key)
        values, some = parameters.constrained(both[0]), data.batch(chosen)
        form = guided(model, values, some, form_key)  # kinds of distributions, and where a trial has ended
        q = at_numbers(form, jax.tree.map(lambda of_all: of_all[chosen], both[1]))
        found = terms_of_trials(*traces(model, values, some, own_key, guide=guide_of(q)))
        likelihood, divergence = found.likelihood.mean(), found.divergence.mean()
        own_prior = found.prior / data.n_trials
        return -(likelihood - weight * divergence + own_prior), (likelihood - divergence, divergence)

    def step(place: Alone, key: Array) -> tuple[Alone, tuple[Array, Array, Array]]:
        trial_key, own_key = random.split(key)
        chosen = random.choice(trial_key, data.n_trials, (size,), replace=False)
        before = place.free, place.numbers
        (value, told), slopes = jax.value_and_grad(loss, has_aux=True)(before, chosen, own_key)
        moves = [adam.update(slope, state) for adam, slope, state in zip(adams, slopes, place.optimisers, strict=True)]
        (change, state), (own_change, own_state) = moves
        free = jax.tree.map(lambda old, by, length: (old - length * by).astype(old.dtype), place.free, change, lengths)
        numbers = jax.tree.map(lambda old, by: (old - own_rate * by).astype(old.dtype), place.numbers, own_change)
        are_finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes)]
        finite = jnp.isfinite(value) & jnp.all(jnp.array(are_finite))
        there = Alone(free, numbers, (state, own_state))
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), there, place), (*told, ~finite)

    place, (bounds, divergences, left_out) = jax.lax.scan(step, place, random.split(key, n_steps))
    return Reached(place, data.n_trials * bounds.mean(), data.n_trials * divergences.mean(), left_out.sum())
