r"""Variational Bayes of counts, whose loadings have no updates in closed form.

q(x) is the best Gaussian under the means of loadings; q(c_n) = N(m_n, S_n) is Laplace's, of a bound of counts that is
taken as quadratic in the loadings c_n of a neuron (Wang & Blei 2013, JMLR 14); q(alpha) is Gamma, as for values. With
H_n the curvature of the bound (:mod:`mrgp.likelihoods.of_loadings`)

.. math::
    F = \text{bound}(m) + \log p(\text{points}) + \sum_n (H[q(c_n)] - \tfrac12 \mathrm{tr}\, S_n H_n)
        + E \log p(C \mid \alpha)\, p(\alpha) - E \log q(\alpha)

is highest by m where bound + log N(m; 0, 1 / E alpha) is, and by S where S_n^{-1} = H_n + diag E alpha. Offsets,
dispersions, means, delays and kernel parameters are points. F is a bound of log p(y) up to what the bound of counts
bends beyond a parabola.

A round finds relevances for one H, holds loadings of a region on a latent at zero where that is best, lets others go
again, and climbs in means and points with relevances held. The first one begins where variational Bayes of the
counts' roots ends, which says how many latents there are.
"""

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from mrgp.inference.adaptation import Adaptation, begin, doubts, frozen_sites, where_read
from mrgp.inference.density import LogJoint, Sites
from mrgp.inference.driver import Driven, Driver, drive
from mrgp.inference.optimise import INTERRUPTED, Objective, maximise
from mrgp.inference.run import Model, Options, Run, State
from mrgp.inference.variational_bayes.relevances import MOST, NOWHERE, Known, Relevances
from mrgp.likelihoods.of_loadings import OfLoadings, of_loadings
from mrgp.parts.delays.bounds import clipped
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import RELEVANCE, SHARED
from mrgp.parts.readout import LOADINGS
from mrgp.recordings.recording import MultiRegionData

ROUGH, EASED = 1.0, 0.1  # nats, and of what a round has gained: how exact the next climb is
FIRST_CLIMB, LONGER = 15, 1.5  # iterations of a climb, and their growth: relevances change ever less
SEARCHED, BRIEF = 0.02, 150  # nats a round and trial, and iterations: a search only finds which region reads what


@dataclass(kw_only=True)
class CountRounds(State[Model]):
    """State between rounds.

    Attributes:
        known: About loadings.
        adaptation: Of the model between climbs.
        removed: Number of latents that were left out.
        guess: Of q, where the last climb has ended; None for a first one.
    """

    known: Known
    adaptation: Adaptation
    removed: int = 0
    guess: Any = None

    @property
    def complete(self) -> dict[str, Any]:
        """All sites of the model, alpha included."""
        return {**self.sites, RELEVANCE.name: self.known.alpha}

    def step(self, driver: Driver) -> "CountRounds":
        """Make rounds until they gain little, then adapt the model."""
        self._ascend(driver)
        if not self.converged:
            self.reason = driver.used_up
            return self
        if self.adaptation.revised(driver, self):
            return self.adaptation.goes_on(self)
        self.reason = f"bound rose less than {driver.options.tolerance:g} nats in a round"
        return self

    def finish(self, driver: Driver) -> Run:
        """Make the result, with the covariances of loadings."""
        notes = [*self.notes, *told_of(self.removed)]
        notes += doubts(self.model, driver.data, self.complete, driver.options.fixed)
        return driver.result(
            self, notes=tuple(notes), iterations=len(self.trace), loadings_covariance=self.known.covariance
        )

    def _ascend(self, driver: Driver) -> None:
        """Make rounds until one gains less than the tolerance.

        One that lowers F is undone; the next ones leave loadings at zero or free, as they are.
        """
        options, rough, steady, longest = driver.options, ROUGH, False, float(FIRST_CLIMB)
        told: OfLoadings | None = None  # the first climb keeps the relevances of the search
        height = -np.inf  # of this model: one that is wider, or has fewer latents, has other priors
        self.converged = False
        while len(self.trace) < options.max_iterations:
            before, told_before = replace(self), told
            try:
                changed = told is not None and self._relearned(told, driver, steady)
                told, value = self._climbed(driver, max(options.tolerance, rough), int(longest))
            except KeyboardInterrupt:
                if told_before is not None:
                    self.sites, self.known = before.sites, before.known
                raise
            longest *= LONGER
            gained = value - height
            if gained < 0:
                self.sites, self.known, told = before.sites, before.known, told_before
                if rough <= options.tolerance and (steady or not changed):
                    self.converged = True
                    return
                steady, rough = steady or changed, 0.0
                continue
            height = value
            self.trace.append(value)
            driver.show(1, value)
            driver.keep(self)
            if self._remove_unread(driver.data):
                told, height, rough = None, -np.inf, ROUGH
                continue
            if gained < options.tolerance and rough <= options.tolerance:
                self.converged = True
                return
            rough = EASED * gained if np.isfinite(gained) else ROUGH

    def _relearned(self, told: OfLoadings, driver: Driver, steady: bool) -> bool:
        """Find relevances; return True if loadings were held at zero or let go."""
        relevances, loadings = Relevances.of(self.model, driver.data), np.asarray(self.sites[LOADINGS.name])
        before = self.known
        alpha = relevances.best(told, loadings, before.alpha, driver.options.tolerance, steady=steady)
        if not (alpha < NOWHERE).any():
            alpha = np.where(before.living, np.minimum(alpha, MOST), NOWHERE)
        self.known = before._replace(alpha=alpha)
        changed = bool((self.known.living != before.living).any())
        self.sites = {**self.sites, LOADINGS.name: self._held(loadings, relevances.assignment)}
        return changed

    def _held(self, loadings: np.ndarray, assignment: LatentLayout) -> np.ndarray:
        return loadings * self.known.living[assignment.region_of_neuron]

    def _remove_unread(self, data: MultiRegionData) -> bool:
        """Remove latents that no region reads, if others remain; return True if there were any."""
        assignment = self.model.assignment(data.layout)
        n_across, n_columns = assignment.n_across, assignment.n_columns
        keep = np.flatnonzero(self.known.living[:, :n_across].any(0))
        if len(keep) in (0, n_across):
            return False
        columns = np.concatenate([keep, np.arange(n_across, n_columns)])
        self.model, self.sites = self.model.fitting.keeping(self.sites, data.layout, keep)
        covariance, alpha = self.known
        self.known = Known(covariance[:, columns][:, :, columns], alpha[:, columns])
        self.removed += n_across - len(keep)
        self.guess = None
        return True

    def _climbed(self, driver: Driver, tolerance: float, longest: int) -> tuple[OfLoadings, float]:
        """Climb with relevances held; return what counts then say of loadings, and F."""
        model, data, options = self.model, driver.data, driver.options
        relevances, alpha = Relevances.of(model, data), self.known.alpha
        assignment = relevances.assignment
        sites, scale = self.complete, model.fitting.scales(data, self.complete)
        told_by_counts = data.n_trials * data.n_bins / np.asarray(model.emission.noise_of(sites))
        scale[LOADINGS.name] = 1 / np.sqrt(told_by_counts[:, None] + alpha[assignment.region_of_neuron])
        frozen = tuple(sorted({*frozen_sites(model, options), RELEVANCE.name}))
        objective = Objective(LogJoint(model), data, sites, scale, frozen, self.guess)
        ascent = maximise(objective, tolerance=tolerance, max_iterations=longest)
        self.guess = objective.guess
        found = {name: np.asarray(value) for name, value in ascent.sites.items() if name != RELEVANCE.name}
        self.evaluations += ascent.evaluations
        climbed = found[LOADINGS.name]
        self.sites = {**found, LOADINGS.name: self._held(climbed, assignment)}
        if ascent.reason == INTERRUPTED:
            raise KeyboardInterrupt
        if not np.isfinite(ascent.log_joint):
            raise FloatingPointError("the bound is not finite: check the recording's units")
        told = _told(model, self.complete, data, self.guess)
        self.known = Known(relevances.covariance(told, alpha), alpha)
        of_points = ascent.log_joint - relevances.prior(climbed, alpha)
        return told, of_points + relevances.score(told, self.sites[LOADINGS.name], self.known)


