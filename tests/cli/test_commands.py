"""The command line as a new user meets it: every flag right and wrong, unusable files, a run that is stopped."""

import inspect
import json
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

import mrgp
from mrgp.cli import catalogue, make_catalogue
from mrgp.cli import main as cli
from mrgp.cli.argument_types import width
from mrgp.cli.catalogue import KERNELS, MEANT_FOR, OF_METHODS
from mrgp.cli.evaluate import read_truth
from mrgp.cli.main import build_parser
from mrgp.cli.recordings import NETWORKS
from mrgp.inference.optimise import Objective
from mrgp.part import rebuilt
from mrgp.recordings.readers.public import fetch_v1v2
from mrgp.results.gaussian_process_fit import GaussianProcessFit
from mrgp.simulations.scenarios import SCENARIOS
from mrgp.simulations.simulate import simulate

DONE, FAILED, MISUSED = 0, 1, 2
FIT = ["fit", "x.npz", "--n-across", "1", "--model"]
FREE = ["fit", "x.npz", "--model", "neuralode", "--out", "o"]
MODEL = ["--n-across", "1", "--n-within", "1,0"]
QUICK = ["--n-starts", "1", "--no-figures", "--no-intervals"]
BRIEF = [*QUICK, "--max-iterations", "3", "--quiet"]


@pytest.fixture(scope="module")
def arrays():
    """A small recording of two regions as plain arrays, 8 trials x 20 bins."""
    counts = {"n_across": 1, "n_within": (1, 0), "n_trials": 8, "n_bins": 20}
    drawn = simulate(regions={"V1": 6, "V2": 5}, delay=[[0], [0.03]], **counts)
    return {name: drawn.data.region(name).copy() for name in ("V1", "V2")}


@pytest.fixture
def save(arrays, tmp_path):
    """Write the small recording, with some of its arrays changed, and return the path."""

    def save(name="recording.npz", bin_width=0.02, **changed):
        np.savez(tmp_path / name, bin_width=bin_width, **(arrays | changed))
        return tmp_path / name

    return save


def sentence(err):
    """The one sentence of an error, after notes."""
    *notes, last = err.strip().splitlines()
    assert all(note.startswith("mrgp: note: ") for note in notes)
    assert last.startswith("mrgp: ")
    assert not last.startswith("mrgp: note")
    return last


# --- help and wrong use


COMMANDS = ["demo", "fetch", "simulate", "fit", "evaluate", "cv", "calibrate", "aggregate", "report"]
RESULTS = ["fit.nc", "report.json", "run.json", "summary.json"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_explains_every_option(run, command):
    code, out, err = run(*command, "--help")
    assert (code, err) == (DONE, "")
    assert max(map(len, out.splitlines())) <= 100
    parser = build_parser()
    if command:
        parser = parser._subparsers._group_actions[0].choices[command[0]]
    assert [action.dest for action in parser._actions if not action.help] == ([] if command else ["command"])


def test_defaults_are_those_of_the_library():
    parser = build_parser()
    unsaid = {*MEANT_FOR, *OF_METHODS, "method", "n_starts", "tolerance"} - {"n_across"}
    typed = vars(parser.parse_args(["fit", "x.npz", "--n-across", "1", "--out", "o"]))
    taken = {name: p.default for name, p in inspect.signature(mrgp.models.DLAG.fit).parameters.items()}
    for name in ("seed", "max_iterations"):
        assert typed[name] == taken[name]
    assert [typed[name] for name in unsaid] == [None] * len(unsaid)
    # What help says of the others, which are left to the library.
    helps = " ".join(a.help for a in parser._subparsers._group_actions[0].choices["fit"]._actions).split("(")
    adm, mdlag = mrgp.models.ADM(), mrgp.models.MDLAG()
    said = [adm.likelihood.written_name(), adm.lift, f"{adm.order}", f"{adm.gp_noise}", f"{mdlag.loadings.rate:g}"]
    said += [str(taken["n_starts"]), str(taken["tolerance"]), mrgp.models.LDS().start.written_name()]
    assert [word for word in said if not any(part.startswith(word) for part in helps)] == []
    assert all(issubclass(getattr(mrgp, name), mrgp.Kernel) for name in KERNELS.values())


def test_the_size_of_a_model_comes_first():
    """As in README: no field of a family is before it."""
    firsts = {name: next(iter(inspect.signature(getattr(mrgp.models, cls)).parameters)) for name, cls in
        catalogue.CLASSES.items()}  # fmt: skip
    others = {"coupledlds": "n_within", "lfads": "n_factors", "mrlfads": "n_factors", "neuralode": "n_latents"}
    others |= {"switchinglds": "n_states"}
    assert firsts == dict.fromkeys(MEANT_FOR["n_across"], "n_across") | others


def test_catalogue_is_what_the_classes_say():
    """After a change of models, kernels or methods, run `python -m mrgp.cli.make_catalogue`."""
    assert Path(catalogue.__file__).read_text() == make_catalogue.catalogue()


def test_questions_and_wrong_use_wait_for_no_library():
    """In a process of its own: none of what takes seconds to import is."""
    asked = [["fit", "--help"], ["fit", "x", *MODEL, "--out", "o", "--method", "em"], ["fit", "x", "--seed", "x"]]
    asked += [["calibrate", "--help"], ["evaluate", "--help"], ["cv", "--help"]]
    script = f"from mrgp.cli.main import main; print(*map(main, {asked}))\nimport sys; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0 2 2 0 0 0", "False"]


