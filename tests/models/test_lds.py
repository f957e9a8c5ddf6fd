"""Linear dynamical systems: density and posterior against dense Gaussians, coordinates, MAP, EM, recovery."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import FA, GPFA, LDS
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import log_density, potential_energy
from oracles import best_poisson_bound
from scipy.linalg import block_diag, solve_discrete_lyapunov
from scipy.stats import multivariate_normal

import mrgp
from mrgp.families.model import Model
from mrgp.inference.density import LogJoint, transforms_of
from mrgp.inference.optimise import Objective
from mrgp.inference.start import moving_average
from mrgp.likelihoods import best_gaussian
from mrgp.likelihoods.statespace.linear import (
    START_FLOOR,
    LinearSpace,
    LinearSystem,
    first_order,
    rotated,
    slowest_first,
    stationary_covariance,
)
from mrgp.likelihoods.statespace.stable_matrices import CayleyTransform, UniformContraction, contraction
from mrgp.parts.latents import LatentLayout
from mrgp.plots import plot_latents

BIN = 0.02
STARTS = ["stationary", "learned"]
MOSTLY_LEARNED = [pytest.param("stationary", marks=pytest.mark.slow), "learned"]
TURN = 0.3  # radians per bin
SPIRAL = 0.93 * np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])


@pytest.fixture(params=STARTS)
def start(request):
    return request.param


# --- the model, written out


def random_sites(size, neurons, start, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((size, size))
    A *= (0.9 if start == "stationary" else 1.1) / np.linalg.norm(A, 2)
    sites = {
        "transition": A,
        "loadings": rng.standard_normal((neurons, size)),
        "noise": rng.uniform(0.2, 0.8, neurons),
        "offset": rng.standard_normal(neurons),
    }
    if start == "learned":
        sites |= {"start_mean": rng.standard_normal(size), "start_root": rng.standard_normal((size, size))}
    return sites


def joint(sites, n_bins):
    """Mean and covariance of states (time * state) and of observations (time * neuron), by propagating A and Q."""
    A, C = sites["transition"], sites["loadings"]
    size = len(A)
    if "start_mean" in sites:
        Q, mean = np.eye(size), sites["start_mean"]
        P = sites["start_root"] @ sites["start_root"].T + START_FLOOR * np.eye(size)
    else:
        Q, mean, P = np.eye(size) - A @ A.T, np.zeros(size), np.eye(size)
    means, blocks = [], [[np.zeros((size, size))] * n_bins for _ in range(n_bins)]
    for t in range(n_bins):
        means.append(mean)
        ahead = P
        for u in range(t, n_bins):
            blocks[u][t], blocks[t][u] = ahead, ahead.T
            ahead = A @ ahead
        mean, P = A @ mean, A @ P @ A.T + Q
    big = block_diag(*[C] * n_bins)
    m, S = np.concatenate(means), np.block(blocks)
    return m, S, big @ m + np.tile(sites["offset"], n_bins), big @ S @ big.T + np.diag(np.tile(sites["noise"], n_bins))


def recording(kind, sites, n_trials=5, n_bins=7, seed=3):
    """Random numbers of about the right size; complete, or with holes and trials of different length."""
    neurons = len(sites["noise"])
    rng = np.random.default_rng(seed)
    values = np.asarray(sites["offset"]) + 1.5 * rng.standard_normal((n_trials, n_bins, neurons))
    if kind == "holes":
        values[0, 2] = np.nan  # a missing bin
        values[1, :, 1] = np.nan  # a neuron that a trial never saw
        values[2, 4:] = np.nan  # a short trial
        values[3, 1:3, :2] = np.nan
        values[3, 6:] = np.nan
    half = neurons // 2
    return mrgp.MultiRegionData({"A": values[..., :half], "B": values[..., half:]}, BIN)


CASES = {
    "complete": (2, 5, "complete", {}),
    "holes": (2, 5, "holes", {}),
    "one_latent_one_trial": (1, 2, "complete", {"n_trials": 1}),
    "one_bin": (2, 5, "complete", {"n_bins": 1}),
}


@pytest.mark.slow_cases(
    "stationary-complete-False", "stationary-holes-True", "learned-complete-False",
    "learned-one_latent_one_trial-False",
)  # fmt: skip
@pytest.mark.parametrize(("case", "parallel"), [*((case, False) for case in CASES), ("holes", True)])
def test_log_likelihood_is_the_normal_density(case, start, parallel):
    size, neurons, kind, shape = CASES[case]
    sites = random_sites(size, neurons, start)
    data = recording(kind, sites, **shape)
    _, _, mean, covariance = joint(sites, data.n_bins)
    values = np.where(data.mask, data.values, np.nan).reshape(data.n_trials, -1)
    expected = [
        multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(y[seen])
        for y in values
        if (seen := ~np.isnan(y)).any()
    ]
    model = LDS(n_across=size, start=start, parallel=parallel)
    np.testing.assert_allclose(model.log_likelihood(data, sites), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_the_bound_of_counts_is_that_of_the_best_gaussian(start, monkeypatch):
    """Of one trial, whose q has a covariance of its own: by matrices over the whole trial."""
    monkeypatch.setattr(best_gaussian, "TOLERANCE", 1e-11)
    sites = {name: 0.7 * value for name, value in random_sites(2, 4, start).items()}
    mean, covariance, _, _ = joint(sites, 6)
    rng, big = np.random.default_rng(4), np.kron(np.eye(6), sites["loadings"])
    y = rng.poisson(2.0, (1, 6, 4)).astype(float)
    data = mrgp.MultiRegionData({"A": y[..., :2], "B": y[..., 2:]}, BIN)
    of_counts = {name: value for name, value in sites.items() if name != "noise"}
    model = LDS(2, start=start, emission="poisson")
    wanted, away = best_poisson_bound(y.ravel(), np.tile(sites["offset"], 6) + big @ mean, covariance, big)
    np.testing.assert_allclose(model.log_likelihood(data, of_counts).values, wanted, rtol=1e-8)
    q = model.likelihood_at(data, of_counts).posterior(jnp.asarray(data.values))
    for states in (q.state_mean[:, 0], q.readout_mean[0]):
        np.testing.assert_allclose(np.ravel(states), mean + away, atol=1e-5)


@pytest.mark.slow_cases("stationary")
def test_draws_of_counts_have_the_moments_of_the_model(start):
    sites = {name: 0.4 * value for name, value in random_sites(2, 4, start).items() if name != "noise"}
    mean, covariance, _, _ = joint({**sites, "noise": np.ones(4)}, 5)
    big = np.kron(np.eye(5), sites["loadings"])
    eta, power = np.tile(sites["offset"], 5) + big @ mean, np.einsum("ei,ij,ej->e", big, covariance, big)
    rate = np.exp(eta + power / 2).reshape(5, 4)
    spread = rate + rate**2 * np.expm1(power.reshape(5, 4))
    any_counts = np.random.default_rng(0).poisson(1.0, (2, 2000, 5, 2))
    data = mrgp.MultiRegionData(dict(zip("AB", any_counts, strict=True)), BIN)
    counts = LDS(2, start=start, emission="poisson").likelihood_at(data, sites)
    np.testing.assert_allclose(counts.mean[0], rate, rtol=1e-8)
    np.testing.assert_allclose(counts.variance[0], spread, rtol=1e-8)
    drawn = np.asarray(counts.sample(jax.random.key(0)))
    assert (np.abs(drawn.mean(0) - rate) < 5 * np.sqrt(spread / 2000)).all()


@pytest.mark.slow
def test_slopes_of_a_bound_of_counts_are_those_of_finite_differences(start, monkeypatch):
    monkeypatch.setattr(best_gaussian, "TOLERANCE", 1e-11)
    sites = {name: 0.7 * value for name, value in random_sites(2, 4, start).items() if name != "noise"}
    y = np.random.default_rng(4).poisson(2.0, (3, 5, 4)).astype(float)
    y[1, 3:] = np.nan
    y[2, 1, 2] = np.nan
    data = mrgp.MultiRegionData({"A": y[..., :2], "B": y[..., 2:]}, BIN)
    model = LDS(2, start=start, emission="poisson")
    objective = Objective(LogJoint(model), data, sites, {})
    objective.within = 1e-11
    at, direction = np.zeros(objective.size), np.random.default_rng(1).standard_normal(objective.size)
    up, down = (objective(at + step * direction)[0] for step in (1e-4, -1e-4))
    np.testing.assert_allclose(objective(at)[1] @ direction, (up - down) / 2e-4, rtol=1e-5)


@pytest.mark.slow
def test_a_fit_of_counts_finds_the_turn_of_their_rates(tmp_path):
    rng = np.random.default_rng(0)
    states = np.zeros((40, 60, 2))
    states[:, 0] = rng.standard_normal((40, 2))
    root = np.linalg.cholesky(np.eye(2) - SPIRAL @ SPIRAL.T)
    for t in range(59):
        states[:, t + 1] = states[:, t] @ SPIRAL.T + rng.standard_normal((40, 2)) @ root.T
    y = rng.poisson(np.exp(0.5 + states @ (0.6 * rng.standard_normal((2, 12))))).astype(float)
    data = mrgp.MultiRegionData({"A": y[..., :6], "B": y[..., 6:]}, BIN)
    fit = LDS(2, emission="poisson").fit(data, progress=False)
    values = np.linalg.eigvals(fit.sites["transition"])
    np.testing.assert_allclose(np.abs(values), 0.93, atol=0.02)
    np.testing.assert_allclose(np.abs(np.angle(values)), TURN, atol=0.03)
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_allclose(again.latents(data).across_mean, fit.latents().across_mean, atol=1e-8)
    with pytest.raises(ValueError, match="'em' has no update for emission='poisson'"):
        LDS(2, emission="poisson").fit(data, "em")


def fitted(model, data, sites):
    return mrgp.Fit(
        model=model, layout=data.layout, n_bins=data.n_bins, sites=sites, method="map", trace=np.zeros(1),
        converged=True, reason="", iterations=0, evaluations=0, wall_s=0.0, seed=0, data=data,
    )  # fmt: skip


def test_latents_are_those_of_gaussian_conditioning(start):
    sites = random_sites(2, 5, start, seed=1)
    data = recording("holes", sites)
    latents = fitted(LDS(n_across=2, start=start), data, sites).latents()
    m, S, mean, covariance = joint(sites, data.n_bins)
    big = block_diag(*[sites["loadings"]] * data.n_bins)
    for trial in range(data.n_trials):
        seen = data.mask[trial].ravel()
        weights = np.linalg.solve(covariance[np.ix_(seen, seen)], (big @ S)[seen]).T
        expected = m + weights @ (data.values[trial].ravel() - mean)[seen]
        spread = np.diag(S - weights @ (big @ S)[seen])
        np.testing.assert_allclose(latents.across_mean.values[trial].ravel(), expected, atol=1e-8)
        np.testing.assert_allclose(latents.across_sd.values[trial].ravel(), np.sqrt(spread), atol=1e-8)


def test_moments_and_draws_are_the_models(start):
    sites = random_sites(2, 5, start, seed=2)
    data = recording("complete", sites)
    _, _, mean, covariance = joint(sites, data.n_bins)
    distribution = LDS(n_across=2, start=start).likelihood_at(data, sites)
    variance = np.diag(covariance)
    np.testing.assert_allclose(distribution.mean[0].ravel(), mean, atol=1e-10)
    np.testing.assert_allclose(distribution.variance[0].ravel(), variance, rtol=1e-10)
    draws = np.asarray(distribution.sample(jax.random.key(0), (2000,))).reshape(10_000, -1)
    # Five standard errors.
    np.testing.assert_allclose(draws.mean(0), mean, atol=5 * np.sqrt(variance.max() / 10_000))
    error = 5 * np.sqrt((np.outer(variance, variance) + covariance**2) / 10_000)
    assert (np.abs(np.cov(draws.T) - covariance) < error).all()


@pytest.mark.slow
def test_posterior_draws_keep_to_the_posterior_mean():
    sites = random_sites(2, 5, "learned", seed=2)
    data = recording("complete", sites, n_trials=2)
    distribution = LDS(n_across=2, start="learned").likelihood_at(data, sites)
    _, readouts = jax.jit(lambda key, y: distribution.posterior_sample(key, y, 2000))(jax.random.key(1), data.values)
    posterior = distribution.posterior(data.values)
    sd = np.sqrt(np.diagonal(posterior.readout_covariance[0], axis1=-2, axis2=-1))
    error = np.abs(np.asarray(readouts).mean(0) - posterior.readout_mean)
    assert (error < 5 * sd / np.sqrt(2000)).all()


# --- contractions


@pytest.mark.parametrize("size", [1, 3])
def test_every_vector_is_a_contraction_and_back(size):
    x = jnp.asarray(np.random.default_rng(size).standard_normal((3, size**2)) * 1.5)
    transform = biject_to(contraction)
    assert isinstance(transform, CayleyTransform)
    A = jax.jit(lambda v: transform(v))(x)
    assert A.shape == (3, size, size)
    assert contraction(A).all()
    assert not contraction(1.001 * np.eye(size))
    np.testing.assert_allclose(jax.jit(lambda v: transform.inv(v))(A), x, atol=1e-9)
    step = 1e-6
    up, down = (jax.jit(lambda v: transform(v))(x[0] + move * np.eye(size**2)) for move in (step, -step))
    moved = (up - down) / (2 * step)
    expected = np.linalg.slogdet(moved.reshape(size**2, size**2))[1]
    got = jax.jit(lambda v: transform.log_abs_det_jacobian(v, A))(x)[0]
    assert float(got) == pytest.approx(float(expected), abs=1e-6)


def test_uniform_contractions_fill_their_volume():
    assert float(UniformContraction(1).log_prob(jnp.zeros((1, 1)))) == pytest.approx(np.log(0.5))
    rng = np.random.default_rng(0)
    box = rng.uniform(-1, 1, (20_000, 2, 2))  # the share of contractions in a box is their volume over 2^4
    share = (np.linalg.norm(box, 2, axis=(1, 2)) < 1).mean()
    volume = float(np.exp(-UniformContraction(2).log_prob(jnp.zeros((2, 2)))))
    assert abs(share - volume / 16) < 5 * np.sqrt(share * (1 - share) / 20_000)
    draws = np.asarray(UniformContraction(2).sample(jax.random.key(0), (20_000,)))
    inside = box[np.linalg.norm(box, 2, axis=(1, 2)) < 1]
    assert (np.linalg.norm(draws, 2, axis=(1, 2)) < 1).all()
    for moment in (lambda a: a[:, 0, 0] ** 2, lambda a: np.linalg.norm(a, 2, axis=(1, 2)), lambda a: a[:, 0, 1]):
        one, two = moment(draws), moment(inside)
        assert abs(one.mean() - two.mean()) < 5 * np.sqrt(one.var() / len(one) + two.var() / len(two))


# --- coordinates


def test_any_system_has_these_coordinates(start):
    rng = np.random.default_rng(5)
    A = rng.standard_normal((3, 3))
    A *= 0.95 / np.abs(np.linalg.eigvals(A)).max()  # stable, though no contraction: its norm exceeds 1
    assert np.linalg.norm(A, 2) > 1
    root = rng.standard_normal((3, 3))
    Q = root @ root.T
    P = stationary_covariance(A, Q)
    np.testing.assert_allclose(P, solve_discrete_lyapunov(A, Q), rtol=1e-10)
    system = LinearSystem(A, Q, rng.standard_normal(3), 2.0 * P)
    space = LinearSpace(LatentLayout((4,), 3, (0,)), start == "learned")
    sites, T = space.normalised(system)
    np.testing.assert_allclose(T @ sites["transition"] @ np.linalg.inv(T), A, atol=1e-10)
    if start == "stationary":
        np.testing.assert_allclose(T @ T.T, P, rtol=1e-9)
        assert contraction(jnp.asarray(sites["transition"]))
        with pytest.raises(np.linalg.LinAlgError, match="no stationary covariance"):
            space.normalised(system._replace(transition=1.1 * A))
        return
    np.testing.assert_allclose(T @ T.T, Q, rtol=1e-9)
    np.testing.assert_allclose(T @ sites["start_mean"], system.start_mean)
    covariance = sites["start_root"] @ sites["start_root"].T + START_FLOOR * np.eye(3)
    np.testing.assert_allclose(T @ covariance @ T.T, system.start_covariance, atol=1e-8)


@pytest.mark.slow_cases("stationary")
def test_rotation_changes_nothing_and_orders_the_modes(start):
    sites = random_sites(3, 5, start, seed=6)
    sites["transition"] = block_diag(0.4, 0.9 * SPIRAL / 0.93)
    data, model = recording("complete", sites), LDS(n_across=3, start=start)
    turned = rotated(sites, np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0])
    shown = model.canonical(turned, data.layout)
    for other in (turned, shown):
        np.testing.assert_allclose(
            model.log_likelihood(data, other), model.log_likelihood(data, sites), rtol=1e-9
        )
    np.testing.assert_allclose(shown["transition"][2, :2], 0.0, atol=1e-10)
    np.testing.assert_allclose(shown["transition"][2, 2], 0.4)
    U = slowest_first(turned["transition"])
    np.testing.assert_allclose(U.T @ U, np.eye(3), atol=1e-12)
    if start == "stationary":  # the priors are the same in all coordinates, too
        joints = [float(log_density(model, (data,), {}, s)[0]) for s in (sites, shown)]
        assert joints[0] == pytest.approx(joints[1], rel=1e-9)


def test_first_guess_finds_the_transition():
    rng = np.random.default_rng(0)
    s, states = rng.standard_normal((400, 2)), []
    for _ in range(50):
        states.append(s)
        s = s @ SPIRAL.T + rng.standard_normal((400, 2)) * np.sqrt(1 - 0.93**2)
    A, T = first_order(np.stack(states, 1))
    # 20000 pairs: a standard error of sqrt(1 - 0.93^2) / sqrt(20000) = 0.003 in every entry.
    np.testing.assert_allclose(T @ A @ np.linalg.inv(T), SPIRAL, atol=0.015)
    np.testing.assert_allclose(first_order(np.ones((3, 1, 2)))[0], 0.0)
    assert np.isfinite(first_order(moving_average(np.zeros((2, 4, 2)), 3))[0]).all()


# --- inference


def spiral_recording(missing=False, seed=0, n_trials=20, n_bins=40, start_mean=(0.0, 0.0)):
    """Twelve neurons that see a noisy spiral."""
    rng = np.random.default_rng(seed)
    C = rng.standard_normal((12, 2))
    s = np.asarray(start_mean) + np.sqrt(0.1 / (1 - 0.93**2)) * rng.standard_normal((n_trials, 2))
    states = []
    for _ in range(n_bins):
        states.append(s)
        s = s @ SPIRAL.T + np.sqrt(0.1) * rng.standard_normal((n_trials, 2))
    values = np.stack(states, 1) @ C.T + 0.7 * rng.standard_normal((n_trials, n_bins, 12)) + 1
    if missing:
        values[: n_trials // 2, :, 3] = np.nan  # a neuron lost half-way
        values[0, 10:15] = np.nan
        for trial in range(2, 8):
            values[trial, 40 - 3 * trial :] = np.nan
    return mrgp.MultiRegionData({"A": values[..., :7], "B": values[..., 7:]}, BIN)


@pytest.fixture(scope="module")
def data():
    return spiral_recording()


@pytest.fixture(scope="module")
def fits(data):
    """MAP fits by their start."""
    return {start: LDS(n_across=2, start=start).fit(data, progress=False) for start in STARTS}


@pytest.mark.slow
def test_map_recovers_the_eigenvalues(fits, start):
    fit = fits[start]
    assert fit.converged
    assert (np.diff(fit.trace) >= -1e-6).all()
    values = np.linalg.eigvals(fit.sites["transition"])
    truth = 0.93 * np.exp(1j * TURN)
    got = values[values.imag > 0][0]
    # 800 bins at |lambda| = 0.93: a standard error of sqrt((1 - 0.93^2) / 800) = 0.013 in each part.
    assert abs(got - truth) < 5 * 0.013
    tau = -BIN / np.log(np.abs(values))
    np.testing.assert_allclose(fit.timescales.across, np.sort(tau)[::-1])
    assert fit.timescales.within.size == 0
    np.testing.assert_array_equal(fit.delays, np.zeros((1, 2)))
    assert fit.lift_error() == 0.0


@pytest.mark.parametrize("start", MOSTLY_LEARNED, indirect=True)
def test_em_ends_where_map_does(data, fits, start):
    """Also from far away, never down; priors are worth less than 0.05 nats here, EM's creep at its end 0.05."""
    far = {**fits[start].sites, "transition": 0.3 * np.eye(2), "offset": np.zeros(12), "noise": np.ones(12)}
    far["loadings"] = np.random.default_rng(0).standard_normal((12, 2))
    model = fits[start].model
    fit = model.fit(data, method="em", start=dataclasses.replace(fits[start], sites=far), progress=False)
    assert fit.converged
    assert fit.method == "em"
    assert (np.diff(fit.trace) >= -1e-8 * np.abs(fit.trace[:-1])).all()
    best = float(fits[start].log_likelihood().sum())
    assert float(fit.log_likelihood().sum()) == pytest.approx(fit.trace[-1], abs=1e-6)
    assert abs(fit.trace[-1] - best) < 0.1
    np.testing.assert_allclose(fit.timescales.across, fits[start].timescales.across, rtol=0.02)


