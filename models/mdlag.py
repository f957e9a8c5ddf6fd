"""Delayed latents across multiple groups (Gokcen et al. 2023, NeurIPS; 2025, Neural Comput. for the spectral form)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from mrgp.data import MultiRegionData
from mrgp.preset import Preset


@dataclass(frozen=True)
class MDLAG(Preset):
    r"""Latents of which each region reads those that it needs: automatic relevance determination per region and latent.

    .. math::
        y_r(t) &= C_r [x_r(t); w_r(t)] + d_r + e_r(t), \qquad e_r \sim N(0, \mathrm{diag}\, \phi_r^{-1}) \\
        C_{r,:,k} &\sim N(0, \alpha_{r,k}^{-1} I), \qquad \alpha_{r,k} \sim \mathrm{Gamma}(a, b), \qquad
        \phi \sim \mathrm{Gamma}(a, b), \qquad d \sim N(0, \beta^{-1} I)

    (eqs. 1-8 of the 2023 paper), latents and delays as in DLAG. ``fit(method="vb")``, its default, is the paper's:
    latents that no region reads are removed. ``likelihood="dense"`` is mDLAG, "spectral" is fast-mDLAG.
    Sample sites, in seconds: those of DLAG, and ``alpha`` (region, column).

    Args:
        shape, rate: a and b. The reference values of 1e-12 hold no information, and make the joint density of loadings
            and alpha unbounded at zero loadings: for "map", SVI or NUTS take values near 1.
        offset_precision: beta.
    """

    shape: float = 1e-12
    rate: float = 1e-12
    offset_precision: float = 1e-12

    regions_needed: ClassVar[int] = 1
    held_in_search: ClassVar[tuple[str, ...]] = ("offset", "alpha")
    default_method: ClassVar[str] = "vb"

    def __call__(self, data: MultiRegionData) -> None:
        bound, bin_width = self.delay_bound(data.layout), data.bin_width
        assignment = self.assignment(data.layout)
        across = self.kernel_sites("across", self.n_across, bin_width)
        within = self.kernel_sites("within", sum(assignment.n_within), bin_width)
        delay = jnp.zeros((1, self.n_across))
        if assignment.n_regions > 1:
            lagging = (assignment.n_regions - 1, self.n_across)
            late = numpyro.sample("delay", dist.Uniform(-bound, bound).expand(lagging).to_event(2))
            delay = jnp.concatenate([delay, late / bin_width])
        tables = (assignment.n_regions, assignment.n_columns)
        alpha = numpyro.sample("alpha", dist.Gamma(self.shape, self.rate).expand(tables).to_event(2))
        with numpyro.plate("neuron", data.values.shape[-1]):
            spread = 1 / jnp.sqrt(alpha[assignment.region_of_neuron])
            loadings = numpyro.sample("loadings", dist.Normal(0.0, spread).to_event(1))
            noise = numpyro.sample("noise", dist.InverseGamma(self.shape, self.rate))
            offset = numpyro.sample("offset", dist.Normal(0.0, 1 / jnp.sqrt(self.offset_precision)))
        self.observe(data, loadings, noise, offset, delay[None], across, within)

    def draw_start(self, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> dict[str, np.ndarray]:
        sites = super().draw_start(rng, data, attempt)
        return {**sites, "alpha": self._weak(data)}

    def completed(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        return {**sites, "alpha": sites.get("alpha", self._weak(data))}

    def _weak(self, data: MultiRegionData) -> np.ndarray:
        """alpha that says nothing of loadings in each region's units."""
        assignment = self.assignment(data.layout)
        size = np.array([np.mean(data.scale[part] ** 2) for part in data.layout.region_slices.values()])
        return np.tile(1 / (9 * size)[:, None], (1, assignment.n_columns))
