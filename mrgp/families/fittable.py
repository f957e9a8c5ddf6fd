"""Answers of a model to an inference method: start, steps, and changes on the way.

The answers here suit models with constant delays; a model overrides what is different for it.
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from mrgp.families.choices import DEFAULT_MAX_DELAY
from mrgp.families.parametrized import Parametrized
from mrgp.inference.lags import FARTHEST, FEWEST_BINS, lagged_directions
from mrgp.inference.mode.curvature import Diagonal
from mrgp.inference.mode.whittle import heard, of_delay, of_kernel
from mrgp.inference.start import draw_loadings, moving_average
from mrgp.likelihoods.likelihood import Spectral
from mrgp.likelihoods.statespace.registers import missed_variance
from mrgp.parts.emissions.autocorrelated import NOISE_TIMESCALE
from mrgp.parts.emissions.gaussian import Gaussian
from mrgp.parts.means import MEAN_CHANGE, Constant
from mrgp.parts.readout import LOADINGS, OFFSET
from mrgp.parts.sites import site_of
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument, Refusal, Sentence

SHORTEST_READ = 0.7  # bins: registers are not refined for latents so fast that every window sees them as white
NARROW_MISSED = 0.01  # of the GP noise: what narrow windows may miss. With all of it 64 nats were off on the benchmark
# recording of five regions, with this 0.2, as with the wide window
NEAR_BOUND, WIDER = 0.95, 1.5  # a delay this close to its bound widens it by this factor
CLIPPED = 0.8  # of the bound: where a climb goes on from a delay beyond it
SMOOTHED = (3, 1, 5)  # bins over which signals are averaged where lags are looked for, attempt by attempt
WIDEST_STEP = 0.3  # of log timescales, and of delays as the logistic function has them: what nothing is known of
LEAST_SLOPE = 1e-3  # of a log timescale by its free coordinate
NEAR_EDGE = 0.1  # of a bound: there the free coordinate of a delay hardly moves it


@dataclass(frozen=True)
class Fittable(Parametrized):
    """Parametrized model that inference methods can fit (see ``mrgp.inference.run``)."""

    held_at_first: ClassVar[tuple[str, ...]] = (MEAN_CHANGE.name,)  # a start from the data that bad latents would spoil
    found_by_fit: ClassVar[tuple[str, ...]] = ("n_across", "max_delay")  # choices that a fit may change for good

    @property
    def held_in_search(self) -> tuple[str, ...]:
        """Sites that the search for a start does not move."""
        return (OFFSET.name, *self.loadings.own_sites)

    # ---- the search for a start ----------------------------------------------------------------------------------

    def draw_start(self, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> dict[str, np.ndarray]:
        """Draw sites at which a climb on pseudo-neurons of unit noise may begin.

        Every fourth attempt is wholly random.
        """
        layout = data.layout
        assignment = self.assignment(layout)
        bound = self.delay_bound(layout)
        n_within = assignment.n_within
        populations = assignment.n_regions
        width, lagged, shared = self.smoothing(layout, attempt), None, None
        delayed = populations > 1 and bound > 0 and self.n_across > 0
        if delayed and attempt % 2 == 0 and data.n_bins >= FEWEST_BINS:
            centred = data.values - data.center
            smooth = moving_average(centred, SMOOTHED[attempt // 2 % len(SMOOTHED)])
            parts = [smooth[..., part] for part in layout.region_slices.values()]
            reach = NEAR_BOUND * bound / layout.bin_width
            lagged = lagged_directions(rng, parts, data, self.n_across, reach, greedy=attempt == 0)
            shared = lagged.loadings
        sites = {
            "loadings": draw_loadings(rng, data, self.n_across, n_within, width, shared),
            "noise": np.ones(layout.total_neurons),
            "offset": np.asarray(data.center),
        }
        if populations > 1 and bound > 0:  # of no latents the site is empty
            near = 0.2 * min(bound, DEFAULT_MAX_DELAY * layout.bin_width)
            sites["delay"] = near * rng.uniform(-1, 1, (populations - 1, self.n_across))
            if lagged is not None:
                sites["delay"] = layout.bin_width * lagged.delay[1:]
        longest = max(3.0, 0.1 * data.n_bins)
        for kind, count in (("across", self.n_across), ("within", sum(n_within))):
            if count:
                if self.kernel.has_timescale:
                    seconds = layout.bin_width * np.exp(rng.uniform(np.log(1.5), np.log(longest), count))
                    if lagged is not None and kind == "across":
                        seconds = layout.bin_width * lagged.timescale
                    if self.timescale_bounds is not None:
                        low, high = self.timescale_bounds
                        seconds = np.clip(seconds, low * (high / low) ** 0.01, low * (high / low) ** 0.99)
                    sites[f"timescale_{kind}"] = seconds
                for name, prior in self.kernel.parameters().items():
                    if not isinstance(prior, float):
                        sites[f"{name}_{kind}"] = np.full(count, float(prior.mean)) * np.exp(
                            0.3 * rng.standard_normal(count)
                        )
        return sites | self.loadings.first_guess(data, assignment, self.emission)

    @property
    def has_courses(self) -> bool:
        """True if something that changes over a trial is learned."""
        return self.mean.moves

    def prepared(self, data: MultiRegionData) -> Self:
        """Complete the model with settings that it takes from the recording to be fitted."""
        if not self.has_courses or self.duration is not None:
            return self
        return self.replace(duration=data.n_bins * data.bin_width)

    def for_search(self) -> Self:
        """Model for the search for a start: these latents under the spectral likelihood.

        It climbs on what :meth:`around_mean` leaves of the recording.
        """
        return self.replace(likelihood=Spectral(), transient=None, mean=Constant(), emission=Gaussian())

    def around_mean(self, data: MultiRegionData) -> tuple[MultiRegionData, dict[str, np.ndarray]]:
        """Subtract a first guess of the mean's course from the recording, and return both.

        The guess is returned as sites, with that of noise. Counts come as values of nearly constant variance; their
        guesses are of log-rates.
        """
        values, guess = self.emission.nearly_gaussian(data), self.mean.first_guess(data, self.emission, self.duration)
        rest = values
        if self.mean.moves:
            of_values = guess if values is data else self.mean.first_guess(values, Gaussian(), self.duration)
            rest = values.less(self.mean.course(of_values, values, self.duration))
        return rest, guess | self.emission.first_guess(rest, self.assignment(data.layout))

    def completed(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        """Add the sites that only this model has to those of a search or of a simpler model."""
        sites = self.emission.from_nearly_gaussian(sites, data)
        wanted = (*self.emission.own_sites, *self.mean.own_sites)
        lacking = any(name not in sites for name in wanted)
        guess = self.around_mean(data)[1] if lacking else {}
        return {**self.loadings.first_guess(data, self.assignment(data.layout), self.emission), **guess, **sites}

    def following(
        self, model: Any, sites: Mapping[str, Any], data: MultiRegionData
    ) -> tuple[Self, dict[str, Any]]:
        """Return this model, with sites at which a fit of ``model`` to such a recording ended."""

        def mean() -> np.ndarray:  # which the offset shares with a course
            return np.asarray(sites[OFFSET.name]) + model.mean.level(sites, data, model.duration)

        sites = self.emission.from_other(model.emission, sites, mean, data)
        same = (self.mean, self.duration, self.is_of_counts) == (model.mean, model.duration, model.is_of_counts)
        if not same or len(sites.get(MEAN_CHANGE.name, ())) != data.layout.n_conditions:
            sites = {name: value for name, value in sites.items() if name not in model.mean.own_sites}
        sites = {name: value for name, value in sites.items() if name not in self.mean.held}  # the recording says them
        return self, self.completed(sites, data)

    def reads_delays(self, layout: Layout) -> bool:
        """True if regions read latents at delays that are to be found."""
        return self.n_across > 0 and self.assignment(layout).n_regions > 1 and self.delay_bound(layout) > 0

    def delay_level(self, sites: Mapping[str, Any], data: MultiRegionData) -> np.ndarray:
        """Delays in seconds, (region, across_latent); the mean over a trial if they vary."""
        table = self.delay_table(sites, data.layout, data.n_bins)
        return table if table.ndim == 2 else table.mean(-1)

    def stand_in_loadings(self, sites: Mapping[str, Any], data: MultiRegionData) -> np.ndarray:
        """Loadings in the units of the recording that :meth:`around_mean` leaves."""
        return self.emission.loadings_of_values(np.asarray(sites[LOADINGS.name]), data)

    def reaching(self, sites: Mapping[str, Any], data: MultiRegionData) -> Self:
        """Set the bound of delays somewhat beyond those of ``sites``, at most half a trial."""
        largest = float(np.abs(np.asarray(sites["delay"])).max())
        return self.replace(max_delay=min(WIDER * largest, FARTHEST * data.n_bins * data.bin_width))

    def far_reaching(self, data: MultiRegionData) -> Self:
        """Return the model with the longest delays that a fit admits.

        It is the model itself if it has no delays, is to hold their bound, or admits such delays already.
        """
        longest = FARTHEST * data.n_bins * data.bin_width
        if self.hold_max_delay or not 0 < self.delay_bound(data.layout) < longest:
            return self
        return self.replace(max_delay=longest)

    def if_free(self, data: MultiRegionData) -> Self | None:
        """Return the model with the longest delays of a fit that does not hold its bound, or None.

        It is None if the bound is not held, or could not be wider.
        """
        if not self.hold_max_delay:
            return None
        free = self.replace(hold_max_delay=False)
        far = free.far_reaching(data)
        return None if far is free else far

    def clipped(self, sites: Mapping[str, Any], data: MultiRegionData, share: float = CLIPPED) -> dict[str, Any]:
        """Clip the delays of sites to at most a share of the bound."""
        most = share * self.delay_bound(data.layout)
        return {**sites, "delay": np.clip(np.asarray(sites["delay"]), -most, most)}

    def smoothing(self, layout: Layout, attempt: int) -> int | None:
        """Number of bins over which a start averages the recording to see its signals.

        None takes any signals that vary most. Slow signals stand out where noise and delays are averaged away; white
        ones are only lost by averaging.
        """
        bound = min(self.delay_bound(layout), DEFAULT_MAX_DELAY * layout.bin_width)
        reach = 2 * int(np.ceil(bound / layout.bin_width)) + 1
        widths = (max(reach // 2, 3), reach, 3, None) if self.kernel.has_timescale else (1, 1, 1, None)
        return widths[attempt % 4]

    def unsuited(self, data: MultiRegionData) -> Sentence | None:
        """Reason this model cannot describe the recording, or None."""
        return self.emission.unsuited(data)

    # ---- the climb -----------------------------------------------------------------------------------------------

    def scales(self, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Approximate posterior sd of each site in its unconstrained coordinate.

        See ``inference.optimise``.
        """
        noise = self.noise_of(sites)
        assignment = self.assignment(data.layout)
        scales = self.emission.scales(sites, data.n_trials * data.n_bins, assignment)
        scales |= self._dynamics_scales(data, sites)
        scales |= self.mean.scales(sites, data, noise, self.duration)
        scales |= self.loadings.scales(assignment)
        return scales

    def _dynamics_scales(self, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Approximate posterior sd of delays and kernel parameters, from spectra of latents.

        See ``mode.whittle``.
        """
        layout = data.layout
        assignment, loadings = self.assignment(layout), np.asarray(sites["loadings"])
        power = assignment.member @ (loadings**2 / self.noise_of(sites)[:, None])  # (region, column)
        shared = heard(power[:, : self.n_across], self.gp_noise)
        within = slice(assignment.n_regions * self.n_across, None)  # of the readouts
        own = power[assignment.region_of_readout[within], assignment.column_of_readout[within]]
        precision = {"across": shared.sum(0), "within": heard(own, self.gp_noise)}
        wanted = self.dynamics_sites(layout)
        scales = {}
        for kind, told in precision.items():
            names = [site.removesuffix(f"_{kind}") for site in wanted if site.endswith(f"_{kind}")]
            if not names:
                continue
            hyper = self.hyperparameters(sites, kind, layout)
            for name, each in of_kernel(self.kernel, hyper, names, told, data.n_bins).items():
                slope = np.ones(1)  # of the logarithm by the free coordinate, which is another between bounds
                if name == "timescale" and self.timescale_bounds is not None:
                    low, high = self.timescale_bounds
                    timescale = np.asarray(sites[f"timescale_{kind}"])
                    slope = np.maximum((timescale - low) * (high - timescale) / ((high - low) * timescale), LEAST_SLOPE)
                scales[f"{name}_{kind}"] = 1 / np.sqrt(data.n_trials * each * slope**2 + WIDEST_STEP**-2)
        if "delay" in wanted:
            hyper, bound = self.hyperparameters(sites, "across", layout), self.delay_bound(layout)
            told = of_delay(self.kernel, hyper, shared, data.n_bins)[1:] / data.bin_width**2
            level = self.delay_level(sites, data)[1:]
            by_free = 0.5 * bound * np.maximum(1 - (level / bound) ** 2, NEAR_EDGE)  # slope of a delay
            scales["delay"] = 1 / np.sqrt(data.n_trials * told * by_free**2 + WIDEST_STEP**-2)
        return scales

    @property
    def held(self) -> tuple[str, ...]:
        """Sites that climbs leave alone: the start sets them, or :meth:`learned` between climbs."""
        return self.mean.held

    def learned(
        self, data: MultiRegionData, sites: Mapping[str, Any], curvature: Diagonal, fixed: Collection[str]
    ) -> tuple[Self, dict[str, Any]] | None:
        """Improve the held sites after a climb; None if they are good already.

        Returns this model and its sites. ``curvature(site)`` gives the negative log density's second derivative by each
        free coordinate of a site.
        """
        return None

    # ---- adaptation to what a climb has found --------------------------------------------------------------------

    def adapted(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> Self:
        """Set the window that ``sites`` need, were timescales ``margin`` times as long."""
        if not self.likelihood.is_statespace or self.lift == "ar":
            return self
        across, within = (self.hyperparameters(sites, kind, data.layout) for kind in ("across", "within"))
        for hyper in (across, within):
            hyper["timescale"] = np.maximum(margin * hyper["timescale"], SHORTEST_READ)
        tolerance = self._new_share(sites, data.layout) * self.gp_noise
        return self.replace(window=self.choose_window(data.layout, across, within, tolerance=tolerance))

    def _new_share(self, sites: Mapping[str, Any], layout: Layout) -> float:
        """Ratio of the variance that a window may miss with autocorrelated and with white noise.

        Innovations miss (1 + phi^2) times as much, beside GP noise of which 1 - phi^2 is new.
        """
        if not self.emission.is_autocorrelated:
            return 1.0
        memory = np.exp(-layout.bin_width / np.asarray(sites[NOISE_TIMESCALE.name])).max()
        return float((1 - memory**2) / (1 + memory**2))

    def narrowed(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> Self:
        """Narrow the windows to the delays of ``sites``, plus and minus ``margin`` seconds.

        Delays are expected to move by less than ``margin``. The window of each latent is put around its own delays: a
        state of far fewer registers, for whoever evaluates thousands of times close to a maximum. Delays that move
        farther are read a little less exactly.
        """
        delay = self.delay_table(sites, data.layout, data.n_bins)
        if not self.likelihood.is_statespace or self.lift == "ar" or delay.ndim > 2 or not self.n_across:
            return self  # how far courses of delays move is not a matter of their levels
        across, within = (self.hyperparameters(sites, kind, data.layout) for kind in ("across", "within"))
        for hyper in (across, within):
            hyper["timescale"] = np.maximum(hyper["timescale"], SHORTEST_READ)
        bound = self.delay_bound(data.layout)
        low = np.maximum(delay.min(0) - margin, -bound) / data.bin_width
        high = np.minimum(delay.max(0) + margin, bound) / data.bin_width
        tolerance = NARROW_MISSED * self._new_share(sites, data.layout) * self.gp_noise
        window = self.choose_window(data.layout, across, within, (high - low) / 2, tolerance)
        shifts = tuple((-(low + high + self.emission.is_autocorrelated) / 2).tolist())
        return self.replace(window=dataclasses.replace(window, shifts=shifts))

    def unread_variance(self, data: MultiRegionData, sites: Mapping[str, Any]) -> float:
        """Largest share of a latent's variance that the state space misses at ``sites``.

        Variance that it misrepresents counts as missed.
        """
        if not self.likelihood.is_statespace or self.lift == "ar" or self.window is None or not self.n_across:
            return 0.0
        hyper = self.hyperparameters(sites, "across", data.layout)
        hyper["timescale"] = np.maximum(hyper["timescale"], SHORTEST_READ)
        delay = self.delay_table(sites, data.layout, data.n_bins) / data.layout.bin_width
        delay = np.moveaxis(delay, 1, -1).reshape(-1, self.n_across)  # region 1's zeros included
        read = np.arange(self.window.step + self.emission.is_autocorrelated)[:, None]
        points = np.unique(np.round(delay, 2), axis=0)[:, None] + read
        offsets = self.window.lead + points.reshape(-1, self.n_across)
        missed = missed_variance(self.kernel_lift, self.window, hyper, offsets)
        return max(missed, self.kernel_lift.error)

    def admitting(self, sites: Mapping[str, Any], layout: Layout) -> Self:
        """Widen ``max_delay``, if needed, so that it admits the delays of ``sites``.

        ``sites`` may come from another fit.

        Raises:
            ValueError: it is to be held, and they are beyond it.
        """
        if "delay" not in sites:
            return self
        largest, bound = float(np.abs(sites["delay"]).max(initial=0.0)), self.delay_bound(layout)
        if largest < bound:
            return self
        if self.hold_max_delay:
            reach = Argument("max_delay")
            raise Refusal(
                f"start has a delay of {1e3 * largest:.1f} ms, beyond the ", reach, f" of {1e3 * bound:.1f} ms that is "
                "to be held: raise ", reach, ", or leave start out",
            )  # fmt: skip
        return self.replace(max_delay=WIDER * largest)

    def presses(self, sites: Mapping[str, Any], data: MultiRegionData) -> bool:
        """True if a delay of ``sites`` has come within 5% of ``max_delay``."""
        if "delay" not in sites:
            return False
        return bool(self.pressing(self.delay_table(sites, data.layout, data.n_bins), data.layout).any())

    def pressing(self, delays: np.ndarray, layout: Layout) -> np.ndarray:
        """True for each delay behind the first region that is within 5% of ``max_delay``.

        Delays are in seconds; the result has their shape.
        """
        return np.abs(delays) >= NEAR_BOUND * self.delay_bound(layout)

    def widened(self, sites: Mapping[str, Any], data: MultiRegionData) -> Self | None:
        """Widen ``max_delay`` if a delay of ``sites`` comes close to it; None if not.

        It grows up to half of a trial: a latent that lags by more is hardly shared, but private to each region. The
        result is None also if ``max_delay`` is held or as wide already.
        """
        bound, longest = self.delay_bound(data.layout), FARTHEST * data.n_bins * data.bin_width
        if self.hold_max_delay or bound >= longest or not self.presses(sites, data):
            return None
        return self.replace(max_delay=min(WIDER * bound, longest))

    def keeping(self, sites: Mapping[str, Any], layout: Layout, across: np.ndarray) -> tuple[Self, dict[str, Any]]:
        """Keep some of the across latents of the model and its sites, by index."""
        n_columns = self.assignment(layout).n_columns
        columns = np.concatenate([across, np.arange(self.n_across, n_columns)])
        kept = {}
        for name, value in sites.items():
            site = site_of(name)
            kept[name] = value if site is None else site.keeping(value, across, columns)
        return self.replace(n_across=len(across)), kept
