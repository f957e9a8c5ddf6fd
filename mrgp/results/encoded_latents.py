"""Latents of an autoencoder: what its encoders read of a recording."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr

from mrgp.parts.latents import LatentLayout
from mrgp.recordings.layout import Layout
from mrgp.results.amortised_conditional import LatentsShown, ShownWithGuide
from mrgp.results.conditional import within_names
from mrgp.results.draws import LATENTS

if TYPE_CHECKING:
    from mrgp.results.amortised_conditional import AmortisedConditional

READINGS = "readings"  # deterministic site of the program: latents as each region reads them


class Encoder(ShownWithGuide, Protocol):
    """Interface that results need of an autoencoder."""

    def assignment(self, layout: Layout) -> LatentLayout: ...
    def readers(self, layout: Layout) -> np.ndarray: ...


@dataclass(frozen=True)
class EncodedLatents(LatentsShown):
    """Shared and private latents with their regions; they are no draws, and have no sd."""

    def latents(self, given: "AmortisedConditional") -> xr.Dataset:
        """Latents of every trial and bin.

        They are ``across_mean`` (trial, time, across_latent), fused over regions; ``across_of_region`` (trial, time,
        region, across_latent), as each region reads them by itself, NaN where it does not share one; and
        ``within_mean`` (trial, time, within_latent), of which ``region_of_within`` names the regions. ``shared_by``
        (region, across_latent) says who shares what.
        """
        model: Any = given.model
        layout = given.data.layout
        assignment, readers = model.assignment(layout), model.readers(layout).astype(bool)
        (fused, _), (readings, _) = given.of_sites(LATENTS, READINGS)
        n_across = assignment.n_across
        shared_by = readers[:, :n_across]
        arrays: dict[str, Any] = {
            "across_mean": (("trial", "time", "across_latent"), fused[..., :n_across]),
            "across_of_region": (
                ("trial", "time", "region", "across_latent"), np.where(shared_by, readings[..., :n_across], np.nan),
            ),
            "within_mean": (("trial", "time", "within_latent"), fused[..., n_across:]),
        }  # fmt: skip
        coords: dict[str, Any] = {
            "trial": np.arange(len(fused)), "time": given.data.times, "region": list(layout.regions),
            "across_latent": np.arange(n_across), "within_latent": within_names(layout, assignment),
            "region_of_within": ("within_latent", np.array(layout.regions)[assignment.region_of_within]),
            "shared_by": (("region", "across_latent"), shared_by),
        }  # fmt: skip
        return xr.Dataset(arrays, coords)
