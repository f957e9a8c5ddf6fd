"""Rules of diagnostics, on made-up numbers at both sides of each threshold."""

from types import SimpleNamespace

import numpy as np
import pytest

import mrgp
from mrgp.results import lights
from mrgp.results.account import missing_inside, n_of_own_means
from mrgp.runtime.account import State

GOOD, LOOK, BAD = State


@pytest.mark.parametrize(
    ("light", "number"),
    [
        (lights.delays_at_bound([], 1, 0.1, False), "none of 1 at 100 ms"),
        (lights.delays_at_bound(["V2, latent 0"], 2, 0.1, False), "1 of 2 at 100 ms"),
        (lights.timescales({"a": 0.1, "b": 0.2}, 0.02, 1.0, False), "none of 2 at 20 or 1000 ms"),
        (lights.failed(0, 5, "of the others"), "none of 5"),
        (lights.divergences(0, 1000), "none of 1000"),
        (lights.intervals(True, 0.0061, 0.1), "the widest 6.1 ms, of 200 ms that delays may lie in"),
    ],
)
def test_numbers_say_what_they_are_of(light, number):
    assert light.number == number


@pytest.mark.parametrize(
    ("light", "state", "words"),
    [
        (lights.convergence(True, "gain below 0.01", 7), GOOD, "came to rest"),
        (lights.convergence(False, "1000 iterations", 1000), BAD, "--max-iterations"),
        (lights.gain_over_own_means(11.0, 10, False), GOOD, "by more than its 10"),
        (lights.gain_over_own_means(10.0, 10, False), GOOD, "by more than"),
        (lights.gain_over_own_means(9.9, 10, False), LOOK, "fewer latents"),
        (lights.gain_over_own_means(0.0, 0, True), GOOD, "of every neuron."),
        (lights.gain_over_own_means(-0.1, 0, True), BAD, "worse than each neuron's own mean"),
        (lights.gain_over_own_means(np.nan, 0, True), BAD, "worse"),
        (lights.delays_at_bound([], 2, 0.1, False), GOOD, "No delay"),
        (lights.delays_at_bound(["V2, latent 0"], 2, 0.1, False), BAD, "Raise --max-delay;"),
        (lights.delays_at_bound(["a", "b"], 2, 0.1, True), BAD, "leave --hold-max-delay out"),
        (lights.intervals(True, 0.1, 0.1), GOOD, "sound"),
        (lights.intervals(True, 0.1001, 0.1), LOOK, "more than half"),
        (lights.intervals(True, np.nan, 0.1), LOOK, "more than half"),
        (lights.intervals(True, 0.1, 0.1, of_bound=True), LOOK, "narrow: compare mrgp.bootstrap_delays"),
        (lights.intervals(False, 0.1, 0.1, of_bound=True), BAD, "mean nothing"),
        (lights.intervals(False, 0.01, 0.1), BAD, "mean nothing"),
        (lights.sharing({"latent 0": ["V1", "V2"]}), GOOD, "Two regions"),
        (lights.sharing({"latent 0": ["V1", "V2"], "latent 1": ["V2"]}), LOOK, "read by V2 only"),
        (lights.sharing({"latent 0": []}), LOOK, "No region reads latent 0"),
        (lights.crowding({"V1": 5, "V2": 1}, {"V1": 10, "V2": 10}), GOOD, "twice as many"),
        (lights.crowding({"V1": 6, "V2": 1}, {"V1": 10, "V2": 10}), LOOK, "mrgp cv"),
        (lights.crowding({"V1": 1, "V2": 10}, {"V1": 10, "V2": 10}), BAD, "as many latents as neurons"),
        (lights.mixing(1.01, 400), GOOD, "agree"),
        (lights.mixing(1.0101, 400), LOOK, "roughly"),
        (lights.mixing(1.0, 399), LOOK, "roughly"),
        (lights.mixing(1.051, 4000), BAD, "do not agree"),
        (lights.mixing(1.0, 99), BAD, "do not agree"),
        (lights.divergences(0, 100), GOOD, "No trajectory"),
        (lights.divergences(1, 100), LOOK, "few"),
        (lights.divergences(2, 100), BAD, "More than one of a hundred"),
        (lights.pareto_k(0.7), GOOD, "can be read"),
        (lights.pareto_k(0.71), LOOK, "uncertain"),
        (lights.pareto_k(1.01), BAD, "look at it"),
        (lights.missing(0.1), GOOD, "none is filled in"),
        (lights.missing(0.11), LOOK, "check"),
        (lights.missing(0.51), BAD, "Most of the recording"),
        (lights.left_out({"V1": 1}, {"V1": 10}), GOOD, "Few"),
        (lights.left_out({"V1": 2, "V2": 0}, {"V1": 10, "V2": 10}), LOOK, "tenth"),
        (lights.left_out({"V1": 6}, {"V1": 10}), BAD, "Most neurons"),
        (lights.starts([1.0]), LOOK, "--n-starts"),
        (lights.starts([0.0, 5.0, -9.0]), GOOD, "same height"),
        (lights.starts([0.0, 5.1]), LOOK, "Only one start"),
    ],
)  # fmt: skip
def test_states_and_words(light, state, words):
    assert light.state is state
    assert words in light.sentence
    assert light.number
    assert light.sentence.endswith(".")


