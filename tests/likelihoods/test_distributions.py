"""The three likelihoods: NumPyro's contract, values against scipy, gradients, invariances, posteriors."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import random
from numpyro import handlers
from numpyro.infer import log_likelihood
from numpyro.infer.util import log_density
from scipy.stats import multivariate_normal

from mrgp.likelihoods import DenseGP, MarkovGP
from mrgp.likelihoods.statespace.assemble import Prior, StateSpace
from mrgp.likelihoods.statespace.covariance import lifted_covariance
from mrgp.likelihoods.statespace.lift import build_lift
from mrgp.likelihoods.statespace.readout import Window
from mrgp.parts.kernels import Matern12, Matern32, SquaredExponential
from mrgp.parts.latents import LatentLayout

KINDS = ["dense", "markov", "spectral"]
N_TRIALS = 6

score = jax.jit(lambda distribution, value: distribution.log_prob(value))
slope = jax.jit(jax.grad(lambda distribution, value: distribution.log_prob(value).sum(), allow_int=True))
smooth = jax.jit(lambda distribution, value: distribution.posterior(value))
lifted = jax.jit(lifted_covariance, static_argnums=(0, 2))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def draw(model, n_trials=N_TRIALS, seed=10, mask=None):
    """Trials of about the model's own size (any data will do for a density), zero where missing."""
    shape = (n_trials, model.n_bins, len(model.arguments["noise"]))
    values = np.asarray(model.arguments["offset"]) + 1.3 * np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(values if mask is None else np.where(mask, values, 0.0))


# --- the models, written out


def readout_covariance(model, kernel=lambda u: np.exp(-(u**2) / 2)):
    """cov(x) (time, readout, time, readout) from its definition."""
    a, eps, T = model.prior.assignment, model.prior.gp_noise, model.n_bins
    R, K = a.n_regions, a.n_across
    V = np.zeros((T, a.n_readouts, T, a.n_readouts))
    times = np.arange(T)
    delay = np.broadcast_to(np.asarray(model.arguments["delay"]), (T, R, K))
    for k, scale in enumerate(np.asarray(model.arguments["across"]["timescale"])):
        for r in range(R):
            for s in range(R):
                lag = (times - delay[:, r, k])[:, None] - (times - delay[:, s, k])
                V[:, r * K + k, :, s * K + k] = kernel(lag / scale)
    for j, scale in enumerate(np.asarray(model.arguments["within"]["timescale"])):
        V[:, R * K + j, :, R * K + j] = kernel((times[:, None] - times) / scale)
    size = T * a.n_readouts
    return ((1 - eps) * V.reshape(size, size) + eps * np.eye(size)).reshape(V.shape)


def circulant_covariance(model):
    """cov(x) of the periodic model whose Fourier coefficients have, frequency by frequency, the exact model's moments.

    V(f) = F K F* from the exact covariance K of every pair of readouts (Sykulski et al. 2019, eq. 8, for a vector).
    """
    T = model.n_bins
    K = readout_covariance(model)
    V = np.zeros_like(K)
    times = np.arange(T)
    for f in np.fft.fftfreq(T):
        wave = np.exp(-2j * np.pi * f * times) / np.sqrt(T)
        moment = np.einsum("t,tiuj,u->ij", wave, K, wave.conj())
        turn = np.exp(2j * np.pi * f * (times[:, None] - times)) / T
        V += np.einsum("tu,ij->tiuj", turn, moment).real
    return V


def covariance_of(distribution, model):
    """cov(x) of what ``distribution`` stands for: exact, circulant, or that of its state space."""
    if isinstance(distribution, MarkovGP):
        flat = np.asarray(lifted(distribution.space, distribution.latents, model.n_bins))
        n = model.prior.assignment.n_readouts
        return flat.reshape(model.n_bins, n, model.n_bins, n)
    return readout_covariance(model) if isinstance(distribution, DenseGP) else circulant_covariance(model)


def loadings_by_hand(model):
    """C (neuron, readout)."""
    a, loadings = model.prior.assignment, np.asarray(model.arguments["loadings"])
    K, R = a.n_across, a.n_regions
    C, within = np.zeros((len(loadings), a.n_readouts)), R * K
    region = np.repeat(np.arange(R), a.n_neurons)
    for r, width in enumerate(a.n_within):
        C[region == r, r * K : (r + 1) * K] = loadings[region == r, :K]
        C[region == r, within : within + width] = loadings[region == r, K : K + width]
        within += width
    return C


def neuron_moments(distribution, model):
    """Mean (time * neuron,) and covariance of a trial."""
    C, V = loadings_by_hand(model), covariance_of(distribution, model)
    S = np.einsum("ni,tiuj,mj->tnum", C, V, C, optimize=True)
    size = S.shape[0] * S.shape[1]
    S = S.reshape(size, size) + np.diag(np.tile(np.asarray(model.arguments["noise"]), model.n_bins))
    return np.tile(np.asarray(model.arguments["offset"]), model.n_bins), S


