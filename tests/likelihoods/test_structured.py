"""Structured q against one dense Gaussian over a whole trial."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_model
from jax import random
from numpyro.distributions import kl_divergence
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import mrgp
from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.recursions.whole import dense_covariance
from mrgp.likelihoods.structured import Factors, MarkovPosterior, MarkovPrior
from mrgp.parts.loadings import readout_loadings

N_TRIALS = 3
posterior = jax.jit(MarkovPosterior)
covariance = jax.jit(dense_covariance, static_argnums=(2, 3))
draws = jax.jit(lambda distribution, key: distribution.sample(key, (20_000,)))
draw = jax.jit(lambda distribution, key: distribution.sample(key))
score = jax.jit(lambda distribution, value: distribution.log_prob(value))
divergence_of = jax.jit(lambda q, prior: kl_divergence(q, prior))


def made(n_trials=N_TRIALS, seed=0, **options):
    """A small model, its prior of readouts, and random factors; some bins know nothing of some readouts."""
    model = make_model(seed=seed, **options)
    gp = model.markov()
    prior = MarkovPrior(gp.latents, gp.space, gp.n_bins, n_trials)
    rng = np.random.default_rng(seed)
    shape = (n_trials, *prior.event_shape)
    roots = np.tril(rng.standard_normal((*shape, shape[-1])))
    roots[2:, 0] = 0.0  # a bin of which nothing is known
    roots[0, :, 0], roots[0, :, :, 0] = 0.0, 0.0  # a readout that one trial never measures
    roots[1] *= 30.0  # a trial that is known well
    return model, prior, Factors(jnp.asarray(rng.standard_normal(shape)), jnp.asarray(roots))


def dense(prior, factors, trial):
    """Mean and covariance of q over all bins, the prior covariance, and log Z."""
    V = np.asarray(covariance(*prior.assembled(), prior.n_bins, ()))
    size = prior.event_shape[1]
    F = np.zeros_like(V)
    for t, root in enumerate(np.asarray(factors.roots[trial])):
        F[t * size : (t + 1) * size, t * size : (t + 1) * size] = root
    c = np.asarray(factors.centers[trial]).ravel()
    G = np.eye(len(V)) + F.T @ V @ F
    S = V - V @ F @ np.linalg.solve(G, F.T @ V)
    log_Z = -0.5 * np.linalg.slogdet(G)[1] - 0.5 * (F.T @ c) @ np.linalg.solve(G, F.T @ c)
    return V @ F @ np.linalg.solve(G, F.T @ c), S, V, log_Z


@pytest.mark.parametrize(
    "options",
    [
        {"n_across": 1, "n_within": (0, 2), "n_bins": 1},
        *(pytest.param(options, marks=pytest.mark.slow) for options in ({}, {"kernel": mrgp.Matern32()})),
    ],
)
def test_moments_and_divergence_are_those_of_the_dense_gaussian(options):
    _, prior, factors = made(**options)
    q = posterior(prior, factors)
    divergence = divergence_of(q, prior)
    for trial in range(N_TRIALS):
        mean, S, V, log_Z = dense(prior, factors, trial)
        size = prior.event_shape[1]
        blocks = [S[t * size : (t + 1) * size, t * size : (t + 1) * size] for t in range(prior.n_bins)]
        kl = 0.5 * (np.trace(np.linalg.solve(V, S)) + mean @ np.linalg.solve(V, mean) - len(mean))
        kl += 0.5 * (np.linalg.slogdet(V)[1] - np.linalg.slogdet(S)[1])
        np.testing.assert_allclose(q.mean[trial].ravel(), mean, atol=1e-8)
        np.testing.assert_allclose(q.moments.covariance[trial], blocks, atol=1e-8)
        np.testing.assert_allclose(q.variance[trial].ravel(), np.diag(S), atol=1e-8)
        np.testing.assert_allclose(q.moments.log_normalizer[trial], log_Z, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(divergence[trial], kl, rtol=1e-8, atol=1e-8)


def test_densities_are_relative_to_the_prior():
    _, prior, factors = made()
    q = posterior(prior, factors)
    x = draw(q, random.key(0))
    found = np.asarray(score(q, x)) - np.asarray(score(prior, x))
    for trial in range(N_TRIALS):
        mean, S, V, _ = dense(prior, factors, trial)
        flat = np.asarray(x[trial]).ravel()
        expected = multivariate_normal(mean, S).logpdf(flat) - multivariate_normal(np.zeros(len(V)), V).logpdf(flat)
        np.testing.assert_allclose(found[trial], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("of_prior", [False, True])
def test_draws_are_joint_over_time(of_prior):
    _, prior, factors = made(n_bins=4)
    drawn = draws(prior if of_prior else posterior(prior, factors), random.key(1))
    n_draws = len(drawn)
    for trial in range(N_TRIALS):
        mean, S, V, _ = dense(prior, factors, trial)
        mean, S = (0 * mean, V) if of_prior else (mean, S)
        x = np.asarray(drawn[:, trial]).reshape(n_draws, -1)
        sd = np.sqrt(np.diag(S))
        # 5 standard errors, of a few hundred numbers
        assert (np.abs(x.mean(0) - mean) < 5 * sd / np.sqrt(n_draws)).all()
        error = np.sqrt((S**2 + np.outer(sd, sd) ** 2) / n_draws)
        assert (np.abs(np.cov(x.T) - S) < 5 * error).all()


@pytest.mark.slow
def test_slopes_of_the_divergence():
    _, prior, factors = made(n_across=1, n_within=(1, 0), n_bins=4)
    latents = prior.latents

    def divergence(parts):
        centers, roots, delay, timescale = parts
        own = latents._replace(delay=delay, across={"timescale": timescale})
        q = MarkovPosterior(MarkovPrior(own, prior.space, prior.n_bins, N_TRIALS), Factors(centers, roots))
        return q.divergence().sum()

    at = (*factors, latents.delay, latents.across["timescale"])
    slope = jax.jit(jax.grad(divergence))(at)
    value, rng, step = jax.jit(divergence), np.random.default_rng(2), 1e-5
    for i in range(len(at)):
        way = tuple(rng.standard_normal(part.shape) * (i == j) for j, part in enumerate(at))
        # What is unknown stays so, and the first region's delay is 0.
        way = (way[0], way[1] * (np.asarray(factors.roots) != 0), way[2] * np.array([[0.0], [1.0]]), way[3])
        ahead, behind = (value(jax.tree.map(lambda a, b, s=s: a + s * step * b, at, way)) for s in (1, -1))
        along = sum(float((a * b).sum()) for a, b in zip(slope, way, strict=True))
        np.testing.assert_allclose((ahead - behind) / (2 * step), along, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_slopes_of_draws_are_those_of_each_bins_mean_and_covariance():
    _, prior, factors = made(n_bins=3, n_across=1, n_within=(1, 0))
    key = random.key(3)

    def by_bins(centers, roots):
        q = MarkovPosterior(prior, Factors(centers, roots))
        x = q.sample(key)
        # The same standard normals, however q moves.
        root = jnp.linalg.cholesky(q.moments.covariance)
        return x, q.mean + (root @ jax.lax.stop_gradient(jnp.linalg.solve(root, (x - q.mean)[..., None])))[..., 0]

    drawn = jax.jit(lambda *f: jax.jacrev(lambda *g: by_bins(*g)[0][1].sum())(*f))(*factors)
    own = jax.jit(lambda *f: jax.jacrev(lambda *g: by_bins(*g)[1][1].sum())(*f))(*factors)
    np.testing.assert_allclose(drawn, own, atol=1e-9)
    # Of centers, those of the mean: the covariance knows nothing of them.
    mean = jax.jit(jax.jacrev(lambda c: MarkovPosterior(prior, Factors(c, factors.roots)).mean[1].sum()))
    np.testing.assert_allclose(drawn, mean(factors.centers), atol=1e-9)


@pytest.mark.slow
def test_factors_can_be_set_anew():
    _, prior, factors = made()
    leaves, structure = jax.tree.flatten(posterior(prior, factors))
    moved = jax.tree.unflatten(structure, leaves)
    moved.centers, moved.roots = 2 * factors.centers, 0.5 * factors.roots
    expected = posterior(prior, Factors(2 * factors.centers, 0.5 * factors.roots))
    np.testing.assert_allclose(moved.divergence(), expected.divergence())
    np.testing.assert_allclose(moved.mean, expected.mean)


@pytest.mark.slow
def test_weighted_draws_give_log_p_of_gaussian_values():
    model, prior, _ = made(n_bins=5, n_trials=4, kernel=mrgp.Matern32())
    gp = model.markov(n_trials=4)
    y = gp.sample(random.key(5))
    C = readout_loadings(gp.prior.assignment, gp.loadings)
    # Factors that know half of what there is to know: weights differ, and have a finite variance.
    precision = 0.5 * C.T @ jnp.diag(1 / gp.noise) @ C + 1e-9 * jnp.eye(C.shape[1])
    roots = jnp.broadcast_to(jnp.linalg.cholesky(precision), (4, 5, *precision.shape))
    centers = jnp.linalg.solve(precision, 0.5 * C.T @ ((y - gp.trial_mean) / gp.noise)[..., None])[..., 0]
    q = posterior(prior, Factors(centers, roots))
    x = draws(q, random.key(6))
    rest = y - gp.trial_mean - x @ C.T
    log_p = -0.5 * (rest**2 / gp.noise + jnp.log(2 * jnp.pi * gp.noise)).sum((-2, -1))
    weights = np.asarray(log_p + prior.log_prob(x) - q.log_prob(x))
    estimate = logsumexp(weights, 0) - np.log(len(weights))
    share = np.exp(weights - weights.max(0))
    error = share.std(0) / share.mean(0) / np.sqrt(len(weights))
    assert error.max() < 0.1
    assert (np.abs(estimate - np.asarray(gp.log_prob(y))) < 5 * error).all()


@pytest.mark.slow
def test_the_best_factors_reach_the_bound_of_counts():
    model = make_model(n_neurons=(8, 7), n_across=1, n_within=(1, 1), n_bins=6)
    gp = model.markov(n_trials=N_TRIALS)
    counts = CountGP(gp, mrgp.Poisson(), shared_covariance=False)
    y = counts.sample(random.key(7))
    prior = MarkovPrior(gp.latents, gp.space, gp.n_bins, N_TRIALS)
    C = readout_loadings(gp.prior.assignment, gp.loadings)

    @jax.jit
    def bound(factors):
        q = MarkovPosterior(prior, factors)
        m = q.mean @ C.T + gp.trial_mean
        v = jnp.einsum("ni,btij,nj->btn", C, q.moments.covariance, C)
        terms = mrgp.Poisson().expected(y, m, v).value + mrgp.Poisson().normalizer(y)
        return terms.sum((1, 2)) - q.divergence()

    # Factors of one region know nothing of the other's readouts, as those of an encoder.
    region = gp.prior.assignment.region_of_readout
    block = jnp.asarray(np.tril(region[:, None] == region))
    slope = jax.jit(jax.grad(lambda f: bound(f).sum()))
    shape = prior.batch_shape + prior.event_shape
    factors = Factors(jnp.zeros(shape), jnp.broadcast_to(0.5 * jnp.eye(shape[-1]), (*shape, shape[-1])))
    mean = jax.tree.map(jnp.zeros_like, factors)
    square = jax.tree.map(jnp.zeros_like, factors)
    for step in range(1, 601):  # Adam, in steps that become shorter
        g = slope(factors)
        g = g._replace(roots=g.roots * block)
        mean = jax.tree.map(lambda m, s: 0.9 * m + 0.1 * s, mean, g)
        square = jax.tree.map(lambda m, s: 0.99 * m + 0.01 * s**2, square, g)
        rate = 0.05 * min(1.0, 3 * (1 - step / 601)) * np.sqrt(1 - 0.99**step) / (1 - 0.9**step)
        factors = jax.tree.map(
            lambda f, m, s, rate=rate: f + rate * m / (jnp.sqrt(s) + 1e-8), factors, mean, square
        )
    reached, best = np.asarray(bound(factors)), np.asarray(counts.log_prob(y))
    assert (reached > best - 0.05).all(), reached - best  # the bar is 1 nat per trial
    assert (reached < best + 1e-2).all(), reached - best  # the best q of counts is one of these: nothing is above it
