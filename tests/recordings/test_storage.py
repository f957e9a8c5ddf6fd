"""Storage of values: the dtype in which they are kept, and that nothing computed depends on it."""

import hashlib
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from mrgp.models import ADM, DLAG, GPFA, LDS, MDLAG

import mrgp
from mrgp.metrics import cosmoothing
from mrgp.metrics.baselines import baselines
from mrgp.parts.emissions.base import moments_of_neurons
from mrgp.recordings.checks import DataError
from mrgp.recordings.preprocessing import preprocess
from mrgp.recordings.recording import MultiRegionData

BIN_WIDTH = 0.02
WIDE = 200  # added to counts: their squares and differences do not fit into a byte


def counts(n_trials=6, n_bins=12, n_neurons=(4, 3), most=5, seed=0):
    """Counts of two regions that share a slow drive, most of them above half of what a byte holds."""
    rng = np.random.default_rng(seed)
    drive = 1 + np.sin(np.arange(n_bins) / 2 + rng.uniform(0, 6, (n_trials, 1)))
    return {
        f"V{r + 1}": WIDE + rng.poisson(most * drive[..., None] * rng.uniform(0.3, 1, n), (n_trials, n_bins, n))
        for r, n in enumerate(n_neurons)
    }


def twins(kind="complete", **sizes):
    """The same recording kept as bytes and in double precision."""
    arrays = counts(**sizes)
    trials = {"condition": ["a", "b"] * (len(arrays["V1"]) // 2)}
    small, large = (
        MultiRegionData({n: a.astype(dtype) for n, a in arrays.items()}, BIN_WIDTH, trial_coords=trials)
        for dtype in (int, float)
    )
    if kind == "hidden":
        small, large = (data.without({"V1": [1]}) for data in (small, large))
    assert (small.values.dtype, large.values.dtype) == (np.uint8, np.float64)
    return small, large


KEPT = {
    "bool": (np.array([0, 1], bool), np.uint8),
    "uint8": (np.array([0, 255], np.uint8), np.uint8),
    "int64 of a byte": (np.array([0, 255]), np.uint8),
    "int64 of two": (np.array([0, 256]), np.uint16),
    "uint16 of a byte": (np.array([0, 3], np.uint16), np.uint16),
    "int64 of more": (np.array([0, 65_536]), np.float64),
    "negative": (np.array([-1, 1]), np.float64),
    "float64": (np.array([0.0, 1.0]), np.float64),
    "float32": (np.array([0, 1], np.float32), np.float64),
}


@pytest.mark.parametrize("name", KEPT)
def test_whole_numbers_are_kept_small_and_all_else_in_double_precision(name):
    numbers, expected = KEPT[name]
    array = np.resize(numbers, (3, 5, 2)) + np.zeros((3, 5, 2), numbers.dtype)
    data = MultiRegionData({"V1": array}, BIN_WIDTH, drop_dead=None)
    assert data.values.dtype == expected
    np.testing.assert_array_equal(data.values, array.astype(float))
    assert data.region("V1").dtype == data.with_nan().dtype == data.floats.dtype == np.float64


def test_regions_are_kept_in_one_dtype_that_holds_them_all():
    small, large = np.resize([0, 1], (3, 5, 2)), np.resize([0, 300], (3, 5, 2))
    data = MultiRegionData({"V1": small.astype(np.uint8), "V2": large}, BIN_WIDTH, drop_dead=None)
    assert data.values.dtype == np.uint16
    data = MultiRegionData({"V1": small, "V2": large.astype(float)}, BIN_WIDTH, drop_dead=None)
    assert data.values.dtype == np.float64


def test_single_precision_is_kept_where_asked_for_and_nothing_is_lost():
    array = np.random.default_rng(0).standard_normal((4, 6, 3)).astype(np.float32)
    array[1, 2, 0] = np.nan
    single = MultiRegionData({"V1": array}, BIN_WIDTH, dtype=np.float32)
    double = MultiRegionData({"V1": array.astype(float)}, BIN_WIDTH)
    assert single.values.dtype == single.select_trials([0, 1]).values.dtype == np.float32
    assert single.fingerprint == double.fingerprint
    assert single.trial_fingerprints == double.trial_fingerprints
    np.testing.assert_array_equal(single.with_nan(), double.with_nan())
    for wrong, of in ((np.float32, array.astype(float)), (np.int8, array)):
        with pytest.raises(DataError, match="dtype"):
            MultiRegionData({"V1": of}, BIN_WIDTH, dtype=wrong)
    assert MultiRegionData({"V1": np.resize([0, 1], (3, 5, 1))}, BIN_WIDTH, dtype=float).values.dtype == np.float64


def test_single_precision_of_trials_of_different_length_and_of_masked_ones_is_kept():
    rng = np.random.default_rng(0)
    trials = [rng.standard_normal((bins, 3)).astype(np.float32) for bins in (6, 4, 6)]
    masked = np.ma.masked_less(rng.standard_normal((4, 6, 3)).astype(np.float32), -0.5)
    for regions, doubles in ((trials, [trial.astype(float) for trial in trials]), (masked, masked.astype(float))):
        single = MultiRegionData({"V1": regions}, BIN_WIDTH, dtype=np.float32)
        assert single.values.dtype == np.float32
        np.testing.assert_array_equal(single.with_nan(), MultiRegionData({"V1": doubles}, BIN_WIDTH).with_nan())
        assert not single.is_complete
        assert MultiRegionData({"V1": regions}, BIN_WIDTH).values.dtype == np.float64  # unless it is asked for


def test_trials_of_one_length_in_a_list_stay_integers_and_others_get_nan():
    trials = list(np.resize([0, 1, 2], (4, 7, 2)))
    assert MultiRegionData({"V1": trials}, BIN_WIDTH, drop_dead=None).values.dtype == np.uint8
    ragged = MultiRegionData({"V1": [*trials, trials[0][:3]]}, BIN_WIDTH, drop_dead=None)
    assert ragged.values.dtype == np.float64
    np.testing.assert_array_equal(ragged.length, [7, 7, 7, 7, 3])


# --- nothing depends on it


@pytest.mark.parametrize("kind", ["complete", "hidden"])
def test_digests_and_fingerprint_are_those_of_double_precision(kind):
    small, large = twins(kind)
    assert small.fingerprint == large.fingerprint
    digest = hashlib.sha256(repr((large.layout, large.values.shape)).encode())
    for array in large.tree_flatten()[0][:-2]:  # places and weights of trials left aside
        digest.update(b"None" if array is None else np.ascontiguousarray(array).tobytes())
    assert small.fingerprint == digest.hexdigest()  # as files of earlier versions have it
    whole = [hashlib.blake2b(trial.tobytes(), digest_size=8).hexdigest() for trial in counts_of(large)]
    assert list(small.digests.whole) == list(large.digests.whole) == whole
    one = hashlib.blake2b(np.ascontiguousarray(counts_of(large)[2, :, 3]), digest_size=8).digest()
    assert small.digests.of_neurons[2, 3] == large.digests.of_neurons[2, 3] == np.frombuffer(one, "<u8")[0]
    some = [data.select_trials([3, 1]).select_neurons({"V1": [0, 2]}) for data in (small, large)]
    assert some[0].trial_fingerprints == some[1].trial_fingerprints
    assert some[0].values.dtype == np.uint8


def counts_of(data):
    """Values before any neuron was hidden."""
    return np.concatenate(list(counts().values()), 2).astype(float)


@pytest.mark.parametrize("kind", ["complete", "hidden"])
def test_selections_keep_the_dtype_and_the_numbers(kind):
    small, large = twins(kind)
    for change in (
        lambda data: data.select_trials([4, 0]),
        lambda data: data.select_neurons({"V1": [3, 0], "V2": []}),
        lambda data: data.without({"V2": [0]}),
        lambda data: data.among(("a", "b", "c")),
    ):
        mine, theirs = change(small), change(large)
        assert mine.values.dtype == np.uint8
        np.testing.assert_array_equal(mine.with_nan(), theirs.with_nan())
        for name in ("center", "scale", "pattern", "condition"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        assert mine.is_gapless == theirs.is_gapless
        assert mine.fingerprint == theirs.fingerprint
    mine, theirs = (data.less(np.full((2, 12, 7), 250.0)) for data in (small, large))
    np.testing.assert_array_equal(mine.with_nan(), theirs.with_nan())


def test_moments_and_preprocessing_reckon_in_double_precision():
    small, large = twins("hidden")
    for mine, theirs in zip(moments_of_neurons(small), moments_of_neurons(large), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    small, large = twins()
    for steps in ({"transform": "sqrt"}, {"transform": "anscombe", "smooth": 0.05},
                  {"remove_condition_mean": "condition", "zscore": True}):  # fmt: skip
        mine, theirs = preprocess(small, **steps), preprocess(large, **steps)
        np.testing.assert_array_equal(mine.with_nan(), theirs.with_nan())
        assert mine.digests.of_trials == theirs.digests.of_trials


@pytest.mark.parametrize("suffix", [".npz", ".nc"])
def test_files_keep_the_dtype(suffix, tmp_path):
    small, large = twins()
    for data, dtype in ((small, np.uint8), (large, np.float64)):
        mrgp.save_recording(data, path := tmp_path / f"{dtype.__name__}{suffix}")
        again = mrgp.load_recording(path)
        assert again.values.dtype == dtype
        assert again.fingerprint == small.fingerprint
    assert MultiRegionData.from_xarray(small.to_xarray()).fingerprint == small.fingerprint
    assert small.to_xarray()["V1"].dtype == np.float64  # whoever reckons with it need not think of bytes


MODELS = {
    "dlag": DLAG(1, 1),
    "dlag, psth": DLAG(1, 1, mean="psth"),
    "dlag, ar1": DLAG(1, 1, noise="ar1"),
    "dlag, dense": DLAG(1, 1, likelihood="dense"),
    "dlag, poisson": DLAG(1, 1, emission="poisson"),
    "gpfa, negative binomial": GPFA(1, emission="negative_binomial"),
    "adm": ADM(1, 0),
    "lds": LDS(2),
    "mdlag": MDLAG(2),
}
METHODS = {"lds": "em", "mdlag": "vb"}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_a_fit_of_bytes_is_the_fit_of_their_numbers(name):
    model, method, briefly = MODELS[name], METHODS.get(name, "map"), {"max_iterations": 3, "n_starts": 2}
    mine, theirs = (model.fit(data, method, progress=False, **briefly) for data in twins())
    np.testing.assert_allclose(mine.trace, theirs.trace, rtol=1e-12)
    for site, value in mine.sites.items():
        np.testing.assert_allclose(value, theirs.sites[site], rtol=1e-9, atol=1e-12, err_msg=site)
    assert mine.training_trials == theirs.training_trials
    assert mine.has_seen(twins()[1]).all()
    for kind in ("complete", "hidden"):
        if name == "dlag, ar1" and kind == "hidden":
            continue
        small, large = twins(kind)
        scores = mine.log_likelihood(small), mine.log_likelihood(large)
        np.testing.assert_allclose(*scores, rtol=1e-12)
        np.testing.assert_allclose(mine.predict(small)["V1_mean"], mine.predict(large)["V1_mean"], rtol=1e-10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scores_of_baselines_and_fits_are_those_of_double_precision():
    small, large = twins(n_trials=10)
    fit = DLAG(1, 1).fit(large, max_iterations=3, n_starts=1, progress=False)
    held = {"V1": [0, 2]}
    for mine, theirs in ((fit, fit), *zip(baselines(small).values(), baselines(large).values(), strict=True)):
        one, other = cosmoothing(mine, small, held), cosmoothing(theirs, large, held)
        for score in one.data_vars:
            np.testing.assert_allclose(one[score], other[score], rtol=1e-10, err_msg=str(score))


# --- memory


@pytest.mark.slow
def test_a_recording_of_bytes_is_never_written_out_in_double_precision():
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 4, (100, 200, 1000), np.uint8) for name in ("V1", "V2")}
    entries = 100 * 200 * 2000
    tracemalloc.start()
    data = MultiRegionData(arrays, BIN_WIDTH)
    data.digests, data.fingerprint, moments_of_neurons(data)
    data.select_trials(slice(0, 50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One copy side by side, half of it again, and at most three arrays of a block in double precision.
    assert peak < 1.5 * entries + 3.5 * 8 * 2**23
    assert peak < 7 * entries
    assert data.values.nbytes == entries
    some = replace(DLAG(1, 1), likelihood=mrgp.Kalman()).emission.trivial_log_likelihood(data.select_trials([0, 1]))
    assert np.isfinite(some).all()