@pytest.mark.parametrize("start", MOSTLY_LEARNED, indirect=True)
def test_gradient_is_that_of_finite_differences(fits, start):
    data, model, sites = spiral_recording(missing=True), fits[start].model, fits[start].sites
    objective = Objective(LogJoint(model), data, sites, model.fitting.scales(data, sites))
    at = np.random.default_rng(0).standard_normal(objective.size)
    direction = np.random.default_rng(1).standard_normal(objective.size)
    slope, step = objective(at)[1], 1e-4
    assert np.isfinite(slope).all()
    difference = (objective(at + step * direction)[0] - objective(at - step * direction)[0]) / (2 * step)
    np.testing.assert_allclose(slope @ direction, difference, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS, indirect=True)
def test_em_with_missing_data_ends_where_the_likelihood_is_flat(fits, start):
    """Each neuron's own bins, trials of different length: at the end the slope is gone, as Fisher's identity has it."""
    data = spiral_recording(missing=True)
    assert data.observed is not None
    assert data.length is not None
    model, begin = fits[start].model, {**fits[start].sites, "transition": 0.5 * np.eye(2), "noise": np.ones(12)}
    rough = dataclasses.replace(fits[start], sites=begin)
    fit = model.fit(data, method="em", start=rough, progress=False, tolerance=1e-6, max_iterations=3000)
    assert fit.converged
    assert (np.diff(fit.trace) >= -1e-8 * np.abs(fit.trace[:-1])).all()
    assert float(fit.log_likelihood().sum()) == pytest.approx(fit.trace[-1], abs=1e-6)
    objective = Objective(LogJoint(model), data, fit.sites, model.fitting.scales(data, fit.sites))
    prior = Objective(LogJoint(partial(prior_alone, model)), data, fit.sites, objective.scale)
    zero = np.zeros(objective.size)
    slope = objective(zero)[1] - prior(zero)[1]
    # Coordinates are posterior sds: what is left to gain is about slope^2 / 2 nats.
    assert (slope**2).sum() / 2 < 1e-3


