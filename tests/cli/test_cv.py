"""``mrgp cv`` as a new user meets it: what is asked for, what is refused, a sweep that is stopped."""

import json

import numpy as np
import pytest

import mrgp
from mrgp.simulations.simulate import simulate
from mrgp.studies.cross_validation import sweep

DONE, FAILED, MISUSED = 0, 1, 2


@pytest.fixture
def file(tmp_path):
    """A small recording, with a stimulus for each trial."""
    made = simulate(regions={"V1": 6, "V2": 5}, n_across=1, n_within=(1, 0), n_trials=12, n_bins=15, seed=3).data
    arrays = {name: made.region(name) for name in ("V1", "V2")}
    data = mrgp.MultiRegionData(arrays, 0.02, trial_coords={"stimulus": ["left"] * 8 + ["right"] * 4})
    mrgp.save_recording(data, tmp_path / "recording.nc")
    return tmp_path / "recording.nc"


@pytest.fixture
def tasks(monkeypatch):
    """Every task that is asked for; instead of a fit it has a score, the best for two latents."""
    asked = []

    def evaluate(job, task):
        candidate, fold = task
        asked.append((job, str(candidate), fold))
        scores = np.sin(np.flatnonzero(job.folds == fold)) - abs(candidate.n_across + candidate.n_within[0] - 2)
        told = {"converged": True, "failure": "", "notes": [], "seconds": 0.0}
        return {**candidate.written(), "fold": fold, "scores": scores.tolist(), **told}

    monkeypatch.setattr(sweep, "evaluate", evaluate)
    return asked


def test_candidates_folds_and_settings_are_as_typed(run, file, tasks, tmp_path):
    options = ["--n-across", "0,1,2", "--n-within", "1,2/0", "--folds", 3, "--stratify", "stimulus", "--seed", 4]
    options += ["--kernel", "matern32", "--max-delay", "0.08", "--fixed", "timescale_across=0.1", "--n-starts", 2]
    code, out, err = run("cv", file, "--out", tmp_path / "out", *options)
    assert (code, err) == (DONE, "")
    names = ["0+1/1", "0+2/0", "1+1/1", "1+2/0", "2+1/1", "2+2/0"]
    assert [(name, fold) for _, name, fold in tasks] == [(name, fold) for name in names for fold in range(3)]
    job = tasks[0][0]
    assert (job.model.kernel, job.model.max_delay) == (mrgp.Matern32(), 0.08)
    settings = {"fixed": {"timescale_across": 0.1}, "n_starts": 2, "seed": 4}
    assert job.settings == settings | {"max_iterations": 1000}
    assert [np.bincount(job.folds[part], minlength=3).max() for part in (slice(8), slice(8, 12))] == [3, 2]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"tasks.json", "summary.json", "scores.csv", "scores.nc", "cv.png", "report.json", "run.json"}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["chosen"] == {"candidate": "0+2/0", "n_across": 0, "n_within": [2, 0]}
    assert "chosen: --n-across 0 --n-within 2,0" in out
    assert "best" in out
    code, out, err = run("cv", file, "--out", tmp_path / "quiet", *options, "--quiet")
    assert (code, out, err) == (DONE, "", "")


def test_a_model_without_private_latents_needs_none(run, file, tasks, tmp_path):
    code, out, _ = run("cv", file, "--out", tmp_path, "--model", "gpfa", "--n-across", "1,2,3")
    assert code == DONE
    assert out.splitlines()[-2] == "chosen: --n-across 2"


def test_a_search_finds_its_candidates(run, file, tasks, tmp_path):
    code, out, _ = run("cv", file, "--out", tmp_path, "--search", "--folds", 2)
    assert code == DONE
    assert {"factors_1.json", "factors_2.json", "tasks.json"} <= {path.name for path in tmp_path.iterdir()}
    assert "chosen: --n-across 0 --n-within 2,2" in out


def test_a_sweep_goes_on_where_it_was_stopped(run, file, tasks, tmp_path, monkeypatch):
    command = ["cv", file, "--out", tmp_path / "out", "--model", "gpfa", "--n-across", "1,2", "--folds", "3"]
    plain = sweep.evaluate

    def interrupted(job, task):
        if len(tasks) == 4:
            raise KeyboardInterrupt
        return plain(job, task)

    monkeypatch.setattr(sweep, "evaluate", interrupted)
    code, _, err = run(*command)
    assert (code, err.startswith("mrgp: interrupted: ")) == (FAILED, True)
    assert "keeps what was done, the same command goes on from there" in err
    monkeypatch.setattr(sweep, "evaluate", plain)
    code, out, err = run(*command)
    assert (code, err, len(tasks)) == (DONE, "", 6)
    assert "going on from" in out
    first = (tmp_path / "out" / "scores.csv").read_text()
    assert run("cv", file, "--out", tmp_path / "whole", *command[4:])[0] == DONE
    assert (tmp_path / "whole" / "scores.csv").read_text() == first
    code, _, err = run(*command, "--seed", 1)
    assert (code, "is of other settings (folds, settings): choose another folder" in err) == (FAILED, True)


