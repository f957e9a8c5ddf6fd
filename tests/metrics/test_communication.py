"""Scores of communication on cases made by hand."""

import numpy as np
import pytest
import xarray as xr

from mrgp.metrics import (
    effectome_cosine,
    false_edge_ratio,
    input_r2,
    kept_of_messages,
    message_r2,
    perturbation_r2,
    transmission_delay_rmse,
)
from mrgp.simulations.pass_decision import pass_decision

RING = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]])


def along(values, edges, dims=("trial", "time", "edge", "message")):
    """An array with the names of its edges, each "AB" from A to B."""
    coords = {"source_of_edge": ("edge", [e[0] for e in edges]), "target_of_edge": ("edge", [e[1] for e in edges])}
    return xr.DataArray(values, coords, dims)


def test_cosine_of_effectomes():
    assert effectome_cosine(RING, np.ones((3, 3))) == pytest.approx(3 / np.sqrt(3 * 6))
    assert effectome_cosine(RING, 7 * RING + 9 * np.eye(3)) == pytest.approx(1.0)  # neither scale nor diagonal counts
    assert effectome_cosine(RING, RING.T) == 0.0
    assert effectome_cosine(RING, np.zeros((3, 3))) == 0.0
    assert effectome_cosine([[0, 3], [4, 0]], [[0, 4], [3, 0]]) == pytest.approx(24 / 25)


def test_ratio_of_false_edges():
    found = np.array([[9, 2, 0.5], [0.1, 9, 4], [6, 1, 9]])
    assert false_edge_ratio(RING, found) == pytest.approx(1 / 4)
    assert false_edge_ratio(np.ones((3, 3)), found) == 0.0
    assert false_edge_ratio(RING, RING.T) == float("inf")


@pytest.mark.parametrize("score", [effectome_cosine, false_edge_ratio])
def test_matrices_that_are_none_are_refused(score):
    for true, found, sentence in (
        (RING, np.ones((2, 2)), "other numbers of regions"),
        (np.eye(3), RING, "no edge"),
        (RING, np.ones(3), "square"),
        (RING, -RING, "negative or missing"),
        (RING, np.full((3, 3), np.nan), "negative or missing"),
    ):
        with pytest.raises(ValueError, match=sentence):
            score(true, found)


def test_messages_are_known_up_to_a_linear_map():
    rng = np.random.default_rng(0)
    true = rng.standard_normal((10, 8, 2, 2))
    mixed = np.concatenate([true @ [[1.0, 2.0], [0.5, -1.0]] + 3, rng.standard_normal((10, 8, 2, 1))], -1)
    assert message_r2(along(true, ["AB", "BA"]), along(mixed, ["AB", "BA"])) == pytest.approx(1.0, abs=1e-10)
    # Edges are found by name, in whatever order, and more of them do no harm.
    more = np.concatenate([mixed[:, :, ::-1], mixed[:, :, :1]], 2)
    assert message_r2(along(true, ["AB", "BA"]), along(more, ["BA", "AB", "AC"])) == pytest.approx(1.0, abs=1e-10)
    assert message_r2(along(true, ["AB", "BA"]), along(mixed, ["BA", "AB"])) < 0.05


def test_edges_count_by_their_variance():
    """One edge is found and the other is not: the share of variance of the first, around means of the fit's trials."""
    true = np.random.default_rng(1).standard_normal((6, 20, 2, 1)) * [[2.0], [1.0]]
    rest = true[1::2] - true[::2].mean((0, 1))
    wanted = (rest[:, :, 0] ** 2).sum() / (rest**2).sum()
    assert message_r2(along(true, ["AB", "BA"]), along(true[:, :, :1], ["AB"])) == pytest.approx(wanted, rel=1e-10)


def test_maps_are_scored_on_other_trials():
    """Twelve features explain sixteen bins of noise well, but not those of other trials; by an independent fit."""
    rng = np.random.default_rng(2)
    true, found = rng.standard_normal((4, 8, 1, 1)), rng.standard_normal((4, 8, 1, 12))
    design = np.insert(found[::2, :, 0].reshape(16, 12), 0, 1.0, 1)
    weights = np.linalg.solve(design.T @ design, design.T @ true[::2].ravel())
    missed = true[1::2].ravel() - np.insert(found[1::2, :, 0].reshape(16, 12), 0, 1.0, 1) @ weights
    wanted = 1 - (missed**2).sum() / ((true[1::2] - true[::2].mean()) ** 2).sum()
    score = message_r2(along(true, ["AB"]), along(found, ["AB"]))
    assert score == pytest.approx(wanted, rel=1e-8)
    assert score < 0


