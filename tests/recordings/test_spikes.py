"""Spike times to counts: against a count by hand, at edges, for trials of any length; and what is refused."""

import numpy as np
import pytest

from mrgp import DataError, from_spike_times

REGIONS = {"u1": "V2", "u2": "V1", "u3": "V2", "u4": "MT"}
TICK = 0.005  # seconds: spikes and edges of the brute-force test lie on a grid, on which whole numbers decide


def spikes(n_ticks=2000, seed=0):
    """Ticks at which each unit spikes, in no order, twice at once now and then."""
    rng = np.random.default_rng(seed)
    return {label: np.append(once := rng.permutation(n_ticks)[:400], once[:3]) for label in REGIONS}


def seconds(ticks):
    return {label: TICK * times for label, times in ticks.items()}


def counted(ticks, start, stop, width):
    """Spikes of one unit per whole bin of a trial, in ticks."""
    edges = range(start, stop - width + 1, width)
    return [sum(edge <= spike < edge + width for spike in ticks.tolist()) for edge in edges]


@pytest.mark.parametrize("width", [1, 3, 4, 20])
def test_counts_are_those_of_a_count_by_hand(width):
    ticks = spikes()
    start = np.array([100, 160, 400, 1900, 900])
    stop = np.array([160, 220, 461, 1999, 930])  # of different length, and not all in whole bins
    data = from_spike_times(seconds(ticks), REGIONS, width * TICK, start=start * TICK, stop=stop * TICK)
    assert data.layout.regions == ("V2", "V1", "MT")
    assert data.neuron_coords["V2"].tolist() == ["u1", "u3"]
    assert data.bin_width == width * TICK
    lengths = (stop - start) // width
    assert data.n_bins == lengths.max()
    for region, labels in (("V2", ["u1", "u3"]), ("V1", ["u2"]), ("MT", ["u4"])):
        for column, label in enumerate(labels):
            for b in range(5):
                expected = counted(ticks[label], start[b], stop[b], width)
                trial = data.region(region)[b, :, column]
                np.testing.assert_array_equal(trial[: lengths[b]], expected)
                assert np.isnan(trial[lengths[b] :]).all()
    np.testing.assert_array_equal(data.length, lengths)
    assert data.observed is None


def test_windows_around_events_are_trials_from_start_to_stop():
    ticks = spikes()
    events = np.array([300, 500, 901])
    around = from_spike_times(seconds(ticks), REGIONS, 0.02, align=events * TICK, window=(-0.1, 0.25))
    spelled = from_spike_times(
        seconds(ticks), REGIONS, 0.02, start=(events - 20) * TICK, stop=(events + 50) * TICK
    )
    assert around.n_bins == 17  # 0.35 s, of which the last 10 ms fill no bin
    for region in around.layout.regions:
        np.testing.assert_array_equal(around.region(region), spelled.region(region))


@pytest.mark.parametrize("offset", [0.0, 0.1, 1234.567, 86400.3])
def test_a_spike_on_an_edge_counts_once_in_the_bin_that_it_begins(offset):
    width, n = 0.1, 12
    edges = offset + np.array([float(f"{k / 10:.1f}") for k in range(n + 1)])  # 0.3, which is not 3 * 0.1
    starts = offset + np.array([0.0, 0.3, 0.9])
    units = [[*edges, offset + 0.25], edges[::2]]
    data = from_spike_times(units, ["A", "A"], width, start=starts, stop=[*starts[1:], offset + 1.2])
    expected = np.full((3, 6), np.nan)
    expected[0, :3] = expected[1] = expected[2, :3] = 1
    expected[0, 2] = 2
    np.testing.assert_array_equal(data.region("A")[:, :, 0], expected)
    assert np.nansum(data.region("A")[:, :, 1]) == 6


def test_a_spike_between_two_trials_that_touch_counts_once():
    starts = np.cumsum(np.full(200, 0.07))  # sums that are no multiples
    data = from_spike_times([starts[1:], starts[::3]], ["A", "A"], 0.01, start=starts[:-1], stop=starts[1:])
    assert data.n_bins == 7
    np.testing.assert_array_equal(data.region("A")[1:, :, 0], np.tile([1, 0, 0, 0, 0, 0, 0], (198, 1)))
    assert data.region("A")[0, :, 0].sum() == 0


