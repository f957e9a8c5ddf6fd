"""Trials scored as one Gaussian, latent by latent, against all states taken as one process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import make_model

from mrgp.likelihoods.recursions import whole
from mrgp.likelihoods.recursions.whole import dense_covariance, log_normalizer, stationary_covariance, told_apart
from mrgp.likelihoods.statespace.readout import Window

STEPS, TRIALS, PATTERNS = 4, 3, 2
CASES = {
    "both_kinds": ({"n_neurons": (3, 2, 2), "n_across": 2, "n_within": (1, 0, 2)}, Window(6)),
    "steps_of_two_bins": ({"n_across": 3, "n_within": (1, 1)}, Window(3, 2)),
    "own_windows": ({"n_across": 2, "n_within": (0, 0)}, Window(4, shifts=(0.5, -1.0))),
    "within_alone": ({"n_across": 0, "n_within": (2, 1)}, Window(6)),
    "one_latent": ({"n_neurons": (2,), "n_across": 1, "n_within": (0,)}, Window(6)),
}


QUICK = ("both_kinds", "steps_of_two_bins")
FEW = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]


@pytest.fixture(autouse=True)
def told_however_small(monkeypatch):
    monkeypatch.setattr(whole, "WORTH_TELLING", 0)


def given(name):
    """Dynamics and readout of a small model, and random information in two patterns that changes over time."""
    options, window = CASES[name]
    gp = make_model(**options).markov(window=window, n_trials=TRIALS)
    dynamics, readout = jax.jit(gp.space.assemble)(gp.latents)
    size, rng = readout.weights.shape[1], np.random.default_rng(1)
    root = rng.standard_normal((STEPS, PATTERNS, size, size))
    vectors, pattern = rng.standard_normal((STEPS, TRIALS, size)), np.array([0, 1, 1])
    return gp.space, dynamics, readout, jnp.asarray(vectors), jnp.asarray(root @ np.swapaxes(root, -1, -2)), pattern


@pytest.mark.slow_cases("both_kinds")
@pytest.mark.parametrize("name", FEW)
def test_covariances_of_latents_make_that_of_all(name):
    space, dynamics, readout, *_ = given(name)
    latents = space.prior.assignment.n_across + sum(space.prior.assignment.n_within)
    assert sum(len(kind.states) for kind in space.kinds) == latents
    dense = jax.jit(dense_covariance, static_argnums=(2, 3))
    ours, whole = (np.asarray(dense(dynamics, readout, STEPS, kinds)) for kinds in (space.kinds, ()))
    np.testing.assert_allclose(ours, whole, atol=1e-13)
    assert np.abs(ours - np.diag(np.diag(ours))).max() > 0.1


@pytest.mark.slow_cases("steps_of_two_bins")
@pytest.mark.parametrize("name", FEW)
def test_score_and_slopes_latent_by_latent_are_those_of_the_dense_formula(name):
    space, dynamics, readout, vectors, precision, pattern = given(name)
    weight = jnp.arange(1.0, 1 + TRIALS)

    def score(vectors, precision, noise, weights, kinds):
        read = readout._replace(noise=noise, weights=weights)
        kinds = told_apart(kinds, dynamics, read, STEPS)
        V = stationary_covariance(dynamics, read, STEPS, kinds)
        return weight @ log_normalizer(kinds, V, vectors, precision, pattern)

    def dense(vectors, precision, noise, weights):
        V = dense_covariance(dynamics, readout._replace(noise=noise, weights=weights), STEPS, ())
        total = 0.0
        for trial, number in enumerate(pattern):
            Lambda = jax.scipy.linalg.block_diag(*precision[:, number])
            b, system = vectors[:, trial].ravel(), jnp.eye(len(V)) + V @ Lambda
            total += weight[trial] * (b @ jnp.linalg.solve(system, V @ b) - jnp.linalg.slogdet(system)[1]) / 2
        return total

    # Weights are moved where they are not zero: what one latent reads of another is zero, and stays so.
    parts = (vectors, precision, readout.noise, readout.weights)
    ours, slopes = jax.jit(jax.value_and_grad(lambda *parts: score(*parts, space.kinds), (0, 1, 2, 3)))(*parts)
    exact, theirs = jax.jit(jax.value_and_grad(dense, (0, 1, 2, 3)))(*parts)
    np.testing.assert_allclose(ours, exact, rtol=1e-11)
    moved = np.asarray(readout.weights) != 0
    for slope, wanted, free in zip(slopes, theirs, (True, True, True, moved), strict=True):
        both = [(s + jnp.swapaxes(s, -1, -2)) / 2 if s is slopes[1] or s is theirs[1] else s for s in (slope, wanted)]
        np.testing.assert_allclose(*(np.where(free, part, 0.0) for part in both), rtol=1e-8, atol=1e-10)


def test_a_state_space_that_tells_nothing_apart_is_one_process():
    _, dynamics, readout, *_ = given("both_kinds")
    (all_of_it,) = told_apart((), dynamics, readout, STEPS)
    assert np.shape(all_of_it.states) == (1, len(dynamics.transition))
    assert np.shape(all_of_it.readouts) == (1, readout.weights.shape[1])


def test_small_trials_are_one_process_and_large_ones_are_told_apart(monkeypatch):
    space, dynamics, readout, *_ = given("both_kinds")
    size = STEPS * readout.weights.shape[1]
    for least, kinds in ((size, space.kinds), (size + 1, told_apart((), dynamics, readout, STEPS))):
        monkeypatch.setattr(whole, "WORTH_TELLING", least)
        assert told_apart(space.kinds, dynamics, readout, STEPS) == kinds
