"""Latents are told apart, and errors of delays do not depend on order, sign or the region they are measured from."""

from itertools import permutations
from types import SimpleNamespace

import arviz
import numpy as np
import pytest
import xarray as xr
from mrgp.models import ADM

import mrgp
from mrgp.metrics.likelihood import explained_variance
from mrgp.metrics.recovery import match_loadings, matched_delays
from mrgp.parts.latents import LatentLayout
from mrgp.parts.matching import delay_rmse, match_latents
from mrgp.parts.symmetries import align_draws, align_fits, relative_to, sites_of_truth
from mrgp.recordings.checks import DataError
from mrgp.simulations.simulate import simulate


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


# --- draws whose latents have changed places and signs

CASES = {
    "one_region": LatentLayout((8,), 3, (0,)),
    "one_latent": LatentLayout((8,), 1, (1,)),
    "three_regions": LatentLayout((8, 6, 7), 3, (2, 0, 1)),
    "one_across": LatentLayout((8, 6, 7), 1, (2, 0, 1)),
    "within_alone": LatentLayout((8, 6, 7), 0, (2, 0, 3)),
}
INTEGRATED = ("loadings", "alpha")  # what a posterior need not have


@pytest.fixture(params=CASES, ids=str)
def assignment(request):
    return CASES[request.param]


def some_sites(rng, assignment):
    """One value of all sites of all presets but LDS, with latents that can be told apart."""
    k, lagging = assignment.n_across, (assignment.n_regions - 1, assignment.n_across)
    return {
        "loadings": rng.standard_normal((sum(assignment.n_neurons), assignment.n_columns)),
        "alpha": rng.gamma(1.0, size=(assignment.n_regions, assignment.n_columns)),
        "noise": rng.uniform(0.5, 1.0, sum(assignment.n_neurons)),
        "delay": rng.permuted(np.broadcast_to(np.linspace(-0.05, 0.05, k), lagging), axis=1),
        "delay_spread": rng.uniform(0.01, 0.02, lagging),
        "delay_change": rng.standard_normal((*lagging, 5)),
        "timescale_across": np.geomspace(0.02, 0.5, k),
        "frequency_across": rng.uniform(1, 5, k),
        "timescale_within": np.geomspace(0.5, 0.02, sum(assignment.n_within)),
    }


def around(rng, sites, leading, size=0.1):
    """Draws scattered around the sites, in proportion to what they are."""
    return {name: value * np.exp(size * rng.standard_normal((*leading, *value.shape))) for name, value in sites.items()}


def scramble(rng, assignment):
    """A function that changes order and signs of the latents of one draw, by the definition of every site."""
    k, first = assignment.n_across, np.cumsum([0, *assignment.n_within])
    order, signs = rng.permutation(k), rng.choice([-1.0, 1.0], k)
    inside = [(rng.permutation(w), rng.choice([-1.0, 1.0], w)) for w in assignment.n_within]

    def changed(sites):
        new = {name: value.copy() for name, value in sites.items()}
        for name in {"delay", "delay_spread", "timescale_across", "frequency_across"} & new.keys():
            new[name] = new[name][..., order]
        if "delay_change" in new:
            new["delay_change"] = new["delay_change"][:, order]
        for r, (within, flips) in enumerate(inside):
            rows, columns = assignment.region_of_neuron == r, k + np.arange(len(within))
            if "loadings" in new:
                new["loadings"][rows, :k] = sites["loadings"][rows][:, order] * signs
                new["loadings"][np.ix_(rows, columns)] = sites["loadings"][rows][:, k + within] * flips
            if "alpha" in new:
                new["alpha"][r, :k] = sites["alpha"][r, order]
                new["alpha"][r, columns] = sites["alpha"][r, k + within]
            new["timescale_within"][first[r] : first[r + 1]] = sites["timescale_within"][first[r] + within]
        return new

    return changed


def one_by_one(changes, draws):
    """Draws (draw, ...), each changed in its own way."""
    each = [change({name: value[i] for name, value in draws.items()}) for i, change in enumerate(changes)]
    return {name: np.stack([draw[name] for draw in each]) for name in draws}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("with_loadings", [True, False])
