"""Resampled trials: weights against repeated trials, widths against the curvature, executors, significance."""

import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from mrgp.models import ADM, DLAG, GPFA
from numpyro.infer.util import log_density
from scipy.stats import norm

import mrgp
from mrgp.inference import optimise as climbing
from mrgp.inference.density import LogJoint
from mrgp.inference.mode.curvature import profile_curvature
from mrgp.inference.mode.given_loadings import Given, Reduced
from mrgp.inference.optimise import Objective, maximise
from mrgp.simulations.simulate import simulate
from mrgp.studies.bootstrap import refits as resampling
from mrgp.studies.bootstrap.bootstrap_delays import bootstrap_delays

BIN = 0.02
SHORT = {"max_delay": 4 * BIN, "likelihood": "dense"}   # of short trials, what compiles fastest
MODEL = DLAG(n_across=1, n_within=(1, 0), **SHORT)


def recording(**changes):
    settings = {
        "regions": {"V1": 6, "V2": 5}, "n_across": 1, "n_within": (1, 0), "n_trials": 60, "n_bins": 20,
        "bin_width": BIN, "delay": [[0.0], [1.5 * BIN]], "timescale_across": 3 * BIN, "timescale_within": 4 * BIN,
        "snr": 1.0, "seed": 3,
    }  # fmt: skip
    return simulate(**{**settings, **changes})


def given_emission(made, model, **sites):
    """The fit of delays and kernel parameters where all else is the truth: the maximum that refits climb to."""
    truth, data = made.truth, made.data
    sites = {name: truth[name].values for name in ("loadings", "noise", "offset", "timescale_across")} | sites
    sites = {"delay": np.clip(truth["delay"].values[1:], -3.9 * BIN, 3.9 * BIN)} | sites
    if truth["timescale_within"].size:
        sites["timescale_within"] = truth["timescale_within"].values
    fit = mrgp.Fit(
        model=model, layout=data.layout, n_bins=data.n_bins, sites=sites, method="map", trace=np.zeros(1),
        converged=True, reason="", iterations=0, evaluations=0, wall_s=0.0, seed=0, data=data,
    )  # fmt: skip
    found = maximise(objective_of(fit), tolerance=1e-6, max_iterations=100)
    assert found.converged
    return dataclasses.replace(fit, sites={**sites, **{n: np.asarray(v) for n, v in found.sites.items()}})


def objective_of(fit):
    """Of delays and kernel parameters given the rest, every trial once."""
    names = tuple(name for name in fit.uncertain_sites if name not in fit.model.held)
    given = Given.of(fit.model, fit.data, fit.sites, names)
    few = {name: fit.sites[name] for name in names}
    return Objective(LogJoint(Reduced(fit.model)), given, few, fit.model.fitting.scales(fit.data, fit.sites))


@pytest.fixture(scope="module")
def fit():
    return given_emission(recording(), MODEL)


@pytest.fixture(scope="module")
def resampled(fit):
    return bootstrap_delays(fit, n_samples=150, seed=1, progress=False)


@pytest.mark.parametrize(
    "likelihood", [pytest.param(mrgp.Kalman(registers=mrgp.Window(8)), marks=pytest.mark.slow), "dense"],
    ids=["markov", "dense"],
)  # fmt: skip
def test_weights_are_repeated_trials(likelihood):
    made = recording(n_trials=5, n_bins=8, ragged=0.4, missing=0.2)
    model = MODEL.replace(likelihood=likelihood)
    sites = {name: made.truth[name].values for name in ("loadings", "noise", "offset")}
    sites |= {"timescale_across": np.array([0.06]), "timescale_within": np.array([0.08]), "delay": np.array([[0.01]])}
    moved = {"timescale_across": np.array([0.05]), "timescale_within": np.array([0.1]), "delay": np.array([[-0.03]])}
    times = np.array([2, 0, 1, 3, 1])
    given = Given.of(model, made.data, sites, tuple(moved))._replace(weights=jnp.asarray(times, float))
    repeated = made.data.select_trials(np.repeat(np.arange(5), times))
    reduced = jax.jit(LogJoint(Reduced(model)))
    whole = jax.jit(lambda sites: log_density(model, (repeated,), {}, sites)[0])
    # The prior of loadings, noise and offsets and log p(y | x = 0) are the same at both.
    ours = reduced({name: sites[name] for name in moved}, given) - reduced(moved, given)
    assert float(ours) == pytest.approx(float(whole(sites) - whole({**sites, **moved})), abs=1e-8)
    assert abs(float(ours)) > 1


