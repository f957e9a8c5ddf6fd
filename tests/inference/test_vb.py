"""Variational Bayes against explicit sums over a dense posterior, and what its fits must get right."""

import dataclasses
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import DLAG, GFA, MDLAG
from numpyro.infer import SVI, Trace_ELBO, autoguide, init_to_value
from numpyro.optim import Adam
from scipy import stats
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize_scalar
from scipy.special import digamma, gammaln

import mrgp
from mrgp.inference.density import free_sites
from mrgp.inference.run import Options
from mrgp.inference.variational_bayes import vb
from mrgp.inference.variational_bayes.bound import Bound, Mixed, Setting, priors_of, relevance_of, trace_of
from mrgp.inference.variational_bayes.rounds import value_of
from mrgp.inference.variational_bayes.updates import revival, update
from mrgp.likelihoods.likelihood import Spectral
from mrgp.likelihoods.statespace.covariance import exact_covariance
from mrgp.parts.loadings import readout_loadings, shared_variance
from mrgp.simulations.simulate import simulate

BIN = 0.02
N_TRIALS, N_BINS = 4, 6


def recording(kind: str = "complete", seed: int = 0) -> mrgp.MultiRegionData:
    rng = np.random.default_rng(seed)
    regions = {"A": rng.standard_normal((N_TRIALS, N_BINS, 3)), "B": 2 + rng.standard_normal((N_TRIALS, N_BINS, 2))}
    if "holes" in kind:
        regions["A"][1, 2:4, 0] = np.nan
        regions["B"][2, 0] = np.nan
    if "hidden" in kind:
        regions["B"][0, :, 1] = np.nan
    if "ragged" in kind:
        for array in regions.values():
            array[3, 4:] = np.nan
    return mrgp.MultiRegionData(regions, BIN)


def state(model, data, seed=1):
    """Random sites, and random covariances of the loadings (zero where a column is not used)."""
    rng = np.random.default_rng(seed)
    assignment = model.assignment(data.layout)
    neurons, columns = data.layout.total_neurons, assignment.n_columns
    within = sum(assignment.n_within)
    sites = {
        "loadings": rng.standard_normal((neurons, columns)),
        "noise": rng.uniform(0.3, 1.0, neurons),
        "offset": rng.standard_normal(neurons),
        "timescale_across": BIN * rng.uniform(1.5, 4.0, model.n_across),
        "delay": BIN * rng.uniform(-2, 2, (assignment.n_regions - 1, model.n_across)),
    }
    if model.noise == "ar1":
        sites["noise_timescale"] = BIN * np.array([1.5, 0.7])
    if within:
        sites["timescale_within"] = BIN * rng.uniform(1.5, 4.0, within)
    root = 0.3 * rng.standard_normal((neurons, columns, columns))
    both = assignment.used[:, :, None] & assignment.used[:, None, :]
    covariance = np.where(both, root @ np.swapaxes(root, 1, 2) + 0.05 * np.eye(columns), np.eye(columns))
    setting = Setting.of(data, sites["loadings"], covariance)
    return {name: jnp.asarray(value) for name, value in sites.items()}, setting


def correlations_of_noise(model, data, sites):
    """Of each neuron over a trial's seen bins, inverted and 0 elsewhere, (neuron, time, time); and log determinants."""
    neurons, T = data.layout.total_neurons, data.n_bins
    phi = np.zeros(neurons)
    if "noise_timescale" in sites:
        kept = np.exp(-BIN / np.asarray(sites["noise_timescale"]))
        phi = kept[data.layout.region_of_neuron]
    apart = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
    found = []
    for seen in data.mask:
        inverse, volume = np.zeros((neurons, T, T)), np.zeros(neurons)
        for n in range(neurons):
            bins = np.flatnonzero(seen[:, n])
            K = np.where(apart == 0, 1.0, phi[n] ** apart)[np.ix_(bins, bins)]
            inverse[n][np.ix_(bins, bins)], volume[n] = np.linalg.inv(K), np.linalg.slogdet(K)[1]
        found.append((inverse, volume))
    return found


