"""Kernels: parameters, sums, and what constructors refuse."""

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
