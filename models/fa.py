"""Factor analysis (Everitt 1984, ch. 2; Rubin & Thayer 1982).

Everitt 1984, An Introduction to Latent Variable Models.
"""

from dataclasses import dataclass
from typing import ClassVar

from mrgp.families.model import Preset
from mrgp.families.undelayed import Pooled, WhiteLatents
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class FA(WhiteLatents, Pooled, Preset):
    r"""White latents shared by all neurons at once, ``n_across`` of them.

    Every bin is a sample of its own.

    .. math::
        y(t) = C x(t) + d + e(t), \qquad x(t) \sim N(0, I), \qquad e(t) \sim N(0, \mathrm{diag}\, R)

    so that y(t) ~ N(d, C C' + diag R), and time plays no part: what GPFA becomes when its latents are white.
    Regions are one population here. The latents are known up to a rotation.
    Sample sites: ``loadings`` (neuron, column), ``noise``, ``offset``.
    """

    meaningless: ClassVar[tuple[str, ...]] = (*WhiteLatents.meaningless, "loadings")
    timed_in: ClassVar[str] = "GPFA"
    private_in: ClassVar[str] = "PCCA"

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)
        emission = self.emission_sites(data)
        self.observe(data, emission, self.no_delay(data.layout), across, within)
