"""Account of a comparison of hypotheses on delays, for its report."""

from typing import Any

import numpy as np

from mrgp.results import lights as rules
from mrgp.results.account import lights_of_delays
from mrgp.runtime.account import Account, Light, Picture, State, Table, graded
from mrgp.runtime.versions import versions
from mrgp.studies.report.rows import rows_of

LIKELY, HARDLY = 0.95, 0.5  # probability of the best hypothesis
AT_ODDS = 2.0  # standard errors by which the most probable hypothesis may predict worse than the best

HYPOTHESES = {
    "hypothesis": ("hypothesis", None), "probability": ("probability", 3), "log_evidence": ("log evidence (nats)", 1),
    "evidence_error": ("± (nats)", 2), "elpd_diff": ("elpd behind the best (nats)", 1), "dse": ("± se (nats)", 1),
    "p_loo": ("p_loo", 1), "pareto_k": ("largest Pareto k", 2), "converged": ("converged", None),
    "seconds": ("time (s)", 1),
}  # fmt: skip
DELAYS = {
    "latent": ("latent", None), "second": ("region", None), "first": ("behind", None), "delay_ms": ("delay (ms)", 1),
    "lower_ms": ("interval from (ms)", 1), "upper_ms": ("to (ms)", 1), "positive": ("P(it lags)", 3),
    "log_bayes_factor": ("log Bayes factor (nats)", 1), "in_rope": ("P(as good as none)", 3),
}  # fmt: skip
CHANGES = {
    "hypothesis": ("hypothesis", None), "region": ("region", None), "latent": ("latent", None),
    "spread_ms": ("sd over the trial (ms)", 1), "varies": ("P(it varies)", 3),
}  # fmt: skip
PICTURES = (
    Picture("comparison", "Comparison of hypotheses", "Posterior probability of every hypothesis, how far its "
            "prediction of unseen trials is behind the best in nats, and the delays in milliseconds with intervals."),
)  # fmt: skip


def account_of(result: Any) -> Account:
    """Give the account of a :class:`mrgp.DelayComparison`."""
    table = result.table.reset_index().assign(elpd_diff=result.table["elpd_diff"].abs().to_numpy())
    fit = next(iter(result.fits.values()))
    percent, rope = 100 * result.settings["probability"], 1e3 * result.settings["rope"]
    note = f"{percent:.0f}% intervals; a delay below {rope:.3g} ms counts as none"
    tables = [
        Table("Hypotheses", rows_of(table, HYPOTHESES), "all equally likely beforehand"),
        Table(f"Delays, if they are {result.delays_of}", rows_of(result.delays, DELAYS), note),
        Table("Change of delays during a trial", rows_of(result.changes, CHANGES)),
    ]
    facts = {
        "recording": str(fit.layout), "hypotheses": ", ".join(map(str, result.fits)),
        "model": f"{type(fit.model).__name__}({', '.join(f'{name}={value}' for name, value in fit.choices.items())})",
    }  # fmt: skip
    own = {**result.settings}
    made_with = {"intervals hold": own.pop("probability"), "rope (s)": own.pop("rope"), "seed": fit.seed, **own}
    if fit.data is not None:
        made_with["fingerprint of the recording as fitted"] = fit.data.fingerprint
    notes = [f"{name}: {note}" for name, fit in result.fits.items() for note in fit.notes]
    return Account(
        "Comparison of delays", f"Delays of {', '.join(fit.layout.regions)}", result.sentences, facts, _lights(result),
        [table for table in tables if table.rows], PICTURES, notes, made_with=made_with, versions=versions(),
    )  # fmt: skip


