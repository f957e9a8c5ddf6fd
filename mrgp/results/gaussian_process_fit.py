"""Fits of models with Gaussian processes: delays, timescales, loadings, and their errors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from mrgp.inference.mode.curvature import Curvature
from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.kalman import MarkovGP
from mrgp.likelihoods.likelihood import Kalman
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.emissions.autocorrelated import NOISE_TIMESCALE
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import AUDIBLE, RELEVANCE, SHARED, shared_variance, signal_to_noise
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.recording import MultiRegionData, stand_in
from mrgp.results import arviz as arviz_tree
from mrgp.results import conditional as posterior
from mrgp.results import rows, uncertainty
from mrgp.results.account import delays_in_words, lights_of_processes
from mrgp.results.conditional import GaussianConditional
from mrgp.results.fit import Fit
from mrgp.results.fitted import FittedProcesses
from mrgp.results.summary import of_any, of_latents
from mrgp.results.timescales import timescale_table
from mrgp.runtime.account import Light
from mrgp.runtime.display import Rows
from mrgp.runtime.workers import TRACING

LIFT_ERROR_BINS = 100  # bins over which the error of the state space is measured


@dataclass(kw_only=True, eq=False, repr=False)
class GaussianProcessFit(Fit):
    """Fit of a :class:`mrgp.families.gaussian_process.GaussianProcesses`."""

    model: FittedProcesses

    # ---- parameters ----------------------------------------------------------------------------------------------

    @cached_property
    def assignment(self) -> LatentLayout:
        """Layout of latents: which neurons read which."""
        return self.model.assignment(self.layout)

    @property
    def within_names(self) -> list[str]:
        """Names of the within latents, by region and number: ``V1:0``."""
        return posterior.within_names(self.layout, self.assignment)

    @property
    def delays(self) -> xr.DataArray:
        """Delays in seconds, (region, across_latent), and time if they vary.

        Where they vary they are (region, across_latent, time). Positive means that the region lags the first one.
        """
        table = self.model.tables.delays(self.sites, self.layout, self.n_bins)
        coords = self.delay_coords if table.ndim == 2 else self.delay_coords | self.time_coords
        return xr.DataArray(table, coords, tuple(coords), DELAY.name, {"units": "s"})

    @property
    def has_loadings(self) -> bool:
        """True: neurons read latents by loadings."""
        return True

    @property
    def has_delays(self) -> bool:
        """True if regions share a latent, each with a delay of its own."""
        return len(self.populations) > 1 and self.delays.size > 0 and self.model.delays.bound(self.layout.bin_width) > 0

    @property
    def reads_between_bins(self) -> bool:
        """True if latents have values between bins."""
        return self.model.kernel.has_timescale and self.model.likelihood.reads_between_bins

    @property
    def delays_vary(self) -> bool:
        """True if delays change during a trial."""
        return "time" in self.delays.dims

    @property
    def has_relevance(self) -> bool:
        """True if the model infers which region reads which latent."""
        return RELEVANCE.name in self.sites

    @property
    def delay_coords(self) -> dict[str, Any]:
        """Coordinates of a table of delays."""
        return {"region": list(self.populations), "across_latent": np.arange(self.assignment.n_across)}

    @property
    def timescales(self) -> xr.Dataset:
        """Timescales in seconds: ``across`` (across_latent), ``within`` (within_latent)."""
        return timescale_table(self.model.tables, self.sites, self.layout, self.within_names)

    @property
    def loadings(self) -> dict[str, xr.DataArray]:
        """Loadings per region, (neuron, latent).

        Latents are the across latents ``across:k``, then the region's own ``V1:j``.
        """
        names = [f"across:{k}" for k in range(self.assignment.n_across)]
        blocks = np.split(self.sites[LOADINGS.name], np.cumsum(self.assignment.n_neurons)[:-1])
        arrays = {}
        for region, width, block in zip(self.populations, self.assignment.n_within, blocks, strict=True):
            latents = names + [f"{region}:{j}" for j in range(width)]
            coords = {"neuron": np.arange(len(block)), "latent": latents}
            arrays[region] = xr.DataArray(block[:, : len(latents)], coords, ("neuron", "latent"), f"loadings_{region}")
        return arrays

    @property
    def shared_variance(self) -> xr.DataArray:
        """Share of each latent in the variance that latents explain in a region, (region, latent).

        Latents are ``across:k``, then ``within:j``, the j-th of each region's own; rows sum to 1. The expectation of
        the squared loadings, where they are known as a distribution (method "vb").
        """
        share = shared_variance(self.assignment, self.sites[LOADINGS.name], self.loadings_covariance)
        names = [f"across:{k}" for k in range(self.assignment.n_across)]
        names += [f"within:{j}" for j in range(max(self.assignment.n_within))]
        return xr.DataArray(share, {"region": list(self.populations), "latent": names}, name="shared_variance")

    def shared_by(self, least: float = SHARED) -> xr.DataArray:
        """True where a region reads an across latent, (region, across_latent).

        A region reads a latent that explains at least ``least`` of the variance shared by its neurons (Gokcen et al.
        2023 take 2%), if what its neurons share is at least a thousandth of their noise.
        """
        share = self.shared_variance.values[:, : self.assignment.n_across]
        known = self.sites[LOADINGS.name], self.model.emission.noise_of(self.sites), self.loadings_covariance
        audible = signal_to_noise(self.assignment, *known) >= AUDIBLE
        return xr.DataArray((share >= least) & audible[:, None], self.delay_coords, name="shared_by")

    def _per_neuron(self, site: str) -> dict[str, xr.DataArray]:
        parts = self.layout.region_slices.items()
        return {region: xr.DataArray(self.sites[site][part], dims=("neuron",), name=site) for region, part in parts}

    @property
    def noise(self) -> dict[str, xr.DataArray]:
        """Observation variance of every neuron, per region; AttributeError for counts.

        Counts have none of their own.
        """
        if self.model.emission.is_of_counts:
            raise AttributeError("counts have no noise variance of their own: see fit.sites, and fit.predict")
        return self._per_neuron(NOISE.name)

    @property
    def offset(self) -> dict[str, xr.DataArray]:
        """Offset of every neuron, per region; for counts, offset of its log-rate."""
        return self._per_neuron(OFFSET.name)

    @property
    def noise_timescales(self) -> xr.DataArray:
        """Timescale of private noise in seconds, (region,); 0 where noise is white."""
        found = self.sites.get(NOISE_TIMESCALE.name, np.zeros(len(self.populations)))
        return xr.DataArray(found, {"region": list(self.populations)}, name=NOISE_TIMESCALE.name, attrs={"units": "s"})

    @property
    def mean(self) -> dict[str, xr.DataArray]:
        """Mean of every neuron over the trial, per region, (condition, time, neuron).

        It is in units of the recording; where values are counts it is the mean of the log-rate.
        """
        table = self.model.tables.mean(self.sites, stand_in(self.layout, 1, self.n_bins))
        coords = {"condition": list(self.layout.conditions or ("all",))} | self.time_coords
        dims = ("condition", "time", "neuron")
        parts = self.layout.region_slices.items()
        return {region: xr.DataArray(table[..., part], coords, dims, f"mean_{region}") for region, part in parts}

    # ---- what it says of a recording -----------------------------------------------------------------------------

    def conditional(self, data: MultiRegionData | None = None) -> GaussianConditional:
        return GaussianConditional(self.model, self.recording(data), self.sites, self.loadings_covariance)

    @property
    def for_scoring(self) -> "GaussianProcessFit":
        """The fit, under the Markov likelihood where its own cannot leave entries out.

        The spectral likelihood takes frequencies as independent.
        """
        if not self.model.likelihood.is_spectral:
            return self
        model = self.model.replace(likelihood=Kalman())
        return replace(self, model=model.fitting.adapted(stand_in(self.layout), self.sites, 1.0))

    def markov(self, data: MultiRegionData) -> MarkovGP | CountGP:
        """State-space form of the fitted model, whatever likelihood it was fitted with."""
        return GaussianConditional(self.model, data, self.sites, self.loadings_covariance).states

    def lift_error(self, n_bins: int = LIFT_ERROR_BINS) -> float:
        """KL divergence per trial, in nats, from the exact model to the state space used.

        It is for trials of ``n_bins`` bins.
        """
        bare = replace(
            self, model=self.model.replace(mean="constant"),
            sites={name: value for name, value in self.sites.items() if name not in self.model.mean.own_sites},
        )  # fmt: skip
        return posterior.lift_error(bare.markov(stand_in(self.layout, 1, n_bins)), n_bins)

    # ---- uncertainty ---------------------------------------------------------------------------------------------

    def curvature(self, data: MultiRegionData | None = None, progress: bool = False, follow: bool = False) -> Curvature:
        """Gaussian uncertainty of delays and kernel parameters; computed once.

        It is computed anew for another recording. Everything else is profiled out; ``follow`` asks how it follows them,
        too, which a saved fit does not keep.
        """
        with TRACING:
            return uncertainty.kept_curvature(self, data, progress, follow)

    elsewhere: uncertainty.Elsewhere | None = field(default=None, init=False)

    @property
    def uncertain_sites(self) -> tuple[str, ...]:
        """Sites that describe latents and were inferred; intervals are given for these."""
        return tuple(name for name in self.model.tables.dynamics_sites(self.layout) if name not in self.fixed)

    def delay_intervals(
        self,
        probability: float = 0.9,
        data: MultiRegionData | None = None,
        progress: bool = False,
        over_time: bool = False,
        reference: str | None = None,
    ) -> xr.Dataset:
        """Delays with ``sd`` and an equal-tailed interval (``lower``, ``upper``), in seconds.

        They are from the curvature, or from draws of the posterior where there are any. Of other trials than
        those of the fit, ``data``, the curvature is theirs, around the fit's delays; draws say nothing of them.

        Dims (region, across_latent), and time where delays vary; ``over_time`` asks for their mean over the trial
        instead. Delays are behind the region ``reference``, None for the first; a latent that ``reference`` or a region
        does not read leaves their delay open. The Gaussian lives in artanh(delay / bound), so that intervals respect
        the bound, which is ``max_delay`` behind the first region and twice that behind others. A delay that has come
        within 5% of ``max_delay`` has neither sd nor interval (NaN): the bound stopped it, not the recording.
        """
        if not 0 < probability < 1:
            raise ValueError(f"probability is between 0 and 1, not {probability}")
        reference = self.populations[0] if reference is None else reference
        if reference not in self.populations:
            raise ValueError(f"reference {reference!r} is no region: choose from {', '.join(self.populations)}")
        if self._has_own_draws:
            uncertainty.require_own(self, data)
            return uncertainty.delay_quantiles(self, probability, over_time, reference)
        bounds = uncertainty.delay_intervals(self, self.curvature(data, progress), probability, over_time, reference)
        self._has_shown_intervals = True
        return bounds

    _has_shown_intervals = False  # then what they need of JAX is compiled

    @property
    def _has_own_draws(self) -> bool:
        """True if draws are of the posterior itself, not of its Gaussian."""
        return self.samples is not None and not self.method_class.ends_at_maximum

    @property
    def undrawn_sites(self) -> tuple[str, ...]:
        """Sites that were inferred but have no draws of their own.

        If there are any, the draws are not of the whole posterior.
        """
        given = {*(self.samples or {}), *self.fixed, *self.model.held}
        return tuple(name for name in self.sites if name not in given)

    def draws(self, n_draws: int, seed: int = 0, data: MultiRegionData | None = None) -> dict[str, np.ndarray]:
        """Draws of all sites, (draw, ...) each; times are in seconds.

        Where the method gives draws, they are taken from these, at most all of them.

        Else delays and kernel parameters are from the Gaussian at the maximum; loadings, noise and offsets take their
        best values given each draw, to first order, without spread of their own. Sites that the method leaves undrawn
        (``undrawn_sites``) stay at the maximum.
        """
        if self.samples is not None:
            return uncertainty.thinned(self, n_draws)
        return uncertainty.draws(self, self.curvature(data, follow=True), n_draws, seed)

    def log_evidence(self, data: MultiRegionData | None = None, progress: bool = False) -> tuple[float, float]:
        """log p(y | model) in nats by Laplace's method, and the standard error of its computation.

        The method is applied at the maximum.

        Everything that was inferred is integrated over a Gaussian; sites that were fixed are given. A recording cannot
        tell the modes apart that differ in signs and order of latents: all of them count, log 2 for each latent and
        log K! for each K exchangeable ones.
        """
        with TRACING:
            return uncertainty.log_evidence(self, self.recording(data), progress)

    def to_arviz(
        self,
        data: MultiRegionData | None = None,
        n_draws: int | None = None,
        seed: int = 0,
        latents: bool = False,
    ) -> xr.DataTree:
        """Convert to an ArviZ DataTree, for ``arviz.summary``, ``loo`` and all others.

        These include ``plot_forest`` and ``compare``.

        Groups: ``posterior`` and ``prior`` (chain, draw, ...), ``log_likelihood`` per trial, ``posterior_predictive``
        and ``observed_data`` (each neuron's mean over the observed bins of each trial), ``sample_stats`` of method
        "nuts", and ``constant_data`` with what is not drawn. With ``latents`` also :meth:`latents` (means and sds).

        The posterior of methods "laplace", "svi" and "nuts" are their draws, ``n_draws`` of them at most (None: 1000);
        of the others draws of delays and timescales from the Gaussian at the maximum (None: 100). It holds what has a
        spread of its own and nothing else: sites that stay at the maximum or only follow are in ``constant_data``.
        ``log_likelihood`` is there where all that was inferred was drawn, so that ``arviz.loo`` is of the whole
        posterior; elsewhere the tree's attribute ``log_likelihood`` says why not, and what to do. Of a model without
        delays and timescales nothing is drawn: there is no ``posterior``, and a warning says so.
        """
        with TRACING:
            return arviz_tree.build(self, self.recording(data), n_draws, seed, latents)

    # ---- saving --------------------------------------------------------------------------------------------------

    def tables(self, bounds: xr.Dataset | None = None, truth: xr.DataArray | None = None) -> list[Rows]:
        """Tables of delays, timescales, and of the regions that read each latent, as rows of text.

        See :func:`mrgp.results.rows.latents`.
        """
        return rows.latents(self, bounds, truth)

    def _shown(self) -> tuple[list[Rows], str]:
        bounds = self._bounds_at_hand()
        without = "fit.delay_intervals() says how sure the delays are"
        return self.tables(bounds), without if self.has_delays and bounds is None else ""

    def _judged(self, bounds: xr.Dataset | None) -> tuple[list[Light], Sequence[str]]:
        return lights_of_processes(self, bounds), delays_in_words(self, bounds)

    def _bounds_at_hand(self) -> xr.Dataset | None:
        """Intervals of the delays, or None if they take long or need the turn of another thread."""
        is_ready = self.saved_curvature is not None and (self.data is not None or self._has_shown_intervals)
        if not self.has_delays or not (is_ready or self._has_own_draws) or not TRACING.acquire(blocking=False):
            return None
        try:
            return self.delay_intervals(over_time=True)
        finally:
            TRACING.release()

    def summary(self) -> dict[str, Any]:
        return of_any(self, of_latents(self))
