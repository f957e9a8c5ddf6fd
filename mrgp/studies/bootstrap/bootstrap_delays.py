r"""Bootstrap of delays and kernel parameters over trials, and tests of each delay.

A test asks if the recording can do without the delay.

As users of the DLAG toolbox know it (Gokcen et al. 2022, Nat. Comput. Sci. 2, 512-525): trials are drawn with
replacement, delays and kernel parameters are fitted again with loadings, noise and offsets held, and percentiles are
their intervals; a delay is significant where few draws of trials are explained as well without it. All that a
recording says of the latents is then computed once (``mode.given_loadings``), and a draw of trials is how often each
counts,

    log p(dynamics) + sum_b n_b log p(y_b | dynamics, emission),      n ~ Multinomial(B; 1/B, ..., 1/B).
"""

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from mrgp.inference.density import Sites
from mrgp.inference.mode.given_loadings import Given
from mrgp.inference.run import Model
from mrgp.likelihoods.reduction import Information
from mrgp.parts.delays.bounds import pressing
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.sites import site_of
from mrgp.recordings.checks import warn
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.gaussian_process_fit import GaussianProcessFit
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.workers import TRACING
from mrgp.studies.bootstrap.refits import Job, Kind, Refit, counts, refits

SIGNIFICANT = 0.05  # share of samples that may do without a significant delay (Gokcen et al. 2022)
LEAST_GAIN = 1e-6  # nats: what round-off makes of the log-likelihood of a delay that has no effect


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(Shown):
    """Result of :func:`bootstrap_delays`; times are in seconds.

    Attributes:
        samples: Of every sample (sample, ...): ``delay`` (region, across_latent[, time]), ``timescale_across``,
            ``timescale_within`` and what else the kernel has, such as ``frequency_across``; ``converged`` (sample,).
            There are no samples where nothing was refitted.
        fitted: The same of the fit, without ``converged``.
        significance: For every pair of regions and latent, (pair, across_latent): ``p_zero``, the share of samples of
            trials that are at least as likely if the delay between the two is 0; ``log_likelihood_gain``, nats by
            which the whole recording is more likely with it; ``significant``, whether ``p_zero`` is below 5%.
    """

    samples: xr.Dataset
    fitted: xr.Dataset
    significance: xr.Dataset

    def _card(self) -> Card:
        count, table = self.samples.sizes["sample"], self.significance
        facts = {"samples": f"{count} of {self.samples.attrs['kind']}, of which {self.failures} did not converge"}
        rows = [
            {
                "regions": str(pair), "across latent": str(k),
                "do as well without a delay": f"{float(table['p_zero'].sel(pair=pair, across_latent=k)):.3f}",
                "significant": "yes" if table["significant"].sel(pair=pair, across_latent=k) else "no",
            }
            for pair in table["pair"].values for k in table["across_latent"].values
        ]  # fmt: skip
        return Card("Bootstrap of delays", facts, (self._delay_rows() if count - self.failures > 1 else [], rows))

    def _delay_rows(self) -> list[dict[str, str]]:
        """Rows of delays with percentiles in ms; none if delays vary, as a figure shows these."""
        found = self.intervals()
        if "time" in found.dims:
            return []
        interval, rows = f"{100 * found.attrs['probability']:.0f}% interval", []
        for region in found["region"].values[1:]:
            for k in found["across_latent"].values:
                delay, low, high = (
                    f"{1e3 * float(found[name].sel(region=region, across_latent=k)):+.1f}"
                    for name in (DELAY.name, "lower", "upper")
                )
                place = {"region": str(region), "across latent": str(k)}
                rows.append({**place, "delay (ms)": delay, interval: f"{low} to {high}"})
        return rows

    @property
    def delays(self) -> xr.DataArray:
        """Delays of all samples, (sample, region, across_latent), and time if they vary.

        The first region's are 0; where they vary they are (sample, region, across_latent, time).
        """
        return self.samples[DELAY.name]

    @property
    def timescale_across(self) -> xr.DataArray:
        """Timescales of across latents in seconds, (sample, across_latent)."""
        return self.samples["timescale_across"]

    @property
    def timescale_within(self) -> xr.DataArray:
        """Timescales of within latents in seconds, (sample, within_latent)."""
        return self.samples["timescale_within"]

    @property
    def failures(self) -> int:
        """Number of refits that did not converge."""
        return int((~self.samples["converged"]).sum())

    def intervals(self, probability: float = 0.9, of: str = DELAY.name) -> xr.Dataset:
        """Fitted value of one parameter with ``sd``, ``lower`` and ``upper`` over the samples.

        ``lower`` and ``upper`` are percentiles.

        ``of`` is "delay" (the same table as ``fit.delay_intervals``), "timescale_across" or another
        variable of ``samples``. Refits that did not converge are left out. A delay within 5% of ``max_delay`` has no
        interval (NaN), as there.

        Raises:
            ValueError: the probability is none, there is no such parameter, or fewer than two samples are left.
        """
        if not 0 < probability < 1:
            raise ValueError(f"probability is between 0 and 1, not {probability}")
        if of not in self.fitted:
            raise ValueError(f"{of!r} was not resampled: choose from {', '.join(map(str, self.fitted))}")
        good = self.samples[of].values[self.samples["converged"].values]
        if len(good) < 2:
            raise ValueError(f"intervals need two refits that converged, there are {len(good)}: ask for refit=True")
        fitted = self.fitted[of]
        lower, upper = np.quantile(good, [0.5 - probability / 2, 0.5 + probability / 2], axis=0)
        attributes = dict(fitted.attrs)
        stopped = np.reshape(attributes.pop("at_bound", np.zeros(fitted.size)), fitted.shape) > 0  # as all refits are
        lower, upper, sd = (np.where(stopped, np.nan, table) for table in (lower, upper, good.std(0, ddof=1)))
        tables = {of: fitted.values, "lower": lower, "upper": upper, "sd": sd}
        arrays = {name: (fitted.dims, table) for name, table in tables.items()}
        return xr.Dataset(arrays, fitted.coords, {**attributes, "probability": probability})

    def to_dataset(self) -> xr.Dataset:
        """Merge everything into one Dataset, as for a file.

        Parameters of the fit are named ``<name>_fitted``.
        """
        fitted = self.fitted.rename({name: f"{name}_fitted" for name in self.fitted})
        return xr.merge([self.samples, fitted, self.significance], compat="equals", combine_attrs="override")


