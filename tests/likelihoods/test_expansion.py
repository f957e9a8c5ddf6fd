"""Factors of bins by expansion of log p(y), against exact ones of Gaussian values and finite differences."""

import jax.numpy as jnp
import numpy as np
import pytest

from mrgp.likelihoods.expansion import LEAST, expanded, slopes
from mrgp.parts.emissions import Poisson
from mrgp.parts.readout import Readout

RNG = np.random.default_rng(0)
C, NOISE = jnp.asarray(RNG.normal(size=(5, 2))), jnp.asarray(RNG.uniform(0.5, 2.0, 5))
Y = jnp.asarray(RNG.normal(size=(3, 4, 5)))
SEEN = jnp.asarray(RNG.uniform(size=Y.shape) < 0.7).at[0, 0].set(False)


@pytest.mark.parametrize("guess", [0.0, 2.0])
def test_factors_of_gaussian_values_are_exact_whatever_the_guess(guess):
    x = jnp.full((3, 4, 2), guess)
    slope, precision = slopes(lambda eta: -0.5 * (Y - eta) ** 2 / NOISE, x @ C.T)
    center, root = expanded(C, x, slope, precision, SEEN)
    for trial, time in np.ndindex(3, 4):
        seen = np.asarray(SEEN[trial, time])
        wanted = (C[seen].T / NOISE[seen]) @ C[seen]
        np.testing.assert_allclose(root[trial, time] @ root[trial, time].T, wanted, atol=1e-7)
        if seen.any():
            told = (C[seen].T / NOISE[seen]) @ Y[trial, time][seen] + LEAST * x[trial, time]
            exact = np.linalg.solve(wanted + LEAST * np.eye(2), told)
            np.testing.assert_allclose(center[trial, time], exact, rtol=1e-6)
    assert not np.asarray(root[0, 0]).any()


def test_slopes_are_those_of_finite_differences():
    counts = jnp.asarray(RNG.poisson(2.0, (3, 4, 5)).astype(float))
    readout = Readout(C, NOISE, jnp.zeros(5), counts=Poisson())

    def log_p(eta):
        return Poisson().given(readout, eta).log_prob(counts)

    eta, h = 0.3 * Y, 1e-4
    slope, precision = slopes(log_p, eta)
    up, down, here = log_p(eta + h), log_p(eta - h), log_p(eta)
    np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-6, atol=1e-7)  # the error is of order h^2
    np.testing.assert_allclose(precision, -(up - 2 * here + down) / h**2, rtol=1e-5)
