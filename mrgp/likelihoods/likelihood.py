"""Likelihoods: ways to integrate latents out of log p(y)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
from jax import Array

from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.dense import DenseGP
from mrgp.likelihoods.kalman import MarkovGP
from mrgp.likelihoods.spectral import SpectralGP
from mrgp.likelihoods.statespace.assemble import Prior, Space, StateSpace
from mrgp.likelihoods.statespace.autoregressive import AutoregressiveSpace
from mrgp.likelihoods.statespace.lift import DEFAULT_ORDER, Lift, build_lift
from mrgp.likelihoods.statespace.readout import Window
from mrgp.likelihoods.statespace.registers import choose_window, missed_variance
from mrgp.part import Part
from mrgp.parts.emissions import Emission
from mrgp.parts.kernels import Hyperparameters
from mrgp.recordings.layout import Layout
from mrgp.runtime.sentences import AR1, MARKOV, Sentence

SHORTEST_READ = 0.7  # bins: registers are not refined for latents so fast that every window sees them as white
NARROW_MISSED = 0.01  # of the GP noise: what narrow windows may miss. With all of it 64 nats were off on the benchmark
# recording of five regions, with this 0.2, as with the wide window
WHITE_ALONE: Sentence = (
    AR1, " is for likelihood 'markov' with lift 'readout' and one bin per step, or 'dense'",
)  # fmt: skip
BY_REGION: Sentence = ("no likelihood integrates latents out where regions have emissions of their own: use GPVAE",)
COUNTS_OTHERWISE: Sentence = "counts have no spectral likelihood: use ", MARKOV, ", or the dense one"
EARLIER = ("transient",)  # settings of earlier versions, of which nothing is left to choose
LIFTS = {"readout": True, "ar": False}  # and whether they read latents between bins


class Parameters(NamedTuple):
    """Parameters of :class:`mrgp.likelihoods.base.DelayedGP`, in its order."""

    loadings: Array
    noise: Array
    offset: Array
    delay: Array
    across: Hyperparameters
    within: Hyperparameters


class FittedLatents(NamedTuple):
    """Latents with their parameters in bins: what a representation is made for.

    Attributes:
        prior: Of the readouts.
        across, within: Kernel parameters, each (latent,).
        delay: Where latents are read, (region, across_latent), or (region, across_latent, time).
        bound: Of |delay|.
        autocorrelated: Whether noise is, so that the bin before is read as well.
        share: Share of the GP noise that a representation may miss.
    """

    prior: Prior
    across: Mapping[str, np.ndarray]
    within: Mapping[str, np.ndarray]
    delay: np.ndarray
    bound: float
    autocorrelated: bool = False
    share: float = 1.0

    def read(self, margin: float = 1.0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Kernel parameters with timescales ``margin`` times as long, and none too short to be read."""
        shortened = (
            {**hyper, "timescale": np.maximum(margin * np.asarray(hyper["timescale"]), SHORTEST_READ)}
            for hyper in (self.across, self.within)
        )
        return next(shortened), next(shortened)


class Represented(Protocol):
    """Model whose latents a likelihood represents."""

    def prior(self, layout: Layout) -> Prior: ...
    def state_space(self, layout: Layout) -> Space: ...


class Likelihood(Part, family="likelihood", tag="name", short=True):
    """Representation of the latents under which log p(y) is computed.

    Attributes:
        is_statespace: Whether latents are states, which have registers and gains, and can be smoothed.
        is_spectral: Whether latents are sums of frequencies, independent of each other.
        registers: Of the states, once they are chosen.
    """

    is_statespace: ClassVar[bool] = False
    is_spectral: ClassVar[bool] = False
    registers: Window | None = None

    @property
    def reads_between_bins(self) -> bool:
        """True if latents are known between bins as well."""
        return True

    def objection(self, emission: Emission) -> Sentence | None:
        """Reason why the likelihood has no density of an emission, or None."""
        return None if emission.is_uniform else BY_REGION

    def distribution(
        self, model: Represented, layout: Layout, parameters: Parameters, common: dict[str, Any]
    ) -> DelayedGP:
        """Distribution of a recording's trials; ``common`` are arguments that all likelihoods take."""
        raise NotImplementedError

    def state_space(self, latents: FittedLatents) -> Space:
        """Build the state space of latents, where latents are states."""
        raise NotImplementedError(f"{type(self).__name__} has no states")

    def adapted(self, latents: FittedLatents, margin: float) -> Self:
        """Choose what latents need, were timescales ``margin`` times as long."""
        return self

    def narrowed(self, latents: FittedLatents, margin: float) -> Self:
        """Choose the least that latents need if delays move by less than ``margin`` bins."""
        return self

    def unread_variance(self, latents: FittedLatents) -> float:
        """Largest share of a latent's variance that is missed, or misrepresented."""
        return 0.0

    def unadapted(self) -> Self:
        """Return the likelihood as a user chose it, without what a fit has found for it."""
        return self


