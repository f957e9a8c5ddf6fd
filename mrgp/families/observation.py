"""Observation of a recording: its trials under the likelihood that a model has chosen."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import handlers

from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.likelihood import Parameters
from mrgp.parts.readout import Readout
from mrgp.recordings.checks import DataError
from mrgp.recordings.missing import Missing
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.workers import TRACING

if TYPE_CHECKING:
    from mrgp.families.gaussian_process import GaussianProcesses


def observe(model: "GaussianProcesses", data: MultiRegionData, emission: Readout, parameters: Parameters) -> None:
    """Sample the observed site ``y``, (trial, time, neuron), with the latents integrated out.

    Called inside a NumPyro program.

    Raises:
        DataError: the emission cannot describe the recording.
    """
    if (why := model.emission.unsuited(data)) is not None:
        raise DataError(f"{type(model).__name__}: ", *why)
    data, n_bins, size = data.trimmed, data.n_bins, data.batch_size
    with numpyro.plate("trial", data.n_trials, subsample_size=size) as index:
        seen = data if size is None else data.batch(index)
        holes: Any = (seen.observed, seen.pattern, seen.length)
        missing = None if seen.is_complete else Missing(*holes)
        common: dict[str, Any] = {"n_bins": n_bins, "n_trials": seen.n_trials, "missing": missing}
        if emission.counts is None:
            common["origin"] = jnp.asarray(data.center)
        if emission.autocorrelation is not None:
            common["autocorrelation"] = emission.autocorrelation
        if emission.course is not None:
            common |= {"course": emission.course, "condition": seen.condition}
        likelihood = model.likelihood.distribution(model, data.layout, parameters, common)
        shared, counts = model.shared_covariance, emission.counts
        observed = likelihood if counts is None else CountGP(likelihood, counts, shared_covariance=shared)
        with handlers.scale(scale=1.0 if data.weight is None else data.weight):
            numpyro.sample("y", observed, obs=seen.values)  # it makes numbers of what is kept, part by part


def distribution_at(model: "GaussianProcesses", data: MultiRegionData, sites: Mapping[str, Any]) -> DelayedGP | CountGP:
    """Distribution of the recording's trials at given sites: what the program observes ``y`` by.

    Raises:
        ValueError: sites are missing, or the model has no such site.
    """
    program = handlers.substitute(handlers.seed(model, 0), data={n: jnp.asarray(v) for n, v in sites.items()})
    with TRACING:
        trace = handlers.trace(program).get_trace(data)
    own = {name for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}
    if missing := sorted(name for name in own - sites.keys() if np.size(trace[name]["value"])):
        raise ValueError(f"parameters are missing: {', '.join(missing)}")
    if unknown := sorted(sites.keys() - own):
        raise ValueError(
            f"{type(model).__name__} has no parameters {', '.join(unknown)}; it has {', '.join(sorted(own))}"
        )
    return trace["y"]["fn"]
