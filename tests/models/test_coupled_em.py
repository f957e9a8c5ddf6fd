"""Expectation-maximization of coupled regions: each update against a slow reference, and the maximum that it finds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from mrgp.models import CoupledLDS
from scipy.linalg import block_diag, solve_discrete_lyapunov
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import mrgp
from mrgp.inference.density import known_sites
from mrgp.inference.expectation_maximization.coupled_system import Blocks, Dynamics, Sums, regressed
from mrgp.inference.expectation_maximization.moments import Moments
from mrgp.inference.expectation_maximization.readouts import Scales, readouts_update
from mrgp.inference.mode.edge_evidence import Relevance
from mrgp.likelihoods.statespace.region_blocks import Regions
from mrgp.likelihoods.statespace.region_priors import RelevantEdges

BIN, PRIOR = 0.02, Relevance(1.5, 0.2)
REGIONS = Regions((2, 1), ((0, 1), (1, 0)))


def some_dynamics(m, seed=0):
    rng = np.random.default_rng(seed)
    own = block_diag([[0.7, 0.2], [-0.1, 0.5]], [[0.6]])
    coupling = 0.3 * rng.standard_normal((3, 3)) * REGIONS.coupled
    T = block_diag([[1.3, 0.0], [0.4, 0.8]], [[0.7]], *([[[1.1]]] * m))
    return Dynamics(own, coupling, 0.4 * rng.standard_normal((3, m)), 0.5 * np.eye(m), T)


def matrices(at, lag):
    """Transition and noise of z_t = (x, g, past of x), written out, and T of all of it."""
    n, m = at.drive.shape
    size = n * (lag + 1) + m
    root = block_diag(*(np.linalg.cholesky(np.eye(len(A)) - A @ A.T) for A in (at.own[:2, :2], at.own[2:, 2:])))
    F, Q = np.zeros((size, size)), np.zeros((size, size))
    F[:n, :n], F[:n, n : n + m], F[n : n + m, n : n + m] = at.own, root @ at.drive, at.shared
    first = 0 if lag == 0 else n + m + (lag - 1) * n
    F[:n, first : first + n] += root @ at.coupling
    for k in range(lag):
        before = 0 if k == 0 else n + m + (k - 1) * n
        F[n + m + k * n : n + m + (k + 1) * n, before : before + n] = np.eye(n)
    Q[:n, :n], Q[n : n + m, n : n + m] = root @ root.T, np.eye(m) - at.shared @ at.shared.T
    return F, Q, block_diag(at.change, *[at.change[:n, :n]] * lag)


@pytest.mark.parametrize(("lag", "m"), [pytest.param(0, 0, marks=pytest.mark.slow), (2, 1)])
def test_the_expected_density_is_that_of_states_that_are_known(lag, m):
    """With certain states it is their normal density, all bins at once, and the priors as the program has them."""
    rng, n, n_bins, n_trials = np.random.default_rng(1), 3, 4, 2
    blocks = Blocks(REGIONS, m, lag, PRIOR, n_trials)
    size, weights = n * (lag + 1) + m, np.diag([0.3, 0.2, 0.5])
    x, g = rng.standard_normal((n_trials, n_bins + lag, n)), rng.standard_normal((n_trials, n_bins, m))
    s = np.concatenate([x[:, lag:], g, *(x[:, lag - k - 1 : lag - k - 1 + n_bins] for k in range(lag))], -1)
    sums = Sums(
        n_trials * (n_bins - 1), np.einsum("bti,btj->ij", s[:, :-1], s[:, :-1]),
        np.einsum("bti,btj->ij", s[:, 1:], s[:, 1:]), np.einsum("bti,btj->ij", s[:, 1:], s[:, :-1]),
        np.einsum("bi,bj->ij", s[:, 0], s[:, 0]), weights,
    )  # fmt: skip

    def expected(at):
        F, Q, T = matrices(at, lag)
        P = solve_discrete_lyapunov(F, Q)
        powers = [np.linalg.matrix_power(F, k) @ P for k in range(n_bins)]
        whole = np.block([[powers[t - u] if t >= u else powers[u - t].T for u in range(n_bins)] for t in range(n_bins)])
        whole = np.kron(np.eye(n_bins), T) @ whole @ np.kron(np.eye(n_bins), T).T
        kept = np.concatenate([np.arange(size), *(t * size + np.arange(n + m) for t in range(1, n_bins))])
        path = s.reshape(n_trials, -1)[:, kept]
        value = multivariate_normal(cov=whole[np.ix_(kept, kept)]).logpdf(path).sum()
        edges = RelevantEdges(jnp.asarray(at.own), REGIONS, *PRIOR, lag)
        value += float(edges.log_prob(jnp.asarray(at.coupling))) - 0.5 * (at.drive**2).sum()
        return value - 0.5 * np.trace(at.change[:n, :n].T @ weights @ at.change[:n, :n])

    first, second = some_dynamics(m), some_dynamics(m, 5)._replace(change=np.eye(n + m))
    loss = jax.jit(lambda at: blocks.loss(blocks.free(at), sums))
    found = [float(loss(Dynamics(*map(jnp.asarray, at)))) for at in (first, second)]
    np.testing.assert_allclose(found[0] - found[1], expected(second) - expected(first), rtol=1e-9)
    back = blocks.dynamics(blocks.free(Dynamics(*map(jnp.asarray, first))))
    for one, other in zip(back, first, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_the_closed_form_finds_the_system_of_exact_sums():
    """From the sums of an endless trial, and without priors that say anything, it is the system itself."""
    at, lag = some_dynamics(1)._replace(change=np.eye(4)), 2
    F, Q, _ = matrices(at, lag)
    P = solve_discrete_lyapunov(F, Q)
    sums = Sums(1e8, 1e8 * P, 1e8 * P, 1e8 * F @ P, P, np.zeros((3, 3)))
    blocks = Blocks(REGIONS, 1, lag, Relevance(1.0, 1.0), 1)
    far = some_dynamics(1, 3)
    found = regressed(blocks, sums, far)
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(found.own)), np.abs(np.linalg.eigvals(at.own)), atol=1e-5)
    for one, other in zip(found, at, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("sizes", [(2, 0), (0, 2)])
def test_a_region_without_states_changes_nothing(sizes):
    start = Dynamics(0.3 * np.eye(2), np.zeros((2, 2)), np.zeros((2, 0)), np.zeros((0, 0)), np.eye(2))
    sums = Sums(32.0, 30 * np.eye(2), 30 * np.eye(2), np.array([[9.0, 3.0], [0.0, 6.0]]), np.eye(2), np.eye(2))
    alone = regressed(Blocks(Regions((2,)), 0, 0, PRIOR, 4), sums, start)
    found = regressed(Blocks(Regions(sizes, ((0, 1), (1, 0))), 0, 0, PRIOR, 4), sums, start)
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_readouts_are_where_the_expected_density_is_highest():
    model, rng = CoupledLDS((2, 1)), np.random.default_rng(0)
    data = mrgp.MultiRegionData({"A": rng.standard_normal((2, 3, 2)), "B": 2 + rng.standard_normal((2, 3, 1))}, BIN)
    states = rng.standard_normal((2, 3, 3))  # few, so that priors count
    y, known = data.values - data.center, np.concatenate([states, np.ones((2, 3, 1))], -1)
    none, uncertain = np.zeros(()), np.diag([0.2, 0.2, 0.2, 0.0])
    moments = Moments(
        none, none, none, none, none, none, none, (uncertain + np.einsum("bti,btj->ij", known, known))[None],
        np.einsum("btn,bti->ni", y, known), (y**2).sum((0, 1)),
    )  # fmt: skip
    sites, noise = {}, np.ones(3)
    for _ in range(40):
        sites = readouts_update(moments, data, model.assignment(data.layout), noise, Scales.of(model.emission, data))
        noise = sites["noise"]
    assert sites["loadings"][2, 1] == 0  # B has one state
    priors = {name: site["fn"] for name, site in known_sites(model, data).items() if name in sites}

    def loss(v, neuron, own):
        c, level, variance = v[:-2], v[-2], np.exp(v[-1])
        signal = states[..., own] @ c + level - data.center[neuron]
        left = ((y[..., neuron] - signal) ** 2).sum() + 0.2 * (c @ c)
        at = {name: np.array(value) for name, value in sites.items()}
        at["loadings"][neuron, : len(c)], at["offset"][neuron], at["noise"][neuron] = c, level, variance
        told = sum(float(jnp.sum(priors[name].log_prob(jnp.asarray(at[name])))) for name in priors)
        return 3 * np.log(variance) + 0.5 * left / variance - told  # six values

    for neuron, own in ((0, [0, 1]), (2, [2])):
        at = np.array([*sites["loadings"][neuron, : len(own)], sites["offset"][neuron], np.log(noise[neuron])])
        best = minimize(loss, at + 0.1, (neuron, own), method="BFGS")
        np.testing.assert_allclose(at, best.x, atol=1e-3)
        assert loss(at, neuron, own) <= best.fun + 1e-6
    assert isinstance(priors["noise"], dist.Distribution)


def simulated(model, n_trials=30):
    sizes = {"regions": {"A": 5, "B": 5, "C": 5}, "n_trials": n_trials, "n_bins": 30, "bin_width": BIN, "seed": 1}
    coupling = np.zeros((3, 3))
    coupling[1, 0], coupling[2, 1] = 0.8, -0.5
    sites = {"own_dynamics": np.diag([0.8, 0.6, 0.7]), "coupling": coupling}
    return mrgp.simulate(model, sites=sites, **sizes, snr=2.0)


@pytest.mark.slow
def test_em_ends_where_map_does():
    """Also from far away, and never down."""
    made, model = simulated(CoupledLDS(1)), CoupledLDS(1)
    best = model.fit(made.data, progress=False, n_starts=1)
    far = {**best.sites, "own_dynamics": 0.3 * np.eye(3), "coupling": np.zeros((3, 3)), "noise": np.ones(15)}
    fit = model.fit(made.data, "em", start=dataclasses.replace(best, sites=far), progress=False)
    assert fit.converged
    assert (np.diff(fit.trace) >= -1e-8 * np.abs(fit.trace[:-1])).all()
    assert fit.climbed == "log p(y, parameters)"
    assert abs(fit.trace[-1] - best.trace[-1]) < 0.1
    np.testing.assert_allclose(fit.effectome(), best.effectome(), atol=0.02)


@pytest.mark.slow
def test_em_with_holes_lags_and_global_states_ends_where_map_does():
    model = CoupledLDS((2, 1, 1), n_global=1, lag=BIN, absent=(("C", "A"),))
    values = mrgp.simulate(
        model, regions={"A": 6, "B": 5, "C": 5}, n_trials=30, n_bins=30, bin_width=BIN, seed=1, snr=2.0
    ).data
    arrays = {name: np.array(values.region(name), float) for name in values.layout.regions}
    arrays["A"][0, 3:6] = arrays["B"][:10, :, 2] = np.nan
    for array in arrays.values():
        array[5:9, 20:] = np.nan
    data = mrgp.MultiRegionData(arrays, BIN)
    fit = model.fit(data, "em", progress=False, n_starts=1)
    assert fit.converged
    assert (np.diff(fit.trace) >= -1e-8 * np.abs(fit.trace[:-1])).all()
    on = model.fit(data, "map", start=fit, progress=False)
    assert fit.trace[-1] <= on.trace[-1] < fit.trace[-1] + 0.5


def test_counts_have_no_updates():
    counts = np.arange(12).reshape(2, 3, 2)
    data = mrgp.MultiRegionData({"A": counts, "B": counts[::-1]}, BIN)
    with pytest.raises(ValueError, match="method 'em' has no update for emission='poisson'"):
        CoupledLDS(1, emission="poisson").fit(data, "em")
