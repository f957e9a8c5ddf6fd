"""Method "map": the maximum of log p(y, parameters), latents integrated out.

A start is found from the data, and the density climbed to convergence, on the way adapting the model (see
``adaptation``). Sites whose start is good already wait until the others have found their place (``held_at_first``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from mrgp.inference.adaptation import Adaptation, begin, doubts, frozen_sites
from mrgp.inference.density import LogJoint
from mrgp.inference.driver import Driver
from mrgp.inference.method import Method
from mrgp.inference.mode.curvature import diagonal
from mrgp.inference.optimise import Objective, maximise
from mrgp.inference.own_covariances import CREEPING, in_reach, quicker
from mrgp.inference.run import Model, Options, Run, State

CREEPS = f"the climb ends at {CREEPING} nats over a few iterations, though less was asked for: below, it would creep"
ROUGH = 1.0  # nats: of a climb that only brings latents to where the sites held at first may follow


@dataclass(kw_only=True)
class Climb(State[Model]):
    """State between two climbs.

    Attributes:
        still: Sites that wait, each with a step of length 0.
    """

    adaptation: Adaptation
    still: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MAP(Method):
    """Maximum a posteriori: the maximum of log p(y, parameters), without settings."""

    ends_at_maximum: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    draws_all: ClassVar[str] = "fit with method='laplace', or take mrgp.leave_one_out(fit)"

    def init(self, driver: Driver) -> Climb:
        state = begin(driver)
        searched = driver.start is None and driver.store.phase in (None, "start")
        still = {name: 0.0 for name in state.model.held_at_first if name in state.sites and searched}
        return Climb(**vars(state), adaptation=Adaptation.of(driver, state), still=still)

    def step(self, driver: Driver, state: Climb) -> Climb:
        """Climb, then adapt the model, or try another place."""
        reason = _climb(driver, state)
        if not state.converged:
            state.reason = reason
            return state
        if state.still:
            state.still = {}
            return state.adaptation.goes_on(state)
        if state.adaptation.revised(driver, state):
            return state.adaptation.goes_on(state)
        model, data, held = state.model, driver.data, driver.options.fixed
        relearned = model.fitting.learned(data, state.sites, partial(_curvature_of, driver, model, state.sites), held)
        if relearned is not None:
            state.model, state.sites = relearned
            return state.adaptation.goes_on(state)
        place = state.adaptation.elsewhere(driver, state)
        state.reason = reason
        if place is None:
            return state
        there = Climb(model=place.model, sites=place.sites, notes=place.notes, home=state, adaptation=state.adaptation)
        return state.adaptation.goes_on(there)

    def finish(self, driver: Driver, state: Climb) -> Run:
        notes = [*state.notes, *doubts(state.model, driver.data, state.sites, driver.options.fixed)]
        return driver.result(state, notes=tuple(notes))


def _climb(driver: Driver, state: Climb) -> str:
    """Climb log p(y, parameters) from ``state``; return why that ended."""
    options = driver.options
    scale = {**state.model.fitting.scales(driver.data, state.sites), **state.still}
    frozen = frozen_sites(state.model, options)
    tolerance = max(options.tolerance, ROUGH) if state.still else options.tolerance
    reached = in_reach(state.model, driver.data, tolerance)
    if options.tolerance != Options.tolerance and reached > tolerance and CREEPS not in state.notes:
        state.notes.append(CREEPS)
    ascent = maximise(
        Objective(LogJoint(state.model), state.model.fitting.folded(driver.data), state.sites, scale, frozen),
        tolerance=reached,
        max_iterations=options.max_iterations,
        spent=state.iterations + (state.home.iterations if state.home is not None else 0),
        progress="climbing log p(y, parameters)" if options.progress else None,
        on_iteration=lambda sites: driver.keep(replace(state, sites=sites)),
        ahead=quicker(state.model, driver.data, reached),
    )
    state.sites = ascent.sites
    state.trace += ascent.trace
    state.iterations += len(ascent.trace) - 1
    state.evaluations += ascent.evaluations
    state.converged = ascent.converged
    return ascent.reason


def _curvature_of(driver: Driver, model: Model, sites: Mapping[str, Any], name: str) -> np.ndarray:
    """Curvature of the site ``name``, also where it is fixed."""
    frozen = tuple(site for site in frozen_sites(model, driver.options) if site != name)
    data, few = driver.data, model.fitting.folded(driver.data)
    return diagonal(Objective(LogJoint(model), few, sites, model.fitting.scales(data, sites), frozen), name)
