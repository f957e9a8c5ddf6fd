"""Times that carry their unit, everywhere seconds are taken: converted, or refused where the unit is no time."""

import datetime
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
from mrgp.models import ADM, DLAG

import mrgp
from mrgp.families.model import held_at
from mrgp.recordings.units import one_time, seconds

TIMES = np.array([0.5, 1.25, 3.0])


@dataclass
class Dimensioned:
    """As quantities of pint look: numbers, a unit, and a conversion that refuses what is no time."""

    magnitude: np.ndarray | float
    units: str

    def to(self, unit):
        assert unit == "second"
        factor = {"millisecond": 1e-3, "second": 1.0}
        if self.units not in factor:
            raise ValueError("no conversion")
        return Dimensioned(np.asarray(self.magnitude) * factor[self.units], unit)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.magnitude, dtype)


@dataclass
class Astronomical:
    """As quantities of astropy look."""

    value: np.ndarray
    unit: str

    def to_value(self, unit):
        assert (self.unit, unit) == ("ms", "s")
        return self.value / 1e3


SPELLED = {
    "numbers": TIMES,
    "a list": TIMES.tolist(),
    "timedelta64": (1e3 * TIMES).astype("m8[ms]"),
    "timedelta": [datetime.timedelta(seconds=t) for t in TIMES],
    "one timedelta among numbers": [0.5, datetime.timedelta(milliseconds=1250), np.timedelta64(3, "s")],
    "xarray": xr.DataArray(1e3 * TIMES, dims="event", attrs={"units": "ms"}),
    "xarray without a unit": xr.DataArray(TIMES, dims="event"),
    "pint": Dimensioned(1e3 * TIMES, "millisecond"),
    "a list of pint's": [Dimensioned(1e3 * t, "millisecond") for t in TIMES],
    "astropy": Astronomical(1e3 * TIMES, "ms"),
    "masked": np.ma.masked_array(TIMES),
}


@pytest.mark.parametrize("case", SPELLED)
def test_times_are_converted(case):
    found = seconds("spikes", SPELLED[case])
    assert type(found) is np.ndarray
    np.testing.assert_allclose(found, TIMES, rtol=1e-12)


