"""Sortings of spikeinterface and blocks of neo, against counts of their spike times by hand."""

import numpy as np
import pandas as pd
import pytest

import mrgp
from mrgp import DataError, from_spike_times

WIDTH = 0.05
AREAS = {"a": "V2", "b": "VISp5", "c": "V2", "d": "VISp2/3", "e": ""}
START, STOP = np.array([1.0, 2.0, 3.5, 5.0]), np.array([1.8, 3.0, 4.5, 5.9])
CUE = np.array([1.3, 2.3, np.nan, 5.4])
RATE = 1000.0  # samples per second
HOMELESS = "left out 1 of 5 units without a region"
SLASHED = "a slash in the name of a region becomes _, since files cannot hold it: VISp2/3"

pytestmark = pytest.mark.filterwarnings("ignore:.* lie in no trial", "ignore:a slash in the name of a region")


def spikes(seed=0, end=6500):
    """Label -> whole milliseconds, in seconds, sorted."""
    rng = np.random.default_rng(seed)
    return {unit: np.sort(rng.choice(end, 150, replace=False)) / RATE for unit in AREAS}


def expected(trains=None, areas=AREAS, **changed):
    kept = {unit: area.replace("/", "_") for unit, area in areas.items() if area}
    trains = spikes() if trains is None else trains
    arguments = {"start": START, "stop": STOP} | changed
    return from_spike_times({unit: trains[unit] for unit in kept}, kept, WIDTH, **arguments)


def assert_same(a, b):
    assert a.layout.same_neurons(b.layout)
    for name in a.layout.regions:
        np.testing.assert_array_equal(a.region(name), b.region(name))
        np.testing.assert_array_equal(a.neuron_coords[name], b.neuron_coords[name])


def table(**more):
    return {"start_time": START, "stop_time": STOP, "cue": CUE, "side": np.array(list("lrlr")), **more}


# --- spikeinterface


def sorting(trains=None, *, segments=None, properties=True):
    core = pytest.importorskip("spikeinterface.core")
    parts = [spikes() if trains is None else trains] if segments is None else segments
    samples = [{unit: np.round(train * RATE).astype(int) for unit, train in part.items()} for part in parts]
    made = core.NumpySorting.from_unit_dict(samples, RATE)
    if properties:
        made.set_property("brain_area", list(AREAS.values()))
        made.set_property("KSLabel", ["good", "mua", "good", "good", "good"])
        made.set_property("position", np.zeros((5, 2)))
    return made


def test_a_sorting():
    with pytest.warns(UserWarning, match="left out") as caught:
        data = mrgp.from_spikeinterface(sorting(), WIDTH, trials=table())
    assert_same(data, expected())
    assert data.trial_coords["side"].tolist() == list("lrlr")
    assert [str(warning.message) for warning in caught] == [SLASHED, HOMELESS]
    assert {warning.filename for warning in caught} == {__file__}


def test_units_of_a_sorting_are_chosen():
    frame = pd.DataFrame(table())
    with pytest.warns(UserWarning, match="left out 1 trials without a time in cue|left out 1 of"):
        data = mrgp.from_spikeinterface(
            sorting(), WIDTH, trials=frame, align="cue", window=(-0.1, 0.3), merge_layers=True, min_neurons=2,
            regions=["VISp"], units={"KSLabel": ["good", "mua"]},
        )  # fmt: skip
    present = CUE[[0, 1, 3]]
    wanted = expected(areas={"b": "VISp", "d": "VISp"}, start=None, stop=None, align=present, window=(-0.1, 0.3))
    assert_same(data, wanted)
    good = mrgp.from_spikeinterface(
        sorting(), WIDTH, trials=table(), region_of_unit=list("xyxyx"), units={"KSLabel": "good"}
    )
    assert_same(good, expected(areas={"a": "x", "c": "x", "d": "y", "e": "x"}))