def covariance_of_readouts(distribution, n_bins):
    """V, (time x readout, same), also where the GP noise remembers: its innovations' one is mapped back."""
    V = np.asarray(exact_covariance(distribution.prior, distribution.latents, n_bins))
    if distribution.autocorrelation is None:
        return V
    phi = np.asarray(distribution.autocorrelation)[distribution.prior.assignment.region_of_readout]
    m = len(phi)
    F = np.diag(np.r_[np.sqrt(1 - phi**2), np.ones(m * (n_bins - 1))]) - np.diag(np.tile(phi, n_bins - 1), -m)
    back = np.linalg.inv(F)
    return back @ V @ back.T


def dense_posterior(model, data, sites, covariance):
    """V, E[c c'], and q(x) of every trial by conditioning: covariance (time x readout, same), mean (time, readout)."""
    distribution = trace_of(model, data, sites)["y"]["fn"]
    assignment = distribution.prior.assignment
    V = covariance_of_readouts(distribution, data.n_bins)
    m, T = assignment.n_readouts, data.n_bins
    C = np.asarray(readout_loadings(assignment, sites["loadings"]))
    column, own = assignment.column_of_readout, assignment.region_of_neuron[:, None] == assignment.region_of_readout
    S = np.asarray(covariance)[:, column][:, :, column] * (own[:, :, None] & own[:, None, :])
    second = S + C[:, :, None] * C[:, None, :]
    phi, d = 1 / np.asarray(sites["noise"]), np.asarray(sites["offset"])
    latents = []
    for y, (noise, _) in zip(data.values, correlations_of_noise(model, data, sites), strict=True):
        precision = np.linalg.inv(V) + np.einsum("n,nts,nij->tisj", phi, noise, second).reshape(T * m, T * m)
        vector = np.einsum("n,nts,sn,ni->ti", phi, noise, y - d, C)
        P = np.linalg.inv(precision)
        latents.append((P, (P @ vector.ravel()).reshape(T, m)))
    return V, second, latents


def explicit_bound(model, data, sites, covariance):
    """E_q[log p(y, x, C, alpha, phi, d)] - E_q[log q], every term written out; q(x) by dense conditioning."""
    prior = model.loadings
    a, b, beta = prior.shape, prior.rate, prior.offset_precision
    assignment = model.assignment(data.layout)
    m, T = assignment.n_readouts, data.n_bins
    V, second, latents = dense_posterior(model, data, sites, covariance)
    C = np.asarray(readout_loadings(assignment, sites["loadings"]))
    mask, correlations = data.mask, correlations_of_noise(model, data, sites)
    count = mask.sum((0, 1))
    shape = a + count / 2
    rate = shape * np.asarray(sites["noise"])
    phi, log_phi = shape / rate, digamma(shape) - np.log(rate)
    told = sum(noise.sum((1, 2)) for noise, _ in correlations)
    d, variance = np.asarray(sites["offset"]), 1 / (beta + told * phi)
    total = 0.0
    for y, seen, (P, x), (noise, volume) in zip(data.values, mask, latents, correlations, strict=True):
        gap = np.linalg.slogdet(V)[1] - np.linalg.slogdet(P)[1] - T * m
        total -= 0.5 * (np.trace(np.linalg.solve(V, P)) + x.ravel() @ np.linalg.solve(V, x.ravel()) + gap)
        xx = (P + np.outer(x, x)).reshape(T, m, T, m)
        left = y - d
        error = np.einsum("tn,nts,sn->n", left, noise, left) + variance * noise.sum((1, 2))
        error += np.einsum("nts,nij,tisj->n", noise, second, xx)
        error -= 2 * np.einsum("tn,nts,sn->n", left, noise, x @ C.T)
        total += 0.5 * (seen.sum(0) * (log_phi - np.log(2 * np.pi)) - volume - phi * error).sum()
    # Gamma: E[log p] - E[log q] with scipy's entropy
    def gamma_terms(shape, rate):
        prior = a * np.log(b) - gammaln(a)
        expected = prior + (a - 1) * (digamma(shape) - np.log(rate)) - b * shape / rate
        return (expected + stats.gamma(shape, scale=1 / rate).entropy()).sum()

    total += gamma_terms(shape, rate)
    total += (0.5 * np.log(beta / (2 * np.pi)) - 0.5 * beta * ((d - data.center) ** 2 + variance)).sum()
    total += stats.norm(scale=np.sqrt(variance)).entropy().sum()
    square = (np.asarray(sites["loadings"]) ** 2 + np.diagonal(covariance, axis1=1, axis2=2)) * assignment.used
    for r in range(assignment.n_regions):
        rows = assignment.region_of_neuron == r
        for k in range(assignment.n_across + assignment.n_within[r]):
            shape, rate = a + rows.sum() / 2, b + square[rows, k].sum() / 2
            expected_log = digamma(shape) - np.log(rate)
            total += 0.5 * (rows.sum() * (expected_log - np.log(2 * np.pi)) - shape / rate * square[rows, k].sum())
            total += gamma_terms(np.array([shape]), np.array([rate]))
    for n in range(len(d)):
        used = assignment.used[n]
        total += stats.multivariate_normal(cov=covariance[n][np.ix_(used, used)]).entropy()
    return total


