"""Arguments of a wrong kind at the doors of recordings: refused in a sentence, never in NumPy's words or Python's."""

import datetime

import numpy as np
import pytest

import mrgp
from mrgp.recordings.folds import deal_folds
from mrgp.recordings.preprocessing import remove_mean
from mrgp.recordings.shuffling import without_communication
from mrgp.recordings.splits import checked_held_out

ARRAY = np.random.default_rng(0).standard_normal((3, 4, 2))
EVENTS = np.arange(1.0, 55.0, 3.0)
SPIKES = [np.sort(np.random.default_rng(unit).uniform(0, 60, 900)) for unit in range(4)]
AREAS = ["V1", "V1", "V2", "V2"]
WRONG = [3, -1.5, "x", b"x", len, [1, 2], [[1, 2], [3]], {"a": 1}, np.array(3), np.nan, True, {1}, (None, None)]

DATA = mrgp.MultiRegionData({"V1": ARRAY, "V2": ARRAY + 1}, 0.1)
SPIKE_TIMES = {
    "spike_times": SPIKES, "region_of_unit": AREAS, "bin_width": 0.1, "align": EVENTS, "window": (0.0, 0.5),
}  # fmt: skip


def arrays(**changed):
    return mrgp.MultiRegionData(**{"regions": {"V1": ARRAY}, "bin_width": 0.1} | changed)


def counted(**changed):
    return mrgp.from_spike_times(**SPIKE_TIMES | changed)


def loaded(path=None, **changed):
    return mrgp.load_recording({"V1": ARRAY, "bin_width": 0.1} if path is None else path, **changed)


DOORS = [
    *((arrays, name) for name in ("regions", "neuron_coords", "trial_coords", "dtype", "event", "times")),
    *((counted, name) for name in ("spike_times", "region_of_unit", "align", "window", "regions", "observed")),
    *((counted, name) for name in ("trial_coords", "event")),
    *((loaded, name) for name in ("path", "regions")),
    (DATA.select_neurons, "indices"),
    (DATA.without, "neurons"),
    (DATA.drop_dead, "regions"),
    (DATA.trial_labels, "name"),
    (mrgp.MultiRegionData.from_xarray, "dataset"),
    (mrgp.join_trials, "recordings"),
    (lambda reference: remove_mean(DATA, reference=reference), "reference"),
    (lambda transform: mrgp.square_root(DATA, transform), "transform"),
    (lambda held_out: checked_held_out(DATA, held_out), "held_out"),
    (lambda path: mrgp.save_recording(DATA, path), "path"),
]
USABLE = {
    (counted, "event"): "'x'", (counted, "align"): "[1, 2]", (counted, "window"): "[1, 2]",
    (arrays, "dtype"): "(None, None)",  # float64, says NumPy
}  # fmt: skip


@pytest.mark.parametrize(("door", "name"), DOORS, ids=[f"{n}-{name}" for n, (_, name) in enumerate(DOORS)])
@pytest.mark.filterwarnings("ignore:.*")
def test_arguments_of_a_wrong_kind_are_refused_in_a_sentence(door, name):
    for wrong in WRONG:
        if repr(wrong) == USABLE.get((door, name)):
            continue
        with pytest.raises(mrgp.DataError):
            door(**{name: wrong})


