r"""A model whose loadings, noise and offsets are known: the recording enters through as many numbers as readouts.

Given C, R and d all that a recording says of the latents is b = C' R^-1 (y - d) (see ``statespace.reduce``). It is
computed once, and whatever is inferred of delays and kernel parameters then costs the same for ten neurons and for a
thousand.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro import handlers

from mrgp.inference.map import LogJoint, Sites, transforms_of
from mrgp.statespace.reduce import Information


class Given(NamedTuple):
    """What a reduced model is conditioned on.

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
    def of(cls, model: Any, data: Any, sites: Mapping[str, Any], names: tuple[str, ...]) -> "Given":
        """With everything but the sites ``names`` known, every trial once."""
        information = model.likelihood_at(data, sites).information(jnp.asarray(data.values))
        emission = {name: jnp.asarray(value) for name, value in sites.items() if name not in names}
        return cls(data, emission, information, jnp.ones(data.n_trials))


@dataclass(frozen=True)
class Reduced:
    """The NumPyro program of a model given its emission; takes a :class:`Given` in place of a recording.

    Its log density is log p(y, dynamics | emission), with weighted trials, up to the constant log p(y | x = 0).
    """

    model: Any

    def __call__(self, given: Given) -> None:
        known = handlers.condition(self.model, data=given.emission)
        with handlers.block(hide=["y", *given.emission]):
            likelihood = handlers.trace(known).get_trace(given.data)["y"]["fn"]
        scores = likelihood.normalizer(given.information)
        numpyro.factor("y_given_emission", (given.weights * scores).sum())


@dataclass(frozen=True)
class ReducedJoint:
    """The log density of :class:`Reduced` for a climb.

    Which sites are free is read from the model alone: the program of :class:`Reduced` would score the recording for
    that, operation by operation, which takes longer than all that follows.
    """

    model: Any

    def __call__(self, sites: Sites, data: Given) -> Array:
        return LogJoint(Reduced(self.model))(sites, data)

    def transforms(self, data: Given, frozen: Collection[str]) -> dict[str, Any]:
        """Of the sites that are free."""
        return transforms_of(self.model, data.data, {*frozen, *data.emission})
