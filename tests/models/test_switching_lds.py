"""SwitchingLDS: fits whose bound never falls, states, triggers and edges, files, draws, refusals."""

import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy.special import logsumexp
from mrgp.models import SwitchingLDS

import mrgp
from mrgp.inference.run import Options
from mrgp.inference.trivial import SLACK
from mrgp.inference.variational_em.ascent import uphill
from mrgp.inference.variational_em.method import Climb, Estimate, VariationalEM
from mrgp.inference.variational_em.updates import gaussian, switches_updated, variances
from mrgp.likelihoods.switching.chain import Chain, Moments
from mrgp.likelihoods.switching.hidden_states import States
from mrgp.likelihoods.switching.posterior import Posterior, Trials
from mrgp.metrics import match_states, state_flows
from mrgp.parts.switching import SwitchingDynamics
from mrgp.plots import plot_state_flows, plot_states
from mrgp.simulations.switching import simulate_switching

SIZES = {"V1": 10, "V2": 8}
BRIEF = {"n_starts": 2, "max_iterations": 25, "progress": False, "rounds_of_starts": 8}
FALL = 1e-6  # nats, of bounds of thousands: what rounding may take

pytestmark = pytest.mark.filterwarnings("ignore:the fit has not converged", "ignore:of 2 starts the best")


def with_holes(data):
    """The recording with a missing entry, a neuron missing in a trial, and a trial that ends early."""
    arrays = {name: np.array(data.region(name)) for name in data.layout.regions}
    arrays["V1"][0, 3, 1] = arrays["V2"][2, :, 0] = np.nan
    for array in arrays.values():
        array[1, -20:] = np.nan
    return mrgp.MultiRegionData(arrays, data.bin_width)


@pytest.fixture(scope="module")
def made():
    return simulate_switching(SIZES, 2, 2, n_trials=4, n_bins=100, noise=0.6, mean_count=None, seed=2)


@pytest.fixture(scope="module")
def fit(made):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SwitchingLDS(2, 2).fit(with_holes(made.data), **BRIEF)


# --- the fit


@pytest.mark.slow
def test_the_bound_never_falls_and_is_above_the_trivial_model(fit):
    assert (np.diff(fit.trace) > -FALL).all()
    data = fit.recording()
    trivial = data.layout.total_neurons * -SLACK + mrgp.Gaussian().trivial_log_likelihood(data).sum()
    assert fit.log_likelihood().sum() > trivial
    assert fit.log_likelihood().sizes == {"trial": 4}
    assert fit.start_heights.shape == (2,)
    assert fit.method == "variational_em"
    assert fit.method_class.climbs.is_bound


@pytest.mark.slow
def test_states_are_found_with_their_probabilities(made, fit):
    states, truth = fit.states(), made.truth["states"].values
    probability, path = states["probability"].values, states["most_likely"].values
    assert (path[1, -20:] == -1).all()
    assert np.isnan(probability[1, -20:]).all()
    np.testing.assert_allclose(np.nansum(probability, -1)[path >= 0], 1.0, rtol=1e-9)
    assert match_states(truth, path).share > 0.85
    assert states["time"][1] == made.data.bin_width


@pytest.mark.slow
def test_dwell_times_are_bins_over_visits(fit):
    table, single = fit.dwell_times(), fit.states()["probability"].values
    np.testing.assert_allclose(table["share"], np.nanmean(single, (0, 1)), rtol=0.02)
    np.testing.assert_allclose(table["share"].sum(), 1.0)
    bins = np.nansum(single, (0, 1)) * fit.layout.bin_width
    np.testing.assert_allclose(table["dwell"] * table["visits"], bins, rtol=1e-9)
    assert table["dwell"].attrs["units"] == "s"


