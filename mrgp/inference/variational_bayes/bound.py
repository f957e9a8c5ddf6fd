r"""Bound of variational Bayes for models with conjugate loadings.

See Gokcen et al. 2023, mDLAG, NeurIPS, appendix B. The posterior over latents x, loadings C with their automatic
relevance determination alpha, noise precisions phi and offsets d is approximated by

    q(x) q(C) q(alpha) q(phi) q(d),    q(c_n) = N(m_n, S_n),   q(alpha), q(phi) Gamma,   q(d) normal,

while delays and kernel parameters are points. q(x) is optimal and integrated out: with Lambda = E[C' Phi C] and
b = E[C]' E[Phi] (y - E[d]) the model's own normalizer log Z(b, Lambda) is its contribution to the bound, under each of
the three likelihoods, and its derivatives are the moments that the closed-form updates need (see ``updates``).
"""

from collections.abc import Callable, Collection, Mapping
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

from mrgp.inference.density import Density, LogJoint, Sites, transforms_of
from mrgp.inference.optimise import Objective
from mrgp.inference.run import Model
from mrgp.parts.loadings import RELEVANCE
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import MAP, Refusal

OF_Q = (LOADINGS.name, NOISE.name, OFFSET.name, RELEVANCE.name)
"""Sites of which q has distributions."""


class Conjugate(NamedTuple):
    """Parameters of the priors, read from the program's sites.

    They are Gamma (shape, rate) and normal (mean, precision).
    """

    alpha_shape: Array
    alpha_rate: Array
    noise_shape: Array
    noise_rate: Array
    offset_mean: Array
    offset_precision: Array


class Setting(NamedTuple):
    """Arguments of the bound besides the sites: recording, counts and covariances of q(C)."""

    data: MultiRegionData
    covariance: Array  # (neuron, column, column)
    observed: Array  # (neuron,): number of observed entries
    trials: Array  # (neuron,): number of trials with an observed entry
    living: Array  # (neuron, column) bool: loadings whose mean is not held at zero

    @classmethod
    def of(cls, data: MultiRegionData, loadings: Any, covariance: Any) -> "Setting":
        """Make the setting for means of the loadings; means that are exactly zero stay so."""
        mask, arrays = data.mask, jax.tree.map(jnp.asarray, data)
        observed, trials = (jnp.asarray(data.total(found), float) for found in (mask.sum(1), mask.any(1)))
        return cls(arrays, jnp.asarray(covariance), observed, trials, jnp.asarray(loadings) != 0)

    def held(self, sites: Sites) -> Sites:
        """Return ``sites`` with the loadings that are held at zero set to zero."""
        return {**sites, LOADINGS.name: jnp.where(self.living, sites[LOADINGS.name], 0.0)}


def told_of_offsets(distribution: Any, setting: Setting) -> Array:
    """Number of independent bins that tell as much of a neuron's offset, (neuron,).

    Of noise that remembers, bins after a trial's first tell (1 - phi) / (1 + phi) as much as that one.
    """
    if distribution.autocorrelation is None:
        return setting.observed
    phi = distribution.autocorrelation[distribution.prior.assignment.region_of_neuron]
    return setting.trials + (setting.observed - setting.trials) * (1 - phi) / (1 + phi)


def trace_of(model: Callable[..., None], data: Any, sites: Mapping[str, Any]) -> dict[str, Any]:
    """Trace the program at ``sites``; those of OF_Q may be left out."""
    return handlers.trace(handlers.substitute(handlers.seed(model, 0), data=dict(sites))).get_trace(data)


def priors_of(trace: Mapping[str, Any]) -> Conjugate:
    """Read the conjugate priors from a trace.

    Raises:
        ValueError: the program's loadings, noise or offset have other priors.
    """
    wanted = {RELEVANCE.name: dist.Gamma, NOISE.name: dist.InverseGamma, OFFSET.name: dist.Normal}
    found = {name: base_of(trace, name, family) for name, family in wanted.items()}
    alpha, noise, offset = found[RELEVANCE.name], found[NOISE.name], found[OFFSET.name]
    values = (alpha.concentration, alpha.rate, noise.concentration, noise.rate, offset.loc, offset.scale**-2.0)
    return Conjugate(*(jnp.asarray(value) for value in values))


def base_of(sites: Mapping[str, Any], name: str, family: type) -> Any:
    """Prior of the entries of a site of a trace.

    Raises:
        ValueError: it is of another family.
    """
    base = sites[name]["fn"] if name in sites else None
    while isinstance(base, dist.Independent | dist.ExpandedDistribution):
        base = base.base_dist
    if not isinstance(base, family):
        raise Refusal(f"method 'vb' needs a {family.__name__} prior on the site {name!r}, as MDLAG has it; use ", MAP)
    return base


