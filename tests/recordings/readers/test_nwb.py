"""NWB files written by pynwb and units of pynapple, against the counts of their spike times."""

import json
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest

import mrgp
from mrgp import DataError, from_pynapple, from_spike_times, load_nwb, load_recording
from mrgp.cli.main import main

pynwb = pytest.importorskip("pynwb")

pytestmark = pytest.mark.filterwarnings("ignore:.* lie in no trial")

# Units by id, in the order of the file; V2 comes first.
AREAS = {10: "V2", 11: "V1", 13: "V2", 17: "V1"}
START, STOP = np.array([1.0, 2.0, 3.5, 5.0]), np.array([1.8, 3.0, 4.5, 5.9])
CUE = np.array([1.3, 2.3, np.nan, 5.4])
WIDTH = 0.05


def spikes():
    rng = np.random.default_rng(0)
    return {unit: np.sort(rng.uniform(0, 6.5, 150)) for unit in AREAS}


def expected(**changed):
    arguments = {"start": START, "stop": STOP} | changed
    return from_spike_times(spikes(), AREAS, WIDTH, **arguments)


def assert_same(a, b):
    assert a.layout.same_neurons(b.layout)
    for name in a.layout.regions:
        np.testing.assert_array_equal(a.region(name), b.region(name))
        np.testing.assert_array_equal(a.neuron_coords[name], b.neuron_coords[name])


def write(
    path, *, where="electrodes", trials=True, units=True, areas=AREAS, observed=None, times=None, ids=None, invalid=()
):
    """A small NWB file; ``where`` its units' regions are: electrodes, group, a column, or nowhere."""
    file = pynwb.NWBFile(
        session_description="a test", identifier="a-test", session_start_time=datetime(2020, 1, 1, tzinfo=UTC)
    )
    device = file.create_device(name="probe")
    groups, rows = {}, {}
    for area in ("V1", "V2"):
        about = {"name": f"shank {area}", "description": "of it", "location": area, "device": device}
        groups[area] = group = file.create_electrode_group(**about)
        rows[area] = [len(rows) * 2, len(rows) * 2 + 1]
        for _ in rows[area]:
            file.add_electrode(location=area, group=group)
    if units and where not in ("electrodes", "group", "nowhere", "mixed"):
        file.add_unit_column(name=where, description="the region")
    for n, (unit, spike_times) in enumerate((times or spikes()).items() if units else ()):
        area, options = areas[unit], {}
        if where == "electrodes":
            options["electrodes"] = rows[area]
        elif where == "mixed":
            options["electrodes"] = [0, 2]
        elif where == "group":
            options["electrode_group"] = groups[area]
        elif where != "nowhere":
            options[where] = area
        if observed is not None:
            options["obs_intervals"] = observed[unit]
        if times is None or len(spike_times):
            options["spike_times"] = spike_times
        file.add_unit(id=unit if ids is None else ids[n], **options)
    for start, stop in invalid:
        file.add_invalid_time_interval(start_time=start, stop_time=stop)
    if trials:
        for name in ("cue", "stimulus", "time", "licks"):
            file.add_trial_column(name=name, description="a column", index=name == "licks")
        for b in range(4):
            more = {"cue": CUE[b], "stimulus": f"s{b % 2}", "time": b, "licks": [0.1] * (b + 1)}
            file.add_trial(start_time=START[b], stop_time=STOP[b], **more)
        gratings = pynwb.epoch.TimeIntervals(name="gratings", description="stimuli")
        gratings.add_row(start_time=1.0, stop_time=2.0)
        gratings.add_row(start_time=3.0, stop_time=4.0)
        file.add_time_intervals(gratings)
    with pynwb.NWBHDF5IO(path=str(path), mode="w") as io:
        io.write(file)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("nwb") / "session.nwb")


# --- what is read


def test_counts_labels_and_columns_of_trials(path):
    data = load_nwb(path, WIDTH)
    assert_same(data, expected())
    assert data.layout.regions == ("V2", "V1")
    assert data.neuron_coords["V2"].tolist() == [10, 13]
    np.testing.assert_array_equal(data.length, [16, 20, 20, 18])
    assert data.trial_coords.keys() == {"cue", "stimulus", "time_"}  # a coordinate of that name is taken
    assert data.trial_coords["stimulus"].tolist() == ["s0", "s1", "s0", "s1"]
    np.testing.assert_array_equal(data.trial_coords["cue"], CUE)


