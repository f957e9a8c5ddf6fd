"""Every wrong recording as a new user brings it, to the library and to the command line: a sentence, and no remains."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import xarray as xr
from scipy.io import savemat

import mrgp
from mrgp.cli.argument_types import typed
from mrgp.cli.main import main

DONE, FAILED, MISUSED = 0, 1, 2
FIT = ["--model", "fa", "--n-across", "1", "--n-starts", "1", "--max-iterations", "2", "--no-figures", "--quiet"]
RNG = np.random.default_rng(0)
V1, V2 = RNG.poisson(3.0, (6, 10, 4)).astype(float), RNG.poisson(3.0, (6, 10, 3)).astype(float)
STIMULUS = np.array([0, 0, 0, 1, 1, 1])
GOOD = {"V1": V1, "V2": V2, "bin_width": 0.02, "trial_stimulus": STIMULUS}


def put(array, index, value):
    changed = array.copy()
    changed[index] = value
    return changed


def npz(**changed):
    contents = {name: value for name, value in (GOOD | changed).items() if value is not None}
    return "a.npz", lambda path: np.savez(path, **contents)


def nc(change):
    data = mrgp.MultiRegionData({"V1": V1, "V2": V2}, 0.02)
    return "a.nc", lambda path: change(data.to_xarray()).to_netcdf(path, engine="h5netcdf")


def without(dataset, name):
    del dataset.attrs[name]
    return dataset


def part_of(name, size):
    """A file cut short."""

    def write(path):
        whole = path.with_name(f"whole{path.suffix}")
        if path.suffix == ".nwb":
            whole.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
        elif path.suffix == ".mat":
            savemat(whole, {"V1": V1, "bin_width": 0.02})
        else:
            mrgp.save_recording(mrgp.MultiRegionData({"V1": V1}, 0.02), whole)
        path.write_bytes(whole.read_bytes()[: int(size * whole.stat().st_size)])
        whole.unlink()

    return name, write


def renamed(array):
    def write(path):
        np.save(path.with_suffix(".npy"), array)
        shutil.move(path.with_suffix(".npy"), path)

    return "a.npz", write


NWB = {"bin_width": 0.02}
DAMAGED = "is damaged or is no recording"
LOADED = {
    "missing npz": (("a.npz", None), {}, "there is no file .*a.npz: check the path"),
    "missing mat": (("a.mat", None), {}, "there is no file .*a.mat: check the path"),
    "missing nwb": (("a.nwb", None), NWB, "there is no file .*a.nwb: check the path"),
    "folder": (("a.npz", lambda path: path.mkdir()), {}, "a.npz is a folder: give the file of one recording"),
    "wrong suffix": (("a.csv", lambda path: path.write_text("1,2")), {}, "a.csv is of an unknown kind: recordings are"),
    "no suffix": (("a", lambda path: path.write_text("1,2")), {}, "a is of an unknown kind: recordings are .npz"),
    **{f"empty {end}": (part_of(f"a.{end}", 0), NWB, f"a.{end} {DAMAGED}") for end in ("npz", "nc", "mat", "nwb")},
    **{f"cut {end}": (part_of(f"a.{end}", 0.6), NWB, f"a.{end} {DAMAGED}") for end in ("npz", "nc", "mat", "nwb")},
    "npy called npz": (renamed(V1), {}, f"a.npz {DAMAGED}"),
    "pickled": (npz(V2=np.array([{}], object)), {}, "array 'V2' of a.npz is a pickled object, which could run code"),
    "two dimensions": (npz(V2=V2[0]), {}, r"array 'V2' of a.npz has 2 dimension\(s\): make it \(trials, bins"),
    "trials differ": (npz(V2=V2[:5]), {}, "region V2 has 5 trials but region V1 has 6: cut both"),
    "bins differ": (npz(V2=V2[:, :9]), {}, "region V2 has 9 bins but region V1 has 10: cut both"),
    "text": (npz(V2=np.full((6, 10, 3), "a")), {}, "region V2 holds <U1 instead of real numbers"),
    "infinite": (npz(V2=put(V2, (2, 3, 1), np.inf)), {}, "region V2, neuron 1: infinite value in trial 2, bin 3"),
    "empty neuron": (npz(V2=put(V2, (..., 1), np.nan)), {}, r"region V2, neuron 1: never observed \(all NaN\)"),
    "empty trial": (npz(V1=put(V1, 2, np.nan), V2=put(V2, 2, np.nan)), {}, "trial 2 has nothing observed in any"),
    "silent neuron": (npz(V2=put(V2, (..., 1), 0.0)), {}, "region V2, neuron 1: dead, the same value"),
    "no neurons": (npz(V2=V2[..., :0]), {}, "region V2 has no neurons"),
    "no regions": (npz(V1=None, V2=None), {}, "a recording needs at least one region"),
    "no bin width": (npz(bin_width=None), {}, r"a.npz has no bin_width: add it \(seconds per bin\), or pass bin_width"),
    "bins of 0": (npz(bin_width=0.0), {}, "bin_width is .*: give the seconds per bin"),
    "negative bins": (npz(bin_width=-0.02), {}, "bin_width is .*: give the seconds per bin"),
    "NaN bins": (npz(bin_width=np.nan), {}, "bin_width is .*: give the seconds per bin"),
    "bins in words": (npz(bin_width="20 mV"), {}, "bin_width is .*: give the seconds per bin"),
    "two bin widths": (npz(bin_width=[0.02, 0.02]), {}, "bin_width is .*: give the seconds per bin"),
    "unknown region": (npz(), {"regions": ("V1", "V9")}, "a.npz has no region 'V9': choose from V1, V2"),
    "labels": (npz(neuron_V1=np.arange(3)), {}, r"neuron_coords\['V1'\] has shape \(3,\): it needs 4 labels"),
    "coordinates": (npz(trial_stimulus=[1, 2]), {}, r"trial_coords\['stimulus'\] has shape \(2,\): it needs 6"),
    "nc without bins": (nc(lambda data: without(data, "bin_width")), {}, "set it to the seconds per bin"),
    "nc of other shape": (nc(lambda data: data.drop_vars("V1")), {}, "region V1 must be a variable of the dataset"),
    "nc of nonsense": (nc(lambda data: data.assign_attrs(regions="V1")), {}, f"a.nc {DAMAGED}"),
    "nc of nothing": (nc(lambda data: xr.Dataset(attrs={"bin_width": 0.02})), {}, "at least one region"),
    "nc of a fit": (nc(lambda data: xr.Dataset({"noise": ("noise_0", V1[0, 0])}, {}, {"mrgp_fit": 2})), {}, "no attrs"),
    "mat of words": (("a.mat", lambda path: savemat(path, {"V1": "text"})), {}, "no struct array .* nor an array"),
    "mat without bins": (("a.mat", lambda path: savemat(path, {"V1": V1})), {}, "a.mat has no bin_width: add it"),
}


def as_flags(options):
    """Arguments of ``load_recording`` as they are typed."""
    for name, value in options.items():
        yield f"--{name.replace('_', '-')}"
        yield ",".join(value) if isinstance(value, tuple) else str(value)


@pytest.fixture
def fit(tmp_path, capsys):
    """Type ``mrgp fit``; returns exit code and what was printed to stderr."""

    def fit(path, *options):
        code = main(["fit", str(path), *FIT, "--out", str(tmp_path / "out"), *map(str, options)])
        out, err = capsys.readouterr()
        assert out == ""
        return code, err

    return fit


def sentence(err):
    """The one line of an error."""
    assert err.startswith("mrgp: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("case", LOADED)
def test_recordings_that_cannot_be_loaded(case, tmp_path, fit):
    (name, write), options, message = LOADED[case]
    if name.endswith(".nwb") and write is not None:
        pytest.importorskip("pynwb")
    path = tmp_path / name
    if write is not None:
        write(path)
    if not name.endswith(".nwb"):
        options = {key: value for key, value in options.items() if key != "bin_width"}
    before = sorted(tmp_path.iterdir())
    with pytest.raises(mrgp.DataError, match=message) as caught:
        mrgp.load_recording(path, **options)
    assert "\n" not in str(caught.value)
    code, err = fit(path, *as_flags(options))
    assert code == FAILED
    assert sentence(err) == f"mrgp: {caught.value.typed(typed)}\n"
    assert not re.search(r"\b(drop_dead|bin_width|n_neurons)=", err)   # the remedy is what can be typed
    assert sorted(tmp_path.iterdir()) == before


PREPARED = {
    "negative counts": (npz(V2=put(V2, (1, 2, 0), -1)), ["--transform", "sqrt"], "neuron 0 is -1 in trial 1, bin 2"),
    "milliseconds": (npz(), ["--smooth", 20], "smoothing by 20 s is longer than the trials, 0.2 s: give it in seconds"),
    "too little": (npz(), ["--smooth", 0.001], "smoothing by 0.001 s does nothing to bins of 0.02 s"),
    "coordinate": (npz(), ["--remove-mean", "colour"], "trials have no coordinate 'colour': choose from stimulus"),
    "no coordinate": (npz(trial_stimulus=None), ["--remove-mean", "colour"], "'colour', nor any other: leave"),
    "one trial": (npz(V1=V1[:1], V2=V2[:1], trial_stimulus=[0]), ["--remove-mean"], "the recording has one trial"),
    "one of a kind": (npz(trial_stimulus=[*"aaabbc"]), ["--remove-mean", "stimulus"], "stimulus = c has one trial"),
}


@pytest.mark.parametrize("case", PREPARED)
def test_recordings_that_cannot_be_prepared(case, tmp_path, fit):
    (name, write), options, message = PREPARED[case]
    write(tmp_path / name)
    code, err = fit(tmp_path / name, *options)
    assert code == FAILED
    assert re.search(message, sentence(err))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npz", "--transform", "log"], "--transform: invalid choice: 'log'"),
        (["a.npz", "--smooth", "0"], "--smooth: '0' is not a positive number"),
        (["a.npz", "--smooth", "20ms"], "--smooth: '20ms' is not a positive number"),
        (["a.npz", "--bin-width", "0"], "--bin-width: '0' is not a positive number"),
        (["a.npz", "--align", "cue"], "--align is for .nwb, Phy and ALF files, which hold spike times: leave it out"),
        (["a.npz", "--window", "0", "1"], "--window is for .nwb, Phy and ALF files"),
        (["a.mat", "--trials", "x"], "--trials is for .nwb, Phy and ALF files"),
        (["a.nwb"], "a.nwb holds spike times: give --bin-width SECONDS, such as 0.02 for 20 ms"),
        (["a.nwb", "--bin-width", "0.02", "--align", "cue"], "--align needs --window FROM TO"),
        (["a.nwb", "--bin-width", "0.02", "--window", "-0.2", "-0.5"], "-0.2 is not below -0.5"),
        (["a.nwb", "--bin-width", "0.02", "--window", "0"], "--window: expected 2 arguments"),
        (["a.nwb", "--bin-width", "0.02", "--window", "0", "inf"], "--window: 'inf' is not a number"),
    ],
)
def test_what_cannot_be_meant(arguments, message, fit, tmp_path):
    path, *options = arguments
    code, err = fit(path, *options)
    assert code == MISUSED
    assert message in sentence(err)
    assert list(tmp_path.iterdir()) == []


def test_options_for_spike_times_are_refused_for_counts(tmp_path):
    np.savez(tmp_path / "a.npz", **GOOD)
    with pytest.raises(mrgp.DataError, match=r"a.npz holds no spike times, which align, window would be for"):
        mrgp.load_recording(tmp_path / "a.npz", align="cue", window=(0, 1))
    with pytest.raises(mrgp.DataError, match="the mapping holds no spike times, which align would be for"):
        mrgp.load_recording(GOOD, align="cue")
    told = mrgp.load_recording(tmp_path / "a.npz", n_neurons=(4, 3), align=None)  # as the file says itself
    assert told.layout.n_neurons == (4, 3)
    with pytest.raises(mrgp.DataError, match="regions names V1 twice"):
        mrgp.load_recording(tmp_path / "a.npz", regions=["V1", "V1"])


def test_a_missing_extra_says_what_to_install(tmp_path, monkeypatch, fit):
    monkeypatch.setitem(sys.modules, "pynwb", None)
    (tmp_path / "a.nwb").touch()
    code, err = fit(tmp_path / "a.nwb", "--bin-width", "0.02")
    assert code == FAILED
    assert "reading a.nwb needs pynwb, which is not installed" in sentence(err)
    assert "pip install pynwb, or mrgp with its extra [nwb]" in err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_preprocessing_reaches_the_fit_and_its_summary(tmp_path, fit):
    np.savez(tmp_path / "a.npz", **GOOD)
    options = ["--bin-width", 2, "--transform", "anscombe", "--smooth", 2, "--remove-mean", "stimulus", "--zscore"]
    code, err = fit(tmp_path / "a.npz", *options)
    assert code == DONE
    assert "mrgp: note: bins of 2 s: is that right? --bin-width is in seconds\n" in err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    asked = {"transform": "anscombe", "smooth": 2.0, "remove_condition_mean": "stimulus", "zscore": True}
    assert summary["preprocessing"] == asked
    with pytest.warns(UserWarning, match="bins of 2 s: is that right"):
        data = mrgp.preprocess(mrgp.load_recording(tmp_path / "a.npz", bin_width=2.0), **asked)
    fitted = mrgp.load_fit(tmp_path / "out" / "fit.nc")
    assert fitted.preprocessing == asked
    assert summary["log_likelihood"] == pytest.approx(float(fitted.log_likelihood(data).sum()), abs=1e-6)
