r"""Structured posterior q(z) q(x) of switching linear dynamics, and the bound of log p(y).

.. math::
    \log p(y) \ge \sum_t E \log p(y_t \mid x_t) + E \log p(x_1) + H[q(x)] + \log Z[q(x)]

Given q(x), the best q(z) is a hidden Markov chain whose potentials are the expected log densities of the steps of x and
of the switches; log Z is its normalizer. Given q(z), the best q(x) is a Gaussian Markov chain where values are Gaussian
and switches depend on no latent. Elsewhere its natural parameters move along the natural gradient (Khan & Lin 2017,
AISTATS), trial by trial the whole way or half of it, and so on, so that the bound never falls.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mrgp.likelihoods.switching.chain import Chain, Moments, moments
from mrgp.likelihoods.switching.filtered import filtered_states
from mrgp.likelihoods.switching.hidden_states import States, forward_backward, value_of
from mrgp.likelihoods.switching.switches import log_probabilities, natural_gradient
from mrgp.parts.emissions.base import Expected
from mrgp.parts.readout import Readout
from mrgp.parts.switching import SwitchingDynamics

HALVINGS = 12  # of a step that would let the bound fall, before it is not taken
OF_TRIALS = ("values", "seen", "inside")  # parts of trials that have an axis of them
ROUNDING = 1e-10  # of the bound's size: what a step may lose by rounding


class System(NamedTuple):
    """Parameters of the model.

    Attributes:
        dynamics: Of latents and states.
        loadings: (neuron, latent), 0 where a neuron does not read a latent.
        readout: Of the neurons.
    """

    dynamics: SwitchingDynamics
    loadings: Array
    readout: Readout


class Trials(NamedTuple):
    """Trials to be explained.

    Attributes:
        values: (trial, time, neuron), 0 where missing.
        seen: 1 where an entry was observed, of the same shape.
        inside: 1 for bins before the end of a trial, (trial, time).
        weight: Of neurons in the bound, (neuron,), where they are copies of which one is there; 1 else.
    """

    values: Array
    seen: Array
    inside: Array
    weight: Array | float = 1.0


class Posterior(NamedTuple):
    """Posterior of trials.

    Attributes:
        chain: q(x) by its natural parameters.
        moments: Those of q(x).
        states: q(z).
        bound: Of log p(y), (trial,), nats.
    """

    chain: Chain
    moments: Moments
    states: States
    bound: Array


def first_posterior(system: System, trials: Trials) -> Posterior:
    """Posterior that knows nothing: latents around 0, all states as likely.

    Its bound is with these states, not with the best.
    """
    n_trials, n_bins = trials.inside.shape
    size, n_states = system.dynamics.n_latents, system.dynamics.n_states
    eye = jnp.broadcast_to(jnp.eye(size), (n_trials, n_bins, size, size))
    chain = Chain(eye, jnp.zeros_like(eye), jnp.zeros((n_trials, n_bins, size)))
    share = 1 / n_states
    single = jnp.full((n_trials, n_bins, n_states), share)
    states = States(single, jnp.full((n_trials, n_bins - 1, n_states, n_states), share**2))
    known, of = moments(chain, trials.inside), system.dynamics
    value = value_of(states, jnp.log(of.first_state), potentials(of, known, trials.inside))
    return Posterior(chain, known, states, value + known.entropy + _of_latents(system, trials, known))


def evaluated(system: System, trials: Trials, chain: Chain) -> Posterior:
    """Posterior of a given q(x), with the best q(z)."""
    return with_moments(system, trials, chain, moments(chain, trials.inside))


def with_moments(system: System, trials: Trials, chain: Chain, known: Moments) -> Posterior:
    """Posterior of a q(x) whose moments are known, with the best q(z)."""
    states, normalizer = states_given(system.dynamics, known, trials.inside)
    return Posterior(chain, known, states, normalizer + known.entropy + _of_latents(system, trials, known))


def improved(system: System, trials: Trials, posterior: Posterior) -> Posterior:
    """Move q(x) towards its best given q(z), then make q(z) the best: no trial's bound falls.

    ``posterior`` has its bound under this system.
    """
    target = best_chain(system, trials, posterior)
    least = posterior.bound - ROUNDING * jnp.abs(posterior.bound)

    def tried(state: tuple[Array, Array, Posterior]) -> tuple[Array, Array, Posterior]:
        count, share, best = state
        other = evaluated(system, trials, posterior.chain.towards(target, share))
        taken = jnp.isfinite(other.bound) & (other.bound >= least)
        waits = share > 0

        def chosen(new: Array, old: Array) -> Array:
            return jnp.where((taken & waits).reshape(-1, *([1] * (new.ndim - 1))), new, old)

        return count + 1, jnp.where(taken, 0.0, 0.5 * share), jax.tree.map(chosen, other, best)

    def goes_on(state: tuple[Array, Array, Posterior]) -> Array:
        return (state[0] < HALVINGS) & (state[1] > 0).any()

    start = jnp.zeros((), int), jnp.ones_like(posterior.bound), posterior
    return lax.while_loop(goes_on, tried, start)[2]


def converged(system: System, trials: Trials, posterior: Posterior, within: float, most: int) -> Posterior:
    """Improve a posterior until no trial gains over ``within`` nats, ``most`` times at most."""

    def goes_on(state: tuple[Array, Array, Posterior]) -> Array:
        return (state[0] < most) & (state[1] > within)

    def better(state: tuple[Array, Array, Posterior]) -> tuple[Array, Array, Posterior]:
        count, _, before = state
        after = improved(system, trials, before)
        return count + 1, (after.bound - before.bound).max(), after

    return lax.while_loop(goes_on, better, (jnp.zeros((), int), jnp.asarray(jnp.inf), posterior))[2]


def with_filtered_states(system: System, trials: Trials, posterior: Posterior) -> Posterior:
    """Give a posterior the states that a filter finds, with q(x) the better for them."""
    precision, vector, _ = _of_readouts(system, trials, posterior.moments)
    states = filtered_states(system.dynamics, precision, vector)
    fresh = posterior._replace(states=states, bound=jnp.full_like(posterior.bound, -jnp.inf))
    return improved(system, trials, fresh)


def searched(system: System, trials: Trials, within: float, most: int) -> Posterior:
    """Search for posteriors from nothing known and from states of a filter; keep the higher."""
    first = first_posterior(system, trials)
    if system.dynamics.n_states == 1:
        return converged(system, trials, first, within, most)
    filtered = with_filtered_states(system, trials, improved(system, trials, first))
    twice = jax.tree.map(lambda one, other: jnp.concatenate([one, other]), first, filtered)
    again = trials._replace(**{name: jnp.concatenate([getattr(trials, name)] * 2) for name in OF_TRIALS})
    found = converged(system, again, twice, within, most)
    one, other = np.arange(len(first.bound)), len(first.bound) + np.arange(len(first.bound))
    chosen = jnp.where(found.bound[other] > found.bound[one], other, one)
    return jax.tree.map(lambda part: part[chosen], found)


# ---- the terms of the bound ------------------------------------------------------------------------------------------


def states_given(dynamics: SwitchingDynamics, known: Moments, inside: Array) -> tuple[States, Array]:
    """Best q(z) given q(x), and its log normalizer, (trial,)."""
    return forward_backward(jnp.log(dynamics.first_state), potentials(dynamics, known, inside))


def potentials(dynamics: SwitchingDynamics, known: Moments, inside: Array) -> Array:
    """Expected log densities of steps, (trial, time - 1, state, next state).

    After a trial's end there is nothing in them.
    """
    switches = log_probabilities(dynamics, known.mean[:, :-1], known.covariance[:, :-1])
    whole = switches + log_steps(dynamics, known)[..., None, :]
    return jnp.where(inside[:, 1:, None, None] > 0, whole, -np.log(dynamics.n_states))


def log_steps(dynamics: SwitchingDynamics, known: Moments) -> Array:
    """E log N(x_t; A_k x_{t-1} + b_k, I) of every step, (trial, time - 1, state)."""
    A, b = dynamics.matrix, dynamics.drift
    square, product, mean = known.square, known.product[:, 1:], known.mean
    own = jnp.trace(square[:, 1:], axis1=-2, axis2=-1)[..., None]
    before = jnp.einsum("btde,kde->btk", square[:, :-1], jnp.einsum("kcd,kce->kde", A, A))
    cross = jnp.einsum("btde,kde->btk", product, A)
    drift = jnp.einsum("btd,kd->btk", mean[:, 1:], b) - jnp.einsum("btd,kcd,kc->btk", mean[:, :-1], A, b)
    whole = own + before - 2 * cross - 2 * drift + (b**2).sum(-1)
    return -0.5 * whole - 0.5 * A.shape[-1] * np.log(2 * np.pi)


def _of_latents(system: System, trials: Trials, known: Moments) -> Array:
    """E log p(x_1) + E log p(y | x) of each trial, (trial,)."""
    return _of_first(system.dynamics, known) + _of_values(system, trials, known)


def _of_first(dynamics: SwitchingDynamics, known: Moments) -> Array:
    """E log p(x_1) of each trial, (trial,)."""
    mean, variance = known.mean[:, 0], jnp.diagonal(known.covariance[:, 0], axis1=-2, axis2=-1)
    scaled = ((mean - dynamics.first_mean) ** 2 + variance) / dynamics.first_variance
    return -0.5 * (scaled + jnp.log(2 * np.pi * dynamics.first_variance)).sum(-1)


def eta_of(loadings: Array, offset: Array, known: Moments) -> tuple[Array, Array]:
    """Mean and variance of eta, (trial, time, neuron) each."""
    size = loadings.shape[-1]
    square = (loadings[:, :, None] * loadings[:, None, :]).reshape(-1, size**2)
    flat = known.covariance.reshape(*known.covariance.shape[:2], size**2)
    return known.mean @ loadings.T + offset, flat @ square.T


def expected(readout: Readout, values: Array, mean: Array, variance: Array) -> Expected:
    """Expected log density of every entry where eta is N(mean, variance), and its derivatives."""
    if readout.counts is not None:
        return readout.counts.expected(values, mean, variance)
    rest, noise = values - mean, readout.noise
    value = -0.5 * ((rest**2 + variance) / noise + jnp.log(2 * np.pi * noise))
    return Expected(value, rest / noise, jnp.broadcast_to(1 / noise, rest.shape))


def _of_values(system: System, trials: Trials, known: Moments) -> Array:
    """E log p(y | x) of each trial, (trial,)."""
    return (of_entries(system, trials, known) * trials.weight).sum((1, 2))


def of_entries(system: System, trials: Trials, known: Moments) -> Array:
    """E log p(y | x) of every entry, 0 where it is missing, (trial, time, neuron)."""
    readout, (mean, variance) = system.readout, eta_of(system.loadings, system.readout.offset, known)
    value = expected(readout, trials.values, mean, variance).value
    if readout.counts is not None:
        value = value + readout.counts.normalizer(trials.values)
    return jnp.where(trials.seen > 0, value, 0.0)


def best_chain(system: System, trials: Trials, posterior: Posterior) -> Chain:
    """Best q(x) given q(z), under a quadratic of each term around the present q(x)."""
    dynamics, known, states, inside = system.dynamics, posterior.moments, posterior.states, trials.inside
    eye, A, b = jnp.eye(dynamics.n_latents), dynamics.matrix, dynamics.drift
    step = inside[:, 1:, None] * states.single[:, 1:]  # (trial, time - 1, state)
    precision, vector, link = _of_readouts(system, trials, known)

    later = jnp.einsum("btk,kcd,kce->btde", step, A, A)
    drift = jnp.einsum("btk,kd->btd", step, b)
    back = jnp.einsum("btk,kcd,kc->btd", step, A, b)
    of_switches, to_switches = natural_gradient(
        dynamics, known.mean[:, :-1], known.covariance[:, :-1], inside[:, 1:, None, None] * states.pair
    )
    precision = precision.at[:, 1:].add(eye).at[:, :-1].add(later + of_switches)
    precision = precision.at[:, 0].add(jnp.diag(1 / dynamics.first_variance))
    vector = vector.at[:, 1:].add(drift).at[:, :-1].add(to_switches - back)
    vector = vector.at[:, 0].add(dynamics.first_mean / dynamics.first_variance)
    link = link.at[:, 1:].add(jnp.einsum("btk,kde->btde", step, A))
    return Chain(precision, link, vector)


def _of_readouts(system: System, trials: Trials, known: Moments) -> tuple[Array, Array, Array]:
    """Precisions and vectors that values add to each bin, and links of zero."""
    C, size = system.loadings, system.dynamics.n_latents
    mean, variance = eta_of(C, system.readout.offset, known)
    told = expected(system.readout, trials.values, mean, variance)
    slope, curvature = (jnp.where(trials.seen > 0, part * trials.weight, 0.0) for part in (told.slope, told.curvature))
    square = (C[:, :, None] * C[:, None, :]).reshape(-1, size**2)
    precision = (curvature @ square).reshape(*curvature.shape[:2], size, size)
    vector = slope @ C + jnp.einsum("btde,bte->btd", precision, known.mean)
    return precision, vector, jnp.zeros_like(precision)
