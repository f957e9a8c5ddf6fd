"""Files: round trips, MATLAB's and damaged ones, atomic writing."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from mrgp.recordings.load import load_recording, save_recording
from mrgp.recordings.recording import DataError, MultiRegionData
from mrgp.runtime.files import write_atomically

BIN_WIDTH = 0.02
SHARED = Path(__file__).parents[3] / "shared" / "data"


def arrays(n_trials=4, n_bins=6, sizes=(3, 2)):
    rng = np.random.default_rng(0)
    return {f"V{r + 1}": rng.standard_normal((n_trials, n_bins, n)) for r, n in enumerate(sizes)}


@pytest.fixture
def data():
    """Regions out of alphabetical order, a hole, a short trial, labels."""
    values = arrays()
    values["V1"][1, 2, 0] = np.nan
    for array in values.values():
        array[3, 4:] = np.nan
    regions = {"V2": values["V2"], "V1": values["V1"]}
    coords = {"stimulus": np.array([0.0, 22.5, 0.0, 45.0])}
    return MultiRegionData(regions, BIN_WIDTH, neuron_coords={"V1": ["a", "b", "c"]}, trial_coords=coords)


def assert_same(a: MultiRegionData, b: MultiRegionData):
    assert a.layout == b.layout
    for name in a.layout.regions:
        np.testing.assert_array_equal(a.region(name), b.region(name))


# --- npz, nc, mapping


@pytest.mark.parametrize("suffix", [".npz", ".nc"])
def test_saved_recordings_come_back(data, tmp_path, suffix):
    path = tmp_path / f"recording{suffix}"
    save_recording(data, path)
    again = load_recording(str(path))
    assert_same(data, again)
    assert again.layout.regions == ("V2", "V1")
    np.testing.assert_array_equal(again.pattern, data.pattern)
    np.testing.assert_array_equal(again.length, data.length)
    np.testing.assert_array_equal(again.observed, data.observed)
    assert again.neuron_coords["V1"].tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(again.trial_coords["stimulus"], data.trial_coords["stimulus"])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".npz", ".nc"])
def test_regions_and_bin_width_can_be_given(data, tmp_path, suffix):
    path = tmp_path / f"recording{suffix}"
    save_recording(data, path)
    again = load_recording(path, regions=["V1", "V2"], bin_width=0.01)
    assert again.layout.regions == ("V1", "V2")
    assert again.bin_width == 0.01
    assert load_recording(path, regions=["V1"]).layout.n_neurons == (3,)
    with pytest.raises(DataError, match="V9"):
        load_recording(path, regions=["V9"])


def test_plain_npz_and_mapping(tmp_path):
    np.savez(tmp_path / "plain.npz", bin_width=BIN_WIDTH, **arrays())
    expected = MultiRegionData(arrays(), BIN_WIDTH)
    assert_same(load_recording(tmp_path / "plain.npz"), expected)
    assert_same(load_recording({"bin_width": BIN_WIDTH, **arrays()}), expected)
    ragged = load_recording({"V1": [np.eye(3), np.eye(3)[:2]]}, bin_width=BIN_WIDTH)
    np.testing.assert_array_equal(ragged.length, [3, 2])


def test_drop_dead_reaches_the_constructor():
    values = arrays()
    values["V1"][:, :, 1] = 0.0
    with pytest.raises(DataError, match="region V1, neuron 1: dead"):
        load_recording(values, bin_width=BIN_WIDTH)
    with pytest.warns(UserWarning, match=r"region V1, neuron 1"):
        assert load_recording(values, bin_width=BIN_WIDTH, drop_dead=True).layout.n_neurons == (2, 2)


def test_missing_bin_width_is_explained(data, tmp_path):
    np.savez(tmp_path / "plain.npz", **arrays())
    with pytest.raises(DataError, match=r"plain.npz has no bin_width: add it .* or pass bin_width=0.02"):
        load_recording(tmp_path / "plain.npz")
    dataset = data.to_xarray()
    del dataset.attrs["bin_width"]
    dataset.to_netcdf(tmp_path / "plain.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="set it to the seconds per bin"):
        load_recording(tmp_path / "plain.nc")
    assert_same(load_recording(tmp_path / "plain.nc", bin_width=BIN_WIDTH), data)


@pytest.mark.parametrize(
    "extra", [{"labels": np.arange(3)}, {"V3": np.ones((2, 3))}, {"neuron_V9": np.arange(3)}]
)
def test_arrays_that_are_no_region_are_named(extra, tmp_path):
    (name,) = extra
    np.savez(tmp_path / "odd.npz", bin_width=BIN_WIDTH, **arrays(), **extra)
    with pytest.raises(
        DataError, match=rf"array '{name}' of odd.npz has \d dimension\(s\): make it \(trials"
    ):
        load_recording(tmp_path / "odd.npz")


def test_missing_damaged_and_unknown_files(data, tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*absent.npz"):
        load_recording(tmp_path / "absent.npz")
    with pytest.raises(DataError, match="there is no file"):
        load_recording(tmp_path / ".npz" / "x.nc")
    unknown = r"x.csv is of an unknown kind: recordings are .npz, .npy, .nc, .zarr, .mat or .nwb"
    with pytest.raises(DataError, match=unknown):
        load_recording(tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"cannot write x.csv: give a path that ends in .npz, .nc or .zarr"):
        save_recording(data, tmp_path / "x.csv")


@pytest.mark.parametrize("suffix", [".npz", ".nc", ".mat"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_damaged_files(data, tmp_path, suffix, damage):
    path = tmp_path / f"recording{suffix}"
    if suffix == ".mat":
        savemat(path, dlag_contents())
    else:
        save_recording(data, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "empty": b"", "noise": b"nothing that a reader knows"}[damage]
    )
    with pytest.raises(DataError, match=f"recording{suffix}.* is damaged or is no recording"):
        load_recording(path)


def test_a_flipped_byte_in_an_npz_is_noticed(tmp_path):
    path = tmp_path / "recording.npz"
    np.savez(path, bin_width=BIN_WIDTH, **arrays())
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(DataError, match="damaged"):
        load_recording(path)


class Trap:
    """Unpickling an instance calls ``os.mkdir(folder)``."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_pickled_objects_in_an_npz_are_refused(tmp_path):
    trap = tmp_path / "sprung"
    np.savez(tmp_path / "evil.npz", bin_width=BIN_WIDTH, V1=np.array([Trap(trap)], dtype=object))
    with pytest.raises(DataError, match=r"array 'V1' of evil.npz is a pickled object, which could run code"):
        load_recording(tmp_path / "evil.npz")
    assert not trap.exists()


