"""Delayed latents across multiple groups (Gokcen et al. 2023, NeurIPS).

The spectral form is that of Gokcen et al. 2025, Neural Comput.
"""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.parts.delays.base import Delays
from mrgp.parts.delays.constant import ConstantDelay
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.kernels import Kernel, SquaredExponential
from mrgp.parts.loadings import Loadings, Relevance
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class MDLAG(GaussianProcesses):
    r"""Latents of which each region reads those that it needs.

    Automatic relevance determination is per region and latent.

    .. math::
        y_r(t) &= C_r [x_r(t); w_r(t)] + d_r + e_r(t), \qquad e_r \sim N(0, \mathrm{diag}\, \phi_r^{-1}) \\
        C_{r,:,k} &\sim N(0, \alpha_{r,k}^{-1} I), \qquad \alpha_{r,k} \sim \mathrm{Gamma}(a, b), \qquad
        \phi \sim \mathrm{Gamma}(a, b), \qquad d_n \sim N(\bar y_n, \beta^{-1})

    (eqs. 1-8 of the 2023 paper, in which d has mean 0, not that of the neuron), latents and delays as in DLAG.
    ``fit(method="vb")``, its default, is the paper's: latents that no region reads are removed. ``likelihood="dense"``
    is mDLAG, "spectral" is fast-mDLAG. Of counts, offsets are points, and loadings have Laplace's approximation.
    Sample sites, in seconds: those of DLAG, and ``alpha`` (region, column).
    """

    kernel: Kernel = SquaredExponential()  # noqa: RUF009  a frozen part
    _: KW_ONLY
    delays: Delays = ConstantDelay()  # noqa: RUF009  a frozen part
    loadings: Loadings = Relevance()  # noqa: RUF009  a frozen part
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    timescale_bounds: tuple[float, float] | None = None

    methods: ClassVar[tuple[str, ...]] = ("vb", "map", "laplace", "svi", "nuts")

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)  # g_k, w_rj ~ GP(0, k)
        delay = self.delay_sites(data)  # delta_rk
        readout = self.emission_sites(data)  # C_r, R_r, d_r
        self.observe(data, readout, delay, across, within)  # y ~ p(y | C x + d), x integrated out
