"""Rounds of a fit of switching linear dynamics.

Inference knows them as :class:`mrgp.inference.variational_em.method.Rounds`. Priors are read off the model's program.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from numpyro import handlers

from mrgp.inference.density import free_sites, site_density
from mrgp.inference.run import Options
from mrgp.inference.trivial import quietened
from mrgp.inference.variational_em.method import Estimate
from mrgp.inference.variational_em.neuron_clusters import found_clusters
from mrgp.inference.variational_em.starts import autoregressive_states, components, smoothed
from mrgp.inference.variational_em.updates import (
    UNREAD,
    Regression,
    counts_parameters,
    counts_readout,
    dynamics_updated,
    first_updated,
    gaussian,
    gaussian_readout,
    noise_of_steps,
    switches_updated,
)
from mrgp.likelihoods.switching.distribution import SwitchingLinear
from mrgp.likelihoods.switching.posterior import (
    Posterior,
    System,
    Trials,
    improved,
    of_entries,
    searched,
    with_moments,
)
from mrgp.parts.latents import LatentLayout
from mrgp.parts.populations import MEMBERSHIP, Populations
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.parts.sites import of_neurons
from mrgp.parts.switching import (
    DRIFT,
    ENTER,
    FIRST_MEAN,
    FIRST_STATE,
    FIRST_VARIANCE,
    LOGITS,
    MATRIX,
    STAY,
    SwitchingDynamics,
)
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData

if TYPE_CHECKING:
    from mrgp.families.switching import Switching

FIRST_ROUNDS = 40  # of one state alone, before states are told apart
SPREAD = 3.0  # sd of latents where a fit begins, in units of their process noise: that of a memory of ten bins
SEARCH = 2  # rounds of a posterior before parameters climb
MEMORY = 0.95  # of latents where a fit begins, from one bin to the next

type Sites = dict[str, Array]


@dataclass(frozen=True)
class SwitchingRounds:
    """Rounds of a fit of one model.

    Attributes:
        model: The model that is fitted.
    """

    model: "Switching"

    def starts(self, data: MultiRegionData, options: Options) -> Iterator[Estimate]:
        """Fit one state alone, then split its latents, by autoregressions that begin elsewhere.

        Raises:
            DataError: trials have one bin.
        """
        if data.n_bins < 2:
            name = type(self.model).__name__
            raise DataError(f"{name} is of changes from bin to bin, and trials have one: use FA, PCCA or GFA")
        one = type(self)(self.model.replace(n_states=1))
        estimate = one.at(data, one.first_sites(data, options.quiet))
        for _ in range(min(FIRST_ROUNDS, options.max_iterations)):
            estimate = one.onward(data, estimate)
        for start in range(options.n_starts):
            yield self.split(data, estimate, random.fold_in(random.key(options.seed), start))

    def at(self, data: MultiRegionData, sites: Mapping[str, Any]) -> Estimate:
        """Estimate of given parameters.

        Raises:
            ValueError: they are those of another model.
        """
        for name, site in free_sites(self.model, data).items():
            if name not in sites or np.shape(sites[name]) != np.shape(site["value"]):
                have = f"{name} is {np.shape(sites[name])}" if name in sites else f"it has no {name}"
                raise ValueError(f"start is of another model: {have}; give one of the same states and latents")
        known = {name: jnp.asarray(value) for name, value in sites.items()}
        return Estimate(dict(known), _searched(self.model, data, known), -np.inf)

    def onward(self, data: MultiRegionData, estimate: Estimate) -> Estimate:
        sites, posterior, value = _round(self.model, data, estimate.sites, estimate.posterior)
        return Estimate(sites, posterior, float(value))

    def first_sites(self, data: MultiRegionData, quiet: bool) -> Sites:
        """Sites of one state whose latents are the principal components of smoothed values."""
        model, assignment = self.model, self.model.assignment(data.layout)
        beginning, populations = model.emission.beginning, model.populations
        nearly, copies = beginning.nearly_gaussian(data), populations.copies(data)
        members = populations.first_groups(data.layout, partial(clusters_of, nearly, max(assignment.n_within)))
        sites = beginning.from_nearly_gaussian(components(nearly, assignment, members), copies)
        sites |= beginning.first_guess(copies, assignment)
        sites = quietened(sites, copies) if quiet else sites
        size = sum(assignment.n_within)
        dynamics = {
            MATRIX.name: MEMORY * np.eye(size)[None], DRIFT.name: np.zeros((1, size)), LOGITS.name: np.zeros((1, 1)),
            FIRST_STATE.name: np.ones(1), FIRST_MEAN.name: np.zeros(size),
            FIRST_VARIANCE.name: np.full(size, SPREAD**2),
        }  # fmt: skip
        whole = dynamics | sites | {LOADINGS.name: sites[LOADINGS.name] / SPREAD} | self._unweighted(size)
        whole |= populations.first_guess(members, data.layout.total_neurons)
        return {name: jnp.asarray(value) for name, value in populations.as_copies(whole).items()}

    def split(self, data: MultiRegionData, estimate: Estimate, key: Array) -> Estimate:
        """Split the one state of an estimate by an autoregression of its latents."""
        n_states, size = self.model.n_states, estimate.posterior.moments.mean.shape[-1]
        sites = dict(estimate.sites)
        for site in (MATRIX, DRIFT):
            sites[site.name] = jnp.repeat(sites[site.name], n_states, 0)
        sites |= {LOGITS.name: self.model.typical_logits, FIRST_STATE.name: jnp.full(n_states, 1 / n_states)}
        sites |= {name: jnp.asarray(value) for name, value in self._unweighted(size).items()}
        return Estimate(sites, _split(self.model, data, sites, estimate.posterior, key), -np.inf)

    def _unweighted(self, size: int) -> dict[str, np.ndarray]:
        """Weights of switches that depend on no latent, where the model has some."""
        named = (ENTER, STAY) if self.model.recurrent else ()
        return {site.name: np.zeros((self.model.n_states, size)) for site in named}


def clusters_of(nearly: MultiRegionData, width: int, most: int) -> np.ndarray:
    """Clusters of neurons by nearly Gaussian values, (neuron,)."""
    flat = smoothed(nearly)
    covariance = flat.T @ flat / max(len(flat), 1)
    sd = np.sqrt(np.maximum(np.diagonal(covariance), np.finfo(float).tiny))
    return found_clusters(covariance / sd / sd[:, None], most, width)


def trials_of(model: "Switching", data: MultiRegionData, sites: Sites) -> tuple[System, Trials, dict[str, Any], Array]:
    """Parameters, trials, priors by site of copies, and the log density of the sites."""
    program = handlers.substitute(handlers.seed(model, 0), data=sites)
    trace = handlers.trace(program).get_trace(data)
    law: SwitchingLinear = trace["y"]["fn"]
    free = {n: s for n, s in trace.items() if s["type"] == "sample" and not s["is_observed"]}
    density = sum((site_density(site, sites[name]) for name, site in free.items()), jnp.zeros(()))
    priors = model.populations.as_neurons({name: site["fn"] for name, site in free.items()})
    return law.system, law.trials(jnp.asarray(data.values)), priors, density


@partial(jax.jit, static_argnums=0)
def _searched(model: "Switching", data: MultiRegionData, sites: Sites) -> Posterior:
    """Posterior of a short search: what a climb of parameters may begin with."""
    system, trials, *_ = trials_of(model, data, sites)
    return searched(system, trials, 0.0, SEARCH)


@partial(jax.jit, static_argnums=0)
def _split(
    model: "Switching", data: MultiRegionData, sites: Sites, posterior: Posterior, key: Array
) -> Posterior:
    """Posterior with the states of an autoregression, from which any other is better."""
    _, trials, *_ = trials_of(model, data, sites)
    states = autoregressive_states(key, posterior.moments.mean, trials.inside, model.n_states)
    return posterior._replace(states=states, bound=jnp.full_like(posterior.bound, -jnp.inf))


@partial(jax.jit, static_argnums=0)
def _round(
    model: "Switching", data: MultiRegionData, sites: Sites, posterior: Posterior
) -> tuple[Sites, Posterior, Array]:
    """Improve the posterior, then the parameters; the last is the bound plus log prior."""
    system, trials, priors, _ = trials_of(model, data, sites)
    # A start has states and no bound: its parameters come first.
    fresh = jnp.isinf(posterior.bound).any()
    better = jax.lax.cond(fresh, lambda p: p, lambda p: improved(system, trials, p), posterior)
    assignment = model.assignment(data.layout)
    system = _updated(model, system, priors, better, trials, assignment)
    sites = _sites_of(model.populations, sites, system, assignment)
    sites |= _clustered(model.populations, sites, system, trials, priors, better)
    sites, by = _measured(model, data, sites, better, trials, assignment)
    system, trials, _, density = trials_of(model, data, sites)
    after = with_moments(system, trials, better.chain.scaled(by), better.moments.scaled(by, trials.inside))
    return sites, after, after.bound.sum() + density


def _updated(
    model: "Switching", system: System, priors: Mapping[str, Any], posterior: Posterior, trials: Trials,
    assignment: LatentLayout,
) -> System:  # fmt: skip
    """Improve all parameters given the posterior."""
    of = system.dynamics
    own = {site.name: gaussian(priors[site.name], of.sites[site.name].shape) for site in (MATRIX, DRIFT, FIRST_MEAN)}
    of = dynamics_updated(of, own[MATRIX.name], own[DRIFT.name], posterior, trials)
    concentration = priors[FIRST_STATE.name].concentration
    of = first_updated(of, own[FIRST_MEAN.name], priors[FIRST_VARIANCE.name], concentration, posterior)
    named = {"logits": LOGITS, "enter": ENTER, "stay": STAY}
    switching = {
        field: gaussian(priors[site.name], getattr(of, field).shape)
        for field, site in named.items() if site.name in priors
    }  # fmt: skip
    of = switches_updated(of, switching, posterior, trials)
    system = system._replace(dynamics=of)

    loadings = gaussian(priors[LOADINGS.name], (len(system.loadings), assignment.n_columns))
    read = assignment.region_of_neuron[:, None] == assignment.region_of_readout
    mean, precision = (part[:, assignment.column_of_readout] for part in loadings)
    offset = gaussian(priors[OFFSET.name], (len(system.loadings),))
    prior = Regression(
        jnp.concatenate([jnp.where(read, mean, 0.0), offset.mean[:, None]], -1),
        jnp.concatenate([jnp.where(read, precision, UNREAD), offset.precision[:, None]], -1),
    )
    if system.readout.counts is None:
        return gaussian_readout(system, prior, priors[NOISE.name], posterior, trials)
    system = counts_readout(system, prior, posterior, trials)
    return counts_parameters(system, {n: priors[n] for n in model.emission.own_sites}, posterior, trials)


def _clustered(
    populations: Populations, sites: Sites, system: System, trials: Trials, priors: Mapping[str, Any],
    posterior: Posterior,
) -> Sites:  # fmt: skip
    """Improve the probabilities of populations given all parameters of the copies."""
    scores, plain = of_entries(system, trials, posterior.moments).sum((0, 1)), populations.as_neurons(sites)
    for name in of_neurons(plain) & of_neurons(priors):
        if name != MEMBERSHIP.name:
            scores = scores + priors[name].log_prob(plain[name])
    return populations.updated(sites, scores)


def _sites_of(populations: Populations, sites: Sites, system: System, assignment: LatentLayout) -> Sites:
    """Sites of a system, by the names that there are; those of the populations stay."""
    named, sites = sites, populations.as_neurons(sites)
    known = {**system.dynamics.sites, OFFSET.name: system.readout.offset, NOISE.name: system.readout.noise}
    columns = assignment.readout_of_column[assignment.region_of_neuron]  # (neuron, column)
    loadings = jnp.take_along_axis(system.loadings, jnp.asarray(columns), 1)
    known[LOADINGS.name] = jnp.where(assignment.used, loadings, 0.0)
    counts = system.readout.counts
    own = {} if counts is None else {name: getattr(counts, name) for name in counts.own_sites}
    return named | populations.as_copies({name: value for name, value in (known | own).items() if name in sites})


def _measured(
    model: "Switching", data: MultiRegionData, sites: Sites, posterior: Posterior, trials: Trials,
    assignment: LatentLayout,
) -> tuple[Sites, Array]:  # fmt: skip
    """Measure latents by their process noise anew; return sites and scales.

    It is done if the bound plus log prior rises by it. Loadings and process noise would else settle their scale in
    hundreds of rounds (parameter expansion: Liu, Rubin & Wu 1998, Biometrika).
    """
    dynamics = SwitchingDynamics.of(sites)
    noise, count = noise_of_steps(dynamics, posterior, trials)
    by = 1 / jnp.sqrt(jnp.where(count > 0, noise, 1.0))
    gain = count * (jnp.log(by) - 0.5 * (by**2 - 1) * noise).sum()
    region, column = assignment.region_of_neuron[:, None], np.arange(assignment.n_columns)
    of_columns = by[assignment.readout_of_column[region, column]]
    moved = {name: value for name, value in dynamics.scaled(by).sites.items() if name in sites}
    loadings = model.populations.as_neurons(sites)[LOADINGS.name] / of_columns
    other = {**sites, **moved, **model.populations.as_copies({LOADINGS.name: loadings})}
    gain = gain + trials_of(model, data, other)[3] - trials_of(model, data, sites)[3]
    taken = gain > 0
    chosen = {name: jnp.where(taken, other[name], sites[name]) for name in sites}
    return chosen, jnp.where(taken, by, jnp.ones_like(by))
