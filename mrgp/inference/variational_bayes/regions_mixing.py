r"""Climb of the bound of coupled regions in which coordinates of states may change.

States s = W z with W in blocks of regions, lower triangular, move what q knows of loadings and of the transition
together,

    E[C] W,   W' cov(c) W,   T^-1 E[F] W,   cov(F_i) = sum_j (T^-1)_ij^2 W' cov(F_j) W,

T being W's part of what is new in a bin. That is no symmetry, since innovations keep their variance of 1; but where a
region's own innovations are small beside what it hears, it changes hardly anything. A climb finds its way along such
valleys where they are a direction of their own in which covariances follow: held, they would be a wall.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import block_diag, solve_triangular

from mrgp.inference.density import Density, Sites
from mrgp.inference.variational_bayes.regions_bound import Covariances, RegionsBound, RegionSetting
from mrgp.likelihoods.statespace.coupled import FIRST_MEAN, FIRST_ROOT
from mrgp.likelihoods.statespace.entries import Places, ToEntries
from mrgp.parts.readout import LOADINGS

MIXING = "mixing"  # W less the identity: redundant, and zero where a climb begins


@dataclass(frozen=True)
class MixedRegions(Density):
    """Bound with one site more, by which the coordinates of states change."""

    bound: RegionsBound

    @property
    def places(self) -> Places:
        """Places of what is free in T."""
        prior = self.bound.prior
        kinds = np.append(prior.regions.of_state, np.full(prior.n_global, -1))
        return Places.of(np.tril(kinds[:, None] == kinds))

    def transforms(self, data: RegionSetting, frozen: Collection[str]) -> dict[str, Any]:
        return {**self.bound.transforms(data, frozen), MIXING: ToEntries(self.places)}

    def __call__(self, sites: Sites, data: RegionSetting) -> Array:
        return self.bound(*self.mixed(sites, data))

    def mixed(self, sites: Sites, data: RegionSetting) -> tuple[Sites, RegionSetting]:
        """Sites of the bound and its setting, in the coordinates that the mixing leads to."""
        prior, assignment = self.bound.prior, self.bound.model.assignment(data.data.layout)
        n = prior.regions.n_states
        T = jnp.eye(prior.n_rows) + sites[MIXING]
        W = block_diag(T, *[T[:n, :n]] * prior.lag)
        back = solve_triangular(T, jnp.eye(len(T)), lower=True)
        rows = W.T @ data.covariances.transition @ W
        transition = jnp.einsum("ij,jkl->ikl", back**2, rows)

        used = np.append(assignment.used, np.ones((len(assignment.used), 1), bool), 1)
        blocks = prior.regions.padded(T[:n, :n])[assignment.region_of_neuron]
        turns = jnp.pad(blocks, [(0, 0), (0, 1), (0, 1)])
        turns = jnp.where(used[:, :, None] & used[:, None], turns, 0.0) + np.eye(used.shape[1]) * ~used[:, :, None]
        turns = turns.at[:, -1, -1].set(1.0)
        readout = jnp.swapaxes(turns, 1, 2) @ data.covariances.readout @ turns
        found = {
            **{name: value for name, value in sites.items() if name != MIXING},
            **prior.sites(back @ prior.mean(sites) @ W),
            LOADINGS.name: jnp.einsum("nk,nkj->nj", sites[LOADINGS.name], turns[:, :-1, :-1]),
            FIRST_MEAN.name: solve_triangular(W, sites[FIRST_MEAN.name], lower=True),
            FIRST_ROOT.name: solve_triangular(W, sites[FIRST_ROOT.name], lower=True),
        }
        return found, data._replace(covariances=Covariances(transition, readout))
