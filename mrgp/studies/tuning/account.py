"""Account of a search for settings, for its report."""

from typing import Any

import numpy as np

from mrgp.results import lights as rules
from mrgp.runtime.account import Account, Light, Picture, State, Table, counted
from mrgp.runtime.versions import versions
from mrgp.studies.report.rows import rows_of

FAILED = "Settings of fits that failed have no score: see the table."
OWN = {
    "seed": ("seed", 0), "score": ("score (nats/trial)", 3), "below_best": ("below the best (nats/trial)", 3),
    "below_best_se": ("± se of it", 3), "epochs": ("epochs", 0), "seconds": ("time (s)", 1),
    "converged": ("converged", None), "failure": ("failure", None),
}  # fmt: skip
PICTURES = (
    Picture("tuning", "Scores of settings", "Score of every fit on held-out trials, in nats per trial, over the values "
            "of each setting that was tried."),
)  # fmt: skip


def account_of(result: Any) -> Account:
    """Give the account of a :class:`mrgp.Tuning`."""
    table, names = result.table, result.names
    best = table.iloc[0]
    name = type(result.model).__name__
    chosen = ", ".join(f"{setting} = {best[setting]}" for setting in names)
    columns = {setting: (setting, None) for setting in names} | OWN
    scores = table["score"].to_numpy(float)
    near = int(np.sum((table["below_best"] <= table["below_best_se"]) & np.isfinite(scores)))
    found = [rules.failed(int((table["failure"] != "").sum()), len(table), FAILED), settled(bool(best["converged"]))]
    found += [at_the_end(setting, best[setting], table[setting].tolist()) for setting in names
              if is_ordered(table[setting].tolist())]  # fmt: skip
    found.append(told_apart(near, int(np.isfinite(scores).sum())))
    said = [f"Best: {chosen}, with {best['score']:.3f} nats per held-out trial."]
    facts = {
        "model": name, "recording": str(result.data.layout), "trials": f"{result.data.n_trials}, a fifth held out",
        "fits": str(len(table)),
    }  # fmt: skip
    made_with = {
        "settings": result.model.to_settings(), "fit": dict(result.settings),
        "fingerprint of the recording": result.data.fingerprint,
    }  # fmt: skip
    return Account(
        "Search for settings", f"Settings of {name}", said, facts, found, [Table("Fits", rows_of(table, columns))],
        PICTURES, made_with=made_with, versions=versions(),
    )  # fmt: skip


def is_ordered(values: list[Any]) -> bool:
    """True if values are numbers of which several were tried, so that there are ends."""
    return len(set(map(str, values))) > 1 and all(isinstance(value, int | float) for value in values)


def settled(converged: bool) -> Light:
    """Judge if the best fit came to rest."""
    if converged:
        return Light("Convergence of the best", State.GOOD, "yes", "Its training came to rest.")
    said = "It ended at max_iterations: with more, it may be better still, and another may be better than it."
    return Light("Convergence of the best", State.LOOK, "no", said)


def at_the_end(name: str, best: float, tried: list[float]) -> Light:
    """Judge if the best value of a setting is the least or the most that was tried."""
    what, number = f"Best {name} within what was tried", f"{best:g} of {min(tried):g} to {max(tried):g}"
    if min(tried) < best < max(tried):
        return Light(what, State.GOOD, number, "Values on both sides were tried and score lower.")
    side = "smaller" if best == min(tried) else "larger"
    return Light(what, State.LOOK, number, f"The best value is at the end of those tried: try {side} ones too.")


def told_apart(n_near: int, n: int) -> Light:
    """Judge how many fits are within a standard error of the best."""
    state = State.LOOK if n_near > 1 else State.GOOD
    said = "No other fit is within a standard error of the best."
    if state is State.LOOK:
        said = "Settings within a standard error of the best do as well: prefer the smallest or fastest of them."
    return Light("Best told apart", state, f"{counted(n_near, 'fit')} of {n} within one se", said)
