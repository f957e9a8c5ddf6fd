"""How many latents? Every candidate is fitted to some trials and scored on others, K-fold.

The score is log p(y_trial | parameters) of trials that were not fitted to, latents integrated out exactly: a proper
score in nats that is comparable between models, and that needs no neuron or bin left out. No fit starts from that of
another fold: it would have seen the trials that are held out now.
"""

import importlib.metadata
import itertools
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from mrgp.data import MultiRegionData
from mrgp.fit import Fit
from mrgp.folds import deal_folds, fingerprint
from mrgp.kernels import White, kernel_to_settings
from mrgp.preset import Preset
from mrgp.rebuild import preset_from
from mrgp.selection import Candidate, CrossValidation, candidate_of, tabulated
from mrgp.store import Store
from mrgp.workers import TRACING, as_done

type Score = Literal["log_likelihood"] | Callable[[Fit, MultiRegionData], Any]
type Task = tuple[Candidate, int]

FILE = "tasks.json"
RESERVED = {"data", "start", "checkpoint"}  # of fit, and not settings
STRIDE = 4  # dimensionalities of factor analysis that are tried at a time
BEYOND = 2  # dimensionalities above the best that must have been seen to be worse


def cross_validate(
    model: Preset,
    data: MultiRegionData,
    n_across: Iterable[int] | None = None,
    n_within: Iterable[int | Sequence[int]] | None = None,
    n_folds: int = 4,
    score: Score = "log_likelihood",
    executor: Executor | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    *,
    stratify: str | None = None,
    search: bool = False,
    neighbours: bool = False,
    **fit_settings: Any,
) -> CrossValidation:
    """Choose the numbers of latents by how well unseen trials are predicted.

    Candidates are all pairs from ``n_across`` and ``n_within`` but for (0, 0); or, with ``search``, those of a path
    that factor analysis finds, as users of the DLAG toolbox know it (Gokcen et al. 2022, Nat. Comput. Sci. 2, 512-525):
    its cross-validated dimensionality in each region alone is how many latents that region reads, and candidates differ
    in how many of them are shared.

    Args:
        model: A preset; its own numbers of latents serve where none are given.
        data: The recording.
        n_across: Numbers of across latents to try; in a search, None for 0 up to the smallest dimensionality.
        n_within: Numbers of private latents to try, each one number for all regions or one per region.
        n_folds: Every trial is held out once, in one of so many parts.
        score: "log_likelihood", or a function of a fit and held-out trials that returns a number for each trial, the
            higher the better; picklable where ``executor`` has processes.
        executor: Where fits run: any of ``concurrent.futures``, such as :func:`mrgp.process_pool` on this machine or
            ``dask.distributed.Client(...).get_executor()`` on many; None for this process. Scores are the same
            everywhere. Threads take turns: what traces models cannot do so twice at a time.
        out: A folder that keeps the score of every fold as it is done, in ``tasks.json``: the same call goes on where
            it was stopped, also with more candidates.
        seed: Of the folds, and of every fit.
        progress: Show a progress bar.
        stratify: Name of a trial coordinate whose values are spread evenly over the folds.
        search: Choose candidates by factor analysis. Models with private latents only.
        neighbours: Then try one latent more and less of every kind around the candidate that the path chose, until none
            is better: factor analysis does not know what time can tell.
        fit_settings: Of ``model.fit``, such as ``n_starts``, ``method`` or ``fixed``.

    A fit that fails or does not converge is told of in the result, and its candidate is not chosen.

    Raises:
        DataError: the recording does not suit the model, or a neuron is silent in a training set.
        ValueError: there is no candidate, a setting is wrong, or ``out`` has scores of another recording or model.
        FloatingPointError: no candidate could be fitted in every fold.
    """
    if taken := sorted(RESERVED & fit_settings.keys()):
        raise TypeError(f"cross_validate sets {', '.join(taken)} itself: leave it out")
    if not (score == "log_likelihood" or callable(score)):
        raise ValueError(f"score is 'log_likelihood' or a function of a fit and held-out trials, not {score!r}")
    data.require(model.regions_needed, type(model).__name__)
    folds = deal_folds(data, n_folds, stratify, seed)
    job = Job(model, data, folds, score, {**fit_settings, "seed": seed})
    sweep = _Sweep(executor, None if out is None else Path(out), progress)
    if search:
        if n_within is not None:
            raise ValueError("a search finds n_within by itself: leave it out")
        found = _searched(job, sweep, n_across, neighbours)
    elif neighbours:
        raise ValueError("neighbours are of the candidate that a search chose: pass search=True")
    else:
        found = sweep(job, _grid(job, n_across, n_within))
    for own in found.dimensions.values():
        _tell(own)
    _tell(found)
    return found


