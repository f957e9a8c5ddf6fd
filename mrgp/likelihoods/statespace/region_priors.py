r"""Priors of coupled dynamics: contractions for each region, and edges that may not be there.

The block of an edge from s to r is N(0, 1/alpha) entry by entry, alpha ~ Gamma(a, b). With its precision alpha
integrated out it is a Student t over the whole block,

    p(B) = Gamma(a + d/2) / Gamma(a) (2 pi b)^(-d/2) (1 + |B|^2 / 2b)^-(a + d/2),        d entries,

so that a block is small as a whole or free as a whole (automatic relevance determination). It depends on the norm
alone, which no rotation of states changes.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jax.scipy.special import gammaln, multigammaln
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample
from numpyro.util import is_prng_key

from mrgp.likelihoods.statespace.coupled import system_of
from mrgp.likelihoods.statespace.entries import Entries, Places
from mrgp.likelihoods.statespace.region_blocks import OwnContractions, Regions

LONGEST = 4096  # bins after which a system that is stable has forgotten its state
FORGOTTEN = 1e-3  # of a state: what may be left by then
MOST_TRIES = 1000  # draws of edges until regions together are stable; then the last is halved until they are


class RegionContractions(Distribution):
    """Uniform distribution of block-diagonal contractions, of each region by itself.

    See :class:`mrgp.likelihoods.statespace.stable_matrices.UniformContraction`.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_aux_fields = ("regions",)

    def __init__(self, regions: Regions, *, validate_args: bool | None = None) -> None:
        self.regions = regions
        super().__init__((), (regions.n_states,) * 2, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=2)
    def support(self) -> constraints.Constraint:
        """Contractions in the blocks of regions."""
        return OwnContractions(self.regions)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        if not is_prng_key(key):
            raise ValueError("sample needs a JAX random key")
        first, second = random.split(key)
        sizes, wide = np.array(self.regions.sizes), self.regions.widest
        inside = np.arange(wide + 1) < sizes[:, None]
        states, rows = inside[:, :wide], np.arange(wide + 1) < sizes[:, None] + 1
        lead = (*sample_shape, len(sizes))
        Z = random.normal(first, (*lead, wide, wide)) * (states[:, :, None] & states[:, None])
        W = random.normal(second, (*lead, wide + 1, wide)) * (rows[:, :, None] & states[:, None])
        square = jnp.swapaxes(Z, -1, -2) @ Z + jnp.swapaxes(W, -1, -2) @ W
        root = jnp.linalg.cholesky(square + np.eye(wide) * ~states[:, None])
        blocks = Z @ jnp.linalg.inv(jnp.swapaxes(root, -1, -2))
        return jnp.vectorize(self.regions.laid, signature="(r,i,j)->(s,t)")(blocks)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        n = np.array(self.regions.sizes)
        volume = [0.5 * k**2 * np.log(np.pi) + multigammaln(0.5 * (k + 1), k) - multigammaln(k + 0.5, k) for k in n]
        return jnp.broadcast_to(-sum(volume), jnp.shape(value)[:-2])


class WeakEntries(Distribution):
    """Matrices that are N(0, scale^2) in some places, independently, and zero in all others.

    Args:
        places: Where they are not zero.
        scale: Standard deviation of an entry.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_aux_fields = ("places", "scale")

    def __init__(self, places: Places, scale: float, *, validate_args: bool | None = None) -> None:
        self.places, self.scale = places, scale
        super().__init__((), (places.size,) * 2, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=2)
    def support(self) -> constraints.Constraint:
        """Matrices that are zero elsewhere."""
        return Entries(self.places)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        if not is_prng_key(key):
            raise ValueError("sample needs a JAX random key")
        return jnp.where(self.places.mask, self.scale * random.normal(key, (*sample_shape, *self.event_shape)), 0.0)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        normalizer = len(self.places.rows) * (0.5 * np.log(2 * np.pi) + np.log(self.scale))
        return -0.5 * jnp.square(value / self.scale).sum((-2, -1)) - normalizer


class RelevantEdges(Distribution):
    """Prior of the blocks of edges with the precision of each integrated out.

    Its density is that without the condition that regions together are stable, of which the draws are. The factor that
    is left out, 1 over the probability that edges without the condition are stable, changes with A and with which edges
    there are, and is left out because it says next to nothing: of 4 regions of 3 states with the default precisions its
    logarithm has an sd of 0.06 over A, and without one edge it is 0.03 lower, by which evidence for an edge is too low.

    Args:
        own: A of the regions, (state_after, state); None where edges need not be stable, of which all are drawn.
        regions: With their edges.
        shape, rate: a and b of the precisions' Gamma distribution.
        lag: Bins by which edges are later than the one bin that each takes.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    pytree_data_fields = ("own",)
    pytree_aux_fields = ("regions", "shape_of_precision", "rate", "lag")

    def __init__(
        self,
        own: Array | None,
        regions: Regions,
        shape: float,
        rate: float,
        lag: int,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.own, self.regions, self.shape_of_precision, self.rate, self.lag = own, regions, shape, rate, lag
        super().__init__((), (regions.n_states,) * 2, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=2)
    def support(self) -> constraints.Constraint:
        """Matrices that are zero where there is no edge."""
        return Entries(self.regions.edge_entries)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        if not is_prng_key(key):
            raise ValueError("sample needs a JAX random key")
        count = int(np.prod(sample_shape))
        drawn = jax.vmap(self._stable)(random.split(key, count))
        return drawn.reshape(*sample_shape, *self.event_shape)

    def _stable(self, key: Array) -> Array:
        def goes_on(state: tuple[Array, Array, Array]) -> Array:
            _, coupling, count = state
            return ~self._is_stable(coupling) & (count < MOST_TRIES)

        def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            key, _, count = state
            key, own = random.split(key)
            return key, self._drawn(own), count + 1

        if self.own is None:
            return self._drawn(key)
        key, own = random.split(key)
        _, coupling, _ = lax.while_loop(goes_on, again, (key, self._drawn(own), jnp.asarray(1)))
        return lax.while_loop(lambda coupling: ~self._is_stable(coupling), lambda coupling: 0.5 * coupling, coupling)

    def _drawn(self, key: Array) -> Array:
        regions = self.regions
        first, second = random.split(key)
        precision = random.gamma(first, self.shape_of_precision, (max(len(regions.edges), 1),)) / self.rate
        white = random.normal(second, self.event_shape) / jnp.sqrt(precision)[regions.edge_of_entry]
        return jnp.where(regions.coupled, white, 0.0)

    def _is_stable(self, coupling: Array) -> Array:
        assert self.own is not None
        none = jnp.zeros((len(self.own), 0), coupling.dtype)
        A = system_of(self.own, coupling, none, none[:0], self.lag).transition
        far = lax.fori_loop(0, int(np.log2(LONGEST)), lambda _, F: F @ F, A)
        return jnp.all(jnp.abs(far) < FORGOTTEN)  # False of what is no number

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        return jnp.vectorize(self._density, signature="(s,t)->()")(value)

    def _density(self, value: Array) -> Array:
        half = 0.5 * self.regions.entries_of_edge
        return log_relevance(self.regions.squares(value), half, self.shape_of_precision, self.rate).sum()


def log_relevance(square: Array, half: np.ndarray, shape: float, rate: float) -> Array:
    """Log density of blocks of squared norm ``square`` and ``half`` times two entries."""
    power = shape + half
    normalizer = gammaln(power) - gammaln(shape) - half * np.log(2 * np.pi * rate)
    return normalizer - power * jnp.log1p(square / (2 * rate))
