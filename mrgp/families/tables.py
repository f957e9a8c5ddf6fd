"""Tables of a model's parameters: names, sizes and numbers, from its sites."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mrgp.likelihoods.statespace.lift import is_white
from mrgp.parts.delays.base import Extent
from mrgp.parts.readout import OFFSET
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

if TYPE_CHECKING:
    from mrgp.families.gaussian_process import GaussianProcesses


def timescales_of_kernel(model: "GaussianProcesses", sites: Mapping[str, Any], kind: str, layout: Layout) -> np.ndarray:
    """Timescales of the kernel in seconds, (latent,); 0 for white latents."""
    bins = np.asarray(model.tables.hyperparameters(sites, kind, layout)["timescale"])
    return bins * layout.bin_width * model.kernel.has_timescale


@dataclass(frozen=True)
class Tables:
    """Parameters of one model as numbers.

    A kind of latents is "across" or "within". Sites are in seconds.

    Attributes:
        model: The model whose parameters these are.
        timing: Timescales of latents of a kind, as :func:`mrgp.families.tables.timescales_of_kernel` gives them.
    """

    model: "GaussianProcesses"
    timing: Callable[[Any, Mapping[str, Any], str, Layout], np.ndarray] = timescales_of_kernel

    def extent(self, layout: Layout, n_bins: int) -> Extent:
        """Size of the table of delays of trials of ``n_bins`` bins."""
        model = self.model
        covered = n_bins if model.duration is None else round(model.duration / layout.bin_width)
        return Extent(model.assignment(layout).n_regions, model.n_across, layout.bin_width, n_bins, covered)

    def dynamics_sites(self, layout: Layout) -> tuple[str, ...]:
        """Names of the sites that describe latents, not neurons: a posterior is asked about these."""
        model = self.model
        counts = {"across": model.n_across, "within": sum(model.assignment(layout).n_within)}
        kernel = [name for kind, count in counts.items() if count for name in model.kernel.sites(kind)]
        delays = model.delays.dynamics(self.extent(layout, 1))
        return (*delays[:1], *kernel, *delays[1:])

    def remember(self, layout: Layout) -> bool:
        """True unless latents of a bin say nothing of any other bin's: white and undelayed."""
        model = self.model
        return model.is_state_space or not is_white(model.kernel) or bool(self.dynamics_sites(layout))

    def hyperparameters(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> dict[str, np.ndarray]:
        """Kernel parameters of latents of a kind in bins."""
        count = self.model.n_across if kind == "across" else sum(self.model.assignment(layout).n_within)
        return self.model.kernel.at(sites, kind, count, layout.bin_width)

    def timescales(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> np.ndarray:
        """Timescales of latents of a kind in seconds, (latent,); 0 for white latents."""
        return self.timing(self.model, sites, kind, layout)

    def delays(self, sites: Mapping[str, Any], layout: Layout, n_bins: int) -> np.ndarray:
        """Delays in seconds, (..., region, across_latent[, time]); sites may have axes of draws."""
        return self.model.delays.table(sites, self.extent(layout, n_bins))

    def mean(self, sites: Mapping[str, Any], data: MultiRegionData) -> np.ndarray:
        """Mean of every neuron, or of its log-rate, over time, (condition, time, neuron)."""
        shape = data.layout.n_conditions, data.n_bins, data.layout.total_neurons
        course = self.model.mean.course(sites, data, self.model.duration)
        return np.broadcast_to(sites[OFFSET.name], shape) + course