def test_free_sites_of_a_reduced_model_are_those_of_its_program(fit):
    assert objective_of(fit).transforms.keys() == set(fit.uncertain_sites)


@pytest.mark.slow
def test_intervals_are_as_wide_as_the_curvature_given_the_rest(fit, resampled):
    assert resampled.failures == 0
    assert resampled.delays.dims == ("sample", "region", "across_latent")
    assert not resampled.delays.sel(region="V1").any()
    known = dataclasses.replace(fit, saved_curvature=profile_curvature(objective_of(fit), fit.uncertain_sites))
    got, expected = resampled.intervals(0.9), known.delay_intervals(0.9)
    assert got.sizes == expected.sizes
    # Monte-Carlo error of a standard deviation: 6% from 150 samples; and 9% from the 60 trials' own scatter.
    np.testing.assert_allclose(got.sd[1], expected.sd[1], rtol=0.2)
    np.testing.assert_allclose(got["delay"], fit.delays)
    sd = float(expected.sd[1, 0])
    for name in ("lower", "upper"):   # an end of 90% is 1.6 sd away, and known to 0.15 sd besides
        np.testing.assert_allclose(got[name][1], expected[name][1], atol=0.5 * sd)
    widths = np.exp(np.sqrt(np.diag(known.saved_curvature.covariance)[1:])) - 1   # log timescales are free
    names = {"timescale_across": fit.timescales.across, "timescale_within": fit.timescales.within}
    for name, width in zip(names, widths, strict=True):
        table = resampled.intervals(0.9, of=name)
        np.testing.assert_allclose(table.sd / names[name], width, rtol=0.25)
        np.testing.assert_allclose(table[name], names[name])


@pytest.mark.slow
def test_a_recording_drawn_from_the_model_is_as_uncertain(fit, resampled):
    drawn = bootstrap_delays(fit, n_samples=100, kind="parametric", progress=False)
    assert drawn.failures == 0
    # 7% from 100 samples, 10% from what the other kind is off.
    np.testing.assert_allclose(drawn.intervals().sd[1], resampled.intervals().sd[1], rtol=0.25)
    off = float(drawn.delays[:, 1, 0].mean() - fit.delays[1, 0]) / float(drawn.intervals().sd[1, 0])
    assert abs(off) < 0.4   # 4 standard errors: refits of what the fit says are around the fit
    xr.testing.assert_equal(
        drawn.significance, bootstrap_delays(fit, n_samples=100, refit=False, progress=False).significance
    )


def test_drawn_information_has_the_models_moments(fit):
    names = fit.uncertain_sites
    given = Given.of(fit.model, fit.data, fit.sites, names)
    sites = {name: jnp.asarray(value) for name, value in fit.sites.items()}
    told = jnp.concatenate([
        resampling._drawn(fit.model, fit.data, given.information, sites, jax.random.key(seed)) for seed in range(5)
    ], axis=1)  # fmt: skip
    told = np.asarray(told).reshape(-1, told.shape[-1])
    precision = np.asarray(given.information.precision[0, 0])
    # Cov(b) = Lambda + Lambda K Lambda; readouts are the latent in both regions, then the one within.
    lag = fit.sites["delay"][0, 0] / fit.sites["timescale_across"][0]
    prior = np.eye(3)
    prior[0, 1] = prior[1, 0] = (1 - fit.model.gp_noise) * np.exp(-0.5 * lag**2)
    expected = precision + precision @ prior @ precision
    sd = np.sqrt(np.diag(expected))
    # 300 trials of about 4 independent bins: standard error 3 to 4%.
    np.testing.assert_allclose(np.cov(told.T) / np.outer(sd, sd), expected / np.outer(sd, sd), atol=0.15)


