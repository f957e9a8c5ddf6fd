"""Linear dynamical system (Shumway & Stoffer 1982; Ghahramani & Hinton 1996).

Shumway & Stoffer 1982, J. Time Ser. Anal. 3, 253-264.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from mrgp.families.fitting import Fitting
from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.families.scales import told_by_all
from mrgp.families.starts import smoothing
from mrgp.families.tables import Tables
from mrgp.inference.expectation_maximization.free_system import FreeUpdates
from mrgp.inference.start import draw_loadings
from mrgp.likelihoods.statespace.first_state import FirstState, Stationary
from mrgp.likelihoods.statespace.linear import (
    START_MEAN,
    START_ROOT,
    TRANSITION,
    LinearSpace,
    LinearSystem,
    first_order,
    memories,
    rotated,
    slowest_first,
)
from mrgp.part import pinned
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

TRANSITION_SCALE = 1.0  # posterior sd of A's free coordinates times sqrt(bins), to start with; L-BFGS finds the rest


@dataclass(frozen=True)
class LDS(GaussianProcesses):
    r"""Latents that drive each other, shared by all neurons, without kernel and delay.

    There are ``n_across`` of them.

    .. math::
        s_{t+1} = A s_t + q_t, \quad q \sim N(0, Q), \qquad y_t = C s_t + d + e_t, \quad e \sim N(0, \mathrm{diag}\, R)

    (Ghahramani & Hinton, eqs. 1-2). Regions are one population here. Scale and rotation of the states are free, so
    coordinates are fixed:

    - ``start="stationary"``: a trial begins anywhere in a process that always was, s_0 ~ N(0, P), P = A P A' + Q.
      Coordinates make P = I, so Q = I - A A' and ``transition`` A is any matrix of singular values below 1.
    - ``start="learned"``: s_0 ~ N(m0, S S' + 1e-6 I). Coordinates make Q = I; ``transition`` is any matrix, modes
      that grow included. Sites ``start_mean`` m0 (across_latent,), ``start_root`` S (across_latent, across_latent).

    What is left, a rotation, ``fit`` chooses so that A is block triangular, its slowest mode first.
    Sample sites: ``transition`` (across_latent, across_latent), per bin; ``loadings`` (neuron, column), ``noise``,
    ``offset``. Timescales are those of the modes of A. Its entries have no posterior of their own, since they turn with
    the coordinates of the states. ``fit`` knows method "map" and "em" (closed-form updates, of values with Gaussian
    noise). Of counts the states drive log-rates (Macke et al. 2011), whose mean before anything is seen, exp(C A^t m0),
    must be a number: a mode may grow, but not a thousandfold within a trial.
    """

    start: FirstState = Stationary()  # noqa: RUF009  a frozen part
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part

    gp_noise: float = pinned(1e-3)

    methods: ClassVar[tuple[str, ...]] = ("map", "em")
    pools_regions: ClassVar[bool] = True
    is_state_space: ClassVar[bool] = True
    without: ClassVar[tuple[str, ...]] = ("lift", "order", "window")

    def state_space(self, layout: Layout) -> LinearSpace:
        return LinearSpace(self.assignment(layout), self.start.is_learned)

    def __call__(self, data: MultiRegionData) -> None:
        dynamics = self.start.sample(self.n_across)  # A, and m0 and S where they are learned
        readout = self.emission_sites(data)  # C, R, d
        self.observe(data, readout, self.delay_sites(data), dynamics, {})

    @property
    def tables(self) -> Tables:
        return Tables(self, timescales_of_modes)

    @property
    def fitting(self) -> Fitting[Self]:
        return Fitting(self, draw_system, scales_of_system, told_by_all)

    @property
    def updates(self) -> FreeUpdates:
        return FreeUpdates(self.state_space)

    def canonical(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]:
        return rotated(sites, slowest_first(np.asarray(sites[TRANSITION.name])))


# ---- what a fit asks of it -------------------------------------------------------------------------------------------


def draw_system(model: LDS, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> dict[str, np.ndarray]:
    """Draw a start from factor scores of slow signals and their regression on the bin before."""
    width = smoothing(attempt)
    loadings = draw_loadings(rng, data, model.n_across, (0,), width)
    precision = loadings.T @ loadings + np.eye(model.n_across)  # pseudo-neurons have unit noise
    scores = (data.floats - data.center) @ np.linalg.solve(precision, loadings.T).T
    A, T = first_order(scores)
    system = LinearSystem(A, np.eye(len(A)) - A @ A.T, np.zeros(len(A)), np.eye(len(A)))
    dynamics, change = model.state_space(data.layout).normalised(system)
    emission = {NOISE.name: np.ones(data.layout.total_neurons), OFFSET.name: np.asarray(data.center)}
    return {**dynamics, **emission, LOADINGS.name: loadings @ T @ change}


def scales_of_system(model: LDS, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Approximate posterior sd of the entries of A and of the first state."""
    start = np.asarray(1 / np.sqrt(data.n_trials))
    transition = np.asarray(TRANSITION_SCALE / np.sqrt(data.n_trials * data.n_bins))
    return {TRANSITION.name: transition, START_MEAN.name: start, START_ROOT.name: start}


def timescales_of_modes(model: LDS, sites: Mapping[str, Any], kind: str, layout: Layout) -> np.ndarray:
    """Timescales -1 / log|eigenvalue| of the modes of A in seconds, longest first.

    They are inf for modes that grow.
    """
    if kind == "within":
        return np.zeros(0)
    return layout.bin_width * memories(np.asarray(sites[TRANSITION.name]))
