r"""Structured q: exact posteriors of Markov Gaussian processes given factors of bins.

x are the readouts of delayed Gaussian processes (:mod:`mrgp.likelihoods.base`), p(x) their prior. An encoder gives
every bin of every trial a Gaussian factor exp(-(x_t - c_t)' Lambda_t (x_t - c_t) / 2), and

    q(x) = p(x) prod_t factor_t(x_t) / Z

is found by the Kalman recursions, with a covariance of its own for every trial, in O(time). In closed form

    KL(q || p) = E_q[sum_t log factor_t(x_t)] - log Z,      Z = E_p[prod_t factor_t(x_t)].

**Densities are relative to the prior**: a state space has fewer random numbers than a trial has readouts times bins, or
more, and p(x) alone is never needed. ``MarkovPrior.log_prob`` is 0, and ``MarkovPosterior.log_prob`` is log q(x)/p(x),
so that their difference is exact wherever one of x is asked for, as importance weights do.
"""

from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.scipy.linalg import solve_triangular
from numpyro.distributions import Distribution, constraints, kl_divergence

from mrgp.likelihoods.recursions.each_trial import (
    Steps,
    log_normalizers,
    smoothed_covariances,
    smoothed_means,
    steps_of,
)
from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout
from mrgp.likelihoods.recursions.smoother import sample_prior
from mrgp.likelihoods.statespace.assemble import Latents, Space


class Factors(NamedTuple):
    """Gaussian factors exp(-(x - c)' Lambda (x - c) / 2) of bins, Lambda = F F'.

    Attributes:
        centers: c, (trial, time, readout).
        roots: F, (trial, time, readout, readout); 0 where nothing is known.
    """

    centers: Array
    roots: Array

    def log_of(self, value: Array) -> Array:
        """Log of the factors at readouts (trial, time, readout), summed over time."""
        return -0.5 * (_by_root(self.roots, value - self.centers) ** 2).sum((-2, -1))


class Moments(NamedTuple):
    """Moments of q.

    Attributes:
        mean: E[x], (trial, time, readout).
        covariance: cov(x_t) of every bin, (trial, time, readout, readout).
        log_normalizer: log Z, (trial,).
        steps: Of the filter, by which others can be drawn.
    """

    mean: Array
    covariance: Array
    log_normalizer: Array
    steps: Steps


class MarkovPrior(Distribution):
    """Readouts of delayed Gaussian processes a priori, (time, readout) each trial.

    Args:
        latents: Delays and kernel parameters, in bins.
        space: State space that represents them, with one bin per step.
        n_bins: Bins per trial.
        n_trials: Trials.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)
    pytree_data_fields = ("latents",)
    pytree_aux_fields = ("space", "n_bins")

    def __init__(self, latents: Latents, space: Space, n_bins: int, n_trials: int) -> None:
        if space.window.step != 1 or latents.delay.shape[0] != 1:
            raise ValueError("structured q needs one bin per step, and delays that stay during a trial")
        self.latents, self.space, self.n_bins = latents, space, n_bins
        super().__init__((n_trials,), (n_bins, space.prior.assignment.n_readouts), validate_args=False)

    def assembled(self) -> tuple[Dynamics, StateReadout]:
        """Dynamics of the states, and how readouts are read from them."""
        return self.space.assemble(self.latents)

    def log_prob(self, value: Array) -> Array:
        """0: densities are relative to this one."""
        return jnp.zeros(jnp.broadcast_shapes(value.shape[:-2], self.batch_shape))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw readouts, sample_shape + (trial, time, readout)."""
        shape = (*sample_shape, *self.batch_shape)
        drawn = sample_prior(key, *self.assembled(), self.n_bins, int(np.prod(shape))).readouts
        return jnp.swapaxes(drawn, 0, 1).reshape(*shape, *self.event_shape)

    @property
    def mean(self) -> Array:
        return jnp.zeros((*self.batch_shape, *self.event_shape))

    @property
    def variance(self) -> Array:
        return jnp.ones((*self.batch_shape, *self.event_shape))