# --- DLAG's .mat files


TRIALS = [np.random.default_rng(b).standard_normal((5, n_bins)) for b, n_bins in enumerate((6, 4, 6))]


def dlag_contents(name="seqTrue", trials=TRIALS, **extra):
    """Variables of a DLAG file for scipy.io.savemat: neurons x bins, 20 ms bins, ragged."""
    sequence = np.zeros((1, len(trials)), dtype=[("trialId", object), ("T", object), ("y", object)])
    for b, y in enumerate(trials):
        sequence[0, b] = (10 + b, y.shape[1], y)
    return {name: sequence, "binWidth": 20, "yDims": [3, 2]} | extra


def assert_dlag(data: MultiRegionData):
    assert data.layout.regions == ("region1", "region2")
    assert data.layout.n_neurons == (3, 2)
    assert data.bin_width == 0.02
    np.testing.assert_array_equal(data.length, [6, 4, 6])
    assert data.observed is None
    assert data.trial_coords["trial_id"].tolist() == [10, 11, 12]
    for b, y in enumerate(TRIALS):
        np.testing.assert_array_equal(data.region("region1")[b, : y.shape[1]], y[:3].T)
        np.testing.assert_array_equal(data.region("region2")[b, : y.shape[1]], y[3:].T)


@pytest.mark.parametrize("name", ["seqTrue", "seq", "seqTrain"])
def test_mat_version_5(tmp_path, name):
    savemat(tmp_path / "run.mat", dlag_contents(name))
    assert_dlag(load_recording(tmp_path / "run.mat"))
    named = load_recording(tmp_path / "run.mat", regions=("V1", "V2"), n_neurons=(1, 4), bin_width=0.001)
    assert named.layout.n_neurons == (1, 4)
    assert named.layout.regions == ("V1", "V2")
    assert named.bin_width == 0.001


