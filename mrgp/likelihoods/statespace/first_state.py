"""First states of linear dynamical systems, and the priors that go with them.

Priors are of the dynamics in the coordinates of :mod:`mrgp.likelihoods.statespace.linear`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpyro.distributions as dist
from jax import Array

from mrgp.likelihoods.statespace.linear import START_MEAN, START_ROOT, TRANSITION
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


@dataclass(frozen=True)
class Stationary(FirstState):
    """A trial begins anywhere in a process that always was."""

    def sample(self, size: int) -> dict[str, Array]:
        return {TRANSITION.name: TRANSITION.sample(UniformContraction(size))}


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
