"""Group factor analysis (Klami et al. 2015).

Klami et al. 2015, IEEE Trans. Neural Netw. Learn. Syst. 26, 2136-2147.
"""

from dataclasses import dataclass
from typing import ClassVar

from mrgp.families.relevance import RelevancePreset
from mrgp.families.undelayed import SAME, WhiteLatents
from mrgp.parts.loadings import Loadings, Relevance
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class GFA(WhiteLatents, RelevancePreset):
    r"""White latents of which each region reads those that it needs: mDLAG without time.

    .. math::
        y_r(t) = C_r x(t) + d_r + e_r(t), \quad x \sim N(0, I), \quad e_r \sim N(0, \mathrm{diag}\, \phi_r^{-1}), \quad
        C_{r,:,k} \sim N(0, \alpha_{r,k}^{-1} I)

    (eqs. 1-5), with alpha and phi ~ Gamma(shape, rate) and d ~ N(mean of the neuron, 1 / offset_precision).
    ``fit`` is variational Bayes and removes latents that no region reads. Sample sites: ``alpha`` (region, column),
    ``loadings`` (neuron, column), ``noise``, ``offset``.
    """

    gp_noise: float = SAME
    loadings: Loadings = Relevance()  # noqa: RUF009  a frozen part

    methods: ClassVar[tuple[str, ...]] = RelevancePreset.methods
    timed_in: ClassVar[str] = "MDLAG"

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)
        emission = self.emission_sites(data)
        self.observe(data, emission, self.no_delay(data.layout), across, within)
