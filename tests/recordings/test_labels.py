"""Labels and names: kept as they are through every file, refused with a sentence where they say nothing."""

import datetime

import numpy as np
import pytest

import mrgp
from mrgp.cli.argument_types import typed
from mrgp.recordings.labels import free_name
from mrgp.recordings.layout import CONDITION
from mrgp.recordings.texts import as_text

BIN = 0.02
N_TRIALS = 4


def regions(**more):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((N_TRIALS, 5, n)) for name, n in ({"A": 3, "B": 2} | more).items()}


def recording(labels, name=CONDITION):
    return mrgp.MultiRegionData(regions(), BIN, trial_coords={name: labels})


# --- labels

IDS = [1000001, 1000002, 1000001, 1000002]
KEPT = {
    "seven digits": (IDS, ("1000001", "1000002")),
    "seven digits as floats": (np.array(IDS, float), ("1000001", "1000002")),
    "beyond float64": (np.array([2**53 + 1, 2**53 + 2] * 2), ("9007199254740993", "9007199254740994")),
    "beyond float64, mixed": ([2**53 + 1, 0.5] * 2, ("0.5", "9007199254740993")),
    "beyond int64": ([2**70, 2**70 + 1] * 2, ("1180591620717411303424", "1180591620717411303425")),
    "unsigned": (np.array([2**64 - 1, 0] * 2, np.uint64), ("0", "18446744073709551615")),
    "all digits": ([0.1 + 0.2, 0.3] * 2, ("0.3", "0.30000000000000004")),
    "float32": (np.array([0.1, 0.2] * 2, np.float32), ("0.1", "0.2")),
    "truth": ([True, False] * 2, ("False", "True")),
    "bytes": ([b"left", b"right"] * 2, ("left", "right")),
    "objects": (np.array(["a", b"b", 1.0, 2.5], object), ("1", "2.5", "a", "b")),
    "text and numbers": (["a", 1000001.0, 2, True], ("1000001", "2", "True", "a")),
    "numpy text": (np.array(["a", "b"] * 2, np.dtypes.StringDType()), ("a", "b")),
    "times": (np.array(["2020-01-01", "2020-01-02"] * 2, "M8[s]"), None),
    "durations": (np.array([1, 2] * 2, "m8[s]"), None),
    "timedelta": ([datetime.timedelta(seconds=0.5), datetime.timedelta(seconds=1)] * 2, None),
}


@pytest.mark.parametrize("suffix", [".npz", ".nc"])
@pytest.mark.parametrize("case", KEPT)
def test_labels_keep_all_their_digits(case, suffix, tmp_path):
    labels, conditions = KEPT[case]
    data = recording(labels)
    if conditions is not None:
        assert data.layout.conditions == conditions
    assert len(data.layout.conditions) == len({as_text(label) for label in data.trial_coords[CONDITION]}) >= 2
    data = mrgp.MultiRegionData(
        regions(), BIN, trial_coords={CONDITION: labels, "id": labels}, neuron_coords={"B": labels[:2]}
    )
    mrgp.save_recording(data, tmp_path / f"a{suffix}")
    again = mrgp.load_recording(tmp_path / f"a{suffix}")
    assert again.layout == data.layout
    for kept, other in ((again.trial_coords, data.trial_coords), (again.neuron_coords, data.neuron_coords)):
        assert kept.keys() == other.keys()
        for name in kept:
            assert kept[name].dtype == other[name].dtype
            np.testing.assert_array_equal(kept[name], other[name])


def test_conditions_are_told_apart_by_every_digit():
    data = recording(IDS)
    assert data.condition.tolist() == [0, 1, 0, 1]
    assert data.layout == recording(np.array(IDS, float)).layout == recording(list(map(str, IDS))).layout


def test_labels_of_tables():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": ["a", "b"] * 2, "ids": IDS, "kind": pandas.Categorical(["x", "y"] * 2)})
    data = mrgp.MultiRegionData(regions(), BIN, trial_coords=dict(table.items()))
    assert {name: labels.tolist() for name, labels in data.trial_coords.items()} == table.to_dict("list")
    table = table.convert_dtypes().where(table["text"] == "a")
    with pytest.raises(mrgp.DataError, match=r"trial 1 has no condition \(nan\)"):
        recording(table["ids"])
    with pytest.raises(mrgp.DataError, match=r"trial_coords\['text'\]: trial 1 has no label \((<NA>|nan)\)"):
        recording(table["text"], "text")


LACKING = {
    "None": ["a", None, "b", "c"],
    "NaN among text": ["a", float("nan"), "b", "c"],
    "None among numbers": [1, None, 2, 3],
    "objects": np.array(["a", np.nan, "b", "c"], object),
    "masked": np.ma.masked_array([1, 2, 3, 4], [False, True, False, False]),
    "no time": np.array(["2020-01-01", "NaT"] * 2, "M8[s]"),
}


@pytest.mark.parametrize("case", LACKING)
def test_what_is_missing_is_no_label(case):
    sentence = r"trial_coords\['id'\]: trial 1 has no label \((None|nan|NaT)\): give it one, or leave the trial out"
    with pytest.raises(mrgp.DataError, match=sentence):
        recording(LACKING[case], "id")
    with pytest.raises(mrgp.DataError, match=r"neuron_coords\['B'\]: neuron 1 has no label .* leave the neuron out"):
        mrgp.MultiRegionData(regions(), BIN, neuron_coords={"B": LACKING[case][:2]})


@pytest.mark.parametrize("labels", [[1, np.nan, 2, 3], np.array(["a", np.nan, "b", "c"]), [1, np.inf, 2, 3]])
def test_what_is_missing_is_no_condition(labels):
    with pytest.raises(mrgp.DataError, match=r"trial 1 has no condition \((nan|inf)\): leave it out"):
        recording(labels)