MODELS = {
    "shared": MDLAG(n_across=2, likelihood="dense", max_delay=3 * BIN, shape=0.7, rate=0.4, offset_precision=0.2),
    "within": MDLAG(n_across=1, n_within=(1, 0), likelihood="dense", max_delay=3 * BIN, shape=0.7, rate=0.4),
}
REMEMBERING = MODELS["shared"].replace(noise="ar1")


WHITE = [(name, kind) for name in MODELS for kind in ("complete", "ragged_holes")]


def test_rounds_go_on_with_the_whole_recording_after_spectral_ones():
    """Frequencies are told by few trials, of which other likelihoods know nothing."""
    rng = np.random.default_rng(0)
    data = mrgp.MultiRegionData({"A": rng.standard_normal((15, 5, 3)), "B": rng.standard_normal((15, 5, 2))}, BIN)
    later = MDLAG(2, likelihood="dense", max_delay=0.05).prepared(data)
    sites = {name: np.asarray(value) for name, value in state(later, data)[0].items()}
    keeps = SimpleNamespace(keeps_window=True)
    rounds = vb._entered(later.replace(likelihood=Spectral()), data, sites, Options(seed=0), keeps)
    assert rounds.setting.data.n_trials == 6
    rounds.later = later
    after = vb._handed_over(rounds, data)
    assert after.model == later
    assert after.setting.data.n_trials == 15
    whole = Setting.of(data, sites["loadings"], rounds.setting.covariance)
    assert value_of(after.model, after.sites, after.setting) == pytest.approx(value_of(later, after.sites, whole))


@pytest.mark.slow_cases("shared-complete", "within-ragged_holes", "ar1-complete")
@pytest.mark.parametrize(("name", "kind"), [*WHITE, ("ar1", "complete"), ("ar1", "ragged_hidden")])
def test_bound_is_the_sum_of_its_terms(name, kind):
    model, data = (MODELS | {"ar1": REMEMBERING})[name], recording(kind)
    sites, setting = state(model, data)
    expected = explicit_bound(model, data, sites, np.asarray(setting.covariance))
    found = float(jax.jit(Bound(model, point_priors=False))(sites, setting))
    assert found == pytest.approx(expected, abs=1e-7 * abs(expected))


