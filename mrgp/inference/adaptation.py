"""Adaptation of a model while it is fitted: to its start, and to where each climb has ended.

1. The best of several climbs on the recording's factors gives the start (see ``search``).
2. The registers of the Markov likelihood are chosen for the timescales found.
3. Where the end of a climb asks for it (a delay near its bound, a timescale shorter than the registers were made for),
   the model is widened or refined, and the climb goes on from where it was.
4. Once it has converged, other lags are looked at, and the climb goes on from a better one.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from mrgp.inference.density import free_sites
from mrgp.inference.driver import Driver
from mrgp.inference.mode.curvature import vanished_noise
from mrgp.inference.run import Model, Options, Start, State
from mrgp.inference.search import elsewhere, search, wider_note, worth_following
from mrgp.inference.trivial import quietened
from mrgp.parts.delays.bounds import admitting, presses, shortest, widened
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.loadings import shared_variance
from mrgp.parts.readout import LOADINGS, NOISE
from mrgp.recordings.checks import neurons_named
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

MARGIN = 0.8  # registers are made for timescales this much shorter than the start's
MOST_ROUNDS = 8
STILL_ADAPTING = f"the model was still being adapted after {MOST_ROUNDS} climbs: take this fit as the start of another"
UNREAD = 0.01  # share of a latent's variance: ten times the default GP noise

type Search = Callable[[Model, MultiRegionData, Options], tuple[Model, dict[str, Any], list[str]]]
"""From a model, a recording and options to a model and sites to begin from, and notes."""


def begin(driver: Driver, searching: Search | None = None) -> State[Model]:
    """Prepare the model for the recording, and find sites to begin from.

    The sites are those of a checkpoint, of an earlier fit, or of ``searching`` (:func:`mrgp.inference.search.search`
    unless given), of which the notes say what it has found.
    """
    data, options, store, start = driver.data, driver.options, driver.store, driver.start
    notes: list[str] = []
    given: Model = driver.model.prepared(data)
    model = given
    sites: dict[str, Any]
    resumed = store.read(model)
    if resumed is not None:
        model, sites = resumed
        sites = model.fitting.first_guess(sites, data)  # a file of an earlier version may lack some
    else:
        if start is not None:
            model, sites = _from_fit(model, data, start)
        else:
            model, sites, notes = (searching or search)(model, data, options)
            sites = model.fitting.first_guess(sites, data)
            sites = quietened(sites, data) if options.quiet else sites
        # A search may have left latents out, with what was held of them.
        held = {name: value for name, value in options.fixed.items() if np.shape(sites[name]) == np.shape(value)}
        sites = {**sites, **held}
        model = model.replace(delays=admitting(model.delays, sites, data.bin_width))
        store.write(model, sites, "start", force=True)
    if not keeps_window(given, model, data.layout):
        model = model.fitting.adapted(data, sites, MARGIN)
    return State(model=model, sites=sites, notes=notes)


def _from_fit(model: Model, data: MultiRegionData, start: Start) -> tuple[Model, dict[str, Any]]:
    """Model and sites at the end of another fit, whose sites must be those of this model."""
    model, sites = model.fitting.from_other_fit(start.model, start.sites, data)
    wanted = {name: np.shape(site["value"]) for name, site in free_sites(model, data).items()}
    found = {name: np.shape(sites[name]) for name in wanted if name in sites}
    if found != wanted:
        raise ValueError(f"start has sites {found}, but this model needs {wanted}: fit a model with the same latents")
    return model, {name: sites[name] for name in wanted}


def keeps_window(given: Model, model: Model, layout: Layout) -> bool:
    """True if ``given`` has a window, and ``model`` still the delay bound of that window."""
    given_bound, bound = given.delays.bound(layout.bin_width), model.delays.bound(layout.bin_width)
    return given.likelihood.registers is not None and given_bound == bound


class Place(NamedTuple):
    """Other lags to climb from: the model made for them, the sites, and notes."""

    model: Model
    sites: dict[str, Any]
    notes: list[str]


@dataclass
class Adaptation:
    """Changes of a model between the climbs of one run.

    Attributes:
        keeps_window: Whether the window of registers is the user's, to be left alone.
        climbs: How many there have been.
    """

    keeps_window: bool
    climbs: int = 0

    @classmethod
    def of(cls, driver: Driver, state: State[Model]) -> Self:
        """Adaptation of a run that begins from ``state``."""
        return cls(keeps_window(driver.model, state.model, driver.data.layout))

    def revised(self, driver: Driver, state: State[Model]) -> bool:
        """Give ``state`` a model that suits the end of its climb; return True if it was another one."""
        changed, why = _revised(state.model, driver.data, state.complete, self.keeps_window)
        if why is None:
            return False
        state.notes.append(why)
        state.model = changed
        return True

    def elsewhere(self, driver: Driver, state: State[Model]) -> Place | None:
        """Look for lags from which a climb may end higher, once in a run; None if there are none."""
        if state.home is not None:
            return None
        better, told = elsewhere(state.model, driver.data, state.complete, driver.options)
        state.notes += [note for note in told if note not in state.notes]
        if better is None:
            return None
        moved, sites = better
        model, told = _at_other_lags(state.model, moved, driver.data, sites, self.keeps_window)
        return Place(model, sites, [*state.notes, *told])

    def goes_on[S: State[Model]](self, state: S) -> S:
        """Count a climb, after which another one is to come, unless that was the last."""
        self.climbs += 1
        if self.climbs == MOST_ROUNDS:
            state.converged, state.reason = False, STILL_ADAPTING
        return state


def _at_other_lags(
    model: Model, moved: Model, data: MultiRegionData, sites: Mapping[str, Any], keep_window: bool
) -> tuple[Model, list[str]]:
    """Give a model moved to other lags the window that it needs there; return notes too.

    ``moved`` is what :func:`mrgp.inference.search.elsewhere` made of ``model``.
    """
    wider = moved.delays.bound(data.bin_width) > model.delays.bound(data.bin_width)
    kept = keep_window and keeps_window(model, moved, data.layout)
    adapted = moved if kept else moved.fitting.adapted(data, sites, MARGIN)
    return adapted, [wider_note(moved, data)] if wider else []


def frozen_sites(model: Model, options: Options) -> tuple[str, ...]:
    """Names of the sites that climbs leave alone."""
    return tuple(sorted({*options.fixed_names, *model.held}))


def doubts(model: Model, data: MultiRegionData, sites: Mapping[str, Any], fixed: Collection[str]) -> list[str]:
    """Warnings about a finished fit, one sentence each."""
    found = []
    if (missed := model.fitting.unread_variance(data, sites)) > UNREAD:
        found.append(
            f"registers or states are too few for a timescale found: {missed:.2g} of a latent's variance is misread; "
            "raise order, or give a finer window (see lift_error)"
        )
    read = where_read(model, data, sites)
    if DELAY.name not in fixed and presses(model.delays, read, model.tables.extent(data.layout, data.n_bins)):
        bound = 1e3 * model.delays.bound(data.bin_width)
        found.append(f"a delay is within 5% of max_delay, {bound:.0f} ms: it may be longer, or the latent not shared")
    vanished = vanished_noise(sites, data).get(NOISE.name, np.zeros(0, bool))
    for region, part in data.layout.region_slices.items():
        if (places := np.flatnonzero(vanished[part])).size:
            found.append(
                f"latents explain all of {neurons_named(region, places, data.neurons[region])}: the same spikes may be "
                "recorded twice, or latents are too many for so few neurons; leave one of each pair out, or fit fewer"
            )
    return found


def where_read(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], share: float = 0.0
) -> dict[str, Any]:
    """Shorten the delays that regions which do not read a latent leave open; return all sites.

    A region reads a latent that explains more than a ``share`` of its shared variance.
    """
    if DELAY.name not in sites or model.delays.moves:
        return dict(sites)
    assignment = model.assignment(data.layout)
    shares = shared_variance(assignment, np.asarray(sites[LOADINGS.name]), None)[:, : assignment.n_across]
    return {**sites, DELAY.name: shortest(np.asarray(sites[DELAY.name]), shares > share)}


def _revised(
    model: Model, data: MultiRegionData, sites: Mapping[str, Any], keep_window: bool
) -> tuple[Model, str | None]:
    """Return a model that suits the end of the climb, and why it was changed.

    If the present model suits, return it and None.
    """
    delays = widened(model.delays, where_read(model, data, sites), model.tables.extent(data.layout, data.n_bins))
    if delays is not None and worth_following(model, data, sites):
        wider = model.replace(delays=delays)
        wider = wider if keep_window else wider.fitting.adapted(data, sites, 1.0)
        return wider, wider_note(wider, data)
    if not model.likelihood.is_statespace:
        return model, None
    fine = model.fitting.adapted(data, sites, 1.0)
    mine, needed = model.likelihood.registers, fine.likelihood.registers
    if not keep_window and mine is not None and needed is not None and needed.spacing < mine.spacing:
        return fine, f"a timescale is shorter than the start's: registers refined to {needed.spacing:g} bins"
    return model, None
