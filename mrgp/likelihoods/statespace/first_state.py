"""First states of linear dynamical systems, and the priors that go with them.

Priors are of the dynamics in the coordinates of :mod:`mrgp.likelihoods.statespace.linear`, or of
:mod:`mrgp.likelihoods.statespace.coupled` where there are regions.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpyro.distributions as dist
from jax import Array

from mrgp.likelihoods.statespace.coupled import FIRST_MEAN, FIRST_ROOT
from mrgp.likelihoods.statespace.entries import Places
from mrgp.likelihoods.statespace.linear import START_MEAN, START_ROOT, TRANSITION
from mrgp.likelihoods.statespace.region_blocks import Regions
from mrgp.likelihoods.statespace.region_priors import RegionContractions, RelevantEdges, WeakEntries
from mrgp.likelihoods.statespace.stable_matrices import UniformContraction
from mrgp.part import Part

SPREAD = 3.0  # prior sd of the entries of A, in units of one step's noise: a mode that doubles in a bin has 2
START_SPREAD = 30.0  # the same of the first state: a mode of timescale 2000 bins has this sd


class FirstState(Part, family="start", tag="name", short=True):
    """Law of the first state of a trial.

    Attributes:
        is_learned: Whether it has parameters of its own.
    """

    is_learned: ClassVar[bool] = False

    def sample(self, size: int) -> dict[str, Array]:
        """Sample the dynamics of ``size`` states; called inside a NumPyro program."""
        raise NotImplementedError

    def own_dynamics(self, regions: Regions) -> dist.Distribution:
        """Prior of each region's own dynamics, (state_after, state)."""
        raise NotImplementedError

    def edges(self, own: Array, regions: Regions, shape: float, rate: float, lag: int) -> RelevantEdges:
        """Prior of the blocks of edges, (state_after, state)."""
        raise NotImplementedError

    def global_dynamics(self, size: int) -> dist.Distribution:
        """Prior of the dynamics of states that nobody reads, (global_after, global_state)."""
        raise NotImplementedError

    def of_regions(self, size: int) -> dict[str, Array]:
        """Sample the law of the first state of all regions, of ``size`` numbers.

        The past that edges need is in it; {} if it has no parameters. Called inside a NumPyro program.
        """
        return {}


@dataclass(frozen=True)
class Stationary(FirstState):
    """A trial begins anywhere in a process that always was."""

    def sample(self, size: int) -> dict[str, Array]:
        return {TRANSITION.name: TRANSITION.sample(UniformContraction(size))}

    def own_dynamics(self, regions: Regions) -> dist.Distribution:
        return RegionContractions(regions)

    def edges(self, own: Array, regions: Regions, shape: float, rate: float, lag: int) -> RelevantEdges:
        return RelevantEdges(own, regions, shape, rate, lag)

    def global_dynamics(self, size: int) -> dist.Distribution:
        return UniformContraction(size)


@dataclass(frozen=True)
class Learned(FirstState):
    """The first state has a mean and a covariance of its own."""

    is_learned: ClassVar[bool] = True

    def sample(self, size: int) -> dict[str, Array]:
        weak = dist.Normal(0.0, START_SPREAD)
        return {
            TRANSITION.name: TRANSITION.sample(dist.Normal(0.0, SPREAD).expand((size, size)).to_event(2)),
            START_MEAN.name: START_MEAN.sample(weak.expand((size,)).to_event(1)),
            START_ROOT.name: START_ROOT.sample(weak.expand((size, size)).to_event(2)),
        }

    def own_dynamics(self, regions: Regions) -> dist.Distribution:
        return WeakEntries(regions.own_entries, SPREAD)

    def edges(self, own: Array, regions: Regions, shape: float, rate: float, lag: int) -> RelevantEdges:
        return RelevantEdges(None, regions, shape, rate, lag)

    def global_dynamics(self, size: int) -> dist.Distribution:
        return dist.Normal(0.0, SPREAD).expand((size, size)).to_event(2)

    def of_regions(self, size: int) -> dict[str, Array]:
        return {
            FIRST_MEAN.name: FIRST_MEAN.sample(dist.Normal(0.0, START_SPREAD).expand((size,)).to_event(1)),
            FIRST_ROOT.name: FIRST_ROOT.sample(WeakEntries(Places.lower(size), START_SPREAD)),
        }
