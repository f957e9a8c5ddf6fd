"""Neural ODE: integration, irregular times, a horizon that grows, fits, flow fields and fixed points."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import FA, GPFA, NeuralODE
from scipy.integrate import solve_ivp
from scipy.stats import poisson

import mrgp
from mrgp.inference import amortised_svi
from mrgp.inference.amortised_bound import terms, traces
from mrgp.inference.amortised_parameters import first_values
from mrgp.metrics import fixed_points, flow_field
from mrgp.metrics.baselines import training_psth
from mrgp.parts.dynamics import Dynamics, integrated
from mrgp.simulations.spiral import simulate_spiral, spiral_velocity

RNG = np.random.default_rng(5)
BIN = 0.08
KEPT = np.sort(RNG.choice(np.arange(1, 30), 25, replace=False))
TIMES = BIN * np.r_[0, KEPT]   # of 26 bins, four missing among them
QUICK = {"learning_rate": 1e-2, "batch_size": 16, "warm_up": 10, "patience": 5, "progress": False}
SMALL = NeuralODE(width=16, depth=1, reader=16)

pytestmark = pytest.mark.filterwarnings("ignore:the fit has not converged")


@pytest.fixture(scope="module")
def made():
    return simulate_spiral(20, 3, times=TIMES, bin_width=BIN, rate=15.0, seed=1)


@pytest.fixture(scope="module")
def fit(made):
    return SMALL.fit(made.data, max_iterations=100, **QUICK | {"patience": 20})


# --- integration


def exact(start, times):
    """The spiral's states by SciPy's adaptive method of order 8."""
    def velocity(_, z):
        return np.asarray(spiral_velocity(z))

    return solve_ivp(velocity, (times[0], times[-1]), start, "DOP853", times, rtol=1e-11, atol=1e-12).y.T


def test_integration_is_of_order_four_over_irregular_gaps():
    start = np.array([1.0, -0.5, 0.8])
    times = TIMES[:12]
    truth = exact(start, times)

    def error(n_substeps):
        found = integrated(spiral_velocity, jnp.asarray(start)[None], np.diff(times), n_substeps)[0]
        assert found.shape == truth.shape
        return np.abs(found - truth).max()

    coarse, fine = error(2), error(4)
    assert coarse < 2e-4   # the flow turns by half a radian in the longest of its steps
    assert 12 < coarse / fine < 22   # 2^4, and what is left of higher orders


def test_gradients_are_those_of_finite_differences():
    gaps = np.diff(TIMES[:8])

    def end(scale):
        return integrated(lambda z: scale * spiral_velocity(z), jnp.array([[1.0, 0.2, -0.3]]), gaps)[0, -1].sum()

    slope = (end(1 + 1e-5) - end(1 - 1e-5)) / 2e-5
    assert jax.grad(end)(1.0) == pytest.approx(float(slope), rel=1e-6)


def test_the_simulated_spiral_is_the_flow_it_says(made):
    trial = 4
    truth = exact(made.truth["latents"].values[trial, 0], TIMES)
    np.testing.assert_allclose(made.truth["latents"].values[trial], truth, atol=1e-5)   # ten steps per bin
    np.testing.assert_array_equal(made.truth["time"], TIMES)
    assert np.abs(spiral_velocity(made.truth["fixed_point"].values)).max() == 0
    with pytest.raises(ValueError, match="n_bins counts at least 1, not 0"):
        simulate_spiral(n_bins=0)


# --- times


def same_times(data):
    np.testing.assert_array_equal(data.times, TIMES)
    assert not data.layout.is_regular


def test_times_are_kept_by_selections_and_files(made, tmp_path):
    data = made.data
    plain = mrgp.MultiRegionData({"A": data.region("A")}, BIN)
    assert data.fingerprint != plain.fingerprint
    assert data.trial_fingerprints == plain.trial_fingerprints   # which are of values alone
    same_times(data.select_trials([0, 3]))
    same_times(data.select_neurons({"A": [1, 2]}))
    same_times(data.without({"A": [0]}))
    same_times(mrgp.square_root(data))
    same_times(mrgp.MultiRegionData.from_xarray(data.to_xarray()))
    np.testing.assert_array_equal(data.to_xarray()["time"], TIMES)
    for name in ("data.nc", "data.npz"):
        mrgp.save_recording(data, tmp_path / name)
        read = mrgp.load_recording(tmp_path / name)
        same_times(read)
        assert read.fingerprint == data.fingerprint
    assert "at irregular times" in str(data)
    assert plain.layout.same_neurons(data.layout)


def test_regular_times_are_as_none():
    values = RNG.poisson(1.0, (4, 6, 3))
    for times in (np.arange(6) * 0.02, 3 + np.arange(6) * 0.02, 1e-6 + np.arange(6) * 0.02):
        data = mrgp.MultiRegionData({"A": values}, 0.02, times=times)
        assert data.layout.is_regular
        np.testing.assert_allclose(data.times, np.arange(6) * 0.02)
        assert data.fingerprint == mrgp.MultiRegionData({"A": values}, 0.02).fingerprint
    milliseconds = mrgp.MultiRegionData({"A": values}, 0.02, times=np.array([0, 20, 40, 80, 90, 95], "m8[ms]"))
    np.testing.assert_allclose(milliseconds.times, [0, 0.02, 0.04, 0.08, 0.09, 0.095])
    np.testing.assert_allclose(milliseconds.layout.starts(8)[-2:], [0.115, 0.135])


def test_times_of_single_precision_are_regular_and_irregular_as_they_were():
    values = RNG.poisson(1.0, (2, 40, 3))
    starts = 60 + np.arange(40) * 0.001   # s, of which single precision has steps of 4e-6
    single = starts.astype(np.float32)
    assert np.abs(np.diff(single.astype(float)) - 0.001).max() > 1e-3 * 0.001
    assert mrgp.MultiRegionData({"A": values}, 0.001, times=single).layout.is_regular
    moved = np.r_[starts[:20], starts[20:] + 2e-5]
    for times in (moved, moved.astype(np.float32), 1.7e9 + np.r_[0, np.arange(2, 41)] * 0.001):
        assert not mrgp.MultiRegionData({"A": values}, 0.001, times=times).layout.is_regular


def test_a_file_with_another_bin_width_is_as_regular_as_by_its_own(made, tmp_path):
    plain = mrgp.MultiRegionData({"A": made.data.region("A")}, BIN)
    for data, name in ((plain, "plain.nc"), (made.data, "irregular.nc")):
        mrgp.save_recording(data, tmp_path / name)
    wider = mrgp.load_recording(tmp_path / "plain.nc", bin_width=0.1)
    assert wider.layout.is_regular
    np.testing.assert_allclose(wider.times, 0.1 * np.arange(26))
    same_times(mrgp.load_recording(tmp_path / "irregular.nc", bin_width=0.1))


def test_means_of_other_times_are_refused(made):
    data = made.data
    moved = mrgp.MultiRegionData({"A": data.region("A")}, BIN, times=TIMES * 1.5)
    plain = mrgp.MultiRegionData({"A": data.region("A")}, BIN)
    for other in (moved, plain):
        with pytest.raises(mrgp.DataError, match="the reference has bins at other times than the recording"):
            mrgp.remove_mean(data, reference=other)
        with pytest.raises(mrgp.DataError, match="has bins at other times than training PSTH is of: score one with"):
            training_psth(data).predict(other)
    same_times(mrgp.remove_mean(data, reference=data.select_trials(slice(0, 20))))
    assert np.isfinite(training_psth(data).log_likelihood(data)).all()
    # The bins that there are count: those before the first gap are at the same times in both.
    first = int(np.argmax(np.diff(TIMES) > 1.5 * BIN)) + 1
    short = mrgp.MultiRegionData({"A": data.region("A")[:, :first]}, BIN)
    assert np.isfinite(training_psth(data).log_likelihood(short)).all()


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 0.02], r"times have shape \(2,\): give one start per bin, \(4,\)"),
        ([0.0, 0.02, 0.02, 0.06], "bin 2 begins at 0.02 s, after one that begins at 0.02 s"),
        ([0.0, 0.02, np.nan, 0.06], "times have no number for bin 2"),
        (["a", "b", "c", "d"], "times are not numbers"),
    ],
)
def test_times_that_are_none_are_refused(times, message):
    with pytest.raises(mrgp.DataError, match=message):
        mrgp.MultiRegionData({"A": RNG.poisson(1.0, (4, 4, 3))}, 0.02, times=times)


@pytest.mark.parametrize(
    "model", [FA(1), pytest.param(GPFA(1, emission="poisson"), marks=pytest.mark.slow)], ids=repr
)
def test_models_of_regular_bins_refuse_other_times(model, made):
    name = type(model).__name__
    message = f"{name} needs bins that follow each other, but times have steps of 80 to .* ms, and bins last 80 ms"
    with pytest.raises(mrgp.DataError, match=message):
        model.fit(made.data)
    regular = mrgp.MultiRegionData({"A": made.data.region("A")}, BIN)
    fit = model.fit(regular, max_iterations=3, n_starts=1, progress=False)
    with pytest.raises(mrgp.DataError, match=message):
        fit.predict(made.data)
    with pytest.raises(mrgp.DataError, match=message):
        model.log_likelihood(made.data, fit.sites)


def test_smoothing_refuses_irregular_times(made):
    with pytest.raises(mrgp.DataError, match="smoothing needs bins that follow each other"):
        mrgp.smooth_over_time(made.data, 0.2)


# --- the program


def traced(model, data, hidden=None, scored=None, start=None):
    """Latents, and log p(y) of every entry that is scored, 0 elsewhere, at the values that training begins from."""
    values = first_values(model, data, jax.random.key(0))
    if start is not None:
        values.networks["initial"] = start   # a value for the site, in program and guide

    @jax.jit
    def run(values):
        trace = traces(model, values, data, jax.random.key(0), hidden, scored)[1]
        return trace["latents"]["value"], trace["y"]["fn"].base_dist.log_prob(trace["y"]["value"])

    return run(values)


@pytest.mark.slow
def test_bins_left_out_and_bins_missing_are_one_thing():
    regular = simulate_spiral(20, 2, n_bins=30, bin_width=BIN).data
    chosen = np.r_[0, KEPT]
    counts = regular.region("A")
    few = mrgp.MultiRegionData({"A": counts[:, chosen]}, BIN, times=TIMES)
    counts[:, np.setdiff1d(np.arange(30), chosen)] = np.nan
    holed = mrgp.MultiRegionData({"A": counts}, BIN)
    start = jnp.asarray(RNG.standard_normal((8, 3)), jnp.float32)
    one, other = (traced(SMALL.replace(n_substeps=4, timescale=1.0), data, start=start) for data in (few, holed))
    np.testing.assert_allclose(one[0], other[0][:, chosen], atol=1e-4)   # in single precision
    np.testing.assert_allclose(one[1], other[1][:, chosen], atol=1e-2)   # of counts up to 20: so much eta may differ
    assert float(other[1].sum()) == pytest.approx(float(other[1][:, chosen].sum()))


@pytest.mark.slow
def test_training_scores_only_bins_within_the_horizon(made):
    data = made.data
    model, values = SMALL, first_values(SMALL, made.data, jax.random.key(0))
    scored = (jnp.arange(data.n_bins) < 5)[:, None]
    found = jax.jit(lambda scored: terms(model, values, data, jax.random.key(0), scored=scored))(scored)
    entries = traced(model, data)[1]
    assert float(found.likelihood) == pytest.approx(float(entries[:, :5].sum()), rel=1e-5)
    hidden = jnp.asarray(RNG.random(data.values.shape) < 0.3)
    both = jax.jit(lambda scored: terms(model, values, data, jax.random.key(0), hidden, scored, 0.3))(scored)
    entries = traced(model, data, hidden)[1]
    assert float(both.likelihood) == pytest.approx(float(entries[:, :5].sum() / 0.3), rel=1e-5)


@pytest.mark.slow
def test_the_horizon_grows_with_the_warm_up(made, monkeypatch):
    horizons = []

    def epoch(model, n_steps, hidden, free, optimiser, data, key, weight, rate, horizon):
        horizons.append(int(horizon))
        return free, optimiser, 0

    monkeypatch.setattr(amortised_svi, "_epoch", epoch)
    SMALL.fit(made.data, max_iterations=12, **QUICK)
    assert horizons == [6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 26]   # ceil(26 (0.2 + 0.08 epochs))


# --- a fit


@pytest.mark.slow
def test_a_fit_learns_of_irregular_times(fit, made, tmp_path):
    data = made.data
    trivial = float(fit.model.emission.trivial_log_likelihood(data).sum())
    gain = float(fit.log_likelihood().sum()) - trivial
    assert gain > 0.5 * (at_the_truth(made) - trivial)   # of what true log-rates gain, after a hundred epochs
    latents = fit.latents()
    assert latents["across_mean"].shape == (27, 26, 3)
    np.testing.assert_array_equal(latents["time"], TIMES)
    fit.save(tmp_path / "fit.nc")
    read = mrgp.load_fit(tmp_path / "fit.nc")
    assert read.layout == fit.layout
    np.testing.assert_allclose(read.log_likelihood(data), fit.log_likelihood(), rtol=1e-9)
    velocity = [one.model.learned_dynamics(one.layout, one.sites).velocity(jnp.ones((2, 3))) for one in (fit, read)]
    np.testing.assert_array_equal(*velocity)
    assert np.isfinite(fit.predict(data.without({"A": [0]}))["A_mean"]).all()


def at_the_truth(made):
    """log p(y) at the true log-rates."""
    eta = made.truth["latents"].values @ made.truth["loadings"].values.T + made.truth["offset"].values
    return float(poisson.logpmf(made.data.floats, np.exp(eta)).sum())


@pytest.mark.slow
def test_a_fit_is_of_other_times_too(fit):
    other = simulate_spiral(20, 2, n_bins=30, bin_width=BIN, rate=15.0, seed=1).data
    latents = fit.latents(other)
    assert latents["across_mean"].shape == (8, 30, 3)
    assert np.isfinite(fit.log_likelihood(other)).all()
    drawn = fit.sample(5, 26)
    np.testing.assert_array_equal(drawn.times, TIMES)
    assert drawn.values.shape == (5, 26, 20)


@pytest.mark.slow
def test_figures_of_a_fit_have_units_and_a_legend(fit, tmp_path):
    field, points = flow_field(fit, n_points=9), fixed_points(fit, n_starts=20)
    assert field["velocity"].shape == (9, 9, 2)
    assert field["states"].shape == (27, 26, 2)
    figure = mrgp.plots.plot_dynamics(field, points)
    labels = [ax.get_xlabel() for ax in figure.axes] + [ax.get_ylabel() for ax in figure.axes]
    assert "speed (latent units per s)" in labels
    assert any("of variance)" in label for label in labels)
    assert mrgp.plots.plot_dynamics(field).axes
    written = {path.stem for path in mrgp.plots.save_figures(fit, tmp_path)}
    assert written == {"convergence", "reconstruction", "dynamics"}


@pytest.mark.slow
@pytest.mark.parametrize("emission", ["gaussian", "negative_binomial"])
def test_missing_bins_ragged_trials_and_other_emissions(emission, made):
    counts = made.data.region("A")
    counts[:9, 20:] = np.nan
    counts[:, 7] = np.nan
    counts[10:15, :, 3] = np.nan
    regular = {"A": np.sqrt(counts) if emission == "gaussian" else counts}
    data = mrgp.MultiRegionData(regular, BIN, times=TIMES)
    model = SMALL.replace(emission=emission, timescale=0.5)
    fit = model.fit(data, max_iterations=40, **QUICK)
    trivial = float(fit.model.emission.trivial_log_likelihood(data).sum())
    assert float(fit.log_likelihood().sum()) > trivial
    assert all(np.isfinite(value).all() for value in fit.sites.values())
    assert "log_timescale" not in fit.sites
    states = flow_field(fit, n_points=5)["states"].values
    assert np.isnan(states[:9, 20:]).all()
    assert np.isfinite(states[:, :20]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_latents": 0}, "n_latents counts at least 1, not 0"), ({"depth": 0}, "depth counts at least 1"),
        ({"timescale": -1.0}, "timescale is a positive number of seconds, not -1"),
        ({"emission": mrgp.AutocorrelatedGaussian()}, "NeuralODE takes the bins of a trial as independent given eta"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        NeuralODE(**settings)


# --- dynamics


def known(velocity, states, n_states=2, step=None):
    """Something like a fit, of a model whose dynamics are known; and states."""
    model = SimpleNamespace(learned_dynamics=lambda layout, sites: Dynamics(velocity, n_states, step))
    return SimpleNamespace(model=model, layout=None, sites={}), np.asarray(states)


def two_wells(z):
    x, y = z[..., 0], z[..., 1]
    return jnp.stack([x - x**3, -2 * y], -1)


def test_fixed_points_and_their_stability_are_found():
    fit, states = known(two_wells, RNG.uniform(-1.5, 1.5, (10, 20, 2)))
    found = fixed_points(fit, states=states)
    order = np.argsort(found["place"].values[:, 0])
    np.testing.assert_allclose(found["place"].values[order], [[-1, 0], [0, 0], [1, 0]], atol=1e-5)
    assert found["stability"].values[order].tolist() == ["stable", "saddle", "stable"]
    np.testing.assert_allclose(found["growth"].values[order], [[-2, -2], [1, -2], [-2, -2]], atol=1e-4)
    np.testing.assert_allclose(found["timescale"].values[order][1], [1, 0.5], rtol=1e-4)
    assert found["reached"].sum() <= 100
    # Where no states were, none is told of.
    some = fixed_points(fit, states=states[states[..., 0] > 0.7].reshape(1, -1, 2), reach=0.5)
    np.testing.assert_allclose(some["place"], [[1, 0]], atol=1e-5)


def test_an_unstable_spiral_and_a_step_from_bin_to_bin():
    turn = 2 * np.pi * 3.0   # radians per second, 3 Hz
    A = np.array([[0.5, -turn], [turn, 0.5]])
    fit, states = known(lambda z: z @ jnp.asarray(A.T), RNG.standard_normal((4, 25, 2)))
    found = fixed_points(fit, states=states)
    assert found["stability"].values.tolist() == ["unstable"]
    np.testing.assert_allclose(found["growth"], [[0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(found["frequency"], [[3.0, 3.0]], rtol=1e-6)
    # The same flow as steps of 20 ms: as a flow of its velocities it would grow far faster.
    step = 0.02
    matrix = np.exp(0.5 * step) * np.array([
        [np.cos(turn * step), -np.sin(turn * step)], [np.sin(turn * step), np.cos(turn * step)],
    ])  # fmt: skip
    fit, _ = known(lambda z: (z @ jnp.asarray(matrix.T) - z) / step, states, step=step)
    found = fixed_points(fit, states=states)
    np.testing.assert_allclose(found["growth"], [[0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(found["frequency"], [[3.0, 3.0]], rtol=1e-6)


def test_a_flow_field_is_the_flow_in_the_plane():
    states = RNG.standard_normal((5, 40, 3)) * [3.0, 1.0, 0.01]
    rates = jnp.array([-1.0, 2.0, 0.0])
    fit, states = known(lambda z: z * rates, states, 3)
    field = flow_field(fit, states=states, n_points=7)
    axes, center = field["axes"].values, field["center"].values
    np.testing.assert_allclose(np.abs(axes), [[1, 0, 0], [0, 1, 0]], atol=0.1)
    at = center + field["first"].values[2] * axes[0] + field["second"].values[5] * axes[1]
    np.testing.assert_allclose(field["velocity"].values[5, 2], axes @ (at * rates), rtol=1e-6)
    assert float(field["speed"][5, 2]) == pytest.approx(float(np.linalg.norm(at * rates)))
    np.testing.assert_allclose(field["states"].values[1, 3], axes @ (states[1, 3] - center))
    assert float(field["share"].sum()) == pytest.approx(1, abs=1e-3)


def test_questions_without_an_answer_are_refused(made):
    fit, states = known(lambda z: -z, RNG.standard_normal((2, 5, 1)), 1)
    with pytest.raises(ValueError, match="dynamics of one state have no plane"):
        flow_field(fit, states=states)
    with pytest.raises(ValueError, match=r"states have shape \(2, 5, 3\), but the dynamics are of \(trial, time, 1\)"):
        fixed_points(fit, states=np.ones((2, 5, 3)))
    with pytest.raises(ValueError, match="GPFA has no learned dynamics"):
        GPFA(1).learned_dynamics(made.data.layout, {})
