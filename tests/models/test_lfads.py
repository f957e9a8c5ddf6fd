"""LFADS: its law written out by hand, and fits of small recordings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from mrgp.models import LFADS
from numpyro import handlers

import mrgp
from mrgp.inference.amortised_bound import terms
from mrgp.inference.amortised_parameters import first_values
from mrgp.parts.networks.cells import Cell, Gated, Residual

BIN = 0.02
SMALL = {"n_factors": 2, "n_states": 4, "n_initial": 3, "width": 8}
QUICK = {"max_iterations": 60, "warm_up": 20, "learning_rate": 0.01, "patience": 60, "batch_size": 32}
QUICK["progress"] = False


def recording(n_trials=60, n_bins=20, seed=0):
    """Counts of 8 neurons in 2 regions that oscillate from a phase of each trial."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (n_trials, 1))
    waves = np.stack([np.sin(np.arange(n_bins) / 3 + phase), np.cos(np.arange(n_bins) / 3 + phase)], -1)
    counts = rng.poisson(np.exp(waves @ rng.normal(size=(2, 8)) + 0.3))
    return mrgp.MultiRegionData({"V1": counts[..., :5], "V2": counts[..., 5:]}, BIN, trial_coords={
        "condition": np.where(phase[:, 0] < np.pi, "early", "late")})  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return recording()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("dynamics", ["residual", "gru"])
def test_the_program_is_the_recursion_written_out(data, dynamics):
    """Log-rates of drawn latents, from the networks' numbers in plain NumPy."""
    model = LFADS(**SMALL, n_inputs=2, dynamics=dynamics)
    values = first_values(model, data, random.key(1))
    seeded = handlers.substitute(handlers.seed(model, random.key(2)), data=values.all)
    run = {name: site["value"] for name, site in handlers.trace(seeded).get_trace(data).items()}
    nets = values.networks
    start, out = nets["start$params"], nets["neurons$params"]
    g = np.asarray(run["initial"]) @ np.asarray(start.weight).T + np.asarray(start.bias)
    u, factors = np.asarray(run["inputs"]), []
    for t in range(data.n_bins):
        if dynamics == "residual":
            first, last = nets["cell$params"].network.layers
            hidden = np.tanh(np.concatenate([g, u[:, t]], -1) @ np.asarray(first.weight).T + np.asarray(first.bias))
            g = g + 0.1 * (hidden @ np.asarray(last.weight).T + np.asarray(last.bias))
        else:
            cell = nets["cell$params"].cell
            told = u[:, t] @ np.asarray(cell.weight_ih).T + np.asarray(cell.bias)
            own = g @ np.asarray(cell.weight_hh).T
            reset, update = (sigmoid(told[:, i * 4 : i * 4 + 4] + own[:, i * 4 : i * 4 + 4]) for i in range(2))
            new = np.tanh(told[:, 8:] + reset * (own[:, 8:] + np.asarray(cell.bias_n)))
            g = new + update * (g - new)
        g = np.clip(g, -5, 5)
        factors.append(g @ np.asarray(nets["factors$params"].weight).T)
    eta = np.stack(factors, 1) @ np.asarray(out.weight).T + np.asarray(run["offset"])
    np.testing.assert_allclose(run["eta"], eta, atol=2e-5)  # single precision, twenty steps


