r"""A model whose loadings, noise and offsets are known.

The recording enters through as many numbers as readouts. Given C, R and d all that a recording says of the latents is
b = C' R^-1 (y - d) (see ``likelihoods.reduction``). It is computed once, and whatever is inferred of delays and kernel
parameters then costs the same for ten neurons and for a thousand. Counts do not reduce; of them pseudo-observations are
kept, which say at the place where they were made what the bound of counts says (see ``likelihoods.surrogate``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro import handlers
from numpyro.distributions import constraints

from mrgp.inference.density import Sites
from mrgp.inference.run import Model
from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.reduction import Information


class Given(NamedTuple):
    """Recording and known sites on which a reduced model is conditioned.

    Attributes:
        data: The recording, for its shapes and for priors that follow its units.
        emission: Sites that are known.
        information: What the recording says of the readouts, given those.
        weights: How often each trial counts, (trial,).
    """

    data: Any
    emission: Sites
    information: Information
    weights: Array

    @classmethod
    def of(
        cls, model: Model, data: Any, sites: Mapping[str, Any], names: tuple[str, ...], spread: Any = None
    ) -> "Given":
        """Take everything but the sites ``names`` as known, and count every trial once.

        ``spread`` are the covariances of loadings that are known as a distribution, (neuron, column, column).
        """
        known = {name: jnp.asarray(value) for name, value in sites.items()}
        information = _information(model, data, known, None if spread is None else jnp.asarray(spread))
        emission = {name: jnp.asarray(value) for name, value in sites.items() if name not in names}
        return cls(data, emission, information, jnp.ones(data.n_trials))


@partial(jax.jit, static_argnums=0)  # traced, as densities are: there every ragged trial has a q of its own
def _information(model: Model, data: Any, sites: Sites, spread: Array | None) -> Information:
    return model.likelihood_at(data, sites).with_spread(spread).information(jnp.asarray(data.values))


class Scored(dist.Distribution):
    """Site that scores the information of a :class:`Given` under a likelihood.

    The score is computed only where a density is.
    """

    support = constraints.real

    def __init__(self, likelihood: DelayedGP | CountGP, given: Given) -> None:
        self.likelihood, self.given = likelihood, given
        super().__init__()

    def log_prob(self, value: Array) -> Array:
        """Weighted sum of the trials' scores, whatever ``value`` is."""
        return (self.given.weights * self.likelihood.gaussian.normalizer(self.given.information)).sum()


@dataclass(frozen=True)
class Reduced:
    """NumPyro program of a model given its emission.

    It takes a :class:`Given` in place of a recording. Its log density is log p(y, dynamics | emission), with weighted
    trials, up to the constant log p(y | x = 0).
    """

    model: Callable[..., None]

    def __call__(self, given: Given) -> None:
        known = handlers.condition(self.model, data=given.emission)
        with handlers.block(hide=["y", *given.emission]):
            likelihood = handlers.trace(known).get_trace(given.data)["y"]["fn"]
        numpyro.sample("y_given_emission", Scored(likelihood, given), obs=jnp.zeros(()))
