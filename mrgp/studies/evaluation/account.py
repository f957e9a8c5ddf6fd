"""Account of an evaluation, for its report."""

from typing import Any

import numpy as np
import xarray as xr

from mrgp.metrics.metric import Metric, beside
from mrgp.metrics.scores import R2, BitsPerBin
from mrgp.runtime.account import Account, Light, Picture, State, Table, capitalised, counted
from mrgp.studies.evaluation.report import scored, scored_of_regions, tables_of

PICTURES = (
    Picture("scores", "Scores", "Scores of held-out neurons, and of regions predicted from the others, of the model "
            "and of baselines without latents, for every region."),
    Picture("held_out", "PSTHs of held-out neurons", "Mean response of held-out neurons over the trial, in seconds: "
            "recorded, predicted by the model, and by the baselines."),
    Picture("flow", "Signal flow", "For every pair of regions and latent, who leads, by how many milliseconds, and how "
            "strong the latent is."),
)  # fmt: skip
JUDGED = (R2(), BitsPerBin())


def account_of(result: Any) -> Account:
    """Give the account of an :class:`mrgp.Evaluation`."""
    scores, about = result.cosmoothing, result.about
    name = str(scores["predictor"].values[0])
    regions = [str(region) for region in scores["region"].values]
    said, found = [f"{capitalised(result.trials)}."], [unseen(about["n_seen_trials"], about["n_test_trials"])]
    cases = [("held-out neurons", scores), ("regions left out", result.left_out)]
    for what, table in cases:
        for metric in JUDGED:
            if table is not None and metric.name in table:
                light = beside_baselines(metric, table, what, regions)
                found.append(light)
                said += [f"{light.name}: {light.number}."] if metric is JUDGED[0] else []
    facts = {
        "model": name, "fitted by": about["method"], "regions": ", ".join(regions),
        "trials scored": str(about["n_test_trials"]), "trials of baselines": str(about["n_train_trials"]),
        "held out": f"{100 * about['held_out']:.0f}% of each region's neurons, {counted(about['n_masks'], 'set')}",
    }  # fmt: skip
    if about["condition"]:
        facts["PSTHs by"] = about["condition"]
    beside_each_other = f"in each cell: {' / '.join(regions)}" if len(regions) > 1 else ""
    tables = [Table("Held-out neurons", _rows(scores, scored(scores)), beside_each_other)]
    if (out := result.left_out) is not None:
        rows = _rows(out, scored_of_regions(out))
        tables.append(Table("Regions left out, each predicted from the others", rows, beside_each_other))
    lines = [metric.sentence(table) for metric, table in tables_of(result)]
    lines += [line for metric, table in tables_of(result) for line in metric.lines(table)]
    kept = ("settings", "seed", "fixed", "preprocessing")
    trials = "unseen trials" if about["n_seen_trials"] == 0 else "trials"
    return Account(
        "Evaluation", f"{name} on {trials} of {', '.join(regions)}", said, facts, found, tables, PICTURES, result.notes,
        "\n".join(filter(None, lines)), {name: about[name] for name in kept}, about["versions"],
    )  # fmt: skip


def _rows(table: xr.Dataset, metrics: list[Metric]) -> list[dict[str, str]]:
    shown = [(_heading(metric), metric.name, metric.digits) for metric in metrics if metric.digits is not None]
    rows = []
    for method in table["predictor"].values:
        own = table.sel(predictor=method)
        numbers = {title: beside(own[name].values, digits) for title, name, digits in shown}
        rows.append({"method": str(method), **numbers})
    return rows


def _heading(metric: Metric) -> str:
    """Heading of a column, which names the unit once."""
    if metric.unit == "1":
        return metric.title
    return metric.unit if metric.unit.startswith(metric.title.split("/")[0]) else f"{metric.title} ({metric.unit})"


def unseen(n_seen: int | None, n: int) -> Light:
    """Judge if the trials scored are new to the fit."""
    name = "Trials are new to the fit"
    if n_seen is None:
        said = "The fit's file does not say which trials it was made from: scores may be too good."
        return Light(name, State.LOOK, "not known", said)
    if not n_seen:
        return Light(name, State.GOOD, f"{n} of {n}", "None of them was fitted to: scores are honest.")
    state = State.BAD if n_seen == n else State.LOOK
    return Light(name, state, f"{n - n_seen} of {n}", (
        "Scores on training trials are too good: keep some from the fit (mrgp fit --split-seed 0), and score it on "
        "these (mrgp evaluate --split-seed 0)."
    ))  # fmt: skip


def beside_baselines(metric: Metric, table: xr.Dataset, what: str, regions: list[str]) -> Light:
    """Judge a score of the model, the first predictor, beside those of baselines.

    The first baseline is the mean response of training trials.
    """
    sign = -1.0 if metric.less_is_better else 1.0
    values = table[metric.name].transpose("predictor", ...).values.reshape(table.sizes["predictor"], -1)
    own, others = sign * values[0], sign * values[1:]
    mean = np.nanmean(others, 1)
    best = int(np.argmax(mean))
    rival = str(table["predictor"].values[1 + best])
    digits = 3 if metric.digits is None else metric.digits
    own_words, theirs = beside(values[0], digits), beside(values[1 + best], digits)
    number = f"{own_words} for {' / '.join(regions)}; best baseline, {rival}, {theirs}"
    below = [name for name, ok in zip(regions, own >= others[0], strict=True) if not ok]
    behind = [name for name, ok in zip(regions, own >= others.max(0), strict=True) if not ok]
    if below:
        where, state = " and ".join(below), State.BAD
        said = (
            f"In {where} the model predicts worse than the mean response of training trials, which needs no latents. "
            "Give it that mean (--mean psth, or --remove-mean), or take fewer latents; and see if the fit converged."
        )
    elif behind:
        where, state = " and ".join(behind), State.LOOK
        said = (
            f"In {where} a baseline without latents predicts better: the model misses what it sees. Try more latents, "
            "private ones too, or --mean psth."
        )
    else:
        state, said = State.GOOD, "The model predicts at least as well as every baseline in every region."
    return Light(f"{what.capitalize()}, {_heading(metric)}", state, number, said)
