"""Table of a cross-validation, from the scores of candidates in folds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from mrgp.families.model import Model
from mrgp.families.sizes import SHORTEST, groups, n_loadings, n_parameters
from mrgp.recordings.layout import Layout
from mrgp.studies.cross_validation.candidate import COLUMNS, Candidate, in_words


def tabulated(
    model: Model,
    layout: Layout,
    records: Iterable[tuple[Candidate, Mapping[str, Any]]],
    candidates: Sequence[Candidate],
    folds: np.ndarray,
    n_bins: int = SHORTEST,
) -> xr.Dataset:
    """Make the table of :class:`mrgp.CrossValidation` from records, one per candidate and fold.

    Records may be in any order; ``n_bins`` are those of the longest trial.

    Raises:
        FloatingPointError: no candidate could be fitted in all folds.
    """
    n_folds = int(folds.max()) + 1
    shape = len(candidates), n_folds
    scores, seconds = np.full((shape[0], len(folds)), np.nan), np.full(shape, np.nan)
    converged, failure = np.zeros(shape, bool), np.full(shape, "", dtype=object)
    place = {candidate: i for i, candidate in enumerate(candidates)}
    for candidate, record in records:
        row, fold = place[candidate], record["fold"]
        if record["scores"] is not None:
            scores[row, folds == fold] = record["scores"]
        converged[row, fold], failure[row, fold] = record["converged"], record["failure"]
        seconds[row, fold] = record["seconds"]
    valid = (failure == "").all(1)
    if not valid.any():
        raise FloatingPointError(f"no candidate could be fitted in every fold; the first: {failure[failure != ''][0]}")
    mean, se = _mean_and_error(scores)
    best = int(np.argmax(np.where(valid, mean, -np.inf)))
    difference, difference_se = _mean_and_error(scores - scores[best])
    by_fold = np.stack([scores[:, folds == fold].mean(1) for fold in range(n_folds)], axis=1)
    models = [candidate.of(model) for candidate in candidates]
    nats = {"units": "nats per trial"}
    variables = {
        "trial_score": (("candidate", "trial"), scores, nats),
        "fold": ("trial", folds),
        "score": (("candidate", "fold_number"), by_fold, nats),
        "mean": ("candidate", mean, nats),
        "se": ("candidate", se, nats),
        "difference": ("candidate", difference, nats),
        "difference_se": ("candidate", difference_se, nats),
        "n_loadings": ("candidate", [n_loadings(own, layout) for own in models]),
        "n_parameters": ("candidate", [n_parameters(own, layout, n_bins) for own in models]),
        "valid": ("candidate", valid),
        "converged": (("candidate", "fold_number"), converged),
        "failure": (("candidate", "fold_number"), failure.astype(str)),
        "seconds": (("candidate", "fold_number"), seconds, {"units": "s"}),
    }
    named, names = groups(models[0], layout), [name for name, _ in candidates[0].settings]
    coords = {
        "candidate": [str(candidate) for candidate in candidates],
        **{COLUMNS.get(name, name): _column([dict(one.settings)[name] for one in candidates], named) for name in names},
        "region": list(named),
        "fold_number": np.arange(n_folds),
        "trial": np.arange(len(folds)),
    }
    return xr.Dataset(variables, coords)


def _column(values: list[Any], named: Sequence[str]) -> tuple[Any, ...]:
    """Coordinate of one setting: numbers, numbers of each group of neurons, or text."""
    if all(isinstance(value, int | float) for value in values):
        return "candidate", values
    if all(isinstance(value, tuple) and len(value) == len(named) and _are_numbers(value) for value in values):
        return ("candidate", "region"), [list(value) for value in values]
    return "candidate", [in_words(value) for value in values]


def _are_numbers(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over trials, the last axis, and its standard error."""
    return values.mean(-1), values.std(-1, ddof=1) / np.sqrt(values.shape[-1])
