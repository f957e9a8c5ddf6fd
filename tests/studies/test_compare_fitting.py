"""Fits of hypotheses are kept, and taken from their folder only where they were asked for in the same way."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mrgp.models import DLAG

import mrgp
from mrgp.studies.compare.fitting import ASKED, Hypothesis, Kept, Phase, fitted

FITTED = Path(__file__).parents[1] / "data" / "fits" / "DLAG.nc"
BOTH = {"none": Hypothesis(DLAG(1, 1), {"delay": 0}), "constant": Hypothesis(DLAG(1, 1))}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return mrgp.MultiRegionData({name: rng.standard_normal((6, 8, 3)) for name in ("V1", "V2")}, 0.02)


@pytest.fixture
def calls(monkeypatch):
    """Starts and held sites of the fits that are made; each gives a fit of a file."""
    made = []

    def fit(model, data, method, *, seed, start, fixed, progress):
        made.append((start is not None, dict(fixed)))
        return replace(mrgp.load_fit(FITTED), data=data, seed=seed)

    monkeypatch.setattr(DLAG, "fit", fit)
    return made


def test_fits_are_made_once(data, calls, tmp_path):
    lines = []
    first = fitted(BOTH, data, 3, False, Kept(tmp_path), lines.append)
    assert calls == [(False, {}), (True, {"delay": 0})]  # the one with free delays first, the other from there
    assert list(first) == ["none", "constant"]
    assert [line.rpartition(", ")[0] for line in lines] == ["constant: fit", "none: fit"]
    assert {path.name for path in tmp_path.iterdir()} == {ASKED, "fit_none.nc", "fit_constant.nc"}
    again = fitted(BOTH, data, 3, False, Kept(tmp_path))
    assert len(calls) == 2
    for name, fit in again.items():
        assert fit.data is data
        np.testing.assert_array_equal(fit.sites["loadings"], first[name].sites["loadings"])


@pytest.mark.slow_cases("recording-2", "fixed-1", "damaged-1")
@pytest.mark.parametrize(
    ("changed", "n_made"),
    [("seed", 2), ("recording", 2), ("start", 2), ("fixed", 1), ("lost", 1), ("damaged", 1), ("replaced", 1),
     ("nothing", 0)],
)
def test_fits_of_something_else_are_made_anew(data, calls, tmp_path, changed, n_made):
    fitted(BOTH, data, 3, False, Kept(tmp_path))
    calls.clear()
    seed, hypotheses, recording = 3, dict(BOTH), data
    if changed == "seed":
        seed = 4
    elif changed == "recording":
        recording = data.select_trials(slice(0, 5))
    elif changed == "start":  # the fit that the other one starts from
        hypotheses["constant"] = Hypothesis(DLAG(1, 1, gp_noise=0.01))
        hypotheses["none"] = Hypothesis(DLAG(1, 1, gp_noise=0.01), {"delay": 0})
    elif changed == "fixed":
        hypotheses["none"] = Hypothesis(DLAG(1, 1), {"delay": 0.01})
    elif changed == "lost":
        (tmp_path / "fit_none.nc").unlink()
    elif changed == "damaged":
        (tmp_path / "fit_constant.nc").write_text("no fit")
    elif changed == "replaced":  # by a comparison that was saved in the same folder
        other = mrgp.load_fit(FITTED)
        replace(other, sites={**other.sites, "noise": 2 * other.sites["noise"]}).save(tmp_path / "fit_none.nc")
    fitted(hypotheses, recording, seed, False, Kept(tmp_path))
    assert len(calls) == n_made


def test_long_arrays_that_are_fixed_are_told_apart(data, calls, tmp_path):
    one, other = np.zeros((2, 2000))
    other[1000] = 1.0
    for held, n_made in ((one, 2), (other, 4), (other, 4)):  # both, as the other starts from it
        fitted({**BOTH, "none": Hypothesis(DLAG(1, 1), {"loadings": held})}, data, 3, False, Kept(tmp_path))
        assert len(calls) == n_made


def test_without_a_folder_nothing_is_kept(data, calls):
    fitted(BOTH, data, 3, False, Kept(None))
    fitted(BOTH, data, 3, False, Kept(None))
    assert len(calls) == 4


@pytest.mark.parametrize("text", ["no json", "[1, 2]", "3"])
def test_a_damaged_list_of_fits_is_refused(tmp_path, text):
    (tmp_path / ASKED).write_text(text)
    with pytest.raises(ValueError, match=r"asked.json is not readable: remove it to start afresh"):
        Kept(tmp_path)
    (tmp_path / ASKED).write_text(json.dumps({}))
    assert Kept(tmp_path).asked == {}


def test_warnings_name_their_hypothesis():
    lines = []
    with pytest.warns(UserWarning, match=r"^hypothesis 'none': 3 of 8 trials are odd$") as caught, Phase(
        "none", "evidence", lines.append
    ):
        warnings.warn("3 of 8 trials are odd", stacklevel=1)
    assert caught[0].filename == __file__
    with pytest.warns(FutureWarning, match=r"^of a library$"), Phase("none", "evidence", lines.append):
        warnings.warn("of a library", FutureWarning, stacklevel=1)
    assert all(line.startswith("none: evidence, ") and line.endswith(" s") for line in lines)
    with pytest.warns(UserWarning, match="'none': before it fails"):
        warned_and_failed()


def warned_and_failed():
    with pytest.raises(KeyError), Phase("none", "fit", None):  # noqa: PT012
        warnings.warn("before it fails", stacklevel=1)
        raise KeyError
