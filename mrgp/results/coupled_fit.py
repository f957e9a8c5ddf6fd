"""Fits of coupled regions: who drives whom, how far, and how sure that is."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array
from scipy.linalg import solve_discrete_lyapunov

from mrgp.inference.mode.anchored import standing
from mrgp.inference.mode.curvature import profile_curvature
from mrgp.inference.mode.edge_evidence import EdgePosterior, Relevance, Told, edge_posteriors, precision_of
from mrgp.inference.optimise import Objective
from mrgp.inference.variational_bayes.regions_evidence import edges_in_bound
from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.kalman import MarkovGP, Posterior
from mrgp.likelihoods.statespace.coupled import COUPLING, OWN, system_at
from mrgp.likelihoods.statespace.coupled_coordinates import innovation_root, settled_coordinates
from mrgp.likelihoods.statespace.region_blocks import Regions
from mrgp.parts.communication import SOURCE, TARGET
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.readout import LOADINGS
from mrgp.recordings.checks import warn
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit
from mrgp.results.fitted import FittedProcesses
from mrgp.results.gaussian_process_fit import GaussianProcessFit
from mrgp.results.uncertainty import is_of_others
from mrgp.runtime.display import Rows
from mrgp.runtime.workers import TRACING

N_DRAWS = 4000  # of each norm: the error of a 5% quantile is a twentieth of an sd


class FittedRegions(FittedProcesses, Protocol):
    """Interface that results need of a model of coupled regions."""

    edge_shape: float
    edge_rate: float

    def regions(self, layout: Layout) -> Regions: ...
    def lag_in_bins(self, layout: Layout) -> int: ...


@dataclass(kw_only=True, eq=False, repr=False)
class CoupledFit(GaussianProcessFit):
    """Fit of regions that drive each other.

    **Communication is inferred, not seen.** An edge is what one region tells of another's future beyond that one's own
    past. A common input that nobody recorded, stimuli that both regions follow, and drift look the same: compare with a
    fit to trials that are shuffled within condition in one region (:func:`mrgp.shuffled_within`), which has all of
    these, and no communication.
    """

    model: FittedRegions  # type: ignore[assignment]

    @property
    def is_coupled(self) -> bool:
        """True: regions may drive each other."""
        return True

    def edges(
        self, probability: float = 0.9, data: MultiRegionData | None = None, seed: int = 0, progress: bool = False
    ) -> xr.Dataset:
        """Table of the edges, with the evidence for each.

        Returns:
            Over ``edge``: ``norm``, |B| of its block at the maximum, and of its posterior ``lower`` and ``upper``, an
            equal-tailed interval that begins at 0 where there may be no edge; ``log_bayes_factor`` of the edge against
            none in nats, and ``probability``, if the edge was as likely as not beforehand; ``effect``, how far the
            source moves the states of the target in a bin (root mean square), these having variance 1 where the target
            is left alone; ``share`` of the variance of the target's signals that comes through the edge; ``delay`` in
            seconds, beyond the one bin that an edge always takes. Coordinates ``source_of_edge`` and
            ``target_of_edge``. Evidence and intervals are those of :mod:`mrgp.inference.mode.edge_evidence`, from the
            curvature at the maximum. After method "vb" it is that of the bound, all other means profiled out: q itself
            takes states and edges for independent and would be too sure. Where the first state is learned, norms are in
            sds of the target's innovations by sd of the source's, and ``effect`` and ``share`` are NaN if the dynamics
            that were found do not settle. All that is told by evidence is NaN, with a warning, where the fit has
            not come to a maximum.

        Raises:
            ValueError: ``probability`` is not between 0 and 1, or ``data`` are other trials than the fit was made from.
        """
        if not 0 < probability < 1:
            raise ValueError(f"probability is between 0 and 1, not {probability}")
        found = self._posteriors(data, seed, progress)
        ends = [0.5 - probability / 2, 0.5 + probability / 2]
        bounds = np.array([np.quantile(one.norms, ends) for one in found]).reshape(-1, 2)
        regions = self.model.regions(self.layout)
        table = {
            "norm": np.sqrt(np.asarray(regions.squares(jnp.asarray(self.sites[COUPLING.name])))),
            "lower": bounds[:, 0],
            "upper": bounds[:, 1],
            "log_bayes_factor": np.array([one.log_bayes_factor for one in found]),
            "probability": np.array([one.probability for one in found]),
            "effect": self._effects(),
            "share": self.shares().values,
            DELAY.name: np.full(len(found), self.model.lag_in_bins(self.layout) * self.layout.bin_width),
        }
        arrays = {name: ("edge", values) for name, values in table.items()}
        edges = xr.Dataset(arrays, self._edge_coords(), {"interval": probability})
        edges[DELAY.name].attrs["units"] = "s"
        return edges

    def effectome(self) -> xr.DataArray:
        """Table of who moves whom, (source, target).

        It has the ``effect`` of :meth:`edges`, 0 where there is no edge.
        """
        names, edges = list(self.layout.regions), self.model.regions(self.layout).edges
        table = np.zeros((len(names), len(names)))
        for (source, target), effect in zip(edges, self._effects(), strict=True):
            table[source, target] = effect
        return xr.DataArray(table, {"source": names, "target": names}, ("source", "target"), "effect")

    def messages(self, data: MultiRegionData | None = None) -> xr.Dataset:
        """Messages as they arrive: posterior ``mean`` and ``sd``, (trial, time, edge, message).

        They are what an edge adds to each of its target's states in a bin. Those of the first bins left their source
        before the trial, and are as they are a priori: 0, with the sd of all messages of the edge. Edges have the
        coordinates ``source_of_edge`` and ``target_of_edge``.
        """
        recording = self.recording(data)
        with TRACING:
            posterior = _smoothed(self.conditional(recording).states, jnp.asarray(recording.values))
        late = self.model.lag_in_bins(self.layout) + 1
        _, _, P = self._system
        inputs, widest = self._inputs(), max(self.assignment.n_within)
        n, back = len(self.sites[OWN.name]), np.linalg.inv(self._settled[1])
        x = np.asarray(posterior.state_mean)[..., :n] @ back.T
        V = back @ np.asarray(posterior.state_covariance)[..., :n, :n] @ back.T
        shape = (x.shape[1], x.shape[0], len(inputs), widest)
        mean, variance = np.zeros(shape), np.zeros(shape)
        for edge, (_, source, F) in enumerate(inputs):
            told = np.einsum("ij,tgjk,ik->gti", F, V[..., source, source], F)[np.asarray(posterior.pattern)]
            own = slice(0, len(F))
            mean[:, late:, edge, own] = (x[..., source] @ F.T).swapaxes(0, 1)[:, :-late]
            variance[:, late:, edge, own] = told[:, :-late]
            variance[:, :late, edge, own] = np.diag(F @ P[source, source] @ F.T)
        time = recording.layout.time_axis(recording.n_bins)
        coords = {"trial": np.arange(shape[0]), "time": time, **self._edge_coords()}
        dims = "trial", "time", "edge", "message"
        return xr.Dataset({"mean": (dims, mean), "sd": (dims, np.sqrt(variance))}, coords)

    def shares(self) -> xr.DataArray:
        """Share of the variance of the target's signals that comes through each edge, (edge,).

        z is what the target's own dynamics make of the edge's input alone, z' = A z + F x_s: its variance over that of
        the target's states, both as the target's neurons read them. Shares need not add up to less than 1, and one
        alone may be above it: where edges work against each other, as where regions follow one slow input.
        """
        lag = self.model.lag_in_bins(self.layout)
        A, Q, P = self._system
        own = np.asarray(self._settled[0][OWN.name])
        noise = np.asarray(self.model.emission.noise_of(self.sites))
        n, size = len(own), len(A)
        first = 0 if lag == 0 else size - n  # where the states are from which edges start
        shares = []
        for (_, region), (target, source, F) in zip(self.model.regions(self.layout).edges, self._inputs(), strict=True):
            count = target.stop - target.start
            both = np.zeros((size + count, size + count))
            both[:size, :size], both[size:, size:] = A, own[target, target]
            both[size:, first + source.start : first + source.stop] = F
            if not np.isfinite(P).all():
                shares.append(np.nan)
                continue
            through = solve_discrete_lyapunov(both, np.pad(Q, (0, count)))[size:, size:]
            read = self._read_by(region, noise)
            whole = np.trace(read @ P[target, target])
            shares.append(np.trace(read @ through) / whole if whole > 0 else np.nan)
        return xr.DataArray(np.array(shares), self._edge_coords(), ("edge",), "share")

    def state_covariance(self, region: str) -> np.ndarray:
        """Covariance of a region's states at one time, a priori, (state, state)."""
        own = Regions(self.assignment.n_within).slices[self.layout.regions.index(region)]
        _, _, P = self._system
        T = self._settled[1][own, own]
        return T @ P[own, own] @ T.T

    def tables(self, bounds: xr.Dataset | None = None, truth: xr.DataArray | None = None) -> list[Rows]:
        """Tables of timescales and of edges, as rows of text.

        Evidence is asked for by :meth:`edges`.
        """
        rows = [
            {"region": source, "region driven": target, "effect": f"{effect:.2f}", "% of its variance": f"{share:.1f}"}
            for source, target, effect, share in self._told(100.0)
        ]
        return [*super().tables(bounds, truth), *([rows] if rows else [])]

    def summary(self) -> dict[str, Any]:
        names = (SOURCE, TARGET, "effect", "share")
        return super().summary() | {"edges": [dict(zip(names, edge, strict=True)) for edge in self._told(1.0)]}

    def _told(self, unit: float) -> list[tuple[str, str, float, float]]:
        """Source, target, effect and share in units of 1 / ``unit`` of every edge."""
        share = self.shares()
        ends = zip(share[SOURCE].values.tolist(), share[TARGET].values.tolist(), strict=True)
        numbers = zip(self._effects().tolist(), (unit * share.values).tolist(), strict=True)
        return [(*pair, *two) for pair, two in zip(ends, numbers, strict=True)]

    # ---- numbers of edges ----------------------------------------------------------------------------------------

    @cached_property
    def _settled(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Sites in coordinates of a stationary start, and T of x = T z.

        They are no numbers where a region does not settle.
        """
        try:
            return settled_coordinates(self.sites, self.assignment)
        except np.linalg.LinAlgError:
            nothing = {name: np.full(np.shape(value), np.nan) for name, value in self.sites.items()}
            return nothing, np.eye(len(self.sites[OWN.name]))

    @cached_property
    def _system(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Transition, process noise and stationary covariance in these coordinates.

        The last is no number if the regions together do not settle.
        """
        A, Q, P = system_at(self._settled[0], self.model.lag_in_bins(self.layout))
        settles = np.isfinite(A).all() and np.abs(np.linalg.eigvals(A)).max(initial=0.0) < 1
        return A, Q, P if settles else np.full_like(P, np.nan)

    def _posteriors(self, data: MultiRegionData | None, seed: int, progress: bool) -> list[EdgePosterior]:
        model, regions = self.model, self.model.regions(self.layout)
        if not regions.edges:
            return []
        if COUPLING.name in self.fixed:
            raise ValueError(f"{COUPLING.name} was fixed: there is nothing to be said of edges")
        if is_of_others(self, data):
            raise ValueError(
                "evidence for edges is told around the maximum, which is of the recording that the fit was made from: "
                "leave data out, or fit the other recording"
            )
        number = regions.edge_of_entry[regions.coupled]
        entries = [np.flatnonzero(number == edge) for edge in range(len(regions.edges))]
        prior = Relevance(model.edge_shape, model.edge_rate)
        try:
            if self.loadings_covariance is None:
                told = self._at_maximum(self.recording(data), entries, prior, progress)
            else:
                with TRACING:
                    told = edges_in_bound(model, self.recording(data), self.sites, entries, prior, progress)
        except FloatingPointError as problem:
            warn(str(problem))
            return [EdgePosterior(np.nan, np.full(N_DRAWS, np.nan)) for _ in entries]
        return edge_posteriors(told, entries, prior, N_DRAWS, seed)

    def _at_maximum(
        self, data: MultiRegionData, entries: list[np.ndarray], prior: Relevance, progress: bool
    ) -> Told:
        """Likelihood of edges from the curvature at the maximum."""
        model, sites = self.model, self.sites
        size, curvature = sum(map(len, entries)), self.saved_curvature
        if curvature is None or curvature.names[:1] != (COUPLING.name,):
            density, _, held, _ = standing(model, self.layout, sites)
            frozen = (*sorted({*self.fixed, *model.held}), *held)
            with TRACING:
                objective = Objective(density, data, {**sites, **held}, model.fitting.scales(data, sites), frozen)
                curvature = profile_curvature(objective, [COUPLING.name], progress, most_solved=size)
        precision = precision_of(curvature, size)  # other sites of a posterior come after
        return Told.at_maximum(curvature.mean[:size], precision, entries, [prior] * len(entries))

    def _inputs(self) -> list[tuple[slice, slice, np.ndarray]]:
        """Target's states, source's states, and what takes them there in a bin, for each edge."""
        regions, sites = self.model.regions(self.layout), self._settled[0]
        moved = innovation_root(np.asarray(sites[OWN.name])) @ np.asarray(sites[COUPLING.name])
        parts = regions.slices
        return [(parts[t], parts[s], moved[parts[t], parts[s]]) for s, t in regions.edges]

    def _effects(self) -> np.ndarray:
        """Root mean square of what each edge adds to its target's states in a bin, (edge,)."""
        _, _, P = self._system
        return np.array([np.sqrt(np.trace(F @ P[s, s] @ F.T)) for _, s, F in self._inputs()])

    def _read_by(self, region: int, noise: np.ndarray) -> np.ndarray:
        """C' R^-1 C of the neurons that read the states of a region, (state, state)."""
        neurons = self.assignment.region_of_neuron == region
        C = np.asarray(self._settled[0][LOADINGS.name])[neurons, : self.assignment.n_within[region]]
        return C.T @ (C / noise[neurons, None])

    def _edge_coords(self) -> dict[str, Any]:
        edges, names = self.model.regions(self.layout).edges, np.array(self.layout.regions)
        ends = np.array(edges, int).reshape(-1, 2)
        return {SOURCE: ("edge", names[ends[:, 0]]), TARGET: ("edge", names[ends[:, 1]])}


@jax.jit
def _smoothed(states: MarkovGP | CountGP, values: Array) -> Posterior:
    return states.posterior(values)


def of_coupled(fit: Fit) -> TypeGuard[CoupledFit]:
    """True for fits of regions that may drive each other."""
    return fit.is_coupled
