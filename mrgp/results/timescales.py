"""Table of the timescales of latents."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from mrgp.recordings.layout import Layout
from mrgp.results.fitted import FittedTables


def timescale_table(
    tables: FittedTables, sites: Mapping[str, Any], layout: Layout, within_names: Sequence[str]
) -> xr.Dataset:
    """Gather timescales in seconds: ``across`` (across_latent), ``within`` (within_latent)."""
    arrays = {kind: (f"{kind}_latent", tables.timescales(sites, kind, layout)) for kind in ("across", "within")}
    coords = {"across_latent": np.arange(len(arrays["across"][1])), "within_latent": list(within_names)}
    return xr.Dataset(arrays, coords, {"units": "s"})