def test_order_and_signs_of_every_draw_are_undone(rng, assignment, with_loadings):
    center = some_sites(rng, assignment)
    if not with_loadings:
        center = {name: value for name, value in center.items() if name not in INTEGRATED}
    draws = around(rng, center, (40,))
    changes = [scramble(rng, assignment) for _ in range(40)]
    scrambled = one_by_one(changes, draws)
    assert_same(align_draws(scrambled, assignment, center), draws)
    assert_same(align_draws(scrambled, assignment), one_by_one([changes[-1]] * 40, draws))
    chains = {name: value.reshape(2, 20, *value.shape[1:]) for name, value in scrambled.items()}
    as_in_first_chain = one_by_one([changes[19]] * 40, draws)
    expected = {name: value.reshape(2, 20, *value.shape[1:]) for name, value in as_in_first_chain.items()}
    assert_same(align_draws(chains, assignment), expected)


def test_what_is_undone_changes_no_likelihood(rng):
    made = simulate(regions={"A": 4, "B": 3, "C": 3}, n_within=(2, 0, 1), n_trials=2, n_bins=8)
    model = ADM(2, (2, 0, 1), likelihood="dense", max_delay=0.2, kernel=mrgp.Matern12())
    modes = model.delays.modes(model.tables.extent(made.data.layout, 8)).shape[-1]
    assignment = model.assignment(made.data.layout)
    sites = {n: value for n, value in some_sites(rng, assignment).items() if n not in ("alpha", "frequency_across")}
    sites |= {"offset": rng.standard_normal(10), "delay_change": rng.standard_normal((2, 2, modes))}
    changed = scramble(rng, assignment)(sites)
    assert np.abs(changed["loadings"] - sites["loadings"]).max() > 0.1
    assert_same(align_draws(changed, assignment, sites), sites)
    before, after = (model.log_likelihood(made.data, each) for each in (sites, changed))
    np.testing.assert_allclose(after, before, rtol=1e-10)


def test_chains_of_opposite_signs_agree_once_aligned(rng):
    assignment = CASES["three_regions"]
    center = some_sites(rng, assignment)
    used = np.where(assignment.used, 1.0, np.nan)
    draws = {"loadings": center["loadings"] + 0.1 * rng.standard_normal((2, 500, *center["loadings"].shape))}
    draws["loadings"][1] *= -1

    def worst(sites):
        tree = arviz.from_dict({"posterior": {"loadings": sites["loadings"] * used}})
        return float(arviz.rhat(tree)["loadings"].max())

    assert worst(draws) > 1.5
    # Split R-hat of four halves of 250 independent draws is 1.002, give or take 0.002.
    assert worst(align_draws(draws, assignment)) < 1.05


def test_columns_that_look_alike_are_told_apart_by_their_timescales(rng):
    assignment = CASES["one_region"]
    column = rng.standard_normal(8)
    draws = {
        "loadings": column[:, None] * rng.uniform(1, 2, (50, 1, 3)),
        "timescale_across": rng.permuted(np.tile([0.02, 0.1, 0.5], (50, 1)), axis=1),
    }
    found = align_draws(draws, assignment)["timescale_across"]
    np.testing.assert_array_equal(found, np.tile(draws["timescale_across"][-1], (50, 1)))


def test_transitions_follow_their_states(rng):
    assignment = CASES["one_region"]
    C, A, m, S = (rng.standard_normal(shape) for shape in [(8, 3), (3, 3), 3, (3, 3)])
    P = np.eye(3)[[2, 0, 1]] * [1, -1, -1]
    turned = {"loadings": C @ P.T, "transition": P @ A @ P.T, "start_mean": P @ m, "start_root": P @ S}
    sites = {"loadings": C, "transition": A, "start_mean": m, "start_root": S}
    assert_same(align_draws(turned, assignment, sites), sites)


