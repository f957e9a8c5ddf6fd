"""Processes that begin at a place of their own, and the same about a mean of 0."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array

from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout
from mrgp.likelihoods.recursions.whole import Alike
from mrgp.likelihoods.statespace.assemble import Latents, SignalReader, Space
from mrgp.likelihoods.statespace.readout import Window


class Start(NamedTuple):
    """Prior moments at every time.

    Attributes:
        mean: Of states, (time, state).
        covariance: Of readouts, (time, readout, readout).
    """

    mean: Array
    covariance: Array


def prior_moments(dynamics: Dynamics, readout: StateReadout, n_bins: int) -> Start:
    """Compute the moments of states and readouts before anything is measured."""
    A, Q, P, first, _ = dynamics
    mean = jnp.zeros(len(A), A.dtype) if first is None else first

    def step(now: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        mean, covariance = now
        return (A @ mean, A @ covariance @ A.T + Q), now

    _, (means, covariances) = jax.lax.scan(step, (mean, P), None, length=n_bins)
    W = readout.weights
    return Start(means, W @ covariances @ jnp.swapaxes(W, -1, -2) + jax.vmap(jnp.diag)(readout.noise))


@dataclass(frozen=True)
class AboutZero:
    """State space ``space`` with a first state of mean 0."""

    space: Space

    is_standard: ClassVar[bool] = False

    @property
    def remembers(self) -> bool:
        return self.space.remembers

    @property
    def is_stationary(self) -> bool:
        """True if the process about its mean is."""
        return self.space.is_stationary

    @property
    def kinds(self) -> tuple[Alike, ...]:
        """States and readouts of independent latents; () if all are one process."""
        return self.space.kinds

    @property
    def prior(self) -> Any:
        """Prior that the state space represents."""
        return self.space.prior

    @property
    def window(self) -> Window:
        """Bins per step, and registers."""
        return self.space.window

    def for_reading(self) -> Self:
        """Copy with latents that can be read between bins."""
        return type(self)(self.space.for_reading())

    def assemble(self, latents: Latents) -> tuple[Dynamics, StateReadout]:
        """Build the dynamics, and the weights that read readouts from states."""
        dynamics, readout = self.space.assemble(latents)
        return dynamics._replace(mean=None), readout

    def signal_reader(self, latents: Latents, kind: str, refine: int) -> SignalReader:
        """Weights that read the latents of one kind from the state."""
        return self.space.signal_reader(latents, kind, refine)
