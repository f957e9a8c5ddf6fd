r"""M-step of regions that drive each other, with the priors of their edges.

States s have coordinates of their own in an M-step, s = T z with T in blocks of regions: z follows the dynamics of
:mod:`mrgp.likelihoods.statespace.coupled`, and neurons read C T. Without T an update would hardly move (parameter
expansion; Liu, Rubin & Wu 1998, Biometrika 85, 755-770). Expectations are of s, and T = I where they were taken.

**In closed form**, but for the start of a trial: states of a region are regressed on their own past, on the sources of
its edges and on global states,

    [A F D]_r = (sum x_{r,t+1} [x_r u g]') (sum [x_r u g] [x_r u g]' + Lambda)^-1,
    Lambda = diag(0, E[alpha | B], 1),
    Q_r = mean of the squares that are left, with those of the prior,

E[alpha | B] being the precision of each edge given its block at which expectations were taken; T_r T_r' = A T_r T_r' A'
+ Q_r. The covariance of the first state depends on all of these, and loadings C T have a prior: so the expected
log-density with everything in it is climbed from there, or from where it was, whichever is higher.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.optimize import minimize

from mrgp.inference.expectation_maximization.moments import Moments
from mrgp.inference.expectation_maximization.readouts import Scales, readouts_update
from mrgp.inference.mode.edge_evidence import Relevance
from mrgp.inference.optimise import walled
from mrgp.likelihoods.statespace.coupled import COUPLING, DRIVE, GLOBAL, OWN, CoupledSpace, settled, system_of
from mrgp.likelihoods.statespace.entries import ToEntries
from mrgp.likelihoods.statespace.linear import stationary_covariance
from mrgp.likelihoods.statespace.region_blocks import Regions, ToOwnContractions
from mrgp.likelihoods.statespace.region_priors import log_relevance
from mrgp.likelihoods.statespace.stable_matrices import CayleyTransform
from mrgp.parts.emissions import Emission
from mrgp.parts.readout import LOADINGS, NOISE
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import LEARNED, MAP, Sentence

ITERATIONS = 20  # of a climb on the expected log-density, which begins close
MEMORY = 20  # L-BFGS pairs


class Dynamics(NamedTuple):
    """Dynamics A, B, D, G of all regions, and T of the states x and g, (state, state) each."""

    own: Any
    coupling: Any
    drive: Any
    shared: Any
    change: Any


class Sums(NamedTuple):
    """Expected sums of an M-step, and what loadings ask of T.

    They are those of :class:`mrgp.inference.expectation_maximization.moments.Moments`; ``loadings`` is
    sum c c' / s^2 over the neurons of each region, (state, state).
    """

    transitions: Any
    present: Any
    following: Any
    lagged: Any
    start_square: Any
    loadings: Any


@dataclass(frozen=True)
class Blocks:
    """Free coordinates of :class:`Dynamics`; static.

    Attributes:
        regions: States of regions, and the edges between them.
        n_global: Global states.
        lag: Bins by which edges are later than the next bin.
        prior: Of edges.
        n_trials: Number of trials.
    """

    regions: Regions
    n_global: int
    lag: int
    prior: Relevance
    n_trials: int

    @property
    def below(self) -> tuple[np.ndarray, np.ndarray]:
        """Places below the diagonal of T, which is triangular in each block."""
        kinds = np.append(self.regions.of_state, np.full(self.n_global, -1))
        return np.nonzero(np.tril(kinds[:, None] == kinds, -1))

    @property
    def cuts(self) -> np.ndarray:
        """Ends of the coordinates of A, B, D, G and of the diagonal of T."""
        n, m = self.regions.n_states, self.n_global
        sizes = [ToOwnContractions(self.regions).size, ToEntries(self.regions.edge_entries).size, n * m, m * m, n + m]
        return np.cumsum(sizes)

    def free(self, at: Dynamics) -> Array:
        """Coordinates of some dynamics, one after the other."""
        own, edges = ToOwnContractions(self.regions), ToEntries(self.regions.edge_entries)
        shared = CayleyTransform().inv(at.shared) if self.n_global else jnp.zeros(0)
        parts = own.inv(at.own), edges.inv(at.coupling), jnp.ravel(at.drive), shared
        return jnp.concatenate([*parts, jnp.log(jnp.diagonal(at.change)), at.change[self.below]])

    def dynamics(self, x: Array) -> Dynamics:
        """Inverse of :meth:`free`."""
        a, b, d, g, diagonal, lower = jnp.split(x, self.cuts)
        size = self.regions.n_states, self.n_global
        shared = CayleyTransform()(g) if self.n_global else jnp.zeros((0, 0))
        T = jnp.diag(jnp.exp(diagonal)).at[self.below].set(lower)
        own, edges = ToOwnContractions(self.regions), ToEntries(self.regions.edge_entries)
        return Dynamics(own(a), edges(b), d.reshape(size), shared, T)

    def loss(self, x: Array, sums: Sums) -> Array:
        """Minus the expected log-density of states and dynamics, but for constants, nats."""
        own, coupling, drive, shared, T = self.dynamics(x)
        n, m = drive.shape
        system = system_of(own, coupling, drive, shared, self.lag)
        whole = jax.scipy.linalg.block_diag(T, *[T[:n, :n]] * self.lag)

        def changed(square: Array) -> Array:
            half = jax.scipy.linalg.solve_triangular(whole, square, lower=True)
            return jax.scipy.linalg.solve_triangular(whole, half.T, lower=True).T

        present, following, lagged, start = map(
            changed, (sums.present, sums.following, sums.lagged, sums.start_square)
        )
        F, root = system.transition[: n + m], jnp.linalg.cholesky(system.process_noise[: n + m, : n + m])
        cross = F @ lagged[: n + m].T
        left = following[: n + m, : n + m] - cross - cross.T + F @ present @ F.T
        value = 0.5 * jnp.trace(jax.scipy.linalg.cho_solve((root, True), left))
        value = value + sums.transitions * jnp.log(jnp.diagonal(root)).sum()
        first = jnp.linalg.cholesky(settled(system))
        value = value + 0.5 * jnp.trace(jax.scipy.linalg.cho_solve((first, True), start))
        value = value + self.n_trials * jnp.log(jnp.diagonal(first)).sum()
        size = jnp.log(jnp.diagonal(T))
        value = value + sums.transitions * size.sum() + self.n_trials * (size.sum() + self.lag * size[:n].sum())
        half = 0.5 * self.regions.entries_of_edge
        value = value - log_relevance(self.regions.squares(coupling), half, *self.prior).sum()
        scaled = sums.loadings @ T[:n, :n]
        return value + 0.5 * jnp.square(drive).sum() + 0.5 * (T[:n, :n] * scaled).sum()


@partial(jax.jit, static_argnums=0)
def _free(blocks: Blocks, at: Dynamics) -> Array:
    return blocks.free(at)


@partial(jax.jit, static_argnums=0)
def _dynamics(blocks: Blocks, x: Array) -> Dynamics:
    return blocks.dynamics(x)


@partial(jax.jit, static_argnums=0)
def _loss(blocks: Blocks, x: Array, sums: Sums) -> tuple[Array, Array]:
    return jax.value_and_grad(blocks.loss)(x, sums)


@dataclass(frozen=True)
class CoupledUpdates:
    """M-step of regions that drive each other, with priors.

    Attributes:
        space, regions: State space of a recording, and its regions with their edges, by its layout.
        n_global: Global states.
        prior: Of edges.
        emission: Of values.
        learned_start: Whether the first state is learned, which has no update here.
    """

    space: Callable[[Layout], CoupledSpace]
    regions: Callable[[Layout], Regions]
    n_global: int
    prior: Relevance
    emission: Emission
    learned_start: bool = False

    has_priors: ClassVar[bool] = True

    def objection(self) -> Sentence | None:
        if not self.learned_start:
            return None
        return "method 'em' has no update of regions for ", LEARNED, ": use ", MAP

    def __call__(self, data: MultiRegionData, moments: Moments, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        space, regions = self.space(data.layout), self.regions(data.layout)
        scales = Scales.of(self.emission, data)
        found = readouts_update(moments, data, space.assignment, np.asarray(sites[NOISE.name]), scales)
        blocks = Blocks(regions, self.n_global, space.lag, self.prior, data.n_trials)
        C = found[LOADINGS.name] * space.assignment.used
        numbers = space.assignment.region_of_neuron
        weighted = np.zeros((regions.n_states,) * 2)
        for region, part in enumerate(regions.slices):
            own = C[numbers == region, : part.stop - part.start] / scales.loadings[numbers == region, None]
            weighted[part, part] = own.T @ own
        at = _higher(blocks, moments, weighted, _at(sites, regions, self.n_global))
        for region, part in enumerate(regions.slices):
            C[numbers == region, : part.stop - part.start] @= at.change[part, part]
        dynamics = {OWN.name: at.own, COUPLING.name: at.coupling}
        if self.n_global:
            dynamics |= {DRIVE.name: at.drive, GLOBAL.name: at.shared}
        return {**found, **dynamics, LOADINGS.name: C}


def _at(sites: Mapping[str, Any], regions: Regions, n_global: int) -> Dynamics:
    own, coupling = (np.asarray(sites[site.name]) for site in (OWN, COUPLING))
    n = regions.n_states
    drive = np.asarray(sites.get(DRIVE.name, np.zeros((n, 0))))
    shared = np.asarray(sites.get(GLOBAL.name, np.zeros((0, 0))))
    return Dynamics(own, coupling, drive, shared, np.eye(n + n_global))


def _higher(blocks: Blocks, moments: Moments, loadings: np.ndarray, before: Dynamics) -> Dynamics:
    """Climb the expected log-density from where it was or from the closed form, the higher."""
    sums = Sums(
        moments.transitions, moments.present, moments.following, moments.lagged, moments.start_square, loadings
    )
    starts = [before]
    if moments.transitions > 0:  # trials of one bin say nothing of dynamics
        with suppress(np.linalg.LinAlgError):  # what the trials do on the whole is not stationary
            starts.append(regressed(blocks, sums, before))
    places = [np.asarray(_free(blocks, start)) for start in starts]

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = _loss(blocks, jnp.asarray(x), sums)
        return float(loss), np.asarray(slope)

    losses = [value(x)[0] if np.isfinite(x).all() else np.inf for x in places]
    losses = [loss if np.isfinite(loss) else np.inf for loss in losses]
    best = int(np.argmin(losses))
    unit = 1 / np.sqrt(max(float(moments.transitions), 1.0))  # about one posterior sd, for steps of the right size

    def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = value(places[best] + unit * x)
        return loss, unit * slope

    result = minimize(
        walled(scaled, losses[best]), np.zeros_like(places[best]), jac=True, method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "maxcor": MEMORY, "ftol": 0, "gtol": 1e-6},
    )  # fmt: skip
    x = places[best] + unit * result.x if result.fun <= losses[best] else places[best]
    return Dynamics(*map(np.asarray, _dynamics(blocks, jnp.asarray(x))))


def regressed(blocks: Blocks, sums: Sums, before: Dynamics) -> Dynamics:
    """Dynamics in closed form, without the start of a trial and the prior of loadings.

    Raises:
        np.linalg.LinAlgError: the regions alone have no stationary covariance.
    """
    regions = blocks.regions
    n, m = np.shape(before.drive)
    present, following, lagged = (np.asarray(part) for part in (sums.present, sums.following, sums.lagged))
    count = float(sums.transitions)
    first = 0 if blocks.lag == 0 else n + m + (blocks.lag - 1) * n  # where the states are from which edges start
    precisions = np.zeros((n, n))  # of the entries of edges
    edges = regions.edge_of_entry
    for edge in range(len(regions.edges)):
        precisions[edges == edge] = blocks.prior.precision(before.coupling[edges == edge])
    own: np.ndarray = np.zeros((n, n))
    change: np.ndarray = np.eye(n + m)
    coupling, drive, shared = np.zeros((n, n)), np.zeros((n, m)), np.zeros((m, m))
    for part in (part for part in regions.slices if part.stop > part.start):
        heard = np.flatnonzero(regions.coupled[part.start])
        size = part.stop - part.start
        known = np.concatenate([np.arange(part.start, part.stop), first + heard, n + np.arange(m)])
        prior = np.diag(np.concatenate([np.zeros(size), precisions[part.start, heard], np.ones(m)]))
        square = present[np.ix_(known, known)] + prior
        K = np.linalg.solve(square, lagged[part, known].T).T
        Q = (following[part, part] - K @ lagged[part, known].T) / count
        T = np.linalg.cholesky(stationary_covariance(K[:, :size], 0.5 * (Q + Q.T)))
        change[part, part], own[part, part] = T, np.linalg.solve(T, K[:, :size] @ T)
        L = np.linalg.cholesky(np.eye(size) - own[part, part] @ own[part, part].T)
        coupling[part, heard], drive[part] = np.split(np.linalg.solve(T @ L, K[:, size:]), [len(heard)], axis=1)
    if m:
        g = slice(n, n + m)
        G = np.linalg.solve(present[g, g], lagged[g, g].T).T
        Q = (following[g, g] - G @ lagged[g, g].T) / count
        T = np.linalg.cholesky(stationary_covariance(G, 0.5 * (Q + Q.T)))
        change[g, g], shared = T, np.linalg.solve(T, G @ T)
    return Dynamics(own, coupling @ change[:n, :n], drive @ change[n:, n:], shared, change)