def held_at_zero(sites, setting):
    """Region A's loadings on the second latent held at zero, independent of the others."""
    block = (np.arange(len(sites["noise"])) < 3)[:, None] & (np.arange(2) == 1)
    other = ~block[:, :, None] & ~block[:, None, :] | np.eye(2, dtype=bool)
    setting = setting._replace(living=jnp.asarray(~block), covariance=setting.covariance * other)
    return setting.held(sites), setting, block


@pytest.mark.parametrize(
    ("likelihood", "held"),
    [
        ("dense", False), ("dense", True),
        *(pytest.param(likelihood, held, marks=pytest.mark.slow)
          for likelihood in ("markov", "spectral") for held in (False, True)),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("complete", "ragged_holes")), "ragged_hidden"]
)
def test_updates_raise_the_bound_to_where_its_gradient_vanishes(likelihood, kind, held):
    if likelihood == "spectral" and kind != "complete":
        pytest.skip("spectral needs complete trials")
    if held and likelihood != "dense":
        pytest.skip("what holds loadings does not depend on the likelihood")
    if held and kind == "ragged_hidden":
        pytest.skip("nor on what noise remembers")
    remembers = kind == "ragged_hidden"  # noise that does needs neurons that are there in all bins, or in none
    model, data = (REMEMBERING if remembers else MODELS["shared"]).replace(likelihood=likelihood), recording(kind)
    sites, setting = state(model, data)
    block = np.zeros((5, 2), bool)
    if held:
        sites, setting, block = held_at_zero(sites, setting)

    @jax.jit
    def value_and_slopes(sites, covariance):
        bound = jax.value_and_grad(lambda s, c: Bound(model)(s, setting._replace(covariance=c)), (0, 1))
        return bound(sites, covariance)

    trace, covariance = [], setting.covariance
    for _ in range(100):
        value, (slope, turn) = value_and_slopes(sites, covariance)
        trace.append(float(value))
        sites, covariance = update(model, sites, setting._replace(covariance=covariance))
    # The lift's own error is in the moments as in the bound: one is the other's derivative, to round-off.
    assert np.diff(trace).min() > -1e-8
    assert trace[-1] - trace[0] > 1.0
    for name in ("loadings", "noise", "offset"):
        assert np.abs(np.asarray(slope[name])).max() < 0.2, name
    turn = np.asarray(turn)   # by a symmetric matrix: what is not symmetric in it means nothing
    joined = ~block[:, :, None] & ~block[:, None, :] | np.eye(2, dtype=bool)
    assert np.abs((turn + np.swapaxes(turn, 1, 2)) * joined).max() < 0.2
    assert not np.asarray(sites["loadings"])[block].any()
    assert not np.asarray(covariance)[~joined].any()


@pytest.mark.slow_cases("complete")
@pytest.mark.parametrize("kind", ["complete", "ragged_holes"])
def test_revival_by_quadrature(kind):
    """The gain of loadings held at zero, given q(x): each neuron's loading integrated out numerically."""
    model, data = MODELS["shared"], recording(kind)
    sites, setting, block = held_at_zero(*state(model, data))
    found = revival(model, sites, setting)
    _, _, latents = dense_posterior(model, data, sites, setting.covariance)
    assignment, rows = model.assignment(data.layout), slice(0, 3)
    other, readout = 0, 1   # of region A: the living, and the one held at zero
    assert list(assignment.column_of_readout[:2]) == [other, readout]
    assert not assignment.region_of_readout[:2].any()
    q, s = np.zeros(3), np.zeros(3)
    for y, seen, (P, x) in zip(data.values, data.mask, latents, strict=True):
        for t in range(data.n_bins):
            bins = slice(t * assignment.n_readouts, (t + 1) * assignment.n_readouts)
            xx = P[bins, bins] + np.outer(x[t], x[t])
            phi = seen[t, rows] / np.asarray(sites["noise"])[rows]
            left = (y[t, rows] - np.asarray(sites["offset"])[rows]) * x[t, readout]
            q += phi * (left - np.asarray(sites["loadings"])[rows, other] * xx[other, readout])
            s += phi * xx[readout, readout]

    def negative(log_alpha):
        alpha, total = np.exp(log_alpha), 0.0
        for qn, sn in zip(q, s, strict=True):
            center, width = qn / (sn + alpha), 12 / np.sqrt(sn + alpha)
            peak = qn * center - 0.5 * (sn + alpha) * center**2
            grid = center + width * np.linspace(-1, 1, 2001)
            area = trapezoid(np.exp(qn * grid - 0.5 * (sn + alpha) * grid**2 - peak), grid)
            total += peak + np.log(area * np.sqrt(alpha / (2 * np.pi)))
        return -total

    best = minimize_scalar(negative, bounds=(np.log(1e-4 * s.mean()), np.log(1e2 * s.mean())), method="bounded")
    gain = np.asarray(found.gain)
    assert gain[0, 1] == pytest.approx(-best.fun, rel=0.01, abs=0.02)   # the grid's spacing
    assert np.isneginf(np.delete(gain.ravel(), 1)).all()   # the others live
    np.testing.assert_allclose(np.asarray(found.mean)[block], q / (s + np.exp(best.x)), rtol=0.05)


