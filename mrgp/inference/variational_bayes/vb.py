r"""``fit(method="vb")``: variational Bayes by rounds of two steps.

Neither step can lower the bound.

1. The closed-form updates of q(C), q(alpha), q(phi) and q(d) given the optimal q(x), which are mDLAG's (Gokcen et al.
   2023, appendix B), several cycles of them for one pass through the latents.
2. A joint climb in E[C], E[d], E[phi], delays and kernel parameters with x integrated out. Without it the alternation
   of x and C would need thousands of rounds.

Leaps join them, each kept only where the bound is higher for it. Loadings of a region on a latent that have all but
vanished are set to zero, which the updates reach only in the limit, and held there, where the bound is too steep to
climb; they are let go again where they would now explain something. And two latents that reach a region along the same
direction are turned into one that does and one that does not. Latents that no region reads are removed, so that what
remains is smaller and faster. Start and adaptation of the model are those of the maximum a posteriori
(see ``map``), followed by rounds under the spectral likelihood where the recording admits it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mrgp.inference.adaptation import Adaptation, Place, begin, doubts, frozen_sites
from mrgp.inference.driver import Driver
from mrgp.inference.method import Method
from mrgp.inference.optimise import INTERRUPTED, Objective, maximise
from mrgp.inference.quantity import BOUND, Quantity
from mrgp.inference.run import Model, Options, Run, State
from mrgp.inference.search import briefly
from mrgp.inference.variational_bayes import of_counts
from mrgp.inference.variational_bayes.bound import OF_Q, Bound, Mixed, Setting, relevance_of
from mrgp.inference.variational_bayes.of_counts import CountRounds, told_of
from mrgp.inference.variational_bayes.updates import resting_variance, revival, update
from mrgp.likelihoods.likelihood import Spectral
from mrgp.parts.delays.bounds import admitting
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import RELEVANCE, VANISHED, shared_variance, signal_to_noise
from mrgp.parts.readout import LOADINGS, NOISE
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Sentence

SPECTRAL = "spectral rounds"  # the phase of a fit whose bound is still that of the spectral likelihood
FIRST_CLIMB, LONGER = 15, 1.5  # iterations of a joint climb, and their growth: covariances change ever less
MIXING = 0.3  # scale of the mixing of latents, in 1 / sqrt(bins): 0.1 to 1 are as good on mDLAG's demo, 2 is too much
SPECTRAL_TOLERANCE = 0.05  # nats a round: the spectral rounds only have to find which region reads what
READY = 1000  # tolerances: a round that gains less has come near enough to try which loadings are better at zero
COLLINEAR, PRESENT = 0.9, 0.01  # cosine and share from which on two latents seem to be one in a region


@dataclass(kw_only=True)
class Rounds(State[Model]):
    """State between rounds, its sites without alpha, which follows from them.

    Attributes:
        setting: The recording, and what is known of loadings beside their means.
        options: Of the rounds that are left.
        adaptation: Of the model between them.
        later: The model to go on with after the spectral rounds.
        removed: Number of latents that were left out.
    """

    setting: Setting
    options: Options
    adaptation: Adaptation
    later: Model | None = None
    removed: int = 0

    @property
    def assignment(self) -> LatentLayout:
        return self.model.assignment(self.setting.data.layout)

    @property
    def complete(self) -> dict[str, Any]:
        """All sites of the model, alpha included."""
        return {**self.sites, RELEVANCE.name: relevance_of(self.model, self.sites, self.setting)}

    @property
    def vanishing(self) -> np.ndarray:
        """True where loadings are so small that they are tried at zero, (region, column)."""
        loadings, spread = np.asarray(self.sites[LOADINGS.name]), np.asarray(self.setting.covariance)
        audible = signal_to_noise(self.assignment, loadings, np.asarray(self.sites[NOISE.name]), spread)
        return (self.share < VANISHED) | (audible[:, None] * self.share < VANISHED)

    @property
    def share(self) -> np.ndarray:
        """Share of each column of loadings in a region's shared variance, (region, column)."""
        loadings, spread = np.asarray(self.sites[LOADINGS.name]), np.asarray(self.setting.covariance)
        return shared_variance(self.assignment, loadings, spread)

    def step(self, driver: Driver) -> "Rounds":
        """Make rounds until they gain little, then adapt the model, or try another place."""
        if self.phase == SPECTRAL:
            _ascend(self, SPECTRAL_TOLERANCE, driver)
            return replace(_handed_over(self, driver.data), trace=[])
        _ascend(self, driver.options.tolerance, driver)
        if not self.converged:
            self.reason = driver.used_up
            return self
        if self.adaptation.revised(driver, self):
            return self.adaptation.goes_on(self)
        place = self.adaptation.elsewhere(driver, self)
        self.reason = f"bound rose less than {driver.options.tolerance:g} nats in a round"
        return self if place is None else self.adaptation.goes_on(_tried(self, place, driver.data))

    def finish(self, driver: Driver) -> Run:
        """Make the result, with the covariances of loadings."""
        state = _handed_over(self, driver.data) if self.phase == SPECTRAL else self
        sites = {name: np.asarray(value) for name, value in state.complete.items()}
        notes = [*state.notes, *told_of(state.removed), *doubts(state.model, driver.data, sites, driver.options.fixed)]
        return driver.result(
            state, sites=sites, notes=tuple(notes), iterations=len(state.trace),
            loadings_covariance=np.asarray(state.setting.covariance),
        )  # fmt: skip

    def block(self, region: int | np.integer, column: int | np.integer) -> np.ndarray:
        """Mask of a region's loadings on one latent, (neuron, column) bool."""
        assignment = self.assignment
        member = (assignment.region_of_neuron == region)[:, None] & (np.arange(assignment.n_columns) == column)
        return member & assignment.used


