r"""Gaussian processes read at delays: the family of DLAG, and of models without time.

.. math::
    y_r(t) \sim p(y \mid C_r [x_r(t); w_r(t)] + d_r(t)), \qquad x_{r,k}(t) = g_k(t - \delta_{r,k}(t)), \qquad
    g_k, w_{r,j} \sim GP(0, k)

Every symbol is a part of the model; a member of the family writes the program, and declares the parts that it uses.
"""

from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any, ClassVar, Literal, Self

import jax
import numpy as np
from jax import Array

from mrgp.families.checks import assigned, check_numbers, checked_emission
from mrgp.families.earlier_settings import translated
from mrgp.families.from_other_software import sites_from
from mrgp.families.latents_in_bins import latents_at, typical_latents
from mrgp.families.model import Model
from mrgp.families.observation import distribution_at, observe
from mrgp.families.scales import scales_of_dynamics
from mrgp.families.starts import around_mean, completed, draw_sites, following
from mrgp.inference.mode.curvature import Diagonal
from mrgp.likelihoods.likelihood import Kalman, Likelihood, Parameters, Spectral
from mrgp.likelihoods.statespace.assemble import Prior, Space
from mrgp.likelihoods.statespace.lift import check_own
from mrgp.likelihoods.statespace.readout import Window
from mrgp.part import pinned, short_names
from mrgp.parts.delays.base import Delays, Extent
from mrgp.parts.delays.none import NoDelay
from mrgp.parts.emissions import Emission, Gaussian
from mrgp.parts.emissions.autocorrelated import short_noise
from mrgp.parts.kernels import Hyperparameters, Kernel, White
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import Loadings, Weak, ordered
from mrgp.parts.means import MEAN_CHANGE, Constant, Mean
from mrgp.parts.readout import LOADINGS, OFFSET, Readout
from mrgp.parts.sites import keeping
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
        check_numbers(self)
        object.__setattr__(self, "emission", checked_emission(self, noise))
        object.__setattr__(self, "noise", short_noise(self.emission))
        if (reason := self.delays.objection(self.n_across)) is not None:
            raise ValueError(f"{name}: {reason}")
        check_own(self.kernel)
        if (reason := self.loadings.unsuited(self.emission)) is not None:
            raise ValueError(f"{name} {reason}")

    @classmethod
    def translated(cls, settings: dict[str, Any]) -> dict[str, Any]:
        return translated(settings, cls)

    # ---- sizes and spaces ----------------------------------------------------------------------------------------

    def assignment(self, layout: Layout) -> LatentLayout:
        """Layout of latents among the neurons of a recording."""
        return assigned(self, layout)

    def extent(self, layout: Layout, n_bins: int) -> Extent:
        """Size of the table of delays of trials of ``n_bins`` bins."""
        covered = n_bins if self.duration is None else round(self.duration / layout.bin_width)
        return Extent(self.assignment(layout).n_regions, self.n_across, layout.bin_width, n_bins, covered)

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
        return self.delays.sample(self.extent(data.layout, data.n_bins))

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

    def likelihood_at(self, data: MultiRegionData, sites: Mapping[str, Any]) -> Any:
        """Distribution of the recording's trials at given sites.

        It is a ``DelayedGP``, or of counts a ``CountGP``.
        """
        return distribution_at(self, data, sites)

    def conditional(self, data: MultiRegionData, sites: Mapping[str, Any]) -> GaussianConditional:
        return GaussianConditional(self, data, sites)

    @property
    def knows_conditions(self) -> bool:
        return self.mean.moves

    @property
    def asked(self) -> Self:
        return self.replace(likelihood=self.likelihood.unadapted())

    # ---- parameters as numbers -----------------------------------------------------------------------------------

    def dynamics_sites(self, layout: Layout) -> tuple[str, ...]:
        """Names of the sites that describe latents, not neurons: a posterior is asked about these."""
        counts = {"across": self.n_across, "within": sum(self.assignment(layout).n_within)}
        kernel = [name for kind, count in counts.items() if count for name in self.kernel.sites(kind)]
        delays = self.delays.dynamics(self.extent(layout, 1))
        return (*delays[:1], *kernel, *delays[1:])

    def hyperparameters(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> dict[str, np.ndarray]:
        """Kernel parameters of latents of a kind in bins, from sites in seconds."""
        count = self.n_across if kind == "across" else sum(self.assignment(layout).n_within)
        return self.kernel.at(sites, kind, count, layout.bin_width)

    def delay_table(self, sites: Mapping[str, Any], layout: Layout, n_bins: int) -> np.ndarray:
        """Delays in seconds, (..., region, across_latent[, time]); sites may have axes of draws."""
        return self.delays.table(sites, self.extent(layout, n_bins))

    def timescale_table(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> np.ndarray:
        """Timescales of latents of a kind in seconds, (latent,); 0 for white latents."""
        bins = np.asarray(self.hyperparameters(sites, kind, layout)["timescale"])
        return bins * layout.bin_width * self.kernel.has_timescale

    def mean_table(self, sites: Mapping[str, Any], data: MultiRegionData) -> np.ndarray:
        """Mean of every neuron, or of its log-rate, over time, (condition, time, neuron)."""
        shape = data.layout.n_conditions, data.n_bins, data.layout.total_neurons
        return np.broadcast_to(sites[OFFSET.name], shape) + self.mean.course(sites, data, self.duration)

    def canonical(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]:
        """Rotate white latents, which are exchangeable, to explain as much as they can one by one."""
        arrays = {name: np.asarray(value) for name, value in sites.items()}
        alike = not self.kernel.has_timescale and not self.delays.dynamics(self.extent(layout, 1))
        if alike and self.loadings.is_rotatable:
            noise = np.asarray(self.emission.noise_of(arrays))
            arrays[LOADINGS.name] = ordered(self.assignment(layout), arrays[LOADINGS.name], noise)
        return arrays

    def params_from(self, layout: Layout, **tables: Any) -> dict[str, np.ndarray]:
        """Build sites from plain arrays, for checks against other software.

        For the arrays see :func:`mrgp.families.from_other_software.sites_from`.
        """
        return sites_from(self, layout, **tables)

    # ---- the search for a start ----------------------------------------------------------------------------------

    @property
    def held_in_search(self) -> tuple[str, ...]:
        """Sites that the search for a start does not move."""
        return (OFFSET.name, *self.loadings.own_sites)

    def draw_start(self, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> dict[str, np.ndarray]:
        """Draw sites at which a climb on pseudo-neurons of unit noise may begin.

        Every fourth attempt is wholly random.
        """
        return draw_sites(self, rng, data, attempt)

    def prepared(self, data: MultiRegionData) -> Self:
        """Complete the model with settings that it takes from the recording to be fitted."""
        if not (self.delays.moves or self.mean.moves) or self.duration is not None:
            return self
        return self.replace(duration=data.n_bins * data.bin_width)

    def for_search(self) -> Self:
        """Model for the search for a start: these latents under the spectral likelihood.

        It climbs on what :meth:`around_mean` leaves of the recording.
        """
        delays = self.delays.for_search()
        return self.replace(likelihood=Spectral(), mean=Constant(), emission=Gaussian(), delays=delays)

    def around_mean(self, data: MultiRegionData) -> tuple[MultiRegionData, dict[str, np.ndarray]]:
        """Transform the recording to nearly Gaussian values around a guess of its mean.

        Returns the values, and that guess with those of the emission's own sites.
        """
        return around_mean(self, data)

    def first_guess(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        """Add the sites that only this model has to those of a search or of a simpler model."""
        return completed(self, sites, data)

    def from_other_fit(
        self, model: Any, sites: Mapping[str, Any], data: MultiRegionData
    ) -> tuple[Self, dict[str, Any]]:
        """Return this model, with sites at which a fit of ``model`` to such a recording ended."""
        return following(self, model, sites, data)

    # ---- the climb -----------------------------------------------------------------------------------------------

    @property
    def held(self) -> tuple[str, ...]:
        """Sites that climbs leave alone: the start sets them, or :meth:`learned` between climbs."""
        return (*self.mean.held, *self.delays.held)

    def why_no_maximum(self, data: MultiRegionData) -> Sentence | None:
        return self.loadings.objection(self.methods, self.emission, data)

    def scales(self, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Approximate posterior sd of each site in its unconstrained coordinate.

        See ``inference.optimise``.
        """
        assignment = self.assignment(data.layout)
        scales = self.emission.scales(sites, data.n_trials * data.n_bins, assignment)
        scales |= scales_of_dynamics(self, data, sites)
        scales |= self.mean.scales(sites, data, np.asarray(self.emission.noise_of(sites)), self.duration)
        return scales | self.loadings.scales(assignment)

    def learned(
        self, data: MultiRegionData, sites: Mapping[str, Any], curvature: Diagonal, fixed: Collection[str]
    ) -> tuple[Self, dict[str, Any]] | None:
        """Improve the held sites after a climb; None if they are good already.

        Returns this model and its sites. ``curvature(site)`` gives the negative log density's second derivative by each
        free coordinate of a site.
        """
        found = self.delays.learned(sites, curvature, fixed, self.extent(data.layout, data.n_bins))
        return None if found is None else (self.replace(delays=found[0]), found[1])

    def adapted(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> Self:
        """Choose the registers that ``sites`` need, were timescales ``margin`` times as long."""
        if not self.likelihood.is_statespace:
            return self
        return self.replace(likelihood=self.likelihood.adapted(latents_at(self, data, sites), margin))

    def narrowed(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> Self:
        """Choose the fewest registers for delays within ``margin`` seconds of those of ``sites``."""
        if not self.likelihood.is_statespace:
            return self
        bins = margin / data.bin_width
        return self.replace(likelihood=self.likelihood.narrowed(latents_at(self, data, sites), bins))

    def unread_variance(self, data: MultiRegionData, sites: Mapping[str, Any]) -> float:
        """Largest share of a latent's variance that the likelihood misses at ``sites``."""
        return self.likelihood.unread_variance(latents_at(self, data, sites))

    def keeping(self, sites: Mapping[str, Any], layout: Layout, across: np.ndarray) -> tuple[Self, dict[str, Any]]:
        """Keep some of the across latents of the model and its sites, by index."""
        n_columns = self.assignment(layout).n_columns
        columns = np.concatenate([across, np.arange(self.n_across, n_columns)])
        return self.replace(n_across=len(across), delays=self.delays.keeping(across)), keeping(sites, across, columns)