def test_markov_and_dense_bounds_agree():
    data = recording()
    sites, setting = state(MODELS["shared"], data)
    models = [MODELS["shared"].replace(likelihood=kind) for kind in ("dense", "markov")]
    dense, markov = (float(jax.jit(Bound(model))(sites, setting)) for model in models)
    assert markov == pytest.approx(dense, abs=0.02)


def test_mixing_is_absorbed():
    model, data = MODELS["shared"], recording()
    sites, setting = state(model, data)
    mixing = 0.1 * jnp.asarray(np.random.default_rng(3).standard_normal((2, 2)))
    mixed = Mixed.mixed({**sites, "mixing": mixing})
    density = Mixed(Bound(model))
    assert float(density({**sites, "mixing": mixing}, setting)) == pytest.approx(float(Bound(model)(mixed, setting)))
    np.testing.assert_allclose(mixed["loadings"], np.asarray(sites["loadings"]) @ (np.eye(2) + np.asarray(mixing)))


def test_relevance_is_its_posterior_mean():
    model, data = MODELS["within"], recording()
    sites, setting = state(model, data)
    alpha = np.asarray(relevance_of(model, sites, setting))
    square = np.asarray(sites["loadings"])[:3, 1] ** 2 + np.asarray(setting.covariance)[:3, 1, 1]
    assert alpha[0, 1] == pytest.approx((0.7 + 1.5) / (0.4 + square.sum() / 2))
    assert alpha[1, 1] == 1.0   # region B has no within latent


def test_shared_variance_by_hand():
    model, data = MODELS["within"], recording()
    loadings = np.arange(10.0).reshape(5, 2)
    share = shared_variance(model.assignment(data.layout), loadings, None)
    first = np.array([0 + 4 + 16, 1 + 9 + 25])
    np.testing.assert_allclose(share, [first / first.sum(), [1.0, 0.0]])


def test_priors_are_read_from_the_program():
    data = recording()
    prior = priors_of(trace_of(MODELS["shared"], data, state(MODELS["shared"], data)[0]))
    assert float(prior.alpha_shape.ravel()[0]) == pytest.approx(0.7)
    assert float(prior.offset_precision.ravel()[0]) == pytest.approx(0.2)
    plain = DLAG(n_across=1)
    with pytest.raises(ValueError, match="needs a Gamma prior on the site 'alpha'"):
        priors_of(free_sites(plain, data))


SHARED_BY = np.array([[1, 1, 0], [1, 0, 1]], bool)


