"""Recordings drawn from a fit, together with the latents that made them."""

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr

from mrgp.parts.sites import site_of
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.amortised_fit import dims_of_trials
from mrgp.results.draws import ETA, LATENTS, VALUES
from mrgp.results.fit import Fit, of_processes
from mrgp.results.frames import filled, frame_of
from mrgp.results.gaussian_process_fit import GaussianProcessFit
from mrgp.results.switching_conditional import STATES
from mrgp.simulations.design import require
from mrgp.simulations.program import exact_distribution
from mrgp.simulations.simulate import check_length
from mrgp.simulations.simulation import SECONDS, Simulation, labelled, truth_of


def simulate_from(
    fit: Fit, n_trials: int = 50, n_bins: int | None = None, seed: int = 0, conditions: Sequence[str] | None = None
) -> Simulation:
    """Draw a recording from a fitted model, with the truth of its latents.

    ``fit.sample`` draws values alone. Trials have no missing entries.

    Args:
        fit: Of any model. Gaussian processes are drawn as by :func:`mrgp.simulate`, exactly; models with a guide from
            their own program.
        n_trials: Trials.
        n_bins: Bins of each; None for those of the fit.
        seed: Of everything.
        conditions: Of the trials, one each; None for all conditions of the fit in turn.

    Raises:
        ValueError: there are no trials or bins, trials are too long to be drawn exactly, or there is not one condition
            for each.
    """
    bins = fit.n_bins if n_bins is None else n_bins
    for name, count in (("n_trials", n_trials), ("n_bins", bins)):
        require(count >= 1, f"{name} must count at least 1, not {count}")
    frame = frame_of(fit, n_trials, bins, conditions)
    attrs = {"seed": seed, "model": json.dumps(fit.model.to_settings(), default=str)}
    values, truth = _of_processes(fit, frame, attrs) if of_processes(fit) else _of_program(fit, frame, attrs)
    sites = {name: np.asarray(value) for name, value in fit.sites.items()}
    return Simulation(filled(frame, values), truth, sites)


def _of_processes(
    fit: GaussianProcessFit, frame: MultiRegionData, attrs: dict[str, Any]
) -> tuple[np.ndarray, xr.Dataset]:
    """Draw trials of Gaussian processes exactly; return values and truth."""
    model: Any = fit.model
    assignment = model.assignment(frame.layout)
    check_length(assignment, frame.n_bins)
    everything = np.ones((assignment.n_regions, assignment.n_across), bool)
    readers = fit.shared_by().values if fit.has_relevance else everything
    sites = {name: np.asarray(value) for name, value in fit.sites.items()}
    with jax.enable_x64(True):  # whatever the session's precision
        drawn = exact_distribution(model, frame, sites).draw(np.random.default_rng(attrs["seed"]))
    delays = model.tables.delays(sites, frame.layout, frame.n_bins)
    return drawn.values, truth_of(model, frame, sites, drawn, delays, readers, attrs)


def _of_program(fit: Fit, frame: MultiRegionData, attrs: dict[str, Any]) -> tuple[np.ndarray, xr.Dataset]:
    """Draw trials from a program with networks; return values and truth."""
    given: Any = fit.conditional(frame)  # of a guide
    drawn = given.drawn(jax.random.key(attrs["seed"]))
    values, layout = drawn.pop(VALUES), frame.layout
    axis, timed = fit.latent_axis, ("trial", "time")
    named = {ETA: (*timed, "neuron"), LATENTS: (*timed, axis), STATES: timed}
    arrays: dict[str, Any] = {n: (named.get(n) or dims_of_trials(n, v, frame.n_bins), v) for n, v in drawn.items()}
    sizes = {"region": layout.n_regions, "neuron": layout.total_neurons, axis: drawn[LATENTS].shape[-1]}
    arrays |= {n: labelled(n, np.asarray(v), sizes) for n, v in fit.sites.items() if site_of(n) is not None}
    coords: dict[str, Any] = {
        "region": list(layout.regions),
        "time": ("time", frame.times, SECONDS),
        "region_of_neuron": ("neuron", np.array(layout.regions)[layout.region_of_neuron]),
    }
    if layout.conditions:
        coords["condition_of_trial"] = ("trial", np.array(layout.conditions)[frame.condition])
    return values, xr.Dataset(arrays, coords, {**attrs, "bin_width": layout.bin_width})
