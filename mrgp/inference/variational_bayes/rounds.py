"""Rounds of variational Bayes of values: what they know, and how one is made."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mrgp.inference.adaptation import Adaptation, frozen_sites
from mrgp.inference.density import Sites
from mrgp.inference.driver import Driver
from mrgp.inference.optimise import INTERRUPTED, Objective, maximise
from mrgp.inference.run import Model, Options, State
from mrgp.inference.variational_bayes.bound import Bound, Mixed, Setting, relevance_of
from mrgp.inference.variational_bayes.updates import update
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import RELEVANCE, VANISHED, shared_variance, signal_to_noise
from mrgp.parts.readout import LOADINGS, NOISE

FIRST_CLIMB, LONGER = 15, 1.5  # iterations of a joint climb, and their growth: covariances change ever less
MIXING = 0.3  # scale of the mixing of latents, in 1 / sqrt(bins): 0.1 to 1 are as good on mDLAG's demo, 2 is too much


@dataclass(kw_only=True)
class Rounds(State[Model]):
    """State between rounds, its sites without alpha, which follows from them.

    Attributes:
        setting: The recording, and what is known of loadings beside their means.
        options: Of the rounds that are left.
        adaptation: Of the model between them.
        removed: Number of latents that were left out.
    """

    setting: Setting
    options: Options
    adaptation: Adaptation
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

    def block(self, region: int | np.integer, column: int | np.integer) -> np.ndarray:
        """Mask of a region's loadings on one latent, (neuron, column) bool."""
        assignment = self.assignment
        member = (assignment.region_of_neuron == region)[:, None] & (np.arange(assignment.n_columns) == column)
        return member & assignment.used


def make_round(state: Rounds, tolerance: float, longest: int, driver: Driver) -> None:
    """Make the closed-form updates, then a joint climb."""
    sites, covariance = update(state.model, state.sites, state.setting)
    setting = state.setting._replace(covariance=covariance)
    columns = np.shape(sites[LOADINGS.name])[1]
    scale = state.model.fitting.scales(driver.data, sites)
    scale["mixing"] = MIXING / np.sqrt(driver.data.n_trials * driver.data.n_bins)
    start = {**sites, "mixing": jnp.zeros((columns, columns))}
    objective = Objective(Mixed(Bound(state.model)), setting, start, scale, frozen_sites(state.model, state.options))
    ascent = maximise(objective, tolerance=0.1 * tolerance, max_iterations=longest)
    if ascent.reason == INTERRUPTED:
        raise KeyboardInterrupt
    state.sites, state.setting = setting.held(Mixed.mixed(ascent.sites)), setting
    state.trace += ascent.trace
    state.evaluations += ascent.evaluations + 1
    driver.show(len(ascent.trace), state.height)


def value_of(model: Model, sites: Sites, setting: Setting) -> float:
    """Bound at ``sites``, nats."""
    return float(_value(model, sites, setting))


_value = jax.jit(lambda model, sites, setting: Bound(model)(sites, setting), static_argnums=0)


def better(state: Rounds, sites: dict[str, Any], setting: Setting, least: float) -> bool:
    """Go to ``sites`` if that raises the bound by at least ``least`` nats; return True if so."""
    value = value_of(state.model, sites, setting)
    state.evaluations += 1
    if value < state.trace[-1] + least:
        return False
    state.sites, state.setting = sites, setting
    state.trace.append(value)
    return True
