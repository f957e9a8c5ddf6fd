"""Search for settings of a model that is trained."""

import json
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist

import mrgp
from mrgp.families.model import Model


@dataclass(frozen=True)
class Levels(mrgp.Amortised):
    """A level for every trial, read by all neurons with a weight that is held."""

    weight: float = 1.0

    def __call__(self, data):
        readout = self.emission_sites(data)
        with self.trials(data) as some:
            z = numpyro.sample("z", dist.Normal(jnp.zeros(1), 1.0).to_event(1))
            signal = jnp.broadcast_to(self.weight * z[:, None], some.values.shape)
            self.observe(some, signal, readout, latents=jnp.broadcast_to(z[:, None], (len(z), data.n_bins, 1)))

    def guide(self, data):
        slope, log_sd = numpyro.param("slope", jnp.zeros(())), numpyro.param("log_sd", jnp.zeros(()))
        with self.trials(data) as some:
            level = self.shown(some)[0].mean((1, 2))[:, None]
            numpyro.sample("z", dist.Normal(slope * level, jnp.exp(log_sd)).to_event(1))


@pytest.fixture(scope="module", autouse=True)
def _known():
    yield
    Model._members.pop("levels", None)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    values = 2.0 * rng.normal(size=(100, 1, 1)) + rng.normal(size=(100, 6, 4))
    return mrgp.MultiRegionData({"V1": values}, 0.02)


QUICK = {"max_iterations": 60, "warm_up": 10, "patience": 60, "batch_size": 16, "progress": False}
TRIED = {"weight": [0.2, 2.0], "learning_rate": [0.03]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_the_setting_that_recordings_were_made_with_is_chosen_and_a_search_goes_on(data, tmp_path, monkeypatch):
    found = mrgp.tune(Levels(), data, TRIED, n_seeds=2, out=tmp_path, **QUICK)
    assert found.model.weight == 2.0
    assert found.settings["learning_rate"] == 0.03
    table = found.table
    assert list(table.weight) == [2.0, 2.0, 0.2, 0.2]
    assert set(table.seed) == {0, 1}
    assert (table.below_best.iloc[2:] > 3 * table.below_best_se.iloc[2:]).all()
    assert table.below_best.iloc[0] == 0
    assert np.isfinite(table.score).all()
    assert "Tuning of Levels" in repr(found)
    fits = []
    fit = Levels.fit

    def told(self, *given, **how):
        fits.append(self.weight)
        return fit(self, *given, **how)

    monkeypatch.setattr(Levels, "fit", told)
    more = mrgp.tune(Levels(), data, {**TRIED, "weight": [0.2, 2.0, 1.0]}, n_seeds=2, out=tmp_path, **QUICK)
    assert fits == [1.0, 1.0]
    assert more.model.weight == 2.0
    assert len(json.loads((tmp_path / "fits.json").read_text())["fits"]) == 6
    best = more.fit()
    assert best.model.weight == 2.0
    assert best.layout.total_neurons == 4
    with pytest.raises(ValueError, match="is of other settings"):
        mrgp.tune(Levels(), data, TRIED, out=tmp_path, **{**QUICK, "patience": 5})


def test_short_forms_are_settings_of_the_model(data, monkeypatch):
    delays = []

    def fit(self, *given, **how):
        delays.append((self.delays, how.keys() & {"max_delay"}))
        raise FloatingPointError("not now")

    monkeypatch.setattr(mrgp.models.GPVAE, "fit", fit)
    with pytest.raises(ValueError, match="no fit succeeded; the first: not now"):
        mrgp.tune(mrgp.models.GPVAE(1, 0), data, {"max_delay": [0.05, 0.1]}, **QUICK)
    assert delays == [(mrgp.ConstantDelay(longest), set()) for longest in (0.05, 0.1)]


def test_what_cannot_be_tried_is_refused_before_any_fit(data):
    for tried, told in (
        ({}, "tried has no values"), ({"weight": []}, "tried has no values"),
        ({"wieght": [1.0]}, "nothing has a setting wieght"), ({"learning_rate": [-1.0]}, "learning_rate is a positive"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            mrgp.tune(Levels(), data, tried, **QUICK)
    with pytest.raises(ValueError, match="n_seeds counts at least 1"):
        mrgp.tune(Levels(), data, TRIED, n_seeds=0, **QUICK)


@pytest.mark.slow
def test_a_fit_that_fails_is_told_of_and_not_chosen(data, monkeypatch):
    fit = Levels.fit

    def failing(self, *given, **how):
        if self.weight == 2.0:
            raise FloatingPointError("the bound is not finite")
        return fit(self, *given, **how)

    monkeypatch.setattr(Levels, "fit", failing)
    found = mrgp.tune(Levels(), data, TRIED, **QUICK)
    assert found.model.weight == 0.2
    assert found.table.failure.iloc[-1] == "the bound is not finite"
    with pytest.raises(ValueError, match="no fit succeeded; the first: the bound is not finite"):
        mrgp.tune(Levels(), data, {"weight": [2.0]}, **QUICK)
