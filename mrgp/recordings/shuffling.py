"""Controls for whatever is said of communication: trials of regions shuffled."""

from numbers import Integral

import numpy as np

from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData


def shuffled_within(data: MultiRegionData, region: str, seed: int = 0, among: int | None = None) -> MultiRegionData:
    """Shuffle the trials of one region among those of the same condition.

    What a model says of communication with this region in the shuffled recording is stimulus or course of the trial:
    regions no longer tell each other anything trial by trial. No trial stays where it was, but for the only one of its
    condition. Trials without a condition are all of one.

    Args:
        data: The recording.
        region: Whose trials are shuffled.
        seed: Of the shuffling.
        among: Trials of a condition, one after another, among which is shuffled: what drifts more slowly over the
            session stays where it is. None for all trials of a condition.

    Raises:
        ValueError: ``among`` is below 2: nothing would be shuffled.
        DataError: there is no such region, no condition has two trials, or trials of the region then have nothing
            observed beside those of the others.
    """
    data.region(region)  # says what there is
    values, part = np.array(data.with_nan()), data.layout.region_slices[region]
    [order] = _orders(data, 1, seed, among)
    values[..., part] = values[order][..., part]
    return data.with_values(values)


def without_communication(data: MultiRegionData, seed: int = 0, among: int | None = None) -> MultiRegionData:
    """Shuffle the trials of every region but the first, each by itself.

    No two regions have a trial together that they had before, where there are as many trials of its condition (or
    ``among``) as regions. See :func:`shuffled_within`.
    """
    values, others = np.array(data.with_nan()), data.layout.regions[1:]
    for region, order in zip(others, _orders(data, len(others), seed, among), strict=True):
        part = data.layout.region_slices[region]
        values[..., part] = values[order][..., part]
    return data.with_values(values)


def _orders(data: MultiRegionData, count: int, seed: int, among: int | None) -> np.ndarray:
    """Draw orders of the trials in which conditions stay where they are, (order, trial).

    Trials of a block are put in a circle, and each order turns it further: a permutation would leave some in place.
    """
    if among is not None and (not isinstance(among, Integral) or among < 2):
        raise ValueError(f"among counts at least 2 trials, not {among}")
    rng, orders = np.random.default_rng(seed), np.tile(np.arange(data.n_trials), (count, 1))
    for condition in np.unique(data.condition):
        own = np.flatnonzero(data.condition == condition)
        n_blocks = 1 if among is None else min(-(-len(own) // among), max(len(own) // 2, 1))  # none of one trial
        for block in np.array_split(own, n_blocks):
            circle = rng.permutation(block)
            turns = np.resize(1 + rng.permutation(len(block) - 1), count) if len(block) > 1 else np.zeros(count, int)
            for order, turn in zip(orders, turns, strict=True):
                order[circle] = np.roll(circle, turn)
    if count and (orders == np.arange(data.n_trials)).all():
        raise DataError("no condition has two trials: there is nothing to shuffle; give coarser conditions, or none")
    return orders