@dataclass(frozen=True)
class VB(Method):
    """Variational Bayes for models with automatic relevance determination, without settings."""

    climbs: ClassVar[Quantity] = BOUND
    infers: ClassVar[tuple[str, ...]] = OF_Q
    removes_latents: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    title: ClassVar[str | None] = "raising the bound"

    def objection(self, model: Any, data: MultiRegionData) -> Sentence | None:
        return model.loadings.objection_to_updates(model.emission)

    def init(self, driver: Driver) -> Rounds | CountRounds:
        if driver.model.emission.is_of_counts:
            return of_counts.begun(driver, self)
        has_spectrum = driver.data.is_complete and not driver.model.delays.moves
        begun = begin(driver, briefly if has_spectrum else None)
        model, fresh = begun.model, driver.start is None and driver.store.phase in (None, "start", SPECTRAL)
        under_spectral = fresh and has_spectrum and not model.likelihood.is_spectral
        fast = model.replace(likelihood=Spectral()) if under_spectral else model
        state = _entered(fast, driver.data, begun.sites, driver.options, Adaptation.of(driver, begun))
        state.notes, state.later, state.phase = begun.notes, model, SPECTRAL if under_spectral else state.phase
        return state

    def step(self, driver: Driver, state: Rounds | CountRounds) -> Rounds | CountRounds:
        """Make rounds, then adapt the model, or try another place."""
        return state.step(driver)

    def finish(self, driver: Driver, state: Rounds | CountRounds) -> Run:
        return state.finish(driver)


def _tried(home: Rounds, place: Place, data: MultiRegionData) -> Rounds:
    """Make a state at other lags, with as many iterations as there are left."""
    left = replace(home.options, max_iterations=home.options.max_iterations - len(home.trace))
    there = _entered(place.model, data, place.sites, left, home.adaptation)
    return replace(there, removed=home.removed, notes=place.notes, home=home)


def _handed_over(state: Rounds, data: MultiRegionData) -> Rounds:
    """Turn the end of the spectral rounds into a state under the model's own likelihood."""
    assert state.later is not None
    delays = admitting(state.later.delays, state.sites, data.bin_width)
    adapted = state.later.replace(n_across=state.model.n_across, delays=delays)
    if not state.adaptation.keeps_window:
        adapted = adapted.fitting.adapted(data, state.sites, 1.0)
    return replace(state, model=adapted, phase="climb")


