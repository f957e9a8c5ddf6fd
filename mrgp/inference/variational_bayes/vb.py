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

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mrgp.inference.adaptation import Adaptation, Place, begin, doubts
from mrgp.inference.driver import Driver
from mrgp.inference.method import Method
from mrgp.inference.quantity import BOUND, Quantity
from mrgp.inference.run import Model, Options, Run
from mrgp.inference.search import briefly
from mrgp.inference.variational_bayes import of_counts
from mrgp.inference.variational_bayes.bound import OF_Q, Setting
from mrgp.inference.variational_bayes.leaps import cleared, remove_unread, revived, turned
from mrgp.inference.variational_bayes.of_counts import CountRounds, told_of
from mrgp.inference.variational_bayes.regions_rounds import RegionRounds
from mrgp.inference.variational_bayes.rounds import FIRST_CLIMB, LONGER, Rounds, make_round, value_of
from mrgp.inference.variational_bayes.updates import resting_variance, update
from mrgp.likelihoods.likelihood import Spectral
from mrgp.parts.delays.bounds import admitting
from mrgp.parts.loadings import RELEVANCE
from mrgp.parts.readout import LOADINGS, NOISE
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Sentence

SPECTRAL = "spectral rounds"  # the phase of a fit whose bound is still that of the spectral likelihood
SPECTRAL_TOLERANCE = 0.05  # nats a round: the spectral rounds only have to find which region reads what
READY = 1000  # tolerances: a round that gains less has come near enough to try which loadings are better at zero


@dataclass(kw_only=True)
class RoundsOfValues(Rounds):
    """Rounds under the spectral likelihood first, and then under the model's own.

    Attributes:
        later: The model to go on with after the spectral rounds.
    """

    later: Model | None = None

    def step(self, driver: Driver) -> "RoundsOfValues":
        """Make rounds until they gain little, then adapt the model, or try another place."""
        if self.phase == SPECTRAL:
            return replace(_handed_over(_spectral(self, driver), driver.data), trace=[])
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


@dataclass(frozen=True)
class VB(Method):
    """Variational Bayes for models with automatic relevance determination, without settings."""

    climbs: ClassVar[Quantity] = BOUND
    infers: ClassVar[tuple[str, ...]] = OF_Q
    removes_latents: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    title: ClassVar[str | None] = "raising the bound"

    def objection(self, model: Any, data: MultiRegionData) -> Sentence | None:
        if (own := model.posterior_updates) is not None:
            return own.objection(model)
        return model.loadings.objection_to_updates(model.emission)

    def init(self, driver: Driver) -> RoundsOfValues | CountRounds | RegionRounds:
        if (own := driver.model.posterior_updates) is not None:
            return own.begun(driver)
        if driver.model.emission.is_of_counts:
            return of_counts.begun(driver, self)
        in_spectral = Spectral().objection(driver.model.emission) is None
        has_spectrum = driver.data.is_complete and not driver.model.delays.moves and in_spectral
        begun = begin(driver, briefly if has_spectrum else None)
        model, fresh = begun.model, driver.start is None and driver.store.phase in (None, "start", SPECTRAL)
        under_spectral = fresh and has_spectrum and not model.likelihood.is_spectral
        apart = under_spectral and model.tables.remember(driver.data.layout)  # else both likelihoods are one
        fast = model.replace(likelihood=Spectral()) if apart else model
        state = _entered(fast, driver.data, begun.sites, driver.options, Adaptation.of(driver, begun))
        state.notes, state.later, state.phase = begun.notes, model, SPECTRAL if under_spectral else state.phase
        return state

    def step[S: (RoundsOfValues, CountRounds, RegionRounds)](self, driver: Driver, state: S) -> S:
        """Make rounds, then adapt the model, or try another place."""
        return state.step(driver)

    def finish(self, driver: Driver, state: RoundsOfValues | CountRounds | RegionRounds) -> Run:
        return state.finish(driver)


