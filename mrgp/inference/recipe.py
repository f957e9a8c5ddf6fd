"""The recipe of ``fit(method="map")``: a start from the data, then the climb, with the model adapted on the way.

1. The recording is reduced to pseudo-neurons; the model is climbed on them several times under a cheap likelihood
   (the spectral one, where the model has it) and the best climb gives the start.
2. The registers of the Markov likelihood are chosen for the timescales found, and log p(y, parameters) is climbed to
   convergence.
   Sites whose start is good already wait until the others have found their place (``held_at_first``).
3. Where the result asks for it (a delay near its bound, a timescale shorter than the registers were made for), the
   model is widened or refined and the climb goes on from where it was.

It asks the model for what only the model knows through the methods named in :class:`Model`.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, Self

import jax.numpy as jnp
import numpy as np

from mrgp.checks import warn
from mrgp.data import MultiRegionData
from mrgp.distributions.markov import MarkovGP, settling_steps
from mrgp.inference.apart import worth_of_sharing
from mrgp.inference.curvature import Diagonal, diagonal
from mrgp.inference.lags import FEWEST_BINS
from mrgp.inference.map import Ascent, LogJoint, Objective, free_sites, maximise
from mrgp.inference.profile import better_lags
from mrgp.inference.run import Checkpoint, Options, Run, Start
from mrgp.inference.start import Compressed, compress, decompress
from mrgp.inference.trivial import never_below_trivial, quietened
from mrgp.layout import Layout

SEARCH_TOLERANCE = 0.5  # nats: the search only has to rank its climbs
SEARCH_ITERATIONS = 300
FAR_PAYS = 5.0  # nats: what a delay beyond its bound has to gain, for a bound that is twice as wide costs a latent's
# state twice as much, and a latent that regions hardly share can be put anywhere
PRESSING = 0.9  # of a bound: the delays that are on their way beyond it
NEARLY = 0.95  # of a bound: where a climb begins from a lag that is farther
LONGER = "a lag of {:.0f} ms explains the recording better than the max_delay that is held: raise max_delay"
AGREEMENT = 1.0  # nats: two climbs that end this close have found the same optimum
ROUGH = 1.0  # nats: of a climb that only brings latents to where the sites held at first may follow
MARGIN = 0.8  # registers are made for timescales this much shorter than the start's
MOST_ROUNDS = 8
STILL_ADAPTING = f"the model was still being adapted after {MOST_ROUNDS} climbs: take this fit as the start of another"
LONG = 256  # steps from which on it pays to find out when the gains have settled
PER_NEURON = ("loadings", "noise", "offset", "mean_change", "dispersion")
TINY = 1e-12  # seconds: of a bound of zero, which has no delays
UNREAD = 0.01  # share of a latent's variance: ten times the default GP noise


class Model(Protocol):
    """What the recipe needs of a model."""

    likelihood: Any
    held_in_search: tuple[str, ...]
    held_at_first: tuple[str, ...]
    found_by_fit: tuple[str, ...]

    @property
    def held(self) -> tuple[str, ...]: ...

    def __call__(self, data: MultiRegionData) -> None: ...
    def replace(self, **changes: Any) -> Self: ...
    def assignment(self, layout: Layout) -> Any: ...
    kernel: Any

    def reads_delays(self, layout: Layout) -> bool: ...
    def delay_level(self, sites: Mapping[str, Any], data: MultiRegionData) -> np.ndarray: ...
    def stand_in_loadings(self, sites: Mapping[str, Any], data: MultiRegionData) -> np.ndarray: ...
    def hyperparameters(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> dict[str, np.ndarray]: ...
    def reaching(self, sites: Mapping[str, Any], data: MultiRegionData) -> Self: ...
    def far_reaching(self, data: MultiRegionData) -> Self: ...
    def if_free(self, data: MultiRegionData) -> Self | None: ...
    def clipped(self, sites: Mapping[str, Any], data: MultiRegionData, share: float = ...) -> dict[str, Any]: ...
    def draw_start(self, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> dict[str, np.ndarray]: ...
    def scales(self, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]: ...
    def dynamics_sites(self, layout: Layout) -> tuple[str, ...]: ...
    def learned(
        self, data: MultiRegionData, sites: Mapping[str, Any], curvature: Diagonal, fixed: Collection[str]
    ) -> tuple[Self, dict[str, Any]] | None: ...
    def adapted(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> Self: ...
    def admitting(self, sites: Mapping[str, Any], layout: Layout) -> Self: ...
    def prepared(self, data: MultiRegionData) -> Self: ...
    def for_search(self) -> Self: ...
    def around_mean(self, data: MultiRegionData) -> tuple[MultiRegionData, dict[str, np.ndarray]]: ...
    def completed(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]: ...
    def following(
        self, model: Any, sites: Mapping[str, Any], data: MultiRegionData
    ) -> tuple[Self, dict[str, Any]]: ...
    def delay_bound(self, layout: Layout) -> float: ...
    def presses(self, sites: Mapping[str, Any], data: MultiRegionData) -> bool: ...
    def widened(self, sites: Mapping[str, Any], data: MultiRegionData) -> Self | None: ...
    def presented(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]: ...
    def likelihood_at(self, data: MultiRegionData, sites: Mapping[str, Any]) -> Any: ...
    def unread_variance(self, data: MultiRegionData, sites: Mapping[str, Any]) -> float: ...
    def to_settings(self) -> dict[str, Any]: ...


@never_below_trivial(free=PER_NEURON)
def fit_map(model: Model, data: MultiRegionData, options: Options, start: Start | None = None) -> Run:
    """Maximum a posteriori from data alone, from ``start``, or from a checkpoint of the same model and recording."""
    given = model
    store = Checkpoint(options, model, data)
    model, sites, notes = begin(model, data, options, start, store)
    keep_window = keeps_window(given, model, data.layout)
    trace: list[float] = []
    evaluations = iterations = 0
    searched = start is None and store.phase in (None, "start")
    home: Home | None = None  # where the climb ended before it was tried elsewhere
    still = {name: 0.0 for name in model.held_at_first if name in sites and searched}  # a step of length 0
    for _ in range(MOST_ROUNDS):
        scale = {**model.scales(data, sites), **still}
        objective = Objective(LogJoint(model), data, sites, scale, _frozen(model, options))
        title = "climbing log p(y, parameters)" if options.progress else None
        ascent = maximise(
            objective,
            tolerance=max(options.tolerance, ROUGH) if still else options.tolerance,
            max_iterations=options.max_iterations - len(trace),
            progress=title,
            # A place that is only tried is no place to go on from.
            on_iteration=partial(store.write, model) if home is None else None,
        )
        sites = ascent.sites
        trace += [value for value in ascent.trace if home is None or value > home.log_joint]
        iterations += len(ascent.trace) - 1
        evaluations += ascent.evaluations
        converged, reason = ascent.converged, ascent.reason
        if not converged:
            break
        if still:
            still = {}
            continue
        changed, why = revised(model, data, sites, keep_window)
        if why is not None:
            notes.append(why)
            model = settled(changed, data, sites)
            continue
        relearned = model.learned(data, sites, partial(_curvature_of, model, data, sites, options), options.fixed)
        if relearned is not None:
            model, sites = relearned
            continue
        if home is not None:
            break
        try:
            better, told = elsewhere(model, data, sites, options)
        except KeyboardInterrupt:
            converged, reason = False, "interrupted"
            break
        notes += [note for note in told if note not in notes]
        if better is None:
            break
        home = Home(model, sites, ascent.log_joint, reason, len(notes))
        moved, sites = better
        if moved.delay_bound(data.layout) > model.delay_bound(data.layout):
            notes.append(wider_note(moved, data))
        kept = keep_window and keeps_window(model, moved, data.layout)
        model = settled(moved if kept else moved.adapted(data, sites, MARGIN), data, sites)
    else:
        converged, reason = False, STILL_ADAPTING
    if home is not None and not ascent.log_joint > home.log_joint:
        converged = reason != "interrupted"
        model, sites, reason = home.model, home.sites, home.reason if converged else reason
        notes = notes[: home.n_notes]
    notes += doubts(model, data, sites, options.fixed)
    if reason == "interrupted":
        store.write(model, sites, force=True)
    else:
        store.remove()
    if not converged:
        warn(f"the fit has not converged: {reason}")
    for note in notes:
        warn(note)
    shown = model.presented(sites, data.layout)
    return Run(
        model=model, sites=shown, method="map", trace=np.array(trace), converged=converged, reason=reason,
        iterations=iterations, evaluations=evaluations, notes=tuple(notes),
    )  # fmt: skip


class Home(NamedTuple):
    """Where a climb had converged before it was tried elsewhere."""

    model: Any
    sites: dict[str, Any]
    log_joint: float
    reason: str
    n_notes: int


def keeps_window(given: Model, model: Model, layout: Layout) -> bool:
    """Whether ``given`` has a window of its own, and the model that came of it the bound it was made for."""
    return getattr(given, "window", None) is not None and given.delay_bound(layout) == model.delay_bound(layout)


def _frozen(model: Model, options: Options) -> tuple[str, ...]:
    return tuple(sorted({*options.fixed_names, *model.held}))


def _curvature_of(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], options: Options, name: str
) -> np.ndarray:
    """Of the site ``name``, also where it is fixed."""
    frozen = tuple(site for site in _frozen(model, options) if site != name)
    return diagonal(Objective(LogJoint(model), data, sites, model.scales(data, sites), frozen), name)


def begin(
    model: Model, data: MultiRegionData, options: Options, start: Start | None, store: Checkpoint
) -> tuple[Model, dict[str, Any], list[str]]:
    """The model made ready for the recording, and sites: of a checkpoint, of ``start``, or of a search.

    The last of what is returned is what the search has to say.
    """
    notes: list[str] = []
    given = model = model.prepared(data)
    sites: dict[str, Any]
    resumed = store.read(model)
    if resumed is not None:
        model, sites = resumed
    else:
        if start is not None:
            model, sites = _from_fit(model, data, start)
        else:
            model, sites, notes = search(model, data, options)
            sites = model.completed(sites, data)
            sites = quietened(sites, data) if options.quiet else sites
        sites = {**sites, **options.fixed}
        model = model.admitting(sites, data.layout)
        store.write(model, sites, "start", force=True)
    if not keeps_window(given, model, data.layout):
        model = model.adapted(data, sites, MARGIN)
    return settled(model, data, sites), sites, notes


def search(model: Model, data: MultiRegionData, options: Options) -> tuple[Model, dict[str, np.ndarray], list[str]]:
    """The best of several climbs on the recording's factors, as sites of the neurons; wide enough for its delays.

    Delays are looked for over half a trial, whatever ``max_delay`` says, and found beyond it where that is worth more
    than ``FAR_PAYS``. The last of what is returned is what there is to say of that.
    """
    compressed, guess = reduced(model, data)
    near = model.for_search()
    sought = near.reads_delays(data.layout) and "delay" not in options.fixed
    far = near.far_reaching(compressed.data) if sought else near
    rng = np.random.default_rng(options.seed)
    climbs = _climbs(far, compressed, rng, options)
    together = [climb for climb in climbs if far is near or _shares(far, near, climb, compressed)]
    if len(together) < len(climbs):
        within = near.clipped(max(climbs, key=_height).sites, compressed.data)
        climbs = [*together, _climb(near, compressed, within, "shorter delays", options)]
        climbs += _climbs(near, compressed, rng, options)
    best = max(climbs, key=_height)
    notes = []
    if far is not near and _beyond(near, best, compressed):
        within = near.clipped(best.sites, compressed.data)
        rivals = [climb for climb in climbs if not _beyond(near, climb, compressed)]
        rivals.append(_climb(near, compressed, within, "shorter delays", options))
        rival = max(rivals, key=_height)
        if rival.log_joint > best.log_joint - FAR_PAYS:
            best = rival
        else:
            best = replace(best, sites=_brought_back(far, near, best, compressed))
            model = model.reaching(best.sites, data)
            notes.append(wider_note(model, data))
    elif sought and (unheld := near.if_free(compressed.data)) is not None:
        begin = unheld.draw_start(rng, compressed.data, 0)
        farther = _climb(unheld, compressed, begin, "longer delays", options)
        longer = _beyond(near, farther, compressed) and farther.log_joint > best.log_joint + FAR_PAYS
        if longer and _shares(unheld, near, farther, compressed):
            lag = 1e3 * np.abs(farther.sites["delay"]).max()
            notes.append(LONGER.format(lag))
    return model, {**guess, **_of_neurons(best, compressed, data)}, notes


def _climbs(
    model: Model, compressed: Compressed, rng: np.random.Generator, options: Options
) -> list[Ascent]:
    """Climbs from several starts, until two of them agree on the best."""
    climbs: list[Ascent] = []
    while len(climbs) < options.n_starts:
        begin = model.draw_start(rng, compressed.data, len(climbs))
        title = f"start {len(climbs) + 1} of {options.n_starts}"
        climbs.append(_climb(model, compressed, begin, title, options))
        scores = np.array([climb.log_joint for climb in climbs])
        if len(climbs) >= 3 and np.sum(scores > scores.max() - AGREEMENT) > 1:
            break
    return climbs


def _height(climb: Ascent) -> float:
    return climb.log_joint


def _shares(far: Model, near: Model, climb: Ascent, compressed: Compressed) -> bool:
    """Whether regions share something at the delays of a climb beyond the bound of ``near``, if there are any."""
    if not _beyond(near, climb, compressed):
        return True
    worth = worth_of_sharing(far, compressed.data, climb.sites, near.delay_bound(compressed.data.layout))
    return bool(np.isinf(worth).all() or worth[np.isfinite(worth)].max() > FAR_PAYS)


def _brought_back(far: Model, near: Model, climb: Ascent, compressed: Compressed) -> dict[str, Any]:
    """Its sites, with delays beyond the bound of ``near`` only where regions share something at them."""
    worth = worth_of_sharing(far, compressed.data, climb.sites, near.delay_bound(compressed.data.layout))
    clipped = near.clipped(climb.sites, compressed.data)
    return {**climb.sites, "delay": np.where(worth > FAR_PAYS, climb.sites["delay"], clipped["delay"])}


def reduced(model: Model, data: MultiRegionData) -> tuple[Compressed, dict[str, np.ndarray]]:
    """The recording's factors around a first guess of its mean, and that guess."""
    assignment = model.assignment(data.layout)
    rest, guess = model.around_mean(data)
    wanted = tuple(assignment.n_across + width for width in assignment.n_within)
    return compress(rest, assignment.n_neurons, wanted), guess


