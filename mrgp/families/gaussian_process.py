r"""Gaussian processes read at delays: the family of DLAG, and of models without time.

.. math::
    y_r(t) \sim p(y \mid C_r [x_r(t); w_r(t)] + d_r(t)), \qquad x_{r,k}(t) = g_k(t - \delta_{r,k}(t)), \qquad
    g_k, w_{r,j} \sim GP(0, k)

Every symbol is a part of the model; a member of the family writes the program, and declares the parts that it uses.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any, ClassVar, Literal, Self

import jax
import numpy as np
from jax import Array

from mrgp.families.checks import assigned, check_numbers, checked_emission
from mrgp.families.fitting import Fitting
from mrgp.families.from_other_software import sites_from
from mrgp.families.latents_in_bins import typical_latents
from mrgp.families.model import Model
from mrgp.families.observation import distribution_at, observe
from mrgp.families.tables import Tables
from mrgp.inference.mode.anchored import Symmetry
from mrgp.inference.variational_bayes.regions_rounds import RegionUpdates
from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.likelihood import Kalman, Likelihood, Parameters
from mrgp.likelihoods.statespace.assemble import Prior, Space
from mrgp.likelihoods.statespace.lift import check_own
from mrgp.likelihoods.statespace.readout import Window
from mrgp.part import pinned, short_names
from mrgp.parts.delays.base import Delays
from mrgp.parts.delays.none import NoDelay
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.emissions.autocorrelated import short_noise
from mrgp.parts.kernels import Hyperparameters, Kernel, White
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import Loadings, Weak, ordered
from mrgp.parts.means import MEAN_CHANGE, Constant, Mean
from mrgp.parts.readout import LOADINGS, Readout
from mrgp.parts.symmetries import align_draws
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.conditional import GaussianConditional
from mrgp.results.fit import Fit
from mrgp.results.gaussian_process_fit import GaussianProcessFit
from mrgp.runtime.sentences import Sentence

SAME = 1e-6  # share of noise in each region's copy of a shared latent: copies that are one, but for round-off


@dataclass(frozen=True)
class GaussianProcesses(Model, abstract=True):
    """Base class of models whose latents are Gaussian processes.

    A field is pinned to its default where a model has no use for it; a model that has declares it anew.

    Args:
        n_across: Latents shared by all regions.
        n_within: Private latents, one number for all regions or one per region; 0 is allowed.
        kernel: Covariance of every latent.
        delays: A :class:`mrgp.parts.delays.base.Delays`: at which delays regions read the latents that they share.
        loadings: A :class:`mrgp.parts.loadings.Loadings`: the prior of loadings.
        mean: A :class:`mrgp.parts.means.Mean` or its name. "constant": one offset for every neuron. "psth": the offset
            and a smooth course over the trial for every neuron, and for every condition where trials have one (the
            trial coordinate "condition"). How far courses move is learned from the recording. Without them the response
            that all trials share is left to latents.
        emission: An :class:`mrgp.parts.emissions.base.Emission` or its name. "gaussian": values with Gaussian noise.
            "poisson", "negative_binomial": spike counts whose log-rates the latents drive; log p(y) is then a lower
            bound (:mod:`mrgp.likelihoods.bound`).
        likelihood: A :class:`mrgp.likelihoods.likelihood.Likelihood` or its name: "markov" (default, O(time)), "dense"
            (exact, short trials) or "spectral" (fast).
        gp_noise: Share of white noise in every latent's copy (eps of the DLAG papers).
        timescale_bounds: Shortest and longest timescale in seconds, with a prior flat in its logarithm between them;
            None for a log-normal prior around 0.1 s.
        shared_covariance: Of counts: whether trials in which the same was observed share the covariance of q, at which
            the bound is taken (:mod:`mrgp.likelihoods.bound`).
        duration: Seconds of a trial that courses (of means, of delays) are defined for; ``fit`` sets it.
        noise: Short for Gaussian emissions. "white": every bin's private noise is new. "ar1": it is correlated over
            time with a timescale for each region, as counts are that were smoothed, so that latents need not follow it.
            Needs trials without holes.
        max_delay, hold_max_delay: Short for ``longest`` and ``hold`` of the delays: the bound of |delay| in seconds,
            None for 5 bins of whatever recording comes; and whether a fit keeps to it.
        delay_timescale, typical_spread: Short for ``timescale`` and ``spread`` of
            :class:`mrgp.parts.delays.varying.VaryingDelay`, seconds.
        shape, rate, offset_precision: Short for those of :class:`mrgp.parts.loadings.Relevance`.
        mean_timescale: Short for the timescale of "psth", seconds: how fast the mean may change.
        lift, order, window, parallel: Short for those of :class:`mrgp.likelihoods.likelihood.Kalman`, ``window`` for
            its ``registers``.
    """

    n_across: int = 1
    n_within: int | tuple[int, ...] = 0
    kernel: Kernel = pinned(White())  # noqa: RUF009  a field
    _: KW_ONLY
    delays: Delays = pinned(NoDelay())  # noqa: RUF009  a field
    loadings: Loadings = pinned(Weak())  # noqa: RUF009  a field
    mean: Mean = Constant()  # noqa: RUF009  a frozen part
    emission: Emission = pinned(Gaussian())  # noqa: RUF009  a field
    likelihood: Likelihood = Kalman()  # noqa: RUF009  a frozen part
    gp_noise: float = 1e-3
    timescale_bounds: tuple[float, float] | None = pinned(None)
    shared_covariance: bool = pinned(True)
    duration: float | None = None
    noise: InitVar[Literal["white", "ar1"] | None] = None
    max_delay: InitVar[float | None] = None
    hold_max_delay: InitVar[bool | None] = None
    delay_timescale: InitVar[float | None] = None
    typical_spread: InitVar[float | None] = None
    shape: InitVar[float | None] = None
    rate: InitVar[float | None] = None
    offset_precision: InitVar[float | None] = None
    mean_timescale: InitVar[float | None] = None
    lift: InitVar[Literal["readout", "ar"] | None] = None
    order: InitVar[int | None] = None
    window: InitVar[Window | None] = None
    parallel: InitVar[bool | None] = None

    fit_class: ClassVar[type[Fit]] = GaussianProcessFit
    is_simulated: ClassVar[bool] = True
    sizes: ClassVar[tuple[str, ...]] = ("n_across", "n_within")
    private_in: ClassVar[str] = ""  # the model to take for private latents, where there is one
    is_state_space: ClassVar[bool] = False  # exactly: no other likelihood has its density
    without: ClassVar[tuple[str, ...]] = ()  # short forms of settings that change nothing in the model
    found_by_fit: ClassVar[tuple[str, ...]] = ("n_across", "delays")  # choices that a fit may change for good
    held_at_first: ClassVar[tuple[str, ...]] = (MEAN_CHANGE.name,)  # a start from the data that bad latents would spoil

    def __post_init__(self, *short: Any) -> None:
        name = type(self).__name__
        given = dict(zip(short_names(type(self)), short, strict=True))  # type: ignore[arg-type]
        noise = given.pop("noise")
        self.resolve(**given)
        for setting in self.without:
            if getattr(self, setting) not in (None, getattr(Kalman(), Kalman.short_forms[setting])):
                raise ValueError(f"{name} has no use for {setting}: leave it out")
        if self.is_state_space and not self.likelihood.is_statespace:
            own = f"{name} is a state space of its own: likelihood is 'markov'"
            raise ValueError(f"{own}, not {self.likelihood.as_written()}")
        check_numbers(self)
        object.__setattr__(self, "emission", checked_emission(self, noise))
        object.__setattr__(self, "noise", short_noise(self.emission))
        if (reason := self.delays.objection(self.n_across)) is not None:
            raise ValueError(f"{name}: {reason}")
        check_own(self.kernel)
        if (reason := self.loadings.unsuited(self.emission)) is not None:
            raise ValueError(f"{name} {reason}")

    # ---- sizes and spaces ----------------------------------------------------------------------------------------

    def assignment(self, layout: Layout) -> LatentLayout:
        """Layout of latents among the neurons of a recording."""
        return assigned(self, layout)

    def prior(self, layout: Layout) -> Prior:
        """Gaussian-process prior of this recording's readouts."""
        return Prior(self.kernel, self.gp_noise, self.assignment(layout))

    def state_space(self, layout: Layout) -> Space:
        """State space of the recording's readouts.

        Registers that are not chosen yet are those that typical latents need.
        """
        with jax.ensure_compile_time_eval():  # numbers, also inside a traced function
            return self.likelihood.state_space(typical_latents(self, layout))

    # ---- the program ---------------------------------------------------------------------------------------------

    def latent_sites(self, data: MultiRegionData) -> tuple[Hyperparameters, Hyperparameters]:
        """Sample the kernel parameters of the across and of the within latents, in bins."""
        n_within, also = sum(self.assignment(data.layout).n_within), (data.bin_width, self.timescale_bounds)
        across = self.kernel.sample("across", self.n_across, *also)
        return across, self.kernel.sample("within", n_within, *also)

    def delay_sites(self, data: MultiRegionData) -> Array:
        """Sample delays, and return them in bins, (1 or time, region, across_latent)."""
        return self.delays.sample(self.tables.extent(data.layout, data.n_bins))

    def emission_sites(self, data: MultiRegionData) -> Readout:
        """Sample loadings (neuron, column), the emission's own parameters, and the mean's course."""
        readout = self.loadings.sample(data, self.assignment(data.layout), self.emission)
        return readout._replace(course=self.mean.sample(data, self.emission, self.duration))

    def observe(
        self, data: MultiRegionData, emission: Readout, delay: Array, across: Hyperparameters, within: Hyperparameters
    ) -> None:
        """Sample the observed site ``y``: all trials under the chosen marginal likelihood."""
        parameters = Parameters(emission.loadings, emission.noise, emission.offset, delay, across, within)
        observe(self, data, emission, parameters)

    def likelihood_at(self, data: MultiRegionData, sites: Mapping[str, Any]) -> DelayedGP | CountGP:
        """Distribution of the recording's trials at given sites."""
        return distribution_at(self, data, sites)

    def conditional(self, data: MultiRegionData, sites: Mapping[str, Any]) -> GaussianConditional:
        return GaussianConditional(self, data, sites)

    @property
    def knows_conditions(self) -> bool:
        return self.mean.moves

    @property
    def asked(self) -> Self:
        return self.replace(likelihood=self.likelihood.unadapted())

    # ---- parameters ----------------------------------------------------------------------------------------------

    @property
    def tables(self) -> Tables:
        """Its parameters as numbers, from sites."""
        return Tables(self)

    def canonical(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]:
        """Rotate white latents, which are exchangeable, to explain as much as they can one by one."""
        arrays = {name: np.asarray(value) for name, value in sites.items()}
        alike = not self.kernel.has_timescale and not self.delays.dynamics(self.tables.extent(layout, 1))
        if alike and self.loadings.is_rotatable:
            noise = np.asarray(self.emission.noise_of(arrays))
            arrays[LOADINGS.name] = ordered(self.assignment(layout), arrays[LOADINGS.name], noise)
        return arrays

    @property
    def symmetry(self) -> Symmetry:
        """Changes of latents that the density cannot see: their order and signs."""
        return Symmetry(lambda draws, layout, reference: align_draws(draws, self.assignment(layout), reference))

    def params_from(self, layout: Layout, **tables: Any) -> dict[str, np.ndarray]:
        """Build sites from plain arrays, for checks against other software.

        For the arrays see :func:`mrgp.families.from_other_software.sites_from`.
        """
        return sites_from(self, layout, **tables)

    # ---- a fit ---------------------------------------------------------------------------------------------------

    @property
    def posterior_updates(self) -> RegionUpdates | None:
        """Updates of variational Bayes; None if there are only those of loadings with relevances."""
        return None

    @property
    def fitting(self) -> Fitting[Self]:
        """Steps of a fit of it."""
        return Fitting(self)

    @property
    def has_course(self) -> bool:
        return self.delays.moves or self.mean.moves

    @property
    def lacks_duration(self) -> bool:
        return self.has_course and self.duration is None

    @property
    def held(self) -> tuple[str, ...]:
        return (*self.mean.held, *self.delays.held)

    def why_no_maximum(self, data: MultiRegionData) -> Sentence | None:
        return self.loadings.objection(self.methods, self.emission, data)
