"""Coupled linear dynamics: density against a dense normal, coordinates, priors, fits, and what is said of edges."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import LDS, CoupledLDS
from mrgp.models.coupled_lds import draw_system
from numpyro.distributions import biject_to
from numpyro.infer.util import log_density
from scipy.linalg import block_diag, solve_discrete_lyapunov
from scipy.special import gammaln, logsumexp
from scipy.stats import gamma, ks_2samp, multivariate_normal, ortho_group

import mrgp
from mrgp.inference.mode.curvature import Curvature
from mrgp.inference.mode.edge_evidence import Relevance, Told, edge_posteriors
from mrgp.likelihoods.statespace.coupled import system_at
from mrgp.likelihoods.statespace.coupled_coordinates import ordered, rotated, sds_of_states, settled_coordinates
from mrgp.likelihoods.statespace.entries import Entries
from mrgp.likelihoods.statespace.region_blocks import OwnContractions, Regions, ToOwnContractions
from mrgp.likelihoods.statespace.region_priors import RegionContractions, RelevantEdges
from mrgp.likelihoods.statespace.stable_matrices import UniformContraction
from mrgp.results import coupled_fit
from mrgp.results.coupled_fit import CoupledFit

BIN = 0.02
SIZES = {"V1": 3, "V2": 2, "V4": 2}
MODELS = {
    "plain": CoupledLDS((2, 1, 1)),
    "lag": CoupledLDS((2, 1, 1), lag=2 * BIN, absent=(("V1", "V4"),)),
    "global": CoupledLDS((2, 1, 1), n_global=2, lag=BIN),
}


def random_sites(model, data, seed=0):
    """Values of all sites, with edges that are strong but for which all regions together are stable."""
    rng, layout = np.random.default_rng(seed), data.layout
    regions = model.regions(layout)
    blocks = [0.8 * M / np.linalg.norm(M, 2) for M in (rng.standard_normal((k, k)) for k in regions.sizes)]
    n, neurons = regions.n_states, layout.total_neurons
    sites = {
        "own_dynamics": block_diag(*blocks),
        "coupling": 0.3 * rng.standard_normal((n, n)) * regions.coupled,
        "loadings": rng.standard_normal((neurons, max(regions.sizes))),
        "noise": rng.uniform(0.2, 0.8, neurons),
        "offset": rng.standard_normal(neurons),
    }
    if model.n_global:
        G = rng.standard_normal((model.n_global,) * 2)
        drive = rng.standard_normal((n, model.n_global))
        sites |= {"global_dynamics": 0.9 * G / np.linalg.norm(G, 2), "drive": drive}
    return sites


def recording(kind="complete", n_trials=4, n_bins=6, sizes=SIZES, seed=3):
    rng = np.random.default_rng(seed)
    arrays = {name: 1.5 * rng.standard_normal((n_trials, n_bins, size)) for name, size in sizes.items()}
    if kind == "holes":
        first = arrays[next(iter(sizes))]
        first[0, 2] = first[1, :, 0] = first[3, 1:3, :2] = np.nan
        for array in arrays.values():
            array[2, 4:] = np.nan
    return mrgp.MultiRegionData(arrays, BIN)


def signals_covariance(sites, layout, sizes, lag, n_bins):
    """Covariance of C x over time, (time * neuron), each region's equation written out, lag by lag."""
    A, B, n = sites["own_dynamics"], sites["coupling"], len(sites["own_dynamics"])
    D, G = sites.get("drive", np.zeros((n, 0))), sites.get("global_dynamics", np.zeros((0, 0)))
    m, ends = len(G), np.cumsum([0, *sizes])
    total = n * (lag + 1) + m  # x_t ... x_{t-lag}, g_t
    F, Q = np.zeros((total, total)), np.zeros((total, total))
    for r in range(len(sizes)):
        own = slice(ends[r], ends[r + 1])
        L = np.linalg.cholesky(np.eye(sizes[r]) - A[own, own] @ A[own, own].T)
        F[own, own] += A[own, own]
        F[own, n * lag : n * (lag + 1)] += L @ B[own]
        F[own, n * (lag + 1) :] += L @ D[own]
        Q[own, own] = L @ L.T
    for k in range(lag):
        F[n * (k + 1) : n * (k + 2), n * k : n * (k + 1)] = np.eye(n)
    F[n * (lag + 1) :, n * (lag + 1) :] = G
    Q[n * (lag + 1) :, n * (lag + 1) :] = np.eye(m) - G @ G.T
    P = solve_discrete_lyapunov(F, Q)
    widths = zip(layout.n_neurons, sizes, np.cumsum([0, *layout.n_neurons]), strict=False)
    C = block_diag(*(sites["loadings"][first : first + count, :size] for count, size, first in widths))
    lagged = [C @ (np.linalg.matrix_power(F, k) @ P)[:n, :n] @ C.T for k in range(n_bins)]
    return np.block([[lagged[t - u] if t >= u else lagged[u - t].T for u in range(n_bins)] for t in range(n_bins)])


