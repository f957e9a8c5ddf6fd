r"""Closed-form updates of variational Bayes (Gokcen et al. 2023, mDLAG, NeurIPS, appendix B).

They need the moments of the optimal q(x), which are derivatives of the normalizer log Z(b, Lambda) of ``bound``,

    E[x_t] = d log Z / d b_t,        sum_t E[x_t x_t'] = -2 d log Z / d Lambda.

Where noise remembers, values, latents and the constant 1 of offsets are their innovations over sqrt(1 - phi^2), whose
noise is white and has the variance of the noise itself (see :mod:`mrgp.parts.emissions.autocorrelated`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.inference.density import Sites
from mrgp.inference.variational_bayes.bound import Setting, alpha_posterior, priors_of, told_of_offsets, trace_of
from mrgp.parts.emissions.autocorrelated import innovations
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.missing import present
from mrgp.recordings.recording import MultiRegionData

CYCLES = 5  # of closed-form updates for one evaluation of the moments
ALPHAS = 50  # on the grid of relevances from which loadings at zero choose the best for them


class Moments(NamedTuple):
    """Sums over the observed entries of each neuron, in the columns of its region.

    Attributes:
        xx: sum E[x x'], (neuron, column, column).
        yx: sum y E[x], (neuron, column); y less its condition's course and the distribution's ``origin``.
        x: sum 1 E[x], (neuron, column), 1 being what the offset is multiplied by.
        y: sum 1 y, (neuron,).
        yy: sum y^2, (neuron,).
    """

    xx: Array
    yx: Array
    x: Array
    y: Array
    yy: Array


def _moments(distribution: Any, data: MultiRegionData) -> Moments:
    """Compute the moments from the derivatives of the normalizer."""
    information = distribution.information(data.values)
    values, one, share = _whitened(distribution, data.values)

    def total(vectors: Array, precision: Array) -> Array:
        return data.total(distribution.normalizer(information._replace(vectors=vectors, precision=precision)))

    means, squares = jax.grad(total, (0, 1))(information.vectors, information.precision)
    second = -(squares + jnp.swapaxes(squares, -1, -2))  # (time or 1, pattern, readout, readout)
    assignment = distribution.prior.assignment
    missing = distribution.patterns(data.values.shape[0])
    neurons = data.values.shape[-1]
    yx = jnp.einsum("btn,tbi->ni", values, means)
    if missing.observed is None:
        xx = jnp.broadcast_to(second.sum((0, 1)), (neurons, *second.shape[2:]))
        x = jnp.broadcast_to(one.T @ means.sum(1), yx.shape)
    else:
        seen = missing.observed.astype(means.dtype)
        xx = jnp.einsum("gtn,tgij->nij", seen, second)
        x = jnp.einsum("btn,tbi->ni", seen[missing.pattern] * one, means)
    place = share[:, None, None] * columns_from_readouts(assignment, means.dtype)
    return Moments(
        jnp.einsum("nci,nij,ndj->ncd", place, xx, place), jnp.einsum("nci,ni->nc", place, yx),
        jnp.einsum("nci,ni->nc", place, x), data.total((one * values).sum(1)), data.total((values**2).sum(1)),
    )  # fmt: skip


def _whitened(distribution: Any, values: Any) -> tuple[Array, Array, Array]:
    """Values whose noise is white, and what stands for 1 and for the latents' scale there.

    Returns centred values (trial, time, neuron), 0 where missing; the constant 1 (time, neuron or 1); and by what
    readouts are to be multiplied, (neuron,).
    """
    centred, phi = distribution.centred(values), distribution.autocorrelation
    if phi is None:
        return centred, jnp.ones((centred.shape[1], 1)), jnp.ones(centred.shape[2])
    phi = phi[distribution.prior.assignment.region_of_neuron]
    share = (1 - phi**2) ** -0.5
    one = innovations(jnp.ones((1, *centred.shape[1:])), phi)[0] * share
    there = present(distribution.patterns(len(centred)), centred.shape[1])
    return innovations(centred, phi) * there * share, one, share


def columns_from_readouts(assignment: Any, dtype: Any) -> Array:
    """Table of the readout that each column multiplies, 0/1, (neuron, column, readout).

    The columns are those of a neuron's loadings.
    """
    readout = assignment.readout_of_column[assignment.region_of_neuron][:, :, None]
    return jnp.asarray(assignment.used[:, :, None] & (readout == np.arange(assignment.n_readouts)), dtype)


@partial(jax.jit, static_argnums=0)
def update(model: Callable[..., None], sites: Sites, setting: Setting) -> tuple[Sites, Array]:
    """Update q(C), q(alpha), q(phi) and q(d) in closed form, given the optimal q(x).

    Returns new means, and new covariances of the loadings.
    """
    data, covariance, count, _, living = setting
    trace = trace_of(model, data, sites)
    prior, distribution = priors_of(trace), trace["y"]["fn"].with_spread(covariance)
    assignment = distribution.prior.assignment
    used = jnp.asarray(assignment.used)
    sums, origin, told = _moments(distribution, data), distribution.level, told_of_offsets(distribution, setting)
    eye = jnp.eye(assignment.n_columns)
    both = used[:, :, None] & used[:, None, :]
    # A loading that is held at zero is independent of the others.
    joined = both & ((living[:, :, None] & living[:, None, :]) | (eye > 0))

    def cycle(_: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
        mean, covariance, precision, offset, variance = state
        square = (mean**2 + jnp.diagonal(covariance, axis1=-2, axis2=-1)) * used
        shape, rate, _neurons = alpha_posterior(prior, square, assignment)
        alpha = (shape / rate)[assignment.region_of_neuron]
        inverse = jnp.where(joined, precision[:, None, None] * sums.xx + alpha[:, :, None] * eye, eye * ~both)
        covariance = jnp.linalg.inv(inverse)
        covariance = 0.5 * (covariance + jnp.swapaxes(covariance, -1, -2))
        about = jnp.where(used & living, sums.yx - offset[:, None] * sums.x, 0.0)
        mean = precision[:, None] * jnp.einsum("nij,nj->ni", covariance, about)
        variance = 1 / (prior.offset_precision + precision * told)
        predicted = (mean * sums.x).sum(-1)
        offset = variance * (prior.offset_precision * (prior.offset_mean - origin) + precision * (sums.y - predicted))
        second = covariance + mean[:, :, None] * mean[:, None, :]
        error = sums.yy - 2 * (mean * sums.yx).sum(-1) - 2 * offset * (sums.y - predicted)
        error += jnp.where(both, second * sums.xx, 0.0).sum((1, 2)) + told * (offset**2 + variance)
        precision = (prior.noise_shape + count / 2) / (prior.noise_rate + error / 2)
        return mean, covariance, precision, offset, variance

    offset = sites[OFFSET.name] - origin
    begin = (sites[LOADINGS.name], covariance, 1 / sites[NOISE.name], offset, jnp.zeros_like(sites[NOISE.name]))
    mean, covariance, precision, offset, _ = jax.lax.fori_loop(0, CYCLES, cycle, begin)
    return {**sites, LOADINGS.name: mean, NOISE.name: 1 / precision, OFFSET.name: offset + origin}, covariance


@partial(jax.jit, static_argnums=0)
def resting_variance(model: Callable[..., None], sites: Sites, setting: Setting) -> Array:
    r"""Variance that the updates give to a loading whose mean is zero, (neuron,).

    With s the variance of q loadings in a region, the bound has q/2 log s - (a + q/2) log(b + q s/2) - s P/2, where
    P = sum_nt phi_n, as latents have unit variance. It is highest at the positive root of
    (P q/2) s^2 + (P b + a q) s - q b = 0.
    """
    trace = trace_of(model, setting.data, sites)
    prior, distribution = priors_of(trace), trace["y"]["fn"]
    assignment = distribution.prior.assignment
    member = jnp.asarray(assignment.member, sites[NOISE.name].dtype)
    told = told_of_offsets(distribution, setting)  # of slow latents as much
    precision, neurons = member @ (told / sites[NOISE.name]), member.sum(1)
    a, b = jnp.ravel(prior.alpha_shape)[0], jnp.ravel(prior.alpha_rate)[0]
    linear = precision * b + a * neurons
    root = 2 * neurons * b / (linear + jnp.sqrt(linear**2 + 2 * precision * neurons**2 * b))
    return root[assignment.region_of_neuron]


class Revival(NamedTuple):
    """Gain of loadings that are held at zero, if they were let go.

    Attributes:
        gain: Nats, for fixed E[x], (region, column); -inf where loadings live or a region has none.
        mean, variance: Of the loadings then, (neuron, column).
    """

    gain: Array
    mean: Array
    variance: Array


@partial(jax.jit, static_argnums=0)
def revival(model: Callable[..., None], sites: Sites, setting: Setting) -> Revival:
    r"""Find the gain of each region's loadings on each latent, if not held at zero.

    With s_n = phi_n sum_t E[x_t^2] and q_n = phi_n sum_t E[x_t] times what is left of y_n, integrating out loadings of
    precision alpha gains 1/2 sum_n [log(alpha / (alpha + s_n)) + q_n^2 / (alpha + s_n)] nats (Tipping & Faul 2003,
    AISTATS, eq. 17, summed over the neurons that share alpha); the best alpha is taken from a grid.
    """
    data, covariance, *_, living = setting
    sites = setting.held(sites)
    distribution = trace_of(model, data, sites)["y"]["fn"].with_spread(covariance)
    assignment = distribution.prior.assignment
    sums, mean = _moments(distribution, data), sites[LOADINGS.name]
    precision = 1 / sites[NOISE.name][:, None]
    offset = sites[OFFSET.name] - distribution.level
    left = sums.yx - offset[:, None] * sums.x - jnp.einsum("nc,ncd->nd", mean, sums.xx)
    s, q = precision * jnp.diagonal(sums.xx, axis1=-2, axis2=-1), precision * left
    used = jnp.asarray(assignment.used)
    member = jnp.asarray(assignment.member, s.dtype)
    size = member @ (s * used) / jnp.maximum(member @ used.astype(s.dtype), 1)
    alphas = size * jnp.logspace(-4, 2, ALPHAS)[:, None, None]  # above, too little to revive
    alpha = alphas[:, assignment.region_of_neuron]
    gains = member @ jnp.where(used, 0.5 * (jnp.log(alpha / (alpha + s)) + q**2 / (alpha + s)), 0.0)
    best = jnp.take_along_axis(alphas, gains.argmax(0)[None], 0)[0][assignment.region_of_neuron]
    dead = (member @ living.astype(s.dtype) == 0) & (member @ used.astype(s.dtype) > 0)
    return Revival(jnp.where(dead, gains.max(0), -jnp.inf), q / (best + s), 1 / (best + s))
