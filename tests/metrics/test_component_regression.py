"""Poisson regression on components against a dense reference, and on recordings that lack something."""

import mrgp.models
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import poisson

import mrgp
from mrgp import DataError, MultiRegionData, metrics
from mrgp.metrics import baselines
from mrgp.metrics.component_regression import COMPONENTS, HALF, NAME, SMOOTHING, component_regression
from mrgp.recordings.preprocessing import gaussian_average

BINS, WIDTH = 12, 0.01
HELD = {"V1": [0, 3], "V2": [1]}
H = np.array([0, 3, 6])
REST = np.array([1, 2, 4, 5, 7])


def recording(values, split=5):
    """Two regions of these counts (trial, time, neuron)."""
    return MultiRegionData({"V1": values[..., :split], "V2": values[..., split:]}, WIDTH, drop_dead=None)


def driven(n_trials, n_neurons, seed, rate=0.3, loadings=None):
    """Counts whose log-rates follow two slow signals in common."""
    rng = np.random.default_rng(seed)
    signals = gaussian_average(rng.standard_normal((n_trials, BINS, 2)), np.ones((n_trials, BINS, 2), bool), 3.0) * 2
    loadings = np.random.default_rng(1).standard_normal((2, n_neurons)) if loadings is None else loadings
    return rng.poisson(rate * np.exp(signals @ loadings)).astype(float)


@pytest.fixture(scope="module")
def recordings():
    """Training and test trials of 5 and 3 neurons, every count of which is there."""
    return recording(driven(20, 8, 2)), recording(driven(6, 8, 3))


def predicted(baseline, test, held=HELD, columns=H, name="mean"):
    """Means of held-out neurons, (trial, time, neuron)."""
    found = baseline.predict(test.without(held))
    return np.concatenate([found[f"{region}_{name}"].values for region in ("V1", "V2")], -1)[..., columns]


def smoothed(values):
    """Weighted means of all bins of a trial, written out."""
    gap = np.arange(BINS)[:, None] - np.arange(BINS)
    weights = np.where(np.abs(gap) <= 4 * SMOOTHING, np.exp(-0.5 * (gap / SMOOTHING) ** 2), 0.0)
    return np.einsum("st,btn->bsn", weights / weights.sum(1, keepdims=True), values)


def dense(train, test, rest, hidden, count=COMPONENTS):
    """Rates of test bins by singular values and a general optimiser, (trial, time, neuron)."""
    size = len(rest)
    rows = smoothed(train)[..., rest].reshape(-1, size)
    center = rows.mean(0)
    _, singular, directions = np.linalg.svd(rows - center, full_matrices=False)
    scale = np.sqrt((singular[:count] ** 2).sum() / len(rows))
    known, new = ((r - center) @ directions[:count].T / scale for r in (rows, smoothed(test)[..., rest]))
    rates = []
    for own in train.reshape(-1, train.shape[-1])[:, hidden].T:

        def lost(parameters, own=own):
            log_rate = parameters[0] + known @ parameters[1:]
            rest = np.exp(log_rate) - own
            slope = np.append(rest.sum() - HALF, rest @ known + parameters[1:])
            value = np.exp(log_rate).sum() - own @ log_rate - HALF * parameters[0] + 0.5 * (parameters[1:] ** 2).sum()
            return value, slope

        best = minimize(lost, np.zeros(1 + known.shape[1]), jac=True, options={"gtol": 1e-9}).x
        inside = best[0] + known @ best[1:]
        rates.append(np.exp(np.clip(best[0] + new @ best[1:], inside.min(), inside.max())))
    return np.stack(rates, -1)


def test_rates_are_those_of_a_dense_penalised_regression(recordings):
    train, test = recordings
    counts, others = np.asarray(train.values), np.asarray(test.values)
    expected = dense(counts, others, REST, H)
    baseline = component_regression(train)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(predicted(baseline, test), expected, rtol=1e-6)
    np.testing.assert_allclose(predicted(baseline, test, name="sd"), np.sqrt(expected), rtol=1e-6)
    found = metrics.cosmoothing(baseline, test, HELD)
    density = poisson.logpmf(others[..., H], expected).sum((1, 2))
    np.testing.assert_allclose(found["joint_log_likelihood"], density, rtol=1e-6)
    alone = poisson.logpmf(others[..., [6]], expected[..., 2:]).sum((1, 2))
    np.testing.assert_allclose(found["log_likelihood"].sel(region="V2"), alone, rtol=1e-6)


