"""The ring attractor: its sums written out, its bump at rest and turned, and its counts."""

import numpy as np
import pytest

import mrgp
from mrgp.simulations import head_direction as ring


def test_recursion_is_the_one_written_out():
    """Sums over units as the equation has them, against those by Fourier components."""
    angles = 2 * np.pi * np.arange(ring.N_UNITS) / ring.N_UNITS
    between = angles[:, None] - angles
    turning, step = np.array([[3.0, -5.0, 2.0]]), 0.002
    path = ring.bump_path(turning, np.array([0.7]), step, 1)[0]
    u = np.cos(angles - 0.7)
    for t in range(3):
        np.testing.assert_allclose(path[t], u, atol=1e-12)
        weights = ring.UNIFORM + ring.COSINE * (np.cos(between) + ring.TAU * turning[0, t] * np.sin(between))
        u = u + step / ring.TAU * (-u + ring.DRIVE + weights @ np.maximum(u, 0) / ring.N_UNITS)


def test_the_bump_rests_anywhere_and_turns_at_the_heads_velocity():
    start, step = np.linspace(-3, 3, 7), ring.TAU / ring.STEPS
    still = ring.bump_path(np.zeros((7, 3000)), start, step, 100)
    angles = 2 * np.pi * np.arange(ring.N_UNITS) / ring.N_UNITS
    np.testing.assert_allclose(still[:, -1], np.cos(angles - start[:, None]), atol=0.01)
    turning = np.full((7, 1000), 2.5) * np.where(np.arange(7) % 2, 1, -1)[:, None]
    moved = ring.bump_angle(ring.bump_path(turning, start, step, 100))
    seconds = step * (100 * np.arange(10) + 50)
    wanted = start[:, None] + turning[:, :1] * seconds
    assert np.abs(np.angle(np.exp(1j * (moved - wanted)))).max() < 0.02


def test_velocities_wander():
    paths = ring.wandering(np.random.default_rng(0), 4000, 3, 0.1, 2.0)
    assert paths.std(0) == pytest.approx([2, 2, 2], rel=0.05)
    assert np.corrcoef(paths[:, 0], paths[:, 2])[0, 1] == pytest.approx(np.exp(-0.2 / ring.REMEMBERS), abs=0.03)


def test_counts_are_those_of_neurons_round_the_ring():
    made = mrgp.head_direction_ring((20, 10), n_trials=30, n_bins=20, rate=30.0, seed=3)
    truth, data = made.truth, made.data
    assert (data.layout.regions, data.layout.n_neurons) == (("A", "B"), (20, 10))
    assert truth["region_of_neuron"].values.tolist() == ["A"] * 20 + ["B"] * 10
    between = truth["direction"].values[..., None] - truth["preferred"].values
    tuned = np.maximum(np.cos(between), 0)
    top = truth["rates"].values.max((0, 1))
    wanted = top * (ring.SILENCE + (1 - ring.SILENCE) * tuned)
    assert np.abs(truth["rates"].values - wanted).max() < 0.12 * top.max()  # preferred angles lie between units
    expected = truth["rates"].values * data.bin_width
    residual = (data.values.astype(float) - expected) / np.sqrt(expected)
    assert residual.mean() == pytest.approx(0, abs=0.03)
    assert residual.var() == pytest.approx(1, abs=0.05)
    again = mrgp.head_direction_ring((20, 10), n_trials=30, n_bins=20, rate=30.0, seed=3)
    assert truth.identical(again.truth)
    steps = np.angle(np.exp(1j * np.diff(truth["direction"].values, axis=1)))
    between_bins = 0.5 * (truth["velocity"].values[:, 1:] + truth["velocity"].values[:, :-1]) * data.bin_width
    assert np.corrcoef(steps.ravel(), between_bins.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neurons": 0}, "n_neurons counts at least 1, not 0"),
        ({"n_neurons": [2] * 27}, "n_neurons is of 27 regions: give 26 at most"),
        ({"n_bins": 0}, "n_bins counts at least 1, not 0"),
        ({"rate": -1.0}, "rate must be positive"),
        ({"velocity": np.inf}, "velocity must be positive and finite"),
    ],
)
def test_what_cannot_be_simulated(options, message):
    with pytest.raises(ValueError, match=message):
        mrgp.head_direction_ring(**options)
