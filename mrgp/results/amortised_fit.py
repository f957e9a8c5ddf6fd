"""Fits of amortised models: errors of their bounds, and posteriors that are refined."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import xarray as xr

from mrgp.parts.latents import LatentLayout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.amortised_conditional import AmortisedConditional, ShownWithGuide
from mrgp.results.fit import Fit
from mrgp.results.fitted import FittedModel
from mrgp.results.processes_with_guide import Processes


class FittedWithGuide(ShownWithGuide, FittedModel, Protocol):
    """Interface that the results need of a model with a guide."""

    @property
    def refinement(self) -> int: ...

    def replace(self, **changes: Any) -> Self: ...
    def conditional(self, data: MultiRegionData, sites: Mapping[str, Any]) -> AmortisedConditional: ...


@dataclass(kw_only=True, eq=False, repr=False)
class AmortisedFit(Fit):
    """Fit of a :class:`mrgp.families.amortised.Amortised`.

    Delays and timescales have those models whose latents are Gaussian processes; others raise ValueError.
    """

    model: FittedWithGuide

    def conditional(self, data: MultiRegionData | None = None) -> AmortisedConditional:
        """Return the model with the fit's parameters, given a recording."""
        return self.model.conditional(self.recording(data), self.sites)

    def refined(self, n_steps: int = 100) -> Self:
        """Return the fit with gradient steps after the guide, for the posterior of each trial.

        All that the fit says of a recording then follows from it: latents, predictions, bounds. 0 steps give back the
        guide alone.
        """
        return replace(self, model=self.model.replace(refinement=n_steps))

    def importance_weighted(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Bound log p(y) of each trial, with its standard error and the Pareto k of the weights.

        ``log_likelihood`` and ``standard_error`` in nats, ``pareto_k`` and ``effective_draws``, each (trial,). Where k
        is above 0.7, refine the fit.
        """
        found = self.conditional(data).importance_weighted()
        for name in ("log_likelihood", "standard_error"):
            found[name].attrs["units"] = "nats"
        return found

    def log_predictive(self, seen: MultiRegionData, given: MultiRegionData) -> xr.DataArray:
        """Estimate log p of what only ``seen`` has, given what ``given`` has, in nats, (trial,)."""
        scores = self.conditional(given).log_predictive(self.recording(seen))
        return xr.DataArray(scores, {"trial": np.arange(len(scores))}, ("trial",), "log_predictive", {"units": "nats"})

    def posterior(self, site: str, data: MultiRegionData | None = None) -> xr.Dataset:
        """Posterior mean and sd of a site of the trials, such as "inputs".

        They are ``mean`` and ``sd``, (trial, ...).

        Raises:
            ValueError: the model has no such site.
        """
        recording = self.recording(data)
        known = self.model.conditional(recording, self.sites)
        if site not in (names := known.sites_of_trials):
            raise ValueError(f"{type(self.model).__name__} has no site {site!r} of trials: it has {', '.join(names)}")
        [(mean, sd)] = known.of_sites(site)
        dims = dims_of_trials(site, mean, recording.n_bins)
        coords: dict[str, Any] = {"trial": np.arange(len(mean))} | ({"time": recording.times} if "time" in dims else {})
        return xr.Dataset({"mean": (dims, mean), "sd": (dims, sd)}, coords)

    # ---- Gaussian processes --------------------------------------------------------------------------------------

    @property
    def processes(self) -> Processes:
        """Gaussian processes that the latents are, with what the fit says of them."""
        return self.model.latents_shown.processes(self.model, self.sites, self.layout, self.n_bins)

    @property
    def assignment(self) -> LatentLayout:
        """Layout of latents: which neurons read which."""
        return self.processes.assignment

    @property
    def within_names(self) -> list[str]:
        """Names of the within latents, by region and number: ``V1:0``."""
        return self.processes.within_names

    @property
    def delays(self) -> xr.DataArray:
        """Delays in seconds, (region, across_latent).

        Positive means that the region lags the first one.
        """
        return self.processes.delays

    @property
    def timescales(self) -> xr.Dataset:
        """Timescales in seconds: ``across`` (across_latent), ``within`` (within_latent)."""
        return self.processes.timescales

    def delay_intervals(self, probability: float = 0.9, data: MultiRegionData | None = None) -> xr.Dataset:
        """Delays with equal-tailed intervals: see :meth:`Processes.delay_intervals`."""
        return self.processes.delay_intervals(self.conditional(data), probability)

    def timescale_intervals(self, probability: float = 0.9, data: MultiRegionData | None = None) -> xr.Dataset:
        """Timescales with equal-tailed intervals: see :meth:`Processes.timescale_intervals`."""
        return self.processes.timescale_intervals(self.conditional(data), probability)


def dims_of_trials(site: str, values: np.ndarray, n_bins: int) -> tuple[str, ...]:
    """Names of the axes of a site of trials, of which the first is the trial."""
    timed = values.ndim > 2 and values.shape[1] == n_bins
    rest = [f"{site}_{axis}" for axis in range(values.ndim - 1 - timed)]
    return ("trial", *(["time"] if timed else []), *rest)