def write_mat_7_3(path: Path, trials=TRIALS):
    """As MATLAB writes it: arrays transposed, a struct array as one dataset of references per field."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["binWidth"] = np.array([[20.0]])
        file["yDims"] = np.array([[3.0], [2.0]])
        group, hidden = file.create_group("seqTrue"), file.create_group("#refs#")
        for field in ("trialId", "T", "y"):
            references = group.create_dataset(field, (len(trials), 1), dtype=h5py.ref_dtype)
            for b, y in enumerate(trials):
                value = {"trialId": [[10.0 + b]], "T": [[float(y.shape[1])]], "y": y.T}[field]
                hidden[f"{field}{b}"] = np.asarray(value)
                references[b, 0] = hidden[f"{field}{b}"].ref
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def test_mat_version_7_3(tmp_path):
    write_mat_7_3(tmp_path / "run.mat")
    assert_dlag(load_recording(tmp_path / "run.mat"))


def test_mat_version_7_3_with_one_trial(tmp_path):
    with h5py.File(tmp_path / "one.mat", "w") as file:
        file["seq/y"], file["seq/T"], file["seq/trialId"] = TRIALS[0].T, [[6.0]], [[1.0]]
    data = load_recording(tmp_path / "one.mat", n_neurons=(3, 2), bin_width=BIN_WIDTH)
    np.testing.assert_array_equal(data.region("region2")[0], TRIALS[0][3:].T)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"other": np.eye(3)}, "no struct array seqTrue or seq or seqTrain or Ytrain with a field y"),
        ({"seq": np.eye(3)}, "no struct array"),
        ({"yDims": None}, r"does not say the neurons per region: pass n_neurons=\(n1, n2, ...\)"),
        ({"binWidth": None}, r"has no binWidth: add it \(ms\), or pass bin_width=0.02"),
        ({"binWidth": [20, 20]}, "damaged or is no recording"),
        ({"yDims": [3, 3]}, r"y of trial 0 in seqTrue is \(5, 6\), not 6 neurons \(3 \+ 3\) x 6 bins"),
    ],
)
def test_mat_files_without_what_is_needed(tmp_path, contents, message):
    bare = set(contents) & {"other", "seq"}
    variables = contents if bare else {k: v for k, v in (dlag_contents() | contents).items() if v is not None}
    savemat(tmp_path / "run.mat", variables)
    with pytest.raises(DataError, match=f"run.mat.*{message}"):
        load_recording(tmp_path / "run.mat")


def test_mat_trials_must_agree_with_their_length_and_regions_with_their_names(tmp_path):
    contents = dlag_contents()
    contents["seqTrue"][0, 1]["T"] = 5
    savemat(tmp_path / "run.mat", contents)
    with pytest.raises(DataError, match=r"y of trial 1 in seqTrue is \(5, 4\), not 5 neurons \(3 \+ 2\) x 5 bins"):
        load_recording(tmp_path / "run.mat")
    savemat(tmp_path / "run.mat", dlag_contents())
    with pytest.raises(DataError, match="has 2 regions, regions= names 1"):
        load_recording(tmp_path / "run.mat", regions=["V1"])


def without_counts(name="seqTrue", **extra):
    """A toolbox's demo file: neurons per region are in a struct of parameters, beside others of no use here."""
    contents = dlag_contents(name) | {"snr": [0.3, 0.3]} | extra
    del contents["yDims"]
    return contents


