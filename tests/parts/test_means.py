"""Means that vary over the trial: modes, likelihood, conditions, fits."""

import warnings
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from mrgp.models import ADM, DLAG, FA, GFA, GPFA, LDS, MDLAG
from scipy.stats import multivariate_normal

import mrgp
from mrgp.inference import search
from mrgp.inference.adaptation import begin
from mrgp.inference.density import free_sites
from mrgp.inference.driver import Driver
from mrgp.inference.optimise import Ascent
from mrgp.inference.run import Options
from mrgp.parts.around_shared import AroundShared
from mrgp.parts.emissions.autocorrelated import noise_timescale_of
from mrgp.parts.emissions.beginning import Beginning
from mrgp.parts.emissions.gaussian import Gaussian
from mrgp.parts.means import GRID_OF_SPREADS, PSTH, averages_of_conditions, likely_spreads
from mrgp.parts.modes import rough_modes, weights_of_modes
from mrgp.results import arviz as arviz_tree
from mrgp.simulations.simulate import simulate

BIN = 0.02
N_BINS = 20


def matern32(n_bins, timescale):
    lag = np.sqrt(3) * np.abs(np.arange(n_bins)[:, None] - np.arange(n_bins)) / timescale
    return (1 + lag) * np.exp(-lag)


def test_modes_are_those_of_a_matern_process():
    modes = rough_modes(30, 2.5)
    # Modes below a thousandth of the first are left out: thirty of them at most.
    np.testing.assert_allclose(modes @ modes.T, matern32(30, 2.5), atol=30 * 1e-3 * (modes[:, 0] ** 2).sum())
    assert np.all(np.diff((modes**2).sum(0)) < 0)


def test_weights_are_those_of_gaussian_process_regression():
    rng = np.random.default_rng(0)
    modes, course = rough_modes(25, 3.0), rng.standard_normal((2, 25))
    precision = rng.uniform(0.5, 4.0, (2, 25)) * (rng.random((2, 25)) < 0.8)
    K = modes @ modes.T
    for got, y, h in zip(weights_of_modes(modes, course, precision) @ modes.T, course, precision, strict=True):
        seen = h > 0
        expected = K[:, seen] @ np.linalg.solve(K[np.ix_(seen, seen)] + np.diag(1 / h[seen]), y[seen])
        np.testing.assert_allclose(got, expected, atol=1e-10)


