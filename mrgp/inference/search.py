"""Search for the start of a fit, and for better lags, by climbs on the recording's factors.

The recording is reduced to pseudo-neurons, and the model climbed on them under a cheap likelihood (the spectral one,
where the model has it), with delays as long as a fit admits. A lag beyond ``max_delay`` is followed only where regions
share something at it (see ``apart``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mrgp.inference.apart import worth_of_sharing
from mrgp.inference.density import LogJoint
from mrgp.inference.lags import FEWEST_BINS
from mrgp.inference.optimise import INTERRUPTED, OVERTAKEN, Ascent, Objective, maximise
from mrgp.inference.profile import better_lags
from mrgp.inference.run import Model, Options
from mrgp.inference.start import Compressed, compress, decompress
from mrgp.parts.delays.bounds import are_read, clipped, far_reaching, if_free, levels, presses, reaching
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.kernels import correlations
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET
from mrgp.parts.sites import of_neurons
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.thinning import thinned

SEARCH_TOLERANCE = 0.5  # nats: the search only has to rank its climbs
BRIEF = 60  # iterations of a climb
FAR_PAYS = 5.0  # nats: what a delay beyond its bound has to gain, for a bound that is twice as wide costs a latent's
# state twice as much, and a latent that regions hardly share can be put anywhere
PRESSING = 0.9  # of a bound: the delays that are on their way beyond it
NEARLY = 0.95  # of a bound: where a climb begins from a lag that is farther
LONGER = "a lag of {:.0f} ms explains the recording better than the max_delay that is held: raise max_delay"
SOME = "the start was found on {} of {} trials, evenly spaced, as the recording is large"
AGREEMENT = 1.0  # nats: two climbs that end this close have found the same optimum
TINY = 1e-12  # seconds: of a bound of zero, which has no delays


def search(model: Model, data: MultiRegionData, options: Options) -> tuple[Model, dict[str, np.ndarray], list[str]]:
    """Find a start: the best of several climbs on the recording's factors.

    Its sites are those of the neurons, and its model is wide enough for its delays. Delays are looked for over half a
    trial, whatever ``max_delay`` says, and found beyond it where that is worth more than ``FAR_PAYS``. The last of what
    is returned is what there is to say of that.
    """
    compressed, guess = reduced(model, data)
    near = model.fitting.for_search()
    extent = near.tables.extent(compressed.data.layout, data.n_bins)
    sought = are_read(near.delays, extent) and DELAY.name not in options.fixed
    far = near.replace(delays=far_reaching(near.delays, extent)) if sought else near
    rng = np.random.default_rng(options.seed)
    climbs = _climbs(far, compressed, rng, options)
    together = [climb for climb in climbs if far == near or _shares(far, near, climb, compressed)]
    if len(together) < len(climbs):
        within = clipped(near.delays, max(climbs, key=_height).sites, data.bin_width)
        climbs = [*together, _climb(near, compressed, within, "shorter delays", options)]
        climbs += _climbs(near, compressed, rng, options)
    best = max(climbs, key=_height)
    notes = []
    if (used := compressed.data.n_trials) < data.n_trials:
        notes.append(SOME.format(used, data.n_trials))
    if far != near and _beyond(near, best, compressed):
        within = clipped(near.delays, best.sites, data.bin_width)
        rivals = [climb for climb in climbs if not _beyond(near, climb, compressed)]
        rivals.append(_climb(near, compressed, within, "shorter delays", options))
        rival = max(rivals, key=_height)
        if rival.log_joint > best.log_joint - FAR_PAYS:
            best = rival
        else:
            best = replace(best, sites=_brought_back(far, near, best, compressed))
            own = model.tables.extent(data.layout, data.n_bins)
            model = model.replace(delays=reaching(model.delays, best.sites, own))
            notes.append(wider_note(model, data))
    elif sought and (free := if_free(near.delays, extent)) is not None:
        unheld = near.replace(delays=free)
        begin = unheld.fitting.draw_start(rng, compressed.data, 0)
        farther = _climb(unheld, compressed, begin, "longer delays", options)
        longer = _beyond(near, farther, compressed) and farther.log_joint > best.log_joint + FAR_PAYS
        if longer and _shares(unheld, near, farther, compressed):
            lag = 1e3 * np.abs(farther.sites[DELAY.name]).max()
            notes.append(LONGER.format(lag))
    return model, {**guess, **_of_neurons(best, compressed, data)}, notes


def briefly(
    model: Model, data: MultiRegionData, options: Options
) -> tuple[Model, dict[str, np.ndarray], list[str]]:
    """Search by short climbs that race, where climbs follow that are as fast.

    Longer ones must not race: those that end highest, where a neuron is left without noise, begin slowly.
    """
    return search(model, data, replace(options, search_iterations=BRIEF, search_races=True))


def _climbs(
    model: Model, compressed: Compressed, rng: np.random.Generator, options: Options
) -> list[Ascent]:
    """Climb from several starts, until two of the climbs agree on the best.

    In a race, those that the best one so far has left behind are not returned.
    """
    climbs: list[Ascent] = []
    for attempt in range(options.n_starts):
        begin = model.fitting.draw_start(rng, compressed.data, attempt)
        title = f"start {attempt + 1} of {options.n_starts}"
        rival = max(climbs, key=_height).trace if climbs and options.search_races else ()
        climb = _climb(model, compressed, begin, title, options, rival)
        if climb.reason == OVERTAKEN:
            continue
        climbs.append(climb)
        scores = np.array([climb.log_joint for climb in climbs])
        if attempt >= 2 and np.sum(scores > scores.max() - AGREEMENT) > 1:
            break
    return climbs


def _height(climb: Ascent) -> float:
    return climb.log_joint


def _shares(far: Model, near: Model, climb: Ascent, compressed: Compressed) -> bool:
    """True if regions share something at a climb's delays beyond the bound of ``near``.

    Also true if there are no such delays.
    """
    if not _beyond(near, climb, compressed):
        return True
    return _pays(worth_of_sharing(far, compressed.data, climb.sites, near.delays.bound(compressed.data.bin_width)))


def _pays(worth: np.ndarray) -> bool:
    """True if some delay beyond a bound is worth following, or if there is none.

    ``worth`` is what :func:`worth_of_sharing` returns.
    """
    return bool(np.isinf(worth).all() or worth[np.isfinite(worth)].max() > FAR_PAYS)


def _brought_back(far: Model, near: Model, climb: Ascent, compressed: Compressed) -> dict[str, Any]:
    """Clip delays of a climb to the bound of ``near`` unless regions share something there.

    Returns all sites of the climb.
    """
    worth = worth_of_sharing(far, compressed.data, climb.sites, near.delays.bound(compressed.data.bin_width))
    within = clipped(near.delays, climb.sites, compressed.data.bin_width)
    return {**climb.sites, DELAY.name: np.where(worth > FAR_PAYS, climb.sites[DELAY.name], within[DELAY.name])}


def reduced(model: Model, data: MultiRegionData) -> tuple[Compressed, dict[str, np.ndarray]]:
    """Reduce the recording to factors around a guess of its mean; return that guess too.

    Of a large recording some trials are enough for that.
    """
    assignment, data = model.assignment(data.layout), thinned(data)
    rest, guess = model.fitting.around_mean(data)
    wanted = tuple(assignment.n_across + width for width in assignment.n_within)
    compressed = compress(rest, assignment.n_neurons, wanted)
    return replace(compressed, few=model.fitting.for_search().fitting.folded(compressed.data)), guess


def _of_neurons(climb: Ascent, compressed: Compressed, data: MultiRegionData) -> dict[str, np.ndarray]:
    """Sites of the neurons at the end of a climb on factors."""
    sites = {name: np.asarray(value) for name, value in climb.sites.items()}
    loadings, noise = decompress(compressed, sites[LOADINGS.name])
    noise = np.where(noise > 0, noise, np.square(data.scale))  # of a neuron that is silent in all trials of the search
    return {**sites, LOADINGS.name: loadings, NOISE.name: noise, OFFSET.name: np.array(data.center)}


def _beyond(near: Model, climb: Ascent, compressed: Compressed) -> bool:
    return presses(near.delays, climb.sites, near.tables.extent(compressed.data.layout, compressed.data.n_bins))


def wider_note(model: Model, data: MultiRegionData) -> str:
    return f"a delay came close to its bound: max_delay widened to {1e3 * model.delays.bound(data.bin_width):.0f} ms"


def elsewhere(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], options: Options
) -> tuple[tuple[Model, dict[str, Any]] | None, list[str]]:
    """Look for a lag from which a climb on the recording's factors ends higher.

    Returns the model and sites there, or None; and notes. Latents are tried at the lags that
    :func:`mrgp.inference.profile.better_lags` proposes, everything free to follow. A lag beyond a bound that is held is
    only told.
    """
    extent = model.tables.extent(data.layout, data.n_bins)
    sought = are_read(model.fitting.for_search().delays, extent)
    if not sought or {DELAY.name, LOADINGS.name} & options.fixed.keys() or data.n_bins < FEWEST_BINS:
        return None, []
    compressed, near, far, here = _on_factors(model, data, sites, options.seed)
    assignment, layout = model.assignment(data.layout), compressed.data.layout
    parts, shared = list(layout.region_slices.values()), slice(0, assignment.n_across)
    columns = here[LOADINGS.name]
    hyper = model.tables.hyperparameters(sites, "across", data.layout)
    level = levels(model.delays, sites, extent) / data.bin_width
    centred = compressed.data.floats - compressed.data.center
    moves = better_lags(
        [centred[..., part] for part in parts], [columns[part, shared] for part in parts], level, hyper["timescale"],
        lambda lag: correlations(near.kernel, lag, hyper), near.delays.bound(data.bin_width) / data.bin_width,
    )  # fmt: skip
    if not moves:
        return None, []
    here = clipped(far.delays, here, data.bin_width, NEARLY)
    climbs = []
    for move in moves:
        delay, loadings = here[DELAY.name].copy(), columns.copy()
        delay[:, move.latent] = data.bin_width * move.delay[1:]
        loadings[:, move.latent] = np.concatenate(move.loadings)
        moved = {**here, DELAY.name: delay, LOADINGS.name: loadings}
        there = clipped(far.delays, moved, data.bin_width, NEARLY)
        climbs.append(_climb(far, compressed, there, "other lags", options))
    climbs = [climb for climb in climbs if _shares(far, near, climb, compressed)]
    if not climbs:
        return None, []
    best, notes = max(climbs, key=_height), list[str]()
    within = clipped(near.delays, here, data.bin_width, NEARLY)  # the fit has stayed there: it counts no farther climb
    enough = _climb(near, compressed, within, "the lags found", options).log_joint + FAR_PAYS
    bound, held = near.delays.bound(data.bin_width), if_free(near.delays, extent) is not None
    worth, longest = best.log_joint > enough, float(np.abs(best.sites[DELAY.name]).max())
    if worth and held and longest >= bound:
        beyond = best.log_joint
        within = clipped(near.delays, best.sites, data.bin_width, NEARLY)
        best = _climb(near, compressed, within, "shorter lags", options)
        notes = [LONGER.format(1e3 * longest)] if beyond > best.log_joint + FAR_PAYS else []
        worth = best.log_joint > enough
    if not worth:
        return None, notes
    found = _of_neurons(best, compressed, data)
    new = {**{name: value for name, value in sites.items() if name not in found}, **found}
    wider = not held and far != near and _beyond(near, best, compressed)
    farther = model.replace(delays=reaching(model.delays, found, extent)) if wider else model
    return (farther, {**model.fitting.first_guess(new, data), **options.fixed}), notes


class OnFactors(NamedTuple):
    """Recording and model as they are while lags are looked for.

    Attributes:
        compressed: The recording's factors.
        near, far: The model of them, with the bound of its delays and with delays as long as a fit admits.
        sites: Of ``far``; delays are levels, and may lie beyond any bound.
    """

    compressed: Compressed
    near: Model
    far: Model
    sites: dict[str, Any]


def _on_factors(model: Model, data: MultiRegionData, sites: Mapping[str, Any], seed: int) -> OnFactors:
    near = model.fitting.for_search()
    compressed, _ = reduced(model, data)
    extent = near.tables.extent(compressed.data.layout, data.n_bins)
    far = near.replace(delays=if_free(near.delays, extent) or far_reaching(near.delays, extent))
    own = {name: np.asarray(sites[name]) for name in near.tables.dynamics_sites(data.layout)}
    drawn = far.fitting.draw_start(np.random.default_rng(seed), compressed.data, 1)  # what factors have of their own
    of_values = model.emission.beginning.loadings_of_values(np.asarray(sites[LOADINGS.name]), data)
    level = levels(model.delays, sites, model.tables.extent(data.layout, data.n_bins))
    found = {**drawn, **own, LOADINGS.name: compressed.encoded(of_values), DELAY.name: level[1:]}
    return OnFactors(compressed, near, far, found)


def worth_following(model: Model, data: MultiRegionData, sites: Mapping[str, Any]) -> bool:
    """True if regions share something at the delays that press on the bound.

    If they do not, longer delays would only lead away from what is shared.
    """
    compressed, _, far, here = _on_factors(model, data, sites, seed=0)
    bound = model.delays.bound(data.bin_width)
    return _pays(worth_of_sharing(far, compressed.data, here, PRESSING * bound))


def _climb(
    model: Model, compressed: Compressed, begin: Mapping[str, Any], title: str, options: Options,
    rival: Sequence[float] = (),
) -> Ascent:  # fmt: skip
    # Loadings, noise and offsets are those of pseudo-neurons here: what is fixed of them has to wait.
    shared = {name: value for name, value in options.fixed.items() if name not in of_neurons(options.fixed)}
    begin = {**begin, **shared}
    scale = model.fitting.scales(compressed.data, begin, known=True)
    frozen = tuple(sorted({*model.fitting.held_in_search, *shared} & begin.keys()))
    objective = Objective(LogJoint(model), compressed.few, begin, scale, frozen)
    ascent = maximise(
        objective,
        tolerance=SEARCH_TOLERANCE,
        max_iterations=options.search_iterations,
        progress=title if options.progress else None,
        rival=rival,
    )
    if ascent.reason == INTERRUPTED:
        raise KeyboardInterrupt
    # The prior of delays is flat up to a bound: without it, climbs under different bounds can be compared.
    bound = max(model.delays.bound(compressed.data.bin_width), TINY)
    flat = np.size(ascent.sites.get(DELAY.name, ())) * np.log(2 * bound)
    return replace(ascent, log_joint=ascent.log_joint + flat)
