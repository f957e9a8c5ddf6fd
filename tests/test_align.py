"""Latents are told apart, and errors of delays do not depend on order, sign or the region they are measured from."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from mrgp.align import delay_rmse, match_latents
from mrgp.checks import DataError
from mrgp.report import explained_variance, match_loadings, matched_delays
from mrgp.simulate import simulate


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def by_hand(delays, truth):
    """The definition, over all orders of the latents."""
    n, k = truth.shape
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]

    def error(order):
        d = delays[:, order]
        return np.sqrt(np.mean([((d[j] - d[i]) - (truth[j] - truth[i])) ** 2 for i, j in pairs]))

    return min(map(error, permutations(range(k))))


@pytest.mark.parametrize("shape", [(6, 30), (40,)])
def test_order_and_signs_are_found(rng, shape):
    truth = rng.standard_normal((*shape, 4))
    order, signs = np.array([2, 0, 3, 1]), np.array([1.0, -1.0, -1.0, 1.0])
    estimate = np.empty_like(truth)
    estimate[..., order] = signs * truth + 0.1 * rng.standard_normal(truth.shape)
    found = match_latents(estimate, truth)
    np.testing.assert_array_equal(found.estimated, order)
    np.testing.assert_array_equal(found.true, np.arange(4))
    np.testing.assert_array_equal(found.signs, signs)
    assert (found.likeness > 0.9).all()


def test_unequal_numbers_pair_the_lesser(rng):
    truth = rng.standard_normal((50, 4))
    found = match_latents(-truth[:, [3, 1]], truth)
    assert (found.true.tolist(), found.estimated.tolist()) == ([1, 3], [1, 0])
    np.testing.assert_allclose(found.likeness, 1)
    more = match_latents(truth, truth[:, [2, 0]])
    assert (more.true.tolist(), more.estimated.tolist()) == ([0, 1], [2, 0])


def test_column_of_zeros_is_like_nothing(rng):
    truth = rng.standard_normal((50, 2))
    found = match_latents(truth * [1, 0], truth)
    np.testing.assert_allclose(found.likeness, [1, 0])


def test_latents_of_other_samples_are_refused(rng):
    with pytest.raises(ValueError, match="all axes but the last"):
        match_latents(np.zeros((5, 2)), np.zeros((6, 2)))


@pytest.mark.parametrize("n_regions", [2, 5])
def test_rmse_is_its_definition(rng, n_regions):
    delays, truth = rng.standard_normal((2, n_regions, 3))
    assert delay_rmse(delays, truth) == pytest.approx(by_hand(delays, truth))


def test_rmse_ignores_order_and_reference(rng):
    delays, truth = rng.standard_normal((2, 4, 3))
    expected = delay_rmse(delays, truth)
    assert delay_rmse(delays[:, [1, 2, 0]], truth) == pytest.approx(expected)
    assert delay_rmse(delays + np.array([1.0, -2.0, 0.5]), truth) == pytest.approx(expected)
    assert delay_rmse(truth[:, ::-1], truth) == pytest.approx(0, abs=1e-12)


def test_varying_delays_average_over_time(rng):
    delays, truth = rng.standard_normal((2, 3, 1, 20))
    each = [delay_rmse(delays[..., t], truth[..., t]) for t in range(20)]
    assert delay_rmse(delays, truth) == pytest.approx(np.sqrt(np.mean(np.square(each))))


def test_constant_and_varying_compare(rng):
    constant, varying = rng.standard_normal((3, 2)), rng.standard_normal((3, 2, 10))
    expected = delay_rmse(np.repeat(constant[..., None], 10, axis=2), varying)
    assert delay_rmse(constant, varying) == pytest.approx(expected)
    assert delay_rmse(varying, constant) == pytest.approx(expected)


def test_match_decides_which_latent_is_which(rng):
    truth = rng.standard_normal((3, 2))
    shapes = rng.standard_normal((30, 2))
    swapped = match_latents(shapes[:, ::-1], shapes)
    assert delay_rmse(truth[:, ::-1], truth, swapped) == pytest.approx(0, abs=1e-12)
    assert delay_rmse(truth[:, ::-1], truth, match_latents(shapes, shapes)) > 0.1


def test_regions_that_do_not_read_a_latent_are_left_out(rng):
    delays, truth = rng.standard_normal((2, 3, 1))
    truth[2] = np.nan
    assert delay_rmse(delays, truth) == pytest.approx(abs((delays[1] - delays[0] - truth[1] + truth[0]).item()))


@pytest.mark.parametrize(
    ("delays", "truth"),
    [
        (np.zeros(3), np.zeros(3)),
        (np.zeros((2, 1)), np.zeros((3, 1))),
        (np.zeros((2, 1, 5)), np.zeros((2, 1, 6))),
        (np.zeros((1, 2)), np.zeros((1, 2))),
        (np.zeros((2, 1)), np.full((2, 1), np.nan)),
    ],
)
def test_what_cannot_be_compared_is_refused(delays, truth):
    with pytest.raises(ValueError, match="delays"):
        delay_rmse(delays, truth)


# --- a fit against the truth of a simulation


def stand_in(made, order, signs, delays):
    """What the comparison reads of a fit whose latents are those of a simulation in another order."""
    loadings = made.truth["loadings"].values[:, : len(order)][:, order] * signs
    coords = {"region": list(made.data.layout.regions), "across_latent": np.arange(len(order))}
    if delays.ndim == 3:
        coords["time"] = made.data.times
    return SimpleNamespace(sites={"loadings": loadings}, delays=xr.DataArray(delays, coords, tuple(coords)))


@pytest.fixture(scope="module")
def bump():
    amplitudes = [[0, 0], [0.02, -0.01]]
    return simulate(regions={"V1": 6, "V2": 6}, n_trials=2, n_bins=10, delay=amplitudes, delay_shape="sine")


def test_truth_is_put_in_the_fits_order_at_every_time(bump):
    delays = bump.truth["delay"].values
    fit = stand_in(bump, [1, 0], [-1, 1], delays[:, ::-1])
    xr.testing.assert_allclose(matched_delays(fit, bump.truth), fit.delays)
    np.testing.assert_array_equal(match_loadings(fit, bump.truth).signs, [1, -1])


def test_constant_fit_keeps_the_truths_times(bump):
    matched = matched_delays(stand_in(bump, [1, 0], [1, 1], np.zeros((2, 2))), bump.truth)
    assert matched.dims == ("region", "across_latent", "time")
    np.testing.assert_allclose(matched, bump.truth["delay"].values[:, ::-1])


def test_constant_truth_holds_at_all_times_of_the_fit():
    made = simulate(regions={"V1": 6, "V2": 6}, n_trials=2, n_bins=10, shared_by=[[1, 0], [1, 1]])
    matched = matched_delays(stand_in(made, [0, 1], [1, 1], np.zeros((2, 2, 10))), made.truth)
    assert matched.dims == ("region", "across_latent", "time")
    np.testing.assert_allclose(matched[..., 3], [[0, np.nan], made.truth["delay"].values[1]])


def test_latents_beyond_those_of_the_truth_have_no_delay(bump):
    fit = stand_in(bump, [1, 0, 0], [1, 1, 0], np.zeros((2, 3)))
    matched = matched_delays(fit, bump.truth)
    assert np.isnan(matched[:, 2]).all()
    assert not np.isnan(matched[:, :2]).any()


def test_explained_variance_skips_what_is_missing():
    made = simulate(regions={"V1": 6, "V2": 6}, n_trials=3, n_bins=10, missing=0.2, seed=1)
    means = {name: np.nanmean(made.data.region(name), axis=(0, 1)) for name in ("V1", "V2")}
    half = {f"{name}_mean": (("trial", "time", f"neuron_{name}"), 0.5 * (np.nan_to_num(made.data.region(name)) + mean))
            for name, mean in means.items()}  # fmt: skip
    fit = SimpleNamespace(data=made.data, predict=lambda data: xr.Dataset(half))
    np.testing.assert_allclose(explained_variance(fit), 0.75)
    with pytest.raises(DataError, match="no recording"):
        explained_variance(SimpleNamespace(data=None))
