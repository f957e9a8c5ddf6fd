"""Gaussian-process factor analysis (Yu et al. 2009, J. Neurophysiol. 102, 614-635)."""

from dataclasses import dataclass
from typing import ClassVar

from mrgp.families.model import Preset
from mrgp.families.undelayed import Pooled
from mrgp.recordings.recording import MultiRegionData


@dataclass(frozen=True)
class GPFA(Pooled, Preset):
    r"""Smooth latents shared by all neurons at once, without delays: ``n_across`` of them.

    .. math::
        y(t) = C x(t) + d + e(t), \qquad
        x_k \sim GP(0, (1-\epsilon) k + \epsilon\, 1_{t=t'}), \qquad e \sim N(0, \mathrm{diag}\, R)

    (eqs. 1-4 of the paper). Regions are one population here: each latent has one time course for all neurons.
    Sample sites: ``timescale_across`` in seconds; ``loadings`` (neuron, column), ``noise``, ``offset``.
    """

    private_in: ClassVar[str] = "DLAG"

    def __call__(self, data: MultiRegionData) -> None:
        across, within = self.latent_sites(data)
        emission = self.emission_sites(data)
        self.observe(data, emission, self.no_delay(data.layout), across, within)
