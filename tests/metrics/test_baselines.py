"""Baselines against closed forms on the rows themselves, with nothing of their moments."""

import numpy as np
import pytest
from scipy.stats import norm

import mrgp
from mrgp import DataError, MultiRegionData, metrics
from mrgp.metrics import baselines

BINS = 5


@pytest.fixture(scope="module")
def recordings():
    """Training and test trials of two regions whose neurons go together, with a time course of their own."""
    rng = np.random.default_rng(0)
    course = rng.standard_normal((BINS, 7))

    def draw(n_trials):
        shared = rng.standard_normal((n_trials, BINS, 2)) @ rng.standard_normal((2, 7))
        y = course + shared + 0.5 * rng.standard_normal((n_trials, BINS, 7))
        coords = {"stimulus": np.resize(["a", "b", "b"], n_trials)}
        return MultiRegionData({"V1": y[..., :4], "V2": y[..., 4:]}, 0.02, trial_coords=coords)

    return draw(20), draw(6)


HELD = {"V1": [0, 3], "V2": [1]}
H = np.array([0, 3, 5])
REST = np.array([1, 2, 4, 6])


def predicted(baseline, test):
    """Means of held-out neurons, (trial, time, 3)."""
    found = baseline.predict(test.without(HELD))
    return np.concatenate([found["V1_mean"].values, found["V2_mean"].values], -1)[..., H]


def test_the_psth_is_the_mean_over_training_trials(recordings):
    train, test = recordings
    mean = predicted(baselines.training_psth(train), test)
    np.testing.assert_allclose(mean, np.broadcast_to(train.values.mean(0)[:, H], mean.shape))
    flat = predicted(baselines.training_mean(train), test)
    np.testing.assert_allclose(flat, np.broadcast_to(train.values.mean((0, 1))[H], mean.shape))


@pytest.mark.parametrize("kind", ["ridge", "psth_and_ridge"])
@pytest.mark.parametrize("strength", [0.0, 3.0])
def test_regressions_are_those_of_augmented_least_squares(recordings, kind, strength):
    train, test = recordings
    y = np.asarray(train.values)
    center = y.mean((0, 1)) if kind == "ridge" else y.mean(0)
    rows = (y - center).reshape(-1, 7)
    # Ridge regression is least squares with sqrt(strength) I as further rows.
    design = np.concatenate([rows[:, REST], np.sqrt(strength) * np.eye(4)])
    weights, *_ = np.linalg.lstsq(design, np.concatenate([rows[:, H], np.zeros((4, 3))]), rcond=None)
    baseline = getattr(baselines, kind)(train, strength)
    expected = (test.values - center)[..., REST] @ weights + np.broadcast_to(center, (BINS, 7))[:, H]
    np.testing.assert_allclose(predicted(baseline, test), expected, atol=1e-9)

    sd = np.sqrt(((rows[:, H] - rows[:, REST] @ weights) ** 2).mean(0))
    density = norm.logpdf(np.asarray(test.values)[..., H], expected, sd).sum((1, 2))
    found = metrics.cosmoothing(baseline, test, HELD)
    np.testing.assert_allclose(found["joint_log_likelihood"], density, atol=1e-8)
    alone = norm.logpdf(np.asarray(test.values)[..., [5]], expected[..., 2:], sd[2:]).sum()
    assert float(found["bits_per_bin"].sel(region="V2")) == pytest.approx(alone / np.log(2) / (6 * BINS))


def test_the_strength_is_that_of_least_error_in_folds_left_out(recordings):
    train, test = recordings
    y = np.asarray(train.values)
    rows = y - y.mean((0, 1))
    folds = np.array_split(np.arange(20), baselines.FOLDS)
    tried = baselines.GRID * (rows**2).sum((0, 1)).mean()
    errors = []
    for strength in tried:
        error = 0.0
        for fold in folds:
            x = np.delete(rows, fold, 0).reshape(-1, 7)
            gram = x[:, REST].T @ x[:, REST] + strength * np.eye(4)
            left = rows[fold].reshape(-1, 7)
            miss = left[:, H] - left[:, REST] @ np.linalg.solve(gram, x[:, REST].T @ x[:, H])
            error += (miss**2 / y.var((0, 1))[H]).sum()
        errors.append(error)
    best = tried[int(np.argmin(errors))]
    assert 0 < np.argmin(errors) < len(tried) - 1
    mean = predicted(baselines.ridge(train), test)
    np.testing.assert_allclose(mean, predicted(baselines.ridge(train, float(best)), test))


