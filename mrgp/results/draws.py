"""Readers of draws of the posterior: functions of the traces of a guide and its program.

Each is a function of a module, so that what it is part of is compiled once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpyro.distributions as dist
from jax import Array

from mrgp.inference.amortised_bound import Trace, log_weights
from mrgp.inference.amortised_parameters import is_of_trials

LATENTS, ETA = "latents", "eta"  # deterministic sites of the program
VALUES = "y"  # the site that is observed

type Read = Callable[[Trace, Trace, Array, Any], Any]


def weights_of(drawn: Trace, run: Trace, key: Array, also: None) -> Array:
    """log p(y, z) - log q(z | y) of each trial, (trial,)."""
    return log_weights(drawn, run)


def log_p_of_values(drawn: Trace, run: Trace, key: Array, also: None) -> Array:
    """Read log p(y | latents) of each trial off a draw, (trial,)."""
    return run[VALUES]["fn"].log_prob(run[VALUES]["value"])


def weights_of_both(drawn: Trace, run: Trace, key: Array, also: tuple[Array, Array]) -> tuple[Array, Array]:
    """Weights of a draw, and log p of hidden entries given it, (trial,) each."""
    values, hidden = also
    density = emission_of(run).log_prob(jax.numpy.where(hidden, values, 0.0))
    return log_weights(drawn, run), jax.numpy.where(hidden, density, 0.0).sum((1, 2))


@dataclass(frozen=True)
class MomentsOf:
    """Read the values of sites off a draw, and their squares.

    Two readers of the same names are one program.
    """

    names: tuple[str, ...]

    def __call__(self, drawn: Trace, run: Trace, key: Array, also: None) -> tuple[list[Array], list[Array]]:
        values = [jax.numpy.asarray(run[name]["value"], float) for name in self.names]
        return values, [value**2 for value in values]


def moments_of_values(drawn: Trace, run: Trace, key: Array, also: None) -> tuple[Array, Array]:
    """Mean of values given eta, and of their squares, (trial, time, neuron) each."""
    given = emission_of(run)
    return given.mean, given.variance + given.mean**2


def replica(drawn: Trace, run: Trace, key: Array, weights: Array) -> tuple[Array, Array]:
    """Latents, and the sums over time of new trials with ``weights``."""
    return run[LATENTS]["value"], (emission_of(run).sample(key) * weights).sum(1)


def sites_of_trials_in(run: Trace) -> Trace:
    """Sites of trials but for what is observed, with what follows from them."""
    own = {n: s for n, s in run.items() if is_of_trials(s) and not (s["type"] == "sample" and s["is_observed"])}
    return {n: s for n, s in own.items() if s["type"] in ("sample", "deterministic") and jax.numpy.ndim(s["value"])}


def emission_of(run: Trace) -> dist.Distribution:
    """Distribution of values given eta, entry by entry, whether observed or not."""
    given = run[VALUES]["fn"]
    while isinstance(given, dist.ExpandedDistribution | dist.Independent | dist.MaskedDistribution):
        given = given.base_dist
    return given


def mean_of(one: Callable[[Array], Any], keys: Array) -> Any:
    """Mean over draws, which are made one after the other and not kept."""

    def added(total: Any, key: Array) -> tuple[Any, None]:
        return jax.tree.map(lambda sum, own: sum + own / len(keys), total, one(key)), None

    zero = jax.tree.map(lambda shape: jax.numpy.zeros(shape.shape, shape.dtype), jax.eval_shape(one, keys[0]))
    return jax.lax.scan(added, zero, keys)[0]
