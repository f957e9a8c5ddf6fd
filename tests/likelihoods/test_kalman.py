"""Filter, smoother and sampler against dense Gaussian conditioning on the whole trial."""

import copy
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from scipy.linalg import block_diag, solve_discrete_lyapunov

from mrgp.likelihoods.recursions import whole
from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout, filter_gains, filter_means, log_normalizer_terms
from mrgp.likelihoods.recursions.scan import parallel_gains, parallel_means
from mrgp.likelihoods.recursions.smoother import sample_prior, smooth_covariances, smooth_means, synthetic_information
from mrgp.likelihoods.recursions.steady import Steady, steady_covariance
from mrgp.likelihoods.recursions.whole import (
    dense_covariance,
    log_normalizer,
    moments,
    stationary_covariance,
    told_apart,
)
from mrgp.likelihoods.statespace.assemble import Latents, Prior, StateSpace
from mrgp.likelihoods.statespace.lift import build_lift
from mrgp.likelihoods.statespace.readout import Window
from mrgp.parts.kernels import SquaredExponential
from mrgp.parts.latents import LatentLayout


class Problem(NamedTuple):
    """Inputs of the filter: a pytree, so that gradients can be taken of all at once."""

    dynamics: Dynamics
    readout: StateReadout
    precision: jax.Array
    information: jax.Array
    pattern: jax.Array


def problem(n_steps=6, size=4, readouts=3, patterns=2, trials=5, moving=False, changing=False, seed=0):
    """A random stationary model with process noise of rank 2.

    StateReadout and precision are constant or vary in time. One pattern never measures its last readout; where the
    precision varies, some steps measure nothing at all.
    """
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((size, size))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    root = rng.standard_normal((size, min(2, size)))
    Q = root @ root.T
    steps = n_steps if moving else 1
    W, E = rng.standard_normal((steps, readouts, size)), rng.uniform(0.05, 0.5, (steps, readouts))
    half = rng.standard_normal((n_steps if changing else 1, patterns, readouts, readouts))
    if readouts > 1:
        half[:, 0, -1] = 0.0
    if changing:
        half[1, 0], half[-1, 1:] = 0.0, 0.0
    precision = half @ np.swapaxes(half, -1, -2)
    pattern = np.arange(trials) % patterns
    # Information lies in the range of the precision, as that of a measurement does.
    x = rng.standard_normal((n_steps, trials, readouts))
    b = np.einsum("tbij,tbj->tbi", np.broadcast_to(precision, (n_steps, *precision.shape[1:]))[:, pattern], x)
    parts = (A, Q, solve_discrete_lyapunov(A, Q)), (W, E), precision, b, pattern
    (A, Q, P), (W, E), precision, b, pattern = jax.tree.map(jnp.asarray, parts)
    return Problem(Dynamics(A, Q, P), StateReadout(W, E), precision, b, pattern)


CASES = {
    "constant": {},
    "moving_readout": {"moving": True, "seed": 1},
    "changing_precision": {"changing": True, "patterns": 3, "seed": 2},
    "all_change": {"n_steps": 4, "moving": True, "changing": True, "trials": 4, "seed": 3},
    "one_readout_one_trial": {"readouts": 1, "trials": 1, "patterns": 1, "seed": 4},
    "one_step": {"n_steps": 1, "seed": 5},
    "one_state_one_step": {"n_steps": 1, "size": 1, "readouts": 1, "trials": 1, "patterns": 1, "seed": 6},
}


EVERY = pytest.mark.parametrize(
    ("name", "parallel"),
    [
        ("constant", False), ("moving_readout", False), ("changing_precision", False), ("one_state_one_step", False),
        ("all_change", True),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in
          ("all_change", "one_readout_one_trial", "one_step")),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in ("constant", "one_step")),
    ],
    ids=lambda value: {True: "parallel", False: "sequential"}.get(value, value),
)  # fmt: skip


@partial(jax.jit, static_argnames="parallel")
def normalizer(given, parallel=False):
    """The log normalizer of each trial, (trial,)."""
    dynamics, readout, precision, b, pattern = given
    if parallel:
        gains = parallel_gains(dynamics, readout, precision, len(b))
        means = parallel_means(dynamics, readout, gains, b, pattern)
    else:
        gains = filter_gains(dynamics, readout, precision, len(b))
        means = filter_means(dynamics, readout, gains, b, pattern)
    return log_normalizer_terms(gains, readout, means, b, pattern).sum(0)