def test_drawn_information_ends_with_the_trial(fit):
    data = recording(n_trials=4, ragged=0.5, missing=0.2).data
    given = Given.of(fit.model, data, fit.sites, ())
    sites = {name: jnp.asarray(value) for name, value in fit.sites.items()}
    drawn = resampling._drawn(fit.model, data, given.information, sites, jax.random.key(0))
    assert data.length.min() < 20
    inside = np.arange(20)[:, None] < data.length
    np.testing.assert_array_equal(np.asarray(drawn != 0).any(-1), inside)


def test_threads_give_the_same_samples(fit):
    alone = bootstrap_delays(fit, n_samples=5, seed=4, progress=False)
    before = climbing._objective._cache_size()
    with ThreadPoolExecutor(2) as pool:
        shared = bootstrap_delays(fit, n_samples=5, seed=4, executor=pool, progress=False)
    xr.testing.assert_identical(alone.to_dataset(), shared.to_dataset())
    longer = bootstrap_delays(fit, n_samples=6, seed=4, progress=False)
    np.testing.assert_array_equal(longer.delays[:5], alone.delays)
    assert climbing._objective._cache_size() == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trials", "parametric"])
def test_processes_give_the_same_samples(fit, kind):
    alone = bootstrap_delays(fit, n_samples=4, kind=kind, progress=False)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        shared = bootstrap_delays(fit, n_samples=4, kind=kind, executor=pool, progress=False)
    xr.testing.assert_identical(alone.to_dataset(), shared.to_dataset())


def test_a_delay_is_significant_and_none_is_not(fit, resampled):
    table = resampled.significance
    assert table.pair.values.tolist() == ["V1 - V2"]
    assert table.significant.values.all()
    assert table.p_zero.values.max() == 0
    still = {**fit.sites, "delay": np.zeros((1, 1))}
    gain = float((fit.log_likelihood() - fit.model.log_likelihood(fit.data, still)).sum())
    np.testing.assert_allclose(table.log_likelihood_gain, gain, rtol=1e-8)
    none = given_emission(recording(delay=[[0.0], [0.0]]), MODEL)
    table = bootstrap_delays(none, n_samples=300, refit=False, progress=False).significance
    assert not table.significant.values.any()
    # A delay z standard deviations from 0: the gain is z^2 / 2 give or take z, whose scatter over 60 trials is 9%.
    z = np.sqrt(2 * float(table.log_likelihood_gain[0, 0]))
    assert float(table.p_zero[0, 0]) == pytest.approx(norm.cdf(-z / 2), abs=0.1)   # 0.03 from 300 samples
    zero = dataclasses.replace(none, sites={**none.sites, "delay": np.zeros((1, 1))})
    table = bootstrap_delays(zero, n_samples=20, refit=False, progress=False).significance
    assert table.p_zero.values.tolist() == [[1.0]]


@pytest.mark.slow
def test_loadings_known_as_a_distribution(fit):
    spread = 0.01 * np.broadcast_to(np.eye(2), (11, 2, 2))
    uncertain = dataclasses.replace(fit, loadings_covariance=spread)
    gain = bootstrap_delays(uncertain, n_samples=2, refit=False, progress=False).significance.log_likelihood_gain
    values = jnp.asarray(fit.data.values)
    best, without = (
        fit.model.likelihood_at(fit.data, {**fit.sites, "delay": delay}).with_spread(jnp.asarray(spread))
        for delay in (fit.sites["delay"], np.zeros((1, 1)))
    )
    expected = float((best.log_prob(values) - without.log_prob(values)).sum())
    np.testing.assert_allclose(gain, expected, rtol=1e-8)


