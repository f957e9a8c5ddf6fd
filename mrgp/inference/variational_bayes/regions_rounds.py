"""Rounds of variational Bayes of coupled regions whose first state is learned.

A round is two steps, of which neither can lower the bound: the closed-form updates of ``regions_updates`` given the
optimal q of the states, and a joint climb in the means of q with the states integrated out. Without the climb the
alternation of states with loadings and dynamics, which can stand in for each other, would need thousands of rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mrgp.inference.adaptation import begin
from mrgp.inference.density import Sites
from mrgp.inference.driver import Driver
from mrgp.inference.expectation_maximization.readouts import Scales
from mrgp.inference.mode.edge_evidence import Relevance
from mrgp.inference.optimise import INTERRUPTED, Objective, maximise
from mrgp.inference.run import Model, Run, State
from mrgp.inference.variational_bayes.noise_law import drawn_noise, noise_law
from mrgp.inference.variational_bayes.regions_bound import Covariances, RegionsBound, RegionSetting, expectation
from mrgp.inference.variational_bayes.regions_mixing import MIXING, MixedRegions
from mrgp.inference.variational_bayes.regions_prior import TransitionPrior
from mrgp.inference.variational_bayes.regions_updates import Known, updated
from mrgp.inference.variational_bayes.rounds import FIRST_CLIMB, LONGER
from mrgp.likelihoods.statespace.coupled_coordinates import of_neurons, ordering, rotated, whole_rotation
from mrgp.likelihoods.statespace.region_blocks import Regions
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.layout import Layout
from mrgp.recordings.missing import Missing, exact_patterns
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import LEARNED, MAP, Argument, Refusal, Sentence

STRETCH = 1.0  # scale of the mixing of states, in 1 / sqrt(bins)
N_DRAWS = 1000  # of q that a fit keeps


@dataclass(kw_only=True)
class RegionRounds(State[Model]):
    """State between rounds.

    The noise among its sites is the coordinate of q(R) (see ``regions_bound``).

    Attributes:
        bound: What is climbed.
        setting: Its arguments beside the sites.
        tolerance: Gain of a round below which they end, nats.
        longest: Iterations of the next joint climb.
    """

    bound: RegionsBound
    setting: RegionSetting
    tolerance: float
    longest: float = FIRST_CLIMB

    def step(self, driver: Driver) -> "RegionRounds":
        """Make a round; it ends the run if it gained little, or was the last."""
        before = self.height
        moments = expectation(self.bound, self.sites, self.setting)
        assignment = self.model.assignment(driver.data.layout)
        found = updated(self.bound.prior, assignment, self.sites, self.setting, moments)
        setting = self.setting._replace(covariances=found.covariances)
        mixed, size = MixedRegions(self.bound), self.bound.prior.n_rows
        scale = self.model.fitting.scales(driver.data, found.sites)
        scale[MIXING] = np.asarray(STRETCH / np.sqrt(driver.data.n_trials * driver.data.n_bins))
        objective = Objective(mixed, setting, {**found.sites, MIXING: jnp.zeros((size, size))}, scale)
        ascent = maximise(objective, tolerance=0.1 * self.tolerance, max_iterations=int(self.longest))
        if ascent.reason == INTERRUPTED:
            raise KeyboardInterrupt
        self.sites, self.setting = _mixed(mixed, ascent.sites, setting)
        self.longest = LONGER * self.longest
        self.trace += ascent.trace
        self.iterations = len(self.trace)
        self.evaluations += ascent.evaluations + 1
        driver.show(len(ascent.trace), self.height)
        driver.keep(self)
        if self.height - before < self.tolerance:
            self.converged, self.reason = True, f"bound rose less than {self.tolerance:g} nats in a round"
        elif self.iterations >= driver.options.max_iterations:
            self.reason = driver.used_up
        return self

    def finish(self, driver: Driver) -> Run:
        """Make the result: means of q, covariances of loadings, and draws.

        Coordinates are those in which the slowest mode of each region comes first.
        """
        known = _ordered(self.bound.prior, self.model, driver.data.layout, self)
        sites = {name: np.asarray(value) for name, value in known.sites.items()}
        used = self.model.assignment(driver.data.layout).used
        samples = _draws(self.bound.prior, used, known, self.setting, driver.options.seed)
        sites[NOISE.name] = 1 / np.asarray(_noise(known, self.setting))
        spread = np.asarray(known.covariances.readout)[:, :-1, :-1]
        return driver.result(self, sites=sites, loadings_covariance=spread, samples=samples)


@partial(jax.jit, static_argnums=0)
def _mixed(mixed: MixedRegions, sites: Sites, setting: RegionSetting) -> tuple[Sites, RegionSetting]:
    return mixed.mixed(sites, setting)


@dataclass(frozen=True)
class RegionUpdates:
    """Variational Bayes of regions that drive each other.

    Attributes:
        regions, lag: Regions of a recording with their edges, and the lag of edges in bins, by its layout.
        n_global: Global states.
        edges: Prior of edges.
    """

    regions: Callable[[Layout], Regions]
    lag: Callable[[Layout], int]
    n_global: int
    edges: Relevance

    def objection(self, model: Any) -> Sentence | None:
        """Reason why the model has no conjugate updates, or None."""
        if not model.start.is_learned:
            why = "a Gaussian q always holds edges under which no stationary start exists: give "
            return f"method 'vb' needs a first state that is learned, since {why}", LEARNED, ", or use ", MAP
        for name, part, suits in (
            ("mean", model.mean, not model.mean.moves),
            ("emission", model.emission, not (model.emission.is_of_counts or model.emission.is_autocorrelated)),
        ):
            if not suits:
                return "method 'vb' has no update for ", Argument(name, part.written_name()), ": use ", MAP
        return None

    def bound(self, model: Model, layout: Layout) -> RegionsBound:
        """Bound that the rounds of a model climb."""
        prior = TransitionPrior(self.regions(layout), self.n_global, self.lag(layout), self.edges)
        return RegionsBound(model, prior)

    def begun(self, driver: Driver) -> RegionRounds:
        """State from which rounds begin, at the sites of a search or of an earlier fit."""
        if driver.options.fixed:
            raise Refusal("method 'vb' updates every parameter of coupled regions: to fix one, use ", MAP)
        state, data = begin(driver), driver.data
        bound = self.bound(state.model, data.layout)
        sites = {name: jnp.asarray(value) for name, value in state.sites.items()}
        return RegionRounds(
            model=state.model, sites=sites, notes=state.notes, bound=bound, tolerance=driver.options.tolerance,
            setting=first_setting(bound, data, sites),
        )  # fmt: skip


def first_setting(bound: RegionsBound, data: MultiRegionData, sites: dict[str, Any]) -> RegionSetting:
    """Setting with q as certain as the recording's bins would make it, were states known."""
    holes: Any = (data.observed, data.pattern, data.length)
    missing = Missing(None, jnp.zeros(data.n_trials, int), None) if data.is_complete else Missing(*holes)
    exact = exact_patterns(missing, data.n_bins, data.layout.total_neurons)
    bins = np.asarray(data.mask.sum((0, 1)), float)
    used = bound.model.assignment(data.layout).used
    used = np.append(used, np.ones((len(used), 1), bool), 1)
    each = np.where(used, (np.asarray(sites[NOISE.name]) / bins)[:, None], 1.0)
    spread = bound.prior.used / max(bins.max(), 1.0)
    covariances = Covariances(
        jnp.asarray(spread[:, :, None] * np.eye(bound.prior.size)),
        jnp.asarray(each[:, :, None] * np.eye(used.shape[1])),
    )
    scales = Scales.of(bound.model.emission, data)
    return RegionSetting(jax.tree.map(jnp.asarray, data), exact, jnp.asarray(bins), scales, covariances)