@dataclass(frozen=True)
class Bound(Density):
    """Evidence lower bound of ``model``.

    It is a function of delays, kernel parameters and the factors' means. Sites are those of the model without alpha:
    ``loadings`` and ``offset`` are means, ``noise`` is 1 / E[phi]. q(x), q(alpha) and q(d)'s variance are at their
    optimum given the rest, q(phi)'s shape too. With ``point_priors`` the log priors of delays and kernel parameters are
    added.
    """

    model: Callable[..., None]
    point_priors: bool = True

    def transforms(self, data: Setting, frozen: Collection[str]) -> dict[str, Any]:
        """Transforms of the sites that are not ``frozen``, without alpha, which is integrated out."""
        return transforms_of(self.model, data.data, {*frozen, RELEVANCE.name})

    def __call__(self, sites: Sites, data: Setting) -> Array:
        recording, covariance, count, *_ = data
        sites = data.held(sites)
        trace = trace_of(self.model, recording, sites)
        prior, distribution = priors_of(trace), trace["y"]["fn"].with_spread(covariance)
        information = distribution.information(recording.values)
        mean, noise, offset = sites[LOADINGS.name], sites[NOISE.name], sites[OFFSET.name]
        used = jnp.asarray(distribution.prior.assignment.used)

        # E[log p(y | x, C, d, phi)] with x integrated out; log p(y | x = 0) has E[log phi] = log E[phi] + gap.
        shape, told = prior.noise_shape + count / 2, told_of_offsets(distribution, data)
        gap = digamma(shape) - jnp.log(shape)
        variance = 1 / (prior.offset_precision + told / noise)
        value = recording.total(information.constant + distribution.normalizer(information))
        value += 0.5 * (count * gap - told * variance / noise).sum()
        # - KL(q(phi) || p(phi)), rate = shape * noise
        value -= _gamma_divergence(shape, shape * noise, prior.noise_shape, prior.noise_rate).sum()
        # - KL(q(d) || p(d))
        scaled = prior.offset_precision * variance
        shifted = prior.offset_precision * (offset - prior.offset_mean) ** 2
        value -= 0.5 * (scaled + shifted - 1 - jnp.log(scaled)).sum()
        # E[log p(C | alpha) p(alpha)] - E[log q(alpha)] at the best q(alpha), and the entropy of q(C)
        square = (mean**2 + jnp.diagonal(covariance, axis1=-2, axis2=-1)) * used
        shape, rate, neurons = alpha_posterior(prior, square, distribution.prior.assignment)
        evidence = gammaln(shape) - gammaln(prior.alpha_shape) + prior.alpha_shape * jnp.log(prior.alpha_rate)
        evidence -= shape * jnp.log(rate) + 0.5 * neurons * jnp.log(2 * jnp.pi)
        value += jnp.where(neurons > 0, evidence, 0.0).sum()
        value += 0.5 * (jnp.linalg.slogdet(covariance)[1].sum() + used.sum() * (1 + jnp.log(2 * jnp.pi)))
        if self.point_priors:
            points = [s for n, s in trace.items() if s["type"] == "sample" and not s["is_observed"]]
            value += sum(s["fn"].log_prob(s["value"]).sum() for s in points if s["name"] not in OF_Q)
        return value


@dataclass(frozen=True)
class Mixed(Density):
    """A density with one site more, ``mixing`` M (column, column): its loadings are C (I + M).

    Redundant, and zero before and after a climb: latents of similar timescales can be mixed almost for nothing, and a
    climb finds its way along such valleys in a third of the steps where mixing is a direction of its own.
    """

    density: Bound

    def transforms(self, data: Setting, frozen: Collection[str]) -> dict[str, Any]:
        """Transforms of the density's sites and of the mixing."""
        return {**self.density.transforms(data, frozen), "mixing": IdentityTransform()}

    def __call__(self, sites: Sites, data: Setting) -> Array:
        return self.density(self.mixed(sites), data)

    @staticmethod
    def mixed(sites: Sites) -> Sites:
        """Return the density's own sites, with the mixing in the loadings."""
        mixing = jnp.eye(sites["mixing"].shape[0]) + sites["mixing"]
        mixed = {**sites, LOADINGS.name: sites[LOADINGS.name] @ mixing}
        del mixed["mixing"]
        return mixed


def climbed(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], covariance: Any, scale: Mapping[str, Any],
    frozen: tuple[str, ...],
) -> Objective:  # fmt: skip
    """Objective of the last climb of a fit, at its sites, given the covariances of loadings."""
    if model.emission.is_of_counts:
        return Objective(LogJoint(model), data, sites, scale, tuple(sorted({*frozen, RELEVANCE.name})))
    return Objective(Bound(model), Setting.of(data, sites[LOADINGS.name], covariance), sites, scale, frozen)


def _gamma_divergence(shape: Array, rate: Array, prior_shape: Array, prior_rate: Array) -> Array:
    """KL divergence from Gamma(shape, rate) to Gamma(prior_shape, prior_rate)."""
    same = (shape - prior_shape) * digamma(shape) - gammaln(shape) + gammaln(prior_shape)
    return same + prior_shape * (jnp.log(rate) - jnp.log(prior_rate)) + shape * (prior_rate - rate) / rate


def alpha_posterior(prior: Conjugate, square: Array, assignment: Any) -> tuple[Array, Array, Array]:
    """Shape and rate of q(alpha), and how many neurons read a latent, all (region, column).

    ``square`` is the expected square of each loading, (neuron, column), 0 where there is none.
    """
    member = jnp.asarray(assignment.member, square.dtype)
    neurons = member @ jnp.asarray(assignment.used, square.dtype)
    return prior.alpha_shape + neurons / 2, prior.alpha_rate + member @ square / 2, neurons


@partial(jax.jit, static_argnums=0)
def relevance_of(model: Callable[..., None], sites: Sites, setting: Setting) -> Array:
    """E[alpha] (region, column) at its optimum given the loadings' means and covariances."""
    trace = trace_of(model, setting.data, sites)
    assignment = trace["y"]["fn"].prior.assignment
    square = sites[LOADINGS.name] ** 2 + jnp.diagonal(setting.covariance, axis1=-2, axis2=-1)
    shape, rate, neurons = alpha_posterior(priors_of(trace), square * jnp.asarray(assignment.used), assignment)
    return jnp.where(neurons > 0, shape / rate, 1.0)
