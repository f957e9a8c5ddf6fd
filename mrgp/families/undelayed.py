"""Choices of models without delays: one population of neurons, or white latents.

A model names them before :class:`mrgp.families.model.Preset`, and ``WhiteLatents`` first: the leftmost default counts.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from mrgp.families.choices import Choices
from mrgp.parts.kernels import Kernel, White
from mrgp.parts.latents import Assignment
from mrgp.recordings.layout import Layout

SAME = 1e-6  # share of noise in each region's copy of a shared latent: copies that are one, but for round-off


@dataclass(frozen=True)
class Undelayed(Choices):
    """Choices of a model whose regions read the course of a latent at the same time."""

    meaningless: ClassVar[tuple[str, ...]] = ("max_delay", "hold_max_delay")

    def delay_bound(self, layout: Layout) -> float:
        return 0.0

    def no_delay(self, layout: Layout) -> Array:
        """Delays of 0 as the likelihood takes them, (1, region, across_latent)."""
        return jnp.zeros((1, self.assignment(layout).n_regions, self.n_across))


@dataclass(frozen=True)
class Pooled(Undelayed):
    """Choices of a model in which all neurons are one population.

    Regions play no part, and there are no private latents.
    """

    private_in: ClassVar[str] = ""  # the preset to take for private latents, where there is one

    def assignment(self, layout: Layout) -> Assignment:
        if self.n_within != 0:
            instead = f", or use {self.private_in}" if self.private_in else ""
            raise ValueError(f"{type(self).__name__} has no within latents: leave n_within at 0{instead}")
        return Assignment((layout.total_neurons,), self.n_across, (0,))


@dataclass(frozen=True)
class WhiteLatents(Undelayed):
    """Choices of a model with white latents: bins are independent, without timescales."""

    kernel: Kernel = dataclasses.field(default_factory=White)

    methods: ClassVar[tuple[str, ...]] = ("map",)  # loadings are known up to rotations: no posterior can be averaged
    meaningless: ClassVar[tuple[str, ...]] = (
        *Undelayed.meaningless, "timescale_bounds", "lift", "order", "noise", "emission",
    )  # fmt: skip
    timed_in: ClassVar[str]  # the preset to take for latents with a timescale

    def __post_init__(self, *short: Any) -> None:
        super().__post_init__(*short)
        if self.kernel.has_timescale:
            raise ValueError(
                f"{type(self).__name__}'s latents are white: leave kernel alone, or use {self.timed_in} for latents "
                "with a timescale"
            )
