"""Gaussian-process factor analysis (Yu et al. 2009, J. Neurophysiol. 102, 614-635)."""

from dataclasses import dataclass

import jax.numpy as jnp

from mrgp.data import Layout, MultiRegionData
from mrgp.preset import Preset
from mrgp.statespace.reduce import Assignment


@dataclass(frozen=True)
class GPFA(Preset):
    r"""Smooth latents shared by all neurons at once, without delays: ``n_across`` of them.

    .. math::
        y(t) = C x(t) + d + e(t), \qquad
        x_k \sim GP(0, (1-\epsilon) k + \epsilon\, 1_{t=t'}), \qquad e \sim N(0, \mathrm{diag}\, R)

    (eqs. 1-4 of the paper). Regions are one population here: each latent has one time course for all neurons.
    Sample sites: ``timescale_across`` in seconds; ``loadings`` (neuron, column), ``noise``, ``offset``.
    """

    def assignment(self, layout: Layout) -> Assignment:
        if self.n_within != 0:
            raise ValueError("GPFA has no within latents: leave n_within at 0, or use DLAG")
        return Assignment((layout.total_neurons,), self.n_across, (0,))

    def delay_bound(self, layout: Layout) -> float:
        return 0.0

    def __call__(self, data: MultiRegionData) -> None:
        across = self.kernel_sites("across", self.n_across, data.bin_width)
        within = self.kernel_sites("within", 0, data.bin_width)
        loadings, noise, offset = self.emission_sites(data, self.n_across)
        self.observe(data, loadings, noise, offset, jnp.zeros((1, 1, self.n_across)), across, within)
