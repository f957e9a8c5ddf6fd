r"""Few trials that stand for all of a recording whose bins are independent of each other.

Where the density of a bin knows nothing of other bins, and is Gaussian with one covariance throughout, a recording is
told by the mean course m of each condition and by the scatter R' R = sum (y - m)(y - m)' of all bins around it. With n
trials of a condition, rows s of R and q pairs of trials

.. math::
    m \pm \sqrt{q / n}\, s, \quad \text{each standing for } \frac{n}{2 q} \text{ trials},

which have a row in every bin until there are no more, have the same mean and scatter. So log densities, summed as often
as trials stand for others, are those of all trials.
"""

import copy

import numpy as np

from mrgp.recordings.recording import MultiRegionData

WORTH = 2  # times as few trials, from which on folding is worth its two passes through the recording


def folded(data: MultiRegionData) -> MultiRegionData:
    """Make few trials with the sums of a complete recording.

    Every condition has a mean course of its own. A recording of which few trials would not do is returned as it is.
    """
    (n_trials, n_bins, n_neurons), n_conditions = data.values.shape, data.layout.n_conditions
    condition, pairs = np.asarray(data.condition), -(-n_neurons // n_bins)
    plain = data.is_complete and data.mesh is None and data.batch_size is None
    if not plain or WORTH * (2 * pairs + n_conditions) > n_trials:
        return data
    trials = np.bincount(condition, minlength=n_conditions)
    sums = np.zeros((n_conditions, n_bins, n_neurons))
    for block in data.blocks():
        np.add.at(sums, condition[block.trials], block.values)
    means = sums / np.maximum(trials, 1)[:, None, None]
    root = np.zeros((0, n_neurons))
    for block in data.blocks():
        rest = (block.values - means[condition[block.trials]]).reshape(-1, n_neurons)
        root = np.linalg.qr(np.concatenate([root, rest]), mode="r")
    most = int(trials.argmax())
    rows = np.zeros((pairs * n_bins, n_neurons))
    rows[: len(root)] = np.sqrt(pairs / trials[most]) * root
    pair = rows.reshape(pairs, n_bins, n_neurons)
    others = np.flatnonzero((trials > 0) & (np.arange(n_conditions) != most))
    few = copy.copy(data)
    few.values = np.concatenate([means[most] + pair, means[most] - pair, means[others]])
    few.weight = np.concatenate([np.full(2 * pairs, trials[most] / (2 * pairs)), trials[others].astype(float)])
    few.condition = np.concatenate([np.full(2 * pairs, most), others]).astype(np.int32)
    few.pattern, few.trial_place = np.zeros(len(few.values), np.int32), np.full(len(few.values), np.nan)
    few.neuron_coords, few.trial_coords, few.trial_origin = {}, {}, np.arange(len(few.values))
    return few