@pytest.mark.parametrize(
    ("scale", "state", "words"),
    [
        (0.02, LOOK, "as fast as can be told"), (0.0215, LOOK, "fast"), (0.0225, GOOD, "one bin and one trial"),
        (0.9, GOOD, "one bin"), (0.93, LOOK, "hardly changes"), (5.0, LOOK, "hardly"), (np.inf, LOOK, "hardly"),
        (0.0, GOOD, "one bin"),
    ],
)  # fmt: skip
def test_timescales_near_an_end(scale, state, words):
    # 2% of log(1 / 0.02) = 3.912 is 0.0782: the ends reach to 0.02 exp(0.0782) = 0.02163 and 1 / 1.0814 = 0.9247.
    light = lights.timescales({"latent 0": scale, "V1:0": 0.1}, 0.02, 1.0, False)
    assert light.state is state
    assert words in light.sentence


def test_iterations_are_counted_once():
    assert lights.convergence(False, "stopped after 20 iterations", 20).number == "stopped after 20 iterations"
    assert lights.convergence(True, "gain below 1 nats", 1).number == "1 iteration: gain below 1 nats"


def test_of_many_names_the_first_are_listed():
    assert lights.listed(list("abc")) == "a, b and c"
    assert lights.listed([str(i) for i in range(9)]) == "0, 1, 2, 3, 4, 5 and 3 more"


@pytest.mark.parametrize(
    ("own", "fixed", "held", "number"),
    [
        ({"noise": np.ones(5)}, (), (), 10),
        ({}, (), (), 5),  # Poisson counts
        ({"dispersion": np.ones(5)}, (), (), 10),
        ({"noise": np.ones(5)}, ("offset",), (), 5),
        ({"noise": np.ones(5)}, (), ("noise",), 5),
    ],
)
def test_parameters_that_a_model_of_own_means_has_too(own, fixed, held, number):
    sites = {"loadings": np.ones((5, 2)), "offset": np.ones(5), "delay": np.ones((2, 1))} | own
    fit = SimpleNamespace(sites=sites, fixed=fixed, model=SimpleNamespace(held=held))
    assert n_of_own_means(fit) == number


def test_what_is_missing_is_missing_inside_trials():
    values = np.random.default_rng(0).normal(size=(2, 10, 3))
    data = mrgp.MultiRegionData({"V1": values}, 0.02)
    assert missing_inside(data) == 0.0
    values[1, 4:] = np.nan  # a short trial
    short = mrgp.MultiRegionData({"V1": values}, 0.02)
    np.testing.assert_array_equal(short.length, [10, 4])
    assert (short.missing_share, missing_inside(short)) == (pytest.approx(0.3), 0.0)
    values[0, 2:9, 1] = np.nan  # holes
    assert missing_inside(mrgp.MultiRegionData({"V1": values}, 0.02)) == pytest.approx(7 / 42)
