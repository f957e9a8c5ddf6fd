"""Switching dynamics: chains, hidden states, switches and the bound, against dense matrices, paths and grids."""

from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln, logsumexp
from scipy.stats import multivariate_normal
from switching_oracles import dense_moments, dynamics, system, trials

import mrgp
from mrgp.likelihoods.switching.chain import Chain, drawn, moments
from mrgp.likelihoods.switching.distribution import SwitchingLinear
from mrgp.likelihoods.switching.hidden_states import forward_backward, most_likely, value_of
from mrgp.likelihoods.switching.posterior import converged, evaluated, first_posterior
from mrgp.likelihoods.switching.switches import (
    best_weights,
    log_normalizers,
    log_probabilities,
    logits_of,
    natural_gradient,
)
from mrgp.recordings.missing import Missing

RNG = np.random.default_rng(3)


def bound_of(law, some):
    return np.asarray(jax.jit(lambda: converged(law, some, first_posterior(law, some), 1e-9, 300))().bound)


# --- pieces


def test_moments_of_a_chain_are_those_of_its_dense_precision():
    T, D, n = 5, 2, 3
    root = RNG.normal(0, 1, (n, T, D, D))
    J = root @ np.swapaxes(root, -1, -2) + 4 * np.eye(D)
    O, h = RNG.normal(0, 0.5, (n, T, D, D)), RNG.normal(0, 1, (n, T, D))
    O[:, 0] = 0
    inside = np.ones((n, T))
    inside[1, 3:] = 0
    O[1, 3:] = 0  # bins after a trial's end are linked to nothing
    chain = Chain(*map(jnp.asarray, (J, O, h)))
    known = moments(chain, jnp.asarray(inside))
    draws = jax.vmap(lambda key: drawn(key, chain))(jax.random.split(jax.random.key(0), 4000))
    for b in range(n):
        dense = np.zeros((T * D, T * D))
        for t in range(T):
            own, before = slice(t * D, t * D + D), slice(t * D - D, t * D)
            dense[own, own] = J[b, t]
            if t:
                dense[own, before], dense[before, own] = -O[b, t], -O[b, t].T
        covariance = np.linalg.inv(dense)
        mean = covariance @ h[b].ravel()
        np.testing.assert_allclose(known.mean[b].ravel(), mean, rtol=1e-10, atol=1e-12)
        for t in range(T):
            own, before = slice(t * D, t * D + D), slice(t * D - D, t * D)
            np.testing.assert_allclose(known.covariance[b, t], covariance[own, own], rtol=1e-10, atol=1e-12)
            if t:
                np.testing.assert_allclose(known.lagged[b, t], covariance[own, before], rtol=1e-10, atol=1e-12)
        count = int(inside[b].sum()) * D
        entropy = multivariate_normal(cov=covariance[:count, :count]).entropy()
        np.testing.assert_allclose(known.entropy[b], entropy, rtol=1e-10)
        # 4000 draws: a mean errs by 1.6%, a variance by 2.2% of itself; five times as much is never reached.
        found = np.asarray(draws)[:, b].reshape(4000, -1)
        assert np.abs((found.mean(0) - mean) / np.sqrt(np.diag(covariance))).max() < 0.08
        scale = np.sqrt(np.diag(covariance))
        assert np.abs((np.cov(found.T) - covariance) / scale / scale[:, None]).max() < 0.12


