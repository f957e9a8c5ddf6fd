"""Curvature with everything else profiled out, beside the whole Hessian by central differences of slopes."""

import numpy as np
import pytest
from mrgp.models import DLAG

from mrgp.inference.density import LogJoint
from mrgp.inference.mode import products
from mrgp.inference.mode.curvature import profile, profile_curvature, vanished_noise
from mrgp.inference.mode.products import hessian_product
from mrgp.inference.optimise import Objective
from mrgp.simulations.simulate import simulate

STEP = 1e-2  # posterior sds
MODEL = DLAG(1, 2, mean="psth", mean_timescale=0.1, max_delay=0.06, likelihood="dense")
TURNING = {"timescale_within": np.full(4, 0.06)}  # latents of a region that may turn into each other
COUNTS = MODEL.replace(n_within=1, emission="poisson")


def objective_at_top(model, **fixed):
    """At the maximum of a recording of which each neuron has a mean course."""
    data = simulate(model, regions={"V1": 5, "V2": 4}, n_trials=16, n_bins=14, seed=0).data
    fit = model.fit(data, fixed=fixed, n_starts=1, tolerance=1e-5, progress=False)
    frozen = tuple(sorted({*fit.fixed, *fit.model.held}))
    scales = fit.model.fitting.scales(data, fit.sites)
    return Objective(LogJoint(fit.model), data, fit.sites, scales, frozen), fit.uncertain_sites, fit, data


def whole_hessian(objective):
    objective.settle(1e-11)
    steps = STEP * np.eye(objective.size)
    slopes = np.stack([(objective(step)[1] - objective(-step)[1]) / (2 * STEP) for step in steps])
    return 0.5 * (slopes + slopes.T)


def sds_of(hessian, few):
    """Of few parameters, all others profiled out, in scaled coordinates."""
    across = hessian[np.ix_(~few, few)]
    inverse = np.linalg.pinv(hessian[np.ix_(~few, ~few)], rcond=1e-4)
    return np.sqrt(np.diag(np.linalg.inv(hessian[np.ix_(few, few)] - across.T @ inverse @ across)))


def width_of(objective, names):
    return objective.ravel(objective.scale)[objective.marks(names) > 0]


CASES = [
    pytest.param((MODEL, TURNING), id="turning"),
    pytest.param((COUNTS, {}), id="counts", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    model, fixed = request.param
    objective, names, *rest = objective_at_top(model, **fixed)
    return objective, names, whole_hessian(objective), *rest


def test_sds_are_those_of_the_whole_hessian_also_where_latents_turn(case, monkeypatch):
    objective, names, hessian, *_ = case
    few = objective.marks(names) > 0
    values = np.linalg.eigvalsh(hessian[np.ix_(~few, ~few)])
    level = np.abs(values) < 1e-4
    assert level.sum() == 2 * ("timescale_within" not in names)  # a turn in each region
    assert values[~level].min() > 1e-3
    exact = sds_of(hessian, few) * width_of(objective, names)
    for large in (np.inf, 0):  # also with pseudo-observations held, where there are any
        monkeypatch.setattr(products, "LARGE", large)
        found = profile_curvature(objective, names)
        assert found.positive
        np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), exact, rtol=0.02)


def test_products_are_symmetric(case):
    objective, _, hessian, *_ = case
    product, rng = hessian_product(objective), np.random.default_rng(0)
    pair = np.linalg.qr(rng.standard_normal((objective.size, 2)))[0]
    found = np.stack([product(v) for v in pair.T], 1)
    np.testing.assert_allclose(found, hessian @ pair, atol=2e-3)
    assert abs(pair[:, 0] @ found[:, 1] - pair[:, 1] @ found[:, 0]) < 1e-3


def similar(seed=0, size=40, count=3):
    """A, a similar matrix that is no smaller, columns, and a corner with a Schur complement of 0.2 to 1."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
    A = turn * np.geomspace(0.02, 1.5, size) @ turn.T
    more = 0.1 * rng.standard_normal((size, 4))
    B = 0.3 * rng.standard_normal((size, count))
    return A, A + more @ more.T, B, np.diag(np.linspace(0.2, 1, count)) + B.T @ np.linalg.solve(A, B)


def test_products_of_a_similar_matrix_do_for_most():
    A, larger, B, D = similar()
    asked = []

    def exact(v):
        asked.append(v)
        return A @ v

    found = profile(exact, lambda v: larger @ v, D, B)
    assert not found.failed
    np.testing.assert_allclose(np.sqrt(np.diag(np.linalg.inv(found.schur))), np.linspace(0.2, 1, 3) ** -0.5, rtol=0.02)
    np.testing.assert_allclose(found.solutions, np.linalg.solve(A, B), atol=0.1 * np.abs(np.linalg.solve(A, B)).max())
    assert len(asked) <= 4 * 3
    alone = D - B.T @ np.linalg.solve(larger, B)
    assert np.linalg.eigvalsh(alone)[0] > 0.3  # where the similar matrix alone would have left it


def test_what_is_level_is_left_out_if_nothing_depends_on_it():
    A = np.diag([0.0, 0.5, 1.0, 2.0])
    for touched, sound in ((1e-4, True), (0.1, False)):
        B = np.array([[touched], [0.2], [0.1], [0.3]])
        found = profile(product := lambda v: A @ v, product, np.array([[1.0]]), B)
        assert found.failed is not sound
        if sound:
            np.testing.assert_allclose(found.schur, 1 - 0.2**2 / 0.5 - 0.1**2 - 0.3**2 / 2, rtol=0.02)


def test_noise_that_has_vanished_does_not_follow(case):
    objective, names, hessian, fit, data = case
    if "noise" not in fit.sites:
        assert vanished_noise(fit.sites, data) == {}
        return
    assert not vanished_noise(fit.sites, data)["noise"].any()
    small = fit.sites["noise"] * np.where(np.arange(9) == 3, 1e-6, 1.0)
    still = vanished_noise({"noise": small}, data)
    assert np.flatnonzero(still["noise"]).tolist() == [3]
    found = profile_curvature(objective, names, still=still)
    assert not found.response["noise"][:, 3].any()
    assert found.response["noise"][:, :3].all()
    nowhere = {name: np.zeros(value.shape) for name, value in objective.origin.items()}
    kept = objective.ravel({**nowhere, "noise": still["noise"]}) == 0
    sds = sds_of(hessian[np.ix_(kept, kept)], objective.marks(names)[kept] > 0)
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), sds * width_of(objective, names), rtol=0.02)
