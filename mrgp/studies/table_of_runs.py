"""Table of many runs, from the summaries that commands leave behind.

The commands are ``mrgp fit``, ``evaluate`` and ``compare``.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from mrgp.families.earlier_settings import told_apart
from mrgp.inference.method import Method
from mrgp.metrics.metric import HiddenRegion, Metric, SimulatedTrials
from mrgp.plots.save import save_all
from mrgp.recordings.checks import DataError, warn
from mrgp.runtime.account import Account, Picture
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_atomically
from mrgp.studies.evaluation.evaluate import KIND
from mrgp.studies.figure_of_runs import plot_aggregate

LABELS = ["run", "kind", "model", "region"]
SHOWN = {("fit",): "fits", ("evaluate", "baseline"): "evaluations", ("compare",): "comparisons"}
ALONE = ("seed", "delays_ms")  # means over runs mean nothing: another fit's latents come in another order
FOUND = ("max_delay", "window", "transient", "duration", "learned_timescales")  # what a fit may have changed
ASKED = ("method", "fixed", "preprocessing", "condition", "held_out", "n_masks", "n_train_trials")  # beside settings
PICTURES = (
    Picture("aggregate", "Scores of all runs", "Scores of every run, model and baseline, beside each other."),
)  # fmt: skip
DIGITS = 4
DECIMALS = {"log_likelihood": 2, "log_evidence": 2, "elpd": 2}  # of large numbers told apart by small differences


@dataclass(frozen=True, eq=False, repr=False)
class Aggregate(Shown):
    """Table of many runs, one row per run, model and region.

    Its first columns are ``run`` (folder), ``kind``, ``model`` (or baseline, or hypothesis) and ``region``.

    ``kind`` is the command, "fit", "evaluate" or "compare"; of the baselines of an evaluation it is "baseline".

    Further columns are what the runs report, in nats, seconds, units of the data or bits per neuron and bin; a cell is
    empty where a run has no such number. Of means over runs, ``runs`` counts them, and ``NAME_sd`` stands beside NAME.
    """

    table: pd.DataFrame

    def _card(self) -> Card:
        return Card(f"Aggregate of {self.table['run'].nunique()} runs", text=self.report())

    def report(self) -> str:
        """Format one table per kind of run, without the columns that the kind leaves empty."""
        parts, columns = [], [column for metric in Metric.scored_on(SimulatedTrials) for column in metric.columns]
        decimals = DECIMALS | {column.name: column.decimals for column in columns if column.decimals is not None}
        for kinds, title in SHOWN.items():
            rows = self.table[self.table["kind"].isin(kinds)].drop(columns="kind").dropna(axis=1, how="all")
            if len(rows):
                fixed = {name: f"{{:.{count}f}}".format for name, count in decimals.items() if name in rows}
                shown = rows.to_string(index=False, na_rep="", formatters=fixed, float_format=f"{{:.{DIGITS}g}}".format)
                parts.append(f"{title}\n{shown}")
        return "\n\n".join(parts)

    def save(self, folder: str | Path) -> None:
        """Write ``aggregate.csv``, ``aggregate.png`` and ``report.json`` into ``folder``.

        Each file is replaced whole.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / "aggregate.csv", partial(self.table.to_csv, index=False))
        save_all(self.figures(), place)
        self.account().save(place)

    def figures(self) -> dict[str, Figure]:
        return {"aggregate": plot_aggregate(self.table)}

    def _account(self) -> Account:
        runs = ", ".join(map(str, dict.fromkeys(self.table["run"].dropna())))
        title = self._card().headline
        return Account("Table of runs", title, (), {"runs": runs}, pictures=PICTURES, text=self.report())


def aggregate(folders: Iterable[str | Path], means: bool = False) -> Aggregate:
    """Gather the runs in ``folders``; each holds a ``summary.json`` or folders that do.

    A summary of another kind of run is left out with a warning that names it.

    Args:
        folders: Of runs.
        means: One row for all runs in one of ``folders``, such as fits to several splits of the trials: their mean, and
            their standard deviation; no mean where some of them lack the number, and none of seeds and delays. A
            baseline that scores the same in all folders stands once, under no run. Where runs of one model in one
            folder were not asked for the same, a warning says in what they differ.

    Raises:
        DataError: a folder holds no summary, one cannot be read, or no run of a kind that is known is among them.
    """
    rows, seen = [], set()
    asked: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for folder in map(Path, folders):
        for path in _summaries(folder):
            if path.resolve() in seen:
                warn(f"{path} is named twice: it counts once")
                continue
            seen.add(path.resolve())
            summary = _read(path)
            reader = _reader(summary)
            if reader is None:
                warn(f"{path} is not of mrgp fit, evaluate or compare: left out")
                continue
            try:
                if means and reader is not _compared:
                    asked.setdefault((folder, reader, summary["model"]), []).append(_asked(summary))
                rows += [{"run": str(folder if means else path.parent), **row} for row in reader(summary)]
            except (KeyError, TypeError, IndexError, AttributeError) as error:
                raise DataError(f"{path} is not as this version of mrgp writes it: run the command again") from error
    if not rows:
        raise DataError("there is no run of mrgp fit, evaluate or compare in these folders: name others")
    table = pd.DataFrame(rows)
    table = table[[*LABELS, *(name for name in table if name not in LABELS)]]
    for (place, _, model), choices in asked.items():
        known = set.intersection(*map(set, choices))  # to the versions that made them
        if differing := sorted(name for name in known if any(one[name] != choices[0][name] for one in choices)):
            warn(f"runs of {model} in {place} differ in {', '.join(differing)}: means mix them")
    return Aggregate(_averaged(table) if means else table)


