"""Projections of the latents of trials, by which a posterior is held against a truth."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array, random
from numpyro import handlers

from mrgp.inference.amortised_bound import Trace
from mrgp.results.amortised_conditional import SEED, VALUES, AmortisedConditional


def projected(
    given: AmortisedConditional, directions: Mapping[str, np.ndarray], n_draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Project sites of trials, for every draw of the posterior.

    ``directions`` are (projection, size) of some sites, by name. Projections are (draw, trial, projection) each; ``y``
    is log p(y | latents) of the draw in nats, (draw, trial, 1).
    """
    return {n: np.asarray(v) for n, v in given.over_draws(_projected, n_draws, seed, dict(directions)).items()}


def projected_at(
    given: AmortisedConditional, latents: Mapping[str, np.ndarray], directions: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Project sites of trials at given latents, (trial, projection); see :func:`projected`."""
    known = {**given.values.all, **{name: latents[name] for name in given.latent_sites}}
    program = handlers.substitute(handlers.seed(given.model, random.key(SEED)), data=known)
    run = handlers.trace(program).get_trace(given.data)
    return {name: np.asarray(value) for name, value in _projected({}, run, random.key(SEED), directions).items()}


def _projected(drawn: Trace, run: Trace, key: Array, directions: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Projections of sites, and log p of values given latents, (trial, projection) each."""
    values = {name: run[name]["value"].reshape(-1, along.shape[-1]) @ along.T for name, along in directions.items()}
    return values | {VALUES: run[VALUES]["fn"].log_prob(run[VALUES]["value"])[:, None]}
