"""Delayed latents across groups (Gokcen et al. 2022, Nat. Comput. Sci. 2, 512-525)."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpyro.distributions as dist

from mrgp.families.model import Preset
from mrgp.parts.delays.constant import DELAY
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class DLAG(Preset):
    r"""Latents shared by all regions at constant delays, and latents private to one region.

    .. math::
        x_{r,k}(t) &= \sqrt{1-\epsilon}\, g_k(t - \delta_{r,k}) + \sqrt{\epsilon}\, \eta, \qquad g_k \sim GP(0, k) \\
        y_r(t) &= C_r [x_r(t); w_r(t)] + d_r + e_r(t), \qquad e_r \sim N(0, \mathrm{diag}\, R_r)

    (eqs. 1-9 of the paper). A positive delay means that the region lags the first region, whose delays are 0.
    Sample sites, in seconds: ``delay`` (region - 1, across_latent), uniform within ``max_delay``;
    ``timescale_across``, ``timescale_within``; ``loadings`` (neuron, column), ``noise``, ``offset``.
    """

    regions_needed: ClassVar[int] = 2

    def __call__(self, data: MultiRegionData) -> None:
        bound, bin_width = self.delay_bound(data.layout), data.bin_width
        assignment = self.assignment(data.layout)
        across, within = self.latent_sites(data)
        lagging = (assignment.n_regions - 1, self.n_across)
        delay = DELAY.sample(dist.Uniform(-bound, bound).expand(lagging).to_event(2))
        delay = jnp.concatenate([jnp.zeros((1, self.n_across)), delay / bin_width])
        emission = self.emission_sites(data)
        self.observe(data, emission, delay[None], across, within)