def bootstrap_delays(
    fit: GaussianProcessFit,
    data: MultiRegionData | None = None,
    n_samples: int = 1000,
    *,
    kind: Kind = "trials",
    refit: bool = True,
    executor: Executor | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Bootstrap:
    r"""Resample trials for intervals of delays and kernel parameters, and test each delay.

    The test asks if the delay differs from zero.

    Loadings, noise and offsets are held, so intervals are those given them: a little narrower than the intervals of
    ``fit.delay_intervals``, where they follow. What they do not assume is that the model is true: trials that differ
    more than the model says make them wider. Priors of delays and timescales count once, as in the fit. Of counts,
    what is resampled are pseudo-observations of log-rates, made at the fit.

    Significance asks of every sample of trials whether the fit explains it better than the same parameters with the
    delay between two regions set to 0. In a pair with the first region, from which delays are measured, the other one
    moves; otherwise both move to the middle between them, so that each moves least. Of a delay that varies the whole
    course is set to 0. The fit has seen these trials, which speaks for the delay, but the threshold asks for more:
    where the model is true, a delay z standard deviations from 0 has a ``p_zero`` near :math:`\Phi(-|z| / 2)`, and is
    significant beyond 3.3.

    Args:
        fit: Of a model with delays.
        data: The recording, where the fit does not hold it.
        n_samples: Number of samples.
        kind: What is refitted. "trials": the trials, drawn with replacement. "parametric": a recording drawn from the
            fitted model, as long and with the same missing entries; its intervals do assume that the model is true.
            Significance is of samples of trials either way.
        refit: Whether to refit at all; significance alone takes a moment.
        executor: Where refits run, such as a ``concurrent.futures.ProcessPoolExecutor`` made with the context
            "spawn" (JAX cannot be forked); None for this process. The samples are the same everywhere.
        seed: Sample i is drawn from ``numpy.random.SeedSequence(seed).spawn(...)[i]``.
        progress: Show a progress bar.

    Raises:
        ValueError: the model has no delays, there are fewer than two trials or one sample, an unknown kind, or all
            that could be refitted was held fixed.
        DataError: there is no recording, or one with other regions or neurons.
    """
    data = _checked(fit, data, n_samples, kind)
    names = tuple(name for name in fit.uncertain_sites if name not in fit.model.held)
    if refit and not names:
        raise ValueError("delays and kernel parameters were all fixed: nothing can be refitted; pass refit=False")
    with TRACING:
        given = _given(fit, data, names)
        significance = _significance(fit, data, given.information, n_samples, seed)
        job = Job.at(fit.model, given, {name: fit.sites[name] for name in names}, kind, seed) if refit else None
    found = [] if job is None else refits(job, n_samples, executor, progress)
    fitted = xr.Dataset(_variables(fit, data, _tables(fit, data, fit.sites)))
    if DELAY.name in fitted:
        at_bound = pressing(fit.model.delays, fitted[DELAY.name].values, fit.layout.bin_width)
        fitted[DELAY.name].attrs["at_bound"] = at_bound.astype(int).ravel().tolist()
    samples = _samples(fit, data, found).assign_attrs(kind=kind, seed=seed)
    result = Bootstrap(samples, fitted, significance)
    if result.failures:
        warn(
            f"{result.failures} of {n_samples} refits did not converge: intervals leave them out"
        )
    return result


def _checked(fit: GaussianProcessFit, data: MultiRegionData | None, n_samples: int, kind: str) -> MultiRegionData:
    """Check the arguments and return the recording to resample."""
    if not fit.has_delays:
        name = type(fit.model).__name__
        raise ValueError(f"this {name} has no delays to bootstrap: fit DLAG, ADM or MDLAG to two or more regions")
    if n_samples < 1:
        raise ValueError(f"n_samples is the number of samples, at least 1, not {n_samples}")
    if kind not in ("trials", "parametric"):
        raise ValueError(f"kind is 'trials' or 'parametric', not {kind!r}")
    data = fit.recording(data)
    if data.n_trials < 2:
        raise ValueError("a bootstrap resamples trials, and this recording has only one: pass one with more")
    return data


def _given(fit: GaussianProcessFit, data: MultiRegionData, names: tuple[str, ...]) -> Given:
    """Collect the fixed part of a likelihood in which only ``names`` are refitted.

    The recording itself is left out: it has then said all it can.
    """
    given = Given.of(fit.model, data, fit.sites, names, fit.loadings_covariance)
    empty = copy.copy(data)
    empty.values = np.zeros(data.values.shape, bool)  # only its shape is read; an eighth of the memory
    return given._replace(data=empty)


# ---- significance ----------------------------------------------------------------------------------------------------


def _significance(
    fit: GaussianProcessFit, data: MultiRegionData, told: Information, n_samples: int, seed: int
) -> xr.Dataset:
    """Test each delay: share of samples of trials that are as likely without it."""
    sites = {name: jnp.asarray(value) for name, value in fit.sites.items()}
    delays = fit.model.tables.delays(fit.sites, fit.layout, data.n_bins)
    scores = partial(_scores, fit.model, data, told, sites)
    best = np.asarray(scores(_in_bins(delays, data.bin_width)))
    pairs = list(combinations(range(len(delays)), 2))
    gains = np.zeros((len(pairs), delays.shape[1], data.n_trials))
    for place, pair in enumerate(pairs):
        for latent in range(delays.shape[1]):
            without = _together(delays, *pair, latent)
            gains[place, latent] = best - np.asarray(scores(_in_bins(without, data.bin_width)))
    times = np.array([counts(seed, sample, data.n_trials) for sample in range(n_samples)])
    p_zero = np.mean(np.einsum("sb,pkb->spk", times, gains) < LEAST_GAIN, axis=0)
    dims = ("pair", "across_latent")
    tables = {
        "p_zero": (dims, p_zero),
        "log_likelihood_gain": (dims, gains.sum(-1), {"units": "nats"}),
        "significant": (dims, p_zero < SIGNIFICANT),
    }
    labels = [f"{fit.populations[first]} - {fit.populations[second]}" for first, second in pairs]
    return xr.Dataset(tables, {"pair": labels, "across_latent": fit.delay_coords["across_latent"]})


def _together(delays: np.ndarray, first: int, second: int, latent: int) -> np.ndarray:
    """Set the delay of one latent between two regions to 0 in a table of delays.

    ``delays`` are (region, across_latent[, time]).
    """
    moved = delays.copy()
    meeting = delays[0, latent] if first == 0 else 0.5 * (delays[first, latent] + delays[second, latent])
    moved[[first, second], latent] = meeting
    return moved


def _in_bins(delays: np.ndarray, bin_width: float) -> Array:
    """Convert a table of delays in seconds to bins, (time or 1, region, across_latent).

    Likelihoods take it in this form.
    """
    courses = delays if delays.ndim == 3 else delays[..., None]
    return jnp.asarray(np.moveaxis(courses, -1, 0) / bin_width)


@partial(jax.jit, static_argnums=0)
def _scores(model: Model, data: MultiRegionData, told: Information, sites: Sites, delay: Array) -> Array:
    """Log likelihood of each trial with ``delay`` in place of the delays of ``sites``.

    A term that no delay changes is left out.
    """
    return model.likelihood_at(data, sites).with_delay(delay).gaussian.normalizer(told)


# ---- tables ----------------------------------------------------------------------------------------------------------


def _tables(fit: GaussianProcessFit, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays of delays and kernel parameters, by name."""
    kernel = [name for name in fit.model.tables.dynamics_sites(fit.layout) if name.endswith(("_across", "_within"))]
    return {
        DELAY.name: fit.model.tables.delays(sites, fit.layout, data.n_bins),
        **{name: np.asarray(sites[name]) for name in kernel},
        **{f"timescale_{kind}": fit.model.tables.timescales(sites, kind, fit.layout) for kind in ("across", "within")},
    }


def _variables(
    fit: GaussianProcessFit, data: MultiRegionData, tables: Mapping[str, np.ndarray], lead: tuple[str, ...] = ()
) -> dict[str, xr.DataArray]:
    """Name the axes of tables of delays and kernel parameters.

    The names in ``lead`` are those of the first axes.
    """
    series = {"time": data.times} if fit.delays_vary else {}
    within = {"within_latent": fit.within_names}
    across = {"across_latent": fit.delay_coords["across_latent"]}
    variables = {}
    for name, table in tables.items():
        site = site_of(name)
        assert site is not None
        coords = fit.delay_coords | series if site == DELAY else across if "across_latent" in site.dims else within
        units = {"units": "s"} if site.unit == "s" else {}
        variables[name] = xr.DataArray(table, coords, (*lead, *coords), name, units)
    return variables


def _samples(fit: GaussianProcessFit, data: MultiRegionData, found: Sequence[Refit]) -> xr.Dataset:
    """Gather delays and kernel parameters of all refits in one Dataset.

    Sites that were held are as they are in the fit.
    """
    tables = [_tables(fit, data, {**fit.sites, **refit.sites}) for refit in found]
    fitted = _tables(fit, data, fit.sites)
    stacked = {n: np.reshape([one[n] for one in tables], (len(found), *fitted[n].shape)) for n in fitted}
    converged = np.array([refit.converged for refit in found], bool)
    return xr.Dataset({**_variables(fit, data, stacked, ("sample",)), "converged": ("sample", converged)})
