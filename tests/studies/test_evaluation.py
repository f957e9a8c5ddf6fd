"""Evaluations and tables of many runs: what is written is what the metrics say, and what is wrong is said."""

import dataclasses
import json
import warnings

import mrgp.models
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.text import Text

import mrgp
from mrgp import DataError, MultiRegionData, metrics, plots, studies
from mrgp.cli.evaluate import read_truth
from mrgp.families.earlier_settings import told_apart
from mrgp.families.model import Model
from mrgp.metrics.baselines import psth_and_ridge
from mrgp.results.table import write_results
from mrgp.simulations.simulate import simulate
from mrgp.studies.evaluation.evaluate import _seen
from mrgp.studies.report.folder import report_of_folder
from mrgp.studies.table_of_runs import FOUND

DONE, FAILED, MISUSED = 0, 1, 2
PNG = b"\x89PNG\r\n\x1a\n"
pytestmark = pytest.mark.usefixtures("agg")


@pytest.fixture(scope="module")
def simulation():
    """A recording of two regions, 16 trials x 6 bins."""
    counts = {"n_across": 1, "n_within": (1, 0), "n_trials": 16, "n_bins": 6}
    return simulate(regions={"V1": 6, "V2": 5}, delay=[[0], [0.02]], snr=3.0, **counts)


@pytest.fixture(scope="module")
def split(simulation):
    """Training and test trials."""
    train, _, test = metrics.split_trials(16, 0).of(simulation.data)
    return train, test


@pytest.fixture(scope="module")
def fit(simulation, split):
    """The model that made the recording, as if it had been fitted to the training trials."""
    truth, (train, _) = simulation.truth, split
    model = mrgp.models.DLAG(1, (1, 0), max_delay=0.06, likelihood="dense")
    names = ("loadings", "noise", "offset", "timescale_across", "timescale_within")
    sites = {name: truth[name].values for name in names} | {"delay": truth["delay"].values[1:]}
    run = {"method": "map", "trace": np.zeros(1), "converged": True, "reason": "given", "iterations": 0,
           "evaluations": 0, "wall_s": 0.0, "seed": 0}  # fmt: skip
    return mrgp.Fit(model=model, sites=sites, layout=train.layout, n_bins=6, data=train, **run)


@pytest.fixture(scope="module")
def evaluation(fit, simulation, split):
    return mrgp.evaluate(fit, split[1], n_masks=2, seed=5, truth=simulation.truth, progress=False)


@pytest.fixture(scope="module")
def folders(evaluation, fit, tmp_path_factory):
    """A folder of runs: an evaluation, the fit, and a comparison by its summary."""
    runs = tmp_path_factory.mktemp("runs")
    evaluation.save(runs / "test")
    (runs / "fit").mkdir()
    write_results(fit, runs / "fit")
    (runs / "compared").mkdir()
    columns = {"log_evidence": -10.5, "probability": 0.75, "elpd": -9.0, "elpd_diff": 0.0, "dse": 0.0, "pareto_k": 0.1,
               "converged": True}  # fmt: skip
    rows = [{"hypothesis": "constant", **columns}, {"hypothesis": "none", **columns, "probability": 0.25}]
    (runs / "compared" / "summary.json").write_text(json.dumps({"verdict": "", "hypotheses": rows}))
    return runs


# --- one evaluation