@pytest.mark.parametrize("kind", ["dense", pytest.param("markov", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "missing_kind",
    [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("complete", "holes", "ragged")), "ragged_holes"],
    indirect=True,
)
def test_a_course_moves_what_is_expected(small_model, missing_data, missing_kind, kind):
    """The density of y under a course is that of y - course without one, entry by entry."""
    model, rng = small_model(), np.random.default_rng(1)
    mask, missing = missing_data(missing_kind, 6, 7, 5)
    course, condition = rng.standard_normal((2, 7, 5)), np.array([0, 1, 1, 0, 1, 0])
    y = rng.standard_normal((6, 7, 5)) * mask
    plain = getattr(model, kind)(missing=missing)
    moved = getattr(model, kind)(missing=missing, course=jnp.asarray(course), condition=jnp.asarray(condition))
    score = jax.jit(lambda distribution, y: distribution.log_prob(y))
    expected = score(plain, jnp.asarray((y - course[condition]) * mask))
    np.testing.assert_allclose(score(moved, jnp.asarray(y)), expected, atol=1e-9)
    if missing is not None:
        np.testing.assert_allclose(moved.mean - plain.mean, course[condition], atol=1e-12)
        draws = [np.asarray(d.sample(jax.random.key(0))) for d in (plain, moved)]
        np.testing.assert_allclose(draws[1] - draws[0], course[condition], atol=1e-12)


def test_a_course_has_a_time_for_every_bin(small_model):
    with pytest.raises(ValueError, match=r"course has shape \(3, 5\), but this model needs \(7, 5\)"):
        small_model().dense(course=jnp.zeros((1, 3, 5)))


# --- conditions of a recording


def recording(conditions=("left", "right"), seed=0):
    """A simulation whose neurons respond to two conditions; the responses are returned too."""
    made = simulate(
        regions={"V1": 5, "V2": 4}, n_across=1, n_within=0, n_trials=40, n_bins=N_BINS, bin_width=BIN,
        timescale_across=0.08, delay=np.array([[0.0], [0.02]]), snr=1.0, seed=seed,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    labels = np.resize(conditions, 40)
    smooth = np.exp(-0.5 * ((np.arange(N_BINS) - rng.uniform(4, 15, (2, 9, 1))) / 2.0) ** 2)
    course = np.swapaxes(2 * made.data.scale[:, None] * rng.choice([-1, 1], (2, 9, 1)) * smooth, 1, 2)
    values = made.data.values + course[np.arange(40) % 2]
    regions = {"V1": values[..., :5], "V2": values[..., 5:]}
    return mrgp.MultiRegionData(regions, BIN, trial_coords={"condition": labels}), course


def test_conditions_are_labels_in_order():
    data, _ = recording(("b", "a"))
    assert data.layout.conditions == ("a", "b")
    assert data.condition.tolist() == [1, 0] * 20
    some = data.select_trials([1, 3])
    assert (some.layout.conditions, some.condition.tolist()) == (("a", "b"), [0, 0])
    again = mrgp.MultiRegionData.from_xarray(data.to_xarray())
    assert again.layout == data.layout
    np.testing.assert_array_equal(again.condition, data.condition)
    alone = mrgp.MultiRegionData({"V1": data.region("V1")[1::2]}, BIN, trial_coords={"condition": ["a"] * 20})
    assert alone.among(("a", "b")).condition.tolist() == [0] * 20
    with pytest.raises(mrgp.DataError, match="condition b is not one of a, c: leave its trials out"):
        data.among(("a", "c"))
    with pytest.raises(mrgp.DataError, match=r"trials need a condition \(a, b\)"):
        mrgp.MultiRegionData({"V1": data.region("V1")}, BIN).among(("a", "b"))


def test_conditions_of_earlier_files_have_six_digits():
    """Files had numbers rounded so: their fits take the recording that they are of, wherever it can be no other."""
    data, _ = recording((1 / 3, 2 / 3))
    earlier = ("0.333333", "0.5", "0.666667")
    same = data.among(earlier)
    assert (same.layout.conditions, same.condition.tolist()) == (earlier, [0, 2] * 20)
    assert same.select_trials([1, 2]).condition.tolist() == [2, 0]
    assert same.trial_fingerprints == data.trial_fingerprints
    whole = recording((1234567.0, 2.0))[0].among(("1.23457e+06", "2"))
    assert whole.condition.tolist() == [0, 1] * 20
    close, _ = recording((0.3333333, 0.3333334))
    with pytest.raises(mrgp.DataError, match=r"condition 0.3333333 is not one of 0.333333, 0.666667: leave its trials"):
        close.among(("0.333333", "0.666667"))
    with pytest.raises(mrgp.DataError, match=r"condition left is not one of 0.333333, 2: leave its trials out"):
        recording(("left", 1 / 3))[0].among(("0.333333", "2"))


def test_hidden_neurons_keep_their_place():
    data, course = recording()
    hidden = data.without({"V2": [0, 2]})
    assert hidden.layout == data.layout
    assert np.isnan(hidden.region("V2")[:, :, [0, 2]]).all()
    np.testing.assert_array_equal(hidden.region("V1"), data.region("V1"))
    np.testing.assert_array_equal(hidden.region("V2")[:, :, [1, 3]], data.region("V2")[:, :, [1, 3]])
    less = data.less(course)
    np.testing.assert_allclose(less.values, data.values - course[data.condition], atol=1e-12)


# --- a start


def with_gaps(data):
    """Entries, a bin of one neuron in all trials, all of it in one condition, and ends of trials are missing."""
    values = np.where(np.random.default_rng(3).random(data.values.shape) < 0.1, np.nan, data.values)
    values[:, 4, 2] = values[::2, :, 5] = values[6, 12:] = np.nan
    return data.with_values(values)


@pytest.mark.parametrize("gaps", [False, True])
def test_a_start_of_the_mean_is_found_as_if_neuron_by_neuron(gaps):
    """Regression of each neuron's average on the modes, with noise of all its variance; then that of each condition."""
    data, _ = recording()
    data = with_gaps(data) if gaps else data
    model = DLAG(1, 0, mean="psth").prepared(data)
    spread = np.random.default_rng(4).uniform(0.1, 0.8, (2, 9)) * data.scale
    modes = model.mean.modes(data, model.duration)
    found = model.emission.beginning.first_course(data, modes, spread)

    def regressed(trials, around, sd):
        count = (~np.isnan(trials)).sum(0)
        excess = np.nansum(trials, 0) / np.maximum(count, 1) - around * (count > 0)
        told = (count / data.scale[neuron] ** 2)[:, None] * modes
        return np.linalg.solve(told.T @ modes + np.eye(modes.shape[1]) / sd**2, told.T @ excess)

    for condition, neuron in np.ndindex(2, 9):
        every, level = data.with_nan()[:, :, neuron], np.full(20, data.center[neuron])
        shared = regressed(every, level, spread[0, neuron])
        own = regressed(every[data.condition == condition], level + modes @ shared, spread[1, neuron])
        np.testing.assert_allclose(found[condition, neuron], shared + own, atol=1e-10)


def test_courses_of_conditions_share_a_course_a_priori():
    """Against a dense Gaussian over conditions, element by element; and draws have its covariance."""
    rng = np.random.default_rng(0)
    shared, own = rng.uniform(0.2, 2, (3, 2)), rng.uniform(0.2, 2, (3, 1))
    prior = AroundShared(shared, own, 4)
    values = np.asarray(prior.sample(jax.random.key(0), (5,)))
    assert values.shape == (5, 4, 3, 2)
    expected = np.zeros(5)
    for i, j in np.ndindex(3, 2):
        covariance = shared[i, j] ** 2 + own[i, 0] ** 2 * np.eye(4)
        expected += multivariate_normal(np.zeros(4), covariance).logpdf(values[:, :, i, j])
    np.testing.assert_allclose(prior.log_prob(values), expected, rtol=1e-12)
    np.testing.assert_allclose(prior.log_prob(values[0]), expected[0], rtol=1e-12)
    many = np.asarray(prior.sample(jax.random.key(1), (50_000,)))[:, :, 0, 0]
    np.testing.assert_allclose(np.cov(many.T), shared[0, 0] ** 2 + own[0, 0] ** 2 * np.eye(4), rtol=0.05)


def drawn_means(spread, n_trials, noise=1.0, seed=0):
    """Trials of 8 conditions around courses of such spreads, (2, neuron): excess, conditions, modes."""
    rng = np.random.default_rng(seed)
    modes, condition = rough_modes(20, 2.5), np.arange(n_trials) % 8
    shared, own = (sd[:, None] * rng.standard_normal((8, len(sd), modes.shape[1])) for sd in spread)
    course = np.einsum("tm,cnm->ctn", modes, shared[:1] + own)
    return course[condition] + noise * rng.standard_normal((n_trials, 20, spread.shape[1])), condition, modes


def spreads_of(excess, mask, condition, modes, least=1e-6):
    """Likely spreads of neurons in their own unit, from averages of their trials."""
    size, one = (modes**2).sum(0), np.ones(excess.shape[-1])
    averages = averages_of_conditions(excess * mask, mask, condition, modes / np.sqrt(size), 0 * one, one)
    return likely_spreads(averages, size, least * one)


def test_averages_of_conditions_by_hand():
    """Projections of averages, and the variance of trials around them; that of modes around is twenty trials more."""
    excess, condition, modes = drawn_means(np.full((2, 4), 0.3), 24)
    along = modes / np.sqrt((modes**2).sum(0))
    center, unit = np.array([0.1, -0.2, 0.0, 3.0]), np.array([1.0, 2.0, 0.5, 1.0])
    found = averages_of_conditions(excess, np.ones(excess.shape, bool), condition, along, center, unit)
    told = np.einsum("btn,tm->bmn", (excess - center) / unit, along)
    means = np.stack([told[condition == c].mean(0) for c in range(8)])
    np.testing.assert_allclose(found.mean, means, atol=1e-12)
    np.testing.assert_array_equal(found.trials, 3.0)
    alone = ((told - means[condition]) ** 2).sum(0) / (24 - 8)
    padded = np.pad(alone, [(4, 4), (0, 0)], "edge")
    around = np.stack([padded[m : m + 9].mean(0) for m in range(len(alone))])
    np.testing.assert_allclose(found.noise, (16 * alone + 20 * around) / 36, rtol=1e-12)


@pytest.mark.slow
def test_spreads_of_means_have_the_highest_evidence():
    """The mixture's weights solve its own equation, with dense evidences of every grid point."""
    excess, condition, modes = drawn_means(np.full((2, 4), 0.3), 24)
    size, grid = (modes**2).sum(0), [(a, b) for a in GRID_OF_SPREADS for b in GRID_OF_SPREADS]
    one, everything = np.ones(4), np.ones(excess.shape, bool)
    averages = averages_of_conditions(excess, everything, condition, modes / np.sqrt(size), 0 * one, one)
    found = likely_spreads(averages, size, 1e-6 * one)
    evidence = np.zeros((len(grid), 4))
    for (k, (a, b)), m, n in product(enumerate(grid), range(len(size)), range(4)):
        covariance = size[m] * (a**2 + b**2 * np.eye(8)) + averages.noise[m, n] / 3 * np.eye(8)
        evidence[k, n] += multivariate_normal(np.zeros(8), covariance).logpdf(averages.mean[:, m, n])
    likely = np.exp(evidence - evidence.max(0))
    share = np.full((len(grid), 1), 1.0)
    for _ in range(100):
        belongs = share * likely / (share * likely).sum(0)
        share = belongs.mean(1, keepdims=True)
    np.testing.assert_allclose(found, np.sqrt(np.einsum("gn,gk->kn", belongs, np.square(grid))), rtol=1e-8)


def test_spreads_of_means_are_found():
    """Neurons of three kinds: still, alike in all conditions, and different in each."""
    truth = np.repeat([[0.0, 0.6, 0.1], [0.0, 0.0, 0.5]], 30, axis=1)
    excess, condition, modes = drawn_means(truth, 80)
    rng = np.random.default_rng(1)
    latent = rough_modes(20, 4.0) @ rng.standard_normal((rough_modes(20, 4.0).shape[1], 80))
    excess += 0.5 * latent.T[..., None]  # what single trials add to every neuron is no mean
    mask = rng.random(excess.shape) < 0.95
    shared, own = spreads_of(excess, mask, condition, modes)
    for found, expected in ((shared, truth[0]), (own, truth[1])):
        for kind in range(3):
            here = slice(30 * kind, 30 * kind + 30)
            assert np.median(found[here]) == pytest.approx(max(expected[here][0], 0.06), abs=0.12), kind
    alone, none = spreads_of(excess, mask, np.zeros(80, int), modes)
    assert np.isnan(none).all()  # a single condition says nothing of differences
    assert np.median(alone[30:60]) > 0.4 > 0.2 > np.median(alone[:30])


@pytest.mark.parametrize(
    ("n_trials", "n_conditions", "seen"), [(100, 1, 0.2), (100, 4, 0.5), (100, 4, 0.1), (16, 8, 1), (8, 2, 1)]
)
def test_noise_is_no_mean(n_trials, n_conditions, seen):
    """Also where neurons are there in few trials, whole or in part, or where there are few trials."""
    rng = np.random.default_rng(2)
    noise, condition = rng.standard_normal((n_trials, 40, 30)), np.arange(n_trials) % n_conditions
    mask = np.ones(noise.shape, bool)
    mask[..., :15] = (rng.random((n_trials, 1, 15)) < seen)
    mask[..., 15:] = rng.random((n_trials, 40, 15)) < seen
    found = spreads_of(noise, mask, condition, rough_modes(40, 2.5))
    assert np.isfinite(found[0]).mean() > 0.3
    assert np.nanmedian(found[0]) < 0.12
    assert n_conditions == 1 or np.nanmedian(found[1]) < 0.18


def test_spreads_of_means_are_usual_where_nothing_tells_them():
    """With one trial of each condition its noise cannot be told from its mean."""
    data, _ = recording()
    model = DLAG(1, 0, mean="psth").prepared(data)
    few = data.select_trials(slice(0, 6))
    spread = model.mean.likely_spread(few, model.emission, model.duration)
    np.testing.assert_array_equal(spread, 0.5 * np.tile(few.scale, (2, 1)))
    alone = mrgp.MultiRegionData({"V1": data.region("V1")[:1], "V2": data.region("V2")[:1]}, BIN)
    spread = model.mean.likely_spread(alone, model.emission, model.duration)
    np.testing.assert_array_equal(spread, 0.5 * alone.scale[None])


@pytest.mark.slow
def test_trials_of_one_of_the_conditions_say_nothing_of_the_others():
    data, _ = recording()
    left = data.select_trials(slice(0, None, 2))
    assert left.layout.n_conditions == 2
    spread = PSTH().likely_spread(left, Gaussian(), None)
    np.testing.assert_array_equal(spread[1], 0.5 * left.scale)
    assert (spread[0] > 0).all()
    fit = FA(1, mean="psth").fit(left, progress=False, n_starts=1)
    assert fit.converged


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ADM, MDLAG])
def test_climbs_hold_spreads_of_means(kind):
    """A joint maximum would make them zero, at no end of density."""
    data, _ = recording()
    settings = {"shape": 1.0, "rate": 1.0} if kind is MDLAG else {}
    model = kind(1, mean="psth", likelihood="dense", max_delay=0.06, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit(data, "map", progress=False, n_starts=1, max_iterations=3)
    likely = fit.model.mean.likely_spread(data, fit.model.emission, fit.model.duration)
    np.testing.assert_array_equal(fit.sites["mean_spread"], likely)
    assert "mean_spread" in fit.model.held


@pytest.mark.slow
def test_draws_of_the_prior_have_the_spreads_of_the_fit(fitted):
    _, _, fit = fitted
    drawn = arviz_tree._prior(fit, fit.data, ["mean_change"], 200, 0)["mean_change"]
    spread = np.sqrt((fit.sites["mean_spread"] ** 2).sum(0))
    np.testing.assert_allclose(drawn.std((0, 1, 3)), spread, rtol=0.15)


def test_the_mean_is_guessed_once_per_start(monkeypatch):
    data, _ = recording()
    model, guesses = DLAG(1, 0, mean="psth", noise="ar1", likelihood="dense", max_delay=0.1), []
    guess = Beginning.first_course
    monkeypatch.setattr(Beginning, "first_course", lambda *known: guesses.append(guess(*known)) or guesses[-1])
    monkeypatch.setattr(search, "_climb", lambda model, compressed, begin, *_: Ascent(begin, 0.0))
    options = Options(0, 1, 0.01, 1, None, False)
    sites = begin(Driver(mrgp.MAP(), model, data, options)).sites
    assert len(guesses) == 1
    np.testing.assert_array_equal(sites["mean_change"], guesses[0])
    rest = data.less(np.einsum("tm,cnm->ctn", model.prepared(data).mean.modes(data, None), guesses[0]))
    np.testing.assert_array_equal(sites["noise_timescale"], noise_timescale_of(rest, model.assignment(data.layout)))


# --- fits


@pytest.fixture(scope="module")
def fitted():
    data, course = recording()
    model = DLAG(1, 0, mean="psth", likelihood="dense", max_delay=0.1)
    return data, course, model.fit(data, progress=False, n_starts=3)


@pytest.mark.slow
def test_responses_are_found_and_not_taken_for_latents(fitted):
    """Means are known to about the sd of noise and latents by sqrt(20 trials); latents are those without responses."""
    data, course, fit = fitted
    assert fit.converged
    found = np.concatenate([fit.mean["V1"].values, fit.mean["V2"].values], -1)
    wrong = (found - found.mean((0, 1))) - (course - course.mean((0, 1)))
    spread = np.sqrt((fit.sites["noise"] + (fit.sites["loadings"] ** 2).sum(1)) / 20)
    assert np.sqrt((wrong**2).mean((0, 1)) / spread**2).max() < 1.3
    bare = fit.model.replace(mean="constant").fit(data.less(course), progress=False, n_starts=3)
    widths = fit.delay_intervals().sd.values[1:]
    np.testing.assert_array_less(np.abs(fit.delays.values[1:] - bare.delays.values[1:]), 1.5 * widths)
    constant = fit.model.replace(mean="constant").fit(data, progress=False, n_starts=3)
    assert float(fit.log_likelihood().sum()) > float(constant.log_likelihood().sum()) + 200


@pytest.mark.slow
def test_the_mean_is_at_its_maximum_given_the_rest(fitted):
    """A step of any mode of any neuron loses: gradient 0 to what the climb's tolerance leaves."""
    data, _, fit = fitted
    scale = fit.model.fitting.scales(data, fit.sites)["mean_change"]
    shared, own = fit.sites["mean_spread"][..., None]

    def joint(change):
        sites = {**fit.sites, "mean_change": change}
        prior = AroundShared(jnp.broadcast_to(shared, change.shape[1:]), own, 2)
        return fit.model.likelihood_at(data, sites).log_prob(data.values).sum() + prior.log_prob(change)

    slope = scale * np.asarray(jax.grad(joint)(jnp.asarray(fit.sites["mean_change"])))
    assert np.abs(slope).max() < 0.1


@pytest.mark.slow
def test_a_fit_with_a_mean_survives_saving_and_other_trials(fitted, tmp_path):
    data, _, fit = fitted
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.log_likelihood(data), fit.log_likelihood())
    np.testing.assert_array_equal(again.mean["V2"], fit.mean["V2"])
    assert list(again.mean["V1"]["condition"].values) == ["left", "right"]
    right = data.select_trials(slice(1, None, 2))
    np.testing.assert_allclose(again.log_likelihood(right), fit.log_likelihood()[1::2], atol=1e-9)
    alone = {name: right.region(name) for name in ("V1", "V2")}
    labelled = mrgp.MultiRegionData(alone, BIN, trial_coords={"condition": ["right"] * 20})
    np.testing.assert_allclose(again.log_likelihood(labelled), fit.log_likelihood()[1::2], atol=1e-9)
    with pytest.raises(mrgp.DataError, match="trials need a condition"):
        again.log_likelihood(mrgp.MultiRegionData(alone, BIN))
    short = {name: array[:, :12] for name, array in alone.items()}
    cut = mrgp.MultiRegionData(short, BIN, trial_coords={"condition": ["right"] * 20})
    padded = {name: np.pad(array, [(0, 0), (0, 8), (0, 0)], constant_values=np.nan) for name, array in short.items()}
    ended = mrgp.MultiRegionData(padded, BIN, trial_coords={"condition": ["right"] * 20})
    np.testing.assert_allclose(again.log_likelihood(cut), again.log_likelihood(ended), atol=1e-8)
    long = {name: np.repeat(array, 2, axis=1) for name, array in alone.items()}
    with pytest.raises(mrgp.DataError, match="trials have 40 bins, but the mean was fitted to 20"):
        again.log_likelihood(mrgp.MultiRegionData(long, BIN, trial_coords={"condition": ["right"] * 20}))


