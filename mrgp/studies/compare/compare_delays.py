r"""Comparison of hypotheses on delays: existence, direction, change over time, certainty.

Three questions are asked of every hypothesis. How well does it predict unseen trials (leave-one-out)? How probable is
the recording under it, all parameters integrated out (Laplace)? And of the delays themselves: their intervals, their
signs, and the Savage-Dickey ratio at 0. The first is about prediction, where a needless parameter costs little; the
second weighs what a hypothesis allowed for and did not need.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from arviz import compare
from matplotlib.figure import Figure
from scipy.special import logsumexp

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.families.model import Model
from mrgp.inference.mode.mode import FEW
from mrgp.part import rebuilt
from mrgp.parts.delays.base import Delays
from mrgp.parts.delays.constant import DELAY, ConstantDelay
from mrgp.parts.delays.none import NoDelay
from mrgp.parts.delays.varying import VaryingDelay
from mrgp.plots.save import save_all
from mrgp.recordings.checks import warn
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.delays import delay_table
from mrgp.results.gaussian_process_fit import GaussianProcessFit
from mrgp.results.loo import is_left_out_at_maximum, leave_one_out
from mrgp.runtime.account import Account
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_json
from mrgp.studies.compare.account import account_of
from mrgp.studies.compare.figure import plot_comparison
from mrgp.studies.compare.fitting import Hypothesis, Kept, Phase, file_of, fitted
from mrgp.studies.compare.unknown_spread import changes_of, evidence_of, with_typical_spreads

KNOWN = ("none", "constant", "varying")
OF_VARYING = set(VaryingDelay.short_forms) - {"max_delay", "hold_max_delay"}
USUAL = "dlag"  # the model of the hypotheses known by name


@dataclass(frozen=True, eq=False, repr=False)
class DelayComparison(Shown):
    """Result of :func:`compare_delays`.

    Attributes:
        table: One row per hypothesis, the most probable first. ``log_evidence`` (nats; ``evidence_error`` is that of
            its computation) and ``probability``, all hypotheses being equally likely beforehand; NaN where a maximum
            is none that a Gaussian fits, and then the best ``elpd`` comes first. ``elpd``, the expected log predictive
            density of the trials by leave-one-out, ``elpd_diff`` to the best and its standard error ``dse``,
            ``p_loo``, stacking ``weight``, and of draws the largest ``pareto_k``; NaN, with a warning, where draws of
            the posterior do not settle, as where a latent is one too many. ``converged``, ``seconds``.
        delays: One row per latent and pair of regions, of the most probable hypothesis with delays (see
            :func:`mrgp.results.delays.delay_table`); empty where none has any.
        delays_of: The hypothesis that ``delays`` are of.
        changes: Of hypotheses whose delays vary, one row per region and latent: by how much (``spread_ms``, standard
            deviation over the trial of the posterior mean) and the probability that it does (``varies``).
        fits: Every hypothesis's fit.
        loo: Leave-one-out results of the hypotheses that have one, for ``arviz.compare``.
        settings: Interval probability, rope (s), and how ``elpd`` was found (see :func:`mrgp.leave_one_out`): from the
            "maximum"; or from draws, with loadings "drawn", or of more than 400 parameters, or of counts, "following",
            where only differences have a meaning; from the command line also the preprocessing.
    """

    table: pd.DataFrame
    delays: pd.DataFrame
    delays_of: str | None
    changes: pd.DataFrame
    fits: dict[str, GaussianProcessFit]
    loo: dict[str, Any]
    settings: dict[str, Any]

    def _card(self) -> Card:
        shown = self.table[["probability", "log_evidence", "elpd_diff", "dse"]].round(3).to_string()
        return Card(f"DelayComparison of {', '.join(self.table.index)}", {"verdict": self.verdict}, text=shown)

    def _account(self) -> Account:
        return account_of(self)

    @property
    def verdict(self) -> str:
        """Result of the comparison, as text."""
        return " ".join(self.sentences)

    @property
    def sentences(self) -> list[str]:
        """Result of the comparison in sentences."""
        best, probability = self.table.index[0], self.table["probability"].iloc[0]
        sentences = [f"Most probable: {best}, with probability {probability:.3g}."]
        if np.isnan(probability):
            sentences = [f"Best predictions: {best}. No probability: the evidence is not known for all."]
        share = round(100 * self.settings["probability"])
        if self.delays_of not in (None, best):
            sentences.append(f"If delays are {self.delays_of}:")
        for row in self.delays.itertuples():
            if np.isnan(row.sd_ms):
                sentences.append(
                    f"Latent {row.latent}: the delay of {row.second} behind {row.first} presses against max_delay at "
                    f"{row.delay_ms:.1f} ms, which says nothing of it: raise max_delay."
                )
                continue
            late = row.positive >= row.negative
            lags, leads = (row.second, row.first) if late else (row.first, row.second)
            low, high = (row.lower_ms, row.upper_ms) if late else (-row.upper_ms, -row.lower_ms)
            sentences.append(
                f"Latent {row.latent}: {lags} lags {leads} by {abs(row.delay_ms):.1f} ms ({share}% interval {low:.1f} "
                f"to {high:.1f}), with probability {max(row.positive, row.negative):.3g}."
            )
        return sentences

    def figures(self) -> dict[str, Figure]:
        return {"comparison": self.plot()}

    def plot(self) -> Figure:
        """Plot the comparison; see :func:`mrgp.studies.plot_comparison`."""
        return plot_comparison(self)

    def summary(self) -> dict[str, Any]:
        """Tables row by row, the verdict, and each fit's own summary, ready for JSON."""
        rows = json.loads(self.table.reset_index().to_json(orient="records", double_precision=12))
        return {
            "verdict": self.verdict,
            "hypotheses": rows,
            "delays_of": self.delays_of,
            "delays": json.loads(self.delays.to_json(orient="records", double_precision=12)),
            "changes": json.loads(self.changes.to_json(orient="records", double_precision=12)),
            "settings": self.settings,
            "fits": {name: fit.summary() for name, fit in self.fits.items()},
        }

    def save(self, folder: str | Path) -> None:
        """Write ``summary.json``, ``report.json``, ``comparison.png`` and one file per fit.

        The file of a fit is ``fit_<hypothesis>.nc``.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name, fit in self.fits.items():
            fit.save(file_of(place, name))
        save_all(self.figures(), place)
        write_json(place / "summary.json", self.summary())
        self.account().save(place)


def compare_delays(
    data: MultiRegionData,
    hypotheses: Iterable[str] | Mapping[str, str | Delays | Model | Hypothesis] = KNOWN,
    *,
    model: GaussianProcesses | None = None,
    n_across: int | None = None,
    n_within: int | tuple[int, ...] | None = None,
    probability: float = 0.9,
    rope: float | None = None,
    n_draws: int | None = None,
    seed: int = 0,
    progress: bool = True,
    out: str | Path | None = None,
    tell: Callable[[str], Any] | None = None,
    **choices: Any,
) -> DelayComparison:
    """Fit every hypothesis to the same recording, and weigh them against each other.

    Args:
        data: The recording, of two regions at least.
        hypotheses: Some of "none" (all delays 0), "constant" and "varying" (during a trial); or a mapping from names of
            your own to these, to laws of delays such as :class:`mrgp.VaryingDelay`, to models, or to
            :class:`Hypothesis`.
        model: Of the hypotheses known by name and of laws, which replace its delays; None for DLAG of the arguments
            that follow.
        n_across, n_within: Latents of that model, 1 each unless they are given, and ``choices`` such as ``kernel``,
            ``max_delay``, ``timescale_bounds`` or ``likelihood``: all hypotheses share the bound of delays that the
            fits need.
        probability: Of the intervals.
        rope: Region of practical equivalence in seconds; None for half a bin.
        n_draws: Draws of each posterior for leave-one-out; None for a Gaussian at the maximum instead, where it will
            do (see :func:`mrgp.leave_one_out`), or else for 1000.
        seed: Of starts and draws.
        progress: Show progress bars.
        out: A folder that keeps every fit as it is done, ``fit_<hypothesis>.nc``: the same call takes them from there.
        tell: Called with a line of text after every part of the work, such as ``print``.

    Raises:
        DataError: the recording has one region.
        ValueError: a hypothesis is unknown, or there is only one.
    """
    data.require(2, "a comparison of delays")
    if unknown := sorted(choices.keys() - GaussianProcesses.__dataclass_fields__.keys()):
        raise TypeError(f"no hypothesis has a choice {', '.join(unknown)}: see DLAG and ADM for what there is")
    of_law = {name: choices.pop(name) for name in OF_VARYING & choices.keys()}
    sizes = {name: size for name, size in (("n_across", n_across), ("n_within", n_within)) if size is not None}
    if model is None:
        model = rebuilt("model", {"model": USUAL, "n_across": 1, "n_within": 1}).replace(**sizes, **choices)
    elif given := sorted({*sizes, *choices}):
        raise TypeError(f"the model says {', '.join(given)}: leave them out, or leave model out")
    listed = _listed(hypotheses, partial(_with_law, model, of_law))
    fits = fitted(listed, data, seed, progress, Kept(None if out is None else Path(out)), tell)
    typical: dict[str, GaussianProcessFit | None] = {}
    for name, fit in fits.items():
        with Phase(name, "fit with typical spreads", tell if fit.delays_vary else None):
            typical[name] = with_typical_spreads(fit, data, progress)
    is_quick = n_draws is None and all(is_left_out_at_maximum(fit, data) for fit in fits.values())
    of_counts = any(fit.model.emission.is_of_counts for fit in fits.values())
    follows = not is_quick and (of_counts or any(fit.n_parameters > FEW for fit in fits.values()))
    asked = {"n_draws": n_draws, "seed": seed, "progress": progress, "loadings": "following" if follows else "drawn"}
    loos, evidence = {}, {}
    for name, fit in fits.items():
        with Phase(name, "leave-one-out", tell):
            if (result := _left_out(fit, data, **asked)) is not None:
                loos[name] = result
        with Phase(name, "evidence", tell):
            evidence[name] = evidence_of(fit, typical[name], data, progress)
    table = _table(fits, loos, evidence)
    delayed = [name for name in table.index if fits[name].has_delays and DELAY.name not in fits[name].fixed]
    shown = delayed[0] if delayed else None
    delays = pd.DataFrame()
    if shown is not None:
        delays = delay_table(fits[shown], data, probability=probability, rope=rope, progress=progress)
    changes = pd.concat([changes_of(name, fits[name], typical[name]) for name in fits], ignore_index=True)
    settings = {
        "probability": probability, "rope": 0.5 * data.bin_width if rope is None else rope,
        "loadings": "maximum" if loos and all(loo.pareto_k is None for loo in loos.values()) else asked["loadings"],
    }  # fmt: skip
    return DelayComparison(table, delays, shown, changes, fits, loos, settings)


def _with_law(model: GaussianProcesses, of_law: Mapping[str, Any], law: str | Delays) -> Hypothesis:
    """Make a hypothesis of a law of delays, or of the name of one."""
    if isinstance(law, Delays):
        return Hypothesis(model.replace(delays=law))
    if law not in KNOWN:
        known = ", ".join(KNOWN)
        raise ValueError(f"hypothesis {law!r} is unknown: choose from {known}, or give a model by that name")
    still = model
    if model.delays.moves or not model.delays.bound(1.0):
        still = model.replace(delays=ConstantDelay(model.delays.longest, model.delays.hold))
    if law == NoDelay.known_as:  # with delays that are fixed, so that all else is as under the others
        return Hypothesis(still, {DELAY.name: 0})
    if law == VaryingDelay.known_as:
        varying = model.delays if model.delays.moves else VaryingDelay(model.delays.longest, model.delays.hold)
        return Hypothesis(model.replace(delays=varying, **of_law))
    return Hypothesis(still)


def _listed(hypotheses: Any, with_law: Any) -> dict[str, Hypothesis]:
    """Return all hypotheses by name; a model becomes a :class:`Hypothesis`."""
    if isinstance(hypotheses, str):
        raise ValueError("hypotheses are a list of names, or a mapping from names to models")
    named = hypotheses if isinstance(hypotheses, Mapping) else {name: name for name in hypotheses}
    listed = {}
    for name, what in named.items():
        hypothesis = with_law(what) if isinstance(what, str | Delays) else what
        listed[str(name)] = Hypothesis(hypothesis) if isinstance(hypothesis, GaussianProcesses) else hypothesis
    if len(listed) < 2:
        raise ValueError("a comparison needs two hypotheses or more")
    return listed


def _left_out(fit: GaussianProcessFit, data: MultiRegionData, **settings: Any) -> Any:
    """Score a hypothesis by leave-one-out; None, with a warning, if that cannot be done.

    Its maximum is none that a Gaussian fits, or its posterior cannot be drawn from.
    """
    try:
        return leave_one_out(fit, data, **settings)
    except (ValueError, FloatingPointError) as problem:
        warn(f"its elpd is not known: {problem}")
        return None


def _table(
    fits: Mapping[str, GaussianProcessFit], loos: Mapping[str, Any], evidence: Mapping[str, tuple[float, float]]
) -> pd.DataFrame:
    values = np.array([evidence[name][0] for name in fits])
    table = pd.DataFrame({
        "log_evidence": values,
        "evidence_error": [evidence[name][1] for name in fits],
        "probability": np.exp(values - logsumexp(values)),
    }, index=pd.Index(list(fits), name="hypothesis"))  # fmt: skip
    table["elpd"] = pd.Series({name: result.elpd for name, result in loos.items()}, dtype=float)
    columns = {"elpd_diff": "elpd_diff", "dse": "dse", "p": "p_loo", "weight": "weight"}
    predicted = pd.DataFrame(columns=list(columns))
    if len(loos) > 1:
        # Stacking takes exponentials of single trials' scores: only their differences are told to it.
        best = np.max([result.elpd_i.values for result in loos.values()], axis=0)
        shifted = {name: replace(result, elpd_i=result.elpd_i - best) for name, result in loos.items()}
        predicted = compare(shifted, round_to="none")
    table = table.join(predicted[list(columns)].rename(columns=columns).astype(float))
    drawn = {name: result.pareto_k for name, result in loos.items() if result.pareto_k is not None}
    table["pareto_k"] = pd.Series({name: float(k.max()) for name, k in drawn.items()}, dtype=float)
    table["converged"] = [fit.converged for fit in fits.values()]
    table["seconds"] = [fit.wall_s for fit in fits.values()]
    known = bool(np.isfinite(values).all())
    return table.sort_values("log_evidence" if known else "elpd", ascending=False)
