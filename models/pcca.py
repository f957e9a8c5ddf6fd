"""Probabilistic canonical correlation analysis (Bach & Jordan 2005, Tech. Rep. 688, UC Berkeley)."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from mrgp.data import Layout, MultiRegionData
from mrgp.kernels import Kernel, White
from mrgp.preset import Preset

SAME = 1e-6  # share of noise in each region's copy of a shared latent: copies that are one, but for round-off


@dataclass(frozen=True)
class PCCA(Preset):
    r"""White latents shared by all regions without delay, and white latents private to a region.

    .. math::
        y_r(t) &= C_r x(t) + B_r w_r(t) + d_r + e_r(t), \qquad x, w_r \sim N(0, I), \qquad
        e_r \sim N(0, \mathrm{diag}\, R_r)

    (Bach & Jordan, section 4, with the private covariance Psi_r = B_r B_r' + diag R_r of inter-battery factor analysis:
    Klami, Virtanen & Kaski 2013, J. Mach. Learn. Res. 14, 965-1003). Regions depend on each other through the
    shared latents alone, and time plays no part. ``n_within`` = N_r - 1 makes Psi_r a full covariance; fewer private
    latents are a check on overfitting. Latents are known up to a rotation among their kind.
    Sample sites: ``loadings`` (neuron, column), ``noise``, ``offset``.
    """

    kernel: Kernel = dataclasses.field(default_factory=White)
    gp_noise: float = SAME

    regions_needed: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel.has_timescale:
            raise ValueError("PCCA's latents are white: leave kernel alone, or use DLAG for latents with a timescale")

    def delay_bound(self, layout: Layout) -> float:
        return 0.0

    def __call__(self, data: MultiRegionData) -> None:
        assignment = self.assignment(data.layout)
        across = self.kernel_sites("across", self.n_across, data.bin_width)
        within = self.kernel_sites("within", sum(assignment.n_within), data.bin_width)
        loadings, noise, offset = self.emission_sites(data, assignment.n_columns)
        delay = jnp.zeros((1, assignment.n_regions, self.n_across))
        self.observe(data, loadings, noise, offset, delay, across, within)
