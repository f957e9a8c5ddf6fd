"""Every emission: its density given eta, what is expected of it where eta is Gaussian, and its draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import registry

from mrgp.parts.emissions.counts import prediction
from mrgp.parts.readout import Readout

COUNTS = [case for case in registry.EMISSIONS if case.emission.is_of_counts]


def values(case, rng, shape, most=9):
    """Some values that the emission can have."""
    return rng.integers(0, most, shape).astype(float) if case.emission.is_of_counts else rng.normal(0, 2, shape)


@pytest.fixture(params=registry.EMISSIONS, ids=lambda case: case.name)
def emission(request):
    """Every emission whose entries are independent given eta, in turn."""
    return request.param


@pytest.fixture(params=COUNTS, ids=lambda case: case.name)
def counts(request):
    """Every emission of counts in turn."""
    return request.param


def test_density_given_eta_is_that_of_scipy(emission):
    rng = np.random.default_rng(0)
    y, eta = values(emission, rng, (30, 5)), rng.uniform(-2, 3, (30, 5))
    np.testing.assert_allclose(emission.written(y, eta), emission.known(y, eta), atol=1e-9)
    found = emission.emission.given(emission.readout, jnp.asarray(eta)).log_prob(jnp.asarray(y))
    np.testing.assert_allclose(found, emission.known(y, eta), atol=1e-9)


def test_noise_that_is_correlated_over_time_has_no_density_of_single_values():
    for emission in registry.PARTS["emission"]:
        if emission.is_autocorrelated:
            with pytest.raises(NotImplementedError, match="no distribution of single values"):
                emission.given(Readout(*jnp.zeros((3, 5))), jnp.zeros(5))


def test_draws_given_eta_have_its_moments(emission):
    """20,000 draws: means within 5 standard errors, variances, of heavy tails, within 8%."""
    eta = jnp.asarray([0.5, -1.0, 0.0, 1.0, -0.3])
    given = emission.emission.given(emission.readout, eta)
    y = np.asarray(jax.jit(lambda key: given.sample(key, (20_000,)))(jax.random.key(0)))
    np.testing.assert_array_less(np.abs(y.mean(0) - given.mean), 5 * np.sqrt(np.asarray(given.variance) / 20_000))
    np.testing.assert_allclose(y.var(0), given.variance, rtol=0.08)


def test_expected_log_densities_are_those_of_fine_quadrature(counts):
    """Seven nodes against 150: 2e-4 up to a variance of 4."""
    rng = np.random.default_rng(0)
    y, mean = values(counts, rng, (40, 5), most=6), rng.uniform(-2, 2, (40, 5))
    variance = np.tile([1e-6, 0.1, 0.5, 1.0, 4.0], (40, 1))
    place, weight = np.polynomial.hermite_e.hermegauss(150)
    eta = mean[..., None] + np.sqrt(variance)[..., None] * place
    densities = np.stack([counts.written(y, eta[..., i]) for i in range(150)], -1)
    expected = (densities * weight / weight.sum()).sum(-1)
    found = counts.emission.expected(*map(jnp.asarray, (y, mean, variance)))
    np.testing.assert_allclose(
        found.value + counts.emission.normalizer(jnp.asarray(y)), expected, atol=1e-3, rtol=1e-3
    )


def test_slope_and_curvature_are_derivatives(counts):
    rng = np.random.default_rng(1)
    y, mean = jnp.asarray(values(counts, rng, (9, 5), most=6)), jnp.asarray(rng.uniform(-2, 2, (9, 5)))
    variance = jnp.asarray(rng.uniform(0.05, 0.8, (9, 5)))
    found = counts.emission.expected(y, mean, variance)
    slope, half = jax.grad(lambda m, v: counts.emission.expected(y, m, v).value.sum(), (0, 1))(mean, variance)
    np.testing.assert_allclose(found.slope, slope, atol=1e-10)
    np.testing.assert_allclose(found.curvature, -2 * half, atol=2e-4)  # the quadrature's own error


def test_draws_and_predictions_have_their_moments(counts):
    """50,000 draws: means within 5 standard errors; variances, of heavy tails, within 8%."""
    mean, variance = jnp.asarray([0.5, -1.0, 0.0, 1.0, -0.3]), jnp.asarray([0.2, 0.4, 0.1, 0.3, 0.0])
    keys = jax.random.split(jax.random.key(0))
    eta = mean + jnp.sqrt(variance) * jax.random.normal(keys[0], (50_000, 5))
    y = np.asarray(jax.jit(lambda eta: counts.emission.draw(keys[1], eta))(eta))
    first, second = prediction(counts.emission, mean, variance)
    np.testing.assert_array_less(np.abs(y.mean(0) - first), 5 * np.sqrt(second / 50_000))
    np.testing.assert_allclose(y.var(0), second, rtol=0.08)
