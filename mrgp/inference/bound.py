r"""Variational Bayes for models with conjugate loadings (Gokcen et al. 2023, mDLAG, NeurIPS, appendix B).

The posterior over latents x, loadings C with their automatic relevance determination alpha, noise precisions phi and
offsets d is approximated by

    q(x) q(C) q(alpha) q(phi) q(d),    q(c_n) = N(m_n, S_n),   q(alpha), q(phi) Gamma,   q(d) normal,

while delays and kernel parameters are points. q(x) is optimal and integrated out: with Lambda = E[C' Phi C] and
b = E[C]' E[Phi] (y - E[d]) the model's own normalizer log Z(b, Lambda) is its contribution to the bound, under each of
the three likelihoods, and its derivatives are the moments that the updates need,

    E[x_t] = d log Z / d b_t,        sum_t E[x_t x_t'] = -2 d log Z / d Lambda.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import digamma, gammaln
from numpyro import handlers
from numpyro.distributions.transforms import IdentityTransform

from mrgp.data import MultiRegionData
from mrgp.inference.map import Sites, transforms_of
from mrgp.statespace.reduce import readout_loadings

CYCLES = 5  # of closed-form updates for one evaluation of the moments
ALPHAS = 50  # on the grid of relevances from which loadings at zero choose the best for them
EMISSION = ("loadings", "noise", "offset", "alpha")


class Conjugate(NamedTuple):
    """Parameters of the priors, read from the program's sites: Gamma (shape, rate) and normal (mean, precision)."""

    alpha_shape: Array
    alpha_rate: Array
    noise_shape: Array
    noise_rate: Array
    offset_mean: Array
    offset_precision: Array


class Setting(NamedTuple):
    """What the bound is evaluated with besides the sites: the recording, counts and the covariances of q(C)."""

    data: MultiRegionData
    covariance: Array  # (neuron, column, column)
    observed: Array  # (neuron,): number of observed entries
    living: Array  # (neuron, column) bool: loadings whose mean is not held at zero

    @classmethod
    def of(cls, data: MultiRegionData, loadings: Any, covariance: Any) -> "Setting":
        """For means of the loadings, of which those that are exactly zero stay so."""
        count = jnp.asarray(data.mask.sum((0, 1)), float)
        return cls(jax.tree.map(jnp.asarray, data), jnp.asarray(covariance), count, jnp.asarray(loadings) != 0)

    def held(self, sites: Sites) -> Sites:
        """``sites`` with those loadings at zero that are held there."""
        return {**sites, "loadings": jnp.where(self.living, sites["loadings"], 0.0)}


def trace_of(model: Any, data: Any, sites: Mapping[str, Any]) -> dict[str, Any]:
    """The program's trace at ``sites``; those of EMISSION may be left out."""
    return handlers.trace(handlers.substitute(handlers.seed(model, 0), data=dict(sites))).get_trace(data)


def priors_of(trace: Mapping[str, Any]) -> Conjugate:
    """Read the conjugate priors from a trace.

    Raises:
        ValueError: the program's loadings, noise or offset have other priors.
    """
    wanted = {"alpha": dist.Gamma, "noise": dist.InverseGamma, "offset": dist.Normal}
    found = {}
    for name, family in wanted.items():
        base = trace[name]["fn"] if name in trace else None
        while isinstance(base, dist.Independent | dist.ExpandedDistribution):
            base = base.base_dist
        if not isinstance(base, family):
            raise ValueError(
                f"method 'vb' needs a {family.__name__} prior on the site {name!r}, as MDLAG has it; use method='map'"
            )
        found[name] = base
    alpha, noise, offset = found["alpha"], found["noise"], found["offset"]
    values = (alpha.concentration, alpha.rate, noise.concentration, noise.rate, offset.loc, offset.scale**-2.0)
    return Conjugate(*(jnp.asarray(value) for value in values))


