"""Causal transformers: held against the same written bin by bin in NumPy, and never ahead of time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from oracles import written_transformer

from mrgp.parts.networks.transformer import CausalTransformer, normalised, waves

SHAPES = {"usual": (3, 8, 2, 2, 6), "one head": (2, 5, 1, 1, 4), "one bin": (2, 6, 2, 3, 1)}


@pytest.mark.slow_cases("one bin")
@pytest.mark.parametrize(
    "shape", [SHAPES["usual"], pytest.param(SHAPES["one head"], marks=pytest.mark.slow), SHAPES["one bin"]], ids=SHAPES
)
def test_it_is_what_is_written_bin_by_bin(shape):
    n_inputs, width, depth, heads, n_bins = shape
    net = CausalTransformer.of(n_inputs, width, depth, heads, random.key(0))
    inputs = np.asarray(random.normal(random.key(1), (2, n_bins, n_inputs)))
    found = jax.jit(lambda inputs: net(inputs))(jnp.asarray(inputs, jnp.float32))
    for trial in range(2):
        expected = written_transformer(net, inputs[trial])
        np.testing.assert_allclose(found[trial], expected, atol=2e-5)  # single precision


def test_a_bin_moves_none_before_it():
    net = CausalTransformer.of(3, 8, 2, 2, random.key(0))
    inputs = random.normal(random.key(1), (1, 7, 3))
    slopes = np.abs(jax.jit(jax.jacobian(lambda x: (net(x)[0] ** 3).sum(-1)))(inputs)[:, 0]).sum(-1)
    assert (slopes[np.triu_indices(7, 1)] == 0).all()
    assert (slopes[np.tril_indices(7)] > 0).all()


def test_a_longer_trial_begins_as_a_shorter_one():
    net = CausalTransformer.of(3, 8, 2, 2, random.key(0))
    inputs = random.normal(random.key(1), (2, 9, 3), jnp.float32)
    np.testing.assert_allclose(net(inputs)[:, :4], net(inputs[:, :4]), atol=1e-6)


def test_bins_have_waves_of_their_own():
    found = waves(200, 8)
    assert found.shape == (200, 8)
    np.testing.assert_allclose((found**2).sum(-1), 4.0, rtol=1e-5)  # each wave has a sine and a cosine
    distance = ((found[:, None] - found) ** 2).sum(-1) + 10 * np.eye(200)
    assert distance.min() > 1e-2


def test_numbers_are_normed():
    values = np.random.default_rng(0).normal(3, 5, (4, 6))
    found = np.asarray(normalised(jnp.asarray(values)))
    np.testing.assert_allclose(found, (values - values.mean(1)[:, None]) / values.std(1)[:, None], rtol=1e-5)
    np.testing.assert_array_equal(normalised(jnp.full(3, 2.0)), np.zeros(3))
