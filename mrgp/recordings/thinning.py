"""Some trials of a recording, for what does not need all of them."""

import numpy as np

from mrgp.recordings.recording import MultiRegionData

ENOUGH = 20_000_000  # entries: 1,000 neurons in 10,000 bins tell where a climb on all trials may begin


def thinned(data: MultiRegionData) -> MultiRegionData:
    """Select evenly spaced trials of ``ENOUGH`` entries at most; of no larger recording, all.

    Conditions keep their shares of the trials. Two trials are kept of any recording that has them. Means and spreads of
    neurons stay those of all trials.
    """
    wanted = max(2, ENOUGH // (data.n_bins * data.layout.total_neurons))
    if data.n_trials <= wanted:
        return data
    ordered = np.argsort(np.asarray(data.condition), kind="stable")
    spaced = np.linspace(0, data.n_trials - 1, wanted).round().astype(int)
    some = data.select_trials(np.sort(ordered[spaced]))
    some.center, some.scale = data.center, data.scale  # a neuron may be silent, or away, in all of them
    return some
