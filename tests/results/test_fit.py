"""Fitting from data alone: recovery, reproducibility, resuming, saving, uncertainty, ArviZ."""

import dataclasses
import json
import warnings

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import ADM, DLAG, GPFA, MDLAG
from numpyro.infer.util import log_density

import mrgp
from mrgp.families.model import Model
from mrgp.inference import optimise as climbing
from mrgp.inference.density import LogJoint
from mrgp.inference.mode.curvature import Curvature, profile_curvature
from mrgp.inference.optimise import Objective
from mrgp.parts.delays.bounds import widened
from mrgp.parts.delays.constant import ConstantDelay
from mrgp.parts.symmetries import sites_of_truth
from mrgp.results.table import table
from mrgp.simulations.simulate import simulate

BIN = 0.02
DELAY = np.array([[0.0], [1.6 * BIN]])


def recording(**changes):
    settings = {
        "regions": {"V1": 10, "V2": 8}, "n_across": 1, "n_within": 1, "n_trials": 20, "n_bins": 40,
        "bin_width": BIN, "delay": DELAY, "timescale_across": 3 * BIN, "timescale_within": 4 * BIN,
        "snr": 1.0, "seed": 3,
    }  # fmt: skip
    return simulate(**{**settings, **changes})


def preset(**changes):
    return DLAG(**{**{"n_across": 1, "n_within": 1, "max_delay": 0.1, "window": mrgp.Window(10)}, **changes})


@pytest.fixture(scope="module")
def made():
    return recording()


@pytest.fixture(scope="module")
def fit(made):
    return preset().fit(made.data, seed=0, progress=False)


def test_recovers_what_was_simulated(made, fit):
    assert fit.converged
    got = fit.delay_intervals(0.9)
    sd = float(got.sd[1, 0])
    assert 0.001 * BIN < sd < 0.3 * BIN
    assert abs(float(got.delay[1, 0]) - DELAY[1, 0]) < 4 * sd
    assert float(got.lower[1, 0]) < float(got.delay[1, 0]) < float(got.upper[1, 0])
    assert float(got.delay[0, 0]) == 0
    np.testing.assert_allclose(fit.timescales.across.values, 3 * BIN, rtol=0.25)
    assert fit.delays.dims == ("region", "across_latent")
    assert fit.delays.attrs["units"] == "s"


@pytest.mark.slow
def test_the_maximum_beats_the_truth(made, fit):
    truth = made.truth
    model = fit.model
    sites = {
        "loadings": truth.loadings.values,
        "noise": truth.noise.values,
        "offset": truth.offset.values,
        "delay": truth.delay.values[1:],
        "timescale_across": truth.timescale_across.values,
        "timescale_within": truth.timescale_within.values,
    }
    at_truth = float(model.log_likelihood(made.data, sites).sum())
    assert float(fit.log_likelihood().sum()) > at_truth


def test_log_joint_never_decreases(fit):
    assert (np.diff(fit.trace) >= -1e-6).all()


def test_same_seed_same_fit_and_other_seed_same_optimum(made, fit):
    again = preset().fit(made.data, seed=0, progress=False)
    np.testing.assert_array_equal(again.sites["delay"], fit.sites["delay"])
    other = preset().fit(made.data, seed=5, progress=False)
    assert abs(other.trace[-1] - fit.trace[-1]) < 1.0


def test_equal_models_and_shapes_share_one_compiled_objective(made, fit):
    before = climbing._objective._cache_size()
    preset(likelihood=fit.model.likelihood).fit(made.data, seed=1, n_starts=1, progress=False)
    assert climbing._objective._cache_size() == before


def test_gradient_is_the_derivative(made, fit):
    objective = Objective(LogJoint(fit.model), made.data, fit.sites, fit.model.fitting.scales(made.data, fit.sites))
    rng = np.random.default_rng(0)
    x = rng.standard_normal(objective.size)
    _, gradient = objective(x)
    direction = rng.standard_normal(objective.size)
    step = 1e-4
    difference = (objective(x + step * direction)[0] - objective(x - step * direction)[0]) / (2 * step)
    np.testing.assert_allclose(gradient @ direction, difference, rtol=1e-6)