def _of_neurons(climb: Ascent, compressed: Compressed, data: MultiRegionData) -> dict[str, np.ndarray]:
    """Where a climb on factors ended, as sites of the neurons."""
    sites = {name: np.asarray(value) for name, value in climb.sites.items()}
    loadings, noise = decompress(compressed, sites["loadings"])
    return {**sites, "loadings": loadings, "noise": noise, "offset": np.array(data.center)}


def _beyond(near: Model, climb: Ascent, compressed: Compressed) -> bool:
    return near.presses(climb.sites, compressed.data)


def wider_note(model: Model, data: MultiRegionData) -> str:
    return f"a delay came close to its bound: max_delay widened to {1e3 * model.delay_bound(data.layout):.0f} ms"


def elsewhere(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], options: Options
) -> tuple[tuple[Model, dict[str, Any]] | None, list[str]]:
    """The model and sites at a lag from which a climb on the recording's factors ends higher, or None; and notes.

    Latents are tried at the lags that :func:`mrgp.inference.profile.better_lags` proposes, everything free to follow.
    A lag beyond a bound that is held is only told.
    """
    sought = model.for_search().reads_delays(data.layout) and not {"delay", "loadings"} & options.fixed.keys()
    if not sought or data.n_bins < FEWEST_BINS:
        return None, []
    compressed, near, far, here = _on_factors(model, data, sites, options.seed)
    assignment, layout = model.assignment(data.layout), compressed.data.layout
    parts, shared = list(layout.region_slices.values()), slice(0, assignment.n_across)
    columns = here["loadings"]
    hyper = model.hyperparameters(sites, "across", data.layout)
    level = model.delay_level(sites, data) / data.bin_width
    centred = compressed.data.values - compressed.data.center
    moves = better_lags(
        [centred[..., part] for part in parts], [columns[part, shared] for part in parts], level, hyper["timescale"],
        lambda lag: np.asarray(near.kernel.correlation(jnp.asarray(lag), hyper)),
    )  # fmt: skip
    if not moves:
        return None, []
    here = far.clipped(here, compressed.data, NEARLY)
    climbs = []
    for move in moves:
        delay, loadings = here["delay"].copy(), columns.copy()
        delay[:, move.latent] = data.bin_width * move.delay[1:]
        loadings[:, move.latent] = np.concatenate(move.loadings)
        there = far.clipped({**here, "delay": delay, "loadings": loadings}, compressed.data, NEARLY)
        climbs.append(_climb(far, compressed, there, "other lags", options))
    climbs = [climb for climb in climbs if _shares(far, near, climb, compressed)]
    if not climbs:
        return None, []
    best, notes = max(climbs, key=_height), list[str]()
    enough = _climb(far, compressed, here, "the lags found", options).log_joint + FAR_PAYS
    bound, held = near.delay_bound(data.layout), near.if_free(compressed.data) is not None
    worth, longest = best.log_joint > enough, float(np.abs(best.sites["delay"]).max())
    if worth and held and longest >= bound:
        beyond = best.log_joint
        best = _climb(near, compressed, near.clipped(best.sites, compressed.data, NEARLY), "shorter lags", options)
        notes = [LONGER.format(1e3 * longest)] if beyond > best.log_joint + FAR_PAYS else []
        worth = best.log_joint > enough
    if not worth:
        return None, notes
    found = _of_neurons(best, compressed, data)
    new = {**{name: value for name, value in sites.items() if name not in found}, **found}
    wider = not held and far is not near and _beyond(near, best, compressed)
    moved = model.reaching(found, data) if wider else model
    return (moved, {**model.completed(new, data), **options.fixed}), notes


