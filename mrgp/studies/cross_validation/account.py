"""Account of a cross-validation, for its report."""

from typing import Any

import numpy as np

from mrgp.results import lights as rules
from mrgp.runtime.account import Account, Light, Picture, State, Table, counted
from mrgp.runtime.versions import versions
from mrgp.studies.cross_validation.candidate import KINDS, LATENTS, Candidate, in_words
from mrgp.studies.report.rows import rows_of

FAILED = "Candidates of which a fit failed cannot be chosen: give more --max-iterations, or smaller candidates."

COUNTED = {LATENTS[0]: "shared latent", "n_states": "state", "n_global": "global state"}
"""Sizes that are one number, and words for one."""

COLUMNS = {
    "candidate": ("candidate", None), "mean": ("score (nats/trial)", 3), "se": ("± se", 3),
    "behind": ("behind the best (nats/trial)", 3), "difference_se": ("± se of it", 3),
    "n_parameters": ("parameters in all", 0),
    "valid": ("all folds fitted", None), "seconds": ("time (s)", 1),
}  # fmt: skip
PICTURES = (
    Picture("cv", "Scores of candidates", "Score of every candidate on held-out trials, in nats per trial, with "
            "standard errors; the best and the chosen one are marked."),
)  # fmt: skip


def account_of(result: Any) -> Account:
    """Give the account of a :class:`mrgp.CrossValidation`."""
    rows = result.to_dataframe().reset_index()
    rows["behind"] = 0.0 - rows["difference"]
    best, chosen, table = result.best, result.chosen, result.table
    own = table.sel(candidate=str(chosen))
    regions = ", ".join(map(str, table.region.values))
    name = type(result.model).__name__
    said = [f"Chosen: {_in_words(chosen, table.region.values)}."]
    if best == chosen:
        said.append("It has the best score on held-out trials, and no smaller candidate comes within a standard error.")
    else:
        gap, error = -float(own["difference"]), float(own["difference_se"])
        said.append(
            f"It is the smallest within one standard error of the best, {best}: {gap:.3f} ± {error:.3f} nats per trial "
            "behind."
        )
    n_scored = table.sizes["trial"]
    facts = {
        "model": name, "recording": str(result.data.layout), "trials": str(result.data.n_trials),
        **({"blocks of trials": str(n_scored)} if n_scored != result.data.n_trials else {}),
        "score of held-out trials": result.scored,
        "folds": str(table.sizes["fold_number"]), "candidates": str(len(rows)),
    }  # fmt: skip
    notes = [f"in {count} of the fits: {note}" for note, count in result.notes.items()]
    notes += [f"{name} in fold {fold} failed: {why}" for (name, fold), why in result.failures.items()]
    below = "± one standard error of paired differences over trials"
    if set(LATENTS) <= dict(chosen.settings).keys():
        below = f"shared latents + private ones of each region; {below}"
    tables = [Table("Candidates", rows_of(rows, COLUMNS), below)]
    return Account(
        "Cross-validation", f"{kinds_of(chosen)} of {name} in {regions}", said, facts, _lights(result),
        tables, PICTURES, notes, made_with=dict(result.described), versions=versions(),
    )  # fmt: skip


def kinds_of(candidate: Candidate) -> str:
    """Subject of a heading: what candidates differ in."""
    names = [name for name, _ in candidate.settings]
    return "Latents" if set(names) <= set(LATENTS) else "Sizes" if set(names) <= KINDS.keys() else "Settings"


def _in_words(candidate: Candidate, regions: Any) -> str:
    own, said = dict(candidate.settings), []
    for name, words in COUNTED.items():
        if name in own:
            said.append(counted(own.pop(name), words))
    if isinstance(own.get(LATENTS[1]), tuple):
        private = [f"{n} of {region}" for n, region in zip(own.pop(LATENTS[1]), regions, strict=True) if n]
        said += [f"private: {rules.listed(private)}"] if private else []
    return ", ".join([*said, *(f"{name}: {in_words(value)}" for name, value in own.items())])


def _lights(result: Any) -> list[Light]:
    table = result.table
    n_fits, valid = table["failure"].size, table["valid"].values
    ends = []
    for name in (name for name in KINDS if name in dict(result.best.settings)):
        tried = table[name].values[valid]
        if tried.dtype.kind in "iu":  # not text, of latents that only some regions share
            tried = tried.reshape(len(tried), -1).sum(1)
            if len(set(tried.tolist())) > 1 and np.sum(dict(result.best.settings)[name]) == tried.max():
                ends.append(KINDS[name])
    found = [rules.failed(len(result.failures), n_fits, FAILED), at_the_end(ends, str(result.best))]
    if valid.sum() > 1:
        near = int(np.sum((-table["difference"] <= table["difference_se"]) & valid))
        found.append(told_apart(near, int(valid.sum())))
    return found


def at_the_end(ends: list[str], best: str) -> Light:
    """Judge if the best candidate has the most latents or states that were tried, of a kind."""
    if not ends:
        said = "Of those that were fitted, none with more does better."
        return Light("Best within what was tried", State.GOOD, best, said)
    kinds = " and ".join(ends)
    return Light("Best within what was tried", State.LOOK, best, (
        f"The best candidate has the most {kinds} of those that were fitted: try more, the same folder goes on."
    ))  # fmt: skip


def told_apart(n_near: int, n_valid: int) -> Light:
    """Judge how many candidates are within a standard error of the best."""
    state = State.LOOK if n_near == n_valid else State.GOOD
    said = "Some candidates are clearly worse than the best."
    if state is State.LOOK:
        said = "All candidates score alike within a standard error, and the smallest was chosen: more trials say more."
    return Light("Candidates told apart", state, f"{n_near} of {n_valid} within one se of the best", said)
