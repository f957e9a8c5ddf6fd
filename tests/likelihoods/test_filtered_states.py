"""States by a filter that keeps one Gaussian for each state, against the sum over all paths."""

from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp
from scipy.stats import multivariate_normal
from switching_oracles import dense_moments, dynamics, system

from mrgp.likelihoods.switching.filtered import filtered_states, seen
from mrgp.likelihoods.switching.posterior import System, Trials, converged, first_posterior, searched
from mrgp.metrics import match_states
from mrgp.parts.readout import Readout
from mrgp.parts.switching import SwitchingDynamics
from mrgp.simulations.switching import simulate_switching

RNG = np.random.default_rng(5)


def by_paths(law, values):
    """Probability of every path of states of one trial, {path: probability}."""
    of = jax.tree.map(np.asarray, law.dynamics)
    switch = np.asarray(of.logits - logsumexp(of.logits, 1, keepdims=True))
    scores = {}
    for path in product(range(of.n_states), repeat=len(values)):
        mean, covariance = dense_moments(law, path)
        prior = np.log(of.first_state[path[0]]) + sum(switch[i, j] for i, j in pairwise(path))
        scores[path] = prior + multivariate_normal(mean, covariance).logpdf(values.ravel())
    total = float(logsumexp(jnp.asarray(list(scores.values()))))
    return {path: np.exp(score - total) for path, score in scores.items()}


def observed(law, values):
    """Pseudo-observations of Gaussian values."""
    C, noise, d = (np.asarray(part) for part in (law.loadings, law.readout.noise, law.readout.offset))
    precision = np.broadcast_to((C.T / noise) @ C, (*values.shape[:2], C.shape[1], C.shape[1]))
    return jnp.asarray(precision), jnp.asarray((values - d) / noise @ C)


def test_a_pseudo_observation_moves_a_gaussian_as_bayes_says():
    C, noise, y = RNG.normal(0, 1, (4, 2)), RNG.uniform(0.5, 2, 4), RNG.normal(0, 1, 4)
    root = RNG.normal(0, 1, (2, 2))
    m, P = RNG.normal(0, 1, 2), root @ root.T
    precision, vector = (C.T / noise) @ C, C.T @ (y / noise)
    mean, covariance, evidence = seen(*(jnp.asarray(part) for part in (m, P, precision, vector)))
    inverse = np.linalg.inv(np.linalg.inv(P) + precision)
    np.testing.assert_allclose(covariance, inverse, rtol=1e-9)
    np.testing.assert_allclose(mean, inverse @ (np.linalg.solve(P, m) + vector), rtol=1e-9)
    apart = multivariate_normal(np.zeros(4), np.diag(noise)).logpdf(y)
    np.testing.assert_allclose(evidence, multivariate_normal(C @ m, C @ P @ C.T + np.diag(noise)).logpdf(y) - apart)


def test_of_two_bins_the_filter_is_exact():
    law = system(dynamics(3, 2, recurrent=False), 3)
    values = RNG.normal(0, 1.5, (2, 2, 3))
    states = filtered_states(law.dynamics, *observed(law, values))
    for b in range(2):
        exact = np.array([share for _, share in by_paths(law, values[b]).items()]).reshape(3, 3)
        np.testing.assert_allclose(states.pair[b, 0], exact, rtol=1e-8)
        np.testing.assert_allclose(states.single[b], [exact.sum(1), exact.sum(0)], rtol=1e-8)


@pytest.mark.slow
def test_of_more_bins_it_is_near_and_what_it_says_last_is_nearest():
    law = system(dynamics(2, 2, recurrent=False), 3)
    values = RNG.normal(0, 1.5, (3, 6, 3))
    states = filtered_states(law.dynamics, *observed(law, values))
    np.testing.assert_allclose(states.single.sum(-1), 1.0, rtol=1e-9)
    np.testing.assert_allclose(states.pair.sum(-1), states.single[:, :-1], rtol=1e-8)
    np.testing.assert_allclose(states.pair.sum(-2), states.single[:, 1:], rtol=1e-8)
    for b in range(3):
        paths = by_paths(law, values[b])
        exact = np.array([sum(share for path, share in paths.items() if path[t]) for t in range(6)])
        gap = np.abs(np.asarray(states.single[b, :, 1]) - exact)
        assert gap.max() < 0.12
        assert gap[-1] < 0.02


@pytest.mark.slow
def test_a_search_from_its_states_ends_higher_where_one_from_nothing_is_lost():
    """The true parameters: from states that are all as likely the search ends 14 nats below."""
    truth = (made := simulate_switching({"A": 12, "B": 12}, 3, 3, n_bins=300, noise=0.5, mean_count=None, seed=1)).truth
    own = [truth[name].values for name in ("state_matrix", "state_drift", "switch_logits", "enter_weights")]
    rest = np.zeros((3, 6)), np.full(3, 1 / 3), np.zeros(6), np.ones(6)
    of = SwitchingDynamics(*map(jnp.asarray, (*own, *rest)))
    C = np.zeros((24, 6))
    C[:12, :3], C[12:, 3:] = truth["loadings"].values[:12], truth["loadings"].values[12:]
    readout = Readout(jnp.asarray(C), jnp.ones(24), jnp.asarray(truth["offset"].values))
    law, values = System(of, jnp.asarray(C), readout), jnp.asarray(made.data.floats)
    some = Trials(values, jnp.ones(values.shape), jnp.ones(values.shape[:2]))
    lost = jax.jit(lambda: converged(law, some, first_posterior(law, some), 0.01, 100))()
    found = jax.jit(lambda: searched(law, some, 0.01, 100))()
    assert found.bound[0] > lost.bound[0] + 10
    assert match_states(truth["states"], np.asarray(found.states.single).argmax(-1)).share > 0.99
