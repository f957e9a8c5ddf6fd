"""Account of a calibration, for its report."""

from typing import Any

import numpy as np

from mrgp.results import lights as rules
from mrgp.runtime.account import Account, Light, Picture, State, Table, graded
from mrgp.runtime.versions import versions
from mrgp.studies.calibration.rank_tests import PROBABILITIES, TOTAL
from mrgp.studies.report.rows import rows_of

FAILED = "Fits that failed are left out; if these are the hard ones, the others look better."
LIKELY, UNLIKELY = 0.05, 0.001  # p of uniform ranks
NEAR, FAR = 2.0, 4.0  # standard errors between coverage and what is promised
PROMISED = 0.9  # probability of the intervals that coverage is judged by
ENOUGH, TOO_FEW = 100, 30  # simulations: with fewer, coverage is known within 3 or 5 percent

COLUMNS = {
    "quantity": ("quantity", None), "n": ("ranks", 0), "p": ("p of uniform ranks", 3),
    "ecdf_distance": ("ECDF off by", 3), "ecdf_inside": ("ECDF in its band", None),
    **{f"covered_{100 * p:g}": (f"truth in {100 * p:g}% interval (share)", 2) for p in PROBABILITIES},
    "mean_z": ("mean z", 2), "mean_square_z": ("mean z²", 2),
}  # fmt: skip
PICTURES = (
    Picture("calibration", "Ranks and coverage", "Histogram of the ranks of the truth among posterior draws, their "
            "distribution function beside its 95% band, and how often intervals of each probability hold the truth."),
)  # fmt: skip


def account_of(result: Any) -> Account:
    """Give the account of a calibration (:func:`mrgp.calibrate`)."""
    table, settings = result.table, result.settings
    row = table.loc[TOTAL] if TOTAL in table.index else table.iloc[0]
    covered, error = (float(row[f"{name}_{100 * PROMISED:g}"]) for name in ("covered", "error"))
    n, name = result.results.sizes["simulation"], str(settings["model"]["model"])
    percent = f"{100 * PROMISED:.0f}%"
    found = [enough(n), uniform(float(row["p"])), coverage(covered, error, percent)]
    off = [str(name) for name in table.index[~table["ecdf_inside"].astype(bool)]]
    found.append(inside_bands(off, len(table)))
    if "failure" in result.results:
        found.insert(0, rules.failed(len(result.failures), n, FAILED))
    said = [
        f"{percent} intervals of {name} held the truth in {100 * covered:.1f}% of cases (± {100 * error:.1f}% by "
        "chance if they are honest)."
    ]  # fmt: skip
    notes = [f"{count} of the fits: {note}" for note, count in result.notes.items()]
    notes += [f"simulation {i} failed: {why}" for i, why in result.failures.items()]
    facts = {"model": name, "simulations": str(n), "quantities": str(result.results.sizes["quantity"])}
    rows = rows_of(table.rename_axis("quantity").reset_index(), COLUMNS)
    return Account(
        "Calibration", f"Posteriors of {name}", said, facts, found, [Table("Tests of ranks", rows)], PICTURES, notes,
        made_with=dict(settings), versions=versions(),
    )  # fmt: skip


def enough(n: int) -> Light:
    """Judge the number of simulations."""
    state = graded(n, ENOUGH, TOO_FEW)
    error = 100 * np.sqrt(PROMISED * (1 - PROMISED) / n)
    said = {
        State.GOOD: "Coverage of one quantity is known well enough to see intervals that are clearly too narrow.",
        State.LOOK: "Only gross errors show with so few: go on in the same folder with a higher --n.",
        State.BAD: "So few say next to nothing: go on in the same folder with a higher --n.",
    }
    return Light("Enough simulations", state, f"{n}: coverage within ± {error:.1f}%", said[state])


def uniform(p: float) -> Light:
    """Judge ranks by the p value of the test that they are uniform."""
    state = graded(p, LIKELY, UNLIKELY)
    said = {
        State.GOOD: "Ranks of the truth among posterior draws are uniform, as they should be.",
        State.LOOK: "Ranks are less even than one in twenty would be by chance: look at the figure, and add "
        "simulations.",
        State.BAD: "Ranks are not uniform: the posterior is biased, too narrow (ranks at both ends) or too wide (ranks "
        "in the middle). Try --method nuts.",
    }
    return Light("Uniform ranks", state, f"p = {p:.3g}", said[state])


def coverage(covered: float, error: float, percent: str) -> Light:
    """Judge how often intervals hold the truth, in standard errors from what they promise."""
    off = (covered - PROMISED) / error
    state = graded(abs(off), NEAR, FAR)
    way = "too narrow: they promise too much" if off < 0 else "wider than they need be"
    said = "Intervals hold the truth as often as they say."
    if state is not State.GOOD:
        said = f"Intervals are {way}. Judge other results of this model and method by it, or try --method nuts."
    return Light(f"Coverage of {percent} intervals", state, f"{100 * covered:.1f} ± {100 * error:.1f}%", said)


def inside_bands(off: list[str], n: int) -> Light:
    """Judge how many quantities have ranks whose distribution function leaves its 95% band."""
    state = State.GOOD if len(off) <= 0.05 * n else State.LOOK
    number = f"{n - len(off)} of {n}"
    if state is State.GOOD:
        return Light("Ranks within their band", state, number, "As many stay within the 95% band as should.")
    return Light("Ranks within their band", state, number, f"Outside: {', '.join(off)}; look at these first.")