def by_scipy(distribution, model, value, mask=None):
    """log p of the observed entries of each trial under the whole covariance."""
    mean, S = neuron_moments(distribution, model)
    flat = np.asarray(value).reshape(len(value), -1)
    seen = np.ones(flat.shape, bool) if mask is None else mask.reshape(flat.shape)
    return np.array(
        [multivariate_normal.logpdf(y[o], mean[o], S[np.ix_(o, o)]) for y, o in zip(flat, seen, strict=True)]
    )


# Log-likelihoods of some -60 nats by two routes through matrices of condition 1e3 or less: 1e-11 at worst.
CLOSE = {"rtol": 0, "atol": 1e-8}


# --- values


@pytest.mark.parametrize("delay_steps", [1, 7])
def test_dense_is_the_normal_density_of_all_neurons(small_model, missing_data, missing_kind, delay_steps):
    model = small_model(delay_steps=delay_steps)
    mask, missing = missing_data(missing_kind, N_TRIALS, 7, 5)
    distribution, value = model.dense(missing=missing), draw(model, mask=mask)
    expected = by_scipy(distribution, model, value, mask)
    np.testing.assert_allclose(score(distribution, value), expected, **CLOSE)


@pytest.mark.parametrize(
    ("window", "parallel", "delay_steps", "missing_kind"),
    [
        pytest.param(Window(6), False, 1, "complete", marks=pytest.mark.slow),
        pytest.param(Window(6), False, 1, "ragged", marks=pytest.mark.slow),
        (Window(6), False, 1, "ragged_holes"),
        pytest.param(Window(6), True, 7, "ragged_holes", marks=pytest.mark.slow),
        pytest.param(Window(12, 1, 2), False, 7, "holes", marks=pytest.mark.slow),
        (Window(3, 3), False, 7, "ragged_holes"),
        pytest.param(Window(3, 3), True, 1, "complete", marks=pytest.mark.slow),
        pytest.param(Window(4, 2, shifts=(1.0, -0.7)), False, 1, "ragged_holes", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_markov_is_the_normal_density_of_its_state_space(
    small_model, missing_data, missing_kind, window, parallel, delay_steps
):
    model = small_model(delay_steps=delay_steps)
    mask, missing = missing_data(missing_kind, N_TRIALS, 7, 5)
    distribution = model.markov(window, parallel=parallel, missing=missing)
    value = draw(model, mask=mask)
    expected = by_scipy(distribution, model, value, mask)
    np.testing.assert_allclose(score(distribution, value), expected, **CLOSE)


@pytest.mark.parametrize("n_bins", [6, 7])
def test_spectral_is_the_normal_density_of_the_circulant_model(small_model, n_bins):
    model = small_model(n_bins=n_bins)
    distribution, value = model.spectral(), draw(model)
    np.testing.assert_allclose(score(distribution, value), by_scipy(distribution, model, value), **CLOSE)


@pytest.mark.slow
def test_markov_is_near_dense(small_model):
    model = small_model()
    value = draw(model)
    exact = np.asarray(score(model.dense(), value))
    # The lift's error of k, 5e-5 at order 5 and 5e-6 at order 6, over eps = 1e-2 in some 30 readouts.
    assert np.abs(np.asarray(score(model.markov(), value)) - exact).max() < 0.05
    assert np.abs(np.asarray(score(model.markov(Window(12, 1, 2), order=6), value)) - exact).max() < 0.005


def zero_column(arguments):
    return {**arguments, "loadings": arguments["loadings"].at[:, 0].set(0.0)}


def same_delays(arguments):
    return {**arguments, "delay": jnp.broadcast_to(jnp.array([1.3, -0.4]), arguments["delay"].shape)}


def at_the_bound(arguments):
    return {**arguments, "delay": arguments["delay"].at[:, 1].set(jnp.array([3.0, -3.0]))}


# Options of the model, a change of its parameters, and the number of trials.
AWKWARD = {
    "equal_delays": ({}, same_delays, N_TRIALS),
    "delays_at_the_bound": ({}, at_the_bound, N_TRIALS),
    "short_timescales": ({"timescale": (0.09, 0.11)}, None, N_TRIALS),
    "long_timescales": ({"timescale": (900.0, 1100.0)}, None, N_TRIALS),
    "zero_column": ({}, zero_column, N_TRIALS),
    "one_neuron_per_region": ({"n_neurons": (1, 1), "n_across": 3, "n_within": (2, 0)}, None, N_TRIALS),
    "across_only_one_bin": ({"n_within": (0, 0), "n_bins": 1}, None, N_TRIALS),
    "within_only": ({"n_across": 0, "n_within": (1, 2)}, None, N_TRIALS),
    "one_region_one_trial": ({"n_neurons": (4,), "n_within": (0,)}, None, 1),
    "twenty_regions": ({"n_neurons": (1,) * 20, "n_across": 1, "n_within": (0,) * 20, "n_bins": 4}, None, 2),
}


@pytest.mark.slow_cases(
    "markov-one_neuron_per_region", "markov-across_only_one_bin", "markov-twenty_regions", "markov-within_only",
    "spectral-across_only_one_bin", "spectral-within_only", "spectral-twenty_regions",
)  # fmt: skip
@pytest.mark.parametrize("case_name", AWKWARD)
def test_awkward_models(small_model, kind, case_name):
    options, change, n_trials = AWKWARD[case_name]
    model = small_model(**options)
    if change is not None:
        model.arguments = change(model.arguments)
    distribution, value = getattr(model, kind)(), draw(model, n_trials)
    scores = np.asarray(score(distribution, value))
    assert scores.shape == (n_trials,)
    np.testing.assert_allclose(scores, by_scipy(distribution, model, value), **CLOSE)


@pytest.mark.parametrize("case_name", ["long_timescales", "zero_column"])
def test_gradients_of_awkward_models_are_finite(small_model, kind, case_name):
    options, change, _ = AWKWARD[case_name]
    model = small_model(**options)
    if change is not None:
        model.arguments = change(model.arguments)
    gradient = slope(getattr(model, kind)(), draw(model))
    for leaf in jax.tree.leaves((gradient.loadings, gradient.noise, gradient.delay, gradient.across)):
        assert np.isfinite(leaf).all()


def test_spectral_refuses_what_it_cannot_represent(small_model, missing_data):
    model = small_model()
    mask, missing = missing_data("holes", N_TRIALS, 7, 5)
    with pytest.raises(ValueError, match="complete trials of equal length: use likelihood='markov'"):
        model.spectral(missing=missing).log_prob(draw(model, mask=mask))
    with pytest.raises(ValueError, match="delays that are constant in time"):
        small_model(delay_steps=7).spectral().log_prob(draw(model))


# --- gradients


def test_markov_gradient_is_that_of_finite_differences(small_model):
    """Every entry of every parameter, by differences to either side.

    Delays of region 1 stand on a register, where the lift has a small kink: there any slope between those of
    the two sides is right, elsewhere they agree.
    """
    model = small_model()
    distribution, value = model.markov(), draw(model)
    gradient, step = slope(distribution, value), 1e-5
    here = float(score(distribution, value).sum())

    for name in ("loadings", "noise", "offset", "delay", "across", "within"):
        (at,), tree = jax.tree.flatten(getattr(distribution, name))
        (got,) = jax.tree.leaves(getattr(gradient, name))
        for index in np.ndindex(at.shape):
            moved = [jax.tree.unflatten(tree, [at.at[index].add(sign * step)]) for sign in (1, -1)]
            right, left = (
                sign * (float(score(model.markov(**{name: new}), value).sum()) - here) / step
                for sign, new in zip((1, -1), moved, strict=True)
            )
            if name == "delay" and index[1] == 0:
                assert abs(right - left) < 0.1
                low, high = min(left, right) - 1e-4, max(left, right) + 1e-4
                assert low <= float(got[index]) <= high, (name, index)
            else:
                # Round-off of 500 nats, 1e-13 / step = 1e-8, and truncation step^2 x third derivative: 1e-8.
                mean = (right + left) / 2
                assert float(got[index]) == pytest.approx(mean, rel=1e-6, abs=1e-6), (name, index)


def test_markov_gradient_is_near_that_of_dense(small_model):
    model = small_model()
    value = draw(model)
    one, two = slope(model.markov(), value), slope(model.dense(), value)
    for name in ("loadings", "noise", "offset", "delay", "across", "within"):
        for got, wanted in zip(*map(jax.tree.leaves, (getattr(one, name), getattr(two, name))), strict=True):
            # The lift's error of k, 5e-5, over eps = 1e-2, and as much again from what the registers miss.
            np.testing.assert_allclose(got, wanted, atol=5e-2 * np.abs(np.asarray(wanted)).max())


@pytest.mark.slow
def test_second_derivative_is_that_of_finite_differences(small_model):
    """By delay and timescale, as Laplace's method needs it; also where all delays stand on one register."""
    model = small_model(n_neurons=(2, 1), n_across=1, n_within=(0, 0), n_bins=4)
    value = draw(model, 2)

    def total(x):
        delay = jnp.stack([jnp.zeros(()), x[0]]).reshape(1, 2, 1)
        return model.markov(delay=delay, across={"timescale": x[1:]}).log_prob(value).sum()

    hessian, gradient = jax.jit(jax.hessian(total)), jax.jit(jax.grad(total))
    step = 1e-5
    at = jnp.array([1.37, 2.6])
    got = np.asarray(hessian(at))
    for i in range(2):
        move = step * np.eye(2)[i]
        difference = np.asarray(gradient(at + move) - gradient(at - move)) / (2 * step)
        # Gradients carry the round-off of solves with registers of condition 1e6: 1e-10 / step.
        np.testing.assert_allclose(got[i], difference, rtol=1e-4, atol=1e-4)
    assert np.isfinite(hessian(jnp.array([0.0, 2.6]))).all()


# --- invariances


def test_permuting_trials_permutes_their_scores(small_model, missing_data, kind):
    model = small_model()
    order = np.random.default_rng(0).permutation(N_TRIALS)
    mask, missing = missing_data("complete" if kind == "spectral" else "ragged_holes", N_TRIALS, 7, 5)
    value = draw(model, mask=mask)
    plain = score(getattr(model, kind)(missing=missing), value)
    if missing is not None:
        missing = missing._replace(pattern=missing.pattern[order], length=missing.length[order])
    shuffled = score(getattr(model, kind)(missing=missing), value[order])
    np.testing.assert_allclose(shuffled, np.asarray(plain)[order], rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["dense", "markov"])
def test_fully_missing_trials_change_nothing_for_the_others(small_model, missing_data, kind):
    """Every third trial is emptied."""
    model = small_model()
    mask, missing = missing_data("ragged_holes", N_TRIALS, 7, 5)
    value = draw(model, mask=mask)
    plain = np.asarray(score(getattr(model, kind)(missing=missing), value))
    emptied = missing._replace(observed=missing.observed.at[2].set(False))
    value = value.at[2::3].set(0.0)
    after = np.asarray(score(getattr(model, kind)(missing=emptied), value))
    others = np.arange(N_TRIALS) % 3 != 2
    np.testing.assert_allclose(after[others], plain[others], rtol=0, atol=1e-11)
    np.testing.assert_allclose(after[~others], 0.0, rtol=0, atol=1e-11)
    assert np.abs(plain[~others]).min() > 1.0


def test_the_order_of_neurons_within_a_region_does_not_matter(small_model, kind):
    model = small_model()
    order, value = np.array([2, 0, 1, 4, 3]), draw(model)
    moved = {name: model.arguments[name][order] for name in ("loadings", "noise", "offset")}
    got = score(getattr(model, kind)(**moved), value[..., order])
    np.testing.assert_allclose(got, score(getattr(model, kind)(), value), rtol=0, atol=1e-11)


@pytest.mark.slow
def test_splitting_a_neuron_into_two_noisier_ones_keeps_what_is_known_of_the_latents(small_model):
    """A neuron of variance R and two copies of it of variance 2 R hold the same information."""
    model = small_model()
    value = draw(model)
    double = np.array([0, 0, 1, 2, 3, 4])
    twice = small_model(n_neurons=(4, 2))
    twice.arguments = {
        **model.arguments,
        **{name: model.arguments[name][double] for name in ("loadings", "noise", "offset")},
    }
    twice.arguments["noise"] = twice.arguments["noise"].at[:2].mul(2.0)
    one, two = smooth(model.markov(), value), smooth(twice.markov(), value[..., double])
    np.testing.assert_allclose(one.readout_mean, two.readout_mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(one.readout_covariance, two.readout_covariance, rtol=0, atol=1e-10)


def gap_of(one, two, value, other=None):
    """Largest difference of two models' scores; ``other`` orders the neurons of the second."""
    second = value if other is None else value[..., other]
    return np.abs(np.asarray(score(one, value) - score(two, second))).max()


@pytest.mark.slow
def test_swapping_regions_flips_the_sign_of_the_delay(small_model):
    model = small_model(n_neurons=(3, 3), n_within=(0, 0), max_delay=2.0, timescale=(3.0, 6.0))
    other = np.array([3, 4, 5, 0, 1, 2])
    swapped = {name: model.arguments[name][other] for name in ("loadings", "noise", "offset")}
    swapped["delay"], value = -model.arguments["delay"], draw(model)
    same_sign = {**swapped, "delay": model.arguments["delay"]}
    assert gap_of(model.dense(), model.dense(**same_sign), value, other) > 0.1   # else the rest says nothing
    assert gap_of(model.dense(), model.dense(**swapped), value, other) < 1e-9
    assert gap_of(model.spectral(), model.spectral(**swapped), value, other) < 1e-9
    # A lift is not symmetric in time: its error of k, 5e-5, over eps = 1e-2 in some 30 readouts.
    assert gap_of(model.markov(), model.markov(**swapped), value, other) < 0.05


def test_shifting_all_delays_changes_nothing(small_model):
    model = small_model(timescale=(3.0, 6.0), max_delay=1.0)
    shifted, value = model.arguments["delay"] + jnp.array([0.7, -1.2]), draw(model)
    assert gap_of(model.dense(), model.dense(delay=shifted), value) < 1e-9
    assert gap_of(model.spectral(), model.spectral(delay=shifted), value) < 1e-9
    assert gap_of(model.markov(), model.markov(delay=shifted), value) < 0.05   # as above


# --- NumPyro's contract


def build(model, kind, missing_data, **options):
    """With missing data where the likelihood allows them: they are fields of the pytree too."""
    if kind != "spectral":
        mask, missing = missing_data("ragged_holes", N_TRIALS, model.n_bins, 5)
        return getattr(model, kind)(missing=missing, **options), draw(model, mask=mask)
    return model.spectral(n_trials=N_TRIALS, **options), draw(model)


def test_pytree_round_trip(small_model, missing_data, kind):
    distribution, value = build(small_model(), kind, missing_data)
    leaves, tree = jax.tree.flatten(distribution)
    assert len(leaves) == (9 if kind != "spectral" else 6)
    again = jax.tree.unflatten(tree, leaves)
    assert type(again) is type(distribution)
    assert (again.batch_shape, again.event_shape) == ((N_TRIALS,), (7, 5))
    assert tree == jax.tree.structure(again)
    np.testing.assert_array_equal(score(again, value), score(distribution, value))


def test_jit_takes_a_distribution_and_traces_once(small_model, missing_data, kind):
    model, traces = small_model(), []

    @jax.jit
    def counted(distribution, value):
        traces.append(None)
        return distribution.log_prob(value)

    distribution, value = build(model, kind, missing_data)
    first = counted(distribution, value)
    second = counted(build(model, kind, missing_data, noise=2 * model.arguments["noise"])[0], value + 1)
    assert len(traces) == 1
    assert np.abs(np.asarray(first - second)).max() > 0.1


def test_a_model_built_anew_does_not_compile_anew():
    """Equal settings make equal state spaces, so that a second fit of the same shape starts at once."""

    def space():
        prior = Prior(0.5 * SquaredExponential() + Matern32(), 1e-3, LatentLayout((3, 2), 1, (0, 0)))
        return StateSpace(prior, build_lift(prior.kernel, 4), Window(2))

    assert space() == space()
    assert hash(space()) == hash(space())


@pytest.mark.slow_cases("markov")
def test_vmap_over_parameters(small_model, kind):
    model = small_model()
    value = draw(model)
    delays = model.arguments["delay"] + jnp.arange(3.0)[:, None, None, None] * 0.3
    noises = model.arguments["noise"] * jnp.array([[1.0], [2.0], [3.0]])

    def at(delay, noise):
        return getattr(model, kind)(delay=delay, noise=noise).log_prob(value)

    got = jax.jit(jax.vmap(at))(delays, noises)
    assert got.shape == (3, N_TRIALS)
    for i in range(3):
        expected = score(getattr(model, kind)(delay=delays[i], noise=noises[i]), value)
        np.testing.assert_allclose(got[i], expected, rtol=0, atol=1e-10)


def test_batch_and_expand(small_model, kind):
    model = small_model()
    value, plain = draw(model), getattr(model, kind)()
    assert (plain.batch_shape, plain.event_shape, plain.event_dim) == ((), (7, 5), 2)
    expected = np.asarray(score(plain, value))
    if kind == "dense":
        one = score(plain, value[0])
        assert one.shape == ()
        assert float(one) == pytest.approx(expected[0], abs=1e-10)
        wide = score(plain, value.reshape(2, 3, 7, 5))
        np.testing.assert_allclose(wide, expected.reshape(2, 3), rtol=0, atol=1e-10)
    expanded, given = plain.expand([N_TRIALS]), getattr(model, kind)(n_trials=N_TRIALS)
    np.testing.assert_allclose(score(expanded, value), expected, rtol=0, atol=1e-10)
    for batched in (expanded, given):
        assert batched.batch_shape == (N_TRIALS,)
        drawn = jax.eval_shape(lambda key, d=batched: d.sample(key, (2,)), random.key(0))
        assert drawn.shape == (2, N_TRIALS, 7, 5)
        assert batched.mean.shape == batched.variance.shape == (N_TRIALS, 7, 5)


def test_recordings_with_missing_entries_are_scored_whole(small_model, missing_data):
    distribution, value = build(small_model(), "markov", missing_data)
    with pytest.raises(ValueError, match=r"must be scored whole: \(6,\), not \(2,\)"):
        distribution.log_prob(value[:2])


def program(build_distribution, value=None, keep=None, subsample=None):
    delay = numpyro.sample("delay", dist.Normal(0.0, 2.0).expand([2]))
    distribution = build_distribution(jnp.stack([jnp.zeros(2), delay])[None])
    with numpyro.plate("trial", N_TRIALS, subsample_size=subsample) as trials:
        seen = value if value is None or subsample is None else value[trials]
        with handlers.mask(mask=True if keep is None else keep):
            numpyro.sample("y", distribution, obs=seen)


@pytest.mark.slow_cases("markov")
def test_inside_a_model_with_a_plate(small_model, missing_data, kind):
    model = small_model()
    delay = jnp.array([0.4, -1.1])
    _, value = build(model, kind, missing_data)

    def builder(delay):
        return build(model, kind, missing_data, delay=delay)[0]

    expected = np.asarray(score(builder(jnp.stack([jnp.zeros(2), delay])[None]), value))
    prior = float(dist.Normal(0.0, 2.0).log_prob(delay).sum())
    density = jax.jit(lambda keep: log_density(program, (builder, value, keep), {}, {"delay": delay})[0])
    keep = jnp.array([True, False, True, True, False, True])
    assert float(density(jnp.ones(N_TRIALS, bool))) == pytest.approx(prior + expected.sum(), abs=1e-9)
    assert float(density(keep)) == pytest.approx(prior + expected[np.asarray(keep)].sum(), abs=1e-9)

    draws = {"delay": jnp.stack([delay, delay + 0.5])}
    each = jax.jit(lambda draws: log_likelihood(partial(program, builder, value), draws)["y"])(draws)
    assert each.shape == (2, N_TRIALS)
    np.testing.assert_allclose(each[0], expected, rtol=0, atol=1e-9)
    assert np.abs(np.asarray(each[1] - each[0])).max() > 1e-3


def test_a_subsample_of_trials_is_scaled_up(small_model):
    model = small_model()
    value, delay = draw(model), jnp.array([0.4, -1.1])

    def builder(delay):
        return model.dense(delay=delay)

    with handlers.seed(rng_seed=0):
        total, trace = log_density(program, (builder, value, None, 3), {}, {"delay": delay})
    chosen = np.asarray(trace["trial"]["value"])
    expected = np.asarray(score(builder(jnp.stack([jnp.zeros(2), delay])[None]), value))
    prior = float(dist.Normal(0.0, 2.0).log_prob(delay).sum())
    assert len(set(chosen.tolist())) == 3
    assert float(total) == pytest.approx(prior + 2 * expected[chosen].sum(), abs=1e-9)


@pytest.mark.parametrize("kind", ["dense", "spectral"])
def test_prior_predictive_of_a_model(small_model, missing_data, kind):
    model = small_model()

    @jax.jit
    def simulate(key):
        with handlers.seed(rng_seed=key):
            trace = handlers.trace(program).get_trace(lambda delay: getattr(model, kind)(delay=delay))
        return trace["y"]["value"]

    value = simulate(random.key(1))
    assert value.shape == (N_TRIALS, 7, 5)
    assert np.isfinite(value).all()
    assert np.abs(np.asarray(value[0] - value[1])).min() > 0   # a draw for each trial of the plate


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("loadings", lambda a: a[:, :2]),
        ("loadings", lambda a: a[:4]),
        ("noise", lambda a: a[:4]),
        ("offset", lambda a: jnp.append(a, 0.0)),
        ("delay", lambda a: a[:, :1]),
        ("delay", lambda a: a[..., :1]),
        ("delay", lambda a: jnp.broadcast_to(a, (4, 2, 2))),
        ("across", lambda a: {"timescale": a["timescale"][:1]}),
        ("within", lambda a: {"timescale": jnp.ones(3)}),
    ],
    ids=["columns", "neurons", "noise", "offset", "region", "latent", "time", "across", "within"],
)
def test_bad_shapes_are_refused_by_name(small_model, kind, name, change):
    model = small_model()
    with pytest.raises(ValueError, match=name):
        getattr(model, kind)(**{name: change(model.arguments[name])})


def test_bad_values_are_refused_when_validated(small_model, kind):
    model = small_model()
    with pytest.raises(ValueError, match="noise"):
        getattr(model, kind)(noise=-model.arguments["noise"], validate_args=True)


# --- draws


def five_sigma(covariance, draws):
    """Five standard errors of every entry of a sample covariance: exceeded by chance once in 1e6 entries."""
    variance = np.diag(covariance)
    return 5 * np.sqrt((np.outer(variance, variance) + covariance**2) / draws)


N_DRAWS = 40_000


@pytest.mark.slow_cases("markov")
@pytest.mark.parametrize(
    "build_name",
    ["dense", "markov", pytest.param("markov_steps", marks=pytest.mark.slow), "spectral_odd",
     pytest.param("spectral_even", marks=pytest.mark.slow)],
)  # fmt: skip
def test_samples_have_the_models_moments(small_model, build_name):
    options = {"n_neurons": (2, 1), "n_across": 1, "n_bins": 4 if build_name.endswith("even") else 5}
    model = small_model(**options)
    kind, *rest = build_name.split("_")
    distribution = model.markov(Window(3, 3)) if rest == ["steps"] else getattr(model, kind)()
    drawn = jax.jit(lambda key: distribution.sample(key, (N_DRAWS,)))(random.key(5))
    flat = np.asarray(drawn).reshape(N_DRAWS, -1)
    mean, S = neuron_moments(distribution, model)
    assert (np.abs(flat.mean(0) - mean) <= 5 * np.sqrt(np.diag(S) / N_DRAWS)).all()
    assert (np.abs(np.cov(flat.T) - S) <= five_sigma(S, N_DRAWS)).all()
    np.testing.assert_allclose(np.asarray(distribution.mean).reshape(-1), mean, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(distribution.variance).reshape(-1), np.diag(S), rtol=1e-9)


def test_sampling_needs_a_key(small_model, kind):
    with pytest.raises(ValueError, match="random key"):
        getattr(small_model(), kind)().sample(0)


# --- posteriors


@pytest.mark.parametrize(
    ("window", "parallel", "missing_kind"),
    [
        pytest.param(Window(6), False, "complete", marks=pytest.mark.slow),
        (Window(6), True, "ragged_holes"),
        pytest.param(Window(3, 3), False, "ragged", marks=pytest.mark.slow),
        (Window(6, shifts=(1.0, -0.7)), False, "complete"),
    ],
    ids=str,
)
def test_posterior_is_that_of_gaussian_conditioning(
    small_model, missing_data, missing_kind, window, parallel
):
    model = small_model()
    mask, missing = missing_data(missing_kind, N_TRIALS, 7, 5)
    distribution, value = model.markov(window, parallel=parallel, missing=missing), draw(model, mask=mask)
    got = smooth(distribution, value)
    n, T, step = model.prior.assignment.n_readouts, 7, window.step
    V = covariance_of(distribution, model).reshape(T * n, T * n)
    C, R = loadings_by_hand(model), np.asarray(model.arguments["noise"])
    for trial in range(N_TRIALS):
        seen = mask[trial].reshape(-1)
        big = np.kron(np.eye(T), C)[seen]
        rest = (np.asarray(value[trial]) - np.asarray(model.arguments["offset"])).reshape(-1)[seen]
        gain = V @ big.T @ np.linalg.inv(big @ V @ big.T + np.diag(np.tile(R, T)[seen]))
        np.testing.assert_allclose(got.readout_mean[trial].reshape(-1), gain @ rest, rtol=0, atol=1e-8)
        left = V - gain @ big @ V
        for t in range(0, T - step + 1, step):
            own = slice(t * n, (t + step) * n)
            covariance = got.readout_covariance[int(got.pattern[trial]), t // step]
            np.testing.assert_allclose(covariance, left[own, own], rtol=0, atol=1e-8)


@pytest.mark.slow
def test_posterior_mean_is_the_gradient_of_the_normalizer(small_model):
    model = small_model()
    distribution, value = model.markov(), draw(model)
    information = distribution.information(value)

    @jax.jit
    def gradient(vectors):
        return jax.grad(lambda b: distribution.normalizer(information._replace(vectors=b)).sum())(vectors)

    mean = np.swapaxes(np.asarray(gradient(information.vectors)), 0, 1)
    np.testing.assert_allclose(smooth(distribution, value).readout_mean, mean, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_posterior_draws_have_the_posteriors_moments(small_model, missing_data):
    model, draws, window = small_model(n_bins=5), 2000, Window(3, 3)
    mask, missing = missing_data("ragged_holes", N_TRIALS, 5, 5)
    distribution, value = model.markov(window, missing=missing), draw(model, mask=mask)
    sample = jax.jit(lambda given, y: given.posterior_sample(random.key(6), y, draws))
    states, readouts = sample(distribution, value)
    expected = smooth(distribution, value)
    n, step = model.prior.assignment.n_readouts, window.step
    assert states.shape == (draws, -(-5 // step), N_TRIALS, distribution.space.n_states)
    for trial in range(N_TRIALS):
        for t in range(5 - step + 1):
            if t % step:
                continue
            flat = np.asarray(readouts[:, trial, t : t + step]).reshape(draws, step * n)
            S = np.asarray(expected.readout_covariance[int(expected.pattern[trial]), t // step])
            mean = np.asarray(expected.readout_mean[trial, t : t + step]).reshape(-1)
            assert (np.abs(flat.mean(0) - mean) <= 5 * np.sqrt(np.diag(S) / draws)).all()
            assert (np.abs(np.cov(flat.T) - S) <= five_sigma(S, draws)).all()
        means = np.asarray(states[:, :, trial]).mean(0)
        spread = np.diagonal(expected.state_covariance[:, int(expected.pattern[trial])], axis1=-2, axis2=-1)
        error = 5 * np.sqrt(np.maximum(spread, 0) / draws) + 1e-6   # a state known exactly has no spread
        assert (np.abs(means - np.asarray(expected.state_mean[:, trial])) <= error).all()


# --- gains that never change, single precision, a published value


@pytest.mark.slow
def test_a_steady_gain_gives_what_gains_of_every_step_give_where_a_delayed_region_reads_late(small_model):
    """Fast latents, delays of thirty bins: what one region has measured another reads at the window's far end."""
    model = small_model(
        n_across=1, n_within=(0, 0), n_bins=120, timescale=(0.6, 0.8), kernel=Matern12(), max_delay=1.0, seed=3,
    )  # fmt: skip
    model.arguments |= {"delay": jnp.array([[[0.0], [30.0]]]), "noise": jnp.full(5, 0.05)}
    markov = partial(model.markov, window=Window(62))
    value = draw(model, n_trials=2)
    every_step = score(markov(parallel=True), value)
    np.testing.assert_allclose(score(markov(), value), every_step, rtol=1e-11)


SINGLE = """
import sys
import numpy as np, jax, jax.numpy as jnp
import mrgp
from mrgp.likelihoods import DenseGP, MarkovGP
from mrgp.likelihoods.statespace.assemble import Prior, StateSpace
from mrgp.likelihoods.statespace.lift import build_lift
from mrgp.likelihoods.statespace.readout import Window
from mrgp.parts.kernels import SquaredExponential
from mrgp.parts.latents import LatentLayout
rng = np.random.default_rng(0)
prior = Prior(SquaredExponential(), 1e-3, LatentLayout((6, 6), 1, (1, 0)))
space = StateSpace(prior, build_lift(prior.kernel), Window(4))
arrays = [rng.standard_normal((12, 2)), rng.uniform(0.2, 0.8, 12), rng.standard_normal(12)]
arrays.append(np.array([0.0, 1.3]).reshape(1, 2, 1))
y = jnp.asarray(rng.standard_normal((3, 40, 12)))
def total(timescale):
    within = {"timescale": jnp.array([20.0])}
    across = {"timescale": timescale}
    given = MarkovGP(*map(jnp.asarray, arrays), across, within, space=space, parallel=False, n_bins=40)
    return given.log_prob(y).sum()
value, slope = jax.jit(jax.value_and_grad(total))(jnp.array([7.0]))
print(value.dtype, float(value), float(slope[0]))
"""


@pytest.mark.slow
def test_single_precision_is_finite_and_close(capsys):
    """In a process of its own without double precision, against this one with it."""
    environment = {**os.environ, "JAX_ENABLE_X64": "0"}
    done = subprocess.run([sys.executable, "-c", SINGLE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    low = done.stdout.split()
    exec(SINGLE, {})
    high = capsys.readouterr().out.split()
    assert (low[0], high[0]) == ("float32", "float64")
    assert float(low[1]) == pytest.approx(float(high[1]), rel=1e-3)   # unit-variance states lose 4 digits
    assert float(low[2]) == pytest.approx(float(high[2]), rel=5e-2, abs=5e-2)


def test_products_are_asked_to_keep_all_their_digits():
    """An accelerator would multiply single-precision matrices with 10 bits."""
    one = jnp.ones((2, 2), jnp.float32)
    assert "HIGHEST" in jax.jit(jnp.matmul).lower(one, one).as_text()


@pytest.fixture
def published(shared_data, small_model):
    """The published DLAG fit of a V1/V2 recording: model, training trials and its log-likelihood."""
    path = shared_data / "dlag_v1v2_reference.npz"
    if not path.is_file():
        pytest.skip("the published recording is not here")
    with np.load(path) as file:
        f = dict(file)
    share = float(f["gp_noise"])
    model = small_model(n_neurons=(84, 26), n_across=3, n_within=(17, 1), n_bins=64, gp_noise=share)
    gammas = np.concatenate([f["gamma_within_V1"], f["gamma_within_V2"]])
    second = np.zeros((26, 20))
    second[:, :4] = f["loadings_V2"]
    arrays = {
        "loadings": np.concatenate([f["loadings_V1"], second]),
        "noise": f["noise_variance"],
        "offset": f["offset"],
        "delay": f["delay_bins"][None],
        "across": {"timescale": f["gamma_across"] ** -0.5},
        "within": {"timescale": gammas**-0.5},
    }
    model.arguments = jax.tree.map(jnp.asarray, arrays)
    value = np.concatenate([f["V1"], f["V2"]], axis=2)[f["train"]]
    return model, jnp.asarray(value), float(f["log_likelihood_train"])


@pytest.mark.slow
def test_dense_reproduces_the_published_log_likelihood(published):
    model, value, expected = published
    assert expected == -2157468.0702688736
    # A sum over 300 trials of -7,000 nats in double precision: 300 x 7e3 x 2e-16 x the condition of a trial.
    assert float(score(model.dense(), value).sum()) == pytest.approx(expected, abs=1e-6, rel=0)


@pytest.mark.slow
def test_markov_is_near_the_published_log_likelihood(published):
    model, value, expected = published
    scores = score(model.markov(Window(10)), value)
    # The lift's error of k moves a trial by up to 0.02 nats, either way; each trial scores -7,190 on average.
    assert float(scores.sum()) == pytest.approx(expected, abs=0.5, rel=0)
