r"""Updates of the parameters of switching linear dynamics given q(z) q(x).

None lets the bound plus log prior fall. With w = q(z), x' = [x_{t-1}; 1], sums over trials and bins, and Gaussian
priors of mean m and precision P,

    [A b]_k = (sum w_k E[x_t x'] + m P) (sum w_k E[x' x'] + P)^-1,

loadings and offsets likewise where values are Gaussian, by Newton steps of each neuron where they are counts; noise
variances by the root of a cubic, which the half-normal prior makes; p(z_1) by counting. Logits and weights of switches
climb by Newton steps on the concave bound of :mod:`mrgp.likelihoods.switching.switches`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mrgp.inference.variational_em.ascent import uphill
from mrgp.likelihoods.switching.posterior import Posterior, System, Trials, eta_of, expected
from mrgp.likelihoods.switching.switches import best_weights, log_normalizers, logits_of
from mrgp.parts.emissions.base import Expected
from mrgp.parts.switching import SwitchingDynamics

UNREAD = 1e12  # precision of loadings that a neuron has not
ROOTS = 30  # of Newton's method for a variance; it converges from above
LEAST = 1e-6  # of the scale of a variance's prior, below which it does not fall
HALVINGS = 8  # of a neuron's step that would let its bound fall
TRIED = (-0.5, -0.1, -0.02, 0.02, 0.1, 0.5)  # changes of the logarithm of a dispersion that are tried

type Priors = Mapping[str, Any]


class Regression(NamedTuple):
    """Mean and precision of independent Gaussian priors, of the shape of the coefficients each."""

    mean: Array
    precision: Array


def gaussian(prior: Any, shape: tuple[int, ...]) -> Regression:
    """Mean and precision of a Gaussian prior."""
    return Regression(jnp.broadcast_to(prior.mean, shape), jnp.broadcast_to(1 / prior.variance, shape))


# ---- dynamics --------------------------------------------------------------------------------------------------------


def dynamics_updated(
    dynamics: SwitchingDynamics, matrix: Regression, drift: Regression, posterior: Posterior, trials: Trials
) -> SwitchingDynamics:
    """Matrices A and drifts b that maximise the expected log density of the steps."""
    known = posterior.moments
    step = trials.inside[:, 1:, None] * posterior.states.single[:, 1:]
    square = jnp.einsum("btk,btij->kij", step, _with_one(known.square[:, :-1], known.mean[:, :-1]))
    product = jnp.einsum("btk,btij->kij", step, known.product[:, 1:])
    total = jnp.einsum("btk,bti->ki", step, known.mean[:, 1:])
    right = jnp.concatenate([product, total[..., None]], -1)
    mean = jnp.concatenate([matrix.mean, drift.mean[..., None]], -1)
    precision = jnp.concatenate([matrix.precision, drift.precision[..., None]], -1)
    both = _ridge(square[:, None], right, Regression(mean, precision))
    return dynamics._replace(matrix=both[..., :-1], drift=both[..., -1])


def noise_of_steps(dynamics: SwitchingDynamics, posterior: Posterior, trials: Trials) -> tuple[Array, Array]:
    """Mean square of each latent's process noise (latent,), and the number of steps.

    It is 1 where latents are measured by it.
    """
    known, A, b = posterior.moments, dynamics.matrix, dynamics.drift
    step = trials.inside[:, 1:, None] * posterior.states.single[:, 1:]
    square = _with_one(known.square[:, :-1], known.mean[:, :-1])
    both = jnp.concatenate([A, b[..., None]], -1)
    cross = jnp.concatenate([known.product[:, 1:], known.mean[:, 1:, :, None]], -1)
    of_state = jnp.einsum("btk,btij->kij", step, square)
    explained = jnp.einsum("kdi,kij,kdj->d", both, of_state, both)
    told = jnp.einsum("kdi,kdi->d", both, jnp.einsum("btk,btdi->kdi", step, cross))
    own = jnp.einsum("bt,btdd->d", trials.inside[:, 1:], known.square[:, 1:])
    count = trials.inside[:, 1:].sum()
    return (own - 2 * told + explained) / jnp.maximum(count, 1.0), count


def first_updated(
    dynamics: SwitchingDynamics, mean: Regression, spread: Any, concentration: Array, posterior: Posterior
) -> SwitchingDynamics:
    """Law of x_1 and of z_1; ``spread`` is the half-normal prior of variances."""
    known, n_trials = posterior.moments, len(posterior.bound)
    told = n_trials / dynamics.first_variance
    total = known.mean[:, 0].sum(0) / dynamics.first_variance
    center = (total + mean.mean * mean.precision) / (told + mean.precision)
    rest = (known.mean[:, 0] - center) ** 2 + jnp.diagonal(known.covariance[:, 0], axis1=-2, axis2=-1)
    variance = variances(rest.sum(0), jnp.asarray(float(n_trials)), spread)
    share = posterior.states.single[:, 0].sum(0) + concentration - 1
    return dynamics._replace(first_mean=center, first_variance=variance, first_state=share / share.sum())


def switches_updated(
    dynamics: SwitchingDynamics, priors: Mapping[str, Regression], posterior: Posterior, trials: Trials
) -> SwitchingDynamics:
    """Logits and weights of switches, by a Newton step.

    ``priors`` are by fields of the dynamics, those that are inferred.
    """
    known = posterior.moments
    mean, covariance = known.mean[:, :-1], known.covariance[:, :-1]
    pair = trials.inside[:, 1:, None, None] * posterior.states.pair
    there = pair.sum(-1)
    weights = best_weights(logits_of(dynamics, mean, covariance))

    def height(own: dict[str, Array]) -> Array:
        logits = logits_of(dynamics._replace(**own), mean, covariance)
        log_prior = sum(-0.5 * (p.precision * (own[n] - p.mean) ** 2).sum() for n, p in priors.items())
        return (pair * logits.mean).sum() - (there * log_normalizers(logits, weights)).sum() + log_prior

    return dynamics._replace(**uphill(height, {name: getattr(dynamics, name) for name in priors}))


# ---- readout ---------------------------------------------------------------------------------------------------------


def gaussian_readout(system: System, prior: Regression, spread: Any, posterior: Posterior, trials: Trials) -> System:
    """Loadings, offsets and noise of Gaussian values.

    ``prior`` is of [C d], (neuron, latent + 1).
    """
    square, seen = _with_one(posterior.moments.square, posterior.moments.mean), trials.seen
    n_neurons, size = prior.mean.shape
    flat = seen.reshape(-1, n_neurons)
    of_neurons = (flat.T @ square.reshape(-1, size**2)).reshape(n_neurons, size, size)
    known = jnp.concatenate([posterior.moments.mean, jnp.ones_like(trials.inside)[..., None]], -1)
    product = jnp.einsum("btn,bti->ni", trials.values, known)
    noise = system.readout.noise
    both = _ridge(of_neurons / noise[:, None, None], product / noise[:, None], prior)
    rest = (trials.values**2).sum((0, 1)) - 2 * (both * product).sum(-1)
    rest = rest + jnp.einsum("ni,nij,nj->n", both, of_neurons, both)
    return _with_readout(system, both, noise=variances(rest, flat.sum(0), spread))


def counts_readout(system: System, prior: Regression, posterior: Posterior, trials: Trials) -> System:
    """Loadings and offsets of counts, by a Newton step of every neuron; ``prior`` is of [C d]."""
    moments = posterior.moments
    C, d = system.loadings, system.readout.offset
    both, size = jnp.concatenate([C, d[:, None]], -1), C.shape[-1] + 1
    mean, variance = eta_of(C, d, moments)
    told = _seen(expected(system.readout, trials.values, mean, variance), trials)
    flat = (-1, len(C))
    slope, curvature = told.slope.reshape(flat), told.curvature.reshape(flat)
    x = jnp.concatenate([moments.mean, jnp.ones_like(trials.inside)[..., None]], -1).reshape(-1, size)
    V = jnp.pad(moments.covariance, [(0, 0), (0, 0), (0, 1), (0, 1)]).reshape(-1, size, size)
    of_neurons = (curvature.T @ V.reshape(-1, size**2)).reshape(-1, size, size)
    rest = both - prior.mean
    gradient = slope.T @ x - jnp.einsum("nij,nj->ni", of_neurons, both) - prior.precision * rest
    # What V c adds to x in the second derivatives is left out: steps are tried, and the matrix stays positive.
    outer = (curvature.T @ (x[:, :, None] * x[:, None, :]).reshape(-1, size**2)).reshape(-1, size, size)
    hessian = outer + of_neurons + prior.precision[:, :, None] * jnp.eye(size)
    step = jnp.linalg.solve(hessian, gradient[..., None])[..., 0]

    def height(both: Array) -> Array:
        mean, variance = eta_of(both[:, :-1], both[:, -1], moments)
        value = _seen(expected(system.readout, trials.values, mean, variance), trials).value
        return value.sum((0, 1)) - 0.5 * (prior.precision * (both - prior.mean) ** 2).sum(-1)

    before = height(both)

    def tried(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, share, best = state
        other = both + share[:, None] * step
        taken = height(other) >= before
        best = jnp.where((taken & (share > 0))[:, None], other, best)
        return count + 1, jnp.where(taken, 0.0, 0.5 * share), best

    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        return (state[0] < HALVINGS) & (state[1] > 0).any()

    start = jnp.zeros((), int), jnp.ones(len(both)), both
    return _with_readout(system, lax.while_loop(goes_on, tried, start)[2])


def counts_parameters(system: System, priors: Mapping[str, Any], posterior: Posterior, trials: Trials) -> System:
    """Parameters that counts have of their own, such as a dispersion (neuron,).

    They become the best of a few nearby values. ``priors`` are by field of the counts.
    """
    counts = system.readout.counts
    mean, variance = eta_of(system.loadings, system.readout.offset, posterior.moments)
    for name, prior in priors.items():

        def height(value: Array, name: str = name, prior: Any = prior, others: Any = counts) -> Array:
            changed = others.replace(**{name: value})
            terms = changed.expected(trials.values, mean, variance).value + changed.normalizer(trials.values)
            return jnp.where(trials.seen > 0, terms, 0.0).sum((0, 1)) + prior.log_prob(value)

        own = getattr(counts, name)
        tried = own * jnp.exp(jnp.asarray([0.0, *TRIED]))[:, None]
        best = jnp.argmax(lax.map(height, tried), 0)
        counts = counts.replace(**{name: jnp.take_along_axis(tried, best[None], 0)[0]})
    return system._replace(readout=system.readout._replace(counts=counts))


# ---- pieces ----------------------------------------------------------------------------------------------------------


def variances(squares: Array, count: Array, prior: Any) -> Array:
    """Most likely variances of Gaussian values under a half-normal prior.

    ``squares``, of any shape, are sums of squares of ``count`` values: with a prior of scale s the variance v solves
    v^3 / s^2 + count v / 2 = squares / 2.
    """
    cubic = (1 - 2 / np.pi) / prior.variance  # 1 / s^2
    positive = jnp.maximum(count, 1e-6)

    def step(_: int, v: Array) -> Array:
        return v - (cubic * v**3 + 0.5 * count * v - 0.5 * squares) / (3 * cubic * v**2 + 0.5 * positive)

    # What latents explain altogether has no likelihood.
    return jnp.maximum(lax.fori_loop(0, ROOTS, step, squares / positive), LEAST / jnp.sqrt(cubic))


def _ridge(square: Array, right: Array, prior: Regression) -> Array:
    """Coefficients (..., row, column), whose prior precisions differ by row and column."""
    left = square + prior.precision[..., :, None] * jnp.eye(right.shape[-1])
    return jnp.linalg.solve(left, (right + prior.precision * prior.mean)[..., None])[..., 0]


def _with_one(square: Array, mean: Array) -> Array:
    """E[x' x''] of x' = [x; 1]."""
    one = jnp.ones((*mean.shape[:-1], 1, 1))
    top = jnp.concatenate([square, mean[..., None]], -1)
    return jnp.concatenate([top, jnp.concatenate([mean[..., None, :], one], -1)], -2)


def _with_readout(system: System, both: Array, **changed: Array) -> System:
    readout = system.readout._replace(offset=both[:, -1], **changed)
    return System(system.dynamics, both[:, :-1], readout)


def _seen(told: Expected, trials: Trials) -> Expected:
    return Expected(*(jnp.where(trials.seen > 0, part, 0.0) for part in told))