NUMBERS = {
    "--n-across": ["-1", "1.5", "many", "", "nan", "1e3"],
    "--n-within": ["-1", "a", "1,", "1,-1", "1,x", "0.5"],
    "--max-delay": ["0", "-0.1", "nan", "inf", "soon"],
    "--gp-noise": ["0", "-1", "nan", "x"],
    "--order": ["1", "7", "x"],
    "--bin-width": ["0", "-0.02", "nan", "inf", "20mV", "-20ms", "0s", "s"],
    "--n-neurons": ["0,3", "a", "3,"],
    "--regions": ["V1,", "", "V1,V1"],
    "--seed": ["-1", "x", "0.5"],
    "--n-starts": ["0", "-1", "x"],
    "--tolerance": ["0", "-1", "nan", "x"],
    "--max-iterations": ["0", "-1", "1e3"],
    "--model": ["plds", ""],
    "--method": ["gibbs", "em", "vb"],
    "--lift": ["companion"],
    "--fixed": ["delay", "=0", "delay=", "delay=x", "delay=nan", "delay=inf"],
    "--timescale-bounds": ["1", "0.1,0.1", "1,0.1", "0,1", "a,b", "1,2,3"],
    "--delay-timescale": ["0", "0.2"],
    "--typical-spread": ["-1", "0.02"],
    "--relevance-shape": ["0", "1"],
    "--relevance-rate": ["x", "1"],
    "--start-state": ["stationary", "cold"],
    "--kernel": ["cubic"],
    "--likelihood": ["exact"],
}


def test_widths_of_bins_may_have_a_unit(tmp_path, run):
    assert [width("0.02"), width("20ms"), width("1 min")] == [0.02, "20ms", "1 min"]
    drawn = tmp_path / "drawn.nc"
    small = ["--model", "fa", "--neurons", "2,2", "--n-across", "1", "--n-trials", "2", "--n-bins", "3"]
    code, out, _ = run("simulate", *small, "--bin-width", "1min", "--out", str(drawn))
    assert code == 0
    assert "2 trials x 3 bins of 60000 ms" in out
    assert mrgp.load_recording(drawn).bin_width == 60.0
    code, _, err = run("simulate", *small, "--bin-width", "60", "--out", str(drawn))
    assert code == MISUSED
    assert "or name their unit, --bin-width 60s, if they are meant" in err


