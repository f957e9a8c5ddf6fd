"""Simulations of every model: what its program draws against the same written by hand, and what is refused."""

import numpy as np
import oracles
import pytest
from mrgp.models import ADM, DLAG, FA, GFA, GPFA, LDS, MDLAG, PCCA

from mrgp.simulations.simulate import MAX_POINTS, Simulation, simulate

BIN, N_TRIALS, N_BINS = 0.02, 3000, 6
SIZE = {"regions": {"A": 2, "B": 2}, "n_bins": N_BINS, "bin_width": BIN}
TIMES = {"timescale_across": 0.05, "timescale_within": [0.03, 0.08]}
LATE = {"delay": 0.03, "timescale_across": 0.05}


def by_hand(made: Simulation, model, rng, within=((), ()), correlation=oracles.squared_exponential, **changes):
    """C x + d of models with delayed latents, (trial, time, neuron), at the simulation's parameters."""
    n_regions = model.assignment(made.data.layout).n_regions
    bins = made.truth["timescale_across"].values / BIN
    told = {
        "n_neurons": [4] if n_regions == 1 else [2, 2],
        "loadings": made.sites["loadings"],
        "offset": made.sites["offset"],
        "delay": made.truth["delay"].values[:n_regions] / BIN,
        "across": np.where(bins > 0, bins, 1.0),
        "within": within,
        "gp_noise": model.gp_noise,
        "correlation": correlation,
    }
    return oracles.delayed(rng, N_TRIALS, N_BINS, **(told | changes))


def with_noise(eta, made, rng, phi=0.0):
    """Values around eta, with the simulation's noise."""
    return eta + np.sqrt(made.sites["noise"]) * oracles.remembered(rng, eta.shape, phi)


def flat(values):
    return np.reshape(values, (len(values), -1))


GAUSSIAN = {   # model, sites, timescales of private latents in bins, region by region, correlation
    "dlag": (DLAG(1, 1, gp_noise=0.05), LATE | TIMES, ([1.5], [4.0]), oracles.squared_exponential),
    "adm": (ADM(1, 0), {"delay": 0.01, "delay_spread": 0.03} | TIMES, ((), ()), oracles.squared_exponential),
    "mdlag": (MDLAG(1, 0), LATE, ((), ()), oracles.squared_exponential),
    "gpfa": (GPFA(2), {"timescale_across": [0.05, 0.02]}, ((),), oracles.squared_exponential),
    "fa": (FA(2), {}, ((),), oracles.white),
    "pcca": (PCCA(1, 1), {}, ([1.0], [1.0]), oracles.white),
    "gfa": (GFA(2), {}, ((), ()), oracles.white),
}


@pytest.mark.parametrize("name", GAUSSIAN)
def test_gaussian_values_have_the_moments_of_those_drawn_by_hand(name):
    model, sites, within, correlation = GAUSSIAN[name]
    sites = {site: value for site, value in sites.items() if site != "timescale_within" or any(within)}
    made = simulate(model, sites=sites, n_trials=N_TRIALS, snr=2.0, seed=1, **SIZE)
    rng = np.random.default_rng(2)
    values = with_noise(by_hand(made, model, rng, within, correlation), made, rng)
    oracles.assert_same_moments(flat(made.data.values), flat(values))
    if name not in ("dlag", "adm"):
        return
    off = made.truth["delay"].values / BIN
    assert name == "dlag" or np.ptp(off[1]) > 0.2   # a bin of delay would be seen
    off[1] += 1.0
    other = with_noise(by_hand(made, model, rng, within, correlation, delay=off), made, rng)
    with pytest.raises(AssertionError):
        oracles.assert_same_moments(flat(made.data.values), flat(other))


def test_delays_on_a_course_have_the_moments_of_those_drawn_by_hand():
    shape = {"delay": [[0], [0.05]], "delay_shape": "box", "shape_parameters": {"center": 0.7, "width": 0.5}}
    made = simulate(n_across=1, n_within=0, **shape, timescale_across=0.05, n_trials=N_TRIALS, snr=2.0, **SIZE)
    assert set(made.truth["delay"].values[1, 0].tolist()) == {0.0, 0.05}
    rng = np.random.default_rng(2)
    values = with_noise(by_hand(made, DLAG(1, 0), rng), made, rng)
    oracles.assert_same_moments(flat(made.data.values), flat(values))


