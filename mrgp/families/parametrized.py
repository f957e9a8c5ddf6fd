"""Parameters of a model as sample sites: priors, names, and tables in the user's units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from mrgp.families.choices import Choices
from mrgp.parts.kernels import Hyperparameters, in_bins
from mrgp.parts.loadings import ordered
from mrgp.parts.readout import Readout
from mrgp.parts.sites import kernel_site
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

TYPICAL_TIMESCALE = 0.1  # s, prior median; the factor of 4.5 either way (one sd) spans 20 ms to half a second
TIMESCALE_SPREAD = 1.5
TIMELESS = 1.0  # bins: what stands for the timescale of a kernel that has none, so that every latent has its entry


@dataclass(frozen=True)
class Parametrized(Choices):
    """Choices with the parameters that they need, as sites.

    Sites are in seconds and in the units of the recording.
    """

    # ---- sampled -------------------------------------------------------------------------------------------------

    def latent_sites(self, data: MultiRegionData) -> tuple[Hyperparameters, Hyperparameters]:
        """Sample the kernel parameters of the across and of the within latents, in bins.

        See :meth:`kernel_sites`.
        """
        across = self.kernel_sites("across", self.n_across, data.bin_width)
        return across, self.kernel_sites("within", sum(self.assignment(data.layout).n_within), data.bin_width)

    def kernel_sites(self, kind: str, n_latents: int, bin_width: float) -> dict[str, Array]:
        """Sample the kernel parameters of ``n_latents`` latents, and return them in bins.

        The sites are ``timescale_<kind>`` and so on. Timescales, of kernels that have one, are log-normal around 0.1 s,
        or log-uniform between ``timescale_bounds``; a kernel declares the priors of whatever else it has.
        """
        if n_latents == 0:
            return {name: jnp.zeros(0) for name in ("timescale", *self.kernel.parameters())}
        hyper: dict[str, Array] = {}
        with numpyro.plate(f"{kind}_latent", n_latents):
            if self.kernel.has_timescale:
                free = dist.LogNormal(np.log(TYPICAL_TIMESCALE), TIMESCALE_SPREAD)
                bounded = self.timescale_bounds and dist.LogUniform(*self.timescale_bounds)
                hyper["timescale"] = kernel_site("timescale", kind).sample(bounded or free)
            else:
                hyper["timescale"] = jnp.full(n_latents, TIMELESS * bin_width)
            for name, prior in self.kernel.parameters().items():
                inferred = not isinstance(prior, float)
                hyper[name] = kernel_site(name, kind).sample(prior) if inferred else jnp.full(n_latents, prior)
        return in_bins(hyper, bin_width)

    def emission_sites(self, data: MultiRegionData) -> Readout:
        """Sample loadings (neuron, column), the emission's own parameters, and the mean's course."""
        readout = self.loadings.sample(data, self.assignment(data.layout), self.emission)
        return readout._replace(course=self.mean.sample(data, self.emission, self.duration))

    # ---- read ----------------------------------------------------------------------------------------------------

    def dynamics_sites(self, layout: Layout) -> tuple[str, ...]:
        """Names of the sites that describe latents rather than neurons.

        A posterior is asked about these.
        """
        counts = {"across": self.n_across, "within": sum(self.assignment(layout).n_within)}
        own = self.kernel.parameters()
        names = ["timescale"] * self.kernel.has_timescale + [n for n in own if not isinstance(own[n], float)]
        kernel = [f"{name}_{kind}" for kind, count in counts.items() if count for name in names]
        delays = (
            ["delay"]
            if self.assignment(layout).n_regions > 1 and self.n_across and self.delay_bound(layout) > 0
            else []
        )
        return (*delays, *kernel)

    def hyperparameters(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> dict[str, np.ndarray]:
        """Kernel parameters of one kind of latent in bins, from sites in seconds."""
        count = self.n_across if kind == "across" else sum(self.assignment(layout).n_within)
        hyper = {"timescale": np.full(count, TIMELESS * layout.bin_width)}
        if count and self.kernel.has_timescale:
            hyper["timescale"] = np.asarray(sites[f"timescale_{kind}"])
        for name, prior in self.kernel.parameters().items():
            fixed = isinstance(prior, float) or not count
            hyper[name] = (
                np.full(count, prior if isinstance(prior, float) else 0.0)
                if fixed
                else np.asarray(sites[f"{name}_{kind}"])
            )
        return in_bins(hyper, layout.bin_width)

    def delay_table(self, sites: Mapping[str, Any], layout: Layout, n_bins: int) -> np.ndarray:
        """Delays in seconds, (..., region, across_latent).

        Sites may have leading axes of draws. A model whose delays vary returns (..., region, across_latent, time) for
        trials of ``n_bins`` bins.
        """
        if "delay" not in sites:
            return np.zeros((self.assignment(layout).n_regions, self.n_across))
        delay = np.asarray(sites["delay"])
        return np.concatenate([np.zeros_like(delay[..., :1, :]), delay], axis=-2)

    def timescale_table(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> np.ndarray:
        """Timescales of the latents of one kind in seconds, (latent,); 0 for white latents.

        The kind is "across" or "within".
        """
        bins = np.asarray(self.hyperparameters(sites, kind, layout)["timescale"])
        return bins * layout.bin_width * self.kernel.has_timescale

    def mean_table(self, sites: Mapping[str, Any], data: MultiRegionData) -> np.ndarray:
        """Mean of every neuron over time, (condition, time, neuron).

        It is in units of the recording, or the log-rate of counts.
        """
        level = np.broadcast_to(sites["offset"], (data.layout.n_conditions, data.n_bins, data.layout.total_neurons))
        return level + self.mean.course(sites, data, self.duration)

    def noise_of(self, sites: Mapping[str, Any]) -> np.ndarray:
        """Noise variances, (neuron,).

        For counts they are the variances of the error with which one bin measures each log-rate.
        """
        return np.asarray(self.emission.noise_of(sites))

    def presented(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]:
        """Put parameters into the order that a fit shows, where no recording can decide it.

        White latents are exchangeable, up to a rotation: they are rotated to explain as much as they can one by one.
        """
        arrays = {name: np.asarray(value) for name, value in sites.items()}
        if not self.kernel.has_timescale and not {"delay", "alpha"} & sites.keys():
            arrays["loadings"] = ordered(self.assignment(layout), arrays["loadings"], self.noise_of(arrays))
        return arrays

    # ---- given ---------------------------------------------------------------------------------------------------

    def params_from(
        self,
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
        """Build sites from plain arrays, for checks against other software.

        Args:
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
        """
        assignment = self.assignment(layout)
        full = np.zeros((layout.total_neurons, assignment.n_columns))
        for name, columns in layout.region_slices.items():
            block = np.asarray(loadings[name], float)
            full[columns, : block.shape[1]] = block
        sites = {
            "loadings": full,
            "offset": np.asarray(offset, float),
            **{name: np.atleast_1d(np.asarray(value, float)) for name, value in hyperparameters.items()},
        }
        if not self.is_of_counts:
            if noise is None:
                raise ValueError("noise is needed: a variance for every neuron")
            sites["noise"] = np.asarray(noise, float)
        given = {"across": timescale_across, "within": timescale_within}
        for name in self.dynamics_sites(layout):
            base, _, kind = name.partition("_")
            if base == "timescale":
                sites[name] = np.atleast_1d(np.asarray(given[kind], float))
        if "delay" in self.dynamics_sites(layout):
            if delays is None:
                raise ValueError("delays are needed: (region, across_latent) in seconds, zeros for the first region")
            table = np.asarray(delays, float)
            if np.abs(table[0]).max(initial=0.0) > 0:
                raise ValueError("delays are measured from the first region: its row must be 0")
            sites["delay"] = table[1:]
        if "mean_change" in sites:
            sites.setdefault("mean_spread", np.ones((min(len(sites["mean_change"]), 2), layout.total_neurons)))
        return sites
