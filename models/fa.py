"""Factor analysis (Everitt 1984, An Introduction to Latent Variable Models, ch. 2; Rubin & Thayer 1982)."""

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp

from mrgp.data import Layout, MultiRegionData
from mrgp.kernels import Kernel, White
from mrgp.preset import Preset
from mrgp.statespace.reduce import Assignment


@dataclass(frozen=True)
class FA(Preset):
    r"""White latents shared by all neurons at once: ``n_across`` of them. Every bin is a sample of its own.

    .. math::
        y(t) = C x(t) + d + e(t), \qquad x(t) \sim N(0, I), \qquad e(t) \sim N(0, \mathrm{diag}\, R)

    so that y(t) ~ N(d, C C' + diag R), and time plays no part: what GPFA becomes when its latents are white.
    Regions are one population here. The latents are known up to a rotation.
    Sample sites: ``loadings`` (neuron, column), ``noise``, ``offset``.
    """

    kernel: Kernel = dataclasses.field(default_factory=White)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel.has_timescale:
            raise ValueError("FA's latents are white: leave kernel alone, or use GPFA for latents with a timescale")

    def assignment(self, layout: Layout) -> Assignment:
        if self.n_within != 0:
            raise ValueError("FA has no within latents: leave n_within at 0, or use PCCA")
        return Assignment((layout.total_neurons,), self.n_across, (0,))

    def delay_bound(self, layout: Layout) -> float:
        return 0.0

    def __call__(self, data: MultiRegionData) -> None:
        across = self.kernel_sites("across", self.n_across, data.bin_width)
        within = self.kernel_sites("within", 0, data.bin_width)
        loadings, noise, offset = self.emission_sites(data, self.n_across)
        self.observe(data, loadings, noise, offset, jnp.zeros((1, 1, self.n_across)), across, within)