@pytest.mark.slow_cases("1")
@pytest.mark.parametrize("n_states", [1, 3])
def test_forward_backward_is_the_sum_over_all_paths(n_states):
    T = 4
    first, steps = RNG.normal(0, 1, n_states), RNG.normal(0, 2, (2, T - 1, n_states, n_states))
    states, total = forward_backward(jnp.asarray(first), jnp.asarray(steps))
    path = most_likely(jnp.asarray(first), jnp.asarray(steps))
    np.testing.assert_allclose(value_of(states, jnp.asarray(first), jnp.asarray(steps)), total, rtol=1e-12)
    every = np.array(list(product(range(n_states), repeat=T)))
    for b in range(2):
        scores = first[every[:, 0]] + sum(steps[b, t, every[:, t], every[:, t + 1]] for t in range(T - 1))
        np.testing.assert_allclose(total[b], logsumexp(scores), rtol=1e-12)
        share = np.exp(scores - logsumexp(scores))
        for t in range(T):
            own = [share[every[:, t] == k].sum() for k in range(n_states)]
            np.testing.assert_allclose(states.single[b, t], own, rtol=1e-10)
        ways = product(range(n_states), repeat=2)
        pair = np.reshape([share[(every[:, 1] == i) & (every[:, 2] == j)].sum() for i, j in ways], (n_states, n_states))
        np.testing.assert_allclose(states.pair[b, 1], pair, rtol=1e-10, atol=1e-300)
        np.testing.assert_array_equal(path[b], every[scores.argmax()])


@pytest.mark.parametrize(("scale", "largest"), [(0.3, 2e-3), (1.0, 0.02), (3.0, 0.25)])
def test_log_normalizers_of_switches_are_bounded_from_above(scale, largest):
    of = dynamics(2, 1, recurrent=True)
    of = of._replace(enter=scale * of.enter, stay=scale * of.stay)
    m, v = jnp.asarray([[0.4], [-2.0]]), jnp.asarray([[[0.7]], [[1.5]]])
    logits = logits_of(of, m, v)
    bound = np.asarray(log_normalizers(logits, best_weights(logits)))
    nodes, weight = np.polynomial.hermite_e.hermegauss(60)
    x = np.asarray(m) + np.sqrt(np.asarray(v)[:, 0]) * nodes  # (point, node)
    rows = np.asarray(of.rows)[of.row_of][..., 0]
    exact = logsumexp(np.asarray(of.logits) + rows * x[..., None, None], -1)  # (point, node, state)
    exact = np.einsum("pns,n->ps", exact, weight / weight.sum())
    assert (bound >= exact - 1e-10).all()
    assert (bound - exact).max() < largest  # the more logits move with latents, the looser


def test_pseudo_observations_of_switches_have_the_slopes_of_the_bound():
    of = dynamics(3, 2, recurrent=True)
    m = jnp.asarray(RNG.normal(0, 1, 2))
    root = RNG.normal(0, 0.5, (2, 2))
    V, pair = jnp.asarray(root @ root.T + 0.1 * np.eye(2)), jnp.asarray(RNG.dirichlet(np.ones(9)).reshape(3, 3))
    weights = best_weights(logits_of(of, m, V))

    def height(m, V):
        logits = logits_of(of, m, V)
        return (pair * (logits.mean - log_normalizers(logits, weights)[..., None])).sum()

    by_mean, by_covariance = jax.grad(height, (0, 1))(m, V)
    precision, vector = natural_gradient(of, m, V, pair)
    np.testing.assert_allclose(precision, -(by_covariance + by_covariance.T), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(vector, by_mean + precision @ m, rtol=1e-9, atol=1e-12)
    assert (np.linalg.eigvalsh(precision) > -1e-12).all()
    total = np.exp(np.asarray(log_probabilities(of, m, 0 * V))).sum(-1)
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)  # where latents are known, they are probabilities


# --- the bound


def exact_by_paths(law, values, seen, length):
    """log p(y) of one trial, as the sum over all paths of states, each a dense Gaussian."""
    of, keep = jax.tree.map(np.asarray, law.dynamics), seen[:length].ravel() > 0
    switch = of.logits - logsumexp(of.logits, 1, keepdims=True)
    scores = []
    for path in product(range(of.n_states), repeat=length):
        mean, cov = dense_moments(law, path)
        prior = np.log(of.first_state[path[0]]) + sum(switch[i, j] for i, j in pairwise(path))
        y = values[:length].ravel()[keep]
        scores.append(prior + multivariate_normal(mean[keep], cov[np.ix_(keep, keep)]).logpdf(y))
    return logsumexp(scores)