def test_the_tables_are_those_of_the_metrics(evaluation, fit, split):
    train, test = split
    masks = metrics.neuron_masks(test.layout, 2, 5, 0.2)
    alone = metrics.cosmoothing(fit, test, masks)
    ours = evaluation.cosmoothing.sel(predictor="DLAG")
    for name in ("psth_rmse", "trial_rmse", "r2", "bits_per_bin", "joint_log_likelihood", "neuron_r2"):
        np.testing.assert_allclose(ours[name], alone[name], rtol=1e-9)
    baseline = metrics.cosmoothing(psth_and_ridge(train), test, masks)
    beside = evaluation.cosmoothing.sel(predictor="PSTH + ridge")
    np.testing.assert_allclose(beside["r2"], baseline["r2"])
    left_out = metrics.leave_region_out(fit, test)
    np.testing.assert_allclose(evaluation.left_out["r2"].sel(predictor="DLAG"), left_out["r2"])
    assert evaluation.cosmoothing["predictor"].values.tolist() == [
        "DLAG", "training PSTH", "same-bin ridge", "PSTH + ridge",
    ]  # fmt: skip
    psth = test.region("V1")[:, :, np.sort(masks[0]["V1"])].mean(0).T
    np.testing.assert_allclose(evaluation.psths["V1"].sel(source="data"), psth)
    error = evaluation.psths["V1"].sel(source="DLAG").values - psth
    first = metrics.cosmoothing(fit, test, masks[0])["psth_rmse"].sel(region="V1")
    assert np.sqrt((error**2).mean()) == pytest.approx(float(first))
    assert evaluation.trials == "2 trials that the fit has not seen"
    assert set(evaluation.modes) == {"V1", "V2", "V1 to V2", "V2 to V1", "V1 and V2"}
    assert float(evaluation.recovery["delay_rmse"]) == 0   # the truth itself


def test_what_is_saved_can_be_read(evaluation, folders):
    place = folders / "test"
    assert {path.name for path in place.iterdir()} == {
        "evaluation.nc", "flow.png", "held_out.png", "scores.png", "summary.json", "report.json",
    }  # fmt: skip
    assert all(path.read_bytes().startswith(PNG) for path in place.glob("*.png"))
    told = report_of_folder(place)
    assert list(told.pictures) == ["scores", "held_out", "flow"]
    assert told.account.title.endswith("on unseen trials of V1, V2")
    lights = {light.name: light for light in told.account.lights}
    own = evaluation.cosmoothing["r2"].values[0]
    assert lights["Held-out neurons, R²"].number.startswith(f"{own[0]:.3f} / {own[1]:.3f} for V1 / V2; best baseline, ")
    assert lights["Trials are new to the fit"].number == "2 of 2"
    tree = xr.open_datatree(place / "evaluation.nc", engine="h5netcdf")
    np.testing.assert_array_equal(tree["cosmoothing"]["r2"], evaluation.cosmoothing["r2"])
    np.testing.assert_array_equal(tree["modes/V1"]["across"], evaluation.modes["V1"]["across"])
    assert tree["flow"]["direction"].values.tolist() == [["first leads"]]
    tree.close()
    summary = json.loads((place / "summary.json").read_text())
    assert summary["kind"] == "evaluation"
    np.testing.assert_allclose(summary["cosmoothing"]["same-bin ridge"]["r2"],
                               evaluation.cosmoothing["r2"].sel(predictor="same-bin ridge"))  # fmt: skip
    assert summary["signal_flow"][0]["delay"] == pytest.approx(0.02)
    assert summary["log_likelihood"] == pytest.approx(float(evaluation.likelihood["log_likelihood"].sum()))
    assert sum(summary["variance_explained"][part][0] for part in ("across", "within", "noise")) == pytest.approx(1)
    assert summary["recovery"]["timescale_error"] == [0, 0]


def test_the_report_says_what_was_found(evaluation):
    said = evaluation.report()
    row = next(line for line in said.splitlines() if line.startswith("DLAG"))
    assert " / ".join(f"{value:.3f}" for value in evaluation.cosmoothing["r2"].sel(predictor="DLAG").values) in row
    for phrase in ("2 trials that the fit has not seen", "PSTH + ridge", "V1 leads, +20.0 ms", "delays 0.000 bins",
                   "note: signal flow: directions are those of the best delays",
                   "higher is better: R², bits/bin; lower is better: PSTH RMSE, trial RMSE"):  # fmt: skip
        assert phrase in said


def test_trials_that_the_fit_has_seen_are_named(fit, split):
    train, test = split

    assert _seen(fit, test, train) == "2 trials that the fit has not seen"
    own = _seen(fit, train, train)
    assert own.startswith("12 trials, all of them training trials of the fit: scores are too good")
    assert own.endswith("; the baselines were made from 12 of them too")
    both = MultiRegionData(
        {name: np.concatenate([train.region(name)[:3], test.region(name)]) for name in ("V1", "V2")}, 0.02
    )
    assert "5 trials, 3 of them training trials of the fit" in _seen(fit, both, test)
    assert "does not say whether" in _seen(dataclasses.replace(fit, data=None), test, train)


