"""Bound of log p(y) of an amortised model, and weights of draws of its guide."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro import handlers
from numpyro.distributions import kl_divergence

from mrgp.inference.amortised_parameters import Values, WithGuide, is_of_trials


class Terms(NamedTuple):
    """Terms of the bound in nats: each a number, or the first two one for each trial, (trial,).

    Attributes:
        likelihood: Expected log p(y | z).
        divergence: KL of q(z | y) from p(z).
        prior: Log density of the sites that trials share.
    """

    likelihood: Array
    divergence: Array
    prior: Array


type Trace = dict[str, dict[str, Any]]
type Program = Callable[[Any], None]

SHOWN, SCORED = "shown", "scored"  # deterministic sites: entries that the guide sees, and that the program scores


def traces(
    model: WithGuide, values: Values, data: Any, key: Array, hidden: Array | None = None, scored: Array | None = None,
    guide: Program | None = None,
) -> tuple[Trace, Trace]:  # fmt: skip
    """Run the guide, and the program with the latents that it has drawn; return both traces.

    The guide does not see ``hidden`` entries (trial, time, neuron), and the program scores no others. Where ``scored``
    is given, it scores only entries that are True there, of a shape that entries broadcast with. ``guide`` takes the
    place of the model's own.
    """
    guide_key, program_key = jax.random.split(key)
    known = values.all if hidden is None else {**values.all, SHOWN: ~hidden, SCORED: hidden}
    if scored is not None:
        known = {**known, SCORED: scored & known.get(SCORED, True)}
    drawing = handlers.substitute(handlers.seed(model.guide if guide is None else guide, guide_key), data=known)
    drawn = handlers.trace(drawing).get_trace(data)
    program = handlers.substitute(handlers.seed(model, program_key), data=known)
    return drawn, handlers.trace(handlers.replay(program, drawn)).get_trace(data)


def terms(
    model: WithGuide, values: Values, data: Any, key: Array, hidden: Array | None = None, scored: Array | None = None,
    share: float = 1.0,
) -> Terms:  # fmt: skip
    """Compute the terms of the bound with one draw of the guide.

    Of a batch, terms are weighted to stand for all trials; where
    only ``hidden`` entries are scored, the expected ``share`` of all, these stand for all; ``scored`` entries stand for
    themselves.
    """
    drawn, run = traces(model, values, data, key, hidden, scored)
    likelihood, divergence, prior = terms_of_trials(drawn, run, share)
    weight = 1.0 if run["y"]["scale"] is None else run["y"]["scale"]
    return Terms((weight * likelihood).sum(), (weight * divergence).sum(), prior)


def terms_of_trials(drawn: Trace, run: Trace, share: float = 1.0) -> Terms:
    """Terms of the bound of each trial, (trial,), with one draw of the guide.

    The prior is one number. A divergence that has a closed form needs no draw.
    """
    likelihood, divergence, prior = jnp.zeros(()), jnp.zeros(()), jnp.zeros(())
    for name, site in run.items():
        if site["type"] != "sample":
            continue
        if not is_of_trials(site):
            prior = prior + site["fn"].log_prob(site["value"]).sum()
        elif site["is_observed"]:
            likelihood = likelihood + site["fn"].log_prob(site["value"]) / (share if name == "y" else 1.0)
        else:
            divergence = divergence + divergence_of(drawn[name]["fn"], site["fn"], site["value"])
    return Terms(likelihood, divergence, prior)


def log_weights(drawn: Trace, run: Trace) -> Array:
    """log p(y, z) - log q(z | y) of each trial's draw, (trial,)."""
    total = jnp.zeros(())
    for name, site in run.items():
        if site["type"] == "sample" and is_of_trials(site):
            total = total + site["fn"].log_prob(site["value"])
            if not site["is_observed"]:
                total = total - drawn[name]["fn"].log_prob(site["value"])
    return total


def divergence_of(guide: Any, prior: Any, value: Array) -> Array:
    """Compute KL of q from the prior, (trial,), or estimate it by the draw ``value``."""
    try:
        return kl_divergence(guide, prior)
    except NotImplementedError:
        return guide.log_prob(value) - prior.log_prob(value)