def test_of_many_neurons_there_are_twenty_components():
    train, test = driven(20, 33, 4), driven(3, 33, 5)
    assert COMPONENTS == 20
    found = predicted(component_regression(recording(train)), recording(test), {"V1": [0, 3], "V2": [1]}, H)
    rest = np.setdiff1d(np.arange(33), H)
    np.testing.assert_allclose(found, dense(train, test, rest, H), rtol=1e-6)
    more = dense(train, test, rest, H, count=21)
    assert np.abs(found / more - 1).max() > 1e-4   # a hundred times the tolerance


def bits_per_spike(baseline, test, hidden, train):
    """Gain of hidden neurons over their mean rates in training."""
    own = np.concatenate([part.start + np.asarray(hidden[r], int) for r, part in test.layout.region_slices.items()])
    counts, mean = np.asarray(test.values)[..., own], np.asarray(train.values)[..., own].mean((0, 1))
    rate = predicted(baseline, test, hidden, own)
    gained = poisson.logpmf(counts, np.maximum(rate, 1e-3)) - poisson.logpmf(counts, mean)
    return gained.sum() / (counts.sum() * np.log(2))


def test_signals_in_common_are_found():
    train, test = recording(driven(200, 40, 6), 20), recording(driven(30, 40, 7), 20)
    hidden = {"V1": [0, 1, 2, 3], "V2": [5, 6, 7]}
    ours = bits_per_spike(component_regression(train), test, hidden, train)
    assert ours > bits_per_spike(baselines.training_psth(train), test, hidden, train) + 0.1
    # A whole region, from the other one.
    whole = {"V1": np.arange(20), "V2": []}
    assert bits_per_spike(component_regression(train), test, whole, train) > 0.1
    assert float(metrics.leave_region_out(component_regression(train), test)["r2"].min()) > 0


def test_neurons_that_hardly_fire_have_finite_rates(recordings):
    train, test = recordings
    counts = np.asarray(train.values).copy()
    counts[..., [0, 3, 1]] = 0.0   # two hidden neurons, and one that is seen
    counts[4, 5, 3] = 1.0
    baseline = component_regression(recording(counts))
    rate = predicted(baseline, test)
    np.testing.assert_allclose(rate[..., 0], HALF / (20 * BINS))   # silent: the half spike of the prior
    assert (rate[..., 1] > 0).all()
    assert rate.max() < 10
    rows = counts.copy()
    rows[..., H] = np.nan
    in_training = baseline.predict(recording(rows))["V1_mean"].values[..., 3]
    assert in_training.sum() == pytest.approx(1 + HALF)
    found = metrics.cosmoothing(baseline, test, HELD)
    assert np.isfinite(found["log_likelihood"]).all()
    # Far beyond all training bins, nothing overflows.
    wild = recording(np.where(np.isin(np.arange(8), REST), 1e4, np.asarray(test.values)))
    most = predicted(baseline, recording(counts))
    assert (predicted(baseline, wild) <= most.max((0, 1)) * (1 + 1e-9)).all()


def test_one_neuron_seen_or_none():
    counts, others = driven(20, 2, 8), driven(5, 2, 9)
    train, test = recording(counts, 1), recording(others, 1)
    baseline = component_regression(train)
    found = predicted(baseline, test, {"V2": [0]}, [1])
    np.testing.assert_allclose(found, dense(counts, others, [0], [1]), rtol=1e-6)
    # Where no neuron is seen, a rate is all there is.
    nothing = baseline._regression(np.ones(2, bool))
    level = (counts.sum((0, 1)) + HALF) / (20 * BINS)
    np.testing.assert_allclose(nothing.rates(np.zeros((1, 0))), level[None])