@pytest.mark.slow
def test_edges_triggers_and_effectome_are_norms_of_blocks(fit):
    of, names = fit.dynamics, ["V1", "V2"]
    A, R = np.asarray(of.matrix), np.asarray(of.enter)
    table, edges, triggers = fit.effectome(), fit.edges(), fit.triggers()
    own = {"V1": slice(0, 2), "V2": slice(2, 4)}
    for k in range(2):
        for source in names:
            norm = np.linalg.norm(R[k, own[source]])
            np.testing.assert_allclose(triggers["enter"].sel(state=k, region=source), norm, rtol=1e-9)
            for target in names:
                norm = np.linalg.norm(A[k][own[target], own[source]])
                np.testing.assert_allclose(table.sel(state=k, source=source, target=target), norm, rtol=1e-9)
    assert edges.sizes == {"state": 2, "edge": 2}
    sources, targets = edges["source_of_edge"].values, edges["target_of_edge"].values
    for e, (source, target) in enumerate(zip(sources, targets, strict=True)):
        np.testing.assert_allclose(edges["norm"][:, e], table.sel(source=source, target=target), rtol=1e-9)
        x, z = fit.latents()["within_mean"].values, fit.states()["probability"].values
        for k in range(2):  # step after step, by the state that the step leads into
            steps = [(x[b, t - 1, own[source]], z[b, t, k]) for b in range(4) for t in range(1, 100)
                     if not np.isnan(z[b, t, k])]  # fmt: skip
            moved, weight = np.array([A[k][own[target], own[source]] @ x for x, _ in steps]), [w for _, w in steps]
            around = moved - np.average(moved, 0, weight)
            expected = np.sqrt(np.average((around**2).sum(1), weights=weight))
            np.testing.assert_allclose(edges["effect"][k, e], expected, rtol=1e-6)
    np.testing.assert_allclose(edges["share"], 1.0, rtol=1e-9)  # one edge into each of two regions
    assert (triggers["enter_effect"] > 0).all()


@pytest.mark.slow
def test_latents_and_predictions_have_the_recordings_shape(fit):
    latents, predicted = fit.latents(), fit.predict()
    assert list(latents["within_latent"].values) == ["V1:0", "V1:1", "V2:0", "V2:1"]
    assert (latents["within_sd"] > 0).all()
    seen = fit.recording().with_nan()
    rest = seen - np.concatenate([predicted[f"{name}_mean"].values for name in SIZES], -1)
    assert np.nanvar(rest) < np.nanvar(seen - np.nanmean(seen, (0, 1)))
    with pytest.raises(ValueError, match="SwitchingLDS has no latents between bins: use refine=1"):
        fit.latents(refine=2)


@pytest.mark.slow
def test_a_hidden_neuron_is_predicted_from_the_others(fit):
    scores = mrgp.metrics.cosmoothing(fit, fit.recording(), {"V1": [0, 1], "V2": [2]})
    assert (scores["r2"] > 0.1).all()


@pytest.mark.slow
def test_it_is_saved_loaded_and_converted(fit, tmp_path):
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    assert again.model == fit.model
    np.testing.assert_array_equal(again.start_heights, fit.start_heights)
    np.testing.assert_allclose(again.log_likelihood(fit.data), fit.log_likelihood(), rtol=1e-9)
    tree = fit.to_arviz(n_draws=3)
    assert tree["posterior"]["latents"].dims == ("chain", "draw", "trial", "time", "within_latent")
    assert tree["constant_data"]["state_matrix"].dims == ("state", "within_latent_after", "within_latent")
    assert "bound" in fit.summary()


@pytest.mark.slow
def test_recordings_are_drawn_from_it(fit):
    drawn = mrgp.simulate_from(fit, n_trials=3, n_bins=20, seed=1)
    assert drawn.data.values.shape == (3, 20, 18)
    assert set(np.unique(drawn.truth["hidden_states"])) <= {0, 1}
    read = fit.conditional(drawn.data).law.system.loadings
    eta = drawn.truth["latents"].values @ np.asarray(read).T + fit.sites["offset"]
    np.testing.assert_allclose(drawn.truth["eta"], eta, rtol=1e-9)
    mean, variance = fit.conditional().moments()
    assert mean.shape == variance.shape == fit.recording().values.shape
    assert (variance > 0).all()


@pytest.mark.slow
def test_figures_are_drawn(fit, agg, tmp_path):
    flows = state_flows(fit)
    A, b = np.asarray(fit.dynamics.matrix), np.asarray(fit.dynamics.drift)
    assert flows["velocity"].shape == (2, 15, 15, 2)
    assert A.shape == (2, 4, 4)
    assert b.shape == (2, 4)
    for figure in (plot_states(fit.states(), 1), plot_states(fit.states().isel(trial=[0])), plot_state_flows(flows)):
        figure.canvas.draw()
    names = {path.stem for path in mrgp.plots.save_figures(fit, tmp_path)}
    assert {"states", "state_flows", "convergence", "reconstruction"} <= names


