"""Adaptive delay model (Li et al. 2025, ICML).

Latents are shared across regions with delays that vary during a trial.
"""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.parts.delays.base import Delays
from mrgp.parts.delays.varying import VaryingDelay
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.kernels import Kernel, SquaredExponential
from mrgp.parts.loadings import Loadings, Weak
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class ADM(GaussianProcesses):
    r"""Latents shared by all regions at delays that vary smoothly, and private latents.

    Each region reads each shared latent at a delay that moves smoothly during the trial.

    .. math::
        x_{r,k}(t) &= \sqrt{1-\epsilon}\, g_k(t - \delta_{r,k}(t)) + \sqrt{\epsilon}\, \eta, \qquad g_k \sim GP(0, k) \\
        \delta_{r,k}(t) &= D \tanh\big(u_{r,k} + f_{r,k}(t) / D\big), \qquad
        f_{r,k} \sim GP\big(0, s_{r,k}^2 e^{-(t-t')^2 / 2 \ell_k^2}\big) \\
        y_r(t) &= C_r [x_r(t); w_r(t)] + d_r + e_r(t), \qquad e_r \sim N(0, \mathrm{diag}\, R_r)

    The delays of a trial's clock are the same in every trial. Sample sites: those of DLAG, ``delay`` being the level
    around which a delay moves; ``delay_spread`` s and ``delay_change``, the modes of f
    (:class:`mrgp.parts.delays.varying.VaryingDelay`).
    """

    kernel: Kernel = SquaredExponential()  # noqa: RUF009  a frozen part
    _: KW_ONLY
    delays: Delays = VaryingDelay()  # noqa: RUF009  a frozen part
    loadings: Loadings = Weak()  # noqa: RUF009  a frozen part
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    timescale_bounds: tuple[float, float] | None = None

    regions_needed: ClassVar[int] = 2

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)  # g_k, w_rj ~ GP(0, k)
        delay = self.delay_sites(data)  # delta_rk
        readout = self.emission_sites(data)  # C_r, R_r, d_r
        self.observe(data, readout, delay, across, within)  # y ~ p(y | C x + d), x integrated out
