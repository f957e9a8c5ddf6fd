"""Every kernel of the registry against its closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

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
