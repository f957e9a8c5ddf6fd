"""Control for whatever is said of communication: one region's trials shuffled."""

import numpy as np

from mrgp.recordings.recording import MultiRegionData


def shuffled_within(data: MultiRegionData, region: str, seed: int = 0) -> MultiRegionData:
    """Shuffle the trials of one region among those of the same condition.

    What a model says of communication with this region in the shuffled recording is stimulus or course of the trial,
    drift over the session left aside: regions no longer tell each other anything trial by trial. Trials without a
    condition are all of one.

    Args:
        data: The recording.
        region: Whose trials are shuffled.
        seed: Of the shuffling.

    Raises:
        DataError: there is no such region, or its trials then have nothing observed beside those of the others.
    """
    data.region(region)  # says what there is
    order, rng = np.arange(data.n_trials), np.random.default_rng(seed)
    for condition in np.unique(data.condition):
        own = np.flatnonzero(data.condition == condition)
        order[own] = rng.permutation(own)
    values, part = np.array(data.with_nan()), data.layout.region_slices[region]
    values[..., part] = values[order][..., part]
    return data.with_values(values)