def test_of_one_state_the_bound_is_the_likelihood():
    law = system(dynamics(1, 2, recurrent=False), 3)
    values, seen, length = RNG.normal(0, 1, (3, 5, 3)), np.ones((3, 5, 3)), [5, 5, 3]
    seen[1, 2], seen[0, 1, 0] = 0, 0
    found = bound_of(law, trials(values, seen, length))
    exact = [exact_by_paths(law, values[b], seen[b], length[b]) for b in range(3)]
    np.testing.assert_allclose(found, exact, rtol=1e-9)


def test_the_bound_is_below_the_sum_over_all_paths():
    law = system(dynamics(2, 2, recurrent=False), 3)
    values, seen, length = RNG.normal(0, 1.5, (3, 5, 3)), np.ones((3, 5, 3)), [5, 5, 1]
    seen[1, 2] = 0
    found = bound_of(law, trials(values, seen, length))
    exact = np.array([exact_by_paths(law, values[b], seen[b], length[b]) for b in range(3)])
    assert (found <= exact + 1e-9).all()
    assert (exact - found).max() < 1.0  # nats of some 40: given y, latents depend on states, and q has them apart
    np.testing.assert_allclose(found[2], exact[2], rtol=1e-9)  # of one bin no state is asked for


GRID = np.linspace(-7, 7, 141)


def exact_by_grid(law, values):
    """log p(y) of a trial of three bins with one latent, by sums over states and over a grid of latents."""
    of = jax.tree.map(np.asarray, law.dynamics)
    C, d = np.asarray(law.loadings)[:, 0], np.asarray(law.readout.offset)
    eta = C * GRID[:, None] + d
    if law.readout.counts is None:
        noise = np.asarray(law.readout.noise)
        told = -0.5 * ((values[:, None] - eta) ** 2 / noise + np.log(2 * np.pi * noise)).sum(-1)
    else:
        told = (values[:, None] * eta - np.exp(eta) - gammaln(values[:, None] + 1)).sum(-1)
    width = np.log(GRID[1] - GRID[0])
    rows = np.asarray(of.rows)[of.row_of][..., 0]
    logits = of.logits + rows * GRID[:, None, None]
    switch = logits - logsumexp(logits, -1, keepdims=True)  # (grid, state, next state)
    start = -0.5 * ((GRID - of.first_mean[0]) ** 2 / of.first_variance[0] + np.log(2 * np.pi * of.first_variance[0]))
    alpha = np.log(of.first_state)[:, None] + start + told[0] + width  # (state, grid)
    for t in (1, 2):
        step = np.stack([
            -0.5 * ((GRID[None] - A * GRID[:, None] - b) ** 2 + np.log(2 * np.pi))
            for A, b in zip(of.matrix[:, 0, 0], of.drift[:, 0], strict=True)
        ])  # (next state, grid, next grid)
        whole = alpha[:, None, :, None] + np.moveaxis(switch, 0, -1)[..., None] + step[None]
        alpha = logsumexp(whole, (0, 2)) + told[t] + width
    return logsumexp(alpha)


@pytest.mark.slow_cases("gaussian")
@pytest.mark.parametrize("counts", [None, mrgp.Poisson()], ids=["gaussian", "poisson"])
def test_recurrent_and_of_counts_it_is_below_the_integral(counts):
    law = system(dynamics(2, 1, recurrent=True), 2, counts)
    values = RNG.normal(0, 1.5, (3, 3, 2)) if counts is None else 1.0 * RNG.poisson(2, (3, 3, 2))
    found = bound_of(law, trials(values))
    exact = np.array([exact_by_grid(law, one) for one in values])
    assert (found <= exact + 1e-6).all()
    assert (exact - found).max() < 0.4