@dataclass(frozen=True)
class Bound:
    """The evidence lower bound of ``model`` as a function of delays, kernel parameters and the factors' means.

    Sites are those of the model without alpha: ``loadings`` and ``offset`` are means, ``noise`` is 1 / E[phi]. q(x),
    q(alpha) and q(d)'s variance are at their optimum given the rest, q(phi)'s shape too. With ``point_priors`` the log
    priors of delays and kernel parameters are added.
    """

    model: Any
    point_priors: bool = True

    def transforms(self, data: Setting, frozen: Collection[str]) -> dict[str, Any]:
        """Of every site but alpha, which is integrated out."""
        return transforms_of(self.model, data.data, {*frozen, "alpha"})

    def __call__(self, sites: Sites, data: Setting) -> Array:
        recording, covariance, count, _ = data
        sites = data.held(sites)
        trace = trace_of(self.model, recording, sites)
        prior, distribution = priors_of(trace), trace["y"]["fn"].with_spread(covariance)
        information = distribution.information(recording.values)
        mean, noise, offset = sites["loadings"], sites["noise"], sites["offset"]
        used = jnp.asarray(distribution.prior.assignment.used)

        # E[log p(y | x, C, d, phi)] with x integrated out; log p(y | x = 0) has E[log phi] = log E[phi] + gap.
        shape = prior.noise_shape + count / 2
        gap = digamma(shape) - jnp.log(shape)
        variance = 1 / (prior.offset_precision + count / noise)
        value = (information.constant + distribution.normalizer(information)).sum()
        value += 0.5 * (count * (gap - variance / noise)).sum()
        # - KL(q(phi) || p(phi)), rate = shape * noise
        value -= _gamma_divergence(shape, shape * noise, prior.noise_shape, prior.noise_rate).sum()
        # - KL(q(d) || p(d))
        scaled = prior.offset_precision * variance
        shifted = prior.offset_precision * (offset - prior.offset_mean) ** 2
        value -= 0.5 * (scaled + shifted - 1 - jnp.log(scaled)).sum()
        # E[log p(C | alpha) p(alpha)] - E[log q(alpha)] at the best q(alpha), and the entropy of q(C)
        square = (mean**2 + jnp.diagonal(covariance, axis1=-2, axis2=-1)) * used
        shape, rate, neurons = _relevance(prior, square, distribution.prior.assignment)
        evidence = gammaln(shape) - gammaln(prior.alpha_shape) + prior.alpha_shape * jnp.log(prior.alpha_rate)
        evidence -= shape * jnp.log(rate) + 0.5 * neurons * jnp.log(2 * jnp.pi)
        value += jnp.where(neurons > 0, evidence, 0.0).sum()
        value += 0.5 * (jnp.linalg.slogdet(covariance)[1].sum() + used.sum() * (1 + jnp.log(2 * jnp.pi)))
        if self.point_priors:
            points = [s for n, s in trace.items() if s["type"] == "sample" and not s["is_observed"]]
            value += sum(s["fn"].log_prob(s["value"]).sum() for s in points if s["name"] not in EMISSION)
        return value


@dataclass(frozen=True)
class Mixed:
    """A density with one site more, ``mixing`` M (column, column): its loadings are C (I + M).

    Redundant, and zero before and after a climb: latents of similar timescales can be mixed almost for nothing, and a
    climb finds its way along such valleys in a third of the steps where mixing is a direction of its own.
    """

    density: Bound

    def transforms(self, data: Setting, frozen: Collection[str]) -> dict[str, Any]:
        """Of the density's sites and of the mixing."""
        return {**self.density.transforms(data, frozen), "mixing": IdentityTransform()}

    def __call__(self, sites: Sites, data: Setting) -> Array:
        return self.density(self.mixed(sites), data)

    @staticmethod
    def mixed(sites: Sites) -> Sites:
        """The density's own sites."""
        mixing = jnp.eye(sites["mixing"].shape[0]) + sites["mixing"]
        mixed = {**sites, "loadings": sites["loadings"] @ mixing}
        del mixed["mixing"]
        return mixed


def _gamma_divergence(shape: Array, rate: Array, prior_shape: Array, prior_rate: Array) -> Array:
    """KL divergence from Gamma(shape, rate) to Gamma(prior_shape, prior_rate)."""
    same = (shape - prior_shape) * digamma(shape) - gammaln(shape) + gammaln(prior_shape)
    return same + prior_shape * (jnp.log(rate) - jnp.log(prior_rate)) + shape * (prior_rate - rate) / rate


