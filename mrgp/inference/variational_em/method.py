"""``fit(method="variational_em")``: rounds from several starts.

Bounds that alternate between hidden states and latents have many maxima: each start leads to another. All starts climb
for some rounds, and the highest goes on until it has converged; how far apart they are is kept with the fit.
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


@dataclass(kw_only=True)
class Climb(State[WithRounds]):
    """State between rounds.

    Attributes:
        estimate: Where the climb is; None before the first start.
        waiting: Starts that have not climbed.
        heights: Bounds that starts have reached, in their order.
    """

    estimate: Estimate | None = None
    waiting: Iterator[Estimate] | None = None
    heights: list[float]


@dataclass(frozen=True)
class VariationalEM(Method):
    """Alternate between a structured posterior and parameters; neither step lets the bound fall.

    Args:
        rounds_of_starts: Rounds that every start climbs, before the highest goes on alone.
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
            return Climb(model=model, sites=estimate.sites, estimate=estimate, heights=[], phase=TITLES[1])
        waiting = model.rounds.starts(data, driver.options)
        return Climb(model=model, sites={}, waiting=waiting, heights=[], phase=TITLES[0])

    def step(self, driver: Driver, state: Climb) -> Climb:
        """Let a start climb, while any is waiting; then make a round."""
        if state.waiting is not None:
            start = next(state.waiting, None)
            return replace(state, waiting=None, phase=TITLES[1]) if start is None else self._tried(driver, state, start)
        assert state.estimate is not None
        state.estimate = driver.model.rounds.onward(driver.data, state.estimate)
        state.sites = state.estimate.sites
        driver.climbed(state, state.estimate.value)
        return state

    def _tried(self, driver: Driver, state: Climb, estimate: Estimate) -> Climb:
        trace = []
        most = min(self.rounds_of_starts, driver.options.max_iterations)
        for _ in range(most):
            estimate = driver.model.rounds.onward(driver.data, estimate)
            trace.append(estimate.value)
            driver.show(1, estimate.value, f"start {len(state.heights) + 1} of {driver.options.n_starts}")
        state.evaluations += most
        state.heights.append(estimate.value)
        if state.estimate is None or estimate.value > state.estimate.value:
            state.estimate, state.sites, state.trace, state.iterations = estimate, estimate.sites, trace, most
        return state

    def finish(self, driver: Driver, state: Climb) -> Run:
        if not state.sites:
            raise KeyboardInterrupt  # before there was anything to keep
        heights = np.sort(state.heights)[::-1]
        if len(heights) > 1 and heights[0] - heights[1] > APART:
            others = ", ".join(f"{heights[0] - height:.0f}" for height in heights[1:])
            state.notes.append(
                f"of {len(heights)} starts the best was {others} nats above the others: more of them (n_starts) may "
                "find a better one"
            )
        return driver.result(state, start_heights=np.array(state.heights) if state.heights else None)