def _averaged(table: pd.DataFrame) -> pd.DataFrame:
    """Average over runs: one row per run, kind, model and region.

    An entry that is no number stays where all agree.
    """
    rows = []
    names = table.columns.difference([*LABELS, *ALONE], sort=False)
    for labels, own in table.groupby(LABELS, sort=False):
        row = {**dict(zip(LABELS, labels, strict=True)), "runs": len(own)}
        for name in names:
            values = own[name].infer_objects()
            if is_numeric_dtype(values):  # of what is true or false, the share of runs
                values = values.astype(float)
                row[name], row[f"{name}_sd"] = values.mean(skipna=False), values.std(skipna=False)
            else:
                row[name] = values.iloc[0] if values.nunique(dropna=False) == 1 else None
        rows.append(row)
    means = pd.DataFrame(rows).dropna(axis=1, how="all")
    models = means[means["kind"] != "baseline"]
    baselines = [own for _, own in means[means["kind"] == "baseline"].groupby("model", sort=False)]
    return pd.concat([models, *map(_once, baselines)], ignore_index=True)


def _once(baseline: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of a baseline once, under no run, if they agree in all folders.

    Otherwise all rows are kept.
    """
    folders = [own.drop(columns=LABELS).select_dtypes("number") for _, own in baseline.groupby("run", sort=False)]
    first = folders[0]
    same = all(one.shape == first.shape and np.allclose(one, first, equal_nan=True) for one in folders)
    return baseline.iloc[: len(first)].assign(run="") if same and len(folders) > 1 else baseline


def _summaries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: check the path")
    own = folder / "summary.json"
    found = [own] if own.is_file() else sorted(folder.rglob("summary.json"))
    if not found:
        raise DataError(f"{folder} holds no summary.json: name the folder that a run wrote into")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}): run the command again") from error
    if not isinstance(summary, dict):
        raise DataError(f"{path} is not the summary of a run: leave its folder out")
    return summary


def _asked(summary: dict[str, Any]) -> dict[str, Any]:
    """Choices that a run was asked for, without those that fits make themselves."""
    settings = told_apart(summary["settings"])
    found = {*FOUND, "n_across"} if Method.known(summary["method"]).removes_latents else set(FOUND)
    if settings.get("hold_max_delay"):
        found.remove("max_delay")
    asked = {name: value for name, value in settings.items() if name not in found}
    return asked | {name: summary[name] for name in ASKED if name in summary}


def _reader(summary: dict[str, Any]) -> Callable[[dict[str, Any]], list[dict[str, Any]]] | None:
    if summary.get("kind") == KIND:
        return _evaluated
    if "hypotheses" in summary:
        return _compared
    return _fitted if {"model", "settings", "timescales"} <= summary.keys() else None


def _fitted(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a fit, one per region with its delays.

    Numbers of the whole fit stand in each row.
    """
    common = {"kind": "fit", "model": summary["model"], "method": summary["method"]}
    common |= {name: summary[name] for name in ("log_likelihood", "converged", "iterations", "wall_s", "seed")}
    delays = summary.get("delays")
    if delays is None:
        return [{**common, "region": "all"}]
    rows = []
    for region, own in zip(summary["regions"], delays, strict=True):
        means = [1e3 * float(np.mean(delay)) for delay in own]
        rows.append({**common, "region": region, "delays_ms": " ".join(f"{mean:+.1f}" for mean in means)})
    return rows


def _evaluated(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of an evaluation, one per method and region.

    Log-likelihoods of whole trials are the model's alone.
    """
    rows = []
    left_out = summary.get("regions_left_out", {})
    whole = _of_whole_run(summary)
    regions = [metric for metric in Metric.scored_on(HiddenRegion) if metric.region_column]
    for m, (method, scores) in enumerate(summary["cosmoothing"].items()):
        for r, region in enumerate(summary["regions"]):
            kind, name = ("baseline", method) if m else ("evaluate", summary["model"])
            row = {"kind": kind, "model": name, "region": region}
            row |= {score: values[r] for score, values in scores.items()}
            own = left_out.get(method, {})
            row |= {f"left_out_{metric.name}": own[metric.name][r] for metric in regions if metric.name in own}
            rows.append(row | whole if m == 0 else row)
    return rows


def _of_whole_run(summary: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a whole evaluation.

    Those of an optional metric may be absent.
    """
    known = [(metric, column) for metric in Metric.scored_on(SimulatedTrials) for column in metric.columns]
    there = [column for metric, column in known if not metric.optional or column.key in summary]
    return {column.name: summary[column.key] for column in there}


def _compared(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of a comparison, one per hypothesis."""
    names = ("log_evidence", "probability", "elpd", "elpd_diff", "dse", "pareto_k", "converged")
    return [
        {"kind": "compare", "model": row["hypothesis"], "region": "all", **{name: row[name] for name in names}}
        for row in summary["hypotheses"]
    ]
