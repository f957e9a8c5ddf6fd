"""Account of a study of communication, for its report."""

from typing import Any

import numpy as np

from mrgp.parts.communication import SOURCE, TARGET
from mrgp.parts.delays.constant import DELAY
from mrgp.results import lights as rules
from mrgp.runtime.account import Account, Light, Picture, State, Table, counted, graded
from mrgp.runtime.versions import versions
from mrgp.studies.communication.figure import LOWER, UPPER
from mrgp.studies.report.rows import rows_of

FAILED = "The verdict is of the others; see the table for why."
ENOUGH_SEEDS, ENOUGH_CONTROLS = 3, 2
APART, FAR_APART = 0.5, 1.0  # sd over trainings, of the mean of the strongest edge
NEAR, FAR = 1.0, 5.0  # nats per trial between bounds of trainings: half a nat is the error to which log p(y) is known

EDGES = {
    SOURCE: ("from", None), TARGET: ("to", None), "effect": ("effect (per bin)", 3),
    "effect_sd": ("sd over trainings", 3), "control": ("largest in a control", 3), "delay_ms": ("delay (ms)", 1),
    "lower_ms": ("interval from (ms)", 1), "upper_ms": ("to (ms)", 1), "outcome": ("outcome", None),
}  # fmt: skip
FITS = {
    "is_control": ("control", None), "seed": ("seed", 0), "bound": ("bound (nats)", 1),
    "gain": ("above each neuron's own mean (nats)", 1), "epochs": ("epochs", 0),
    "converged": ("converged", None), "seconds": ("time (s)", 1), "failure": ("failure", None),
}  # fmt: skip
PICTURES = (
    Picture("communication", "Edges", "Effect of every edge in the trainings beside those in controls, and its delay "
            "in milliseconds with interval."),
)  # fmt: skip


def account_of(result: Any) -> Account:
    """Give the account of a :class:`mrgp.Communication`."""
    edges, fits = result.table(), result.fits
    for name, site in (("delay_ms", DELAY.name), ("lower_ms", LOWER), ("upper_ms", UPPER)):
        edges[name] = 1e3 * edges[site]
    regions = list(dict.fromkeys(edges[TARGET]))
    failing = [f"training with seed {row.seed} failed: {row.failure}" for row in fits.itertuples() if row.failure]
    facts = {
        "regions": ", ".join(map(str, regions)), "trainings": str(int((~fits["is_control"]).sum())),
        "controls": f"{int(fits['is_control'].sum())}, trials shuffled between regions",
    }  # fmt: skip
    note = "effects are root mean squares, over neurons of the target, of what messages change in a bin: log-rates of "
    note += "counts, sds of other values"
    tables = [Table("Edges", rows_of(edges, EDGES), note), Table("Trainings", rows_of(fits, FITS))]
    return Account(
        "Study of communication", f"Who talks to whom among {', '.join(map(str, regions))}", result.sentences, facts,
        _lights(result), tables, PICTURES, failing, made_with=dict(result.settings), versions=versions(),
    )  # fmt: skip


def _lights(result: Any) -> list[Light]:
    fits, edges = result.fits, result.edges
    good = fits["failure"] == ""
    n_own, n_control = (int((good & (fits["is_control"] == kind)).sum()) for kind in (False, True))
    found = [
        rules.failed(int((~good).sum()), len(fits), FAILED, "Trainings"),
        converged(int((good & ~fits["converged"].fillna(False).astype(bool)).sum()), int(good.sum())),
        learned(int((good & ~fits["learned"]).sum()), int(good.sum())),
        repeated("Trainings", n_own, ENOUGH_SEEDS, "--seeds", "how far trainings agree"),
        repeated("Controls", n_control, ENOUGH_CONTROLS, "--controls", "how far controls differ by chance"),
    ]
    if "conditions" in result.settings:
        found.append(stimulus_held(result.settings["conditions"], result.settings["alone"]))
        found.append(drift_held(result.settings["among"]))
        heights = fits["bound"][good & ~fits["is_control"]]
        if len(heights) > 1:
            found.append(as_high(float(np.ptp(heights)) / result.settings["trials"]))
    strongest = int(np.argmax(edges["effect"].values))
    spread = float(edges["effect_sd"].values[strongest])
    if np.isfinite(spread):
        found.append(agreement(spread / max(float(edges["effect"].values[strongest]), np.finfo(float).tiny)))
    return found