@partial(jax.jit, static_argnames="parallel")
def run(given, parallel=False):
    """Log normalizers, predicted means and covariances, smoothed means and covariances, by one pass."""
    dynamics, readout, precision, b, pattern = given
    if parallel:
        gains = parallel_gains(dynamics, readout, precision, len(b))
        means = parallel_means(dynamics, readout, gains, b, pattern)
    else:
        gains = filter_gains(dynamics, readout, precision, len(b))
        means = filter_means(dynamics, readout, gains, b, pattern)
    scores = log_normalizer_terms(gains, readout, means, b, pattern).sum(0)
    smoothed = smooth_means(gains, readout, means, b, pattern, parallel)
    return scores, means, gains.predicted, smoothed, smooth_covariances(gains, readout, parallel)


def joint(given, xp=np):
    """Covariances of all states, states with readouts, and all readouts, time-major, by hand."""
    (A, Q, P, *_), (W, E), _, b, _ = given
    steps, size = len(b), len(A)
    W, E = (xp.broadcast_to(m, (steps, *m.shape[1:])) for m in (W, E))
    blocks = [[None] * steps for _ in range(steps)]
    for t in range(steps):
        ahead = P
        for u in range(t, steps):
            blocks[u][t] = ahead
            blocks[t][u] = ahead.T
            ahead = A @ ahead
        P = A @ P @ A.T + Q
    S = xp.block(blocks)
    eye = np.eye(steps)
    big = (eye[:, None, :, None] * W[:, :, None]).reshape(-1, steps * size)
    cross = S @ big.T
    V = big @ cross
    return S, cross, V + xp.diag(E.reshape(-1))


def stacked_precision(given, trial):
    precision, steps = np.asarray(given.precision), len(given.information)
    full = np.broadcast_to(precision, (steps, *precision.shape[1:]))
    return block_diag(*full[:, int(given.pattern[trial])])


def dense_normalizer(given, trial, xp=jnp):
    """-log|I + Lambda V| / 2 + b' V (I + Lambda V)^-1 b / 2 of one trial; differentiable with ``xp=jnp``."""
    if xp is np:
        given = jax.tree.map(np.asarray, given)
    _, _, V = joint(given, xp)
    steps, _, n = given.information.shape
    own = xp.broadcast_to(given.precision, (steps, *given.precision.shape[1:]))[:, given.pattern[trial]]
    L = (np.eye(steps)[:, None, :, None] * own[:, :, None]).reshape(steps * n, steps * n)
    b = given.information[:, trial].reshape(-1)
    B = np.eye(steps * n) + L @ V
    return 0.5 * b @ V @ xp.linalg.solve(B, b) - 0.5 * xp.linalg.slogdet(B)[1]


@EVERY
def test_normalizer_is_the_dense_formula(name, parallel):
    given = problem(**CASES[name])
    expected = [dense_normalizer(given, trial, np) for trial in range(given.information.shape[1])]
    np.testing.assert_allclose(run(given, parallel)[0], expected, rtol=1e-8, atol=1e-8)


