"""Which trials miss the same entries: covariances are computed once for all of them."""

from itertools import groupby

import numpy as np


def share_patterns(mask: np.ndarray) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """``observed``, ``pattern`` and ``length`` of a mask (trial, time, neuron), with few patterns.

    Going from the longest trial to the shortest, a trial joins the first pattern that agrees on [0, length).
    """
    n_trials, n_bins, _ = mask.shape
    seen = mask.any(axis=2)
    length = np.where(seen.any(axis=1), n_bins - np.argmax(seen[:, ::-1], axis=1), 0).astype(np.int32)
    pattern, ragged = np.zeros(n_trials, np.int32), length if (length < n_bins).any() else None
    if mask.all(axis=2)[np.arange(n_bins) < length[:, None]].all():
        return None, pattern, ragged
    packed = np.packbits(mask, axis=2)
    founders: list[int] = []  # the trial that each pattern was taken from
    for bins, trials in groupby(np.argsort(-length, kind="stable").tolist(), key=length.__getitem__):
        known = {packed[f, :bins].tobytes(): p for p, f in reversed(list(enumerate(founders)))}
        for trial in trials:
            pattern[trial] = known.setdefault(packed[trial, :bins].tobytes(), len(founders))
            if pattern[trial] == len(founders):
                founders.append(trial)
    return mask[founders], pattern, ragged