@pytest.mark.slow
def test_it_goes_on_from_a_fit(fit):
    again = fit.model.fit(fit.data, start=fit, max_iterations=3, progress=False)
    assert again.trace[-1] > fit.trace[-1] - 1.0  # its posterior begins anew


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        SwitchingLDS(2, 1, recurrent=False, emission="poisson"), SwitchingLDS(3, (2, 1), emission="negative_binomial"),
        SwitchingLDS(1, 2, emission="poisson"),
    ],
    ids=repr,
)  # fmt: skip
def test_of_counts_the_bound_never_falls(model):
    made = simulate_switching(SIZES, 2, 2, n_trials=6, n_bins=80, noise=0.5, mean_count=1.0, seed=3)
    fit = model.fit(with_holes(made.data), **BRIEF | {"max_iterations": 30})
    assert (np.diff(fit.trace) > -FALL).all()
    predicted = fit.predict()
    assert np.isfinite(predicted["V1_mean"]).all()
    needed = model.emission.trivial_log_likelihood(fit.data).sum() - SLACK * 18
    assert fit.log_likelihood().sum() > needed


@pytest.mark.slow
def test_one_region_of_one_neuron_and_one_trial_is_fitted():
    values = np.random.default_rng(0).normal(0, 1, (1, 60, 1)).cumsum(1)
    fit = SwitchingLDS(2, 1).fit(mrgp.MultiRegionData({"A": values}, 0.02), **BRIEF | {"max_iterations": 20})
    assert (np.diff(fit.trace) > -FALL).all()
    assert fit.effectome().sizes == {"state": 2, "source": 1, "target": 1}
    assert fit.edges().sizes["edge"] == 0


# --- pieces of its updates


def test_a_newton_step_never_leads_down():
    rows = jnp.asarray(np.random.default_rng(0).normal(0, 2, (8, 3)))

    def height(x):
        return -logsumexp(rows @ x["a"] + x["b"]) - 0.1 * (x["a"] ** 2).sum() + 3 * x["b"] - 0.5 * x["b"] ** 2

    x, heights = {"a": jnp.asarray([9.0, -4.0, 2.0]), "b": jnp.asarray(5.0)}, []
    step = jax.jit(lambda x: uphill(height, x))
    for _ in range(12):
        x = step(x)
        heights.append(float(height(x)))
    assert (np.diff(heights) >= 0).all()
    slope = jax.grad(height)(x)
    assert all(np.abs(part).max() < 1e-5 for part in slope.values())


@pytest.mark.slow
def test_the_populations_that_call_states_are_found_where_states_are_known():
    sizes, n_trials, n_bins = {"A": 2, "B": 2, "C": 2}, 30, 400
    made = simulate_switching(sizes, 2, 3, n_trials=n_trials, n_bins=n_bins, mean_count=None, trigger=0.3, seed=0)
    truth, x = made.truth, jnp.asarray(made.truth["latents"].values)
    single = jax.nn.one_hot(truth["states"].values, 3)
    states = States(single, single[:, :-1, :, None] * single[:, 1:, None])
    flat = jnp.zeros((*x.shape, x.shape[-1]))
    none = jnp.zeros(n_trials)
    posterior = Posterior(Chain(flat, flat, x), Moments(x, flat, flat, none), states, none)
    seen = jnp.ones((n_trials, n_bins))
    some = Trials(x, jnp.ones_like(x), seen)
    names = ("state_matrix", "state_drift", "switch_logits", "enter_weights", "stay_weights")
    parts = [jnp.asarray(truth[name].values) for name in names]
    of = SwitchingDynamics(*parts[:2], *(0 * part for part in parts[2:]), jnp.ones(3) / 3, jnp.zeros(6), jnp.ones(6))
    fields = "logits", "enter", "stay"
    priors = {field: gaussian(dist.Normal(0.0, 3.0), getattr(of, field).shape) for field in fields}
    step = jax.jit(lambda of: switches_updated(of, priors, posterior, some))
    for _ in range(15):
        of = step(of)
    enter = np.asarray(of.enter - of.enter.mean(0)).reshape(3, 3, 2)  # what calls all states alike is no call
    assert np.linalg.norm(enter, axis=-1).argmax(1).tolist() == [0, 1, 2]
    true = parts[3] - parts[3].mean(0)
    # Some 600 switches: weights err by a tenth, where the true ones have a norm of 0.3.
    assert np.corrcoef(enter.ravel(), true.ravel())[0, 1] > 0.8


