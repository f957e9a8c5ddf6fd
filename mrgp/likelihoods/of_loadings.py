r"""Slope and curvature of a bound of counts by the loadings of each neuron.

At a q of the latents, counts of a neuron with loadings c have the expected log-density
sum_bt E_q log p(y_bt | c' x_t + d_t), whose first and second derivatives by c are, with eta ~ N(m, v) under q and x the
neuron's own readouts (Stein's lemma),

.. math::
    g = \sum_{bt} s_{bt} E[x_{bt}] - \lambda_{bt} V_t c, \qquad
    H = \sum_{bt} \lambda_{bt} (E[x_{bt}] E[x_{bt}]' + V_t), \qquad
    s = \frac{\partial l}{\partial m}, \quad \lambda = -2 \frac{\partial l}{\partial v},

H up to how lambda itself changes.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from mrgp.likelihoods.best_gaussian import Problem
from mrgp.likelihoods.gaussians import Fitted


class OfLoadings(NamedTuple):
    """Derivatives of a bound by loadings, neuron by neuron.

    Attributes:
        slope: g, (neuron, column); 0 where a neuron does not use a column.
        curvature: H, (neuron, column, column); 0 there.
    """

    slope: Array
    curvature: Array


def of_loadings(problem: Problem, q: Fitted) -> OfLoadings:
    """Compute the derivatives of a bound by loadings at its q."""
    latent, groups, assignment = problem.latent, problem.groups, problem.latent.prior.assignment
    of_region = assignment.readout_of_column
    place = of_region[assignment.region_of_neuron]  # (neuron, column)
    used = jnp.asarray(assignment.used, q.mean.dtype)
    own = latent.loadings * used
    found = problem.bin_by_bin(lambda found, _: (found.slope, found.curvature), q.mean, q.covariance)

    def add(total: OfLoadings, bin_: tuple[Array, ...]) -> tuple[OfLoadings, None]:
        mean, V, slope, precision = bin_
        weight = groups.total(precision)  # (pattern, neuron)
        blocks = V[:, of_region[:, :, None], of_region[:, None, :]]  # (pattern, region, column, column)
        spread = jnp.einsum("gn,rn,grcd->ncd", weight, assignment.member, blocks)
        x = mean[:, place]  # (trial, neuron, column)
        curvature = spread + jnp.einsum("bn,bnc,bnd->ncd", precision, x, x)
        first = jnp.einsum("bn,bnc->nc", slope, x) - jnp.einsum("ncd,nd->nc", spread, own)
        return OfLoadings(total.slope + first, total.curvature + curvature), None

    nothing = OfLoadings(jnp.zeros_like(own), jnp.zeros((*own.shape, own.shape[1]), own.dtype))
    total, _ = lax.scan(add, nothing, (q.mean, q.covariance, *found))
    return OfLoadings(total.slope * used, total.curvature * used[:, :, None] * used[:, None, :])