@EVERY
def test_posterior_is_that_of_gaussian_conditioning(name, parallel):
    given = problem(**CASES[name])
    _, means, predicted, smoothed, spread = jax.tree.map(np.asarray, run(given, parallel))
    S, cross, V = joint(jax.tree.map(np.asarray, given))
    steps, trials, n = given.information.shape
    size = len(S) // steps
    for trial in range(trials):
        L, b = stacked_precision(given, trial), np.asarray(given.information[:, trial]).reshape(-1)
        g = int(given.pattern[trial])
        inverse = np.linalg.inv(np.eye(len(V)) + L @ V)
        wanted = {
            "states": (cross @ inverse @ b, S - cross @ inverse @ L @ cross.T, size),
            "readouts": (V @ inverse @ b, V @ inverse, n),
        }
        for field, (mean, covariance, width) in wanted.items():
            got = getattr(smoothed, field)[:, trial]
            np.testing.assert_allclose(got, mean.reshape(steps, width), rtol=1e-8, atol=1e-8)
            for t in range(steps):
                own = slice(t * width, (t + 1) * width)
                np.testing.assert_allclose(
                    getattr(spread, field)[t, g], covariance[own, own], rtol=1e-8, atol=1e-8
                )
        joint_states = S - cross @ np.linalg.solve(np.eye(len(V)) + L @ V, L @ cross.T)
        for t in range(steps - 1):
            own, following = slice(t * size, (t + 1) * size), slice((t + 1) * size, (t + 2) * size)
            np.testing.assert_allclose(spread.lagged[t, g], joint_states[own, following], rtol=1e-8, atol=1e-8)
        # Prediction of a step knows only the information before it.
        t = steps - 1
        past = slice(0, t * n)
        inverse = np.linalg.inv(np.eye(t * n) + L[past, past] @ V[past, past])
        ahead = cross[t * size :, past]
        np.testing.assert_allclose(means[t, trial], ahead @ inverse @ b[past], rtol=1e-8, atol=1e-8)
        left = S[t * size :, t * size :] - ahead @ inverse @ L[past, past] @ ahead.T
        np.testing.assert_allclose(predicted[t, g], left, rtol=1e-8, atol=1e-8)


def test_nothing_measured_leaves_the_prior():
    given = problem(**CASES["constant"])
    given = given._replace(precision=0 * given.precision, information=0 * given.information)
    scores, _, _, smoothed, spread = run(given)
    np.testing.assert_allclose(scores, 0.0, atol=1e-12)
    np.testing.assert_allclose(smoothed.states, 0.0, atol=1e-12)
    stationary = np.broadcast_to(given.dynamics.stationary, spread.states.shape)
    np.testing.assert_allclose(spread.states, stationary, rtol=1e-10, atol=1e-12)


@jax.jit
def dense_gradient(given):
    """Gradient of the sum of all trials' dense formulas, by the arrays that are not indices."""

    def total(variables):
        whole = Problem(*variables, given.pattern)
        return jax.vmap(lambda trial: dense_normalizer(whole, trial))(jnp.arange(len(given.pattern))).sum()

    return jax.grad(total)(given[:4])


def symmetrised(parts):
    """Covariances and precisions only move symmetrically: that part of their gradient is defined."""
    dynamics, readout, precision, b = parts
    transition, *rest = dynamics[:3]
    sym = [0.5 * (m + jnp.swapaxes(m, -1, -2)) for m in (*rest, precision)]
    return [transition, *readout, b, *sym]


@pytest.mark.parametrize(
    "parallel", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["sequential", "parallel"]
)
def test_gradient_is_that_of_the_dense_formula_and_of_finite_differences(parallel):
    given = problem(**CASES["all_change"])
    variables = given[:4]

    def value(parts):
        return normalizer(Problem(*parts, given.pattern), parallel).sum()

    gradient, expected = jax.jit(jax.grad(value))(variables), dense_gradient(given)

    for got, wanted in zip(symmetrised(gradient), symmetrised(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-8 * np.abs(np.asarray(wanted)).max())

    rng = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(variables)
    slopes = jax.tree.leaves(gradient)
    for i, leaf in enumerate(leaves):
        direction = rng.standard_normal(leaf.shape) * np.abs(np.asarray(leaf)).max()
        if i in (1, 2, 5):   # Q, P0, Lambda
            direction = direction + np.swapaxes(direction, -1, -2)
        step, at = 1e-5, {}
        for k in (-2, -1, 1, 2):
            new = [x + k * step * direction if j == i else x for j, x in enumerate(leaves)]
            at[k] = float(value(jax.tree.unflatten(tree, new)))
        difference = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step)
        # Truncation is step^4 x fifth derivative, round-off 1e-14 |value| / step: 1e-7 of a slope of 100.
        assert float((slopes[i] * direction).sum()) == pytest.approx(difference, rel=1e-6, abs=1e-6)


# --- a gain that never changes


