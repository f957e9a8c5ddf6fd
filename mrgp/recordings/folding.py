r"""Few trials that stand for all of a recording: sums over trials are the same.

Where a Gaussian with one covariance throughout is told bin by bin, or frequency by frequency, a recording is told by
the mean course m of each condition and by the scatter R' R = sum (y - m)(y - m)' around it: of all bins together, or of
each frequency. With n trials of a condition and rows s of R in q trials, k = q + 1 trials

.. math::
    m + \sqrt{k / n} \sum_q H_{kq} s_q, \quad \text{each standing for } n / k \text{ trials},

have the same mean and scatter, as columns of H are orthonormal and sum to zero. So log densities, summed as often as
trials stand for others, are those of all trials.
"""

import copy
from typing import Protocol

import numpy as np
from scipy.linalg import helmert

from mrgp.recordings.observations import AT_ONCE
from mrgp.recordings.recording import MultiRegionData

LARGEST = 2**24  # entries of few trials: of more, their root takes longer than what it spares
WORTH = 2  # times as few trials, from which on folding is worth its two passes through the recording


class Scatter(Protocol):
    """Root of the sums of squares and products that a density needs, (..., row, neuron)."""

    def n_rows(self, n_bins: int, n_neurons: int) -> int:
        """Number of trials that have room for it."""

    def extended(self, root: np.ndarray | None, rest: np.ndarray) -> np.ndarray:
        """Root with ``rest`` (trial, time, neuron) added; None is that of no trials."""

    def rows(self, root: np.ndarray, n_bins: int) -> np.ndarray:
        """Trials of this scatter, (row, time, neuron)."""


class ScatterOfBins(Scatter):
    """Scatter of all bins together, which know nothing of each other; its root is (row, neuron)."""

    def n_rows(self, n_bins: int, n_neurons: int) -> int:
        return -(-n_neurons // n_bins)

    def extended(self, root: np.ndarray | None, rest: np.ndarray) -> np.ndarray:
        bins = rest.reshape(-1, rest.shape[-1])
        return np.linalg.qr(bins if root is None else np.concatenate([root, bins]), mode="r")

    def rows(self, root: np.ndarray, n_bins: int) -> np.ndarray:
        n_neurons = root.shape[-1]
        rows = np.zeros((self.n_rows(n_bins, n_neurons) * n_bins, n_neurons))
        rows[: len(root)] = root
        return rows.reshape(-1, n_bins, n_neurons)


class ScatterOfFrequencies(Scatter):
    """Scatter of each frequency of periodic trials; its root is (frequency, row, neuron)."""

    def n_rows(self, n_bins: int, n_neurons: int) -> int:
        return n_neurons

    def extended(self, root: np.ndarray | None, rest: np.ndarray) -> np.ndarray:
        waves = np.fft.rfft(rest, axis=1, norm="ortho").swapaxes(0, 1)  # (frequency, trial, neuron)
        return np.linalg.qr(waves if root is None else np.concatenate([root, waves], axis=1), mode="r")

    def rows(self, root: np.ndarray, n_bins: int) -> np.ndarray:
        # The root of a frequency that is real is real, so that rows are real too.
        return np.fft.irfft(root.swapaxes(0, 1), n=n_bins, axis=1, norm="ortho")


def folded(data: MultiRegionData, scatter: Scatter) -> MultiRegionData:
    """Make few trials with the sums of a complete recording.

    Every condition has a mean course of its own. A recording of which few trials would not do is returned as it is.
    """
    (n_trials, n_bins, n_neurons), n_conditions = data.values.shape, data.layout.n_conditions
    condition, count = np.asarray(data.condition), scatter.n_rows(n_bins, n_neurons) + 1
    plain = data.is_complete and data.mesh is None and data.batch_size is None and data.weight is None
    size = count * n_bins * n_neurons
    if not plain or WORTH * (count + n_conditions - 1) > n_trials or size > LARGEST:
        return data
    trials = np.bincount(condition, minlength=n_conditions)
    sums = np.zeros((n_conditions, n_bins, n_neurons))
    for block in data.blocks():
        np.add.at(sums, condition[block.trials], block.values)
    means = sums / np.maximum(trials, 1)[:, None, None]
    root = None
    for block in data.blocks(max(AT_ONCE, WORTH * size)):  # every block takes the root apart again
        root = scatter.extended(root, block.values - means[condition[block.trials]])
    assert root is not None
    most = int(trials.argmax())
    rows = scatter.rows(root, n_bins)
    spread = np.sqrt(count / trials[most]) * np.tensordot(helmert(count)[: len(rows)], rows, (0, 0))
    others = np.flatnonzero((trials > 0) & (np.arange(n_conditions) != most))
    few = copy.copy(data)
    few.values = np.concatenate([means[most] + spread, means[others]])
    few.weight = np.concatenate([np.full(count, trials[most] / count), trials[others].astype(float)])
    few.condition = np.concatenate([np.full(count, most), others]).astype(np.int32)
    few.pattern, few.trial_place = np.zeros(len(few.values), np.int32), np.full(len(few.values), np.nan)
    few.neuron_coords, few.trial_coords, few.trial_origin = {}, {}, np.arange(len(few.values))
    return few
