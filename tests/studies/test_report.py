"""Reports: a page that is whole, safe and alone, of folders in whatever state."""

import json
import os
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mrgp.models import DLAG

import mrgp
from mrgp.metrics.scores import R2
from mrgp.recordings.recording import stand_in
from mrgp.results import lights as rules
from mrgp.runtime.account import Account, Light, Picture, State, Table
from mrgp.runtime.run_record import RunRecord
from mrgp.studies.calibration import account as calibration
from mrgp.studies.calibration.result import gathered_from
from mrgp.studies.communication import account as communication
from mrgp.studies.communication.result import gathered
from mrgp.studies.compare import account as compare
from mrgp.studies.cross_validation import account as cross_validation
from mrgp.studies.cross_validation.candidate import Candidate
from mrgp.studies.cross_validation.result import CrossValidation
from mrgp.studies.cross_validation.tabulated import tabulated
from mrgp.studies.evaluation import account as evaluation
from mrgp.studies.report.folder import report_of_folder
from mrgp.studies.report.page import Report, summed_up
from mrgp.studies.report.pictures import fitting, is_png, size_of, total
from mrgp.studies.report.rows import rows_of
from mrgp.studies.tuning import account as tuning

pytestmark = pytest.mark.usefixtures("agg")
GOOD, LOOK, BAD = State
VOID = {"meta", "img", "link", "br", "hr", "input"}
HOSTILE = '<script>alert("x")</script>&\'"><img src=http://evil/x.png onerror=alert(1)>'
MOST_BYTES = 3_000_000