@partial(jax.jit, static_argnames="ragged")
def steady(given, ragged=False):
    """The log normalizer of each trial, (trial,); ragged trials lose a step each."""
    dynamics, readout, precision, b, pattern = given
    valid = (np.arange(len(b))[:, None] < lengths(given)) * 1.0 if ragged else None
    b = b if valid is None else b * valid[..., None]
    return Steady.of(dynamics, readout, precision[0], len(b)).log_normalizer(b, pattern, valid)


def lengths(given):
    """Steps of ragged trials: the first has all of them, the next one less each, but one at the least."""
    n_steps, n_trials = given.information.shape[:2]
    return np.maximum(n_steps - np.arange(n_trials), 1)


STEADY = {
    "constant": {},
    "one_pattern": {"n_steps": 13, "patterns": 1, "trials": 3, "seed": 8},
    "long": {"n_steps": 40, "size": 7, "patterns": 3, "trials": 4, "seed": 9},
    "one_readout_one_trial": CASES["one_readout_one_trial"],
    "one_step": CASES["one_step"],
    "one_state_one_step": CASES["one_state_one_step"],
}


@pytest.mark.slow_cases("constant", "one_pattern", "one_step", "one_readout_one_trial")
@pytest.mark.parametrize("name", STEADY)
def test_steady_normalizer_is_the_dense_formula_of_whole_and_ragged_trials(name):
    given = problem(**STEADY[name])
    trials = range(given.information.shape[1])
    expected = [dense_normalizer(given, trial, np) for trial in trials]
    np.testing.assert_allclose(steady(given), expected, rtol=1e-9, atol=1e-9)
    cut = [given._replace(information=given.information[:n]) for n in lengths(given)]
    expected = [dense_normalizer(one, trial, np) for one, trial in zip(cut, trials, strict=True)]
    np.testing.assert_allclose(steady(given, ragged=True), expected, rtol=1e-9, atol=1e-9)


