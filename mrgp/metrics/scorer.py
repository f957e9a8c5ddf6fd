"""The likelihood that a fit is scored with: one that knows missing entries, and the same for all fits."""

import dataclasses
from typing import Any

from mrgp.data import stand_in


def scorer(fit: Any) -> Any:
    """The fit itself, or the same parameters under the Markov likelihood where its own is an approximation.

    The spectral likelihood takes frequencies as independent, and cannot leave entries out. Whatever is no fit of a
    preset, such as a baseline, is its own scorer.
    """
    model: Any = getattr(fit, "model", None)
    if getattr(model, "likelihood", None) != "spectral":
        return fit
    model = model.replace(likelihood="markov")
    return dataclasses.replace(fit, model=model.adapted(stand_in(fit.layout), fit.sites, 1.0))
