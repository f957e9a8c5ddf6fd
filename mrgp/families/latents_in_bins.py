"""Latents of a model in bins: what a likelihood represents."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mrgp.likelihoods.likelihood import FittedLatents
from mrgp.parts.emissions.autocorrelated import NOISE_TIMESCALE
from mrgp.parts.kernels import Kernel, in_bins
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

if TYPE_CHECKING:
    from mrgp.families.gaussian_process import GaussianProcesses

SHORTEST_EXPECTED = 1.4  # bins: what registers are made for before data have spoken


def typical_latents(model: "GaussianProcesses", layout: Layout) -> FittedLatents:
    """Latents with timescales of SHORTEST_EXPECTED bins, and the means of all other priors."""
    hyper = typical_hyperparameters(model.kernel, SHORTEST_EXPECTED * layout.bin_width, layout.bin_width)
    bound = model.delays.bound(layout.bin_width) / layout.bin_width
    read = np.zeros((1, 1)), bound, model.emission.is_autocorrelated
    return FittedLatents(model.prior(layout), hyper, hyper, *read)


def typical_hyperparameters(kernel: Kernel, timescale: float, bin_width: float) -> dict[str, np.ndarray]:
    """Parameters of one latent in bins, (1,): its timescale, and means of other priors.

    The timescale is given in seconds.
    """
    typical: dict[str, np.ndarray] = {
        name: np.atleast_1d(np.asarray(value if isinstance(value, float) else value.mean, float))
        for name, value in kernel.parameters().items()
    }
    return in_bins({**typical, "timescale": np.array([timescale])}, bin_width)


def latents_at(model: "GaussianProcesses", data: MultiRegionData, sites: Mapping[str, Any]) -> FittedLatents:
    """Latents at given sites."""
    layout = data.layout
    across, within = (model.tables.hyperparameters(sites, kind, layout) for kind in ("across", "within"))
    delay = model.tables.delays(sites, layout, data.n_bins) / layout.bin_width
    bound, share = model.delays.bound(layout.bin_width) / layout.bin_width, 1.0
    if model.emission.is_autocorrelated:  # innovations miss (1 + phi^2) times as much, and 1 - phi^2 of noise is new
        phi = np.exp(-layout.bin_width / np.asarray(sites[NOISE_TIMESCALE.name])).max()
        share = float((1 - phi**2) / (1 + phi**2))
    noise = model.emission.is_autocorrelated, share
    return FittedLatents(model.prior(layout), across, within, delay, bound, *noise)