def _entered(
    model: Model, data: MultiRegionData, sites: dict[str, Any], options: Options, adaptation: Adaptation
) -> Rounds:
    """Make a state from point estimates.

    Loadings are as uncertain as their noise makes them, and zeros stay.
    """
    free = {name: jnp.asarray(value) for name, value in sites.items() if name != RELEVANCE.name}
    eye = jnp.eye(np.shape(sites[LOADINGS.name])[1])
    setting = Setting.of(data, sites[LOADINGS.name], jnp.zeros((len(free[NOISE.name]), *eye.shape)))
    resting = resting_variance(model, free, setting)[:, None]
    variance = jnp.where(setting.living, (free[NOISE.name] / setting.observed)[:, None], resting)
    setting = setting._replace(covariance=variance[:, :, None] * eye)
    return Rounds(model=model, sites=free, setting=setting, options=options, adaptation=adaptation)


def _ascend(state: Rounds, tolerance: float, driver: Driver) -> None:
    """Make rounds and leaps until a round and every leap gain less than ``tolerance``."""
    longest = float(FIRST_CLIMB)
    state.converged = False
    while len(state.trace) < state.options.max_iterations:
        before = state.height
        _round(state, tolerance, int(longest), driver)
        longest *= LONGER
        driver.keep(state)
        gained = state.height - before
        if gained < READY * tolerance and _cleared(state):
            _revived(state, tolerance)
            _remove_unread(state)
            continue
        if gained < tolerance and not (_revived(state, tolerance) or _turned(state, tolerance, driver)):
            state.converged = True
            return


def _round(state: Rounds, tolerance: float, longest: int, driver: Driver) -> None:
    """Make the closed-form updates, then a joint climb."""
    sites, covariance = update(state.model, state.sites, state.setting)
    setting = state.setting._replace(covariance=covariance)
    columns = np.shape(sites[LOADINGS.name])[1]
    scale = state.model.fitting.scales(setting.data, sites)
    scale["mixing"] = MIXING / np.sqrt(setting.data.n_trials * setting.data.n_bins)
    start = {**sites, "mixing": jnp.zeros((columns, columns))}
    objective = Objective(Mixed(Bound(state.model)), setting, start, scale, frozen_sites(state.model, state.options))
    ascent = maximise(objective, tolerance=0.1 * tolerance, max_iterations=longest)
    if ascent.reason == INTERRUPTED:
        raise KeyboardInterrupt
    state.sites, state.setting = setting.held(Mixed.mixed(ascent.sites)), setting
    state.trace += ascent.trace
    state.evaluations += ascent.evaluations + 1
    driver.show(len(ascent.trace), state.height)


_value = jax.jit(lambda model, sites, setting: Bound(model)(sites, setting), static_argnums=0)


def _cleared(state: Rounds) -> bool:
    """Set vanishing loadings to zero where that raises the bound; return True if any were."""
    living = np.asarray(state.setting.living)
    blocks = [block for place in np.argwhere(state.vanishing) if (block := state.block(*place) & living).any()]
    if not blocks:
        return False
    resting = resting_variance(state.model, state.sites, state.setting)  # the same whatever else is at zero
    if _zeroed(state, np.any(blocks, axis=0), resting):
        return True
    outcomes = [_zeroed(state, block, resting) for block in blocks]
    return any(outcomes)


def _zeroed(state: Rounds, block: np.ndarray, resting: Array) -> bool:
    """Hold a block of loadings at zero if that raises the bound; return True if it did.

    The block is (neuron, column) bool. ``resting`` (neuron,) is their variance there.
    """
    kept = jnp.asarray(~block)
    alone = resting[:, None, None] * jnp.eye(block.shape[1])
    covariance = jnp.where(kept[:, :, None] & kept[:, None, :], state.setting.covariance, alone)
    setting = state.setting._replace(covariance=covariance, living=state.setting.living & kept)
    return _better(state, setting.held(state.sites), setting, 0.0)


