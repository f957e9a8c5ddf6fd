"""Trainings from several seeds, beside some on trials that are shuffled between regions."""

import importlib.metadata
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mrgp.families.model import Model
from mrgp.parts.delays.constant import DELAY
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.shuffling import without_communication
from mrgp.runtime.records import FAILURES, Store, as_read
from mrgp.runtime.workers import TRACING, as_done
from mrgp.studies.communication.result import Communication, gathered

FILE = "fits.json"


class Task(NamedTuple):
    """One training: of the recording or of shuffled trials, and its seed."""

    is_control: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that all trainings share; picklable if the model is."""

    model: Model
    data: MultiRegionData
    among: int | None
    settings: Mapping[str, Any]

    def held_in_controls(self) -> dict[str, Any]:
        """Count conditions, within which controls are shuffled, and those of one trial."""
        sizes = np.unique(self.data.condition, return_counts=True)[1]
        return {"trials": self.data.n_trials, "conditions": len(sizes), "alone": int((sizes == 1).sum())}

    def described(self) -> dict[str, Any]:
        """All that results depend on apart from the task, as a file would give it back."""
        found = {
            "model": self.model.to_settings(), "data": self.data.fingerprint, "among": self.among,
            "settings": dict(self.settings), "mrgp": importlib.metadata.version("mrgp"), **self.held_in_controls(),
        }  # fmt: skip
        return as_read(found)


def assess_communication(
    model: Model,
    data: MultiRegionData,
    *,
    n_seeds: int = 3,
    n_controls: int = 2,
    among: int | None = None,
    executor: Executor | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Communication:
    """Find who talks to whom, how far trainings agree, and what is left where nobody can talk.

    A model whose regions send messages is trained from several seeds. Then it is trained on controls: recordings in
    which each region's trials are shuffled among those of the same condition. These have the same stimuli, courses
    and dynamics, and no communication trial by trial. An edge is told apart from stimulus and course if in every
    training its messages move the target by far more than those of any control.

    Args:
        model: Such as :class:`mrgp.models.MRLFADS`.
        data: The recording, with ``condition`` of its trials where there is one.
        n_seeds: Trainings on the recording.
        n_controls: Shuffled recordings, one training each.
        among: Trials of a condition, one after another, among which is shuffled, such as 4: what drifts more slowly is
            then left in the control. None for all trials of a condition.
        executor: Any of ``concurrent.futures``, such as :func:`mrgp.process_pool`; None for this process.
        out: A folder that keeps what every training found: the same call goes on where it was stopped.
        seed: Of the first training and control; the next ones have the following.
        progress: Show a progress bar.
        settings: Of ``model.fit``, for all trainings.

    Raises:
        DataError: no condition has two trials, so that there is no control.
        ValueError: the regions of the model send no messages, there is one region, a number is too small, or no
            training succeeded; ``out`` has other ones.
    """
    if not model.sends_messages:
        raise ValueError(f"regions of {type(model).__name__} send no messages: take mrgp.models.MRLFADS")
    if data.layout.n_regions < 2:
        raise ValueError("the recording has one region: communication needs two or more")
    for name, count, least in (("n_seeds", n_seeds, 1), ("n_controls", n_controls, 1), ("among", among, 2)):
        if count is not None and count < least:
            raise ValueError(f"{name} counts at least {least}, not {count}")
    without_communication(data, seed, among)  # refuses what it cannot shuffle, before anything is trained
    job = Job(model, data, among, settings)
    tasks = [Task(False, seed + n) for n in range(n_seeds)] + [Task(True, seed + n) for n in range(n_controls)]
    store = Store(None if out is None else Path(out) / FILE, job.described(), "fits", "study of communication")
    done = {Task(record["is_control"], record["seed"]): record for record in store.done}
    left = [task for task in tasks if task not in done]
    with tqdm(total=len(tasks), initial=len(tasks) - len(left), desc="communication", unit=" fits",
              disable=not progress, leave=False) as bar:  # fmt: skip
        for task, record in as_done(partial(trained, job), [[task] for task in left], executor):
            store.append(record)
            done[task] = record
            bar.update()
    return gathered(data.layout, [done[task] for task in tasks], job.described())


def trained(job: Job, task: Task) -> dict[str, Any]:
    """Train once, and note what was found, ready for JSON."""
    began = time.perf_counter()
    record: dict[str, Any] = {"is_control": task.is_control, "seed": task.seed, "failure": ""}
    data = without_communication(job.data, task.seed, job.among) if task.is_control else job.data
    try:
        with TRACING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit: Any = job.model.fit(data, **{"progress": False, **job.settings, "seed": task.seed})
            fit.raise_if_interrupted()
            edges, delays = fit.edges(), fit.transmission_delays()
        record["effect"] = edges["effect"].values.tolist()
        record |= {name: delays[name].values.tolist() for name in (DELAY.name, "sd")}
        record |= {"longest": fit.model.longest_delay(fit.layout), "bound": float(fit.trace[-1])}
        record["gain"] = record["bound"] - float(np.sum(fit.model.emission.trivial_log_likelihood(fit.recording())))
        record |= {"epochs": fit.iterations, "converged": bool(fit.converged)}
        if not np.isfinite(record["effect"]).all():
            raise FloatingPointError("the effect of an edge is not finite")
    except FAILURES as error:
        record["failure"] = str(error) or type(error).__name__
    return {**record, "seconds": time.perf_counter() - began}
