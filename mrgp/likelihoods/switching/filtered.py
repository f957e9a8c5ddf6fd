r"""States of switching linear dynamics by a filter that keeps one Gaussian for each state.

Values are taken as Gaussian pseudo-observations of latents, of precision :math:`\Lambda_t` and vector :math:`h_t`. In
each bin every pair of states has a Gaussian of its own, of mean m and covariance P before the bin is seen; it explains
the bin by

.. math:: \log \int N(x; m, P)\, e^{h'x - x'\Lambda x / 2}\, dx
    = -\tfrac12 \log |I + P\Lambda| + \tfrac12 (h'\hat x + h'm - m'\Lambda\hat x), \qquad
    \hat x = (I + P\Lambda)^{-1}(m + P h),

and Gaussians that end in the same state become one with their mean and covariance (generalized pseudo-Bayes of second
order: Bar-Shalom, Li & Kirubarajan 2001, Estimation with Applications to Tracking and Navigation, section 11.6). Here
latents know their state. A search for q(z) q(x), in which they do not, may begin with such states: from states that
are all as likely it often ends far below.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp

from mrgp.likelihoods.switching.hidden_states import States
from mrgp.likelihoods.switching.switches import log_probabilities
from mrgp.parts.switching import SwitchingDynamics


class Gaussians(NamedTuple):
    """Weights and moments of latents in each state.

    Attributes:
        log_weight: Of the states, (..., state).
        mean: (..., state, latent).
        covariance: (..., state, latent, latent).
    """

    log_weight: Array
    mean: Array
    covariance: Array


def filtered_states(dynamics: SwitchingDynamics, precision: Array, vector: Array) -> States:
    """Find states of trials from pseudo-observations of their latents.

    ``precision`` is (trial, time, latent, latent), ``vector`` (trial, time, latent).
    """
    return jax.vmap(lambda precision, vector: _filtered(dynamics, precision, vector))(precision, vector)


def _filtered(of: SwitchingDynamics, precision: Array, vector: Array) -> States:
    first, covariance = of.first_mean, jnp.diag(of.first_variance)
    mean, covariance, _ = seen(first, covariance, precision[0], vector[0])
    each = of.n_states
    start = Gaussians(jnp.log(of.first_state), *(jnp.stack([part] * each) for part in (mean, covariance)))
    switch_of = jax.vmap(lambda mean, covariance: log_probabilities(of, mean, covariance))
    states = jnp.arange(each)

    def step(before: Gaussians, now: tuple[Array, Array]) -> tuple[Gaussians, Array]:
        switches = switch_of(before.mean, before.covariance)[states, states]  # (state, next state)
        mean = jnp.einsum("jde,ie->ijd", of.matrix, before.mean) + of.drift
        covariance = jnp.einsum("jde,ief,jgf->ijdg", of.matrix, before.covariance, of.matrix) + jnp.eye(of.n_latents)
        pairs = jax.vmap(jax.vmap(lambda mean, covariance: seen(mean, covariance, *now)))
        mean, covariance, evidence = pairs(mean, covariance)
        whole = before.log_weight[:, None] + switches + evidence
        whole = whole - logsumexp(whole)
        weight = logsumexp(whole, 0)
        share = jnp.exp(whole - weight)  # of the states before, for each now
        center = jnp.einsum("ij,ijd->jd", share, mean)
        rest = mean - center
        spread = jnp.einsum("ij,ijde->jde", share, covariance + rest[..., :, None] * rest[..., None, :])
        return Gaussians(weight, center, spread), share

    last, shares = lax.scan(step, start, (precision[1:], vector[1:]))

    def back(after: Array, share: Array) -> tuple[Array, tuple[Array, Array]]:
        pair = share * after
        return pair.sum(1), (pair, after)

    single, (pair, later) = lax.scan(back, jnp.exp(last.log_weight), shares, reverse=True)
    return States(jnp.concatenate([single[None], later]), pair)


def seen(mean: Array, covariance: Array, precision: Array, vector: Array) -> tuple[Array, Array, Array]:
    """Mean and covariance of latents after a pseudo-observation, and its evidence."""
    whole = jnp.eye(len(mean)) + covariance @ precision
    right = jnp.concatenate([covariance, (mean + covariance @ vector)[:, None]], 1)
    both = jnp.linalg.solve(whole, right)
    after, spread = both[:, -1], both[:, :-1]
    told = 0.5 * (vector @ (after + mean) - mean @ precision @ after)
    return after, 0.5 * (spread + spread.T), told - 0.5 * jnp.linalg.slogdet(whole)[1]
