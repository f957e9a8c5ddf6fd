r"""What every preset is: a frozen description of a model that is itself the NumPyro program, with ``.fit``.

A preset holds choices in the user's units (seconds). Called with a recording inside NumPyro it runs the generative
program; the subclasses in ``models/`` write that program, this class gives them the pieces: sizes, kernel
parameters with their priors, and the likelihood of their choice.
"""

import dataclasses
import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import xarray as xr
from jax import Array
from numpyro import handlers

from mrgp.data import Layout, MultiRegionData
from mrgp.distributions import DenseGP, MarkovGP, SpectralGP
from mrgp.distributions.base import DelayedGP
from mrgp.fit import Fit
from mrgp.inference.em import fit_em
from mrgp.inference.map import free_sites
from mrgp.inference.recipe import MapOptions, fit_map
from mrgp.inference.start import draw_loadings
from mrgp.inference.vb import fit_vb
from mrgp.kernels import Hyperparameters, Kernel, SquaredExponential, in_bins, kernel_from_settings, kernel_to_settings
from mrgp.statespace.assemble import Prior, Space, StateSpace
from mrgp.statespace.autoregressive import AutoregressiveSpace
from mrgp.statespace.choose import choose_window, missed_variance
from mrgp.statespace.lift import DEFAULT_ORDER, Lift, build_lift, check_own
from mrgp.statespace.readout import Window
from mrgp.statespace.reduce import Assignment, Missing, ordered

DEFAULT_MAX_DELAY = 5  # bins: the state grows with it, and a fit that needs more widens it and says so
TYPICAL_TIMESCALE = 0.1  # s, prior median; the factor of 4.5 either way (one sd) spans 20 ms to half a second
TIMESCALE_SPREAD = 1.5
SHORTEST_EXPECTED = 1.4  # bins: what registers are made for before data have spoken

SHORTEST_READ = 0.7  # bins: registers are not refined for latents so fast that every window sees them as white
NEAR_BOUND, WIDER = 0.95, 1.5  # a delay this close to its bound widens it by this factor
TIMELESS = 1.0  # bins: what stands for the timescale of a kernel that has none, so that every latent has its entry
DYNAMICS_SCALE = 0.3  # delays and log timescales in units of 1 / sqrt(bins), measured on the benchmark recordings

METHODS: dict[str, Callable[..., Fit]] = {"map": fit_map, "em": fit_em, "vb": fit_vb}
"""Ways to fit by name; a preset says in ``methods`` which of them it has."""

REGISTRY: dict[str, type["Preset"]] = {}
"""Every preset by name; how a saved fit finds its model."""