class MarkovPosterior(Distribution):
    """Posterior of readouts given Gaussian factors of their bins.

    Args:
        prior: The readouts a priori.
        factors: Of every trial and bin.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"centers": constraints.real, "roots": constraints.real}
    support = constraints.independent(constraints.real, 2)
    reparametrized_params: ClassVar[list[str]] = ["centers", "roots"]  # by which q of a trial can be refined
    pytree_data_fields = ("prior", "factors", "moments")

    def __init__(self, prior: MarkovPrior, factors: Factors) -> None:
        self.prior = prior
        self._take(factors)
        super().__init__(prior.batch_shape, prior.event_shape, validate_args=False)

    def _take(self, factors: Factors) -> None:
        """Set the factors, and what follows from them."""
        self.factors, self.moments = factors, moments(self.prior, factors)

    @property
    def centers(self) -> Array:
        """Centers of the factors; to set them solves for q anew."""
        return self.factors.centers

    @centers.setter
    def centers(self, centers: Array) -> None:
        self._take(self.factors._replace(centers=centers))

    @property
    def roots(self) -> Array:
        """Roots of the factors' precisions; to set them solves for q anew."""
        return self.factors.roots

    @roots.setter
    def roots(self, roots: Array) -> None:
        self._take(self.factors._replace(roots=roots))

    @property
    def mean(self) -> Array:
        return self.moments.mean

    @property
    def variance(self) -> Array:
        return jnp.diagonal(self.moments.covariance, axis1=-2, axis2=-1)

    def log_prob(self, value: Array) -> Array:
        """log q(x) - log p(x) of each trial, in nats."""
        return self.factors.log_of(value) - self.moments.log_normalizer

    def divergence(self) -> Array:
        """KL(q || p) of each trial, in nats."""
        roots = self.factors.roots
        told = ((self.moments.covariance @ roots) * roots).sum((-3, -2, -1))  # tr(Lambda cov)
        return self.factors.log_of(self.mean) - 0.5 * told - self.moments.log_normalizer

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw readouts of all trials together, sample_shape + (trial, time, readout).

        Draws are joint over time. Their slopes are those of each bin's mean and covariance alone, exact for
        expectations of what is a sum over bins, as log p(y | x) is.
        """
        if sample_shape:
            keys = random.split(key, sample_shape)
            draw = self.sample
            for _ in sample_shape:
                draw = jax.vmap(draw)
            return draw(keys)
        held: Self = jax.tree.map(lax.stop_gradient, self)
        root, mean = jnp.linalg.cholesky(self.moments.covariance), self.mean
        beside = held._joint(key) - held.mean
        white = solve_triangular(lax.stop_gradient(root), beside[..., None], lower=True)
        return mean + (root @ white)[..., 0]

    def _joint(self, key: Array) -> Array:
        """Draw readouts jointly over time.

        A draw from the prior with factors of its own is corrected by the smoothed mean of the difference.
        """
        prior_key, factor_key = random.split(key)
        first, roots = self.prior.sample(prior_key), self.factors.roots
        measured = _by_root(roots, first) + random.normal(factor_key, first.shape, first.dtype)
        back, _ = smoothed_means(*self.prior.assembled(), _last(roots), self.moments.steps, _last(measured))
        return self.mean + first - jnp.moveaxis(back, -1, 0)


def moments(prior: MarkovPrior, factors: Factors) -> Moments:
    """Filter and smooth every trial with its own factors."""
    model, roots = prior.assembled(), _last(factors.roots)
    steps = steps_of(*model, roots)
    mean, innovations = smoothed_means(*model, roots, steps, _last(_by_root(factors.roots, factors.centers)))
    covariance = smoothed_covariances(*model, steps)
    first = jnp.moveaxis(mean, -1, 0), jnp.moveaxis(covariance, -1, 0)
    return Moments(*first, log_normalizers(steps, innovations), steps)


def _by_root(roots: Array, value: Array) -> Array:
    """F' x, (trial, time, readout)."""
    return (roots * value[..., None]).sum(-2)


def _last(array: Array) -> Array:
    """The same with trials along the last axis."""
    return jnp.moveaxis(array, 0, -1)


@kl_divergence.register(MarkovPosterior, MarkovPrior)
def _divergence(posterior: MarkovPosterior, prior: MarkovPrior) -> Array:
    """KL(q || p) of each trial; the prior is that of the posterior."""
    return posterior.divergence()
