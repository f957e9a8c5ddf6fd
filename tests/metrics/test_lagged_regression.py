"""Lagged and reduced-rank regression against plain least squares, and on networks that they describe exactly."""

import numpy as np
import pytest

from mrgp import DataError, MultiRegionData
from mrgp.metrics import effectome_cosine, lagged_regression, message_r2, reduced_rank_regression
from mrgp.metrics.lagged_regression import lagged
from mrgp.parts.regression_moments import GRID, Moments, leading
from mrgp.simulations.memory_ring import memory_ring

WIDTH = 0.02


def linear_network(n_trials=80, n_bins=40, n_lags=1, seed=0, noise=1.0):
    """Regions of 5, 4 and 6 neurons: the first talks to the second in 2 dimensions, that to the third in 1."""
    rng = np.random.default_rng(seed)
    sizes, parts = (5, 4, 6), (slice(0, 5), slice(5, 9), slice(9, 15))
    weights = np.zeros((n_lags, 15, 15))
    for lag in range(n_lags):
        for part, n in zip(parts, sizes, strict=True):
            weights[lag, part, part] = 0.5 * np.linalg.qr(rng.standard_normal((n, n)))[0] / n_lags
        weights[lag, parts[0], parts[1]] = 0.3 * rng.standard_normal((5, 2)) @ np.eye(2, 4)
        weights[lag, parts[1], parts[2]] = 0.5 * rng.standard_normal((4, 1)) @ np.eye(1, 6)
    values = np.zeros((n_trials, n_bins, 15))
    new = noise * rng.standard_normal(values.shape)
    for t in range(n_bins):
        past = [values[:, t - lag - 1] if t > lag else np.zeros((n_trials, 15)) for lag in range(n_lags)]
        values[:, t] = sum(p @ W for p, W in zip(past, weights, strict=True)) + new[:, t]
    return recording(values + 2.0), weights


def recording(values):
    return MultiRegionData({"A": values[..., :5], "B": values[..., 5:9], "C": values[..., 9:]}, WIDTH, drop_dead=None)


def least_squares(values, n_lags):
    """Offset and weights (lag, neuron, target) of all neurons regressed on the past of all, bins with a past only."""
    outcome = values[:, n_lags:].reshape(-1, values.shape[2])
    past = [values[:, n_lags - lag : values.shape[1] - lag].reshape(outcome.shape) for lag in range(1, n_lags + 1)]
    solved = np.linalg.lstsq(np.concatenate([np.ones((len(outcome), 1)), *past], 1), outcome, rcond=None)[0]
    return solved[0], solved[1:].reshape(n_lags, *values.shape[2:], -1)


@pytest.mark.parametrize("n_lags", [1, 3])
def test_without_ridge_and_of_full_rank_it_is_least_squares(n_lags):
    data, _ = linear_network(20, 15)
    fit = lagged_regression(data, n_lags, None, ridge=0)
    offset, weights = least_squares(data.floats, n_lags)
    np.testing.assert_allclose(fit.weights, weights, atol=1e-9)
    predicted = offset + np.einsum("btln,lnm->btm", lagged(data.floats, n_lags), weights)
    np.testing.assert_allclose(fit.predict(data)[:, n_lags:], predicted[:, n_lags:], atol=1e-9)
    left = data.floats[:, n_lags:] - predicted[:, n_lags:]
    np.testing.assert_allclose(fit.inputs(data).values[:, n_lags:, 2], left[..., 9:], atol=1e-9)
    scored = data.floats[:, n_lags:, 9:]
    r2 = 1 - (left[..., 9:] ** 2).sum() / ((scored - scored.mean((0, 1))) ** 2).sum()
    assert float(fit.score(data).sel(region="C")) == pytest.approx(r2, rel=1e-9)