@pytest.mark.slow
def test_curvature_is_the_schur_complement_of_the_hessian():
    data = recording(regions={"A": 3, "B": 3}, n_trials=6, n_bins=20).data
    small = preset().fit(data, seed=0, n_starts=3, progress=False)
    objective = Objective(LogJoint(small.model), data, small.sites, small.model.fitting.scales(data, small.sites))
    names = small.model.tables.dynamics_sites(data.layout)
    ours = profile_curvature(objective, names)
    # Reference: every column of the Hessian by differences, then the plain inverse of the whole.
    eye = np.eye(objective.size)
    columns = [(objective(1e-3 * e)[1] - objective(-1e-3 * e)[1]) / 2e-3 for e in eye]
    hessian = 0.5 * (np.array(columns) + np.array(columns).T)
    marks = objective.unravel(jnp.arange(objective.size, dtype=float))
    few = np.concatenate([np.ravel(marks[name]).astype(int) for name in ours.names])
    width = np.concatenate([np.ravel(objective.scale[name]) for name in ours.names])
    expected = np.linalg.inv(hessian)[np.ix_(few, few)] * width[:, None] * width
    np.testing.assert_allclose(np.sqrt(np.diag(ours.covariance)), np.sqrt(np.diag(expected)), rtol=0.02)


@pytest.mark.slow
def test_swapping_regions_flips_the_delay(made, fit):
    data = made.data
    swapped = mrgp.MultiRegionData({"V2": data.region("V2"), "V1": data.region("V1")}, BIN)
    other = preset().fit(swapped, seed=0, progress=False)
    np.testing.assert_allclose(other.delays.values[1], -fit.delays.values[1], atol=0.02 * BIN)


def test_log_likelihood_is_the_models_and_is_per_trial(made, fit):
    scores = fit.log_likelihood()
    assert scores.dims == ("trial",)
    assert scores.shape == (made.data.n_trials,)
    joint = jax.jit(lambda sites: log_density(fit.model, (made.data,), {}, sites)[0])(fit.sites)
    np.testing.assert_allclose(float(joint), fit.trace[-1], rtol=1e-12)
    dense = fit.model.replace(likelihood="dense")
    np.testing.assert_allclose(dense.log_likelihood(made.data, fit.sites), scores, atol=0.05)


def test_latents_match_dense_conditioning(made, fit):
    latents = fit.latents(refine=2)
    assert latents.sizes == {"trial": 20, "time": 80, "across_latent": 1, "within_latent": 2}
    np.testing.assert_allclose(latents.time[1] - latents.time[0], BIN / 2)
    truth = made.truth.across.values[..., 0]
    mean = latents.across_mean.values[:, ::2, 0]
    assert abs(np.corrcoef(mean.ravel(), truth.ravel())[0, 1]) > 0.9
    # Dense: the latent and all neurons are jointly Gaussian under the exact kernel.
    data, sites, T = made.data, fit.sites, made.data.n_bins
    eps, n = fit.model.gp_noise, data.layout.total_neurons
    region = data.layout.region_of_neuron
    clock = np.arange(T)[:, None] - (np.concatenate([[0.0], sites["delay"][:, 0]]) / BIN)[region]
    lag = lambda a, b: np.subtract.outer(a, b)  # noqa: E731
    l_across, l_within = sites["timescale_across"][0] / BIN, sites["timescale_within"] / BIN
    flat = clock.ravel()
    same_region = (region[:, None] == region)[None, :, None, :] & np.ones((T, 1, T, 1), bool)
    same = (same_region & (np.arange(T)[:, None, None, None] == np.arange(T)[None, None, :, None])).reshape(T * n, -1)
    across = (1 - eps) * np.exp(-0.5 * (lag(flat, flat) / l_across) ** 2) + eps * same
    c, w = (np.tile(sites["loadings"][:, j], T) for j in (0, 1))
    times = np.repeat(np.arange(T), n)
    own = np.tile(region, T)
    scale = l_within[own]
    within = (1 - eps) * np.exp(-0.5 * (lag(times, times) / scale[:, None]) ** 2) * (own[:, None] == own) + eps * same
    covariance = np.outer(c, c) * across + np.outer(w, w) * within + np.diag(np.tile(sites["noise"], T))
    fine = np.arange(2 * T) / 2
    cross = np.sqrt(1 - eps) * np.exp(-0.5 * (lag(fine, flat) / l_across) ** 2) * c
    centred = (data.values - sites["offset"]).reshape(data.n_trials, -1)
    expected = centred @ np.linalg.solve(covariance, cross.T)
    variance = 1 - np.einsum("ij,ji->i", cross, np.linalg.solve(covariance, cross.T))
    np.testing.assert_allclose(latents.across_mean.values[..., 0], expected, atol=0.02)
    np.testing.assert_allclose(latents.across_sd.values[0, :, 0], np.sqrt(variance), atol=0.02)