def test_what_is_seen_stays_and_holes_are_at_their_mean(recordings):
    train, test = recordings
    baseline = component_regression(train)
    whole = baseline.predict(test)
    np.testing.assert_array_equal(whole["V1_mean"], test.region("V1"))
    holed = np.asarray(test.values).copy()
    holed[2, 1, 1] = np.nan
    rate = predicted(baseline, recording(holed))
    seen = baseline.predict(recording(holed).without(HELD))["V1_mean"].values
    assert seen[2, 1, 1] == pytest.approx(np.asarray(train.values)[..., 1].mean())
    np.testing.assert_array_equal(np.delete(seen, [0, 3], -1)[0], holed[0][:, [1, 2, 4]])
    # The smoothed count of the hole is the mean of all; that of other bins is of those that are there.
    mask = ~np.isnan(holed)
    rows = np.where(mask, gaussian_average(holed, mask, SMOOTHING), baseline.center)
    regression = baseline._regression(np.isin(np.arange(8), H))
    np.testing.assert_allclose(rate, regression.rates((rows - baseline.center)[..., REST]))
    assert np.abs(rate - predicted(baseline, test))[2].max() > 1e-3
    np.testing.assert_allclose(rate[[0, 1, 3]], predicted(baseline, test)[[0, 1, 3]])


def test_in_training_a_bin_with_a_hole_teaches_nothing(recordings):
    train, _ = recordings
    values = np.asarray(train.values).copy()
    values[3, 2, 6] = np.nan
    baseline = component_regression(recording(values))
    assert len(baseline.counts) == 20 * BINS - 1
    kept = np.delete(np.asarray(train.values).reshape(-1, 8), 3 * BINS + 2, 0)
    np.testing.assert_array_equal(baseline.counts, kept)
    values[..., 6] = np.nan
    with pytest.raises(DataError, match="no bin of the training trials has every neuron recorded"):
        component_regression(recording(values))


def test_a_shorter_trial_is_smoothed_over_its_own_bins(recordings):
    train, test = recordings
    ragged = np.asarray(train.values).copy()
    ragged[0, 7:] = np.nan
    baseline = component_regression(recording(ragged))
    assert len(baseline.counts) == 20 * BINS - 5
    # Seven bins are as good as a recording of seven bins.
    short = np.asarray(test.values)[:1]
    cut = np.where(np.arange(BINS)[:, None] < 7, short, np.nan)
    both = recording(np.concatenate([cut, short]))
    alone = recording(short[:, :7])
    np.testing.assert_allclose(predicted(baseline, both)[0, :7], predicted(baseline, alone)[0])
    scored = metrics.cosmoothing(baseline, both, HELD)
    expected = metrics.cosmoothing(baseline, alone, HELD)
    np.testing.assert_allclose(scored["joint_log_likelihood"][0], expected["joint_log_likelihood"][0])


def test_only_counts_are_told(recordings):
    train, test = recordings
    half = np.asarray(train.values).copy()
    half[1, 2, 4] = 0.5
    with pytest.raises(DataError, match=r"V1.*: 0\.5 in trial 1, bin 2 is no spike count; take the recording"):
        component_regression(recording(half))
    baseline = component_regression(train)
    with pytest.raises(DataError, match="is no spike count"):
        baseline.predict(test.with_values(np.sqrt(np.asarray(test.values))))
    with pytest.raises(DataError, match="is no spike count"):
        baseline.log_predictive(test.with_values(-np.asarray(test.values)), test.without(HELD))
    with pytest.raises(DataError, match=f"but {NAME} is of"):
        baseline.predict(test.select_neurons({"V2": [0]}))
    with pytest.raises(ValueError, match="no joint density"):
        baseline.log_likelihood(test)
    assert list(baselines.baselines(train)) == ["training PSTH", "same-bin ridge", "PSTH + ridge", NAME]
    assert NAME not in baselines.baselines(recording(half))


@pytest.mark.slow
def test_reports_of_counts_hold_it(recordings, tmp_path):
    train, test = recordings
    # Any model will do, and white latents compile fastest.
    sites = {"loadings": np.full((8, 1), 0.3), "offset": train.center, "noise": train.scale**2}
    run = {"method": "map", "trace": np.zeros(1), "converged": True, "reason": "given", "iterations": 0,
           "evaluations": 0, "wall_s": 0.0, "seed": 0}  # fmt: skip
    fit = mrgp.Fit(model=mrgp.models.FA(1), sites=sites, layout=train.layout, n_bins=BINS, data=train, **run)
    found = mrgp.evaluate(fit, test, n_masks=1, progress=False)
    masks = metrics.neuron_masks(test.layout, 1)
    alone = metrics.cosmoothing(component_regression(train), test, masks)
    np.testing.assert_allclose(found.cosmoothing["bits_per_bin"].sel(predictor=NAME), alone["bits_per_bin"])
    assert NAME in found.report()
    assert NAME in found.left_out["predictor"].values
    found.save(tmp_path)
