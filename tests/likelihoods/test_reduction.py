"""The reduction of neurons: what it says of the readouts is log p(y | x), whatever is missing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from mrgp.likelihoods.reduction import reduce
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import readout_loadings
from mrgp.parts.readout import Readout
from mrgp.recordings.missing import Missing, exact_patterns

N_TRIALS, N_BINS = 7, 5
ASSIGNMENTS = {
    "across_and_within": LatentLayout((4, 3, 5), 2, (1, 0, 2)),
    "across_only": LatentLayout((2, 3), 2, (0, 0)),
    "within_only": LatentLayout((2, 3), 0, (1, 2)),
    "more_latents_than_neurons": LatentLayout((1, 2), 3, (2, 0)),
    "one_region": LatentLayout((3,), 1, (1,)),
}
reduced = jax.jit(reduce, static_argnums=0)


def emission_of(assignment, seed=0):
    rng = np.random.default_rng(seed)
    neurons = sum(assignment.n_neurons)
    arrays = (
        rng.standard_normal((neurons, assignment.n_columns)),
        rng.uniform(0.2, 2.0, neurons),
        rng.standard_normal(neurons),
    )
    return Readout(*map(jnp.asarray, arrays))


def loadings_by_hand(assignment, loadings):
    """C (neuron, readout): copies of the across latents region by region, then every within latent."""
    K, R = assignment.n_across, assignment.n_regions
    C = np.zeros((sum(assignment.n_neurons), R * K + sum(assignment.n_within)))
    neuron, within = 0, R * K
    for region, (count, width) in enumerate(zip(assignment.n_neurons, assignment.n_within, strict=True)):
        for i in range(neuron, neuron + count):
            C[i, region * K : (region + 1) * K] = loadings[i, :K]
            C[i, within : within + width] = loadings[i, K : K + width]
        neuron, within = neuron + count, within + width
    return C


def direct(C, emission, values, mask, x):
    """log p(y | x) of each trial over its observed entries; x (trial, time, readout)."""
    mean = x @ C.T + np.asarray(emission.offset)
    terms = norm.logpdf(values, mean, np.sqrt(np.asarray(emission.noise)))
    return np.where(mask, terms, 0.0).sum((1, 2))


def by_information(information, x, mask=None):
    """constant + b'x - x' Lambda x / 2, each trial with its own pattern, up to its end."""
    precision = np.broadcast_to(information.precision, (N_BINS, *information.precision.shape[1:]))
    own = precision[:, np.asarray(information.pattern)]
    per_bin = np.einsum("tbi,bti->tb", information.vectors, x)
    per_bin -= 0.5 * np.einsum("bti,tbij,btj->tb", x, own, x)
    if information.valid is not None:
        per_bin = per_bin * np.asarray(information.valid)
    return np.asarray(information.constant) + per_bin.sum(0)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_information_is_the_log_density_of_the_data(name, missing_kind, missing_data):
    assignment = ASSIGNMENTS[name]
    emission = emission_of(assignment)
    neurons = sum(assignment.n_neurons)
    rng = np.random.default_rng(1)
    mask, missing = missing_data(missing_kind, N_TRIALS, N_BINS, neurons, seed=2)
    values = np.where(mask, rng.standard_normal((N_TRIALS, N_BINS, neurons)), 0.0)
    missing = missing or Missing(None, jnp.zeros(N_TRIALS, int), None)
    information = reduced(assignment, emission, jnp.asarray(values), missing)
    C = loadings_by_hand(assignment, np.asarray(emission.loadings))
    for seed in (3, 4):
        x = np.random.default_rng(seed).standard_normal((N_TRIALS, N_BINS, assignment.n_readouts))
        # A sum of 200 terms of size up to 10: round-off below 1e-12 of it.
        np.testing.assert_allclose(
            by_information(information, x), direct(C, emission, values, mask, x), rtol=1e-11, atol=1e-11
        )
    zero = np.zeros_like(x)
    np.testing.assert_allclose(information.constant, direct(C, emission, values, mask, zero), rtol=1e-12)


def test_shared_patterns_keep_the_precision_small(missing_data):
    assignment = ASSIGNMENTS["across_and_within"]
    _, missing = missing_data("ragged", N_TRIALS, N_BINS, 12)
    information = reduced(assignment, emission_of(assignment), jnp.zeros((N_TRIALS, N_BINS, 12)), missing)
    assert information.precision.shape == (1, 1, assignment.n_readouts, assignment.n_readouts)
    assert information.vectors.shape == (N_BINS, N_TRIALS, assignment.n_readouts)


@pytest.mark.parametrize("kind", ["ragged", "ragged_holes"])
def test_a_trial_of_no_bins_says_nothing(kind, missing_data):
    assignment = ASSIGNMENTS["across_and_within"]
    _, missing = missing_data(kind, N_TRIALS, N_BINS, 12)
    missing = missing._replace(length=missing.length.at[3].set(0))
    information = reduced(assignment, emission_of(assignment), jnp.zeros((N_TRIALS, N_BINS, 12)), missing)
    assert float(information.constant[3]) == 0.0
    assert not np.asarray(information.vectors[:, 3]).any()
    assert not np.asarray(information.valid[:, 3]).any()


def test_columns_a_region_does_not_use_are_ignored():
    assignment = ASSIGNMENTS["across_and_within"]
    loadings = emission_of(assignment).loadings
    used = assignment.used
    assert used.sum() == 4 * 3 + 3 * 2 + 5 * 4
    changed = readout_loadings(assignment, jnp.where(used, loadings, jnp.nan))
    np.testing.assert_array_equal(changed, readout_loadings(assignment, loadings))


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_layout_of_readouts(name):
    assignment = ASSIGNMENTS[name]
    loadings = np.asarray(emission_of(assignment).loadings)
    expected = loadings_by_hand(assignment, loadings)
    assert assignment.n_readouts == expected.shape[1]
    np.testing.assert_array_equal(readout_loadings(assignment, jnp.asarray(loadings)), expected)


@pytest.mark.parametrize("traced", [False, True])
def test_exact_patterns_write_the_ends_of_trials_into_them(missing_kind, missing_data, traced):
    mask, missing = missing_data(missing_kind, N_TRIALS, N_BINS, 4)
    missing = missing or Missing(None, jnp.zeros(N_TRIALS, int), None)
    ask = jax.jit(exact_patterns, static_argnums=(1, 2)) if traced else exact_patterns
    exact = ask(missing, N_BINS, 4)
    assert exact.length is None
    if exact.observed is None:
        assert missing_kind == "complete"
    else:
        np.testing.assert_array_equal(np.asarray(exact.observed)[np.asarray(exact.pattern)], mask)
    if missing_kind == "ragged" and not traced:
        assert len(exact.observed) == len(set(np.asarray(missing.length).tolist()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 4), 1, (0,)), "2 regions but n_within for 1"),
        (((3, 4), -1, (1, 1)), "cannot be negative"),
        (((3, 4), 1, (0, -2)), "cannot be negative"),
        (((3, 4), 0, (0, 0)), "at least one latent"),
    ],
)
def test_assignments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentLayout(*arguments)