class Page(HTMLParser):
    """The page as a reader of HTML has it: tags nest, and addresses are inside it."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def checked(text):
    """A page that is well formed, alone and accessible."""
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert len(text.encode()) < MOST_BYTES
    assert page.all("html")[0]["lang"] == "en"
    assert not page.all("script")
    assert not page.all("link")
    assert not page.all("iframe")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        if "src" in attrs:
            assert attrs["src"].startswith("data:image/png;base64,")
        if "href" in attrs:
            assert attrs["href"].removeprefix("#") in ids
    assert "url(" not in text
    assert "@import" not in text
    assert all(len(attrs["alt"]) > 20 and int(attrs["width"]) for attrs in page.all("img"))
    assert all(attrs["scope"] in ("col", "row") for attrs in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    return page


def png(width=900, height=300, noise=True):
    """A picture of random pixels, which does not compress, or of none."""
    from io import BytesIO

    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8) if noise else np.zeros((height, width, 3), np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def account(**changed):
    told = Account(
        "Fit", "DLAG of V1, V2", ["It came to rest."], {"model": "DLAG"},
        [Light("Convergence", GOOD, "7 iterations", "It did."), Light("Delays", BAD, "1 of 2", "Raise it."),
         Light("Pareto k", LOOK, "0.8", "Look.")],
        [Table("Delays", [{"latent": "0", "delay (ms)": "+3.0", "direction": "V2 lags V1"}], "below")],
        [Picture("delays", "Delays", "Delays in milliseconds of every latent.")], ["a note"], "a  b",
        {"settings": {"n_across": 1}}, {"mrgp": "0.1.0"},
    )  # fmt: skip
    return replace(told, **changed)


# --- the page


def test_a_page_is_whole_and_alone():
    run = RunRecord("mrgp fit x.npz --out o", "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:06+00:00", 1.0)
    run.read = [{"file": "x.npz", "sha256": "ab" * 32, "digest": "cd" * 32}]
    text = Report(account(), {"delays": png(200, 100), "other": png(9, 9)}, run).html()
    page, shown = checked(text), " ".join(Page(text).text)
    [image] = page.all("img")
    assert (image["width"], image["alt"]) == ("200", "Delays in milliseconds of every latent.")
    for words in ("It came to rest.", "+3.0", "mrgp fit x.npz --out o", "ab" * 32, "cd" * 32, "a note", "0.1.0",
                  "2026-01-02 03:04:05 UTC", '{"n_across": 1}',
                  "3 diagnostics: 1 bad, 1 to look at and 1 good."):  # fmt: skip
        assert words in shown
    states = [attrs["class"] for attrs in page.all("li") if "class" in attrs]
    assert states == ["bad", "look", "good"]   # the worst first


def test_long_settings_are_cut():
    text = " ".join(Page(Report(account(made_with={"folds": [0] * 5000})).html()).text)
    assert "... (15,000 letters in all, see report.json)" in text
    assert text.count("0, 0") < 1000


def test_a_page_of_next_to_nothing():
    page = checked(Report(Account("Fit", "nothing")).html())
    assert page.all("section") == []


def test_names_cannot_break_out_of_the_page():
    run = RunRecord(f"mrgp fit {HOSTILE}", "2026-01-02T03:04:05+00:00", notes=[HOSTILE], read=[{"file": HOSTILE}],
                    versions={HOSTILE: HOSTILE}, machine={HOSTILE: HOSTILE})  # fmt: skip
    told = Account(
        HOSTILE, HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, [Light(HOSTILE, BAD, HOSTILE, HOSTILE)],
        [Table(HOSTILE, [{HOSTILE: HOSTILE, "b": HOSTILE}], HOSTILE)], [Picture("p", HOSTILE, HOSTILE)], [HOSTILE],
        HOSTILE, {HOSTILE: HOSTILE, "x": {HOSTILE: [HOSTILE]}},
    )  # fmt: skip
    report = Report(told, {"p": png(20, 20)}, run, [HOSTILE])
    page = checked(report.html())
    assert page.all("img")[0]["alt"] == HOSTILE
    assert len(page.all("img")) == 1
    [frame] = Page(report._repr_html_()).all("iframe")
    assert frame["srcdoc"] == report.html()


def test_diagnostics_are_counted():
    good = Light("a", GOOD, "1", "b.")
    assert summed_up([]) == ""
    assert summed_up([good]) == "1 diagnostic good."
    assert summed_up([good, good]) == "All 2 diagnostics good."


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("before")

    def broken(*_, **__):
        raise OSError(28, "no space left")

    monkeypatch.setattr("pathlib.Path.write_text", broken)
    with pytest.raises(OSError, match=r"cannot write report\.html"):
        Report(account()).save(path)
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_figures_are_made_to_fit():
    pictures = {"a": png(1000, 120), "b": png(1010, 40)}
    assert total(pictures) > 450_000
    small = fitting(pictures, 100_000)
    assert total(small) <= 100_000
    assert all(is_png(own) for own in small.values())
    assert size_of(small["b"])[0] >= 500
    assert fitting(pictures, 10_000_000) == pictures
    plain = {"a": png(1000, 100, noise=False)}
    assert fitting(plain, len(plain["a"]) - 1)["a"] != plain["a"]
    assert not is_png(zlib.compress(b"x"))


def test_rows_have_units_and_dashes():
    frame = pd.DataFrame({"a": [1.26, np.nan], "b": [True, False], "c": ["x", 2]})
    headings = {"c": ("name", None), "a": ("delay (ms)", 1), "b": ("converged", None), "absent": ("x", 1)}
    assert rows_of(frame, headings) == [
        {"name": "x", "delay (ms)": "1.3", "converged": "yes"}, {"name": "2", "delay (ms)": "-", "converged": "no"},
    ]  # fmt: skip


# --- folders


def written(folder, *, done=True, failure="", command="mrgp fit x.npz --out o", told=None):
    """A folder as a command leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    run = RunRecord(command)
    run.begin(folder)
    if told is not None:
        told.save(folder)
        (folder / "delays.png").write_bytes(png(50, 50))
    if done:
        run.end(failure)
    return folder


