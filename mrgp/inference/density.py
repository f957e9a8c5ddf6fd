"""Log densities that are climbed: of a NumPyro program, at values of its sites.

A bound of counts needs a search for its best q inside; a search begins with a guess, which is where the last one ended.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import log_density

from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.surrogate import guess_of, held_bound, surrogate_of
from mrgp.likelihoods.surrogate import log_density as surrogate_density
from mrgp.runtime.workers import TRACING

type Sites = dict[str, Array]


def _somewhere(site: dict[str, Any]) -> Any:
    """Some value in the support of a free site, None for other sites."""
    if site["type"] != "sample" or site["is_observed"]:
        return None
    transform = biject_to(site["fn"].support)
    return transform(np.zeros(transform.inverse_shape(site["fn"].shape())))


def known_sites(model: Callable[..., None], data: Any) -> dict[str, Any]:
    """Unobserved sites of ``model`` as NumPyro traces them, at values of no meaning.

    Their priors have numbers.
    """
    anywhere = handlers.substitute(handlers.seed(model, 0), substitute_fn=_somewhere)
    with TRACING, numpyro.validation_enabled(False):
        trace = handlers.trace(anywhere).get_trace(data)
    return {name: site for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}


def free_sites(model: Callable[..., None], data: Any) -> dict[str, Any]:
    """Unobserved sites of ``model``: their shapes and supports, without their numbers.

    Nothing is computed: op by op, the arrays of a program take seconds to compile.
    """
    found: dict[str, Any] = {}
    jax.eval_shape(lambda: found.update(known_sites(model, data)))
    supports = [site["fn"].support for site in found.values()]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(supports)):
        return known_sites(model, data)  # a program computes bounds of its own
    return found


def transforms_of(model: Callable[..., None], data: Any, frozen: Collection[str]) -> dict[str, Any]:
    """Transforms from the real line to the supports of the sites of ``model``.

    Unobserved sites have one each, unless they are ``frozen``.
    """
    free = free_sites(model, data)
    return {name: biject_to(site["fn"].support) for name, site in free.items() if name not in frozen}


def unconstrain(transforms: Mapping[str, Any], sites: Mapping[str, Any]) -> Sites:
    """Map sites to the real line, site by site."""
    return {name: transforms[name].inv(jnp.asarray(sites[name])) for name in transforms}


def constrain(transforms: Mapping[str, Any], free: Mapping[str, Any]) -> Sites:
    """Inverse of :func:`unconstrain`."""
    return {name: transforms[name](free[name]) for name in transforms}


def prior_density(model: Callable[..., None], data: Any, sites: Mapping[str, Any], names: Collection[str]) -> float:
    """Log density in the prior of the sites ``names``, given all others."""
    known = {name: jnp.asarray(value) for name, value in sites.items()}
    return float(log_prior(model, tuple(names), known, data))


@partial(jax.jit, static_argnums=(0, 1))  # as one program: op by op the model's own arrays take seconds to compile
def log_prior(model: Callable[..., None], names: tuple[str, ...], sites: Sites, data: Any) -> Array:
    """Log density in the prior of the sites ``names``, given all others, with derivatives."""
    trace = handlers.trace(handlers.substitute(handlers.seed(model, 0), data=sites)).get_trace(data)
    return jnp.asarray(sum(site_density(trace[name], sites[name]) for name in names))


def site_density(site: Mapping[str, Any], value: Array) -> Array:
    """Log density of a value in the prior of a traced site, as its program counts it."""
    density = site["fn"].log_prob(value)
    return jnp.sum(density if site["scale"] is None else site["scale"] * density)


class Density:
    """Log density to be maximised; hashable, so that equal ones share a compiled function."""

    searches: ClassVar[bool] = False  # where there is a guess, a value takes a search, which a surrogate saves

    def __call__(self, sites: Sites, data: Any) -> Array:
        """Log density in nats."""
        raise NotImplementedError

    def transforms(self, data: Any, frozen: Collection[str]) -> dict[str, Any]:
        """Transforms from the real line to the supports of the sites that are not ``frozen``."""
        raise NotImplementedError

    def first_guess(self, sites: Sites, data: Any) -> Any:
        """Start of the search inside the density; None if there is nothing to search for."""
        return None

    def from_guess(self, sites: Sites, data: Any, guess: Any, within: Array | float) -> tuple[Array, Any]:
        """Log density, and a start for the search at other sites nearby.

        A search inside the density ends where a step gains less than ``within`` nats.
        """
        return self(sites, data), None

    def surrogate(self, sites: Sites, data: Any, guess: Any, within: Array | float) -> Any:
        """Pseudo-observations that make a density which is quick to climb, around ``sites``."""
        raise NotImplementedError

    def near(self, sites: Sites, data: Any, surrogate: Any) -> Array:
        """Log density of a surrogate that was made at sites nearby, but for a constant."""
        raise NotImplementedError

    def held(self, sites: Sites, data: Any, surrogate: Any) -> Array:
        """Bound by the q that a surrogate's pseudo-observations make at ``sites``."""
        raise NotImplementedError

    def guess_of(self, sites: Sites, data: Any, surrogate: Any) -> Any:
        """Start of the search inside the density.

        It is the q that a surrogate's pseudo-observations make at ``sites``.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LogJoint(Density):
    """log p(y, sites) of a NumPyro program that takes ``data``."""

    model: Callable[..., None]

    searches: ClassVar[bool] = True

    def __call__(self, sites: Sites, data: Any) -> Array:
        return log_density(self.model, (data,), {}, sites)[0]

    def first_guess(self, sites: Sites, data: Any) -> Any:
        """Start of the search for q in a bound of counts; None for other models."""
        observed = self._trace(sites, data).get("y")  # a program of known loadings has none
        if observed is None or not isinstance(observed["fn"], CountGP):
            return None
        return observed["fn"].problem(observed["value"]).guess()

    def from_guess(self, sites: Sites, data: Any, guess: Any, within: Array | float) -> tuple[Array, Any]:
        if guess is None:
            return self(sites, data), None
        observed, total = self._observed(sites, data)
        scores, guess = observed["fn"].bound_from(observed["value"], guess, within)
        return total + scores.sum(), guess

    def surrogate(self, sites: Sites, data: Any, guess: Any, within: Array | float) -> Any:
        observed = self._trace(sites, data)["y"]
        problem = observed["fn"].problem(observed["value"])
        return surrogate_of(problem, problem.best(guess, within))

    def near(self, sites: Sites, data: Any, surrogate: Any) -> Array:
        observed, total = self._observed(sites, data)
        return total + surrogate_density(observed["fn"].problem(observed["value"]), surrogate)

    def held(self, sites: Sites, data: Any, surrogate: Any) -> Array:
        observed, total = self._observed(sites, data)
        return total + held_bound(observed["fn"].problem(observed["value"]), surrogate).sum()

    def guess_of(self, sites: Sites, data: Any, surrogate: Any) -> Any:
        observed = self._trace(sites, data)["y"]
        return guess_of(observed["fn"].problem(observed["value"]), surrogate)

    def _observed(self, sites: Sites, data: Any) -> tuple[dict[str, Any], Array]:
        """Return the observed site, and the log density of all others."""
        samples = [site for site in self._trace(sites, data).values() if site["type"] == "sample"]
        (observed,) = (site for site in samples if site["is_observed"])
        others = (site["fn"].log_prob(site["value"]).sum() for site in samples if not site["is_observed"])
        return observed, sum(others, jnp.zeros(()))

    def _trace(self, sites: Sites, data: Any) -> dict[str, Any]:
        return handlers.trace(handlers.substitute(self.model, data=sites)).get_trace(data)

    def transforms(self, data: Any, frozen: Collection[str]) -> dict[str, Any]:
        """Transforms of the unobserved sites that are not ``frozen``."""
        return transforms_of(self.model, data, frozen)