def _relevance(prior: Conjugate, square: Array, assignment: Any) -> tuple[Array, Array, Array]:
    """q(alpha)'s shape and rate, and neurons that read each latent, all (region, column)."""
    member = jnp.asarray(assignment.member, square.dtype)
    neurons = member @ jnp.asarray(assignment.used, square.dtype)
    return prior.alpha_shape + neurons / 2, prior.alpha_rate + member @ square / 2, neurons


class Moments(NamedTuple):
    """Sums over what was observed of each neuron, in its region's columns.

    Attributes:
        xx: sum E[x x'], (neuron, column, column).
        yx: sum y E[x], (neuron, column).
        x: sum E[x], (neuron, column).
    """

    xx: Array
    yx: Array
    x: Array


def _moments(distribution: Any, data: MultiRegionData) -> Moments:
    """From the derivatives of the normalizer."""
    information = distribution.information(data.values)

    def total(vectors: Array, precision: Array) -> Array:
        return distribution.normalizer(information._replace(vectors=vectors, precision=precision)).sum()

    means, squares = jax.grad(total, (0, 1))(information.vectors, information.precision)
    second = -(squares + jnp.swapaxes(squares, -1, -2))  # (time or 1, pattern, readout, readout)
    assignment = distribution.prior.assignment
    missing = distribution.patterns(data.values.shape[0])
    neurons = data.values.shape[-1]
    yx = jnp.einsum("btn,tbi->ni", data.values, means)
    if missing.observed is None:
        xx = jnp.broadcast_to(second.sum((0, 1)), (neurons, *second.shape[2:]))
        x = jnp.broadcast_to(means.sum((0, 1)), yx.shape)
    else:
        seen = missing.observed.astype(means.dtype)
        xx = jnp.einsum("gtn,tgij->nij", seen, second)
        x = jnp.einsum("btn,tbi->ni", seen[missing.pattern], means)
    place = _columns_from_readouts(assignment, means.dtype)
    return Moments(
        jnp.einsum("nci,nij,ndj->ncd", place, xx, place), jnp.einsum("nci,ni->nc", place, yx),
        jnp.einsum("nci,ni->nc", place, x),
    )  # fmt: skip


def _columns_from_readouts(assignment: Any, dtype: Any) -> Array:
    """Which readout each neuron's column of loadings multiplies, 0/1, (neuron, column, readout)."""
    columns = jnp.eye(assignment.n_columns, dtype=dtype)[:, None] * jnp.ones((1, sum(assignment.n_neurons), 1))
    return jnp.stack([readout_loadings(assignment, column) for column in columns], axis=1)


