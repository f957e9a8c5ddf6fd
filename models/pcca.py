"""Probabilistic canonical correlation analysis (Bach & Jordan 2005).

Bach & Jordan 2005, Tech. Rep. 688, UC Berkeley.
"""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from mrgp.families.gaussian_process import SAME, GaussianProcesses
from mrgp.part import pinned
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.kernels import Kernel, White
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class PCCA(GaussianProcesses):
    r"""White latents shared by all regions without delay, and white latents private to a region.

    .. math::
        y_r(t) = C_r x(t) + B_r w_r(t) + d_r + e_r(t), \qquad x, w_r \sim N(0, I), \qquad
        e_r \sim N(0, \mathrm{diag}\, R_r)

    (Bach & Jordan, section 4, with the private covariance Psi_r = B_r B_r' + diag R_r of inter-battery factor analysis:
    Klami, Virtanen & Kaski 2013, J. Mach. Learn. Res. 14, 965-1003). Regions depend on each other through the
    shared latents alone, and time plays no part. ``n_within`` = N_r - 1 makes Psi_r a full covariance; fewer private
    latents are a check on overfitting. Latents are known up to a rotation among their kind.
    Sample sites: ``loadings`` (neuron, column), ``noise``, ``offset``. Of counts the latents are of log-rates.
    """

    kernel: Kernel = pinned(White(), "use DLAG for latents with a timescale")  # noqa: RUF009  a field
    _: KW_ONLY
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    gp_noise: float = SAME

    regions_needed: ClassVar[int] = 2
    methods: ClassVar[tuple[str, ...]] = ("map",)  # loadings are known up to rotations: no posterior can be averaged
    without: ClassVar[tuple[str, ...]] = ("lift", "order")

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)  # white: no parameters
        delay = self.delay_sites(data)  # none
        readout = self.emission_sites(data)  # C_r, R_r, d_r
        self.observe(data, readout, delay, across, within)  # y ~ p(y | C x + d), x integrated out