def joint(model, data, sites):
    program = jax.jit(lambda sites: log_density(model, (data,), {}, sites)[0])
    return float(program(jax.tree.map(jnp.asarray, sites)))


@pytest.mark.slow_cases("plain-complete", "lag-complete", "global-holes")
@pytest.mark.parametrize("kind", ["complete", "holes"])
@pytest.mark.parametrize("name", MODELS)
def test_log_likelihood_is_the_normal_density(name, kind):
    model, data = MODELS[name], recording(kind)
    sites = random_sites(model, data)
    S = signals_covariance(sites, data.layout, (2, 1, 1), model.lag_in_bins(data.layout), data.n_bins)
    S = S + np.diag(np.tile(sites["noise"], data.n_bins))
    mean = np.tile(sites["offset"], data.n_bins)
    values = np.where(data.mask, data.values, np.nan).reshape(data.n_trials, -1)
    expected = [
        multivariate_normal(mean[seen], S[np.ix_(seen, seen)]).logpdf(y[seen])
        for y, seen in zip(values, np.isfinite(values), strict=True)
    ]
    np.testing.assert_allclose(model.log_likelihood(data, sites), expected, rtol=0, atol=1e-8)
    if kind == "complete":
        distribution = model.likelihood_at(data, sites)
        np.testing.assert_allclose(distribution.variance[0].ravel(), np.diag(S), rtol=1e-9)


def test_one_region_is_an_lds():
    data = recording(sizes={"V1": 5})
    sites = random_sites(CoupledLDS(2), data)
    own = {("transition" if name == "own_dynamics" else name): v for name, v in sites.items() if name != "coupling"}
    np.testing.assert_allclose(joint(CoupledLDS(2), data, sites), joint(LDS(2), data, own), rtol=0, atol=1e-8)


# --- coordinates and priors


def test_rotated_states_say_the_same():
    model, data = MODELS["global"], recording()
    assignment, sites = model.assignment(data.layout), random_sites(model, data)
    U = block_diag(ortho_group.rvs(2, random_state=0), -1.0, 1.0)
    turned = rotated(sites, assignment, U)
    assert np.abs(turned["coupling"] - sites["coupling"]).max() > 0.1

    # The weak prior of loadings differs between columns no more than that of neurons that have two.
    np.testing.assert_allclose(joint(model, data, turned), joint(model, data, sites), rtol=0, atol=1e-8)
    shown = ordered(sites, assignment)
    np.testing.assert_allclose(joint(model, data, shown), joint(model, data, sites), rtol=0, atol=1e-8)
    values = np.linalg.eigvals(sites["own_dynamics"][:2, :2])
    if np.isreal(values).all():
        np.testing.assert_allclose(shown["own_dynamics"][1, 0], 0, atol=1e-10)
    regions = model.regions(data.layout)
    np.testing.assert_allclose(regions.squares(shown["coupling"]), regions.squares(sites["coupling"]), rtol=1e-10)