@pytest.mark.slow
def test_counts_are_resampled_by_pseudo_observations():
    model = DLAG(1, 0, emission="poisson", **SHORT)
    sites = {"delay": np.array([[2 * BIN]]), "timescale_across": np.array([3 * BIN])}
    made = simulate(
        model, regions={"V1": 8, "V2": 7}, n_trials=50, n_bins=20, bin_width=BIN, seed=2, sites=sites, snr=0.5,
    )  # fmt: skip
    fit = model.fit(made.data, n_starts=1, progress=False)
    names = fit.uncertain_sites
    others = tuple(name for name in fit.sites if name not in names)
    scales = model.fitting.scales(made.data, fit.sites)
    bound = Objective(LogJoint(fit.model), made.data, fit.sites, scales, others)
    bound.within = 1e-6
    exact = profile_curvature(bound, names).covariance  # of the bound itself, q sought anew everywhere
    for kind in ("trials", "parametric"):
        found = bootstrap_delays(fit, n_samples=100, kind=kind, progress=False)
        assert found.failures == 0
        free = np.asarray(bound.transforms["delay"].inv(found.delays.values[:, 1, 0]))
        # 7% from 100 samples; pseudo-observations stay where they were made, q does not: sds up to 10% less.
        np.testing.assert_allclose(free.std(), np.sqrt(exact[0, 0]), rtol=0.3, err_msg=kind)
        off = float(found.delays[:, 1, 0].mean() - fit.delays[1, 0]) / float(found.intervals().sd[1, 0])
        assert abs(off) < 0.4
    assert bool(found.significance["significant"])
    with pytest.warns(UserWarning, match="too short"):
        draws = fit.model.fit(
            made.data, "nuts", start=fit, loadings="fixed", n_chains=1, n_warmup=60, n_draws=200, progress=False
        )  # fmt: skip
    free = np.asarray(bound.transforms["delay"].inv(draws.samples["delay"].ravel()))
    np.testing.assert_allclose(free.std(), np.sqrt(exact[0, 0]), rtol=0.3)


def test_every_pair_of_three_regions():
    delays = np.array([[0.0, 0.0], [1.5, 0.0], [1.5, -1.5]]) * BIN
    made = recording(
        regions={"A": 5, "B": 5, "C": 5}, n_across=2, n_within=0, delay=delays, timescale_across=[3 * BIN, 5 * BIN],
        n_trials=20, snr=2.0,
    )  # fmt: skip
    model = DLAG(2, 0, **SHORT)
    sites = {name: made.truth[name].values for name in ("loadings", "noise", "offset", "timescale_across")}
    sites["delay"] = delays[1:]
    fit = mrgp.Fit(
        model=model, layout=made.data.layout, n_bins=20, sites=sites, method="map", trace=np.zeros(1),
        converged=True, reason="", iterations=0, evaluations=0, wall_s=0.0, seed=0, data=made.data,
    )  # fmt: skip
    result = bootstrap_delays(fit, n_samples=100, refit=False, progress=False)
    table = result.significance
    assert table.pair.values.tolist() == ["A - B", "A - C", "B - C"]
    # Latents in columns; where a pair has no delay the two models are one.
    assert table.significant.values.tolist() == [[True, False], [True, True], [False, True]]
    assert table.p_zero.values[[0, 2], [1, 0]].tolist() == [1.0, 1.0]
    halfway = {**sites, "delay": np.array([[1.5, -0.75], [1.5, -0.75]]) * BIN}
    gain = float((fit.log_likelihood() - model.log_likelihood(made.data, halfway)).sum())
    np.testing.assert_allclose(table.log_likelihood_gain[2, 1], gain, rtol=1e-8)
    assert result.delays.sizes["sample"] == 0
    with pytest.raises(ValueError, match="refit=True"):
        result.intervals()


