"""The race of a search for a start: which climbs end early, and what that leaves of the others."""

from types import SimpleNamespace

import numpy as np
import pytest
from mrgp.models import DLAG

import mrgp
from mrgp.inference import search as searching
from mrgp.inference.density import LogJoint
from mrgp.inference.optimise import OVERTAKEN, Ascent, Objective, is_overtaken, maximise
from mrgp.inference.run import Options
from mrgp.inference.start import MOST_FACTORS, compress

RIVAL = [-1000.0, *np.linspace(-200.0, -100.0, 20)]  # after 10 iterations more it has gained 50 nats more


def test_a_climb_is_overtaken_that_is_behind_by_more_than_its_rival_had_to_gain():
    level = RIVAL[9]
    left = RIVAL[-1] - level
    trace = [-2000.0] * 9
    assert not is_overtaken([*trace, level - 1.5 * left - 19], RIVAL)
    assert is_overtaken([*trace, level - 1.5 * left - 21], RIVAL)
    assert not is_overtaken(trace, RIVAL)  # every climb has its first iterations
    assert not is_overtaken([-2000.0] * 22, RIVAL)  # and one that goes on for longer its end
    assert not is_overtaken([-2000.0] * 15, ())


@pytest.fixture(scope="module")
def climbed():
    """An objective, and a climb of it."""
    rng = np.random.default_rng(0)
    shared = np.cumsum(rng.standard_normal((30, 25, 1)), axis=1)
    regions = {name: shared @ rng.standard_normal((1, 4)) + rng.standard_normal((30, 25, 4)) for name in "AB"}
    data, model = mrgp.MultiRegionData(regions, 0.02), DLAG(1, 0, likelihood="spectral")
    compressed, _ = searching.reduced(model.prepared(data), data)
    begin = model.fitting.draw_start(rng, compressed.data, 3)
    scale = model.fitting.scales(compressed.data, begin, known=True)

    def objective():
        return Objective(LogJoint(model), compressed.data, begin, scale, ("offset",))

    return objective, maximise(objective(), tolerance=0.5, max_iterations=50)


def test_a_climb_that_is_left_behind_ends_there(climbed):
    objective, whole = climbed
    assert whole.converged
    ahead = [height + 1000.0 for height in [*whole.trace, *[whole.trace[-1]] * 10]]
    ended = maximise(objective(), tolerance=0.0, max_iterations=50, rival=ahead)
    assert ended.reason == OVERTAKEN
    assert not ended.converged
    assert len(ended.trace) == 10
    again = maximise(objective(), tolerance=0.5, max_iterations=50, rival=whole.trace)
    assert again.trace == whole.trace


def test_only_a_race_leaves_climbs_out(monkeypatch):
    """Every climb is told of the best one so far; the overtaken are not returned, and count as tried."""
    heights, told = iter([-10.0, -50.0, -5.0, -6.0, -90.0, -20.0]), []

    def climb(model, compressed, begin, title, options, rival):
        height = next(heights)
        told.append(rival[-1] if len(rival) else None)
        return Ascent({}, height, [height], reason=OVERTAKEN if height < -40.0 and len(rival) else "converged")

    monkeypatch.setattr(searching, "_climb", climb)
    model = SimpleNamespace(fitting=SimpleNamespace(draw_start=lambda *given: {}))
    given = model, SimpleNamespace(data=None), np.random.default_rng(0)
    race = searching._climbs(*given, Options(0, search_races=True))
    assert [climb.log_joint for climb in race] == [-10.0, -5.0, -6.0, -20.0]
    assert told == [None, -10.0, -10.0, -5.0, -5.0, -5.0]
    heights, told[:] = iter([-10.0, -50.0, -5.0, -5.5]), []
    assert len(searching._climbs(*given, Options(0))) == 4  # two agree
    assert told == [None] * 4


def test_a_region_of_many_neurons_is_reduced_to_two_factors_for_each_of_many_latents():
    rng = np.random.default_rng(1)
    signals = np.cumsum(rng.standard_normal((20, 40, 25)), axis=1)
    signals /= signals.std()
    mixing = rng.standard_normal((25, 200))
    data = mrgp.MultiRegionData({"A": signals @ mixing + rng.standard_normal((20, 40, 200))}, 0.02)
    found = compress(data, (200,), (25,))
    assert found.data.layout.total_neurons == 50
    assert compress(data, (200,), (4,)).data.layout.total_neurons <= 16 < MOST_FACTORS
    basis = np.linalg.qr(found.decode[0])[0]
    missed = mixing.T - basis @ (basis.T @ mixing.T)
    assert np.square(missed).sum() < 0.01 * np.square(mixing).sum()  # of what the latents say nothing is lost
