"""Decoding of conditions: the regression is at its optimum, decodes what is there, and nothing that is not."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import logsumexp

import mrgp
from mrgp.metrics.decoding import decode_conditions, regression, windows_of


def trials(n_trials=96, n_classes=4, noise=0.3, seed=0):
    """Latents of two numbers around the corners of a square, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n_trials) % n_classes)
    angle = 2 * np.pi * labels / n_classes
    center = np.stack([np.cos(angle), np.sin(angle)], -1)[:, None]
    return center + noise * rng.standard_normal((n_trials, 10, 2)), np.array(list("abcdefgh"))[labels]


def test_conditions_are_decoded_where_latents_know_them():
    latents, labels = trials()
    found = decode_conditions(latents, labels)
    assert float(found.accuracy) > 0.95
    assert float(found.chance) == 0.25
    np.testing.assert_array_equal(found.confusion.sum("decoded_condition"), [24] * 4)
    assert float(found.accuracy) == np.mean(found.decoded.values == labels) == np.trace(found.confusion) / 96
    moved = latents @ np.array([[3.0, 1.0], [0.2, -0.5]]) + 7  # by an affine map that changes units and axes
    assert abs(float(decode_conditions(moved, labels).accuracy) - float(found.accuracy)) < 0.03


def test_conditions_that_latents_do_not_know_are_guessed():
    rng = np.random.default_rng(1)
    _, labels = trials(400)
    accuracy = float(decode_conditions(rng.standard_normal((400, 10, 3)), labels).accuracy)
    assert abs(accuracy - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)
    constant = decode_conditions(np.ones((400, 3, 2)), labels)  # a latent that never moves
    assert float(constant.accuracy) < 0.4


def test_the_regression_is_where_the_penalised_likelihood_is_highest():
    rng = np.random.default_rng(0)
    features, number, penalty = rng.standard_normal((30, 3)), np.arange(30) % 3, 0.7

    def loss(flat):
        weights = flat.reshape(4, 3)
        scores = features @ weights[:3] + weights[3]
        return (logsumexp(scores, 1) - scores[np.arange(30), number]).sum() + penalty / 2 * (weights[:3] ** 2).sum()

    weights = regression(features, number, 3, penalty).weights
    assert np.abs(approx_fprime(weights.ravel(), loss)).max() < 1e-3  # of a loss of about 30
    assert loss(weights.ravel()) < loss(np.zeros(12))


def test_windows_are_means_of_what_is_known():
    values = np.arange(12.0).reshape(1, 6, 2)
    values[0, 1, 0] = np.nan
    values[0, 3:, 1] = np.nan
    np.testing.assert_array_equal(windows_of(values, 2), [[(0 + 4) / 2, (1 + 3 + 5) / 3, (6 + 8 + 10) / 3, 0.0]])


def test_wrong_requests_are_refused():
    latents, labels = trials(12)
    with pytest.raises(mrgp.DataError, match=r"latents have shape \(12, 10\): give some, \(trial, time, latent\)"):
        decode_conditions(latents[..., 0], labels)
    with pytest.raises(mrgp.DataError, match=r"conditions have shape \(11,\), but there are 12 trials"):
        decode_conditions(latents, labels[:11])
    with pytest.raises(mrgp.DataError, match="all trials are of condition a: there is nothing to decode"):
        decode_conditions(latents, ["a"] * 12)
    with pytest.raises(ValueError, match="n_windows = 0, n_folds = 8"):
        decode_conditions(latents, labels, n_windows=0)
    with pytest.raises(ValueError, match="2 to 12 folds"):
        decode_conditions(latents, labels, n_folds=13)
