"""Climbs of bounds in which every trial has a covariance of its own end where plain climbs do."""

import numpy as np
import pytest
from mrgp.models import DLAG, CoupledLDS

import mrgp
from mrgp.inference import own_covariances, surrogates
from mrgp.inference.density import LogJoint
from mrgp.inference.map import CREEPS
from mrgp.inference.optimise import Objective, maximise

MODEL = CoupledLDS(1, emission="poisson", shared_covariance=False)


def recording(n_trials=12):
    sites = {"own_dynamics": np.diag([0.8, 0.6]), "coupling": np.array([[0.0, 0.0], [0.7, 0.0]])}
    sizes = {"regions": {"A": 5, "B": 5}, "n_trials": n_trials, "n_bins": 16, "bin_width": 0.02, "seed": 1}
    return mrgp.simulate(MODEL, sites=sites, **sizes, snr=2.0)


def objective_of(model, made):
    data, sites = made.data, {**made.sites, "coupling": np.zeros((2, 2))}
    found = Objective(LogJoint(model), data, sites, model.fitting.scales(data, sites))
    found.follows, found.within = True, 1e-4
    return found


def test_only_counts_of_many_trials_have_another_way_up():
    counts = np.random.default_rng(0).poisson(1.0, (2, 200, 16, 5))
    many = mrgp.MultiRegionData(dict(zip("AB", counts, strict=True)), 0.02)
    data = many.select_trials(slice(0, 12))
    shared = MODEL.replace(shared_covariance=True)
    assert not own_covariances.has_own(shared)
    assert not own_covariances.has_own(CoupledLDS(1, shared_covariance=False))  # no counts
    assert own_covariances.quicker(MODEL, data, 0.1) is None
    assert own_covariances.quicker(DLAG(1, 1), data, 0.1) is None
    for data_of, tolerance, wanted in ((data, 0.01, 0.01), (many, 0.01, own_covariances.CREEPING), (many, 1.0, 1.0)):
        assert own_covariances.in_reach(MODEL, data_of, tolerance) == wanted
    assert own_covariances.in_reach(shared, many, 0.01) == 0.01
    assert own_covariances.quicker(MODEL, many, 0.1).keywords["tolerance"] == 0.1
    assert own_covariances.quicker(MODEL, many, 0.1).func is own_covariances.rounds
    assert own_covariances.quicker(shared, many, 0.1) is surrogates.quicker(shared.emission, many, 0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged", "ignore:.*the climb ends at")
def test_who_asked_for_less_is_told_of_the_tolerance(monkeypatch):
    """Whatever the recording: of one that is small here, so that it takes little."""
    monkeypatch.setattr(own_covariances, "LARGE", 1.0)
    asked = {"max_iterations": 2, "n_starts": 1, "progress": False}
    data = recording(10).data
    assert CREEPS in MODEL.fit(data, tolerance=0.1, **asked).notes
    assert CREEPS not in MODEL.fit(data, **asked).notes  # the default, of which the reason says where it ended
    assert CREEPS not in MODEL.fit(data, tolerance=1.0, **asked).notes


@pytest.mark.slow
@pytest.mark.parametrize("hopeful", [True, False])
def test_rounds_end_where_a_plain_climb_does(hopeful, monkeypatch):
    """Also where no promise is kept, and the bound itself is climbed in coordinates that the promise has made."""
    made = recording()
    model = MODEL.prepared(made.data)
    plain = maximise(objective_of(model, made), tolerance=1e-3, max_iterations=1000)
    if not hopeful:
        monkeypatch.setattr(own_covariances, "KEPT", np.inf)
    objective, losses = objective_of(model, made), []
    shared = LogJoint(own_covariances.cheaper(model))

    def ahead(objective, loss):
        for place, lower in own_covariances.rounds(objective, loss, shared=shared, tolerance=0.02):
            losses.append(lower)
            yield place, lower

    climbed = maximise(objective, tolerance=0.05, max_iterations=1000, ahead=ahead)
    assert climbed.converged
    assert (np.diff(losses) < 0).all()
    assert losses[0] > losses[-1] + 0.3  # the shared optimum is not that of the bound
    assert abs(losses[-1] + plain.log_joint) < 0.3
    assert climbed.log_joint > plain.log_joint - 0.3