def prior_alone(model, data):
    """The model's sample sites without the recording."""
    with handlers.block(hide_fn=lambda site: site["name"] == "y"):
        model(data)


def test_interrupted_em_resumes(data, fits, tmp_path, monkeypatch):
    from mrgp.inference.expectation_maximization import em

    checkpoint, original, calls = tmp_path / "fit.checkpoint.npz", em.expectation, []
    begin = dataclasses.replace(fits["learned"], sites={**fits["learned"].sites, "noise": np.ones(12)})

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(em, "expectation", stop)
    settings = {"method": "em", "checkpoint": checkpoint, "progress": False}
    with pytest.warns(UserWarning, match="interrupted"):
        partial_fit = begin.model.fit(data, start=begin, **settings)
    monkeypatch.setattr(em, "expectation", original)
    resumed = begin.model.fit(data, **settings)
    assert resumed.converged
    assert resumed.trace[0] == pytest.approx(partial_fit.trace[-1])
    assert not checkpoint.exists()
    with pytest.warns(UserWarning, match="stopped after 2 iterations"):
        assert begin.model.fit(data, start=begin, method="em", max_iterations=2, progress=False).iterations == 2


def test_learned_start_finds_where_trials_begin(fits):
    data = spiral_recording(start_mean=(4.0, -2.0))
    learned, stationary = (fits[s].model.fit(data, start=fits[s], progress=False) for s in ("learned", "stationary"))
    assert float(learned.log_likelihood().sum()) > float(stationary.log_likelihood().sum()) + 10
    sites = learned.sites
    mean = sites["offset"] + sites["loadings"] @ sites["start_mean"]
    # The mean of the first bin over 20 trials has a standard error of at most 0.7 / sqrt(20) from the noise.
    np.testing.assert_allclose(mean, data.values[:, 0].mean(0), atol=5 * 0.7 / np.sqrt(20))