def told_of(removed: int) -> list[str]:
    """Notes about latents that were left out."""
    return [f"across latents removed because no region reads them: {removed}"] if removed else []


def begun(driver: Driver, method: Driven) -> CountRounds:
    """Begin where ``method`` ends on the counts' roots, or at a start or checkpoint."""
    state = begin(driver, partial(_searched, driver, method))
    relevances = Relevances.of(state.model, driver.data)
    sites = {name: np.asarray(value) for name, value in state.sites.items() if name != RELEVANCE.name}
    known, adaptation = relevances.first(sites[LOADINGS.name]), Adaptation.of(driver, state)
    removed = driver.model.n_across - state.model.n_across
    return CountRounds(
        model=state.model, sites=sites, notes=state.notes, known=known, adaptation=adaptation, removed=removed
    )


def _searched(
    driver: Driver, method: Driven, model: Model, data: MultiRegionData, options: Options
) -> tuple[Model, dict[str, Any], list[str]]:
    """Find a start by ``method`` on nearly Gaussian values, with as many latents as it leaves."""
    values, guess = model.fitting.around_mean(data)
    twin = model.fitting.for_search()
    if not values.is_complete:
        twin = twin.replace(likelihood=model.likelihood)
    dynamics = twin.tables.dynamics_sites(data.layout)
    fixed = {name: value for name, value in options.fixed.items() if name in dynamics}
    brief = replace(
        options, checkpoint=None, fixed=fixed, tolerance=max(options.tolerance, SEARCHED * data.n_trials),
        max_iterations=min(options.max_iterations, BRIEF),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to say is said of the end
        run = drive(method, twin, values, brief)
    if run.reason == INTERRUPTED:
        raise KeyboardInterrupt
    left = run.model.n_across
    model = model.replace(n_across=left, delays=model.delays.keeping(np.arange(left)))
    found = {name: value for name, value in run.sites.items() if name != RELEVANCE.name}
    if DELAY.name in found and DELAY.name not in fixed:
        short = where_read(model, data, found, SHARED)
        found = clipped(model.delays, short, data.bin_width)  # wider where counts ask for it, once they have climbed
    return model, {**guess, **found}, []


def _told(model: Model, sites: dict[str, Any], data: MultiRegionData, guess: Any = None) -> OfLoadings:
    known = {name: jnp.asarray(value) for name, value in sites.items()}
    return jax.tree.map(np.asarray, _of_loadings(model, known, data, guess))


@partial(jax.jit, static_argnums=0)
def _of_loadings(model: Model, sites: Sites, data: MultiRegionData, guess: Any) -> OfLoadings:
    observed = handlers.trace(handlers.substitute(model, data=sites)).get_trace(data)["y"]
    problem = observed["fn"].problem(observed["value"])
    return of_loadings(problem, problem.best(guess))
