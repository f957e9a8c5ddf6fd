"""Likelihoods: ways to integrate latents out of log p(y)."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from jax import Array

from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.dense import DenseGP
from mrgp.likelihoods.kalman import MarkovGP
from mrgp.likelihoods.spectral import SpectralGP
from mrgp.likelihoods.statespace.assemble import Prior, Space
from mrgp.part import Part
from mrgp.parts.emissions import Emission
from mrgp.parts.kernels import Hyperparameters
from mrgp.recordings.layout import Layout
from mrgp.runtime.sentences import MARKOV, Sentence


class Parameters(NamedTuple):
    """Parameters of :class:`mrgp.likelihoods.base.DelayedGP`, in its order."""

    loadings: Array
    noise: Array
    offset: Array
    delay: Array
    across: Hyperparameters
    within: Hyperparameters


class Represented(Protocol):
    """Model whose latents a likelihood represents."""

    @property
    def parallel(self) -> bool | None: ...
    @property
    def transient(self) -> int | None: ...
    def prior(self, layout: Layout) -> Prior: ...
    def state_space(self, layout: Layout) -> Space: ...


class Likelihood(Part, family="likelihood", tag="name", short=True):
    """Representation of the latents under which log p(y) is computed."""

    is_statespace: ClassVar[bool] = False  # latents are states, which have registers and gains, and can be smoothed
    is_spectral: ClassVar[bool] = False  # latents are sums of frequencies, independent of each other

    def objection(self, emission: Emission) -> Sentence | None:
        """Reason why the likelihood has no density of an emission, or None."""
        return None

    def distribution(
        self, model: Represented, layout: Layout, parameters: Parameters, common: dict[str, Any]
    ) -> DelayedGP:
        """Distribution of a recording's trials; ``common`` are arguments that all likelihoods take."""
        raise NotImplementedError


@dataclass(frozen=True)
class Kalman(Likelihood):
    """A Kalman filter over a state space, O(time): the default."""

    known_as: ClassVar[str] = "markov"
    is_statespace: ClassVar[bool] = True

    def distribution(
        self, model: Represented, layout: Layout, parameters: Parameters, common: dict[str, Any]
    ) -> DelayedGP:
        space = model.state_space(layout)
        return MarkovGP(*parameters, space=space, parallel=model.parallel, transient=model.transient, **common)


@dataclass(frozen=True)
class Dense(Likelihood):
    """The exact Gaussian process, O(time^3): for short trials, and the reference of the others."""

    def distribution(
        self, model: Represented, layout: Layout, parameters: Parameters, common: dict[str, Any]
    ) -> DelayedGP:
        return DenseGP(*parameters, prior=model.prior(layout), **common)


@dataclass(frozen=True)
class Spectral(Likelihood):
    """Frequencies one by one, as if trials were periodic: fast and approximate."""

    is_spectral: ClassVar[bool] = True

    def objection(self, emission: Emission) -> Sentence | None:
        if not emission.is_of_counts:
            return None
        return "counts have no spectral likelihood: use ", MARKOV, ", or the dense one"

    def distribution(
        self, model: Represented, layout: Layout, parameters: Parameters, common: dict[str, Any]
    ) -> DelayedGP:
        return SpectralGP(*parameters, prior=model.prior(layout), **common)