@pytest.mark.slow
def test_delays_that_vary():
    made = recording(delay_shape="gaussian_bump", delay=[[0.0], [2 * BIN]], n_within=0, n_trials=40)
    model = ADM(1, 0, **SHORT, delay_timescale=0.15, duration=20 * BIN)
    modes = model.delays.modes(model.tables.extent(made.data.layout, 20)).shape[-1]
    varying = given_emission(
        made, model, delay=np.full((1, 1), 0.5 * BIN), delay_spread=np.full((1, 1), BIN),
        delay_change=np.zeros((1, 1, modes)),
    )  # fmt: skip
    result = bootstrap_delays(varying, n_samples=8, progress=False)
    assert result.delays.dims == ("sample", "region", "across_latent", "time")
    table = result.intervals()
    assert table.lower.dims == ("region", "across_latent", "time")
    np.testing.assert_allclose(table["delay"], varying.delays)
    assert (table.sd[1] > 0).all()
    assert not table.sd[0].any()
    assert (abs(result.delays.mean("sample") - varying.delays)[1] < 1.5 * table.sd[1]).all()
    assert result.significance.significant.values.tolist() == [[True]]
    assert set(result.to_dataset()) > {"delay", "delay_fitted", "timescale_across", "p_zero", "converged"}
    level = {**varying.sites, "delay": np.zeros((1, 1)), "delay_change": np.zeros((1, 1, modes))}
    gain = float((varying.log_likelihood() - model.log_likelihood(made.data, level)).sum())
    np.testing.assert_allclose(result.significance.log_likelihood_gain, gain, rtol=1e-8)


def test_what_was_fixed_stays(fit):
    held = dataclasses.replace(fit, fixed=("delay", "timescale_within"))
    result = bootstrap_delays(held, n_samples=3, progress=False)
    np.testing.assert_array_equal(result.delays, np.broadcast_to(fit.delays, (3, 2, 1)))
    np.testing.assert_array_equal(result.timescale_within[0], fit.timescales.within)
    assert (result.timescale_across.std("sample") > 0).all()
    held = dataclasses.replace(fit, fixed=fit.uncertain_sites)
    with pytest.raises(ValueError, match="refit=False"):
        bootstrap_delays(held, n_samples=3, progress=False)


def test_refits_that_did_not_converge_are_left_out_with_a_warning(fit, resampled, monkeypatch):
    monkeypatch.setattr(resampling, "ITERATIONS", 1)
    with pytest.warns(UserWarning, match="3 of 3 refits did not converge"):
        result = bootstrap_delays(fit, n_samples=3, progress=False)
    assert result.failures == 3
    with pytest.raises(ValueError, match="two refits that converged, there are 0"):
        result.intervals()


def test_an_interrupt_ends_all_samples(fit, monkeypatch):
    calls = []

    def stop(self, x):
        calls.append(x)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return original(self, x)

    original = Objective.__call__
    monkeypatch.setattr(Objective, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        bootstrap_delays(fit, n_samples=50, progress=False)
    assert len(calls) < 100


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"n_samples": 0}, "at least 1, not 0"),
        ({"kind": "blocks"}, "'trials' or 'parametric'"),
    ],
)
def test_a_wrong_choice_is_refused(fit, changes, match):
    with pytest.raises(ValueError, match=match):
        bootstrap_delays(fit, **changes)


def test_a_recording_that_does_not_suit_is_refused(fit, resampled):
    one = fit.data.select_trials([0])
    with pytest.raises(ValueError, match="only one"):
        bootstrap_delays(fit, one)
    with pytest.raises(mrgp.DataError, match="pass data="):
        bootstrap_delays(dataclasses.replace(fit, data=None))
    with pytest.raises(mrgp.DataError, match="but the fit is of"):
        bootstrap_delays(fit, fit.data.select_neurons({"V1": [0, 1]}))
    sites = {name: value for name, value in fit.sites.items() if name not in ("delay", "timescale_within")}
    pooled = dataclasses.replace(fit, model=GPFA(1), sites=sites)
    with pytest.raises(ValueError, match="GPFA has no delays to bootstrap: fit DLAG, ADM or MDLAG"):
        bootstrap_delays(pooled)
    with pytest.raises(ValueError, match="between 0 and 1"):
        resampled.intervals(90)
    with pytest.raises(ValueError, match="choose from delay, timescale_across"):
        resampled.intervals(of="loadings")