def test_units_are_chosen_and_ordered_by_region_and_their_spikes_need_no_order():
    ticks = seconds(spikes())
    common = {"align": [2.0, 4.0], "window": (0, 1)}
    data = from_spike_times(ticks, REGIONS, 0.05, **common, regions=["MT", "V2"], trial_coords={"stimulus": [0, 90]})
    assert data.layout.regions == ("MT", "V2")
    assert data.layout.n_neurons == (1, 2)
    assert data.trial_coords["stimulus"].tolist() == [0, 90]
    in_order = [np.sort(times) for times in ticks.values()]
    listed = from_spike_times(in_order, list(REGIONS.values()), 0.05, **common)
    assert listed.neuron_coords["V2"].tolist() == [0, 2]
    np.testing.assert_array_equal(listed.region("V2"), data.region("V2"))


def test_what_a_unit_was_not_observed_in_is_missing():
    ticks = seconds(spikes())
    spans = {unit: [[0.0, 10.0]] for unit in REGIONS} | {"u2": [[2.5, 9.0], [0.0, 2.22]]}
    common = {"align": [2.0, 4.0, 8.6], "window": (0, 0.5)}
    with pytest.warns(UserWarning, match=r"in 2 of 3 trials, 1 unit\(s\) were not observed all the time: bins"):
        data = from_spike_times(ticks, REGIONS, 0.1, observed=spans, **common)
    whole = from_spike_times(ticks, REGIONS, 0.1, **common)
    missing = np.zeros((3, 5), bool)
    missing[0, 2:] = True  # bins from 2.2 on, of which the interval holds 0.02 s
    missing[2, 4] = True  # 9.0 to 9.1
    np.testing.assert_array_equal(np.isnan(data.region("V1")[:, :, 0]), missing)
    np.testing.assert_array_equal(data.region("V1")[~missing], whole.region("V1")[~missing])
    np.testing.assert_array_equal(data.region("V2"), whole.region("V2"))


def test_trials_that_nobody_was_observed_in_are_left_out():
    ticks = seconds(spikes())
    spans = [[[3.9, 10.0]]] * 4
    with pytest.warns(UserWarning, match="left out 1 of 3 trials, in which no unit was observed: 0") as caught:
        data = from_spike_times(
            ticks, REGIONS, 0.1, align=[2, 4, 6], window=(0, 0.5), observed=spans, trial_coords={"n": [7, 8, 9]}
        )
    assert caught[0].filename == __file__
    assert data.is_complete
    assert data.trial_coords["n"].tolist() == [8, 9]


def test_overlapping_trials_are_noted():
    with pytest.warns(UserWarning, match=r"trials 2 and 0 overlap by 0.1 s: models take them as independent") as caught:
        from_spike_times(seconds(spikes()), REGIONS, 0.1, start=[2.0, 4.0, 1.0], stop=[3.0, 5.0, 2.1])
    assert caught[0].filename == __file__
    message = r"2 pairs of trials overlap, most of all trials 3 and 2 by 0.5 s: models take them as independent"
    with pytest.warns(UserWarning, match=message):
        from_spike_times(seconds(spikes()), REGIONS, 0.1, start=[4.0, 1.0, 2.0, 1.5], stop=[5.0, 1.6, 3.0, 2.5])