def test_predict_reconstructs_and_fills_in(made, fit):
    predicted = fit.predict()
    residual = made.data.region("V1") - predicted.V1_mean.values
    assert residual.var() < made.data.region("V1").var() * 0.7
    holed = made.data.region("V1").copy()
    holed[0, 5:15, 2] = np.nan
    data = mrgp.MultiRegionData({"V1": holed, "V2": made.data.region("V2")}, BIN)
    filled = fit.predict(data)
    assert np.isfinite(filled.V1_mean.values).all()
    mean, sd = (filled[f"V1_{what}"].values[0, 5:15, 2] for what in ("mean", "sd"))
    standard = (made.data.region("V1")[0, 5:15, 2] - mean) / sd
    assert np.sqrt(np.mean(standard**2)) < 2.0


@pytest.mark.slow
def test_samples_have_the_models_moments(fit):
    drawn = fit.sample(n_trials=400, n_bins=10, seed=1)
    variance = (fit.sites["loadings"] ** 2).sum(1) + fit.sites["noise"]
    np.testing.assert_allclose(drawn.values.var(axis=(0, 1)), variance, rtol=0.25)


def test_save_and_load_round_trip(made, fit, tmp_path):
    fit.curvature()
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    assert again.model == fit.model
    assert again.summary()["delays"] == fit.summary()["delays"]
    np.testing.assert_array_equal(again.log_likelihood(made.data), fit.log_likelihood())
    np.testing.assert_allclose(again.delay_intervals().sd, fit.delay_intervals().sd)
    with pytest.raises(mrgp.DataError, match="holds no recording"):
        again.log_likelihood()
    assert list(tmp_path.iterdir()) == [tmp_path / "fit.nc"]


@pytest.mark.parametrize("content", [b"", b"not a file", None])
def test_damaged_fit_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "fit.nc"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(mrgp.DataError, match=r"damaged|no file"):
        mrgp.load_fit(path)


def test_every_kernel_survives_saving(tmp_path, fit):
    kernels = [
        mrgp.Matern52(), mrgp.RationalQuadratic(2.0), mrgp.Spectral(mrgp.Matern32(), 4.0),
        0.3 * mrgp.SquaredExponential() + mrgp.Stretched(mrgp.Matern12(), 3.0),
    ]  # fmt: skip
    for kernel in kernels:
        model = fit.model.replace(kernel=kernel)
        assert Model.from_settings(json.loads(json.dumps(model.to_settings()))) == model


@pytest.mark.slow
def test_arviz_works_on_the_tree(made, fit):
    tree = fit.to_arviz(n_draws=50)
    posterior = tree["posterior"]
    assert posterior["delay"].dims == ("chain", "draw", "region", "across_latent")
    assert list(posterior["region"].values) == ["V2"]  # what was drawn: the first region has no delay
    sd = float(posterior["delay"].sel(region="V2").std())
    np.testing.assert_allclose(sd, float(fit.delay_intervals().sd[1, 0]), rtol=0.35)
    summary = az.summary(tree, var_names=["timescale_across"])
    assert np.isfinite(summary.iloc[0, 0])
    # Loadings have no draws: leave-one-out would not see what they gained by having seen a trial.
    assert "log_likelihood" not in tree.children
    assert "take mrgp.leave_one_out(fit)" in tree.attrs["log_likelihood"]
    np.testing.assert_array_equal(tree["constant_data"]["loadings"], fit.sites["loadings"])


