"""Likelihood with which fits are scored: one that knows missing entries.

It is the same for all fits.
"""

from typing import Any

from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData


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

    Whatever is no fit, such as a baseline, is its own scorer.
    """
    return getattr(fit, "for_scoring", fit)