@pytest.mark.slow
def test_no_round_lets_the_bound_of_a_trial_fall():
    law = system(dynamics(3, 2, recurrent=True), 4, mrgp.Poisson())
    some = trials(1.0 * RNG.poisson(3, (4, 12, 4)), length=[12, 12, 7, 1])
    known, heights = first_posterior(law, some), []
    once = jax.jit(lambda known: converged(law, some, known, 0.0, 1))
    for _ in range(12):
        known = once(known)
        heights.append(np.asarray(known.bound))
    assert (np.diff(heights, axis=0) > -1e-8).all()
    assert (np.diff(heights, axis=0)[-1] < 0.05).all()


@pytest.mark.slow
def test_the_search_is_not_lost_where_rates_are_steep():
    """Of counts a whole first step may lead to rates from which no way leads back."""
    of = dynamics(2, 2, recurrent=False)
    law = system(of._replace(matrix=0.9 * jnp.eye(2) + 0 * of.matrix), 30, mrgp.Poisson())
    law = law._replace(loadings=3 * law.loadings, readout=law.readout._replace(offset=law.readout.offset - 3))
    some = trials(1.0 * RNG.poisson(0.5, (3, 20, 30)) * (RNG.random((3, 20, 1)) < 0.3) * 8)
    first = first_posterior(law, some)
    found = bound_of(law, some)
    assert (found > first.bound).all()
    silent = evaluated(law, some, first.chain).bound  # the best states of latents around 0
    assert (found > silent).all()


@pytest.mark.slow
def test_it_does_not_depend_on_the_units_of_latents():
    law = system(dynamics(2, 2, recurrent=True), 3)
    some = trials(RNG.normal(0, 1, (2, 6, 3)), length=[6, 4])
    known = converged(law, some, first_posterior(law, some), 1e-3, 20)
    by = jnp.asarray([2.0, 0.3])
    scaled = known.moments.scaled(by, some.inside)
    again = moments(known.chain.scaled(by), some.inside)
    for mine, theirs in zip(again, scaled, strict=True):
        np.testing.assert_allclose(mine * 1.0, theirs, rtol=1e-9, atol=1e-12)
    # Logits are the same; the process noise is not 1 in other units, and is no parameter.
    of, other = law.dynamics, law.dynamics.scaled(by)
    one = logits_of(of, known.moments.mean, known.moments.covariance)
    two = logits_of(other, scaled.mean, scaled.covariance)
    for mine, theirs in zip(one, two, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


# --- draws


@pytest.mark.slow
def test_draws_follow_their_laws():
    of = dynamics(2, 2, recurrent=True)
    law = system(of, 3)
    missing = Missing(None, jnp.zeros(300, int), None)
    whole = SwitchingLinear(law, mrgp.Gaussian(), 20, missing)
    paths = jax.tree.map(np.asarray, whole.paths(jax.random.key(1)))
    z, x = paths.states, paths.latents
    A, b = np.asarray(of.matrix), np.asarray(of.drift)
    pushed = x[:, 1:] - np.einsum("btij,btj->bti", A[z[:, 1:]], x[:, :-1]) - b[z[:, 1:]]
    # 5700 steps: a variance errs by 1.9%, five times as much is never reached.
    np.testing.assert_allclose(np.cov(pushed.reshape(-1, 2).T), np.eye(2), atol=0.1)
    known = np.exp(np.asarray(log_probabilities(of, jnp.asarray(x[:, :-1]), jnp.zeros((300, 19, 2, 2)))))
    stays = np.take_along_axis(known, z[:, :-1, None, None], 2)[..., 0, :]
    expected = np.take_along_axis(stays, z[:, :-1, None], 2)[..., 0]
    error = np.sqrt((expected * (1 - expected)).sum()) / expected.size
    assert abs((z[:, 1:] == z[:, :-1]).mean() - expected.mean()) < 5 * error
    rest = paths.values - paths.eta
    np.testing.assert_allclose(rest.var((0, 1)), law.readout.noise, rtol=0.12)
    assert whole.sample(jax.random.key(0), (2,)).shape == (2, 300, 20, 3)
