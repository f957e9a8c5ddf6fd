"""Starts of fits: first draws of sites, guesses, and the ends of other fits."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mrgp.inference.lags import FEWEST_BINS, Shared, lagged_directions
from mrgp.inference.start import compress, decompress, draw_loadings, moving_average
from mrgp.parts.delays.base import DEFAULT_LONGEST
from mrgp.parts.delays.bounds import NEAR_BOUND
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.emissions import Gaussian
from mrgp.parts.means import MEAN_CHANGE
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.thinning import thinned

if TYPE_CHECKING:
    from mrgp.families.gaussian_process import GaussianProcesses

SMOOTHED = (3, 1, 5)  # bins over which signals are averaged where lags are looked for, attempt by attempt
NEAR = 0.2  # of the bound of delays: how far from 0 those of a random start are


def draw_sites(
    model: "GaussianProcesses", rng: np.random.Generator, data: MultiRegionData, attempt: int
) -> dict[str, np.ndarray]:
    """Draw sites of a model; every fourth attempt is wholly random.

    Args:
        model: Whose sites these are.
        rng: Of the random part.
        data: Pseudo-neurons of unit noise.
        attempt: Number of the climb that begins there.
    """
    layout, n_across = data.layout, model.n_across
    assignment = model.assignment(layout)
    bound = model.delays.bound(layout.bin_width)
    lagged = _lags(model, rng, data, attempt) if attempt % 2 == 0 else None
    width = smoothing(attempt, bound / layout.bin_width, slow=model.kernel.has_timescale)
    shared = None if lagged is None else lagged.loadings
    sites = {
        LOADINGS.name: draw_loadings(rng, data, n_across, assignment.n_within, width, shared),
        NOISE.name: np.ones(layout.total_neurons),
        OFFSET.name: np.asarray(data.center),
    }
    if _are_delayed(model, data):  # of no latents the site is empty
        near = NEAR * min(bound, DEFAULT_LONGEST * layout.bin_width)
        sites[DELAY.name] = near * rng.uniform(-1, 1, (assignment.n_regions - 1, n_across))
        if lagged is not None:
            sites[DELAY.name] = layout.bin_width * lagged.delay[1:]
    for kind, count in (("across", n_across), ("within", sum(assignment.n_within))):
        if count:
            sites |= _of_kernel(model, rng, data, kind, count, lagged if kind == "across" else None)
    return sites | model.loadings.first_guess(data, assignment, model.emission)


def first_sites(model: "GaussianProcesses", data: MultiRegionData) -> dict[str, np.ndarray]:
    """Sites with which the first climb of a search would begin, those of neurons included.

    They are ``loadings`` (neuron, column), noise and offsets as the emission has them, delays and kernel parameters; of
    a large recording some trials are enough. Of an emission for each region they have no noise and no offsets.
    """
    rng, assignment, emission = np.random.default_rng(0), model.assignment(data.layout), model.emission
    some = thinned(data)
    wanted = tuple(assignment.n_across + width for width in assignment.n_within)
    compressed = compress(emission.beginning.nearly_gaussian(some), assignment.n_neurons, wanted)
    pseudo = compressed.data
    lagged = _lags(model, rng, pseudo, 0)
    width = smoothing(0, model.delays.bound(data.bin_width) / data.bin_width, slow=model.kernel.has_timescale)
    shared = None if lagged is None else lagged.loadings
    columns = draw_loadings(rng, pseudo, model.n_across, assignment.n_within, width, shared)
    loadings, noise = decompress(compressed, columns)
    of_values = {LOADINGS.name: loadings, NOISE.name: noise, OFFSET.name: np.array(some.center)}
    sites = emission.beginning.from_nearly_gaussian(of_values, some)
    if lagged is not None:
        sites[DELAY.name] = data.bin_width * lagged.delay[1:]
    for kind, count in (("across", model.n_across), ("within", sum(assignment.n_within))):
        if count:
            sites |= _of_kernel(model, rng, pseudo, kind, count, lagged if kind == "across" else None)
    return sites


def _are_delayed(model: "GaussianProcesses", data: MultiRegionData) -> bool:
    return model.assignment(data.layout).n_regions > 1 and model.delays.bound(data.bin_width) > 0


def _lags(
    model: "GaussianProcesses", rng: np.random.Generator, data: MultiRegionData, attempt: int
) -> Shared | None:
    """Find what regions of pseudo-neurons share at a lag each; None where nothing has a lag."""
    if not (_are_delayed(model, data) and model.n_across and data.n_bins >= FEWEST_BINS):
        return None
    smooth = moving_average(data.floats - data.center, SMOOTHED[attempt // 2 % len(SMOOTHED)])
    parts = [smooth[..., part] for part in data.layout.region_slices.values()]
    reach = NEAR_BOUND * model.delays.bound(data.bin_width) / data.bin_width
    return lagged_directions(rng, parts, data, model.n_across, reach, greedy=attempt == 0)


def _of_kernel(
    model: "GaussianProcesses",
    rng: np.random.Generator,
    data: MultiRegionData,
    kind: str,
    count: int,
    lagged: Shared | None,
) -> dict[str, np.ndarray]:
    """Draw kernel parameters of ``count`` latents, slow ones."""
    sites, bin_width = {}, data.bin_width
    if model.kernel.has_timescale:
        longest = max(3.0, 0.1 * data.n_bins)
        seconds = bin_width * np.exp(rng.uniform(np.log(1.5), np.log(longest), count))
        if lagged is not None:
            seconds = bin_width * lagged.timescale
        if model.timescale_bounds is not None:
            low, high = model.timescale_bounds
            seconds = np.clip(seconds, low * (high / low) ** 0.01, low * (high / low) ** 0.99)
        sites[f"timescale_{kind}"] = seconds
    for name, prior in model.kernel.parameters().items():
        if not isinstance(prior, float):
            spread = np.exp(0.3 * rng.standard_normal(count))
            sites[f"{name}_{kind}"] = np.full(count, float(prior.mean)) * spread
    return sites


def smoothing(attempt: int, longest: float = 0.0, slow: bool = True) -> int | None:
    """Number of bins over which a start averages the recording to see its signals.

    None takes any signals that vary most. Slow signals stand out where noise and delays, of ``longest`` bins at most,
    are averaged away; white ones are only lost by averaging.
    """
    reach = 2 * int(np.ceil(min(longest, DEFAULT_LONGEST))) + 1
    widths = (max(reach // 2, 3), reach, 3, None) if slow else (1, 1, 1, None)
    return widths[attempt % 4]


def around_mean(model: "GaussianProcesses", data: MultiRegionData) -> tuple[MultiRegionData, dict[str, np.ndarray]]:
    """Transform a recording to nearly Gaussian values around a guess of its mean.

    Returns the values, and that guess with those of the emission's own sites.
    """
    begins, guess = model.emission.beginning, model.mean.first_guess(data, model.emission, model.duration)
    values = rest = begins.nearly_gaussian(data)
    if model.mean.moves:
        of_values = guess if values is data else model.mean.first_guess(values, Gaussian(), model.duration)
        rest = values.less(model.mean.course(of_values, values, model.duration))
    return rest, guess | begins.first_guess(rest, model.assignment(data.layout))


def completed(model: "GaussianProcesses", sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
    """Add first guesses of the sites that are lacking."""
    beginning = model.emission.beginning
    sites = beginning.with_noise(beginning.from_nearly_gaussian(sites, data), data)
    wanted = (*model.emission.own_sites, *model.mean.own_sites)
    lacking = any(name not in sites for name in wanted)
    guess = around_mean(model, thinned(data))[1] if lacking else {}
    of_loadings = model.loadings.first_guess(data, model.assignment(data.layout), model.emission)
    of_delays = model.delays.first_guess(sites, model.tables.extent(data.layout, data.n_bins))
    return {**of_delays, **of_loadings, **guess, **sites}


def following[M: GaussianProcesses](
    model: M, other: "GaussianProcesses", sites: Mapping[str, Any], data: MultiRegionData
) -> tuple[M, dict[str, Any]]:
    """Return the model, with sites at which a fit of ``other`` to such a recording ended."""

    def mean() -> np.ndarray:  # which the offset shares with a course
        return np.asarray(sites[OFFSET.name]) + other.mean.level(sites, data, other.duration)

    sites = model.emission.beginning.from_other(other.emission, sites, mean, data)
    counted = model.emission.is_of_counts, other.emission.is_of_counts
    same = (model.mean, model.duration, counted[0]) == (other.mean, other.duration, counted[1])
    if not same or len(sites.get(MEAN_CHANGE.name, ())) != data.layout.n_conditions:
        sites = {name: value for name, value in sites.items() if name not in other.mean.own_sites}
    sites = {name: value for name, value in sites.items() if name not in model.mean.held}  # the recording says them
    delays, sites = model.delays.from_other(other.delays, sites, model.tables.extent(data.layout, data.n_bins))
    chosen = model if delays == model.delays else model.replace(delays=delays)
    return chosen, completed(chosen, sites, data)
