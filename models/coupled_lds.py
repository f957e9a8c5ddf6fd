"""Coupled linear dynamics of several regions: who drives whom, in the linear case."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import permutations
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mrgp.families.fitting import Fitting
from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.families.regions_in_bins import first_system, stable_edges
from mrgp.families.scales import told_by_all
from mrgp.families.starts import smoothing
from mrgp.families.tables import Tables
from mrgp.inference.expectation_maximization.coupled_system import CoupledUpdates
from mrgp.inference.mode.anchored import Symmetry, Turning, TurningStates
from mrgp.inference.mode.edge_evidence import Relevance
from mrgp.inference.start import draw_loadings
from mrgp.inference.variational_bayes.regions_rounds import RegionUpdates
from mrgp.likelihoods.statespace.coupled import (
    COUPLING,
    DRIVE,
    FIRST_MEAN,
    FIRST_ROOT,
    GLOBAL,
    OWN,
    CoupledSpace,
    parameters_of,
)
from mrgp.likelihoods.statespace.coupled_coordinates import (
    aligned,
    ordered,
    own_blocks,
    sds_of_states,
    with_learned_start,
)
from mrgp.likelihoods.statespace.entries import Places
from mrgp.likelihoods.statespace.first_state import FirstState, Stationary
from mrgp.likelihoods.statespace.linear import memories
from mrgp.likelihoods.statespace.region_blocks import Regions
from mrgp.part import pinned
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.units import seconds
from mrgp.results.coupled_fit import CoupledFit
from mrgp.results.fit import Fit
from mrgp.runtime.sentences import Argument, Refusal

WHOLE = 1e-3  # of a bin: a lag this near to a number of bins is that number


@dataclass(frozen=True)
class CoupledLDS(GaussianProcesses):
    r"""Regions with linear dynamics of their own that drive each other: a graph of edges.

    .. math::
        x_{r,t+1} &= A_r x_{r,t} + L_r \Big( \sum_{s \to r} B_{rs} x_{s,t-l} + D_r g_t + e_{r,t} \Big), \qquad
        g_{t+1} = G g_t + q_t \\
        y_{r,t} &= C_r x_{r,t} + d_r + \epsilon_{r,t}, \qquad
        B_{rs} \sim N(0, \alpha_{rs}^{-1} I), \quad \alpha_{rs} \sim \mathrm{Gamma}(a, b)

    with e ~ N(0, I), L_r L_r' = I - A_r A_r' and q ~ N(0, I - G G'). Scale and rotation of each region's states are
    free; coordinates are those in which a region left alone has independent states of variance 1, so that A_r is any
    contraction, B_rs is measured in sds of the target's innovations by sd of the source, and one region is an ``LDS``.
    What is left, a rotation of each region, ``fit`` chooses so that A_r is block triangular, its slowest mode first.

    The precision of each edge is integrated out, which shrinks as a whole the block of an edge that is not there;
    ``fit.edges()`` gives the evidence for each edge, and an interval of its strength. **An edge is what one region
    tells of another's future beyond that one's own past**: a common input that nobody recorded looks the same unless
    ``n_global`` states can take it up.

    ``fit`` knows methods "map", "em" (closed-form updates, of values with Gaussian noise), "laplace" (draws of
    dynamics and edges) and "vb" (variational Bayes, of values with Gaussian noise, where the first state is learned).

    Sample sites: ``own_dynamics`` and ``coupling`` (state_after, state), of all regions, with A_r and B_rs as blocks;
    ``drive`` (state_after, global_state) and ``global_dynamics`` where there are global states; ``loadings`` (neuron,
    column), ``noise``, ``offset``; of a learned start also ``first_state_mean`` and ``first_state_root``.

    - ``start="stationary"``: a trial begins anywhere in the stationary process of all regions together.
    - ``start="learned"``: the first state s_0, of x, g and the past that edges need, is N(m0, S S' + 1e-6 I). Nothing
      has to be stable: A_r ~ N(0, 9), and coordinates are those in which L_r = I and q ~ N(0, I), so that B_rs is
      measured by sd of the source's innovations.

    Args:
        n_within: States of each region, one number for all or one per region.
        n_global: Global states g, which drive all regions and are read by none.
        lag: l in seconds, a whole number of bins: how much later than the next bin an edge arrives.
        absent: Edges (source, target) that are left out, such as ``(("V1", "V2"),)``.
        edge_shape, edge_rate: a and b of the precisions of edges: entries of B are near the root of b / a.
        start: Law of the first state of a trial, "stationary" or "learned".
        shared_covariance: Of counts: whether trials share a covariance of q. What such a bound loses depends on how
            far rates move, which biases edges: with log-rates of sd 1 and a count in a bin, norms were up to 30% too
            large. Where spikes are few it loses little. False, the default, takes one for each trial: a fit climbs with
            a shared one first, and from there takes some tens of evaluations, of which each costs ten times as much.
    """

    n_within: int | tuple[int, ...] = 2
    _: KW_ONLY
    n_across: int = pinned(0)
    n_global: int = 0
    lag: float = 0.0
    absent: tuple[tuple[str, str], ...] = ()
    edge_shape: float = 1.0
    edge_rate: float = 0.01
    shared_covariance: bool = False
    start: FirstState = Stationary()  # noqa: RUF009  a frozen part
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part

    gp_noise: float = pinned(1e-3)

    methods: ClassVar[tuple[str, ...]] = ("map", "em", "vb", "laplace")
    fit_class: ClassVar[type[Fit]] = CoupledFit
    is_state_space: ClassVar[bool] = True
    sizes: ClassVar[tuple[str, ...]] = ("n_within", "n_global")
    without: ClassVar[tuple[str, ...]] = ("lift", "order", "window")

    def __post_init__(self, *short: Any) -> None:
        super().__post_init__(*short)
        object.__setattr__(self, "absent", tuple((str(source), str(target)) for source, target in self.absent))
        object.__setattr__(self, "lag", float(seconds("CoupledLDS: lag", self.lag)))
        if self.n_global < 0:
            raise Refusal("CoupledLDS: ", Argument("n_global"), f" counts states, 0 or more, not {self.n_global}")
        if not 0 <= self.lag < np.inf:
            raise Refusal("CoupledLDS: ", Argument("lag"), f" is 0 s or more, not {self.lag:g}")
        for name in ("edge_shape", "edge_rate"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"CoupledLDS: {name} is a positive number, not {getattr(self, name)}")

    # ---- sizes and spaces ----------------------------------------------------------------------------------------

    def regions(self, layout: Layout) -> Regions:
        """States of each region, and the edges between them.

        Raises:
            ValueError: an absent edge is between regions that the recording does not have, or from one to itself.
        """
        names = list(layout.regions)
        if unknown := sorted({end for edge in self.absent for end in edge} - set(names)):
            known = f"{', '.join(unknown)} is no region of the recording, which has {', '.join(names)}"
            raise Refusal("CoupledLDS: ", Argument("absent"), f": {known}")
        if own := [source for source, target in self.absent if source == target]:
            none = f": there is no edge from {own[0]} to itself: its own dynamics always stay"
            raise Refusal("CoupledLDS: ", Argument("absent"), none)
        edges = [(s, t) for s, t in permutations(range(len(names)), 2) if (names[s], names[t]) not in self.absent]
        return Regions(self.assignment(layout).n_within, tuple(edges))

    def lag_in_bins(self, layout: Layout) -> int:
        """Bins of ``lag``.

        Raises:
            ValueError: it is no whole number of bins.
        """
        bins = self.lag / layout.bin_width
        if abs(bins - round(bins)) > WHOLE:
            width = f" is a whole number of bins of {1e3 * layout.bin_width:g} ms, not {1e3 * self.lag:g} ms"
            raise Refusal("CoupledLDS: ", Argument("lag"), width)
        return round(bins)

    def state_space(self, layout: Layout) -> CoupledSpace:
        return CoupledSpace(self.assignment(layout), self.lag_in_bins(layout), self.start.is_learned)

    # ---- the program ---------------------------------------------------------------------------------------------

    def __call__(self, data: MultiRegionData) -> None:
        regions, lag = self.regions(data.layout), self.lag_in_bins(data.layout)
        A = OWN.sample(self.start.own_dynamics(regions))  # A_r
        B = COUPLING.sample(self.start.edges(A, regions, self.edge_shape, self.edge_rate, lag))  # B_rs
        D, G = self.global_sites(regions)  # D_r, G
        first = self.start.of_regions(regions.n_states * (lag + 1) + self.n_global)  # m0 and S where they are learned
        readout = self.emission_sites(data)  # C_r, R, d
        dynamics = parameters_of(A, B, D, G, first)
        self.observe(data, readout, self.delay_sites(data), {}, dynamics)  # x and g integrated out

    def global_sites(self, regions: Regions) -> tuple[Array, Array]:
        """Sample what global states drive (state_after, global_state), and their dynamics."""
        shape = regions.n_states, self.n_global
        if not self.n_global:
            return jnp.zeros(shape), jnp.zeros((0, 0))
        D = DRIVE.sample(dist.Normal(0.0, 1.0).expand(shape).to_event(2))
        return D, GLOBAL.sample(self.start.global_dynamics(self.n_global))

    # ---- a fit ---------------------------------------------------------------------------------------------------

    @property
    def tables(self) -> Tables:
        return Tables(self, timescales_of_modes)

    @property
    def fitting(self) -> Fitting[Self]:
        return Fitting(self, draw_system, scales_of_system, told_by_all, with_own_edges, from_settled)

    @property
    def updates(self) -> CoupledUpdates:
        prior = Relevance(self.edge_shape, self.edge_rate)
        return CoupledUpdates(
            self.state_space, self.regions, self.n_global, prior, self.emission, self.start.is_learned
        )

    @property
    def posterior_updates(self) -> RegionUpdates:
        prior = Relevance(self.edge_shape, self.edge_rate)
        return RegionUpdates(self.regions, self.lag_in_bins, self.n_global, prior)

    def canonical(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]:
        return ordered(sites, self.assignment(layout))

    @property
    def symmetry(self) -> Symmetry:
        def turned(draws: Mapping[str, Any], layout: Layout, reference: Mapping[str, Any]) -> dict[str, np.ndarray]:
            return aligned(draws, self.assignment(layout), reference, np.asarray(self.emission.noise_of(reference)))

        return Symmetry(turned, self._turning)

    def _turning(self, layout: Layout) -> TurningStates:
        assignment = self.assignment(layout)
        neurons = Turning(LOADINGS.name, tuple(assignment.region_of_neuron.tolist()), assignment.n_within)
        driven = Turning(DRIVE.name, (0,) * sum(assignment.n_within), (self.n_global,))
        sites = (OWN, COUPLING, DRIVE, GLOBAL) if self.n_global else (OWN, COUPLING)
        return TurningStates((neurons, driven) if self.n_global else (neurons,), tuple(site.name for site in sites))


def draw_system(
    model: CoupledLDS, rng: np.random.Generator, data: MultiRegionData, attempt: int
) -> dict[str, np.ndarray]:
    """Draw a start from factor scores of slow signals, and a regression on their past."""
    layout = data.layout
    assignment, regions = model.assignment(layout), model.regions(layout)
    columns = draw_loadings(rng, data, 0, assignment.n_within, smoothing(attempt))
    system, change = first_system(data, columns, assignment, regions, model.lag_in_bins(layout))
    sites = {OWN.name: system.own, COUPLING.name: system.coupling}
    if model.n_global:
        sites |= {DRIVE.name: system.driven_by(model.n_global, rng), GLOBAL.name: 0.5 * np.eye(model.n_global)}
    emission = {NOISE.name: np.ones(layout.total_neurons), OFFSET.name: np.asarray(data.center)}
    return {**sites, **emission, LOADINGS.name: change}


def from_settled[M: CoupledLDS](model: M) -> M:
    """Model for the search for a start: that of a stationary one, whose coordinates are rounder."""
    return model.replace(start=Stationary())


def with_own_edges(model: CoupledLDS, data: MultiRegionData, sites: dict[str, Any]) -> dict[str, Any]:
    """Take the edges that the model has from sites of another fit.

    They are shrunk to where regions are stable together, unless they need not be.
    """
    if not {OWN.name, COUPLING.name} <= sites.keys():
        return sites
    own, coupling = (np.asarray(sites[name]) for name in (OWN.name, COUPLING.name))
    regions = model.regions(data.layout)
    if own.shape != (regions.n_states,) * 2:
        return sites  # of other latents, which are refused
    kept, lag = np.where(regions.coupled, coupling, 0.0), model.lag_in_bins(data.layout)
    if FIRST_MEAN.name in sites:
        return {**sites, COUPLING.name: kept}
    stable = {**sites, COUPLING.name: stable_edges(own, kept, lag)}
    return with_learned_start(stable, model.assignment(data.layout), lag) if model.start.is_learned else stable


def scales_of_system(model: CoupledLDS, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Approximate posterior sd of the dynamics, in unconstrained coordinates."""
    bins = data.n_trials * data.n_bins
    names = (OWN.name, COUPLING.name, DRIVE.name, GLOBAL.name)
    if not model.start.is_learned:
        return dict.fromkeys(names, np.asarray(1 / np.sqrt(bins)))
    # Weights of states that vary more are known better.
    assignment, regions, lag = model.assignment(data.layout), model.regions(data.layout), model.lag_in_bins(data.layout)
    wide = sds_of_states(sites, assignment, lag)
    n = regions.n_states
    of_state = 1 / (np.sqrt(bins) * wide)
    each = {OWN.name: regions.own_entries, COUPLING.name: regions.edge_entries}
    scales = {name: of_state[list(places.columns)] for name, places in each.items()}
    scales |= dict.fromkeys((DRIVE.name, GLOBAL.name), of_state[n : n + model.n_global])
    first = wide / np.sqrt(data.n_trials)
    scales |= {FIRST_MEAN.name: first, FIRST_ROOT.name: first[list(Places.lower(len(wide)).rows)]}
    columns = wide[assignment.readout_of_column][assignment.region_of_neuron]
    noise = np.sqrt(np.asarray(model.emission.noise_of(sites)) / bins)
    return scales | {LOADINGS.name: noise[:, None] / columns}


def timescales_of_modes(model: CoupledLDS, sites: Mapping[str, Any], kind: str, layout: Layout) -> np.ndarray:
    """Timescales -1 / log|eigenvalue| of each region's own modes in seconds.

    The longest comes first.
    """
    if kind == "across":
        return np.zeros(0)
    blocks = own_blocks(sites, model.assignment(layout))
    return layout.bin_width * np.concatenate([memories(block) for block in blocks])