@dataclass(frozen=True, eq=False)
class Job:
    """What all fits of a sweep share; picklable if the preset and the score are."""

    model: Preset
    data: MultiRegionData
    folds: np.ndarray
    score: Score
    settings: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        """All that scores depend on but the candidate, as a file would give it back."""
        settings = self.model.to_settings()
        del settings["n_across"], settings["n_within"]
        score = self.score if isinstance(self.score, str) else f"{self.score.__module__}.{self.score.__qualname__}"
        described = {
            "model": settings, "recording": fingerprint(self.data), "folds": self.folds.tolist(), "score": score,
            "settings": dict(self.settings), "mrgp": importlib.metadata.version("mrgp"),
        }  # fmt: skip
        return json.loads(json.dumps(described, default=_named))


def _named(value: Any) -> Any:
    """What JSON cannot hold: arrays as lists, functions by their names."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else getattr(value, "__qualname__", str(value))


# ---- candidates ------------------------------------------------------------------------------------------------------


def _grid(job: Job, n_across: Iterable[int] | None, n_within: Iterable[int | Sequence[int]] | None) -> list[Candidate]:
    """All pairs, each once, in the order given."""
    across = [job.model.n_across] if n_across is None else list(n_across)
    within = [job.model.n_within] if n_within is None else list(n_within)
    candidates = []
    for k, width in itertools.product(across, within):
        if k == 0 and np.max(width) == 0:
            continue
        changed = job.model.replace(n_across=k, n_within=width if isinstance(width, int) else tuple(width))
        candidates.append(Candidate(int(k), changed.assignment(job.data.layout).n_within))
    if not candidates:
        raise ValueError("there is no candidate: give numbers of latents that are not all 0")
    return _checked(job, list(dict.fromkeys(candidates)))


def _checked(job: Job, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, if none has more latents than the recording has neurons."""
    for candidate in candidates:
        if not _fits(job, candidate):
            raise ValueError(f"candidate {candidate} has more latents than the recording has neurons: leave it out")
    return list(candidates)


def _fits(job: Job, candidate: Candidate) -> bool:
    return candidate.n_across + sum(candidate.n_within) <= job.data.layout.total_neurons


def _searched(job: Job, sweep: "_Sweep", n_across: Iterable[int] | None, neighbours: bool) -> CrossValidation:
    """Dimensionalities of all regions, the path on which they stay the same, and what is around its best place."""
    layout = job.data.layout
    if job.model.assignment(layout).n_regions < max(layout.n_regions, 2):
        raise ValueError(f"a search asks what regions share, which {type(job.model).__name__} does not: give n_across")
    dimensions = {region: _dimensions(job, region, sweep) for region in layout.regions}
    totals = [found.chosen.n_across for found in dimensions.values()]
    shared = range(min(totals) + 1) if n_across is None else sorted(set(n_across))
    path = [Candidate(k, tuple(total - k for total in totals)) for k in shared if 0 <= k <= min(totals)]
    if not path:
        raise ValueError(f"regions read {', '.join(map(str, totals))} latents by factor analysis: lower n_across")
    found, before = sweep(job, path), None
    while neighbours and found.chosen != before:
        before, known = found.chosen, found.candidates
        found = sweep(job, known + [c for c in _around(before) if c not in known and _fits(job, c)])
    return replace(found, dimensions=dimensions)


def _around(candidate: Candidate) -> list[Candidate]:
    """One latent more or less of one kind."""
    moves = np.eye(1 + len(candidate.n_within), dtype=int)
    here = np.array([candidate.n_across, *candidate.n_within])
    around = [here + sign * move for move in moves for sign in (-1, 1)]
    return [Candidate(k, tuple(within)) for k, *within in (c.tolist() for c in around if c.min() >= 0 and c.max() > 0)]


