"""Assignment of trials to folds."""

from numbers import Integral

import numpy as np
from jaxtyping import Int

from mrgp.recordings.checks import DataError, neurons_named, tell_left_out
from mrgp.recordings.entry import DROP_DEAD
from mrgp.recordings.layout import CONDITION
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument


def deal_folds(
    data: MultiRegionData, n_folds: int, stratify: str | None = None, seed: int = 0
) -> Int[np.ndarray, "trial"]:
    """Draw at random the fold (0, 1, ...) in which each trial is held out, (trial,).

    Sizes of folds differ by one at most.

    Args:
        data: The recording.
        n_folds: Number of folds, 2 at least.
        stratify: Name of a trial coordinate, such as the stimulus: the trials of each of its values are spread over
            the folds as evenly as they can be, so that every training set has seen every condition. None for the one
            named "condition", where there is one.
        seed: Of the draw.

    Raises:
        ValueError: fewer than two folds.
        DataError: no trial coordinate of that name, or more folds than trials.
    """
    if not isinstance(n_folds, Integral) or n_folds < 2:
        raise ValueError(f"n_folds is 2 or more, not {n_folds}: some trials are held out, others are fitted to")
    if n_folds > data.n_trials:
        short = f"{n_folds} folds need as many trials, and there are {data.n_trials}: lower "
        raise DataError(short, Argument("n_folds"))
    condition = np.zeros(data.n_trials, int)
    if stratify is None and CONDITION in data.trial_coords:
        stratify = CONDITION
    if stratify is not None:
        condition = np.unique(data.trial_labels(stratify), return_inverse=True)[1]
    shuffled = np.random.default_rng(seed).permutation(data.n_trials)
    dealt = shuffled[np.argsort(condition[shuffled], kind="stable")]  # one condition after the other
    folds = np.empty(data.n_trials, int)
    folds[dealt] = np.arange(data.n_trials) % n_folds
    return folds


def silent_fold(data: MultiRegionData, folds: np.ndarray) -> dict[str, Int[np.ndarray, "neuron"]]:
    """Find for each neuron a fold without which it never changes, -1 if there is none.

    The result is by region, (neuron,) each: outside of the trials of that fold the neuron has one value.

    A model of Gaussian values fitted to those trials would predict it without a doubt.
    """
    found = {}
    for name in data.layout.regions:
        values = data.region(name)
        lowest = np.array([np.fmin.reduce(values[folds == fold], axis=(0, 1)) for fold in range(folds.max() + 1)])
        highest = np.array([np.fmax.reduce(values[folds == fold], axis=(0, 1)) for fold in range(folds.max() + 1)])
        found[name] = np.full(values.shape[2], -1)
        for fold in range(len(lowest)):
            low, high = (np.delete(ends, fold, axis=0) for ends in (lowest, highest))
            still = ~(np.fmax.reduce(high, axis=0) > np.fmin.reduce(low, axis=0))
            found[name] = np.where(still & (found[name] < 0), fold, found[name])
    return found


def alive_in_training(data: MultiRegionData, folds: np.ndarray, drop_dead: bool) -> MultiRegionData:
    """Return the recording if every neuron changes in the training trials of every fold.

    Those that do not are left out with ``drop_dead``, of all folds, so that scores are of the same neurons.

    Raises:
        DataError: a neuron does not, and is not to be left out.
    """
    found = silent_fold(data, folds)
    for name, where in found.items():
        still, own = np.flatnonzero(where >= 0), data.neurons[name]
        if still.size and not drop_dead:
            never = f"{neurons_named(name, still[:1], own)} never changes outside of the trials of fold "
            raise DataError(f"{never}{where[still[0]]}: leave it out by ", DROP_DEAD, ", or take more folds")
        tell_left_out(name, own, where < 0)
    silent = {name: where < 0 for name, where in found.items() if (where >= 0).any()}
    return data.select_neurons(silent) if silent else data
