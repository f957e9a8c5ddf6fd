"""Fits of regions that talk: their messages and inputs, and who moves whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr

from mrgp.parts.communication import EFFECTS, INPUTS, MESSAGES, ROUTING, SOURCE, TARGET
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.networks.channels import Edges
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.amortised_conditional import AmortisedConditional
from mrgp.results.amortised_fit import AmortisedFit, FittedWithGuide


class FittedWithChannels(FittedWithGuide, Protocol):
    """Interface that results need of a model with channels."""

    n_inputs: int

    def delay_of(self, layout: Layout, sites: Mapping[str, Any]) -> np.ndarray: ...
    def held_at(
        self, layout: Layout, sites: Mapping[str, Any], region: str, rate: float | None
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
        found, regions = self.posterior(INPUTS, data), self.layout.regions
        shape = found.sizes["trial"], found.sizes["time"], len(regions), -1
        dims = "trial", "time", "region", "input"
        coords = {"trial": found["trial"], "time": found["time"], "region": list(regions)}
        return xr.Dataset({name: (dims, found[name].to_numpy().reshape(shape)) for name in ("mean", "sd")}, coords)

    def edges(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Table of the edges.

        Returns:
            Over ``edge``: ``effect``, how far its messages move the states of the target in a bin (root mean square);
            ``share`` of all that moves these; ``open``, how far it is open on average; ``delay`` in seconds, beyond the
            one bin that a message always takes. Coordinates ``source_of_edge`` and ``target_of_edge``.
        """
        effect, routing = self._of_edges(EFFECTS, data), self.routing(data)
        seen = self.recording(data).mask.any(-1)
        strength = np.sqrt((effect["mean"].to_numpy() ** 2 + effect["sd"].to_numpy() ** 2)[seen].mean(0))
        edges = Edges.of(self.layout.n_regions)
        total = np.array([(strength[edges.target == target] ** 2).sum() for target in range(edges.n_regions)])
        table = {
            "effect": strength,
            "share": strength**2 / np.maximum(total[edges.target], np.finfo(float).tiny),
            "open": routing["mean"].to_numpy()[seen].mean(0),
            DELAY.name: self.model.delay_of(self.layout, self.sites),
        }
        found = xr.Dataset({name: ("edge", values) for name, values in table.items()}, self._edge_coords())
        found[DELAY.name].attrs["units"] = "s"
        return found

    def effectome(self, data: MultiRegionData | None = None) -> xr.DataArray:
        """Table of who moves whom: ``effect`` of :meth:`edges`, (source, target), 0 on its diagonal."""
        edges, names = Edges.of(self.layout.n_regions), list(self.layout.regions)
        table = np.zeros((len(names), len(names)))
        table[edges.source, edges.target] = self.edges(data)["effect"]
        return xr.DataArray(table, {"source": names, "target": names}, ("source", "target"), "effect")

    def perturb(self, region: str, rate: float | None = 0.0, data: MultiRegionData | None = None) -> xr.Dataset:
        """Predict what regions do when they hear one of them at a rate that it does not have.

        Trials begin as they did and have the inputs that were inferred for them; what ``region`` says is what it would
        say at ``rate``.

        Args:
            region: Whose messages are changed.
            rate: Of each of its neurons: in spikes per second where values are counts, else a value; None for each
                neuron's own mean, at which it says nothing new.
            data: The trials; None for those of the fit.

        Returns:
            ``rate`` and ``rate_without``, (trial, time, neuron), expected values as they are and with the change.
            Coordinate ``region`` of neurons.

        Raises:
            DataError: there is no such region.
        """
        recording = self.recording(data)
        known = self.model.conditional(recording, self.sites)
        dims = "trial", "time", "neuron"
        coords: dict[str, Any] = {"trial": np.arange(recording.n_trials), "time": recording.times}
        coords["region"] = ("neuron", np.array(self.layout.regions)[self.layout.region_of_neuron])
        held = self.model.held_at(self.layout, self.sites, region, rate)
        both = {"rate": known.predictive()[0], "rate_without": known.switched(held).predictive()[0]}
        return xr.Dataset({name: (dims, values) for name, values in both.items()}, coords)

    def _of_edges(self, site: str, data: MultiRegionData | None, *more: str) -> xr.Dataset:
        recording = self.recording(data)
        known: AmortisedConditional = self.model.conditional(recording, self.sites)
        mean, sd = known.of_site(site)
        coords = {"trial": np.arange(len(mean)), "time": recording.times, **self._edge_coords()}
        dims = "trial", "time", "edge", *more
        return xr.Dataset({"mean": (dims, mean), "sd": (dims, sd)}, coords)

    def _edge_coords(self) -> dict[str, Any]:
        edges, names = Edges.of(self.layout.n_regions), np.array(self.layout.regions)
        return {SOURCE: ("edge", names[edges.source]), TARGET: ("edge", names[edges.target])}
