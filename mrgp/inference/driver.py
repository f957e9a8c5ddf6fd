"""Driver of every method, and the one place where notes of a run become warnings.

It sees to progress bar, Ctrl-C, checkpoint, tolerance and notes. A method (:class:`mrgp.inference.method.Method`) says
where to begin, what a step is, and what comes out in the end.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from mrgp.inference.optimise import INTERRUPTED, PATIENCE
from mrgp.inference.quantity import Quantity
from mrgp.inference.run import AnyModel, Checkpoint, Options, Run, Start, State
from mrgp.inference.trivial import never_below_trivial
from mrgp.recordings.checks import warn
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Refusal, Sentence


class Driven(Protocol):
    """Interface that the driver needs of a method; the class of methods documents it."""

    @property
    def climbs(self) -> Quantity: ...
    def climbs_of(self, model: AnyModel) -> Quantity: ...
    @property
    def gives_draws(self) -> bool: ...
    @property
    def title(self) -> str | None: ...
    @property
    def unit(self) -> str: ...
    @property
    def finds(self) -> str: ...

    @classmethod
    def written_name(cls) -> str: ...
    @property
    def settings_of_run(self) -> Mapping[str, Any]: ...
    def cannot_hold(self, names: Collection[str]) -> Sentence | None: ...
    def has_no_use_for(self, options: Options) -> Sentence | None: ...
    def longest(self, options: Options) -> int | None: ...
    def init(self, driver: "Driver") -> Any: ...
    def step(self, driver: "Driver", state: Any) -> Any: ...
    def finish(self, driver: "Driver", state: Any) -> Run: ...


class Driver:
    """One run of a method: what methods read of it, and tell it.

    Attributes:
        model: The model as the user gave it.
        data: The recording.
        options: Of the fit.
        start: An earlier fit to go on from, or None.
        store: The run's checkpoint.
    """

    def __init__(
        self, method: Driven, model: AnyModel, data: MultiRegionData, options: Options, start: Start | None = None
    ) -> None:
        self.method, self.data, self.options, self.start = method, data, options, start
        self.model: Any = model  # what a method asks of it is between the two
        self.store = Checkpoint(options, model, data, method.settings_of_run)
        self._said: set[str] = set()
        self._bar: tqdm | None = None

    def run(self) -> Run:
        """Begin, step until the state has a reason to end, and return the result.

        Ctrl-C ends a climb where it is, with its checkpoint kept. Half a posterior is none: it raises
        KeyboardInterrupt there.
        """
        state = self.method.init(self)
        hidden = self.method.title is None or not self.options.progress
        self._bar = tqdm(
            desc=self.method.title, unit=self.method.unit, disable=hidden, leave=False, mininterval=0.5,
            total=self.method.longest(self.options), initial=state.iterations,
        )  # fmt: skip
        try:
            while state.reason is None:
                state = self.method.step(self, state)
        except KeyboardInterrupt:
            if self.method.gives_draws:
                raise
            state.converged, state.reason = False, INTERRUPTED
        finally:
            self._bar.close()
        return self._ended(state.best)

    def _ended(self, state: State) -> Run:
        stopped = state.reason == INTERRUPTED
        if stopped:
            self.keep(state, force=True)
        if not state.converged:
            warn(f"the {self.method.finds} has not converged: {state.reason}")
        run = self.method.finish(self, state)
        if not stopped:
            self.store.remove()
        for note in run.notes:
            self.say(note)
        return run

    # ---- what methods tell it ------------------------------------------------------------------------------------

    def climbed(self, state: State, value: float) -> None:
        """Note an iteration that reached ``value`` nats.

        It ends the run if the last few gained less than the tolerance, or if it was the last that the run may take.
        """
        if not np.isfinite(value):
            raise FloatingPointError("the log-likelihood is not finite: check the recording's units")
        state.trace.append(value)
        state.iterations, state.evaluations = len(state.trace) - 1, state.evaluations + 1
        self.show(1, value)
        self.keep(state)
        tolerance = self.options.tolerance
        if len(state.trace) > PATIENCE and value - state.trace[-1 - PATIENCE] < tolerance:
            state.converged = True
            state.reason = f"gain below {tolerance:g} nats over {PATIENCE} iterations"
        elif len(state.trace) > self.options.max_iterations:
            state.reason = self.used_up

    @property
    def used_up(self) -> str:
        """Reason of a run that has had all iterations it may take."""
        return f"stopped after {self.options.max_iterations} iterations"

    def show(self, steps: int, value: float, more: str = "") -> None:
        """Move the progress bar on by ``steps``, to ``value`` nats, with something ``more`` to say."""
        assert self._bar is not None
        self._bar.update(steps)
        climbs = self.method.climbs_of(self.model)
        self._bar.set_postfix_str(", ".join([f"{climbs.short} = {value:.2f}", *([more] if more else [])]))

    def keep(self, state: State, force: bool = False) -> None:
        """Write the checkpoint, at most every few seconds unless ``force`` is set."""
        if state.home is None:  # a place that is only tried is no place to go on from
            self.store.write(state.model, state.kept, state.phase, force)

    def say(self, note: str) -> None:
        """Warn the user of a note, once in a run."""
        if note not in self._said:
            warn(note)
            self._said.add(note)

    def has_said(self, run: Run) -> None:
        """Take the notes of a run that this one began with as said."""
        self._said |= set(run.notes)

    def result(self, state: State, **more: Any) -> Run:
        """Make the result of a state; ``more`` are other values of its attributes."""
        shown = state.model.canonical(state.complete, self.data.layout)
        values: dict[str, Any] = {
            "model": state.model, "sites": shown, "method": self.method.written_name(), "trace": np.array(state.trace),
            "converged": state.converged, "reason": state.reason, "iterations": state.iterations,
            "evaluations": state.evaluations, "notes": tuple(state.notes),
        }  # fmt: skip
        return Run(**{**values, **more})


def drive(
    method: Driven, model: AnyModel, data: MultiRegionData, options: Options, start: Start | None = None
) -> Run:
    """Fit a model to a recording.

    It starts from the data alone, from ``start``, or from a checkpoint of the same model and recording. What is no draw
    of a posterior is never below the trivial model (see :mod:`mrgp.inference.trivial`).

    Raises:
        Refusal: the method infers a site that ``options`` hold, or has no use for one of them.
        DataError: the fit ended below the trivial model.
    """
    if (why := method.cannot_hold(options.fixed) or method.has_no_use_for(options)) is not None:
        raise Refusal(*why)
    fit = partial(_fit, method)
    guarded = fit if method.gives_draws else never_below_trivial(method.climbs_of(model).has_priors)(fit)
    return guarded(model, data, options, start)


def _fit(method: Driven, model: AnyModel, data: MultiRegionData, options: Options, start: Start | None = None) -> Run:
    return Driver(method, model, data, options, start).run()