@pytest.mark.slow
def test_blocks_go_to_vectors_and_back():
    regions = Regions((2, 3, 1), ((0, 1), (2, 0)))
    for constraint, size in ((OwnContractions(regions), 14), (Entries(regions.edge_entries), 8)):
        transform = biject_to(constraint)
        x = np.random.default_rng(0).standard_normal((2, size))
        matrix = transform(x)
        assert matrix.shape == (2, 6, 6)
        assert constraint(matrix).all()
        assert not constraint(matrix + 0.1).any()
        np.testing.assert_allclose(transform.inv(matrix), x, atol=1e-8)
    blocks = regions.padded(jnp.asarray(regions.own * np.arange(36.0).reshape(6, 6)))
    assert blocks.shape == (3, 3, 3)
    np.testing.assert_array_equal(regions.laid(blocks), regions.own * np.arange(36.0).reshape(6, 6))
    x = np.random.default_rng(1).standard_normal(14)
    transform = ToOwnContractions(regions)
    rows, columns = np.nonzero(regions.own)

    def entries(v):
        return np.asarray(transform(jnp.asarray(v)))[rows, columns]

    slopes = np.stack([(entries(x + h) - entries(x - h)) / 2e-5 for h in 1e-5 * np.eye(14)], 1)
    found = transform.log_abs_det_jacobian(jnp.asarray(x), None)
    np.testing.assert_allclose(found, np.linalg.slogdet(slopes)[1], rtol=1e-6)


@pytest.mark.slow
def test_contractions_of_regions_are_uniform():
    regions = Regions((2, 1, 2))
    prior = RegionContractions(regions)
    drawn = prior.sample(jax.random.key(0), (2000,))
    assert OwnContractions(regions)(drawn).all()
    expected = 2 * UniformContraction(2).log_prob(jnp.zeros((2, 2))) + UniformContraction(1).log_prob(jnp.zeros((1, 1)))
    np.testing.assert_allclose(prior.log_prob(drawn[0]), expected, rtol=1e-12)
    alone = UniformContraction(2).sample(jax.random.key(1), (2000,))
    for one, other in ((drawn[:, :2, :2], alone), (drawn[:, 3:, 3:], alone)):
        assert ks_2samp(*(np.linalg.norm(np.asarray(A), 2, axis=(1, 2)) for A in (one, other))).pvalue > 1e-3
    assert abs(np.mean(np.asarray(drawn)[:, 2, 2] ** 2) - 1 / 3) < 0.03  # uniform between -1 and 1


@pytest.mark.slow
def test_an_edge_is_a_student_t_and_regions_are_stable_together():
    regions, a, b = Regions((2, 1), ((0, 1), (1, 0))), 1.5, 0.4
    own = 0.7 * np.eye(3)
    prior = RelevantEdges(jnp.asarray(own), regions, a, b, 1)
    B = np.random.default_rng(0).standard_normal((3, 3)) * regions.coupled
    alpha = np.exp(np.linspace(-25, 15, 40001))  # fine enough for 1e-8
    expected = 0.0
    for block in (B[2, :2], B[:2, 2]):
        terms = gamma(a, scale=1 / b).logpdf(alpha) + np.log(alpha)  # of log alpha
        terms = terms + np.log(alpha / (2 * np.pi)) - 0.5 * alpha * (block @ block)
        expected += logsumexp(terms) + np.log(40 / 40000)
    np.testing.assert_allclose(prior.log_prob(jnp.asarray(B)), expected, rtol=1e-8)
    drawn = np.asarray(jax.jit(lambda key: prior.sample(key, (100,)))(jax.random.key(0)))
    assert (drawn[:, ~regions.coupled] == 0).all()
    F = np.zeros((100, 6, 6))  # x_t, x_{t-1}
    F[:, :3, :3], F[:, 3:, :3] = own, np.eye(3)
    F[:, :3, 3:] = np.linalg.cholesky(np.eye(3) - own @ own.T) @ drawn
    assert np.abs(np.linalg.eigvals(F)).max() < 1
    assert np.linalg.norm(drawn, axis=(1, 2)).max() > 0.5


@pytest.mark.slow
def test_the_condition_that_regions_are_stable_says_next_to_nothing():
    """The factor that the density leaves out, by Monte Carlo: of an edge, and of A."""
    regions = Regions((3, 3, 3, 3), tuple((s, t) for s in range(4) for t in range(4) if s != t))

    @jax.jit
    def stable(own, keys):  # whether draws without the condition are stable, with all edges and without the first
        prior = RelevantEdges(own, regions, 1.0, 0.01, 0)
        drawn = jax.vmap(prior._drawn)(keys)
        return [jax.vmap(prior._is_stable)(B) for B in (drawn, jnp.where(regions.edge_of_entry == 0, 0.0, drawn))]

    owns = RegionContractions(regions).sample(jax.random.key(0), (8,))
    shares = np.array([np.mean(stable(own, jax.random.split(jax.random.key(1), 500)), axis=1) for own in owns])
    assert shares.min() > 0.7
    assert 0.0 < np.log(shares[:, 1] / shares[:, 0]).mean() < 0.06  # nats of an edge's evidence
    assert np.log(shares[:, 0]).std() < 0.15


