"""Delayed latents across groups (Gokcen et al. 2022, Nat. Comput. Sci. 2, 512-525)."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.parts.delays.base import Delays
from mrgp.parts.delays.constant import ConstantDelay
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.kernels import Kernel, SquaredExponential
from mrgp.parts.loadings import Loadings, Weak
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class DLAG(GaussianProcesses):
    r"""Latents shared by all regions at constant delays, and latents private to one region.

    .. math::
        x_{r,k}(t) &= \sqrt{1-\epsilon}\, g_k(t - \delta_{r,k}) + \sqrt{\epsilon}\, \eta, \qquad g_k \sim GP(0, k) \\
        y_r(t) &= C_r [x_r(t); w_r(t)] + d_r + e_r(t), \qquad e_r \sim N(0, \mathrm{diag}\, R_r)

    (eqs. 1-9 of the paper). A positive delay means that the region lags the first region, whose delays are 0.
    Sample sites, in seconds: ``delay`` (region - 1, across_latent), uniform within ``max_delay``;
    ``timescale_across``, ``timescale_within``; ``loadings`` (neuron, column), ``noise``, ``offset``.
    """

    kernel: Kernel = SquaredExponential()  # noqa: RUF009  a frozen part
    _: KW_ONLY
    delays: Delays = ConstantDelay()  # noqa: RUF009  a frozen part
    loadings: Loadings = Weak()  # noqa: RUF009  a frozen part
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    timescale_bounds: tuple[float, float] | None = None

    regions_needed: ClassVar[int] = 2

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)  # g_k, w_rj ~ GP(0, k)
        delay = self.delay_sites(data)  # delta_rk
        readout = self.emission_sites(data)  # C_r, R_r, d_r
        self.observe(data, readout, delay, across, within)  # y ~ p(y | C x + d), x integrated out