@pytest.mark.slow
def test_a_file_of_before_spreads_were_sites_is_read(fitted, tmp_path):
    data, _, fit = fitted
    fit.save(tmp_path / "fit.nc")
    stored = xr.load_dataset(tmp_path / "fit.nc", engine="h5netcdf")
    stored.drop_vars("mean_spread").to_netcdf(tmp_path / "earlier.nc", engine="h5netcdf")
    again = mrgp.load_fit(tmp_path / "earlier.nc")
    np.testing.assert_array_equal(again.log_likelihood(data), fit.log_likelihood())
    np.testing.assert_allclose(again.sites["mean_spread"][1], 0.5 * data.scale, rtol=0.35)
    assert (again.sites["mean_spread"][0] < 2e-3 * data.scale).all()
    fresh = again.delay_intervals(data=data)
    np.testing.assert_allclose(fresh["sd"], fit.delay_intervals()["sd"], rtol=0.1)


@pytest.mark.slow
def test_prediction_of_a_hidden_neuron_follows_its_response(fitted):
    data, _, fit = fitted
    predicted = fit.predict(data.without({"V1": [2]}))["V1_mean"].values[:, :, 2]
    left = 1 - np.var(data.region("V1")[:, :, 2] - predicted) / np.var(data.region("V1")[:, :, 2])
    alone = fit.mean["V1"].values[data.condition, :, 2]
    only = 1 - np.var(data.region("V1")[:, :, 2] - alone) / np.var(data.region("V1")[:, :, 2])
    assert left > only > 0.2