# --- what is said of edges


def test_evidence_is_that_of_brute_force():
    """Two edges of one state each, all Gaussian: the integral over both blocks, on a grid."""
    prior, precision = Relevance(1.0, 0.05), np.array([[30.0, 8.0], [8.0, 20.0]])
    center = np.array([0.35, -0.1])  # of the likelihood
    grid = np.linspace(-3, 3, 2001)

    def t(block):
        return gammaln(1.5) - gammaln(1.0) - 0.5 * np.log(2 * np.pi * 0.05) - 1.5 * np.log1p(block**2 / 0.1)

    first, second = np.meshgrid(grid - center[0], grid - center[1], indexing="ij")
    told = -0.5 * (precision[0, 0] * first**2 + 2 * precision[0, 1] * first * second + precision[1, 1] * second**2)
    # The maximum, where the module's input is taken.
    place = np.unravel_index((told + t(grid)[:, None] + t(grid)).argmax(), told.shape)
    at = grid[list(place)]
    for _ in range(200):
        pulls = np.array([prior.precision(at[[i]]) for i in range(2)])
        at = np.linalg.solve(precision + np.diag(pulls), precision @ center)
    own = np.diag([float(prior.curvature(at[[i]])[0, 0]) for i in range(2)])
    edges = [np.array([0]), np.array([1])]
    found = edge_posteriors(Told.at_maximum(at, precision + own, edges, [prior] * 2), edges, prior, 20000, 0)
    # Brute force, with the other edge's prior the Gaussian of the maximum, as the module says.
    for edge in range(2):
        other = np.log(np.sqrt(pulls[1 - edge] / (2 * np.pi))) - 0.5 * pulls[1 - edge] * grid**2
        table = told if edge == 0 else told.T
        profile = logsumexp(table + other, axis=1)
        with_edge = logsumexp(profile + t(grid)) + np.log(grid[1] - grid[0])
        expected = with_edge - profile[1000]
        np.testing.assert_allclose(found[edge].log_bayes_factor, expected, rtol=0, atol=2e-3)
        exact = logsumexp((table + t(grid)), axis=1)  # the other edge's t integrated out
        np.testing.assert_allclose(
            found[edge].log_bayes_factor, logsumexp(exact + t(grid)) + np.log(grid[1] - grid[0]) - exact[1000], atol=0.3
        )
        share = 1 / (1 + np.exp(-expected))
        norms = found[edge].norms
        assert abs(np.mean(norms > 0) - share) < 1e-3
        weights = np.exp(profile + t(grid) - logsumexp(profile + t(grid)))
        mean = share * weights @ np.abs(grid)
        assert abs(norms.mean() - mean) < 5 * norms.std() / np.sqrt(len(norms)) + 1e-3


@pytest.fixture(scope="module")
def case():
    """A recording with two edges of four, and a fit."""
    model = CoupledLDS(1, absent=(("B", "A"), ("A", "C"), ("C", "B"), ("C", "A")))
    coupling = np.zeros((3, 3))
    coupling[1, 0], coupling[2, 1] = 0.8, -0.5
    sites = {"own_dynamics": np.diag([0.8, 0.6, 0.7]), "coupling": coupling}
    sizes = {"regions": {"A": 5, "B": 5, "C": 5}, "n_trials": 30, "n_bins": 30, "bin_width": BIN, "seed": 1}
    made = mrgp.simulate(model, sites=sites, **sizes, snr=2.0)
    return made, CoupledLDS(1).fit(made.data, progress=False, n_starts=1)


