"""Drift over a session: its process against the dense Gaussian process, and models that have it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from mrgp.models import LFADS, MRLFADS, NeuralODE
from numpyro import handlers

import mrgp
from mrgp.inference.amortised_bound import terms
from mrgp.inference.amortised_parameters import first_values
from mrgp.parts.drift import NoDrift, SlowDrift

BIN = 0.02
LATENTS = "initial", "inputs", "innovations", "message_noise"
SESSION = jnp.array([0.0, 100.0])
LFADS_ = LFADS(n_factors=2, n_states=3, n_initial=2, n_inputs=1, width=4)
NODE = NeuralODE(n_latents=2, width=4, depth=1, reader=4)
REGIONS = MRLFADS(2, 3, 1, 1, 2, width=4)


COMPILED = jax.jit(terms, static_argnums=0)


def counts(n_trials=12, n_bins=6, seed=0):
    return np.random.default_rng(seed).poisson(1.0, (n_trials, n_bins, 3))


@pytest.mark.slow_cases("0.2")
@pytest.mark.parametrize("timescale", [0.05, 0.2, 1.0])
def test_modes_are_the_dense_process_wherever_trials_are(timescale):
    """Covariance of the sines against the kernel, over the whole session: off by 1e-3 of the variance at most."""
    drift = SlowDrift(1, timescale, spread=1.7)
    places = np.linspace(0, 100, 81)
    modes = np.asarray(drift.modes(jnp.asarray(places), SESSION))
    assert modes.shape[1] == drift.n_modes
    dense = 1.7**2 * np.exp(-np.subtract.outer(places, places) ** 2 / (2 * (100 * timescale) ** 2))
    np.testing.assert_allclose(modes @ modes.T, dense, atol=1e-3 * 1.7**2)


def test_drift_is_zero_beyond_the_session_and_where_the_place_is_not_known():
    drift = SlowDrift(timescale=0.1)
    far = drift.modes(jnp.array([-1e4, 160.0, np.nan, 50.0]), SESSION)
    np.testing.assert_allclose(far[:3], 0.0, atol=1e-12)
    assert np.abs(far[3]).max() > 0.1
    one = drift.modes(jnp.array([7.0]), jnp.array([7.0, 7.0]))  # a session of one trial
    assert np.isfinite(one).all()


def test_trials_keep_their_places_and_start_times_take_their_part():
    data = mrgp.MultiRegionData({"V1": counts()}, BIN)
    np.testing.assert_array_equal(data.trial_place, np.arange(12.0))
    some = data.select_trials([7, 2, 9]).select_trials([2, 0])
    np.testing.assert_array_equal(some.trial_place, [9.0, 7.0])
    np.testing.assert_array_equal(some.without({"V1": [0]}).trial_place, [9.0, 7.0])
    np.testing.assert_array_equal(some.batch(jnp.array([1, 1])).trial_place, [7.0, 7.0])
    started = mrgp.MultiRegionData({"V1": counts()}, BIN, trial_coords={"start_time": 3.5 * np.arange(12) ** 2})
    np.testing.assert_array_equal(started.select_trials([3, 1]).trial_place, [31.5, 3.5])
    there = jax.jit(lambda recording: recording.trial_place)(started)
    np.testing.assert_array_equal(there, started.trial_place)
    named = mrgp.MultiRegionData({"V1": counts()}, BIN, trial_coords={"start_time": ["noon"] * 12})
    np.testing.assert_array_equal(named.trial_place, np.arange(12.0))
    assert data.fingerprint == named.fingerprint


@pytest.mark.parametrize(
    "model",
    [pytest.param(LFADS_, marks=pytest.mark.slow), NODE, pytest.param(REGIONS, marks=pytest.mark.slow)],
    ids=["lfads", "neuralode", "mrlfads"],
)
def test_what_neurons_read_is_off_by_the_drift_of_the_trial(model):
    """The program's log-rates and latents with and without, for all trials and for two of them."""
    values = counts()
    data = mrgp.MultiRegionData({"V1": values[..., :2], "V2": values[..., 2:]}, BIN)
    slow = model.replace(drift=SlowDrift(2, 0.3))
    first = first_values(slow, data, random.key(0))
    rng = np.random.default_rng(1)
    weights = rng.normal(size=first.shared["drift_weight"].shape)
    values = first._replace(shared={**first.shared, "drift_weight": jnp.asarray(weights)})

    def run(model, data, latents=()):
        def traced(data):
            seeded = handlers.substitute(handlers.seed(model, random.key(2)), data={**values.all, **dict(latents)})
            run = handlers.trace(seeded).get_trace(data)
            return {name: site["value"] for name, site in run.items() if site["type"] != "param"}

        return jax.jit(traced)(data)

    with_ = run(slow, data)
    without = run(model, data, {name: with_[name] for name in LATENTS if name in with_})
    assert not {"drift", "drift_weight"} & without.keys()
    o = np.asarray(slow.drift.modes(jnp.arange(12.0), jnp.array([0.0, 11.0]))) @ weights.T
    np.testing.assert_allclose(with_["drift"], o, atol=1e-5)
    assert np.abs(o).max() > 0.3
    D = np.asarray(values.networks["drift_loadings$params"].weight)
    np.testing.assert_allclose(with_["latents"], without["latents"], atol=1e-6)
    more = np.broadcast_to((o @ D.T)[:, None], (12, 6, 3))
    np.testing.assert_allclose(with_["eta"] - without["eta"], more, atol=1e-5)
    two = run(slow, data.select_trials([8, 3]))
    np.testing.assert_allclose(two["drift"], o[[8, 3]], atol=1e-5)
    found = COMPILED(slow, values, data.in_batches_of(5), random.key(3))
    assert np.isfinite(np.array(found)).all()