def test_segments_of_a_sorting_have_clocks_of_their_own():
    first, second = spikes(0), spikes(1)
    which = np.array([0, 1, 1, 0])
    contrast = np.array([0.1, 0.2, 0.3, 0.4])
    more = table(segment=which, contrast=contrast)
    with pytest.warns(UserWarning, match=HOMELESS):
        data = mrgp.from_spikeinterface(sorting(segments=[first, second]), WIDTH, trials=more)
    np.testing.assert_array_equal(data.trial_coords["contrast"], contrast)
    np.testing.assert_array_equal(data.trial_coords["segment"], which)
    trains = (first, second)
    parts = [expected(own, start=START[which == n], stop=STOP[which == n]) for n, own in enumerate(trains)]
    found = data.with_nan()
    for n, part in enumerate(parts):
        wanted = part.with_nan()
        np.testing.assert_array_equal(found[which == n][:, : wanted.shape[1]], wanted)
    around = table(segment=which, cue=START + 0.2)
    with pytest.warns(UserWarning, match=HOMELESS):
        data = mrgp.from_spikeinterface(
            sorting(segments=[first, second]), WIDTH, trials=around, align="cue", window=(-0.2, 0.3)
        )
    for n, own in enumerate(trains):
        wanted = expected(own, start=None, stop=None, align=(START + 0.2)[which == n], window=(-0.2, 0.3))
        np.testing.assert_array_equal(data.with_nan()[which == n], wanted.with_nan())
    with pytest.raises(DataError, match="has 2 segments, each with its own clock: add a column 'segment'"):
        mrgp.from_spikeinterface(sorting(segments=[first, second]), WIDTH, trials=table())
    with pytest.raises(DataError, match="segment of the trials is from 0 to 1: mend the column"):
        mrgp.from_spikeinterface(sorting(segments=[first, second]), WIDTH, trials=table(segment=which + 1))


def test_segments_with_a_recording_are_trials():
    core = pytest.importorskip("spikeinterface.core")
    parts = [spikes(n, 1000 + 200 * n) for n in range(3)]
    made = sorting(segments=parts)
    with pytest.raises(DataError, match="segments of the sorting do not say when they end: pass trials="):
        mrgp.from_spikeinterface(made, WIDTH)
    made.register_recording(core.NumpyRecording([np.zeros((1000 + 200 * n, 1)) for n in range(3)], RATE))
    with pytest.warns(UserWarning, match=HOMELESS):
        data = mrgp.from_spikeinterface(made, WIDTH)
    np.testing.assert_array_equal(data.length, [20, 24, 28])
    for n, trains in enumerate(parts):
        wanted = expected(trains, start=[0.0], stop=[1.0 + 0.2 * n])
        np.testing.assert_array_equal(data.with_nan()[n, : wanted.n_bins], wanted.with_nan()[0])


def test_a_segment_ends_with_its_last_sample_also_where_there_are_gaps():
    class Gapped:
        """Manners of a sorting whose recording stood still for 2 s."""

        unit_ids = ("a",)

        def get_num_segments(self):
            return 1

        def get_unit_spike_train(self, unit, segment_index, return_times):
            assert not return_times  # which takes the times of every sample
            return np.array([200, 1200])

        def has_recording(self):
            return True

        def get_times(self, segment_index):
            return np.concatenate([np.arange(1000), np.arange(3000, 4000)]) / RATE

        def get_num_samples(self, segment_index):
            return 2000

        def get_sampling_frequency(self):
            return RATE

        def get_property_keys(self):
            return ["brain_area"]

        def get_property(self, name):
            return ["V1"]

    trials = {"start_time": [0.0, 3.0], "stop_time": [1.0, 4.0]}
    data = mrgp.from_spikeinterface(Gapped(), 0.5, trials=trials)
    np.testing.assert_array_equal(data.with_nan()[:, :, 0], [[1, 0], [1, 0]])  # the end is seen, and silent
    assert mrgp.from_spikeinterface(Gapped(), 0.5).n_bins == 8

    class Converting(Gapped):
        """Those of a later version, which converts samples."""

        def sample_index_to_time(self, samples, segment_index):
            assert np.size(samples) <= 2
            return Gapped.get_times(self, segment_index)[samples]

        def get_times(self, segment_index):
            raise AssertionError("the times of every sample are not needed")

    one, other = mrgp.from_spikeinterface(Gapped(), 0.5), mrgp.from_spikeinterface(Converting(), 0.5)
    assert one.fingerprint == other.fingerprint