@pytest.mark.slow
def test_edges_are_found(case):
    made, fit = case
    assert isinstance(fit, CoupledFit)
    assert fit.converged
    assert float(fit.log_likelihood().sum()) > float(CoupledLDS(1).log_likelihood(made.data, made.sites).sum())
    edges = fit.edges()
    names = [f"{s}{t}" for s, t in zip(edges.source_of_edge.values, edges.target_of_edge.values, strict=True)]
    assert names == ["AB", "AC", "BA", "BC", "CA", "CB"]
    there = np.isin(names, ["AB", "BC"])
    assert (edges.log_bayes_factor.values[there] > 10).all()
    assert (edges.log_bayes_factor.values[~there] < 0).all()
    truth = np.where(there, [0.8, 0, 0, 0.5, 0, 0], 0.0)
    assert ((edges.lower <= truth) & (truth <= edges.upper)).sum() >= 5
    assert (edges.share.values[there] > 0.05).all()
    assert (edges.share.values[~there] < 0.01).all()
    effectome = fit.effectome()
    np.testing.assert_allclose(effectome.sel(source="A", target="B"), edges.effect[0])
    assert float(effectome.sel(source="B", target="B")) == 0


def test_share_is_the_variance_that_comes_through(case):
    """Of a feedforward pair it is what the target loses where the edge is cut."""
    made, fit = case
    sites = {**made.sites}
    whole = replace(fit, sites=sites)
    cut = {**sites, "coupling": np.where(np.arange(3)[:, None] == 1, 0.0, sites["coupling"])}
    P, without = (system_at(s, 0)[2] for s in (sites, cut))
    np.testing.assert_allclose(whole.shares()[0], 1 - without[1, 1] / P[1, 1], rtol=1e-10)


def test_variance_is_that_of_driven_states(case):
    made, fit = case
    whole = replace(fit, sites=made.sites)
    moments = whole.conditional().moments()[1][0, 0]  # of every neuron, before anything is seen
    found = mrgp.metrics.variance_explained(whole)
    np.testing.assert_allclose(found["variance"], moments.reshape(3, 5).sum(1), rtol=1e-8)


def test_of_a_place_that_is_no_maximum_no_edge_is_told(case, monkeypatch):
    """As of a curvature that bends upwards, which has a very wide direction in its place."""
    _, fit = case
    size = int(fit.model.regions(fit.layout).coupled.sum())
    bent = Curvature(("coupling",), np.zeros(size), np.diag(np.r_[1e8, np.ones(size - 1)]), False)
    monkeypatch.setattr(coupled_fit, "profile_curvature", lambda *_, **__: bent)
    with pytest.warns(UserWarning, match="has not come to its maximum, and nothing can be said of its edges"):
        edges = fit.edges()
    for name in ("lower", "upper", "log_bayes_factor", "probability"):
        assert np.isnan(edges[name]).all()
    assert np.isfinite(edges["norm"]).all()
    sound = replace(bent, positive=True)  # as wide, where nothing else is known
    monkeypatch.setattr(coupled_fit, "profile_curvature", lambda *_, **__: sound)
    assert np.isfinite(fit.edges()["log_bayes_factor"]).all()


