"""Gaussian processes behind networks: what a fit says of latents, delays and timescales."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array, random
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions import biject_to
from scipy.stats import norm

from mrgp.inference.amortised_bound import Trace
from mrgp.inference.amortised_parameters import WithGuide
from mrgp.likelihoods.statespace.assemble import Latents, Space
from mrgp.likelihoods.structured import Factors, MarkovPosterior, MarkovPrior
from mrgp.parts.delays.base import Delays
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.latents import LatentLayout
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.amortised_conditional import AmortisedConditional, LatentsShown
from mrgp.results.conditional import within_names
from mrgp.results.fitted import FittedTables
from mrgp.results.timescales import timescale_table

AT_ONCE = 64  # trials whose log Z is differentiated together
STEP = 1e-3  # of an unconstrained coordinate, for the second derivative
EDGE = 0.95  # of the bound of delays: one beyond it was stopped by the bound, not by the recording


class ProcessesWithGuide(WithGuide, Protocol):
    """Interface that results need of Gaussian processes with a guide."""

    @property
    def delays(self) -> Delays: ...
    @property
    def tables(self) -> FittedTables: ...

    def assignment(self, layout: Layout) -> LatentLayout: ...
    def latent_sites(self, data: MultiRegionData) -> Latents: ...
    def state_space(self, layout: Layout) -> Space: ...


class Spread(NamedTuple):
    """Gaussian of delays and kernel parameters in unconstrained coordinates.

    Attributes:
        values: By site.
        sds: By site; NaN where the bound has no maximum.
        supports: Of the sites.
    """

    values: dict[str, np.ndarray]
    sds: dict[str, np.ndarray]
    supports: dict[str, Any]

    def quantiles(self, site: str, level: float) -> np.ndarray:
        """Quantiles of a site, in its own units."""
        free = self.values[site] + norm.ppf(level) * self.sds[site]
        return np.asarray(biject_to(self.supports[site])(jnp.asarray(free)))


def factors_of(given: AmortisedConditional) -> Factors:
    """Factors of all bins, as the encoder gives them."""
    return jax.tree.map(lambda part: jnp.asarray(part[0]), given.over_draws(_factors_of_q, 1))


def _q(drawn: Trace) -> MarkovPosterior:
    """Posterior of the readouts, in the trace of a guide."""
    return next(fn for site in drawn.values() if isinstance(fn := site.get("fn"), MarkovPosterior))


def _moments_of_q(drawn: Trace, run: Trace, key: Array, also: None) -> tuple[Array, Array]:
    q = _q(drawn)
    return q.mean, q.variance


def _factors_of_q(drawn: Trace, run: Trace, key: Array, also: None) -> Factors:
    return _q(drawn).factors


@dataclass(frozen=True)
class Processes:
    """Gaussian processes behind networks, where a training ended.

    Attributes:
        model: Whose processes these are.
        sites: Parameters.
        layout: Of the recording.
        n_bins: Of its trials.
    """

    model: ProcessesWithGuide
    sites: Mapping[str, Any]
    layout: Layout
    n_bins: int

    @property
    def assignment(self) -> LatentLayout:
        """Layout of latents: which neurons read which."""
        return self.model.assignment(self.layout)

    @property
    def within_names(self) -> list[str]:
        """Names of the within latents, by region and number: ``V1:0``."""
        return within_names(self.layout, self.assignment)

    @property
    def delays(self) -> xr.DataArray:
        """Delays in seconds, (region, across_latent).

        Positive means that the region lags the first one.
        """
        table = self.model.tables.delays(self.sites, self.layout, self.n_bins)
        coords = {"region": list(self.layout.regions), "across_latent": np.arange(self.assignment.n_across)}
        return xr.DataArray(table, coords, tuple(coords), DELAY.name, {"units": "s"})

    @property
    def timescales(self) -> xr.Dataset:
        """Timescales in seconds: ``across`` (across_latent), ``within`` (within_latent)."""
        return timescale_table(self.model.tables, self.sites, self.layout, self.within_names)

    # ---- uncertainty ---------------------------------------------------------------------------------------------

    def spread(self, given: AmortisedConditional) -> Spread:
        """Gaussian of delays and kernel parameters around where the training ended.

        Its precision is the curvature of log Z, the evidence of the processes given the factors of the encoder, and of
        the prior, in unconstrained coordinates; networks and factors are taken as known. Of Gaussian values read by
        linear networks log Z has the curvature of log p(y); else it is an approximation.
        """
        model, data, factors = self.model, given.data, factors_of(given)
        names = model.tables.dynamics_sites(self.layout)
        shared = {name: jnp.asarray(self.sites[name]) for name in names}
        supports = {name: fn.support for name, fn in _sites_of(model, data, shared).items()}
        free = {name: biject_to(supports[name]).inv(value) for name, value in shared.items()}
        flat, unravel = ravel_pytree(free)
        batches = [slice(start, start + AT_ONCE) for start in range(0, data.n_trials, AT_ONCE)]

        def slope(at: Array) -> np.ndarray:
            parts = (_slope(model, data, unravel(at), jax.tree.map(lambda a, b=b: a[b], factors)) for b in batches)
            sums = [np.asarray(ravel_pytree(part)[0]) for part in parts]
            return np.sum(sums, 0) + np.asarray(ravel_pytree(_prior_slope(model, data, unravel(at)))[0])

        steps = STEP * np.eye(len(flat))
        second = np.array([(slope(flat + step) - slope(flat - step)) / (2 * STEP) for step in steps])
        second = second.reshape(len(flat), len(flat))
        precision = -0.5 * (second + second.T)
        certain = np.linalg.eigvalsh(precision).min(initial=np.inf) > 0
        sds = np.sqrt(np.diag(np.linalg.inv(precision))) if certain else np.full(len(flat), np.nan)
        values, sds_by_site = (jax.tree.map(np.asarray, unravel(jnp.asarray(part))) for part in (flat, sds))
        return Spread(values, sds_by_site, supports)

    def delay_intervals(self, given: AmortisedConditional, probability: float) -> xr.Dataset:
        """Delays in seconds with equal-tailed intervals, (region, across_latent).

        They are ``delay``, ``lower`` and ``upper``; see :meth:`spread`. A delay that has come within 5% of
        ``max_delay`` has no interval (NaN): the bound stopped it, not the recording. Those of the first region are 0.
        """
        bounds = self._intervals((DELAY.name,), given, probability)[DELAY.name]
        delay, longest = self.delays, self.model.delays.bound(self.layout.bin_width)
        stopped = np.abs(delay.values[1:]) > EDGE * longest
        arrays = {}
        for name, values in zip(("lower", "upper"), bounds, strict=True):
            whole = np.concatenate([np.zeros_like(values[:1]), np.where(stopped, np.nan, values)])
            arrays[name] = delay.copy(data=whole)
        return xr.Dataset({DELAY.name: delay, **arrays}, attrs={"units": "s"})

    def timescale_intervals(self, given: AmortisedConditional, probability: float) -> xr.Dataset:
        """Timescales in seconds with equal-tailed intervals.

        They are ``across``, ``across_lower``, ``across_upper``, and the same of ``within``.
        """
        sites = [name for name in self.model.tables.dynamics_sites(self.layout) if name.startswith("timescale")]
        found = self._intervals(tuple(sites), given, probability)
        arrays: dict[str, Any] = {}
        for site, bounds in found.items():
            kind = site.rpartition("_")[2]
            named = zip(("lower", "upper"), bounds, strict=True)
            arrays |= {f"{kind}_{end}": (f"{kind}_latent", values) for end, values in named}
        return self.timescales.assign(arrays)

    def _intervals(
        self, sites: tuple[str, ...], given: AmortisedConditional, probability: float
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        if not 0 < probability < 1:
            raise ValueError(f"probability is between 0 and 1, not {probability}")
        if missing := [site for site in sites if site not in self.sites]:
            raise ValueError(f"{type(self.model).__name__} has no {missing[0]} here: nothing was inferred of it")
        spread, tail = self.spread(given), (1 - probability) / 2
        return {site: (spread.quantiles(site, tail), spread.quantiles(site, 1 - tail)) for site in sites}


class OfProcesses(LatentsShown):
    """Gaussian processes: latents of q itself, by its means and variances, not by draws."""

    def latents(self, given: AmortisedConditional) -> xr.Dataset:
        """Posterior mean and sd of the latents, on region 1's clock.

        They are ``across_mean``, ``across_sd`` (trial, time, across_latent), and ``within_mean``, ``within_sd`` (trial,
        time, within_latent).
        """
        model: Any = given.model
        layout = model.assignment(given.data.layout)
        mean, variance = (np.asarray(part)[0] for part in given.over_draws(_moments_of_q, 1))
        columns = {"across": np.arange(layout.n_across)}
        columns["within"] = layout.n_regions * layout.n_across + np.arange(sum(layout.n_within))
        arrays: dict[str, Any] = {}
        for kind, places in columns.items():
            dims = ("trial", "time", f"{kind}_latent")
            arrays |= {f"{kind}_mean": (dims, mean[..., places]), f"{kind}_sd": (dims, np.sqrt(variance[..., places]))}
        coords = {
            "trial": np.arange(len(mean)), "time": given.data.times, "across_latent": columns["across"],
            "within_latent": within_names(given.data.layout, layout),
        }  # fmt: skip
        return xr.Dataset(arrays, coords)

    def processes(self, model: Any, sites: Mapping[str, Any], layout: Layout, n_bins: int) -> Processes:
        return Processes(model, sites, layout, n_bins)


def _latents(model: ProcessesWithGuide, data: MultiRegionData, shared: Any) -> tuple[Latents, dict[str, Any]]:
    """Parameters of the processes at values of their sites, and the sites' distributions."""
    run = handlers.substitute(handlers.seed(model.latent_sites, random.key(0)), data=shared)
    with handlers.trace() as sites:
        latents = run(data)
    return latents, {name: site["fn"] for name, site in sites.items() if site["type"] == "sample"}