@partial(jax.jit, static_argnums=0)
def update(model: Any, sites: Sites, setting: Setting) -> tuple[Sites, Array]:
    """Closed-form updates of q(C), q(alpha), q(phi), q(d) given the optimal q(x): new means, new covariances."""
    data, covariance, count, living = setting
    trace = trace_of(model, data, sites)
    prior, distribution = priors_of(trace), trace["y"]["fn"].with_spread(covariance)
    assignment = distribution.prior.assignment
    used = jnp.asarray(assignment.used)
    sums = _moments(distribution, data)
    total, squares = data.values.sum((0, 1)), (data.values**2).sum((0, 1))
    eye = jnp.eye(assignment.n_columns)
    both = used[:, :, None] & used[:, None, :]
    # A loading that is held at zero is independent of the others.
    joined = both & ((living[:, :, None] & living[:, None, :]) | (eye > 0))

    def cycle(_: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
        mean, covariance, precision, offset, variance = state
        square = (mean**2 + jnp.diagonal(covariance, axis1=-2, axis2=-1)) * used
        shape, rate, _neurons = _relevance(prior, square, assignment)
        alpha = (shape / rate)[assignment.region_of_neuron]
        inverse = jnp.where(joined, precision[:, None, None] * sums.xx + alpha[:, :, None] * eye, eye * ~both)
        covariance = jnp.linalg.inv(inverse)
        covariance = 0.5 * (covariance + jnp.swapaxes(covariance, -1, -2))
        about = jnp.where(used & living, sums.yx - offset[:, None] * sums.x, 0.0)
        mean = precision[:, None] * jnp.einsum("nij,nj->ni", covariance, about)
        variance = 1 / (prior.offset_precision + precision * count)
        predicted = (mean * sums.x).sum(-1)
        offset = variance * (prior.offset_precision * prior.offset_mean + precision * (total - predicted))
        second = covariance + mean[:, :, None] * mean[:, None, :]
        error = squares - 2 * (mean * sums.yx).sum(-1) - 2 * offset * (total - predicted)
        error += jnp.where(both, second * sums.xx, 0.0).sum((1, 2)) + count * (offset**2 + variance)
        precision = (prior.noise_shape + count / 2) / (prior.noise_rate + error / 2)
        return mean, covariance, precision, offset, variance

    begin = (sites["loadings"], covariance, 1 / sites["noise"], sites["offset"], jnp.zeros_like(sites["noise"]))
    mean, covariance, precision, offset, _ = jax.lax.fori_loop(0, CYCLES, cycle, begin)
    return {**sites, "loadings": mean, "noise": 1 / precision, "offset": offset}, covariance


@partial(jax.jit, static_argnums=0)
def resting_variance(model: Any, sites: Sites, setting: Setting) -> Array:
    r"""Where the updates take the variance of a loading whose mean is zero, (neuron,).

    With s the variance of q loadings in a region, the bound has q/2 log s - (a + q/2) log(b + q s/2) - s P/2, where
    P = sum_nt phi_n, as latents have unit variance. It is highest at the positive root of
    (P q/2) s^2 + (P b + a q) s - q b = 0.
    """
    trace = trace_of(model, setting.data, sites)
    prior, assignment = priors_of(trace), trace["y"]["fn"].prior.assignment
    member = jnp.asarray(assignment.member, sites["noise"].dtype)
    precision, neurons = member @ (setting.observed / sites["noise"]), member.sum(1)
    a, b = jnp.ravel(prior.alpha_shape)[0], jnp.ravel(prior.alpha_rate)[0]
    linear = precision * b + a * neurons
    root = 2 * neurons * b / (linear + jnp.sqrt(linear**2 + 2 * precision * neurons**2 * b))
    return root[assignment.region_of_neuron]


class Revival(NamedTuple):
    """What loadings that are held at zero would gain if they were not.

    Attributes:
        gain: Nats, for fixed E[x], (region, column); -inf where loadings live or a region has none.
        mean, variance: Of the loadings then, (neuron, column).
    """

    gain: Array
    mean: Array
    variance: Array


@partial(jax.jit, static_argnums=0)
def revival(model: Any, sites: Sites, setting: Setting) -> Revival:
    r"""What each region's loadings on each latent would gain if they were not held at zero.

    With s_n = phi_n sum_t E[x_t^2] and q_n = phi_n sum_t E[x_t] times what is left of y_n, integrating out loadings of
    precision alpha gains 1/2 sum_n [log(alpha / (alpha + s_n)) + q_n^2 / (alpha + s_n)] nats (Tipping & Faul 2003,
    AISTATS, eq. 17, summed over the neurons that share alpha); the best alpha is taken from a grid.
    """
    data, covariance, _, living = setting
    sites = setting.held(sites)
    distribution = trace_of(model, data, sites)["y"]["fn"].with_spread(covariance)
    assignment = distribution.prior.assignment
    sums, mean = _moments(distribution, data), sites["loadings"]
    precision = 1 / sites["noise"][:, None]
    left = sums.yx - sites["offset"][:, None] * sums.x - jnp.einsum("nc,ncd->nd", mean, sums.xx)
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


@partial(jax.jit, static_argnums=0)
def relevance_of(model: Any, sites: Sites, setting: Setting) -> Array:
    """E[alpha] (region, column) at its optimum given the loadings' means and covariances."""
    trace = trace_of(model, setting.data, sites)
    assignment = trace["y"]["fn"].prior.assignment
    square = sites["loadings"] ** 2 + jnp.diagonal(setting.covariance, axis1=-2, axis2=-1)
    shape, rate, neurons = _relevance(priors_of(trace), square * jnp.asarray(assignment.used), assignment)
    return jnp.where(neurons > 0, shape / rate, 1.0)