PARAMETERS = {"yDims": [3, 2], "xDim_across": 1, "DelayMatrix": np.eye(2), "notes": {"learnGPNoise": False}}


@pytest.mark.parametrize(
    "extra",
    [
        {"trueParams": PARAMETERS},
        {"params": PARAMETERS | {"covType": "rbf"}},
        {"res": {"estParams": PARAMETERS, "runIdx": 1}},
    ],
)
def test_demo_files_say_the_neurons_per_region_in_their_parameters(tmp_path, extra):
    savemat(tmp_path / "demo.mat", without_counts(**extra))
    assert_dlag(load_recording(tmp_path / "demo.mat"))
    given = load_recording(tmp_path / "demo.mat", n_neurons=(1, 4))
    assert given.layout.n_neurons == (1, 4)


def test_demo_file_of_version_7_3(tmp_path):
    write_mat_7_3(tmp_path / "demo.mat")
    with h5py.File(tmp_path / "demo.mat", "r+") as file:
        del file["yDims"]
        file["trueParams/yDims"] = np.array([[3.0], [2.0]])
        file["trueParams/notes/learnGPNoise"] = [[0.0]]
        cell = file["trueParams"].create_dataset("gamma_within", (2, 1), dtype=h5py.ref_dtype)
        cell[0, 0] = cell[1, 0] = file["#refs#/T0"].ref
    assert_dlag(load_recording(tmp_path / "demo.mat"))


def test_demo_file_of_the_pcca_toolbox_has_training_and_test_trials(tmp_path):
    """Latents and regions lie in it too, as matrices (latent, bins of all trials) and a cell array."""
    latents, regions = np.ones((1, 16)), np.empty((1, 2), object)
    regions[0, :] = [np.ones((3, 16)), np.ones((2, 16))]
    contents = without_counts("Ytrain", trueParams=PARAMETERS, X=latents, Ys=regions)
    contents["Ytest"] = dlag_contents("y")["y"][:, :2]
    for b in range(2):
        contents["Ytest"][0, b]["trialId"] = 13 + b
    contents["Xtrain"] = contents["Xtest"] = dlag_contents("x")["x"]
    savemat(tmp_path / "pcca.mat", contents)
    data = load_recording(tmp_path / "pcca.mat")
    assert data.trial_coords["split"].tolist() == ["train"] * 3 + ["test"] * 2
    assert data.trial_coords["trial_id"].tolist() == [10, 11, 12, 13, 14]
    assert_dlag(data.select_trials(data.trial_coords["split"] == "train"))
    np.testing.assert_array_equal(data.region("region2")[3:], data.region("region2")[:2])
    del contents["Ytest"]
    savemat(tmp_path / "pcca.mat", contents)
    data = load_recording(tmp_path / "pcca.mat")
    assert "split" not in data.trial_coords
    assert_dlag(data)


# --- plain .mat files


def plain_contents(**extra):
    """One array (trials, bins, neurons) per region, of which V3 has one neuron."""
    values = arrays(sizes=(3, 2, 1))
    return {**values, "bin_width": BIN_WIDTH, "trial_stimulus": [0.0, 22.5, 0.0, 45.0]} | extra


