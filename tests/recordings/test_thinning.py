"""Some trials of a large recording, where all are not needed: for the start of a fit."""

import numpy as np
import pytest
from mrgp.models import DLAG

import mrgp
from mrgp.inference.search import reduced
from mrgp.recordings import thinning
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.thinning import thinned

N_TRIALS, N_BINS, N_NEURONS = 24, 10, 4


def recording(conditions=None):
    counts = np.random.default_rng(0).poisson(2, (N_TRIALS, N_BINS, N_NEURONS))
    trials = None if conditions is None else {"condition": conditions}
    regions = {"V1": counts[..., :2], "V2": counts[..., 2:]}
    return MultiRegionData(regions, 0.02, trial_coords=trials)


@pytest.fixture
def enough_for(monkeypatch):
    return lambda trials: monkeypatch.setattr(thinning, "ENOUGH", trials * N_BINS * N_NEURONS)


def test_small_recordings_are_left_alone(enough_for):
    data = recording()
    enough_for(N_TRIALS)
    assert thinned(data) is data


def test_trials_of_large_ones_are_evenly_spaced(enough_for):
    enough_for(7)
    some = thinned(recording())
    assert some.n_trials == 7
    assert some.trial_origin[[0, -1]].tolist() == [0, N_TRIALS - 1]
    assert set(np.diff(some.trial_origin)) <= {3, 4}
    np.testing.assert_array_equal(some.values, recording().values[some.trial_origin])


def test_conditions_keep_their_shares(enough_for):
    enough_for(8)  # every third trial: alone those of one condition
    some = thinned(recording(["a", "b", "c"] * (N_TRIALS // 3)))
    assert np.bincount(some.condition).tolist() in ([3, 2, 3], [2, 3, 3], [3, 3, 2])
    assert some.layout.conditions == ("a", "b", "c")


@pytest.mark.parametrize("away", [False, True], ids=["silent", "not recorded"])
@pytest.mark.slow
def test_a_neuron_that_only_other_trials_have_is_fitted_too(enough_for, away):
    counts = np.random.default_rng(0).normal(2, 1, (N_TRIALS, N_BINS, N_NEURONS))
    counts[np.arange(N_TRIALS) != 1, :, 2] = np.nan if away else 0.0
    data = MultiRegionData({"V1": counts[..., :2], "V2": counts[..., 2:]}, 0.02)
    enough_for(5)
    with pytest.warns(match="the start was found on 5 of 24 trials"):
        fit = DLAG(1, 0).fit(data, progress=False, n_starts=1)
    assert fit.converged  # above every neuron's own mean, or it would be refused
    mean, variance = np.nanmean(counts[1, :, 2]), np.nanvar(counts[..., 2])
    assert fit.sites["offset"][2] == pytest.approx(mean if away else mean / N_TRIALS, abs=0.5)
    assert 0.01 * variance < fit.sites["noise"][2] < 2 * variance


@pytest.mark.slow
def test_a_start_takes_some_trials_and_the_fit_says_so(enough_for):
    latents = {"n_across": 1, "n_within": 0, "delay": [[0.0], [0.03]]}
    data = mrgp.simulate(regions={"V1": 5, "V2": 5}, n_trials=N_TRIALS, n_bins=30, **latents).data
    enough_for(60)  # of 4 neurons and 10 bins: 8 of these
    assert reduced(DLAG(1, 0), data)[0].data.n_trials == 8
    with pytest.warns(match="the start was found on 8 of 24 trials, evenly spaced, as the recording is large"):
        fit = DLAG(1, 0).fit(data, progress=False, n_starts=2)
    assert sum("8 of 24 trials" in note for note in fit.notes) == 1
    assert fit.converged
    enough_for(10**6)
    whole = DLAG(1, 0).fit(data, progress=False, n_starts=2)
    assert fit.trace[-1] == pytest.approx(whole.trace[-1], abs=0.05)  # all trials are fitted to, wherever it begins
