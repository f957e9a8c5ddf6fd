"""Private noise with a timescale: innovations, all likelihoods, what is smoothed, and fits."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import DLAG, FA, GPFA, LDS, MDLAG
from scipy.stats import multivariate_normal

import mrgp
from mrgp.likelihoods.statespace.readout import Window
from mrgp.parts.emissions.autocorrelated import innovation_covariance, innovations, restored
from mrgp.recordings.missing import Missing
from mrgp.results.table import table
from mrgp.simulations.simulate import simulate

AUTOCORRELATION = np.array([0.6, 0.25])  # of the two regions of the small model
EXACT = Window(7, shifts=(-0.5,))  # of Matern latents with delays of whole bins all that is read stands in the state


def as_matrix(n_bins, phi):
    """The map to innovations of time-major (time * channel), entry by entry."""
    n = len(phi)
    F = np.zeros((n_bins * n, n_bins * n))
    for t in range(n_bins):
        for i in range(n):
            F[t * n + i, t * n + i] = 1.0 if t else np.sqrt(1 - phi[i] ** 2)
            if t:
                F[t * n + i, (t - 1) * n + i] = -phi[i]
    return F


def test_innovations_are_a_triangular_map_and_restored():
    rng = np.random.default_rng(0)
    signals, phi = rng.standard_normal((3, 6, 4)), np.array([0.0, 0.3, 0.9, 0.5])
    got = innovations(jnp.asarray(signals), jnp.asarray(phi))
    F = as_matrix(6, phi)
    np.testing.assert_allclose(got.reshape(3, -1), signals.reshape(3, -1) @ F.T, atol=1e-12)
    np.testing.assert_allclose(restored(got, jnp.asarray(phi)), signals, atol=1e-12)
    K = rng.standard_normal((24, 24))
    K = K @ K.T
    np.testing.assert_allclose(innovation_covariance(jnp.asarray(K), jnp.asarray(phi)), F @ K @ F.T, atol=1e-10)


def squared_exponential(lag):
    return np.exp(-0.5 * lag**2)


def matern52(lag):
    scaled = np.sqrt(5) * np.abs(lag)
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def moments_by_hand(model, phi=AUTOCORRELATION, correlation=squared_exponential):
    """Mean and covariance of a trial, and of the readouts: their signals, and their GP noise written out in time."""
    prior, arguments, n_bins = model.prior, model.arguments, model.n_bins
    assignment, eps = prior.assignment, prior.gp_noise
    latent = [0, 1, 0, 1, 2]  # of each readout: two across in each of two regions, one within
    region = assignment.region_of_readout
    timescale = np.concatenate([arguments["across"]["timescale"], arguments["within"]["timescale"]])
    delay = np.asarray(arguments["delay"][0])
    late = np.array([delay[r, k] if k < 2 else 0.0 for r, k in zip(region, latent, strict=True)])
    t = np.arange(n_bins)
    apart = np.abs(t[:, None] - t)
    m, n = len(latent), sum(assignment.n_neurons)
    signal, own = np.zeros((2, n_bins, m, n_bins, m))
    for i in range(m):
        for j in range(m):
            if latent[i] == latent[j]:
                lag = (t[:, None] - late[i]) - (t - late[j])
                signal[:, i, :, j] = (1 - eps) * correlation(lag / timescale[latent[i]])
        own[:, i, :, i] = eps * phi[region[i]] ** apart
    C = np.zeros((n, m))
    for neuron, r in enumerate(assignment.region_of_neuron):
        for i in range(m):
            if region[i] == r:
                C[neuron, i] = arguments["loadings"][neuron, latent[i]]
    S = np.einsum("ni,tiuj,mj->tnum", C, signal + own, C)
    for neuron, r in enumerate(assignment.region_of_neuron):
        S[:, neuron, :, neuron] += float(arguments["noise"][neuron]) * phi[r] ** apart
    mean = np.tile(np.asarray(arguments["offset"]), n_bins)
    return mean, S.reshape(n_bins * n, -1), signal.reshape(n_bins * m, -1), own.reshape(n_bins * m, -1), C


def gapless(kind, n_trials=4, n_bins=7, n_neurons=5):
    """Trials of different length, neurons that are missing throughout, both, or neither."""
    mask, length, observed, pattern = np.ones((n_trials, n_bins, n_neurons), bool), None, None, np.zeros(n_trials, int)
    if "ragged" in kind:
        length = np.array([7, 3, 1, 5])
        mask &= (np.arange(n_bins) < length[:, None])[..., None]
    if "hidden" in kind:
        observed = np.ones((2, n_bins, n_neurons), bool)
        observed[1][:, [0, 3]] = False
        pattern = np.array([0, 1, 1, 0])
        mask &= observed[pattern]
    return mask, None if kind == "complete" else Missing(observed, jnp.asarray(pattern), length)


@pytest.mark.parametrize(
    "gaps",
    [*(pytest.param(gaps, marks=pytest.mark.slow) for gaps in ("complete", "ragged", "hidden")), "ragged hidden"],
)
@pytest.mark.parametrize("kind", ["dense", "markov"])
def test_density_is_that_of_noise_correlated_over_time(small_model, kind, gaps):
    model = small_model()
    mean, S, *_ = moments_by_hand(model)
    mask, missing = gapless(gaps)
    y = np.random.default_rng(2).multivariate_normal(mean, S, 4).reshape(4, 7, 5) * mask
    own = {"window": Window(14, 1, 2, (-0.5,)), "order": 6} if kind == "markov" else {}
    distribution = getattr(model, kind)(missing=missing, autocorrelation=jnp.asarray(AUTOCORRELATION), **own)
    got = distribution.log_prob(jnp.asarray(y))
    flat, seen = y.reshape(4, -1), mask.reshape(4, -1)
    wanted = [
        multivariate_normal.logpdf(a[o], mean[o], S[np.ix_(o, o)]) for a, o in zip(flat, seen, strict=True)
    ]
    # The lift's error of k, 5e-6 at order 6, over the 6e-3 that is new of the GP noise, costs 7e-4 nats at the most.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-8 if kind == "dense" else 2e-3)


@pytest.mark.slow
def test_smoothed_readouts_are_those_of_conditioning(small_model):
    """Means are of signal and GP noise together, covariances of the signal and, beside it, of GP noise a priori."""
    model = small_model(kernel=mrgp.Matern52())
    model.arguments["delay"] = jnp.round(model.arguments["delay"])
    mean, S, signal, own, C = moments_by_hand(model, correlation=matern52)
    mask, missing = gapless("ragged hidden")
    y = np.random.default_rng(3).multivariate_normal(mean, S, 4).reshape(4, 7, 5) * mask
    distribution = model.markov(EXACT, order=6, missing=missing, autocorrelation=jnp.asarray(AUTOCORRELATION))
    got = distribution.posterior(jnp.asarray(y))
    big = np.kron(np.eye(7), C)
    for trial in range(4):
        seen = mask[trial].ravel()
        from_signal, from_own = (K @ big[seen].T @ np.linalg.inv(S[np.ix_(seen, seen)]) for K in (signal, own))
        expected = (from_signal + from_own) @ (y[trial].ravel() - mean)[seen]
        left = (signal - from_signal @ big[seen] @ signal).reshape(7, 5, 7, 5)
        np.testing.assert_allclose(got.readout_mean[trial].ravel(), expected, rtol=0, atol=1e-8)
        kept = np.array([left[t, :, t] for t in range(7)]) + model.prior.gp_noise * np.eye(5)
        np.testing.assert_allclose(got.readout_covariance[int(got.pattern[trial])], kept, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["dense", pytest.param("markov", marks=pytest.mark.slow)])
def test_samples_are_correlated_over_time(small_model, kind):
    model = small_model()
    mean, S, *_ = moments_by_hand(model)
    own = {"window": Window(14, 1, 2, (-0.5,)), "order": 6} if kind == "markov" else {}
    distribution = getattr(model, kind)(autocorrelation=jnp.asarray(AUTOCORRELATION), **own)
    draws = np.asarray(distribution.sample(jax.random.key(0), (20000,))).reshape(20000, -1)
    # Five standard errors of a covariance of 20000 draws.
    size = np.sqrt(np.diag(S))
    assert np.abs((np.cov(draws.T) - S) / np.outer(size, size)).max() < 5 * np.sqrt(2 / 20000)
    assert np.abs((draws.mean(0) - mean) / size).max() < 5 / np.sqrt(20000)


@pytest.mark.slow
def test_an_exact_lift_is_exact(small_model):
    model, y = small_model(kernel=mrgp.Matern52()), jnp.asarray(np.random.default_rng(5).standard_normal((3, 7, 5)))
    model.arguments["delay"] = jnp.round(model.arguments["delay"])
    given = {"autocorrelation": jnp.asarray(AUTOCORRELATION)}
    markov = model.markov(EXACT, order=6, **given)
    np.testing.assert_allclose(markov.log_prob(y), model.dense(**given).log_prob(y), atol=1e-7)
    with pytest.raises(ValueError, match="autocorrelated noise needs a state space that reads the bin before"):
        markov.with_space(dataclasses.replace(markov.space, autocorrelated=False)).log_prob(y)


def test_no_memory_is_white_noise(small_model):
    model, y = small_model(), jnp.asarray(np.random.default_rng(4).standard_normal((3, 7, 5)))
    none = model.dense(autocorrelation=jnp.zeros(2)).log_prob(y)
    np.testing.assert_allclose(none, model.dense().log_prob(y), atol=1e-9)


# --- fits


@pytest.fixture(scope="module")
def fitted():
    made = simulate(
        regions={"V1": 6, "V2": 6}, n_across=1, n_within=0, n_trials=30, n_bins=25, bin_width=0.02,
        timescale_across=0.1, delay=np.array([[0.0], [0.02]]), snr=0.5, seed=5,
    )  # fmt: skip
    model = DLAG(1, 0, noise="ar1", likelihood="dense", max_delay=0.1)
    truth = {
        name: np.asarray(made.truth[name]) for name in ("loadings", "noise", "offset", "timescale_across")
    } | {"delay": np.array([[0.02]]), "noise_timescale": np.array([0.03, 0.012])}
    y = np.asarray(model.likelihood_at(made.data, truth).sample(jax.random.key(1)))
    data = mrgp.MultiRegionData({"V1": y[..., :6], "V2": y[..., 6:]}, 0.02)
    return data, truth, model.fit(data, progress=False, n_starts=3)


@pytest.mark.slow
def test_the_noise_timescale_is_found(fitted):
    """phi of 4500 neuron bins per region is known to about sqrt((1 - phi^2) / 4500) = 0.012."""
    data, truth, fit = fitted
    assert fit.converged
    found, wanted = (np.exp(-0.02 / sites["noise_timescale"]) for sites in (fit.sites, truth))
    np.testing.assert_allclose(found, wanted, atol=0.05)
    assert abs(fit.delays.values[1, 0] - 0.02) < 4 * fit.delay_intervals().sd.values[1, 0]
    white = fit.model.replace(noise="white").fit(data, start=fit, progress=False)
    assert float(fit.log_likelihood().sum()) > float(white.log_likelihood().sum()) + 50
    np.testing.assert_allclose(fit.noise_timescales, fit.sites["noise_timescale"])


@pytest.mark.slow
def test_variational_bayes_leaves_noise_to_the_noise(fitted):
    """White noise would need latents for what noise remembers: here only the true latent stays."""
    data, truth, _ = fitted
    model = MDLAG(2, noise="ar1", likelihood="dense", max_delay=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the latent that is removed
        fit = model.fit(data, "vb", progress=False, n_starts=2)
        white = model.replace(noise="white").fit(data, "vb", progress=False, n_starts=2)
    assert fit.converged
    assert np.diff(fit.trace).min() > -1e-6
    assert (fit.model.n_across, white.model.n_across) == (1, 2)
    found, wanted = (np.exp(-0.02 / sites["noise_timescale"]) for sites in (fit.sites, truth))
    np.testing.assert_allclose(found, wanted, atol=0.05)
    assert abs(fit.delays.values[1, 0] - 0.02) < 4 * fit.delay_intervals().sd.values[1, 0]
    assert fit.trace[-1] > white.trace[-1] + 50


@pytest.mark.slow
def test_noise_timescales_are_told(fitted):
    _, _, fit = fitted
    found = fit.sites["noise_timescale"]
    assert fit.summary()["noise_timescales"] == found.tolist()
    rows = [line.split() for line in table(fit).split("\n\n")[-1].splitlines()]
    assert rows[0] == ["region", "noise", "timescale", "(ms)"]
    assert rows[1:] == [["V1", f"{1e3 * found[0]:.0f}"], ["V2", f"{1e3 * found[1]:.0f}"]]
    white = dataclasses.replace(fit, model=fit.model.replace(noise="white"), data=None)
    white.sites = {name: value for name, value in fit.sites.items() if name != "noise_timescale"}
    assert "noise_timescales" not in white.summary()
    assert "noise" not in table(white)


@pytest.mark.slow
def test_markov_and_dense_fits_are_the_same_model(fitted):
    data, _, fit = fitted
    markov = fit.model.replace(likelihood="markov").fitting.adapted(data, fit.sites, 1.0)
    np.testing.assert_allclose(markov.log_likelihood(data, fit.sites), fit.log_likelihood(), atol=0.01)
    assert markov.window.step == 1


@pytest.mark.slow
def test_what_is_hidden_is_predicted_and_holes_are_refused(fitted):
    data, _, fit = fitted
    loud = int(np.argmax(np.abs(fit.loadings["V1"].values[:, 0]) / data.scale[:6]))
    hidden = fit.predict(data.without({"V1": [loud]}))
    shared = float((fit.loadings["V1"][loud] ** 2).sum() / data.scale[loud] ** 2)
    error = np.var(data.region("V1")[..., loud] - hidden["V1_mean"].values[..., loud]) / data.scale[loud] ** 2
    assert 1 - shared - 0.1 < error < 1 - 0.3 * shared
    values = {name: data.region(name) for name in ("V1", "V2")}
    values["V1"][0, 3, 1] = np.nan
    holes = mrgp.MultiRegionData(values, 0.02)
    with pytest.raises(mrgp.DataError, match="noise='ar1' needs neurons that are there in all bins of a trial"):
        fit.predict(holes)
    with pytest.raises(ValueError, match="noise='ar1' needs neurons"):
        fit.model.fit(holes, progress=False)


def test_wrong_use_of_memory():
    with pytest.raises(ValueError, match="noise is 'white' or 'ar1', not 'ar2'"):
        DLAG(1, 0, noise="ar2")
    with pytest.raises(ValueError, match="noise='ar1' is for likelihood 'markov'"):
        GPFA(1, noise="ar1", likelihood="spectral")
    with pytest.raises(ValueError, match="noise='ar1' is of emission='gaussian'"):
        GPFA(1, noise="ar1", emission="poisson")
    for preset in (LDS, FA):
        with pytest.raises(ValueError, match="noise='ar1' is for latents with a timescale"):
            preset(1, noise="ar1")