@pytest.mark.parametrize("n_lags", [1, 2])
def test_known_blocks_of_low_rank_are_recovered(n_lags):
    """3,200 bins: the standard error of a weight is about 0.02."""
    data, weights = linear_network(n_lags=n_lags)
    fit = lagged_regression(data, n_lags, 2)
    np.testing.assert_allclose(fit.weights, weights, atol=5 * 0.025)
    past = lagged(data.floats - 2, n_lags)
    true = np.zeros((3, 3))
    for source, target in ((0, 1), (1, 2)):
        rows, columns = (slice(*((0, 5, 9, 15)[i : i + 2])) for i in (source, target))
        sent = np.einsum("btln,lnm->btm", past[..., rows], weights[:, rows, columns])
        true[source, target] = np.linalg.norm(sent - sent.mean((0, 1)), axis=-1).mean()
    assert effectome_cosine(true, fit.effectome()) > 0.99
    assert fit.effectome().values[0, 1] == pytest.approx(true[0, 1], rel=0.05)
    edges = list(fit.directions)
    V = fit.directions[0, 1]
    np.testing.assert_allclose(V @ V.T, np.diag([1, 1, 0, 0]), atol=0.15)  # B hears in its first two neurons
    assert abs(fit.directions[1, 2][0, 0]) == pytest.approx(1, abs=0.02)  # and C in its first
    messages = fit.messages(data)
    assert messages.dims == ("trial", "time", "edge", "message")
    by_hand = np.einsum("btln,lnm->btm", lagged(data.floats - fit.center, n_lags)[..., :5], fit.weights[:, :5, 5:9] @ V)
    np.testing.assert_allclose(messages.values[:, :, edges.index((0, 1))], by_hand, atol=1e-10)
    assert messages["source_of_edge"].values.tolist() == ["A", "A", "B", "B", "C", "C"]
    assert messages["target_of_edge"].values.tolist() == ["B", "C", "A", "C", "A", "B"]