@pytest.mark.slow  # that they climb is in the contracts
@pytest.mark.parametrize("model", [GPFA(1, mean="psth"), MDLAG(1, mean="psth", likelihood="dense", max_delay=0.1)])
def test_other_presets_have_means_too(model):
    data, course = recording(seed=1)
    fit = model.fit(data.select_trials(slice(0, 24)), progress=False, n_starts=2, max_iterations=150)
    found = np.concatenate([fit.mean["V1"].values, fit.mean["V2"].values], -1)
    assert np.corrcoef((found - found.mean((0, 1))).ravel(), (course - course.mean((0, 1))).ravel())[0, 1] > 0.9
    gains = np.diff(fit.trace)
    assert gains.min() > -1e-6 * np.abs(fit.trace).max()


def test_wrong_use_of_means():
    data, _ = recording()
    with pytest.raises(ValueError, match="mean is 'constant' or 'psth', not 'smooth'"):
        DLAG(1, 0, mean="smooth")
    with pytest.raises(ValueError, match="mean_timescale is a positive number of seconds"):
        DLAG(1, 0, mean="psth", mean_timescale=0.0)
    with pytest.raises(ValueError, match="method 'em' has no update for mean='psth'"):
        LDS(1, mean="psth").fit(data, "em", progress=False)


