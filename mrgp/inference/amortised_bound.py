"""Bound of log p(y) of an amortised model, and weights of draws of its guide."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro import handlers
from numpyro.distributions import kl_divergence

from mrgp.inference.amortised_parameters import Values, WithGuide, is_of_trials


class Terms(NamedTuple):
    """Terms of the bound in nats, each a number.

    Attributes:
        likelihood: Expected log p(y | z).
        divergence: KL of q(z | y) from p(z).
        prior: Log density of the sites that trials share.
    """

    likelihood: Array
    divergence: Array
    prior: Array


type Trace = dict[str, dict[str, Any]]


def traces(model: WithGuide, values: Values, data: Any, key: Array) -> tuple[Trace, Trace]:
    """Run the guide, and the program with the latents that it has drawn; return both traces."""
    guide_key, program_key = jax.random.split(key)
    guide = handlers.substitute(handlers.seed(model.guide, guide_key), data=values.all)
    drawn = handlers.trace(guide).get_trace(data)
    program = handlers.substitute(handlers.seed(model, program_key), data=values.all)
    return drawn, handlers.trace(handlers.replay(program, drawn)).get_trace(data)


def terms(model: WithGuide, values: Values, data: Any, key: Array) -> Terms:
    """Compute the terms of the bound with one draw of the guide.

    A divergence that has a closed form needs no draw. Of a batch, terms are weighted to stand for all trials.
    """
    drawn, run = traces(model, values, data, key)
    divergence, prior = jnp.zeros(()), jnp.zeros(())
    for name, site in run.items():
        if site["type"] != "sample" or site["is_observed"]:
            continue
        if is_of_trials(site):
            divergence = divergence + _weighted(site, _divergence(drawn[name]["fn"], site["fn"], site["value"]))
        else:
            prior = prior + site["fn"].log_prob(site["value"]).sum()
    y = run["y"]
    return Terms(_weighted(y, y["fn"].log_prob(y["value"])), divergence, prior)


def log_weights(drawn: Trace, run: Trace) -> Array:
    """log p(y, z) - log q(z | y) of each trial's draw, (trial,)."""
    total = jnp.zeros(())
    for name, site in run.items():
        if site["type"] == "sample" and is_of_trials(site):
            total = total + site["fn"].log_prob(site["value"])
            if not site["is_observed"]:
                total = total - drawn[name]["fn"].log_prob(site["value"])
    return total


def _divergence(guide: Any, prior: Any, value: Array) -> Array:
    try:
        return kl_divergence(guide, prior)
    except NotImplementedError:
        return guide.log_prob(value) - prior.log_prob(value)


def _weighted(site: dict[str, Any], value: Array) -> Array:
    scale = 1.0 if site["scale"] is None else site["scale"]
    return (scale * value).sum()