def test_a_linear_map_of_low_rank_is_the_best_one():
    """Against the singular value decomposition of the predictions."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((200, 6)), rng.standard_normal((200, 4))
    moments = Moments.of(x, y)
    weights = moments.solutions([0.1])[0]
    scale = (x**2).sum() / 6
    np.testing.assert_allclose(weights, np.linalg.solve(x.T @ x + 0.1 * scale * np.eye(6), x.T @ y), atol=1e-12)
    V = leading(moments.xx, weights, 2)
    right = np.linalg.svd(x @ weights)[2][:2].T
    np.testing.assert_allclose(V @ V.T, right @ right.T, atol=1e-10)
    np.testing.assert_allclose(moments.missed(weights), ((y - x @ weights) ** 2).sum(0), rtol=1e-10)


def test_ridge_is_the_one_that_predicts_trials_left_out_best():
    data, _ = linear_network(10, 12, noise=1.0)
    chosen = lagged_regression(data, 1, 2)
    scores = {}
    for strength in (1e-9, *np.unique(chosen.ridge), 10.0):
        scores[strength] = np.zeros(3)
        for fold in range(5):
            out = np.arange(10) % 5 == fold
            fit = lagged_regression(data.select_trials(~out), 1, 2, ridge=strength)
            left = fit.predict(data.select_trials(out))[:, 1:] - data.floats[out, 1:]
            scores[strength] += [(left[..., part] ** 2).sum() for part in data.layout.region_slices.values()]
    for region, strength in enumerate(chosen.ridge):
        assert scores[strength][region] < 1.02 * min(score[region] for score in scores.values())
    assert (chosen.ridge > 1e-9).all()  # 110 rows for 15 weights each: some shrinkage helps


def test_residuals_are_summed_up_over_a_time_constant():
    data, _ = linear_network(4, 10)
    fit = lagged_regression(data, 1, None, ridge=0.1)
    left, summed = fit.inputs(data).values, fit.inputs(data, bins=3.0).values
    age = np.arange(10)[:, None] - np.arange(10)
    weights = np.where(age >= 0, np.exp(-np.maximum(age, 0) / 3), 0)
    np.testing.assert_allclose(summed, np.einsum("st,btri->bsri", weights, left), atol=1e-10)


def test_counts_are_taken_by_their_roots():
    rng = np.random.default_rng(2)
    counts = rng.poisson(1.0, (12, 20, 15)).astype(float)
    of_counts = lagged_regression(recording(counts), 1, 2, ridge=0.1)
    by_hand = lagged_regression(recording(2 * np.sqrt(counts + 3 / 8)), 1, 2, ridge=0.1)
    assert of_counts.roots
    assert not by_hand.roots
    np.testing.assert_allclose(of_counts.weights, by_hand.weights, atol=1e-12)
    assert not lagged_regression(recording(counts), 1, 2, ridge=0.1, roots=False).roots


def test_bins_without_a_recorded_past_are_left_out():
    """The last bins of one trial are missing, and the bin in the middle of another: as if these rows were not there."""
    data, _ = linear_network(10, 12)
    values = data.floats.copy()
    values[3, 8:] = np.nan
    values[5, 6, 2] = np.nan
    fit = lagged_regression(recording(values), 1, None, ridge=0)
    whole = np.isfinite(values).all(-1)
    usable = whole[:, 1:] & whole[:, :-1]
    x, y = values[:, :-1][usable], values[:, 1:][usable]
    wanted = np.linalg.lstsq(np.c_[np.ones(len(x)), x], y, rcond=None)[0]
    np.testing.assert_allclose(fit.weights[0], wanted[1:], atol=1e-9)
    assert np.isfinite(fit.messages(recording(values)).values).all()


def test_a_ring_without_noise_is_described():
    made = memory_ring(n_units=16, n_inputs=1, noise=0, n_trials=120, seed=2)
    train, test = made.data.select_trials(slice(0, 90)), made.data.select_trials(slice(90, None))
    fit = lagged_regression(train, 1, 2)
    truth = made.truth.isel(trial=slice(90, None))
    assert message_r2(truth["messages"], fit.messages(test)) > 0.97
    assert effectome_cosine(truth["effectome"], fit.effectome()) > 0.95


def test_reduced_rank_regression_is_the_best_map_of_its_rank():
    data, _ = linear_network(30, 20)
    fit = reduced_rank_regression(data, "A", "B", 2, lag=1, ridge=0)
    x, y = data.region("A")[:, :-1].reshape(-1, 5), data.region("B")[:, 1:].reshape(-1, 4)
    x, y = x - x.mean(0), y - y.mean(0)
    full = np.linalg.lstsq(x, y, rcond=None)[0]
    right = np.linalg.svd(x @ full, full_matrices=False)[2][:2].T
    np.testing.assert_allclose(fit.source_weight @ fit.target_mode.T, full @ right @ right.T, atol=1e-10)
    predicted = x @ full @ right @ right.T
    assert fit.score(data) == pytest.approx(1 - ((y - predicted) ** 2).sum() / (y**2).sum(), rel=1e-9)
    np.testing.assert_allclose(fit.predict(data)[:, 1:].reshape(-1, 4) - fit.means[1], predicted, atol=1e-10)
    np.testing.assert_allclose(fit.predict(data)[:, 0], np.broadcast_to(fit.means[1], (30, 4)))


def test_rank_is_chosen_by_trials_left_out():
    """B hears one dimension of A, C two dimensions of B, both in the bin before; A hears nothing."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal((60, 40, 15))
    values[:, 1:, 5:9] += values[:, :-1, :5] @ rng.standard_normal((5, 1)) * [0.5, 0.5, 0, 0]
    values[:, 1:, 9:] += values[:, :-1, 5:9] @ rng.standard_normal((4, 2)) @ np.eye(2, 6)
    data = recording(values)
    assert reduced_rank_regression(data, "A", "B", lag=1).rank == 1
    two = reduced_rank_regression(data, "B", "C", lag=1)
    assert two.rank == 2
    # Of nothing, one standard error lets a dimension of 0.01% of the variance pass by chance; the ridge is the largest.
    nothing = reduced_rank_regression(data, "C", "A", lag=1)
    assert nothing.rank <= 1
    assert nothing.performance["mean"].values.max() < 0.001
    assert nothing.ridge == pytest.approx(GRID[-1])
    mean = two.performance["mean"].values
    assert mean[0] == pytest.approx(0.0, abs=0.01)
    assert mean[2] == pytest.approx(two.score(data), abs=0.02)