# --- every preset, with every mean and noise


CONTRACT = [
    pytest.param(LDS, {"n_across": 1, "mean": "psth"}, marks=pytest.mark.slow),
    pytest.param(FA, {"n_across": 1, "mean": "psth"}, marks=pytest.mark.slow),
    pytest.param(GFA, {"n_across": 1, "mean": "psth"}, marks=pytest.mark.slow),
    pytest.param(
        ADM, {"n_across": 1, "n_within": 0, "mean": "psth", "noise": "ar1", "likelihood": "dense", "max_delay": 0.06},
        marks=pytest.mark.slow,
    ),
    pytest.param(GPFA, {"n_across": 1, "mean": "psth", "noise": "ar1"}, marks=pytest.mark.slow),
]


@pytest.mark.filterwarnings("ignore:the fit has not converged", "ignore:.* has no delays or timescales to draw")
@pytest.mark.parametrize(("preset", "choices"), CONTRACT)
def test_what_a_fit_with_means_must_do(tmp_path, preset, choices):
    """From a fit to a sample, its score, a file, an ArviZ tree and the error of its state space."""
    data, _ = recording()
    data = data.select_trials(slice(0, 12))
    fit = preset(**choices).fit(data, progress=False, n_starts=1, max_iterations=15)
    made = fit.sample(6, N_BINS, seed=1, conditions=["right", "left"] * 3)
    assert made.trial_coords["condition"].tolist() == ["right", "left"] * 3
    assert np.isfinite(fit.log_likelihood(made)).all()
    assert not fit.has_seen(made).any()
    assert fit.has_seen(mrgp.standardize(data)).all()
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_allclose(again.log_likelihood(made), fit.log_likelihood(made), atol=1e-9)
    assert fit.lift_error(30) > -1e-12  # it is 0, but for rounding, where the state space is the model itself
    if preset is GPFA:
        tree = fit.to_arviz(n_draws=4)
        assert "timescale_across" in tree["posterior"]


