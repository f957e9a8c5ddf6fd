"""Likelihood with which fits are scored: one that knows missing entries.

It is the same for all fits.
"""

from typing import Any, Protocol

import xarray as xr

from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData


class Predictor(Protocol):
    """Anything that can be scored: a fit, or a :class:`mrgp.metrics.baselines.Baseline`.

    Anything else with their methods will do. One without a ``log_predictive`` of its own is taken to have a joint
    density, ``log_likelihood``.
    """

    def predict(self, data: MultiRegionData) -> xr.Dataset:
        """Fill in missing entries: ``<region>_mean`` (trial, time, neuron_<region>).

        Missing entries are predicted from the others.
        """
        ...


class Scorer(Predictor, Protocol):
    """Predictor that has a joint density, or a ``log_predictive`` in its place."""

    def log_likelihood(self, data: MultiRegionData) -> xr.DataArray:
        """log p of every trial in nats, (trial,)."""
        ...


def known_to(fit: Predictor, data: MultiRegionData) -> MultiRegionData:
    """Recording with the neurons that a fit knows (see :meth:`mrgp.Fit.known`).

    A baseline knows all.
    """
    return fit.known(data) if hasattr(fit, "known") else data


def require_known(fit: Predictor, data: MultiRegionData) -> None:
    """Raise DataError if positions mean other neurons to the fit than to the recording."""
    if known_to(fit, data) is not data:
        raise DataError("the fit does not know all these neurons: take fit.known(test), and positions in that")


def scorer(fit: Predictor) -> Scorer:
    """Return the fit, under a likelihood that knows missing entries.

    Whatever is no fit, such as a baseline, is its own scorer.
    """
    scored: Any = getattr(fit, "for_scoring", fit)
    return scored