TIMES = seconds(spikes())
TRIALS = {"start": [1.0, 2.0], "stop": [1.5, 2.5]}
REFUSED = {
    "no units": ({"spike_times": {}, "region_of_unit": {}}, "there are no units"),
    "text": ({"spike_times": TIMES | {"u2": ["a"]}}, "spike times of unit u2 are not numbers"),
    "two rows": ({"spike_times": TIMES | {"u2": np.ones((2, 3))}}, r"unit u2 have shape \(2, 3\): give one row"),
    "NaN": ({"spike_times": TIMES | {"u2": [0.1, np.nan]}}, "spike times of unit u2: number 1 is nan; leave it out"),
    "no region": ({"region_of_unit": {"u1": "V1"}}, "region_of_unit says nothing of unit u2: add it"),
    "regions too few": ({"region_of_unit": ["V1", "V2"]}, "region_of_unit has 2 entries for 4 units"),
    "one region": ({"region_of_unit": "V1"}, "region_of_unit is 'V1': give one for each of 4 units"),
    "nameless": ({"region_of_unit": REGIONS | {"u3": ""}}, "'' cannot be the name of a region"),
    "unknown region": ({"regions": ["V9"]}, "no unit is in a region 'V9': choose from V2, V1, MT"),
    "bins of 0": ({"bin_width": 0}, "bin_width is 0: give the seconds per bin"),
    "negative bins": ({"bin_width": -0.02}, "bin_width is -0.02"),
    "NaN bins": ({"bin_width": np.nan}, "bin_width is nan"),
    "milliseconds": ({"bin_width": 20}, "bins of 20 s are longer than 5 s: give the seconds per bin"),
    "seconds": ({"bin_width": 0.6}, "trial 0 lasts 0.5 s, less than one bin of 0.6 s: give bin_width in seconds"),
    "too many": ({"bin_width": 1e-9}, "trials x 5e.08 bins of 1e-09 s x 4 units are too many counts: take wider bins"),
    "no trials": ({"start": [], "stop": []}, "there are no trials"),
    "nothing": ({"start": None, "stop": None}, "trials are given by start= and stop=, or by align= and window="),
    "half": ({"stop": None}, "trials are given by start= and stop=, or by align= and window="),
    "both": ({"align": [1.0], "window": (0, 1)}, "give one of the pairs"),
    "uneven": ({"stop": [1.5]}, "there are 2 starts but 1 stops of trials"),
    "backwards": ({"stop": [1.5, 1.9]}, "trial 1 is empty, it starts at 2 s and stops at 1.9 s"),
    "empty": ({"stop": [1.0, 2.5]}, "trial 0 is empty"),
    "short": ({"stop": [1.5, 2.04]}, "trial 1 lasts 0.04 s, less than one bin of 0.05 s"),
    "NaN start": ({"start": [1.0, np.nan]}, "starts of trials: number 1 is nan"),
    "window": ({**dict.fromkeys(TRIALS), "align": [1.0], "window": (1,)}, r"window is \(1,\): give two numbers"),
    "elsewhere": (
        {"start": [1000, 2000], "stop": [1500, 2500]},
        r"no spike falls into a trial, spikes are from \S+ to 9.99\d* s, trials from 1000 to 2500 s: give both",
    ),
    "mute": ({"spike_times": {unit: [] for unit in REGIONS}}, "no unit has any spikes"),
    "silent unit": ({"spike_times": TIMES | {"u3": [9.0]}}, r"region V2, neuron 1 \(label u3\): dead"),
    "intervals": ({"observed": [[[0, 1, 2]]] * 4}, r"intervals in which unit u1 was observed are not \(interval, 2\)"),
    "never": (
        {"observed": {unit: [[0, 10]] for unit in REGIONS} | {"u3": [[5, 6]]}},
        r"region V2, neuron 1 \(label u3\): never observed",
    ),
    "coordinates": ({"trial_coords": {"stimulus": [0]}}, r"trial_coords\['stimulus'\] has shape \(1,\): it needs 2"),
}


@pytest.mark.filterwarnings("ignore:in 2 of 2 trials, 1 unit")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_counted_is_refused_in_a_sentence(case):
    change, message = REFUSED[case]
    arguments = {"spike_times": TIMES, "region_of_unit": REGIONS, "bin_width": 0.05, **TRIALS} | change
    with pytest.raises(DataError, match=message) as caught:
        from_spike_times(**arguments)
    assert "\n" not in str(caught.value)


def test_silent_units_are_left_out_on_request():
    with pytest.warns(UserWarning, match=r"region V2, neuron 1 \(label u3\)"):
        data = from_spike_times(TIMES | {"u3": []}, REGIONS, 0.05, **TRIALS, drop_dead=True)
    assert data.layout.n_neurons == (1, 1, 1)