REFUSED = {
    "volts": (Dimensioned(TIMES, "volt"), "spikes: the unit is volt, which is no time; give seconds"),
    "samples": (xr.DataArray(TIMES, attrs={"units": "samples"}), "the unit is samples, which is no time known here"),
    "dates": (np.array(["2020-01-01"], "M8[s]"), "these are dates; give seconds on one clock"),
    "a date": (datetime.datetime(2020, 1, 1), "these are dates"),
    "text": (["a"], "spikes are not numbers: give them in seconds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_time_is_refused(case):
    value, message = REFUSED[case]
    with pytest.raises(mrgp.DataError, match=message):
        seconds("spikes", value)


def test_one_time():
    assert one_time("rope", np.timedelta64(5, "ms"), "seconds") == 0.005
    assert one_time("rope", "5 ms", "seconds") == one_time("rope", np.str_("5ms"), "seconds") == 0.005
    np.testing.assert_array_equal(seconds("events", ["1 s", "0.5 min"]), [1.0, 30.0])
    for wrong in (None, np.nan, [0.1, 0.2], "20 mV"):
        with pytest.raises(mrgp.DataError, match=r"rope is .*: give a positive number"):
            one_time("rope", wrong, "a positive number")


# --- where seconds are taken

START = np.arange(10, 390, 10.0)
AREAS = ["A"] * 3 + ["B"] * 3


@pytest.fixture(scope="module")
def spikes():
    rng = np.random.default_rng(0)
    return [np.sort(rng.uniform(0, 400, 2000)) for _ in range(6)]


def assert_same(a, b):
    assert a.layout.same_neurons(b.layout)  # what is at time 0 has a name where an event was given
    assert a.layout.begin == b.layout.begin
    np.testing.assert_array_equal(a.values, b.values)


def test_spike_times_and_trials_with_units(spikes):
    expected = mrgp.from_spike_times(spikes, AREAS, 0.02, start=START, stop=START + 1)
    ms = [Dimensioned(1e3 * times, "millisecond") for times in spikes]
    start = 1e3 * START
    of_trials = {"start": Dimensioned(start, "millisecond"), "stop": Dimensioned(start + 1e3, "millisecond")}
    width = Dimensioned(20.0, "millisecond")
    assert_same(mrgp.from_spike_times(ms, AREAS, width, **of_trials), expected)
    assert_same(mrgp.from_spike_times(ms, AREAS, 0.02, start=START, stop=START + 1), expected)
    around = {"align": (1e6 * START).astype("m8[us]"), "window": (datetime.timedelta(0), datetime.timedelta(seconds=1))}
    assert_same(mrgp.from_spike_times(ms, AREAS, np.timedelta64(20, "ms"), **around), expected)
    spans = [Dimensioned(np.array([[0.0, 4e5]]), "millisecond")] * 6
    assert_same(mrgp.from_spike_times(ms, AREAS, width, observed=spans, **of_trials), expected)
    with pytest.raises(mrgp.DataError, match="spike times of unit 0: the unit is volt, which is no time"):
        mrgp.from_spike_times([Dimensioned(spikes[0], "volt")], ["A"], 0.02, start=START, stop=START + 1)


def test_trains_of_neo(spikes):
    neo, pq = pytest.importorskip("neo"), pytest.importorskip("quantities")
    expected = mrgp.from_spike_times(spikes, AREAS, 0.02, start=START, stop=START + 1)
    trains = [neo.SpikeTrain(1e3 * times * pq.ms, t_stop=4e5 * pq.ms) for times in spikes]
    assert_same(mrgp.from_spike_times(trains, AREAS, 0.02, start=START, stop=START + 1), expected)
    of_trials = {"start": 1e3 * START * pq.ms, "stop": [(t + 1) * pq.s for t in START]}
    assert_same(mrgp.from_spike_times(trains, AREAS, 20 * pq.ms, **of_trials), expected)
    events = neo.Event(1e3 * START * pq.ms)
    assert_same(mrgp.from_spike_times(trains, AREAS, 0.02, align=events, window=(0, 1000) * pq.ms), expected)
    with pytest.raises(mrgp.DataError, match=r"bin_width: the unit is 1.0 mV, which is no time; give seconds"):
        mrgp.from_spike_times(trains, AREAS, 20 * pq.mV, **of_trials)
    short = [neo.SpikeTrain(times[times < 205] * pq.s, t_stop=205 * pq.s) for times in spikes]
    with pytest.warns(UserWarning, match="left out 18 of 38 trials, in which no unit was observed: 20, 21, 22"):
        data = mrgp.from_spike_times(short, AREAS, 0.02, start=START, stop=START + 1)
    assert_same(data, expected.select_trials(slice(0, 20)))


def test_times_of_pynapple(spikes):
    nap = pytest.importorskip("pynapple")
    expected = mrgp.from_spike_times(spikes, AREAS, 0.02, start=START, stop=START + 1)
    trains = {unit: nap.Ts(times) for unit, times in enumerate(spikes)}
    events = {"align": nap.Ts(START), "window": (0, 1)}
    assert_same(mrgp.from_spike_times(trains, AREAS, 0.02, **events), expected)
    group = nap.TsGroup(trains)
    assert_same(mrgp.from_pynapple(group, None, np.timedelta64(20, "ms"), region_of_unit=AREAS, **events), expected)


def test_recordings_models_and_preparations(spikes):
    data = mrgp.from_spike_times(spikes, AREAS, 0.02, start=START, stop=START + 1)
    regions = {name: data.region(name) for name in data.layout.regions}
    ms = Dimensioned(20.0, "millisecond")
    assert mrgp.MultiRegionData(regions, ms).bin_width == 0.02
    assert mrgp.load_recording(regions, bin_width=datetime.timedelta(milliseconds=20)).bin_width == 0.02
    with pytest.raises(mrgp.DataError, match="bin_width: the unit is volt"):
        mrgp.MultiRegionData(regions, Dimensioned(20.0, "volt"))
    assert_same(mrgp.preprocess(data, smooth=ms), mrgp.preprocess(data, smooth=0.02))
    model = DLAG(max_delay=ms, timescale_bounds=(ms, datetime.timedelta(seconds=1)), mean="psth", mean_timescale=ms)
    assert model == DLAG(max_delay=0.02, timescale_bounds=(0.02, 1.0), mean="psth", mean_timescale=0.02)
    assert ADM(delay_timescale=np.timedelta64(200, "ms"), typical_spread=ms) == ADM(
        delay_timescale=0.2, typical_spread=0.02
    )
    with pytest.raises(mrgp.DataError, match="DLAG: max_delay: the unit is volt, which is no time"):
        DLAG(max_delay=Dimensioned(20.0, "volt"))
    held = held_at(DLAG(max_delay=0.1), {"delay": ms, "timescale_across": np.timedelta64(50, "ms")}, data)
    assert held["delay"].tolist() == [[0.02]]
    assert held["timescale_across"].tolist() == [0.05]


# --- axes with names

V1, V2 = np.arange(24.0).reshape(4, 3, 2), -np.arange(36.0).reshape(4, 3, 3) % 7


@pytest.mark.parametrize(
    "dims", [("trial", "time", "neuron"), ("trials", "bins", "unit_id"), ("a", "time", "cells"), ("x", "y", "z")]
)
def test_named_axes_are_arranged(dims):
    array = xr.DataArray(V1, dims=dims)
    expected = mrgp.MultiRegionData({"V1": V1, "V2": V2}, 0.02)
    assert_same(mrgp.MultiRegionData({"V1": array, "V2": V2}, 0.02), expected)
    if dims[0] != "x":
        turned = array.transpose(dims[2], dims[0], dims[1])
        assert_same(mrgp.MultiRegionData({"V1": turned, "V2": V2}, 0.02), expected)
    listed = [xr.DataArray(trial.T, dims=("neuron", "time")) for trial in V1]
    assert_same(mrgp.MultiRegionData({"V1": listed, "V2": V2}, 0.02), expected)


def test_datasets_of_other_names_and_order(tmp_path):
    data = mrgp.MultiRegionData(
        {"V1": V1, "V2": V2}, 0.02, neuron_coords={"V2": ["a", "b", "c"]}, trial_coords={"id": [7, 8, 9, 10]}
    )
    own = data.to_xarray().rename(trial="sweep", neuron_V2="units of V2").transpose("time", "units of V2", ...)
    assert own["V2"].dims == ("time", "units of V2", "sweep")
    own.to_netcdf(tmp_path / "own.nc", engine="h5netcdf")
    for again in (mrgp.MultiRegionData.from_xarray(own), mrgp.load_recording(tmp_path / "own.nc")):
        assert_same(again, data)
        assert again.neuron_coords["V2"].tolist() == ["a", "b", "c"]
        assert again.trial_coords["id"].tolist() == [7, 8, 9, 10]


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (("time", "x", "y"), r"region V1 has dimensions \(time, x, y\), and its time stands in another's place"),
        (("trial", "time", "bin"), r"dimensions \(trial, time, bin\), of which two are a time: arrange it as \(trial"),
        (("unit", "cell", "time"), "of which two are a neuron"),
    ],
)
def test_names_that_contradict_the_order_are_refused(dims, message):
    with pytest.raises(mrgp.DataError, match=message):
        mrgp.MultiRegionData({"V1": xr.DataArray(V1, dims=dims)}, 0.02)