@pytest.mark.parametrize("start", MOSTLY_LEARNED, indirect=True)
@pytest.mark.slow
def test_one_trial_and_one_latent_fit(start):
    data = spiral_recording(n_trials=1, n_bins=60)
    method = {"stationary": "em", "learned": "map"}[start]
    fit = LDS(n_across=1, start=start).fit(data, method=method, n_starts=1, progress=False, tolerance=0.1)
    assert np.isfinite(fit.trace).all()
    assert fit.converged
    reference = FA(n_across=1).fit(data, n_starts=1, progress=False)
    assert float(fit.log_likelihood().sum()) > float(reference.log_likelihood().sum())  # FA is an LDS with A = 0


def test_a_fit_serves_as_any_other(data, fits, start, tmp_path):
    fit = fits[start]
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    assert again.model == fit.model == Model.from_settings(fit.model.to_settings())
    np.testing.assert_array_equal(again.log_likelihood(data), fit.log_likelihood())
    assert fit.summary()["model"] == "lds"
    few = data.select_trials(slice(0, 2))
    assert np.isfinite(fit.predict(few).A_mean.values).all()
    if start == "learned":
        with pytest.warns(UserWarning, match="LDS has no delays or timescales to draw"):
            tree = fit.to_arviz(n_draws=2)
        assert not {"posterior", "log_likelihood"} & set(tree.children)
        np.testing.assert_array_equal(tree["constant_data"]["transition"], fit.sites["transition"])
        plot_latents(fit)
    with pytest.raises(ValueError, match="no values between bins: use refine=1"):
        fit.latents(refine=2)


