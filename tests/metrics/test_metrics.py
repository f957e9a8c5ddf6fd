"""Scores of fits against brute force: dense Gaussian conditioning, cases worked out by hand, and invariances."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import mrgp
from mrgp import DataError, MultiRegionData, metrics
from mrgp.metrics import scores

BIN_WIDTH, BINS, EPS = 0.02, 6, 1e-2
DELAYS = np.array([[0.0, 0.0], [2.0, -1.0]])   # bins: whole ones, where the state space is exact
TIMESCALES = {"across": np.array([2.0, 4.0]), "within": np.array([3.0])}   # bins; within V1


def matern(lag, timescale):
    s = np.sqrt(3) * np.abs(lag) / timescale
    return (1 + s) * np.exp(-s)


@pytest.fixture(scope="module")
def parameters():
    rng = np.random.default_rng(0)
    loadings = {"V1": 0.8 * rng.standard_normal((4, 3)), "V2": 0.8 * rng.standard_normal((3, 2))}
    return {"loadings": loadings, "noise": rng.uniform(0.2, 0.8, 7), "offset": rng.standard_normal(7)}


@pytest.fixture(scope="module")
def recording():
    rng = np.random.default_rng(1)
    return MultiRegionData(
        {"V1": rng.standard_normal((5, BINS, 4)), "V2": rng.standard_normal((5, BINS, 3))}, BIN_WIDTH,
        trial_coords={"stimulus": ["a", "b", "a", "b", "b"]},
    )  # fmt: skip


def fit_of(model, sites, data, **changes):
    """A fit with these parameters, as if they had been inferred."""
    run = {"method": "map", "trace": np.zeros(1), "converged": True, "reason": "given", "iterations": 0,
           "evaluations": 0, "wall_s": 0.0, "seed": 0} | changes  # fmt: skip
    return mrgp.Fit(model=model, sites=sites, layout=data.layout, n_bins=data.n_bins, data=data, **run)


@pytest.fixture(scope="module")
def fit(parameters, recording):
    model = mrgp.models.DLAG(
        2, (1, 0), kernel=mrgp.Matern32(), max_delay=3 * BIN_WIDTH, gp_noise=EPS, likelihood="dense",
    )  # fmt: skip
    seconds = {f"timescale_{kind}": BIN_WIDTH * value for kind, value in TIMESCALES.items()}
    sites = model.params_from(recording.layout, delays=BIN_WIDTH * DELAYS, **seconds, **parameters)
    return fit_of(model, sites, recording)


@pytest.fixture(scope="module")
def dense(parameters):
    """Mean (time * neuron,) and covariance of a trial, straight from the definition of the model."""
    C, noise = parameters["loadings"], parameters["noise"]
    region, time = np.repeat([0, 1], [4, 3]), np.arange(BINS)
    columns = np.zeros((7, 3))
    columns[:4], columns[4:, :2] = C["V1"], C["V2"]
    covariance = np.zeros((BINS, 7, BINS, 7))
    for t in time:
        for u in time:
            for k in range(3):
                shift = DELAYS[:, k] if k < 2 else np.zeros(2)
                timescale = [*TIMESCALES["across"], *TIMESCALES["within"]][k]
                lag = (t - shift[region])[:, None] - (u - shift[region])
                same = (t == u) * (region[:, None] == region)
                copies = (1 - EPS) * matern(lag, timescale) + EPS * same
                covariance[t, :, u] += columns[:, [k]] * copies * columns[:, k]
            covariance[t, :, u] += (t == u) * np.diag(noise)
    return np.tile(parameters["offset"], BINS), covariance.reshape(BINS * 7, BINS * 7)


def conditional(dense, data, hidden):
    """Mean (trial, time, hidden) and log density (trial,) of hidden neurons given all others, by conditioning."""
    mean, covariance = dense
    y = np.asarray(data.values).reshape(data.n_trials, -1)
    h = np.isin(np.tile(np.arange(7), BINS), hidden)
    gain = covariance[np.ix_(h, ~h)] @ np.linalg.inv(covariance[np.ix_(~h, ~h)])
    expected = mean[h] + (y[:, ~h] - mean[~h]) @ gain.T
    left = covariance[np.ix_(h, h)] - gain @ covariance[np.ix_(~h, h)]
    density = [multivariate_normal(m, left).logpdf(row) for m, row in zip(expected, y[:, h], strict=True)]
    return expected.reshape(data.n_trials, BINS, -1), np.array(density)


# --- prediction of what was not seen


def test_cosmoothing_is_conditioning(fit, recording, dense):
    found = metrics.cosmoothing(fit, recording, {"V1": [3, 1], "V2": [2]})
    mean, density = conditional(dense, recording, [1, 3, 6])
    np.testing.assert_allclose(found["joint_log_likelihood"], density, atol=1e-7)
    y1, y2 = recording.region("V1")[:, :, [1, 3]], recording.region("V2")[:, :, [2]]
    parts = {"V1": (y1, mean[:, :, :2]), "V2": (y2, mean[:, :, 2:])}
    for region, (y, m) in parts.items():
        own = found.sel(region=region)
        assert float(own["trial_rmse"]) == pytest.approx(np.sqrt(np.mean((y - m) ** 2)), abs=1e-7)
        assert float(own["psth_rmse"]) == pytest.approx(np.sqrt(np.mean((y.mean(0) - m.mean(0)) ** 2)), abs=1e-7)
        total = ((y - y.mean((0, 1))) ** 2).sum()
        assert float(own["r2"]) == pytest.approx(1 - ((y - m) ** 2).sum() / total, abs=1e-7)
    # Held-out neurons of the other region stay hidden where a region is scored alone.
    alone = conditional_of_kept(dense, recording, hidden=[1, 3], kept=[0, 2, 4, 5])
    np.testing.assert_allclose(found["log_likelihood"].sel(region="V1"), alone, atol=1e-7)
    bits = alone.sum() / np.log(2) / (5 * BINS * 2)
    assert float(found["bits_per_bin"].sel(region="V1")) == pytest.approx(bits, abs=1e-8)
    assert found["held_neuron"].values.tolist() == [1, 3, 2]
    assert found["held_region"].values.tolist() == ["V1", "V1", "V2"]
    assert found["psth_rmse"].attrs["units"] == "data units"


def conditional_of_kept(dense, data, hidden, kept):
    """log p(hidden | kept), (trial,), neither more nor less."""
    mean, covariance = dense
    y, neuron = np.asarray(data.values).reshape(data.n_trials, -1), np.tile(np.arange(7), BINS)
    densities = []
    for chosen in (hidden + kept, kept):
        some = np.isin(neuron, chosen)
        normal = multivariate_normal(mean[some], covariance[np.ix_(some, some)])
        densities.append(normal.logpdf(y[:, some]))
    return densities[0] - densities[1]


def test_several_masks_are_averaged(fit, recording):
    masks = [{"V1": [0], "V2": [1]}, {"V1": [2, 3], "V2": [0]}]
    each = [metrics.cosmoothing(fit, recording, mask) for mask in masks]
    both = metrics.cosmoothing(fit, recording, masks)
    for name in ("psth_rmse", "trial_rmse", "r2", "bits_per_bin", "log_likelihood"):
        np.testing.assert_allclose(both[name], (each[0][name] + each[1][name]) / 2)
    assert both["mask"].values.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_allclose(both["neuron_r2"], np.concatenate([one["neuron_r2"] for one in each]))


def test_a_region_left_out_is_conditioning(fit, recording, dense):
    found = metrics.leave_region_out(fit, recording)
    for region, hidden in (("V1", [0, 1, 2, 3]), ("V2", [4, 5, 6])):
        mean, density = conditional(dense, recording, hidden)
        y = recording.region(region)
        r2 = 1 - ((y - mean) ** 2).sum() / ((y - y.mean((0, 1))) ** 2).sum()
        own = found.sel(region=region)
        assert float(own["r2"]) == pytest.approx(r2, abs=1e-7)
        assert float(own["normalised_error"]) == pytest.approx(np.sqrt(1 - r2), abs=1e-7)
        np.testing.assert_allclose(own["log_likelihood"], density, atol=1e-7)
    assert found["neuron_r2"].sizes["left_out_neuron"] == 7


@pytest.mark.slow
def test_missing_entries_are_neither_given_nor_scored(fit, recording, dense):
    arrays = {name: recording.region(name) for name in ("V1", "V2")}
    arrays["V1"][2, :, 0] = np.nan    # a neuron that helps, not recorded in one trial
    arrays["V1"][1, 4:, 1] = np.nan   # a held-out neuron, cut short
    holed = MultiRegionData(arrays, BIN_WIDTH)
    found = metrics.cosmoothing(fit, holed, {"V1": [1]})
    mean, covariance = dense
    y, neuron = holed.to_xarray(), np.tile(np.arange(7), BINS)
    flat = np.concatenate([y["V1"].values, y["V2"].values], -1).reshape(5, -1)
    for trial in range(5):
        seen = ~np.isnan(flat[trial])
        rest = seen & (neuron != 1)
        pair = [multivariate_normal(mean[s], covariance[np.ix_(s, s)]).logpdf(flat[trial, s]) for s in (seen, rest)]
        assert float(found["log_likelihood"].sel(region="V1")[trial]) == pytest.approx(pair[0] - pair[1], abs=1e-7)
    assert np.isnan(found["r2"].sel(region="V2"))
    entries = 5 * BINS - 2
    bits = float(found["log_likelihood"].sel(region="V1").sum()) / np.log(2) / entries
    assert float(found["bits_per_bin"].sel(region="V1")) == pytest.approx(bits)


@pytest.mark.slow
def test_a_spectral_fit_is_scored_as_its_state_space(fit, recording):
    spectral = dataclasses.replace(fit, model=fit.model.replace(likelihood="spectral", window=None))
    mask = {"V1": [1], "V2": [2]}
    ours, exact = metrics.cosmoothing(spectral, recording, mask), metrics.cosmoothing(fit, recording, mask)
    np.testing.assert_allclose(ours["log_likelihood"], exact["log_likelihood"], atol=1e-5)
    whole = [metrics.trial_log_likelihood(one, recording, recording)["log_likelihood"] for one in (spectral, fit)]
    np.testing.assert_allclose(*whole, atol=1e-5)


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ({}, "no neuron is held out"),
        ([], "no neuron is held out"),
        ({"V1": []}, "no neuron is held out"),
        ({"V9": [0]}, "no region 'V9'"),
        ({"V1": [4]}, "region V1 has neurons 0 to 3"),
        ({"V1": [1, 1]}, "held out twice"),
        ({"V1": range(4), "V2": range(3)}, "nothing observed"),
    ],
)
def test_what_cannot_be_held_out_is_refused(fit, recording, held_out, message):
    with pytest.raises(DataError, match=message):
        metrics.cosmoothing(fit, recording, held_out)


def test_unknown_conditions_and_single_regions_are_refused(fit, recording):
    with pytest.raises(DataError, match="no coordinate 'speed': choose from stimulus"):
        metrics.cosmoothing(fit, recording, {"V1": [0]}, condition="speed")
    with pytest.raises(DataError, match="prediction of a region from others"):
        metrics.leave_region_out(fit, recording.select_neurons({"V2": []}))


def test_whole_trials_against_independent_neurons(fit, recording, dense):
    train = MultiRegionData({n: 2 * recording.region(n) + 1 for n in ("V1", "V2")}, BIN_WIDTH)
    found = metrics.trial_log_likelihood(fit, recording, train)
    flat = np.asarray(recording.values).reshape(5, -1)
    np.testing.assert_allclose(found["log_likelihood"], multivariate_normal(*dense).logpdf(flat), atol=1e-7)
    y = np.asarray(train.values)
    mean, variance = y.mean((0, 1)), y.var((0, 1))
    alone = multivariate_normal(np.tile(mean, BINS), np.diag(np.tile(variance, BINS))).logpdf(flat)
    np.testing.assert_allclose(found["reference"], alone)
    gain = (found["log_likelihood"].sum() - alone.sum()) / np.log(2) / (5 * BINS * 7)
    assert float(found["gain_bits_per_bin"]) == pytest.approx(float(gain))


def test_reconstruction_is_the_smoothed_mean(fit, recording, dense, parameters):
    mean, covariance = dense
    signal = covariance - np.diag(np.tile(parameters["noise"], BINS))
    flat = np.asarray(recording.values).reshape(5, -1)
    expected = (mean + (flat - mean) @ np.linalg.solve(covariance, signal)).reshape(5, BINS, 7)
    found = metrics.reconstruction(fit, recording)
    y = np.asarray(recording.values)
    for region, part in recording.layout.region_slices.items():
        error, total = (y - expected)[..., part], (y - y.mean((0, 1)))[..., part]
        assert float(found["rmse"].sel(region=region)) == pytest.approx(np.sqrt((error**2).mean()), abs=1e-7)
        assert float(found["r2"].sel(region=region)) == pytest.approx(1 - (error**2).sum() / (total**2).sum(), abs=1e-7)


# --- scores worked out by hand


def test_r_squared_by_hand():
    observed = np.array([[[0.0, 1.0, 5.0]], [[2.0, 3.0, 5.0]], [[4.0, np.nan, 5.0]]])   # 3 trials x 1 bin x 3 neurons
    predicted = np.array([[[1.0, 2.0, 4.0]], [[2.0, 2.0, 4.0]], [[3.0, 9.0, 4.0]]])
    own = scores.r_squared(observed, predicted)
    np.testing.assert_allclose(own[:2], [1 - 2 / 8, 1 - 2 / 2])
    assert np.isnan(own[2])   # never changes
    assert scores.pooled_r_squared(observed[..., :2], predicted[..., :2]) == pytest.approx(1 - 4 / 10)
    assert scores.trial_rmse(observed[..., :2], predicted[..., :2]) == pytest.approx(np.sqrt(4 / 5))


def test_psth_errors_by_hand():
    observed = np.array([[[1.0], [2.0]], [[3.0], [np.nan]], [[10.0], [20.0]]])   # 3 trials x 2 bins x 1 neuron
    predicted = np.array([[[0.0], [1.0]], [[0.0], [7.0]], [[10.0], [18.0]]])
    # All trials: errors (1 + 3 + 0) / 3 and (1 + 2) / 2. By condition: (4 / 2, 1), then (0, 2).
    assert scores.psth_rmse(observed, predicted) == pytest.approx(np.sqrt(((4 / 3) ** 2 + 1.5**2) / 2))
    by = scores.psth_rmse(observed, predicted, np.array([0, 0, 1]))
    assert by == pytest.approx(np.sqrt((2**2 + 1 + 0 + 2**2) / 4))


# --- splits and masks


def test_splits_cut_one_permutation():
    split = metrics.split_trials(16, seed=3)
    np.testing.assert_array_equal(np.concatenate(split), np.random.default_rng(3).permutation(16))
    assert [len(part) for part in split] == [12, 2, 2]
    with pytest.raises(DataError, match="too few"):
        metrics.split_trials(1)
    with pytest.raises(DataError, match="sum to 1"):
        metrics.split_trials(10, shares=(0.5, 0.5, 0.5))


def test_masks_draw_region_after_region():
    layout = mrgp.Layout(("A", "B", "C"), (10, 1, 6), 0.02)
    rng, held = np.random.default_rng(7), metrics.hold_out_neurons(layout, 7)
    assert held["A"].tolist() == rng.choice(10, 2, replace=False).tolist()
    assert held["C"].tolist() == rng.choice(6, 1, replace=False).tolist()
    assert "B" not in held   # nothing would be left of it
    assert [mask["A"].tolist() for mask in metrics.neuron_masks(layout, 2, seed=6)][1] == held["A"].tolist()
    with pytest.raises(DataError, match="between 0 and 1"):
        metrics.hold_out_neurons(layout, share=1.0)


def test_the_splits_of_the_public_recording(shared_data):
    reference = json.loads((shared_data / "v1v2_splits.json").read_text())
    for seed, kept in reference["splits"].items():
        split = metrics.split_trials(400, int(seed))
        assert [part.tolist() for part in split] == [kept["train"], kept["val"], kept["test"]]
    masks = metrics.neuron_masks(mrgp.Layout(("V1", "V2"), (72, 22), 0.02))
    columns = [[mask["V1"].tolist(), (72 + mask["V2"]).tolist()] for mask in masks]
    assert columns == list(reference["holdouts"].values())


def test_hidden_neurons_are_missing_and_nothing_else_changes(recording):
    hidden = recording.without({"V2": [1]})
    assert hidden.layout == recording.layout
    assert np.isnan(hidden.region("V2")[:, :, 1]).all()
    np.testing.assert_array_equal(hidden.region("V1"), recording.region("V1"))
    assert hidden.trial_coords == recording.trial_coords
    assert not np.isnan(recording.region("V2")).any()


def test_a_fit_knows_the_trials_it_was_made_from(fit, recording, tmp_path):
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    changed = {name: recording.region(name).copy() for name in ("V1", "V2")}
    changed["V2"][1, 0, 0] += 1
    for known in (fit, again):
        assert known.has_seen(recording.select_trials([4, 2])).tolist() == [True, True]
        assert known.has_seen(MultiRegionData(changed, BIN_WIDTH)).tolist() == [True, False, True, True, True]
    assert dataclasses.replace(again, trained_on=()).has_seen(recording) is None
