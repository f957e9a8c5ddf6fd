r"""Gaussian surrogate of a bound of counts: pseudo-observations of log-rates, near one q.

With eta' = E_q eta, s = E_q d log p / d eta and lambda = -E_q d^2 log p / d eta^2, averaged over the trials that share
a covariance, every count is replaced by

.. math::
    \ell(\eta) = s (\eta - \eta') - \lambda (\eta - \eta')^2 / 2 .

Integrated over x ~ N(0, K) it has the q that it was made from as its posterior, and where that q is the best one its
slopes by loadings, offsets, delays and kernels are those of the bound: E_q[(y - e^eta) x] = s m - lambda V C' (Stein).
What is far slower than a Gaussian likelihood, the search for q, is left out, while x is still integrated out.

Loadings also change how uncertain log-rates are, of which a Gaussian density of fixed lambda knows the slope alone: of
few spikes a climb cannot follow it far. **The bound by the q that pseudo-observations make elsewhere can be followed**
(:func:`held_bound`): it has those slopes too, is a bound at all parameters, and costs a smoother and a pass over the
counts (after Adam, Chang, Khan & Solin 2021, NeurIPS).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from mrgp.likelihoods.best_gaussian import Problem, information_of
from mrgp.likelihoods.gaussians import Fitted, Guess
from mrgp.likelihoods.reduction import Information

UNREAD = 1e-12  # of the squares of all loadings: those of a latent that no neuron reads are 0


class Surrogate(NamedTuple):
    """Pseudo-observations s + lambda eta' with precision lambda.

    Attributes:
        vectors: s + lambda eta', (time, trial, neuron).
        precision: lambda, (time, pattern, neuron).
        by_level: Sum of ``vectors`` over the trials of a condition, (time, condition, neuron).
        weight: Sum of lambda over them.
    """

    vectors: Array
    precision: Array
    by_level: Array
    weight: Array


def surrogate_of(problem: Problem, q: Fitted) -> Surrogate:
    """Make the surrogate of a bound around its q.

    It is the q of the pseudo-observations, also where it is not the best one: what is left of the slope of the bound by
    the means of latents is taken from s, where C'C has it come from.
    """
    groups, precision, C = problem.groups, q.precision, problem.loadings
    slope, eta = problem.bin_by_bin(lambda found, eta: (found.slope, eta), q.mean, q.covariance)
    square = C.T @ C
    back = jnp.linalg.solve(square + UNREAD * (1 + jnp.trace(square)) * jnp.eye(len(square)), C.T)
    vectors = slope - q.slope @ back + groups.of_trials(precision) * eta
    weight = jnp.broadcast_to(groups.of_trials(precision), vectors.shape)
    return Surrogate(vectors, precision, _summed(problem, vectors), _summed(problem, weight))


def log_density(problem: Problem, surrogate: Surrogate) -> Array:
    """Log density of pseudo-observations at the parameters of ``problem``, but for a constant."""
    level = problem.level
    constant = (surrogate.by_level * level - 0.5 * surrogate.weight * jnp.square(level)).sum()
    return constant + problem.latent.normalizer(information_in(problem, surrogate)).sum()


def held_bound(problem: Problem, surrogate: Surrogate) -> Array:
    """Bound of log p(y) of each trial by the q of pseudo-observations, (trial,).

    Loadings, latents and counts are those of ``problem``.
    """
    told, groups = information_in(problem, surrogate), problem.groups
    mean, covariance, log_det = problem.latent.smoother(len(groups.size))(told)
    dual = told.vectors - jnp.einsum("tbij,tbj->tbi", groups.of_trials(told.precision), mean)
    found = problem.scored(mean, dual, surrogate.precision, told.precision, covariance, log_det)
    return found.bound + problem.normalizers


def guess_of(problem: Problem, surrogate: Surrogate) -> Guess:
    """Start of a search for the best q: that of pseudo-observations."""
    return Guess(information_in(problem, surrogate).vectors, surrogate.precision)


def information_in(problem: Problem, surrogate: Surrogate) -> Information:
    """Information that pseudo-observations hold about the readouts, given loadings and offsets."""
    vectors = surrogate.vectors @ problem.loadings - _of_level(problem, surrogate.precision)
    return information_of(vectors, problem.in_readouts(surrogate.precision), problem.groups)


def _of_level(problem: Problem, precision: Array) -> Array:
    """C' lambda d of every trial, (time, trial, readout).

    Trials of one pattern and one condition have it in common.
    """
    C, groups, level, conditions = problem.loadings, problem.groups, problem.level, problem.conditions
    if precision.shape[1] * level.shape[1] > problem.y.shape[0]:
        return (groups.of_trials(precision) * level[:, conditions]) @ C
    found = jnp.einsum("tgn,tcn,ni->tgci", precision, jnp.broadcast_to(level, (len(precision), *level.shape[1:])), C)
    return found[:, groups.pattern, 0 if isinstance(conditions, slice) else conditions]


def _summed(problem: Problem, array: Array) -> Array:
    """Sum (time, trial, neuron) over the trials of each condition."""
    conditions = problem.conditions
    if isinstance(conditions, slice):
        return array.sum(1, keepdims=True)
    nothing = jnp.zeros((len(array), problem.level.shape[1], array.shape[2]), array.dtype)
    return nothing.at[:, conditions].add(array)
