"""Trials cut into blocks: every bin is kept, in order, as a trial of its own."""

from itertools import pairwise

import numpy as np
import pytest

import mrgp
from mrgp.recordings.blocks import in_blocks

RNG = np.random.default_rng(0)


def test_blocks_are_the_trials_that_one_would_cut_by_hand():
    values = RNG.normal(size=(2, 20, 3))
    data = mrgp.MultiRegionData({"A": values[..., :1], "B": values[..., 1:]}, 0.1, trial_coords={"side": ["l", "r"]})
    cut = in_blocks(data, 0.5)
    assert cut.fingerprint == mrgp.MultiRegionData(
        {"A": values[..., :1].reshape(8, 5, 1), "B": values[..., 1:].reshape(8, 5, 2)}, 0.1,
        trial_coords={"side": ["l"] * 4 + ["r"] * 4},
    ).fingerprint  # fmt: skip
    assert cut.is_complete
    assert cut.trial_coords["side"].tolist() == ["l"] * 4 + ["r"] * 4
    assert cut.trial_origin.tolist() == [0] * 4 + [1] * 4
    assert cut.layout == data.layout


def test_what_does_not_divide_is_shared_out_and_holes_stay():
    values = RNG.normal(size=(2, 23, 2))
    values[0, 4, 1] = np.nan
    values[1, 15:] = np.nan   # a trial that ends early
    values[1, 5:10] = np.nan  # a block of which nothing was seen
    data = mrgp.MultiRegionData({"A": values}, 0.02, trial_coords={"start_time": [10.0, 20.0]})
    cut = in_blocks(data, 0.1)
    assert cut.length.tolist() == [5, 4, 5, 4, 5, 5, 5]   # 23 bins in 5 blocks, 15 in 3, of which one is empty
    starts = np.array([0, 5, 9, 14, 18]) * 0.02
    np.testing.assert_allclose(cut.trial_coords["start_time"], [*(10 + starts), 20.0, 20.2])
    np.testing.assert_allclose(cut.trial_place, cut.trial_coords["start_time"])
    edges = [0, 5, 9, 14, 18, 23]
    kept = [values[0, first:last] for first, last in pairwise(edges)]
    for trial, piece in enumerate([*kept, values[1, :5], values[1, 10:15]]):
        np.testing.assert_array_equal(cut.with_nan()[trial, : len(piece)], piece)
        assert np.isnan(cut.with_nan()[trial, len(piece) :]).all()


def test_counts_stay_counts():
    data = mrgp.MultiRegionData({"A": RNG.poisson(2.0, (1, 12, 2))}, 0.1)
    assert in_blocks(data, 0.4).values.dtype == data.values.dtype == np.uint8
    assert in_blocks(data, 5.0).fingerprint == data.fingerprint   # longer than the trial


def test_what_cannot_be_cut_is_refused():
    data = mrgp.MultiRegionData({"A": RNG.normal(size=(1, 12, 2))}, 0.1)
    with pytest.raises(mrgp.DataError, match=r"block is 0\.1 s, less than 2 bins of 100 ms: raise it"):
        in_blocks(data, 0.1)
    with pytest.raises(ValueError, match="block is a positive number of seconds"):
        in_blocks(data, -1.0)
    irregular = mrgp.MultiRegionData({"A": RNG.normal(size=(1, 3, 2))}, 0.1, times=[0.0, 0.5, 0.7])
    with pytest.raises(mrgp.DataError, match="blocks"):
        in_blocks(irregular, 0.2)
