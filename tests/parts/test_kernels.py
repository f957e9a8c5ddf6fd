"""Kernels: every one of the registry against its closed form, and what constructors refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from mrgp.parts.kernels import (
    Kernel,
    Matern12,
    Matern32,
    RationalQuadratic,
    Spectral,
    SquaredExponential,
    Stretched,
    Sum,
    Weighted,
    in_bins,
)

LAGS = np.concatenate([-np.geomspace(1e-3, 50, 40), [0.0], np.geomspace(1e-3, 50, 40)])
TIMESCALES = (0.3, 2.0, 17.0)


def correlation(case, lags=LAGS, timescales=TIMESCALES):
    return case.kernel.correlation(jnp.asarray(lags)[:, None], case.hyper(*timescales))


def test_correlation_is_the_closed_form(case):
    expected = np.stack([case.closed(LAGS, l) for l in TIMESCALES], axis=1)
    # The closed forms (Bessel functions, cosh) carry a few units of round-off, 1e-12 relative to k(0) = 1.
    np.testing.assert_allclose(correlation(case), expected, atol=1e-12)


def test_correlation_is_one_at_zero_and_even(case):
    values = np.asarray(correlation(case))
    np.testing.assert_allclose(values[len(LAGS) // 2], 1.0, atol=1e-15)
    np.testing.assert_array_equal(values, np.asarray(correlation(case, -LAGS)))


def test_gradient_is_finite_and_right(case):
    """Also at lag 0, where |tau| could give NaN; elsewhere against finite differences."""
    hyper = case.hyper(2.0)

    def value(lag, hyper):
        return case.kernel.correlation(lag[None], hyper)[0]

    gradient = jax.vmap(jax.grad(value, argnums=(0, 1)), in_axes=(0, None))(jnp.asarray(LAGS), hyper)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
    lags, step = LAGS[np.abs(LAGS) > 0.01], 1e-5
    by_lag = (case.closed(lags + step, 2.0) - case.closed(lags - step, 2.0)) / (2 * step)
    by_scale = (case.closed(lags, 2.0 + step) - case.closed(lags, 2.0 - step)) / (2 * step)
    # Central differences: round-off 1e-16 / step = 1e-11, truncation step^2 k''' / 6 < 1e-8.
    away = np.abs(LAGS) > 0.01
    np.testing.assert_allclose(gradient[0][away], by_lag, atol=1e-7)
    np.testing.assert_allclose(gradient[1]["timescale"][away, 0], by_scale, atol=1e-7)


def test_correlation_matrix_is_positive_definite(case):
    times = np.sort(np.random.default_rng(0).uniform(0, 30, 60))
    lags = (times[:, None] - times).reshape(-1)
    matrices = np.asarray(correlation(case, lags)).reshape(60, 60, -1)
    for matrix in np.moveaxis(matrices, -1, 0):
        assert np.linalg.eigvalsh(matrix)[0] > -60 * 1e-14  # round-off of an eigenvalue: size x 1e-14


def test_parameters_are_those_the_correlation_needs(case):
    declared = case.kernel.parameters()
    assert declared.keys() == case.own.keys()
    for value in declared.values():
        assert isinstance(value, dist.Distribution | float)


def test_fixed_frequency_is_declared_in_hertz():
    assert Spectral(frequency=4.0).parameters() == {"frequency": 4.0}


def test_inferred_frequency_has_the_typical_median():
    prior = Spectral(typical=8.0).parameters()["frequency"]
    assert isinstance(prior, dist.LogNormal)
    assert float(prior.icdf(0.5)) == pytest.approx(8.0, rel=1e-12)


def test_parameters_are_converted_to_bins():
    hyper = in_bins({"timescale": jnp.array(0.1), "frequency": jnp.array(4.0), "shape": jnp.array(3.0)}, 0.02)
    expected = {"timescale": 5.0, "frequency": 0.08, "shape": 3.0}
    assert {name: float(value) for name, value in hyper.items()} == pytest.approx(expected, rel=1e-15)


def test_weights_of_a_sum_are_normalised_and_flattened():
    kernel = 2 * SquaredExponential() + (Matern12() + Matern32() * 6.0)
    assert isinstance(kernel, Sum)
    assert [type(term.kernel) for term in kernel.terms] == [SquaredExponential, Matern12, Matern32]
    np.testing.assert_allclose(kernel.weights, np.array([2, 1, 6]) / 9, rtol=1e-15)


def test_repeated_weights_multiply_on_either_side():
    for kernel in (3 * (2.0 * Matern32()), (2.0 * Matern32()) * 3, 3 * (Matern32() * 2.0)):
        assert kernel == Weighted(Matern32(), 6.0)


def test_kernels_of_equal_parameters_are_equal_and_hashable():
    assert 0.5 * Matern12() + Spectral(frequency=2.0) == 0.5 * Matern12() + Spectral(frequency=2.0)
    assert hash(Stretched(RationalQuadratic(2.0), 3.0)) == hash(Stretched(RationalQuadratic(2.0), 3.0))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: RationalQuadratic(0.0), ValueError, "alpha > 0, not 0.0"),
        (lambda: RationalQuadratic(-1.0), ValueError, "alpha > 0, not -1.0"),
        (lambda: RationalQuadratic(float("nan")), ValueError, "alpha > 0, not nan"),
        (lambda: Spectral(frequency=0.0), ValueError, "frequency > 0 Hz, not 0.0"),
        (lambda: Spectral(frequency=-3.0), ValueError, "frequency > 0 Hz, not -3.0"),
        (lambda: Spectral(Spectral()), TypeError, "without a rhythm of its own"),
        (lambda: Spectral(Matern12() + Matern32()), TypeError, "without a rhythm of its own"),
        (lambda: Weighted(Matern12(), 0.0), ValueError, "must be positive, not 0.0"),
        (lambda: -1.0 * Matern12(), ValueError, "must be positive, not -1.0"),
        (lambda: Stretched(Matern12(), 0.0), ValueError, "positive factor, not 0.0"),
        (lambda: Stretched(Matern12(), -2.0), ValueError, "positive factor, not -2.0"),
    ],
)
def test_bad_constructor_values_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_two_terms_may_not_own_one_parameter():
    kernel = Spectral() + 0.5 * Spectral(Matern12(), typical=20.0)
    with pytest.raises(ValueError, match="only one term of a kernel sum can have a frequency"):
        kernel.parameters()


def test_a_kernel_without_cov_says_so():
    class Forgotten(Kernel):
        pass

    with pytest.raises(NotImplementedError, match=r"Forgotten must define cov\(self, tau\)"):
        Forgotten().correlation(jnp.zeros(1), {"timescale": jnp.ones(1)})
