"""Edges compared on unseen trials, by a model of which only what is asked of it is known."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from mrgp.models import CoupledLDS

import mrgp


@dataclass
class Asked:
    """Model of whose edges that from A to B alone is worth something: 1 nat in one trial, 2 in the next, and so on."""

    absent: tuple = ()
    fits: list = field(default_factory=list)

    def replace(self, **changes):
        return replace(self, **changes)

    def fit(self, data, **settings):
        self.fits.append((self.absent, data.n_trials, settings))
        worth = float(("A", "B") not in self.absent)
        found = SimpleNamespace(log_likelihood=lambda test: xr.DataArray(worth * np.arange(1, test.n_trials + 1)))
        found.raise_if_interrupted = lambda: found
        return found


def test_both_fits_of_an_edge_have_the_settings_that_are_given():
    values = np.random.default_rng(0).standard_normal((6, 4, 2))
    data, model = mrgp.MultiRegionData({"A": values, "B": values + 1}, 0.02), Asked()
    found = mrgp.compare_edges(data, model, n_folds=2, progress=False, max_iterations=7, n_starts=1)
    assert found.table[["source", "target", "gain"]].values.tolist() == [["A", "B", 12.0], ["B", "A", 0.0]]
    assert [absent for absent, *_ in model.fits] == [(), (("A", "B"),), (("B", "A"),)] * 2
    for absent, n_trials, settings in model.fits:
        assert n_trials == 3
        assert (settings["max_iterations"], settings["n_starts"]) == (7, 1)
        assert ("start" in settings) == bool(absent)


def test_blocks_are_of_models_without_a_course():
    rng = np.random.default_rng(0)
    data = mrgp.MultiRegionData({name: rng.standard_normal((2, 9, 2)) for name in "AB"}, 0.02)
    with pytest.raises(ValueError, match=r"CoupledLDS has a course over the trial, which blocks have not: leave block"):
        mrgp.compare_edges(data, CoupledLDS(1, mean="psth"), block=0.06, progress=False)