@pytest.mark.parametrize("suffix", [".npz", ".nc"])
def test_what_was_read_can_be_saved(path, tmp_path, suffix):
    mrgp.save_recording(load_nwb(path, WIDTH), tmp_path / f"counts{suffix}")
    again = load_recording(tmp_path / f"counts{suffix}")
    assert_same(again, expected())
    assert again.trial_coords["stimulus"].tolist() == ["s0", "s1", "s0", "s1"]


def test_load_recording_reads_nwb(path):
    assert_same(load_recording(path, bin_width=WIDTH), expected())
    chosen = load_recording(str(path), bin_width=WIDTH, regions=["V1"], trials="gratings", window=(0, 0.5))
    assert_same(chosen, expected(start=None, stop=None, align=[1.0, 3.0], window=(0, 0.5), regions=["V1"]))


def test_trials_around_an_event(path):
    with pytest.warns(UserWarning, match="left out 1 trials without a time in cue"):
        data = load_nwb(path, WIDTH, align="cue", window=(-0.1, 0.3))
    present = [0, 1, 3]
    assert_same(data, expected(start=None, stop=None, align=CUE[present], window=(-0.1, 0.3)))
    assert data.trial_coords["stimulus"].tolist() == ["s0", "s1", "s1"]


@pytest.mark.parametrize("where", ["group", "location", "brain_area", "nucleus"])
def test_regions_from_elsewhere(tmp_path, where):
    named = {"region_of_unit": "nucleus"} if where == "nucleus" else {}
    assert_same(load_nwb(write(tmp_path / "a.nwb", where=where), WIDTH, **named), expected())


def test_regions_can_be_given(tmp_path):
    path = write(tmp_path / "a.nwb", where="mixed")
    with pytest.raises(DataError, match=r"unit 10 of a.nwb has electrodes in V1, V2: pass region_of_unit="):
        load_nwb(path, WIDTH)
    assert_same(load_nwb(path, WIDTH, region_of_unit=list(AREAS.values())), expected())


@pytest.mark.parametrize("nowhere", ["", "nan", "unknown"])
def test_units_without_a_region_are_counted_and_left_out(tmp_path, nowhere):
    path = write(tmp_path / "a.nwb", where="region", areas=AREAS | {13: nowhere})
    with pytest.warns(UserWarning, match="left out 1 of 4 units without a region"):
        data = load_nwb(path, WIDTH, regions=["V1", "V2"])
    assert data.layout.n_neurons == (2, 1)
    assert data.neuron_coords["V2"].tolist() == [10]
    path = write(tmp_path / "b.nwb", where="region", areas=dict.fromkeys(AREAS, nowhere))
    with pytest.raises(DataError, match=r"no unit of b.nwb has a region: pass region_of_unit="):
        load_nwb(path, WIDTH)


