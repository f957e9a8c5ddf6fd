"""The event that trials are aligned to: time 0 of everything that a recording and its fits say, and kept in files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mrgp
from mrgp.recordings.blocks import in_blocks
from mrgp.recordings.layout import Layout
from mrgp.results.account import recording_facts

FITTED = Path(__file__).parents[1] / "data" / "fits" / "DLAG.nc"
EVENTS = np.arange(1.0, 60.0, 3.0)
AROUND = (-0.2, 0.5)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    spikes = [np.sort(rng.uniform(0, 60, 900)) for _ in range(5)]
    areas = ["V1", "V1", "V2", "V2", "V2"]
    return mrgp.from_spike_times(spikes, areas, 0.1, align=EVENTS, window=AROUND, event="stim_time")


def test_time_is_measured_from_the_event(data):
    np.testing.assert_allclose(data.times, [-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4], atol=1e-12)
    assert (data.layout.event, data.layout.begin) == ("stim_time", -0.2)
    assert "  aligned to: stim_time, -0.2 to 0.5 s" in repr(data)
    assert str(data.layout).endswith("bins of 100 ms, from -0.2 s around stim_time")
    for part in (data.select_trials([0, 3]), data.select_neurons({"V1": [0]}), mrgp.square_root(data)):
        np.testing.assert_array_equal(part.times, data.times)
        assert part.layout.event == "stim_time"
    same = mrgp.from_spike_times([EVENTS], ["V1"], 0.1, start=EVENTS, stop=EVENTS + 1)
    assert (same.layout.event, same.layout.begin, same.times[0]) == ("", 0.0, 0.0)
    assert "aligned to" not in repr(same)


@pytest.mark.parametrize("suffix", [".npz", ".nc", ".zarr"])
def test_files_keep_the_event(data, tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    mrgp.save_recording(data, tmp_path / f"a{suffix}")
    again = mrgp.load_recording(tmp_path / f"a{suffix}")
    assert again.layout == data.layout
    np.testing.assert_array_equal(again.times, data.times)
    assert again.fingerprint == data.fingerprint


def test_an_event_of_arrays_is_given_by_name_and_begin():
    array = np.random.default_rng(0).standard_normal((3, 4, 2))
    data = mrgp.MultiRegionData({"V1": array}, 0.1, event=("cue", -0.1))
    assert data.layout.window(data.n_bins) == "cue, -0.1 to 0.3 s"
    stamped = mrgp.MultiRegionData({"V1": array}, 0.1, times=[-0.3, 0.0, 0.2, 0.7], event=("cue", -0.3))
    assert stamped.layout.window(4) == "cue, -0.3 to 0.8 s"
    again = mrgp.MultiRegionData.from_xarray(stamped.to_xarray())
    assert again.layout == stamped.layout
    for own in ("", 3, ["a", "b"]):  # attributes of files of others
        foreign = mrgp.MultiRegionData.from_xarray(stamped.to_xarray().assign_attrs(event=own))
        assert (foreign.layout.event, foreign.layout.begin) == ("", 0.0)
    for event in ("cue", ("cue",), ("", 0.1), 3, (3, 0.1), {"cue": 0.1}, ("cue", 0.1, 0.2), [None, 0.1]):
        with pytest.raises(mrgp.DataError, match=r"event is .*: give its name and when trials begin, such as"):
            mrgp.MultiRegionData({"V1": array}, 0.1, event=event)
    with pytest.raises(mrgp.DataError, match=r"the begin of trials is nan: give seconds after the event, such as -0.2"):
        mrgp.MultiRegionData({"V1": array}, 0.1, event=("cue", np.nan))
    with pytest.raises(mrgp.DataError, match=r"\+0 s around cue, .* -0.1 s around cue.*: make both with the same"):
        mrgp.join_trials([data, mrgp.MultiRegionData({"V1": array}, 0.1, event=("cue", 0.0))])


def test_blocks_of_trials_are_aligned_to_nothing(data):
    cut = in_blocks(data, 0.4)
    assert (cut.n_trials, cut.layout.event, cut.times[0]) == (2 * data.n_trials, "", 0.0)
    assert in_blocks(data, 2.0).layout == data.layout  # none is cut


def test_other_windows_around_an_event_have_the_same_neurons_and_steps():
    one, other = Layout(("V1",), (2,), 0.1, event="cue", begin=-0.2), Layout(("V1",), (2,), 0.1)
    assert one.same_neurons(other)
    assert one.same_times(other, 5)
    assert not one.same_times(Layout(("V1",), (2,), 0.1, times=(0.0, 0.3, 0.4)), 3)


def test_fits_keep_the_event(tmp_path):
    fit = mrgp.load_fit(FITTED)
    assert "aligned to" not in recording_facts(fit)
    aligned = replace(fit, layout=replace(fit.layout, event="cue", begin=-0.1))
    aligned.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    assert again.layout == aligned.layout
    end = -0.1 + fit.n_bins * fit.layout.bin_width
    assert recording_facts(again)["aligned to"] == f"cue, -0.1 to {end:g} s"


def test_an_event_is_said_of_a_recording_or_taken_back():
    array = np.random.default_rng(0).standard_normal((3, 4, 2))
    array[1, 2, 0] = np.nan
    bare = mrgp.square_root(mrgp.MultiRegionData({"V1": np.abs(array)}, 0.1))
    named = mrgp.with_event(bare, ("cue", -0.2))
    np.testing.assert_allclose(named.times, [-0.2, -0.1, 0.0, 0.1])
    assert (named.layout.event, bare.layout.event) == ("cue", "")
    assert named.fingerprint == bare.fingerprint
    assert named.trial_fingerprints == bare.trial_fingerprints
    np.testing.assert_array_equal(named.region("V1"), bare.region("V1"))
    assert mrgp.with_event(named, None).layout == bare.layout
    with pytest.raises(mrgp.DataError, match=r"event is 'cue': give its name and when trials begin"):
        mrgp.with_event(bare, "cue")


def test_recordings_of_several_events_are_joined_by_the_sentence():
    array = np.random.default_rng(0).standard_normal((3, 4, 2))
    bare = mrgp.MultiRegionData({"V1": array}, 0.1)
    cue = mrgp.MultiRegionData({"V1": array + 1}, 0.1, event=("cue", -0.2))
    for recordings in ([bare, cue], [cue, bare], [mrgp.with_event(bare, ("reward", 0)), cue]):
        with pytest.raises(mrgp.DataError, match=r"not all are aligned to one event: .*, or for all, mrgp") as told:
            mrgp.join_trials(recordings)
        mended = mrgp.join_trials([mrgp.with_event(recording, None) for recording in recordings])
        assert (mended.n_trials, mended.layout.event, mended.layout.begin) == (6, "", 0.0)
        first = recordings[0].layout
        assert f"({first.event or 'cue'!r}, {first.begin if first.event else -0.2:g})" in str(told.value)
    mended = mrgp.join_trials([mrgp.with_event(bare, ("cue", -0.2)), cue])
    assert mended.layout == cue.layout
    np.testing.assert_array_equal(mended.region("V1"), np.concatenate([array, array + 1]))
