"""Whether regions that read a latent far apart in time still share it.

Copies of a latent that lie further apart than it remembers are independent: a long delay then makes one shared latent
into two private ones, and explains much without being a delay. So a lag counts only for what it explains beyond that:
against the same parameters with those regions' copies moved out of each other's sight.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mrgp.data import MultiRegionData

OUT_OF_SIGHT = 100.0  # trials: a delay at which nothing is in common, whatever the kernel


def holds_together(model: Any, data: MultiRegionData, sites: Mapping[str, Any], bound: float) -> float:
    """Nats that the latent is worth, as shared, which is most of all shared at delays beyond a bound in seconds.

    Regions behind and regions ahead by more than the bound are moved away from all others, latent by latent; their
    loadings stay. Infinity where no delay is beyond the bound.
    """
    delay = np.asarray(sites["delay"])
    beyond = np.abs(delay) > bound
    if not beyond.any():
        return np.inf
    away = OUT_OF_SIGHT * data.n_bins * data.bin_width * np.sign(delay) * beyond
    whole = float(model.log_likelihood(data, sites).sum())
    worth = []
    for latent in np.flatnonzero(beyond.any(0)):
        moved = delay.copy()
        moved[:, latent] += away[:, latent]
        worth.append(whole - float(model.log_likelihood(data, {**sites, "delay": moved}).sum()))
    return max(worth)