@dataclass(frozen=True)
class Preset:
    """A model of a recording. Subclasses write the generative program in ``__call__``.

    Args:
        n_across: Latents shared by all regions.
        n_within: Private latents, one number for all regions or one per region; 0 is allowed.
        kernel: Covariance of every latent.
        max_delay: Bound of |delay| in seconds; None for 5 bins of whatever recording comes.
        likelihood: "markov" (default, O(time)), "dense" (exact, short trials) or "spectral" (fast).
        timescale_bounds: Shortest and longest timescale in seconds, with a prior flat in its logarithm between them;
            None for a log-normal prior around 0.1 s.
        gp_noise: Share of white noise in every latent's copy (eps of the DLAG papers).
        lift: "readout" (default: delays in the readout) or "ar" (all delayed copies in the state, for comparison).
        order: With "readout", states that approximate one latent whose kernel has no exact state space, 2 to 6; with
            "ar", bins that the autoregression remembers.
        window: Registers for the delays; None chooses them from kernel and ``max_delay``.
        parallel: Scans in O(log time) depth; None chooses by the device.
        transient: Steps after which the Kalman gains count as settled; ``fit`` sets it where that is exact.
    """

    n_across: int = 1
    n_within: int | tuple[int, ...] = 0
    kernel: Kernel = dataclasses.field(default_factory=SquaredExponential)
    max_delay: float | None = None
    timescale_bounds: tuple[float, float] | None = None
    likelihood: Literal["markov", "dense", "spectral"] = "markov"
    gp_noise: float = 1e-3
    lift: Literal["readout", "ar"] = "readout"
    order: int = DEFAULT_ORDER
    window: Window | None = None
    parallel: bool | None = None
    transient: int | None = None

    regions_needed: ClassVar[int] = 1
    methods: ClassVar[tuple[str, ...]] = ("map",)
    """Ways to fit it, the default first."""
    held_in_search: ClassVar[tuple[str, ...]] = ("offset",)  # sites that the search for a start does not move

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        REGISTRY[cls.__name__.lower()] = cls

    def __post_init__(self) -> None:
        name = type(self).__name__
        single = isinstance(self.n_within, Integral)
        within: Any = int(self.n_within) if single else tuple(int(w) for w in self.n_within)  # type: ignore
        object.__setattr__(self, "n_within", within)
        if self.n_across < 0 or np.min(within) < 0 or self.n_across + np.max(within) == 0:
            raise ValueError(f"{name}: n_across and n_within count latents; they cannot be negative, or all be 0")
        if self.likelihood not in ("markov", "dense", "spectral"):
            raise ValueError(f"{name}: likelihood is 'markov', 'dense' or 'spectral', not {self.likelihood!r}")
        if self.lift not in ("readout", "ar"):
            raise ValueError(f"{name}: lift is 'readout' or 'ar', not {self.lift!r}")
        if self.max_delay is not None and not 0 < self.max_delay < np.inf:
            raise ValueError(f"{name}: max_delay is a positive number of seconds, not {self.max_delay}")
        if self.timescale_bounds is not None:
            low, high = (float(bound) for bound in self.timescale_bounds)
            if not 0 < low < high < np.inf:
                raise ValueError(f"{name}: timescale_bounds are two positive seconds, low < high, not {low}, {high}")
            object.__setattr__(self, "timescale_bounds", (low, high))
        if not 0 < self.gp_noise < 1:
            raise ValueError(f"{name}: gp_noise is a share of variance between 0 and 1, not {self.gp_noise}")
        if not isinstance(self.kernel, Kernel):
            raise TypeError(
                f"{name}: kernel must be an mrgp.Kernel such as mrgp.SquaredExponential(), not {self.kernel!r}"
            )
        check_own(self.kernel)

    def __call__(self, data: MultiRegionData) -> None:
        """The generative program: sample sites in seconds, and the recording as the observed site ``y``."""
        raise NotImplementedError

    # ---- sizes -------------------------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> Self:
        """The same preset with some choices changed."""
        return dataclasses.replace(self, **changes)

    def assignment(self, layout: Layout) -> Assignment:
        """Which neuron reads which latent."""
        within = (self.n_within,) * layout.n_regions if isinstance(self.n_within, int) else self.n_within
        if len(within) != layout.n_regions:
            raise ValueError(
                f"{type(self).__name__}: n_within={within} is for {len(within)} regions, but the recording has "
                f"{layout.n_regions} ({', '.join(layout.regions)}): give one number, or one per region"
            )
        return Assignment(layout.n_neurons, self.n_across, within)

    def prior(self, layout: Layout) -> Prior:
        """The Gaussian-process prior of this recording's readouts."""
        return Prior(self.kernel, self.gp_noise, self.assignment(layout))

    def delay_bound(self, layout: Layout) -> float:
        """The bound of |delay| in seconds."""
        return DEFAULT_MAX_DELAY * layout.bin_width if self.max_delay is None else self.max_delay

    @property
    def reads_between_bins(self) -> bool:
        """Whether latents have values between bins that the recording says something of."""
        return self.kernel.has_timescale and self.lift == "readout"

    @property
    def kernel_lift(self) -> Lift:
        """The kernel's state space."""
        return build_lift(self.kernel, self.order)

    def state_space(self, layout: Layout) -> Space:
        """Lift and window; a preset without a window of its own gets one for timescales of SHORTEST_EXPECTED bins."""
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
        return StateSpace(prior, self.kernel_lift, window)

    def choose_window(self, layout: Layout, across: Mapping[str, Any], within: Mapping[str, Any]) -> Window:
        """The cheapest sufficient window for kernel parameters in bins, each (latent,) (see ``statespace.choose``)."""
        return choose_window(
            self.prior(layout),
            self.kernel_lift,
            self.delay_bound(layout) / layout.bin_width,
            dict(across),
            dict(within),
        )

    # ---- pieces of a generative program --------------------------------------------------------------------------

    def kernel_sites(self, kind: str, n_latents: int, bin_width: float) -> dict[str, Array]:
        """Sample the kernel parameters of ``n_latents`` latents (sites ``timescale_<kind>``, ...); returns bins.

        Timescales, of kernels that have one, are log-normal around 0.1 s, or log-uniform between ``timescale_bounds``;
        a kernel declares the priors of whatever else it has.
        """
        if n_latents == 0:
            return {name: jnp.zeros(0) for name in ("timescale", *self.kernel.parameters())}
        hyper: dict[str, Array] = {}
        with numpyro.plate(f"{kind}_latent", n_latents):
            if self.kernel.has_timescale:
                free = dist.LogNormal(np.log(TYPICAL_TIMESCALE), TIMESCALE_SPREAD)
                bounded = self.timescale_bounds and dist.LogUniform(*self.timescale_bounds)
                hyper["timescale"] = numpyro.sample(f"timescale_{kind}", bounded or free)
            else:
                hyper["timescale"] = jnp.full(n_latents, TIMELESS * bin_width)
            for name, prior in self.kernel.parameters().items():
                inferred = not isinstance(prior, float)
                hyper[name] = numpyro.sample(f"{name}_{kind}", prior) if inferred else jnp.full(n_latents, prior)
        return in_bins(hyper, bin_width)

    def emission_sites(self, data: MultiRegionData, n_columns: int) -> tuple[Array, Array, Array]:
        """Sample loadings (neuron, column), noise variances and offsets (neuron,), weakly, in each neuron's units.

        loadings ~ N(0, (3 sd)^2), offset ~ N(mean, (10 sd)^2), noise ~ half-normal of twice the neuron's variance:
        proper, flat where the data are informative, and worth far less than one trial.
        """
        with numpyro.plate("neuron", data.values.shape[-1]):
            loadings = numpyro.sample(
                "loadings",
                dist.Normal(0.0, 3 * jnp.asarray(data.scale)[:, None]).expand((len(data.scale), n_columns)).to_event(1),
            )
            noise = numpyro.sample("noise", dist.HalfNormal(2 * data.scale**2))
            offset = numpyro.sample("offset", dist.Normal(data.center, 10 * data.scale))
        return loadings, noise, offset

    def observe(
        self,
        data: MultiRegionData,
        loadings: Array,
        noise: Array,
        offset: Array,
        delay: Array,
        across: Hyperparameters,
        within: Hyperparameters,
    ) -> None:
        """The observed site ``y``: every trial of the recording under the marginal likelihood chosen."""
        layout = data.layout
        n_trials, n_bins, _ = data.values.shape
        holes: Any = (data.observed, data.pattern, data.length)
        missing = None if data.is_complete else Missing(*holes)
        common: dict[str, Any] = {"n_bins": n_bins, "n_trials": n_trials, "missing": missing}
        parameters = (loadings, noise, offset, delay, across, within)
        likelihood: DelayedGP
        if self.likelihood == "dense":
            likelihood = DenseGP(*parameters, prior=self.prior(layout), **common)
        elif self.likelihood == "spectral":
            likelihood = SpectralGP(*parameters, prior=self.prior(layout), **common)
        else:
            likelihood = MarkovGP(
                *parameters, space=self.state_space(layout), parallel=self.parallel, transient=self.transient, **common
            )
        with numpyro.plate("trial", n_trials):
            numpyro.sample("y", likelihood, obs=data.values)

    # ---- what inference asks of a preset -------------------------------------------------------------------------

    def fit(
        self,
        data: MultiRegionData,
        method: str | None = None,
        *,
        seed: int = 0,
        start: Fit | None = None,
        fixed: Mapping[str, Any] | None = None,
        n_starts: int = 6,
        tolerance: float = 0.01,
        max_iterations: int = 1000,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Fit:
        """Infer the parameters from a recording.

        Args:
            data: The recording; neurons and regions as the preset expects.
            method: "map": the maximum of log p(y, parameters), latents integrated out. "em", for models that have
                it: the maximum of log p(y | parameters) by expectation-maximization. "vb": variational Bayes, for
                presets with automatic relevance determination. None for the preset's own default.
            seed: Of the random part of the start; the same seed gives the same fit.
            start: A fit to go on from instead of a search for a start: of this preset or one with the same sites, such
                as one with another likelihood, or DLAG for ADM.
            fixed: Sites held at a value in seconds or data units, a number or an array of the site's shape, such as
                ``{"delay": 0}``.
            n_starts: Climbs on the recording's factors, under the spectral likelihood where the model has one; the best
                is polished.
            tolerance: Converged when the last few iterations together gained less than this, in nats.
            max_iterations: Upper bound on iterations.
            checkpoint: A file that keeps the parameters as the fit goes on; a fit that finds it resumes from it, and
                removes it when done.
            progress: Show a progress bar.

        Raises:
            DataError: the recording does not suit the model.
            ValueError: unknown method, or a ``start`` of another shape.
        """
        data.require(self.regions_needed, type(self).__name__)
        method = method or self.methods[0]
        if method not in self.methods:
            raise ValueError(f"method is one of {', '.join(self.methods)} for {type(self).__name__}, not {method!r}")
        if (objection := self.objection(method)) is not None:
            raise ValueError(f"{type(self).__name__}: {objection}")
        if start is not None and start.layout != data.layout:
            raise ValueError(f"start is a fit of {start.layout}, but the recording has {data.layout}")
        place = None if checkpoint is None else Path(checkpoint)
        held = self.checked(fixed or {}, data)
        options = MapOptions(seed, n_starts, tolerance, max_iterations, place, progress, held)
        return METHODS[method](self, data, options, start)

    def objection(self, method: str) -> str | None:
        """Why these settings do not suit one of the preset's methods; None where they do."""
        return None

    def checked(self, fixed: Mapping[str, Any], data: MultiRegionData) -> dict[str, np.ndarray]:
        """Values for some of the sites, as arrays of their shapes.

        Raises:
            ValueError: there is no such site, or it cannot have this value.
        """
        free = free_sites(self.prepared(data), data)
        held = {}
        for name, value in fixed.items():
            if name not in free:
                raise ValueError(f"{type(self).__name__} has no site {name!r} to fix; it has {', '.join(free)}")
            shape = np.shape(free[name]["value"])
            try:
                held[name] = np.broadcast_to(np.asarray(value, float), shape).copy()
            except (TypeError, ValueError) as error:
                raise ValueError(f"fixed[{name!r}] must be a number or of shape {shape}") from error
            if not np.all(free[name]["fn"].support(jnp.asarray(held[name]))):
                raise ValueError(f"fixed[{name!r}] has values that the site cannot take: {free[name]['fn'].support}")
        return held

    def draw_start(self, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> dict[str, np.ndarray]:
        """Sites at which a climb on pseudo-neurons of unit noise may begin; every fourth attempt is wholly random."""
        layout = data.layout
        assignment = self.assignment(layout)
        bound = self.delay_bound(layout)
        n_within = assignment.n_within
        populations = assignment.n_regions
        sites = {
            "loadings": draw_loadings(rng, data, self.n_across, n_within, self.smoothing(layout, attempt)),
            "noise": np.ones(layout.total_neurons),
            "offset": np.asarray(data.center),
        }
        if populations > 1 and bound > 0:
            sites["delay"] = 0.2 * bound * rng.uniform(-1, 1, (populations - 1, self.n_across))
        longest = max(3.0, 0.1 * data.n_bins)
        for kind, count in (("across", self.n_across), ("within", sum(n_within))):
            if count:
                if self.kernel.has_timescale:
                    seconds = layout.bin_width * np.exp(rng.uniform(np.log(1.5), np.log(longest), count))
                    low, high = self.timescale_bounds or (0.0, np.inf)
                    sites[f"timescale_{kind}"] = np.clip(seconds, 1.01 * low, 0.99 * high)
                for name, prior in self.kernel.parameters().items():
                    if not isinstance(prior, float):
                        sites[f"{name}_{kind}"] = np.full(count, float(prior.mean)) * np.exp(
                            0.3 * rng.standard_normal(count)
                        )
        return sites

    def prepared(self, data: MultiRegionData) -> Self:
        """This preset with what it takes from the recording it is fitted to."""
        return self

    def for_search(self) -> Self:
        """The preset whose climbs give the start: the same latents under the spectral likelihood."""
        return self.replace(likelihood="spectral", transient=None)

    def completed(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        """Sites of the search, or of a simpler preset's fit, with those that only this preset has."""
        return dict(sites)

    def keeping(self, sites: Mapping[str, Any], layout: Layout, across: np.ndarray) -> tuple[Self, dict[str, Any]]:
        """This preset and its sites with some of the across latents only, by index."""
        n_columns = self.assignment(layout).n_columns
        columns = np.concatenate([across, np.arange(self.n_across, n_columns)])
        kept = {}
        for name, value in sites.items():
            if name in ("loadings", "alpha"):
                kept[name] = value[:, columns]
            elif name.startswith("delay"):
                kept[name] = value[:, across]
            else:
                kept[name] = value[across] if name.endswith("_across") else value
        return self.replace(n_across=len(across)), kept
    def smoothing(self, layout: Layout, attempt: int) -> int | None:
        """Bins over which a start averages the recording to see its signals; None where it takes any that vary most.

        Slow signals stand out where noise and delays are averaged away; white ones are only lost by averaging.
        """
        reach = 2 * int(np.ceil(self.delay_bound(layout) / layout.bin_width)) + 1
        widths = (max(reach // 2, 3), reach, 3, None) if self.kernel.has_timescale else (1, 1, 1, None)
        return widths[attempt % 4]

    @property
    def held(self) -> tuple[str, ...]:
        """Sites that climbs leave alone, since :meth:`learned` sets them between climbs."""
        return ()

    def learned(
        self,
        data: MultiRegionData,
        sites: Mapping[str, Any],
        curvature: Callable[[str], np.ndarray],
        fixed: Collection[str],
    ) -> tuple[Self, dict[str, Any]] | None:
        """After a climb, this preset and its sites with better values of what is held; None where they are good.

        ``curvature(site)`` gives the negative log density's second derivative by each free coordinate of a site.
        """
        return None

    def scales(self, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """About one posterior sd of each site in its unconstrained coordinate (see ``inference.map``)."""
        bins = data.n_trials * data.n_bins
        root = np.sqrt(np.asarray(sites["noise"]) / bins)
        small = np.asarray(1 / np.sqrt(bins))
        dynamics = dict.fromkeys(self.dynamics_sites(data.layout), DYNAMICS_SCALE * small)
        return {"loadings": root[:, None], "offset": root, "noise": np.sqrt(2.0) * small, **dynamics}

    def dynamics_sites(self, layout: Layout) -> tuple[str, ...]:
        """Names of the sites that describe latents rather than neurons: what a posterior is asked about."""
        counts = {"across": self.n_across, "within": sum(self.assignment(layout).n_within)}
        own = self.kernel.parameters()
        names = ["timescale"] * self.kernel.has_timescale + [n for n in own if not isinstance(own[n], float)]
        kernel = [f"{name}_{kind}" for kind, count in counts.items() if count for name in names]
        delays = (
            ["delay"]
            if self.assignment(layout).n_regions > 1 and self.n_across and self.delay_bound(layout) > 0
            else []
        )
        return (*delays, *kernel)

    def hyperparameters(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> dict[str, np.ndarray]:
        """Kernel parameters of one kind of latent in bins, from sites in seconds."""
        count = self.n_across if kind == "across" else sum(self.assignment(layout).n_within)
        hyper = {"timescale": np.full(count, TIMELESS * layout.bin_width)}
        if count and self.kernel.has_timescale:
            hyper["timescale"] = np.asarray(sites[f"timescale_{kind}"])
        for name, prior in self.kernel.parameters().items():
            fixed = isinstance(prior, float) or not count
            hyper[name] = (
                np.full(count, prior if isinstance(prior, float) else 0.0)
                if fixed
                else np.asarray(sites[f"{name}_{kind}"])
            )
        return in_bins(hyper, layout.bin_width)

    def delay_table(self, sites: Mapping[str, Any], layout: Layout, n_bins: int) -> np.ndarray:
        """Delays in seconds, (..., region, across_latent), of sites that may have leading axes of draws.

        A model whose delays vary returns (..., region, across_latent, time) for trials of ``n_bins`` bins.
        """
        if "delay" not in sites:
            return np.zeros((self.assignment(layout).n_regions, self.n_across))
        delay = np.asarray(sites["delay"])
        return np.concatenate([np.zeros_like(delay[..., :1, :]), delay], axis=-2)

    def timescale_table(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> np.ndarray:
        """Timescales in seconds of the latents of one kind ("across", "within"), (latent,); 0 where they are white."""
        bins = np.asarray(self.hyperparameters(sites, kind, layout)["timescale"])
        return bins * layout.bin_width * self.kernel.has_timescale

    def adapted(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> Self:
        """This preset with the window that ``sites`` need, were timescales ``margin`` times as long."""
        if self.likelihood != "markov" or self.lift == "ar":
            return self
        across, within = (self.hyperparameters(sites, kind, data.layout) for kind in ("across", "within"))
        for hyper in (across, within):
            hyper["timescale"] = np.maximum(margin * hyper["timescale"], SHORTEST_READ)
        return self.replace(window=self.choose_window(data.layout, across, within))

    def unread_variance(self, data: MultiRegionData, sites: Mapping[str, Any]) -> float:
        """Largest share of a latent's variance that the state space misses or misrepresents at ``sites``."""
        if self.likelihood != "markov" or self.lift == "ar" or self.window is None or not self.n_across:
            return 0.0
        hyper = self.hyperparameters(sites, "across", data.layout)
        hyper["timescale"] = np.maximum(hyper["timescale"], SHORTEST_READ)
        delay = self.delay_table(sites, data.layout, data.n_bins).ravel() / data.layout.bin_width
        offsets = np.unique(np.round(delay, 2))[:, None] + np.arange(self.window.step)  # region 1's zeros included
        missed = missed_variance(self.kernel_lift, self.window, hyper, self.window.center + offsets.ravel())
        return max(missed, self.kernel_lift.error)

    def admitting(self, sites: Mapping[str, Any], layout: Layout) -> Self:
        """This preset, with a ``max_delay`` that admits the delays of ``sites``, which may come from another fit."""
        if "delay" not in sites:
            return self
        largest = float(np.abs(sites["delay"]).max(initial=0.0))
        return self if largest < self.delay_bound(layout) else self.replace(max_delay=WIDER * largest)

    def presented(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]:
        """The same parameters as a fit shows them: what no recording can decide is put into an order.

        White latents are exchangeable, up to a rotation: they are rotated to explain as much as they can one by one.
        """
        arrays = {name: np.asarray(value) for name, value in sites.items()}
        if not self.kernel.has_timescale and not {"delay", "alpha"} & sites.keys():
            arrays["loadings"] = ordered(self.assignment(layout), arrays["loadings"], arrays["noise"])
        return arrays

    def widened(self, sites: Mapping[str, Any], data: MultiRegionData) -> Self | None:
        """This preset with a wider ``max_delay`` where a delay of ``sites`` has come within 5% of it, else None."""
        bound = self.delay_bound(data.layout)
        reached = np.abs(self.delay_table(sites, data.layout, data.n_bins)).max(initial=0.0)
        if "delay" not in sites or reached < NEAR_BOUND * bound:
            return None
        return self.replace(max_delay=WIDER * bound)

    # ---- at given parameters -------------------------------------------------------------------------------------

    def likelihood_at(self, data: MultiRegionData, sites: Mapping[str, Any]) -> DelayedGP:
        """The distribution of the recording's trials at given sites."""
        program = handlers.substitute(handlers.seed(self, 0), data={n: jnp.asarray(v) for n, v in sites.items()})
        trace = handlers.trace(program).get_trace(data)
        own = {name for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}
        if missing := sorted(name for name in own - sites.keys() if np.size(trace[name]["value"])):
            raise ValueError(f"parameters are missing: {', '.join(missing)}")
        if unknown := sorted(sites.keys() - own):
            raise ValueError(
                f"{type(self).__name__} has no parameters {', '.join(unknown)}; it has {', '.join(sorted(own))}"
            )
        return trace["y"]["fn"]

    def log_likelihood(self, data: MultiRegionData, params: Mapping[str, Any]) -> xr.DataArray:
        """log p(y_trial | params) in nats, (trial,); ``params`` from :meth:`params_from` or ``fit.sites``."""
        scores = _trial_scores(self, data, {name: jnp.asarray(value) for name, value in params.items()})
        coords = {"trial": np.arange(data.n_trials)}
        return xr.DataArray(np.asarray(scores), coords, ("trial",), "log_likelihood", {"units": "nats"})

    def params_from(
        self,
        layout: Layout,
        *,
        loadings: Mapping[str, Any],
        noise: Any,
        offset: Any,
        timescale_across: Any = (),
        timescale_within: Any = (),
        delays: Any = None,
        **hyperparameters: Any,
    ) -> dict[str, np.ndarray]:
        """Sites from plain arrays, for checks against other software.

        Args:
            layout: Of the recording (``data.layout``).
            loadings: Region name -> (neuron, latent): across latents first, then the region's own.
            noise, offset: (neuron,), regions one after the other.
            timescale_across: (across_latent,), seconds, where the kernel has one. mbrila and DLAG give gamma:
                bin_width / sqrt(gamma).
            timescale_within: (within_latent,), seconds, regions one after the other.
            delays: (region, across_latent), seconds; the first region's row must be 0.
            hyperparameters: Other kernel sites, such as ``frequency_across`` in Hz.
        """
        assignment = self.assignment(layout)
        full = np.zeros((layout.total_neurons, assignment.n_columns))
        for name, columns in layout.region_slices.items():
            block = np.asarray(loadings[name], float)
            full[columns, : block.shape[1]] = block
        sites = {
            "loadings": full,
            "noise": np.asarray(noise, float),
            "offset": np.asarray(offset, float),
            **{name: np.atleast_1d(np.asarray(value, float)) for name, value in hyperparameters.items()},
        }
        given = {"across": timescale_across, "within": timescale_within}
        for name in self.dynamics_sites(layout):
            base, _, kind = name.partition("_")
            if base == "timescale":
                sites[name] = np.atleast_1d(np.asarray(given[kind], float))
        if "delay" in self.dynamics_sites(layout):
            if delays is None:
                raise ValueError("delays are needed: (region, across_latent) in seconds, zeros for the first region")
            table = np.asarray(delays, float)
            if np.abs(table[0]).max(initial=0.0) > 0:
                raise ValueError("delays are measured from the first region: its row must be 0")
            sites["delay"] = table[1:]
        return sites

    # ---- saving ----------------------------------------------------------------------------------------------------

    def to_settings(self) -> dict[str, Any]:
        """What rebuilds this preset, as JSON-ready values (see :func:`preset_from`)."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["kernel"] = kernel_to_settings(self.kernel)
        fields["window"] = None if self.window is None else dataclasses.asdict(self.window)
        return {"model": type(self).__name__.lower(), **fields}


def preset_from(settings: Mapping[str, Any]) -> Preset:
    """The preset that :meth:`Preset.to_settings` described."""
    fields = dict(settings)
    name = fields.pop("model")
    if name not in REGISTRY:
        importlib.import_module("mrgp.models")  # each preset there enters itself
    if name not in REGISTRY:
        raise ValueError(f"this file is of a model {name!r} that is not defined here; known: {', '.join(REGISTRY)}")
    fields["kernel"] = kernel_from_settings(fields["kernel"])
    fields["window"] = None if fields["window"] is None else Window(**fields["window"])
    bounds = fields["timescale_bounds"]
    fields["timescale_bounds"] = None if bounds is None else tuple(bounds)
    if not isinstance(fields["n_within"], int):
        fields["n_within"] = tuple(fields["n_within"])
    return REGISTRY[name](**fields)


def load_fit(path: str | Path) -> Fit:
    """Load a fit that ``fit.save`` wrote.

    Raises:
        DataError: the file is missing, damaged or not a fit.
    """
    return Fit.load(Path(path), preset_from)


@partial(jax.jit, static_argnums=0)
def _trial_scores(model: Preset, data: MultiRegionData, sites: dict[str, Array]) -> Array:
    return model.likelihood_at(data, sites).log_prob(data.values)
