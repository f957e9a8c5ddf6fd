"""Fits of spike counts: recovery, predictions, saving, and what is refused."""

import warnings

import jax
import numpy as np
import pytest
from mrgp.models import DLAG, FA, GPFA, MDLAG
from numpyro import handlers
from scipy import special, stats
from scipy.special import gammaln, xlogy

import mrgp
from mrgp.cli.main import main
from mrgp.parts.emissions import Poisson
from mrgp.parts.emissions.beginning_of_counts import FUNCTIONS, course_start, from_gaussian, function_behind, slope_of
from mrgp.recordings.recording import Layout, stand_in

BIN, N_BINS, N_TRIALS = 0.02, 12, 80
LAYOUT = Layout(("V1", "V2"), (12, 10), BIN)
TRUTH = DLAG(1, 0, likelihood="dense", max_delay=0.1, emission="poisson")
DELAY = 0.03


def recording(seed=0):
    """Poisson counts of a mean near 1 with one shared latent, and the parameters."""
    rng = np.random.default_rng(seed)
    sites = {
        "loadings": 0.6 * rng.standard_normal((22, 1)), "offset": rng.normal(0.0, 0.4, 22),
        "delay": np.array([[DELAY]]), "timescale_across": np.array([0.06]),
    }  # fmt: skip
    y = np.asarray(TRUTH.likelihood_at(stand_in(LAYOUT, N_TRIALS, N_BINS), sites).sample(jax.random.key(seed)))
    return mrgp.MultiRegionData({"V1": y[..., :12], "V2": y[..., 12:]}, BIN), sites


@pytest.fixture(scope="module")
def fitted():
    data, truth = recording()
    return data, truth, TRUTH.replace(likelihood="markov").fit(data, progress=False, n_starts=2)


@pytest.mark.slow
def test_delays_timescales_and_loadings_are_recovered(fitted):
    """Delays within three posterior sds; loadings as Fisher's information of known latents says, but for their size.

    Their size is that of latents, which 80 trials of 4 timescales show to some 10%.
    """
    data, truth, fit = fitted
    assert fit.converged
    assert float(fit.log_likelihood().sum()) > float(fit.model.log_likelihood(data, truth).sum())
    known = fit.delay_intervals()
    assert abs(float(fit.delays[1, 0]) - DELAY) < 3 * float(known.sd[1, 0])
    assert float(known.sd[1, 0]) < 0.005
    assert abs(np.log(float(fit.timescales.across[0]) / 0.06)) < 0.25
    found, true = fit.sites["loadings"][:, 0], truth["loadings"][:, 0]
    size = (found @ true) / (true @ true)
    assert abs(abs(size) - 1) < 0.2
    scale = fit.model.fitting.scales(data, truth)["loadings"][:, 0]
    assert np.sqrt(np.mean(((found / size - true) / scale) ** 2)) < 1.5


