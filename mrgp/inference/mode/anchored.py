"""Densities of models whose states may turn, with loadings that hold them in place.

A rotation of the states of a region changes no density, so that the curvature at a maximum has directions without any,
and nothing that turns has a spread. Loadings are told best of all that turns: states are held by them, by a penalty on
their rotation against those at the maximum, so strong that what is left of it adds nothing to any spread.

Of counts the bound is taken at the pseudo-observations that it has at the maximum
(:mod:`mrgp.likelihoods.surrogate`), as a Gaussian density of the same slopes: differences of slopes of the bound itself
hold what each search for q has left over.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.inference.density import Density, Sites
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS

ANCHOR = "anchor"  # what :func:`anchor` returns
STIFF = 1e-3  # sd of the angle that is left, in radians
EXACT = 1e-5  # nats: where the search for the pseudo-observations ends


@dataclass(frozen=True)
class Anchored(Density):
    """Density whose states are held by loadings.

    The frozen site ``ANCHOR`` has those of the maximum, as :func:`anchor` makes it.

    Attributes:
        density: Of a model with loadings.
        assignment: Which neuron reads which state.
    """

    density: Density
    assignment: LatentLayout

    def __call__(self, sites: Sites, data: Any) -> Array:
        return self.density(_without(sites), data) + self._held(sites)

    def transforms(self, data: Any, frozen: Collection[str]) -> dict[str, Any]:
        return self.density.transforms(data, frozen)

    def first_guess(self, sites: Sites, data: Any) -> Any:
        """Surrogate of a bound, which stands for it; None for a density that is no bound."""
        guess = self.density.first_guess(_without(sites), data)
        return None if guess is None else self.density.surrogate(_without(sites), data, guess, EXACT)

    def from_guess(self, sites: Sites, data: Any, guess: Any, within: Array | float) -> tuple[Array, Any]:
        inside = _without(sites)
        value = self.density(inside, data) if guess is None else self.density.near(inside, data, guess)
        return value + self._held(sites), guess

    def _held(self, sites: Sites) -> Array:
        """Penalty on rotations: C0' R^-1 C0 (I + W) has the skew part of the small rotation W."""
        weighted, center = jnp.where(self.assignment.used, sites[ANCHOR], 0.0)
        loadings = jnp.where(self.assignment.used, sites[LOADINGS.name], 0.0)
        inner = jnp.einsum("rn,ni,nj->rij", self.assignment.member, weighted, loadings)
        size = jnp.einsum("rn,ni,ni->ri", self.assignment.member, weighted, center)
        both = size[:, :, None] + size[:, None]
        angle = (inner - jnp.swapaxes(inner, 1, 2)) / jnp.where(both > 0, both, 1.0)
        return -0.25 * jnp.square(angle / STIFF).sum()  # each pair of states is there twice


def anchor(loadings: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Loadings over noise, and loadings, (2, neuron, column): by what rotations are measured."""
    return np.stack([loadings / noise[:, None], loadings])


def _without(sites: Sites) -> Sites:
    return {name: value for name, value in sites.items() if name != ANCHOR}
