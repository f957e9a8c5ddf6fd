"""Reaches: what they share, what they do not, and what is drawn from it."""

import numpy as np
import pytest
import xarray as xr

import mrgp
from mrgp.metrics import decode_conditions


def test_shared_latents_know_the_target_and_private_ones_nothing():
    made = mrgp.centre_out_reach((4, 3), n_trials=400, n_bins=30, bin_width=0.03, seed=1)
    target = made.data.trial_coords["condition"]
    assert float(decode_conditions(made.truth["across"], target).accuracy) > 0.9
    own = [made.truth["within"][..., made.truth["region_of_within"].values == r] for r in "AB"]
    chance = np.sqrt(0.125 * 0.875 / 400)
    assert all(abs(float(decode_conditions(part, target).accuracy) - 0.125) < 4 * chance for part in own)
    every = np.concatenate([made.truth["across"].values, made.truth["within"].values], -1)
    np.testing.assert_allclose(every.std((0, 1)), 1.0)
    across = np.abs(np.corrcoef(every.reshape(-1, 12).T)[:4, 4:])
    assert across.max() < 5 / np.sqrt(400 * 30 / 8)  # private ones last about 8 bins


def test_counts_are_of_the_rates_that_are_kept():
    made = mrgp.centre_out_reach((5, 4), n_trials=300, n_bins=20, rate=25.0, gain=0.8, seed=2)
    eta, counts = made.truth["log_rate"].values, np.asarray(made.data.floats)
    excess = (counts - np.exp(eta)) / np.exp(eta / 2)
    np.testing.assert_allclose((excess**2).mean(), 1.0, atol=0.05)  # Poisson: of 54000 entries, 8 of its errors
    np.testing.assert_allclose(eta.std((0, 1)), 0.8, rtol=1e-6)
    assert abs(np.log(np.exp(eta).mean() / 0.5)) < 0.6  # of nine neurons that differ by a factor e^0.5
    still = mrgp.centre_out_reach((5, 4), n_trials=3, n_bins=20, private=0.0, seed=2)
    assert not still.truth["within"].any()
    again = mrgp.centre_out_reach((5, 4), n_trials=300, n_bins=20, rate=25.0, gain=0.8, seed=2)
    assert made.truth.identical(again.truth)
    np.testing.assert_array_equal(again.data.values, made.data.values)


def test_every_target_is_reached_equally_often_and_one_trial_is_enough():
    made = mrgp.centre_out_reach((1, 1, 2), 4, n_trials=10, seed=0)
    assert made.data.layout.regions == ("A", "B", "C")
    assert sorted(np.unique(made.data.trial_coords["condition"], return_counts=True)[1]) == [2, 2, 3, 3]
    one = mrgp.centre_out_reach((3, 1), n_trials=1, n_bins=1)
    assert np.isfinite(one.truth["log_rate"]).all()


def test_wrong_numbers_are_refused():
    for wrong, message in (
        ({"n_neurons": (3, 0)}, "n_neurons counts at least 1, not 0"), ({"n_trials": 0}, "n_trials counts"),
        ({"n_directions": 1}, "n_directions counts at least 2, not 1"), ({"bin_width": -1}, "bin_width"),
        ({"rate": 0}, "rate must be positive"), ({"private": -1}, "private is a number from 0 on, not -1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            mrgp.centre_out_reach(**wrong)


def test_the_command_line_draws_it(run, tmp_path):
    out = tmp_path / "reach.npz"
    code, printed, err = run("simulate", "--network", "centre_out_reach", "--n-trials", 8, "--out", out)
    assert (code, err) == (0, "")
    assert "A: 66 neurons\n  B: 52 neurons" in printed
    assert mrgp.load_recording(out).n_trials == 8
    assert xr.load_dataset(tmp_path / "reach_truth.nc")["across"].shape == (8, 45, 4)
