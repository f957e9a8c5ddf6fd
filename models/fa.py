"""Factor analysis (Everitt 1984, ch. 2; Rubin & Thayer 1982).

Everitt 1984, An Introduction to Latent Variable Models.
"""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.part import pinned
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.kernels import Kernel, White
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class FA(GaussianProcesses):
    r"""White latents shared by all neurons at once, ``n_across`` of them.

    Every bin is a sample of its own.

    .. math::
        y(t) = C x(t) + d + e(t), \qquad x(t) \sim N(0, I), \qquad e(t) \sim N(0, \mathrm{diag}\, R)

    so that y(t) ~ N(d, C C' + diag R), and time plays no part: what GPFA becomes when its latents are white.
    Regions are one population here. The latents are known up to a rotation.
    Sample sites: ``loadings`` (neuron, column), ``noise``, ``offset``. With ``emission="poisson"`` the latents are of
    log-rates, and y(t) is Poisson log-normal (Aitchison & Ho 1989).
    """

    kernel: Kernel = pinned(White(), "use GPFA for latents with a timescale")  # noqa: RUF009  a field
    _: KW_ONLY
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part

    pools_regions: ClassVar[bool] = True
    private_in: ClassVar[str] = "PCCA"
    methods: ClassVar[tuple[str, ...]] = ("map",)  # loadings are known up to rotations: no posterior can be averaged
    without: ClassVar[tuple[str, ...]] = ("lift", "order")

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)  # white: no parameters
        delay = self.delay_sites(data)  # none
        readout = self.emission_sites(data)  # C_r, R_r, d_r
        self.observe(data, readout, delay, across, within)  # y ~ p(y | C x + d), x integrated out
