"""Fits of switching linear dynamics: states, who calls them, and who drives whom in each."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
import xarray as xr

from mrgp.parts.communication import SOURCE, TARGET
from mrgp.parts.latents import LatentLayout
from mrgp.parts.networks.channels import Edges
from mrgp.parts.populations import MEMBERSHIP, Populations
from mrgp.parts.switching import SwitchingDynamics
from mrgp.recordings.missing import inside
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit
from mrgp.results.fitted import FittedModel
from mrgp.results.switching_conditional import SwitchingConditional


@dataclass(kw_only=True, eq=False, repr=False)
class SwitchingFit(Fit):
    """Fit of a model with switching linear dynamics.

    ``log_likelihood`` is a lower bound of log p(y | parameters). States have no order: they may change places between
    fits. ``start_heights`` are the bounds that each start of the fit had reached.
    """

    model: FittedModel

    @property
    def has_states(self) -> bool:
        return True

    @property
    def latent_axis(self) -> str:
        return "within_latent"

    @property
    def populations(self) -> tuple[str, ...]:
        """Names of the populations: the regions, or those that were found."""
        return self._populations.layout(self.layout).regions

    @property
    def dynamics(self) -> SwitchingDynamics:
        """Parameters of the dynamics."""
        return SwitchingDynamics.of(self.sites)

    @cached_property
    def _own(self) -> SwitchingConditional:
        return self.model.conditional(self.recording(), self.sites)  # type: ignore[return-value]

    def conditional(self, data: MultiRegionData | None = None) -> SwitchingConditional:
        """Return the model with the fit's parameters, given a recording."""
        return self._own if data is None else super().conditional(data)  # type: ignore[return-value]

    def states(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """States over time.

        Returns:
            ``probability`` (trial, time, state) given the whole trial, NaN after its end; ``most_likely`` (trial,
            time), of the likeliest path, -1 there.
        """
        given = self.conditional(data)
        inside = self._inside(given)
        single = np.where(inside[..., None], np.asarray(given.posterior.states.single), np.nan)
        path = np.where(inside, given.most_likely(), -1)
        time = given.data.layout.time_axis(given.data.n_bins)
        coords = {"trial": np.arange(len(path)), "time": time, "state": np.arange(single.shape[-1])}
        dims = "trial", "time", "state"
        return xr.Dataset({"probability": (dims, single), "most_likely": (dims[:2], path)}, coords)

    def dwell_times(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Time that each state lasts.

        Returns:
            Over (state,): ``dwell`` in seconds, expected bins in the state over expected visits, which trials cut
            short; ``share`` of all bins; ``visits``, expected.
        """
        given = self.conditional(data)
        inside, states = self._inside(given), given.posterior.states
        single = np.where(inside[..., None], np.asarray(states.single), 0.0)
        pair = np.where(inside[:, 1:, None, None], np.asarray(states.pair), 0.0)
        entered = pair.sum((0, 1, 2)) - np.einsum("btkk->k", pair)
        visits, bins = single[:, 0].sum(0) + entered, single.sum((0, 1))
        lasts = np.where(bins > 0, bins / np.maximum(visits, np.finfo(float).tiny), 0.0) * self.layout.bin_width
        table = xr.Dataset(
            {"dwell": ("state", lasts), "share": ("state", bins / bins.sum()), "visits": ("state", visits)},
            {"state": np.arange(len(bins))},
        )
        table["dwell"].attrs["units"] = "s"
        return table

    def triggers(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Populations that call and hold states.

        Returns:
            Over (state, region): ``enter``, the norm of R_{j,r}, and ``stay``, that of S_{j,r}, per sd of process
            noise; ``enter_effect`` and ``stay_effect``, the sd over time of what the population adds to the logit,
            R_{j,r}' x_r. All are 0 of a model that is not recurrent. What all R and S have in common changes nothing,
            and the prior makes it 0: compare numbers between states. With two states, to call one and not to hold the
            other are the same.
        """
        of, member = self.dynamics, self._member
        given = self.conditional(data)
        mean = np.asarray(given.posterior.moments.mean)[self._inside(given)]
        spread = np.cov(mean.T, bias=True).reshape(mean.shape[-1], -1)
        table = {}
        for name, weights in (("enter", of.enter), ("stay", of.stay)):
            own = np.asarray(weights)[:, None] * member  # (state, region, latent)
            table[name] = np.linalg.norm(own, axis=-1)
            table[f"{name}_effect"] = np.sqrt(np.maximum(np.einsum("krd,de,kre->kr", own, spread, own), 0.0))
        coords = {"state": np.arange(of.n_states), "region": list(self.populations)}
        return xr.Dataset({name: (("state", "region"), values) for name, values in table.items()}, coords)

    def effectome(self) -> xr.DataArray:
        """Norms of the blocks of A between populations, (state, source, target).

        Latents are measured by their process noise, so that blocks can be compared.
        """
        member = self._member
        table = np.sqrt(np.einsum("td,kde,se->kst", member, np.asarray(self.dynamics.matrix) ** 2, member))
        names = list(self.populations)
        coords = {"state": np.arange(len(table)), "source": names, "target": names}
        return xr.DataArray(table, coords, ("state", "source", "target"), "effect")

    def edges(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Edges between populations in every state.

        Returns:
            Over (state, edge): ``norm``, that of the block of A; ``effect``, by how much the source moves its target in
            a step (rms around its mean, in sds of the target's process noise), over the steps into bins of the state,
            by the posterior means of the latents; ``share``, that of the squared effects of the edges into this target.
            Coordinates ``source_of_edge`` and ``target_of_edge``.
        """
        edges, member, A = Edges.of(len(self.populations)), self._member, np.asarray(self.dynamics.matrix)
        given = self.conditional(data)
        inside, known = self._inside(given)[:, 1:], given.posterior
        # The state of a bin says how the latents of the bin before move it.
        mean, weight = np.asarray(known.moments.mean)[:, :-1][inside], np.asarray(known.states.single)[:, 1:][inside]
        weight = weight / np.maximum(weight.sum(0), np.finfo(float).tiny)
        center = weight.T @ mean
        spread = np.einsum("nk,nd,ne->kde", weight, mean, mean) - center[:, :, None] * center[:, None, :]
        blocks = member[edges.target][:, :, None] * A[:, None] * member[edges.source][:, None]  # (state, edge, d, e)
        square = np.maximum(np.einsum("kade,kef,kadf->ka", blocks, spread, blocks), 0.0)
        total = np.einsum("ka,at->kt", square, edges.target[:, None] == np.arange(edges.n_regions))
        names = np.array(self.populations)
        table = {
            "norm": np.linalg.norm(blocks, axis=(-2, -1)),
            "effect": np.sqrt(square),
            "share": square / np.maximum(total[:, edges.target], np.finfo(float).tiny),
        }
        coords: dict[str, Any] = {SOURCE: ("edge", names[edges.source]), TARGET: ("edge", names[edges.target])}
        coords["state"] = np.arange(len(A))
        return xr.Dataset({name: (("state", "edge"), values) for name, values in table.items()}, coords)

    def clusters(self) -> xr.Dataset:
        """Populations that neurons belong to.

        Returns:
            ``probability`` (neuron, population); ``most_likely`` (neuron,), the number of the likeliest; ``share``
            (population,), of neurons, expected. With ``region`` of each neuron. Populations that were found have no
            order; where they are the regions, neurons belong to these.
        """
        layout = self.layout
        known = np.eye(layout.n_regions)[layout.region_of_neuron]
        table = known if self._populations.are_known else np.asarray(self.sites[MEMBERSHIP.name])
        regions = np.array(layout.regions)[layout.region_of_neuron]
        return xr.Dataset(
            {
                "probability": (("neuron", "population"), table),
                "most_likely": ("neuron", table.argmax(-1)),
                "share": ("population", table.mean(0)),
            },
            {"population": list(self.populations), "region": ("neuron", regions)},
        )

    @property
    def knows_populations(self) -> bool:
        """True if populations are the regions of the recording, and were not found."""
        return self._populations.are_known

    @property
    def _populations(self) -> Populations:
        return self.model.populations  # type: ignore[attr-defined]

    @property
    def assignment(self) -> LatentLayout:
        """Layout of latents: which neurons read which."""
        return self.model.assignment(self.layout)  # type: ignore[attr-defined]

    @property
    def _member(self) -> np.ndarray:
        """1 where a latent is of a region, (region, latent)."""
        return 1.0 * (self.assignment.region_of_within == np.arange(len(self.populations))[:, None])

    def _inside(self, given: SwitchingConditional) -> np.ndarray:
        """True for bins before a trial's end, (trial, time)."""
        data = given.data
        return np.asarray(inside(data.length, data.n_trials, data.n_bins))


def of_switching(fit: Fit) -> TypeGuard[SwitchingFit]:
    """True for fits of dynamics that switch with a hidden state."""
    return fit.has_states
