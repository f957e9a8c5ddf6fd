"""Gaussian-process factor analysis (Yu et al. 2009, J. Neurophysiol. 102, 614-635)."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.kernels import Kernel, SquaredExponential
from mrgp.parts.loadings import Loadings, Weak
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class GPFA(GaussianProcesses):
    r"""Smooth latents shared by all neurons at once, without delays: ``n_across`` of them.

    .. math::
        y(t) = C x(t) + d + e(t), \qquad
        x_k \sim GP(0, (1-\epsilon) k + \epsilon\, 1_{t=t'}), \qquad e \sim N(0, \mathrm{diag}\, R)

    (eqs. 1-4 of the paper). Regions are one population here: each latent has one time course for all neurons.
    Sample sites: ``timescale_across`` in seconds; ``loadings`` (neuron, column), ``noise``, ``offset``.
    """

    kernel: Kernel = SquaredExponential()  # noqa: RUF009  a frozen part
    _: KW_ONLY
    loadings: Loadings = Weak()  # noqa: RUF009  a frozen part
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    timescale_bounds: tuple[float, float] | None = None

    pools_regions: ClassVar[bool] = True
    private_in: ClassVar[str] = "DLAG"

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)  # g_k, w_rj ~ GP(0, k)
        delay = self.delay_sites(data)  # delta_rk
        readout = self.emission_sites(data)  # C_r, R_r, d_r
        self.observe(data, readout, delay, across, within)  # y ~ p(y | C x + d), x integrated out