@pytest.mark.filterwarnings("ignore:.*set_times")
def test_a_sorting_with_the_times_of_its_recording():
    core = pytest.importorskip("spikeinterface.core")
    made, recording = sorting(), core.NumpyRecording([np.zeros((6500, 1))], RATE)
    clock = np.arange(6500) / RATE + 100.0
    clock[3000:] += 7.0  # a gap
    recording.set_times(clock)
    made.register_recording(recording)
    shifted = {unit: clock[np.round(train * RATE).astype(int)] for unit, train in spikes().items()}
    starts = np.where(START < 3, START, START + 7) + 100.0
    trials = {"start_time": starts, "stop_time": starts + STOP - START}
    with pytest.warns(UserWarning, match=HOMELESS):
        data = mrgp.from_spikeinterface(made, WIDTH, trials=trials)
    assert_same(data, expected(shifted, start=starts, stop=starts + STOP - START))


def test_conditions_of_trials():
    nap = pytest.importorskip("pynapple")
    side = np.array(["l", "r", "", "r"])
    wanted = ["l", "r", "none", "r"]
    with pytest.warns(UserWarning, match=HOMELESS):
        data = mrgp.from_neo(block(), WIDTH, trials=table(side=side), condition_of_trial="side")
    assert data.trial_coords["condition"].tolist() == wanted
    assert data.layout.conditions == ("l", "none", "r")
    parts = [spikes(n, 1000) for n in range(3)]
    with pytest.warns(UserWarning, match=HOMELESS):
        data = mrgp.from_neo(block(parts, ends=(1.0,) * 3, begins=(0.0,) * 3), WIDTH, condition_of_trial="side")
    assert data.trial_coords["condition"].tolist() == list("lrl")
    units = nap.TsGroup({n: nap.Ts(train) for n, train in enumerate(spikes().values())})
    trials = nap.IntervalSet(START, STOP, metadata={"side": side})
    areas = ["V1", "V2", "V1", "V2", "V1"]
    data = mrgp.from_pynapple(units, trials, WIDTH, region_of_unit=areas, condition_of_trial="side")
    assert data.trial_coords["condition"].tolist() == wanted
    with pytest.raises(DataError, match="the trials of the intervals have no column 'hue': choose from side"):
        mrgp.from_pynapple(units, trials, WIDTH, region_of_unit=areas, condition_of_trial="hue")
    with pytest.raises(DataError, match="the trials of the intervals have no column 'hue': choose from none"):
        mrgp.from_pynapple(
            units, None, WIDTH, region_of_unit=areas, align=START, window=(0, 1), condition_of_trial="hue"
        )
    with (
        pytest.warns(UserWarning, match=HOMELESS),
        pytest.raises(DataError, match="the trials of the block have no column 'hue': choose from cue, side"),
    ):
        mrgp.from_neo(block(), WIDTH, trials=table(), condition_of_trial="hue")