def test_messages_are_what_edges_add(case):
    """Of a recording almost without noise they are L B times the states before."""
    made, fit = case
    sites = {**made.sites, "noise": np.full(15, 1e-6)}
    truth = replace(fit, sites=sites)
    x = np.random.default_rng(0).standard_normal((3, 6, 3))
    C = sites["loadings"][:, 0].reshape(3, 5)
    arrays = {name: x[..., [r]] * C[r] + sites["offset"].reshape(3, 5)[r] for r, name in enumerate("ABC")}
    found = truth.messages(mrgp.MultiRegionData(arrays, BIN))
    assert dict(found.sizes) == {"trial": 3, "time": 6, "edge": 6, "message": 1}
    expected = np.sqrt(1 - 0.6**2) * 0.8 * x[:, :-1, 0]
    np.testing.assert_allclose(found["mean"][:, 1:, 0, 0], expected, atol=1e-3)
    np.testing.assert_array_equal(found["mean"][:, 0], 0)
    assert float(found["sd"][:, 1:].max()) < 1e-2 < float(found["sd"][0, 0, 0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("slowest", [0.8, 0.99])
def test_a_fit_goes_on_without_an_edge_that_held_others_in_check(slowest):
    """B and A drive each other beyond any bound; C, which B drives, holds B back."""
    data, A = recording(sizes={"A": 2, "B": 2, "C": 2}), np.diag([0.8, 0.8, slowest])
    F = np.array([[0, 0.25, 0], [0.25, 0, -0.3], [0, 0.3, 0]])
    B = F / np.sqrt(1 - np.diag(A) ** 2)[:, None]
    sites = {"own_dynamics": A, "coupling": B, "loadings": np.ones((6, 1)), "noise": np.ones(6), "offset": np.zeros(6)}
    whole, without = CoupledLDS(1), CoupledLDS(1, absent=(("C", "B"),))
    assert np.abs(np.linalg.eigvals(A + F)).max() < 1
    cut = {**sites, "coupling": np.where(F < 0, 0.0, B)}
    assert np.isnan(without.log_likelihood(data, cut)).all()  # no start
    _, begun = without.fitting.from_other_fit(whole, sites, data)
    assert np.isfinite(without.log_likelihood(data, begun)).all()
    kept = begun["coupling"][cut["coupling"] != 0] / cut["coupling"][cut["coupling"] != 0]
    np.testing.assert_allclose(kept, kept[0])
    assert 0.1 < kept[0] < 1
    assert begun["coupling"][1, 2] == 0
    _, same = whole.fitting.from_other_fit(whole, sites, data)
    np.testing.assert_array_equal(same["coupling"], B)


@pytest.mark.slow
def test_an_edge_pays_on_unseen_trials(case):
    data = case[0].data
    found = mrgp.compare_edges(data, CoupledLDS(1), [("A", "B"), ("C", "A")], n_folds=2, n_starts=1, progress=False)
    assert found.table["source"].tolist() == ["A", "C"]
    assert found.table["gain"][0] > 20
    assert abs(found.table["gain"][1]) < 10
    assert found.gains.shape == (30, 2)
    assert found.verdict == "Edges that pay on unseen trials: A to B."
    assert len(found.summary()["edges"]) == 2
    with pytest.raises(mrgp.DataError, match="the model has no edge A to V9"):
        mrgp.compare_edges(data, CoupledLDS(1), [("A", "V9")])


@pytest.mark.slow
def test_the_bound_of_counts_is_that_of_every_trial_by_itself():
    """Trials of very different rates: a covariance that they share loses nats, of which no trial alone loses any."""
    model = CoupledLDS((1, 1), emission="poisson", shared_covariance=False)
    sites = {"own_dynamics": np.diag([0.8, 0.6]), "coupling": np.array([[0.0, 0.3], [0.5, 0.0]])}
    sizes = {"regions": {"A": 4, "B": 4}, "n_trials": 5, "n_bins": 8, "bin_width": BIN, "seed": 1}
    made = mrgp.simulate(model, sites=sites, **sizes, snr=2.0)
    alone = [
        float(model.log_likelihood(made.data.select_trials(np.array([trial])), made.sites)[0]) for trial in range(5)
    ]
    found = model.log_likelihood(made.data, made.sites)
    np.testing.assert_allclose(found, alone, atol=0.02)
    shared = model.replace(shared_covariance=True).log_likelihood(made.data, made.sites)
    assert float(shared.sum()) < float(found.sum()) - 0.5


@pytest.mark.slow
def test_counts_are_fitted_above_the_truth():
    model = CoupledLDS(1, absent=(("B", "A"),), emission="poisson")
    sites = {"own_dynamics": np.diag([0.8, 0.6]), "coupling": np.array([[0.0, 0.0], [0.9, 0.0]])}
    sizes = {"regions": {"A": 8, "B": 8}, "n_trials": 40, "n_bins": 40, "bin_width": BIN, "seed": 1}
    made = mrgp.simulate(model, sites=sites, **sizes, snr=0.5)
    fit = CoupledLDS(1, emission="poisson").fit(made.data, progress=False, n_starts=1)
    assert float(fit.log_likelihood().sum()) > float(model.log_likelihood(made.data, made.sites).sum())
    edges = fit.edges()
    assert edges.log_bayes_factor[0] > 10
    assert edges.log_bayes_factor[1] < 0
    assert abs(float(edges.norm[0]) - 0.9) < 0.2


def test_it_refuses_what_it_cannot_do(case):
    data = case[0].data
    unknown = r"V9 is no region of the recording, which has A, B, C"
    for target, why in (("V9", unknown), ("A", "there is no edge from A to itself")):
        with pytest.raises(ValueError, match=f"CoupledLDS: absent: {why}"):
            CoupledLDS(1, absent=(("A", target),)).fit(data, progress=False)
    with pytest.raises(ValueError, match=r"CoupledLDS: lag is a whole number of bins of 20 ms, not 30 ms"):
        CoupledLDS(1, lag=0.03).fit(data, progress=False)
    with pytest.raises(ValueError, match=r"CoupledLDS: lag is 0 s or more, not -0\.1"):
        CoupledLDS(1, lag=-0.1)
    with pytest.raises(ValueError, match="n_global counts states"):
        CoupledLDS(1, n_global=-1)
    with pytest.raises(ValueError, match="likelihood is 'markov', not 'dense'"):
        CoupledLDS(1, likelihood="dense")
    with pytest.raises(ValueError, match="probability is between 0 and 1"):
        case[1].edges(probability=1.5)


# --- a first state of its own


@pytest.mark.parametrize("kind", ["complete", pytest.param("holes", marks=pytest.mark.slow)])
def test_a_learned_start_is_the_normal_density(kind):
    """Also of dynamics that grow."""
    model, data = MODELS["global"].replace(start="learned"), recording(kind)
    rng, regions, n = np.random.default_rng(2), model.regions(data.layout), 4
    size = 2 * n + 2
    sites = random_sites(model, data) | {
        "own_dynamics": 1.2 * rng.standard_normal((n, n)) * regions.own,
        "global_dynamics": rng.standard_normal((2, 2)),
        "first_state_mean": rng.standard_normal(size),
        "first_state_root": np.tril(rng.standard_normal((size, size))),
    }
    F, Q = np.zeros((size, size)), np.diag([1.0] * 6 + [0.0] * 4)
    F[:n, :n], F[:n, 4:6], F[:n, 6:] = sites["own_dynamics"], sites["drive"], sites["coupling"]
    F[4:6, 4:6], F[6:, :4] = sites["global_dynamics"], np.eye(4)
    P = sites["first_state_root"] @ sites["first_state_root"].T + 1e-6 * np.eye(size)
    widths = zip(SIZES.values(), (2, 1, 1), np.cumsum([0, 3, 2]), strict=True)
    C = block_diag(*(sites["loadings"][first : first + count, :k] for count, k, first in widths))
    C = np.pad(C, [(0, 0), (0, size - n)])
    mean, covariance = sites["first_state_mean"], np.zeros((6, 6, size, size))
    means = []
    for t in range(6):
        means.append(C @ mean + sites["offset"])
        covariance[t, t] = P
        for u in range(t + 1, 6):
            covariance[u, t] = F @ covariance[u - 1, t]
            covariance[t, u] = covariance[u, t].T
        mean, P = F @ mean, F @ P @ F.T + Q
    whole = np.einsum("ni,tuij,mj->tnum", C, covariance, C).reshape(6 * 7, 6 * 7) + np.diag(np.tile(sites["noise"], 6))
    values = np.where(data.mask, data.values, np.nan).reshape(data.n_trials, -1)
    expected = [
        multivariate_normal(np.concatenate(means)[seen], whole[np.ix_(seen, seen)]).logpdf(y[seen])
        for y, seen in zip(values, np.isfinite(values), strict=True)
    ]
    np.testing.assert_allclose(model.log_likelihood(data, sites), expected, rtol=0, atol=1e-7)


@pytest.mark.slow
def test_both_starts_say_the_same_of_a_process_that_settles():
    settled = MODELS["global"]
    model, data = settled.replace(start="learned"), recording()
    assignment, sites = model.assignment(data.layout), random_sites(settled, data)
    free = model.fitting.admitting(model, data, sites)
    expected = settled.log_likelihood(data, sites)
    np.testing.assert_allclose(model.log_likelihood(data, free), expected, rtol=0, atol=1e-9)
    turned = ordered(free, assignment)
    np.testing.assert_allclose(joint(model, data, turned), joint(model, data, free), rtol=0, atol=1e-8)
    assert np.abs(turned["drive"] - free["drive"]).max() > 0.01
    back, T = settled_coordinates(free, assignment)
    np.testing.assert_allclose(settled.log_likelihood(data, back), expected, rtol=0, atol=1e-9)
    assert (np.triu(T, 1) == 0).all()
    squares = model.regions(data.layout).squares
    np.testing.assert_allclose(squares(back["coupling"]), squares(sites["coupling"]), rtol=1e-8)
    *_, P = system_at(sites, 1)
    blocks = [np.linalg.cholesky(np.eye(len(A)) - A @ A.T) for A in (sites["own_dynamics"][:2, :2],)]
    free_P = np.linalg.solve(blocks[0], np.linalg.solve(blocks[0], P[:2, :2]).T)
    np.testing.assert_allclose(sds_of_states(free, assignment, 1)[:2], np.sqrt(np.diag(free_P)), rtol=1e-8)


def a_fit(model, data, sites):
    """A fit that ended at given sites."""
    run = {"method": "map", "trace": np.zeros(1), "converged": True, "reason": "", "iterations": 1, "evaluations": 1}
    return CoupledFit(
        model=model, sites=sites, layout=data.layout, n_bins=data.n_bins, wall_s=0.0, seed=0, data=data, **run
    )


@pytest.mark.parametrize("sizes", [(2, 0, 1), (0, 2, 1), (1, 2, 0)])
def test_a_region_without_states_has_a_start_and_shares(sizes):
    model, data = CoupledLDS(sizes), recording()
    sites = draw_system(model, np.random.default_rng(0), data, 0)
    assert all(np.isfinite(value).all() for value in sites.values())
    regions, assignment = model.regions(data.layout), model.assignment(data.layout)
    assert not sites["loadings"][~assignment.used].any()
    fit, edges = a_fit(model, data, sites), regions.edges
    empty = sizes.index(0)
    shares = fit.shares().values
    assert [bool(np.isnan(share)) for share in shares] == [target == empty for _, target in edges]
    # The others have the shares that they have without it.
    kept = [name for name, size in zip(SIZES, sizes, strict=True) if size]
    neurons = np.concatenate([np.arange(7)[part] for name, part in data.layout.region_slices.items() if name in kept])
    less = mrgp.MultiRegionData({name: data.kept(name) for name in kept}, BIN)
    small = CoupledLDS(tuple(size for size in sizes if size))
    own = {name: value[neurons] if name in ("loadings", "noise", "offset") else value for name, value in sites.items()}
    among = [empty not in edge for edge in edges]
    np.testing.assert_allclose(shares[among], a_fit(small, less, own).shares().values, rtol=1e-10)


@pytest.mark.slow
def test_effects_and_shares_are_those_of_a_process_that_settles():
    settled = MODELS["lag"]
    model, data = settled.replace(start="learned"), recording()
    sites = random_sites(settled, data)
    free = model.fitting.admitting(model, data, sites)
    fits = [a_fit(one, data, at) for one, at in ((settled, sites), (model, free))]
    for name in ("effectome", "shares"):
        np.testing.assert_allclose(getattr(fits[1], name)(), getattr(fits[0], name)(), rtol=1e-8)
    for name in ("mean", "sd"):
        one, other = (fit.messages()[name].values for fit in fits)
        np.testing.assert_allclose(np.linalg.norm(one, axis=-1), np.linalg.norm(other, axis=-1), atol=1e-8)
    L = np.linalg.cholesky(np.eye(2) - sites["own_dynamics"][:2, :2] @ sites["own_dynamics"][:2, :2].T)
    other = np.linalg.solve(L, np.linalg.solve(L, fits[0].state_covariance("V1")).T)
    np.testing.assert_allclose(fits[1].state_covariance("V1"), other, rtol=1e-8)
    grows = a_fit(model, data, free | {"own_dynamics": 1.5 * np.eye(4)})
    assert np.isnan(grows.effectome().values).sum() == len(model.regions(data.layout).edges)
    assert np.isnan(grows.shares()).all()


@pytest.mark.slow
def test_a_learned_start_is_drawn_as_a_process_that_settles():
    model = CoupledLDS((2, 1), n_global=1, start="learned")
    made = mrgp.simulate(model, regions={"A": 4, "B": 3}, n_trials=200, n_bins=20, seed=1, snr=1.0)
    assert np.isfinite(made.data.values).all()
    early, late = made.data.values[:, 0].var(0), made.data.values[:, -1].var(0)
    np.testing.assert_allclose(early, late, rtol=0.5)
    given = mrgp.simulate(model, sites={"coupling": np.zeros((3, 3))}, regions={"A": 4, "B": 3}, n_trials=2, n_bins=3)
    assert not given.sites["coupling"].any()
