r"""Expectation-maximization for linear dynamics of values with Gaussian noise.

It finds the maximum of log p(y | parameters), or of log p(y, parameters) where updates have priors. E-step: the
smoother's moments E[s_t], E[s_t s_t'], E[s_t s_{t-1}'], summed over what was observed (see ``moments``). M-step, in
closed form but for the start of a trial: loadings, offsets and noise of each neuron (see ``readouts``), summed over the
bins in which it was observed, and the dynamics, of one population (see ``free_system``) or of regions that drive each
other (see ``coupled_system``). Either way what is climbed never decreases.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mrgp.inference.density import free_sites, prior_density
from mrgp.inference.driver import Driver
from mrgp.inference.expectation_maximization.moments import Moments, expectation
from mrgp.inference.method import Method
from mrgp.inference.quantity import JOINT, LIKELIHOOD, Quantity
from mrgp.inference.run import AnyModel, Model, State
from mrgp.inference.search import search
from mrgp.inference.trivial import quietened
from mrgp.recordings.missing import Missing, exact_patterns
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import MAP, Argument, Sentence


@dataclass(kw_only=True)
class Cycle(State[Model]):
    """State after an E-step.

    Attributes:
        recording, exact: What the E-step is given, on the device.
        names: Sites with a prior that counts; none if the likelihood is climbed.
        moments: Of the E-step at ``sites``; None before the first.
    """

    recording: Any
    exact: Missing
    names: tuple[str, ...]
    moments: Moments | None = None


@dataclass(frozen=True)
class EM(Method):
    """Expectation-maximization: a maximum by expectations and closed forms, without settings.

    It is that of log p(y | parameters), or of log p(y, parameters) where the model's updates have priors.
    """

    climbs: ClassVar[Quantity] = LIKELIHOOD
    holds_sites: ClassVar[bool] = False
    listed: ClassVar[bool] = True
    title: ClassVar[str | None] = "expectation-maximization"

    @classmethod
    def climbs_of(cls, model: AnyModel) -> Quantity:
        return JOINT if model.updates.has_priors else cls.climbs

    def objection(self, model: Any, data: MultiRegionData) -> Sentence | None:
        if model.mean.moves:
            return "method 'em' has no update for ", Argument("mean", model.mean.written_name()), ": use ", MAP
        if model.emission.is_of_counts:
            return "method 'em' has no update for ", Argument("emission", model.emission.written_name()), ": use ", MAP
        return model.updates.objection() or super().objection(model, data)

    def init(self, driver: Driver) -> Cycle:
        model, data = driver.model, driver.data
        resumed = driver.store.read(model)
        sites: dict[str, Any]
        if resumed is not None:
            model, sites = resumed
        elif driver.start is not None:
            sites = dict(driver.start.sites)
        else:
            model, sites, _ = search(model, data, driver.options)
            sites = quietened(sites, data) if driver.options.quiet else sites
        model = model.replace(likelihood=model.likelihood.unadapted())
        exact = exact_patterns(_missing(data), data.n_bins, data.layout.total_neurons)
        names = tuple(free_sites(model, data)) if model.updates.has_priors else ()
        return Cycle(model=model, sites=sites, recording=jax.tree.map(jnp.asarray, data), exact=exact, names=names)

    def step(self, driver: Driver, state: Cycle) -> Cycle:
        """Do an M-step, unless there are no moments yet, and an E-step."""
        sites = state.sites
        if state.moments is not None:
            sites = state.model.updates(driver.data, state.moments, sites)
        given = {name: jnp.asarray(value) for name, value in sites.items()}
        moments = expectation(state.model, state.recording, state.exact, given)
        state.sites, state.moments = sites, jax.tree.map(np.asarray, moments)
        value = float(moments.log_likelihood)
        prior = prior_density(state.model, driver.data, sites, state.names) if state.names else 0.0
        driver.climbed(state, value + prior)
        return state


def _missing(data: MultiRegionData) -> Missing:
    if data.is_complete:
        return Missing(None, jnp.zeros(data.n_trials, int), None)
    holes: Any = (data.observed, data.pattern, data.length)
    return Missing(*holes)
