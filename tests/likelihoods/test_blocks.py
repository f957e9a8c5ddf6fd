"""Blocks of trials: the same numbers as all trials at once, in memory that does not grow with trials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mrgp.likelihoods import blocks
from mrgp.likelihoods.blocks import in_blocks, size_of_blocks
from mrgp.likelihoods.bound import CountGP
from mrgp.parts.emissions.negative_binomial import NegativeBinomial
from mrgp.parts.emissions.poisson import Poisson
from mrgp.recordings.missing import Missing

N_TRIALS, N_BINS = 11, 7  # a number of trials that no block divides
SOUGHT = ("loadings", "noise", "offset", "delay")


@pytest.fixture
def small_blocks(monkeypatch):
    """Few numbers are many: blocks of three trials of 5 neurons, and of some trials of states."""

    def shrink():
        monkeypatch.setattr(blocks, "LARGE", 40)
        monkeypatch.setattr(blocks, "AT_ONCE", 3 * N_BINS * 5)

    return shrink


def options_of(kind):
    rng = np.random.default_rng(3)
    if kind == "course":
        return {"course": jnp.asarray(rng.standard_normal((2, N_BINS, 5))), "condition": jnp.arange(N_TRIALS) % 2}
    if kind == "origin":
        return {"origin": jnp.asarray(rng.standard_normal(5))}
    if kind == "autocorrelation":
        return {"autocorrelation": jnp.array([0.3, 0.6])}
    return {}


def scored(distribution, values):
    """Log p of each trial, and the slopes of their weighted sum, so that no trial stands for another."""
    weights = jnp.arange(1.0, N_TRIALS + 1)

    def total(parameters):
        for name, value in parameters.items():
            setattr(distribution, name, value)
        scores = distribution.log_prob(values)
        return weights @ scores, scores

    parameters = {name: getattr(distribution, name) for name in SOUGHT}
    slopes, scores = jax.grad(total, has_aux=True)(parameters)
    return scores, slopes


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.slow_cases("complete-dense-plain", "holes-dense-plain", "ragged-dense-plain")
@pytest.mark.parametrize("kind", ["plain", *map(slow, ("origin", "course", "autocorrelation"))])
@pytest.mark.parametrize("likelihood", [slow("markov"), "dense"])
def test_blocks_change_no_number(kind, likelihood, missing_kind, missing_data, small_model, small_blocks):
    if kind == "autocorrelation" and "holes" in missing_kind:
        pytest.skip("noise that remembers needs trials without holes")
    mask, missing = missing_data(missing_kind, N_TRIALS, N_BINS, 5)
    values = jnp.asarray(mask * np.random.default_rng(0).integers(0, 256, mask.shape))
    described = {"n_trials": N_TRIALS} if missing is None else {"missing": missing}
    more = {"parallel": False} if likelihood == "markov" else {}

    def distribution():
        return getattr(small_model(n_bins=N_BINS), likelihood)(**described, **options_of(kind), **more)

    expected, slopes = scored(distribution(), values.astype(float))
    small_blocks()
    assert size_of_blocks(N_TRIALS, N_BINS * 5) == 3
    found, own = scored(distribution(), values.astype(jnp.uint8))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for name in SOUGHT:
        np.testing.assert_allclose(own[name], slopes[name], rtol=1e-9, atol=1e-9 * float(jnp.abs(slopes[name]).max()))


@pytest.mark.slow
def test_parallel_scans_in_blocks_change_no_number(small_model, small_blocks):
    values = jnp.asarray(np.random.default_rng(0).standard_normal((N_TRIALS, N_BINS, 5)))
    expected, slopes = scored(small_model(n_bins=N_BINS).markov(n_trials=N_TRIALS, parallel=True), values)
    small_blocks()
    found, own = scored(small_model(n_bins=N_BINS).markov(n_trials=N_TRIALS, parallel=True), values)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(own["delay"], slopes["delay"], rtol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11])
def test_blocks_are_joined_in_the_order_of_trials(size):
    trials, along = jnp.arange(11.0), jnp.arange(22.0).reshape(2, 11)
    first, second = in_blocks(lambda a, none, b: (2 * a, b.sum(0)), size, (0, 0, 1), trials, None, along)
    np.testing.assert_array_equal(first, 2 * np.arange(11))
    np.testing.assert_array_equal(second, np.asarray(along.sum(0)))


def test_small_recordings_have_no_loop(small_model):
    distribution = small_model(n_bins=N_BINS).dense(n_trials=N_TRIALS)
    program = str(jax.make_jaxpr(distribution.information)(jnp.zeros((N_TRIALS, N_BINS, 5))))
    assert "scan" not in program
    assert "remat" not in program


def needed_by(score, n_trials, model):
    """Bytes of a program's own arrays, beside its arguments, for a value and its slopes by loadings."""
    values = jax.ShapeDtypeStruct((n_trials, model.n_bins, sum(model.prior.assignment.n_neurons)), jnp.uint8)

    def total(loadings, values):
        latent = model.markov(n_trials=n_trials)
        latent.loadings = loadings
        return score(latent).log_prob(values).sum()

    compiled = jax.jit(jax.value_and_grad(total)).lower(model.arguments["loadings"], values).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(small_model, monkeypatch):
    monkeypatch.setattr(blocks, "LARGE", 2**16)
    monkeypatch.setattr(blocks, "AT_ONCE", 2**14)
    model = small_model((60, 60), n_bins=40)
    needed = {n_trials: needed_by(lambda latent: latent, n_trials, model) for n_trials in (40, 160)}
    readouts = 160 * 40 * (2 * 2 + 1) * 8  # what information about them takes
    entries = 160 * 40 * 120
    assert needed[160] - needed[40] < 12 * readouts
    assert needed[160] - needed[40] < 0.5 * 8 * (entries - entries / 4)  # less than half of the trials as numbers
    assert needed[160] < 8 * entries