def test_figures_show_the_tables(evaluation):
    scores = studies.plot_scores(evaluation.cosmoothing, evaluation.left_out)
    heights = [patch.get_height() for patch in scores.axes[0].patches]
    np.testing.assert_allclose(heights, evaluation.cosmoothing["psth_rmse"].values.ravel())
    gain = evaluation.left_out["bits_per_bin"] - evaluation.left_out["bits_per_bin"].sel(predictor="training PSTH")
    heights = [patch.get_height() for patch in scores.axes[5].patches]
    np.testing.assert_allclose(heights, gain.values.ravel(), atol=1e-12)
    held = studies.plot_held_out(evaluation.psths)
    image = held.axes[0].images[0].get_array()
    table = evaluation.psths["V1"].sel(source="data").values
    centered = table - table.mean(1, keepdims=True)
    np.testing.assert_allclose(image, centered[np.argsort(centered.argmax(1), kind="stable")])
    flow = plots.plot_flow(evaluation.flow)
    assert "20.0 ms" in [text.get_text() for text in flow.axes[0].texts]
    share = 100 * float(evaluation.flow["strength"][0, 0])
    assert [text.get_text() for text in flow.axes[1].texts] == [f"{share:.0f}", "0"]   # V1 leads V2, and not back
    for figure in (scores, held, flow):
        figure.canvas.draw()
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) >= 9
        assert figure.get_figwidth() <= 8


# --- many runs


def test_runs_are_gathered_row_by_row(folders, evaluation, fit, tmp_path):
    found = mrgp.aggregate([folders])
    table = found.table
    assert table.groupby("kind").size().to_dict() == {"baseline": 6, "compare": 2, "evaluate": 2, "fit": 2}
    row = table[(table["kind"] == "evaluate") & (table["region"] == "V2")].iloc[0]
    assert row["model"] == "dlag"
    assert row["r2"] == pytest.approx(float(evaluation.cosmoothing["r2"].sel(predictor="DLAG", region="V2")))
    assert row["run"] == str(folders / "test")
    fitted = table[(table["kind"] == "fit") & (table["region"] == "V2")].iloc[0]
    assert fitted["delays_ms"] == "+20.0"
    assert fitted["log_likelihood"] == pytest.approx(float(fit.log_likelihood().sum()))
    assert table[table["kind"] == "compare"]["probability"].tolist() == [0.75, 0.25]
    found.save(tmp_path)
    again = pd.read_csv(tmp_path / "aggregate.csv")
    np.testing.assert_allclose(again["r2"], table["r2"])
    assert (tmp_path / "aggregate.png").read_bytes().startswith(PNG)
    said = found.report()
    assert all(title in said for title in ("fits\n", "evaluations\n", "comparisons\n"))