def test_other_sites_pass_and_nothing_is_changed_in_place(rng):
    assignment = CASES["three_regions"]
    draws = {"mine": rng.standard_normal((9, 3)), "noise": rng.random((9, 21)), "energy": rng.random(9)}
    assert_same(align_draws(draws, assignment), draws)
    assert_same(align_draws(draws, assignment, {}), draws)
    sites = some_sites(rng, assignment)
    unseen = {"alpha": rng.random((9, *sites["alpha"].shape)), "timescale_across": rng.random((9, 3))}
    assert_same(align_draws(unseen, assignment, {"loadings": sites["loadings"]}), unseen)
    draws |= {"loadings": (sites["loadings"] * rng.choice([-1, 1], (9, 1, 1))).astype(np.float32)}
    before = {name: value.copy() for name, value in draws.items()}
    aligned = align_draws(draws, assignment, sites)
    assert_same(draws, before)
    assert aligned["loadings"].dtype == np.float32
    assert_same({name: aligned[name] for name in ("mine", "noise", "energy")}, {n: draws[n] for n in list(draws)[:3]})
    np.testing.assert_allclose(aligned["loadings"] * assignment.used, [sites["loadings"] * assignment.used] * 9, 1e-6)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("delay", (5, 2, 3)), ("timescale_across", (4, 2)), ("delay_change", (4, 2, 3)), ("alpha", (3, 4)), ("own", (5,))],
)
def test_site_of_another_shape_is_named(name, shape):
    draws = {"loadings": np.ones((4, 21, 5)), name: np.ones(shape)}
    with pytest.raises(ValueError, match=f"site {name} has shape"):
        align_draws(draws, CASES["three_regions"])


def test_reference_of_another_model_and_holes_are_refused(rng):
    draws = {"loadings": rng.standard_normal((4, 21, 5))}
    with pytest.raises(ValueError, match="site loadings of the reference has shape"):
        align_draws(draws, CASES["three_regions"], {"loadings": np.ones((21, 4))})
    draws["loadings"][1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        align_draws(draws, CASES["three_regions"])


@pytest.mark.parametrize("shape", [None, "sine"])
def test_draws_are_put_in_the_order_of_a_simulation(rng, shape):
    made = simulate(regions={"A": 6, "B": 5}, n_across=2, n_within=(2, 0), n_trials=2, n_bins=10, delay_shape=shape)
    truth, assignment = sites_of_truth(made.truth), LatentLayout((6, 5), 2, (2, 0))
    assert truth["delay"].shape == (1, 2)
    draws = around(rng, truth, (10,))
    changes = [scramble(rng, assignment) for _ in range(10)]
    assert_same(align_draws(one_by_one(changes, draws), assignment, truth), draws)
    white = simulate(regions={"A": 6, "B": 5}, n_trials=2, n_bins=10, kernel=mrgp.White())
    assert sites_of_truth(white.truth).keys() == {"loadings", "noise", "offset", "delay"}


def test_fits_of_several_seeds_are_aligned(rng):
    assignment = CASES["three_regions"]
    sites = some_sites(rng, assignment)
    fits = [SimpleNamespace(sites=scramble(rng, assignment)(sites), assignment=assignment) for _ in range(3)]
    for aligned in align_fits(fits, reference=1):
        assert_same(aligned, fits[1].sites)
    other = SimpleNamespace(sites=sites, assignment=CASES["one_across"])
    with pytest.raises(ValueError, match="fit 1 has LatentLayout"):
        align_fits([fits[0], other])


def test_delays_are_measured_from_any_region(rng):
    dims = ("draw", "region", "across_latent", "time")
    coords = {"region": ["A", "B", "C"], "time": [0.0, 0.1]}
    delays = xr.DataArray(rng.standard_normal((4, 3, 2, 2)), coords, dims, "delay", {"units": "s"})
    behind = relative_to(delays, "B")
    np.testing.assert_allclose(behind, delays.values - delays.values[:, 1:2])
    assert (behind.dims, behind.name, behind.attrs) == (dims, "delay", {"units": "s"})
    xr.testing.assert_allclose(relative_to(behind, "A"), relative_to(delays, "A"))
    with pytest.raises(ValueError, match="'D' is no region: choose from A, B, C"):
        relative_to(delays, "D")
