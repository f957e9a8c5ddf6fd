"""A method of fitting: rolling uphill."""

from dataclasses import dataclass

import numpy as np

import mrgp
from mrgp.inference.adaptation import begin
from mrgp.inference.density import LogJoint
from mrgp.inference.optimise import Objective
from mrgp.inference.run import State
from mrgp.models import DLAG


@dataclass(kw_only=True)
class Rolling(State):
    objective: Objective
    x: np.ndarray
    speed: np.ndarray


@dataclass(frozen=True)
class Momentum(mrgp.Method):
    """Ascent of log p(y, parameters) by a ball that rolls up, with some friction."""

    rate: float = 0.05
    friction: float = 0.2

    title = "rolling uphill"   # of the progress bar

    def init(self, driver):
        begun = begin(driver)   # prepares the model, and searches for a start
        scales = begun.model.fitting.scales(driver.data, begun.sites)
        objective = Objective(LogJoint(begun.model), driver.data, begun.sites, scales)
        return Rolling(**vars(begun), objective=objective, x=np.zeros(objective.size), speed=np.zeros(objective.size))

    def step(self, driver, state):
        loss, slope = state.objective(state.x)
        state.sites = state.objective.sites(state.x)
        driver.climbed(state, -loss)   # ends the run where the last few steps gained too little
        state.speed = (1 - self.friction) * state.speed - self.rate * slope
        state.x = state.x + state.speed
        return state


truth = {"delay": 0.02, "timescale_across": 0.1}  # seconds
size = {"regions": {"V1": 6, "V2": 6}, "n_trials": 20, "n_bins": 20}
made = mrgp.simulate(DLAG(1, 0), sites=truth, seed=0, **size)
model = DLAG(1, 0, likelihood="dense")
settings = {"n_starts": 1, "seed": 0, "progress": False}
rolled, climbed = (model.fit(made.data, method, **settings) for method in (Momentum(), "map"))
assert abs(rolled.trace[-1] - climbed.trace[-1]) < 2   # nats
