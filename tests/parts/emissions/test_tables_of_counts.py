"""Terms of counts that are looked up, against gamma functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma, gammaln

from mrgp.parts.emissions.tables_of_counts import SIZE, log_factorial, log_rising


@pytest.mark.parametrize("largest", [0, 9, SIZE - 1, SIZE, 5000])
def test_terms_and_slopes_are_those_of_gamma_functions(largest):
    rng = np.random.default_rng(0)
    y = rng.integers(0, largest + 1, (4, 3, 5)).astype(float)
    y[0, 0, 0] = largest
    dispersion = np.array([1e-6, 0.01, 0.3, 2.0, 50.0])
    np.testing.assert_allclose(log_factorial(jnp.asarray(y)), gammaln(y + 1), rtol=1e-12, atol=1e-12)
    size = 1 / dispersion
    rising = gammaln(y + size) - gammaln(size) + y * np.log(dispersion)
    found, pulled = jax.vjp(lambda d: log_rising(jnp.asarray(y), d), jnp.asarray(dispersion))
    # Gamma functions of 1e6 lose seven digits in their difference.
    np.testing.assert_allclose(found[..., 1:], rising[..., 1:], rtol=1e-9, atol=1e-9)
    exact = [sum(np.log1p(j * 1e-6) for j in range(int(count))) for count in y[..., 0].ravel()]
    np.testing.assert_allclose(np.ravel(found[..., 0]), exact, rtol=1e-9 if largest < SIZE else 1e-2, atol=1e-8)
    weight = rng.standard_normal(y.shape)
    slope = (y - size * (digamma(y + size) - digamma(size))) / dispersion
    (got,) = pulled(jnp.asarray(weight))
    np.testing.assert_allclose(got[1:], (weight * slope).sum((0, 1))[1:], rtol=1e-8, atol=1e-8)
    if largest < SIZE:
        terms = [sum(j / (1 + j * 1e-6) for j in range(int(count))) for count in y[..., 0].ravel()]
        np.testing.assert_allclose(got[0], weight[..., 0].ravel() @ terms, rtol=1e-9)