@pytest.mark.slow
def test_without_drift_nothing_is_other_than_it_was():
    """The bound and all parameters of a model that does not say so, and of one that says "none"."""
    data = mrgp.MultiRegionData({"V1": counts()}, BIN)
    for model in (LFADS_, NODE):  # MRLFADS enters it as LFADS does
        assert model.drift == NoDrift()
        shifted = mrgp.MultiRegionData({"V1": counts()}, BIN, trial_coords={"start_time": np.full(12, np.nan)})
        first, other = (first_values(model.replace(drift="none"), one, random.key(0)) for one in (data, shifted))
        assert not any("drift" in name or "session" in name for name in first.all)
        np.testing.assert_array_equal(*(COMPILED(model, first, one, random.key(1)) for one in (data, shifted)))
        assert jax.tree.structure(first) == jax.tree.structure(other)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="drift is 'none' or 'slow', not 'fast'"):
        LFADS(drift="fast")
    with pytest.raises(ValueError, match="n_factors of drift counts at least 1, not 0"):
        SlowDrift(0)
    with pytest.raises(ValueError, match="spread of drift is a positive number, not 0"):
        SlowDrift(spread=0)
    with pytest.raises(ValueError, match=r"timescale of drift is a share of the session from 0.005 on, not 0.001"):
        SlowDrift(timescale=0.001)


def drifting(n_trials=120, n_bins=20, n_neurons=20, seed=0):
    """Counts of neurons that read two oscillations of each trial's own phase, and drift along a third direction.

    Returns the recording, and the drift of each trial (trial,).
    """
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (n_trials, 1))
    waves = np.stack([np.sin(np.arange(n_bins) / 4 + phase), np.cos(np.arange(n_bins) / 4 + phase)], -1)
    place = np.arange(n_trials) / n_trials
    drift = np.sin(2 * np.pi * place) + 0.7 * np.cos(4.4 * np.pi * place)
    log_rates = waves @ rng.normal(size=(2, n_neurons)) * 0.5 + drift[:, None, None] * rng.normal(size=n_neurons) * 0.6
    return mrgp.MultiRegionData({"V1": rng.poisson(np.exp(log_rates - 0.7))}, BIN), drift


QUICK = {"batch_size": 32, "warm_up": 30, "patience": 15, "shortenings": 1, "max_iterations": 250, "progress": False}
QUICK["learning_rate"] = 0.006


def explained(signals, target):
    """R2 of the best linear map from signals (trial, signal) to a target (trial,)."""
    design = np.c_[np.ones(len(target)), signals]
    rest = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return 1 - rest.var() / target.var()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
@pytest.mark.parametrize("kind", ["lfads", "neuralode"])
def test_drift_that_is_modelled_predicts_better_and_is_not_in_the_latents(kind):
    data, drift = drifting()
    order = np.random.default_rng(1).permutation(data.n_trials)
    apart = np.sort(order[90:])
    train, test = data.select_trials(np.sort(order[:90])), data.select_trials(apart)
    model = {
        "lfads": LFADS(n_factors=3, n_states=8, n_initial=6, n_inputs=0, width=24, refinement=50),
        "neuralode": NeuralODE(n_latents=3, width=24, reader=24, refinement=50),
    }[kind]
    scores, inside = {}, {}
    for name in ("none", "slow"):
        fit = model.replace(drift=name).fit(train, **QUICK)
        given = test.without({"V1": np.arange(5, 20)})  # five neurons alone tell little of a trial
        scores[name] = float(fit.log_predictive(test, given).sum())
        inside[name] = explained(fit.latents(data)["across_mean"].values.mean(1), drift)
    assert scores["slow"] > scores["none"] + 10  # nats of 30 trials
    assert inside["none"] > 0.9
    assert inside["slow"] < 0.1
    found = fit.posterior("drift", test)
    assert found["mean"].dims == ("trial", "drift_0")
    np.testing.assert_allclose(found["sd"], 0.0, atol=1e-6)
    assert explained(found["mean"].values, drift[apart]) > 0.9  # of trials that were not fitted to