@dataclass(frozen=True)
class Kalman(Likelihood):
    """A Kalman filter over a state space, O(time): the default.

    Args:
        lift: "readout" (delays in the readout) or "ar" (all delayed copies in the state, for comparison).
        order: With "readout", states that approximate one latent whose kernel has no exact state space, 2 to 6; with
            "ar", bins that the autoregression remembers.
        registers: For the delays; None chooses them from kernel and the bound of delays.
        parallel: Scans in O(log time) depth; None chooses by the device.
    """

    lift: Literal["readout", "ar"] = "readout"
    order: int = DEFAULT_ORDER
    registers: Window | None = None
    parallel: bool | None = None

    known_as: ClassVar[str] = "markov"
    is_statespace: ClassVar[bool] = True
    short_forms: ClassVar[Mapping[str, str]] = {
        "lift": "lift", "order": "order", "window": "registers", "parallel": "parallel",
    }  # fmt: skip

    @classmethod
    def translated(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name not in EARLIER}

    def __post_init__(self) -> None:
        if self.lift not in LIFTS:
            raise ValueError(f"lift is 'readout' or 'ar', not {self.lift!r}")
        if self.registers is not None and not isinstance(self.registers, Window):
            raise TypeError(f"registers are an mrgp.Window such as mrgp.Window(8), not {self.registers!r}")

    @property
    def reads_between_bins(self) -> bool:
        return LIFTS[self.lift]

    def objection(self, emission: Emission) -> Sentence | None:
        coarse = self.registers is not None and self.registers.step > 1
        if emission.is_autocorrelated and (coarse or not self.reads_between_bins):
            return WHITE_ALONE
        return super().objection(emission)

    def distribution(
        self, model: Represented, layout: Layout, parameters: Parameters, common: dict[str, Any]
    ) -> DelayedGP:
        space = model.state_space(layout)
        return MarkovGP(*parameters, space=space, parallel=self.parallel, **common)

    def state_space(self, latents: FittedLatents) -> Space:
        """Build the state space of latents, whose parameters tell registers if none are chosen."""
        prior = latents.prior
        if not self.reads_between_bins:
            return AutoregressiveSpace(prior, self.order)
        registers = self.registers or self._chosen(latents, latents.across, latents.within)
        return StateSpace(prior, self._states(prior), registers, autocorrelated=latents.autocorrelated)

    def adapted(self, latents: FittedLatents, margin: float) -> Self:
        if not self.reads_between_bins:
            return self
        missed = latents.share * latents.prior.gp_noise
        return self.replace(registers=self._chosen(latents, *latents.read(margin), tolerance=missed))

    def narrowed(self, latents: FittedLatents, margin: float) -> Self:
        """Put the window of each latent around its own delays, plus and minus ``margin`` bins.

        A state of far fewer registers, for whoever evaluates thousands of times close to a maximum. Delays that move
        farther are read a little less exactly.
        """
        delay = latents.delay
        if not self.reads_between_bins or delay.ndim > 2 or not delay.shape[1]:
            return self  # how far courses of delays move is not a matter of their levels
        low = np.maximum(delay.min(0) - margin, -latents.bound)
        high = np.minimum(delay.max(0) + margin, latents.bound)
        missed = NARROW_MISSED * latents.share * latents.prior.gp_noise
        registers = self._chosen(latents, *latents.read(), (high - low) / 2, missed)
        shifts = tuple((-(low + high + latents.autocorrelated) / 2).tolist())
        return self.replace(registers=replace(registers, shifts=shifts))

    def unread_variance(self, latents: FittedLatents) -> float:
        n_across = latents.delay.shape[1]
        if not self.reads_between_bins or self.registers is None or not n_across:
            return 0.0
        across, _ = latents.read()
        delay = np.moveaxis(latents.delay, 1, -1).reshape(-1, n_across)  # region 1's zeros included
        read = np.arange(self.registers.step + latents.autocorrelated)[:, None]
        points = np.unique(np.round(delay, 2), axis=0)[:, None] + read
        offsets = self.registers.lead + points.reshape(-1, n_across)
        states = self._states(latents.prior)
        return max(missed_variance(states, self.registers, across, offsets), states.error)

    def unadapted(self) -> Self:
        return self.replace(registers=None)

    def _states(self, prior: Prior) -> Lift:
        return build_lift(prior.kernel, self.order)

    def _chosen(
        self,
        latents: FittedLatents,
        across: Mapping[str, np.ndarray],
        within: Mapping[str, np.ndarray],
        reach: np.ndarray | None = None,
        tolerance: float | None = None,
    ) -> Window:
        """Choose the cheapest registers for latents with these parameters.

        See ``statespace.registers``. ``reach`` (across_latent,) is how far delays go from the middle of the window;
        None for their bound.
        """
        if reach is None:
            reach = np.full(latents.delay.shape[1], latents.bound)
        kernels = dict(across), dict(within)
        states = self._states(latents.prior)
        return choose_window(latents.prior, states, reach, *kernels, tolerance, latents.autocorrelated)


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
        if emission.is_autocorrelated:
            return WHITE_ALONE
        return COUNTS_OTHERWISE if emission.is_of_counts else super().objection(emission)

    def distribution(
        self, model: Represented, layout: Layout, parameters: Parameters, common: dict[str, Any]
    ) -> DelayedGP:
        return SpectralGP(*parameters, prior=model.prior(layout), **common)
