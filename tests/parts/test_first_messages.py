"""First guess of messages: of a linear recursion they are its own; and where nothing is told they are none."""

import numpy as np
import pytest

import mrgp
from mrgp.parts.networks.channels import AttentionChannels, GraphChannels, RateChannels
from mrgp.parts.networks.first_messages import LAGS, first_messages

SIZES = {"A": 5, "B": 4, "C": 3}


def guessed(values, n_messages):
    regions = np.split(values, np.cumsum([*SIZES.values()])[:-1], -1)
    layout = mrgp.MultiRegionData(dict(zip(SIZES, regions, strict=True)), 0.01, drop_dead=None).layout
    return first_messages(values - values.mean((0, 1)), layout, n_messages)


def talking(n_trials=200, n_bins=40, noise=0.5, seed=0):
    """Values of regions of which B hears A by two numbers, one bin later, and how these are read."""
    rng = np.random.default_rng(seed)
    says, moves = rng.standard_normal((2, 5)), np.linalg.qr(rng.standard_normal((4, 2)))[0]
    states = np.zeros((n_trials, n_bins, 12))
    for t in range(1, n_bins):
        states[:, t] = 0.7 * states[:, t - 1] + rng.standard_normal((n_trials, 12))
        states[:, t, 5:9] += states[:, t - 1, :5] @ says.T @ moves.T
    return states + noise * rng.standard_normal(states.shape), says


def test_messages_are_those_of_a_linear_recursion():
    values, says = talking()
    found = guessed(values, 2)
    assert found.shape == (6, 2, 5)
    edge = 2  # sorted by target, A -> B is the third of six
    read = found[edge]
    angles = np.linalg.svd(np.linalg.qr(read.T)[0].T @ np.linalg.qr(says.T)[0])[1]
    assert angles.min() > 0.98  # the same plane
    told = (values[..., :5] - values[..., :5].mean((0, 1))) @ read.T
    signal = (told[:, :-1] * told[:, 1:]).mean((0, 1))
    np.testing.assert_allclose(signal, 1.0, rtol=0.05)


def test_noise_alone_is_told_softly():
    """Where bins share nothing the scale is that of the noise, not of a signal that is not there."""
    found = guessed(np.random.default_rng(0).standard_normal((100, 30, 12)), 2)
    norms = np.sqrt((found**2).sum(-1))
    assert norms.max() < 1.1 / np.sqrt(0.1)


@pytest.mark.parametrize("shape", [(1, 20), (9, LAGS)])
def test_of_one_trial_or_a_few_bins_nothing_is_guessed(shape):
    assert guessed(np.random.default_rng(0).standard_normal((*shape, 12)), 2) is None


def test_a_neuron_that_never_changed_and_messages_that_are_too_many_are_no_obstacle():
    values = talking(n_trials=20)[0]
    values[..., 2] = 1.0
    found = guessed(values, 7)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[2, 4:], 0.0)  # B has four neurons to move
    np.testing.assert_allclose(found[2, :, 2], 0.0, atol=1e-9)


def test_channels_of_rates_begin_there_if_they_are_told_to_and_others_as_they_are_made():
    messages = np.ones((6, 2, 5))
    assert RateChannels(by_regression=True).begins_by_regression
    assert RateChannels(by_regression=True).first_guess(messages) == {"weights": messages}
    for other in (RateChannels(), GraphChannels(), AttentionChannels()):
        assert not other.begins_by_regression