@pytest.mark.slow
def test_posteriors_of_counts_agree(fitted):
    """Of the delay, all of the same bound: means within one sd, sds within a factor of 1.5; some 70 effective draws."""
    data, _, fit = fitted
    settings = {"laplace": {}, "svi": {"n_draws": 100}, "nuts": {"n_warmup": 150, "n_draws": 150, "n_chains": 1}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # chains are short
        fits = {name: fit.model.fit(data, name, start=fit, progress=False, **own) for name, own in settings.items()}
    draws = {name: one.draws(1000)["delay"].ravel() for name, one in fits.items()}
    wanted = draws.pop("laplace")
    for found in draws.values():
        assert abs(found.mean() - wanted.mean()) < wanted.std()
        assert 1 / 1.5 < found.std() / wanted.std() < 1.5


@pytest.mark.slow
def test_the_curvature_is_that_of_the_bound(fitted):
    """Of the log timescale given all else: second differences of the bound itself, without gradients."""
    data, _, fit = fitted
    held = {name: value for name, value in fit.sites.items() if name != "timescale_across"}
    again = fit.model.fit(data, start=fit, fixed=held, progress=False)
    sd = float(np.sqrt(again.curvature().covariance[0, 0]))
    prior = stats.lognorm(1.5, scale=0.1)

    def density(step):
        timescale = again.sites["timescale_across"] * np.exp(step * sd)
        sites = {**again.sites, "timescale_across": timescale}
        return float(fit.model.log_likelihood(data, sites).sum()) + prior.logpdf(timescale)[0]

    assert 2 * density(0) - density(1) - density(-1) == pytest.approx(1.0, rel=0.1)  # sd changes by a tenth over one sd


@pytest.mark.slow
def test_hidden_neurons_are_predicted(fitted):
    """Better than by their mean rate, and with an honest spread: standardised errors of variance 1, within 10%."""
    data, _, fit = fitted
    loudest = int(np.argmax(np.abs(fit.sites["loadings"][:12, 0])))
    found = fit.predict(data.without({"V1": [loudest]}))
    mean, sd = (found[f"V1_{what}"].values[..., loudest] for what in ("mean", "sd"))
    y = data.region("V1")[..., loudest]
    gained = stats.poisson.logpmf(y, mean).sum() - stats.poisson.logpmf(y, y.mean()).sum()
    assert gained / (y.sum() * np.log(2)) > 0.02
    assert ((y - mean) ** 2 / sd**2).mean() == pytest.approx(1.0, abs=0.1)
    assert mean.mean() == pytest.approx(y.mean(), rel=0.05)


@pytest.mark.slow
def test_latents_are_found_on_the_clock_of_the_first_region(fitted):
    data, _, fit = fitted
    found = fit.latents(data.select_trials(slice(0, 5)), refine=2)
    assert found.across_mean.shape == (5, 2 * N_BINS, 1)
    assert 0.05 < float(found.across_sd.min()) < float(found.across_sd.max()) < 1.0


@pytest.mark.slow
def test_a_fit_of_counts_is_saved_drawn_from_and_converted(fitted, tmp_path):
    data, _, fit = fitted
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.log_likelihood(data), fit.log_likelihood())
    drawn = again.sample(50, N_BINS, seed=1)
    np.testing.assert_array_equal(drawn.values, np.round(drawn.values))
    assert drawn.values.min() == 0
    np.testing.assert_allclose(drawn.center, data.center, atol=6 * data.scale.max() / np.sqrt(50 * 3))
    assert fit.shared_by().values.all()


@pytest.mark.slow
def test_arviz_and_the_error_of_the_state_space(fitted):
    data, _, fit = fitted
    some = data.select_trials(slice(0, 10))
    tree = fit.to_arviz(some, n_draws=3)
    assert tree["posterior"]["delay"].shape[:2] == (1, 3)
    assert "log_likelihood" not in tree.children
    assert fit.lift_error(10) < 0.1


def test_a_start_from_gaussian_values_is_in_log_rates():
    """Loadings of counts and of their roots become those of the log-rate, by the slope of each mean."""
    mean = np.array([0.05, 1.0, 30.0])
    counts = np.arange(200)
    step = 1e-5
    for function in FUNCTIONS.values():
        g = function(counts)
        ends = [(stats.poisson.pmf(counts, mean[:, None] * np.exp(s)) * g).sum(1) for s in (step, -step)]
        np.testing.assert_allclose(slope_of(function, mean), (ends[0] - ends[1]) / (2 * step), rtol=1e-6)
    data, truth = recording()
    rate = np.asarray(data.center)
    gaussian = {"loadings": truth["loadings"] * rate[:, None], "noise": rate}
    sites = from_gaussian(gaussian, data, FUNCTIONS["counts"])
    spikes = rate * N_TRIALS * N_BINS  # beside the prior's, worth one spike
    np.testing.assert_allclose(sites["loadings"], truth["loadings"] * (spikes / (spikes + 1))[:, None])
    np.testing.assert_allclose(np.exp(sites["offset"] + 0.5 * (sites["loadings"] ** 2).sum(1)), rate)


def test_a_neuron_of_two_spikes_starts_within_reason():
    """Its loadings in Gaussian units would be a log-rate's of 19, and its offset -180."""
    y = np.zeros((40, 20, 3))
    y[..., 1:] = np.random.default_rng(0).poisson(0.5, (40, 20, 2))
    y[3, 7:9, 0] = 1
    data = mrgp.MultiRegionData({"V1": y}, BIN)
    gaussian = {"loadings": np.array([[0.05], [0.2], [-9.0]]), "noise": data.scale**2}
    sites = from_gaussian(gaussian, data, FUNCTIONS["counts"])
    rate, size = np.asarray(data.center), np.abs(sites["loadings"][:, 0])
    spikes = y.sum((0, 1))
    np.testing.assert_allclose(size, np.minimum(2.0, [0.05, 0.2, 9.0] / rate) * spikes / (spikes + 1))
    np.testing.assert_allclose(np.exp(sites["offset"] + 0.5 * size**2), rate)