def test_precision_of_blocks_is_that_of_all_patterns(missing_data, small_model, small_blocks):
    mask, missing = missing_data("holes", N_TRIALS, N_BINS, 5)
    assert isinstance(missing, Missing)
    expected = small_model(n_bins=N_BINS).markov(missing=missing).information(jnp.asarray(1.0 * mask))
    small_blocks()
    found = small_model(n_bins=N_BINS).markov(missing=missing).information(jnp.asarray(1.0 * mask))
    np.testing.assert_allclose(found.precision, expected.precision, rtol=1e-13)
    np.testing.assert_array_equal(found.pattern, expected.pattern)
    np.testing.assert_allclose(found.vectors, expected.vectors, rtol=1e-12, atol=1e-13)


def bound_and_slopes(model, counts, values, more):
    """Bounds of all trials from their first guess, slopes of their weighted sum, and the q that was found."""
    weights = jnp.arange(1.0, N_TRIALS + 1)

    def total(parameters):
        latent = model.markov(**more, parallel=False)
        for name in ("loadings", "offset", "delay"):
            setattr(latent, name, parameters[name])
        emission = NegativeBinomial(parameters["dispersion"]) if counts == "nb" else Poisson()
        distribution = CountGP(latent, emission)
        scores, q = distribution.bound_from(values, distribution.problem(values).guess())
        return weights @ scores, (scores, q)

    parameters = {name: model.arguments[name] for name in ("loadings", "offset", "delay")}
    parameters["dispersion"] = jnp.full(5, 0.3)
    slopes, (scores, q) = jax.jit(jax.grad(total, has_aux=True))(parameters)
    return scores, slopes, q


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counts", "kind", "missing_kind"),
    [
        ("poisson", "course", "ragged_holes"),
        ("poisson", "plain", "complete"),
        ("nb", "plain", "holes"),
        ("nb", "course", "complete"),
    ],
)
def test_counts_a_bin_at_a_time_change_no_bound(counts, kind, missing_kind, missing_data, small_model, small_blocks):
    mask, missing = missing_data(missing_kind, N_TRIALS, N_BINS, 5)
    values = jnp.asarray(mask * np.random.default_rng(0).poisson(2.0, mask.shape))
    more = {"n_trials": N_TRIALS} if missing is None else {"missing": missing}
    more |= options_of(kind)
    model = small_model(n_bins=N_BINS)
    expected, slopes, q = bound_and_slopes(model, counts, values.astype(float), more)
    small_blocks()
    found, own, other = bound_and_slopes(model, counts, values.astype(jnp.uint8), more)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(other.precision, q.precision, rtol=1e-9, atol=1e-12)
    for name, slope in slopes.items():
        np.testing.assert_allclose(own[name], slope, rtol=1e-9, atol=1e-9 * float(jnp.abs(slope).max()))


@pytest.mark.slow
def test_memory_of_a_bound_does_not_grow_with_the_counts(small_model, monkeypatch):
    """It grows by some thirty vectors of readouts of each trial and bin, and by a bin's counts, beside 600 neurons."""
    model = small_model((300, 300), n_bins=40)
    more = 120 * 40 * 600 * 8  # bytes that the counts of 120 more trials take as numbers

    def growth():
        needed = [needed_by(lambda latent: CountGP(latent, Poisson()), n_trials, model) for n_trials in (40, 160)]
        return needed[1] - needed[0]

    assert growth() > 2 * more  # of a small recording, at once
    monkeypatch.setattr(blocks, "LARGE", 2**16)
    assert growth() < 0.6 * more