def _revived(state: Rounds, tolerance: float) -> bool:
    """Let go of loadings held at zero where the bound gains more than ``tolerance``.

    Returns True if any were let go. The most gainful first, after which others may have nothing left to explain.
    """
    assignment, some = state.assignment, False
    tried = np.zeros((assignment.n_regions, assignment.n_columns), bool)
    while not np.all(np.asarray(state.setting.living) | ~assignment.used):
        found = revival(state.model, state.sites, state.setting)
        gain = np.where(tried, -np.inf, found.gain)
        region, column = np.unravel_index(gain.argmax(), gain.shape)
        if gain[region, column] <= tolerance:
            return some
        tried[region, column] = True
        block = jnp.asarray(state.block(region, column))
        loadings = jnp.where(block, found.mean, state.sites[LOADINGS.name])
        diagonal = (found.variance * block)[:, :, None] * jnp.eye(block.shape[1])
        covariance = jnp.where(diagonal > 0, diagonal, state.setting.covariance)
        setting = state.setting._replace(covariance=covariance, living=state.setting.living | block)
        some |= _better(state, {**state.sites, LOADINGS.name: loadings}, setting, tolerance)
    return some


def _better(state: Rounds, sites: dict[str, Any], setting: Setting, least: float) -> bool:
    """Go to ``sites`` if that raises the bound by at least ``least`` nats; return True if so."""
    value = float(_value(state.model, sites, setting))
    state.evaluations += 1
    if value < state.trace[-1] + least:
        return False
    state.sites, state.setting = sites, setting
    state.trace.append(value)
    return True


def _remove_unread(state: Rounds) -> None:
    """Remove latents that no region reads, if others remain."""
    n_across, n_columns = state.assignment.n_across, state.assignment.n_columns
    keep = np.flatnonzero((np.asarray(state.setting.living) & state.assignment.used)[:, :n_across].any(0))
    if len(keep) in (0, n_across):
        return
    columns = np.concatenate([keep, np.arange(n_across, n_columns)])
    state.model, state.sites = state.model.fitting.keeping(state.sites, state.setting.data.layout, keep)
    setting = state.setting
    covariance = setting.covariance[:, columns][:, :, columns]
    state.setting = setting._replace(covariance=covariance, living=setting.living[:, columns])
    state.removed += n_across - len(keep)


def _turned(state: Rounds, tolerance: float, driver: Driver) -> bool:
    """Turn a pair of latents that share a direction in a region, if that raises the bound.

    Returns True if a turn was kept.
    """
    for first, second, angle in list(_turns(state)):
        c, s = np.cos(angle), np.sin(angle)
        loadings = state.sites[LOADINGS.name]
        turned = loadings.at[:, first].set(c * loadings[:, first] + s * loadings[:, second])
        turned = turned.at[:, second].set(c * loadings[:, second] - s * loadings[:, first])
        living = state.setting.living
        either = living[:, [first]] | living[:, [second]]
        setting = state.setting._replace(living=living.at[:, jnp.array([first, second])].set(either))
        trial = replace(state, sites={**state.sites, LOADINGS.name: turned}, setting=setting, trace=[], evaluations=0)
        for longest in (FIRST_CLIMB, 4 * FIRST_CLIMB, 8 * FIRST_CLIMB):
            _round(trial, tolerance, longest, driver)
            if trial.trace[-1] > state.trace[-1] + tolerance:
                break
        state.evaluations += trial.evaluations
        if trial.trace[-1] > state.trace[-1] + tolerance:
            state.sites, state.setting = trial.sites, trial.setting
            state.trace.append(trial.trace[-1])
            return True
    return False


def _turns(state: Rounds) -> Iterator[tuple[int, int, float]]:
    """Find pairs of across latents that share a direction in a region, and angles to turn by.

    Their loadings in the region lie along one line, and the angles part them.
    """
    loadings, assignment, share = np.asarray(state.sites[LOADINGS.name]), state.assignment, state.share
    for first, second in combinations(range(assignment.n_across), 2):
        for region in range(assignment.n_regions):
            if share[region, [first, second]].min() < PRESENT:
                continue
            a, b = loadings[assignment.region_of_neuron == region][:, [first, second]].T
            size = np.linalg.norm(a), np.linalg.norm(b)
            if min(size) == 0:  # a region that reads nothing
                continue
            cosine = a @ b / (size[0] * size[1])
            if abs(cosine) > COLLINEAR:
                angle = np.arctan2(np.sign(cosine) * size[1], size[0])
                yield first, second, float(angle)  # the second no longer reaches the region
                yield first, second, float(angle - np.sign(angle) * np.pi / 2)  # nor the first
