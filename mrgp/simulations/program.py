"""Simulation by a model's own NumPyro program: its sites, and draws of what it observes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro import handlers

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.inference.density import free_sites
from mrgp.likelihoods.likelihood import Dense
from mrgp.likelihoods.statespace.coupled import FIRST_MEAN, OWN
from mrgp.likelihoods.statespace.linear import START_MEAN, TRANSITION, LinearSpace, typical_system
from mrgp.parts.loadings import RELEVANCE, relevance_of
from mrgp.parts.readout import LOADINGS
from mrgp.recordings.layout import CONDITION, Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.workers import TRACING
from mrgp.simulations.design import Neurons, require


def typical_recording(layout: Layout, n_bins: int, neurons: Neurons) -> MultiRegionData:
    """Make a recording with the means and variances of designed neurons.

    Some priors ask for them.
    """
    sd = np.sqrt((neurons.loadings**2).sum(1) + neurons.noise)
    values = np.stack([neurons.level - sd, neurons.level + sd] * layout.n_conditions)
    of_trials = {CONDITION: np.resize(layout.conditions, len(values))} if layout.conditions else {}
    return MultiRegionData.unchecked(layout, np.repeat(values[:, None], n_bins, axis=1), of_trials)


def sites_from(
    model: GaussianProcesses, frame: MultiRegionData, given: Mapping[str, Any], neurons: Neurons, key: Array
) -> dict[str, np.ndarray]:
    """Find the values of all sites of a program.

    They are those given, those of designed neurons, and draws of the rest from their priors.

    Raises:
        ValueError: the model has no such site, or it cannot have the value that is given.
    """
    name, free = type(model).__name__, free_sites(model, frame)
    if unknown := sorted(given.keys() - free.keys()):
        raise ValueError(f"{name} has no parameters {', '.join(unknown)}; it has {', '.join(sorted(free))}")
    told = {site: _shaped(f"{name}: {site}", value, free[site]) for site, value in given.items()}
    assignment, (prior_key, system_key) = model.assignment(frame.layout), jax.random.split(key)
    design: dict[str, Any] = {}
    loadings = turned = np.asarray(told.get(LOADINGS.name, neurons.loadings))
    if START_MEAN.name in free and TRANSITION.name not in told:
        space = LinearSpace(assignment, learned_start=True)
        design, change = space.normalised(typical_system(system_key, assignment.n_across))
        turned = loadings @ change
    if RELEVANCE.name in free:
        design[RELEVANCE.name] = relevance_of(assignment, loadings)
    if FIRST_MEAN.name in free and OWN.name not in told:  # weak priors again, here of regions
        settled = sites_from(model.replace(start="stationary"), frame, {}, neurons, system_key)
        design = model.fitting.admitting(model, frame, settled)
        turned = design[LOADINGS.name]
    design |= {LOADINGS.name: turned, **model.emission.sites_of(neurons.noise, neurons.level, loadings)}
    known = {site: jnp.asarray(value) for site, value in design.items() if site in free} | told
    program = handlers.substitute(handlers.seed(model, prior_key), data=known)
    with TRACING, numpyro.validation_enabled(False):
        trace = handlers.trace(program).get_trace(frame)
    return {site: np.asarray(trace[site]["value"]) for site in free}


def exact_distribution(model: GaussianProcesses, frame: MultiRegionData, sites: Mapping[str, np.ndarray]) -> Any:
    """Distribution of trials at given sites under the dense likelihood, which is exact.

    A model that has none is a state space of its own, and exact already.
    """
    if not model.is_state_space:
        model = model.replace(likelihood=Dense())
    with TRACING, numpyro.validation_enabled(False):  # of values that were checked
        return model.likelihood_at(frame, sites)


def _shaped(what: str, value: Any, site: Mapping[str, Any]) -> Array:
    """Check a value of a site, and return it in the site's shape."""
    shape = np.shape(site["value"])
    try:
        array = jnp.asarray(np.broadcast_to(np.asarray(value, float), shape))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be a number or of shape {shape}") from error
    require(np.all(site["fn"].support(array)), f"{what} has values that its prior excludes")
    return array
