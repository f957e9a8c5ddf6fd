"""Group factor analysis (Klami et al. 2015).

Klami et al. 2015, IEEE Trans. Neural Netw. Learn. Syst. 26, 2136-2147.
"""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from mrgp.families.gaussian_process import SAME, GaussianProcesses
from mrgp.part import pinned
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.kernels import Kernel, White
from mrgp.parts.loadings import Loadings, Relevance
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class GFA(GaussianProcesses):
    r"""White latents of which each region reads those that it needs: mDLAG without time.

    .. math::
        y_r(t) = C_r x(t) + d_r + e_r(t), \quad x \sim N(0, I), \quad e_r \sim N(0, \mathrm{diag}\, \phi_r^{-1}), \quad
        C_{r,:,k} \sim N(0, \alpha_{r,k}^{-1} I)

    (eqs. 1-5), with alpha and phi ~ Gamma(shape, rate) and d ~ N(mean of the neuron, 1 / offset_precision).
    ``fit`` is variational Bayes and removes latents that no region reads. Sample sites: ``alpha`` (region, column),
    ``loadings`` (neuron, column), ``noise``, ``offset``. Of counts, whose log-rates the latents are, offsets are
    points, and loadings have Laplace's approximation.
    """

    kernel: Kernel = pinned(White(), "use MDLAG for latents with a timescale")  # noqa: RUF009  a field
    _: KW_ONLY
    loadings: Loadings = Relevance()  # noqa: RUF009  a frozen part
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    gp_noise: float = SAME

    methods: ClassVar[tuple[str, ...]] = ("vb", "map")
    without: ClassVar[tuple[str, ...]] = ("lift", "order")

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)  # white: no parameters
        delay = self.delay_sites(data)  # none
        readout = self.emission_sites(data)  # C_r, R_r, d_r
        self.observe(data, readout, delay, across, within)  # y ~ p(y | C x + d), x integrated out
