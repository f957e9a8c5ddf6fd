"""Sweep of candidates over folds: each is fitted to some trials and scored on others.

Every score is kept as soon as it is done.
"""

import importlib.metadata
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from mrgp.families.model import Model
from mrgp.part import short_names
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit
from mrgp.runtime.records import FAILURES, Store
from mrgp.runtime.workers import TRACING, as_done
from mrgp.studies.cross_validation.candidate import Candidate, candidate_of
from mrgp.studies.cross_validation.result import CrossValidation
from mrgp.studies.cross_validation.tabulated import tabulated

type Score = Literal["log_likelihood"] | Callable[[Fit, MultiRegionData], Any]
type Task = tuple[Candidate, int]

FILE = "tasks.json"


@dataclass(frozen=True, eq=False)
class Job:
    """Data and settings that all fits of a sweep share.

    Picklable if the model and the score are. ``names`` are the settings that candidates have.
    """

    model: Model
    data: MultiRegionData
    folds: np.ndarray
    score: Score
    settings: Mapping[str, Any]
    names: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """All that scores depend on apart from the candidate, as a file would give it back."""
        settings = {name: value for name, value in self.model.to_settings().items() if name not in self.names}
        score = self.score if isinstance(self.score, str) else f"{self.score.__module__}.{self.score.__qualname__}"
        described = {
            "model": settings, "recording": self.data.fingerprint, "folds": self.folds.tolist(), "score": score,
            "settings": dict(self.settings), "mrgp": importlib.metadata.version("mrgp"),
        }  # fmt: skip
        if short := [name for name in self.names if name in short_names(type(self.model))]:  # type: ignore[arg-type]
            described["tried"] = sorted(short)  # of which settings do not tell that they are of candidates
        return json.loads(json.dumps(described, default=_named))


def _named(value: Any) -> Any:
    """Convert a value that JSON cannot hold: an array to a list, a function to its name."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else getattr(value, "__qualname__", str(value))


class Sweep:
    """Scores of candidates in all folds; those that are not done yet are computed and kept."""

    def __init__(self, executor: Executor | None, folder: Path | None, progress: bool) -> None:
        self.executor, self.folder, self.progress = executor, folder, progress
        self.stores: dict[str, Store] = {}

    def __call__(
        self, job: Job, candidates: Sequence[Candidate], name: str = FILE, title: str = "cross-validation"
    ) -> CrossValidation:
        """Score ``candidates`` in all folds; scores are kept in the file ``name``."""
        described = job.described()
        if name not in self.stores:
            path = None if self.folder is None else self.folder / name
            self.stores[name] = Store(path, described, "tasks", "cross-validation")
        store = self.stores[name]
        known = [candidate_of(record, job.model, job.names) for record in store.done]
        done = {(one, record["fold"]) for one, record in zip(known, store.done, strict=True)}
        folds = range(int(job.folds.max()) + 1)
        chains = [[(one, fold) for fold in folds if (one, fold) not in done] for one in candidates]
        total, left = len(candidates) * len(folds), sum(map(len, chains))
        shown = {"desc": title, "unit": " fits", "disable": not self.progress, "leave": False}
        with tqdm(total=total, initial=total - left, **shown) as bar:
            for task, record in as_done(partial(evaluate, job), chains, self.executor):
                store.append(record)
                known.append(task[0])
                bar.update()
        pairs = [(one, own) for one, own in zip(known, store.done, strict=True) if one in set(candidates)]
        notes = Counter(note for _, record in pairs for note in record["notes"])
        table = tabulated(job.model, job.data.layout, pairs, candidates, job.folds, job.data.n_bins)
        told = described, dict(notes.most_common())
        return CrossValidation(table, tuple(candidates), job.model, job.settings, *told, job.data)


def evaluate(job: Job, task: Task) -> dict[str, Any]:
    """Fit one candidate to the trials outside of a fold, and score those inside it.

    The result is ready for JSON.
    """
    candidate, fold = task
    began = time.perf_counter()
    record: dict[str, Any] = {**candidate.written(), "fold": fold, "scores": None, "converged": False, "failure": ""}
    caught: list[warnings.WarningMessage] = []
    try:
        with TRACING, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit = candidate.of(job.model).fit(
                job.data.select_trials(job.folds != fold), **{"progress": False, **job.settings}
            )
            fit.raise_if_interrupted()
            record["converged"] = bool(fit.converged)
            held_out = job.data.select_trials(job.folds == fold)
            scored = fit.log_likelihood(held_out) if isinstance(job.score, str) else None
        if callable(job.score):  # without the lock: it may wait for threads of its own, which need it
            scored = job.score(fit, held_out)
        scores = np.asarray(scored, float)
        if scores.shape != (held_out.n_trials,):
            raise ValueError(f"score gave shape {scores.shape}: one number is for each of {held_out.n_trials} trials")
        if not np.isfinite(scores).all():
            raise FloatingPointError("the score of a held-out trial is not finite")
        record["scores"] = scores.tolist()
        if not fit.converged:
            record["failure"] = f"not converged: {fit.reason}"
    except FAILURES as error:
        record["failure"] = str(error) or type(error).__name__
    told = {str(each.message) for each in caught if each.category is UserWarning}
    record["notes"] = sorted(note for note in told if not note.startswith("the fit has not converged"))  # a failure
    return {**record, "seconds": time.perf_counter() - began}
