"""How objects show themselves: text at a prompt and the same as HTML, escaped, in a moment; equality says something."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mrgp.models import ADM, DLAG, GPFA, LDS, MDLAG, PCCA

import mrgp
from mrgp.inference.mode.curvature import Curvature
from mrgp.recordings.layout import Layout
from mrgp.results.fit import Fit
from mrgp.runtime.display import Card, aligned
from mrgp.simulations.simulate import simulate
from mrgp.studies.compare.compare_delays import DelayComparison, Hypothesis
from mrgp.studies.table_of_runs import Aggregate

BIN = 0.02
RNG = np.random.default_rng(0)


def words(html):
    """The text of HTML, without its tags."""
    return " ".join(unescape(re.sub("<[^>]*>", " ", html)).split())


def recording(**options):
    V1, V2 = RNG.standard_normal((6, 10, 3)), RNG.standard_normal((6, 10, 2))
    V1[0, 2, 1] = np.nan
    V1[5, 6:], V2[5, 6:] = np.nan, np.nan
    return mrgp.MultiRegionData({"V1": V1, "<V2>": V2}, BIN, **options)


@pytest.fixture
def fit():
    """A fit of DLAG as a file gives it: nobody has climbed anything."""
    sites = {
        "delay": np.array([[0.013, -0.021]]), "timescale_across": np.array([0.1, 0.07]),
        "timescale_within": np.array([0.05]), "loadings": np.ones((5, 3)), "noise": np.ones(5), "offset": np.zeros(5),
    }  # fmt: skip
    return Fit(
        model=DLAG(n_across=2, n_within=(1, 0), mean="psth", duration=0.2), sites=sites, method="map",
        trace=np.array([-200.5, -123.456]), converged=False, reason="stopped after 2 iterations", iterations=2,
        evaluations=3, layout=Layout(("V1", "<V2>"), (3, 2), BIN), n_bins=10, wall_s=1.25, seed=0, fixed=("offset",),
        notes=("a delay is <close> to its bound",),
    )  # fmt: skip


def test_a_recording_says_what_it_holds():
    data = recording(trial_coords={"condition": ["left", "right", "left"] * 2})
    assert repr(data).splitlines() == [
        "MultiRegionData: 6 trials x 10 bins of 20 ms, 2 pattern(s) of missing entries, trials of different length",
        "  V1: 3 neurons",
        "  <V2>: 2 neurons",
        "  conditions: left (4 trials), right (2 trials) (told apart with mean psth)",
        "  missing: 7% of entries",   # 1 and 4 bins x 5 neurons, of 300
    ]
    assert data.missing_share == pytest.approx(21 / 300, abs=1e-12)
    assert data.missing_share == pytest.approx(1 - data.mask.mean(), abs=1e-12)
    html = data._repr_html_()
    assert "<V2>" not in html
    assert words(html) == " ".join(repr(data).replace(":", "").split()).replace("MultiRegionData", "MultiRegionData:")
    many = recording(trial_coords={"condition": np.arange(6)})
    assert "  conditions: 0 (1 trials), 1 (1 trials), 2 (1 trials), 3 (1 trials)" in repr(many)
    of_trials = {"condition": [0, 0, *range(1, 8), *[7] * 7]}
    more = mrgp.MultiRegionData({"V1": RNG.standard_normal((16, 5, 2))}, BIN, trial_coords=of_trials)
    assert "  conditions: 8, of 1 to 8 trials" in repr(more)
    whole = simulate(n_trials=2, n_bins=5, seed=0).data
    assert whole.missing_share == 0.0
    assert "missing" not in repr(whole)


def test_a_model_says_what_was_chosen_and_no_default():
    model = DLAG(n_across=2, n_within=(17, 1), kernel=mrgp.Matern32(), max_delay=0.3, mean="psth")
    shown = "n_across=2, n_within=(17, 1), kernel=Matern32(), delays=ConstantDelay(longest=0.3), mean='psth'"
    assert repr(model) == f"DLAG({shown})"
    for one in (model, DLAG(), ADM(2, 1), GPFA(3, emission="poisson"), LDS(2), PCCA(1, 1), MDLAG(4, rate=0.1)):
        assert eval(repr(one), {**vars(mrgp.models), **{name: getattr(mrgp, name) for name in mrgp.__all__}}) == one
    assert repr(LDS(2)) == "LDS(n_across=2)"
    assert words(model._repr_html_()) == (
        "DLAG n_across 2 n_within (17, 1) kernel Matern32() delays ConstantDelay(longest=0.3) mean 'psth'"
    )


def test_a_preset_and_a_kernel_of_ones_own_show_themselves():
    class Own(mrgp.Kernel):
        def cov(self, tau):
            return np.exp(-np.abs(tau))

    assert repr(Own()) == "Own()"
    assert repr(GPFA(1, kernel=Own())) == "GPFA(n_across=1, kernel=Own())"


def test_a_fit_says_what_it_found(fit):
    lines = repr(fit).splitlines()
    assert lines[:6] == [
        "Fit of DLAG by method 'map', NOT converged",
        "  recording: V1 (3 neurons), <V2> (2 neurons), bins of 20 ms",
        "  settings: n_across=2, n_within=(1, 0), mean='psth'",
        "  ended: stopped after 2 iterations, after 2 iterations and 1.2 s",
        "  log p(y, parameters): -123.46 nats, with the prior of the parameters",
        "  fixed: offset",
    ]
    rows = [line.split() for line in lines]
    assert ["0", "100", "<V2>", "+13.0", "<V2>", "lags", "V1"] in rows
    assert ["1", "70", "<V2>", "-21.0", "<V2>", "leads", "V1"] in rows
    assert "  note: a delay is <close> to its bound" in lines
    assert lines[-1] == "  fit.delay_intervals() says how sure the delays are"
    html = fit._repr_html_()
    assert "<V2>" not in html
    assert "<close>" not in html
    assert "&lt;V2&gt; lags V1" in html
    for word in words("<p>" + repr(fit).replace("<", "&lt;").replace(": ", " ") + "</p>").split():
        assert word.rstrip(":") in words(html), word


def test_a_fit_shows_intervals_that_are_at_hand(fit, monkeypatch):
    fit.saved_curvature = Curvature(("delay",), np.arctanh(np.array([0.13, -0.21])), 0.01 * np.eye(2), True)
    assert "90% interval" not in repr(fit)   # of a fit from a file JAX would have to compile what gives them
    bounds = fit.delay_intervals(over_time=True)
    low, high = (f"{1e3 * float(bounds[name].values[1, 0]):+.1f}" for name in ("lower", "upper"))
    shown = repr(fit)
    assert f"{low} to {high}" in shown
    assert "90% interval" in shown
    assert "delay_intervals()" not in shown
    # Whoever looks at a fit does not wait for a thread that fits another one.
    monkeypatch.setattr("mrgp.results.gaussian_process_fit.TRACING", Held())
    assert "90% interval" not in repr(fit)


class Held:
    """A lock that another thread has."""

    def acquire(self, blocking=True):
        assert not blocking
        return False


def test_fits_and_recordings_are_equal_where_they_are_the_same(fit):
    other, data = replace(fit), recording()
    assert fit == fit
    assert fit != other
    assert len({fit, other, fit}) == 2
    same = data.select_trials(slice(None))
    assert data == data
    assert data != same
    assert data.fingerprint == same.fingerprint
    assert len({data, same, data}) == 2
    one = Hypothesis(DLAG(), {"delay": np.zeros((1, 1))})
    assert one == one
    assert hash(one) != hash(Hypothesis(DLAG()))


def test_results_show_what_they_report():
    table = pd.DataFrame(
        {"probability": [0.9, 0.1], "log_evidence": [-1.0, -3.2], "elpd_diff": [0.0, 2.0], "dse": [0.0, 1.0]},
        index=pd.Index(["constant", "none"], name="hypothesis"),
    )
    found = DelayComparison(table, pd.DataFrame(), None, pd.DataFrame(columns=["hypothesis"]), {}, {},
                            {"probability": 0.9, "rope": 0.01})  # fmt: skip
    assert repr(found).splitlines()[1] == f"  verdict: {found.verdict}"
    assert words(found._repr_html_()).startswith("DelayComparison of constant, none verdict Most probable: constant")
    assert len({found, found}) == 1
    runs = Aggregate(pd.DataFrame({"run": ["a", "b"], "kind": "fit", "model": "dlag", "log_likelihood": [1.0, 2.0]}))
    assert repr(runs).startswith("Aggregate of 2 runs\n")
    made = simulate(n_trials=2, n_bins=5, seed=0)
    assert f"{made.data}".splitlines()[0] in repr(made)
    assert "truth: delay" in repr(made)


def test_a_bootstrap_shows_delays_and_what_is_significant():
    places = {"region": ["V1", "V2"], "across_latent": [0]}
    drawn = np.array([[[0.0], [0.01]], [[0.0], [0.03]]])
    samples = xr.Dataset(
        {"delay": (("sample", "region", "across_latent"), drawn), "converged": ("sample", [True, True])}, places,
        {"kind": "trials"},
    )
    fitted = xr.Dataset({"delay": (("region", "across_latent"), [[0.0], [0.02]])}, places)
    pair = {"pair": ["V1 - V2"], "across_latent": [0]}
    significance = xr.Dataset(
        {"p_zero": (("pair", "across_latent"), [[0.01]]), "significant": (("pair", "across_latent"), [[True]])}, pair
    )
    rows = [line.split() for line in repr(mrgp.Bootstrap(samples, fitted, significance)).splitlines()]
    assert ["V2", "0", "+20.0", "+11.0", "to", "+29.0"] in rows
    assert ["V1", "-", "V2", "0", "0.010", "yes"] in rows


def test_text_and_html_have_the_same_words():
    rows = [{"region": "A", "n": "1"}, {"region": "B & C", "m": "22"}]
    card = Card("One <two>", {"a": "b"}, (rows, []), ("mind",), "x  <y>\nz")
    assert str(card) == "\n".join(
        ["One <two>", "  a: b", "", *(f"  {line}" for line in aligned(rows)), "", "  note: mind", "", "  x  <y>", "  z"]
    )
    assert aligned(rows) == ["region   n    m", "A        1", "B & C        22"]
    html = card.html()
    assert "One &lt;two&gt;" in html
    assert "B &amp; C" in html
    assert "x  &lt;y&gt;\nz" in html
    assert html.count("<tr") == 1 + 3
    assert "color:inherit" in html