def _tried(home: RoundsOfValues, place: Place, data: MultiRegionData) -> RoundsOfValues:
    """Make a state at other lags, with as many iterations as there are left."""
    left = replace(home.options, max_iterations=home.options.max_iterations - len(home.trace))
    there = _entered(place.model, data, place.sites, left, home.adaptation)
    return replace(there, removed=home.removed, notes=place.notes, home=home)


def _handed_over(state: RoundsOfValues, data: MultiRegionData) -> RoundsOfValues:
    """Turn the end of the spectral rounds into a state under the model's own likelihood."""
    assert state.later is not None
    delays = admitting(state.later.delays, state.sites, data.bin_width)
    adapted = state.later.replace(n_across=state.model.n_across, delays=delays)
    if not state.adaptation.keeps_window:
        adapted = adapted.fitting.adapted(data, state.sites, 1.0)
    setting = state.setting
    if state.model.likelihood.is_spectral and setting.data.weight is not None:  # few trials, enough of frequencies
        setting = setting._replace(data=jax.tree.map(jnp.asarray, data))
    return replace(state, model=adapted, setting=setting, phase="climb")


def _entered(
    model: Model, data: MultiRegionData, sites: dict[str, Any], options: Options, adaptation: Adaptation
) -> RoundsOfValues:
    """Make a state from point estimates.

    Loadings are as uncertain as their noise makes them, and zeros stay.
    """
    free = {name: jnp.asarray(value) for name, value in sites.items() if name != RELEVANCE.name}
    eye = jnp.eye(np.shape(sites[LOADINGS.name])[1])
    few = model.fitting.folded(data)
    setting = Setting.of(few, sites[LOADINGS.name], jnp.zeros((len(free[NOISE.name]), *eye.shape)))
    resting = resting_variance(model, free, setting)[:, None]
    variance = jnp.where(setting.living, (free[NOISE.name] / setting.observed)[:, None], resting)
    setting = setting._replace(covariance=variance[:, :, None] * eye)
    return RoundsOfValues(model=model, sites=free, setting=setting, options=options, adaptation=adaptation)


def _spectral(state: RoundsOfValues, driver: Driver) -> RoundsOfValues:
    """Make spectral rounds, and return what is highest under the model's own likelihood.

    The spectral likelihood takes trials for periodic. Where they are not, as of smoothed counts, its bound leads away:
    to neurons without noise, and to delays of half a trial. That shows after one round.
    """
    rounds = _ascent(state, SPECTRAL_TOLERANCE, driver)
    best, highest = replace(state, trace=[]), _own_height(state, driver.data)  # rounds change a state in place
    for some in (islice(rounds, 1), rounds):
        deque(some, maxlen=0)
        height = _own_height(state, driver.data)
        if height < highest:
            return replace(best, evaluations=state.evaluations)
        best, highest = replace(state, trace=list(state.trace)), height
    return best


def _own_height(state: RoundsOfValues, data: MultiRegionData) -> float:
    """Bound under the model's own likelihood, after the closed-form updates."""
    own = _handed_over(state, data)
    sites, covariance = update(own.model, own.sites, own.setting)
    state.evaluations += 2
    return value_of(own.model, sites, own.setting._replace(covariance=covariance))


def _ascend(state: Rounds, tolerance: float, driver: Driver) -> None:
    """Make rounds and leaps until a round and every leap gain less than ``tolerance``."""
    deque(_ascent(state, tolerance, driver), maxlen=0)


def _ascent(state: Rounds, tolerance: float, driver: Driver) -> Iterator[None]:
    """Make rounds and leaps as :func:`_ascend` does, and yield after each round."""
    longest = float(FIRST_CLIMB)
    state.converged = False
    while len(state.trace) < state.options.max_iterations:
        before = state.height
        make_round(state, tolerance, int(longest), driver)
        longest *= LONGER
        driver.keep(state)
        gained = state.height - before
        if gained < READY * tolerance and cleared(state):
            revived(state, tolerance)
            remove_unread(state)
        elif gained < tolerance and not (revived(state, tolerance) or turned(state, tolerance, driver)):
            state.converged = True
            return
        yield
