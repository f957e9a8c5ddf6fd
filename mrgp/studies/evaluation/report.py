"""Summary of an evaluation for JSON, and its tables for a screen."""

from typing import Any

import xarray as xr

from mrgp.metrics.metric import HiddenNeurons, HiddenRegion, Metric, SimulatedTrials, beside, plain


def build(evaluation: Any) -> dict[str, Any]:
    """Build the summary of :class:`mrgp.studies.evaluation.evaluate.Evaluation`.

    NaN, which JSON does not have, becomes null.
    """
    scores = evaluation.cosmoothing
    summary = {
        "model": evaluation.model,
        "trials": evaluation.trials,
        "regions": scores["region"].values.tolist(),
        "cosmoothing": by_method(scores, scored(scores)),
        "joint_log_likelihood": {
            str(method): float(scores["joint_log_likelihood"].sel(predictor=method).sum())
            for method in scores["predictor"].values
        },
        "masks": [{name: neurons.tolist() for name, neurons in mask.items()} for mask in evaluation.masks],
    }
    if evaluation.left_out is not None:
        summary["regions_left_out"] = by_method(evaluation.left_out, scored_of_regions(evaluation.left_out))
    for metric, table in tables_of(evaluation):
        summary |= metric.summary(table)
    return summary | {"notes": list(evaluation.notes), **evaluation.about}


def scored(table: xr.Dataset) -> list[Metric]:
    """Metrics of hidden neurons that a table of scores has."""
    return [metric for metric in Metric.scored_on(HiddenNeurons) if metric.name in table]


def scored_of_regions(table: xr.Dataset) -> list[Metric]:
    """Metrics of a table of scores that are shown of regions left out."""
    every = [metric for metric in Metric.scored_on(HiddenRegion) if metric.name in table]
    return [metric for metric in every if metric.region_panel or metric.needs is HiddenRegion]


def tables_of(evaluation: Any) -> list[tuple[Metric, xr.Dataset]]:
    """Metrics of trials, each with its table."""
    every = Metric.scored_on(SimulatedTrials)
    return [(metric, evaluation.tables[metric.name]) for metric in every if metric.name in evaluation.tables]


def by_method(table: xr.Dataset, metrics: list[Metric]) -> dict[str, dict[str, Any]]:
    """Convert a table of scores: method -> score -> one number per region."""
    return {
        str(method): {metric.name: plain(table[metric.name].sel(predictor=method)) for metric in metrics}
        for method in table["predictor"].values
    }


def report(evaluation: Any) -> str:
    """Format an evaluation as text."""
    scores, tables = evaluation.cosmoothing, tables_of(evaluation)
    regions = [str(region) for region in scores["region"].values]
    lines = [evaluation.trials, "", f"held-out neurons ({' / '.join(regions)})"]
    lines += [*_score_lines(scores, scored(scores)), _better(scored(scores))]
    if evaluation.left_out is not None:
        lines += ["", "regions left out, each predicted from the others"]
        lines += _score_lines(evaluation.left_out, scored_of_regions(evaluation.left_out))
    lines += ["", "; ".join(filter(None, (metric.sentence(table) for metric, table in tables)))]
    lines += [line for metric, table in tables for line in metric.lines(table)]
    return "\n".join([*lines, *(f"note: {note}" for note in evaluation.notes)])


def _better(metrics: list[Metric]) -> str:
    """Say which way each score is better, in a line."""
    shown = [metric for metric in metrics if metric.digits is not None]
    sides = {"higher": [m.title for m in shown if not m.less_is_better],
             "lower": [m.title for m in shown if m.less_is_better]}  # fmt: skip
    return "; ".join(f"{side} is better: {', '.join(titles)}" for side, titles in sides.items() if titles)


def _score_lines(table: xr.Dataset, metrics: list[Metric]) -> list[str]:
    """Format one line per method, regions divided by slashes."""
    shown = [(metric, metric.digits) for metric in metrics if metric.digits is not None]
    rows = [["", *(metric.title for metric, _ in shown)]]
    for method in table["predictor"].values:
        scores = table.sel(predictor=method)
        rows.append([str(method), *(beside(scores[metric.name].values, digits) for metric, digits in shown)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)).rstrip()
            for row in rows]  # fmt: skip
