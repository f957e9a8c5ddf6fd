"""Search for settings of a model and of its training, by trials that no fit has seen."""

import dataclasses
import importlib.metadata
import itertools
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from mrgp.families.amortised import Amortised
from mrgp.inference.method import Method
from mrgp.metrics.prediction import hidden_log_likelihood
from mrgp.part import short_names
from mrgp.plots.save import save_all
from mrgp.recordings.folds import deal_folds
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit
from mrgp.runtime.account import Account
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_atomically, write_json
from mrgp.runtime.records import FAILURES, Store, as_read
from mrgp.runtime.workers import TRACING, as_done
from mrgp.studies.tuning.account import account_of
from mrgp.studies.tuning.figure import plot_tuning

FILE = "fits.json"


class Task(NamedTuple):
    """One fit: values of the settings that are tried, in their order, and its seed."""

    values: tuple[Any, ...]
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """Trials and settings that all fits of a search share; picklable if the model is."""

    model: Amortised
    train: MultiRegionData
    held_out: MultiRegionData
    names: tuple[str, ...]
    settings: Mapping[str, Any]

    def divided(self, values: Sequence[Any]) -> tuple[Amortised, dict[str, Any]]:
        """Model and settings of its fit, with values for the names that are tried."""
        own = {field.name for field in dataclasses.fields(self.model)} | {*short_names(type(self.model))}  # type: ignore[arg-type]
        given = dict(zip(self.names, values, strict=True))
        model = self.model.replace(**{name: value for name, value in given.items() if name in own})
        return model, {**self.settings, **{name: value for name, value in given.items() if name not in own}}

    def described(self) -> dict[str, Any]:
        """All that scores depend on apart from the task, as a file would give it back."""
        found = {
            "model": self.model.to_settings(), "train": self.train.fingerprint, "names": self.names,
            "held_out": self.held_out.fingerprint, "settings": dict(self.settings),
            "mrgp": importlib.metadata.version("mrgp"),
        }  # fmt: skip
        return as_read(found)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Tuning(Shown):
    """Result of :func:`tune`.

    Attributes:
        table: A row for each fit: the settings that were tried, ``seed``, ``score`` (bound of log p of trials held out,
            nats per trial), ``below_best`` and its standard error ``below_best_se`` over trials, ``epochs``,
            ``seconds``, ``converged``, and ``failure``, why there is no score, or "". The best comes first.
        model: With the best settings.
        settings: Of its fit, the seed with them.
        data: The recording, all its trials.
    """

    table: pd.DataFrame
    model: Amortised
    settings: Mapping[str, Any]
    data: MultiRegionData

    def _account(self) -> Account:
        return account_of(self)

    @property
    def names(self) -> list[str]:
        """Names of the settings that were tried."""
        columns = list(map(str, self.table.columns))
        return columns[: columns.index("seed")]

    def figures(self) -> dict[str, Figure]:
        return {"tuning": self.plot()}

    def plot(self) -> Figure:
        """Plot the scores over the values of each setting."""
        return plot_tuning(self)

    def summary(self) -> dict[str, Any]:
        """Table row by row, and the model with the best settings, ready for JSON."""
        rows = json.loads(self.table.to_json(orient="records", double_precision=12))
        return {"model": self.model.to_settings(), "settings": as_read(dict(self.settings)), "fits": rows}

    def save(self, folder: str | Path) -> None:
        """Write ``summary.json``, ``report.json``, ``scores.csv`` and ``tuning.png``.

        Each file is replaced whole.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / "summary.json", self.summary())
        write_atomically(place / "scores.csv", lambda path: self.table.to_csv(path, index=False))
        save_all(self.figures(), place)
        self.account().save(place)

    def fit(self, **changed: Any) -> Fit:
        """Fit the model to all trials with the best settings."""
        return self.model.fit(self.data, **{**self.settings, **changed})

    def _card(self) -> Card:
        text = self.table.to_string(index=False, float_format=lambda number: f"{number:.4g}")
        return Card(f"Tuning of {type(self.model).__name__}", {"best": f"{self.model}"}, text=text)


def tune(
    model: Amortised,
    data: MultiRegionData,
    tried: Mapping[str, Sequence[Any]],
    *,
    n_seeds: int = 1,
    executor: Executor | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Tuning:
    """Choose settings of a model and its training by the bound of log p of trials held out.

    A fifth of the trials, spread evenly over conditions, is held out from every fit, and scored by the
    importance-weighted bound, which is comparable between sizes, seeds and models. Autoencoders have none: they are
    scored by log p of neurons that are hidden from them in these trials
    (:func:`mrgp.metrics.hidden_log_likelihood`).

    Args:
        model: What is not tried stays as it has it.
        data: The recording.
        tried: Values to try by name: fields of the model or their short forms, such as ``n_factors`` or ``max_delay``,
            or settings of its fit, such as ``learning_rate``. All combinations are fitted.
        n_seeds: Fits of each combination: the end of a training depends on where it begins.
        executor: Any of ``concurrent.futures``, such as :func:`mrgp.process_pool`; None for this process.
        out: A folder that keeps every fit's score as it is done: the same call goes on where it was stopped.
        seed: Of the trials held out, and of the first fit; the next ones have the following.
        progress: Show a progress bar.
        settings: Of ``model.fit``, for all fits.

    Raises:
        ValueError: there is nothing to try, a name is unknown, or no fit succeeded; ``out`` has other fits.
    """
    if not tried or not all(len(values) for values in tried.values()):
        raise ValueError("tried has no values: give some, such as {'learning_rate': [1e-3, 3e-3]}")
    if n_seeds < 1:
        raise ValueError(f"n_seeds counts at least 1, not {n_seeds}")
    folds = deal_folds(data, 5, None, seed)
    train, held_out = data.select_trials(folds != 0), data.select_trials(folds == 0)
    job = Job(model, train, held_out, tuple(tried), settings)
    tasks = [Task(v, seed + n) for v in itertools.product(*tried.values()) for n in range(n_seeds)]
    for task in tasks[::n_seeds]:  # before hours of work
        _check(job, task.values)
    store = Store(None if out is None else Path(out) / FILE, job.described(), "fits", "tuning")
    done = {_key(record["values"], record["seed"]): record for record in store.done}
    left = [task for task in tasks if _key(task.values, task.seed) not in done]
    chains = [[task] for task in left]
    with tqdm(total=len(tasks), initial=len(tasks) - len(left), desc="tuning", unit=" fits", disable=not progress,
              leave=False) as bar:  # fmt: skip
        for task, record in as_done(partial(evaluate, job), chains, executor):
            store.append(record)
            done[_key(task.values, task.seed)] = record
            bar.update()
    return _result(job, data, tasks, [done[_key(task.values, task.seed)] for task in tasks])


def _check(job: Job, values: Sequence[Any]) -> None:
    """Raise ValueError or TypeError if a combination has a name or value that nothing knows."""
    model, settings = job.divided(values)
    method = Method.chosen(settings.get("method") or model.methods[0], {}, model)
    own = {field.name for field in dataclasses.fields(type(method))}  # type: ignore[arg-type]
    tried = {*job.names} & {*settings}
    if unknown := sorted(tried - own - {"max_iterations"}):
        raise ValueError(f"nothing has a setting {', '.join(unknown)}: neither {type(model).__name__} nor its fit")
    method.replace(**{name: settings[name] for name in tried & own})


def _key(values: Sequence[Any], seed: int) -> str:
    return json.dumps([list(values), seed], default=repr)


def evaluate(job: Job, task: Task) -> dict[str, Any]:
    """Fit with one combination, and score the trials held out; the result is ready for JSON."""
    began = time.perf_counter()
    model, settings = job.divided(task.values)
    record: dict[str, Any] = {
        "values": as_read(list(task.values)), "seed": task.seed, "scores": None,
        "converged": False, "failure": "", "epochs": 0,
    }  # fmt: skip
    try:
        with TRACING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = model.fit(job.train, **{"progress": False, **settings, "seed": task.seed})
            fit.raise_if_interrupted()
            score = hidden_log_likelihood if fit.model.is_autoencoder else Fit.log_likelihood
            scores = np.asarray(score(fit, job.held_out), float)
        record |= {"converged": bool(fit.converged), "epochs": fit.iterations}
        if not np.isfinite(scores).all():
            raise FloatingPointError("the bound of a trial held out is not finite")
        record["scores"] = scores.tolist()
    except FAILURES as error:
        record["failure"] = str(error) or type(error).__name__
    return {**record, "seconds": time.perf_counter() - began}


def _result(job: Job, data: MultiRegionData, tasks: Sequence[Task], records: Sequence[dict[str, Any]]) -> Tuning:
    """Order the fits by their scores, and compare each with the best, trial by trial."""
    width = job.held_out.n_trials
    scores = np.array([np.full(width, np.nan) if r["scores"] is None else r["scores"] for r in records], float)
    means = scores.mean(1)
    if not np.isfinite(means).any():
        raise ValueError(f"no fit succeeded; the first: {records[0]['failure']}")
    best = int(np.nanargmax(means))
    gap = scores[best] - scores
    columns: dict[str, Any] = {name: [task.values[i] for task in tasks] for i, name in enumerate(job.names)}
    columns |= {
        "seed": [task.seed for task in tasks], "score": means, "below_best": gap.mean(1),
        "below_best_se": gap.std(1, ddof=1) / np.sqrt(width) if width > 1 else np.full(len(tasks), np.nan),
    }  # fmt: skip
    columns |= {name: [record[name] for record in records] for name in ("epochs", "seconds", "converged", "failure")}
    table = pd.DataFrame(columns).sort_values("score", ascending=False, na_position="last").reset_index(drop=True)
    model, settings = job.divided(tasks[best].values)
    return Tuning(table, model, {**settings, "seed": tasks[best].seed}, data)