@pytest.mark.slow
def test_processes_share_the_fits(run, file, tmp_path):
    options = ["--model", "fa", "--n-across", "1,2", "--folds", "2", "--n-starts", "1", "--workers", "2"]
    code, out, err = run("cv", file, "--out", tmp_path, *options)
    assert (code, err) == (DONE, "")
    assert "chosen: --n-across" in out
    kept = json.loads((tmp_path / "tasks.json").read_text())["tasks"]
    assert sorted((task["n_across"], task["fold"]) for task in kept) == [(1, 0), (1, 1), (2, 0), (2, 1)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give the candidates"),
        (["--n-across", "1,2"], "dlag needs --n-within, such as 1,2,3 or 16/1,17/1, or --search"),
        (["--n-across", "1,1", "--n-within", "1"], "'1,1' has a number twice"),
        (["--n-across", "1", "--n-within", "1,1"], "'1,1' has a candidate twice"),
        (["--n-across", "1,x", "--n-within", "1"], "'x' is not a whole number"),
        (["--n-across", "1", "--n-within", "1/"], "'' is not a whole number"),
        (["--n-across", "1", "--n-within", "1/1/1"], "is for 3 regions"),
        (["--n-across", "1,9", "--n-within", "1,2"], "13 latents for 11 neurons: lower"),
        (["--n-across", "1", "--n-within", "1", "--neighbours"], "--neighbours are of the candidate"),
        (["--search", "--n-within", "1"], "--search finds --n-within by itself"),
        (["--search", "--model", "gpfa"], "--search asks which latents are private to a region, and gpfa has none"),
        (["--model", "gpfa", "--n-across", "1", "--n-within", "1"], "gpfa has no latents private to a region"),
        (["--n-across", "1", "--n-within", "1", "--folds", "1"], "--folds is 2 or more"),
        (["--n-across", "1", "--n-within", "1", "--folds", "0"], "'0' is not a whole number, 1 or more"),
        (["--n-across", "1", "--n-within", "1", "--stratify", "block"], "no trial coordinate of that name"),
        (["--n-across", "1", "--n-within", "1", "--fixed", "gain=1"], "--fixed: DLAG has no site 'gain'"),
        (["--n-across", "1", "--n-within", "1", "--method", "em"], "--method em is not for dlag"),
        (["--n-across", "1", "--n-within", "1", "--workers", "0"], "'0' is not a whole number, 1 or more"),
    ],
)  # fmt: skip
def test_wrong_use_is_named_in_a_sentence(run, file, tasks, tmp_path, options, words):
    code, out, err = run("cv", file, "--out", tmp_path / "out", *options)
    last = err.strip().splitlines()[-1]
    assert (code, out, tasks) == (MISUSED, "", [])
    assert last.startswith("mrgp: ")
    assert words in last


def test_what_fails_is_named_in_a_sentence(run, file, tasks, tmp_path):
    command = ["--model", "gpfa", "--n-across", "1", "--out"]
    for given, words in [
        (["cv", tmp_path / "absent.nc", *command, tmp_path / "out"], "there is no file"),
        (["cv", file, *command, file], "cannot write into folder"),
        (["cv", file, *command, tmp_path / "out", "--folds", 13], "13 folds need as many trials, and there are 12"),
    ]:
        code, _, err = run(*given)
        assert (code, len(err.splitlines())) == (FAILED, 1)
        assert words in err
    with pytest.MonkeyPatch.context() as patch:
        failed = {"scores": None, "converged": False, "failure": "singular", "notes": [], "seconds": 0.0}
        patch.setattr(sweep, "evaluate", lambda job, task: {**task[0].written(), "fold": task[1], **failed})
        code, _, err = run("cv", file, *command, tmp_path / "out")
    assert (code, err) == (FAILED, "mrgp: no candidate could be fitted in every fold; the first: singular\n")


@pytest.mark.parametrize(
    ("model", "options", "chosen", "names"),
    [
        ("switchinglds", ["--n-states", "1,2", "--n-within", "1,2/1", "--block", 0.1], "--n-states 2 --n-within 2,1",
         [f"n_states={k}, n_within={w}" for k in (1, 2) for w in ("1/1", "2/1")]),
        ("coupledlds", ["--n-within", "1,2", "--n-global", "0,1"], "--n-within 2,2 --n-global 1",
         [f"n_within={w}, n_global={g}" for w in ("1/1", "2/2") for g in (0, 1)]),
        ("lds", ["--n-across", "1,2"], "--n-across 2", ["1", "2"]),
    ],
)  # fmt: skip
def test_sizes_of_other_models_are_options(run, file, monkeypatch, tmp_path, model, options, chosen, names):
    asked = []

    def evaluate(job, task):
        candidate, fold = task
        asked.append((job, str(candidate), fold))
        scores = np.full((job.folds == fold).sum(), float(sum(np.sum(value) for _, value in candidate.settings)))
        told = {"converged": True, "failure": "", "notes": [], "seconds": 0.0}
        return {**candidate.written(), "fold": fold, "scores": scores.tolist(), **told}

    monkeypatch.setattr(sweep, "evaluate", evaluate)
    code, out, err = run("cv", file, "--model", model, "--folds", 2, "--out", tmp_path / "out", *options)
    assert (code, err) == (DONE, "")
    assert [name for _, name, fold in asked if fold == 0] == names
    assert f"chosen: {chosen}" in out.splitlines()
    assert asked[0][0].data.n_trials == (36 if "--block" in options else 12)   # 15 bins of 20 ms in blocks of 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "coupledlds"], "give the candidates, such as --n-within 1,2,3"),
        (["--model", "switchinglds", "--n-across", "1"], "--n-across is not for switchinglds"),
        (["--model", "switchinglds", "--search"], "switchinglds has none: give --n-states 1,2,3"),
        (["--model", "switchinglds", "--n-states", "1", "--n-within", "0"], "n_within counts at least 1"),
        (["--model", "dlag", "--n-across", "1", "--n-within", "1", "--n-states", "2"], "--n-states is not for dlag"),
        (["--model", "lfads"], "choose its sizes in Python by mrgp.tune"),
    ],
)
def test_wrong_sizes_are_named_in_a_sentence(run, file, tasks, tmp_path, options, words):
    code, out, err = run("cv", file, "--out", tmp_path / "out", *options)
    assert (code, out, tasks) == (MISUSED, "", [])
    assert words in err.strip().splitlines()[-1]
