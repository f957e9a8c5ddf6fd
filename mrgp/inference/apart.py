"""Test of long delays: whether regions that read a latent far apart in time still share it.

Copies of a latent that lie further apart than it remembers are independent: a long delay then makes one shared latent
into two private ones, and explains much without being a delay. So a lag counts only for what it explains beyond that:
against the same parameters with those regions' copies moved out of each other's sight.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mrgp.inference.run import Model
from mrgp.parts.delays.constant import DELAY
from mrgp.recordings.recording import MultiRegionData

OUT_OF_SIGHT = 100.0  # trials: a delay at which nothing is in common, for kernels that forget within some trials


def worth_of_sharing(model: Model, data: MultiRegionData, sites: Mapping[str, Any], bound: float) -> np.ndarray:
    """Return the nats that each latent gains by delays beyond ``bound`` (seconds), (latent,).

    The gain is the log-likelihood that is lost where the regions behind, and those ahead, by more than the bound share
    nothing with the others; loadings stay. It is negative where private copies explain the recording better, and
    infinity for a latent without such delays.
    """
    delay = np.asarray(sites[DELAY.name])
    beyond = np.abs(delay) > bound
    worth = np.full(delay.shape[1], np.inf)
    if not beyond.any():
        return worth
    away = OUT_OF_SIGHT * data.n_bins * data.bin_width * np.sign(delay) * beyond
    whole = float(model.log_likelihood(data, sites).sum())
    for latent in np.flatnonzero(beyond.any(0)):
        moved = delay.copy()
        moved[:, latent] += away[:, latent]
        worth[latent] = whole - float(model.log_likelihood(data, {**sites, DELAY.name: moved}).sum())
    return worth
