"""Surrogates of bounds of counts: their slopes are the bound's, and climbs by them end where others do."""

from functools import partial

import jax
import numpy as np
import pytest
from mrgp.models import DLAG

import mrgp
from mrgp.inference import surrogates
from mrgp.inference.density import LogJoint
from mrgp.inference.map import MAP
from mrgp.inference.mode.given_loadings import Given, Reduced
from mrgp.inference.optimise import Objective, maximise, sites_at
from mrgp.simulations.simulate import simulate

MODEL = DLAG(1, 1, emission="poisson", max_delay=0.06, likelihood="dense")
WAYS = {
    "complete": {},
    "conditions and holes": {"mean": "psth", "mean_timescale": 0.1},
    "dispersion": {"emission": "negative_binomial"},
    "state space": {"likelihood": "markov"},
}


def recording(holes=False):
    conditions = ["left", "right"] if holes else []
    data = simulate(
        MODEL, regions={"V1": 5, "V2": 4}, n_trials=16, n_bins=14, seed=0, conditions=conditions,
    ).data  # fmt: skip
    if not holes:
        return data
    values = data.with_nan().copy()
    values[3:6, 9:] = np.nan
    values[:8, :, 2] = np.nan
    return data.with_values(values)


only = partial(pytest.mark.parametrize, "objective", indirect=True)  # ways


@pytest.fixture(params=WAYS)
def objective(request):
    data = recording(holes="holes" in request.param)
    model = MODEL.replace(**WAYS[request.param]).prepared(data)
    drawn = model.fitting.draw_start(np.random.default_rng(0), data, 0)
    sites = model.fitting.first_guess(drawn, data)
    found = Objective(LogJoint(model), data, sites, model.fitting.scales(data, sites))
    found.follows, found.within = True, 1e-9
    return found


@only(
    argvalues=[
        "complete", pytest.param("conditions and holes", marks=pytest.mark.slow),
        pytest.param("dispersion", marks=pytest.mark.slow),
        pytest.param("state space", marks=pytest.mark.slow),
    ]
)  # fmt: skip
def test_slopes_are_those_of_the_bound(objective):
    here = 0.3 * np.random.default_rng(1).standard_normal(objective.size)
    _, slope = objective(here)
    value, slope = objective(here)  # from the q that the first one has found
    surrogate = surrogates.surrogate_at(*objective.arguments(here), objective.guess, 1e-9)

    def gaussian(x):
        sites = sites_at(objective.density, x, *objective.arguments(here)[2:])
        return -objective.density.near(sites, objective.data, surrogate)

    held, own = surrogates.held_at(*objective.arguments(here), surrogate)
    # Of a Gaussian density; it says nothing of a dispersion.
    near = np.asarray(jax.jit(jax.grad(gaussian))(here))
    beside = objective.unravel(np.arange(objective.size)).get("dispersion", np.zeros(0)).astype(int)
    modelled = np.setdiff1d(np.arange(objective.size), beside)
    np.testing.assert_allclose(near[modelled], slope[modelled], atol=1e-4, rtol=1e-5)
    # Of the bound by the q of the same pseudo-observations, which is the bound here, and a bound elsewhere.
    assert float(held) == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(own, slope, atol=1e-4, rtol=1e-5)
    away = np.random.default_rng(2).standard_normal(objective.size)
    up, down = (surrogates.held_at(*objective.arguments(here + step * away), surrogate)[0] for step in (1e-5, -1e-5))
    assert float(up - down) / 2e-5 == pytest.approx(float(own @ away), rel=1e-4, abs=1e-3)
    for step in (0.3, 1.0):
        there = here + step * away
        elsewhere = float(surrogates.held_at(*objective.arguments(there), surrogate)[0])
        assert elsewhere > objective(there)[0] + 1e-3
        # The search begins with that q: no step is needed to be as high.
        objective.guess, objective.within = surrogates._guess(*objective.arguments(there), surrogate), 1e9
        assert objective(there)[0] == pytest.approx(elsewhere, abs=1e-6)
        objective.within = 1e-9


@only(
    argvalues=[
        "complete", *(pytest.param(way, marks=pytest.mark.slow) for way in ("conditions and holes", "state space")),
    ]
)  # fmt: skip
def test_given_loadings_slopes_are_those_of_the_bound(objective):
    model, data, sites = objective.density.model, objective.data, objective.sites(np.zeros(objective.size))
    names = ("delay", "timescale_across", "timescale_within")
    few = Objective(
        LogJoint(Reduced(model)), Given.of(model, data, sites, names), {name: sites[name] for name in names},
        objective.scale,
    )  # fmt: skip
    place = objective.unravel(np.arange(objective.size))
    place = np.concatenate([np.ravel(place[name]) for name in few.origin]).astype(int)
    objective(np.zeros(objective.size))
    _, slope = objective(np.zeros(objective.size))
    _, given = few(np.zeros(few.size))
    np.testing.assert_allclose(given, slope[place], atol=0.02)  # of a search for q that ends within 1e-3 nats
    assert np.abs(slope[place]).max() > 0.3