def test_what_was_measured_may_be_missing():
    data = recording([0.3, np.nan, 0.2, 0.4], "reaction_time")
    assert np.isnan(data.trial_coords["reaction_time"][1])
    with pytest.raises(mrgp.DataError) as caught:
        data.trial_labels("reaction_time")
    assert str(caught.value) == "trial 1 has no reaction_time: leave it out by select_trials"
    assert caught.value.typed(typed) == "trial 1 has no reaction_time: leave it out of the file, or give it one there"
    with pytest.raises(mrgp.DataError, match=r"neuron_coords\['B'\]: neuron 1 has no label \(nan\)"):
        mrgp.MultiRegionData(regions(), BIN, neuron_coords={"B": [1.0, np.nan]})


def test_labels_of_no_kind_that_files_hold():
    with pytest.raises(mrgp.DataError, match=r"trial_coords\['id'\] are complex128: give numbers or text"):
        recording(np.ones(4) * 1j, "id")


# --- names


@pytest.mark.parametrize("name", ["region", "two words", "file", "units", "coordinates", "x.y", "é", "_a", "A_", "8"])
def test_names_of_trial_coordinates_are_kept(name, tmp_path):
    data = recording(np.arange(4) + 100, name)
    for suffix in (".npz", ".nc"):
        mrgp.save_recording(data, tmp_path / f"a{suffix}")
        again = mrgp.load_recording(tmp_path / f"a{suffix}")
        assert list(again.trial_coords) == [name]
        assert again.trial_coords[name].tolist() == [100, 101, 102, 103]
        assert again.layout == data.layout
        np.testing.assert_array_equal(again.values, data.values)
        assert again.neuron_coords == {}


TAKEN = {
    "time": r"trial_coords\['time'\] has the name of the recording's own time: rename it, such as 'time_'",
    "trial": "the recording's own trial",
    "bin_width": "the recording's own bin_width",
    "regions": "the recording's own regions",
    "A": "the name of region A: rename it, such as 'A_'",
    "neuron_A": "the name of the neurons of region A",
    "a/b": "'a/b' cannot be the name of a trial coordinate: use a string like 'stimulus'",
    " b": "' b' cannot be the name",
    "b\n": "cannot be the name",
    "": "'' cannot be the name",
    "..": "cannot be the name",
    3: "3 cannot be the name",
}


@pytest.mark.parametrize("name", TAKEN)
def test_names_of_trial_coordinates_are_refused(name):
    with pytest.raises(mrgp.DataError, match=TAKEN[name]):
        recording(np.arange(4), name)


@pytest.mark.parametrize("name", ["a b", "units", "trial_x", "é", "A_mean", "neuron_x"])
def test_names_of_regions_are_kept(name, tmp_path):
    data = mrgp.MultiRegionData(regions(**{name: 2}), BIN, neuron_coords={name: ["a", "b"], "A": [1, 2, 3]})
    for suffix in (".npz", ".nc"):
        mrgp.save_recording(data, tmp_path / f"a{suffix}")
        again = mrgp.load_recording(tmp_path / f"a{suffix}")
        assert again.layout == data.layout
        assert {region: labels.tolist() for region, labels in again.neuron_coords.items()} == {
            name: ["a", "b"], "A": [1, 2, 3],
        }  # fmt: skip


@pytest.mark.parametrize("name", ["time", "trial", "bin_width", "regions", "file", "a/b", " a", "a ", ".", ""])
def test_names_of_regions_are_refused(name):
    with pytest.raises(mrgp.DataError, match="cannot be the name of a region: use a string like 'V1'"):
        mrgp.MultiRegionData(regions(**{name: 2}), BIN)


def test_names_that_meet_in_files_are_refused():
    with pytest.raises(mrgp.DataError, match="region 'neuron_A' is called like the neurons of region 'A'"):
        mrgp.MultiRegionData(regions(neuron_A=2), BIN)
    with pytest.raises(mrgp.DataError, match=r"trial_coords\['x'\] has the name of region trial_x in files"):
        mrgp.MultiRegionData(regions(trial_x=2), BIN, trial_coords={"x": np.arange(4)})


def test_names_from_elsewhere_are_made_free():
    found = [free_name(name, ["A"], {"x"}) for name in ("time", "A", "neuron_A", "x", " a/b ", "", "id")]
    assert found == ["time_", "A_", "neuron_A_", "x_", "a_b", "_", "id"]
    dataset = mrgp.MultiRegionData(regions(), BIN).to_xarray().assign_coords(trial=[5, 6, 7, 8])
    assert mrgp.MultiRegionData.from_xarray(dataset).trial_coords["trial_"].tolist() == [5, 6, 7, 8]


def test_regions_of_units_are_labels_too():
    times = [np.random.default_rng(unit).uniform(0, 2, 40) for unit in range(3)]
    trials = {"start": [0.0, 1.0], "stop": [1.0, 2.0]}
    data = mrgp.from_spike_times(times, [1000001, 1000002, 1000001.0], 0.1, **trials)
    assert data.layout.regions == ("1000001", "1000002")
    assert mrgp.from_spike_times(times, [1, 2, 1], 0.1, regions=[2, 1], **trials).layout.regions == ("2", "1")
    for missing in (None, float("nan"), "nan"):
        with pytest.raises(mrgp.DataError, match=r"unit 1 has no region \((None|nan)\): name it, or leave the unit"):
            mrgp.from_spike_times(times, ["V1", missing, "V2"], 0.1, **trials)
        chosen = mrgp.from_spike_times(times, ["V1", missing, "V2"], 0.1, regions=["V1"], **trials)
        assert chosen.neuron_coords["V1"].tolist() == [0]