@pytest.mark.parametrize(("flag", "value"), [(flag, value) for flag, values in NUMBERS.items() for value in values])
def test_wrong_values_are_refused_before_anything_is_read(run, flag, value):
    code, out, err = run("fit", "absent.npz", *MODEL, "--out", "absent", flag, value)
    assert (code, out) == (MISUSED, "")
    assert flag in sentence(err)
    assert "mrgp fit --help" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["predict"], "invalid choice: 'predict'"),
        (["fit"], "required: FILE, --out"),
        (["fit", "x.npz", *MODEL], "required: --out"),
        (["fit", "x.npz", "--out", "o"], "required: --n-across"),
        (["fit", "x.npz", *MODEL, "--out"], "--out: expected one argument"),
        (["fit", "x.npz", *MODEL, "--out", "o", "--n-start", "3"], "unrecognized arguments: --n-start 3"),
        (["demo", "more"], "unrecognized arguments: more (see mrgp demo --help)"),
        (["demo", "--seed", "x"], "--seed: 'x' is not a whole number, 0 or more"),
        (["fit", "x.npz", "--n-across", "1", "--out", "o"], "dlag needs --n-within"),
        (["fit", "x.npz", "--model", "switchinglds", "--most-populations", "3", "--out", "o"],
         "--most-populations is of --populations unknown: add it, or leave both out"),
        (["fit", "x.npz", "--model", "coupledlds", "--populations", "unknown", "--out", "o"],
         "--populations is not for coupledlds, but for switchinglds: leave it out"),
        ([*FIT, "adm", "--out", "o"], "adm needs --n-within"),
        ([*FIT, "gpfa", "--out", "o", "--n-within", "1,0"], "gpfa has no latents private to a region"),
        ([*FIT, "fa", "--out", "o", "--kernel", "matern12"], "--kernel is not for fa, but for dlag, adm, mdlag, gpfa"),
        ([*FIT, "lds", "--out", "o", "--likelihood", "dense"], "--likelihood is not for lds"),
        ([*FIT, "adm", "--out", "o", "--n-within", "0", "--lift", "ar"], "--lift is not for adm"),
        ([*FIT, "gfa", "--out", "o", "--method", "em"], "--method em is not for gfa: it has vb, map"),
        ([*FIT, "gfa", "--out", "o", "--fixed", "noise=1"], "--method vb infers noise"),
        ([*FIT, "lds", "--out", "o", "--method", "em", "--fixed", "noise=1"], "em updates every parameter"),
        ([*FIT, "fa", "--out", "o", "--fixed", "noise=1", "--fixed", "noise=2"], "--fixed gives noise two values"),
        ([*FIT, "fa", "--out", "o", "--start", "x.nc", "--n-starts", "2"], "--n-starts is of the search"),
        ([*FIT, "lfads", "--out", "o"], "--n-across is not for lfads, but for dlag, adm, mdlag"),
        ([*FIT, "fa", "--out", "o", "--n-factors", "2"], "--n-factors is not for fa, but for lfads"),
        ([*FIT, "fa", "--out", "o", "--batch-size", "2"], "--batch-size is of --method svi and amortised_svi, not"),
        ([*FREE, "--n-starts", "2"], "--n-starts has no effect on --method amortised_svi, which neuralode is"),
        ([*FREE, "--tolerance", "0.1"], "--tolerance has no effect on --method amortised_svi"),
        ([*FREE, "--fixed", "noise=1"], "amortised_svi updates every parameter"),
        ([*FREE, "--max-iterations", "9"], "--max-iterations 9 ends within the --warm-up of 50: change one of them"),
        ([*FREE, "--n-latents", "0"], "--n-latents: '0' is not a whole number, 1 or more"),
        (["cv", "x.npz", "--model", "lfads", "--out", "o"], "choose its sizes in Python by mrgp.tune"),
        (["cv", "x.npz", "--model", "switchinglds", "--out", "o"], "give the candidates, such as --n-states 1,2,3"),
        (["calibrate", "--model", "switchinglds", "--out", "o"], "switchinglds has no delays or timescales with a"),
        (["calibrate", "--model", "gpvae", "--out", "o"], "check these in Python by mrgp.calibrate_latents"),
        (["cv", "x.npz", "--model", "ctae", "--out", "o"], "mrgp.cross_validate(..., score=mrgp.metrics.hidden_log_"),
        (["calibrate", "--model", "ctae", "--out", "o"], "ctae has no posterior to calibrate: compare its latents"),
        (["simulate", "--model", "ctae", "--out", "x.npz"], "ctae reads latents from values and draws none"),
        ([*FIT, "ctae", "--refinement", "2", "--n-within", "1", "--out", "o"], "--refinement is not for ctae"),
        (["fetch"], "required: name"),
        (["fetch", "v9"], "invalid choice: 'v9'"),
        (["fetch", "v1v2", "--out", "x.csv"], "cannot write x.csv: give --out a path that ends in .npz, .nc or .zarr"),
        (["simulate"], "simulate needs --out FILE and SCENARIO"),
        (["simulate", "demo"], "simulate needs --out FILE and SCENARIO"),
        (["simulate", "demo", "--out", "x.mat"], "cannot write x.mat"),
        (["simulate", "--model", "lds"], "or --model NAME, --network NAME or --fit FIT.nc"),
        (["simulate", "--model", "plds", "--out", "x.npz"], "invalid choice: 'plds'"),
        (["simulate", "--emission", "poisson", "--out", "x.npz"], "--emission is of a model: give --model NAME, or"),
        (["simulate", "demo", "--neurons", "3", "--out", "x.npz"], "--neurons is of a model: give --model NAME, or"),
        (["simulate", "demo", "--model", "lds", "--out", "x.npz"], "scenario demo has a model of its own"),
        (["simulate", "demo", "--network", "memory_ring", "--out", "x.npz"], "scenario demo says what is drawn"),
        (["simulate", "--model", "lds", "--network", "memory_ring"], "--model lds says what is drawn"),
        (["simulate", "--network", "ring", "--out", "x.npz"], "invalid choice: 'ring'"),
        (["simulate", "--network", "memory_ring", "--n-bins", "3", "--out", "x.npz"], "n_bins is 3"),
        (["simulate", "--network", "memory_ring"], "--network NAME"),
        (["simulate", "--model", "lds", "--noise", "ar1", "--out", "x.npz"], "--noise is not for lds"),
        (["simulate", "--model", "fa", "--n-within", "1", "--out", "x.npz"], "fa has no latents private to a region"),
        (["simulate", "--model", "fa", "--mean-timescale", "1", "--out", "x.nc"], "--mean-timescale is of --mean psth"),
        (["simulate", "--model", "dlag", "--n-within", "1,1,1", "--out", "x.npz"], "--n-within 1,1,1 is for 3 regions"),
        (["simulate", "--model", "gpfa", "--hold-max-delay", "--out", "x.npz"], "unrecognized arguments"),
        (["simulate", "--model", "lfads", "--out", "x.npz"], "fit it, and give --fit FIT.nc instead of --model"),
        (["simulate", "--fit", "x.nc", "--model", "lds", "--out", "x.npz"], "draws from a fit as it is: leave --model"),
        (["simulate", "demo", "--fit", "x.nc", "--out", "x.npz"], "leave scenario demo out"),
        (["simulate", "--fit", "x.nc", "--snr", "2", "--out", "x.npz"], "leave --snr out"),
        (["simulate", "other", "--out", "x.npz"], "there is no scenario 'other': choose from dlag, dlag_ssm"),
        (["simulate", "demo", "--out", "x.npz", "--n-trials", "0"], "--n-trials: '0' is not a whole number, 1 or more"),
        (["simulate", "demo", "--out", "x.npz", "--n-bins", "x"], "--n-bins"),
        (["simulate", "demo", "--out", "x.npz", "--n-bins", "1000000"], "too long to draw exactly"),
        (["simulate", "demo", "--out", "x.npz", "--seed", "-1"], "--seed"),
    ],
)
def test_wrong_use(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (MISUSED, "")
    assert message in sentence(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*MODEL, "--fixed", "delays=0"], "--fixed: DLAG has no site 'delays' to fix; it has timescale"),
        (
            [*MODEL, "--fixed", "delay=1"],
            "--fixed delay has values that the site cannot take: it is between -0.1 and 0.1, or widen --max-delay",
        ),
        (
            ["--n-across", "1", "--model", "mdlag", "--method", "map"],
            "use --method vb, or --relevance-shape near 1 and --relevance-rate near the recording's",
        ),
        (["--n-across", "0", "--n-within", "0"], "--n-across and --n-within count latents; they cannot be"),
        (["--n-across", "1", "--n-within", "1,1,1"], "--n-within 1,1,1 is for 3 regions, but the recording has 2 (V1"),
        (["--n-across", "2", "--n-within", "9,1"], "12 latents for 11 neurons: lower --n-across or --n-within"),
        (["--n-across", "1000000000000", "--n-within", "0"], "1000000000000 latents for 11 neurons"),
        ([*MODEL, "--max-delay", "100"], "--max-delay 100 is not shorter than the trials, 0.4 s: give it in seconds"),
        ([*MODEL, "--gp-noise", "1"], "--gp-noise is a share of variance between 0 and 1, not 1.0"),
    ],
)
def test_models_that_do_not_suit_the_recording(run, save, tmp_path, arguments, message):
    code, out, err = run("fit", save(), "--out", tmp_path / "out", *arguments)
    assert (code, out) == (MISUSED, "")
    assert message in sentence(err)
    assert not (tmp_path / "out").exists()