def test_steady_normalizer_of_a_start_that_is_known_and_of_one_that_is_not():
    """Neither a start narrower than the steady covariance, nor one far wider, is one that the process itself has."""
    given = problem(n_steps=9, patterns=1, seed=11)
    for scale in (0.0, 1e-3, 1e4):
        own = given._replace(dynamics=given.dynamics._replace(stationary=scale * given.dynamics.stationary))
        expected = [dense_normalizer(own, trial, np) for trial in range(5)]
        np.testing.assert_allclose(steady(own), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.slow_cases("ragged")
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_gradient_of_the_steady_normalizer_is_that_of_the_dense_formula(ragged):
    given = problem(n_steps=7, seed=12)

    def value(parts):
        return steady(Problem(*parts, given.pattern), ragged).sum()

    def dense(parts):
        whole, ends = Problem(*parts, given.pattern), lengths(given) if ragged else np.full(5, 7)
        cut = [whole._replace(information=whole.information[:n]) for n in ends]
        return sum(dense_normalizer(one, trial) for trial, one in enumerate(cut))

    gradient, expected = (jax.jit(jax.grad(total))(given[:4]) for total in (value, dense))
    for got, wanted in zip(symmetrised(gradient), symmetrised(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-8 * np.abs(np.asarray(wanted)).max())


@pytest.mark.slow
def test_second_derivatives_of_the_steady_normalizer_are_those_of_the_filter():
    given = problem(n_steps=8, size=3, readouts=2, patterns=1, trials=3, seed=13)

    def hessian(score):
        def total(A, W, root):
            precision = root @ jnp.swapaxes(root, -1, -2)
            own = given.dynamics._replace(transition=A), given.readout._replace(weights=W), precision
            return score(Problem(*own, given.information, given.pattern)).sum()

        root = jnp.linalg.cholesky(given.precision + 0.1 * jnp.eye(2))
        return jax.jit(jax.hessian(total, (0, 1, 2)))(given.dynamics.transition, given.readout.weights, root)

    for got, wanted in zip(jax.tree.leaves(hessian(steady)), jax.tree.leaves(hessian(normalizer)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-8 * np.abs(np.asarray(wanted)).max())


def in_long_double(given):
    """Log normalizer of trials of one pattern, by a filter in numbers of 80 bits, which NumPy only multiplies."""
    long = jax.tree.map(lambda array: np.asarray(array).astype(np.longdouble), given[:4])
    (A, Q, P, *_), (W, E), precision, b = long
    W, E, told, mean, total = W[0], E[0], precision[0, 0], np.zeros((b.shape[1], len(A)), np.longdouble), 0

    def inverse(matrix):
        rows = np.concatenate([matrix, np.eye(len(matrix))], 1)
        pivots = []
        for k in range(len(rows)):
            best = k + np.abs(rows[k:, k]).argmax()
            rows[[k, best]] = rows[[best, k]]
            pivots.append(rows[k, k])
            rows[k] /= rows[k, k]
            others = np.arange(len(rows)) != k
            rows[others] -= rows[others, k : k + 1] * rows[k]
        return rows[:, len(rows) :], np.log(np.abs(np.array(pivots))).sum()

    for vectors in b:
        V = W @ P @ W.T + np.diag(E)
        shrinkage, log_determinant = inverse(np.eye(len(E)) + told @ V)
        mu = mean @ W.T
        residual = vectors - mu @ told
        innovation = residual @ shrinkage.T
        total = total + 0.5 * ((vectors + residual) * mu + residual @ V * innovation).sum(-1) - 0.5 * log_determinant
        mean = (mean + innovation @ W @ P) @ A.T
        P = A @ (P - P @ W.T @ (shrinkage @ told) @ W @ P) @ A.T + Q
    return total


@pytest.mark.parametrize("scores", [steady, normalizer], ids=["one_gain", "gains_of_steps"])
def test_normalizer_keeps_its_digits_where_neurons_have_hardly_any_noise(scores):
    """Precisions of 1e8, as of neurons that a latent follows exactly: log Z is of 1e9 nats, and known to 1e-6."""
    given = problem(n_steps=40, size=6, readouts=4, patterns=2, trials=5, seed=14)
    x = given.information[:, 1::2]
    precision = given.precision[:, 1:] + 1e8 * jnp.diag(jnp.array([1.0, 1.0, 0.0, 0.0]))
    information = x + 1e8 * x * jnp.array([1.0, 1.0, 0.0, 0.0])
    given = given._replace(precision=precision, information=information, pattern=jnp.zeros(2, int))
    expected = in_long_double(given)
    assert np.abs(expected).min() > 1e8
    np.testing.assert_allclose(scores(given), expected.astype(float), rtol=4e-15)


def test_steady_covariance_rests_also_of_processes_as_slow_as_a_session():
    """A million steps of memory, one state measured and one not, which keeps the covariance of its process."""
    slow = np.exp(-1e-6)
    A, P0 = np.diag([slow, slow, 0.5]), np.eye(3)
    dynamics = Dynamics(*map(jnp.asarray, (A, P0 - A @ P0 @ A.T, P0)))
    W, E, told = np.array([[1.0, 0.0, 1.0]]), np.array([0.1]), np.array([[[20.0]]])
    P = np.asarray(jax.jit(steady_covariance)(dynamics, *map(jnp.asarray, (W, E, told))))[0]
    V = W @ P @ W.T + np.diag(E)
    filtered = P - P @ W.T @ np.linalg.inv(np.linalg.inv(told[0]) + V) @ W @ P
    np.testing.assert_allclose(A @ filtered @ A.T + dynamics.process_noise, P, rtol=0, atol=1e-12)
    np.testing.assert_allclose(P[1], [0.0, 1.0, 0.0], atol=1e-8)
    alone = Dynamics(*(jnp.asarray(part[:1, :1]) for part in dynamics[:3]))
    p, R, q = float(steady_covariance(alone, W[:, :1], E, told)[0, 0, 0]), 0.15, float(alone.process_noise[0, 0])
    # p = a^2 p R / (p + R) + q, a quadratic
    linear = R * (1 - slow**2) - q
    assert p == pytest.approx(0.5 * (-linear + np.sqrt(linear**2 + 4 * q * R)), rel=1e-9)


# --- draws


def five_sigma(covariance, draws):
    """Five standard errors of every entry of a sample covariance: exceeded by chance once in 1e6 entries."""
    variance = np.diag(covariance)
    return 5 * np.sqrt((np.outer(variance, variance) + covariance**2) / draws)


def assert_moments(draws, mean, covariance):
    """Mean and covariance of draws (draw, variable) within five standard errors."""
    count = len(draws)
    error = 5 * np.sqrt(np.diag(covariance) / count) + 1e-12
    assert (np.abs(draws.mean(0) - mean) <= error).all()
    assert (np.abs(np.cov(draws.T) - covariance) <= five_sigma(covariance, count) + 1e-12).all()


N_DRAWS = 40_000
SMALL = {"n_steps": 3, "size": 2, "readouts": 2, "patterns": 1, "trials": 1, "moving": True, "changing": True}


def test_draws_from_the_prior_have_its_moments():
    given = problem(**SMALL)
    sample = jax.jit(sample_prior, static_argnums=(3, 4))
    drawn = sample(random.key(0), given.dynamics, given.readout, 3, N_DRAWS)
    S, cross, V = joint(jax.tree.map(np.asarray, given))
    whole = np.block([[S, cross], [cross.T, V]])
    flat = [np.swapaxes(np.asarray(part), 0, 1).reshape(N_DRAWS, -1) for part in drawn]
    assert_moments(np.concatenate(flat, axis=1), np.zeros(len(whole)), whole)


def test_synthetic_information_has_the_moments_of_a_measurement():
    given = problem(**SMALL)
    x = random.normal(random.key(1), (3, N_DRAWS, 2))
    told = jax.jit(synthetic_information)(random.key(2), x, given.precision, jnp.zeros(N_DRAWS, int))
    told_of = np.einsum("tij,tbj->tbi", np.asarray(given.precision)[:, 0], np.asarray(x))
    rest = np.swapaxes(np.asarray(told) - told_of, 0, 1).reshape(N_DRAWS, -1)
    precision = stacked_precision(given, 0)
    # A direction that is not measured must carry nothing: its variance is 0 but for round-off.
    assert_moments(rest, np.zeros(len(precision)), precision)


@pytest.mark.slow_cases("parallel")
@pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
def test_draws_from_the_posterior_have_its_moments(parallel):
    """The smoothed mean, plus a prior draw, minus what its own synthetic information makes of it."""
    given = problem(**SMALL)
    pattern = jnp.zeros(N_DRAWS, int)

    @jax.jit
    def draw(prior_key, data_key, given):
        dynamics, readout, precision, b, _ = given
        gains = filter_gains(dynamics, readout, precision, 3)
        means = filter_means(dynamics, readout, gains, b, given.pattern)
        mean = smooth_means(gains, readout, means, b, given.pattern, parallel)
        prior = sample_prior(prior_key, dynamics, readout, 3, N_DRAWS)
        told = synthetic_information(data_key, prior.readouts, precision, pattern)
        means = filter_means(dynamics, readout, gains, told, pattern)
        back = smooth_means(gains, readout, means, told, pattern, parallel)
        return mean.readouts + prior.readouts - back.readouts

    drawn = np.swapaxes(np.asarray(draw(random.key(3), random.key(4), given)), 0, 1).reshape(N_DRAWS, -1)
    _, _, V = joint(jax.tree.map(np.asarray, given))
    inverse = np.linalg.inv(np.eye(len(V)) + stacked_precision(given, 0) @ V)
    assert_moments(drawn, V @ inverse @ np.asarray(given.information[:, 0]).reshape(-1), V @ inverse)


# --- single precision


def single(given):
    return jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, given)


def smooth_model(timescale, n_steps=12):
    """Two delayed squared exponentials in two regions: the nearly singular covariances of real use."""
    prior = Prior(SquaredExponential(), 1e-3, LatentLayout((1, 1), 2, (0, 0)))
    space = StateSpace(prior, build_lift(SquaredExponential()), Window(6))
    delay = jnp.array([[0.0, 0.0], [1.3, -2.2]])[None]
    latents = Latents(delay, {"timescale": jnp.array(timescale)}, {"timescale": jnp.zeros(0)})
    dynamics, readout = jax.jit(space.assemble)(latents)
    rng = np.random.default_rng(0)
    half = rng.standard_normal((1, 1, 4, 8))
    precision = jnp.asarray(half @ np.swapaxes(half, -1, -2))
    b = 3 * rng.standard_normal((n_steps, 3, 8)) @ np.swapaxes(half[0, 0], -1, -2)
    return Problem(dynamics, readout, precision, jnp.asarray(b), jnp.zeros(3, int))


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [False, True], ids=["sequential", "parallel"])
def test_single_precision_is_finite_and_close(parallel):
    for given in (problem(**CASES["all_change"]), smooth_model((3.0, 30.0))):
        low, _, _, smoothed, spread = run(single(given), parallel)
        high, _, _, exact, exact_spread = run(given, parallel)
        assert low.dtype == jnp.float32
        np.testing.assert_allclose(low, high, rtol=1e-3)
        # What is left of a variance is the prior's less what was learnt: digits are lost against the prior's.
        prior = np.diag(joint(jax.tree.map(np.asarray, given))[2]).max()
        np.testing.assert_allclose(smoothed.readouts, exact.readouts, atol=1e-3 * np.sqrt(prior))
        np.testing.assert_allclose(spread.readouts, exact_spread.readouts, atol=1e-3 * prior)


# --- whole trials at once

STILL = [name for name, settings in CASES.items() if not settings.get("moving")]
FEW = {"constant", "one_step", "one_readout_one_trial"}  # between "changing_precision" and "one_state_one_step"


@jax.jit
def at_once(given):
    """The log normalizers and what the readouts' moments are, by one factor of each trial."""
    dynamics, readout, precision, b, pattern = given
    V, kinds = dense_covariance(dynamics, readout, len(b), ()), told_apart((), dynamics, readout, len(b))
    return V, log_normalizer(kinds, (V[None],), b, precision, pattern), moments(V, b, precision, pattern)


@pytest.mark.slow_cases("constant", "one_step", "one_readout_one_trial")
@pytest.mark.parametrize("name", STILL)
def test_a_whole_trial_is_scored_and_smoothed_as_by_the_filter(name):
    given = problem(**CASES[name])
    V, scores, found = at_once(given)
    filtered, _, _, smoothed, spread = run(given)
    np.testing.assert_allclose(V, joint(jax.tree.map(np.asarray, given))[2], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(scores, filtered, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.mean, smoothed.readouts, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.covariance, spread.readouts, rtol=1e-8, atol=1e-8)
    for trial in range(len(given.pattern)):
        determinant = np.linalg.slogdet(np.eye(len(V)) + stacked_precision(given, trial) @ V)[1]
        np.testing.assert_allclose(found.log_determinant[trial], -0.5 * determinant, atol=1e-9)


@pytest.mark.slow_cases("changing_precision")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in FEW else ()) for name in STILL]
)
def test_slopes_and_curvature_of_whole_trials_are_those_of_the_dense_formula(name):
    """First derivatives by everything, and second along a random direction; weights tell trials apart."""
    given = problem(**CASES[name])
    weight = jnp.arange(1.0, 1 + given.information.shape[1])

    def scored(parts):
        dynamics, readout, precision, b = parts
        kinds = told_apart((), dynamics, readout, len(b))
        V = stationary_covariance(dynamics, readout, len(b), kinds)
        return (weight * log_normalizer(kinds, V, b, precision, given.pattern)).sum()

    def dense(parts):
        return sum(w * dense_normalizer(Problem(*parts, given.pattern), trial) for trial, w in enumerate(weight))

    def stationary(parts):  # the dense formula lets P0 follow A and Q
        dynamics, *rest = parts
        A, P = dynamics.transition, dynamics.stationary
        return (dynamics._replace(process_noise=P - A @ P @ A.T), *rest)

    parts = tuple(given)[:4]
    rng = np.random.default_rng(0)
    along = jax.tree.map(lambda x: jnp.asarray(1e-2 * rng.standard_normal(x.shape)), parts)
    even = along[0].stationary + along[0].stationary.T
    along = (along[0]._replace(stationary=even), along[1], along[2] + jnp.swapaxes(along[2], -1, -2), along[3])
    @partial(jax.jit, static_argnums=0)
    def derivatives(f, parts, along):
        """The first and the second along a direction, by one program."""
        return jax.jvp(lambda p: jax.jvp(f, (p,), (along,))[1], (parts,), (along,))

    ours, theirs = (derivatives(f, parts, along) for f in (scored, lambda p: dense(stationary(p))))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-7)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6)
    reverse = jax.jit(jax.grad(scored))(parts)
    inner = sum(np.vdot(a, b) for a, b in zip(jax.tree.leaves(reverse), jax.tree.leaves(along), strict=True))
    np.testing.assert_allclose(inner, ours[0], rtol=1e-9)


