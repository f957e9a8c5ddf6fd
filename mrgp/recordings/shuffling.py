"""Controls for whatever is said of communication: trials of regions shuffled."""

import numpy as np

from mrgp.recordings.recording import MultiRegionData


def shuffled_within(data: MultiRegionData, region: str, seed: int = 0, among: int | None = None) -> MultiRegionData:
    """Shuffle the trials of one region among those of the same condition.

    What a model says of communication with this region in the shuffled recording is stimulus or course of the trial:
    regions no longer tell each other anything trial by trial. Trials without a condition are all of one.

    Args:
        data: The recording.
        region: Whose trials are shuffled.
        seed: Of the shuffling.
        among: Trials of a condition, one after another, among which is shuffled: what drifts more slowly over the
            session stays where it is. None for all trials of a condition.

    Raises:
        ValueError: ``among`` is below 2: nothing would be shuffled.
        DataError: there is no such region, or its trials then have nothing observed beside those of the others.
    """
    data.region(region)  # says what there is
    values, part = np.array(data.with_nan()), data.layout.region_slices[region]
    values[..., part] = values[_order(data, np.random.default_rng(seed), among)][..., part]
    return data.with_values(values)


def without_communication(data: MultiRegionData, seed: int = 0, among: int | None = None) -> MultiRegionData:
    """Shuffle the trials of every region but the first, each by itself.

    See :func:`shuffled_within`.
    """
    rng, values = np.random.default_rng(seed), np.array(data.with_nan())
    for region in data.layout.regions[1:]:
        part = data.layout.region_slices[region]
        values[..., part] = values[_order(data, rng, among)][..., part]
    return data.with_values(values)


def _order(data: MultiRegionData, rng: np.random.Generator, among: int | None) -> np.ndarray:
    """Draw an order of the trials in which conditions stay where they are."""
    if among is not None and among < 2:
        raise ValueError(f"among counts at least 2 trials, not {among}")
    order = np.arange(data.n_trials)
    for condition in np.unique(data.condition):
        own = np.flatnonzero(data.condition == condition)
        for block in np.array_split(own, -(-len(own) // among)) if among else [own]:
            order[block] = rng.permutation(block)
    return order
