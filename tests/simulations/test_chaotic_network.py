"""The chaotic network: its equation by SciPy, its rates, repeats and pulses."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from mrgp.simulations.chaotic_network import PULSE_BETWEEN, chaotic_network

SMALL = {"n_units": 20, "n_conditions": 4, "n_repeats": 3, "n_bins": 6, "seed": 3}
GAIN, TAU, BIN = 1.5, 0.025, 0.01


@pytest.fixture(scope="module")
def made():
    return chaotic_network(GAIN, **SMALL)


@pytest.fixture(scope="module")
def pushed():
    return chaotic_network(GAIN, pulses=True, **SMALL | {"n_bins": 20, "n_repeats": 5})


def test_states_follow_the_equation(made):
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(20, 20)) / np.sqrt(20)
    starts = rng.normal(size=(4, 20))
    ends = BIN * np.arange(1, 7)
    for trial, condition in ((0, 0), (4, 1), (11, 3)):
        path = solve_ivp(
            lambda _, x: (-x + GAIN * weights @ np.tanh(x)) / TAU, (0, ends[-1]), starts[condition], "DOP853", ends,
            rtol=1e-9, atol=1e-9,
        )  # fmt: skip
        # Euler's rule in steps of a twenty-fifth of tau, with states of about 1.
        np.testing.assert_allclose(made.truth["state"].values[trial], path.y.T, atol=0.03)


def test_rates_lie_between_a_thirtieth_and_the_largest_and_repeats_share_them(made):
    state, rate = made.truth["state"].values, np.exp(made.truth["log_rate"].values) / BIN
    np.testing.assert_allclose(rate, 1 + 29 * (1 + np.tanh(state)) / 2, rtol=1e-5)  # states are in single precision
    by_condition = rate.reshape(4, 3, 6, 20)
    np.testing.assert_array_equal(by_condition, np.broadcast_to(by_condition[:, :1], by_condition.shape))
    assert made.truth["condition_of_trial"].values.tolist() == list("000111222333")
    assert made.data.trial_coords["condition"].tolist() == list("000111222333")
    counts = made.data.region("network")
    assert counts.shape == (12, 6, 20)
    assert (counts[0] != counts[1]).any()
    assert (made.truth["pulse"] == -1).all()


def test_counts_are_poisson_of_the_rates():
    made = chaotic_network(GAIN, n_units=20, n_conditions=5, n_repeats=40, n_bins=20)
    expected, counts = np.exp(made.truth["log_rate"].values), made.data.floats
    assert counts.sum() == pytest.approx(expected.sum(), abs=4 * np.sqrt(expected.sum()))
    square = (counts - expected) ** 2 / expected
    # Its mean is 1, and its variance 2 + 1 / expected.
    assert square.mean() == pytest.approx(1, abs=4 * np.sqrt((2 + 1 / expected).mean() / square.size))


def test_pulses_hit_every_second_condition_in_the_middle_of_its_trials(pushed):
    pulse, state = pushed.truth["pulse"].values.reshape(4, 5), pushed.truth["state"].values.reshape(4, 5, 20, 20)
    assert (pulse[::2] == -1).all()
    low, high = (share * 20 for share in PULSE_BETWEEN)
    assert ((pulse[1::2] >= low) & (pulse[1::2] < high)).all()
    assert len(np.unique(pulse[1::2])) > 1
    plain = chaotic_network(GAIN, **SMALL | {"n_bins": 20, "n_repeats": 5}).truth["state"].values
    moved = np.abs(state - plain.reshape(state.shape)).max(-1)
    for condition, repeat in np.ndindex(pulse.shape):
        hit = pulse[condition, repeat]
        own = moved[condition, repeat]
        assert not own[: hit if hit >= 0 else 20].any()
        assert hit < 0 or own[hit] > 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gain": 0.0}, "gain must be positive and finite, not 0"), ({"n_units": 0}, "n_units must be positive"),
        ({"largest_rate": np.inf}, "largest_rate must be positive and finite, not inf"),
        ({"time_constant": -1.0}, "time_constant is a positive number of seconds, not -1"),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        chaotic_network(**settings)


def test_units_that_never_fire_stay():
    made = chaotic_network(GAIN, n_units=30, n_conditions=1, n_repeats=1, n_bins=5, largest_rate=1.0)
    assert made.data.layout.total_neurons == 30
    assert (made.data.floats.sum((0, 1)) == 0).any()