class OnFactors(NamedTuple):
    """What stands for a recording and its model where lags are looked for.

    Attributes:
        compressed: The recording's factors.
        near, far: The model of them, with the bound of its delays and with delays as long as a fit admits.
        sites: Of ``far``; delays are levels, and may lie beyond any bound.
    """

    compressed: Compressed
    near: Any
    far: Any
    sites: dict[str, Any]


def _on_factors(model: Model, data: MultiRegionData, sites: Mapping[str, Any], seed: int) -> OnFactors:
    near = model.for_search()
    compressed, _ = reduced(model, data)
    far = near.if_free(compressed.data) or near.far_reaching(compressed.data)
    own = {name: np.asarray(sites[name]) for name in near.dynamics_sites(data.layout)}
    drawn = far.draw_start(np.random.default_rng(seed), compressed.data, 1)  # what factors have of their own
    columns = compressed.encoded(model.stand_in_loadings(sites, data))
    found = {**drawn, **own, "loadings": columns, "delay": model.delay_level(sites, data)[1:]}
    return OnFactors(compressed, near, far, found)


def _from_fit(model: Model, data: MultiRegionData, start: Start) -> tuple[Model, dict[str, Any]]:
    """The model and its sites where another fit ended, if its sites are those of this model."""
    model, sites = model.following(start.model, start.sites, data)
    wanted = {name: np.shape(site["value"]) for name, site in free_sites(model, data).items()}
    found = {name: np.shape(sites[name]) for name in wanted if name in sites}
    if found != wanted:
        raise ValueError(f"start has sites {found}, but this model needs {wanted}: fit a preset with the same latents")
    return model, {name: sites[name] for name in wanted}


