"""Matrices of the states of regions in blocks: each region's own, and one for every edge.

States of all regions lie one region after the other. A matrix (state_after, state) has a block for every pair of
regions, zero where nothing goes from one to the other.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import biject_to, constraints, transforms

from mrgp.likelihoods.statespace.entries import Described, Places
from mrgp.likelihoods.statespace.stable_matrices import CayleyTransform

TO_CONTRACTION = CayleyTransform()


@dataclass(frozen=True)
class Regions:
    """States of each region, and the edges between regions; static.

    Attributes:
        sizes: States of each region.
        edges: (source, target) of every edge, by position among the regions.
    """

    sizes: tuple[int, ...]
    edges: tuple[tuple[int, int], ...] = ()

    @property
    def n_states(self) -> int:
        return sum(self.sizes)

    @property
    def widest(self) -> int:
        """States of the region that has most."""
        return max(self.sizes)

    @property
    def of_state(self) -> np.ndarray:
        """Region of each state, (state,)."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def place(self) -> np.ndarray:
        """Place of each state in its region, (state,)."""
        return np.concatenate([np.arange(size) for size in self.sizes])

    @property
    def slices(self) -> list[slice]:
        """States of each region."""
        ends = np.cumsum([0, *self.sizes])
        return [slice(a, b) for a, b in pairwise(ends.tolist())]

    @property
    def own(self) -> np.ndarray:
        """True in the blocks of each region's own dynamics, (state_after, state)."""
        return self.of_state[:, None] == self.of_state

    @property
    def edge_of_entry(self) -> np.ndarray:
        """Number of the edge of every entry, (state_after, state); -1 where there is none."""
        table = np.full((len(self.sizes),) * 2, -1)
        for number, (source, target) in enumerate(self.edges):
            table[target, source] = number
        return table[np.ix_(self.of_state, self.of_state)]

    @property
    def coupled(self) -> np.ndarray:
        """True in the blocks of edges, (state_after, state)."""
        return self.edge_of_entry >= 0

    @property
    def own_entries(self) -> Places:
        """Places of each region's own dynamics in a matrix (state_after, state)."""
        return Places.of(self.own)

    @property
    def edge_entries(self) -> Places:
        """Places of the blocks of edges in a matrix (state_after, state)."""
        return Places.of(self.coupled)

    @property
    def entries_of_edge(self) -> np.ndarray:
        """Number of entries in the block of each edge, (edge,)."""
        return np.array([self.sizes[source] * self.sizes[target] for source, target in self.edges], int)

    def padded(self, matrix: Array) -> Array:
        """Blocks of each region's own dynamics, (region, widest, widest), zero beyond its states."""
        number = np.full((len(self.sizes), self.widest), self.n_states)
        number[self.of_state, self.place] = np.arange(self.n_states)
        wider = jnp.pad(matrix, [(0, 1), (0, 1)])
        return wider[number[:, :, None], number[:, None, :]]

    def laid(self, blocks: Array) -> Array:
        """Inverse of :meth:`padded`."""
        rows, columns = self.place[:, None], self.place[None, :]
        return jnp.where(self.own, blocks[self.of_state[:, None], rows, columns], 0.0)

    def squares(self, matrix: Array) -> Array:
        """Squared norm of the block of each edge, (edge,)."""
        member = np.arange(len(self.sizes))[:, None] == self.of_state
        table = member @ jnp.square(matrix) @ member.T
        ends = np.array(self.edges, int).reshape(-1, 2)
        return table[ends[:, 1], ends[:, 0]]


class OwnContractions(Described[Regions], constraints.Constraint[Array]):
    """Constraint to block-diagonal matrices of contractions, one for each region."""

    event_dim = 2

    def __call__(self, x: Array) -> Array:
        stable = jnp.linalg.norm(x, 2, axis=(-2, -1)) < 1
        return stable & jnp.all(jnp.where(self.about.own, True, x == 0), (-2, -1))

    def feasible_like(self, prototype: Array) -> Array:
        return jnp.zeros_like(prototype)


class ToOwnContractions(Described[Regions], transforms.Transform[Array]):
    """Transform of a vector to contractions, region after region.

    Each is made by :class:`mrgp.likelihoods.statespace.stable_matrices.CayleyTransform`.

    A region of fewer states than the widest has X = I in the rest of a block of that size, which is A = 0 there.
    """

    domain = constraints.real_vector

    @property
    def codomain(self) -> constraints.Constraint:
        """Block-diagonal contractions."""
        return OwnContractions(self.about)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return int(np.square(self.about.sizes).sum())

    @property
    def used(self) -> np.ndarray:
        """True for the coordinates of each region's block that are its own, (region, coordinate)."""
        wide = self.about.widest
        lower = np.tril_indices(wide, -1)[0]
        last = np.concatenate([np.arange(wide), lower, lower])  # of the states that a coordinate is of
        return last < np.array(self.about.sizes)[:, None]

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], self.about.n_states, self.about.n_states)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-2], self.size)

    def _spread(self, x: Array) -> Array:
        rows, columns = np.nonzero(self.used)
        return jnp.zeros((*x.shape[:-1], *self.used.shape), x.dtype).at[..., rows, columns].set(x)

    def __call__(self, x: Array) -> Array:
        return jnp.vectorize(self.about.laid, signature="(r,i,j)->(s,t)")(TO_CONTRACTION(self._spread(x)))

    def _inverse(self, y: Array) -> Array:
        blocks = jnp.vectorize(self.about.padded, signature="(s,t)->(r,i,j)")(y)
        rows, columns = np.nonzero(self.used)
        return TO_CONTRACTION.inv(blocks)[..., rows, columns]

    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Any = None) -> Array:
        rows, columns = np.nonzero(self.about.own)

        def one(x: Array) -> Array:
            square = jax.jacfwd(lambda v: self(v)[rows, columns])(x)
            return jnp.linalg.slogdet(square)[1]

        return jnp.vectorize(one, signature="(m)->()")(x)


@biject_to.register(OwnContractions)
def _to_own_contractions(constraint: Any) -> ToOwnContractions:
    return ToOwnContractions(constraint.about)