def test_the_sentence_names_the_argument_and_the_remedy():
    for act, sentence in {
        lambda: arrays(trial_coords=[1, 2, 3]): r"trial_coords is \[1, 2, 3\]: give a mapping such as \{\"stimulus\"",
        lambda: arrays(dtype="double float"): "dtype is float32 or float64, not double float: leave it out",
        lambda: loaded(3): "the path is 3: give the name of a file or folder, or a mapping of arrays",
        lambda: loaded(regions="V1"): r"regions is 'V1': give a list of their names, such as \[\"V1\", \"V2\"\]",
        lambda: loaded(regions=[]): r"regions is \[\]: give a list of their names, such as \[\"V1\", \"V2\"\]",
        lambda: DATA.drop_dead(regions=3): r"regions is 3: give a list of names, such as \[\"V1\", \"V2\"\]",
        lambda: DATA.drop_dead(regions=["V9"]): "there is no region 'V9' here: choose from ",
        lambda: counted(region_of_unit="V1"): "region_of_unit is 'V1': give one for each of 4 units",
        lambda: counted(window=(None, None)): r"window is \(None, None\): give two numbers in seconds",
        lambda: mrgp.join_trials([DATA, 3]): "number 1 of what is to be joined is no recording, but 3: load it",
        lambda: mrgp.join_trials([]): "there are no recordings to join: give at least one",
        lambda: deal_folds(DATA, "3"): "n_folds is 2 or more, not 3",
        lambda: without_communication(DATA, among="3"): "among counts at least 2 trials, not 3",
        lambda: DATA.select_trials([[0, 1], [2]]): "cannot choose these trials, there are 3: ",
        lambda: DATA.select_trials(True): "cannot choose these trials, there are 3: positions are one row",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            act()


def test_keys_and_values_of_a_mapping_have_an_order():
    by_unit = dict(enumerate(SPIKES))
    counts = counted(spike_times=by_unit.values(), regions={"V2": 0, "V1": 1}.keys())
    assert counts.layout.regions == ("V2", "V1")
    np.testing.assert_array_equal(counts.region("V1"), counted().region("V1"))


def test_counts_of_neurons_in_a_file(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY)
    for wrong in (2, "2", [0.5, 1.5], [None, 2], {"V1": 2}):
        with pytest.raises(mrgp.DataError, match=r"n_neurons is .*: give a list of the neurons of each region"):
            mrgp.load_recording(tmp_path / "a.npy", bin_width=0.1, n_neurons=wrong)
    assert mrgp.load_recording(tmp_path / "a.npy", bin_width=0.1, n_neurons=[1, 1.0]).layout.n_neurons == (1, 1)


OF_FILES = {
    "align": [3, ["cue"], {"cue"}],
    "condition_of_trial": [3, ["side"], {"side": 1}],
    "window": [3, [], [None], (0, 1, 2), (np.nan, 1)],
    "region_map": [3, "x", ["V1"], {1}],
    "min_neurons": ["x", 0, None, 1.5, [2]],
    "units": [3, "good", ["good"]],
    "regions": [3, "V1", {"V1"}],
}


@pytest.mark.parametrize("option", OF_FILES)
@pytest.mark.filterwarnings("ignore:.*")
def test_options_of_sorted_files(option, tmp_path):
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile("a", "b", datetime.datetime.now(datetime.UTC))
    file.add_unit_column("location", "region")
    for times, area in zip(SPIKES, AREAS, strict=True):
        file.add_unit(spike_times=times, location=area)
    file.add_trial_column("cue", "time")
    for event in EVENTS:
        file.add_trial(start_time=event, stop_time=event + 1, cue=event + 0.2)
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as stream:
        stream.write(file)
    assert mrgp.load_nwb(tmp_path / "a.nwb", 0.1, align="cue", window=(0, 0.5)).n_trials == len(EVENTS)
    for wrong in OF_FILES[option]:
        with pytest.raises(mrgp.DataError, match=rf"{option}|there is no|counts units"):
            mrgp.load_nwb(tmp_path / "a.nwb", 0.1, **{option: wrong})


def test_trials_that_are_no_table():
    neo, pq = pytest.importorskip("neo"), pytest.importorskip("quantities")
    segment = neo.Segment()
    for times, area in zip(SPIKES, AREAS, strict=True):
        segment.spiketrains.append(neo.SpikeTrain(times * pq.s, t_stop=60 * pq.s, region=area))
    for wrong in (3, [1, 2], {1}, (None, None), np.arange(3)):
        with pytest.raises(mrgp.DataError, match=r"the trials are .*: give a mapping of columns, or a table of pandas"):
            mrgp.from_neo(segment, 0.1, trials=wrong)
    for wrong in (3, True, len):
        with pytest.raises(mrgp.DataError, match=r"region_of_unit is .*: give a column, or one name per unit"):
            mrgp.from_neo(segment, 0.1, trials={"start_time": [1.0], "stop_time": [2.0]}, region_of_unit=wrong)
