"""Delayed latents across multiple groups (Gokcen et al. 2023, NeurIPS).

The spectral form is that of Gokcen et al. 2025, Neural Comput.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpyro.distributions as dist

from mrgp.families.relevance import RelevancePreset
from mrgp.parts.delays.constant import DELAY
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class MDLAG(RelevancePreset):
    r"""Latents of which each region reads those that it needs.

    Automatic relevance determination is per region and latent.

    .. math::
        y_r(t) &= C_r [x_r(t); w_r(t)] + d_r + e_r(t), \qquad e_r \sim N(0, \mathrm{diag}\, \phi_r^{-1}) \\
        C_{r,:,k} &\sim N(0, \alpha_{r,k}^{-1} I), \qquad \alpha_{r,k} \sim \mathrm{Gamma}(a, b), \qquad
        \phi \sim \mathrm{Gamma}(a, b), \qquad d_n \sim N(\bar y_n, \beta^{-1})

    (eqs. 1-8 of the 2023 paper, in which d has mean 0, not that of the neuron), latents and delays as in DLAG.
    ``fit(method="vb")``, its default, is the paper's: latents that no region reads are removed. ``likelihood="dense"``
    is mDLAG, "spectral" is fast-mDLAG.
    Sample sites, in seconds: those of DLAG, and ``alpha`` (region, column).
    """

    regions_needed: ClassVar[int] = 1
    methods: ClassVar[tuple[str, ...]] = (*RelevancePreset.methods, "laplace", "svi", "nuts")

    def __call__(self, data: MultiRegionData) -> None:
        bound, bin_width = self.delay_bound(data.layout), data.bin_width
        assignment = self.assignment(data.layout)
        across, within = self.latent_sites(data)
        delay = jnp.zeros((1, self.n_across))
        if assignment.n_regions > 1:
            lagging = (assignment.n_regions - 1, self.n_across)
            late = DELAY.sample(dist.Uniform(-bound, bound).expand(lagging).to_event(2))
            delay = jnp.concatenate([delay, late / bin_width])
        emission = self.emission_sites(data)
        self.observe(data, emission, delay[None], across, within)