def test_nothing_told_of_a_whole_trial_leaves_the_prior():
    given = problem(n_steps=4)
    nothing = given._replace(precision=jnp.zeros_like(given.precision), information=jnp.zeros_like(given.information))
    V, scores, found = at_once(nothing)
    np.testing.assert_allclose(scores, 0, atol=1e-12)
    np.testing.assert_array_equal(found.mean, 0)
    blocks = np.asarray(V).reshape(4, 3, 4, 3)[np.arange(4), :, np.arange(4)]
    np.testing.assert_allclose(found.covariance, np.broadcast_to(blocks[:, None], (4, 2, 3, 3)), rtol=1e-12)


def test_bright_bins_beside_missing_ones_are_no_failure():
    """Blocks of rank one, a thousand times stronger in one bin than in others, and nothing in some."""
    solved = jax.jit(moments)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        half = rng.standard_normal((40, 2))
        strength = np.where(np.arange(40) == 7, 1e3, rng.random(40) < 0.5)
        precision = jnp.asarray((strength[:, None, None] * half[:, :, None] * half[:, None])[:, None])
        root = rng.standard_normal((80, 80))
        V = jnp.asarray(root @ root.T / 80 + 1e-3 * np.eye(80))
        b = jnp.asarray(half[:, None] * rng.standard_normal((40, 1, 1)))
        found = solved(V, b, precision, jnp.zeros(1, int))
        S = np.linalg.inv(np.linalg.inv(V) + block_diag(*np.asarray(precision)[:, 0]))
        np.testing.assert_allclose(found.mean[:, 0].ravel(), S @ np.asarray(b).ravel(), atol=1e-8)
        np.testing.assert_allclose(found.covariance[:, 0, 0, 0], np.diag(S)[::2], atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("window", [Window(6), Window(3, 2)], ids=["bin by bin", "two bins a step"])
@pytest.mark.parametrize("missing_kind", ["complete", "holes", "ragged", "ragged_holes"], indirect=True)
def test_the_likelihood_takes_short_trials_at_once(small_model, missing_kind, missing_data, window, monkeypatch):
    """The same numbers and slopes as by the filter, which is left only with trials of different lengths."""
    called = []
    monkeypatch.setattr(whole, "log_normalizer", lambda *given: called.append(1) or log_normalizer(*given))
    model = small_model(n_across=2, n_within=(1, 0), n_bins=7)
    y = np.asarray(model.dense(n_trials=4).sample(random.key(0)))
    mask, missing = missing_data(missing_kind, *y.shape)
    options = {"window": window, "n_trials": 4, "missing": missing}
    either = [model.markov(**options, parallel=way) for way in (None, False)]

    def scored(distribution):
        """Each trial's log p(y), and the slopes of their sum by the loadings."""

        def total(loadings):
            other = copy.copy(distribution)
            other.loadings = loadings
            scores = other.log_prob(y * mask)
            return scores.sum(), scores

        (_, scores), slope = jax.jit(jax.value_and_grad(total, has_aux=True))(distribution.loadings)
        return scores, slope

    ours, theirs = map(scored, either)
    assert len(called) == (not (missing_kind.startswith("ragged") and window.step == 1))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-10)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-7, atol=1e-9)


def test_long_trials_are_left_to_the_filter(small_model, monkeypatch):
    monkeypatch.setattr(whole, "log_normalizer", lambda *given: pytest.fail("a trial of 300 bins is not short"))
    model = small_model(n_across=1, n_within=(1, 1), n_bins=300)
    found = jax.eval_shape(model.markov(window=Window(4), n_trials=2, parallel=None).log_prob, np.zeros((2, 300, 5)))
    assert found.shape == (2,)