def test_a_folder_that_is_finished(tmp_path, run):
    folder = written(tmp_path / "o", told=account())
    code, out, err = run("report", folder)
    assert (code, err) == (0, "")
    assert "bad: Delays (1 of 2). Raise it." in out
    assert f"written to {folder / 'report.html'}" in out
    page = checked((folder / "report.html").read_text())
    assert len(page.all("img")) == 1
    assert not any(attrs.get("class") == "banner" for attrs in page.all("p"))
    code, out, err = run("report", folder, "--out", tmp_path / "mine.html", "--quiet")
    assert (code, out, err) == (0, "", "")
    assert (tmp_path / "mine.html").read_text() == (folder / "report.html").read_text()
    (folder / "delays.png").write_bytes(b"no picture")
    assert report_of_folder(folder).pictures == {}


def test_a_run_that_was_stopped_after_its_results_says_so(tmp_path):
    report = report_of_folder(written(tmp_path / "o", failure="interrupted", told=account()))
    assert "was not finished, it ended with: interrupted." in report.remarks[0]
    assert report.remarks[0].endswith("mrgp fit x.npz --out o")
    assert [a["class"] for a in checked(report.html()).all("p") if a.get("role")] == ["banner"]


def test_figures_are_of_the_folder_alone(tmp_path):
    folder, outside = tmp_path / "o", Picture("../outside", "Delays", "Delays in milliseconds of every latent.")
    written(folder, told=account(pictures=[outside]))
    (tmp_path / "outside.png").write_bytes(png(50, 50))
    assert report_of_folder(folder).pictures == {}


def test_figures_of_the_run_before_are_not_shown_for_one_that_was_stopped(tmp_path):
    folder = written(tmp_path / "o", told=account())
    assert report_of_folder(folder).pictures.keys() == {"delays"}
    os.utime(folder / "delays.png", (0, 0))
    assert report_of_folder(folder).pictures.keys() == {"delays"}  # copied, with another time
    again = RunRecord("mrgp fit x.npz --seed 1 --out o")
    again.begin(folder)
    account().save(folder)
    assert report_of_folder(folder).pictures == {}


def refused(run, folder):
    code, out, err = run("report", folder)
    assert (code, out) == (1, "")
    assert err.startswith("mrgp: ")
    assert len(err.splitlines()) == 1
    return err


def test_folders_of_which_there_is_nothing_to_tell(tmp_path, run):
    assert "does not exist: give the folder" in refused(run, tmp_path / "absent")
    (tmp_path / "file").touch()
    assert "is no folder" in refused(run, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "is empty: give a folder that mrgp fit" in refused(run, tmp_path / "empty")
    other = tmp_path / "other"
    other.mkdir()
    for name in "abcd":
        (other / name).touch()
    assert "holds no results of mrgp but a, b, c, ...: give" in refused(run, other)
    killed = refused(run, written(tmp_path / "killed", done=False))
    assert "was not finished, it is still running, or was killed. Give the same command again" in killed
    assert "mrgp fit x.npz --out o" in killed
    assert "has lost its report.json: run the same command again, mrgp fit" in refused(run, written(tmp_path / "lost"))
    assert "ended with: out of memory" in refused(run, written(tmp_path / "failed", failure="out of memory"))
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "summary.json").write_text("{}")
    assert "written by an earlier version of mrgp" in refused(run, earlier)
    (earlier / "fit.nc").write_bytes(b"nothing")
    assert "is damaged or not a fit" in refused(run, earlier)