def _lights(result: Any) -> list[Light]:
    table = result.table
    stuck = [str(name) for name in table.index[~table["converged"].astype(bool)]]
    found = [all_converged(stuck, len(table)), singled_out(table["probability"].to_numpy(float))]
    gap = np.sort(table["log_evidence"].to_numpy(float))[::-1]
    if np.isfinite(gap).all():
        found.append(exact_enough(float(gap[0] - gap[1]), float(table["evidence_error"].max())))
    best = table.iloc[0]
    if np.isfinite(best["elpd_diff"]) and np.isfinite(best["dse"]):
        found.append(agreement(str(table.index[0]), abs(float(best["elpd_diff"])), float(best["dse"])))
    if np.isfinite(table["pareto_k"]).any():
        worst = str(table["pareto_k"].idxmax())
        found.append(rules.pareto_k(float(table["pareto_k"].max()), worst))
    if at_maximum := {name: loo for name, loo in result.loo.items() if loo.pareto_k is None}:
        found.append(left_out([name for name, loo in at_maximum.items() if loo.warning], len(at_maximum)))
    if len(result.delays):
        found += lights_of_delays(result.fits[result.delays_of], None)
    return found


def _of_all(name: str, wrong: list[str], n_fits: int, good: str, bad: str) -> Light:
    """Judge something that has to hold for all hypotheses; ``bad`` names the ``wrong`` ones."""
    state, sentence = (State.BAD, bad.format(rules.listed(wrong))) if wrong else (State.GOOD, good)
    return Light(name, state, f"{n_fits - len(wrong)} of {n_fits}", sentence)


def left_out(doubtful: list[str], n_fits: int) -> Light:
    """Judge if trials could be taken away from the maximum of every hypothesis."""
    return _of_all("Trials left out", doubtful, n_fits, "Without each trial, parameters have a maximum nearby.", (
        "Some trials say so much of the parameters of {} that these have no maximum nearby "
        "without them: their scores are doubtful. Take one latent fewer, or choose by mrgp cv."
    ))  # fmt: skip


def all_converged(stuck: list[str], n_fits: int) -> Light:
    """Judge if all hypotheses were fitted to the end."""
    return _of_all("Convergence", stuck, n_fits, "The search for each hypothesis came to rest.", (
        "The search for {} did not come to rest, which puts it at a disadvantage: do not compare. "
        "Take fewer latents, or fit each by mrgp fit with more --max-iterations."
    ))  # fmt: skip


def singled_out(probability: np.ndarray) -> Light:
    """Judge how clearly one hypothesis is the most probable."""
    name = "One hypothesis singled out"
    if not np.isfinite(probability).all():
        return Light(name, State.LOOK, "not known", (
            "A maximum is none that a Gaussian fits, so that probabilities are not known: go by the prediction of "
            "unseen trials. Often a latent is one too many."
        ))  # fmt: skip
    best = float(probability.max())
    state = graded(best, LIKELY, HARDLY)
    said = {
        State.GOOD: "The most probable hypothesis leaves little to the others.",
        State.LOOK: "The most probable hypothesis leaves more than 5% to the others: more trials would decide.",
        State.BAD: "No hypothesis has half of the probability: the recording does not tell them apart.",
    }
    return Light(name, state, f"probability {best:.3f}", said[state])


def exact_enough(gap: float, error: float) -> Light:
    """Judge the error of the evidence beside the lead of the first hypothesis, in nats."""
    state = State.GOOD if error < gap else State.LOOK
    said = "The error of computing the evidence is smaller than the lead of the first."
    if state is State.LOOK:
        said = "The first two are closer than the evidence is computed: take them as equally probable."
    return Light("Evidence computed well enough", state, f"lead {gap:.1f} nats, error {error:.2g} nats", said)


def agreement(name: str, behind: float, error: float) -> Light:
    """Judge if the most probable hypothesis also predicts unseen trials well.

    It is so many nats ``behind`` the best, with a standard ``error``.
    """
    state = State.GOOD if behind <= AT_ODDS * error else State.LOOK
    said = f"{name} is the most probable, and predicts unseen trials as well as any, within two standard errors."
    if state is State.LOOK:
        said = (
            f"{name} is the most probable, but another predicts unseen trials better: the models may all be wrong in "
            "something. Look at the reconstruction and at single trials."
        )
    return Light("Evidence and prediction agree", state, f"{behind:.1f} ± {error:.1f} nats behind the best", said)