def test_inputs_are_scored_by_region():
    rng = np.random.default_rng(3)
    true = xr.DataArray(rng.standard_normal((4, 9, 2, 2)), {"region": ["A", "B"]}, ("trial", "time", "region", "input"))
    assert input_r2(true, -2 * true.isel(region=[1, 0])) == pytest.approx(1.0, abs=1e-10)
    known = true.isel(region=[1])
    rest = true.values[1::2] - true.values[::2].mean((0, 1))
    assert input_r2(true, known) == pytest.approx((rest[:, :, 1] ** 2).sum() / (rest**2).sum(), rel=1e-10)
    assert np.isnan(input_r2(0 * true, known))


def test_the_truth_of_a_simulation_is_scored_as_it_is():
    truth = pass_decision(n_units=8, n_trials=12, n_bins=10).truth
    assert message_r2(truth["messages"], truth["messages"]) == pytest.approx(1.0, abs=1e-10)
    assert input_r2(truth["inputs"], truth["inputs"]) == pytest.approx(1.0, abs=1e-10)


def test_delays_are_compared_edge_by_edge():
    true = along([0.01, 0.02], ["AB", "BA"], ("edge",))
    found = along([0.024, 5.0, 0.013], ["BA", "AC", "AB"], ("edge",))
    assert transmission_delay_rmse(true, found) == pytest.approx(np.sqrt((0.003**2 + 0.004**2) / 2))
    with pytest.raises(ValueError, match="from B to A has no delay"):
        transmission_delay_rmse(true, along([0.01], ["AB"], ("edge",)))


def test_arrays_that_cannot_be_scored_are_refused():
    true = along(np.ones((4, 3, 1, 1)), ["AB"])
    for other, sentence in (
        (along(np.ones((4, 2, 1, 1)), ["AB"]), "trials and bins"),
        (along(np.full((4, 3, 1, 1), np.nan), ["AB"]), "finite"),
        (along(np.ones((4, 3, 2, 1)), ["AB", "AB"]), "stands twice"),
    ):
        with pytest.raises(ValueError, match=sentence):
            message_r2(true, other)
    with pytest.raises(ValueError, match="two or more"):
        message_r2(true[:1], true[:1])


def test_a_predicted_change_is_scored_as_it_is():
    true = xr.DataArray(np.random.default_rng(0).standard_normal((3, 4, 5)), dims=("trial", "time", "neuron"))
    assert perturbation_r2(true, true) == 1.0
    assert perturbation_r2(true, 0 * true) == 0.0
    assert perturbation_r2(true, 0.5 * true) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="the true change is 0: there is nothing to predict"):
        perturbation_r2(0 * true, true)
    with pytest.raises(ValueError, match="the true change is of shape"):
        perturbation_r2(true[1:], true)


def test_kept_share_of_messages_is_that_of_a_follower_and_of_an_integrator():
    """Two neurons are told +-1 in each of five bins: one forgets half in a bin, the other nothing."""
    told = np.resize([1.0, -1.0], 6)[:, None, None] * (np.arange(12) < 5)[:, None]
    rates = np.zeros((6, 12, 2))
    for t in range(12):
        rates[:, t] = rates[:, t - 1] * [0.5, 1.0] + told[:, t]  # the last bin, before the first, is 0
    times = {"time": 0.02 * np.arange(12)}
    heard, silent = (xr.DataArray(r + 3.0, times, ("trial", "time", "neuron")) for r in (rates, 0 * rates))
    for neuron, kept in ((0, 0.5 ** np.arange(8)), (1, np.ones(8))):
        found = kept_of_messages(silent[..., [neuron]], heard[..., [neuron]], 0.08)
        np.testing.assert_allclose(found, kept, atol=1e-12)
        np.testing.assert_allclose(found["time"], 0.02 * np.arange(8), atol=1e-12)
    for arguments, sentence in (
        ((silent[:3], heard, 0.08), "the same trials and neurons"),
        ((silent, heard, 0.23), "give an earlier time"),
        ((silent, silent, 0.08), "nothing to keep"),
    ):
        with pytest.raises(ValueError, match=sentence):
            kept_of_messages(*arguments)
