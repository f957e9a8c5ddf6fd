"""Trials dealt out to folds: even, random, stratified; and what tells recordings apart."""

import numpy as np
import pytest

import mrgp
from mrgp.cli.argument_types import typed
from mrgp.recordings.folds import alive_in_training, deal_folds

STIMULUS = np.array(["left"] * 9 + ["right"] * 5 + ["up"] * 3)


def arrays(n_trials=17):
    rng = np.random.default_rng(0)
    return {"V1": rng.standard_normal((n_trials, 4, 3)), "V2": rng.standard_normal((n_trials, 4, 2))}


def recording(bin_width=0.02, coord="stimulus", **changed):
    return mrgp.MultiRegionData(arrays() | changed, bin_width, trial_coords={coord: STIMULUS})


def test_every_trial_is_in_one_fold_and_folds_are_even():
    for n_folds in (2, 4, 5, 17):
        sizes = np.bincount(deal_folds(recording(), n_folds), minlength=n_folds)
        assert len(sizes) == n_folds
        assert sizes.sum() == 17
        assert np.ptp(sizes) == (17 % n_folds > 0)


def test_folds_are_drawn_by_their_seed():
    drawn = [deal_folds(recording(), 4, seed=seed).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    # Whether neighbours share a fold is chance: (5 x 4 + 3 x 4 x 3) / (17 x 16) of the time.
    together = np.mean([np.mean(np.diff(deal_folds(recording(), 4, seed=seed)) == 0) for seed in range(200)])
    assert together == pytest.approx(0.206, abs=0.022)   # three standard errors


def test_stratified_folds_share_out_every_condition():
    for seed in range(5):
        folds = deal_folds(recording(), 4, "stimulus", seed)
        for stimulus in np.unique(STIMULUS):
            assert np.ptp(np.bincount(folds[stimulus == STIMULUS], minlength=4)) <= 1
        assert np.ptp(np.bincount(folds)) == 1
    plain = [deal_folds(recording(), 4, seed=seed) for seed in range(5)]
    assert any(np.ptp(np.bincount(folds[:9], minlength=4)) > 1 for folds in plain)


def test_conditions_are_shared_out_unasked():
    asked = deal_folds(recording(), 4, "stimulus", seed=3)
    assert deal_folds(recording(coord="condition"), 4, seed=3).tolist() == asked.tolist()
    assert deal_folds(recording(), 4, seed=3).tolist() != asked.tolist()


def test_what_cannot_be_dealt_is_refused():
    with pytest.raises(ValueError, match="n_folds is 2 or more, not 1"):
        deal_folds(recording(), 1)
    with pytest.raises(mrgp.DataError, match="18 folds need as many trials, and there are 17: lower n_folds"):
        deal_folds(recording(), 18)
    with pytest.raises(mrgp.DataError, match="trials have no coordinate 'block': choose from stimulus"):
        deal_folds(recording(), 4, "block")


@pytest.mark.parametrize("still", [0.5, np.nan], ids=["constant", "missing"])
def test_neurons_silent_in_training_are_named_or_left_out(still):
    V2 = arrays()["V2"]
    V2[1:, :, 1] = still
    data = mrgp.MultiRegionData(arrays() | {"V2": V2}, 0.02, neuron_coords={"V2": ["a", "b"]})
    folds = deal_folds(data, 4)
    wanted = f"region V2, neuron 1 (label b) never changes outside of the trials of fold {folds[0]}: leave it out by "
    with pytest.raises(mrgp.DataError) as caught:
        alive_in_training(data, folds, False)
    assert str(caught.value) == f"{wanted}drop_dead=True, or take more folds"
    assert caught.value.typed(typed) == f"{wanted}--drop-dead, or take more folds"
    with pytest.warns(UserWarning, match=r"left out as dead: region V2, neuron 1 \(label b\)$"):
        left = alive_in_training(data, folds, True)
    assert left.layout.n_neurons == (3, 1)
    assert left.neuron_coords["V2"].tolist() == ["a"]
    assert alive_in_training(left, folds, False) is left


def test_a_fingerprint_is_of_all_that_is_fitted():
    plain, other, holes = recording(), arrays()["V1"], arrays()["V1"]
    other[3, 2, 1] += 1e-12
    holes[0, 0, 0] = 0.0
    found = [one.fingerprint for one in (plain, recording(V1=other), recording(bin_width=0.01), recording(V1=holes))]
    holes[0, 0, 0] = np.nan   # stands as 0 among the values
    found.append(recording(V1=holes).fingerprint)
    found.append(mrgp.MultiRegionData(dict(reversed(arrays().items())), 0.02).fingerprint)
    assert len(set(found)) == len(found)
    assert recording().fingerprint == found[0]
