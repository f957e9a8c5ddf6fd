"""What a fit says of populations: variance by source, subspaces, directions of flow; and errors against the truth."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from scipy.stats import ortho_group

import mrgp
from mrgp import DataError, metrics
from mrgp.recordings.layout import Layout
from mrgp.simulations.simulate import simulate

BIN_WIDTH, EPS = 0.02, 1e-2
LAYOUT = Layout(("V1", "V2"), (6, 5), BIN_WIDTH)


def fit_of(model, sites, layout=LAYOUT, n_bins=8, **changes):
    """A fit with these parameters and no recording."""
    run = {"method": "map", "trace": np.zeros(1), "converged": True, "reason": "given", "iterations": 0,
           "evaluations": 0, "wall_s": 0.0, "seed": 0} | changes  # fmt: skip
    return mrgp.Fit(model=model, sites=sites, layout=layout, n_bins=n_bins, **run)


def dlag(seed=0, turn=None, order=(0, 1)):
    """Two across latents, (2, 1) within; ``turn`` rotates across loadings, ``order`` names the latents anew."""
    rng = np.random.default_rng(seed)
    loadings = {"V1": rng.standard_normal((6, 4)), "V2": rng.standard_normal((5, 3))}
    if turn is not None:
        loadings = {name: np.concatenate([C[:, :2] @ turn, C[:, 2:]], 1) for name, C in loadings.items()}
    own = [*order]
    loadings = {name: np.concatenate([C[:, :2][:, own], C[:, 2:]], 1) for name, C in loadings.items()}
    model = mrgp.models.DLAG(2, (2, 1), max_delay=0.1, gp_noise=EPS)
    delays = np.array([[0.0, 0.0], [0.03, -0.01]])[:, own]
    sites = model.params_from(
        LAYOUT, loadings=loadings, noise=rng.uniform(0.5, 2, 11), offset=np.zeros(11), delays=delays,
        timescale_across=np.array([0.05, 0.2])[own], timescale_within=[0.1, 0.1, 0.1],
    )  # fmt: skip
    return fit_of(model, sites)


def blocks(fit, region):
    """Across and within loadings, noise."""
    part, width = LAYOUT.region_slices[region], {"V1": 2, "V2": 1}[region]
    C = fit.sites["loadings"][part]
    return C[:, :2], C[:, 2 : 2 + width], fit.sites["noise"][part]


# --- variance


def test_shares_are_traces_of_the_covariance():
    fit = dlag()
    found = metrics.variance_explained(fit)
    for region in LAYOUT.regions:
        A, B, R = blocks(fit, region)
        parts = np.array([np.trace(A @ A.T), np.trace(B @ B.T), R.sum()])
        np.testing.assert_allclose(found["share"].sel(region=region), parts / parts.sum())
        np.testing.assert_allclose(found["variance"].sel(region=region), parts.sum())
    assert found["latent"].values.tolist() == ["across:0", "across:1", "within:0", "within:1"]
    assert float(found["latent_share"].sel(region="V2", latent="within:1")) == 0
    explained = found["share"].sel(part=["across", "within"]).sum("part")
    np.testing.assert_allclose(found["latent_share"].sum("latent"), explained)


def test_loadings_known_as_a_distribution_count_with_their_spread():
    fit, spread = dlag(), np.tile(0.1 * np.eye(4), (11, 1, 1))
    fit.loadings_covariance = spread
    A, _, _ = blocks(fit, "V2")
    found = metrics.variance_explained(fit)
    expected = (A[:, 0] ** 2).sum() + 5 * 0.1
    share = float(found["latent_share"].sel(region="V2", latent="across:0"))
    assert share * float(found["variance"].sel(region="V2")) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["turn", "order"])
def test_rotations_and_orders_change_no_total(name):
    turned = {"turn": ortho_group.rvs(2, random_state=1)} if name == "turn" else {"order": (1, 0)}
    plain, other = dlag(), dlag(**turned)
    shares = [metrics.variance_explained(fit)["share"] for fit in (plain, other)]
    xr.testing.assert_allclose(*shares)
    modes = [metrics.dominant_modes(fit, "V1") for fit in (plain, other)]
    xr.testing.assert_allclose(*modes)


def test_a_pooled_population_is_seen_region_by_region():
    rng = np.random.default_rng(0)
    C = rng.standard_normal((11, 2))
    sites = {"loadings": C, "noise": np.ones(11), "offset": np.zeros(11)}
    found = metrics.variance_explained(fit_of(mrgp.models.FA(2), sites))
    power = (C[6:] ** 2).sum()
    np.testing.assert_allclose(found["share"].sel(region="V2", part="across"), power / (power + 5))
    best = metrics.correlative_modes(fit_of(mrgp.models.FA(2), sites), "V1", "V2")
    joint = C @ C.T + np.eye(11)   # one population: the copies of a latent are one, delays or not
    np.testing.assert_allclose(best["correlation"], canonical(joint[:6, :6], joint[:6, 6:], joint[6:, 6:])[:2])


def test_variances_that_do_not_exist_are_refused():
    start = {"transition": np.eye(2) / 2, "start_mean": np.zeros(2), "start_root": np.eye(2)}
    sites = {"loadings": np.ones((11, 2)), "noise": np.ones(11), "offset": np.zeros(11), **start}
    with pytest.raises(DataError, match="fit start='stationary'"):
        metrics.variance_explained(fit_of(mrgp.models.LDS(2, start="learned"), sites))
    with pytest.raises(DataError, match="no region 'V9'"):
        metrics.dominant_modes(dlag(), "V9")
    with pytest.raises(DataError, match="two regions"):
        metrics.predictive_modes(dlag(), "V1", "V1")


# --- subspaces


def canonical(first, cross, second):
    """Canonical correlations from the eigenvalues of the textbook's product, largest first."""
    product = np.linalg.solve(first, cross) @ np.linalg.solve(second, cross.T)
    return np.sqrt(np.sort(np.linalg.eigvals(product).real.clip(0))[::-1])