@pytest.mark.parametrize("start", MOSTLY_LEARNED, indirect=True)
def test_potential_energy_is_finite_and_has_a_slope(data, fits, start):
    """What NUTS walks on: the free coordinates, their Jacobian included."""
    model, few = fits[start].model, data.select_trials(slice(0, 2))
    transforms = transforms_of(model, few, ())
    free = {name: transforms[name].inv(jnp.asarray(v)) for name, v in fits[start].sites.items()}
    value, slope = jax.jit(jax.value_and_grad(lambda x: potential_energy(model, (few,), {}, x)))(free)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_wrong_use_is_refused(data):
    for likelihood in ("dense", "spectral"):
        with pytest.raises(ValueError, match="likelihood is 'markov', not"):
            LDS(n_across=2, likelihood=likelihood)
    with pytest.raises(ValueError, match="no use for kernel"):
        LDS(n_across=2, kernel=mrgp.Matern12())
    with pytest.raises(ValueError, match="no use for gp_noise"):
        LDS(n_across=2, gp_noise=0.1)
    with pytest.raises(ValueError, match="noise='ar1' is for latents with a timescale: take another model"):
        LDS(n_across=2, noise="ar1")
    with pytest.raises(ValueError, match="'stationary' or 'learned'"):
        LDS(n_across=2, start="free")
    with pytest.raises(ValueError, match="no within latents"):
        LDS(n_across=2, n_within=1).fit(data)
    with pytest.raises(ValueError, match="method is one of map, laplace, svi, nuts for GPFA, not 'em'"):
        GPFA(n_across=1).fit(data, method="em")
    with pytest.raises(ValueError, match="method is one of map, em for LDS, not 'vb'"):
        LDS(n_across=1).fit(data, method="vb")
    with pytest.raises(ValueError, match=r"transition.*shape"):
        LDS(n_across=2).likelihood_at(data, {**random_sites(2, 12, "stationary"), "transition": 0.5 * np.eye(3)})