@pytest.fixture(scope="module")
def shared_recording():
    return simulate(
        regions={"A": 10, "B": 10}, n_across=3, n_within=0, n_trials=25, n_bins=30, timescale_across=(0.1, 0.05, 0.07),
        delay=[[0, 0, 0], [0.03, 0, 0]], shared_by=SHARED_BY, snr=2.0, seed=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(shared_recording):
    model = MDLAG(n_across=5, likelihood="spectral", max_delay=0.1)
    with pytest.warns(UserWarning, match="across latents removed"):
        return model.fit(shared_recording.data, progress=False)


@pytest.mark.slow
def test_fit_keeps_what_is_there_and_removes_the_rest(shared_recording, fitted):
    assert fitted.converged
    assert fitted.method == "vb"
    assert fitted.model.n_across == fitted.delays.sizes["across_latent"] == 3
    assert fitted.sites["alpha"].shape == (2, 3)
    assert fitted.loadings_covariance.shape == (20, 3, 3)
    assert np.diff(fitted.trace).min() > -1e-6 * abs(fitted.trace[-1]) * 1e-3
    found = {tuple(column) for column in fitted.shared_by().values.T}
    assert found == {tuple(column) for column in SHARED_BY.T}
    both = int(np.flatnonzero(fitted.shared_by().values.all(0))[0])
    assert float(fitted.delays[1, both]) == pytest.approx(0.03, abs=0.5 * BIN)
    assert float(fitted.timescales.across[both]) == pytest.approx(0.1, rel=0.2)


@pytest.mark.slow
def test_fit_survives_a_round_trip(fitted, tmp_path):
    fitted.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.shared_variance, fitted.shared_variance)
    np.testing.assert_array_equal(again.loadings_covariance, fitted.loadings_covariance)


@pytest.mark.slow
def test_polish_goes_on_from_another_likelihood(shared_recording, fitted):
    fit = fitted.model.replace(likelihood="dense").fit(
        shared_recording.data, start=fitted, tolerance=0.1, progress=False
    )
    assert fit.converged
    assert fit.iterations < fitted.iterations
    both = np.flatnonzero(fitted.shared_by().values.all(0))  # of what one region reads the delay means nothing
    np.testing.assert_allclose(fit.delays[:, both], fitted.delays[:, both], atol=0.5 * BIN)


@pytest.mark.slow
def test_loadings_that_were_wrongly_zeroed_come_back(shared_recording, fitted):
    both = int(np.flatnonzero(fitted.shared_by().values.all(0))[0])
    sites = {**fitted.sites, "loadings": fitted.sites["loadings"].copy()}
    sites["loadings"][10:, both] = 0.0
    start = dataclasses.replace(fitted, sites=sites)
    fit = fitted.model.fit(shared_recording.data, start=start, tolerance=1e-4, progress=False)
    assert fit.trace[0] < fitted.trace[-1] - 1000
    assert fit.trace[-1] == pytest.approx(fitted.trace[-1], abs=0.1)  # that one stopped where a round gained 0.01
    assert {tuple(column) for column in fit.shared_by().values.T} == {tuple(column) for column in SHARED_BY.T}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:a lag of")
def test_delays_behind_the_second_region_and_a_region_of_noise():
    """One latent is not read by the first region, and none by the last."""
    made = simulate(
        regions={"A": 6, "B": 8, "C": 8}, n_across=2, n_within=0, n_trials=25, n_bins=30, timescale_across=(0.1, 0.05),
        delay=[[0, 0], [0, 0.0], [0.01, 0.03]], shared_by=[[1, 0], [0, 1], [1, 1]], snr=2.0, seed=3,
    )  # fmt: skip
    regions = {name: made.data.region(name) for name in "ABC"}
    regions["D"] = np.random.default_rng(6).standard_normal((25, 30, 8))
    data = mrgp.MultiRegionData(regions, BIN)
    # Held: the first region's loadings are too small to say where the second latent is, and its delays would wander.
    fit = MDLAG(n_across=2, likelihood="spectral", max_delay=0.1, hold_max_delay=True).fit(data, progress=False)
    second = int(np.flatnonzero(fit.shared_by().values[1])[0])
    assert fit.shared_by().values[:, second].tolist() == [False, True, True, False]
    assert not fit.shared_by().values[3].any()
    behind_first, behind = fit.delay_intervals(), fit.delay_intervals(reference="B")
    assert fit.curvature().positive
    assert float(behind_first.sd[2, second]) > 0.5 * BIN
    assert float(behind.sd[2, second]) < 0.1 * BIN
    assert float(behind.delay[2, second]) == pytest.approx(0.03, abs=4 * float(behind.sd[2, second]))
    assert float(behind.lower[2, second]) < float(behind.delay[2, second]) < float(behind.upper[2, second])
    assert not behind.sd[1].values.any()


