"""Account of a cross-validation, for its report."""

from typing import Any

import numpy as np

from mrgp.results import lights as rules
from mrgp.runtime.account import Account, Light, Picture, State, Table, counted
from mrgp.runtime.versions import versions
from mrgp.studies.report.rows import rows_of

FAILED = "Candidates of which a fit failed cannot be chosen: give more --max-iterations, or smaller candidates."

COLUMNS = {
    "candidate": ("candidate", None), "mean": ("score (nats/trial)", 3), "se": ("± se", 3),
    "behind": ("behind the best (nats/trial)", 3), "difference_se": ("± se of it", 3),
    "n_loadings": ("loadings in all", 0),
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
    said = [f"Chosen: {_in_words(chosen, table.region.values)}."]
    if best == chosen:
        said.append("It has the best score on held-out trials, and no smaller candidate comes within a standard error.")
    else:
        gap, error = -float(own["difference"]), float(own["difference_se"])
        said.append(
            f"It is the smallest within one standard error of the best, {best}: {gap:.3f} ± {error:.3f} nats per trial "
            "behind."
        )
    facts = {
        "model": type(result.model).__name__, "recording": str(result.data.layout),
        "trials": str(result.data.n_trials),
        "folds": str(table.sizes["fold_number"]), "candidates": str(len(rows)),
    }  # fmt: skip
    notes = [f"in {count} of the fits: {note}" for note, count in result.notes.items()]
    notes += [f"{name} in fold {fold} failed: {why}" for (name, fold), why in result.failures.items()]
    below = "shared latents + private ones of each region; ± one standard error of paired differences over trials"
    tables = [Table("Candidates", rows_of(rows, COLUMNS), below)]
    return Account(
        "Cross-validation", f"Latents of {type(result.model).__name__} in {regions}", said, facts, _lights(result),
        tables, PICTURES, notes, made_with=dict(result.described), versions=versions(),
    )  # fmt: skip


def _in_words(candidate: Any, regions: Any) -> str:
    own = [f"{n} of {region}" for n, region in zip(candidate.n_within, regions, strict=True) if n]
    return f"{counted(candidate.n_across, 'shared latent')}{f', private: {rules.listed(own)}' if own else ''}"


def _lights(result: Any) -> list[Light]:
    table = result.table
    n_fits, valid = table["failure"].size, table["valid"].values
    across = table["n_across"].values[valid]
    within = table["n_within"].values.sum(1)[valid]
    best = [result.best.n_across, sum(result.best.n_within)]
    ends = []
    for name, tried, own in (("shared", across, best[0]), ("private", within, best[1])):
        if len(set(tried.tolist())) > 1 and own == tried.max():
            ends.append(name)
    found = [rules.failed(len(result.failures), n_fits, FAILED), at_the_end(ends, str(result.best))]
    if valid.sum() > 1:
        near = int(np.sum((-table["difference"] <= table["difference_se"]) & valid))
        found.append(told_apart(near, int(valid.sum())))
    return found


def at_the_end(ends: list[str], best: str) -> Light:
    """Judge if the best candidate has the most latents that were tried, of a kind."""
    if not ends:
        said = "Of those that were fitted, no more latents do better."
        return Light("Best within what was tried", State.GOOD, best, said)
    kinds = " and ".join(ends)
    return Light("Best within what was tried", State.LOOK, best, (
        f"The best candidate has the most {kinds} latents of those that were fitted: try more, the same folder goes on."
    ))  # fmt: skip


def told_apart(n_near: int, n_valid: int) -> Light:
    """Judge how many candidates are within a standard error of the best."""
    state = State.LOOK if n_near == n_valid else State.GOOD
    said = "Some candidates are clearly worse than the best."
    if state is State.LOOK:
        said = "All candidates score alike within a standard error, and the smallest was chosen: more trials say more."
    return Light("Candidates told apart", state, f"{n_near} of {n_valid} within one se of the best", said)
