"""Likelihood that any fit must reach: that of the trivial model.

In it every neuron has its own mean, and its variance or rate. Every model holds that one, with loadings of zero. A fit
that ends below it has gone wrong on the way, however good its numbers look: it is made again from a quiet start, and
refused if that ends below it too.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np

from mrgp.inference.density import free_sites, prior_density
from mrgp.inference.optimise import INTERRUPTED
from mrgp.inference.run import AnyModel, Options, Run, Start
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.parts.sites import of_neurons
from mrgp.recordings.checks import DataError, warn
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.thinning import thinned

RESTARTS = 2  # with other random numbers, from quiet starts, before a fit is given up
FAR = 1_000_003  # between seeds of restarts: with the next ones, trainings of neighbouring seeds would be the same
SLACK = 1.0  # nats per neuron: what priors may cost a fit of a recording in which there is nothing to find
QUIET = 0.1  # of the loadings that the search for a start has found, where a fit is made again

AGAIN = "the first climb ended below each neuron's own mean: the fit was made again, from the data and a quiet start"

type FitMethod = Callable[[AnyModel, MultiRegionData, Options, Start | None], Run]


def never_below_trivial(has_priors: bool) -> Callable[[FitMethod], FitMethod]:
    """Make a method fit again, and at last refuse, if a fit ends below the trivial model.

    Nothing is asked of fits that the user stopped, or in which a site is held that neurons have a value of each, which
    may keep it from the trivial model.

    Args:
        has_priors: Whether what the method climbs has the prior densities of parameters in it.
    """

    def guarded(method: FitMethod) -> FitMethod:
        @wraps(method)
        def fit(model: AnyModel, data: MultiRegionData, options: Options, start: Start | None = None) -> Run:
            asked, began, needed = options, start, _needed(model, data)  # first: what is wrong shows before the climb
            for attempt in range(1, RESTARTS + 2):
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    run = method(model, data, asked, began)
                if run.reason == INTERRUPTED or of_neurons(options.fixed) or _reaches(run, data, has_priors, needed):
                    break
                asked, began = replace(options, seed=options.seed + attempt * FAR, quiet=True), None
            else:
                raise DataError(_refusal(run, data))
            for warning in said:  # of the run that is returned; what a discarded one had to say would mislead
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
            if asked is options:
                return run
            warn(AGAIN)
            return replace(run, notes=(*run.notes, AGAIN))

        return fit

    return guarded


def quietened(sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
    """Make the loadings of a start small, and let noise or offsets make up for them."""
    quiet = {**sites, LOADINGS.name: QUIET * np.asarray(sites[LOADINGS.name])}
    if NOISE.name in sites:
        quiet[NOISE.name] = np.asarray(data.scale) ** 2
    else:
        lost = 0.5 * (1 - QUIET**2) * np.square(sites[LOADINGS.name]).sum(1)
        quiet[OFFSET.name] = np.asarray(sites[OFFSET.name]) + lost
    return quiet


def _needed(model: AnyModel, data: MultiRegionData) -> float:
    return float(model.emission.trivial_log_likelihood(data).sum() - SLACK * data.layout.total_neurons)


def _reaches(run: Run, data: MultiRegionData, has_priors: bool, needed: float) -> bool:
    """True if log p(y | parameters) reaches that of the trivial model, up to SLACK."""
    score = run.trace[-1] if len(run.trace) else -np.inf
    if has_priors and np.isfinite(score):  # what they add is cheap to know
        score -= prior_density(run.model, data, run.sites, free_sites(run.model, data))
    if score >= needed:
        return True
    return bool(run.model.conditional(data, run.sites).log_likelihood().sum() >= needed)


def _refusal(run: Run, data: MultiRegionData) -> str:
    """Message about a failed fit that names the neuron whose parameters suit it least."""
    data = thinned(data)
    mask, values = data.mask, data.floats
    mean, variance = run.model.conditional(data, run.sites).moments()
    with np.errstate(all="ignore"):
        scores = np.log(variance) + (values - mean) ** 2 / variance
        scores = np.where(mask, scores, 0.0).sum((0, 1)) / np.maximum(mask.sum((0, 1)), 1) - 2 * np.log(data.scale)
    neuron = int(np.argmax(np.where(np.isfinite(scores), scores, np.inf)))
    return (
        f"{type(run.model).__name__}: the fit ended below the model in which every neuron has its own mean, also from "
        f"{RESTARTS} other starts; look at {data.name_neuron(neuron)} first, and leave it out of the "
        "recording if it is no neuron"
    )
