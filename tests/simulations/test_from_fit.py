"""Recordings drawn from fits of Gaussian processes: parameters, residuals, and what cannot be drawn."""

import numpy as np
import pytest
from mrgp.models import DLAG, GPFA

import mrgp

REGIONS = {"V1": 5, "V2": 4}


@pytest.fixture(scope="module")
def fit():
    recording = mrgp.simulate(regions=REGIONS, n_across=1, n_within=1, n_trials=6, n_bins=15, seed=1).data
    with pytest.warns(UserWarning, match="has not converged"):
        return DLAG(1, 1, max_delay=0.05).fit(recording, n_starts=1, max_iterations=2, progress=False)


@pytest.mark.slow
def test_trials_are_those_of_the_parameters(fit):
    made = mrgp.simulate_from(fit, 300, 12, seed=2)
    assert made.data.values.shape == (300, 12, 9)
    assert np.isnan(made.data.trial_place).all()  # drawn trials have none in the session: whatever drifts is at 0
    np.testing.assert_allclose(made.truth["delay"], fit.delays, atol=1e-12)
    np.testing.assert_array_equal(made.truth["noise"], fit.sites["noise"])
    means, variances = made.data.values.mean((0, 1)), made.data.values.var((0, 1))
    expected, spread = (np.asarray(part)[0, 0] for part in fit.conditional(made.data).moments())
    few = 300  # trials: bins of one are alike
    np.testing.assert_array_less(np.abs(means - expected), 5 * np.sqrt(spread / few))
    np.testing.assert_allclose(variances, spread, rtol=5 * np.sqrt(2 / few))
    again = mrgp.simulate_from(fit, 300, 12, seed=2)
    np.testing.assert_array_equal(again.data.values, made.data.values)


@pytest.mark.slow
def test_lengths_are_those_of_the_fit_unless_they_are_given(fit):
    assert mrgp.simulate_from(fit, 2).data.n_bins == 15
    with pytest.raises(ValueError, match="n_trials must count at least 1, not 0"):
        mrgp.simulate_from(fit, 0)
    with pytest.raises(ValueError, match="too long to draw exactly"):
        mrgp.simulate_from(fit, 1, 3000)
    with pytest.raises(ValueError, match="conditions are 1 for 2 trials"):
        mrgp.simulate_from(fit, 2, conditions=["a"])


@pytest.mark.slow
def test_regions_that_a_model_pools_are_those_of_the_recording():
    recording = mrgp.simulate(regions=REGIONS, n_across=1, n_within=0, n_trials=6, n_bins=15).data
    with pytest.warns(UserWarning, match="has not converged"):
        fit = GPFA(1).fit(recording, n_starts=1, max_iterations=2, progress=False)
    made = mrgp.simulate_from(fit, 3)
    assert made.data.layout.regions == ("V1", "V2")
    assert made.truth["across"].shape == (3, 15, 1)
