"""K-fold cross-validation of the numbers of latents.

Every candidate is fitted to some trials and scored on others.

The score is log p(y_trial | parameters) of trials that were not fitted to, latents integrated out exactly: a proper
score in nats that is comparable between models, and that needs no neuron or bin left out. No fit starts from that of
another fold, which has seen the trials held out now: a start decides between optima. On two recordings of
``tests/benchmarks/crossval.py`` such starts were worth 0.001 nats per trial to the candidate of the right size, but 0.4
to 0.5 to one with latents too many.
"""

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.recordings.checks import warn
from mrgp.recordings.folds import alive_in_training, deal_folds
from mrgp.recordings.recording import MultiRegionData
from mrgp.studies.cross_validation.candidates import admits, searched
from mrgp.studies.cross_validation.result import Candidate, CrossValidation
from mrgp.studies.cross_validation.sweep import Job, Score, Sweep

RESERVED = {"data", "start", "checkpoint"}  # of fit, and not settings


def cross_validate(
    model: GaussianProcesses,
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
    drop_dead: bool = False,
    **fit_settings: Any,
) -> CrossValidation:
    """Choose the numbers of latents by how well unseen trials are predicted.

    Candidates are all pairs from ``n_across`` and ``n_within`` but for (0, 0); or, with ``search``, those of a path
    that factor analysis finds, as users of the DLAG toolbox know it (Gokcen et al. 2022, Nat. Comput. Sci. 2, 512-525):
    its cross-validated dimensionality in each region alone is how many latents that region reads, and candidates differ
    in how many of them are shared.

    Args:
        model: Its own numbers of latents serve where none are given.
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
        stratify: Name of a trial coordinate whose values are spread evenly over the folds; None for "condition", where
            the recording has one.
        search: Choose candidates by factor analysis. Models with private latents only.
        neighbours: Then try one latent more and less of every kind around the candidate that the path chose, until none
            is chosen instead, for two to four times the fits. Factor analysis takes bins one by one, and misses weak
            signals that are seen over time.
        drop_dead: Leave out neurons that never change among the trials fitted to in some fold, with a warning that
            names them. Models of counts need not.
        fit_settings: Of ``model.fit``, such as ``n_starts``, ``method`` or ``fixed``.

    A fit that fails or does not converge is told of in the result, and its candidate is not chosen.

    Raises:
        DataError: the recording does not suit the model, or a neuron of Gaussian values never changes among the trials
            fitted to in some fold.
        ValueError: there is no candidate, a setting is wrong, or ``out`` has scores of another recording or model.
        FloatingPointError: no candidate could be fitted in every fold.
    """
    if taken := sorted(RESERVED & fit_settings.keys()):
        raise TypeError(f"cross_validate sets {', '.join(taken)} itself: leave it out")
    if not (score == "log_likelihood" or callable(score)):
        raise ValueError(f"score is 'log_likelihood' or a function of a fit and held-out trials, not {score!r}")
    if isinstance(score, str) and model.is_autoencoder:
        instead = "give score=mrgp.metrics.hidden_log_likelihood"
        raise ValueError(f"{type(model).__name__} is an autoencoder, which has no log p(y): {instead}")
    folds = deal_folds(data, n_folds, stratify, seed)
    if drop_dead or not model.emission.is_of_counts:
        data = alive_in_training(data, folds, drop_dead)
    model.check(data)
    job = Job(model, data, folds, score, {**fit_settings, "seed": seed})
    sweep = Sweep(executor, None if out is None else Path(out), progress)
    if search:
        if n_within is not None:
            raise ValueError("a search finds n_within by itself: leave it out")
        found = searched(job, sweep, None if n_across is None else _listed(n_across), neighbours)
    elif neighbours:
        raise ValueError("neighbours are of the candidate that a search chose: pass search=True")
    else:
        found = sweep(job, _grid(job, n_across, n_within))
    for own in found.dimensions.values():
        _tell(own)
    _tell(found)
    return found


def _grid(job: Job, n_across: Iterable[int] | None, n_within: Iterable[int | Sequence[int]] | None) -> list[Candidate]:
    """List all pairs of numbers of latents, each once, in the order given."""
    across: list[Any] = [job.model.n_across] if n_across is None else _listed(n_across)
    within: list[Any] = [job.model.n_within] if n_within is None else _listed(n_within)
    candidates = []
    for k, width in itertools.product(across, within):
        if k == 0 and np.max(width) == 0:
            continue
        changed = job.model.replace(n_across=k, n_within=width if isinstance(width, Integral) else tuple(width))
        candidates.append(Candidate(int(k), changed.assignment(job.data.layout).n_within))
    if not candidates:
        raise ValueError("there is no candidate: give numbers of latents that are not all 0")
    return _checked(job, list(dict.fromkeys(candidates)))


def _checked(job: Job, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates; ValueError if one has more latents than there are neurons."""
    for candidate in candidates:
        if not admits(job, candidate):
            raise ValueError(f"candidate {candidate} has more latents than the recording has neurons: leave it out")
    return list(candidates)


def _listed(numbers: Any) -> list[Any]:
    """Return the numbers to try as a list; a single number becomes a list of one."""
    return [numbers] if isinstance(numbers, Integral) else list(numbers)


def _tell(found: CrossValidation) -> None:
    """Warn once of events that happened in several fits."""
    total = found.table["failure"].size
    if failures := found.failures:
        (candidate, fold), why = next(iter(failures.items()))
        warn(
            f"{len(failures)} of {total} fits failed, and their candidates are not chosen; the first, {candidate} in "
            f"fold {fold}: {why}"
        )  # fmt: skip
    for note, count in found.notes.items():
        warn(f"in {count} of {total} fits: {note}")
