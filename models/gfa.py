"""Group factor analysis (Klami et al. 2015, IEEE Trans. Neural Netw. Learn. Syst. 26, 2136-2147)."""

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp

from mrgp.data import Layout, MultiRegionData
from mrgp.kernels import Kernel, White
from mrgp.relevance import RelevancePreset

SAME = 1e-6  # share of noise in each region's copy of a latent: copies that are one, but for round-off


@dataclass(frozen=True)
class GFA(RelevancePreset):
    r"""White latents of which each region reads those that it needs: mDLAG without time.

    .. math::
        y_r(t) = C_r x(t) + d_r + e_r(t), \quad x \sim N(0, I), \quad e_r \sim N(0, \mathrm{diag}\, \phi_r^{-1}), \quad
        C_{r,:,k} \sim N(0, \alpha_{r,k}^{-1} I)

    (eqs. 1-5), with alpha and phi ~ Gamma(shape, rate) and d ~ N(0, 1 / offset_precision). ``fit`` is variational
    Bayes and removes latents that no region reads. Sample sites: ``alpha`` (region, column), ``loadings`` (neuron,
    column), ``noise``, ``offset``.
    """

    kernel: Kernel = dataclasses.field(default_factory=White)
    gp_noise: float = SAME

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel.has_timescale:
            raise ValueError("GFA's latents are white: leave kernel alone, or use MDLAG for latents with a timescale")

    def delay_bound(self, layout: Layout) -> float:
        return 0.0

    def __call__(self, data: MultiRegionData) -> None:
        assignment = self.assignment(data.layout)
        across = self.kernel_sites("across", self.n_across, data.bin_width)
        within = self.kernel_sites("within", sum(assignment.n_within), data.bin_width)
        loadings, noise, offset = self.relevance_sites(data)
        delay = jnp.zeros((1, assignment.n_regions, self.n_across))
        self.observe(data, loadings, noise, offset, delay, across, within)