def _climb(model: Model, compressed: Compressed, begin: Mapping[str, Any], title: str, options: Options) -> Ascent:
    # Loadings, noise and offsets are those of pseudo-neurons here: what is fixed of them has to wait.
    shared = {name: value for name, value in options.fixed.items() if name not in PER_NEURON}
    begin = {**begin, **shared}
    scale = model.scales(compressed.data, begin)
    frozen = tuple(sorted({*model.held_in_search, *shared} & begin.keys()))
    objective = Objective(LogJoint(model), compressed.data, begin, scale, frozen)
    ascent = maximise(
        objective,
        tolerance=SEARCH_TOLERANCE,
        max_iterations=SEARCH_ITERATIONS,
        progress=title if options.progress else None,
    )
    if ascent.reason == "interrupted":
        raise KeyboardInterrupt
    # The prior of delays is flat up to a bound: without it, climbs under different bounds can be compared.
    flat = np.size(ascent.sites.get("delay", ())) * np.log(2 * max(model.delay_bound(compressed.data.layout), TINY))
    return replace(ascent, log_joint=ascent.log_joint + flat)


def settled(model: Model, data: MultiRegionData, sites: Mapping[str, Any], least: int = LONG) -> Model:
    """The model with the number of steps after which its gains are constant, where there are ``least`` or more."""
    if model.likelihood != "markov" or data.observed is not None:
        return model
    model = model.replace(transient=None)
    distribution = model.likelihood_at(data, sites)
    if not isinstance(distribution, MarkovGP) or data.n_bins // distribution.space.window.step < least:
        return model
    return model.replace(transient=settling_steps(distribution, np.asarray(data.values[:1])))


