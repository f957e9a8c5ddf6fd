"""Surrogates of bounds of counts: their slopes are the bound's, and climbs by them end where others do."""

from functools import partial

import numpy as np
import pytest
from mrgp.models import DLAG

import mrgp
from mrgp.inference import surrogates
from mrgp.inference.density import LogJoint
from mrgp.inference.map import MAP
from mrgp.inference.mode.given_loadings import Given, Reduced
from mrgp.inference.optimise import Objective, maximise
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
        pytest.param("complete", marks=pytest.mark.slow), "conditions and holes",
        pytest.param("dispersion", marks=pytest.mark.slow),
        pytest.param("state space", marks=pytest.mark.slow),
    ]
)  # fmt: skip
def test_slopes_are_those_of_the_bound(objective):
    here = 0.3 * np.random.default_rng(1).standard_normal(objective.size)
    _, slope = objective(here)
    _, slope = objective(here)  # from the q that the first one has found
    surrogate = surrogates._surrogate(*objective.arguments(here), objective.guess, 1e-9)
    _, own = surrogates._evaluated(objective, surrogate, here)
    beside = objective.unravel(np.arange(objective.size)).get("dispersion", np.zeros(0)).astype(int)
    modelled = np.setdiff1d(np.arange(objective.size), beside)
    np.testing.assert_allclose(own[modelled], slope[modelled], atol=1e-4, rtol=1e-5)
    # The surrogate is a function of its own: elsewhere its value and its slope still agree.
    away = np.random.default_rng(2).standard_normal(objective.size)
    up, down = (surrogates._evaluated(objective, surrogate, here + step * away)[0] for step in (1e-5, -1e-5))
    assert (up - down) / 2e-5 == pytest.approx(own @ away, rel=1e-4, abs=1e-3)


@only(argvalues=["complete", "conditions and holes", pytest.param("state space", marks=pytest.mark.slow)])
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
    first, slope = objective(np.zeros(objective.size))
    beside = ("dispersion",) if "dispersion" in objective.origin else ()
    losses = [loss for _, loss in surrogates.rounds(objective, first, slope, beside=beside, tolerance=1e-2)]
    assert first - losses[0] > 0.1 * (first + expected.log_joint)  # one round is a good part of the way
    found = maximise(
        objective, tolerance=1e-3, max_iterations=400, ahead=partial(surrogates.rounds, beside=beside, tolerance=1e-2)
    )
    assert found.log_joint > expected.log_joint - 0.5
    assert np.diff(found.trace).min() >= 0


@only(argvalues=["complete"])
def test_a_step_that_the_bound_does_not_follow_is_halved_or_left(objective, monkeypatch):
    """A surrogate that promises what is not there costs evaluations, and nothing else."""
    real = surrogates._evaluated

    def promising(objective, surrogate, x):
        value, slope = real(objective, surrogate, x)
        return value - 1e3 * x.sum(), slope - 1e3

    monkeypatch.setattr(surrogates, "_evaluated", promising)
    first, slope = objective(np.zeros(objective.size))
    losses = [loss for _, loss in surrogates.rounds(objective, first, slope, beside=(), tolerance=1e-2)]
    assert np.diff([first, *losses]).max(initial=-1.0) < 0
    assert objective.evaluations <= 1 + (1 + len(losses)) * surrogates.HALVINGS


def test_a_fit_of_a_large_recording_climbs_by_surrogates(monkeypatch):
    data = recording()
    plain = MODEL.fit(data, progress=False, n_starts=1)
    asked = []
    monkeypatch.setattr(surrogates, "LARGE", 0)
    monkeypatch.setattr(surrogates, "rounds", lambda *args, **how: asked.append(how) or iter(()))
    again = MODEL.fit(data, MAP(), progress=False, n_starts=1)
    assert asked[0]["beside"] == ()
    np.testing.assert_allclose(again.trace, plain.trace)
    assert surrogates.quicker(mrgp.Gaussian(), data, 0.1) is None


@only(argvalues=["complete"])
def test_compiled_once_for_all_rounds(objective):
    first, slope = objective(np.zeros(objective.size))
    climb = partial(surrogates.rounds, objective, first, slope, beside=(), tolerance=1e-2)
    list(climb())
    sizes = surrogates._near._cache_size(), surrogates._surrogate._cache_size()
    list(climb())
    assert (surrogates._near._cache_size(), surrogates._surrogate._cache_size()) == sizes


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
