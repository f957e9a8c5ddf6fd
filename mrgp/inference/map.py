"""Recipe of ``fit(method="map")``: a start from the data, then a climb.

The model is adapted on the way.

1. The best of several climbs on the recording's factors gives the start (see ``search``).
2. The registers of the Markov likelihood are chosen for the timescales found, and log p(y, parameters) is climbed to
   convergence.
   Sites whose start is good already wait until the others have found their place (``held_at_first``).
3. Where the result asks for it (a delay near its bound, a timescale shorter than the registers were made for), the
   model is widened or refined and the climb goes on from where it was.
4. Once it has converged, other lags are looked at, and the climb goes on from a better one.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mrgp.inference.method import Checkpoint, Model, Options, Run, Start
from mrgp.inference.mode.curvature import diagonal
from mrgp.inference.optimise import LogJoint, Objective, free_sites, maximise
from mrgp.inference.search import elsewhere, search, wider_note, worth_following
from mrgp.inference.trivial import never_below_trivial, quietened
from mrgp.likelihoods.kalman import MarkovGP, settling_steps
from mrgp.parts.delays.bounds import admitting, presses, widened
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.sites import of_neurons
from mrgp.recordings.checks import warn
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

ROUGH = 1.0  # nats: of a climb that only brings latents to where the sites held at first may follow
MARGIN = 0.8  # registers are made for timescales this much shorter than the start's
MOST_ROUNDS = 8
STILL_ADAPTING = f"the model was still being adapted after {MOST_ROUNDS} climbs: take this fit as the start of another"
LONG = 256  # steps from which on it pays to find out when the gains have settled
UNREAD = 0.01  # share of a latent's variance: ten times the default GP noise


@never_below_trivial(out_of_reach=of_neurons)
def fit_map(model: Model, data: MultiRegionData, options: Options, start: Start | None = None) -> Run:
    """Fit by maximum a posteriori.

    It starts from the data alone, from ``start``, or from a checkpoint of the same model and recording.
    """
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
        objective = Objective(LogJoint(model), data, sites, scale, frozen_sites(model, options))
        title = "climbing log p(y, parameters)" if options.progress else None
        ascent = maximise(
            objective,
            tolerance=max(options.tolerance, ROUGH) if still else options.tolerance,
            max_iterations=options.max_iterations,
            spent=iterations,
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
        model, told = at_other_lags(model, moved, data, sites, keep_window)
        notes += told
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
    shown = model.canonical(sites, data.layout)
    return Run(
        model=model, sites=shown, method="map", trace=np.array(trace), converged=converged, reason=reason,
        iterations=iterations, evaluations=evaluations, notes=tuple(notes),
    )  # fmt: skip


class Home(NamedTuple):
    """Place at which a climb had converged before other lags were tried."""

    model: Any
    sites: dict[str, Any]
    log_joint: float
    reason: str
    n_notes: int


def keeps_window(given: Model, model: Model, layout: Layout) -> bool:
    """True if ``given`` has a window, and ``model`` still the delay bound of that window."""
    given_bound, bound = given.delays.bound(layout.bin_width), model.delays.bound(layout.bin_width)
    return given.likelihood.registers is not None and given_bound == bound


def at_other_lags(
    model: Model, moved: Model, data: MultiRegionData, sites: Mapping[str, Any], keep_window: bool
) -> tuple[Model, list[str]]:
    """Give a model moved to other lags the window that it needs there; return notes too.

    ``moved`` is what :func:`mrgp.inference.search.elsewhere` made of ``model``.
    """
    wider = moved.delays.bound(data.bin_width) > model.delays.bound(data.bin_width)
    kept = keep_window and keeps_window(model, moved, data.layout)
    adapted = moved if kept else moved.adapted(data, sites, MARGIN)
    return settled(adapted, data, sites), [wider_note(moved, data)] if wider else []


def frozen_sites(model: Model, options: Options) -> tuple[str, ...]:
    """Names of the sites that climbs leave alone."""
    return tuple(sorted({*options.fixed_names, *model.held}))


def _curvature_of(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], options: Options, name: str
) -> np.ndarray:
    """Curvature of the site ``name``, also where it is fixed."""
    frozen = tuple(site for site in frozen_sites(model, options) if site != name)
    return diagonal(Objective(LogJoint(model), data, sites, model.scales(data, sites), frozen), name)


def begin(
    model: Model, data: MultiRegionData, options: Options, start: Start | None, store: Checkpoint
) -> tuple[Model, dict[str, Any], list[str]]:
    """Prepare the model for the recording, and find sites to begin from.

    The sites are those of a checkpoint, of ``start``, or of a search. The last of what is returned is what the search
    has to say.
    """
    notes: list[str] = []
    given = model = model.prepared(data)
    sites: dict[str, Any]
    resumed = store.read(model)
    if resumed is not None:
        model, sites = resumed
        sites = model.first_guess(sites, data)  # a file of an earlier version may lack some
    else:
        if start is not None:
            model, sites = _from_fit(model, data, start)
        else:
            model, sites, notes = search(model, data, options)
            sites = model.first_guess(sites, data)
            sites = quietened(sites, data) if options.quiet else sites
        sites = {**sites, **options.fixed}
        model = model.replace(delays=admitting(model.delays, sites, data.bin_width))
        store.write(model, sites, "start", force=True)
    if not keeps_window(given, model, data.layout):
        model = model.adapted(data, sites, MARGIN)
    return settled(model, data, sites), sites, notes


def _from_fit(model: Model, data: MultiRegionData, start: Start) -> tuple[Model, dict[str, Any]]:
    """Model and sites at the end of another fit, whose sites must be those of this model."""
    model, sites = model.from_other_fit(start.model, start.sites, data)
    wanted = {name: np.shape(site["value"]) for name, site in free_sites(model, data).items()}
    found = {name: np.shape(sites[name]) for name in wanted if name in sites}
    if found != wanted:
        raise ValueError(f"start has sites {found}, but this model needs {wanted}: fit a preset with the same latents")
    return model, {name: sites[name] for name in wanted}


def settled(model: Model, data: MultiRegionData, sites: Mapping[str, Any], least: int = LONG) -> Model:
    """Set the number of steps after which the model's gains are constant.

    This is only done under the Markov likelihood, where nothing is missing and trials have ``least`` steps or more.
    """
    if not model.likelihood.is_statespace or data.observed is not None:
        return model
    model = model.replace(likelihood=model.likelihood.replace(transient=None))
    distribution = model.likelihood_at(data, sites)
    if not isinstance(distribution, MarkovGP) or data.n_bins // distribution.space.window.step < least:
        return model
    steps = settling_steps(distribution, np.asarray(data.values[:1]))
    return model.replace(likelihood=model.likelihood.replace(transient=steps))


def doubts(model: Model, data: MultiRegionData, sites: Mapping[str, Any], fixed: Collection[str]) -> list[str]:
    """Warnings about a finished fit, one sentence each."""
    found = []
    if (missed := model.unread_variance(data, sites)) > UNREAD:
        found.append(
            f"registers or states are too few for a timescale found: {missed:.2g} of a latent's variance is misread; "
            "raise order, or give a finer window (see lift_error)"
        )
    if DELAY.name not in fixed and presses(model.delays, sites, model.extent(data.layout, data.n_bins)):
        bound = 1e3 * model.delays.bound(data.bin_width)
        found.append(f"a delay is within 5% of max_delay, {bound:.0f} ms: it may be longer, or the latent not shared")
    return found


def revised(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], keep_window: bool
) -> tuple[Model, str | None]:
    """Return a model that suits the end of the climb, and why it was changed.

    If the present model suits, return it and None.
    """
    delays = widened(model.delays, sites, model.extent(data.layout, data.n_bins))
    if delays is not None and worth_following(model, data, sites):
        wider = model.replace(delays=delays)
        wider = wider if keep_window else wider.adapted(data, sites, 1.0)
        return wider, wider_note(wider, data)
    if not model.likelihood.is_statespace:
        return model, None
    fine = model.adapted(data, sites, 1.0)
    mine, needed = model.likelihood.registers, fine.likelihood.registers
    if not keep_window and mine is not None and needed is not None and needed.spacing < mine.spacing:
        return fine, f"a timescale is shorter than the start's: registers refined to {needed.spacing:g} bins"
    latest = settled(model, data, sites)
    before, now = model.likelihood.transient, latest.likelihood.transient
    if before is not None and (now is None or now > before):
        return (
            latest,
            f"the gains settle later than at the start: transient raised from {before} to {now or 'all'} steps",
        )
    return model, None