def doubts(model: Model, data: MultiRegionData, sites: Mapping[str, Any], fixed: Collection[str]) -> list[str]:
    """What is to be said of where a fit ended, a sentence each."""
    found = []
    if (missed := model.unread_variance(data, sites)) > UNREAD:
        found.append(
            f"registers or states are too few for a timescale found: {missed:.2g} of a latent's variance is misread; "
            "raise order, or give a finer window (see lift_error)"
        )
    if "delay" not in fixed and model.presses(sites, data):
        bound = 1e3 * model.delay_bound(data.layout)
        found.append(f"a delay is within 5% of max_delay, {bound:.0f} ms: it may be longer, or the latent not shared")
    return found


def _worth_following(model: Model, data: MultiRegionData, sites: Mapping[str, Any]) -> bool:
    """Whether delays that press on the bound lead to something that regions share, and not only away from it."""
    compressed, _, far, here = _on_factors(model, data, sites, seed=0)
    bound = model.delay_bound(data.layout)
    worth = worth_of_sharing(far, compressed.data, here, PRESSING * bound)
    return bool(np.isinf(worth).all() or worth[np.isfinite(worth)].max() > FAR_PAYS)


def revised(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], keep_window: bool
) -> tuple[Model, str | None]:
    """A model that suits where the climb ended, and why; None where the present one does."""
    wider = model.widened(sites, data)
    if wider is not None and _worth_following(model, data, sites):
        wider = wider if keep_window else wider.adapted(data, sites, 1.0)
        return wider, wider_note(wider, data)
    if model.likelihood != "markov":
        return model, None
    fine = model.adapted(data, sites, 1.0)
    mine, needed = getattr(model, "window", None), getattr(fine, "window", None)
    if not keep_window and mine is not None and needed is not None and needed.spacing < mine.spacing:
        return fine, f"a timescale is shorter than the start's: registers refined to {needed.spacing:g} bins"
    latest = settled(model, data, sites)
    before, now = getattr(model, "transient", None), getattr(latest, "transient", None)
    if before is not None and (now is None or now > before):
        return (
            latest,
            f"the gains settle later than at the start: transient raised from {before} to {now or 'all'} steps",
        )
    return model, None