def test_noise_that_remembers_has_the_moments_of_noise_drawn_by_hand():
    model, sites = DLAG(1, 0, noise="ar1", gp_noise=0.2), LATE | {"noise_timescale": [0.05, 0.01]}
    made = simulate(model, sites=sites, n_trials=N_TRIALS, **SIZE)
    assert made.truth["noise_timescale"].attrs["units"] == "s"
    rng, phi = np.random.default_rng(2), np.exp(-BIN / np.array([0.05, 0.01]))
    values = with_noise(by_hand(made, model, rng, phi=phi), made, rng, np.repeat(phi, 2))
    oracles.assert_same_moments(flat(made.data.values), flat(values))
    with pytest.raises(AssertionError):
        oracles.assert_same_moments(flat(made.data.values), flat(with_noise(by_hand(made, model, rng), made, rng)))


@pytest.mark.slow
@pytest.mark.parametrize("emission", ["poisson", "negative_binomial"])
def test_counts_have_the_moments_of_counts_drawn_by_hand(emission):
    model = DLAG(1, 0, emission=emission)
    sites = LATE | ({} if emission == "poisson" else {"dispersion": 0.3})
    made = simulate(model, sites=sites, n_trials=N_TRIALS, snr=0.4, noise=0.5, offset=0.3, **SIZE)
    assert "noise" not in made.truth
    rng = np.random.default_rng(2)
    rate = np.exp(by_hand(made, model, rng))
    expected = rate.mean((0, 1))
    if emission == "negative_binomial":
        rate = rate * rng.gamma(1 / 0.3, 0.3, rate.shape)
    oracles.assert_same_moments(flat(made.data.values), flat(1.0 * rng.poisson(rate)))
    # A noise of 0.5 stands for a mean count of 2, times the exponential of 0.3 of the numbers that offsets are.
    known = simulate(model, sites=sites, n_trials=1, snr=0.4, noise=0.5, offset=0.0, **SIZE)
    power = (known.sites["loadings"] ** 2).sum(1)
    np.testing.assert_allclose(np.exp(known.sites["offset"] + 0.5 * power), 2.0)
    np.testing.assert_allclose(made.data.values.mean((0, 1)), expected, rtol=0.1)
    assert [power[own].sum() for own in (slice(2), slice(2, 4))] == pytest.approx([0.4, 0.4])   # 0.4 of noise 2 x 0.5


def test_a_mean_of_its_own_for_every_condition():
    model = DLAG(1, 0, mean="psth", mean_timescale=0.06)
    made = simulate(model, sites=LATE, n_trials=2 * N_TRIALS, conditions=("right", "left"), **SIZE)
    condition = made.truth["condition_of_trial"].values
    assert condition[:3].tolist() == ["left", "right", "left"]
    np.testing.assert_array_equal(made.data.trial_coords["condition"], condition)
    assert made.truth["mean_change"].dims[:2] == ("condition", "neuron")
    course = model.tables.mean(made.sites, made.data)   # (condition, time, neuron)
    assert np.abs(course[0] - course[1]).max() > 0.3
    rng = np.random.default_rng(2)
    for number, name in enumerate(made.truth["condition"].values):
        values = with_noise(by_hand(made, model, rng, offset=course[number]), made, rng)
        oracles.assert_same_moments(flat(made.data.values[condition == name]), flat(values))


@pytest.mark.parametrize("start", ["stationary", "learned"])
def test_a_linear_system_has_the_moments_of_one_drawn_by_hand(start):
    made = simulate(LDS(2, start=start), n_trials=N_TRIALS, snr=2.0, seed=3, **SIZE)
    sites, rng, eye = made.sites, np.random.default_rng(2), np.eye(2)
    A = sites["transition"]
    if start == "stationary":
        system = {"process_noise": eye - A @ A.T, "start_mean": np.zeros(2), "start_covariance": eye}
    else:
        known = sites["start_root"] @ sites["start_root"].T + 1e-6 * eye
        system = {"process_noise": eye, "start_mean": sites["start_mean"], "start_covariance": known}
        assert np.abs(np.linalg.eigvals(A)).max() < 1
    emission = {"loadings": sites["loadings"], "offset": sites["offset"]}
    eta = oracles.linear(rng, N_TRIALS, N_BINS, transition=A, **emission, **system)
    oracles.assert_same_moments(flat(made.data.values), flat(with_noise(eta, made, rng)))
    np.testing.assert_array_equal(made.truth["across"], made.truth["readouts"])   # its latents are its states


