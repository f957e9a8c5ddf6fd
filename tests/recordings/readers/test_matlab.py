"""Files of MATLAB 7.3 with cells, structs and text, written by h5py as MATLAB writes them."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from mrgp import DataError, load_recording

RNG = np.random.default_rng(0)
TRIALS = {"V1": [RNG.random((bins, 3)) for bins in (6, 4, 5)], "LM": [RNG.random((bins, 2)) for bins in (6, 4, 5)]}


class Writer:
    """Variables as MATLAB writes them: axes reversed, MATLAB_class on each, cells as references into #refs#."""

    def __init__(self, path):
        self.path, self.count = path, 0

    def __enter__(self):
        self.file = h5py.File(self.path, "w", userblock_size=512)
        self.refs = self.file.create_group("#refs#")
        return self

    def __exit__(self, *_):
        self.file.close()
        with open(self.path, "r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM")

    def put(self, place, name, value):
        if isinstance(value, dict):
            group = place.create_group(name)
            group.attrs["MATLAB_class"] = np.bytes_("struct")
            for field, inside in value.items():
                self.put(group, field, inside)
        elif isinstance(value, list):
            cells = place.create_dataset(name, (len(value), 1), dtype=h5py.ref_dtype)  # a row of cells
            cells.attrs["MATLAB_class"] = np.bytes_("cell")
            for n, inside in enumerate(value):
                cells[n, 0] = self.hidden(inside)
        elif isinstance(value, str):
            codes = np.array([list(map(ord, value))], np.uint16).T
            text = place.create_dataset(name, data=codes)
            text.attrs["MATLAB_class"], text.attrs["MATLAB_int_decode"] = np.bytes_("char"), np.int32(2)
        elif np.size(value) == 0:
            empty = place.create_dataset(name, data=np.array(np.shape(np.atleast_2d(value)), np.uint64))
            empty.attrs["MATLAB_class"], empty.attrs["MATLAB_empty"] = np.bytes_("double"), np.uint8(1)
        else:
            matrix = np.atleast_2d(value)
            kind = {"b": "logical", "f": "double", "i": "int64", "u": "uint8"}[matrix.dtype.kind]
            numbers = place.create_dataset(name, data=matrix.astype(np.uint8 if kind == "logical" else matrix.dtype).T)
            numbers.attrs["MATLAB_class"] = np.bytes_(kind)

    def hidden(self, value):
        self.count += 1
        self.put(self.refs, f"r{self.count}", value)
        return self.refs[f"r{self.count}"].ref

    def struct_array(self, name, elements):
        """A struct array of more than one element: one dataset of references for each field."""
        group = self.file.create_group(name)
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        for field in elements[0]:
            cells = group.create_dataset(field, (len(elements), 1), dtype=h5py.ref_dtype)
            for n, element in enumerate(elements):
                cells[n, 0] = self.hidden(element[field])


def write(path, **variables):
    with Writer(path) as writer:
        for name, value in variables.items():
            writer.put(writer.file, name, value)
    return path


def assert_trials(data):
    for name, trials in TRIALS.items():
        assert data.length.tolist() == [6, 4, 5]
        for b, trial in enumerate(trials):
            np.testing.assert_array_equal(data.region(name)[b, : len(trial)], trial)


def test_arrays_text_and_truth_values(tmp_path):
    arrays = {"V1": RNG.random((3, 6, 2)), "LM": RNG.random((3, 6, 4))}
    path = write(tmp_path / "a.mat", **arrays, binWidth=20.0, neuron_V1=["left", "right"], trial_go=["a", "bc", "d"],
                 trial_hit=np.array([[True, False, True]]), trial_number=np.array([[1.0, 2.0, 3.0]]))  # fmt: skip
    data = load_recording(path, regions=["V1", "LM"])
    for name, array in arrays.items():
        np.testing.assert_array_equal(data.region(name), array)
    assert data.bin_width == 0.02
    assert data.neuron_coords["V1"].tolist() == ["left", "right"]
    assert data.trial_coords["go"].tolist() == ["a", "bc", "d"]
    assert data.trial_coords["hit"].tolist() == [1, 0, 1]
    assert data.trial_coords["number"].tolist() == [1, 2, 3]


def test_cells_of_trials_and_a_struct_of_regions(tmp_path):
    names = list(TRIALS)
    cells = write(tmp_path / "cells.mat", **TRIALS, bin_width=0.02)
    assert_trials(load_recording(cells, regions=names))
    struct = write(tmp_path / "struct.mat", session={**TRIALS, "bin_width": 0.02, "trial_side": ["l", "r", "l"]})
    data = load_recording(struct, regions=names)
    assert_trials(data)
    assert data.trial_coords["side"].tolist() == ["l", "r", "l"]
    older = {name: np.empty((1, 3), object) for name in names}
    for name in names:
        older[name][0, :] = TRIALS[name]
    savemat(tmp_path / "older.mat", older | {"bin_width": 0.02})
    assert_trials(load_recording(tmp_path / "older.mat", regions=names))
    savemat(tmp_path / "inside.mat", {"session": older | {"bin_width": 0.02}})
    assert_trials(load_recording(tmp_path / "inside.mat", regions=names))


@pytest.mark.parametrize("n_trials", [1, 3])
def test_a_toolboxs_file(tmp_path, n_trials):
    elements = [
        {"trialId": float(10 + b), "T": float(len(one)), "y": np.concatenate([one, other], 1).T, "seq": []}
        for b, (one, other) in enumerate(zip(*TRIALS.values(), strict=True))
    ][:n_trials]  # fmt: skip
    with Writer(tmp_path / "run.mat") as writer:
        if n_trials == 1:
            writer.put(writer.file, "seqTrue", elements[0] | {"seq": np.empty((0, 0))})
        else:
            writer.struct_array("seqTrue", [element | {"seq": np.empty((0, 0))} for element in elements])
        parameters = {"yDims": np.array([[3.0, 2.0]]), "covType": "rbf", "gamma": [np.array([[0.1]]), np.empty((0, 0))]}
        writer.put(writer.file, "trueParams", parameters)
        writer.put(writer.file, "binWidth", 20.0)
    data = load_recording(tmp_path / "run.mat", regions=list(TRIALS))
    assert data.trial_coords["trial_id"].tolist() == [10, 11, 12][:n_trials]
    for name, trials in TRIALS.items():
        for b, trial in enumerate(trials[:n_trials]):
            np.testing.assert_array_equal(data.region(name)[b, : len(trial)], trial)


def test_cells_that_are_no_trials(tmp_path):
    path = write(tmp_path / "a.mat", V1=["a", "b"], bin_width=0.02)
    with pytest.raises(DataError, match=r"a.mat has no struct array .* nor an array"):
        load_recording(path)
    path = write(tmp_path / "b.mat", V1=[np.ones((4, 2)), np.ones((4, 3))], bin_width=0.02)
    with pytest.raises(DataError, match=r"region V1: trials have shapes \(4, 2\), \(4, 3\); each must be"):
        load_recording(path)