@pytest.mark.slow
def test_values_in_other_units_change_nothing_but_the_units():
    """The bound at the beginning, of values times a factor of each neuron: it differs by the Jacobian."""
    factors = np.array([1e-3, 0.5, 40.0, 7.0])
    values = np.random.default_rng(3).normal([0.0, 2.0, -1.0, 0.5], size=(6, 10, 4))
    model, compiled = LFADS(**SMALL, emission="gaussian"), jax.jit(terms, static_argnums=0)

    def bound(values):
        data = mrgp.MultiRegionData({"V1": values}, BIN)
        first = first_values(model, data, random.key(1))
        return [float(term) for term in compiled(model, first, data, random.key(2))]

    (plain, divergence, prior), (other, same, moved) = bound(values), bound(values * factors)
    jacobian = np.log(factors).sum()
    assert other == pytest.approx(plain - 6 * 10 * jacobian, rel=1e-5)  # networks are in single precision
    assert same == pytest.approx(divergence, rel=1e-5)
    assert moved == pytest.approx(prior - 3 * jacobian, rel=1e-6)  # a variance and an offset of every neuron


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_a_fit_is_above_each_neurons_mean_and_goes_through_files(data, tmp_path):
    fit = LFADS(**SMALL).fit(data.select_trials(slice(0, 50)), **QUICK)
    test = data.select_trials(slice(50, None))
    trivial = float(fit.model.emission.trivial_log_likelihood(test).sum())
    score = fit.log_likelihood(test)
    assert float(score.sum()) > trivial + 100  # nats of ten trials
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    assert again.model == fit.model
    np.testing.assert_allclose(again.log_likelihood(test), score, rtol=1e-9)
    hidden = fit.predict(test.without({"V2": [0, 1, 2]}))
    known = fit.predict(test)
    assert np.corrcoef(hidden.V2_mean.values.ravel(), known.V2_mean.values.ravel())[0, 1] > 0.8
    inputs = fit.posterior("inputs", test)
    assert inputs["mean"].dims == ("trial", "time", "inputs_0")
    tree = fit.to_arviz(test, n_draws=3)
    assert tree["posterior"]["latents"].sizes["draw"] == 3
    assert tree["constant_data"]["input_timescale"].dims == ("input",)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_holes_ragged_and_short_trials_silent_neurons_and_large_counts_are_taken(data):
    counts = np.array(data.floats)
    counts[..., 0] = 0  # silent
    counts[:, :, 1] *= 2000  # ten thousand spikes a bin
    counts[3, 5:9, :4] = np.nan
    counts[4, :, 5:] = np.nan
    counts[5, 3:] = np.nan  # a trial of three bins
    rough = mrgp.MultiRegionData({"V1": counts[..., :7], "V2": counts[..., 7:]}, BIN, drop_dead=None)
    fit = LFADS(**SMALL).fit(rough, **QUICK)
    assert np.isfinite(fit.log_likelihood()).all()
    assert np.isfinite(fit.predict()["V1_mean"]).all()
    one = fit.log_likelihood(rough.select_trials([5]))
    assert np.isfinite(one).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_one_trial_one_neuron_gaussian_values_and_conditions(data):
    one = mrgp.MultiRegionData({"V1": np.array(data.floats)[:1, :, :1]}, BIN)
    alone = LFADS(**SMALL).fit(one, **{**QUICK, "max_iterations": 25})
    assert np.isfinite(alone.log_likelihood()).all()
    roots = mrgp.square_root(data)
    gaussian = LFADS(**SMALL, n_inputs=0, conditions=True, emission="gaussian").fit(
        roots, **{**QUICK, "max_iterations": 25}
    )
    assert gaussian.sites["initial_center"].shape == (2, 3)
    assert gaussian.model.knows_conditions
    assert np.isfinite(gaussian.log_likelihood(roots.select_trials(slice(0, 5)))).all()


def test_dynamics_are_parts_with_names():
    assert LFADS(dynamics="residual").dynamics == Residual()
    assert LFADS(dynamics="gru").dynamics == Gated()
    wide = LFADS(dynamics=Residual(width=16, rate=0.5))
    assert type(wide).from_settings(wide.to_settings()) == wide
    with pytest.raises(ValueError, match="cell is 'residual' or 'gru', not 'lstm'"):
        LFADS(dynamics="lstm")
    with pytest.raises(ValueError, match="n_inputs counts at least 0, not -1"):
        LFADS(n_inputs=-1)
    with pytest.raises(NotImplementedError):
        Cell().make(1, 2, random.key(0))


def test_states_stay_bounded():
    step = Residual(width=4).make(0, 2, random.key(0))
    states = step(jnp.full((1, 2), 1e6), jnp.zeros((1, 0)))
    assert float(jnp.abs(states).max()) <= 5.0