# --- what a simulation says


def test_the_call_without_a_model_is_the_program_of_dlag():
    plain = simulate(n_across=1, n_within=(1, 0), n_trials=4, seed=6, **SIZE)
    model = DLAG(1, (1, 0), max_delay=0.2)
    same = simulate(model, sites=plain.sites, n_trials=4, seed=6, **SIZE)
    np.testing.assert_allclose(same.data.values, plain.data.values, atol=1e-9)
    for name in plain.truth.data_vars:
        np.testing.assert_allclose(same.truth[name], plain.truth[name], atol=1e-9)
    moved = simulate(model, sites={**plain.sites, "delay": -plain.sites["delay"]}, n_trials=4, seed=6, **SIZE)
    assert np.abs(moved.data.region("B") - plain.data.region("B")).max() > 0.1
    np.testing.assert_allclose(moved.data.region("A"), plain.data.region("A"), atol=1e-6)


def test_parameters_that_are_given_are_kept_and_others_follow_them():
    made = simulate(DLAG(2, 0), sites={"delay": [[0.02, -0.01]], "noise": 0.25}, snr=2.0, n_trials=2, **SIZE)
    np.testing.assert_array_equal(made.truth["delay"], [[0, 0], [0.02, -0.01]])
    np.testing.assert_array_equal(made.sites["noise"], np.full(4, 0.25))
    power = (made.sites["loadings"] ** 2).sum(1)
    assert [power[:2].sum(), power[2:].sum()] == pytest.approx([1.0, 1.0])   # twice the noise of two neurons
    relevant = simulate(MDLAG(2, 0), shared_by=[[1, 1], [1, 0]], n_trials=2, **SIZE)
    loadings, alpha = relevant.sites["loadings"], relevant.sites["alpha"]
    np.testing.assert_allclose(alpha[0], 1 / (loadings[:2] ** 2).mean(0))
    np.testing.assert_allclose(alpha[1], [1 / (loadings[2:, 0] ** 2).mean(), 1e6 * alpha[1, 0]])
    within = [0.03, 0.3]
    prior = simulate(GPFA(40, timescale_bounds=within), n_trials=1, regions={"A": 50}, n_bins=2).truth
    assert within[0] < prior["timescale_across"].min() < 0.05 < 0.2 < prior["timescale_across"].max() < within[1]


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (DLAG(1, 0), {"n_across": 2, "gp_noise": 0.1}, "n_across, gp_noise: the model says that, or its sites do"),
        (DLAG(1, 0), {"delay": [[0], [0.1]]}, "delay: the model says that"),
        (DLAG(1, 0), {"sites": {"lag": 0.1}}, "DLAG has no parameters lag; it has delay, loadings, noise, offset"),
        (DLAG(1, 0), {"sites": {"delay": [0.1, 0.2]}}, r"DLAG: delay must be a number or of shape \(1, 1\)"),
        (DLAG(1, 0), {"sites": {"delay": 5.0}}, "DLAG: delay has values that its prior excludes"),
        (DLAG(1, 0), {"sites": {"timescale_across": -1.0}}, "timescale_across has values that its prior excludes"),
        (DLAG(1, (1, 1, 1)), {}, "is for 3 regions"),
        (GPFA(1), {"n_bins": MAX_POINTS + 1}, "n_bins = 4001 is too long to draw exactly"),
        (GPFA(1), {"snr": [1.0, 2.0, 3.0]}, r"snr has shape \(3,\): give one number, or 2"),
        (None, {"sites": {"delay": 0.1}}, "sites are those of a model"),
    ],
)
def test_what_is_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(model, **({"n_trials": 2} | SIZE | arguments))