def test_spikes_outside_trials_are_counted_where_gaps_do_not_explain_them(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_nwb(path, WIDTH)  # a third of the spikes lie between trials
    with pytest.warns(UserWarning, match="spikes of the units .* lie in no trial, more than gaps between"):
        load_nwb(path, WIDTH, trials="gratings")


def test_units_are_chosen_and_regions_joined(tmp_path):
    path = write(tmp_path / "a.nwb", where="region", areas={10: "VISp5", 11: "CA1", 13: "VISp2/3", 17: "CA3"})
    joined = load_nwb(path, WIDTH, merge_layers=True, region_map={"CA": ("CA1", "CA3")}, min_neurons=2)
    assert (joined.layout.regions, joined.layout.n_neurons) == (("VISp", "CA"), (2, 2))
    assert joined.neuron_coords["VISp"].tolist() == [10, 13]
    by_option = load_recording(path, bin_width=WIDTH, units={"region": ("VISp5", "CA3")})
    assert (by_option.layout.regions, by_option.layout.n_neurons) == (("VISp5", "CA3"), (1, 1))
    np.testing.assert_array_equal(by_option.region("CA3"), expected().region("V1")[:, :, 1:])
    with pytest.raises(DataError, match=r"the units of a.nwb have no column 'quality': there is region"):
        load_nwb(path, WIDTH, units={"quality": "good"})
    with pytest.raises(DataError, match=r"trials of a.nwb are the name of a table in it, not dict"):
        load_recording(path, bin_width=WIDTH, trials={"start_time": START})
    spans = {unit: [[0.0, 6.5]] for unit in AREAS} | {11: [[0.0, 2.5], [5.0, 6.0]]}
    path = write(tmp_path / "b.nwb", where="region", observed=spans)
    assert_same(load_nwb(path, WIDTH, units={"region": "V2"}), expected(regions=["V2"]))


def test_time_in_which_a_unit_was_not_observed_is_missing(tmp_path):
    spans = {unit: [[0.0, 6.5]] for unit in AREAS} | {11: [[0.0, 2.5], [5.0, 6.0]]}
    told = r"in 2 of 4 trials, 1 unit\(s\) were not observed all the time: bins are missing"
    with pytest.warns(UserWarning, match=told):
        data = load_nwb(write(tmp_path / "a.nwb", observed=spans), WIDTH)
    with pytest.warns(UserWarning, match=told):
        assert_same(data, expected(observed=spans))
    assert np.isnan(data.region("V1")[1, 10:20, 0]).all()
    assert not np.isnan(data.region("V1")[1, :10, 0]).any()


def test_invalid_times_are_missing(tmp_path):
    """Trials are from 1.0 to 1.8, 2.0 to 3.0, 3.5 to 4.5 and 5.0 to 5.9 s: one is wholly invalid, one partly."""
    invalid = [(3.2, 4.0), (2.5, 2.7), (3.9, 4.6)]  # two of them overlap
    with pytest.warns(UserWarning, match="trials") as caught:
        data = load_nwb(write(tmp_path / "a.nwb", invalid=invalid), WIDTH)
    assert [text for text in map(str, (warning.message for warning in caught)) if "spikes" not in text] == [
        "2 of 4 trials overlap invalid_times of a.nwb: their bins there are missing",
        "left out 1 of 4 trials, in which no unit was observed: 2",
        "in 1 of 3 trials, 4 unit(s) were not observed all the time: bins are missing",
    ]
    assert {warning.filename for warning in caught} == {__file__}
    whole = expected(start=START[[0, 1, 3]], stop=STOP[[0, 1, 3]])
    missing = np.isnan(data.with_nan())
    assert missing[1, 10:14].all()
    assert (missing == np.isnan(whole.with_nan())).sum() == missing.size - 4 * 4
    np.testing.assert_array_equal(data.values[~missing], whole.values[~missing])
    assert data.trial_coords["stimulus"].tolist() == ["s0", "s1", "s1"]

    spans = {unit: [[0.0, 6.5]] for unit in AREAS} | {11: [[0.0, 2.6], [5.0, 6.0]]}
    with pytest.warns(UserWarning, match="trials"):
        both = load_nwb(write(tmp_path / "b.nwb", invalid=invalid, observed=spans), WIDTH)
    assert np.isnan(both.region("V1")[1, 10:, 0]).all()
    np.testing.assert_array_equal(np.isnan(both.region("V2")), np.isnan(data.region("V2")))
    with pytest.warns(UserWarning, match="trials") as caught:
        load_nwb(tmp_path / "a.nwb", WIDTH, align="cue", window=(-0.2, np.timedelta64(300, "ms")))
    sentences = [text for text in map(str, (warning.message for warning in caught)) if "spikes" not in text]
    assert sentences[0] == "left out 1 trials without a time in cue"
    assert sentences[1].startswith("1 of 3 trials overlap invalid_times")
    assert len(sentences) == 3


def test_invalid_times_between_trials_are_no_matter(tmp_path):
    assert_same(load_nwb(write(tmp_path / "a.nwb", invalid=[(1.8, 2.0), (4.5, 5.0), (9.0, 12.0)]), WIDTH), expected())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_the_command_line_fits_a_file(path, tmp_path, capsys):
    brief = ["--n-starts", "1", "--max-iterations", "2", "--no-figures", "--quiet"]
    counting = ["--bin-width", "0.05", "--align", "cue", "--window", "-0.1", "0.3", "--regions", "V1,V2"]
    model = ["--model", "fa", "--n-across", "1", "--transform", "sqrt"]
    assert main(["fit", str(path), "--out", str(tmp_path), *model, *counting, *brief]) == 0
    assert "mrgp: note: left out 1 trials without a time in cue\n" in capsys.readouterr().err
    fit = mrgp.load_fit(tmp_path / "fit.nc")
    assert (fit.layout.regions, fit.layout.n_neurons, fit.n_bins) == (("V1", "V2"), (2, 2), 8)
    summary = json.loads((tmp_path / "summary.json").read_text())
    rooted = expected(start=None, stop=None, align=CUE[[0, 1, 3]], window=(-0.1, 0.3), regions=["V1", "V2"])
    by_hand = fit.log_likelihood(mrgp.square_root(rooted)).sum()
    assert summary["log_likelihood"] == pytest.approx(float(by_hand), abs=1e-6)


# --- as archives have them


def write_whole(path, *, electrodes=True, trials=True):
    """A file with every optional column of units, electrodes and trials, as those of DANDI may have them."""
    rng = np.random.default_rng(1)
    file = pynwb.NWBFile(
        session_description="a test", identifier="whole", session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
        timestamps_reference_time=datetime(2020, 1, 1, 1, tzinfo=UTC), lab="a lab", session_id="1",
    )  # fmt: skip
    file.subject = pynwb.file.Subject(subject_id="m1", species="Mus musculus", sex="U", age="P90D")
    device = file.create_device(name="probe", description="of it", manufacturer="a maker")
    for name in ("label", "imp_kind"):
        file.add_electrode_column(name=name, description="a column")
    places = ("VISp5", "CA1", "unknown", "VISp2/3")
    for shank, place in enumerate(places):
        about = {"name": f"shank{shank}", "description": "of it", "location": "brain", "device": device}
        group = file.create_electrode_group(**about)
        for row in range(2):
            more = {"x": 1.0, "y": 2.0, "z": 3.0, "imp": 1e5, "filtering": "none", "rel_x": 0.0, "rel_y": 20.0 * row}
            more |= {"label": f"s{shank}e{row}", "imp_kind": "measured", "reference": "tip", "group_name": group.name}
            file.add_electrode(id=100 + 2 * shank + row, location=place, group=group, **more)
    for name, about in {"quality": "of it", "amplitude_cutoff": "a number", "peak_channel_id": "an electrode"}.items():
        if name != "peak_channel_id" or not electrodes:
            file.add_unit_column(name=name, description=about)
    file.add_unit_column(name="spike_amplitudes", description="one for each spike", index=True)
    groups = list(file.electrode_groups.values())
    for number, (unit, times) in enumerate(spikes().items()):
        more = {"electrodes": [2 * number, 2 * number + 1]} if electrodes else {"peak_channel_id": 100 + 2 * number}
        file.add_unit(
            id=unit, spike_times=times, obs_intervals=[*[[0.0, 2.5], [2.5, 4.0]][: 1 + number % 2], [4.0, 7.0]],
            electrode_group=groups[number], waveform_mean=rng.standard_normal((8, 2)),
            waveform_sd=rng.random((8, 2)), waveforms=[[[1.0, 2.0]] * 2] * len(times), quality="good",
            amplitude_cutoff=np.nan, spike_amplitudes=rng.random(len(times)), **more,
        )  # fmt: skip
    series = pynwb.TimeSeries(name="wheel", data=np.arange(70.0), unit="m", timestamps=np.arange(70) / 10)
    file.add_acquisition(series)
    file.add_acquisition(pynwb.TimeSeries(name="lick", data=np.ones(3), unit="1", timestamps=[0.5, 2.0, 4.1]))
    file.add_epoch(start_time=0.0, stop_time=6.0, tags=["first", "part"], timeseries=[series])
    if trials:
        file.add_trial_column(name="cue", description="an event")
        file.add_trial_column(name="responses", description="several", index=True)
        file.add_trial_column(name="rewarded", description="or not")
        for b in range(4):
            stop = STOP[b] if b != 1 else np.nan
            file.add_trial(start_time=START[b], stop_time=stop, cue=CUE[b], responses=[0.1, 0.2][: b % 2 + 1],
                           rewarded=bool(b % 2), tags=["a"], timeseries=[series])  # fmt: skip
    with pynwb.NWBHDF5IO(path=str(path), mode="w") as io:
        io.write(file)
    return path


@pytest.mark.parametrize("electrodes", [True, False], ids=["electrodes of each unit", "peak electrode"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_with_every_column(tmp_path, electrodes):
    path = write_whole(tmp_path / "a.nwb", electrodes=electrodes)
    with pytest.warns(UserWarning, match=r".") as caught:
        data = load_nwb(path, WIDTH, merge_layers=True, units={"quality": "good"})
    told = [str(warning.message) for warning in caught if "spikes" not in str(warning.message)]
    assert told == [
        "left out 1 trials without a time in start_time and stop_time",
        "left out 1 of 4 units without a region",
        "in 1 of 3 trials, 1 unit(s) were not observed all the time: bins are missing",  # unit 10
    ]
    places = {10: "VISp", 11: "CA1", 17: "VISp"}
    spans = {unit: [[0.0, 2.5], [2.5, 4.0], [4.0, 7.0]] for unit in AREAS} | {10: [[0.0, 2.5], [4.0, 7.0]]}
    with pytest.warns(UserWarning, match=r"."):
        wanted = from_spike_times(
            {unit: spikes()[unit] for unit in places}, places, WIDTH, start=START[[0, 2, 3]], stop=STOP[[0, 2, 3]],
            observed=spans,
        )  # fmt: skip
    assert_same(data, wanted)
    assert data.trial_coords["rewarded"].tolist() == [False, False, True]
    assert data.trial_coords.keys() == {"cue", "rewarded"}


@pytest.mark.filterwarnings("ignore")
def test_a_file_without_trials_names_the_tables_that_it_has(tmp_path):
    path = write_whole(tmp_path / "a.nwb", trials=False)
    with pytest.raises(DataError, match=r"a.nwb has no table 'trials' of trials: choose from epochs"):
        load_nwb(path, WIDTH)
    assert load_nwb(path, WIDTH, trials="epochs").n_trials == 1


# --- what is refused


@pytest.mark.parametrize(
    ("contents", "options", "message"),
    [
        ({"units": False}, {}, "a.nwb has no units table: its spikes must be sorted into units"),
        ({"trials": False}, {}, "a.nwb has no table 'trials' of trials: it needs one, with start_time and stop_time"),
        ({}, {"trials": "flashes"}, "a.nwb has no table 'flashes' of trials: choose from trials, gratings"),
        ({"where": "nowhere"}, {}, "a.nwb does not say where its units are: pass region_of_unit="),
        ({}, {"region_of_unit": "depth"}, "have no column 'depth' for regions: there is electrodes"),
        ({}, {"region_of_unit": "electrodes"}, "column 'electrodes' of a.nwb has several values per unit"),
        ({}, {"region_of_unit": ["V1"]}, "region_of_unit has 1 names for the 4 units of a.nwb"),
        ({}, {"regions": ["V9"]}, "no unit is in a region 'V9': choose from V2, V1"),
        ({}, {"align": "cue"}, r"align='cue' needs a window in seconds around it: such as window=\(-0.2, 0.5\)"),
        ({}, {"align": "go", "window": (0, 1)}, "'trials' has no column 'go' of times: choose from start_time"),
        ({}, {"align": "stimulus", "window": (0, 1)}, "has no column 'stimulus' of times: choose from start_time"),
        ({}, {"bin_width": 20}, "bins of 20 s are longer than 5 s: give the seconds per bin, such as 0.02"),
        ({}, {"bin_width": -1}, "bin_width is -1: give the seconds per bin"),
        ({"ids": [1, 2, 2, 3]}, {}, "two units of a.nwb have the id 2"),
        ({"times": dict.fromkeys(AREAS, ())}, {}, "the units of a.nwb have no spike_times"),
        ({"times": spikes() | {13: np.array([0.5])}}, {}, r"region V2, neuron 1 \(label 13\): dead"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_files_that_cannot_be_counted(tmp_path, contents, options, message):
    path = write(tmp_path / "a.nwb", **contents)
    with pytest.raises(DataError, match=message) as caught:
        load_nwb(path, **{"bin_width": WIDTH} | options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_damaged_files(path, tmp_path, damage):
    whole = path.read_bytes()
    content = {"cut": whole[: len(whole) // 2], "empty": b"", "noise": b"nothing that a reader knows"}[damage]
    (tmp_path / "a.nwb").write_bytes(content)
    with pytest.raises(DataError, match=r"a.nwb is damaged or is no recording") as caught:
        load_nwb(tmp_path / "a.nwb", WIDTH)
    assert "\n" not in str(caught.value)


def test_absent_files_folders_and_bin_widths(path, tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*absent.nwb"):
        load_nwb(tmp_path / "absent.nwb", WIDTH)
    with pytest.raises(DataError, match="is a folder: give a file"):
        load_nwb(tmp_path, WIDTH)
    with pytest.raises(DataError, match=r"session.nwb holds spike times: pass bin_width, such as 0.02"):
        load_recording(path)


# --- pynapple


def tsgroup(**options):
    nap = pytest.importorskip("pynapple")
    units = {unit: nap.Ts(times) for unit, times in spikes().items()}
    return nap.TsGroup(units, metadata={"location": list(AREAS.values()), "depth": [1, 2, 3, 4]}, **options)


def intervals():
    nap = pytest.importorskip("pynapple")
    return nap.IntervalSet(START, STOP, metadata={"stimulus": ["a", "b", "a", "b"], "contrast": [0.1, 0.2, 0.3, 0.4]})


@pytest.mark.slow
def test_pynapple():
    data = from_pynapple(tsgroup(), intervals(), WIDTH)
    assert_same(data, expected())
    assert data.trial_coords["stimulus"].tolist() == ["a", "b", "a", "b"]
    assert data.trial_coords["contrast"].tolist() == [0.1, 0.2, 0.3, 0.4]
    around = from_pynapple(tsgroup(), None, WIDTH, align=START, window=(0.1, 0.6), regions=["V1"])
    assert_same(around, expected(start=None, stop=None, align=START, window=(0.1, 0.6), regions=["V1"]))
    named = from_pynapple(tsgroup(), intervals(), WIDTH, region_of_unit=["A", "A", "B", "B"])
    assert named.layout.n_neurons == (2, 2)


def test_pynapples_restriction_is_missing_data():
    nap = pytest.importorskip("pynapple")
    support = nap.IntervalSet([0.0, 3.0], [2.5, 6.0])
    told = r"in 1 of 4 trials, 4 unit\(s\) were not observed all the time: bins are missing"
    with pytest.warns(UserWarning, match=told):
        data = from_pynapple(tsgroup().restrict(support), intervals(), WIDTH)
    with pytest.warns(UserWarning, match=told):
        assert_same(data, expected(observed=[support] * 4))
    assert np.isnan(data.region("V1")[1, 10:]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, intervals), "units are a NoneType: pass a pynapple.TsGroup"),
        ((tsgroup, lambda: START), "trials are a ndarray: pass a pynapple.IntervalSet, or None and align="),
        ((tsgroup, None), "trials are given by start= and stop=, or by align= and window="),
    ],
)
def test_what_is_not_of_pynapple(arguments, message):
    units, trials = (make and make() for make in arguments)
    with pytest.raises(DataError, match=message):
        from_pynapple(units, trials, WIDTH)


def test_metadata_that_is_not_there():
    with pytest.raises(DataError, match="no metadata 'area' for regions: there is rate, location, depth"):
        from_pynapple(tsgroup(), intervals(), WIDTH, region_of_unit="area")


# --- units by their electrodes


def write_probes(path, *, peaks, electrodes=None, groups=False, ids=range(8)):
    """A file of two probes, A in V1 and CA1, B in V2 and CA3, of four electrodes each, and the units of ``spikes``."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    file = pynwb.NWBFile(session_description="a test", identifier="probes", session_start_time=start)
    device, probes = file.create_device(name="probe"), []
    for name in "AB":
        about = {"name": name, "description": "of it", "location": f"side {name}", "device": device}
        probes.append(file.create_electrode_group(**about))
    for row, place in enumerate(["V1", "V1", "CA1", "CA1", "V2", "V2", "CA3", "CA3"]):
        file.add_electrode(id=ids[row], location=place, group=probes[row // 4], group_name=probes[row // 4].name)
    file.add_unit_column(name="peak_channel_id", description="an electrode, or a channel")
    for number, (unit, times) in enumerate(spikes().items()):
        more = {} if electrodes is None else {"electrodes": electrodes[number]}
        more |= {"electrode_group": probes[number // 2]} if groups else {}
        file.add_unit(id=unit, spike_times=times, peak_channel_id=peaks[number], **more)
    for begin, end in zip(START, STOP, strict=True):
        file.add_trial(start_time=begin, stop_time=end)
    with pynwb.NWBHDF5IO(path=str(path), mode="w") as io:
        io.write(file)
    return path


def areas_in(path):
    """Region of every unit, in their order, '' for none."""
    data = load_nwb(path, WIDTH)
    place = {label: name for name in data.layout.regions for label in data.neuron_coords[name].tolist()}
    return [place.get(unit, "") for unit in spikes()]


BY_REFERENCE = [[0, 1], [2], [4, 5], [7]]


@pytest.mark.parametrize(
    ("contents", "wanted"),
    [
        # channels counted on each probe: the reference says where they are, or the group of the unit
        ({"peaks": [0, 2, 0, 3], "electrodes": BY_REFERENCE}, ["V1", "CA1", "V2", "CA3"]),
        ({"peaks": [0, 2, 0, 3], "groups": True}, ["side A", "side A", "side B", "side B"]),
        ({"peaks": [0, 2, 900, 3], "groups": True}, ["side A", "side A", "side B", "side B"]),
        # ids of electrodes, which are not their rows
        ({"peaks": [10, 13, 14, 17], "ids": range(10, 18)}, ["V1", "CA1", "V2", "CA3"]),
        ({"peaks": [10, 13, 14, 17], "ids": range(10, 18), "groups": True}, ["V1", "CA1", "V2", "CA3"]),
        ({"peaks": [10.0, np.nan, 14.0, -1.0], "ids": range(10, 18)}, ["V1", "", "V2", ""]),
        # electrodes in two regions: the peak decides, where it is one of them
        ({"peaks": [1, 2, 5, 6], "electrodes": [[1, 2], [1, 2], [5, 6], [5, 6]]}, ["V1", "CA1", "V2", "CA3"]),
        # none of one unit
        ({"peaks": [0, 2, 5, 7], "electrodes": [[0, 1], [2], [], [7]]}, ["V1", "CA1", "V2", "CA3"]),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:left out .* units without a region")
def test_units_by_their_electrodes(tmp_path, contents, wanted):
    assert areas_in(write_probes(tmp_path / "a.nwb", **contents)) == wanted


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_peaks_that_are_no_ids_are_not_taken_for_some(tmp_path):
    path = write_probes(tmp_path / "a.nwb", peaks=[0, 2, 900, 3])
    with pytest.raises(DataError, match=r"where its units are, for peak_channel_id is no id of its electrodes: pass"):
        load_nwb(path, WIDTH)
    path = write_probes(tmp_path / "b.nwb", peaks=[1, 5, 5, 6], electrodes=[[1, 2], [1, 2], [5, 6], [5, 6]])
    with pytest.raises(DataError, match=r"unit \d+ of b.nwb has electrodes in CA1, V1: pass"):
        load_nwb(path, WIDTH)
    path = write_probes(tmp_path / "c.nwb", peaks=[0, 2, 0, 3])
    with pytest.warns(UserWarning, match="peak_channel_id puts the units of c.nwb on A, of A, B: if it counts"):
        assert areas_in(path) == ["V1", "CA1", "V1", "CA1"]