@pytest.mark.slow
def test_interrupted_fit_resumes_without_latents_it_removed(shared_recording, fitted, tmp_path, monkeypatch):
    data, place = shared_recording.data, tmp_path / "fit.checkpoint.npz"
    model = MDLAG(n_across=5, likelihood="spectral", max_delay=0.1)
    plain = vb.make_round

    def interrupting(state, *rest):
        if state.model.n_across == 3:
            raise KeyboardInterrupt
        plain(state, *rest)

    monkeypatch.setattr(vb, "make_round", interrupting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # of the interruption, and of what was removed
        assert model.fit(data, checkpoint=place, progress=False).reason == "interrupted"
    assert place.is_file()
    monkeypatch.undo()
    again = model.fit(data, checkpoint=place, progress=False)
    assert not place.is_file()
    assert again.model.n_across == 3
    assert again.trace[-1] == pytest.approx(fitted.trace[-1], abs=0.5)


def columns(table):
    return {tuple(column) for column in np.asarray(table).T}


@pytest.mark.slow
def test_markov_fit_interrupted_in_its_spectral_rounds(shared_recording, fitted, tmp_path, monkeypatch):
    data, place, model = shared_recording.data, tmp_path / "fit.checkpoint.npz", MDLAG(n_across=4, max_delay=0.1)
    plain, likelihoods = vb.make_round, []

    def interrupting(state, *rest):
        likelihoods.append(state.model.likelihood.written_name())
        if len(likelihoods) == 4 or state.model.likelihood.is_statespace:
            raise KeyboardInterrupt
        plain(state, *rest)

    monkeypatch.setattr(vb, "make_round", interrupting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = model.fit(data, checkpoint=place, progress=False)
        again = model.fit(data, checkpoint=place, progress=False)
    assert likelihoods[:5] == ["spectral"] * 5   # goes on where it was
    assert likelihoods[-1] == "markov"
    assert len(first.trace) == first.iterations > 0
    assert first.model.likelihood == again.model.likelihood
    assert first.model.likelihood.is_statespace
    assert np.isfinite(first.log_likelihood()).all()
    assert columns(again.shared_by()) == columns(SHARED_BY)
    both, theirs = (int(np.flatnonzero(fit.shared_by().values.all(0))[0]) for fit in (again, fitted))
    assert float(again.delays[1, both]) == pytest.approx(float(fitted.delays[1, theirs]), abs=0.1 * BIN)


@pytest.mark.slow
def test_spectral_rounds_that_lead_away_are_left_behind(monkeypatch):
    """Smoothed counts are not periodic: their spectral bound rises where the Markov bound falls."""
    rng = np.random.default_rng(0)
    latents = 3 * gaussian_filter1d(rng.standard_normal((30, 60, 2)), 4, axis=1)
    rates = (np.exp(0.5 * latents @ rng.standard_normal((2, neurons)) - 0.5) for neurons in (8, 6))
    counts = (gaussian_filter1d(rng.poisson(rate).astype(float), 2.5, axis=1, mode="constant") for rate in rates)
    data = mrgp.MultiRegionData(dict(zip("AB", counts, strict=True)), BIN)
    round_of, height_of, likelihoods, heights = vb.make_round, vb._own_height, [], []

    def watched(state, *rest):
        likelihoods.append(state.model.likelihood.written_name())
        round_of(state, *rest)

    def told(*given):
        heights.append(height_of(*given))
        return heights[-1]

    monkeypatch.setattr(vb, "make_round", watched)
    monkeypatch.setattr(vb, "_own_height", told)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # of a fit that was not waited for
        fit = MDLAG(n_across=3, max_delay=0.1).fit(data, progress=False, max_iterations=30)
    assert likelihoods[:2] == ["spectral", "markov"]
    assert heights[1] < heights[0] - 1000
    assert fit.trace[0] == pytest.approx(heights[0], abs=1.0)
    assert fit.trace[-1] > heights[0] + 1000


@pytest.mark.slow
def test_recording_with_gaps(shared_recording):
    regions = {name: np.array(shared_recording.data.region(name)) for name in "AB"}
    regions["A"][:5, 20:] = np.nan
    regions["B"][:5, 20:] = np.nan
    regions["B"][5:10, :4, 2] = np.nan
    fit = MDLAG(n_across=3, max_delay=0.1).fit(mrgp.MultiRegionData(regions, BIN), progress=False, tolerance=1.0)
    assert fit.converged
    assert columns(fit.shared_by()) == columns(SHARED_BY)


@pytest.mark.slow
def test_fixed_delays_stay(shared_recording, tmp_path, monkeypatch):
    place, plain = tmp_path / "fit.checkpoint.npz", vb.make_round
    model = MDLAG(n_across=5, likelihood="spectral")

    def interrupting(state, *rest):
        if state.model.n_across == 3:
            raise KeyboardInterrupt
        plain(state, *rest)

    monkeypatch.setattr(vb, "make_round", interrupting)
    settings = {"progress": False, "fixed": {"delay": 0.03}, "tolerance": 0.1, "checkpoint": place}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(shared_recording.data, **settings)
    monkeypatch.undo()
    assert place.is_file()
    fit = model.fit(shared_recording.data, **settings)
    np.testing.assert_array_equal(fit.delays, [[0.0] * 3, [0.03] * 3])
    with pytest.raises(ValueError, match="method 'vb' infers noise"):
        model.fit(shared_recording.data, progress=False, fixed={"noise": 1.0})


def test_map_needs_a_proper_prior(shared_recording):
    with pytest.raises(ValueError, match=r"rate=1e-12 .* rate near the recording's variance"):
        MDLAG(n_across=2).fit(shared_recording.data, method="map")


@pytest.mark.slow
def test_stochastic_inference_runs_on_the_program(shared_recording):
    """MDLAG is a NumPyro model: SVI with a mean-field guide raises its own bound."""
    data = shared_recording.data.select_trials(slice(0, 6))
    model = MDLAG(n_across=2, likelihood="spectral", shape=1.0, rate=1.0)
    start = model.fitting.first_guess(model.fitting.draw_start(np.random.default_rng(0), data, 0), data)
    start["noise"] = np.asarray(data.scale) ** 2
    guide = autoguide.AutoNormal(model, init_loc_fn=init_to_value(values=start), init_scale=0.01)
    svi = SVI(model, guide, Adam(0.02), Trace_ELBO())
    losses = np.asarray(svi.run(jax.random.key(0), 120, data, progress_bar=False).losses)
    assert np.isfinite(losses).all()
    assert losses[-20:].mean() < losses[:20].mean() - 20


@pytest.mark.slow
def test_group_factor_analysis_finds_who_shares_what():
    made = simulate(
        regions={"A": 10, "B": 10}, n_across=3, n_within=0, n_trials=30, n_bins=10, kernel=mrgp.White(),
        delay=np.zeros((2, 3)), shared_by=SHARED_BY, snr=2.0, seed=4,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="across latents removed"):
        fit = GFA(n_across=4, likelihood="spectral").fit(made.data, progress=False)
    assert {tuple(column) for column in fit.shared_by().values.T} == {tuple(column) for column in SHARED_BY.T}
