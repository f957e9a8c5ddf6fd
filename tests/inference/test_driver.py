"""The driver of all methods: what it keeps, what it says and where, and how methods are named."""

import inspect
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from mrgp.models import DLAG, FA, GPFA, LDS

import mrgp
from mrgp.inference.driver import Driver
from mrgp.inference.run import Checkpoint, Options, State

DATA = mrgp.MultiRegionData({"V1": np.random.default_rng(0).normal(2.0, 1.0, (6, 8, 3))}, 0.02)
MODEL = GPFA(1, likelihood="dense")
FAR = 9.0  # of the offset: where a run has begun, and where nothing is explained


@dataclass(frozen=True)
class Approach(mrgp.Method, abstract=True):
    """Offsets come half of the way closer in each step, to those of the recording."""

    stops_at: int | None = None
    notes: tuple[str, ...] = ()

    def init(self, driver):
        kept = driver.store.read(driver.model)
        sites = {
            "loadings": np.full((3, 1), 1e-3), "timescale_across": np.array([0.1]),
            "noise": np.asarray(DATA.scale) ** 2, "offset": DATA.center + FAR,
        }  # fmt: skip
        return State(model=driver.model, sites=sites if kept is None else kept[1], notes=list(self.notes))

    def step(self, driver, state):
        if len(state.trace) == self.stops_at:
            raise KeyboardInterrupt
        state.sites = {**state.sites, "offset": 0.5 * (state.sites["offset"] + DATA.center)}
        driver.climbed(state, -float(np.abs(state.sites["offset"] - DATA.center).sum()))
        return state


@dataclass(frozen=True)
class Draws(Approach, abstract=True):
    """One that would end with draws."""

    gives_draws: ClassVar[bool] = True


def test_ctrl_c_keeps_what_was_reached_and_the_same_call_goes_on(tmp_path):
    place = tmp_path / "fit.npz"
    with pytest.warns(UserWarning, match="the fit has not converged: interrupted"):
        first = MODEL.fit(DATA, Approach(stops_at=3), checkpoint=place, progress=False)
    assert (first.reason, first.converged, len(first.trace)) == ("interrupted", False, 3)
    np.testing.assert_allclose(first.sites["offset"] - DATA.center, FAR / 8)
    assert place.is_file()
    again = MODEL.fit(DATA, Approach(), checkpoint=place, progress=False)
    assert again.trace[0] == pytest.approx(0.5 * first.trace[-1])
    assert (again.converged, again.iterations, again.evaluations) == (True, len(again.trace) - 1, len(again.trace))
    assert again.reason == "gain below 0.01 nats over 4 iterations"
    assert not place.exists()
    with pytest.raises(KeyboardInterrupt):
        first.raise_if_interrupted()
    assert again.raise_if_interrupted() is again


def test_half_a_posterior_is_none(tmp_path):
    place = tmp_path / "fit.npz"
    with pytest.raises(KeyboardInterrupt):
        MODEL.fit(DATA, Draws(stops_at=2), checkpoint=place, progress=False)
    assert place.is_file()


def test_notes_are_warned_of_once_at_the_users_line():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        method = Approach(notes=("it was far", "it was far"))
        line = inspect.currentframe().f_lineno + 1
        fit = MODEL.fit(DATA, method, max_iterations=6, tolerance=1e-9, progress=False)
    assert [str(warning.message) for warning in said] == [
        "the fit has not converged: stopped after 6 iterations", "it was far",
    ]  # fmt: skip
    assert {(warning.filename, warning.lineno) for warning in said} == {(__file__, line)}
    assert fit.notes == ("it was far", "it was far")


def test_a_place_that_is_only_tried_is_not_kept(tmp_path):
    options = Options(0, 1, 0.01, 10, tmp_path / "fit.npz", progress=False)
    driver = Driver(Approach(), MODEL, DATA, options)
    home = Approach().init(driver)
    driver.keep(replace(home, home=home), force=True)
    assert not options.checkpoint.exists()
    driver.keep(home)
    assert Checkpoint(options, MODEL, DATA).read(MODEL)[0] == MODEL


@pytest.mark.parametrize(
    ("trace", "reason", "found"),
    [
        ([2.0, 4.0, 6.0], "level", ("new", [1.0, 5.0, 6.0], True, "level")),
        ([2.0, 4.0], "level", ("old", [1.0, 5.0], True, "there")),
        ([2.0, 4.0], "interrupted", ("old", [1.0, 5.0], False, "interrupted")),
        ([], "no more climbs", ("old", [1.0, 5.0], True, "there")),
    ],
)
def test_the_best_of_two_places_has_the_cost_of_both(trace, reason, found):
    home = State(model="old", sites={}, trace=[1.0, 5.0], iterations=1, evaluations=3, converged=True, reason="there")
    tried = State(
        model="new", sites={}, trace=trace, iterations=2, evaluations=4, converged=reason == "level", reason=reason,
        home=home,
    )  # fmt: skip
    best = tried.best
    assert (best.model, best.trace, best.converged, best.reason) == found
    assert (best.iterations, best.evaluations, best.home) == (3, 7, None)


# --- names


def test_a_name_with_settings_is_the_method_with_them():
    chosen = mrgp.Method.chosen
    assert chosen("laplace", {"loadings": "profiled"}, DLAG(1, 0)) == mrgp.Laplace(loadings="profiled")
    assert chosen(mrgp.NUTS(n_draws=8), {"n_chains": 1}, DLAG(1, 0)) == mrgp.NUTS(n_chains=1, n_draws=8)
    assert mrgp.Laplace(5).as_written() == "Laplace(n_draws=5)"
    for name in ("map", "em", "vb", "laplace", "svi", "nuts"):
        assert mrgp.Method.named(name).written_name() == name


@pytest.mark.parametrize("wrong", ["nuts", mrgp.NUTS(), mrgp.NUTS, 3, "gradient"])
def test_a_method_that_a_model_does_not_have_is_refused(wrong):
    with pytest.raises(ValueError, match="method is one of map for FA, not "):
        FA(1).fit(DATA, wrong)


def test_settings_that_a_method_does_not_have_are_refused():
    with pytest.raises(TypeError, match="'laplace' knows no setting n_chains: it has n_draws, loadings"):
        GPFA(1).fit(DATA, mrgp.Laplace(), n_chains=2)
    with pytest.raises(TypeError, match="'em' knows no setting n_draws: it has no settings of its own"):
        LDS(1).fit(DATA, "em", n_draws=2)
