"""Likelihood with which fits are scored: one that knows missing entries.

It is the same for all fits.
"""

import dataclasses
from typing import Any

from mrgp.likelihoods.likelihood import Kalman
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData, stand_in


def known_to(fit: Any, data: MultiRegionData) -> MultiRegionData:
    """Recording with the neurons that a fit knows (see :meth:`mrgp.Fit.known`).

    A baseline knows all.
    """
    return fit.known(data) if hasattr(fit, "known") else data


def require_known(fit: Any, data: MultiRegionData) -> None:
    """Raise DataError if positions mean other neurons to the fit than to the recording."""
    if known_to(fit, data) is not data:
        raise DataError("the fit does not know all these neurons: take fit.known(test), and positions in that")


def scorer(fit: Any) -> Any:
    """Return the fit, under a likelihood that knows missing entries.

    It is the fit itself, or the same parameters under the Markov likelihood where its own is an approximation. The
    spectral likelihood takes frequencies as independent, and cannot leave entries out. Whatever is no fit of a model,
    such as a baseline, is its own scorer.
    """
    model: Any = getattr(fit, "model", None)
    likelihood = getattr(model, "likelihood", None)
    if likelihood is None or not likelihood.is_spectral:
        return fit
    model = model.replace(likelihood=Kalman())
    return dataclasses.replace(fit, model=model.adapted(stand_in(fit.layout), fit.sites, 1.0))
