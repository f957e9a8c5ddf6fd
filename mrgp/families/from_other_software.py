"""Sites from the parameters that other software reports."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mrgp.parts.delays.constant import DELAY
from mrgp.parts.means import MEAN_CHANGE, MEAN_SPREAD
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.layout import Layout

if TYPE_CHECKING:
    from mrgp.families.gaussian_process import GaussianProcesses


def sites_from(
    model: "GaussianProcesses",
    layout: Layout,
    *,
    loadings: Mapping[str, Any],
    offset: Any,
    noise: Any = None,
    timescale_across: Any = (),
    timescale_within: Any = (),
    delays: Any = None,
    **hyperparameters: Any,
) -> dict[str, np.ndarray]:
    """Build the sites of a model from plain arrays.

    Args:
        model: Whose sites these are.
        layout: Of the recording (``data.layout``).
        loadings: Region name -> (neuron, latent): across latents first, then the region's own.
        offset: (neuron,), regions one after the other; of log-rates where values are counts.
        noise: Variances, (neuron,); counts have none.
        timescale_across: (across_latent,), seconds, where the kernel has one. mbrila and DLAG give gamma:
            bin_width / sqrt(gamma).
        timescale_within: (within_latent,), seconds, regions one after the other.
        delays: (region, across_latent), seconds; the first region's row must be 0.
        hyperparameters: Other sites, such as ``frequency_across`` in Hz, or ``dispersion``. Of ``mean_change`` the
            prior is 1 wide where ``mean_spread`` is not given.

    Raises:
        ValueError: noise or delays are missing, or those of the first region are not 0.
    """
    assignment = model.assignment(layout)
    full = np.zeros((layout.total_neurons, assignment.n_columns))
    for name, columns in layout.region_slices.items():
        block = np.asarray(loadings[name], float)
        full[columns, : block.shape[1]] = block
    sites = {
        LOADINGS.name: full,
        OFFSET.name: np.asarray(offset, float),
        **{name: np.atleast_1d(np.asarray(value, float)) for name, value in hyperparameters.items()},
    }
    if not model.emission.is_of_counts:
        if noise is None:
            raise ValueError("noise is needed: a variance for every neuron")
        sites[NOISE.name] = np.asarray(noise, float)
    given = {"across": timescale_across, "within": timescale_within}
    for name in model.tables.dynamics_sites(layout):
        base, _, kind = name.partition("_")
        if base == "timescale":
            sites[name] = np.atleast_1d(np.asarray(given[kind], float))
    if DELAY.name in model.tables.dynamics_sites(layout):
        if delays is None:
            raise ValueError("delays are needed: (region, across_latent) in seconds, zeros for the first region")
        table = np.asarray(delays, float)
        if np.abs(table[0]).max(initial=0.0) > 0:
            raise ValueError("delays are measured from the first region: its row must be 0")
        sites[DELAY.name] = table[1:]
    if MEAN_CHANGE.name in sites:
        of_kinds = min(len(sites[MEAN_CHANGE.name]), 2), layout.total_neurons
        sites.setdefault(MEAN_SPREAD.name, np.ones(of_kinds))
    return sites