def covariances(fit, aligned):
    """S_1, S_12, S_2 in one bin."""
    delay = np.array([0.03, -0.01]) / BIN_WIDTH
    timescale = np.array([0.05, 0.2]) / BIN_WIDTH
    K = (1 - EPS) * (np.ones(2) if aligned else np.exp(-0.5 * (delay / timescale) ** 2))
    (A1, B1, R1), (A2, B2, R2) = blocks(fit, "V1"), blocks(fit, "V2")
    return A1 @ A1.T + B1 @ B1.T + np.diag(R1), A1 @ np.diag(K) @ A2.T, A2 @ A2.T + B2 @ B2.T + np.diag(R2)


@pytest.mark.parametrize("aligned", [False, True])
def test_correlative_modes_are_canonical_correlations(aligned):
    fit = dlag()
    found = metrics.correlative_modes(fit, "V1", "V2", aligned)
    S1, S12, S2 = covariances(fit, aligned)
    np.testing.assert_allclose(found["correlation"], canonical(S1, S12, S2)[:2])
    a, b = found["first_weight"].values, found["second_weight"].values
    np.testing.assert_allclose(a.T @ S1 @ a, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(b.T @ S2 @ b, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(a.T @ S12 @ b, np.diag(found["correlation"]), atol=1e-12)


@pytest.mark.parametrize("aligned", [False, True])
def test_predictive_modes_are_the_best_regression_of_their_rank(aligned):
    fit = dlag()
    found = metrics.predictive_modes(fit, "V1", "V2", aligned)
    S1, S12, S2 = covariances(fit, aligned)
    B = S12.T @ np.linalg.inv(S1)
    U, W = found["target_mode"].values, found["source_weight"].values
    np.testing.assert_allclose(U.T @ U, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(U @ W.T, B, atol=1e-10)   # two latents: rank two is all there is

    def missed(B):
        return np.trace(S2 - B @ S12 - S12.T @ B.T + B @ S1 @ B.T)

    assert float(found["share"].sum()) == pytest.approx(1 - missed(B) / np.trace(S2))
    one = missed(np.outer(U[:, 0], W[:, 0]))
    assert one == pytest.approx(np.trace(S2) - float(found["variance"][0]))
    rng = np.random.default_rng(0)
    steps = 0.01 * rng.standard_normal((50, 11))
    near = [np.outer(U[:, 0] + step[:5], W[:, 0] + step[5:]) for step in steps]
    assert one < min(map(missed, near))


def test_dominant_modes_are_ordered_and_span_the_loadings():
    fit = dlag()
    found = metrics.dominant_modes(fit, "V1")
    A, B, _ = blocks(fit, "V1")
    for kind, loadings in (("across", A), ("within", B)):
        modes, variance = found[kind].values, found[f"{kind}_variance"].values
        np.testing.assert_allclose((modes * variance) @ modes.T, loadings @ loadings.T, atol=1e-12)
        assert (np.diff(variance) < 0).all()
        assert (modes[np.abs(modes).argmax(0), [0, 1]] > 0).all()
        assert float(found[f"{kind}_share"].sum()) == pytest.approx(1)


# --- flow


class Known:
    """A fit of three regions whose delays and intervals are given."""

    populations, has_loadings, has_delays, delays_vary, has_relevance = ("A", "B", "C"), True, True, False, True
    model = mrgp.models.DLAG(2, 1)
    delays = xr.DataArray(
        [[0.0, 0.0], [0.02, 0.01], [-0.01, 0.05]], {"region": ["A", "B", "C"], "across_latent": [0, 1]}
    )
    shared_variance = xr.DataArray([[0.5, 0.5], [0.3, 0.2], [0.4, 0.6]], dims=("region", "latent"))

    def shared_by(self):
        return xr.DataArray([[True, True], [True, True], [True, False]], dims=("region", "across_latent"))

    def delay_intervals(self, probability, data, progress, over_time, reference):
        assert over_time
        delay = self.delays - self.delays.sel(region=reference)
        return xr.Dataset({"delay": delay, "lower": delay - 0.015, "upper": delay + 0.015})


def test_flow_is_read_off_delays_and_shares():
    flow = metrics.signal_flow(Known())
    assert list(zip(flow["first"].values, flow["second"].values, strict=True)) == [("A", "B"), ("A", "C"), ("B", "C")]
    assert flow["direction"].values.tolist() == [
        ["first leads", "unclear"], ["unclear", "not shared"], ["second leads", "not shared"],
    ]  # fmt: skip
    np.testing.assert_allclose(flow["delay"], [[0.02, 0.01], [-0.01, np.nan], [-0.03, np.nan]])
    np.testing.assert_allclose(flow["upper"][2, 0], -0.015)
    np.testing.assert_allclose(flow["strength"][:, 0], np.sqrt([0.5 * 0.3, 0.5 * 0.4, 0.3 * 0.4]))
    assert flow["strength"].values[1, 1] == 0
    matrix = metrics.flow_matrix(flow)
    expected = np.zeros((3, 3))
    expected[0, 1], expected[2, 1] = np.sqrt(0.15), np.sqrt(0.12)   # C leads B
    np.testing.assert_allclose(matrix, expected)


def test_without_intervals_the_sign_of_the_delay_decides():
    flow = metrics.signal_flow(Known(), intervals=False)
    assert flow["direction"].values.tolist()[:2] == [["first leads", "first leads"], ["second leads", "not shared"]]
    assert np.isnan(flow.attrs["probability"])
    pooled = fit_of(mrgp.models.FA(1), {"loadings": np.ones((11, 1)), "noise": np.ones(11), "offset": np.zeros(11)})
    with pytest.raises(DataError, match="FA has no delays"):
        metrics.signal_flow(pooled)


# --- errors against the truth


def test_subspace_errors_by_hand():
    M = np.array([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    assert metrics.subspace_error(M @ [[1, 2], [0, 1]], M) == pytest.approx(0, abs=1e-12)
    assert metrics.subspace_error(np.eye(3)[:, [2]], M) == pytest.approx(1)
    assert metrics.subspace_error(np.eye(3)[:, [0]], M) == pytest.approx(4 / 5)
    half = np.array([[1.0], [0.0], [1.0]])   # 45 degrees from the first true direction
    assert metrics.subspace_error(half, M[:, [0]]) == pytest.approx(np.sqrt(0.5))
    np.testing.assert_allclose(metrics.principal_angles(half, M[:, [0]]), [45])
    # With noise variances (4, 1, 1) the same direction is (1/2, 0, 1).
    angle = metrics.principal_angles(half, M[:, [0]], np.array([4.0, 1, 1]))
    np.testing.assert_allclose(angle, [np.degrees(np.arctan(2))])
    assert metrics.subspace_error(np.zeros((3, 1)), M) == 1
    with pytest.raises(ValueError, match="all 0"):
        metrics.subspace_error(M, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="2 neurons"):
        metrics.subspace_error(M[:2], M)


def test_errors_of_a_fit_that_is_right_but_for_names_and_signs():
    made = simulate(regions={"V1": 6, "V2": 5}, n_within=(2, 1), n_trials=2, n_bins=8, timescale_across=[0.1, 0.3],
                    timescale_within=[0.05, 0.2, 0.1], delay=[[0, 0], [0.03, -0.02]])  # fmt: skip
    truth = made.truth
    C = truth["loadings"].values[:, [1, 0, 2, 3]] * [1, -1, 1, 1]
    C[:6, 2:] = C[:6, [3, 2]]   # the within latents of V1 change places
    sites = {
        "loadings": C, "noise": 1.5 * truth["noise"].values, "offset": truth["offset"].values,
        "delay": truth["delay"].values[1:, ::-1] + [[0.0, 0.02]], "timescale_across": np.array([0.3, 0.11]),
        "timescale_within": np.array([0.2, 0.04, 0.1]),
    }  # fmt: skip
    found = metrics.recovery_errors(fit_of(mrgp.models.DLAG(2, (2, 1), max_delay=0.1), sites), truth)
    assert float(found["delay_rmse"]) == pytest.approx(0.02 / np.sqrt(2))
    assert float(found["delay_rmse_bins"]) == pytest.approx(1 / np.sqrt(2))
    assert found["latent"].values.tolist() == ["across:0", "across:1", "V1:0", "V1:1", "V2:0"]
    np.testing.assert_allclose(found["timescale_error"], [0.1, 0, -0.2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found["subspace_error"], 0, atol=1e-12)
    np.testing.assert_allclose(found["largest_angle"], 0, atol=1e-5)
    np.testing.assert_allclose(found["noise_error"], 0.5)
    assert found["delay_rmse"].attrs["units"] == "s"


def test_what_a_model_does_not_have_has_no_error():
    made = simulate(regions={"V1": 6, "V2": 5}, n_within=1, n_trials=2, n_bins=8)
    white = {"loadings": made.truth["loadings"].values, "noise": np.ones(11), "offset": np.zeros(11)}
    found = metrics.recovery_errors(fit_of(mrgp.models.FA(3), white), made.truth)
    assert np.isnan(found["delay_rmse"])
    assert np.isnan(found["timescale_error"]).all()
    np.testing.assert_allclose(found["subspace_error"].sel(loadings="all"), 0, atol=1e-12)
    assert np.isnan(found["subspace_error"].sel(loadings="within")).all()
    with pytest.raises(ValueError, match="the truth has 11 neurons, the fit 3"):
        metrics.recovery_errors(SimpleNamespace(sites={"loadings": np.ones((3, 1))}, has_loadings=True), made.truth)


@pytest.mark.slow
def test_intervals_of_a_saved_fit_decide_the_direction(tmp_path):
    counts = {"n_across": 1, "n_within": 0, "n_trials": 8, "n_bins": 8}
    made = simulate(regions={"V1": 6, "V2": 5}, delay=[[0], [0.04]], snr=5.0, **counts)
    model = mrgp.models.DLAG(1, 0, max_delay=0.1, likelihood="dense")
    fit = model.fit(made.data, n_starts=1, progress=False)
    fit.delay_intervals()
    fit.save(tmp_path / "fit.nc")
    flow = metrics.signal_flow(mrgp.load_fit(tmp_path / "fit.nc"))
    bounds = fit.delay_intervals(0.9)
    np.testing.assert_allclose(flow["lower"][0], bounds["lower"][1])
    assert flow["direction"].values[0, 0] == "first leads"