def test_variances_are_the_most_likely_ones():
    class Prior:
        scale = 0.7
        variance = scale**2 * (1 - 2 / np.pi)

    squares, count = np.array([0.2, 3.0, 40.0]), 12.0
    grid = np.linspace(1e-3, 6, 400001)
    found = variances(jnp.asarray(squares), jnp.asarray(count), Prior)
    for value, square in zip(found, squares, strict=True):
        density = -0.5 * count * np.log(grid) - 0.5 * square / grid - 0.5 * (grid / Prior.scale) ** 2
        np.testing.assert_allclose(value, grid[density.argmax()], atol=3e-5)


def test_states_are_matched_in_the_best_order():
    truth = np.array([[0, 0, 1, 2], [2, 1, 1, 0]])
    found = np.array([[1, 1, 2, 0], [0, 2, 1, -1]])
    matched = match_states(truth, found)
    assert matched.order.tolist() == [1, 2, 0]
    assert matched.share == pytest.approx(6 / 7)
    with pytest.raises(ValueError, match="states are of shape"):
        match_states(truth, found[0])


def test_the_simulation_has_the_truth_that_it_says(made):
    truth = made.truth
    states, x = truth["states"].values, truth["latents"].values
    A, b = truth["state_matrix"].values, truth["state_drift"].values
    pushed = x[:, 1:] - np.einsum("btij,btj->bti", A[states[:, 1:]], x[:, :-1]) - b[states[:, 1:]]
    np.testing.assert_allclose(pushed.std(), 1.0, atol=0.1)  # 1584 numbers: five standard errors are 0.09
    blocks = A.reshape(2, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4)
    assert ((np.abs(blocks).sum((-1, -2)) > 0) == truth["coupled"].values).all()
    assert (np.abs(np.linalg.eigvals(A)).max(-1) < 1).all()
    with pytest.raises(ValueError, match="n_states counts at least 1, not 0"):
        simulate_switching(n_states=0)


# --- refusals


@pytest.mark.slow
def test_settings_that_mean_nothing_are_refused(made, fit):
    with pytest.raises(ValueError, match="SwitchingLDS: n_states counts at least 1, not 0"):
        SwitchingLDS(0)
    with pytest.raises(ValueError, match="SwitchingLDS: n_within counts at least 1 in every region"):
        SwitchingLDS(2, (1, 0))
    with pytest.raises(ValueError, match="whose bins are independent given latents: use emission='gaussian'"):
        SwitchingLDS(2, 1, emission=mrgp.AutocorrelatedGaussian())
    with pytest.raises(ValueError, match="is for 3 regions, but the recording has 2 \\(V1, V2\\)"):
        SwitchingLDS(2, (1, 1, 1)).fit(made.data)
    with pytest.raises(ValueError, match="method 'variational_em' updates every parameter"):
        SwitchingLDS(2, 1).fit(made.data, fixed={"offset": 0.0})
    with pytest.raises(ValueError, match="start is of another model: state_matrix is"):
        SwitchingLDS(3, 2).fit(fit.data, start=fit)
    with pytest.raises(ValueError, match="rounds_of_starts counts at least 1, not 0"):
        mrgp.VariationalEM(rounds_of_starts=0)


# --- starts


class Hills:
    """Rounds of starts that climb to heights of their own: at first the last one is the highest, in the end another."""

    ends, rates = (10.0, 30.0, 20.0, 5.0), (4.0, 0.5, 0.9, 0.01)

    def starts(self, data, options):
        return (Estimate({"number": number, "rounds": 0}, None, -np.inf) for number in range(options.n_starts))

    def onward(self, data, estimate):
        number, rounds = estimate.sites["number"], estimate.sites["rounds"] + 1
        height = self.ends[number] * (1 - np.exp(-self.rates[number] * rounds))
        return Estimate({"number": number, "rounds": rounds}, None, height)


def test_the_lower_half_of_the_starts_is_given_up_early():
    hills, options = Hills(), Options(seed=0, n_starts=4, max_iterations=1000)
    driver = types.SimpleNamespace(
        data=None, options=options, model=types.SimpleNamespace(rounds=hills), show=lambda *_: None
    )
    method, climb = VariationalEM(rounds_of_starts=9), Climb(
        model=driver.model, sites={}, tried=[], waiting=hills.starts(None, options), phase="starts"
    )  # fmt: skip
    while climb.higher != []:
        climb = method.step(driver, climb)
    assert [len(start.trace) for start in climb.tried] == [3, 9, 9, 3]  # after three rounds 1 and 2 were the highest
    assert climb.sites == {"number": 1, "rounds": 9}
    assert climb.trace == list(climb.tried[1].trace)
    assert climb.evaluations == 24
    assert climb.iterations == 9
