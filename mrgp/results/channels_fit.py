"""Fits of regions that talk: their messages and inputs, and who moves whom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import xarray as xr
from scipy import stats

from mrgp.parts.communication import EFFECTS, INPUTS, MESSAGES, ROUTING, SOURCE, TARGET
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.networks.channels import Edges
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.times import bins_since
from mrgp.results.amortised_conditional import AmortisedConditional
from mrgp.results.amortised_fit import AmortisedFit, FittedWithGuide
from mrgp.results.draws import log_p_of_values

STEP = 0.5  # bins, over which the curvature of the bound in a delay is taken
HEIGHTS = 20  # draws of the posterior in each height, the same ones in all


class FittedWithChannels(FittedWithGuide, Protocol):
    """Interface that results need of a model with channels."""

    n_inputs: int

    def delay_of(self, layout: Layout, sites: Mapping[str, Any]) -> np.ndarray: ...
    def delayed_by(self, delay: np.ndarray) -> dict[str, Any]: ...
    def longest_delay(self, layout: Layout) -> float: ...
    def held_at(
        self, layout: Layout, sites: Mapping[str, Any], region: str, rate: float | None, when: np.ndarray
    ) -> dict[str, Any]: ...


@dataclass(kw_only=True, eq=False, repr=False)
class ChannelsFit(AmortisedFit):
    """Fit of a model whose regions send each other messages.

    **Communication is inferred, not seen.** A message is what the rates of one region tell of another beyond its own
    past and inputs. A common input that nobody recorded, stimuli that both regions follow, and drift look the same:
    compare with a fit to trials that are shuffled within condition in one region
    (:func:`mrgp.shuffled_within`), which has all of these, and no communication.
    """

    model: FittedWithChannels  # type: ignore[assignment]
    _last: tuple[MultiRegionData, dict[str, tuple[np.ndarray, np.ndarray]]] | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}  # a process that gets a fit makes it again

    def messages(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Messages as they arrive: posterior ``mean`` and ``sd``, (trial, time, edge, message).

        Edges have the coordinates ``source_of_edge`` and ``target_of_edge``.
        """
        return self._of_edges(MESSAGES, data, "message")

    def routing(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Share that each edge lets through: posterior ``mean`` and ``sd``, (trial, time, edge)."""
        return self._of_edges(ROUTING, data)

    def inputs(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Inputs that were inferred for each region.

        They are posterior ``mean`` and ``sd``, (trial, time, region, input).

        Raises:
            ValueError: the model has none.
        """
        recording, regions = self.recording(data), self.layout.regions
        told = self._told(recording)
        if INPUTS not in told:
            raise ValueError("the model has no inputs: give it n_inputs=")
        by_region = [values.reshape(*values.shape[:2], len(regions), -1) for values in told[INPUTS]]
        dims = "trial", "time", "region", "input"
        n_trials, n_bins = by_region[0].shape[:2]
        coords = {"trial": np.arange(n_trials), "time": recording.layout.time_axis(n_bins), "region": list(regions)}
        told_of = zip(("mean", "sd"), by_region, strict=True)
        return xr.Dataset({name: (dims, own.copy()) for name, own in told_of}, coords)

    def edges(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Table of the edges.

        Returns:
            Over ``edge``: ``effect``, how far its messages move the neurons of the target in a bin (root mean square,
            in units of the emission: log-rates of counts, sds of each neuron for values);
            ``share`` of all that moves these; ``open``, how far it is open on average; ``delay`` in seconds, beyond the
            one bin that a message always takes. Coordinates ``source_of_edge`` and ``target_of_edge``.
        """
        recording = self.recording(data)
        told = self._told(recording)
        (effect, spread), (is_open, _) = told[EFFECTS], told[ROUTING]
        seen = recording.mask.any(-1)
        strength = np.sqrt((effect**2 + spread**2)[seen].mean(0))
        edges = Edges.of(self.layout.n_regions)
        total = np.array([(strength[edges.target == target] ** 2).sum() for target in range(edges.n_regions)])
        table = {
            "effect": strength,
            "share": strength**2 / np.maximum(total[edges.target], np.finfo(float).tiny),
            "open": is_open[seen].mean(0),
            DELAY.name: self.model.delay_of(self.layout, self.sites),
        }
        found = xr.Dataset({name: ("edge", values) for name, values in table.items()}, self._edge_coords())
        found[DELAY.name].attrs["units"] = "s"
        return found

    def transmission_delays(self, data: MultiRegionData | None = None, probability: float = 0.9) -> xr.Dataset:
        """Transmission delays with intervals, in seconds beyond the bin that a message always takes.

        They are of the delay of one edge with all else held, by the curvature of the bound over half a bin to either
        side, within the prior. What is held could make up for a delay: trainings from other seeds differ by more, and
        :func:`mrgp.assess_communication` adds that. Neither knows of a bias: in simulated rings delays of whole bins
        come out some two thirds of a bin late, since a message between two bins averages the noise of both.

        Args:
            data: The recording; None for that of the fit.
            probability: Of the intervals.

        Returns:
            ``delay`` (the median), ``sd``, ``lower`` and ``upper``, (edge,).
        """
        recording = self.recording(data)
        known: AmortisedConditional = self.model.conditional(recording, self.sites)
        longest = self.model.longest_delay(self.layout)
        fitted = self.model.delay_of(self.layout, self.sites)
        step = min(STEP * self.layout.bin_width, longest / 2)

        def height(edge: int, delay: float) -> float:
            delays = np.where(np.arange(len(fitted)) == edge, delay, fitted)
            other = known.switched(self.model.delayed_by(delays))
            return float(np.asarray(other.over_draws(log_p_of_values, HEIGHTS, averaged=True)).sum())

        found = [_truncated(partial(height, edge), own, step, longest) for edge, own in enumerate(fitted)]
        tails = (1 - probability) / 2
        table = {
            DELAY.name: [law.median() for law in found], "sd": [law.std() for law in found],
            "lower": [law.ppf(tails) for law in found], "upper": [law.ppf(1 - tails) for law in found],
        }  # fmt: skip
        result = xr.Dataset({name: ("edge", np.array(own, float)) for name, own in table.items()}, self._edge_coords())
        return result.map(lambda column: column.assign_attrs(units="s"))

    def effectome(self, data: MultiRegionData | None = None) -> xr.DataArray:
        """Table of who moves whom: ``effect`` of :meth:`edges`, (source, target), 0 on its diagonal."""
        edges, names = Edges.of(self.layout.n_regions), list(self.layout.regions)
        table = np.zeros((len(names), len(names)))
        table[edges.source, edges.target] = self.edges(data)["effect"]
        return xr.DataArray(table, {"source": names, "target": names}, ("source", "target"), "effect")

    def perturb(
        self,
        region: str,
        rate: float | None = 0.0,
        data: MultiRegionData | None = None,
        *,
        since: float | None = None,
    ) -> xr.Dataset:
        """Predict what regions do when they hear one of them at a rate that it does not have.

        Trials begin as they did and have the inputs that were inferred for them; what ``region`` says is what it would
        say at ``rate``.

        Args:
            region: Whose messages are changed.
            rate: Of each of its neurons: in spikes per second where values are counts, else a value; None for each
                neuron's own mean, at which it says nothing new.
            data: The trials; None for those of the fit.
            since: Time of the trial in seconds, in bins from which on it is changed: what others then keep of what they
                had heard is their own memory. None for the whole trial.

        Returns:
            ``rate`` and ``rate_without``, (trial, time, neuron), expected values as they are and with the change.
            Coordinate ``region`` of neurons.

        Raises:
            DataError: there is no such region, or no bin so late.
        """
        recording = self.recording(data)
        known = self.model.conditional(recording, self.sites)
        dims = "trial", "time", "neuron"
        time = recording.layout.time_axis(recording.n_bins)
        coords: dict[str, Any] = {"trial": np.arange(recording.n_trials), "time": time}
        coords["region"] = ("neuron", np.array(self.layout.regions)[self.layout.region_of_neuron])
        held = self.model.held_at(self.layout, self.sites, region, rate, bins_since(recording, since))
        both = {"rate": known.predictive()[0], "rate_without": known.switched(held).predictive()[0]}
        return xr.Dataset({name: (dims, values) for name, values in both.items()}, coords)

    def _of_edges(self, site: str, data: MultiRegionData | None, *more: str) -> xr.Dataset:
        recording = self.recording(data)
        mean, sd = self._told(recording)[site]
        time = recording.layout.time_axis(recording.n_bins)
        coords = {"trial": np.arange(len(mean)), "time": time, **self._edge_coords()}
        dims = "trial", "time", "edge", *more
        return xr.Dataset({"mean": (dims, mean.copy()), "sd": (dims, sd.copy())}, coords)

    def _told(self, recording: MultiRegionData) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Posterior mean and sd of what regions tell each other, and of their inputs, by site.

        They come from one pass over draws of the posterior. Those of the recording that was asked about last are kept:
        a pass takes as long as many epochs of training.
        """
        if self._last is None or self._last[0] is not recording:
            known: AmortisedConditional = self.model.conditional(recording, self.sites)
            names = [name for name in (MESSAGES, ROUTING, EFFECTS, INPUTS) if name in known.sites_of_trials]
            self._last = recording, dict(zip(names, known.of_sites(*names), strict=True))
        return self._last[1]

    def _edge_coords(self) -> dict[str, Any]:
        edges, names = Edges.of(self.layout.n_regions), np.array(self.layout.regions)
        return {SOURCE: ("edge", names[edges.source]), TARGET: ("edge", names[edges.target])}


def _truncated(height: Callable[[float], float], fitted: float, step: float, longest: float) -> Any:
    """Posterior of a delay between 0 and the longest, by three heights of its log density.

    A parabola goes through them.
    """
    if longest == 0:
        return stats.rv_discrete(values=([0], [1.0]))
    center = float(np.clip(fitted, step, longest - step))
    low, middle, high = (height(center + way * step) for way in (-1, 0, 1))
    slope, curvature = (high - low) / (2 * step), (2 * middle - high - low) / step**2
    if not curvature > 0:  # nothing holds the delay
        return stats.uniform(0.0, longest)
    mode, sd = np.clip(center + slope / curvature, 0.0, longest), 1 / np.sqrt(curvature)
    return stats.truncnorm(-mode / sd, (longest - mode) / sd, mode, sd)
