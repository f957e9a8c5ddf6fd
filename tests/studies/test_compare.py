"""Comparing hypotheses on delays: evidence, leave-one-out, Savage-Dickey, the command."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mrgp.models import ADM, DLAG, GPFA
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

import mrgp
from mrgp.cli.catalogue import HYPOTHESES
from mrgp.cli.main import main
from mrgp.results.arviz import trial_scores
from mrgp.results.loo import _bridged
from mrgp.simulations.simulate import simulate
from mrgp.studies.compare.compare_delays import KNOWN, _left_out, _table, _with_law
from mrgp.studies.compare.fitting import Kept, file_of, same_latents
from mrgp.studies.compare.unknown_spread import spread_evidence
from mrgp.studies.report.folder import report_of_folder

FITTED = Path(__file__).parents[1] / "data" / "fits" / "DLAG.nc"
CHOICES = {"max_delay": 0.06, "likelihood": "dense", "delay_timescale": 0.2}


@pytest.fixture(scope="module")
def made():
    return simulate(
        regions={"V1": 4, "V2": 4}, n_across=1, n_within=0, n_trials=10, n_bins=20, timescale_across=0.08,
        delay=np.array([[0.0], [-0.02]]), snr=2.0, seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(made):
    return mrgp.compare_delays(made.data, n_across=1, n_within=0, progress=False, **CHOICES)


@pytest.mark.slow
def test_a_clear_delay_is_found(found):
    assert set(found.table.index) == {"none", "constant", "varying"}
    assert found.table.loc["none", "probability"] < 0.01
    assert found.table["probability"].sum() == pytest.approx(1)
    assert found.table["log_evidence"].is_monotonic_decreasing
    assert found.table.loc["none", "elpd_diff"] < -2 * found.table.loc["none", "dse"]
    assert found.table["weight"].sum() == pytest.approx(1)
    assert found.table["converged"].all()
    row = found.delays.iloc[0]
    assert (row["first"], row["second"]) == ("V1", "V2")
    assert row["lower_ms"] < -20 < row["upper_ms"] < 0
    assert row["negative"] > 0.99
    assert "V1 lags V2 by" in found.verdict
    assert found.settings["loadings"] == "maximum"
    # Of 20 parameters and more; with loadings that only follow p was below 3.
    assert (found.table["p_loo"] > 10).all()
    assert found.delays_of in ("constant", "varying")
    assert 0 < found.changes["varies"].iloc[0] < 0.9


@pytest.mark.slow
def test_nested_hypotheses_agree_at_the_same_parameters(made, found):
    sites = found.fits["none"].sites
    scores = found.fits["none"].log_likelihood().values
    np.testing.assert_allclose(found.fits["constant"].model.log_likelihood(made.data, sites), scores, rtol=1e-12)
    varying = found.fits["varying"].model.prepared(made.data)
    still = varying.fitting.first_guess(sites, made.data)
    np.testing.assert_allclose(varying.log_likelihood(made.data, still), scores, rtol=1e-12)
    # One population of neurons: what is left of DLAG where regions share their noise too.
    quiet = {"gp_noise": 1e-12, "likelihood": "dense"}
    pooled = GPFA(1, **quiet).log_likelihood(made.data, {n: v for n, v in sites.items() if n != "delay"})
    apart = DLAG(1, 0, max_delay=0.06, **quiet).log_likelihood(made.data, sites)
    np.testing.assert_allclose(pooled, apart, rtol=0, atol=1e-8)


@pytest.mark.slow
def test_savage_dickey_is_the_ratio_of_evidences(found):
    """Two ways to one number: the posterior density at no delay, and the integrals of both models."""
    table = mrgp.delay_table(found.fits["constant"])
    ratio = found.table.loc["constant", "log_evidence"] - found.table.loc["none", "log_evidence"]
    # Seven sds from 0 the Gaussian's tail is no longer the posterior's.
    assert table["log_bayes_factor"].iloc[0] == pytest.approx(ratio, rel=0.15)


@pytest.mark.slow
def test_savage_dickey_near_zero():
    made = simulate(
        regions={"V1": 4, "V2": 4}, n_across=1, n_within=0, n_trials=12, n_bins=25, timescale_across=0.08,
        delay=np.array([[0.0], [0.002]]), snr=2.0, seed=2,
    )  # fmt: skip
    pair = mrgp.compare_delays(
        made.data, ["none", "constant"], n_across=1, n_within=0, n_draws=100, progress=False, max_delay=0.06,
        likelihood="dense",
    )  # fmt: skip
    ratio = pair.table.loc["constant", "log_evidence"] - pair.table.loc["none", "log_evidence"]
    assert pair.delays["log_bayes_factor"].iloc[0] == pytest.approx(ratio, abs=0.1)
    assert pair.table.index[0] == "none"
    assert pair.changes.empty


@pytest.mark.slow
def test_delay_table_by_hand(found):
    fit = found.fits["constant"]
    table = mrgp.delay_table(fit, probability=0.8, rope=0.005).iloc[0]
    curvature, bound = fit.curvature(), fit.model.delays.bound(fit.layout.bin_width)
    center, sd = curvature.mean[0] / 2, np.sqrt(curvature.covariance[0, 0]) / 2  # artanh is half the logit
    np.testing.assert_allclose(table["delay_ms"], 1e3 * fit.delays[1, 0], rtol=1e-9)
    np.testing.assert_allclose(table["lower_ms"], 1e3 * bound * np.tanh(center - norm.ppf(0.9) * sd), rtol=1e-6)
    np.testing.assert_allclose(table["positive"], norm.cdf(center / sd), rtol=1e-4)
    edges = np.arctanh(np.array([-0.005, 0.005]) / bound)
    np.testing.assert_allclose(table["in_rope"], np.diff(norm.cdf((edges - center) / sd))[0], atol=1e-9)
    delay, wide = bound * np.tanh(center), bound * (1 - np.tanh(center) ** 2) * sd
    inside = np.diff(norm.cdf(np.array([-bound, bound]), delay, wide))[0]
    wanted = np.log(inside) - np.log(2 * bound) - norm.logpdf(0, delay, wide)
    np.testing.assert_allclose(table["log_bayes_factor"], wanted, rtol=1e-4)


@pytest.mark.slow
def test_a_delay_of_which_nothing_is_known_is_no_evidence():
    """A slow latent and a region that hardly reads it: the posterior of the delay is nearly its prior.

    Its Gaussian, not cut at the bound, would speak of nats. (Where the likelihood is highest at the bound the delay
    has no Bayes factor at all: here it is not.)
    """
    made = simulate(
        regions={"V1": 4, "V2": 4}, n_across=1, n_within=0, n_trials=8, n_bins=25, timescale_across=0.3,
        delay=np.zeros((2, 1)), snr=[2.0, 0.01], seed=5,
    )  # fmt: skip
    model = DLAG(1, 0, max_delay=0.04, likelihood="dense")
    free = model.fit(made.data, progress=False)
    none = free.model.fit(made.data, start=free, fixed={"delay": 0}, progress=False)
    table = mrgp.delay_table(free).iloc[0]
    assert table["sd_ms"] < 1.01 * 1e3 * free.model.delays.bound(free.layout.bin_width) / np.sqrt(3)
    assert abs(table["log_bayes_factor"]) < 0.1
    assert abs(free.log_evidence()[0] - none.log_evidence()[0]) < 0.2


def test_a_held_bound_is_nothing_to_share():
    """A hypothesis whose bound is to be held neither starts from one that widens its own nor takes over its bound."""
    free = DLAG(1, 0, max_delay=0.04)
    assert same_latents(free, free.replace(noise="ar1"), 0.02)
    assert not same_latents(free, free.replace(hold_max_delay=True), 0.02)


def test_bayes_factor_of_differences_where_nothing_is_known():
    from mrgp.results.delays import _log_bayes_factor

    assert _log_bayes_factor(0.0, 100.0, 0.04, False) == pytest.approx(0, abs=1e-3)
    assert _log_bayes_factor(0.0, 100.0, 0.04, True) == pytest.approx(0, abs=1e-3)
    assert _log_bayes_factor(0.0, 1e-6, 0.04, True) == pytest.approx(-np.log(0.08) - norm.logpdf(0, 0, 1e-6), rel=1e-3)


@pytest.mark.slow
def test_delay_table_of_pairs_and_of_draws():
    made = simulate(
        regions={"A": 3, "B": 3, "C": 3}, n_across=1, n_within=0, n_trials=10, n_bins=20,
        delay=np.array([[0.0], [0.02], [-0.02]]), snr=3.0, seed=0,
    )  # fmt: skip
    fit = DLAG(1, 0, max_delay=0.06, likelihood="dense").fit(
        made.data, "laplace", progress=False, loadings="profiled"
    )
    table = mrgp.delay_table(fit).set_index(["first", "second"])
    assert list(table.index) == [("A", "B"), ("A", "C"), ("B", "C")]
    between = table.loc[("B", "C")]
    np.testing.assert_allclose(between["delay_ms"], 1e3 * float(fit.delays[2, 0] - fit.delays[1, 0]), rtol=1e-9)
    drawn = mrgp.delay_table(replace(fit, method="svi")).set_index(["first", "second"])
    np.testing.assert_allclose(drawn["sd_ms"], table["sd_ms"], rtol=0.1)
    np.testing.assert_allclose(drawn["delay_ms"], table["delay_ms"], atol=0.2 * table["sd_ms"].max())


def test_evidence_of_spreads_is_a_gaussian_integral():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((3, 3))
    precision, measured = root @ root.T + 0.1 * np.eye(3), rng.standard_normal(3)  # likelihood: measured ~ z
    covariance = np.linalg.inv(precision + np.eye(3))
    mean = covariance @ precision @ measured
    ratios = np.array([0.0, 0.3, 1.0, 2.5])
    found = spread_evidence(mean, covariance, ratios)
    noise = np.linalg.inv(precision)
    wanted = [multivariate_normal.logpdf(measured, np.zeros(3), noise + ratio**2 * np.eye(3)) for ratio in ratios]
    np.testing.assert_allclose(found - found[0], np.array(wanted) - wanted[0], atol=1e-9)
    assert found[0] == 0


@pytest.mark.slow
def test_a_trial_that_stands_out_is_left_out_for_real(made):
    values = made.data.values.copy()
    values[3] *= 4.0
    odd = mrgp.MultiRegionData({"V1": values[..., :4], "V2": values[..., 4:]}, 0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the delay too, which that trial drives to its bound
        fit = DLAG(1, 0, max_delay=0.06, likelihood="dense").fit(odd, progress=False)
        smooth = mrgp.leave_one_out(fit, n_draws=200, refit=False, progress=False)
        exact = mrgp.leave_one_out(fit, n_draws=200, progress=False)
    poor = smooth.pareto_k.values > smooth.good_k
    assert poor[3]
    assert not (exact.pareto_k.values[poor]).any()
    others = odd.select_trials(np.delete(np.arange(odd.n_trials), 3))
    again = fit.model.fit(others, "laplace", start=fit, n_draws=400, progress=False)
    scores = trial_scores(again.model, odd.select_trials([3]), again.draws(400))[:, 0]
    # By a fit to the other trials; the score is hundreds of nats below those of trials like others. Its sd over draws
    # is a hundred nats, and the reference is -2287, -2349 or -2381 by the seed.
    assert float(exact.elpd_i[3]) == pytest.approx(logsumexp(scores) - np.log(len(scores)), rel=0.06)
    assert float(exact.elpd_i[3]) < float(exact.elpd_i[others.n_trials - 1]) - 100
    assert exact.elpd == pytest.approx(float(exact.elpd_i.sum()))


def test_the_bridge_between_two_posteriors_is_the_predictive_density():
    """Of theta ~ N(0, 1) and y ~ N(theta, 1): log N(y; 0, 2), from draws with and without y."""
    rng, y = np.random.default_rng(0), 3.0
    without, with_it = rng.standard_normal(250), y / 2 + rng.standard_normal(1000) / np.sqrt(2)
    found = _bridged(norm.logpdf(y, without), norm.logpdf(y, with_it))
    assert found == pytest.approx(norm.logpdf(y, 0, np.sqrt(2)), abs=0.2)  # an error of 0.06; of draws without y 0.2
    apart = _bridged(np.array([-700.0, -701.0]), np.array([-10.0, -11.0]))
    assert apart == pytest.approx(-700 + np.log((1 + np.exp(-1)) / 2))  # not half-way


@pytest.mark.slow
def test_a_hypothesis_whose_posterior_cannot_be_drawn_from_has_no_elpd(found, monkeypatch):
    def failing(fit, data, **settings):
        raise ValueError("draws of all parameters have not settled")

    monkeypatch.setattr("mrgp.studies.compare.compare_delays.leave_one_out", failing)
    with pytest.warns(UserWarning, match="its elpd is not known: draws of all"):
        assert _left_out(found.fits["varying"], found.fits["varying"].data) is None
    left = {name: result for name, result in found.loo.items() if name != "varying"}
    evidence = {name: (row.log_evidence, row.evidence_error) for name, row in found.table.iterrows()}
    table = _table(found.fits, left, evidence)
    assert np.isnan(table.loc["varying", ["elpd", "elpd_diff"]].astype(float)).all()
    assert np.isfinite(table.loc["none", ["elpd", "elpd_diff"]].astype(float)).all()
    assert np.isnan(_table(found.fits, {}, evidence)["elpd"]).all()


@pytest.mark.slow
def test_a_list_of_ones_own(made, found):
    model = found.fits["constant"].model
    mine = mrgp.compare_delays(
        made.data,
        {"late": mrgp.Hypothesis(model, {"delay": 0.02}), "free": model, "none": "none"},
        n_across=1, n_within=0, max_delay=0.06, likelihood="dense", n_draws=50, progress=False,
    )  # fmt: skip
    assert mine.table.index[-1] == "late"  # the wrong way round
    assert mine.delays_of == "free"
    assert float(mine.fits["late"].delays[1, 0]) == pytest.approx(0.02)


def test_the_command_line_knows_the_hypotheses():
    assert HYPOTHESES == KNOWN


@pytest.mark.slow
def test_wrong_use(made, found):
    for hypotheses, message in (
        (["none"], "two hypotheses"),
        (["none", "some"], "'some' is unknown"),
        ("none", "a list of names"),
    ):
        with pytest.raises(ValueError, match=message):
            mrgp.compare_delays(made.data, hypotheses, n_within=0)
    with pytest.raises(TypeError, match="max_dely"):
        mrgp.compare_delays(made.data, max_dely=0.1)
    with pytest.raises(mrgp.DataError, match="a comparison of delays compares regions"):
        mrgp.compare_delays(mrgp.MultiRegionData({"V1": made.data.region("V1")}, 0.02))
    gpfa = replace(found.fits["none"], model=GPFA(1))
    with pytest.raises(ValueError, match="no delays here"):
        mrgp.delay_table(gpfa)
    with pytest.raises(ValueError, match="were fixed"):
        mrgp.delay_table(found.fits["none"])
    for settings in ({"probability": 1.0}, {"rope": 0.0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            mrgp.delay_table(found.fits["constant"], **settings)
    assert found.fits["varying"].model.delays.moves


@pytest.mark.slow
def test_interruption_ends_the_comparison(made, monkeypatch):
    fit = DLAG.fit

    def stopped(*args, **settings):
        return replace(fit(*args, **settings), reason="interrupted")

    monkeypatch.setattr(DLAG, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        mrgp.compare_delays(made.data, n_within=0, progress=False, **CHOICES)


@pytest.mark.slow
def test_results_are_written_whole(found, tmp_path):
    found.save(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "summary.json", "report.json", "comparison.png", "fit_none.nc", "fit_constant.nc", "fit_varying.nc",
    }  # fmt: skip
    told = report_of_folder(tmp_path / "out")
    assert list(told.pictures) == ["comparison"]
    assert " ".join(told.account.verdict) == found.verdict
    lights = {light.name.split(" of ")[0]: light for light in told.account.lights}
    best, second = np.sort(found.table["log_evidence"])[::-1][:2]
    assert lights["Evidence computed well enough"].number.startswith(f"lead {best - second:.1f} nats")
    assert lights["Trials left out"].number == "3 of 3"
    [table, delays, *_] = told.account.tables
    assert [row["hypothesis"] for row in table.rows] == list(found.table.index)
    behind = [row["elpd behind the best (nats)"] for row in table.rows]
    assert behind == [f"{abs(gap):.1f}" for gap in found.table["elpd_diff"]]
    assert delays.rows[0]["delay (ms)"] == f"{found.delays['delay_ms'].iloc[0]:.1f}"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["hypotheses"][0]["hypothesis"] == found.table.index[0]
    assert summary["verdict"] == found.verdict
    assert summary["delays"][0]["second"] == "V2"
    axes = found.plot().axes
    assert [ax.get_title(loc="left") for ax in axes][:2] == ["evidence", "prediction of unseen trials"]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == list(found.table.index)


@pytest.mark.slow
def test_command(made, found, tmp_path, capsys, monkeypatch):
    mrgp.save_recording(made.data, tmp_path / "made.npz")
    command = ["compare", str(tmp_path / "made.npz"), "--n-across", "1", "--n-within", "0", "--max-delay", "0.06"]
    asked = {}

    def compared(data, hypotheses, **settings):
        asked.update(settings, hypotheses=hypotheses, n_trials=data.n_trials, scale=data.scale)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(mrgp, "compare_delays", compared)
        options = ["--rope", "0.004", "--kernel", "matern52", "--zscore"]
        assert main([*command, "--out", str(tmp_path / "out"), *options]) == 0
    assert "V1 lags V2" in capsys.readouterr().out
    settings = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    assert settings["preprocessing"] == {
        "transform": None, "smooth": None, "zscore": True, "remove_condition_mean": False,
    }  # fmt: skip
    assert mrgp.load_fit(tmp_path / "out" / "fit_none.nc").preprocessing == settings["preprocessing"]
    assert found.fits["none"].preprocessing is None
    assert settings["rope"] == found.settings["rope"]
    np.testing.assert_allclose(asked["scale"], 1.0)
    assert asked["hypotheses"] == ("none", "constant", "varying")
    assert (asked["n_across"], asked["n_within"], asked["max_delay"], asked["rope"]) == (1, 0, 0.06, 0.004)
    assert asked["kernel"] == mrgp.Matern52()
    for extra, code in (
        (["--hypotheses", "none"], 2),
        (["--hypotheses", "none,never"], 2),
        (["--probability", "2"], 2),
        (["--n-within", "0,0,0"], 2),
        (["--n-within", "9"], 2),
        (["--max-delay", "100"], 2),
    ):
        assert main([*command, "--out", str(tmp_path / "other"), *extra]) == code
        assert capsys.readouterr().err.startswith("mrgp:")
    assert main(["compare", "absent.npz", *command[2:], "--out", str(tmp_path / "other")]) == 1


@pytest.mark.slow
def test_command_from_file_to_folder(made, tmp_path):
    mrgp.save_recording(made.data, tmp_path / "made.npz")
    command = ["compare", str(tmp_path / "made.npz"), "--n-across", "1", "--n-within", "0", "--max-delay", "0.06"]
    assert main([*command, "--hypotheses", "none,constant", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "comparison.png").is_file()


def test_laws_replace_the_delays_of_the_model_that_is_given():
    for model in (ADM(2, 1, max_delay=0.1), DLAG(2, 1, max_delay=0.1)):
        none, constant, varying = (_with_law(model, {}, name) for name in KNOWN)
        assert none.model == constant.model == model.replace(delays=mrgp.ConstantDelay(0.1))
        assert none.fixed == {"delay": 0}
        assert varying.model == model.replace(delays=mrgp.VaryingDelay(0.1))
    assert _with_law(DLAG(2, 1, delays="none"), {}, "constant").model.delays == mrgp.ConstantDelay()
    assert _with_law(model, {}, mrgp.NoDelay()).model.delays == mrgp.NoDelay()
    assert same_latents(model.replace(delays="none"), model, 0.02)


def test_a_model_says_its_own_latents(made):
    with pytest.raises(TypeError, match="the model says n_across: leave them out, or leave model out"):
        mrgp.compare_delays(made.data, model=DLAG(1, 0), n_across=2)


def test_fits_of_two_names_have_two_files(tmp_path):
    names = ["a/b", "a_b", "a%2Fb", "a%b", "none"]
    paths = [file_of(tmp_path, name) for name in names]
    assert len({path.name for path in paths}) == len(names)
    assert {path.parent for path in paths} == {tmp_path}
    assert file_of(tmp_path, "none").name == "fit_none.nc"
    kept, fit = Kept(tmp_path), mrgp.load_fit(FITTED)
    other = replace(fit, sites=fit.sites | {"loadings": 2 * np.asarray(fit.sites["loadings"])})
    for name, own in {"a/b": fit, "a_b": other}.items():
        kept.keep(name, {"seed": 0}, own)
    for name, own in {"a/b": fit, "a_b": other}.items():
        again = Kept(tmp_path).fit(name, {"seed": 0}, None)
        np.testing.assert_array_equal(again.sites["loadings"], own.sites["loadings"])
    assert Kept(tmp_path).fit("a/b", {"seed": 1}, None) is None
