"""Variational Bayes of counts: derivatives by loadings, relevances, the bound, and fits that find who reads what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import GFA, MDLAG
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

import mrgp
from mrgp.inference.optimise import Ascent
from mrgp.inference.variational_bayes import of_counts
from mrgp.inference.variational_bayes.relevances import NOWHERE, Known, Relevances
from mrgp.likelihoods.of_loadings import OfLoadings, of_loadings
from mrgp.parts.latents import LatentLayout
from mrgp.simulations.simulate import simulate

BIN = 0.02
MODEL = MDLAG(3, emission="poisson", likelihood="dense", max_delay=0.06)
READS = np.array([[True, True, False], [True, False, False]])  # (region, latent)
SIZES = {"V1": 10, "V2": 8}


def recording(n_trials=40, n_bins=20, rate=1.5, seed=0):
    """One latent that both regions read, 40 ms later in the second, and one of the first alone."""
    rng = np.random.default_rng(seed)
    model = MODEL.replace(n_across=2)
    loadings = 0.5 * rng.standard_normal((sum(SIZES.values()), 2)) * np.repeat(READS[:, :2], list(SIZES.values()), 0)
    sites = {
        "loadings": loadings, "delay": np.array([[0.04, 0.0]]), "timescale_across": np.array([0.06, 0.12]),
        "offset": np.full(len(loadings), np.log(rate)),
    }  # fmt: skip
    return simulate(model, regions=SIZES, n_trials=n_trials, n_bins=n_bins, bin_width=BIN, sites=sites, seed=seed).data


# ---- derivatives by loadings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.slow
def test_derivatives_by_loadings_are_those_of_the_bound(holes):
    data = recording(6, 8)
    model = MODEL.replace(n_across=2, n_within=(1, 0), mean="psth").prepared(data)
    if holes:
        values = data.with_nan().copy()
        values[:3, 5:] = np.nan
        values[4, :, 2] = np.nan
        data = data.with_values(values)
    drawn = model.fitting.draw_start(np.random.default_rng(0), data, 0)
    sites = {name: jnp.asarray(value) for name, value in model.fitting.first_guess(drawn, data).items()}
    values = jnp.asarray(data.values, float)

    def bound(loadings):
        distribution = model.likelihood_at(data, {**sites, "loadings": loadings})
        return distribution.bound_from(values, within=1e-9)[0].sum()

    distribution = model.likelihood_at(data, sites)
    problem = distribution.problem(values)
    q = problem.best()
    told = of_loadings(problem, q)
    used = model.assignment(data.layout).used
    np.testing.assert_allclose(told.slope, jax.grad(bound)(sites["loadings"]) * used, atol=0.02)
    # The curvature, sum by sum; latents of a neuron are those of its region, then its own one.
    V = np.asarray(problem.groups.of_trials(q.covariance))
    V = np.broadcast_to(V, (V.shape[0], data.n_trials, *V.shape[2:]))
    for neuron, place in ((0, [0, 1, 4]), (9, [0, 1, 4]), (10, [2, 3]), (17, [2, 3])):
        expected = np.zeros((len(place), len(place)))
        for t in range(data.n_bins):
            for trial in range(data.n_trials):
                mean = np.asarray(q.mean)[t, trial, place]
                square = np.outer(mean, mean) + V[t, trial][np.ix_(place, place)]
                expected += float(q.curvature[t, trial, neuron]) * square
        found = np.asarray(told.curvature)[neuron][: len(place), : len(place)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not np.asarray(told.curvature)[10:, 2].any()


# ---- relevances ------------------------------------------------------------------------------------------------------


def parabola(rng, sizes=(6, 5), columns=2, strength=2.0):
    """Derivatives of a quadratic bound at zero loadings, neurons of the second region saying nothing of column 2."""
    assignment = LatentLayout(sizes, columns, (0, 0))
    neurons = sum(sizes)
    root = rng.standard_normal((neurons, columns, 30))
    curvature = root @ np.swapaxes(root, 1, 2)
    true = strength * rng.standard_normal((neurons, columns))
    true[sizes[0] :, 1] = 0.0
    noise = np.einsum("nck,nk->nc", root, 0.3 * rng.standard_normal((neurons, 30)))
    return assignment, OfLoadings(np.einsum("ncd,nd->nc", curvature, true) + noise, curvature)


def test_relevances_are_where_the_evidence_is_highest():
    rng = np.random.default_rng(3)
    assignment, told = parabola(rng)
    zero, start = np.zeros_like(told.slope), np.ones((2, 2))
    found = Relevances(assignment, 1e-12, 1e-12).best(told, zero, start, 0.0)

    def evidence(alpha):
        total = 0.0
        for neuron, region in enumerate(assignment.region_of_neuron):
            precision = told.curvature[neuron] + np.diag(alpha[region])
            total += 0.5 * (np.log(alpha[region]).sum() - np.linalg.slogdet(precision)[1])
            total += 0.5 * told.slope[neuron] @ np.linalg.solve(precision, told.slope[neuron])
        return total

    for place in np.argwhere(found < NOWHERE):
        def off(log_alpha, place=tuple(place)):
            alpha = found.copy()
            alpha[place] = np.exp(log_alpha)
            return -evidence(alpha)

        best = minimize_scalar(off, bounds=(np.log(1e-4), np.log(1e6)), method="bounded", options={"xatol": 1e-8}).x
        assert np.log(found[tuple(place)]) == pytest.approx(best, abs=1e-3)
    assert (found < NOWHERE).sum() >= 3
    silent = OfLoadings(0.0 * told.slope, told.curvature)  # nothing but curvature: no relevance is better than none
    assert (Relevances(assignment, 1e-12, 1e-12).best(silent, zero, start, 0.0) == NOWHERE).all()


def test_loadings_come_back_where_that_pays_enough():
    rng = np.random.default_rng(4)
    assignment, told = parabola(rng)
    held = np.array([[NOWHERE, 1.0], [1.0, NOWHERE]])
    relevances, zero = Relevances(assignment, 1e-12, 1e-12), np.zeros_like(told.slope)
    assert relevances.best(told, zero, held, 1.0)[0, 0] < NOWHERE
    assert relevances.best(told, zero, held, 1e6)[0, 0] == NOWHERE


def test_of_two_latents_that_say_the_same_one_stays():
    rng = np.random.default_rng(5)
    assignment = LatentLayout((6, 5), 2, (0, 0))
    signal = rng.standard_normal((11, 1, 40))
    root = np.concatenate([signal, signal + 0.01 * rng.standard_normal(signal.shape)], 1)
    curvature = root @ np.swapaxes(root, 1, 2)
    told = OfLoadings(np.einsum("ncd,nd->nc", curvature, rng.standard_normal((11, 2)) * [1.0, 0.0]), curvature)
    relevances, zero = Relevances(assignment, 1e-12, 1e-12), np.zeros((11, 2))
    for start in (np.ones((2, 2)), np.full((2, 2), NOWHERE)):
        living = relevances.best(told, zero, start, 0.0) < NOWHERE
        assert living.any(1).all()
    silent = OfLoadings(0.0 * told.slope, curvature)
    kept = relevances.best(silent, zero, np.array([[1.0, NOWHERE], [1.0, 1.0]]), np.inf, steady=True) < NOWHERE
    np.testing.assert_array_equal(kept, [[True, False], [True, True]])


def test_bound_is_below_the_integral_over_loadings_and_relevance():
    """One neuron with one latent, whose log-likelihood is -h (c - m)^2 / 2: the evidence by quadrature."""
    a, b, h, m = 2.0, 0.7, 12.0, 0.9
    assignment = LatentLayout((1,), 1, (0,))
    relevances = Relevances(assignment, a, b)

    def given(alpha):  # log of the integral over c
        return 0.5 * np.log(alpha / (alpha + h)) - 0.5 * m**2 * alpha * h / (alpha + h)

    prior = stats.gamma(a, scale=1 / b)
    exact = np.log(quad(lambda alpha: np.exp(given(alpha)) * prior.pdf(alpha), 0, 60)[0])
    alpha, mean = np.ones((1, 1)), m
    for _ in range(50):
        mean = h * m / (h + alpha[0, 0])
        told = OfLoadings(np.array([[-h * (mean - m)]]), np.array([[[h]]]))
        known = Known(relevances.covariance(told, alpha), alpha)
        alpha = np.array([[(2 * a + 1) / (2 * b + mean**2 + known.covariance[0, 0, 0])]])
    found = -0.5 * h * (mean - m) ** 2 + relevances.score(told, np.array([[mean]]), known)
    assert exact - 0.1 < found < exact
    assert relevances.prior(np.array([[mean]]), alpha) == pytest.approx(
        stats.norm.logpdf(mean, scale=alpha[0, 0] ** -0.5) + prior.logpdf(alpha[0, 0])
    )


# ---- fits ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return recording()


@pytest.fixture(scope="module")
def fit(data):
    with pytest.warns(UserWarning, match="removed because no region reads them: 1"):
        return MODEL.fit(data, progress=False, n_starts=2, tolerance=0.05)


@pytest.mark.slow
def test_a_fit_finds_who_reads_what(data, fit):
    assert (fit.method, fit.converged) == ("vb", True)
    assert fit.model.n_across == 2
    shared = fit.shared_by().values
    both, alone = shared.all(0).argmax(), (~shared.all(0)).argmax()
    assert shared[:, both].all()
    assert list(shared[:, alone]) == [True, False]
    assert float(fit.delays[1, both]) == pytest.approx(0.04, abs=0.01)
    np.testing.assert_allclose(fit.sites["timescale_across"][[both, alone]], [0.06, 0.12], rtol=0.3)
    interval = fit.delay_intervals().isel(across_latent=int(both), region=1)
    assert float(interval.lower) < 0.04 < float(interval.upper)
    assert np.diff(fit.trace).min() >= 0
    assert float(fit.log_likelihood().sum()) > fit.trace[-1]  # which pays for loadings and relevances


@pytest.mark.slow
def test_the_end_of_a_fit_is_where_every_factor_is_best(data, fit):
    model, sites = fit.model, fit.sites
    relevances = Relevances.of(model, data)
    told = of_counts._told(model, sites, data)
    alpha, covariance = sites["alpha"], fit.loadings_covariance
    np.testing.assert_allclose(covariance, relevances.covariance(told, alpha), rtol=5e-3, atol=1e-6)
    square = sites["loadings"] ** 2 + np.diagonal(covariance, axis1=1, axis2=2)
    best = np.array(list(SIZES.values()))[:, None] / (relevances.assignment.member @ square)
    living = alpha < NOWHERE
    np.testing.assert_allclose(alpha[living], best[living], rtol=0.02)
    living, held = (table[relevances.assignment.region_of_neuron] for table in (living, ~living))
    drawn_back = alpha[relevances.assignment.region_of_neuron] * sites["loadings"]
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    np.testing.assert_allclose(sd[living] * (told.slope - drawn_back)[living], 0, atol=0.1)  # posterior sds off the top
    assert not sites["loadings"][held].any()


@pytest.mark.slow
def test_a_fit_is_saved_goes_on_and_draws_latents(data, fit, tmp_path):
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.loadings_covariance, fit.loadings_covariance)
    assert again.shared_variance.equals(fit.shared_variance)
    assert fit.latents().across_mean.shape == (40, 20, 2)
    assert np.isfinite(fit.predict(data.without({"V2": [0]}))["V2_mean"]).all()
    found = fit.model.fit(data, start=fit, progress=False, tolerance=0.05)
    assert found.trace[-1] == pytest.approx(fit.trace[-1], abs=0.5)
    resampled = mrgp.bootstrap_delays(fit, n_samples=10, progress=False)
    assert resampled.failures == 0


@pytest.mark.slow
def test_a_stopped_fit_goes_on_without_latents_it_removed(data, fit, tmp_path, monkeypatch):
    place = tmp_path / "fit.npz"
    climbed = of_counts.CountRounds._climbed

    def stopping(self, *args):
        if self.removed:
            raise KeyboardInterrupt
        return climbed(self, *args)

    settings = {"progress": False, "n_starts": 2, "tolerance": 0.05, "checkpoint": place}
    monkeypatch.setattr(of_counts.CountRounds, "_climbed", stopping)
    with pytest.warns(UserWarning, match="interrupted"), pytest.warns(UserWarning, match="removed"):
        MODEL.fit(data, **settings)
    assert place.is_file()
    monkeypatch.setattr(of_counts.CountRounds, "_climbed", climbed)
    monkeypatch.setattr(of_counts, "_searched", lambda *args: pytest.fail("a search is made once"))
    with pytest.warns(UserWarning, match="removed"):
        found = MODEL.fit(data, **settings)
    assert found.model.n_across == 2
    assert found.trace[-1] == pytest.approx(fit.trace[-1], abs=0.5)


@pytest.mark.slow
def test_a_round_that_loses_is_undone(data, monkeypatch):
    climbed, ends = of_counts.CountRounds._climbed, []

    def losing(self, *args):
        told, value = climbed(self, *args)
        ends.append((self.sites, self.known))
        return told, value - 1e6 * (len(ends) > 4)

    monkeypatch.setattr(of_counts.CountRounds, "_climbed", losing)
    with pytest.warns(UserWarning, match="removed"):
        fit = MODEL.fit(data, progress=False, n_starts=2, tolerance=0.05)
    assert fit.converged
    assert len(fit.trace) == 4
    kept = [place for place, (sites, _) in enumerate(ends) if np.array_equal(sites["loadings"], fit.sites["loadings"])]
    assert kept == [3]
    np.testing.assert_array_equal(fit.loadings_covariance, ends[3][1].covariance)


def test_what_is_no_number_is_no_bound(data, monkeypatch):
    def lost(objective, **_):
        return Ascent(objective.sites(np.zeros(objective.size)), np.nan, [np.nan])

    monkeypatch.setattr(of_counts, "maximise", lost)
    with pytest.raises(FloatingPointError, match="the bound is not finite"):
        MODEL.fit(data, progress=False, n_starts=1, max_iterations=3)


@pytest.mark.slow
def test_fixed_sites_stay_where_latents_go(data):
    with pytest.warns(UserWarning, match="removed"):
        fit = MODEL.fit(data, fixed={"delay": 0.02}, progress=False, n_starts=2, tolerance=0.5)
    assert fit.model.n_across == 2
    np.testing.assert_array_equal(fit.sites["delay"], [[0.02, 0.02]])


@pytest.mark.slow
def test_a_delay_beyond_its_bound_is_found(data):
    model = MODEL.replace(delays=mrgp.ConstantDelay(0.02))
    with pytest.warns(UserWarning, match="max_delay widened"), pytest.warns(UserWarning, match="removed"):
        fit = model.fit(data, progress=False, n_starts=2, tolerance=0.05)
    assert float(fit.delays[1, fit.shared_by().values.all(0).argmax()]) == pytest.approx(0.04, abs=0.01)


@pytest.mark.slow
def test_group_factor_analysis_of_counts_finds_who_shares_what():
    rng = np.random.default_rng(0)
    reads = np.repeat([[1, 1, 0], [1, 0, 1], [0, 1, 0]], [12, 10, 10], 0)
    loadings = 0.6 * rng.standard_normal((32, 3)) * reads
    counts = rng.poisson(np.exp(rng.standard_normal((60, 25, 3)) @ loadings.T)).astype(float)
    data = mrgp.MultiRegionData({"A": counts[..., :12], "B": counts[..., 12:22], "C": counts[..., 22:]}, BIN)
    with pytest.warns(UserWarning, match="removed because no region reads them: 2"):
        fit = GFA(5, emission="poisson").fit(data, progress=False, tolerance=0.1)
    found = {tuple(column) for column in fit.shared_by().values.T}
    assert found == {(True, True, False), (True, False, True), (False, True, False)}


@pytest.mark.slow
def test_dispersion_means_and_private_latents_in_a_state_space():
    data = recording(60, 30)
    model = MODEL.replace(emission="negative_binomial", mean="psth", n_within=(0, 1), likelihood="markov")
    with pytest.warns(UserWarning, match="removed"):
        fit = model.fit(data, progress=False, n_starts=2, tolerance=0.1)
    shared = fit.shared_by().values
    assert shared.all(0).sum() == 1
    assert float(fit.delays[1, shared.all(0).argmax()]) == pytest.approx(0.04, abs=0.01)
    assert np.median(fit.sites["dispersion"]) < 0.1