def _dimensions(job: Job, region: str, sweep: "_Sweep") -> CrossValidation:
    """How many latents a region reads, by factor analysis of it alone, in the same folds.

    Dimensionalities are tried upwards, until the best has been passed.
    """
    others: dict[str, list[int]] = {name: [] for name in job.data.layout.regions if name != region}
    analysis = preset_from({"model": "fa", "kernel": kernel_to_settings(White()), "window": None})
    own = Job(analysis, job.data.select_neurons(others), job.folds, "log_likelihood", {"seed": job.settings["seed"]})
    neurons = own.data.layout.total_neurons
    # Ledermann's bound: with more factors a covariance of so many neurons does not determine them.
    most = max(1, int(np.floor(neurons + 0.5 - np.sqrt(2 * neurons + 0.25))))
    name = f"factors_{job.data.layout.regions.index(region) + 1}.json"
    tried = 0
    while True:
        tried = min(tried + STRIDE, most)
        candidates = [Candidate(p, (0,)) for p in range(1, tried + 1)]
        found = sweep(own, candidates, name, f"factor analysis of {region}")
        if tried == most or found.best.n_across <= tried - BEYOND:
            return found


# ---- the sweep -------------------------------------------------------------------------------------------------------


class _Sweep:
    """Candidates in all folds: what is not done yet is done, kept, and judged."""

    def __init__(self, executor: Executor | None, folder: Path | None, progress: bool) -> None:
        self.executor, self.folder, self.progress = executor, folder, progress
        self.stores: dict[str, Store] = {}

    def __call__(
        self, job: Job, candidates: Sequence[Candidate], name: str = FILE, title: str = "cross-validation"
    ) -> CrossValidation:
        """Scores of ``candidates``, kept in the file ``name``."""
        described = job.described()
        if name not in self.stores:
            path = None if self.folder is None else self.folder / name
            self.stores[name] = Store(path, described, "tasks", "cross-validation")
        store = self.stores[name]
        done = {(candidate_of(record), record["fold"]) for record in store.done}
        folds = range(int(job.folds.max()) + 1)
        chains = [[(one, fold) for fold in folds if (one, fold) not in done] for one in candidates]
        total, left = len(candidates) * len(folds), sum(map(len, chains))
        shown = {"desc": title, "unit": " fits", "disable": not self.progress, "leave": False}
        with tqdm(total=total, initial=total - left, **shown) as bar:
            for _, record in as_done(partial(evaluate, job), chains, self.executor):
                store.append(record)
                bar.update()
        wanted = [record for record in store.done if candidate_of(record) in set(candidates)]
        notes = Counter(note for record in wanted for note in record["notes"])
        table = tabulated(job.model, job.data.layout, wanted, candidates, job.folds)
        return CrossValidation(table, job.model, job.settings, described, dict(notes.most_common()), job.data)


def evaluate(job: Job, task: Task) -> dict[str, Any]:
    """Fit one candidate to the trials outside of a fold, and score those inside; JSON-ready."""
    candidate, fold = task
    began = time.perf_counter()
    record: dict[str, Any] = {**candidate._asdict(), "fold": fold, "scores": None, "converged": False, "failure": ""}
    with TRACING, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = candidate.of(job.model).fit(
                job.data.select_trials(job.folds != fold), **{"progress": False, **job.settings}
            )
            fit.ended()
            record["converged"] = bool(fit.converged)
            held_out = job.data.select_trials(job.folds == fold)
            scored = fit.log_likelihood(held_out) if isinstance(job.score, str) else job.score(fit, held_out)
            scores = np.asarray(scored, float)
            if scores.shape != (held_out.n_trials,):
                raise ValueError(
                    f"score gave shape {scores.shape}: one number is for each of {held_out.n_trials} trials"
                )
            if not np.isfinite(scores).all():
                raise FloatingPointError("the score of a held-out trial is not finite")
            record["scores"] = scores.tolist()
            if not fit.converged:
                record["failure"] = f"not converged: {fit.reason}"
        except (ArithmeticError, np.linalg.LinAlgError, ValueError, RuntimeError, MemoryError) as error:
            record["failure"] = str(error) or type(error).__name__
    told = {str(each.message) for each in caught if each.category is UserWarning}
    record["notes"] = sorted(note for note in told if not note.startswith("the fit has not converged"))  # a failure
    return {**record, "seconds": time.perf_counter() - began}


def _tell(found: CrossValidation) -> None:
    """Warn once of what happened in several fits."""
    total = found.table["failure"].size
    if failures := found.failures:
        (candidate, fold), why = next(iter(failures.items()))
        warnings.warn(
            f"{len(failures)} of {total} fits failed, and their candidates are not chosen; the first, {candidate} in "
            f"fold {fold}: {why}", stacklevel=3,
        )  # fmt: skip
    for note, count in found.notes.items():
        warnings.warn(f"in {count} of {total} fits: {note}", stacklevel=3)