def test_conditions_of_the_trials_of_a_sorting():
    with pytest.warns(UserWarning, match=HOMELESS):
        data = mrgp.from_spikeinterface(sorting(), WIDTH, trials=table(), condition_of_trial="side")
    assert data.trial_coords["condition"].tolist() == list("lrlr")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region_of_unit": "depth"}, "nothing in the sorting says where its units are, there is .*: pass region_"),
        ({"region_of_unit": ["V1"]}, "region_of_unit has 1 names for the 5 units of the sorting"),
        ({"align": "cue"}, r"align='cue' needs a window in seconds around it"),
        ({"align": "go", "window": (0, 1)}, "the table 'trials' has no column 'go' of times"),
        ({"units": {"quality": 1}}, "the units of the sorting have no column 'quality': there is "),
        ({"bin_width": -1}, "bin_width is -1: give the seconds per bin"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_sortings_that_cannot_be_counted(options, message):
    with pytest.raises(DataError, match=message):
        mrgp.from_spikeinterface(sorting(), **{"bin_width": WIDTH, "trials": table()} | options)


def test_what_is_no_sorting():
    with pytest.raises(DataError, match="the sorting is a dict: pass a sorting of spikeinterface"):
        mrgp.from_spikeinterface({}, WIDTH)


# --- neo


def block(parts=None, *, ends=(6.5,), begins=(0.0,), names=True, annotated=True, **marks):
    """A block of segments, times in milliseconds; ``marks`` are their epochs and events."""
    neo, pq = pytest.importorskip("neo"), pytest.importorskip("quantities")
    made = neo.Block()
    for n, (trains, begin, end) in enumerate(zip(parts or [spikes()], begins, ends, strict=True)):
        segment = neo.Segment(side="lr"[n % 2], tags=["x"])
        for unit, times in trains.items():
            about = {"region": AREAS[unit], "quality": "good" if unit in "acd" else "mua"} if annotated else {}
            train = neo.SpikeTrain(times * 1e3 * pq.ms, t_start=begin * pq.s, t_stop=end * 1e6 * pq.us, **about)
            train.name = unit if names else None
            segment.spiketrains.append(train)
        for mark in marks.get("marks", [[]] * (n + 1))[n]:
            (segment.epochs if isinstance(mark, neo.Epoch) else segment.events).append(mark)
        made.segments.append(segment)
    return made


def epochs(name="trials"):
    neo, pq = pytest.importorskip("neo"), pytest.importorskip("quantities")
    go = CUE * 1e3 * pq.ms
    return neo.Epoch(START * 1e3 * pq.ms, (STOP - START) * pq.s, labels=list("lrlr"), name=name,
                     array_annotations={"go": go, "contrast": [0.1, 0.2, 0.3, 0.4]})  # fmt: skip


def events(name="cue"):
    neo, pq = pytest.importorskip("neo"), pytest.importorskip("quantities")
    return neo.Event(CUE[[0, 1, 3]] * 1e6 * pq.us, labels=list("abc"), name=name)


def test_a_block_and_its_epochs_in_other_units():
    pq = pytest.importorskip("quantities")
    made = block(marks=[[epochs(), events()]])
    with pytest.warns(UserWarning, match=HOMELESS):
        data = mrgp.from_neo(made, 50 * pq.ms, trials="trials")
    assert_same(data, expected())
    assert data.trial_coords["label"].tolist() == list("lrlr")
    np.testing.assert_array_equal(data.trial_coords["contrast"], [0.1, 0.2, 0.3, 0.4])
    around = expected(start=None, stop=None, align=CUE[[0, 1, 3]], window=(-0.1, 0.3))
    for align in ("go", "cue"):  # an array annotation, and events of a segment
        with pytest.warns(UserWarning, match="left out") as caught:
            data = mrgp.from_neo(made, WIDTH, trials="trials", align=align, window=(-100 * pq.ms, 0.3 * pq.s))
        told = [str(warning.message) for warning in caught]
        assert told[:3] == [SLASHED, HOMELESS, f"left out 1 trials without a time in {align}"]
        assert_same(data, around)
    data = mrgp.from_neo(made.segments[0], WIDTH, trials="cue", window=(-0.1, 0.3), units={"quality": "good"})
    assert data.layout.n_neurons == (2, 1)
    assert data.trial_coords["label"].tolist() == list("abc")
    np.testing.assert_array_equal(data.region("V2"), around.region("V2"))
    times = {"start_time": START * 1e3 * pq.ms, "stop_time": STOP * pq.s, "side": list("abab")}
    with pytest.warns(UserWarning, match=HOMELESS):
        assert_same(mrgp.from_neo(made, WIDTH, trials=times), expected())


@pytest.mark.filterwarnings("ignore:left out 1 of 5 units")
def test_an_event_of_the_next_trial_is_not_that_of_a_trial_without():
    neo, pq = pytest.importorskip("neo"), pytest.importorskip("quantities")
    starts = neo.Event(START * pq.s, name="start")  # events, which do not say when trials stop
    made = block(marks=[[starts, events()]])
    with pytest.warns(UserWarning, match="left out") as caught:
        data = mrgp.from_neo(made, WIDTH, trials="start", align="cue", window=(-0.1, 0.3))
    assert "left out 1 trials without a time in cue" in [str(warning.message) for warning in caught]
    assert_same(data, expected(start=None, stop=None, align=CUE[[0, 1, 3]], window=(-0.1, 0.3)))
    with pytest.raises(DataError, match="the table 'trials' has no column 'cue' of times"):
        mrgp.from_neo(made, WIDTH, trials={"begin": START}, align="cue", window=(-0.1, 0.3))


@pytest.mark.parametrize("names", [True, False])
def test_segments_of_a_block_are_trials(names):
    parts = [spikes(n, 1000 + 200 * n) for n in range(3)]
    made = block(parts, ends=(1.0, 1.2, 1.4), begins=(0.0,) * 3, names=names)
    with pytest.warns(UserWarning, match="left out") as caught:
        data = mrgp.from_neo(made, WIDTH)
    assert [str(warning.message) for warning in caught] == [SLASHED, HOMELESS]
    assert data.trial_coords.keys() == {"side"}
    assert data.trial_coords["side"].tolist() == list("lrl")
    assert data.neuron_coords["V2"].tolist() == (["a", "c"] if names else [0, 2])
    np.testing.assert_array_equal(data.length, [20, 24, 28])
    for n, trains in enumerate(parts):
        wanted = expected(trains, start=[0.0], stop=[1.0 + 0.2 * n])
        np.testing.assert_array_equal(data.with_nan()[n, : wanted.n_bins], wanted.with_nan()[0])


def test_segments_that_go_on_share_a_clock():
    whole = spikes()
    parts = [{unit: train[(train >= a) & (train < b)] for unit, train in whole.items()} for a, b in ((0, 3), (3, 6.5))]
    made = block(parts, begins=(0.0, 3.0), ends=(3.0, 6.5))
    with pytest.warns(UserWarning, match=HOMELESS):
        assert_same(mrgp.from_neo(made, WIDTH, trials=table()), expected())


def test_what_a_train_did_not_record_is_missing():
    pq = pytest.importorskip("quantities")
    made = block()
    train = made.segments[0].spiketrains[0]
    made.segments[0].spiketrains[0] = short = train.time_slice(0 * pq.s, 2.5 * pq.s)
    assert (short.t_stop, short.annotations["region"]) == (2.5 * pq.s, "V2")
    with pytest.warns(UserWarning, match="left out|were not observed") as caught:
        data = mrgp.from_neo(made, WIDTH, trials=table())
    assert "in 3 of 4 trials, 1 unit(s) were not observed all the time: bins are missing" in map(
        str, (warning.message for warning in caught)
    )
    missing = np.isnan(data.region("V2")[:, :, 0])
    np.testing.assert_array_equal(missing[1], np.arange(20) >= 10)
    assert missing[2:].all()
    assert not np.isnan(data.region("V2")[1, :, 1]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": "gratings"}, "the block has no epochs or events 'gratings': choose from trials, cue"),
        ({"region_of_unit": "depth"}, "nothing in the block says where its units are, there is region, quality"),
        ({"align": "go"}, r"align='go' needs a window in seconds around it"),
        ({"trials": "cue"}, "the table 'cue' has no column 'stop_time' of times"),
        ({"align": "lick", "window": (0, 1)}, "the table 'trials' has no column 'lick' of times: choose from .*go"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_blocks_that_cannot_be_counted(options, message):
    with pytest.raises(DataError, match=message):
        mrgp.from_neo(block(marks=[[epochs(), events()]]), **{"bin_width": WIDTH, "trials": "trials"} | options)


@pytest.mark.filterwarnings("ignore")
def test_trains_that_are_not_told_apart():
    with pytest.raises(DataError, match=r"the block is a dict: pass a neo.Block, or its segments"):
        mrgp.from_neo({}, WIDTH)
    reverse = dict(reversed(spikes().items()))
    with pytest.raises(DataError, match="units of the block are in another order in some segments"):
        mrgp.from_neo(block([spikes(), reverse], begins=(0, 0), ends=(7, 7)), WIDTH)
    fewer = {unit: train for unit, train in spikes().items() if unit != "c"}
    with pytest.raises(DataError, match="segment 1 of the block has other units than segment 0"):
        mrgp.from_neo(block([spikes(), fewer], begins=(0, 0), ends=(7, 7), names=False), WIDTH)
    with pytest.raises(DataError, match="segment 1 of the block has other units than segment 0"):
        mrgp.from_neo(block([spikes(), {}], begins=(0, 0), ends=(7, 7)), WIDTH)
    made = block(annotated=False)
    with pytest.raises(DataError, match="nothing in the block says where its units are, there is nothing"):
        mrgp.from_neo(made, WIDTH)
    with pytest.raises(DataError, match="the block has no spike trains"):
        mrgp.from_neo([], WIDTH)
    named = mrgp.from_neo(made, WIDTH, trials=table(), region_of_unit=AREAS)
    assert_same(named, expected())
