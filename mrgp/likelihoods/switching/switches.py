r"""Expected log probabilities of switches whose logits depend on latents.

With logits u ~ N(mu, G) the expectation of their log-sum-exp has no closed form, but for any weights a that add to 1
(the tilted bound: Knowles & Minka 2011, NeurIPS)

.. math::
    E \log\sum_k e^{u_k} \le \tfrac12 a' G a + \log\sum_k \exp(\mu_k + \tfrac12 G_{kk} - (G a)_k),

best where a is the softmax of the exponents. The quadratic bound of Boehning (1992) is the looser the surer a switch
is, and sticky states are sure of most.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp

from mrgp.parts.switching import SwitchingDynamics

STEPS = 8  # towards the best weights, half of the way each; any weights give a bound


class Logits(NamedTuple):
    """Mean and covariance of the logits.

    Attributes:
        mean: (..., state, next state).
        covariance: Of the logits from each state, (..., state, next state, next state).
    """

    mean: Array
    covariance: Array


def logits_of(dynamics: SwitchingDynamics, mean: Array, covariance: Array) -> Logits:
    """Logits of all switches, of latents with mean (..., latent) and covariance."""
    rows, row_of = dynamics.rows, dynamics.row_of
    of_rows = jnp.einsum("...d,rd->...r", mean, rows)
    square = jnp.einsum("rd,...de,se->...rs", rows, covariance, rows)
    return Logits(dynamics.logits + of_rows[..., row_of], square[..., row_of[:, :, None], row_of[:, None, :]])


def best_weights(logits: Logits) -> Array:
    """Weights a of the bound, (..., state, next state), near the best."""
    weights = jax.nn.softmax(logits.mean, -1)
    for _ in range(STEPS):
        weights = 0.5 * (weights + jax.nn.softmax(_exponents(logits, weights), -1))
    return lax.stop_gradient(weights)


def log_normalizers(logits: Logits, weights: Array) -> Array:
    """Upper bound of the expected log-sum-exp of each state's logits, (..., state)."""
    square = jnp.einsum("...k,...kl,...l->...", weights, logits.covariance, weights)
    return 0.5 * square + logsumexp(_exponents(logits, weights), -1)


def log_probabilities(dynamics: SwitchingDynamics, mean: Array, covariance: Array) -> Array:
    """Lower bound of E log p(z_{t+1} = j | z_t = i, x_t), (..., state, next state)."""
    logits = logits_of(dynamics, mean, covariance)
    return logits.mean - log_normalizers(logits, best_weights(logits))[..., None]


def natural_gradient(dynamics: SwitchingDynamics, mean: Array, covariance: Array, pair: Array) -> tuple[Array, Array]:
    """Gaussian pseudo-observations of latents by the switches after them: precision and vector.

    They have the derivatives of the bound by means and covariances. ``pair`` are q(z_t, z_{t+1}), (..., state, next
    state).
    """
    logits = logits_of(dynamics, mean, covariance)
    weights = best_weights(logits)
    share = jax.nn.softmax(_exponents(logits, weights), -1)
    n_states, rows, row_of = dynamics.n_states, dynamics.rows, dynamics.row_of
    there = pair.sum(-1)
    away = jnp.eye(n_states) - weights[..., None, :]  # of each next state from the weights, (..., state, k, next state)
    square = jnp.einsum("...i,...ik,...ika,...ikb->...iab", there, share, away, away)
    own = jax.nn.one_hot(row_of, len(rows))  # (state, next state, row)
    of_rows = jnp.einsum("...iab,iar,ibs->...rs", square, own, own)
    precision = jnp.einsum("rd,...rs,se->...de", rows, of_rows, rows)
    # d/dmu of -E lse is the softmax of the exponents, whatever the weights.
    slope = jnp.einsum("...ij,ijr,rd->...d", pair - there[..., None] * share, own, rows)
    return precision, slope + jnp.einsum("...de,...e->...d", precision, mean)


def _exponents(logits: Logits, weights: Array) -> Array:
    diagonal = jnp.diagonal(logits.covariance, axis1=-2, axis2=-1)
    return logits.mean + 0.5 * diagonal - jnp.einsum("...kl,...l->...k", logits.covariance, weights)