def test_coordinates_that_contradict_are_refused():
    def named(values, **coords):
        return xr.DataArray(values, coords, ("trial", "time", "neuron"))

    ms = {"time": ("time", [0.0, 20.0, 40.0], {"units": "ms"})}
    assert mrgp.MultiRegionData({"V1": named(V1, **ms)}, 0.02).n_bins == 3
    assert mrgp.MultiRegionData({"V1": named(V1, time=[0, 1, 2])}, 0.02).n_bins == 3  # counted, maybe
    samples = {"time": ("time", [0, 1, 2], {"units": "samples"})}
    assert mrgp.MultiRegionData({"V1": named(V1, **samples)}, 0.02).n_bins == 3
    with pytest.raises(mrgp.DataError, match=r"V1 has a time coordinate of bins of 0.02 s, but bin_width is 2 s"):
        mrgp.MultiRegionData({"V1": named(V1, **ms)}, 2)
    one, other = named(V1, trial=[1, 2, 3, 4]), named(V2, trial=[1, 2, 4, 3])
    with pytest.raises(mrgp.DataError, match="regions V1 and V2 differ in their trial labels: align them first"):
        mrgp.MultiRegionData({"V1": one, "V2": other}, 0.02)
    assert mrgp.MultiRegionData({"V1": one, "V2": other.sortby("trial")}, 0.02).n_trials == 4


