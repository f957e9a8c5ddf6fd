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
    assert (moved[:, 0] != V2[:, 0]).any(-1).all()  # no trial is where it was
    for kind in ("left", "right"):
        own = kinds == kind
        np.testing.assert_array_equal(np.sort(moved[own, 0, 1]), np.sort(V2[own, 0, 1]))  # each trial is there once
    assert np.isnan(moved).sum() == 1
    np.testing.assert_array_equal(mrgp.shuffled_within(data, "V2", seed=1).region("V2"), moved)
    with pytest.raises(mrgp.DataError, match="there is no region 'V4'"):
        mrgp.shuffled_within(data, "V4")


def test_nobody_talks_and_drift_stays():
    """Every region but the first is shuffled by itself, and only among trials that are near."""
    n_trials = 40
    place = np.broadcast_to(np.arange(float(n_trials))[:, None, None], (n_trials, 3, 2))
    condition = np.tile(["left", "right"], n_trials // 2)
    own = {name: place + 0.1 * region + np.array([0.0, 0.01]) for region, name in enumerate("ABC")}  # no two alike
    data = mrgp.MultiRegionData(own, 0.01, trial_coords={"condition": condition})
    near, far = (mrgp.without_communication(data, 0, among) for among in (4, None))
    for shuffled in (near, far):
        np.testing.assert_array_equal(shuffled.region("A"), own["A"])
        moved = [np.floor(shuffled.region(name)[:, 0, 0]) for name in "BC"]
        assert (moved[0] != moved[1]).all()  # nor do B and C have a trial together
        for order in moved:
            assert (order != np.arange(n_trials)).all()
            assert (order % 2 == np.arange(n_trials) % 2).all()  # conditions stay
            np.testing.assert_array_equal(np.sort(order), np.arange(n_trials))
    assert np.abs(near.region("B") - own["B"]).max() <= 2 * 3  # within four of a condition
    assert np.abs(far.region("B") - own["B"]).max() > 10
    with pytest.raises(ValueError, match="among counts at least 2 trials, not 1"):
        mrgp.shuffled_within(data, "B", among=1)


def test_a_trial_left_over_joins_a_block_and_one_alone_stays():
    """Three trials of one condition, shuffled among two, and one trial of another."""
    V1, V2 = np.arange(4.0)[:, None, None] + np.zeros((4, 2, 1)), np.arange(4.0)[:, None, None] + np.zeros((4, 2, 1))
    data = mrgp.MultiRegionData({"V1": V1, "V2": V2}, 0.01, trial_coords={"condition": ["a", "b", "a", "a"]})
    order = mrgp.shuffled_within(data, "V2", among=2).region("V2")[:, 0, 0]
    assert (order[[0, 2, 3]] != [0, 2, 3]).all()
    assert order[1] == 1
    alone = mrgp.MultiRegionData({"V1": V1, "V2": V2}, 0.01, trial_coords={"condition": list("abcd")})
    for shuffle in (lambda: mrgp.shuffled_within(alone, "V2"), lambda: mrgp.without_communication(alone)):
        with pytest.raises(mrgp.DataError, match="no condition has two trials: there is nothing to shuffle"):
            shuffle()