@pytest.fixture(scope="module")
def relevant(made, fit):
    """The same recording by variational Bayes, from the other fit."""
    return MDLAG(1, 1, max_delay=0.1, window=mrgp.Window(10)).fit(made.data, start=fit, progress=False)


@pytest.mark.slow
def test_intervals_of_variational_bayes_are_those_of_the_maximum_where_all_is_read(fit, relevant):
    assert relevant.method == "vb"
    assert relevant.shared_by().all()
    ours, theirs = relevant.delay_intervals(), fit.delay_intervals()
    assert relevant.curvature().positive
    np.testing.assert_allclose(ours.delay[1], theirs.delay[1], atol=0.2 * float(theirs.sd[1, 0]))
    for name in ("sd", "lower", "upper"):
        np.testing.assert_allclose(ours[name][1], theirs[name][1], rtol=0.1)
    np.testing.assert_allclose(
        np.diag(relevant.curvature().covariance), np.diag(fit.curvature().covariance), rtol=0.2
    )  # timescales too


def test_intervals_behind_another_region(fit):
    first, second = fit.delay_intervals(), fit.delay_intervals(reference="V2")
    np.testing.assert_allclose(second.delay[0], -first.delay[1], rtol=1e-12)
    np.testing.assert_allclose(second.sd[0], first.sd[1], rtol=1e-6)
    # The coordinate in which they are symmetric has another bound.
    np.testing.assert_allclose(second.lower[0], -first.upper[1], atol=0.1 * float(first.sd[1, 0]))
    assert not second.sd[1].values.any()
    with pytest.raises(ValueError, match="choose from V1, V2"):
        fit.delay_intervals(reference="V9")


@pytest.mark.slow
def test_arviz_tree_of_variational_bayes(relevant):
    tree = relevant.to_arviz(n_draws=50)
    sd = float(tree["posterior"]["delay"].sel(region="V2").std())
    np.testing.assert_allclose(sd, float(relevant.delay_intervals().sd[1, 0]), rtol=0.35)
    assert tree["constant_data"]["alpha"].dims == ("region", "column")
    assert "maximum of the bound" in tree.attrs["inference_method"]
    assert "log_likelihood" not in tree.children
    assert "score held-out trials" in tree.attrs["log_likelihood"]
    with pytest.raises(ValueError, match="method 'vb' has not drawn"):
        mrgp.leave_one_out(relevant)


