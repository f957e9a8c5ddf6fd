"""Slips that can be counted all the same: a sentence each, and none for recordings that are as they should be."""

import re
import warnings

import numpy as np
import pytest

import mrgp
from mrgp.recordings.plausibility import outside_doubts

AREAS = ["V1"] * 3 + ["V2"] * 3
START = 2.0 * np.arange(40)


def told(make, *arguments, **options):
    """The recording, and what was said of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = make(*arguments, **options)
    assert all(warning.filename == __file__ for warning in caught)
    return data, [str(warning.message) for warning in caught]


def count(spikes, areas=AREAS, start=START):
    return told(mrgp.from_spike_times, spikes, areas, 0.02, start=start, stop=start + 1)


def spikes(rate=20.0, seed=0):
    rng = np.random.default_rng(seed)
    return [np.sort(rng.uniform(0, 80, int(80 * rate))) for _ in AREAS]


def test_a_sane_recording_is_left_alone():
    assert count(spikes())[1] == []
    assert count(spikes(rate=0.1))[1] == []  # half of the trials are silent, as they may be


def test_spike_times_that_begin_anew_in_every_trial():
    rng = np.random.default_rng(0)
    anew = [np.concatenate([np.sort(rng.uniform(0, 1, 20)) for _ in START]) for _ in AREAS]
    data, sentences = count(anew)
    assert (data.values.sum((1, 2)) == 0).sum() == 39
    assert len(sentences) == 2
    assert sentences[0].startswith("spikes are from 0.0001")
    assert sentences[0].endswith(
        "s only, but trials from 0 to 79 s (39 of 40 trials reach beyond, where bins count as zero spikes): check that "
        "both are on one clock and in seconds"
    )
    assert sentences[1].startswith("39 of 40 trials hold no spike of any neuron, while the others hold 4800 each: ")


def test_many_silent_trials_among_busy_ones():
    gap = [times[(times < 20) | (times > 40)] for times in spikes()]
    _, sentences = count(gap)
    assert len(sentences) == 1
    assert sentences[0].startswith("10 of 40 trials hold no spike of any neuron, while the others hold 1")
    counts = mrgp.from_spike_times(spikes(), AREAS, 0.02, start=START, stop=START + 1)
    regions = {name: counts.region(name) for name in ("V1", "V2")}
    for array in regions.values():
        array[10:20] = 0
    assert told(mrgp.MultiRegionData, regions, 0.02)[1][0].startswith("10 of 40 trials hold no spike of any neuron")
    for array in regions.values():
        array[12:20] += 1
    assert told(mrgp.MultiRegionData, regions, 0.02)[1] == []  # two of forty


def test_trials_of_which_little_was_observed_are_not_silent():
    counts = mrgp.from_spike_times(spikes(), AREAS, 0.02, start=START, stop=START + 1)
    regions = {name: counts.region(name) for name in ("V1", "V2")}
    for array in regions.values():
        array[10:20] = np.nan
    regions["V2"][10:20, :, 0] = 0
    assert told(mrgp.MultiRegionData, regions, 0.02)[1] == []


@pytest.mark.parametrize(("factor", "width", "rate"), [(1e3, 0.2, "0.02"), (1 / 60, 2e-4, "1.2e+03")])
def test_spike_times_in_milliseconds_or_minutes(factor, width, rate):
    """Where trials are in seconds, and long enough to hold some."""
    given = [factor * times for times in spikes()]
    start = np.arange(0, 80 * factor, 4 * factor)
    with pytest.warns(UserWarning, match=f"the unit that fires most has {re.escape(rate)} spikes per second: check"):
        mrgp.from_spike_times(given, AREAS, width, start=start, stop=start + 2 * factor)


def test_several_spikes_at_one_instant():
    twice = spikes()
    twice[4] = np.repeat(twice[4], 2)
    twice[1] = np.append(twice[1], twice[1][:6])  # of 1600: as sorters leave them
    _, sentences = count(twice)
    assert len(sentences) == 1
    assert sentences[0].startswith("unit 4 has 1600 of its 3200 spikes at the instant of another one: check for spikes")


def test_one_unit_in_two_regions():
    given = dict(zip("abcdef", spikes(), strict=True))
    given["e"] = given["b"]
    sentence = (
        "region V1, neuron 1 (label b) and region V2, neuron 1 (label e) hold the same values: one unit in two regions "
        "pulls delays to 0, leave one out"
    )
    data, sentences = count(given)
    assert sentences == [sentence]
    regions = {name: data.region(name) for name in ("V1", "V2")}
    regions["V2"][..., 2] = regions["V1"][..., 0]
    _, sentences = told(mrgp.MultiRegionData, regions, 0.02)
    assert sentences == [
        "region V1, neuron 1 and region V2, neuron 1 hold the same values (and 1 more pair(s)): one unit in two "
        "regions pulls delays to 0, leave one out"
    ]
    few = {name: np.zeros((5, 4, 2)) for name in ("V1", "V2")}
    for array in few.values():
        array[0, 1] = array[3, 2] = 1.0  # two spikes each: alike by chance
    assert told(mrgp.MultiRegionData, few, 0.02)[1] == []


@pytest.mark.parametrize("width", [2, 5e-5])
def test_bins_of_an_unlikely_width(width):
    array = np.random.default_rng(0).standard_normal((3, 4, 2))
    data, sentences = told(mrgp.MultiRegionData, {"V1": array}, width)
    assert sentences == [f"bins of {width:g} s: is that right? bin_width is in seconds"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.select_trials([0, 1])
        data.with_values(2 * data.values)
        mrgp.MultiRegionData({"V1": array}, 0.001)


def test_bins_that_are_meant_in_milliseconds_are_refused():
    with pytest.raises(mrgp.DataError, match=r"bins of 20 s are longer than 5 s: give .*, such as 0.02 for"):
        mrgp.MultiRegionData({"V1": np.ones((3, 4, 2))}, 20)


def test_trials_that_go_on_after_the_last_spike():
    short = [times[times < 50.5] for times in spikes()]  # trials begin at 0, 2, ..., 78 s, and last one
    _, sentences = count(short)
    assert sentences[0].startswith("spikes are from 0.00")
    assert " s, and 15 of 40 trials reach beyond, where bins count as zero spikes: leave those trials" in sentences[0]
    assert sentences[1].startswith("14 of 40 trials hold no spike of any neuron")  # the one before ends too early
    known = {"observed": [[[0.0, 100.0]]] * 6, "start": START, "stop": START + 1}
    _, sentences = told(mrgp.from_spike_times, short, AREAS, 0.02, **known)
    assert len(sentences) == 1


def test_spikes_outside_trials_that_gaps_do_not_explain():
    times = dict(enumerate(spikes()))
    total = sum(train.size for train in times.values())
    trials = np.stack([START, START + 1], 1)
    overlapping = np.concatenate([trials, trials + 0.5])
    for windows in (trials, overlapping, trials[::-1], trials[5:]):  # half of the time, and 12% before the first
        assert list(outside_doubts(times, windows)) == []
    assert list(outside_doubts(times, trials[:, ::-1])) == []  # refused elsewhere
    few = trials[20:30]
    inside = sum(int(np.sum(np.any((t[:, None] >= few[:, 0]) & (t[:, None] < few[:, 1]), 1))) for t in times.values())
    first = min(train[0] for train in times.values())
    assert list(outside_doubts(times, few)) == [
        f"{total - inside} of {total} spikes of the units ({100 * (1 - inside / total):.0f}%) lie in no trial, more "
        f"than gaps between trials explain: spikes are from {first:.4g} to 80 s, trials from 40 to 59 s with gaps of "
        "9 s in all; check that no trial is missing"
    ]

# --- rows of a matrix


def padded(fill, at_end=True):
    matrix = np.full((6, 2000), fill)
    for row, times in zip(matrix, spikes(), strict=True):
        row[slice(0, times.size) if at_end else slice(-times.size, None)] = times + 0.5
    return matrix


def test_rows_filled_up_with_nan():
    expected = count([times + 0.5 for times in spikes()])[0]
    for given in (padded(np.nan), dict(enumerate(padded(np.nan))), np.ma.masked_equal(padded(-1.0), -1.0)):
        data, sentences = count(given)
        assert sentences == []
        np.testing.assert_array_equal(data.values, expected.values)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (padded(0.0), "spike times of unit 0 end in 400 x 0, which looks like padding: cut each unit's row to its"),
        (padded(-1.0), "spike times of unit 0 end in 400 x -1, which looks like padding"),
        (padded(0.0, at_end=False), r"spike times of unit 0 hold 400 zeros, which look like padding: .* or fill it"),
        (np.r_[padded(np.nan)[:5], np.zeros((1, 2000))], "spike times of unit 5 hold 2000 zeros"),
    ],
)
def test_rows_filled_up_with_numbers(matrix, message):
    with pytest.raises(mrgp.DataError, match=message):
        count(matrix)


def test_spikes_at_the_start_of_the_clock_are_no_padding():
    at_start = [np.r_[np.zeros(2), times] for times in spikes()]
    data, sentences = count(at_start)
    assert sentences == []
    expected = count([times[:] for times in spikes()])[0].values.copy()
    expected[0, 0] += 2
    np.testing.assert_array_equal(data.values, expected)
    for zeros in (np.zeros(2), np.r_[np.zeros(5), 0.5, 0.7]):
        with pytest.raises(mrgp.DataError, match=f"unit 0 hold {np.sum(zeros == 0)} zeros, which look like padding"):
            count([zeros, *at_start[1:]])


def test_a_hole_in_a_row_is_refused():
    matrix = padded(np.nan)
    matrix[2, 7] = np.nan
    with pytest.raises(mrgp.DataError, match="spike times of unit 2: number 7 is nan; leave it out"):
        count(matrix)


# --- real recordings


def test_no_false_alarms(shared_data):
    for path in [*shared_data.glob("steinmetz_*.npz"), shared_data / "v1v2_counts.npz"]:
        whole = mrgp.load_recording(path, drop_dead=True) if "v1v2" in path.name else None
        if whole is None:
            with pytest.warns(UserWarning, match="left out as dead"):
                whole = mrgp.load_recording(path, drop_dead=True)
        for name in whole.layout.regions:
            neurons = whole.region(name)[:, :, ::8]  # few of them: many trials are silent
            alive = neurons.any((0, 1))
            assert told(mrgp.MultiRegionData, {name: neurons[..., alive]}, whole.bin_width)[1] == []
