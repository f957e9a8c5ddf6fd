"""Method "svi": a variational guide fitted by stochastic gradients.

It is fitted around the maximum, in the maximum's coordinates. The guide sees two vectors, nearly standard normal:
delays and kernel parameters, and the rest as it differs from what it would be given those (see ``mode.coordinates``).
That is what makes a factorised guide good enough here: the correlation of delays with loadings, which it could not
hold, is in the coordinates. It understates nevertheless: on 15 trials of 15 bins the sds of loadings were 0.7 to 1.0
times those of NUTS, of timescales 0.9 to 0.97. So its draws are carried to the posterior by Hamiltonian moves (see
``mode.moves``); the bound is that of the guide itself.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers, infer
from numpyro.infer import Trace_ELBO
from numpyro.infer.autoguide import (
    AutoDiagonalNormal,
    AutoGuideList,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
)
from numpyro.optim import Adam

from mrgp.inference.driver import Driver
from mrgp.inference.method import Method
from mrgp.inference.mode.coordinates import DYNAMICS, REST, Coordinates, Whitened
from mrgp.inference.mode.mode import ENOUGH_TO_RANK, Posterior, mode_of
from mrgp.inference.mode.moves import carried
from mrgp.inference.quantity import BOUND, Quantity
from mrgp.inference.run import Run

PATIENCE = 5  # blocks in which the bound has to grow
BLOCK = 50  # steps between two looks at the bound
HALVING = 300  # steps in which the learning rate halves
FIRST_SPREAD = 0.7  # of the guide, in posterior standard deviations

type MakeGuide = Callable[[Callable[..., Any]], Any]


def _structured(program: Callable[..., Any], sites: Collection[str]) -> AutoGuideList:
    guide = AutoGuideList(program)
    for site, kind in ((DYNAMICS, AutoMultivariateNormal), (REST, AutoDiagonalNormal)):
        if site in sites:
            part = handlers.block(program, expose=[site])
            guide.append(kind(part, prefix=site, init_loc_fn=init_to_zero, init_scale=FIRST_SPREAD))
    return guide


def _whole(kind: Any) -> Callable[..., Any]:
    return lambda program, sites: kind(program, init_loc_fn=init_to_zero, init_scale=FIRST_SPREAD)


def init_to_zero(site: Any = None) -> Any:
    """Begin guides at zero, which is the maximum."""
    if site is None:
        return partial(init_to_zero)
    latent = site["type"] == "sample" and not site["is_observed"]
    return jnp.zeros(site["fn"].shape()) if latent else None


GUIDES: dict[str, Callable[..., Any]] = {
    "structured": _structured,
    "meanfield": _whole(AutoDiagonalNormal),
    "lowrank": _whole(AutoLowRankMultivariateNormal),
    "full": _whole(AutoMultivariateNormal),
}
"""Guides by name. "structured": full rank over delays and kernel parameters, factorised over the rest."""


@dataclass(kw_only=True)
class Guided(Posterior):
    """State of the climb of the bound.

    Attributes:
        guide: What is fitted.
        argument: The recording that the bound is of, in batches if they are asked for.
        block: Takes BLOCK steps.
        reached: Where they have led, as NumPyro has it.
        draw_key, move_key: Of the draws of the guide, and of their moves.
    """

    guide: Any
    svi: infer.SVI
    argument: Any
    block: Callable[..., Any]
    reached: Any
    draw_key: jax.Array
    move_key: jax.Array


@dataclass(frozen=True)
class SVI(Method):
    """Variational guide, and draws of the posterior that begin as draws of it.

    Attributes:
        guide: A name in :data:`GUIDES`, or what makes a NumPyro guide of a program, such as ``AutoBNAFNormal``. The
            program's sites are vectors of nearly standard normals (``mrgp.inference.mode.coordinates``).
        batch_size: Trials of each step, drawn anew; None for all.
        n_particles: Draws of the guide per step.
        learning_rate: Of Adam at the start, in posterior standard deviations; it halves every 300 steps.
        max_steps: At most, in fifties.
        n_draws: Draws kept with the fit, each of which begins as one of the guide; moving them to the posterior takes
            likelihoods of all trials, some ten for each.
    """

    guide: str | MakeGuide = "structured"
    batch_size: int | None = None
    n_particles: int = 8
    learning_rate: float = 0.05
    max_steps: int = 2000
    n_draws: int = 1000

    climbs: ClassVar[Quantity] = BOUND
    gives_draws: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    for_calibration: ClassVar[Mapping[str, Any]] = {"n_draws": ENOUGH_TO_RANK}
    title: ClassVar[str | None] = "climbing the bound"
    unit: ClassVar[str] = " steps"
    finds: ClassVar[str] = "guide"

    def __post_init__(self) -> None:
        if isinstance(self.guide, str) and self.guide not in GUIDES:
            raise ValueError(f"svi: guide is one of {', '.join(GUIDES)}, or makes one, not {self.guide!r}")
        if min(self.batch_size or 1, self.n_particles, self.max_steps, self.n_draws) < 1:
            raise ValueError("svi: batch_size, n_particles, max_steps and n_draws count at least 1")
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(f"svi: learning_rate is a positive number, not {self.learning_rate}")

    def init(self, driver: Driver) -> Guided:
        top = mode_of(driver)
        program = Whitened(top.program)
        coordinates = Coordinates.at(top.objective, top.curvature)
        sites = program.center(coordinates).keys()
        guide = GUIDES[self.guide](program, sites) if isinstance(self.guide, str) else self.guide(program)
        argument = driver.data if self.batch_size is None else driver.data.in_batches_of(self.batch_size)
        optimizer = Adam(lambda step: self.learning_rate * 0.5 ** (step / HALVING))
        svi = infer.SVI(program, guide, optimizer, Trace_ELBO(self.n_particles))
        run_key, draw_key, move_key = jax.random.split(jax.random.key(driver.options.seed), 3)

        @jax.jit
        def block(state: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
            return jax.lax.scan(lambda state, _: svi.update(state, *arguments), state, length=BLOCK)

        return Guided(
            model=top.run.model, sites=top.run.sites, top=top, program=program, coordinates=coordinates, x={},
            guide=guide, svi=svi, argument=argument, block=block, reached=svi.init(run_key, argument, coordinates),
            draw_key=draw_key, move_key=move_key,
        )  # fmt: skip

    def step(self, driver: Driver, state: Guided) -> Guided:
        """Take BLOCK steps, and look whether the mean bound still grows."""
        state.reached, losses = state.block(state.reached, (state.argument, state.coordinates))
        found = -np.asarray(losses)
        if not np.isfinite(found).all():
            raise FloatingPointError("the bound is not finite: take a smaller learning_rate, or more particles")
        state.trace.append(float(found.mean()))
        state.iterations = len(state.trace) * BLOCK
        driver.show(BLOCK, state.height)
        least = max(driver.options.tolerance, found.std() / np.sqrt(BLOCK))
        if len(state.trace) > PATIENCE and state.height - max(state.trace[-1 - PATIENCE : -1]) < least:
            state.converged, state.reason = True, f"no gain beyond {least:.2g} nats"
        elif state.iterations >= self.max_steps:
            state.reason = f"stopped after {self.max_steps} steps"
        return state

    def finish(self, driver: Driver, state: Guided) -> Run:
        top, program, coordinates = state.top, state.program, state.coordinates
        parameters = state.svi.get_params(state.reached)
        begin = state.guide.sample_posterior(
            state.draw_key, parameters, state.argument, coordinates, sample_shape=(1, self.n_draws)
        )
        x = {name: begin[name] for name in program.center(coordinates)}
        drawn = carried(program, driver.data, coordinates, x, state.move_key, progress=driver.options.progress)
        notes = top.run.notes
        if not drawn.settled:
            notes = (*notes, top.unsettled(drawn.reason))
            driver.say(notes[-1])
            if DYNAMICS not in x:
                raise FloatingPointError(notes[-1])
            program = replace(program, following=True)
        x = {name: (drawn.x if drawn.settled else x)[name] for name in program.center(coordinates)}
        return top.finished(
            self.written_name(), program, coordinates, x, trace=np.array(state.trace), notes=notes,
            reason=state.reason, converged=top.run.converged and state.converged, iterations=state.iterations,
            evaluations=top.run.evaluations + state.iterations * self.n_particles,
        )  # fmt: skip