@pytest.mark.slow
def test_the_bound_is_never_below_that_of_the_prior():
    """At parameters out of all proportion, where the guess from which q begins is far worse."""
    data, truth = recording()
    for factor in (3.0, 12.0):
        wild = {**truth, "loadings": factor * truth["loadings"], "offset": truth["offset"] - 0.5 * factor}
        scores = TRUTH.replace(likelihood="markov").log_likelihood(data, wild)
        variance = (wild["loadings"] ** 2).sum(1)
        y = data.values
        prior = y * wild["offset"] - np.exp(wild["offset"] + 0.5 * variance) - special.gammaln(y + 1)
        assert np.isfinite(scores).all()
        assert float(scores.sum()) >= prior.sum()


@pytest.mark.slow
def test_relevance_holds_the_offset_of_a_neuron_that_hardly_fires():
    """Its prior is around the log of the mean count, as in models without relevance."""
    data, _ = recording()
    trace = handlers.trace(handlers.seed(MDLAG(2, shape=1.0, rate=0.1, emission="poisson"), 0)).get_trace(data)
    prior = trace["offset"]["fn"]
    np.testing.assert_allclose(prior.mean, np.log(data.center))
    np.testing.assert_allclose(np.sqrt(prior.variance), 3.0)


@pytest.mark.slow
def test_what_a_gaussian_start_was_fitted_to_is_told_by_its_offsets():
    """Also where they are of other trials."""
    data, _ = recording()
    for function in FUNCTIONS.values():
        offset = function(data.values[::2]).mean((0, 1))
        assert function_behind(offset, data.select_trials(slice(1, None, 2))) is function
    with pytest.raises(ValueError, match="not these counts, nor their sqrt or anscombe roots"):
        function_behind(np.zeros(data.layout.total_neurons), data)
    hidden = data.without({"V1": [0, 3]})
    assert function_behind(np.sqrt(data.values).mean((0, 1)), hidden) is np.sqrt
    rare = np.random.default_rng(0).poisson(0.02, (100, 30, 4)).astype(float)
    sparse = mrgp.MultiRegionData({"A": rare}, BIN)
    assert function_behind(rare.mean((0, 1)), sparse) is FUNCTIONS["counts"]
    with pytest.raises(ValueError, match="not these counts, nor their sqrt or anscombe roots"):
        function_behind(np.zeros(4), sparse)
    roots = data.with_values(np.sqrt(data.values))
    plain = TRUTH.replace(emission="gaussian").fit(roots, progress=False, n_starts=1, max_iterations=20)
    sites = TRUTH.prepared(data).fitting.from_other_fit(plain.model, plain.sites, data)[1]
    spikes = np.asarray(data.center)[:, None] * data.n_trials * data.n_bins  # beside the prior's, worth one
    told = sites["loadings"] * slope_of(np.sqrt, data.center)[:, None] * (1 + 1 / spikes)
    np.testing.assert_allclose(told, plain.sites["loadings"])
    assert "noise" not in sites


def test_a_gaussian_start_with_a_course_is_recognised():
    """Offset and course share the mean: of rates that rise over a short trial the offset is far from it."""
    rising = np.random.default_rng(0).poisson(np.linspace(0.2, 3, 20)[:, None], (100, 20, 8)).astype(float)
    data = mrgp.MultiRegionData({"A": rising[..., :4], "B": rising[..., 4:]}, 0.01)
    model = TRUTH.replace(mean="psth", max_delay=None).prepared(data)
    plain = model.replace(emission="gaussian")
    offset = 0.6 * rising.mean((0, 1))   # nearer to the mean of roots than to that of counts
    assert np.all(np.abs(offset - np.sqrt(rising).mean((0, 1))) < 0.3 * rising.mean((0, 1)))
    change = np.linalg.lstsq(plain.mean.modes(data, plain.duration), rising.mean(0) - offset)[0].T[None]
    sites = {"loadings": np.ones((8, 1)), "noise": np.ones(8), "offset": offset, "mean_change": change}
    known = {**sites, "delay": np.zeros((1, 1)), "timescale_across": np.ones(1)}
    started = model.fitting.from_other_fit(plain, known, data)[1]
    np.testing.assert_allclose(started["loadings"][:, 0], 1 / rising.mean((0, 1)), rtol=2e-3)  # some 3000 spikes
    assert not np.allclose(started["mean_change"], change)


