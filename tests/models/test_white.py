"""White latents: the kernel under all likelihoods, factor analysis and probabilistic CCA against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import DLAG, FA, GFA, GPFA, LDS, MDLAG, PCCA
from numpyro import handlers
from oracles import best_poisson_bound
from scipy.stats import multivariate_normal

import mrgp
from mrgp.families.model import Model
from mrgp.likelihoods import best_gaussian
from mrgp.likelihoods.statespace.lift import build_lift, is_white
from mrgp.likelihoods.statespace.readout import Window
from mrgp.parts.kernels import Matern12, Spectral, SquaredExponential, Stretched, White
from mrgp.parts.loadings import readout_loadings
from mrgp.results.table import table
from mrgp.simulations.simulate import simulate

BIN = 0.02


def recording(**changes):
    settings = {
        "regions": {"V1": 5, "V2": 4}, "n_across": 2, "n_within": 0, "n_trials": 10, "n_bins": 30, "bin_width": BIN,
        "kernel": White(), "delay": np.zeros((2, 2)), "heterogeneity": 0.3, "seed": 1,
    }  # fmt: skip
    return simulate(**{**settings, **changes})


@pytest.fixture(scope="module")
def made():
    return recording()


@pytest.fixture(scope="module")
def fit(made):
    return FA(n_across=2).fit(made.data, progress=False)


# --- the kernel


def test_correlation_is_one_at_lag_zero_alone():
    lags = jnp.array([0.0, -0.0, 1e-300, 0.5, 1.0, -3.0, 0.3 - 0.3])
    for timescale in (0.02, 1.0, 1e4):
        hyper = {"timescale": jnp.array([timescale])}
        got = White().correlation(lags[:, None], hyper)[:, 0]
        np.testing.assert_array_equal(got, [1, 1, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_lift_is_one_state_without_memory(array):
    lift = build_lift(White())
    assert (lift.order, lift.error) == (1, 0.0)
    A = lift.propagate(array([[0.0, 0.0], [1.0, 0.25]]), {"timescale": array([1.0, 3.0])})
    np.testing.assert_array_equal(A, np.array([1.0, 1.0, 0.0, 0.0]).reshape(2, 2, 1, 1))
    np.testing.assert_array_equal(lift.read(), [1.0])


def test_sums_and_wrappers_know_whether_they_have_a_timescale():
    for kernel in (White(), Stretched(White(), 2.0), Spectral(White(), 3.0), 0.5 * White() + 1.0 * White()):
        assert not kernel.has_timescale
        assert is_white(kernel)
    for kernel in (Matern12(), Stretched(Matern12(), 2.0), Spectral(), 0.9 * SquaredExponential() + 0.1 * White()):
        assert kernel.has_timescale
        assert not is_white(kernel)


def test_a_sum_with_a_white_term_is_lifted_exactly():
    kernel = 0.75 * Matern12() + 0.25 * White()
    lift, lags = build_lift(kernel), np.array([[0.0], [1e-9], [1.0], [4.0]])
    A = lift.propagate(lags, {"timescale": np.array([2.0])})
    got = np.einsum("i,tlij,j->t", lift.read(), A, lift.read())
    np.testing.assert_allclose(got, [1.0, 0.75, 0.75 * np.exp(-0.5), 0.75 * np.exp(-2.0)], atol=1e-8)


# --- the likelihoods


def bin_moments(model):
    """Mean and covariance of all neurons in one bin, from the definition of the model."""
    a, eps = model.prior.assignment, model.prior.gp_noise
    shared = np.kron(np.ones((a.n_regions,) * 2), np.eye(a.n_across))
    V = np.eye(a.n_readouts)
    V[: len(shared), : len(shared)] = (1 - eps) * shared + eps * np.eye(len(shared))
    C = np.asarray(readout_loadings(a, model.arguments["loadings"]))
    return np.asarray(model.arguments["offset"]), C @ V @ C.T + np.diag(model.arguments["noise"])


@pytest.mark.slow
def test_likelihoods_are_the_normal_density_bin_by_bin(small_model):
    score, n_bins = jax.jit(lambda distribution, value: distribution.log_prob(value)), 6
    model = small_model(kernel=White(), max_delay=0.0, n_within=(1, 0), n_bins=n_bins)
    value = np.random.default_rng(0).standard_normal((3, n_bins, 5))
    mean, covariance = bin_moments(model)
    expected = multivariate_normal(mean, covariance).logpdf(value).sum(-1)
    built = [model.dense(), model.spectral(), model.markov(window=Window(0)), model.markov(Window(0), parallel=True)]
    for distribution in built:
        np.testing.assert_allclose(score(distribution, value), expected, rtol=1e-8, atol=1e-8)
    # Registers read the white latent where it lies; their ridge of 1e-11 is all that differs.
    np.testing.assert_allclose(score(model.markov(window=Window(6)), value), expected, atol=1e-7)


def test_missing_entries_leave_the_density(made, fit):
    rng = np.random.default_rng(2)
    values = made.data.values.copy()[:4]
    values[rng.random(values.shape) < 0.3] = np.nan
    values[1, 20:] = np.nan
    data = mrgp.MultiRegionData({"V1": values[..., :5], "V2": values[..., 5:]}, BIN)
    C, R, d = (fit.sites[name] for name in ("loadings", "noise", "offset"))
    covariance = C @ C.T + np.diag(R)
    expected = [
        sum(
            multivariate_normal(d[seen], covariance[np.ix_(seen, seen)]).logpdf(y[seen])
            for y in trial
            if (seen := ~np.isnan(y)).any()
        )
        for trial in values
    ]
    np.testing.assert_allclose(fit.log_likelihood(data), expected, rtol=1e-8)


# --- the presets


def factor_analysis(y, size, iterations=3000):
    """Log-likelihood at the maximum by expectation-maximization (Rubin & Thayer 1982), y (sample, neuron)."""
    S = np.cov(y.T, bias=True)
    values, vectors = np.linalg.eigh(S)
    C, R = vectors[:, -size:] * np.sqrt(values[-size:]), np.diag(S)
    for _ in range(iterations):
        B = np.linalg.solve(C @ C.T + np.diag(R), C).T
        C = S @ B.T @ np.linalg.inv(np.eye(size) - B @ C + B @ S @ B.T)
        R = np.diag(S - C @ B @ S)
    covariance = C @ C.T + np.diag(R)
    return -0.5 * len(y) * (np.linalg.slogdet(2 * np.pi * covariance)[1] + np.trace(np.linalg.solve(covariance, S)))


def test_factor_analysis_reaches_the_maximum_of_em(made, fit):
    assert fit.converged
    best = factor_analysis(made.data.values.reshape(-1, 9), 2)
    # The priors are worth 1e-3 nats here, the tolerance of the climb 1e-2.
    assert best - 0.1 < float(fit.log_likelihood().sum()) < best + 0.01


def test_latents_are_ordered_by_what_they_explain(fit):
    C, R = fit.sites["loadings"], fit.sites["noise"]
    explained = C.T @ (C / R[:, None])
    np.testing.assert_allclose(explained - np.diag(np.diag(explained)), 0.0, atol=1e-9 * explained.max())
    assert explained[0, 0] > explained[1, 1]


@pytest.mark.slow
def test_pcca_with_full_private_covariance_reaches_the_maximum(made):
    """Bach & Jordan (2005), section 4: at the maximum, what regions share are the canonical correlations."""
    fit = PCCA(n_across=1, n_within=(4, 3)).fit(made.data, progress=False)
    assert fit.converged
    y = made.data.values.reshape(-1, 9)
    S = np.cov(y.T, bias=True)
    own = [S[:5, :5], S[5:, 5:]]
    white = [np.linalg.inv(np.linalg.cholesky(block)) for block in own]
    correlation = np.linalg.svd(white[0] @ S[:5, 5:] @ white[1].T)[1]
    log_determinant = sum(np.linalg.slogdet(2 * np.pi * block)[1] for block in own)
    best = -0.5 * len(y) * (log_determinant + np.log(1 - correlation[0] ** 2) + 9)
    assert best - 0.1 < float(fit.log_likelihood().sum()) < best + 0.01
    assert fit.loadings["V1"].shape == (5, 5)
    np.testing.assert_array_equal(fit.delays, np.zeros((2, 1)))
    assert not fit.has_delays
    assert "all regions" in table(fit)


def test_a_white_latent_has_no_timescale_anywhere(made, fit):
    for model in (FA(n_across=2), PCCA(n_across=2, n_within=1), DLAG(n_across=2, n_within=1, kernel=White())):
        trace = handlers.trace(handlers.seed(model, 0)).get_trace(made.data)
        assert not any(name.startswith("timescale") for name in trace)
        assert not any(name.startswith("timescale") for name in model.tables.dynamics_sites(made.data.layout))
    np.testing.assert_array_equal(fit.timescales.across, np.zeros(2))
    np.testing.assert_array_equal(made.truth.timescale_across, np.zeros(2))
    assert "white" in table(fit)
    blocks = {"V1": fit.sites["loadings"][:5], "V2": fit.sites["loadings"][5:]}
    with pytest.raises(ValueError, match="one number, or one per region"):
        PCCA(n_across=2, n_within=(1, 1, 1)).assignment(made.data.layout)
    given = PCCA(n_across=2).params_from(
        made.data.layout, loadings=blocks, noise=fit.sites["noise"], offset=fit.sites["offset"]
    )
    assert given.keys() == {"loadings", "noise", "offset"}
    # Copies that differ by a millionth of their variance: as one population, but for that.
    np.testing.assert_allclose(
        PCCA(n_across=2).log_likelihood(made.data, given), fit.log_likelihood(), rtol=1e-6, atol=1e-3
    )


@pytest.mark.slow
def test_a_fit_serves_as_any_other(made, fit, tmp_path):
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.log_likelihood(made.data), fit.log_likelihood())
    assert Model.from_settings(fit.model.to_settings()) == fit.model
    with pytest.warns(UserWarning, match="no delays or timescales to draw: its tree has no posterior"):
        tree = fit.to_arviz(n_draws=3)
    assert not {"posterior", "log_likelihood", "posterior_predictive"} & set(tree.children)
    np.testing.assert_array_equal(tree["constant_data"]["loadings"], fit.sites["loadings"])
    latents = fit.latents()
    C, R, d = (fit.sites[name] for name in ("loadings", "noise", "offset"))
    precision = np.eye(2) + C.T @ (C / R[:, None])
    mean = np.linalg.solve(precision, (C / R[:, None]).T @ (made.data.values - d).reshape(-1, 9).T).T
    np.testing.assert_allclose(latents.across_mean.values.reshape(-1, 2), mean, atol=1e-2)  # eps: 1e-3 of x is noise
    between = fit.latents(refine=2).across_sd.values[:, 1::2]
    np.testing.assert_allclose(between, 1.0, atol=1e-6)  # half-way between two bins nothing is known
    assert fit.lift_error(20) < 1e-9


@pytest.mark.slow
def test_gradient_is_finite():
    model = FA(n_across=2)
    data = recording(n_trials=2, n_bins=4).data
    sites = {"loadings": jnp.ones((9, 2)), "noise": jnp.ones(9), "offset": jnp.zeros(9)}
    slope = jax.grad(lambda s: model.likelihood_at(data, s).log_prob(data.values).sum())(sites)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.slow
@pytest.mark.parametrize("model", [FA(2, gp_noise=0.01), PCCA(1, 1, gp_noise=0.01)], ids=["FA", "PCCA"])
def test_the_bound_of_counts_is_that_of_the_best_gaussian(model, monkeypatch):
    """Bin by bin, as bins know nothing of each other; every region's copy of a latent has its own GP noise."""
    monkeypatch.setattr(best_gaussian, "TOLERANCE", 1e-11)
    model = model.replace(emission="poisson")
    rng, pooled = np.random.default_rng(0), model.pools_regions
    y = rng.poisson(2.0, (1, 5, 5)).astype(float)
    data = mrgp.MultiRegionData({"V1": y[..., :3], "V2": y[..., 3:]}, BIN)
    assignment = model.assignment(data.layout)
    C, d = 0.7 * rng.standard_normal((5, assignment.n_columns)) * assignment.used, 0.3 * rng.standard_normal(5)
    C_of_readouts = np.asarray(readout_loadings(assignment, jnp.asarray(C)))
    prior = np.eye(2) if pooled else np.eye(4)
    if not pooled:  # readouts: the shared latent in V1 and in V2, then the private ones
        prior[0, 1] = prior[1, 0] = 0.99
    wanted = sum(best_poisson_bound(one, d, prior, C_of_readouts)[0] for one in y[0])
    found = model.log_likelihood(data, {"loadings": C, "offset": d}).values
    np.testing.assert_allclose(found, wanted, rtol=1e-8)
    dense = model.replace(likelihood="dense").log_likelihood(data, {"loadings": C, "offset": d}).values
    np.testing.assert_allclose(dense, found, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("emission", ["poisson", "negative_binomial"])
def test_factor_analysis_of_counts_finds_the_plane_of_log_rates(emission):
    rng = np.random.default_rng(1)
    C = 0.8 * rng.standard_normal((12, 2))
    rate = np.exp(rng.standard_normal((40, 30, 2)) @ C.T)
    rate = rate * rng.gamma(4, 0.25, rate.shape) if emission == "negative_binomial" else rate
    y = rng.poisson(rate).astype(float)
    data = mrgp.MultiRegionData({"V1": y[..., :6], "V2": y[..., 6:]}, BIN)
    fit = FA(2, emission=emission).fit(data, progress=False)
    both = np.concatenate([np.linalg.qr(part)[0] for part in (C, fit.sites["loadings"])], 1)
    angles = np.arccos(np.clip(np.linalg.svd(both[:, :2].T @ both[:, 2:])[1], -1, 1))
    assert angles.max() < 0.15
    power = np.linalg.norm(fit.sites["loadings"]) / np.linalg.norm(C)
    assert power == pytest.approx(1, abs=0.1)
    assert fit.log_likelihood().sum() > FA(1, emission=emission).fit(data, progress=False).log_likelihood().sum() + 100


def test_noise_with_a_memory_is_refused_where_bins_have_none(made):
    for model in (FA(1), PCCA(1, 1), GFA(1), GPFA(1, kernel=White())):
        with pytest.raises(ValueError, match="noise='ar1' is for latents with a timescale: take another model, or"):
            model.replace(noise="ar1")
    sites = {"loadings": np.ones((9, 1)), "noise": np.ones(9), "offset": np.zeros(9), "noise_timescale": [0.05]}
    exact = FA(1, noise="ar1", likelihood="dense").log_likelihood(made.data, sites).values
    assert np.isfinite(exact).all()


def test_wrong_use_is_refused(made):
    for preset in (FA, PCCA):
        with pytest.raises(ValueError, match="has no use for kernel: leave it out, or use"):
            preset(n_across=1, kernel=SquaredExponential())
    with pytest.raises(ValueError, match="no within latents"):
        FA(n_across=1, n_within=1).fit(made.data)
    with pytest.raises(ValueError, match="method is one of map for FA, not 'em'"):
        FA(n_across=1).fit(made.data, method="em")
    with pytest.raises(mrgp.DataError, match="PCCA compares regions"):
        PCCA(n_across=1).fit(made.data.select_neurons({"V2": []}))


def test_bins_tell_of_each_other_unless_latents_are_white_and_undelayed(made):
    rng = np.random.default_rng(0)
    data = mrgp.MultiRegionData({name: rng.standard_normal((4, 6, 3)) for name in "AB"}, 0.02)
    apart = (FA(1), PCCA(1, 1), GFA(1, 1))
    joined = (DLAG(1, 1), GPFA(1), MDLAG(1, 1), LDS(1))
    assert [model.tables.remember(data.layout) for model in (*apart, *joined)] == [False] * 3 + [True] * 4