LONG = {"60 s": 60.0, "60s": 60.0, " 1.5 min": 90.0, "2e4 ms": 20.0, "6h": 21600.0, "1 day": 86400.0, "20ms": 0.02}


@pytest.mark.parametrize("text", LONG)
def test_bins_of_any_length_are_given_with_their_unit(text):
    array = np.random.default_rng(0).standard_normal((3, 4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # whoever names the unit means it
        assert mrgp.MultiRegionData({"V1": array}, text).bin_width == pytest.approx(LONG[text], rel=1e-15)


def test_long_bins_of_plain_numbers_are_milliseconds():
    array = np.random.default_rng(0).standard_normal((3, 4, 2))
    for plain in (20, 20.0, np.float32(20), np.array(20), "20"):
        sentence = r"bins of 20 s are longer than 5 s: .*such as 0.02 for 20 ms, or name their unit, bin_width='20s'"
        with pytest.raises(mrgp.DataError, match=sentence):
            mrgp.MultiRegionData({"V1": array}, plain)
    for meant in (datetime.timedelta(seconds=20), np.timedelta64(20, "s"), Dimensioned(20e3, "millisecond")):
        assert mrgp.MultiRegionData({"V1": array}, meant).bin_width == 20.0
    for no_width in ("20 mV", "s", "-1 s", "0 s", "1.2.3 s", "1e999 s", "", "nan s", None):
        with pytest.raises(mrgp.DataError, match=r"bin_width is .*: give the seconds per bin, such as 0.02"):
            mrgp.MultiRegionData({"V1": array}, no_width)


@pytest.mark.parametrize("suffix", [".npz", ".nc", ".zarr"])
def test_files_keep_long_bins(tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    data = mrgp.MultiRegionData({"V1": np.random.default_rng(0).standard_normal((3, 4, 2))}, "1.1 min")
    mrgp.save_recording(data, tmp_path / f"a{suffix}")
    again = mrgp.load_recording(tmp_path / f"a{suffix}")
    assert (again.bin_width, again.fingerprint) == (data.bin_width, data.fingerprint)
    assert mrgp.load_recording(tmp_path / f"a{suffix}", bin_width="2 h").bin_width == 7200.0


def test_from_spikes_in_bins_of_a_minute():
    spikes = np.arange(0.5, 600.0)
    data = mrgp.from_spike_times([spikes, spikes[::2]], ["V1", "V2"], "1 min", start=[0], stop=[600], drop_dead=None)
    np.testing.assert_array_equal(data.region("V1"), np.full((1, 10, 1), 60.0))


def test_simulations_in_bins_of_a_minute():
    made = mrgp.simulate(regions={"V1": 3, "V2": 3}, n_trials=2, n_bins=5, bin_width="1 min", timescale_across=100)
    assert made.data.bin_width == 60.0
