"""Simulated recordings with their truth, and the form that the truth has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.likelihoods.base import Drawn
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.delays.varying import DELAY_CHANGE
from mrgp.parts.sites import site_of
from mrgp.recordings.layout import Layout
from mrgp.recordings.load import save_recording
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_netcdf

LEVEL = "delay_level"  # the site of the level around which a model's delays vary, in a truth that has them as they are
SECONDS = {"units": "s"}


@dataclass(frozen=True, eq=False, repr=False)
class Simulation(Shown):
    """A simulated recording, and the truth that it was made from.

    Attributes:
        data: The recording, NaN where something was left out.
        truth: In seconds ``delay`` (region, across_latent[, time]), ``timescale_across`` (across_latent),
            ``timescale_within`` (within_latent), 0 where there are none. ``shared_by`` (region, across_latent), bool.
            ``loadings`` (neuron, column), 0 where nothing is read, variances ``noise`` and ``offset`` (neuron), and
            every other site of the model, under its name, with its dims and units. For every
            bin, kept or not: the smooth latents ``across`` (trial, time, across_latent), on region 1's clock,
            and ``within`` (trial, time, within_latent); ``readouts`` (trial, time, readout), delayed and with
            GP noise. Of a fit with a guide instead the sites of trials, ``eta`` (trial, time, neuron) among them, and
            the parameters that have names. Coordinates ``region_of_neuron``, ``_within``, ``_readout`` name regions.
            Attributes ``bin_width`` (s), ``seed``, and ``gp_noise``, ``kernel``, or ``model`` where one was given.
        sites: The same parameters as the model's program takes them, such as by ``model.log_likelihood``.
    """

    data: MultiRegionData
    truth: xr.Dataset
    sites: Mapping[str, np.ndarray] = field(default_factory=dict)

    def _card(self) -> Card:
        known = {"truth": ", ".join(map(str, self.truth.data_vars))}
        return Card("Simulation: a recording in data, what it was made from in truth", known, text=f"{self.data}")

    def save(self, folder: str | Path) -> None:
        """Write ``recording.nc`` and ``truth.nc`` into ``folder``, which is made if need be.

        A file that exists is replaced only once the new one is whole.

        Raises:
            OSError: The folder cannot be made or written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_recording(self.data, folder / "recording.nc")
        write_netcdf(folder / "truth.nc", self.truth)


def populations(model: GaussianProcesses, layout: Layout) -> tuple[str, ...]:
    """Regions of a model: those of the recording, or one where the model pools them."""
    return layout.regions if model.assignment(layout).n_regions == layout.n_regions else ("all",)


def truth_of(
    model: GaussianProcesses,
    frame: MultiRegionData,
    sites: Mapping[str, np.ndarray],
    drawn: Drawn,
    delays: np.ndarray,
    readers: np.ndarray,
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Gather what is known of a simulation, see :class:`Simulation`.

    ``delays`` are (region, across_latent[, time]) in seconds, ``readers`` (region, across_latent); ``attrs`` say more.
    Where the model pools regions, all of the recording's have the one row of these tables.
    """
    layout, assignment = frame.layout, model.assignment(frame.layout)
    pools = np.array(populations(model, layout))
    delays, readers = (np.broadcast_to(table, (layout.n_regions, *table.shape[1:])) for table in (delays, readers))
    n_across, n_regions = assignment.n_across, assignment.n_regions
    absent = {"timescale_across": np.zeros(n_across), "timescale_within": np.zeros(sum(assignment.n_within))}
    arrays: dict[str, Any] = {DELAY.name: (("region", "across_latent", "time")[: delays.ndim], delays, SECONDS)}
    sizes = {"region": layout.n_regions}
    for name, value in (absent | {name: sites[name] for name in sites if name != DELAY.name}).items():
        arrays[name] = labelled(name, value, sizes)
    if DELAY_CHANGE.name in sites:
        arrays[LEVEL] = (DELAY.dims, sites[DELAY.name], SECONDS)
    arrays |= {
        "shared_by": (("region", "across_latent"), readers),
        "across": (("trial", "time", "across_latent"), drawn.signals[..., :n_across]),
        "within": (("trial", "time", "within_latent"), drawn.signals[..., n_regions * n_across :]),
        "readouts": (("trial", "time", "readout"), drawn.readouts),
    }
    coords: dict[str, Any] = {
        "region": list(layout.regions),
        "time": ("time", frame.times, SECONDS),
        "region_of_neuron": ("neuron", np.array(layout.regions)[layout.region_of_neuron]),
        "region_of_within": ("within_latent", pools[assignment.region_of_within]),
        "region_of_readout": ("readout", pools[assignment.region_of_readout]),
    }
    if layout.conditions:
        coords["condition_of_trial"] = ("trial", np.array(layout.conditions)[frame.condition])
    if "condition" in sizes:
        coords["condition"] = list(layout.conditions or ("all",))
    return xr.Dataset(arrays, coords, {**attrs, "bin_width": layout.bin_width})


def labelled(name: str, value: np.ndarray, sizes: dict[str, int]) -> tuple[Sequence[str], np.ndarray, dict[str, str]]:
    """Return a site with its dims and units.

    A dim that another site has of another size gets a name of its own.
    """
    site = site_of(name)
    named = [f"{name}_{axis}" for axis in range(value.ndim)] if site is None else site.dims
    dims = [d if sizes.setdefault(d, n) == n else f"{d}_of_{name}" for d, n in zip(named, value.shape, strict=True)]
    return dims, value, {"units": site.unit} if site is not None and site.unit else {}