def test_a_start_of_the_course_is_a_poisson_regression():
    """The penalised score of every mode vanishes: sum (y - rate) mode = weight / prior variance."""
    rng = np.random.default_rng(0)
    course = 1.5 * np.sin(np.arange(20) / 3)[:, None]
    y = rng.poisson(np.exp(course - [[0.5, 2.0]]), (60, 20, 2)).astype(float)
    data = mrgp.MultiRegionData({"A": y}, BIN)
    model = TRUTH.replace(mean="psth").prepared(data)
    modes = model.mean.modes(data, model.duration)
    spread = np.array([[0.9, 1.3]])
    change = course_start(data, modes, spread)[0]
    rate = np.exp(np.log(data.center) + modes @ change.T)
    np.testing.assert_allclose(((y - rate).sum(0).T) @ modes, change / spread[0][:, None] ** 2, atol=1e-3)


def test_a_start_of_courses_is_found_as_if_neuron_by_neuron():
    """Newton's method for each neuron alone, with entries, bins, a neuron and ends of trials missing."""
    rng = np.random.default_rng(1)
    y = rng.poisson(np.exp(np.sin(np.arange(20) / 3)[:, None] - [[0.5, 2.0, 1.0]]), (30, 20, 3)).astype(float)
    y[rng.random(y.shape) < 0.1] = np.nan
    y[:, 4, 1] = y[::2, :, 2] = y[6, 12:] = np.nan
    data = mrgp.MultiRegionData({"A": y}, BIN, trial_coords={"condition": ["left", "right"] * 15})
    modes = TRUTH.replace(mean="psth").mean.modes(data, None)
    spread = rng.uniform(0.3, 1.2, (2, 3))
    found = course_start(data, modes, spread)

    def regressed(trials, level, sd):
        count, total = (~np.isnan(trials)).sum(0), np.nansum(trials, 0)
        eta = level
        for _ in range(8):
            rate = count * np.exp(eta)
            working = eta - level + (total - rate) / np.maximum(rate, 1e-12)
            known = modes.T * rate @ modes + np.eye(modes.shape[1]) / sd**2
            weights = np.linalg.solve(known, modes.T @ (rate * working))
            eta = eta + np.clip(level + modes @ weights - eta, -1, 1)
        return weights

    for condition, neuron in np.ndindex(2, 3):
        trials, level = data.with_nan()[:, :, neuron], np.full(20, np.log(data.center[neuron]))
        shared = regressed(trials, level, spread[0, neuron])
        own = regressed(trials[data.condition == condition], level + modes @ shared, spread[1, neuron])
        np.testing.assert_allclose(found[condition, neuron], shared + own, atol=1e-10)


@pytest.mark.slow
def test_courses_of_few_spikes_do_not_explain_chance():
    """Sparse counts without a course, 5 trials of each of 12 conditions: new trials lose little to constant rates."""
    rng = np.random.default_rng(5)
    rate = rng.gamma(1.0, 0.1, 16)
    y = rng.poisson(rate, (300, 30, 16)).astype(float)
    stimulus = {"condition": [f"stimulus {i % 12}" for i in range(300)]}
    data = mrgp.MultiRegionData({"A": y[..., :8], "B": y[..., 8:]}, BIN, trial_coords=stimulus)
    seen, new = data.select_trials(slice(0, 60)), data.select_trials(slice(60, 300))
    fit = GPFA(1, emission="poisson", mean="psth").fit(seen, progress=False, n_starts=1, tolerance=0.1)
    own = seen.values.mean((0, 1))
    constant = (xlogy(new.values, own) - own - gammaln(new.values + 1)).sum()
    lost = constant - float(fit.log_likelihood(new).sum())
    assert lost < 0.002 * -constant  # with spreads of 1 in every condition: 0.13
    assert np.median(fit.sites["mean_spread"]) < 0.15