def test_conditions_have_psths_of_their_own(recordings):
    train, test = recordings
    strange = MultiRegionData(
        {n: test.region(n) for n in ("V1", "V2")}, 0.02, trial_coords={"stimulus": ["a", "b", "c", "a", "b", "c"]}
    )
    mean = predicted(baselines.training_psth(train, "stimulus"), strange)
    labels = train.trial_coords["stimulus"]
    for trial, rows in ((0, labels == "a"), (4, labels == "b"), (5, labels != "")):   # c: that of all trials
        np.testing.assert_allclose(mean[trial], np.asarray(train.values)[rows].mean(0)[:, H])
    with pytest.raises(DataError, match="no coordinate 'speed': choose from stimulus"):
        baselines.training_psth(train, "speed")


def test_missing_entries_count_as_their_centre(recordings):
    train, test = recordings
    arrays = {name: test.region(name) for name in ("V1", "V2")}
    arrays["V1"][2, 1, 1] = np.nan
    holed, filled = MultiRegionData(arrays, 0.02), {name: test.region(name) for name in ("V1", "V2")}
    filled["V1"][2, 1, 1] = train.values.mean(0)[1, 1]
    baseline = baselines.psth_and_ridge(train, 1.0)
    np.testing.assert_allclose(predicted(baseline, holed), predicted(baseline, MultiRegionData(filled, 0.02)))
    # In training, a bin with a hole teaches nothing of how neurons go together.
    y = np.asarray(train.values).copy()
    y[3, 2, 6] = np.nan
    cut = MultiRegionData({"V1": y[..., :4], "V2": y[..., 4:]}, 0.02)
    rows = np.delete((y - np.nanmean(y, (0, 1))).reshape(-1, 7), 3 * BINS + 2, 0)
    weights = np.linalg.solve(rows[:, REST].T @ rows[:, REST] + np.eye(4), rows[:, REST].T @ rows[:, H])
    center = np.nanmean(y, (0, 1))
    expected = (test.values - center)[..., REST] @ weights + center[H]
    np.testing.assert_allclose(predicted(baselines.ridge(cut, 1.0), test), expected, atol=1e-9)


def test_what_does_not_suit_is_refused(recordings):
    train, test = recordings
    psth = baselines.training_psth(train.select_neurons({"V2": [0]}))
    with pytest.raises(DataError, match="training PSTH is of"):
        psth.predict(test)
    short = MultiRegionData({n: train.region(n)[:, :3] for n in ("V1", "V2")}, 0.02)
    with pytest.raises(DataError, match="train on trials as long as these"):
        baselines.training_psth(short).predict(test)
    with pytest.raises(ValueError, match="no joint density"):
        baselines.ridge(train).log_likelihood(test)
    with pytest.raises(ValueError, match="0 or more"):
        baselines.ridge(train, -1.0)
    assert list(baselines.baselines(train)) == ["training PSTH", "same-bin ridge", "PSTH + ridge"]


def test_the_reference_table_of_the_public_recording(shared_data):
    """Published beside the recording, to four digits: mean of three splits and three sets of neurons."""
    data = mrgp.load_recording(shared_data / "v1v2_smoothed.npz")
    found = {"psth": [], "ridge": [], "both": []}
    for seed in range(3):
        train, _, test = metrics.split_trials(data.n_trials, seed).of(data)
        made = baselines.training_psth(train), baselines.ridge(train, 100.0), baselines.psth_and_ridge(train, 1000.0)
        for name, baseline in zip(found, made, strict=True):
            found[name].append(metrics.cosmoothing(baseline, test, metrics.neuron_masks(data.layout)))
    mean = {name: sum(tables[1:], tables[0]) / 3 for name, tables in found.items()}
    reference = {"psth": [0.0444, 0.0320], "ridge": [0.0528, 0.0354], "both": [0.0405, 0.0297]}
    for name, values in reference.items():
        np.testing.assert_allclose(mean[name]["psth_rmse"], values, atol=5e-5)
    np.testing.assert_allclose(mean["both"]["trial_rmse"], [0.2649, 0.1915], atol=5e-5)


def test_psths_of_conditions_are_scored_one_by_one(recordings):
    train, test = recordings
    found = metrics.cosmoothing(baselines.ridge(train, 1.0), test, HELD, condition="stimulus")
    mean, y = predicted(baselines.ridge(train, 1.0), test), np.asarray(test.values)[..., H]
    labels = test.trial_coords["stimulus"]
    error = [(y[labels == label] - mean[labels == label]).mean(0)[:, 2] for label in "ab"]
    assert float(found["psth_rmse"].sel(region="V2")) == pytest.approx(np.sqrt(np.mean(np.square(error))))
    assert found.attrs["condition"] == "stimulus"
