"""Method "laplace": a Gaussian at the posterior's maximum, then draws of the posterior.

The Gaussian has the posterior's maximum and its curvature there. Of few or short trials a posterior is skewed, and the
Gaussian too narrow: on 15 trials of 15 bins the sds of loadings are 0.8 times those of NUTS, of timescales 0.9 times,
and means are off by half an sd. So draws only begin as those of the Gaussian: Hamiltonian moves carry them to the
posterior (see ``mode.moves``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax

from mrgp.inference.driver import Driver
from mrgp.inference.method import Method
from mrgp.inference.mode.coordinates import DYNAMICS, Coordinates, Whitened
from mrgp.inference.mode.mode import ENOUGH_TO_RANK, FEW, Mode, Posterior, mode_of
from mrgp.inference.mode.moves import carried
from mrgp.inference.run import Run


@dataclass(frozen=True)
class Laplace(Method):
    """Gaussian at the maximum, and draws of the posterior that begin as draws of it.

    Attributes:
        n_draws: Draws kept with the fit.
        loadings: What becomes of loadings, noise and offsets. "included": they are drawn together with delays and
            timescales, the full posterior. "following": delays and timescales are drawn from their own Gaussian, that
            of ``fit.delay_intervals``, and the rest from its posterior given each of them. "profiled": they are not
            drawn but stay at the maximum, and only delays and timescales have draws, of that Gaussian; done in no time.
            In both, timescales miss what loadings leave room for: on 20 trials of 25 bins they were 0.3 to 0.6 sds too
            short, and had 0.87 to 0.99 times the sd of NUTS, delays 0.96 to 1.03 times. None: included up to 400
            parameters in all, then profiled; of counts, whose likelihood costs tens of times as much, profiled.
    """

    n_draws: int = 1000
    loadings: Literal["included", "following", "profiled"] | None = None

    gives_draws: ClassVar[bool] = True
    ends_at_maximum: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    draws_all: ClassVar[str] = "fit with loadings='included', or take mrgp.leave_one_out(fit)"
    for_calibration: ClassVar[Mapping[str, Any]] = {"n_draws": ENOUGH_TO_RANK, "loadings": "profiled"}

    def __post_init__(self) -> None:
        if self.n_draws < 1:
            raise ValueError("laplace: n_draws counts at least 1")
        if self.loadings not in (None, "included", "following", "profiled"):
            raise ValueError(
                f"laplace: loadings are 'included', 'following' or 'profiled', not {self.loadings!r}"
            )

    def init(self, driver: Driver) -> Posterior:
        top = mode_of(driver)
        program = Whitened(top.program, following=self._loadings(top) == "profiled")
        coordinates = Coordinates.at(top.objective, top.curvature, program.following)
        return Posterior(
            model=top.run.model, sites=top.run.sites, top=top, program=program, coordinates=coordinates, x={}
        )

    def step(self, driver: Driver, state: Posterior) -> Posterior:
        """Draw from the Gaussian, and carry what is drawn to the posterior."""
        top, program, loadings = state.top, state.program, self._loadings(state.top)
        center = program.center(state.coordinates)
        *keys, last = jax.random.split(jax.random.key(driver.options.seed), len(center) + 1)
        state.x = {
            name: jax.random.normal(key, (1, self.n_draws, *zero.shape))
            for key, (name, zero) in zip(keys, center.items(), strict=True)
        }
        state.converged, state.reason = True, top.run.reason
        if loadings == "profiled":
            return state
        held = DYNAMICS if loadings == "following" else None
        drawn = carried(
            program, top.argument, state.coordinates, state.x, last, held=held, most=top.most_moves,
            progress=driver.options.progress,
        )  # fmt: skip
        if drawn.settled:
            return replace(state, x=drawn.x)
        state.notes.append(top.unsettled(drawn.reason))
        driver.say(state.notes[-1])
        if DYNAMICS not in state.x:
            raise FloatingPointError(state.notes[-1])
        return replace(state, x={DYNAMICS: state.x[DYNAMICS]}, program=replace(program, following=True))

    def finish(self, driver: Driver, state: Posterior) -> Run:
        notes = (*state.top.run.notes, *state.notes)
        name, sites = self.written_name(), state.top.run.sites
        return state.top.finished(name, state.program, state.coordinates, state.x, sites=sites, notes=notes)

    def _loadings(self, top: Mode) -> str:
        costly = top.objective.size > FEW or top.run.model.emission.is_of_counts
        return self.loadings or ("profiled" if costly else "included")
