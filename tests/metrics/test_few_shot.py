"""Few-shot co-smoothing: against an optimiser, and what it punishes that co-smoothing does not see."""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize

import mrgp
from mrgp import DataError
from mrgp.metrics import few_shot
from mrgp.metrics.few_shot import FewShot, divided
from mrgp.metrics.metric import ScoredTrials

N_TRIALS, N_BINS, N_NEURONS = 120, 10, 12
HIDDEN = {"V1": np.arange(8, 12)}


@dataclass(frozen=True)
class Known:
    """Infers latents as it was told, by the places of trials; hidden neurons must be hidden."""

    of: np.ndarray

    def latents(self, data):
        assert not data.mask[..., HIDDEN["V1"]].any()
        return xr.Dataset({"across_mean": (("trial", "time", "across_latent"), self.of[data.trial_origin])})


@pytest.fixture(scope="module")
def made():
    """Counts of neurons that read two latents, and these."""
    rng = np.random.default_rng(0)
    z = np.cumsum(rng.normal(size=(N_TRIALS, N_BINS, 2)), 1) / 2
    counts = rng.poisson(np.exp(z @ rng.normal(size=(2, N_NEURONS)) * 0.6))
    return mrgp.MultiRegionData({"V1": counts}, 0.02), z


@pytest.fixture(scope="module")
def split(made):
    data, _ = made
    return data.select_trials(slice(0, 80)), data.select_trials(slice(80, None))


def test_a_score_is_that_of_a_regression_by_another_optimiser(made, split):
    train, test = split
    found = few_shot(Known(made[1]), train, test, HIDDEN, (6,), n_draws=1, seed=3)
    chosen = np.random.default_rng(3).choice(80, 6, replace=False)
    x, y = made[1][chosen].reshape(-1, 2), train.floats[chosen][..., HIDDEN["V1"]].reshape(-1, 4)
    center = x.mean(0)
    variances, directions = np.linalg.eigh(np.cov((x - center).T, bias=True))
    scale = directions / np.sqrt(variances.sum())
    z, new = (x - center) @ scale, (made[1][80:].reshape(-1, 2) - center) @ scale
    target = test.floats[..., HIDDEN["V1"]].reshape(-1, 4)
    gained, means = 0.0, train.floats[..., HIDDEN["V1"]].mean((0, 1))
    for own, other, mean in zip(y.T, target.T, means, strict=True):

        def lost(w, own=own):
            eta = w[0] + z @ w[1:]
            return -(own * eta - np.exp(eta)).sum() - 0.5 * w[0] + 0.5 * w[1:] @ w[1:]

        w = minimize(lost, np.zeros(3), method="BFGS", tol=1e-9).x
        eta = z @ w[1:] + w[0]
        rate = np.exp(np.clip(new @ w[1:] + w[0], eta.min(), eta.max()))
        gained += (other * np.log(rate) - rate - other * np.log(mean) + mean).sum()
    assert found["few_shot"].values == pytest.approx([gained / target.sum() / np.log(2)], abs=1e-5)
    assert found["few_shot"].attrs["units"] == "bits per spike"


def test_latents_with_dynamics_that_are_not_there_need_more_trials(made, split):
    """Eighteen smooth latents that no neuron reads: regressions of many trials do not mind, those of few do."""
    rng = np.random.default_rng(1)
    extra = np.cumsum(rng.normal(size=(N_TRIALS, N_BINS, 18)), 1) / 2
    train, test = split
    plain = few_shot(Known(made[1]), train, test, HIDDEN, (4, 80))["few_shot"].values
    invented = few_shot(Known(np.concatenate([made[1], extra], -1)), train, test, HIDDEN, (4, 80))["few_shot"].values
    assert plain[1] - invented[1] < 0.04
    assert plain[0] - invented[0] > 0.15
    assert plain[1] > plain[0] > 0.3


def test_it_is_a_metric_of_fits_and_says_how_many_trials(made, split):
    train, test = split
    table = few_shot(Known(made[1]), train, test, HIDDEN)
    assert table["shot"].values.tolist() == [8, 32]
    said = FewShot().sentence(table)
    assert said.startswith("few-shot co-smoothing from 8 / 32 trials 0.")
    assert said.endswith("bits per spike")
    few = few_shot(Known(made[1]), train.select_trials(slice(0, 9)), test, HIDDEN)
    assert few["shot"].values.tolist() == [8]


def test_holes_in_hidden_neurons_are_left_out(made, split):
    train, test = split
    values = np.array(test.floats)
    values[3, 2:, 9] = np.nan
    holes = mrgp.MultiRegionData({"V1": values}, 0.02)
    known = Known(np.concatenate([made[1][80:]]))

    @dataclass(frozen=True)
    class Either:
        def latents(self, data):
            return (known if data.n_trials == holes.n_trials else Known(made[1])).latents(data)

    found = few_shot(Either(), train, holes, HIDDEN, (8,))
    assert np.isfinite(found["few_shot"]).all()


def test_an_evaluation_of_what_is_no_counts_passes_it_over(split):
    train, test = split
    assert FewShot().suits(ScoredTrials(None, test, train))
    for one, other in ((mrgp.square_root(train), test), (train, mrgp.square_root(test))):
        assert not FewShot().suits(ScoredTrials(None, other, one))


def test_what_cannot_be_scored_is_refused(made, split):
    train, test = split
    with pytest.raises(DataError, match="few-shot scores are of spike counts"):
        few_shot(Known(made[1]), mrgp.square_root(train), test, HIDDEN)
    with pytest.raises(DataError, match="few-shot scores need 8 training trials that are not scored, not 3"):
        few_shot(Known(made[1]), train.select_trials([0, 1, 2]), test, HIDDEN)
    silent = np.array(test.floats)
    silent[..., 8:] = 0
    quiet = mrgp.MultiRegionData({"V1": silent}, 0.02, drop_dead=None)
    with pytest.raises(DataError, match="hidden neurons are silent"):
        few_shot(Known(made[1]), train, quiet, HIDDEN)


def test_no_regression_is_scored_on_the_trials_that_it_was_made_from(made, split):
    """Where a recording is scored beside itself, half of it trains and the other half is scored."""
    fit, (train, test) = Known(made[1]), split
    some = train.select_trials(slice(60, 80))
    apart = few_shot(fit, some, test, HIDDEN, (6,), n_draws=2, seed=3)
    mixed = mrgp.join_trials([some, test])  # those of the test are passed over
    xr.testing.assert_equal(few_shot(fit, mixed, test, HIDDEN, (6,), n_draws=2, seed=3), apart)
    with pytest.raises(DataError, match="need 8 training trials that are not scored, not 0: give more"):
        few_shot(fit, test, test, HIDDEN)
    assert divided(ScoredTrials(fit, test, train)) == (train, test)
    assert FewShot().remark(ScoredTrials(fit, test, train)) == ""
    case = ScoredTrials(fit, test, test)  # nobody knows the training trials
    first, second = divided(case)
    assert (first.n_trials, second.n_trials) == (20, 20)
    assert set(first.trial_fingerprints) | set(second.trial_fingerprints) == set(test.trial_fingerprints)
    assert not set(first.trial_fingerprints) & set(second.trial_fingerprints)
    wanted = "no 8 training trials are known beside those scored: 20 of these were taken for regressions, and only the"
    assert FewShot().remark(case) == f"{wanted} other 20 scored"
    short = test.select_trials(slice(0, 15))
    assert divided(ScoredTrials(fit, short, short)) == (short, short)  # and then it is refused