def test_what_cannot_be_gathered_is_said(folders, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text('{"ranks": []}')
    with pytest.warns(UserWarning, match=r"other/summary.json is not of mrgp fit, evaluate or compare: left out"):
        found = mrgp.aggregate([folders / "fit", tmp_path / "other"])
    assert set(found.table["kind"]) == {"fit"}
    with pytest.warns(UserWarning, match="left out"), pytest.raises(DataError, match="name others"):
        mrgp.aggregate([tmp_path / "other"])
    with pytest.warns(UserWarning, match="named twice"):
        assert len(mrgp.aggregate([folders / "fit", folders / "fit"]).table) == 2
    (tmp_path / "other" / "summary.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        mrgp.aggregate([tmp_path])
    (tmp_path / "other" / "summary.json").write_text('{"kind": "evaluation"}')
    with pytest.raises(DataError, match="run the command again"):
        mrgp.aggregate([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no summary.json"):
        mrgp.aggregate([tmp_path / "empty"])


def test_runs_in_one_folder_are_averaged(folders, evaluation, tmp_path):
    summary = evaluation.summary()
    for run, shift in (("a/0", 0.0), ("a/1", 0.25), ("b/0", 1.0)):
        own = json.loads(json.dumps(summary))
        own["cosmoothing"]["DLAG"]["r2"] = [value + shift for value in own["cosmoothing"]["DLAG"]["r2"]]
        if run == "a/1":
            del own["regions_left_out"]
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "summary.json").write_text(json.dumps(own))
    found = mrgp.aggregate([tmp_path / "a", tmp_path / "b"], means=True)
    table, r2 = found.table, summary["cosmoothing"]["DLAG"]["r2"]
    table = table[table["model"] == "dlag"]
    own = table[table["run"] == str(tmp_path / "a")]
    assert own["region"].tolist() == ["V1", "V2"]
    assert set(own["runs"]) == {2}
    np.testing.assert_allclose(own["r2"], np.array(r2) + 0.125)
    np.testing.assert_allclose(own["r2_sd"], 0.25 / np.sqrt(2))
    np.testing.assert_allclose(table[table["run"] == str(tmp_path / "b")]["r2"], np.array(r2) + 1)
    np.testing.assert_allclose(own["psth_rmse_sd"], 0.0)
    assert own["left_out_r2"].isna().all()   # one of the two lacks it
    assert table[table["run"] == str(tmp_path / "b")]["left_out_r2"].notna().all()
    for figure in (studies.plot_aggregate(table), studies.plot_aggregate(mrgp.aggregate([tmp_path]).table)):
        figure.canvas.draw()
    lines = studies.plot_aggregate(table).axes[2].containers
    assert max(np.ptp(one[2][0].get_segments()[0][:, 0]) for one in lines) == pytest.approx(0.5 / np.sqrt(2))


def test_means_over_runs_of_different_settings_say_so(evaluation, tmp_path):
    own = evaluation.summary()
    assert (own["preprocessing"], own["fixed"]) == (None, [])
    for run in ("same/0", "same/1", "mixed/0", "mixed/1", "held/0", "held/1", "old/0", "old/1"):
        (tmp_path / run).mkdir(parents=True)
        odd = run == "mixed/1"
        changed = {"longest": 0.3 if run.endswith("1") else 0.2, "hold": run.startswith("held")}
        settings = own["settings"] | {"delays": own["settings"]["delays"] | changed}
        settings |= {"gp_noise": 0.01} if odd else {}
        summary = own | {"settings": settings, "preprocessing": {"zscore": True} if odd else None}
        if run == "old/0":   # as an earlier version wrote it
            del summary["preprocessing"], settings["delays"]
            settings |= {"likelihood": "dense", "max_delay": 0.2, "window": None, "transient": None}
        (tmp_path / run / "summary.json").write_text(json.dumps(summary))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mrgp.aggregate([tmp_path / "same", tmp_path / "old"], means=True)
        mrgp.aggregate([tmp_path / "mixed"])
    with pytest.warns(UserWarning, match="runs of dlag in .*mixed differ in gp_noise, preprocessing: means mix them$"):
        mrgp.aggregate([tmp_path / "same", tmp_path / "mixed"], means=True)
    with pytest.warns(UserWarning, match="runs of dlag in .*held differ in max_delay: means mix them$"):
        mrgp.aggregate([tmp_path / "held"], means=True)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "summary.json").write_text(json.dumps(own | {"settings": "none"}))
    with pytest.raises(DataError, match="not as this version of mrgp writes it"):
        mrgp.aggregate([tmp_path / "odd"], means=True)


def test_what_fits_change_by_themselves_is_known():
    known = {*FOUND, "n_across"}   # the latter of variational Bayes
    assert all(set(model.found_by_fit) - {"delays"} <= known for model in Model.members().values())
    of_laws = told_apart({"delays": {"name": "varying", "longest": 0.1, "learned_timescales": [0.2]}})
    assert of_laws.keys() <= known


def test_what_all_runs_have_alike_stands_once(evaluation, tmp_path):
    for run in ("a/0", "a/1", "b/0", "b/1"):
        (tmp_path / run).mkdir(parents=True)
        own = evaluation.summary()
        own["cosmoothing"]["DLAG"]["r2"] = [float(run == "b/1"), 0.5]
        (tmp_path / run / "summary.json").write_text(json.dumps(own))
    table = mrgp.aggregate([tmp_path / "a", tmp_path / "b"], means=True).table
    baselines = table[table["kind"] == "baseline"]
    assert set(baselines["run"]) == {""}
    assert len(baselines) == 6
    assert table[table["kind"] == "evaluate"]["run"].tolist() == [str(tmp_path / name) for name in "aabb"]


def test_a_truth_without_loadings_is_scored_by_its_latents(fit, simulation, split, tmp_path):
    part = simulation.truth[["across", "within"]]
    part.to_netcdf(tmp_path / "part_truth.nc", engine="h5netcdf")
    found = mrgp.evaluate(fit, split[1], n_masks=1, truth=read_truth(tmp_path / "part_truth.nc"), progress=False)
    assert found.recovery is None
    assert any("the truth has no delay: it is of no model with latents across" in note for note in found.notes)
    assert 0.5 < float(found.recovery_of_trials["latents_r2"]) < 1.0
    assert "single trials against the truth: R² of latents 0." in found.report()
    assert found.summary()["recovery_of_trials"] == {"latents_r2": float(found.recovery_of_trials["latents_r2"])}


# --- the command line


@pytest.fixture(scope="module")
def files(simulation, fit, tmp_path_factory):
    """The recording, its truth and the fit as files."""
    folder = tmp_path_factory.mktemp("files")
    mrgp.save_recording(simulation.data, folder / "all.nc")
    simulation.truth.to_netcdf(folder / "all_truth.nc", engine="h5netcdf")
    fit.save(folder / "fit.nc")
    return folder


@pytest.mark.slow
def test_evaluate_and_aggregate_on_the_command_line(run, files, evaluation, tmp_path):
    asked = ["evaluate", files / "fit.nc", files / "all.nc", "--split-seed", 0, "--masks", 2, "--seed", 5]
    code, printed, err = run(*asked, "--truth", files / "all_truth.nc", "--out", tmp_path / "test")
    assert (code, err) == (DONE, "")
    assert evaluation.report() in printed
    summary = json.loads((tmp_path / "test" / "summary.json").read_text())
    assert summary["cosmoothing"] == evaluation.summary()["cosmoothing"]
    code, printed, err = run("aggregate", tmp_path / "test", "--means", "--out", tmp_path / "table")
    assert (code, err) == (DONE, "")
    assert "PSTH + ridge" in printed
    written = {"aggregate.csv", "aggregate.png", "report.json", "run.json"}
    assert {path.name for path in (tmp_path / "table").iterdir()} == written


@pytest.mark.parametrize(("option", "value", "left"), [("--split-seed", 0, None), ("--test-trials", "4:6", [4, 5])])
def test_a_fit_keeps_off_the_test_trials(run, files, split, tmp_path, monkeypatch, option, value, left):
    given = []

    def fit(self, data, **_):
        given.append(data)
        raise KeyboardInterrupt

    monkeypatch.setattr(mrgp.models.FA, "fit", fit)
    common = ["fit", files / "all.nc", "--model", "fa", "--n-across", 1, "--quiet", "--out", tmp_path]
    assert run(*common, option, value)[0] == FAILED   # interrupted
    recording = mrgp.load_recording(files / "all.nc")
    seen = np.isin(recording.trial_fingerprints, given[0].trial_fingerprints)
    if left is None:
        np.testing.assert_array_equal(np.asarray(given[0].values), np.asarray(split[0].values))
        assert not np.isin(split[1].trial_fingerprints, given[0].trial_fingerprints).any()
    else:
        assert np.flatnonzero(~seen).tolist() == left


STEPS = {"transform": None, "smooth": 0.03, "zscore": True, "remove_condition_mean": False}


@pytest.fixture
def scored(monkeypatch):
    """Recordings that would be scored, training and test."""
    given = []

    def evaluate(fit, test, train, **_):
        given[:] = [train, test]
        raise KeyboardInterrupt

    monkeypatch.setattr("mrgp.studies.evaluation.evaluate.evaluate", evaluate)
    return given


def test_a_recording_is_preprocessed_as_that_of_the_fit(run, files, fit, split, scored, tmp_path):
    dataclasses.replace(fit, preprocessing=STEPS).save(tmp_path / "own.nc")
    common = ["evaluate", tmp_path / "own.nc", files / "all.nc", "--quiet", "--out", tmp_path]
    train, test = (mrgp.preprocess(part, reference=split[0], **STEPS) for part in split)
    for typed in ([], ["--zscore", "--smooth", 0.03]):
        assert run(*common, "--split-seed", 0, *typed)[::2] == (FAILED, "mrgp: interrupted\n")
        np.testing.assert_array_equal(scored[0].values, train.values)
        np.testing.assert_array_equal(scored[1].values, test.values)
    for typed in (["--zscore"], ["--zscore", "--smooth", 0.02], ["--transform", "sqrt"], ["--remove-mean"]):
        said = "mrgp: own.nc was fitted to a recording with --smooth 0.03 --zscore: give the same options, or none\n"
        assert run(*common, *typed)[::2] == (MISUSED, said)
    assert "means and standard deviations are those of the trials scored" in run(*common)[2]
    mrgp.save_recording(split[0], tmp_path / "train.nc")
    common[2] = tmp_path / "train.nc"
    assert run(*common)[2] == "mrgp: interrupted\n"


def test_a_fit_that_does_not_know_its_preprocessing_takes_what_is_typed(run, files, split, scored, tmp_path):
    old = xr.load_dataset(files / "fit.nc", engine="h5netcdf")
    header = json.loads(old.attrs["header"])
    assert header.pop("preprocessing") is None
    old.assign_attrs(header=json.dumps(header)).to_netcdf(tmp_path / "old.nc", engine="h5netcdf")
    for path in (files / "fit.nc", tmp_path / "old.nc"):
        for typed, steps in ([], {}), (["--zscore"], {"zscore": True}):
            run("evaluate", path, files / "all.nc", "--split-seed", 0, *typed, "--quiet", "--out", tmp_path)
            expected = mrgp.preprocess(split[1], reference=split[0], **steps)
            np.testing.assert_array_equal(scored[1].values, expected.values)


WRONG = [
    (["--split-seed", "0", "--train", "x.nc"], MISUSED, "--split-seed and --train each say which trials"),
    (["--test-trials", "4"], MISUSED, "'4' is not START:STOP"),
    (["--test-trials", "6:4"], MISUSED, "'6:4' is not START:STOP"),
    (["--test-trials", ":"], MISUSED, "':' is not START:STOP"),
    (["--test-trials", "-3:"], MISUSED, "--test-trials: expected one argument"),
    (["--held-out", "1"], MISUSED, "'1' is not a probability between 0 and 1"),
    (["--masks", "0"], MISUSED, "--masks"),
    (["--test-trials", "10:99"], FAILED, "--test-trials must name some, not all, of the recording's 16 trials"),
    (["--test-trials", "0:16"], FAILED, "--test-trials must name some, not all"),
    (["--condition", "speed", "--split-seed", "0"], FAILED, "trials have no coordinate 'speed'"),
    (["--truth", "absent.nc"], FAILED, "there is no file absent.nc"),
    (["--train", "absent.nc"], FAILED, "there is no file absent.nc"),
    (["--regions", "V2,V1"], FAILED, "but the fit is of"),
]


@pytest.mark.parametrize(("options", "expected", "message"), WRONG)
def test_wrong_use_is_said_in_a_sentence(run, files, tmp_path, options, expected, message):
    code, _, err = run("evaluate", files / "fit.nc", files / "all.nc", "--out", tmp_path / "out", *options)
    assert (code, len(err.splitlines())) == (expected, 1)
    assert message in err
    assert not (tmp_path / "out" / "summary.json").exists()


def test_files_that_are_no_fit_or_run(run, files, tmp_path):
    code, _, err = run("evaluate", files / "absent.nc", files / "all.nc", "--out", tmp_path)
    assert (code, "there is no file" in err) == (FAILED, True)
    code, _, err = run("evaluate", files / "all.nc", files / "all.nc", "--out", tmp_path)
    assert (code, "is not a fit saved by this version" in err) == (FAILED, True)
    code, _, err = run("evaluate", files / "fit.nc", files / "all.nc", "--truth", files / "all.nc", "--out", tmp_path)
    assert (code, "all.nc has neither loadings nor latents or rates" in err) == (FAILED, True)
    code, _, err = run("aggregate", tmp_path / "absent", "--out", tmp_path)
    assert (code, "there is no folder" in err) == (FAILED, True)
    assert run("aggregate", "--out", tmp_path)[0] == MISUSED
