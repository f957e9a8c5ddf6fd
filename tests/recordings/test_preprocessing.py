"""Preprocessing against loops that say the same slowly; what it keeps, what it refuses."""

import numpy as np
import pytest
from scipy.stats import poisson

from mrgp import DataError, MultiRegionData, preprocess, remove_mean, smooth_over_time, square_root, standardize

BIN_WIDTH = 0.02
LABELS = {"V1": ["a", "b", "c"]}
STIMULUS = np.array(["left", "right", "left", "left", "right", "right"])


def counts(kind="holes", seed=0, n_trials=6, n_bins=12):
    """Poisson counts of V1 (3 neurons) and V2 (2), with a hole and a short trial."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.poisson(4.0, (n_trials, n_bins, n)).astype(float) for name, n in (("V1", 3), ("V2", 2))}
    if kind == "holes":
        arrays["V1"][1, 4:6, 2] = np.nan
        arrays["V1"][3, 9:] = arrays["V2"][3, 9:] = np.nan
    return arrays


def recording(kind="holes", seed=0, **sizes):
    coords = {"stimulus": STIMULUS}
    return MultiRegionData(counts(kind, seed, **sizes), BIN_WIDTH, neuron_coords=LABELS, trial_coords=coords)


def both(data):
    return np.concatenate([data.region("V1"), data.region("V2")], axis=2)


STEPS = {
    "sqrt": {"transform": "sqrt"},
    "anscombe": {"transform": "anscombe"},
    "smooth": {"smooth": 0.03},
    "mean": {"remove_condition_mean": True},
    "condition mean": {"remove_condition_mean": "stimulus"},
    "zscore": {"zscore": True},
    "nothing": {},
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["full", "holes"])
def test_layout_coordinates_and_missing_entries_stay_and_the_input_does_too(step, kind):
    data = recording(kind)
    before, patterns = both(data), data.observed
    done = preprocess(data, **STEPS[step])
    assert done.layout == data.layout
    assert done.neuron_coords["V1"].tolist() == LABELS["V1"]
    np.testing.assert_array_equal(done.trial_coords["stimulus"], STIMULUS)
    np.testing.assert_array_equal(np.isnan(both(done)), np.isnan(before))
    np.testing.assert_array_equal(both(data), before)
    assert data.observed is patterns
    assert np.array_equal(both(done), before, equal_nan=True) == (step == "nothing")
    assert done.is_complete == (kind == "full")
    assert (done.values[np.isnan(before)] == 0).all()
    np.testing.assert_allclose(done.center, np.nanmean(both(done), axis=(0, 1)), atol=1e-12)


def test_batches_stay_batches():
    assert preprocess(recording("full").in_batches_of(2), zscore=True).batch_size == 2


# --- roots


def test_roots():
    data = recording()
    np.testing.assert_allclose(both(square_root(data)), np.sqrt(both(data)))
    np.testing.assert_allclose(both(square_root(data, "anscombe")), 2 * np.sqrt(both(data) + 3 / 8))


@pytest.mark.parametrize(("transform", "wanted", "means"), [("sqrt", 0.25, (6, 10, 30)), ("anscombe", 1.0, (2, 4, 30))])
def test_roots_do_to_the_variance_of_counts_what_their_docstring_says(transform, wanted, means):
    y = np.arange(200.0)
    rooted = square_root(MultiRegionData({"V1": y[None, :, None]}, BIN_WIDTH), transform).values[0, :, 0]
    for mean in means:
        weights = poisson.pmf(y, mean)
        assert (weights * rooted**2).sum() - (weights * rooted).sum() ** 2 == pytest.approx(wanted, rel=0.11)


def test_negative_counts_are_named():
    arrays = counts()
    arrays["V1"][2, 5, 1] = -1
    data = MultiRegionData(arrays, BIN_WIDTH, neuron_coords=LABELS)
    with pytest.raises(DataError, match=r"V1, neuron 1 \(label b\) is -1 in trial 2, bin 5: the root is of counts"):
        preprocess(data, transform="sqrt")
    with pytest.raises(DataError, match="'sqrt' or 'anscombe', not 'log'"):
        square_root(data, "log")


# --- smoothing


def slowly_smoothed(array, bins):
    """Weighted mean over the observed entries of the trial, one entry after the other."""
    result = np.full_like(array, np.nan)
    for trial, time, neuron in np.argwhere(~np.isnan(array)):
        weights = np.exp(-0.5 * ((np.arange(array.shape[1]) - time) / bins) ** 2)
        seen = ~np.isnan(array[trial, :, neuron])
        result[trial, time, neuron] = np.average(array[trial, seen, neuron], weights=weights[seen])
    return result


@pytest.mark.parametrize("sd", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("kind", ["full", "holes"])
def test_smoothing_is_a_weighted_mean_of_what_was_observed(sd, kind):
    data = recording(kind)
    expected = slowly_smoothed(both(data), sd / BIN_WIDTH)
    # The kernel ends at 4 sd, beyond which 6e-5 of its weight is (twice that at an edge), of counts up to 12.
    np.testing.assert_allclose(both(smooth_over_time(data, sd)), expected, atol=2 * 6.4e-5 * 12)


def test_smoothing_keeps_a_constant_at_edges_and_beside_holes():
    array = np.full((2, 9, 1), 3.0)
    array[0, 4:7] = np.nan
    array[1, 8] = 4.0
    smoothed = smooth_over_time(MultiRegionData({"V1": array}, BIN_WIDTH), 0.03).region("V1")
    np.testing.assert_allclose(smoothed[0, [0, 1, 2, 3, 7, 8], 0], 3.0, rtol=1e-14)
    assert np.isnan(smoothed[0, 4:7]).all()


@pytest.mark.parametrize(
    ("sd", "message"),
    [
        (0, "the smoothing is 0: give its standard deviation in seconds"),
        (-0.02, "the smoothing is -0.02"),
        (np.nan, "the smoothing is nan"),
        (np.inf, "the smoothing is inf"),
        ("20 mV", "the smoothing is '20 mV'"),
        (0.001, "smoothing by 0.001 s does nothing to bins of 0.02 s: leave it out"),
        (20, "smoothing by 20 s is longer than the trials, 0.24 s: give it in seconds"),
    ],
)
def test_smoothing_in_the_wrong_unit_is_refused(sd, message):
    with pytest.raises(DataError, match=message):
        preprocess(recording(), smooth=sd)


# --- means


def slow_mean(array, chosen):
    """Mean over the chosen trials in which an entry was observed, NaN where none."""
    mean = np.full(array.shape[1:], np.nan)
    for time, neuron in np.ndindex(mean.shape):
        seen = [array[b, time, neuron] for b in chosen if not np.isnan(array[b, time, neuron])]
        if seen:
            mean[time, neuron] = sum(seen) / len(seen)
    return mean


@pytest.mark.parametrize("condition", [None, "stimulus"])
def test_means_are_taken_off_bin_by_bin_within_their_condition(condition):
    data = recording()
    expected = both(data)
    for value in np.unique(STIMULUS) if condition else [None]:
        chosen = np.flatnonzero(value == STIMULUS) if condition else np.arange(6)
        expected[chosen] = both(data)[chosen] - slow_mean(both(data), chosen)
    np.testing.assert_allclose(both(remove_mean(data, condition)), expected, atol=1e-12)


def test_means_of_training_trials_are_taken_off_test_trials():
    data = recording()
    train, test = data.select_trials([0, 1, 2, 4]), data.select_trials([5, 3])
    expected = both(test)
    for b, value in enumerate(["right", "left"]):
        expected[b] -= slow_mean(both(train), np.flatnonzero(train.trial_coords["stimulus"] == value))
    done = remove_mean(test, "stimulus", train)
    np.testing.assert_allclose(both(done), expected, atol=1e-12)
    alone = remove_mean(test.select_trials([0]), "stimulus", train)  # a trial's result knows nothing of other trials
    np.testing.assert_array_equal(both(alone)[0], both(done)[0])


def test_entries_without_a_mean_become_missing_with_a_warning():
    data = recording()
    arrays = counts()
    arrays["V1"][1:, 11, 0] = np.nan  # observed in trial 0 only
    with pytest.warns(UserWarning, match="1 entries, observed in one trial of their condition only") as caught:
        done = remove_mean(MultiRegionData(arrays, BIN_WIDTH))
    assert caught[0].filename == __file__
    assert np.isnan(done.region("V1")[0, 11, 0])
    assert np.isnan(both(done)).sum() == np.isnan(both(data)).sum() + 1 + 4  # trial 3 was missing there already
    short = data.select_trials([3])
    with pytest.warns(UserWarning, match="15 entries, observed in no trial of the reference"):
        remove_mean(data.select_trials([0]), None, short)


@pytest.mark.parametrize(
    ("trials", "condition", "message"),
    [
        ([0, 1, 2], "stimulus", "condition stimulus = right has one trial, which is its own mean"),
        ([0], None, "the recording has one trial, which is its own mean"),
        ([0, 1], "colour", "trials have no coordinate 'colour': choose from stimulus"),
    ],
)
def test_means_that_cannot_be_taken(trials, condition, message):
    with pytest.raises(DataError, match=message):
        remove_mean(recording().select_trials(trials), condition)


def test_trials_must_have_a_condition_that_the_reference_knows():
    data = recording()
    with pytest.raises(DataError, match="condition stimulus = right is not among the trials that means are taken from"):
        remove_mean(data, "stimulus", data.select_trials([0, 2]))
    contrast = [0.1, np.nan, 0.1, 0.5, 0.5, 0.5]
    with pytest.raises(DataError, match="trial 1 has no contrast: leave it out"):
        remove_mean(MultiRegionData(counts(), BIN_WIDTH, trial_coords={"contrast": contrast}), "contrast")


# --- z-scores


def test_z_scores_have_mean_0_and_sd_1_over_what_was_observed():
    data = recording()
    done = both(standardize(data))
    for i in range(5):
        entries = both(data)[..., i][~np.isnan(both(data)[..., i])]
        np.testing.assert_allclose(done[..., i], (both(data)[..., i] - entries.mean()) / entries.std(), atol=1e-12)
    shifted = standardize(data.with_values(both(data) + 1e8))  # no digits are lost to a large mean
    np.testing.assert_allclose(both(shifted), done, atol=1e-6)


def test_test_trials_are_scored_by_the_training_trials():
    data = recording()
    train, test = data.select_trials([0, 1, 2]), data.select_trials([4, 5])
    flat = both(train).reshape(-1, 5)
    expected = (both(test) - np.nanmean(flat, axis=0)) / np.nanstd(flat, axis=0)
    np.testing.assert_allclose(both(standardize(test, train)), expected, atol=1e-12)


def test_neurons_that_never_change_are_named():
    arrays = counts("full")
    arrays["V2"][:3, :, 1] = 0.1
    data = MultiRegionData(arrays, BIN_WIDTH)
    with pytest.raises(DataError, match="region V2, neuron 1 never changes in the trials its sd is taken from"):
        standardize(data, data.select_trials([0, 1, 2]))
    arrays["V2"][..., 1] = np.sqrt(np.arange(12.0))  # the same course in every trial: nothing is left of it
    with pytest.raises(DataError, match="region V2, neuron 1 never changes"):
        preprocess(MultiRegionData(arrays, BIN_WIDTH), remove_condition_mean=True, zscore=True)


# --- all together


EVERYTHING = {"transform": "sqrt", "smooth": 0.03, "remove_condition_mean": "stimulus", "zscore": True}


def test_steps_go_in_their_order():
    data = recording()
    rooted = square_root(data)
    smoothed = smooth_over_time(rooted, 0.03)
    expected = standardize(remove_mean(smoothed, "stimulus"))
    done = preprocess(data, **EVERYTHING)
    np.testing.assert_array_equal(both(done), both(expected))
    np.testing.assert_allclose(np.nanstd(both(done), axis=(0, 1)), 1.0, rtol=1e-12)


def test_a_reference_goes_through_the_same_steps():
    data = recording()
    train, test = data.select_trials([0, 2, 4, 5]), data.select_trials([3, 1])
    smoothed = [smooth_over_time(square_root(part), 0.03) for part in (train, test)]
    left = remove_mean(smoothed[1], "stimulus", smoothed[0])
    expected = standardize(left, remove_mean(smoothed[0], "stimulus"))
    np.testing.assert_array_equal(both(preprocess(test, reference=train, **EVERYTHING)), both(expected))
    themselves = preprocess(train, reference=train, **EVERYTHING)
    np.testing.assert_array_equal(both(themselves), both(preprocess(train, **EVERYTHING)))


def test_a_reference_of_other_neurons_is_refused():
    data = recording()
    other = data.select_neurons({"V2": [0]})
    for step in ({"zscore": True}, {"remove_condition_mean": True}):
        with pytest.raises(DataError, match=r"reference has other regions, neurons or bins .*V2: 1 neurons") as caught:
            preprocess(data, reference=other, **step)
        assert "\n" not in str(caught.value)
    longer = recording(n_bins=15)
    with pytest.raises(DataError, match="other regions, neurons or bins"):
        remove_mean(data, None, longer)
    assert standardize(data, longer).n_bins == 12