@pytest.mark.parametrize("name", ["run.json", "report.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}', "null"])
def test_damaged_files_are_named(tmp_path, run, name, text):
    folder = written(tmp_path / "o", told=account())
    (folder / name).write_text(text)
    assert name in refused(run, folder)


def test_an_account_of_the_run_before_is_not_taken_for_one_that_was_killed(tmp_path, run):
    folder = written(tmp_path / "o", told=account())
    os.utime(folder / "report.json", (0, 0))
    RunRecord("mrgp fit x.npz --seed 1 --out o").begin(folder)
    assert "--seed 1" in refused(run, folder)


# --- results


@pytest.fixture(scope="module")
def recording():
    model, regions = DLAG(1, 1, max_delay=0.06), {"V1": 6, "<V2>": 5}
    return mrgp.simulate(model, regions=regions, n_trials=8, n_bins=20, seed=1).data


@pytest.fixture(scope="module")
def fit(recording):
    return DLAG(1, 1, max_delay=0.06, likelihood="dense").fit(
        recording, n_starts=1, max_iterations=15, tolerance=1.0, progress=False)  # fmt: skip


@pytest.mark.slow
def test_a_fit_tells_of_itself(fit, tmp_path):
    report = mrgp.report(fit, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = checked(text)
    assert text == report.html()
    assert {"delays", "loadings", "latents", "reconstruction", "convergence"} == report.pictures.keys()
    assert {picture.name for picture in report.account.pictures} >= report.pictures.keys()
    assert len(page.all("img")) == 5
    lights = {light.name: light for light in report.account.lights}
    assert lights["Convergence"].state is (GOOD if fit.converged else BAD)
    trivial = float(fit.model.emission.trivial_log_likelihood(fit.data).sum())
    gain = float(fit.log_likelihood().sum()) - trivial
    assert lights["Above each neuron's own mean"].number == f"{gain:+,.0f} nats"
    assert lights["Latents beside neurons"].number == "2 latents for 5 neurons of <V2>"
    assert lights["Missing entries"].number == "0%"
    shown = " ".join(page.text)
    assert fit.data.fingerprint in shown
    assert f"{1e3 * float(fit.delays[1, 0]):+.1f}" in shown
    bounds = fit.delay_intervals(0.9)
    assert f"{1e3 * float(bounds['lower'][1, 0]):+.1f} to {1e3 * float(bounds['upper'][1, 0]):+.1f}" in shown


@pytest.mark.slow
def test_a_fit_of_draws_tells_how_they_mix(fit):
    rng = np.random.default_rng(0)
    chains = 0.001 * rng.normal(size=(2, 500, *fit.sites["delay"].shape))
    stats = {"diverging": np.arange(1000).reshape(2, 500) < 20}
    drawn = replace(fit, method="nuts", samples={"delay": chains}, sample_stats=stats)
    lights = {light.name: light for light in drawn.account().lights}
    assert lights["Mixing of chains"].state is GOOD
    assert (lights["Divergent trajectories"].state, lights["Divergent trajectories"].number) == (BAD, "20 of 1000")
    apart = replace(drawn, samples={"delay": chains + np.array([0.0, 0.004])[:, None, None, None]})
    lights = {light.name: light for light in apart.account().lights}
    assert lights["Mixing of chains"].state is BAD


@pytest.mark.slow
def test_a_loaded_fit_tells_what_it_can(fit, tmp_path):
    fit.save(tmp_path / "fit.nc")
    report = report_of_folder(tmp_path)
    assert "earlier version" in report.remarks[0]
    names = {light.name for light in report.account.lights}
    assert "Convergence" in names
    assert "Above each neuron's own mean" not in names   # the recording is not there
    checked(report.html())


def test_anything_that_shows_itself_has_a_page(recording):
    text = mrgp.report(recording).html()
    assert "6 neurons" in " ".join(checked(text).text)
    with pytest.raises(TypeError, match="type mrgp report DIR"):
        mrgp.report("folder")


@pytest.mark.slow
def test_commands_leave_what_a_report_needs(tmp_path, run, recording):
    path, out = tmp_path / "r.npz", tmp_path / "o"
    mrgp.save_recording(recording, path)
    quick = ["--n-starts", 1, "--max-iterations", 3, "--no-figures", "--no-intervals", "--quiet", "--out", out / "fit"]
    assert run("fit", path, "--n-across", 1, "--n-within", 1, "--split-seed", 0, *quick)[0] == 0
    assert run("evaluate", out / "fit" / "fit.nc", path, "--split-seed", 0, "--masks", 1, "--quiet", "--out",
               out / "test")[0] == 0  # fmt: skip
    for name in ("fit", "test"):
        told = json.loads((out / name / "run.json").read_text())
        assert {"digest": recording.fingerprint}.items() <= told["read"][-1].items()
        assert told["ended"]
        assert run("report", out / name)[0] == 0
        checked((out / name / "report.html").read_text())
    assert any("has not converged" in note for note in json.loads((out / "fit" / "run.json").read_text())["notes"])
    lights = {light.name: light for light in report_of_folder(out / "test").account.lights}
    assert lights["Trials are new to the fit"].state is GOOD


# --- studies, of made-up numbers


LAYOUT = mrgp.Layout(("V1", "V2"), (3, 3), 0.02)


def study_of_communication():
    own = {"delay": [0.02, 0.04], "sd": [0.002, 0.002], "longest": 0.1, "bound": -1.0, "epochs": 5, "converged": True,
           "seconds": 1.0, "failure": ""}  # fmt: skip
    effects = [(False, 0, [0.1, 0.5]), (False, 1, [0.1, 0.6]), (True, 0, [0.1, 0.1])]
    records = [{**own, "is_control": control, "seed": seed, "effect": effect} for control, seed, effect in effects]
    return gathered(LAYOUT, records, {"seed": 3})


def cross_validation_of_three():
    candidates = [Candidate(k, (1, 1)) for k in (0, 1, 2)]
    levels = np.array([[0.0], [5.0], [9.0]]) + np.random.default_rng(0).normal(size=(3, 8))
    records = [
        (one, {"fold": fold, "scores": row[fold::2].tolist(), "converged": True, "seconds": 1.0, "failure": ""})
        for one, row in zip(candidates, levels, strict=True) for fold in (0, 1)
    ]  # fmt: skip
    folds = np.arange(8) % 2
    table, data = tabulated(DLAG(), LAYOUT, records, candidates, folds), stand_in(LAYOUT, 8, 5)
    return CrossValidation(table, tuple(candidates), DLAG(), {}, {"folds": folds.tolist()}, {"a warning": 2}, data)


def calibration_of_forty():
    rng = np.random.default_rng(1)
    done = [
        {"truth": rng.normal(size=2), "rank": rng.integers(0, 20, 2), "mean": np.zeros(2), "sd": np.ones(2),
         "z": rng.normal(size=2), "inside": np.ones((2, 4)), "converged": True, "widened": False, "seconds": 1.0,
         "failure": "", "notes": []}
        for _ in range(40)
    ]  # fmt: skip
    quantities = {"delay V2:0": "delay", "timescale across:0": "timescale across"}
    return gathered_from(done, quantities, {"draws": 19, "method": "laplace", "model": {"model": "dlag"}})


def search_for_settings():
    rows = [(8, 0, -1.0, 0.0, 0.0, 9, 1.0, True, ""), (4, 0, -2.0, 1.0, 0.1, 9, 1.0, True, ""),
            (2, 0, np.nan, np.nan, np.nan, 0, 1.0, False, "it broke")]  # fmt: skip
    names = ["n_factors", "seed", "score", "below_best", "below_best_se", "epochs", "seconds", "converged", "failure"]
    return mrgp.Tuning(pd.DataFrame(rows, columns=names), DLAG(), {"seed": 0}, stand_in(LAYOUT, 8, 5))


@pytest.mark.parametrize(
    ("made", "picture", "verdict", "states"),
    [
        (study_of_communication, "communication", "In all 2 trainings what V1 does tells what V2 will do",
         {"Trainings that failed": GOOD, "Trainings": LOOK, "Controls": BAD, "Trainings agree": GOOD}),
        (cross_validation_of_three, "cv", "Chosen: 2 shared latents, private: 1 of V1 and 1 of V2.",
         {"Fits that failed": GOOD, "Best within what was tried": LOOK, "Candidates told apart": GOOD}),
        (calibration_of_forty, "calibration", "90% intervals of dlag held the truth in 100.0% of cases",
         {"Fits that failed": GOOD, "Enough simulations": LOOK, "Coverage of 90% intervals": LOOK}),
        (search_for_settings, "tuning", "Best: n_factors = 8, with -1.000 nats per held-out trial.",
         {"Fits that failed": BAD, "Best n_factors within what was tried": LOOK, "Best told apart": GOOD}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_studies_tell_of_themselves(made, picture, verdict, states, tmp_path):
    result = made()
    result.save(tmp_path)
    report = report_of_folder(written(tmp_path))
    checked(report.html())
    assert list(report.pictures) == [picture]
    assert any(sentence.startswith(verdict) for sentence in report.account.verdict)
    lights = {light.name: light.state for light in report.account.lights}
    assert states.items() <= lights.items()
    assert report.account.tables
    assert (tmp_path / "summary.json").is_file()
    with pytest.MonkeyPatch.context() as patch:   # in a notebook nothing is written
        patch.setattr("mrgp.studies.report.report.drawn", lambda _: {})
        assert mrgp.report(result).account.verdict == report.account.verdict


def test_a_search_is_written_whole(tmp_path):
    search_for_settings().save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"summary.json", "report.json", "scores.csv", "tuning.png"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [fit["score"] for fit in summary["fits"]] == [-1.0, -2.0, None]
    assert summary["model"]["model"] == "dlag"
    figure = search_for_settings().plot()
    assert figure.axes[0].get_xlabel() == "n_factors"
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["2", "4", "8"]


# --- rules of studies


SCORES = xr.Dataset(
    {"r2": (("predictor", "region"), [[0.5, 0.2], [0.1, 0.1], [0.4, 0.3]])},
    {"predictor": ["dlag", "training PSTH", "ridge"], "region": ["V1", "V2"]},
)  # fmt: skip


def scored(*own):
    """Light of a model with these scores in the two regions."""
    table = SCORES.copy(deep=True)
    table["r2"].values[0] = own
    return evaluation.beside_baselines(R2(), table, "held-out neurons", ["V1", "V2"])


@pytest.mark.parametrize(
    ("light", "state", "words"),
    [
        (rules.failed(0, 10, "See why."), GOOD, "All fits succeeded."),
        (rules.failed(2, 10, "See why."), LOOK, "See why."),
        (rules.failed(3, 10, "See why.", "Trainings"), BAD, "Many trainings failed. See why."),
        (compare.all_converged([], 3), GOOD, "came to rest"),
        (compare.all_converged(["varying"], 3), BAD, "varying"),
        (compare.left_out([], 2), GOOD, "maximum nearby"),
        (compare.left_out(["none"], 2), BAD, "of none that these"),
        (compare.singled_out(np.array([0.95, 0.05])), GOOD, "little"),
        (compare.singled_out(np.array([0.94, 0.06])), LOOK, "more trials"),
        (compare.singled_out(np.array([0.5, 0.4, 0.1])), LOOK, "more trials"),
        (compare.singled_out(np.array([0.49, 0.3, 0.21])), BAD, "does not tell them apart"),
        (compare.singled_out(np.array([np.nan, np.nan])), LOOK, "not known"),
        (compare.exact_enough(1.0, 0.9), GOOD, "smaller"),
        (compare.exact_enough(1.0, 1.0), LOOK, "equally probable"),
        (compare.agreement("none", 2.0, 1.0), GOOD, "as well as any"),
        (compare.agreement("none", 2.1, 1.0), LOOK, "another predicts"),
        (cross_validation.at_the_end([], "1+1/1"), GOOD, "none with more does better"),
        (cross_validation.at_the_end(["shared latents"], "3"), LOOK, "most shared latents"),
        (cross_validation.told_apart(2, 3), GOOD, "clearly worse"),
        (cross_validation.told_apart(3, 3), LOOK, "alike"),
        (calibration.enough(100), GOOD, "well enough"),
        (calibration.enough(99), LOOK, "higher --n"),
        (calibration.enough(29), BAD, "next to nothing"),
        (calibration.uniform(0.05), GOOD, "uniform"),
        (calibration.uniform(0.049), LOOK, "figure"),
        (calibration.uniform(0.0009), BAD, "not uniform"),
        (calibration.coverage(0.85, 0.03, "90%"), GOOD, "as often"),
        (calibration.coverage(0.83, 0.03, "90%"), LOOK, "too narrow"),
        (calibration.coverage(0.97, 0.03, "90%"), LOOK, "wider"),
        (calibration.coverage(0.7, 0.03, "90%"), BAD, "too narrow"),
        (calibration.inside_bands(["a"], 20), GOOD, "As many"),
        (calibration.inside_bands(["a", "b"], 20), LOOK, "Outside: a, b"),
        (communication.converged(0, 5), GOOD, "rest"),
        (communication.converged(1, 5), LOOK, "--max-iterations"),
        (communication.repeated("Trainings", 3, 3, "--seeds", "how far"), GOOD, "enough"),
        (communication.repeated("Trainings", 2, 3, "--seeds", "how far"), LOOK, "few"),
        (communication.repeated("Trainings", 1, 3, "--seeds", "how far"), BAD, "give more by --seeds"),
        (communication.repeated("Controls", 2, 2, "--controls", "how far"), GOOD, "enough"),
        (communication.repeated("Controls", 1, 2, "--controls", "how far"), BAD, "--controls"),
        (communication.agreement(0.5), GOOD, "agree"),
        (communication.agreement(0.51), LOOK, "differ"),
        (communication.agreement(1.01), BAD, "not agree"),
        (tuning.settled(True), GOOD, "rest"),
        (tuning.settled(False), LOOK, "max_iterations"),
        (tuning.at_the_end("n_factors", 2, [1, 2, 3]), GOOD, "both sides"),
        (tuning.at_the_end("n_factors", 3, [1, 2, 3]), LOOK, "larger"),
        (tuning.at_the_end("n_factors", 1, [1, 2, 3]), LOOK, "smaller"),
        (tuning.told_apart(1, 3), GOOD, "No other"),
        (tuning.told_apart(2, 3), LOOK, "prefer"),
        (evaluation.unseen(0, 5), GOOD, "honest"),
        (evaluation.unseen(1, 5), LOOK, "--split-seed"),
        (evaluation.unseen(5, 5), BAD, "--split-seed"),
        (evaluation.unseen(None, 5), LOOK, "does not say"),
        (scored(0.4, 0.3), GOOD, "at least as well"),
        (scored(0.5, 0.2), LOOK, "In V2 a baseline"),
        (scored(0.09, 0.5), BAD, "In V1 the model predicts worse"),
        (scored(np.nan, 0.5), BAD, "In V1"),
    ],
)  # fmt: skip
def test_rules_of_studies(light, state, words):
    assert light.state is state
    assert words in light.sentence
    assert light.number


def test_settings_with_ends():
    assert tuning.is_ordered([1, 2.5])
    assert not tuning.is_ordered([1, 1])
    assert not tuning.is_ordered(["a", "b"])


# --- a browser


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_shows_the_page(tmp_path, width):
    """It is drawn, nothing is wider than the window, and it prints."""
    rows = [{f"a long heading of a column {i}": "12345.678" for i in range(12)}]
    wide = account(tables=[Table("Wide", rows)], facts={"path": "x" * 300}, text="y" * 300)
    path = tmp_path / "report.html"
    report = Report(wide, {"delays": png(1125, 500)}, RunRecord("mrgp fit " + "z" * 300, "2026-01-02T03:04:05+00:00"))
    measure = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>"
    path.write_text(report.html().replace("</body>", measure))
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    browser = [BROWSER, *flags, f"--window-size={width},2000"]
    shown = subprocess.run([*browser, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    needed, had = map(int, re.search(r"<title>(\d+) of (\d+)</title>", shown.stdout).groups())
    assert needed <= had
    command = [*browser, f"--screenshot={tmp_path / 'shot.png'}", path.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert size_of((tmp_path / "shot.png").read_bytes())[0] == width
    command = [*browser, f"--print-to-pdf={tmp_path / 'page.pdf'}", path.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert (tmp_path / "page.pdf").read_bytes()[:5] == b"%PDF-"
