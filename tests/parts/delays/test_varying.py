"""Delays that vary, where there is little of them: one region, no latents, latents that are left out."""

import numpy as np
import pytest

from mrgp.parts.delays.base import Extent
from mrgp.parts.delays.varying import VaryingDelay

LAW = VaryingDelay(0.1, learned_timescales=(0.1, 0.2, 0.3))


@pytest.mark.parametrize("lagging", [(0, 2), (1, 0)])
def test_nothing_varies_where_nothing_lags(lagging):
    law, extent = VaryingDelay(0.1), Extent(lagging[0] + 1, lagging[1], 0.02, 10, 10)
    assert law.dynamics(extent) == ()
    assert law.scales({"delay": np.zeros(lagging)}, extent, lambda: np.ones(lagging)) == {}
    assert law.learned({}, lambda name: np.ones(lagging), (), extent) is None
    if lagging[0] == 0:
        assert law.first_guess({}, extent) == {}
        assert law.table({}, extent).shape == (1, 2)
        assert law.sample(extent).shape == (1, 1, 2)


def test_latents_that_stay_keep_their_timescales():
    assert LAW.keeping(np.array([0, 2])).learned_timescales == (0.1, 0.3)
    assert LAW.objection(3) is None
    assert "2 positive numbers" in LAW.objection(2)
    assert VaryingDelay(learned_timescales=()).objection(0) is None


def test_courses_of_other_latents_are_not_taken_over():
    extent = Extent(2, 1, 0.02, 10, 10)
    sites = {"delay": np.zeros((1, 3)), "delay_change": np.zeros((1, 3, 4)), "delay_spread": np.ones((1, 3))}
    assert VaryingDelay(0.1).from_other(LAW, sites, extent)[0] == VaryingDelay(0.1)


def test_a_level_on_its_bound_has_a_course():
    extent = Extent(2, 1, 0.02, 10, 10)
    law = VaryingDelay(0.1, timescale=0.1)
    change = np.zeros((1, 1, law.modes(extent).shape[-1]))
    table = law.table({"delay": np.full((1, 1), 0.1), "delay_change": change, "delay_spread": np.ones((1, 1))}, extent)
    np.testing.assert_allclose(table[1], 0.1)