@pytest.mark.slow
def test_noise_of_every_region_is_in_the_tree():
    data, _ = recording()
    model = DLAG(1, 0, noise="ar1", likelihood="dense", max_delay=0.06)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = model.fit(data, progress=False, n_starts=1, max_iterations=10)
        fit = model.fit(data, "laplace", start=start, progress=False, n_draws=20, max_iterations=50)
    posterior = fit.to_arviz(n_draws=20)["posterior"]
    assert posterior["noise_timescale"].sizes["region"] == 2
    assert list(posterior["delay"]["later_region"].values) == ["V2"]


@pytest.mark.slow
def test_scores_of_several_draws_of_a_recording(small_model):
    """A sample of shape (draws, trials) is scored trial by trial, each under its own condition."""
    course, condition = jnp.asarray(np.random.default_rng(2).standard_normal((2, 7, 5))), jnp.array([0, 1, 1])
    distribution = small_model().dense(n_trials=3, course=course, condition=condition)
    draws = distribution.sample(jax.random.key(0), (4,))
    expected = np.stack([distribution.log_prob(draw) for draw in draws])
    np.testing.assert_allclose(distribution.log_prob(draws), expected, atol=1e-9)


def test_labels_of_conditions():
    regions = {"V1": np.random.default_rng(0).standard_normal((3, 4, 2))}
    numbers = mrgp.MultiRegionData(regions, BIN, trial_coords={"condition": [2.0, 10.0, 2.0]})
    assert numbers.layout.conditions == ("10", "2")
    assert numbers.layout == mrgp.MultiRegionData(regions, BIN, trial_coords={"condition": [2, 10, 2]}).layout
    with pytest.raises(mrgp.DataError, match=r"trial 1 has no condition \(nan\): leave it out"):
        mrgp.MultiRegionData(regions, BIN, trial_coords={"condition": [1.0, np.nan, 2.0]})


@pytest.mark.parametrize("mean", ["constant", "psth"])
def test_a_start_of_shorter_trials_leaves_its_mean_behind(mean):
    data, _ = recording()
    short = mrgp.MultiRegionData(
        {name: data.region(name)[:, :9] for name in data.layout.regions}, BIN,
        trial_coords={name: list(values) for name, values in data.trial_coords.items()},
    )  # fmt: skip
    fitted = DLAG(1, 0, mean="psth").prepared(short)
    sites = {name: np.zeros(np.shape(site["value"])) for name, site in free_sites(fitted, short).items()}
    sites |= {"noise": data.scale**2, "timescale_across": np.array([0.1])}
    _, taken = DLAG(1, 0, mean=mean).prepared(data).fitting.from_other_fit(fitted, sites, data)
    assert ("mean_change" in taken) == (mean == "psth")
    assert mean == "constant" or taken["mean_change"].shape[-1] != sites["mean_change"].shape[-1]
