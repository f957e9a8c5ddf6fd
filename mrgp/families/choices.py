"""Choices of a model, checked, and the sizes and state spaces that follow from them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from numbers import Integral
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from mrgp.likelihoods.likelihood import Kalman, Likelihood
from mrgp.likelihoods.statespace.assemble import Prior, Space, StateSpace
from mrgp.likelihoods.statespace.autoregressive import AutoregressiveSpace
from mrgp.likelihoods.statespace.lift import DEFAULT_ORDER, Lift, build_lift, check_own
from mrgp.likelihoods.statespace.readout import Window
from mrgp.likelihoods.statespace.registers import choose_window
from mrgp.part import Part
from mrgp.parts.emissions import AutocorrelatedGaussian, Emission, Gaussian
from mrgp.parts.kernels import Kernel, SquaredExponential, in_bins
from mrgp.parts.latents import Assignment
from mrgp.parts.loadings import Loadings, Weak
from mrgp.parts.means import Constant, Mean
from mrgp.recordings.layout import Layout
from mrgp.recordings.units import seconds
from mrgp.runtime.sentences import AR1, Argument, Refusal

NOISES = {"white": Gaussian, "ar1": AutocorrelatedGaussian}
DEFAULT_MAX_DELAY = 5  # bins: the state grows with it, and a fit that needs more widens it and says so
SHORTEST_EXPECTED = 1.4  # bins: what registers are made for before data have spoken


@dataclass(frozen=True)
class Choices(Part):
    """Choices that describe a model of a recording, in the user's units (seconds).

    Args:
        n_across: Latents shared by all regions.
        n_within: Private latents, one number for all regions or one per region; 0 is allowed.
        kernel: Covariance of every latent.
        max_delay: Bound of |delay| in seconds; None for 5 bins of whatever recording comes.
        hold_max_delay: True keeps to ``max_delay``; False lets a fit widen it where a delay comes close.
        likelihood: A :class:`mrgp.likelihoods.likelihood.Likelihood` or its name: "markov" (default, O(time)), "dense"
            (exact, short trials) or "spectral" (fast).
        timescale_bounds: Shortest and longest timescale in seconds, with a prior flat in its logarithm between them;
            None for a log-normal prior around 0.1 s.
        emission: An :class:`mrgp.parts.emissions.base.Emission` or its name. "gaussian": values with Gaussian noise.
            "poisson", "negative_binomial": spike counts whose log-rates the latents drive; log p(y) is then a lower
            bound (:mod:`mrgp.likelihoods.bound`).
        mean: A :class:`mrgp.parts.means.Mean` or its name. "constant": one offset for every neuron. "psth": the offset
            and a smooth course over the trial for every neuron, and for every condition where trials have one (the
            trial coordinate "condition"). How far courses move is learned from the recording. Without them the response
            that all trials share is left to latents.
        mean_timescale: Short for the timescale of "psth", seconds: how fast the mean may change.
        noise: Short for Gaussian emissions. "white": every bin's private noise is new. "ar1": it is correlated over
            time with a timescale for each region, as counts are that were smoothed, so that latents need not follow it.
            Needs trials without holes.
        duration: Seconds of a trial that courses (of means, of delays) are defined for; ``fit`` sets it.
        gp_noise: Share of white noise in every latent's copy (eps of the DLAG papers).
        lift: "readout" (default: delays in the readout) or "ar" (all delayed copies in the state, for comparison).
        order: With "readout", states that approximate one latent whose kernel has no exact state space, 2 to 6; with
            "ar", bins that the autoregression remembers.
        window: Registers for the delays; None chooses them from kernel and ``max_delay``.
        parallel: Scans in O(log time) depth; None chooses by the device.
        transient: Steps after which the Kalman gains count as settled; ``fit`` sets it where that is exact.
        loadings: A :class:`mrgp.parts.loadings.Loadings`: the prior of loadings.
    """

    n_across: int = 1
    n_within: int | tuple[int, ...] = 0
    kernel: Kernel = dataclasses.field(default_factory=SquaredExponential)
    max_delay: float | None = None
    hold_max_delay: bool = False
    timescale_bounds: tuple[float, float] | None = None
    likelihood: Likelihood = Kalman()  # noqa: RUF009  a frozen part
    emission: Emission = Gaussian()  # noqa: RUF009  a frozen part
    mean: Mean = Constant()  # noqa: RUF009  a frozen part
    mean_timescale: InitVar[float | None] = None
    noise: InitVar[Literal["white", "ar1"] | None] = None
    duration: float | None = None
    gp_noise: float = 1e-3
    lift: Literal["readout", "ar"] = "readout"
    order: int = DEFAULT_ORDER
    window: Window | None = None
    parallel: bool | None = None
    transient: int | None = None
    loadings: Loadings = Weak()  # noqa: RUF009  a frozen part

    meaningless: ClassVar[tuple[str, ...]] = ()  # choices that this preset has no use for
    in_seconds: ClassVar[tuple[str, ...]] = ("max_delay", "timescale_bounds", "duration")

    def __post_init__(self, mean_timescale: Any, noise: str | None) -> None:
        name = type(self).__name__
        try:
            self.resolve()
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), list):  # as JSON has it, and not hashable
                object.__setattr__(self, field.name, tuple(value))
            if field.name in self.in_seconds and not (value is None or isinstance(value, int | float)):
                numbers = seconds(f"{name}: {field.name}", value)
                object.__setattr__(self, field.name, tuple(numbers.tolist()) if numbers.ndim else float(numbers))
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            if field.name in self.meaningless and getattr(self, field.name) != default:
                raise ValueError(f"{name} has no use for {field.name}: leave it out")
        if mean_timescale is not None:
            timescale = float(seconds(f"{name}: mean_timescale", mean_timescale))
            if not 0 < timescale < np.inf:
                raise ValueError(f"{name}: mean_timescale is a positive number of seconds, not {timescale}")
            object.__setattr__(self, "mean", self.mean.with_timescale(timescale))
        single = isinstance(self.n_within, Integral)
        within: Any = int(self.n_within) if single else tuple(int(w) for w in self.n_within)  # type: ignore
        object.__setattr__(self, "n_within", within)
        if self.n_across < 0 or np.min(within) < 0 or self.n_across + np.max(within) == 0:
            across, within = Argument("n_across"), Argument("n_within")
            raise Refusal(f"{name}: ", across, " and ", within, " count latents; they cannot be negative, or all be 0")
        if (objection := self.likelihood.objection(self.emission)) is not None:
            raise Refusal(f"{name}: ", *objection)
        if self.lift not in ("readout", "ar"):
            raise ValueError(f"{name}: lift is 'readout' or 'ar', not {self.lift!r}")
        if self.max_delay is not None and not 0 < self.max_delay < np.inf:
            raise ValueError(f"{name}: max_delay is a positive number of seconds, not {self.max_delay}")
        if self.timescale_bounds is not None:
            low, high = (float(bound) for bound in self.timescale_bounds)
            if not 0 < low < high < np.inf:
                raise ValueError(f"{name}: timescale_bounds are two positive seconds, low < high, not {low}, {high}")
            object.__setattr__(self, "timescale_bounds", (low, high))
        if noise is not None:
            self._with_noise(noise)
        coarse = self.window is not None and self.window.step > 1
        if self.emission.is_autocorrelated and (self.likelihood.is_spectral or self.lift == "ar" or coarse):
            suited = " is for likelihood 'markov' with lift 'readout' and one bin per step, or 'dense'"
            raise Refusal(f"{name}: ", AR1, suited)
        if self.duration is not None and not 0 < self.duration < np.inf:
            raise ValueError(f"{name}: duration is a positive number of seconds, not {self.duration}")
        if not 0 < self.gp_noise < 1:
            share = f" is a share of variance between 0 and 1, not {self.gp_noise}"
            raise Refusal(f"{name}: ", Argument("gp_noise"), share)
        check_own(self.kernel)
        self._check_loadings()

    def _check_loadings(self) -> None:
        """Raise ValueError if the loadings do not go with the emission."""
        if (reason := self.loadings.unsuited(self.emission)) is not None:
            raise ValueError(f"{type(self).__name__} {reason}")

    def _with_noise(self, noise: str) -> None:
        """Set the Gaussian emission from its short form: "white" noise, or "ar1"."""
        name = type(self).__name__
        if noise not in NOISES:
            raise ValueError(f"{name}: noise is 'white' or 'ar1', not {noise!r}")
        emission = NOISES[noise]
        if type(self.emission) in NOISES.values():
            if "emission" in self.meaningless and emission.is_autocorrelated:
                raise ValueError(f"{name} has no use for noise: leave it out")
            object.__setattr__(self, "emission", emission())
        elif emission.is_autocorrelated:
            alone = ": counts have no noise beside their own" if self.is_of_counts else ""
            raise Refusal(f"{name}: ", AR1, " is of ", Argument("emission", "gaussian"), alone)

    # ---- sizes ---------------------------------------------------------------------------------------------------

    def assignment(self, layout: Layout) -> Assignment:
        """Assignment of latents to the neurons of a recording."""
        within = (self.n_within,) * layout.n_regions if isinstance(self.n_within, int) else self.n_within
        if len(within) != layout.n_regions:
            names = f"{layout.n_regions} ({', '.join(layout.regions)})"
            raise Refusal(
                f"{type(self).__name__}: ", Argument("n_within", within), f" is for {len(within)} regions, but the "
                f"recording has {names}: give one number, or one per region",
            )  # fmt: skip
        return Assignment(layout.n_neurons, self.n_across, within)

    def prior(self, layout: Layout) -> Prior:
        """Gaussian-process prior of this recording's readouts."""
        return Prior(self.kernel, self.gp_noise, self.assignment(layout))

    def delay_bound(self, layout: Layout) -> float:
        """Bound of |delay| in seconds."""
        return DEFAULT_MAX_DELAY * layout.bin_width if self.max_delay is None else self.max_delay

    @property
    def is_of_counts(self) -> bool:
        """True if latents drive log-rates of counts."""
        return self.emission.is_of_counts

    @property
    def reads_between_bins(self) -> bool:
        """True if the recording tells something about latents between bins."""
        return self.kernel.has_timescale and self.lift == "readout"

    @property
    def kernel_lift(self) -> Lift:
        """State space of the kernel."""
        return build_lift(self.kernel, self.order)

    def state_space(self, layout: Layout) -> Space:
        """State space of the recording's readouts, from lift and window.

        A model without a window of its own gets one for timescales of SHORTEST_EXPECTED bins.
        """
        prior = self.prior(layout)
        if self.lift == "ar":
            return AutoregressiveSpace(prior, self.order)
        window = self.window
        if window is None:
            with jax.ensure_compile_time_eval():  # numbers, also inside a traced function
                typical: dict[str, np.ndarray] = {
                    name: np.atleast_1d(np.asarray(value if isinstance(value, float) else value.mean, float))
                    for name, value in self.kernel.parameters().items()
                }
            hyper = in_bins(
                {**typical, "timescale": np.array([SHORTEST_EXPECTED * layout.bin_width])}, layout.bin_width
            )
            window = self.choose_window(layout, hyper, hyper)
        return StateSpace(prior, self.kernel_lift, window, remembers=self.emission.is_autocorrelated)

    def choose_window(
        self,
        layout: Layout,
        across: Mapping[str, Any],
        within: Mapping[str, Any],
        reach: Any = None,
        tolerance: float | None = None,
    ) -> Window:
        """Choose the cheapest sufficient window for kernel parameters in bins.

        Each parameter is (latent,) (see ``statespace.registers``). ``reach`` (across_latent,) is how far delays go from
        the middle of the window, bins; None for ``max_delay``. ``tolerance`` is the variance that it may miss; None for
        the GP noise.
        """
        if reach is None:
            reach = np.full(len(across["timescale"]), self.delay_bound(layout) / layout.bin_width)
        kernels = dict(across), dict(within)
        remembers = self.emission.is_autocorrelated
        return choose_window(self.prior(layout), self.kernel_lift, reach, *kernels, tolerance, remembers)