def write_plain_7_3(path: Path, contents):
    """As MATLAB writes it: axes reversed, no last axis of length 1, every number a matrix."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_group("#refs#")
        for name, value in contents.items():
            value = np.atleast_2d(value)
            file[name] = (value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value).T
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def write_plain_5(path: Path, contents):
    single = {name: value[..., 0] for name, value in contents.items() if np.shape(value)[2:] == (1,)}
    savemat(path, contents | single)


@pytest.mark.parametrize("write", [write_plain_5, write_plain_7_3])
def test_plain_mat(tmp_path, write):
    write(tmp_path / "plain.mat", plain_contents())
    data = load_recording(tmp_path / "plain.mat")
    assert_same(data, MultiRegionData(arrays(sizes=(3, 2, 1)), BIN_WIDTH))
    assert data.trial_coords["stimulus"].tolist() == [0.0, 22.5, 0.0, 45.0]
    assert load_recording(tmp_path / "plain.mat", regions=["V3", "V1"]).layout.n_neurons == (1, 3)
    contents = plain_contents(binWidth=10.0)   # ms, as DLAG has it
    del contents["bin_width"]
    write(tmp_path / "plain.mat", contents)
    assert load_recording(tmp_path / "plain.mat").bin_width == 0.01


def test_plain_mat_with_names_of_neurons(tmp_path):
    cells = np.array(["a", "bc", "d"], dtype=object)
    write_plain_5(tmp_path / "plain.mat", plain_contents(neuron_V1=cells))
    assert load_recording(tmp_path / "plain.mat").neuron_coords["V1"].tolist() == ["a", "bc", "d"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (np.array([["a  "], ["bcd"], ["e  "]]), ["a", "bcd", "e"]),
        (np.array([1000001.0, 1000002.0, 2**53 - 1.0]), [1000001, 1000002, 2**53 - 1]),
        (np.array([0.1 + 0.2, 1.0, 2.5]), [0.1 + 0.2, 1.0, 2.5]),
        (np.array([2**53 + 1, 1, 2]), [2**53 + 1, 1, 2]),
        (np.array(["u", 0.1 + 0.2, 7.0], object), ["u", "0.30000000000000004", "7"]),
    ],
)
def test_plain_mat_keeps_labels(tmp_path, written, read):
    write_plain_5(tmp_path / "plain.mat", plain_contents(neuron_V1=written))
    assert load_recording(tmp_path / "plain.mat").neuron_coords["V1"].tolist() == read


@pytest.mark.parametrize("write", [write_plain_5, write_plain_7_3])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"V2": np.ones((4, 5, 2))}, "region V2 has 5 bins but region V1 has 6"),
        ({"map": np.ones((5, 5))}, r"array 'map' of plain.mat has 2 dimension\(s\): make it \(trials, bins, neurons\)"),
        ({"bin_width": [0.02, 0.03]}, "bin_width is .*: give the seconds per bin"),
    ],
)
def test_plain_mat_that_cannot_be_used(tmp_path, write, change, message):
    write(tmp_path / "plain.mat", plain_contents(**change))
    with pytest.raises(DataError, match=message):
        load_recording(tmp_path / "plain.mat")


# --- atomic writing


def test_write_atomically_replaces_only_when_whole(tmp_path):
    path = tmp_path / "notes.txt"
    write_atomically(path, lambda file: file.write_text("first"))
    assert path.read_text() == "first"

    def broken(file: Path):
        assert file.parent == tmp_path
        assert file.suffix == ".txt"
        file.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, broken)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, lambda file: file.write_text("second"))
    assert path.read_text() == "second"


def test_written_files_have_the_users_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "atomic", lambda file: file.write_text(""))
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_cannot_be_written_is_named(data, tmp_path):
    with pytest.raises(OSError, match=r"cannot write a.npz into folder .*absent: "):
        save_recording(data, tmp_path / "absent" / "a.npz")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"into folder .*file: "):
        save_recording(data, tmp_path / "file" / "a.nc")


# --- a real recording


@pytest.mark.skipif(not (SHARED / "v1v2_smoothed.npz").is_file(), reason="needs the development data")
def test_the_real_recording_loads():
    data = load_recording(SHARED / "v1v2_smoothed.npz")
    assert data.layout.regions == ("V1", "V2")
    assert data.layout.n_neurons == (72, 22)
    assert (data.n_trials, data.n_bins, data.bin_width) == (400, 64, 0.02)
    assert data.is_complete
    assert data.require(2) is None
