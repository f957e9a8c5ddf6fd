"""MultiRegionData: what it holds, what it refuses, and what JAX sees of it."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import DataError, MultiRegionData

BIN_WIDTH = 0.02


def recording(n_trials=6, n_bins=9, sizes=(4, 3), seed=0):
    rng = np.random.default_rng(seed)
    return {f"V{r + 1}": rng.standard_normal((n_trials, n_bins, n)) for r, n in enumerate(sizes)}


def same_recording(a: MultiRegionData, b: MultiRegionData) -> bool:
    return a.layout == b.layout and all(
        np.array_equal(a.region(name), b.region(name), equal_nan=True) for name in a.layout.regions
    )


def with_holes(kind: str, seed: int) -> np.ndarray:
    """An array (12, 10, 5) with the kind of missing entries named."""
    rng = np.random.default_rng(seed)
    array = rng.standard_normal((12, 10, 5))
    if "holes" in kind:  # three arrangements, dealt out to the trials
        arrangements = rng.random((3, 10, 5)) < 0.2
        arrangements[0] = False
        arrangements[:, 0] = False
        array[arrangements[rng.integers(0, 3, 12)]] = np.nan
    if "ragged" in kind:
        for trial, length in zip(array, rng.integers(1, 11, 12), strict=True):
            trial[length:] = np.nan
    return array


# --- what it holds


def test_complete_recording_has_regions_side_by_side():
    arrays = recording()
    data = MultiRegionData(arrays, BIN_WIDTH)
    assert data.layout == Layout(("V1", "V2"), (4, 3), BIN_WIDTH)
    assert data.values.dtype == np.float64
    np.testing.assert_array_equal(data.values, np.concatenate([arrays["V1"], arrays["V2"]], axis=2))
    assert data.observed is None
    assert data.length is None
    assert data.is_complete
    np.testing.assert_array_equal(data.pattern, np.zeros(6, np.int32))
    assert (data.n_trials, data.n_bins, data.bin_width) == (6, 9, BIN_WIDTH)
    np.testing.assert_allclose(data.times, np.arange(9) * 0.02)
    assert data.mask.all()
    np.testing.assert_array_equal(data.region("V2"), arrays["V2"])
    assert "6 trials x 9 bins of 20 ms" in repr(data)
    assert repr(data).splitlines()[1:] == ["  V1: 4 neurons", "  V2: 3 neurons"]


def test_layout_knows_the_columns_of_each_region():
    layout = Layout(("a", "b", "c"), (2, 1, 3), 0.01)
    assert layout.n_regions == 3
    assert layout.total_neurons == 6
    np.testing.assert_array_equal(layout.region_of_neuron, [0, 0, 1, 2, 2, 2])
    assert layout.region_slices == {"a": slice(0, 2), "b": slice(2, 3), "c": slice(3, 6)}
    assert hash(layout) == hash(Layout(("a", "b", "c"), (2, 1, 3), 0.01))


def test_the_users_array_is_neither_changed_nor_shared():
    array = with_holes("holes", 0)
    before = array.copy()
    data = MultiRegionData({"V1": array}, BIN_WIDTH)
    np.testing.assert_array_equal(array, before)
    array[:] = 7.0
    assert not (data.values == 7.0).any()


def test_jax_xarray_and_masked_arrays_are_accepted():
    array = np.random.default_rng(2).standard_normal((4, 5, 2))
    for given in (jnp.asarray(array), xr.DataArray(array)):
        np.testing.assert_allclose(MultiRegionData({"V1": given}, BIN_WIDTH).values, array, rtol=1e-6)
    mask = np.zeros(array.shape, bool)
    mask[1, 2, 0] = True
    data = MultiRegionData({"V1": np.ma.MaskedArray(array, mask)}, BIN_WIDTH)
    np.testing.assert_array_equal(data.mask, ~mask)


# --- missing entries


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["full", "ragged", "holes", "ragged holes"])
def test_values_observed_pattern_and_length_reproduce_the_recording(kind, seed):
    array = with_holes(kind, seed)
    data = MultiRegionData({"V1": array}, BIN_WIDTH)
    rebuilt = np.full(array.shape, np.nan)
    for b in range(array.shape[0]):
        for t in range(array.shape[1]):
            for i in range(array.shape[2]):
                within = data.length is None or t < data.length[b]
                if within and (data.observed is None or data.observed[data.pattern[b], t, i]):
                    rebuilt[b, t, i] = data.values[b, t, i]
    np.testing.assert_array_equal(rebuilt, array)
    np.testing.assert_array_equal(data.region("V1"), array)
    np.testing.assert_array_equal(data.mask, ~np.isnan(array))
    assert (data.values[np.isnan(array)] == 0).all()
    assert (data.observed is None) == ("holes" not in kind)
    assert (data.length is None) == ("ragged" not in kind)
    if data.length is not None:
        expected = [1 + max(t for t in range(10) if not np.isnan(trial[t]).all()) for trial in array]
        np.testing.assert_array_equal(data.length, expected)
        assert data.length.dtype == np.int32
    assert data.pattern.dtype == np.int32
    if kind == "holes":
        assert data.observed.shape == (len(np.unique(np.isnan(array), axis=0)), 10, 5)


def test_patterns_are_shared_causally():
    array = np.random.default_rng(3).standard_normal((6, 8, 3))
    array[1, 5, 0] = np.nan  # a hole late in a full trial
    array[2, 4:] = np.nan  # short: agrees with trials 0 and 1 as far as it goes
    array[3, 7:] = np.nan  # short without hole: agrees with trial 0 only
    array[4, 5, 0] = array[4, 7] = np.nan  # short with trial 1's hole
    array[5, 2, 2] = np.nan  # a hole of its own
    data = MultiRegionData({"V1": array}, BIN_WIDTH)
    np.testing.assert_array_equal(data.length, [8, 8, 4, 7, 7, 8])
    np.testing.assert_array_equal(data.pattern, [0, 1, 0, 0, 1, 2])
    assert data.observed.shape == (3, 8, 3)
    assert "3 pattern(s) of missing entries, trials of different length" in repr(data)


def test_a_list_of_trials_is_the_padded_array():
    rng = np.random.default_rng(4)
    lengths = [5, 8, 3]
    trials = {name: [rng.standard_normal((n, size)) for n in lengths] for name, size in (("A", 2), ("B", 4))}
    data = MultiRegionData(trials, BIN_WIDTH)
    np.testing.assert_array_equal(data.length, lengths)
    assert data.observed is None
    assert data.values.shape == (3, 8, 6)
    for b, n in enumerate(lengths):
        np.testing.assert_array_equal(data.region("B")[b, :n], trials["B"][b])
        assert np.isnan(data.region("B")[b, n:]).all()
    equal = MultiRegionData({"A": [np.eye(3), 2 * np.eye(3)]}, BIN_WIDTH)
    assert equal.is_complete


def test_a_region_that_was_off_is_missing_and_does_not_shorten_the_trial():
    arrays = recording()
    arrays["V2"][2, 5:] = np.nan
    data = MultiRegionData(arrays, BIN_WIDTH)
    assert data.length is None
    assert data.observed.shape == (2, 9, 7)
    assert not data.observed[data.pattern[2], 5:, 4:].any()


def test_bins_that_no_trial_fills_stay():
    array = np.random.default_rng(5).standard_normal((3, 6, 2))
    array[:, 4:] = np.nan
    data = MultiRegionData({"V1": array}, BIN_WIDTH)
    assert data.n_bins == 6
    np.testing.assert_array_equal(data.length, [4, 4, 4])


# --- selection


def test_select_trials_takes_positions_booleans_and_slices():
    array = with_holes("ragged holes", 1)
    blocks = np.arange(12) // 4
    data = MultiRegionData({"V1": array}, BIN_WIDTH, trial_coords={"block": blocks})
    for indices in ([3, 0, 7], blocks == 2, slice(2, 9, 3)):
        part = data.select_trials(indices)
        np.testing.assert_array_equal(part.region("V1"), array[indices])
        np.testing.assert_array_equal(part.trial_coords["block"], blocks[indices])
        assert part.layout == data.layout
    assert data.n_trials == 12


def test_selected_trials_need_only_their_own_patterns():
    array = np.random.default_rng(6).standard_normal((4, 5, 3))
    array[3, 2, 1] = np.nan
    data = MultiRegionData({"V1": array}, BIN_WIDTH)
    assert data.observed is not None
    assert data.select_trials([0, 1, 2]).is_complete
    np.testing.assert_array_equal(data.values, np.nan_to_num(array))  # the source keeps its numbers


def test_a_neuron_silent_in_the_selected_trials_is_no_error():
    array = np.random.default_rng(7).standard_normal((4, 5, 2))
    array[:2, :, 0] = 0.0
    assert MultiRegionData({"V1": array}, BIN_WIDTH).select_trials([0, 1]).n_trials == 2


def test_select_neurons_keeps_what_is_not_named_and_drops_what_is_empty():
    arrays = recording(sizes=(4, 3, 2))
    labels = {"V1": ["a", "b", "c", "d"]}
    data = MultiRegionData(arrays, BIN_WIDTH, neuron_coords=labels)
    part = data.select_neurons({"V1": [2, 0], "V3": []})
    assert part.layout == Layout(("V1", "V2"), (2, 3), BIN_WIDTH)
    np.testing.assert_array_equal(part.region("V1"), arrays["V1"][:, :, [2, 0]])
    np.testing.assert_array_equal(part.region("V2"), arrays["V2"])
    assert part.neuron_coords["V1"].tolist() == ["c", "a"]
    assert data.select_neurons({"V2": slice(1, None)}).layout.n_neurons == (4, 2, 2)


def test_other_numbers_keep_everything_else():
    array = with_holes("ragged holes", 2)
    data = MultiRegionData({"V1": array}, BIN_WIDTH, trial_coords={"block": np.arange(12)})
    changed = data.with_values(2 * array)
    np.testing.assert_array_equal(changed.region("V1"), 2 * array)
    np.testing.assert_array_equal(data.region("V1"), array)
    np.testing.assert_array_equal(changed.trial_coords["block"], np.arange(12))
    assert changed.layout == data.layout
    with pytest.raises(DataError, match=r"values have shape \(12, 10, 4\), the recording has \(12, 10, 5\)"):
        data.with_values(array[:, :, 1:])


def test_wrong_selections_are_refused():
    data = MultiRegionData(recording(), BIN_WIDTH)
    with pytest.raises(DataError, match=r"cannot choose these trials, there are 6"):
        data.select_trials([6])
    with pytest.raises(DataError, match="given no trial"):
        data.select_trials([])
    with pytest.raises(DataError, match="neurons of region V2, there are 3"):
        data.select_neurons({"V2": [3]})
    with pytest.raises(DataError, match="no region 'V9' here: choose from V1, V2"):
        data.select_neurons({"V9": [0]})
    with pytest.raises(DataError, match="keep at least one"):
        data.select_neurons({"V1": [], "V2": []})
    with pytest.raises(DataError, match="no region 'V9'"):
        data.region("V9")
    arrays = recording()
    arrays["V1"][3] = np.nan
    with pytest.raises(DataError, match="trial 3 has nothing observed in any neuron of V1"):
        MultiRegionData(arrays, BIN_WIDTH).select_neurons({"V2": []})


# --- what it refuses


def put(array: np.ndarray, index, value) -> np.ndarray:
    changed = array.astype(float)
    changed[index] = value
    return changed


GOOD = recording(5, 7, (3, 2))
V1, V2 = GOOD["V1"], GOOD["V2"]
REFUSED = {
    "two dimensions": (
        {"V1": V1[0]},
        r"region V1 has shape \(7, 3\): arrange it as \(trials, bins, neurons\)",
    ),
    "one trial of one dimension": ({"V1": [V1[0], V1[1][:, 0]]}, r"region V1: trials have shapes"),
    "neurons differ between trials": ({"V1": [V1[0], V1[1][:, :2]]}, r"shapes \(7, 2\), \(7, 3\)"),
    "trial counts": ({"V1": V1, "V2": V2[:4]}, "region V2 has 4 trials but region V1 has 5"),
    "bin counts": ({"V1": V1, "V2": V2[:, :6]}, "region V2 has 6 bins but region V1 has 7: cut both"),
    "infinite": (
        {"V1": V1, "V2": put(V2, (1, 3, 1), np.inf)},
        "region V2, neuron 1: infinite value in trial 1, bin 3",
    ),
    "never observed": (
        {"V1": put(V1, (..., 2), np.nan)},
        "region V1, neuron 2: never observed .*drop_dead=True",
    ),
    "dead": (
        {"V1": V1, "V2": put(V2, (..., 0), 1.5)},
        "region V2, neuron 0: dead, .*remove it, or pass drop_dead=True",
    ),
    "two dead": ({"V1": put(V1, (..., slice(1, 3)), 0.0)}, "region V1, neurons 1, 2: dead"),
    "dead where observed": (
        {"V1": put(put(V1, (..., 1), 2.0), (slice(1, 4), 2, 1), np.nan)},
        "region V1, neuron 1: dead",
    ),
    "missing trial": (
        {"V1": put(V1, 3, np.nan)},
        "trial 3 has nothing observed in any neuron of V1: leave it out",
    ),
    "empty ragged trial": ({"V1": [V1[0], V1[1][:0]]}, "trial 1 has nothing observed"),
    "text": ({"V1": np.full((2, 2, 2), "a")}, "region V1 holds <U1 instead of real numbers"),
    "complex": ({"V1": V1 + 1j}, "region V1 holds complex128"),
    "object": ({"V1": V1.astype(object)}, "region V1 holds object"),
    "ragged inside a trial": (
        {"V1": [[[1.0, 2.0], [3.0]]]},
        "trial 0 of region V1 is not one array of numbers",
    ),
    "no trials": ({"V1": V1[:0]}, "region V1 has no trials"),
    "no trials in a list": ({"V1": []}, "region V1 has no trials"),
    "no bins": ({"V1": V1[:, :0]}, "region V1 has no bins"),
    "no neurons": ({"V1": V1[:, :, :0]}, "region V1 has no neurons"),
    "region name is a number": ({1: V1}, "1 cannot be the name of a region: use a string"),
    "region name is taken": ({"time": V1}, "'time' cannot be the name of a region"),
    "no regions": ({}, "at least one region"),
    "no mapping": (V1, "at least one region: pass a mapping"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_recordings_are_refused_with_the_place_and_the_remedy(case):
    regions, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        MultiRegionData(regions, BIN_WIDTH)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bin_width", [0.0, -0.02, np.nan, np.inf, "20 mV", None])
def test_bin_width_must_be_positive_and_finite(bin_width):
    with pytest.raises(DataError, match=r"bin_width is .*: give the seconds per bin"):
        MultiRegionData(GOOD, bin_width)


def test_a_zero_dimensional_bin_width_becomes_a_float():
    width = MultiRegionData(GOOD, np.array(0.02)).bin_width
    assert type(width) is float
    assert width == 0.02


def test_messages_use_the_neurons_labels():
    labels = {"V1": ["u1", "u2", "u3"]}
    with pytest.raises(DataError, match=r"region V1, neuron 2 \(label u3\): dead"):
        MultiRegionData({"V1": put(V1, (..., 2), 0.0)}, BIN_WIDTH, neuron_coords=labels)


def test_coordinates_of_the_wrong_length_or_name_are_refused():
    with pytest.raises(DataError, match=r"neuron_coords\['V1'\] has shape \(2,\): it needs 3 labels"):
        MultiRegionData(GOOD, BIN_WIDTH, neuron_coords={"V1": [1, 2]})
    with pytest.raises(DataError, match=r"neuron_coords\['V9'\].*a region's name \(V1, V2\)"):
        MultiRegionData(GOOD, BIN_WIDTH, neuron_coords={"V9": [1, 2]})
    with pytest.raises(DataError, match=r"trial_coords\['block'\] has shape \(4,\): it needs 5 labels"):
        MultiRegionData(GOOD, BIN_WIDTH, trial_coords={"block": range(4)})


def test_drop_dead_leaves_neurons_out_and_names_them():
    arrays = {"V1": put(put(V1, (..., 0), 3.0), (..., 1), np.nan), "V2": V2}
    with pytest.warns(UserWarning, match=r"region V1, neurons 0 \(label a\), 1 \(label b\)") as caught:
        data = MultiRegionData(arrays, BIN_WIDTH, neuron_coords={"V1": ["a", "b", "c"]}, drop_dead=True)
    assert caught[0].filename == __file__
    assert data.layout.n_neurons == (1, 2)
    assert data.is_complete
    assert data.neuron_coords["V1"].tolist() == ["c"]
    np.testing.assert_array_equal(data.region("V1"), V1[:, :, 2:])
    with pytest.raises(DataError, match="region V1: every neuron is dead"):
        MultiRegionData({"V1": np.ones((2, 3, 2)), "V2": V2[:2, :3]}, BIN_WIDTH, drop_dead=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MultiRegionData(GOOD, BIN_WIDTH, drop_dead=True).layout.n_neurons == (3, 2)


def test_require_counts_regions():
    data = MultiRegionData({"V1": V1}, BIN_WIDTH)
    data.require(1)
    wanted = r"DLAG compares regions; this recording has only one \(V1\): load at least 2, or use GPFA"
    with pytest.raises(DataError, match=wanted):
        data.require(2, "DLAG")
    with pytest.raises(DataError, match=r"only 2 \(V1, V2\): load at least 3"):
        MultiRegionData(GOOD, BIN_WIDTH).require(3)


# --- JAX


@pytest.mark.parametrize("kind", ["full", "ragged", "holes", "ragged holes"])
def test_pytree_round_trip(kind):
    data = MultiRegionData({"V1": with_holes(kind, 0)}, BIN_WIDTH, trial_coords={"block": np.arange(12)})
    leaves, tree = jax.tree.flatten(data)
    again = jax.tree.unflatten(tree, leaves)
    assert len(leaves) == 6 + (data.observed is not None) + (data.length is not None)
    assert same_recording(data, again)
    assert again.trial_coords == {}
    jax.tree.map(lambda leaf: None, data)  # placeholders are no arrays: nothing may look at them


def test_equal_layouts_and_shapes_are_traced_once():
    traces = []

    @jax.jit
    def total(data: MultiRegionData) -> jax.Array:
        traces.append(data.layout)
        assert (data.n_trials, data.n_bins) == data.values.shape[:2]
        return data.values.sum()

    for seed in range(3):
        data = MultiRegionData(recording(seed=seed), BIN_WIDTH, trial_coords={"block": np.arange(6) + seed})
        np.testing.assert_allclose(total(data), data.values.sum(), rtol=1e-4)
    assert len(traces) == 1
    total(MultiRegionData(recording(), 2 * BIN_WIDTH))
    assert len(traces) == 2


def test_gradients_and_vmap_pass_through_the_pytree():
    data = MultiRegionData(recording(), BIN_WIDTH)
    power = jax.vmap(lambda values: (values**2).sum())(jnp.asarray(data.values))
    assert power.shape == (6,)
    doubled = jax.jit(lambda d: jax.tree.map(lambda leaf: 2 * leaf, d))(data)
    assert isinstance(doubled, MultiRegionData)
    np.testing.assert_allclose(doubled.region("V1"), 2 * data.region("V1"), rtol=1e-6)


# --- xarray


@pytest.mark.parametrize("kind", ["full", "ragged", "holes", "ragged holes"])
def test_xarray_round_trip(kind):
    labels = {"V1": [f"unit{i}" for i in range(5)]}
    trials = {"stimulus": np.arange(12) * 22.5}
    arrays = {"V2": with_holes(kind, 1), "V1": with_holes(kind, 0)}
    data = MultiRegionData(arrays, BIN_WIDTH, neuron_coords=labels, trial_coords=trials)
    dataset = data.to_xarray()
    assert dataset["V1"].dims == ("trial", "time", "neuron_V1")
    assert dataset.attrs["bin_width"] == BIN_WIDTH
    np.testing.assert_allclose(dataset["time"].values, np.arange(10) * 0.02)
    again = MultiRegionData.from_xarray(dataset)
    assert same_recording(data, again)
    assert again.layout.regions == ("V2", "V1")
    assert again.neuron_coords["V1"].tolist() == labels["V1"]
    np.testing.assert_array_equal(again.trial_coords["stimulus"], trials["stimulus"])
    np.testing.assert_array_equal(again.pattern, data.pattern)


def test_from_xarray_takes_any_order_of_dimensions_and_says_what_is_wrong():
    data = MultiRegionData(GOOD, BIN_WIDTH)
    dataset = data.to_xarray().transpose("time", ...)
    del dataset.attrs["regions"]
    assert same_recording(data, MultiRegionData.from_xarray(dataset))
    with pytest.raises(DataError, match=r"region V1 must be a variable .*'neuron_V1'"):
        MultiRegionData.from_xarray(dataset.isel(neuron_V1=0))
    with pytest.raises(DataError, match="of which two are a trial: arrange it as"):
        MultiRegionData.from_xarray(dataset.rename(neuron_V1="trials"))
    del dataset.attrs["bin_width"]
    with pytest.raises(DataError, match="set it to the seconds per bin"):
        MultiRegionData.from_xarray(dataset)