@pytest.mark.slow
def test_overdispersed_counts_with_a_course():
    """The bound never falls; dispersion is found, roughly, and preferred to Poisson."""
    data, _ = recording(1)
    rng = np.random.default_rng(0)
    noisy = data.with_values(rng.poisson(data.values * rng.gamma(2.0, 0.5, data.values.shape)))
    model = TRUTH.replace(emission="negative_binomial", mean="psth", mean_timescale=0.1)
    fit = model.fit(noisy.select_trials(slice(0, 40)), progress=False, n_starts=1, tolerance=0.1)
    # Poisson of y times Gamma(2, 1/2): variance mu + 1.5 mu + mu^2 / 2, so dispersion 0.5 + 1.5 / mu, mu near 1.
    expected = 0.5 + 1.5 / np.median(noisy.center)
    assert np.median(fit.sites["dispersion"]) == pytest.approx(expected, rel=0.3)
    assert np.diff(fit.trace).min() > -1e-3
    assert list(fit.mean["V1"].shape) == [1, N_BINS, 12]
    poisson = model.replace(emission="poisson").fit(fit.data, start=fit, progress=False, tolerance=0.1)
    assert float(fit.log_likelihood().sum()) > float(poisson.log_likelihood().sum()) + 50


@pytest.mark.slow
def test_relevance_of_counts_by_map():
    data, _ = recording()
    model = MDLAG(2, likelihood="dense", max_delay=0.1, emission="poisson", shape=1.0, rate=0.1)
    fit = model.fit(data.select_trials(slice(0, 30)), "map", progress=False, n_starts=1, max_iterations=30, tolerance=5)
    assert fit.shared_variance.max("latent").min() > 0.6
    with pytest.raises(ValueError, match="method 'vb' of counts needs rate=1e-09 or less: use method='map'"):
        model.fit(data, progress=False)
    with pytest.raises(ValueError, match="the density is highest where all loadings are zero: use "):
        model.replace(rate=1e-12).fit(data, "map", progress=False)


def test_wrong_use_of_counts(tmp_path, capsys):
    data, _ = recording()
    broken = data.with_values(np.where(data.values == data.values.max(), 0.5, data.values))
    with pytest.raises(mrgp.DataError, match=r"region V\d, neuron \d+: 0.5 in trial \d+, bin \d+ is no spike count"):
        TRUTH.fit(broken, progress=False)
    names = "'gaussian', 'autocorrelated_gaussian', 'poisson', 'negative_binomial' or 'by_region'"
    message = f"emission is {names}, not 'binomial'"
    with pytest.raises(ValueError, match=message):
        DLAG(1, 0, emission="binomial")
    with pytest.raises(ValueError, match="counts have no spectral likelihood"):
        DLAG(1, 0, emission="poisson", likelihood="spectral")
    with pytest.raises(ValueError, match="FA: counts have no spectral likelihood"):
        FA(1, emission="poisson", likelihood="spectral")
    with pytest.raises(ValueError, match="MDLAG of counts has no use for offset_precision: leave it out"):
        MDLAG(1, emission="poisson", offset_precision=0.5)
    path = tmp_path / "broken.npz"
    mrgp.save_recording(broken, path)
    options = ["--n-across", "1", "--n-within", "0", "--emission", "poisson", "--out", str(tmp_path), "--quiet"]
    assert main(["fit", str(path), *options]) == 1
    assert "is no spike count; give whole numbers" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_line_fits_counts(tmp_path, capsys):
    data, _ = recording()
    path = tmp_path / "counts.npz"
    mrgp.save_recording(data.select_trials(slice(0, 20)), path)
    options = ["--n-across", "1", "--likelihood", "dense", "--emission", "poisson", "--n-starts", "1"]
    out = tmp_path / "out"
    quick = ["--tolerance", "1", "--no-figures", "--no-intervals", "--quiet", "--out", str(out)]
    assert main(["fit", str(path), "--model", "gpfa", *options, *quick]) == 0, capsys.readouterr().err
    assert mrgp.load_fit(out / "fit.nc").model.emission == Poisson()
