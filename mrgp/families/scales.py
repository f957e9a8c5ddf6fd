"""Scales of parameters: how far a climb may step, from spectra of latents."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mrgp.inference.mode.whittle import heard, of_delay, of_kernel, of_readouts, spectrum
from mrgp.parts.delays.bounds import levels
from mrgp.parts.emissions.beginning import TellingBins
from mrgp.parts.readout import LOADINGS
from mrgp.recordings.recording import MultiRegionData

if TYPE_CHECKING:
    from mrgp.families.gaussian_process import GaussianProcesses

WIDEST_STEP = 0.3  # of log timescales: what nothing is known of
LEAST_SLOPE = 1e-3  # of a log timescale by its free coordinate


def scales_of_dynamics(
    model: "GaussianProcesses", data: MultiRegionData, sites: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Approximate posterior sd of delays and kernel parameters, in unconstrained coordinates.

    See ``inference.mode.whittle``.
    """
    layout, bounds = data.layout, model.timescale_bounds
    assignment, loadings = model.assignment(layout), np.asarray(sites[LOADINGS.name])
    power = assignment.member @ (loadings**2 / np.asarray(model.emission.noise_of(sites))[:, None])  # (region, column)
    shared = heard(power[:, : model.n_across], model.gp_noise)
    within = slice(assignment.n_regions * model.n_across, None)  # of the readouts
    own = power[assignment.region_of_readout[within], assignment.column_of_readout[within]]
    precision = {"across": shared.sum(0), "within": heard(own, model.gp_noise)}
    wanted = model.tables.dynamics_sites(layout)
    scales = {}
    for kind, told in precision.items():
        names = [site.removesuffix(f"_{kind}") for site in wanted if site.endswith(f"_{kind}")]
        if not names:
            continue
        hyper = model.tables.hyperparameters(sites, kind, layout)
        for name, each in of_kernel(model.kernel, hyper, names, told, data.n_bins).items():
            slope = np.ones(1)  # of the logarithm by the free coordinate, which is another between bounds
            if name == "timescale" and bounds is not None:
                low, high = bounds
                timescale = np.asarray(sites[f"timescale_{kind}"])
                slope = np.maximum((timescale - low) * (high - timescale) / ((high - low) * timescale), LEAST_SLOPE)
            scales[f"{name}_{kind}"] = 1 / np.sqrt(data.n_trials * each * slope**2 + WIDEST_STEP**-2)

    def information() -> np.ndarray:
        hyper = model.tables.hyperparameters(sites, "across", layout)
        each = of_delay(model.kernel, hyper, shared, data.n_bins)[1:] / data.bin_width**2
        return data.n_trials * each

    return scales | model.delays.scales(sites, model.tables.extent(layout, data.n_bins), information)


def told_by_spectra(model: "GaussianProcesses", data: MultiRegionData, sites: Mapping[str, Any]) -> TellingBins:
    """Bins of a trial that tell of loadings, noise and offsets, where latents have spectra."""
    layout = data.layout
    across, within = (
        spectrum(model.kernel, model.tables.hyperparameters(sites, kind, layout), data.n_bins)
        for kind in ("across", "within")
    )
    delay = levels(model.delays, sites, model.tables.extent(layout, data.n_bins)) / data.bin_width
    noise = np.asarray(model.emission.noise_of(sites))
    assignment = model.assignment(layout)
    return of_readouts(assignment, np.asarray(sites[LOADINGS.name]), noise, delay, across, within, model.gp_noise)


def told_by_all(model: "GaussianProcesses", data: MultiRegionData, sites: Mapping[str, Any]) -> TellingBins:
    """All bins of a trial, where latents have no spectra."""
    return TellingBins.by_all(data.n_bins, model.assignment(data.layout))
