"""Shuffling one region's trials within condition."""

import numpy as np
import pytest

import mrgp


def test_trials_of_one_region_change_places_within_their_condition():
    rng = np.random.default_rng(0)
    V1, V2 = rng.standard_normal((40, 5, 3)), rng.standard_normal((40, 5, 2))
    V2[3, 2, 0] = np.nan
    kinds = np.array(["left", "right"])[rng.integers(0, 2, 40)]
    data = mrgp.MultiRegionData({"V1": V1, "V2": V2}, 0.02, trial_coords={"condition": kinds})
    shuffled = mrgp.shuffled_within(data, "V2", seed=1)
    np.testing.assert_array_equal(shuffled.region("V1"), V1)
    moved = shuffled.region("V2")
    assert (moved[:, 0] != V2[:, 0]).any(-1).mean() > 0.8
    for kind in ("left", "right"):
        own = kinds == kind
        np.testing.assert_array_equal(np.sort(moved[own, 0, 1]), np.sort(V2[own, 0, 1]))  # each trial is there once
    assert np.isnan(moved).sum() == 1
    np.testing.assert_array_equal(mrgp.shuffled_within(data, "V2", seed=1).region("V2"), moved)
    with pytest.raises(mrgp.DataError, match="there is no region 'V4'"):
        mrgp.shuffled_within(data, "V4")
