"""K-fold cross-validation of the numbers of latents and states, and of other settings.

Every candidate is fitted to some trials and scored on others.

The score is log p(y_trial | parameters) of trials that were not fitted to, latents integrated out exactly: a proper
score in nats that is comparable between models, and that needs no neuron or bin left out. No fit starts from that of
another fold, which has seen the trials held out now: a start decides between optima. On two recordings of
``tests/benchmarks/crossval.py`` such starts were worth 0.001 nats per trial to the candidate of the right size, but 0.4
to 0.5 to one with latents too many.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from mrgp.families.checks import require_no_course
from mrgp.families.model import Model
from mrgp.recordings.blocks import in_blocks
from mrgp.recordings.checks import DataError, warn
from mrgp.recordings.folds import alive_in_training, deal_folds
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument
from mrgp.studies.cross_validation.candidate import LATENTS, Candidate, Tried, grid, names_of
from mrgp.studies.cross_validation.candidates import admits, searched
from mrgp.studies.cross_validation.result import CrossValidation
from mrgp.studies.cross_validation.sweep import Job, Score, Sweep

RESERVED = {"data", "start", "checkpoint"}  # of fit, and not settings


def cross_validate(
    model: Model,
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
    tried: Tried | None = None,
    block: float | None = None,
    stratify: str | None = None,
    search: bool = False,
    neighbours: bool = False,
    drop_dead: bool = False,
    **fit_settings: Any,
) -> CrossValidation:
    """Choose numbers of latents, or other settings, by how well unseen trials are predicted.

    Candidates are all combinations of ``n_across``, ``n_within`` and what is ``tried``, but for no latents at all; or,
    with ``search``, those of a path that factor analysis finds, as users of the DLAG toolbox know it (Gokcen et al.
    2022, Nat. Comput. Sci. 2, 512-525): its cross-validated dimensionality in each region alone is how many latents
    that region reads, and candidates differ in how many of them are shared.

    Args:
        model: What is not tried stays as it has it.
        data: The recording.
        n_across: Numbers of across latents to try; in a search, None for 0 up to the smallest dimensionality.
        n_within: Numbers of private latents to try, each one number for all regions or one per region.
        tried: Values to try by name, of any setting of the model: ``{"n_states": [1, 2, 3], "n_within": [2, 3]}`` of
            SwitchingLDS; of CoupledLDS also edges, by what is left out, ``{"absent": [(), (("V1", "V2"),)]}``.
        block: Seconds. Trials are cut into blocks of about this length, each of which is then a trial: fitted to or
            held out, and scored as if nothing had been before it. For recordings of few long trials, or of one. Where
            a block ends is no event to the animal: blocks are many times as long as states and latents last.
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

    A fit that fails or does not converge is told of in the result, and its candidate is not chosen. Scores of counts,
    of switching dynamics and of models with guides are lower bounds of log p(y): the more a model has to infer, the
    more its bound may lose, so that they rather choose a candidate too small.

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
    whole = data
    if block is not None:
        require_no_course(model)
        data = in_blocks(data, block)
    if data.n_trials < n_folds:
        few = f"{n_folds} folds need as many trials, and there are {data.n_trials}: lower "
        remedy = ", or give ", Argument("block"), ", in seconds, to cut trials into blocks"
        raise DataError(few, Argument("n_folds"), *remedy)
    folds = deal_folds(data, n_folds, stratify, seed)
    if drop_dead or not model.emission.is_of_counts:
        data = alive_in_training(data, folds, drop_dead)
    model.check(data)
    shared_and_private = {name: values for name, values in zip(LATENTS, (n_across, n_within), strict=True)
                          if values is not None}  # fmt: skip
    if twice := sorted(shared_and_private.keys() & (tried or {}).keys()):
        raise ValueError(f"{twice[0]} is given twice: once is enough")
    asked = {**shared_and_private, **(tried or {})}
    job = Job(model, data, folds, score, {**fit_settings, "seed": seed}, names_of(model, asked))
    sweep = Sweep(executor, None if out is None else Path(out), progress)
    if search:
        if LATENTS[1] in asked:
            raise ValueError("a search finds n_within by itself: leave it out")
        if more := [name for name in asked if name != LATENTS[0]]:
            raise ValueError(f"a search is of latents alone: leave {more[0]} out")
        found = searched(job, sweep, asked.get(LATENTS[0]), neighbours)
    elif neighbours:
        raise ValueError("neighbours are of the candidate that a search chose: pass search=True")
    else:
        found = sweep(job, _checked(job, grid(model, data.layout, asked), block is not None))
    for own in found.dimensions.values():
        _tell(own)
    _tell(found)
    return found if block is None else dataclasses.replace(found, data=_of_the_same_neurons(whole, data))


def _checked(job: Job, candidates: Sequence[Candidate], cut: bool) -> list[Candidate]:
    """Return the candidates.

    Raises:
        ValueError: one has more latents than there are neurons, or a course over trials, which are ``cut``.
    """
    for candidate in candidates:
        if cut and candidate.of(job.model).has_course:
            raise ValueError(f"candidate {candidate} has a course over the trial, which blocks have not: leave it out")
        if not admits(job, candidate):
            raise ValueError(f"candidate {candidate} has more latents than the recording has neurons: leave it out")
    return list(candidates)


def _of_the_same_neurons(whole: MultiRegionData, some: MultiRegionData) -> MultiRegionData:
    """Select the neurons that are left in ``some``."""
    chosen = {name: some.origin[name].among(whole.origin[name]) if name in some.origin else [] for name in whole.origin}
    return whole.select_neurons(chosen)  # type: ignore[arg-type]


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