# --- unusable recordings and folders


def dead(array):
    """The same with neuron 2 silent."""
    return np.where(np.arange(array.shape[-1]) == 2, 0.0, array)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npz", None, "there is no file"),
        ("spikes.csv", b"1,2,3", "of an unknown kind: recordings are .npz, .npy, .nc, .zarr, .mat or .nwb files"),
        ("noise.npz", b"no archive", "noise.npz is damaged"),
        ("noise.nc", b"no archive", "noise.nc is damaged"),
        ("noise.mat", b"no archive", "noise.mat is damaged"),
    ],
)
def test_files_that_are_no_recording(run, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, out, err = run("fit", tmp_path / name, *MODEL, "--out", tmp_path / "out")
    assert (code, out) == (FAILED, "")
    assert message in sentence(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda V1, V2: {"V2": dead(V2)}, [], "region V2, neuron 2: dead, the same value in every observed bin"),
        (lambda V1, V2: {"V2": np.where(dead(V2) == 0, np.nan, V2)}, [], "region V2, neuron 2: never observed"),
        (lambda V1, V2: {"V1": V1 / dead(np.ones_like(V1))}, [], "region V1, neuron 2: infinite value in trial 0"),
        (lambda V1, V2: {"V2": V2[1:]}, [], "region V2 has 7 trials but region V1 has 8"),
        (lambda V1, V2: {"V2": V2[0]}, [], "make it (trials, bins, neurons)"),
        (lambda V1, V2: {"bin_width": -0.02}, [], "bin_width is"),
        (lambda V1, V2: {}, ["--regions", "V1,V9"], "no region 'V9': choose from V1, V2"),
        (lambda V1, V2: {}, ["--regions", "V1"], "DLAG compares regions; this recording has only one (V1)"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_recordings_that_cannot_be_fitted(run, save, arrays, tmp_path, change, options, message):
    path = save(**change(**arrays))
    within = ["--n-across", "1", "--n-within", "0"]
    code, out, err = run("fit", path, *within, "--out", tmp_path / "out", *options)
    assert (code, out) == (FAILED, "")
    assert message in sentence(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", [[], ["deeper", "still"]])
def test_a_folder_that_cannot_be_written_is_found_before_the_fit(run, save, tmp_path, monkeypatch, below):
    monkeypatch.setattr(mrgp.models.DLAG, "fit", lambda *_, **__: pytest.fail("the fit was started"))
    (tmp_path / "file").write_text("kept")
    out = (tmp_path / "file").joinpath(*below)
    for arguments in (["fit", save(), *MODEL, "--out", out], ["demo", "--out", out]):
        code, printed, err = run(*arguments)
        assert (code, printed) == (FAILED, "")
        assert f"cannot write into folder {out} (" in sentence(err)
        assert "choose another --out" in err
    code, _, err = run("simulate", "demo", "--out", tmp_path / "absent" / "x.npz")
    assert code == FAILED
    assert "cannot write x.npz into folder" in sentence(err)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 1 TB")])
def test_want_of_memory_is_named(run, save, tmp_path, monkeypatch, error):
    def fit(*_, **__):
        raise error

    monkeypatch.setattr(mrgp.models.DLAG, "fit", fit)
    code, _, err = run("fit", save(), *MODEL, "--out", tmp_path / "out")
    assert code == FAILED
    assert "out of memory" in sentence(err)


def test_a_fault_of_the_program_stands_in_the_record(run, save, tmp_path, monkeypatch):
    """It is shown whole, and a report does not take the run for one that goes on."""
    def fit(*_, **__):
        raise RuntimeError("an odd thing")

    monkeypatch.setattr(mrgp.models.DLAG, "fit", fit)
    with pytest.raises(RuntimeError, match="an odd thing"):
        run("fit", save(), *MODEL, "--out", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    assert told["failure"] == "a fault of the program, RuntimeError: an odd thing"
    assert told["ended"]


def test_numbers_beyond_reason_fail(run, save, tmp_path):
    huge = {"V1": np.random.default_rng(0).standard_normal((8, 20, 6)) * 1e200}
    code, _, err = run("fit", save(**huge), *MODEL, "--out", tmp_path / "out", *BRIEF)
    assert code == FAILED
    assert "recording.npz are too large or too small: check its units" in sentence(err)
    assert not (tmp_path / "out" / "fit.nc").exists()


# --- what works


def test_simulate_fit_and_load(run, tmp_path, monkeypatch):
    monkeypatch.setitem(SCENARIOS, "demo", SCENARIOS["demo"] | {"regions": {"V1": 6, "V2": 5}})
    recording, out = tmp_path / "small.nc", tmp_path / "deep" / "out"
    code, printed, err = run("simulate", "demo", "--out", recording, "--seed", 3, "--n-trials", 8, "--n-bins", 20)
    assert (code, err) == (DONE, "")
    assert "8 trials x 20 bins of 20 ms" in printed
    assert "small_truth.nc" in printed
    truth, data = xr.load_dataset(tmp_path / "small_truth.nc"), mrgp.load_recording(recording)
    assert truth.attrs["seed"] == 3

    options = ["--n-starts", 1, "--no-figures", "--max-delay", 0.1]
    code, printed, err = run("fit", recording, *MODEL, *options, "--out", out)
    assert (code, err) == (DONE, "")
    assert sorted(path.name for path in out.iterdir()) == RESULTS
    told = json.loads((out / "run.json").read_text())
    assert [own["digest"] for own in told["read"]] == [data.fingerprint]
    assert (told["failure"], told["command"].split()[:2]) == ("", ["mrgp", "fit"])
    assert json.loads((out / "report.json").read_text())["lights"][0]["name"] == "Convergence"
    summary, fit = json.loads((out / "summary.json").read_text()), mrgp.load_fit(out / "fit.nc")
    assert summary["model"] == "dlag"
    assert (summary["settings"]["n_across"], summary["settings"]["n_within"]) == (1, [1, 0])
    assert summary["regions"] == ["V1", "V2"]
    assert summary["converged"] is True
    assert summary["iterations"] == len(fit.trace) - 1  # the trace begins with the start
    assert summary["wall_s"] > 0
    assert {"mrgp", "jax", "numpyro", "arviz"} <= summary["versions"].keys()
    assert summary["log_likelihood"] == pytest.approx(float(fit.log_likelihood(data).sum()), abs=1e-6)
    np.testing.assert_array_equal(summary["delays"], fit.delays.values)
    np.testing.assert_array_equal(summary["timescales"]["across"], fit.timescales["across"].values)
    assert summary["within_latents"] == ["V1:0"]
    bounds = fit.delay_intervals(0.9)   # from the curvature in the file: no recording is needed
    np.testing.assert_allclose(summary["delay_intervals"]["lower"], bounds["lower"])
    np.testing.assert_allclose(summary["delay_intervals"]["upper"], bounds["upper"])
    delay, lower, upper = (1e3 * float(bounds[name][1, 0]) for name in ("delay", "lower", "upper"))
    code, drawn, err = run("simulate", "--fit", out / "fit.nc", "--n-trials", 3, "--out", tmp_path / "drawn.npz")
    assert (code, err) == (DONE, "")
    assert "3 trials x 20 bins of 20 ms" in drawn
    truth = read_truth(tmp_path / "drawn_truth.nc")
    np.testing.assert_allclose(truth["delay"], fit.delays)
    assert truth["across"].shape == (3, 20, 1)
    row = next(line for line in printed.splitlines() if line.split()[:1] == ["0"])
    assert row.endswith("V2 lags V1" if lower > 0 else "V2 leads V1" if upper < 0 else "unclear")
    assert f"{delay:+.1f}" in row
    assert f"{lower:+.1f} to {upper:+.1f}" in row
    assert str(out) in printed


def interrupt(monkeypatch, evaluation, searching):
    """Press Ctrl-C at an evaluation of the search for a start, or of the climb itself."""
    original, seen = Objective.__call__, []

    def evaluate(self, x):
        if bool(self.frozen) == searching:
            seen.append(1)
        if len(seen) == evaluation and bool(self.frozen) == searching:
            raise KeyboardInterrupt
        return original(self, x)

    monkeypatch.setattr(Objective, "__call__", evaluate)


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_same_command(run, save, tmp_path):
    path, out = save(), tmp_path / "out"
    command = ["fit", path, *MODEL, *QUICK, "--max-delay", 0.1, "--out", out]
    checkpoint = ["fit.checkpoint.npz"]
    for searching, evaluation, kept in ((True, 4, []), (False, 1, checkpoint), (False, 6, checkpoint)):
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, evaluation, searching)
            code, _, err = run(*command)
        assert code == FAILED
        assert "interrupted" in sentence(err)
        assert "the same command" in err
        assert len(err.splitlines()) == 1
        assert sorted(file.name for file in out.iterdir()) == [*kept, "run.json"]
    assert str(out / kept[0]) in err

    code, _, err = run("fit", path, "--n-across", 2, "--n-within", 1, *QUICK, "--out", out)
    assert code == FAILED
    assert "belongs to another model, recording or version of mrgp: remove it to start afresh" in sentence(err)

    code, printed, err = run(*command)
    assert (code, err) == (DONE, "")
    assert f"going on from {out / 'fit.checkpoint.npz'}" in printed
    assert sorted(file.name for file in out.iterdir()) == RESULTS
    resumed = json.loads((out / "summary.json").read_text())
    run(*command[:-1], tmp_path / "straight")
    straight = json.loads((tmp_path / "straight" / "summary.json").read_text())
    assert resumed["converged"]
    assert resumed["log_joint"] == pytest.approx(straight["log_joint"], abs=0.05)   # both end within 0.01 of the top
    assert "delay_intervals" not in resumed


def test_stopped_after_the_fit_what_is_done_is_kept(run, save, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(GaussianProcessFit, "delay_intervals", stop)
    command = ["fit", save(), *MODEL, "--n-starts", 1, "--max-delay", 0.1, "--out", tmp_path / "out"]
    code, _, err = run(*command)
    assert code == FAILED
    assert "interrupted after the fit" in sentence(err)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["fit.nc", "run.json", "summary.json"]
    assert mrgp.load_fit(tmp_path / "out" / "fit.nc").converged


def holes(array):
    """The same with a block missing, and a trial that ends early."""
    array = array.copy()
    array[:3, 5:9, 1] = np.nan
    array[4, 15:] = np.nan
    return array


EVERY = {
    "adm": ["--n-within", "0", "--delay-timescale", "0.1", "--typical-spread", "0.01", "--timescale-bounds", "0.01,1"],
    "mdlag": ["--fixed", "delay=0", "--likelihood", "spectral"],
    "lds": ["--method", "em", "--start-state", "learned"],
    "fa": [],
    "pcca": ["--n-within", "1"],
    "gfa": ["--relevance-shape", "1", "--relevance-rate", "1", "--method", "map"],
}


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=() if name == "fa" else pytest.mark.slow) for name in EVERY]
)
def test_every_model_is_fitted_and_says_what_it_has(run, save, tmp_path, model):
    brief = ["--n-starts", "1", "--no-figures", "--no-intervals", "--max-iterations", "3"]
    code, out, _ = run("fit", save(), "--model", model, "--n-across", 1, "--out", tmp_path, *brief, *EVERY[model])
    assert code == DONE
    summary, fit = json.loads((tmp_path / "summary.json").read_text()), mrgp.load_fit(tmp_path / "fit.nc")
    assert summary["model"] == model
    assert ("delay (ms)" in out) == ("delays" in summary) == (model in ("adm", "mdlag"))
    assert ("% of V1" in out) == ("shared_variance" in summary) == (model in ("mdlag", "gfa"))
    assert ("white" in out) == (not summary["timescales"]) == (model in ("fa", "pcca", "gfa"))
    assert ("bound of log p(y)" in out) == ("bound" in summary) == (fit.method == "vb")
    assert (summary["log_joint"] is None) == (fit.method != "map")
    if model == "adm":
        assert (fit.model.delay_timescale, fit.model.typical_spread) == (0.1, 0.01)
        assert fit.model.timescale_bounds == (0.01, 1)
        course = fit.delays[1, 0]
        np.testing.assert_allclose(summary["delays_over_time"]["mean"][1][0], course.mean())
        assert f"{1e3 * float(course.min()):+.1f}, {1e3 * float(course.max()):+.1f}" in out
        assert "mean delay (ms)" in out
    if model == "mdlag":
        assert (summary["fixed"], summary["delays"], fit.method) == (["delay"], [[0.0], [0.0]], "vb")
        assert fit.model.likelihood.is_spectral
    if model == "lds":
        assert (fit.model.start.written_name(), fit.method) == ("learned", "em")
    if model == "gfa":
        assert (fit.model.loadings.shape, fit.model.loadings.rate, fit.method) == (1.0, 1.0, "map")


LEARNED = {
    "lfads": ["--n-factors", 3, "--n-states", 4, "--n-inputs", 1, "--n-initial", 4, "--dynamics", "gru"],
    "neuralode": ["--n-latents", 2, "--emission", "negative_binomial", "--refinement", 2],
}


@pytest.fixture
def waves(save):
    """A recording of counts whose rates follow a wave that starts anywhere, 24 trials x 20 bins."""
    rng = np.random.default_rng(0)
    wave = np.sin(np.arange(20) / 3 + rng.uniform(0, 6, (24, 1)))[..., None]
    return save(**{name: rng.poisson(np.exp(wave * rng.normal(0, 0.7, n))) for name, n in (("V1", 6), ("V2", 5))})


@pytest.mark.slow
@pytest.mark.parametrize("model", LEARNED)
def test_models_with_networks_are_fitted_and_evaluated(run, waves, tmp_path, model):
    out = tmp_path / "out"
    brief = ["--max-iterations", 60, "--warm-up", 5, "--batch-size", 4, "--no-figures", "--test-trials", "20:24"]
    code, printed, err = run("fit", waves, "--model", model, *LEARNED[model], *brief, "--out", out)
    assert code == DONE, err
    assert "stopped after 60 iterations" in err
    assert "NOT converged after 60 iterations" in printed
    summary, fit = json.loads((out / "summary.json").read_text()), mrgp.load_fit(out / "fit.nc")
    assert (summary["model"], fit.method) == (model, "amortised_svi")
    assert type(fit.model).__name__ == catalogue.CLASSES[model]
    data = mrgp.load_recording(waves).select_trials(slice(20))
    assert summary["log_likelihood"] == pytest.approx(float(fit.log_likelihood(data).sum()), rel=1e-6)
    if model == "lfads":
        assert (fit.model.n_states, fit.model.n_inputs, fit.model.dynamics.written_name()) == (4, 1, "gru")
        assert fit.model.emission.written_name() == "poisson"
    else:
        assert (fit.model.n_latents, fit.model.refinement) == (2, 2)
        assert fit.model.emission.written_name() == "negative_binomial"
    brief = ["--test-trials", "20:24", "--masks", 1, "--out", tmp_path / "test"]
    code, printed, err = run("evaluate", out / "fit.nc", waves, *brief)
    assert code == DONE, err
    scores = json.loads((tmp_path / "test" / "summary.json").read_text())
    assert scores["kind"] == "evaluation"
    assert "4 trials that the fit has not seen" in printed
    predictors = xr.load_dataset(tmp_path / "test" / "evaluation.nc", group="cosmoothing")["predictor"].values
    assert predictors[0] == catalogue.CLASSES[model]
    assert len(predictors) > 2
    code, printed, err = run("simulate", "--fit", out / "fit.nc", "--n-trials", 3, "--out", tmp_path / "drawn.nc")
    assert (code, err) == (DONE, "")
    truth, made = xr.load_dataset(tmp_path / "drawn_truth.nc"), mrgp.load_recording(tmp_path / "drawn.nc")
    assert truth["eta"].shape == made.values.shape == (3, 20, 11)
    assert truth["initial"].sizes["trial"] == 3


@pytest.mark.slow
def test_switching_dynamics_are_fitted_evaluated_and_drawn(run, waves, tmp_path):
    out = tmp_path / "out"
    sizes = ["--n-states", 2, "--n-within", "2,1", "--no-recurrent", "--emission", "poisson"]
    brief = ["--max-iterations", 20, "--n-starts", 2, "--test-trials", "20:24"]
    code, printed, err = run("fit", waves, "--model", "switchinglds", *sizes, *brief, "--out", out)
    assert code == DONE, err
    assert "NOT converged after 20 iterations" in printed
    summary, fit = json.loads((out / "summary.json").read_text()), mrgp.load_fit(out / "fit.nc")
    assert (summary["model"], fit.method) == ("switchinglds", "variational_em")
    assert (fit.model.n_states, fit.model.n_within, fit.model.recurrent) == (2, (2, 1), False)
    data = mrgp.load_recording(waves).select_trials(slice(20))
    assert summary["log_likelihood"] == pytest.approx(float(fit.log_likelihood(data).sum()), rel=1e-6)
    assert (out / "states.png").is_file()
    brief = ["--test-trials", "20:24", "--masks", 1, "--out", tmp_path / "test"]
    code, printed, err = run("evaluate", out / "fit.nc", waves, *brief)
    assert code == DONE, err
    assert "4 trials that the fit has not seen" in printed
    code, printed, err = run("simulate", "--fit", out / "fit.nc", "--n-trials", 3, "--out", tmp_path / "drawn.nc")
    assert (code, err) == (DONE, "")
    truth = xr.load_dataset(tmp_path / "drawn_truth.nc")
    assert truth["hidden_states"].shape == (3, 20)


def test_a_fit_goes_on_from_another(run, save, tmp_path):
    common = ["fit", save(), "--model", "fa", "--n-across", 1, "--no-figures", "--quiet"]
    assert run(*common, "--out", tmp_path / "a", "--n-starts", 1)[0] == DONE
    assert run(*common, "--out", tmp_path / "b", "--start", tmp_path / "a" / "fit.nc")[0] == DONE
    before, after = (json.loads((tmp_path / name / "summary.json").read_text())["log_joint"] for name in "ab")
    assert after == pytest.approx(before, abs=0.05)
    assert run(*common, "--out", tmp_path / "z", "--n-starts", 1, "--zscore")[0] == DONE
    # A start is a start, whatever was done to its own recording.
    assert run(*common, "--out", tmp_path / "after", "--start", tmp_path / "z" / "fit.nc")[0] == DONE
    again = json.loads((tmp_path / "after" / "summary.json").read_text())
    assert again["preprocessing"] == json.loads((tmp_path / "b" / "summary.json").read_text())["preprocessing"]
    assert again["log_joint"] == pytest.approx(before, abs=0.05)
    code, _, err = run(*common, "--out", tmp_path / "c", "--start", tmp_path / "absent.nc")
    assert (code, "there is no file" in sentence(err)) == (FAILED, True)
    code, _, err = run(*common[:-3], 2, *common[-2:], "--out", tmp_path / "c", "--start", tmp_path / "a" / "fit.nc")
    assert (code, "fit a model with the same latents" in sentence(err)) == (FAILED, True)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        pytest.param(
            lambda V1, V2: {"V1": V1[:1], "V2": V2[:1], "bin_width": 0.001}, [], marks=pytest.mark.slow
        ),
        (lambda V1, V2: {"V1": holes(V1), "V2": holes(dead(V2))}, ["--bin-width", "0.1", "--drop-dead"]),
        pytest.param(
            lambda V1, V2: {"V2": V2[..., :1]}, ["--n-across", "2", "--n-within", "2,1", "--likelihood", "dense"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda V1, V2: {},
            ["--model", "gpfa", "--n-within", "0", "--regions", "V2,V1", "--kernel", "matern32"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["one-trial-1ms", "missing-dead-100ms", "more-latents-than-neurons", "gpfa"],
)  # fmt: skip
@pytest.mark.slow
def test_unusual_recordings_are_fitted(run, save, arrays, tmp_path, change, options):
    changed = {"bin_width": 0.02} | change(**arrays)
    code, out, err = run("fit", save(**changed), *MODEL, "--out", tmp_path / "out", *BRIEF, *options)
    assert (code, out) == (DONE, "")
    notes = err.splitlines()
    assert len(set(notes)) == len(notes)
    assert all(note.startswith("mrgp: note: ") for note in notes)
    assert "mrgp: note: the fit has not converged: stopped after 3 iterations" in notes
    assert ("mrgp: note: left out as dead: region V2, neuron 2" in notes) == ("--drop-dead" in options)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["converged"] is False
    assert np.isfinite(summary["log_likelihood"])
    zeros = [0.0] * summary["settings"]["n_across"]
    assert summary.get("delays", [zeros])[0] == zeros
    assert ("delays" in summary) == (summary["model"] == "dlag")
    order = ("V2", "V1") if "--regions" in options else ("V1", "V2")
    assert mrgp.load_fit(tmp_path / "out" / "fit.nc").layout.regions == order


def test_warnings_become_notes_once_and_only_those_for_users(run, monkeypatch):
    def fetch():
        for _ in range(2):
            warnings.warn("a neuron was left out", stacklevel=1)
            warnings.warn("a function will go", DeprecationWarning, stacklevel=1)
        raise mrgp.DataError("no\nnetwork")

    monkeypatch.setattr(mrgp, "fetch_v1v2", fetch)
    code, out, err = run("fetch", "v1v2")
    assert (code, out) == (FAILED, "")
    assert err == "mrgp: note: a neuron was left out\nmrgp: no network\n"


def test_notes_name_options_as_they_are_typed(run, save, monkeypatch):
    said = "90 ms is more than the max_delay that is held: raise max_delay; unknown_name, data/max_delay/x stay"
    monkeypatch.setitem(cli.COMMANDS, "fit", lambda args: warnings.warn(said, stacklevel=1))
    code, _, err = run("fit", save(), *MODEL, "--out", "out")
    assert code == 0
    wanted = "is more than the --max-delay that is held: raise --max-delay; unknown_name, data/max_delay/x stay"
    assert err == f"mrgp: note: 90 ms {wanted}\n"


def test_fetch_says_where_the_recording_is(run, arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mrgp").mkdir()
    mrgp.save_recording(mrgp.MultiRegionData(arrays, 0.02), tmp_path / "mrgp" / "v1v2.npz")
    monkeypatch.setattr(mrgp, "fetch_v1v2", fetch_v1v2)
    code, out, err = run("fetch", "v1v2", "--out", tmp_path / "copy.nc")
    assert (code, err) == (DONE, "")
    assert str(tmp_path / "mrgp" / "v1v2.npz") in out
    np.testing.assert_array_equal(mrgp.load_recording(tmp_path / "copy.nc").region("V1"), arrays["V1"])


@pytest.mark.parametrize(
    ("options", "site"),
    [
        pytest.param(
            ["--model", "lds", "--n-across", 2, "--start-state", "learned"], "start_mean", marks=pytest.mark.slow
        ),
        pytest.param(
            ["--model", "dlag", "--emission", "negative_binomial", "--neurons", "4,3", "--snr", 0.5], "dispersion",
            marks=pytest.mark.slow,
        ),
        (["--model", "gpfa", "--noise", "ar1", "--mean", "psth", "--conditions", "left,right"], "noise_timescale"),
        pytest.param(
            ["--model", "adm", "--max-delay", 0.05, "--delay-timescale", 0.1, "--bin-width", 0.01], "delay_spread",
            marks=pytest.mark.slow,
        ),
        (["--model", "mdlag", "--gp-noise", 0.01, "--kernel", "matern32", "--n-within", "1,0"], "alpha"),
    ],
)  # fmt: skip
def test_every_model_can_be_simulated(run, tmp_path, options, site):
    code, printed, err = run("simulate", *options, "--n-trials", 4, "--n-bins", 10, "--out", tmp_path / "made.nc")
    assert (code, err) == (DONE, "")
    assert "4 trials x 10 bins" in printed
    data, truth = mrgp.load_recording(tmp_path / "made.nc"), read_truth(tmp_path / "made_truth.nc")
    assert truth[site].notnull().all()
    settings = json.loads(truth.attrs["model"])
    assert settings["model"] == options[1]
    assert data.layout.n_neurons == ((4, 3) if "--neurons" in options else (20, 20))
    assert data.layout.conditions == (("left", "right") if "--conditions" in options else ())
    same = mrgp.simulate(rebuilt("model", settings), regions=dict(zip(data.layout.regions, data.layout.n_neurons,
        strict=True)), n_trials=4, n_bins=10, bin_width=data.bin_width, conditions=data.layout.conditions,
        snr=0.5 if "--snr" in options else 1.0)  # fmt: skip
    np.testing.assert_allclose(same.data.values, data.values, atol=1e-9)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_can_be_simulated(run, tmp_path, network):
    code, printed, err = run(
        "simulate", "--network", network, "--n-trials", 4, "--n-bins", 30, "--seed", 2, "--out", tmp_path / "made.nc"
    )
    assert (code, err) == (0, "")
    assert f"its truth to {tmp_path / 'made_truth.nc'}" in printed
    same = getattr(mrgp, network)(n_trials=4, n_bins=30, seed=2)
    made = mrgp.load_recording(tmp_path / "made.nc", drop_dead=None)
    assert np.array_equal(made.values, same.data.values)
    with xr.open_dataset(tmp_path / "made_truth.nc", engine="h5netcdf") as truth:
        for name, table in same.truth.data_vars.items():
            assert np.array_equal(truth[name].values, table.values)


def test_list_shows_the_scenarios(run):
    code, out, err = run("simulate", "--list")
    assert (code, err) == (DONE, "")
    assert out.split() == list(SCENARIOS)


@pytest.mark.slow
def test_demo_finds_the_delays_it_made(run, tmp_path):
    code, out, err = run("demo", "--out", tmp_path / "demo")
    assert (code, err) == (DONE, "")
    rows = [line for line in out.splitlines() if "V2 l" in line]
    assert sorted(row.split("   ")[-1].strip() for row in rows) == ["V2 lags V1", "V2 leads V1"]
    figures = {f"{name}.png" for name in ("convergence", "delays", "latents", "loadings", "reconstruction")}
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {*RESULTS} | figures
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    np.testing.assert_allclose(sorted(summary["delays"][1]), [-0.02, 0.03], atol=0.006)   # 2.5 standard deviations


@pytest.mark.slow
def test_the_installed_command_fails_without_a_traceback():
    script = "import sys; from mrgp.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "fit", "absent.npz"]
    done = subprocess.run([*command, *MODEL, "--out", "absent"], capture_output=True, text=True, check=False)
    assert done.returncode == FAILED
    assert done.stderr == "mrgp: there is no file absent.npz: check the path\n"
