"""Stores of zarr and datasets of xarray, against the recordings that they were made from."""

import json
import sys

import numpy as np
import pytest
import xarray as xr

import mrgp
from mrgp import DataError, load_recording, save_recording


def recording(counts=False):
    rng = np.random.default_rng(0)
    arrays = {"V2": rng.poisson(3.0, (4, 6, 2)), "V1": rng.poisson(3.0, (4, 6, 3))}
    if not counts:
        arrays = {name: array + rng.random(array.shape) for name, array in arrays.items()}
        arrays["V1"][1, 2, 0] = np.nan
    coords = {"stimulus": ["a", "bc", "a", "d"], "contrast": [0.1, 0.2, np.nan, 0.4], "block": [1, 1, 2, 2]}
    return mrgp.MultiRegionData(arrays, 0.02, neuron_coords={"V1": ["x", "yy", "z"]}, trial_coords=coords)


def assert_same(a, b):
    assert a.layout == b.layout
    assert a.values.dtype == b.values.dtype
    np.testing.assert_array_equal(a.with_nan(), b.with_nan())
    assert a.trial_coords.keys() == b.trial_coords.keys()
    for name, values in b.trial_coords.items():
        np.testing.assert_array_equal(a.trial_coords[name], values)
    assert {n: v.tolist() for n, v in a.neuron_coords.items()} == {n: v.tolist() for n, v in b.neuron_coords.items()}


@pytest.mark.parametrize("counts", [False, True])
def test_a_store_holds_what_was_saved(tmp_path, counts):
    pytest.importorskip("zarr", "3")
    data = recording(counts)
    save_recording(data, tmp_path / "x.zarr")
    assert_same(load_recording(tmp_path / "x.zarr"), data)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]
    changed = load_recording(tmp_path / "x.zarr", regions=["V1"], bin_width=0.04)
    assert (changed.layout.regions, changed.bin_width) == (("V1",), 0.04)
    other = data.select_trials([2, 0])
    save_recording(other, tmp_path / "x.zarr")  # in the place of the first
    assert_same(load_recording(tmp_path / "x.zarr"), other)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_a_store_of_another_program(tmp_path):
    pytest.importorskip("zarr", "3")
    values = np.arange(24.0).reshape(2, 4, 3)
    dataset = xr.Dataset({"V1": (("trial", "time", "unit"), values)}, attrs={"bin_width": 0.01})
    for version in (2, 3):
        dataset.to_zarr(tmp_path / f"v{version}.zarr", zarr_format=version, consolidated=version == 2)
        found = load_recording(tmp_path / f"v{version}.zarr")
        np.testing.assert_array_equal(found.region("V1"), values)


def test_stores_that_cannot_be_used(tmp_path, monkeypatch):
    pytest.importorskip("zarr", "3")
    data = recording()
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"x.zarr is a folder of something else: give another path"):
        save_recording(data, tmp_path / "x.zarr")
    assert (tmp_path / "x.zarr" / "notes.txt").read_text() == "mine"
    with pytest.raises(DataError, match=r"there is no file .*absent.zarr"):
        load_recording(tmp_path / "absent.zarr")
    save_recording(data, tmp_path / "y.zarr")
    (tmp_path / "y.zarr" / ".zattrs").write_text("nothing")
    (tmp_path / "y.zarr" / ".zmetadata").unlink()
    with pytest.raises(DataError, match=r"y.zarr is damaged or is no recording"):
        load_recording(tmp_path / "y.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    for use in (lambda: load_recording(tmp_path / "y.zarr"), lambda: save_recording(data, tmp_path / "z.zarr")):
        with pytest.raises(DataError, match=r"ing .*.zarr needs zarr, .*: pip install zarr, .* \[zarr\]"):
            use()


@pytest.mark.parametrize(
    ("file", "metadata"),
    [
        ("V1/.zarray", {"filters": [{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}], "compressor": None}),
        ("V1/.zarray", {"filters": None, "compressor": {"id": "pickle"}}),
        (".zmetadata", {"metadata": {"V1/.zarray": {"filters": [{"id": "pickle"}]}}}),
        ("V1/zarr.json", {"codecs": [{"name": "numcodecs.pickle", "configuration": {}}]}),
    ],
)
def test_a_store_that_could_run_code(tmp_path, file, metadata):
    (tmp_path / "evil.zarr" / "V1").mkdir(parents=True)
    (tmp_path / "evil.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "evil.zarr" / file).write_text(json.dumps(metadata))
    with pytest.raises(DataError, match=r"an array of evil.zarr is a pickled object, which could run code: save it"):
        load_recording(tmp_path / "evil.zarr")  # before zarr is asked, which need not be installed


def test_a_dataset_is_a_recording():
    data = recording()
    dataset = data.to_xarray()
    assert_same(load_recording(dataset), data)
    chosen = load_recording(dataset, regions=["V1"], bin_width=0.04)
    assert (chosen.layout.regions, chosen.bin_width) == (("V1",), 0.04)
    with pytest.raises(DataError, match="the dataset holds no spike times, which window would be for"):
        load_recording(dataset, window=(0, 1))
    with pytest.raises(DataError, match="region V9 must be a variable of the dataset"):
        load_recording(dataset, regions=["V9"])
    with pytest.raises(DataError, match=r"the dataset has no attrs"):
        load_recording(dataset.drop_attrs())
