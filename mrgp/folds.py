"""Trials dealt out to folds."""

import numpy as np
from jaxtyping import Int

from mrgp.checks import DataError
from mrgp.data import MultiRegionData
from mrgp.layout import CONDITION


def deal_folds(
    data: MultiRegionData, n_folds: int, stratify: str | None = None, seed: int = 0
) -> Int[np.ndarray, "trial"]:
    """The fold (0, 1, ...) that every trial is held out in, drawn at random; sizes differ by one at most.

    Args:
        data: The recording.
        n_folds: Number of folds, 2 at least.
        stratify: Name of a trial coordinate, such as the stimulus: the trials of each of its values are spread over
            the folds as evenly as they can be, so that every training set has seen every condition. None for the one
            named "condition", where there is one.
        seed: Of the draw.

    Raises:
        ValueError: fewer than two folds.
        DataError: no trial coordinate of that name, more folds than trials, or a neuron that never changes outside of
            one fold.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds is 2 or more, not {n_folds}: some trials are held out, others are fitted to")
    if n_folds > data.n_trials:
        raise DataError(f"{n_folds} folds need as many trials, and there are {data.n_trials}: lower n_folds")
    condition = np.zeros(data.n_trials, int)
    if stratify is None and CONDITION in data.trial_coords:
        stratify = CONDITION
    if stratify is not None:
        condition = np.unique(data.trial_labels(stratify), return_inverse=True)[1]
    shuffled = np.random.default_rng(seed).permutation(data.n_trials)
    dealt = shuffled[np.argsort(condition[shuffled], kind="stable")]  # one condition after the other
    folds = np.empty(data.n_trials, int)
    folds[dealt] = np.arange(data.n_trials) % n_folds
    _check_training(data, folds)
    return folds


def _check_training(data: MultiRegionData, folds: np.ndarray) -> None:
    """Every neuron must take two values among the trials fitted to; else it would be predicted without a doubt."""
    for name in data.layout.regions:
        values = data.region(name)
        lowest = np.array([np.fmin.reduce(values[folds == fold], axis=(0, 1)) for fold in range(folds.max() + 1)])
        highest = np.array([np.fmax.reduce(values[folds == fold], axis=(0, 1)) for fold in range(folds.max() + 1)])
        for fold in range(len(lowest)):
            low, high = (np.delete(ends, fold, axis=0) for ends in (lowest, highest))
            still = np.flatnonzero(~(np.fmax.reduce(high, axis=0) > np.fmin.reduce(low, axis=0)))
            if still.size:
                raise DataError(
                    f"region {name}, neuron {still[0]} never changes outside of the trials of fold {fold}: leave it "
                    "out, or take more folds"
                )