@pytest.mark.slow
def test_a_delay_of_which_nothing_is_known_is_as_wide_as_its_prior(relevant):
    second = relevant.layout.region_of_neuron == 1
    loadings = np.where(second[:, None] & (np.arange(relevant.sites["loadings"].shape[1]) == 0), 1e-9, 1.0)
    spread = np.where(second[:, None, None] & (np.arange(2) == 0)[:, None], 1e-18 * np.eye(2), 1.0)
    unread = dataclasses.replace(
        relevant,
        sites={**relevant.sites, "loadings": loadings * relevant.sites["loadings"]},
        loadings_covariance=spread * relevant.loadings_covariance,
        saved_curvature=None,
    )
    assert unread.shared_by().values.tolist() == [[True], [False]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the loadings are not where the bound is highest
        got = unread.delay_intervals()
    bound = unread.model.max_delay
    assert float(got.sd[1, 0]) == pytest.approx(bound / np.sqrt(3), rel=0.05)
    assert float(got.upper[1, 0] - got.lower[1, 0]) > 1.6 * bound


def varying(made, n_bins=40):
    """A fit of delays that vary, put together by hand; 1 region lags, 1 latent."""
    model = ADM(1, 1, max_delay=0.1, window=mrgp.Window(10), duration=n_bins * BIN)
    modes = model.delays.modes(model.tables.extent(made.data.layout, n_bins)).shape[-1]
    sites = {name: made.truth[name].values for name in ("loadings", "noise", "offset")}
    sites |= {"timescale_across": made.truth.timescale_across.values, "delay": DELAY[1:]}
    sites |= {"timescale_within": made.truth.timescale_within.values}
    change = np.random.default_rng(0).standard_normal((1, 1, modes))
    sites |= {"delay_change": change, "delay_spread": np.full((1, 1), BIN)}
    names = ("delay", "delay_change")
    mean = np.concatenate([[2 * np.arctanh(DELAY[1, 0] / 0.1)], change.ravel()])
    root = 0.1 * np.random.default_rng(1).standard_normal((modes + 1, modes + 1)) / np.sqrt(modes)
    known = Curvature(names, mean, root @ root.T, True, {n: np.zeros((modes + 1, *sites[n].shape)) for n in sites})
    known.response.pop("delay"), known.response.pop("delay_change")
    fit = mrgp.Fit(
        model=model, layout=made.data.layout, n_bins=n_bins, sites=sites, method="map", trace=np.zeros(1),
        converged=True, reason="", iterations=0, evaluations=0, wall_s=0.0, seed=0, data=made.data,
    )  # fmt: skip
    fit.saved_curvature = known
    return fit


def test_delays_that_vary_have_bands_and_an_interval_of_their_mean(made):
    fit = varying(made)
    assert fit.delays_vary
    band, mean = fit.delay_intervals(0.9), fit.delay_intervals(0.9, over_time=True)
    assert band["lower"].dims == ("region", "across_latent", "time")
    assert mean["lower"].dims == ("region", "across_latent")
    drawn = fit.draws(2000, seed=1)
    table = fit.model.tables.delays(drawn, fit.layout, fit.n_bins)[:, 1, 0]
    # Monte-Carlo error of a standard deviation from 2000 draws: 1.6%; the rest is the linearisation.
    np.testing.assert_allclose(table.std(0), band["sd"][1, 0], rtol=0.08)
    np.testing.assert_allclose(table.mean(1).std(), mean["sd"][1, 0], rtol=0.08)
    assert float(mean["sd"][1, 0]) < float(band["sd"][1, 0].max())
    np.testing.assert_allclose(mean["delay"][1, 0], fit.delays[1, 0].mean())


@pytest.mark.slow
def test_arviz_tree_of_delays_that_vary(made):
    fit = varying(made)
    fit.data = made.data.select_trials(slice(0, 3))
    tree = fit.to_arviz(n_draws=5)
    assert tree["posterior"]["delay"].dims == ("chain", "draw", "region", "across_latent", "time")
    assert "delay_change" not in tree["posterior"]
    np.testing.assert_allclose(tree["posterior"]["time"], fit.delays["time"])
    assert np.isfinite(tree["posterior_predictive"]["trial_mean"].values).all()


def test_summary_tells_the_course_of_delays_and_is_json(made):
    fit = varying(made)
    told = json.loads(json.dumps(fit.summary(), allow_nan=False))
    course = told["delays_over_time"]
    assert told["delay_dims"] == ["region", "across_latent", "time"]
    values = fit.delays.values[1, 0]
    assert course["highest"][1][0] == values.max()
    at = int(np.argmax(abs(values - values.mean())))
    assert course["farthest_at"][1][0] == pytest.approx(at * BIN)


@pytest.mark.slow
def test_a_fixed_delay_is_in_the_tree_but_not_drawn(fit):
    held = dataclasses.replace(fit, fixed=("delay",), saved_curvature=None)
    tree = held.to_arviz(n_draws=5)
    assert "delay" not in tree["posterior"]
    np.testing.assert_array_equal(tree["constant_data"]["delay"], fit.sites["delay"])


def test_interrupted_fit_resumes(made, tmp_path, monkeypatch):
    checkpoint = tmp_path / "fit.checkpoint.npz"
    original, calls = Objective.__call__, []

    def stop_after(self, x):
        calls.append(self.density.model.likelihood.written_name())
        if calls.count("markov") == 6:
            raise KeyboardInterrupt
        return original(self, x)

    monkeypatch.setattr(Objective, "__call__", stop_after)
    with pytest.warns(UserWarning, match="interrupted"):
        partial = preset().fit(made.data, checkpoint=checkpoint, progress=False)
    assert not partial.converged
    assert checkpoint.is_file()
    monkeypatch.setattr(Objective, "__call__", original)
    resumed = preset().fit(made.data, checkpoint=checkpoint, progress=False)
    assert resumed.trace[0] >= partial.trace[-1] - 1e-6
    assert resumed.converged
    assert not checkpoint.exists()
    checkpoint.write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        preset().fit(made.data, checkpoint=checkpoint, progress=False)


def test_checkpoint_of_another_recording_is_refused(made, tmp_path, fit):
    checkpoint = tmp_path / "fit.checkpoint.npz"
    from mrgp.inference.run import Checkpoint, Options

    options = Options(0, 1, 0.01, 10, checkpoint, progress=False)
    Checkpoint(options, fit.model, made.data).write(fit.model, fit.sites, force=True)
    other = recording(seed=9).data
    with pytest.raises(ValueError, match="another model, recording or version"):
        preset().fit(other, checkpoint=checkpoint, progress=False)


@pytest.mark.slow
def test_a_delay_near_its_bound_widens_it(made):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # it says so, unless the search for a start has widened it already
        wide = preset(max_delay=1.61 * BIN, window=None).fit(made.data, seed=0, n_starts=1, progress=False)
    assert wide.model.max_delay > 1.61 * BIN
    assert abs(wide.delays.values[1, 0] - DELAY[1, 0]) < 0.3 * BIN


@pytest.mark.slow
def test_a_held_bound_stays_and_the_fit_says_what_it_cost(made, fit):
    """The delay is 1.6 bins."""
    held = preset(max_delay=1.2 * BIN, hold_max_delay=True, window=None)
    with pytest.warns(UserWarning, match=r"a lag of 3\d ms .* the max_delay that is held"), pytest.warns(
        UserWarning, match="within 5% of max_delay, "
    ):
        short = held.fit(made.data, seed=0, n_starts=1, progress=False)
    assert short.model.max_delay == 1.2 * BIN
    assert 0.95 * 1.2 * BIN <= abs(short.delays.values[1, 0]) <= 1.2 * BIN
    assert len(short.notes) == 2
    known = short.delay_intervals()
    assert np.isnan(known.sel(region="V2")[["lower", "upper", "sd"]].to_array()).all()
    unknown = mrgp.delay_table(short).loc[0, ["sd_ms", "lower_ms", "positive", "log_bayes_factor"]]
    assert np.isnan(unknown.astype(float)).all()
    assert "none: at max_delay" in table(short, known)
    with pytest.raises(ValueError, match=r"beyond the max_delay of .* that is to be held"):
        held.fit(made.data, start=fit, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # it has not converged
        given = held.fit(made.data, start=fit, fixed={"delay": 1.18 * BIN}, progress=False, max_iterations=2)
    assert (given.model.max_delay, given.notes) == (1.2 * BIN, ())   # nothing was found of a delay that was given


def test_no_bound_widens_past_half_a_trial(made):
    """Trials of 0.8 s."""
    model = preset()
    extent = model.tables.extent(made.data.layout, made.data.n_bins)
    near = widened(ConstantDelay(0.39), {"delay": np.array([[0.385]])}, extent)
    assert near.longest == pytest.approx(0.4)
    assert widened(near, {"delay": np.array([[-0.399]])}, extent) is None


@pytest.mark.slow
def test_warm_start_admits_the_delays_it_brings(made, fit):
    narrow = preset(max_delay=1.0 * BIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = narrow.fit(made.data, start=fit, progress=False, max_iterations=3)
    assert again.model.max_delay > DELAY[1, 0]
    assert np.isfinite(again.trace).all()


def test_warm_start_from_another_fit(made, fit):
    again = preset().fit(made.data, start=fit, progress=False)
    assert again.iterations < 10
    assert abs(again.trace[-1] - fit.trace[-1]) < 0.05


@pytest.mark.parametrize("likelihood", [pytest.param("dense", marks=pytest.mark.slow), "spectral"])
@pytest.mark.slow
def test_other_likelihoods_fit_too(likelihood):
    data = recording(n_bins=24, n_trials=12).data
    other = preset(likelihood=likelihood, window=None).fit(data, seed=0, n_starts=1, progress=False)
    assert other.converged
    assert abs(other.delays.values[1, 0] - DELAY[1, 0]) < 0.5 * BIN
    assert np.isfinite(other.latents().across_mean.values).all()


@pytest.mark.slow
def test_autoregressive_lift_fits_too(made, fit):
    other = preset(lift="ar", order=4, window=None).fit(made.data, start=fit, progress=False)
    np.testing.assert_allclose(other.delays.values[1], fit.delays.values[1], atol=0.05 * BIN)
    np.testing.assert_allclose(other.latents().across_mean, fit.latents().across_mean, atol=0.2)


@pytest.mark.slow
def test_gpfa_pools_regions():
    data = recording(delay=np.zeros((2, 1)), n_within=0).data
    gpfa = GPFA(n_across=1).fit(data, seed=0, n_starts=1, progress=False)
    assert gpfa.converged
    np.testing.assert_allclose(gpfa.timescales.across.values, 3 * BIN, rtol=0.25)
    assert gpfa.latents().across_mean.shape == (20, 40, 1)
    assert gpfa.delays.values.tolist() == [[0.0]]
    assert np.isfinite(gpfa.to_arviz(n_draws=5)["posterior"]["timescale_across"].values).all()


@pytest.mark.slow
def test_ragged_and_missing_recording_fits():
    made = recording(ragged=0.3, missing=0.1, n_trials=12)
    fitted = preset().fit(made.data, seed=0, n_starts=1, progress=False)
    assert fitted.converged
    assert abs(fitted.delays.values[1, 0] - DELAY[1, 0]) < 0.5 * BIN


@pytest.mark.slow
def test_awkward_recordings_fit_or_say_why():
    one_trial = recording(n_trials=1, n_bins=60).data
    few = recording(regions={"A": 2, "B": 1}, n_trials=5).data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a delay that one trial hardly tells; more latents than neurons
        assert np.isfinite(preset().fit(one_trial, n_starts=1, progress=False, max_iterations=200).trace[-1])
        fitted = preset(n_across=2, n_within=2).fit(few, n_starts=1, progress=False, max_iterations=60)
    assert np.isfinite(fitted.trace[-1])
    single = mrgp.MultiRegionData({"V1": few.region("A")}, BIN)
    with pytest.raises(mrgp.DataError, match="DLAG compares regions"):
        preset().fit(single)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_across": -1}, "count latents"),
        ({"n_across": 0, "n_within": 0}, "count latents"),
        ({"likelihood": "exact"}, "likelihood is"),
        ({"max_delay": -0.1}, "max_delay"),
        ({"gp_noise": 0.0}, "gp_noise"),
        ({"kernel": "rbf"}, "kernel must be"),
        ({"lift": "companion"}, "lift is"),
    ],
)
def test_preset_arguments_are_checked(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        preset(**changes)


def test_wrong_use_of_fit(made, fit):
    with pytest.raises(ValueError, match="method is one of"):
        preset().fit(made.data, method="magic")
    with pytest.raises(ValueError, match="one number, or one per region"):
        preset(n_within=(1, 1, 1)).fit(made.data)
    with pytest.raises(ValueError, match="no within latents"):
        GPFA(n_across=1, n_within=1).fit(made.data)
    other = recording(regions={"V1": 4, "V2": 4}).data
    with pytest.raises(mrgp.DataError, match="but the fit is of"):
        fit.log_likelihood(other)
    with pytest.raises(ValueError, match="refine"):
        fit.latents(refine=0)


@pytest.mark.slow
def test_preset_is_a_numpyro_model(made, fit):
    from numpyro.infer import MCMC, NUTS, init_to_value

    data = made.data.select_trials(slice(0, 4))
    start = init_to_value(values={k: jnp.asarray(v) for k, v in fit.sites.items()})
    model = fit.model.replace(likelihood="spectral")   # compiles in half the time
    mcmc = MCMC(NUTS(model, init_strategy=start, max_tree_depth=3), num_warmup=3, num_samples=3, progress_bar=False)
    mcmc.run(jax.random.key(0), data)
    assert np.isfinite(np.asarray(mcmc.get_samples()["delay"])).all()


def test_parameters_are_checked_by_name(made, fit):
    fewer = {name: value for name, value in fit.sites.items() if name != "delay"}
    with pytest.raises(ValueError, match="parameters are missing: delay"):
        fit.model.log_likelihood(made.data, fewer)
    with pytest.raises(ValueError, match="no parameters delays"):
        fit.model.log_likelihood(made.data, {**fit.sites, "delays": fit.sites["delay"]})


@pytest.mark.slow
def test_latents_between_bins_know_both_neighbours():
    """A rough latent read half-way between two bins, against conditioning in the exact process."""
    data = recording(n_trials=2, n_bins=12, regions={"A": 4, "B": 4}).data
    model = GPFA(n_across=1, kernel=mrgp.Matern12())
    rng = np.random.default_rng(0)
    loadings, noise = rng.standard_normal((8, 1)), rng.uniform(0.2, 0.5, 8)
    sites = {"loadings": loadings, "noise": noise, "offset": np.zeros(8), "timescale_across": np.array([2 * BIN])}
    fitted = mrgp.Fit(
        model=model, layout=data.layout, n_bins=data.n_bins, sites=sites, method="map", trace=np.zeros(1),
        converged=True, reason="", iterations=0, evaluations=0, wall_s=0.0, seed=0, data=data,
    )  # fmt: skip
    got = fitted.latents(refine=2)
    times, fine, eps = np.arange(12), np.arange(24) / 2, model.gp_noise
    kernel = lambda a, b: np.exp(-np.abs(np.subtract.outer(a, b)) / 2)  # noqa: E731
    own = (1 - eps) * kernel(times, times) + eps * np.eye(12)
    covariance = np.kron(own, loadings @ loadings.T) + np.kron(np.eye(12), np.diag(noise))
    cross = np.kron(np.sqrt(1 - eps) * kernel(fine, times), loadings.T)
    expected = data.values.reshape(2, -1) @ np.linalg.solve(covariance, cross.T)
    variance = 1 - np.einsum("ij,ji->i", cross, np.linalg.solve(covariance, cross.T))
    np.testing.assert_allclose(got.across_mean.values[:, :-1, 0], expected[:, :-1], atol=1e-6)
    np.testing.assert_allclose(got.across_sd.values[0, :-1, 0], np.sqrt(variance)[:-1], atol=1e-6)


@pytest.mark.slow
def test_narrowed_windows_read_the_same_delays_from_fewer_registers():
    """At delays as far as the margin the likelihood is the dense one's, as near as with the wide window."""
    made = simulate(
        regions={"V1": 6, "V2": 5, "V4": 4}, n_across=2, n_within=1, n_trials=4, n_bins=40,
        timescale_across=np.array([0.09, 0.03]), timescale_within=0.06,
        delay=np.array([[0.0, 0.0], [0.06, -0.02], [0.03, 0.02]]), snr=2.0, seed=4,
    )  # fmt: skip
    known = sites_of_truth(made.truth)
    wide = DLAG(2, 1, max_delay=0.1).fitting.adapted(made.data, known, 1.0)
    narrow = wide.fitting.narrowed(made.data, known, 0.004)
    assert narrow.window.n_registers < wide.window.n_registers
    assert narrow.window.shifts == pytest.approx((-1.5, 0.0))
    for step in (-0.004, 0.0, 0.004):
        sites = {**known, "delay": known["delay"] + step * np.array([[1, -1], [0, 1]])}
        exact = wide.replace(likelihood="dense").log_likelihood(made.data, sites).values
        for model in (wide, narrow):
            assert np.abs(model.log_likelihood(made.data, sites).values - exact).max() < 0.02
        assert narrow.fitting.unread_variance(made.data, sites) < 1e-3
