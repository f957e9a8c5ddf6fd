"""Arrays that stay in their file: .npy, and large members of an .npz that is not compressed."""

import struct

import numpy as np
import pytest

import mrgp
from mrgp.recordings.checks import DataError
from mrgp.recordings.readers import npz
from mrgp.recordings.recording import MultiRegionData

BIN_WIDTH = 0.02


def counts(dtype=np.uint8, most=9):
    return np.random.default_rng(0).integers(0, most, (5, 6, 7)).astype(dtype)


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(npz, "LARGE", 0)


def is_in_file(data):
    """True if the values lie in a file: an array below all views is mapped."""
    owner = data.values
    while owner is not None and not isinstance(owner, np.memmap):
        owner = getattr(owner, "base", None)
    return owner is not None


def same(data, arrays):
    expected = MultiRegionData(arrays, BIN_WIDTH)
    assert data.layout == expected.layout
    assert data.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(data.center, expected.center)


def test_regions_side_by_side_in_one_array_stay_in_the_file(tmp_path):
    np.save(path := tmp_path / "counts.npy", counts())
    one = mrgp.load_recording(path, bin_width=BIN_WIDTH)
    same(one, {"region1": counts()})
    two = mrgp.load_recording(path, bin_width=BIN_WIDTH, regions=("V1", "V2"), n_neurons=(4, 3))
    same(two, {"V1": counts()[..., :4], "V2": counts()[..., 4:]})
    assert is_in_file(one)
    assert is_in_file(two)
    same(two.select_neurons({"V1": [1, 0]}), {"V1": counts()[..., [1, 0]], "V2": counts()[..., 4:]})
    assert not is_in_file(two.select_trials([0, 1, 2]))


@pytest.mark.parametrize("missing", [False, True])
def test_numbers_in_double_precision_stay_unless_some_are_missing(tmp_path, missing):
    array = counts(float)
    array[1, 2, 3] = np.nan if missing else 0.0
    np.save(path := tmp_path / "values.npy", array)
    data = mrgp.load_recording(path, bin_width=BIN_WIDTH)
    same(data, {"region1": array})
    assert is_in_file(data) is not missing
    np.testing.assert_array_equal(np.load(path), array)  # 0 in place of NaN is not written into the file


OTHERS = [counts(np.int64), counts(np.uint16), counts(np.float32), np.asfortranarray(counts())]


@pytest.mark.parametrize("array", OTHERS)
def test_other_arrays_are_read_as_they_would_be_given(tmp_path, array):
    np.save(path := tmp_path / "counts.npy", array)
    same(mrgp.load_recording(path, bin_width=BIN_WIDTH), {"region1": array})


def test_what_is_wrong_with_a_file_is_told(tmp_path):
    np.save(path := tmp_path / "counts.npy", counts())
    for options, wrong in (
        ({"n_neurons": (4, 4)}, r"counts.npy has 7 neurons, not 4 \+ 4: give those per region by n_neurons"),
        ({"n_neurons": (4, 3), "regions": ("V1",)}, "counts.npy has 2 regions, regions= names 1: name each"),
        ({"bin_width": None}, "counts.npy has no bin_width"),
    ):
        with pytest.raises(DataError, match=wrong):
            mrgp.load_recording(path, **{"bin_width": BIN_WIDTH, **options})
    np.save(path, counts()[0])
    with pytest.raises(DataError, match=r"the array of counts.npy is \(6, 7\): make it \(trials, bins, neurons\)"):
        mrgp.load_recording(path, bin_width=BIN_WIDTH)
    np.save(path, np.array([[[None]]]))
    with pytest.raises(DataError, match=r"counts.npy is a pickled object, which could run code"):
        mrgp.load_recording(path, bin_width=BIN_WIDTH)
    np.save(path, counts())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"counts.npy is damaged"):
        mrgp.load_recording(path, bin_width=BIN_WIDTH)


@pytest.mark.usefixtures("everything_is_large")
def test_a_large_member_of_an_archive_that_is_not_compressed_stays_there(tmp_path):
    whole, packed = tmp_path / "whole.npz", tmp_path / "packed.npz"
    labels = {"trial_block": np.arange(5), "neuron_V1": np.array(list("abcdefg"))}
    arrays = {"bin_width": BIN_WIDTH, "V1": counts(), **labels}
    np.savez(whole, **arrays)
    np.savez_compressed(packed, **arrays)
    for path, mapped in ((whole, True), (packed, False)):
        data = mrgp.load_recording(path)
        same(data, {"V1": counts()})
        np.testing.assert_array_equal(data.trial_coords["block"], np.arange(5))
        assert data.neuron_coords["V1"].tolist() == list("abcdefg")
        assert is_in_file(data) is mapped


@pytest.mark.usefixtures("everything_is_large")
def test_large_recordings_are_written_so_that_they_can_be_mapped(tmp_path):
    data = MultiRegionData({"V1": counts()}, BIN_WIDTH)
    mrgp.save_recording(data, path := tmp_path / "own.npz")
    again = mrgp.load_recording(path)
    assert is_in_file(again)
    same(again, {"V1": counts()})
    two = {"V1": counts()[..., :4], "V2": counts()[..., 4:]}
    mrgp.save_recording(MultiRegionData(two, BIN_WIDTH), path)
    again = mrgp.load_recording(path)
    assert again.values.dtype == np.uint8
    same(again, two)


@pytest.mark.usefixtures("everything_is_large")
def test_members_that_cannot_be_are_refused(tmp_path):
    np.savez(path := tmp_path / "evil.npz", bin_width=BIN_WIDTH, V1=np.array([None], dtype=object))
    with pytest.raises(DataError, match=r"array 'V1' of evil.npz is a pickled object, which could run code"):
        mrgp.load_recording(path)
    np.savez(path := tmp_path / "short.npz", bin_width=BIN_WIDTH, V1=counts())
    assert path.read_bytes().count(b"(5, 6, 7)") == 1
    path.write_bytes(path.read_bytes().replace(b"(5, 6, 7)", b"(4, 6, 7)"))
    with pytest.raises(DataError, match=r"short.npz is damaged .*not as long as it says"):
        mrgp.load_recording(path)
    assert struct.calcsize("<26xHH") == npz.LOCAL_HEADER.size == 30