@pytest.mark.parametrize(("n_lags", "rank"), [(1, None), (3, 1)])
def test_what_others_do_without_a_region_is_the_recursion_written_out(n_lags, rank):
    """The same residuals are run through again, while B is heard at its mean from bin 6 on."""
    data, _ = linear_network(8, 14, n_lags=n_lags)
    fit = lagged_regression(data, n_lags, rank)
    found = fit.perturb("B", data, since=6 * WIDTH)
    parts = list(data.layout.region_slices.values())
    weights = fit.weights.copy()
    for (source, target), V in fit.directions.items():
        weights[:, parts[source], parts[target]] = fit.weights[:, parts[source], parts[target]] @ V @ V.T
    y = data.floats - fit.center
    run = np.zeros_like(y)
    for trial in range(8):
        for t in range(14):
            run[trial, t] = y[trial, t] - (fit.predict(data) - fit.center)[trial, t]
            run[trial, t] += fit.offset
            for lag in range(1, n_lags + 1):
                if t < lag:
                    continue
                for target in range(3):
                    heard = run[trial, t - lag].copy()
                    if target != 1 and t - lag >= 6:
                        heard[parts[1]] = 0.0
                    run[trial, t, parts[target]] += heard @ weights[lag - 1][:, parts[target]]
    np.testing.assert_allclose(found["rate"], data.floats, atol=1e-12)
    np.testing.assert_allclose(found["rate_without"], run + fit.center, atol=1e-10)
    assert found["region"].values.tolist() == ["A"] * 5 + ["B"] * 4 + ["C"] * 6
    change = np.abs(found["rate_without"] - found["rate"]).values
    assert (change[:, :7] < 1e-12).all()
    assert change[:, 7, 9:].max() > 1e-3  # B tells C
    whole = fit.perturb("B", data)
    assert np.abs(whole["rate_without"] - whole["rate"]).values[:, 1, 9:].max() > 1e-3
    with pytest.raises(DataError, match="no region 'D'"):
        fit.perturb("D", data)
    with pytest.raises(DataError, match="give an earlier time"):
        fit.perturb("A", data, since=0.28)


def test_arguments_are_refused_with_a_sentence():
    data, _ = linear_network(3, 6)
    for options, sentence in (
        ({"n_lags": 0}, "at least 1 past bin"), ({"rank": 0}, "at least 1 dimension"), ({"ridge": -1.0}, "ridge is 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            lagged_regression(data, **options)
    with pytest.raises(DataError, match="give ridge"):
        lagged_regression(data.select_trials([0]))
    with pytest.raises(DataError, match="no bin has every neuron"):
        lagged_regression(data, 6)
    with pytest.raises(DataError, match="other regions or neurons"):
        lagged_regression(data).predict(data.select_neurons({"A": [0]}))
    for arguments, sentence in (
        (("A", "D"), "no region 'D'"), (("A", "A"), "two regions"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=sentence):
            reduced_rank_regression(data, *arguments)
    for options, sentence in (
        ({"rank": 5}, "rank is from 1 to 4"), ({"lag": 6}, "lag is 0"), ({"ridge": -1.0}, "ridge is 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            reduced_rank_regression(data, "A", "B", **options)
