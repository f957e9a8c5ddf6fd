"""Search for candidates by factor analysis of each region.

It tells how many latents every region reads; candidates differ in how many of these are shared.
"""

from collections.abc import Iterable
from dataclasses import replace
from numbers import Integral

import numpy as np

from mrgp.families.sizes import groups
from mrgp.part import rebuilt
from mrgp.parts.kernels import White
from mrgp.recordings.folds import silent_fold
from mrgp.runtime.sentences import Argument, Refusal
from mrgp.studies.cross_validation.candidate import LATENTS, Candidate
from mrgp.studies.cross_validation.result import CrossValidation
from mrgp.studies.cross_validation.sweep import Job, Sweep

STRIDE = 4  # dimensionalities of factor analysis that are tried at a time
BEYOND = 2  # dimensionalities above the best that must have been seen to be worse


def searched(job: Job, sweep: Sweep, n_across: Iterable[int] | int | None, neighbours: bool) -> CrossValidation:
    """Search the numbers of latents along a path from factor analysis.

    Dimensionalities of all regions come first; they stay the same on the path. With ``neighbours``, candidates around
    its best place follow.
    """
    layout = job.data.layout
    if job.model.sizes != LATENTS or len(groups(job.model, layout)) < max(layout.n_regions, 2):
        asks = f"a search asks what regions share, which {type(job.model).__name__} does not: give "
        raise Refusal(asks, Argument(next(iter(job.model.sizes), "tried")))
    dimensions = {region: _dimensions(job, region, sweep) for region in layout.regions}
    totals = [found.chosen.n_across for found in dimensions.values()]
    given = [n_across] if isinstance(n_across, Integral) else n_across
    shared = range(min(totals) + 1) if given is None else sorted(set(given))  # type: ignore[arg-type]
    path = [Candidate(k, tuple(total - k for total in totals)) for k in shared if 0 <= k <= min(totals)]
    if not path:
        read = f"regions read {', '.join(map(str, totals))} latents by factor analysis: lower "
        raise Refusal(read, Argument("n_across"))
    found, before = sweep(job, path), None
    while neighbours and found.chosen != before:
        before, known = found.chosen, list(found.candidates)
        found = sweep(job, known + [c for c in _around(before) if c not in known and admits(job, c)])
    return replace(found, dimensions=dimensions)


def _around(candidate: Candidate) -> list[Candidate]:
    """Candidates with one latent more or less of one kind."""
    moves = np.eye(1 + len(candidate.n_within), dtype=int)
    here = np.array([candidate.n_across, *candidate.n_within])
    around = [here + sign * move for move in moves for sign in (-1, 1)]
    return [Candidate(k, tuple(within)) for k, *within in (c.tolist() for c in around if c.min() >= 0 and c.max() > 0)]


def _dimensions(job: Job, region: str, sweep: Sweep) -> CrossValidation:
    """Cross-validate the number of latents of a region by factor analysis, in the same folds.

    The region is taken alone.

    Dimensionalities are tried upwards, until the best has been passed.
    """
    others: dict[str, list[int]] = {name: [] for name in job.data.layout.regions if name != region}
    analysis = rebuilt("model", {"model": "fa", "kernel": White().to_settings()})
    data = job.data.select_neurons(others)
    # Factor analysis is of Gaussian values, which silent neurons have none of; the model itself may be of counts.
    data = data.select_neurons({region: silent_fold(data, job.folds)[region] < 0})
    own = Job(analysis, data, job.folds, "log_likelihood", {"seed": job.settings["seed"]}, LATENTS)
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


def admits(job: Job, candidate: Candidate) -> bool:
    """True if the recording has enough neurons for a candidate."""
    latents = candidate.of(job.model).assignment(job.data.layout)
    return latents is None or latents.n_across + sum(latents.n_within) <= job.data.layout.total_neurons
