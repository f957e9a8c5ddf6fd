r"""Priors of the transition of coupled regions whose first state is learned, entry by entry.

The transition takes the whole state s_t = (x_t, g_t, x_{t-1} ... x_{t-l}) to what is new a bin later,

    (x_{t+1}, g_{t+1}) = F s_t + e,      e ~ N(0, I),

and holds A_r, B_rs, D_r and G. An entry is of an edge, whose precision alpha is Gamma, or has a precision of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from mrgp.inference.mode.edge_evidence import Relevance
from mrgp.likelihoods.statespace.coupled import COUPLING, DRIVE, GLOBAL, OWN
from mrgp.likelihoods.statespace.first_state import SPREAD
from mrgp.likelihoods.statespace.region_blocks import Regions

DRIVE_PRECISION = 1.0  # of what global states drive, in every coordinates


@dataclass(frozen=True)
class TransitionPrior:
    """Prior of F; static.

    Attributes:
        regions: States of regions, and the edges between them.
        n_global: Global states.
        lag: Bins by which edges are later than the next bin.
        edges: Prior of their blocks.
    """

    regions: Regions
    n_global: int
    lag: int
    edges: Relevance

    @property
    def n_rows(self) -> int:
        """Number of states that are new in a bin."""
        return self.regions.n_states + self.n_global

    @property
    def size(self) -> int:
        """Size of the whole state."""
        return self.n_rows + self.lag * self.regions.n_states

    @property
    def first(self) -> int:
        """Place in the whole state of the first state from which edges start."""
        return 0 if self.lag == 0 else self.size - self.regions.n_states

    @property
    def edge(self) -> np.ndarray:
        """Edge of each entry, (row, column); -1 where there is none."""
        n, table = self.regions.n_states, np.full((self.n_rows, self.size), -1)
        table[:n, self.first : self.first + n] = self.regions.edge_of_entry
        return table

    @property
    def own_precision(self) -> np.ndarray:
        """Precision of each entry that is not of an edge, (row, column); 0 where there is none."""
        n, m = self.regions.n_states, self.n_global
        table = np.zeros((self.n_rows, self.size))
        table[:n, :n] = self.regions.own / SPREAD**2
        table[:n, n : n + m], table[n:, n : n + m] = DRIVE_PRECISION, 1 / SPREAD**2
        return table

    @property
    def used(self) -> np.ndarray:
        """True for the entries that there are, (row, column)."""
        return (self.own_precision > 0) | (self.edge >= 0)

    def mean(self, sites: Mapping[str, Any]) -> Array:
        """F from the sites of its blocks, (row, column)."""
        n, m = self.regions.n_states, self.n_global
        F = jnp.zeros((self.n_rows, self.size)).at[:n, :n].set(jnp.asarray(sites[OWN.name]))
        F = F.at[:n, self.first : self.first + n].add(jnp.asarray(sites[COUPLING.name]))
        if not m:
            return F
        drive, shared = jnp.asarray(sites[DRIVE.name]), jnp.asarray(sites[GLOBAL.name])
        return F.at[:n, n : n + m].set(drive).at[n:, n : n + m].set(shared)

    def sites(self, F: ArrayLike) -> dict[str, Array]:
        """Sites of the blocks of transitions (..., row, column)."""
        n, m, F = self.regions.n_states, self.n_global, jnp.asarray(F)
        coupling = F[..., :n, self.first : self.first + n]
        found = {
            OWN.name: jnp.where(self.regions.own, F[..., :n, :n], 0.0),
            COUPLING.name: jnp.where(self.regions.coupled, coupling, 0.0),
        }
        if m:
            found |= {DRIVE.name: F[..., :n, n : n + m], GLOBAL.name: F[..., n:, n : n + m]}
        return found

    def squares(self, F: ArrayLike, covariance: ArrayLike) -> Array:
        """E|B|^2 of the block of each edge, (edge,).

        ``covariance`` is that of every row, (row, column, column).
        """
        each = jnp.square(F) + jnp.diagonal(jnp.asarray(covariance), axis1=1, axis2=2)
        member = self.edge == np.arange(len(self.regions.edges))[:, None, None]
        return jnp.where(member, each, 0.0).sum((1, 2))

    def precisions(self, squares: np.ndarray) -> np.ndarray:
        """Expected precision of each entry at the best q(alpha), (row, column)."""
        edge, prior = self.edge, self.edges
        alpha = (prior.shape + 0.5 * self.regions.entries_of_edge) / (prior.rate + 0.5 * np.asarray(squares))
        return np.where(edge >= 0, np.append(alpha, 0.0)[edge], self.own_precision)