# ---- what a fit keeps of q -------------------------------------------------------------------------------------------


def _ordered(prior: TransitionPrior, model: Model, layout: Layout, state: RegionRounds) -> Known:
    """Rotate q so that the slowest mode of each region comes first; the bound does not see that."""
    assignment, sites = model.assignment(layout), {name: np.asarray(value) for name, value in state.sites.items()}
    U, V = ordering(sites, assignment)
    whole = whole_rotation(U, V, prior.size)
    rows = whole.T @ np.asarray(state.setting.covariances.transition) @ whole
    spread = np.einsum("ji,jkl->ikl", whole[: prior.n_rows, : prior.n_rows] ** 2, rows)
    used = np.append(assignment.used, np.ones((len(assignment.used), 1), bool), 1)
    turns = np.tile(np.eye(used.shape[1]), (len(used), 1, 1))
    turns[:, :-1, :-1] = of_neurons(U, assignment)
    turns = np.where(used[:, :, None] & used[:, None], turns, np.eye(used.shape[1]))
    readout = np.swapaxes(turns, 1, 2) @ np.asarray(state.setting.covariances.readout) @ turns
    return Known(rotated(sites, assignment, U, V), Covariances(jnp.asarray(spread), jnp.asarray(readout)))


def _noise(known: Known, setting: RegionSetting) -> np.ndarray:
    """E[1/R], (neuron,)."""
    left = setting.left(known.sites)
    return np.asarray(noise_law(left, setting.bins, setting.scales.noise).precision)


def _draws(
    prior: TransitionPrior, used: np.ndarray, known: Known, setting: RegionSetting, seed: int
) -> dict[str, np.ndarray]:
    """Draws of q, (1, draw, ...) of each site but m0 and S, which are points."""
    rng = np.random.default_rng(seed)
    F, spread = np.asarray(prior.mean(known.sites)), np.asarray(known.covariances.transition)
    readout = np.linalg.cholesky(np.asarray(known.covariances.readout))
    rows = np.zeros((N_DRAWS, *F.shape))
    for row, own in enumerate(prior.used):
        root = np.linalg.cholesky(spread[row][np.ix_(own, own)])
        rows[:, row, own] = F[row, own] + rng.standard_normal((N_DRAWS, int(own.sum()))) @ root.T
    each = np.einsum("nij,dnj->dni", readout, rng.standard_normal((N_DRAWS, *readout.shape[:2])))
    left = setting.left(known.sites)
    found = {
        **prior.sites(rows),
        LOADINGS.name: np.asarray(known.sites[LOADINGS.name]) + np.where(used, each[..., :-1], 0.0),
        OFFSET.name: np.asarray(known.sites[OFFSET.name]) + each[..., -1],
        NOISE.name: drawn_noise(rng, left, setting.bins, setting.scales.noise, N_DRAWS),
    }
    return {name: value[None] for name, value in found.items()}
