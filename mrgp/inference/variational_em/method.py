"""``fit(method="variational_em")``: rounds from several starts.

Bounds that alternate between hidden states and latents have many maxima: each start leads to another. All starts climb
a little, the higher half of them further, and the highest of these goes on until it has converged; how far apart they
are is kept with the fit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from mrgp.inference.driver import Driver
from mrgp.inference.method import Method
from mrgp.inference.quantity import Quantity
from mrgp.inference.run import AnyModel, Options, Run, State
from mrgp.recordings.recording import MultiRegionData

TITLES = "starts", "climb"  # phases of a run
FIRST = 3  # part of the rounds of a start after which half of the starts are given up
LEAST_HIGHER = 2  # starts that go on: one alone would tell nothing of their spread
APART = 10.0  # nats between the best start and the next, from which on another start may be better still

JOINT_BOUND = Quantity(
    "bound of log p(y, parameters)", short="bound", has_priors=True, is_bound=True, summarised="bound"
)


class Estimate(NamedTuple):
    """Parameters, and the posterior of trials that goes with them.

    Attributes:
        sites: By name.
        posterior: As the model has it.
        value: The bound plus the log prior, nats; -inf before the first round.
    """

    sites: dict[str, Any]
    posterior: Any
    value: float


class Rounds(Protocol):
    """Interface that the method needs of a model's rounds."""

    def starts(self, data: MultiRegionData, options: Options) -> Iterator[Estimate]:
        """Estimates from which a fit may begin, ``options.n_starts`` of them."""

    def at(self, data: MultiRegionData, sites: Mapping[str, Any]) -> Estimate:
        """Estimate of given parameters."""

    def onward(self, data: MultiRegionData, estimate: Estimate) -> Estimate:
        """Improve the posterior, then the parameters."""


class WithRounds(AnyModel, Protocol):
    """Interface that the method needs of a model."""

    @property
    def rounds(self) -> Rounds: ...


class Tried(NamedTuple):
    """Start that has climbed.

    Attributes:
        estimate: Where it has come to.
        trace: Values after each of its rounds.
    """

    estimate: Estimate
    trace: tuple[float, ...] = ()

    @property
    def height(self) -> float:
        return self.estimate.value


@dataclass(kw_only=True)
class Climb(State[WithRounds]):
    """State between rounds.

    Attributes:
        estimate: Where the climb is, or its highest start; None before the first.
        waiting: Starts that have not climbed.
        tried: Those that have, in their order.
        higher: Numbers of those that are to climb further.
    """

    estimate: Estimate | None = None
    waiting: Iterator[Estimate] | None = None
    tried: list[Tried]
    higher: list[int] | None = None


@dataclass(frozen=True)
class VariationalEM(Method):
    """Alternate between a structured posterior and parameters; neither step lets the bound fall.

    Args:
        rounds_of_starts: Rounds that starts climb before the highest goes on alone; the lower half of the starts is
            given up after a third of them.
    """

    rounds_of_starts: int = 30

    climbs: ClassVar[Quantity] = JOINT_BOUND
    holds_sites: ClassVar[bool] = False
    listed: ClassVar[bool] = True
    title: ClassVar[str | None] = "variational EM"
    unit: ClassVar[str] = " rounds"

    def __post_init__(self) -> None:
        if self.rounds_of_starts < 1:
            raise ValueError(f"rounds_of_starts counts at least 1, not {self.rounds_of_starts}")

    def init(self, driver: Driver) -> Climb:
        model, data = driver.model, driver.data
        resumed = driver.store.read(model)
        known = driver.start.sites if resumed is None and driver.start is not None else (resumed or (None, {}))[1]
        if known:  # a run that was stopped before its first round kept nothing
            estimate = model.rounds.at(data, known)
            return Climb(model=model, sites=estimate.sites, estimate=estimate, tried=[], phase=TITLES[1])
        waiting = model.rounds.starts(data, driver.options)
        return Climb(model=model, sites={}, waiting=waiting, tried=[], phase=TITLES[0])

    def step(self, driver: Driver, state: Climb) -> Climb:
        """Let a start climb, while any is to; then make a round."""
        most = min(self.rounds_of_starts, driver.options.max_iterations)
        if state.waiting is not None:
            start = next(state.waiting, None)
            if start is not None:
                number = len(state.tried)
                state.tried.append(_climbed(driver, Tried(start), number, -(-most // FIRST)))
                return _with_best(state)
            order = sorted(range(len(state.tried)), key=lambda number: -state.tried[number].height)
            return replace(state, waiting=None, higher=order[: max(LEAST_HIGHER, -(-len(order) // 2))])
        if state.higher:
            number, *rest = state.higher
            state.tried[number] = _climbed(driver, state.tried[number], number, most)
            return _with_best(replace(state, higher=rest))
        state.phase = TITLES[1]
        assert state.estimate is not None
        state.estimate = driver.model.rounds.onward(driver.data, state.estimate)
        state.sites = state.estimate.sites
        driver.climbed(state, state.estimate.value)
        return state

    def finish(self, driver: Driver, state: Climb) -> Run:
        if not state.sites:
            raise KeyboardInterrupt  # before there was anything to keep
        reached = np.array([start.height for start in state.tried])
        heights = np.sort(reached)[::-1]
        if len(heights) > 1 and heights[0] - heights[1] > APART:
            others = ", ".join(f"{heights[0] - height:.0f}" for height in heights[1:])
            state.notes.append(
                f"of {len(heights)} starts the best was {others} nats above the others: more of them (n_starts) may "
                "find a better one"
            )
        return driver.result(state, start_heights=reached if state.tried else None)


def _climbed(driver: Driver, start: Tried, number: int, rounds: int) -> Tried:
    """Let a start climb until it has had so many rounds."""
    estimate, trace = start
    for _ in range(rounds - len(trace)):
        estimate = driver.model.rounds.onward(driver.data, estimate)
        trace += (estimate.value,)
        driver.show(1, estimate.value, f"start {number + 1} of {driver.options.n_starts}")
    return Tried(estimate, trace)


def _with_best(state: Climb) -> Climb:
    """Return the state at the highest start."""
    best, evaluations = max(state.tried, key=lambda start: start.height), sum(len(start.trace) for start in state.tried)
    estimate, trace = best.estimate, list(best.trace)
    return replace(
        state, estimate=estimate, sites=estimate.sites, trace=trace, iterations=len(trace), evaluations=evaluations
    )