def converged(n_open: int, n: int) -> Light:
    """Judge trainings that ended before they came to rest."""
    state = State.LOOK if n_open else State.GOOD
    said = "All trainings came to rest."
    if n_open:
        said = "Trainings that end early differ from each other by that too: raise --max-iterations."
    return Light("Convergence", state, f"{n - n_open} of {n}", said)


def learned(n_idle: int, n: int) -> Light:
    """Judge if trainings came to rest above each neuron's own mean."""
    state, said = State.GOOD, "All trainings have learned more than each neuron's own mean, and came to rest."
    if n_idle:
        state = State.BAD
        said = "What trainings have not learned speaks neither for an edge nor against one: train longer "
        said += "(--max-iterations) before anything is said of edges."
    return Light("Trainings have learned", state, f"{n - n_idle} of {n}", said)


def repeated(name: str, n: int, enough: int, option: str, says: str) -> Light:
    """Judge how often a training was repeated."""
    state = graded(n, enough, 2 if enough > 2 else 1)
    said = f"There are enough to see {says}."
    if n < 2:
        said = f"There is one, which does not say {says}: give more by {option}."
    elif state is not State.GOOD:
        said = f"There are few, which say little of {says}: give more by {option}."
    return Light(name, state if n > 1 else State.BAD, str(n), said)


def stimulus_held(n_conditions: int, n_alone: int) -> Light:
    """Judge if controls have the stimuli of the recording."""
    name, number = "Stimuli in controls", counted(n_conditions, "condition")
    if n_conditions == 1:
        return Light(name, State.LOOK, number, (
            "Shuffling takes away by what stimuli differ from trial to trial too, so that an edge may be a stimulus "
            "that both regions follow: give trials their condition."
        ))  # fmt: skip
    if n_alone:
        return Light(name, State.LOOK, f"{number}, {n_alone} of one trial", (
            "A trial that is the only one of its condition is not shuffled, and tells in controls what it told before: "
            "join conditions."
        ))  # fmt: skip
    return Light(name, State.GOOD, number, "Trials are shuffled among those of their condition.")


def drift_held(among: int | None) -> Light:
    """Judge if controls have the drift of the recording."""
    name = "Drift in controls"
    if among is None:
        return Light(name, State.LOOK, "all trials of a condition", (
            "Shuffling takes slow drift away too, so that an edge may be a change over the session that both regions "
            "share: shuffle among a few trials, one after another, by --among 4."
        ))  # fmt: skip
    said = "Drift that takes longer than these trials is left in the controls."
    return Light(name, State.GOOD, f"among {among} trials", said)


def as_high(spread: float) -> Light:
    """Judge how far apart the bounds of trainings on the recording end, in nats per trial."""
    state, said = graded(spread, NEAR, FAR), "Trainings end as high as each other."
    if state is State.LOOK:
        said = "Some trainings have learned less than others: train longer (--max-iterations), from more seeds."
    elif state is State.BAD:
        said = "Some trainings have learned far less than others, and their edges say nothing: train longer "
        said += "(--max-iterations) before anything is said of edges."
    return Light("Bounds of trainings", state, f"{spread:.1f} nats per trial apart", said)


def agreement(spread: float) -> Light:
    """Judge the strongest edge's sd over trainings, as a share of its mean."""
    state = graded(spread, APART, FAR_APART)
    said = {
        State.GOOD: "Trainings agree on the strength of the strongest edge.",
        State.LOOK: "Trainings differ in how strong the strongest edge is: take more, and longer ones.",
        State.BAD: "Trainings do not agree on the strongest edge at all: nothing may be said of edges yet.",
    }
    return Light("Trainings agree", state, f"sd {100 * spread:.0f}% of the mean", said[state])