@only(argvalues=["complete", *(pytest.param(way, marks=pytest.mark.slow) for way in ("dispersion", "state space"))])
def test_rounds_end_where_plain_climbs_do_and_never_fall(objective):
    plain = Objective(objective.density, objective.data, objective.sites(np.zeros(objective.size)), objective.scale)
    expected = maximise(plain, tolerance=1e-3, max_iterations=400)
    first, _ = objective(np.zeros(objective.size))
    losses = [loss for _, loss in surrogates.rounds(objective, first, tolerance=1e-2)]
    assert first - losses[0] > 0.1 * (first + expected.log_joint)  # one round is a good part of the way
    assert np.diff([first, *losses]).max() < 0
    assert losses[-1] < -expected.log_joint + 1.0
    found = maximise(objective, tolerance=1e-3, max_iterations=400, ahead=partial(surrogates.rounds, tolerance=1e-2))
    assert found.log_joint > expected.log_joint - 0.5
    assert np.diff(found.trace).min() >= 0


@only(argvalues=["complete"])
def test_places_without_a_density_end_no_round(objective, monkeypatch):
    """Regions that drive each other have no density where they are unstable together: a step there is shortened."""
    real, far = surrogates.held_at, []

    def bounded(*arguments):
        value, slope = real(*arguments)
        room = 4.0 - np.square(arguments[1]).sum()
        if room <= 0:
            far.append(room)
            return np.nan, np.full(slope.shape, np.nan)
        return value - 10 * np.log(room), slope + 20 * arguments[1] / room

    monkeypatch.setattr(surrogates, "held_at", bounded)
    first, _ = objective(np.zeros(objective.size))
    place, loss = next(surrogates.rounds(objective, first, tolerance=1e-2))
    assert far
    assert np.linalg.norm(place) > 1.0
    assert loss < first


@only(argvalues=["complete"])
def test_a_round_that_gains_nothing_is_the_last(objective, monkeypatch):
    """What is held promises more than is there: the climb ends where it is."""
    real = surrogates.held_at

    def promising(*arguments):
        value, slope = real(*arguments)
        return value - 1e3 * arguments[1].sum(), slope - 1e3

    monkeypatch.setattr(surrogates, "held_at", promising)
    first, _ = objective(np.zeros(objective.size))
    before = objective.evaluations
    assert not list(surrogates.rounds(objective, first, tolerance=1e-2))
    assert objective.evaluations == before + 1


def test_a_fit_of_a_large_recording_climbs_by_surrogates(monkeypatch):
    data = recording()
    plain = MODEL.fit(data, progress=False, n_starts=1)
    asked = []
    monkeypatch.setattr(surrogates, "LARGE", 0)
    monkeypatch.setattr(surrogates, "rounds", lambda *args, **how: asked.append(how) or iter(()))
    again = MODEL.fit(data, MAP(), progress=False, n_starts=1)
    assert asked[0]["tolerance"] == 0.01
    np.testing.assert_allclose(again.trace, plain.trace)
    assert surrogates.quicker(mrgp.Gaussian(), data, 0.1) is None


@only(argvalues=["complete"])
def test_compiled_once_for_all_rounds(objective):
    first, _ = objective(np.zeros(objective.size))
    climb = partial(surrogates.rounds, objective, first, tolerance=1e-2)
    list(climb())
    programs = surrogates.held_at, surrogates._guess, surrogates.surrogate_at
    sizes = [program._cache_size() for program in programs]
    list(climb())
    assert [program._cache_size() for program in programs] == sizes


@pytest.mark.slow
def test_a_bound_where_rates_are_astronomical_is_none():
    """log p of counts is never positive: rounding of a divergence had made it so."""
    data = recording()
    model = MODEL.replace(likelihood="markov")
    drawn = model.fitting.draw_start(np.random.default_rng(0), data, 0)
    sites = model.fitting.first_guess(drawn, data)
    for size, level in ((40, 40 / 3), (60, 20.0), (100, 0.0)):
        wild = {"loadings": size * np.asarray(sites["loadings"]), "offset": np.asarray(sites["offset"]) + level}
        scores = model.log_likelihood(data, {**sites, **wild}).values
        assert np.isfinite(scores).all()
        assert (scores < 0).all(), size  # 4e8 for the first of them
