"""Latents and rates of single trials against a truth: known maps, trials that were divided, truths without either."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

import mrgp
from mrgp import DataError
from mrgp.metrics import recovery_of_trials
from mrgp.metrics.recovery_of_trials import RecoveryOfTrials, affine_r2

BIN, N_TRIALS, N_BINS = 0.02, 10, 8


@pytest.fixture(scope="module")
def made():
    """A recording and its truth: two latents, log-rates."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N_TRIALS, N_BINS, 2))
    log_rate = z @ rng.normal(size=(2, 5))
    counts = rng.poisson(np.exp(log_rate)).astype(float)
    counts[4, 6:] = np.nan  # a short trial
    data = mrgp.MultiRegionData({"A": counts[..., :3], "B": counts[..., 3:]}, BIN)
    dims = ("trial", "time")
    return data, xr.Dataset({"latents": ((*dims, "latent"), z), "log_rate": ((*dims, "neuron"), log_rate)})


def fit_of(truth, error=0.0, is_of_counts=True):
    """What infers a map of the true latents, and means of which the logarithm is off by a constant of each neuron."""
    z, log_rate = truth["latents"].values, truth["log_rate"].values
    mapped = z @ np.array([[1.0, 2.0, 0.3], [-1.0, 0.5, 2.0]]) + [3.0, 0.0, -1.0]

    def latents(data):
        return xr.Dataset({"across_mean": (("trial", "time", "across_latent"), mapped[data.trial_origin])})

    def predict(data):
        mean = np.exp(log_rate[data.trial_origin] + error)
        return xr.Dataset({f"{name}_mean": (("trial", "time", f"neuron_{name}"), mean[..., part])
                           for name, part in data.layout.region_slices.items()})  # fmt: skip

    emission = SimpleNamespace(is_of_counts=is_of_counts)
    return SimpleNamespace(latents=latents, predict=predict, model=SimpleNamespace(emission=emission))


def test_an_affine_map_is_no_error_and_a_shift_of_log_rates_is(made):
    data, truth = made
    found = recovery_of_trials(fit_of(truth), data, truth)
    assert float(found["latents_r2"]) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(found["signal_r2"], 1.0, atol=1e-12)
    assert found.attrs["signal"] == "log-rate"
    off = recovery_of_trials(fit_of(truth, error=0.5), data, truth)["signal_r2"]
    there = data.mask.any(-1)
    eta = truth["log_rate"].values[there][:, :3]
    assert float(off[0]) == pytest.approx(1 - 0.25 * eta.size / ((eta - eta.mean(0)) ** 2).sum(), rel=1e-9)


def test_trials_that_were_divided_are_found_in_the_whole_truth(made):
    data, truth = made
    some = data.select_trials([7, 2, 4, 5])
    found = recovery_of_trials(fit_of(truth), some, truth)
    assert float(found["latents_r2"]) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(found["signal_r2"], 1.0, atol=1e-12)
    with pytest.raises(DataError, match="the truth has 6 trials of 8 bins, not those of this recording"):
        recovery_of_trials(fit_of(truth), some, truth.isel(trial=slice(0, 6)))


def test_what_the_truth_holds_is_scored_and_the_rest_is_not(made):
    data, truth = made
    fit = fit_of(truth)
    assert "signal_r2" not in recovery_of_trials(fit, data, truth[["latents"]])
    rates = xr.Dataset({"rates": np.exp(truth["log_rate"])})
    found = recovery_of_trials(fit, data, rates)
    assert "latents_r2" not in found
    np.testing.assert_allclose(found["signal_r2"], 1.0, atol=1e-12)
    assert RecoveryOfTrials().lines(found) == ["single trials against the truth: of rates 1.000 / 1.000"]
    said = RecoveryOfTrials().lines(recovery_of_trials(fit, data, truth))
    assert said == ["single trials against the truth: R² of latents 1.000, of log-rate 1.000 / 1.000"]
    with pytest.raises(DataError, match="the truth has no latents or rates of trials"):
        recovery_of_trials(fit, data, xr.Dataset({"offset": ("neuron", np.zeros(5))}))
    with pytest.raises(DataError, match="the truth has 4 neurons, the fit 5"):
        recovery_of_trials(fit, data, truth[["log_rate"]].isel(neuron=slice(4)))
    one = recovery_of_trials(fit, data.select_trials([0]), truth)
    assert set(one.data_vars) == {"signal_r2"}


def test_latents_that_say_nothing_score_nothing_or_less():
    rng = np.random.default_rng(2)
    score = affine_r2(rng.normal(size=(20, 6, 3)), rng.normal(size=(20, 6, 2)), np.ones((20, 6), bool))
    assert -0.3 < score < 0.1