def _sites_of(model: ProcessesWithGuide, data: MultiRegionData, shared: Any) -> Any:
    return _latents(model, data, shared)[1]


def _constrained(model: ProcessesWithGuide, data: MultiRegionData, free: Any) -> Any:
    first = {name: jnp.ones_like(value) for name, value in free.items()}
    fns = _sites_of(model, data, first)
    return {name: biject_to(fns[name].support)(value) for name, value in free.items()}


@partial(jax.jit, static_argnums=0)
@partial(jax.grad, argnums=2)
def _slope(model: ProcessesWithGuide, data: MultiRegionData, free: Any, factors: Factors) -> Array:
    """Slope of the sum of log Z of trials."""
    latents, _ = _latents(model, data, _constrained(model, data, free))
    prior = MarkovPrior(latents, model.state_space(data.layout), data.n_bins, len(factors.centers))
    return MarkovPosterior(prior, factors).moments.log_normalizer.sum()


@partial(jax.jit, static_argnums=0)
@partial(jax.grad, argnums=2)
def _prior_slope(model: ProcessesWithGuide, data: MultiRegionData, free: Any) -> Array:
    """Slope of the prior's log density."""
    shared = _constrained(model, data, free)
    return sum((fn.log_prob(shared[name]).sum() for name, fn in _sites_of(model, data, shared).items()), jnp.zeros(()))
