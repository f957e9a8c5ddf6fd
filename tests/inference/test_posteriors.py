"""Posteriors: coordinates, reduced models, evidence, and methods "laplace", "svi", "nuts"."""

from dataclasses import replace

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.flatten_util import ravel_pytree
from mrgp.models import ADM, DLAG, FA, GPFA, MDLAG
from numpyro import handlers
from numpyro.infer.util import log_density
from scipy.special import logsumexp

import mrgp
from mrgp.inference.density import LogJoint, constrain
from mrgp.inference.mode import mode as summit
from mrgp.inference.mode.coordinates import DYNAMICS, REST, Coordinates, Whitened
from mrgp.inference.mode.curvature import product_on, profile_curvature
from mrgp.inference.mode.given_loadings import Given, Reduced
from mrgp.inference.mode.krylov import dense, log_determinant, softest
from mrgp.inference.mode.mode import unsettled
from mrgp.inference.mode.moves import carried
from mrgp.inference.optimise import Objective
from mrgp.simulations.simulate import simulate

SMALL = {"max_delay": 0.06, "likelihood": "dense"}  # no loop over time: compiled in half the time


@pytest.fixture(scope="module")
def made():
    return simulate(
        regions={"V1": 4, "V2": 3}, n_across=1, n_within=(1, 0), n_trials=12, n_bins=25, timescale_across=0.1,
        timescale_within=0.06, delay=np.array([[0.0], [0.015]]), snr=2.0, seed=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def laplace(made):
    """Delays and timescales from the Gaussian at the maximum, all else from its posterior given each draw of those."""
    return DLAG(1, (1, 0), **SMALL).fit(made.data, "laplace", loadings="following", progress=False, n_draws=800)


@pytest.fixture(scope="module")
def objective(made, laplace):
    model = laplace.model
    return Objective(LogJoint(model), made.data, laplace.sites, model.fitting.scales(made.data, laplace.sites))


@pytest.fixture(scope="module")
def coordinates(objective, laplace):
    return Coordinates.at(objective, laplace.curvature(follow=True))


# --- functions of a matrix


def near_identity(size, seed=0):
    rng = np.random.default_rng(seed)
    vectors = np.linalg.qr(rng.standard_normal((size, size)))[0]
    values = np.concatenate([np.geomspace(0.01, 0.3, 12), rng.uniform(0.8, 1.1, size - 12)])
    return vectors * values @ vectors.T


@pytest.mark.parametrize("size", [30, 700])
def test_log_determinant_and_softest_directions(size):
    A = near_identity(size)
    value, error = log_determinant(lambda v: A @ v, size)
    assert error == 0 if size == 30 else 0 < error < 1.5  # 640 logarithms, a tenth apart, by 12 probes
    assert abs(value - np.linalg.slogdet(A)[1]) < max(4 * error, 1e-9)
    values, vectors = softest(lambda v: A @ v, size, 20)
    np.testing.assert_allclose(values[:12], np.geomspace(0.01, 0.3, 12), rtol=1e-3)
    np.testing.assert_allclose(A @ vectors[:, :5], values[:5] * vectors[:, :5], atol=1e-3)


def test_what_is_no_maximum_has_no_determinant():
    with pytest.raises(FloatingPointError, match="not positive definite"):
        log_determinant(lambda v: -v, 5)


# --- coordinates


def test_density_in_coordinates_is_that_of_the_sites_times_their_volume(made, laplace, objective, coordinates):
    program = Whitened(laplace.model)
    rng = np.random.default_rng(0)
    x = {name: jnp.asarray(rng.standard_normal(zero.shape)) for name, zero in program.center(coordinates).items()}
    sites, _ = program.sites(made.data, coordinates, x)
    flat, unravel = ravel_pytree(x)
    jacobian = jax.jit(jax.jacobian(lambda v: ravel_pytree(program.sites(made.data, coordinates, unravel(v))[0])[0]))(
        flat
    )
    wanted = jax.jit(LogJoint(laplace.model))(sites, made.data) + np.linalg.slogdet(np.asarray(jacobian))[1]
    found = jax.jit(lambda x: log_density(program, (made.data, coordinates), {}, x)[0])(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_coordinates_are_standard_at_the_maximum(made, laplace, coordinates):
    program = Whitened(laplace.model)
    flat, unravel = ravel_pytree(program.center(coordinates))

    def density(v):
        sites, _ = program.sites(made.data, coordinates, unravel(v))
        return -LogJoint(laplace.model)(sites, made.data)

    gradient = jax.jit(jax.grad(density))
    steps = 1e-3 * np.eye(len(flat))
    hessian = np.stack([(gradient(step) - gradient(-step)) / 2e-3 for step in steps])
    np.testing.assert_allclose(hessian, np.eye(len(flat)), atol=0.05)


@pytest.mark.slow_cases("spectral-False")
@pytest.mark.parametrize(
    ("likelihood", "holes"),
    [*(pytest.param(*one, marks=pytest.mark.slow) for one in [("markov", False), ("markov", True), ("dense", True)]),
     ("dense", False), ("spectral", False)],
)  # fmt: skip
def test_a_reduced_model_differs_by_a_constant(likelihood, holes):
    data = simulate(regions={"A": 1, "B": 3}, n_across=2, n_within=(0, 1), n_trials=5, n_bins=15, seed=1,
                    **({"ragged": 0.5, "missing": 0.2} if holes else {})).data  # fmt: skip
    model = DLAG(2, (0, 1), likelihood=likelihood, max_delay=0.06)
    rng = np.random.default_rng(0)
    emission = {"loadings": rng.standard_normal((4, 3)), "noise": np.full(4, 0.5), "offset": np.zeros(4)}

    def dynamics(seed):
        rng = np.random.default_rng(seed)
        return {
            "delay": jnp.asarray(rng.uniform(-0.05, 0.05, (1, 2))),
            "timescale_across": jnp.asarray(rng.uniform(0.05, 0.2, 2)),
            "timescale_within": jnp.asarray(rng.uniform(0.05, 0.2, 1)),
        }

    given = Given.of(model, data, {**emission, **dynamics(0)}, tuple(dynamics(0)))
    full, reduced = jax.jit(LogJoint(model)), jax.jit(LogJoint(Reduced(model)))
    gaps = [float(full({**emission, **dynamics(seed)}, data) - reduced(dynamics(seed), given)) for seed in (1, 2)]
    np.testing.assert_allclose(gaps[0], gaps[1], rtol=0, atol=1e-8)
    twice = given._replace(weights=jnp.asarray([2.0, 0, 1, 1, 1]))
    scores = model.log_likelihood(data, {**emission, **dynamics(1)}).values - np.asarray(given.information.constant)
    change = reduced(dynamics(1), twice) - reduced(dynamics(1), given)
    np.testing.assert_allclose(change, scores[0] - scores[1], atol=1e-8)


# --- batches


@pytest.mark.slow
def test_a_batch_stands_for_all_trials(made):
    data = simulate(regions={"A": 2, "B": 2}, n_across=1, n_within=0, n_trials=6, n_bins=12, ragged=0.5, seed=2).data
    model = DLAG(1, 0, **SMALL)
    drawn = handlers.trace(handlers.seed(model, 1)).get_trace(data)
    sites = {name: site["value"] for name, site in drawn.items() if site["type"] == "sample" and name != "y"}
    seeded = handlers.seed(model, 5)
    batched = data.in_batches_of(2)
    index = np.asarray(handlers.trace(handlers.substitute(seeded, sites)).get_trace(batched)["trial"]["value"])
    assert index.shape == (2,)
    scores = model.log_likelihood(data, sites).values
    whole = jax.jit(lambda data: log_density(model, (data,), {}, sites)[0])(data)
    part = jax.jit(lambda data: log_density(handlers.seed(model, 5), (data,), {}, sites)[0])(batched)
    np.testing.assert_allclose(part - whole, 3 * scores[index].sum() - scores.sum(), rtol=1e-9)
    with pytest.raises(mrgp.DataError, match="a batch of 7 trials"):
        data.in_batches_of(7)


# --- evidence


@pytest.mark.slow
def test_evidence_is_the_integral(made):
    """Over delay and timescale by brute force, everything else fixed."""
    start = DLAG(1, 0, **SMALL).fit(made.data, progress=False)
    held = {name: start.sites[name] for name in ("loadings", "noise", "offset")}
    fit = start.model.fit(made.data, start=start, fixed=held, progress=False)
    value, error = fit.log_evidence()
    assert error == 0
    center, covariance = fit.curvature().mean, fit.curvature().covariance
    delays, scales = (center[i] + 7 * np.sqrt(covariance[i, i]) * np.linspace(-1, 1, 41) for i in (0, 1))
    grid = jnp.stack(jnp.meshgrid(jnp.asarray(delays), jnp.asarray(scales), indexing="ij"), -1).reshape(-1, 2)
    objective = Objective(
        LogJoint(fit.model), made.data, fit.sites, fit.model.fitting.scales(made.data, fit.sites), tuple(sorted(held))
    )

    @jax.jit
    def density(u):
        free = {"delay": u[:1, None], "timescale_across": u[1:]}
        sites = constrain(objective.transforms, free)
        volume = sum(objective.transforms[n].log_abs_det_jacobian(free[n], sites[n]).sum() for n in free)
        return LogJoint(fit.model)({**sites, **objective.frozen}, made.data) + volume

    prior = sum(
        handlers.trace(handlers.substitute(handlers.seed(fit.model, 0), fit.sites)).get_trace(made.data)[n]["fn"]
        .log_prob(fit.sites[n]).sum() for n in held
    )  # fmt: skip
    cell = np.log((delays[1] - delays[0]) * (scales[1] - scales[0]))
    integral = logsumexp(np.asarray(jax.lax.map(density, grid))) + cell - float(prior)
    np.testing.assert_allclose(value, integral, atol=0.05)  # given the loadings the latent has its sign


def test_evidence_is_asked_of_a_maximum(laplace):
    with pytest.raises(ValueError, match="method 'map' or 'laplace'"):
        replace(laplace, method="nuts").log_evidence()


def test_symmetries_are_counted(laplace):
    np.testing.assert_allclose(laplace.assignment.log_symmetries, 2 * np.log(2))
    assert DLAG(3, (2, 0)).assignment(laplace.layout).log_symmetries == pytest.approx(5 * np.log(2) + np.log(6 * 2))


# --- methods


def test_laplace_draws_are_the_gaussian_at_the_maximum(laplace):
    intervals = laplace.delay_intervals()
    drawn = laplace.samples["delay"].ravel()
    sd = float(intervals.sd[1, 0])
    assert abs(drawn.mean() - float(laplace.delays[1, 0])) < 0.2 * sd
    np.testing.assert_allclose(drawn.std(), sd, rtol=0.1)  # of 800 draws, through a tanh
    assert set(laplace.samples) == {"delay", "loadings", "noise", "offset", "timescale_across", "timescale_within"}
    assert laplace.undrawn_sites == ()


def test_intervals_on_other_trials_are_of_those(made, laplace):
    own, names = laplace.delay_intervals(), laplace.uncertain_sites
    half = made.data.select_trials(np.arange(6))
    scales = laplace.model.fitting.scales(half, laplace.sites)
    there = profile_curvature(Objective(LogJoint(laplace.model), half, laplace.sites, scales), names)
    of_half = laplace.curvature(half)
    np.testing.assert_allclose(of_half.covariance, there.covariance, rtol=1e-6)
    assert laplace.curvature(half) is of_half
    assert float(laplace.delay_intervals(data=half).sd[1, 0]) > 1.2 * float(own.sd[1, 0])
    for same in (made.data, made.data.select_trials(np.arange(12)), None):
        assert laplace.delay_intervals(data=same).equals(own)
    drawn = replace(laplace, method="nuts")
    assert drawn.delay_intervals(data=made.data).equals(drawn.delay_intervals())
    for ask in (drawn.delay_intervals, lambda data: mrgp.delay_table(drawn, data=data)):
        with pytest.raises(ValueError, match=r"draws of method 'nuts' are given the recording .*: leave data out"):
            ask(data=half)


def test_what_follows_has_a_spread_of_its_own(laplace, objective):
    """Of 12 trials of 25 bins sds are a little above those of the Gaussian, and far above those of a mere response."""
    hessian = dense(product_on(objective, list(objective.origin)), objective.size)
    scale = np.asarray(ravel_pytree(objective.scale)[0])
    sds = objective.unravel(np.sqrt(np.diag(np.linalg.inv(hessian))) * scale)
    used = laplace.assignment.used
    free = {"loadings": laplace.samples["loadings"][..., used], "noise": np.log(laplace.samples["noise"])}
    ratios = free["loadings"].std((0, 1)) / np.asarray(sds["loadings"])[used]
    assert ((ratios > 0.85) & (ratios < 1.6)).all()
    np.testing.assert_allclose(free["noise"].std((0, 1)), sds["noise"], rtol=0.15)


@pytest.mark.slow
def test_laplace_can_leave_loadings_at_the_maximum(made, laplace):
    fit = laplace.model.fit(made.data, "laplace", start=laplace, loadings="profiled", progress=False)
    assert set(fit.samples) == {"delay", "timescale_across", "timescale_within"}
    assert fit.undrawn_sites == ("loadings", "noise", "offset")
    tree = fit.to_arviz(n_draws=20)
    assert "log_likelihood" not in tree.children
    assert "fit with loadings='included'" in tree.attrs["log_likelihood"]
    np.testing.assert_array_equal(tree["constant_data"]["loadings"], fit.sites["loadings"])


# --- moves


def normal(values):
    """Two sites whose posterior is known, the mean unconstrained and the sd positive."""
    sd = numpyro.sample("sd", dist.HalfNormal(10.0))
    mean = numpyro.sample("mean", dist.Normal(0.0, 100.0))
    with numpyro.plate("value", len(values)):
        numpyro.sample("y", dist.Normal(mean, sd), obs=values)


@pytest.fixture(scope="module")
def skewed():
    """Coordinates at the maximum of :func:`normal` given nine values, and the posterior's marginals on a grid."""
    values = jnp.asarray([-1.3, -0.2, 0.1, 0.9, 1.4, -0.6, 0.3, -0.9, 0.5])
    n, center, square = len(values), float(values.mean()), float(((values - values.mean()) ** 2).sum())
    # With s = log sd, log p = -n s - (square + n (mean - center)^2) / (2 sd^2) + s and nearly flat priors: the maximum.
    start = {"sd": np.sqrt(square / (n - 1)), "mean": center}
    scale = {"sd": 1 / np.sqrt(2 * n), "mean": start["sd"] / np.sqrt(n)}
    objective = Objective(LogJoint(normal), values, start, scale)
    coordinates = Coordinates.at(objective, profile_curvature(objective, ["mean"]))
    s = np.linspace(-3, 6, 20001)
    # The mean integrated out: sd^(1 - n) exp(-square / (2 sd^2)), in s once more times sd, and its prior.
    log_density = (2 - n) * s - square / (2 * np.exp(2 * s)) - np.exp(2 * s) / 200
    weight = np.exp(log_density - log_density.max())
    return values, coordinates, s, weight / weight.sum()


def draws_of(values, coordinates, seed=0, held=None):
    program = Whitened(normal)
    keys = jax.random.split(jax.random.key(seed), 3)
    x = {name: jax.random.normal(key, (4000, 1)) for key, name in zip(keys, (DYNAMICS, REST), strict=False)}
    found = carried(program, values, coordinates, x, keys[2], held=held)
    assert found.settled, found.reason
    before, after = (program.constrained(values, coordinates, {n: jnp.asarray(v) for n, v in part.items()})
                     for part in (x, found.x))  # fmt: skip
    return before, after, found.x


def test_moves_carry_the_gaussian_to_a_skewed_posterior(skewed):
    values, coordinates, s, weight = skewed
    before, after, x = draws_of(values, coordinates)
    mean, sd = (weight @ s, np.sqrt(weight @ s**2 - (weight @ s) ** 2))
    off, wide = np.log(before["sd"]), np.log(after["sd"])
    assert off.std() < 0.93 * sd  # what the Gaussian says, and where
    assert off.mean() < mean - 0.1 * sd
    np.testing.assert_allclose(wide.std(), sd, rtol=0.06)  # 1.1% by chance
    np.testing.assert_allclose(wide.mean(), mean, atol=0.06 * sd)
    spread = np.sqrt(weight @ np.exp(2 * s) / len(values))  # of the mean, given the sd a normal
    np.testing.assert_allclose(after["mean"].std(), spread, rtol=0.1)
    again = Whitened(normal).standard(values, coordinates, after)
    for name, value in x.items():
        np.testing.assert_allclose(again[name], value, atol=1e-8)


def test_moves_given_a_site_are_of_the_posterior_given_it(skewed):
    values, coordinates, _, _ = skewed
    before, after, _ = draws_of(values, coordinates, held=DYNAMICS)
    np.testing.assert_array_equal(before["mean"], after["mean"])
    _, twice, _ = draws_of(values, coordinates, held=DYNAMICS)
    np.testing.assert_array_equal(twice["sd"], after["sd"])
    # Given the mean, sum (y - mean)^2 / sd^2 is chi-squared of n - 1 degrees of freedom: the prior of sd is flat.
    total = ((np.asarray(values) - after["mean"][:, None]) ** 2).sum(1)
    np.testing.assert_allclose((total / after["sd"] ** 2).mean(), len(values) - 1, rtol=0.05)


def test_draws_without_density_do_not_settle(skewed):
    values, coordinates, _, _ = skewed
    far = {DYNAMICS: jnp.full((50, 1), 1e200), REST: jnp.zeros((50, 1))}
    found = carried(Whitened(normal), values, coordinates, far, jax.random.key(0))
    assert not found.settled
    assert "% of the draws moved" in found.reason


def test_what_does_not_settle_names_the_latent_that_is_least_read(laplace):
    sites = {**laplace.sites, "loadings": np.array(laplace.sites["loadings"])}
    sites["loadings"][:4, 1] *= 1e-3
    said = unsettled(laplace.assignment, sites, "no move")
    assert "fit one latent fewer (n_within: latent within 0 of region 0 explains 0.0% at the most)" in said


@pytest.mark.slow
def test_nuts_svi_and_laplace_agree(made, laplace):
    """Means within 0.25 of a posterior sd, sds within a fifth: what 800 draws can tell of skewed posteriors."""
    nuts = laplace.model.fit(
        made.data, "nuts", start=laplace, n_chains=2, n_warmup=100, n_draws=400, loadings="profiled", progress=False
    )
    svi = laplace.model.fit(made.data, "svi", start=laplace, n_draws=2000, n_particles=4, progress=False)
    ours = laplace.delay_intervals()
    for fit in (nuts, svi):
        theirs = fit.delay_intervals()
        assert abs(float(theirs.delay[1, 0] - ours.delay[1, 0])) < 0.25 * float(ours.sd[1, 0]), fit.method
        np.testing.assert_allclose(theirs.sd[1, 0], ours.sd[1, 0], rtol=0.2, err_msg=fit.method)
    assert nuts.converged, nuts.reason
    assert nuts.sample_stats["lp"].shape == (2, 400)
    assert svi.converged
    assert svi.trace[-1] > svi.trace[0]
    # A lower bound of the log evidence of one mode; its guide is nearly exact here.
    evidence = laplace.log_evidence()[0] - laplace.assignment.log_symmetries
    assert abs(svi.trace[-1] - evidence) < 2


@pytest.mark.slow
def test_spreads_are_those_of_sampling(made, laplace):
    """Of every site within 10%, and 3% by chance: 1000 draws of each method, 2000 of NUTS."""
    again = {"start": laplace, "progress": False}
    exact = laplace.model.fit(
        made.data, "nuts", n_chains=2, n_warmup=200, n_draws=1000, loadings="sampled", seed=1, **again
    )
    ways = [("laplace", {}), ("svi", {})]
    used = {"loadings": laplace.assignment.used}
    for method, settings in ways:
        fit = laplace.model.fit(made.data, method, n_draws=1000, **settings, **again)
        assert fit.undrawn_sites == ()
        for name, drawn in fit.samples.items():
            chosen = used.get(name, np.ones(drawn.shape[2:], bool))
            ours, theirs = drawn[..., chosen], exact.samples[name][..., chosen]
            message = f"{method}, {name}"
            np.testing.assert_allclose(ours.std((0, 1)), theirs.std((0, 1)), rtol=0.13, err_msg=message)
            off = (ours.mean((0, 1)) - theirs.mean((0, 1))) / theirs.std((0, 1))
            np.testing.assert_allclose(off, 0, atol=0.2, err_msg=message)


@pytest.fixture(scope="module")
def nuts(made, laplace):
    """Two short chains, given the loadings."""
    settings = {"n_chains": 2, "n_warmup": 60, "n_draws": 150, "loadings": "fixed"}
    with pytest.warns(UserWarning, match="too short"):
        return laplace.model.fit(made.data, "nuts", start=laplace, progress=False, **settings)


@pytest.mark.slow
def test_nuts_with_fixed_loadings_is_the_conditional_posterior(made, laplace, nuts, tmp_path):
    assert set(nuts.samples) == {"delay", "timescale_across", "timescale_within"}
    assert "effective draws" in nuts.reason
    assert not nuts.converged
    np.testing.assert_allclose(nuts.sites["loadings"], laplace.sites["loadings"], atol=0.05)  # both at the maximum
    names = ("delay", "timescale_across", "timescale_within")
    given = Given.of(laplace.model, made.data, nuts.sites, names)
    few = Objective(LogJoint(Reduced(laplace.model)), given, {n: laplace.sites[n] for n in names}, {})
    sd = np.sqrt(profile_curvature(few, names).covariance[0, 0])
    free = np.arctanh(nuts.samples["delay"].ravel() / 0.06) * 2  # the unconstrained coordinate of a uniform site
    np.testing.assert_allclose(free.std(), sd, rtol=0.25)  # of 300 draws
    nuts.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.samples["delay"], nuts.samples["delay"])
    np.testing.assert_array_equal(again.sample_stats["n_steps"], nuts.sample_stats["n_steps"])
    assert again.delay_intervals().equals(nuts.delay_intervals())
    assert set(again.sample_stats) == {"diverging", "acceptance_rate", "n_steps", "energy", "lp"}


GUIDE = {"n_particles": 1, "max_steps": 50, "n_draws": 7, "progress": False}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the guide has not converged")
def test_a_guide_is_fitted_to_batches(made, laplace):
    fit = laplace.model.fit(made.data, "svi", start=laplace, batch_size=4, **GUIDE)
    assert fit.samples["delay"].shape == (1, 7, 1, 1)
    assert np.isfinite(fit.trace).all()
    width = float(laplace.delay_intervals().sd[1, 0])
    assert 0 < fit.samples["delay"].std() < 3 * width


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the guide has not converged")
def test_any_guide(made, laplace):
    from numpyro.infer.autoguide import AutoDelta

    guides = ("meanfield", "lowrank", "full", "structured", "structured", AutoDelta)
    fits = [laplace.model.fit(made.data, "svi", start=laplace, guide=guide, **GUIDE) for guide in guides]
    assert all(fit.samples["delay"].shape == (1, 7, 1, 1) for fit in fits)
    assert np.ptp(fits[-1].samples["delay"]) > 0  # a point is no posterior: its draws are moved to one
    np.testing.assert_array_equal(fits[3].samples["delay"], fits[4].samples["delay"])


def test_settings_are_checked(made):
    model = DLAG(1, (1, 0), **SMALL)
    for method, settings, message in (
        ("nuts", {"n_chains": 0}, "count at least 1"),
        ("nuts", {"loadings": "some"}, "loadings are"),
        ("nuts", {"target_accept": 1.0}, "probability"),
        ("svi", {"guide": "none"}, "guide is one of"),
        ("svi", {"n_particles": 0}, "at least 1"),
        ("svi", {"learning_rate": 0}, "positive"),
        ("laplace", {"loadings": "fixed"}, "profiled"),
        ("laplace", {"n_draws": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(made.data, method, **settings)
    with pytest.raises(TypeError, match="'map' knows no setting n_draws"):
        model.fit(made.data, n_draws=3)
    with pytest.raises(ValueError, match="method is one of map for FA"):
        FA(1).fit(made.data, "nuts")
    with pytest.raises(ValueError, match="density is highest"):
        MDLAG(1).fit(made.data, "nuts")


def test_a_stopped_posterior_goes_on_from_its_maximum(made, laplace, tmp_path, monkeypatch):
    path = tmp_path / "kept.npz"
    monkeypatch.setattr("mrgp.inference.laplace.Whitened", None)  # fails once the maximum is there
    with pytest.raises(TypeError):
        laplace.model.fit(made.data, "laplace", start=laplace, checkpoint=path, progress=False)
    assert path.is_file()
    monkeypatch.undo()
    fit = laplace.model.fit(made.data, "laplace", checkpoint=path, loadings="profiled", progress=False)
    assert fit.iterations < 8
    assert not path.exists()


def test_an_interrupted_climb_has_no_posterior(made, laplace, monkeypatch):
    climb = summit.drive
    monkeypatch.setattr(summit, "drive", lambda *given: replace(climb(*given), reason="interrupted"))
    with pytest.raises(KeyboardInterrupt):
        laplace.model.fit(made.data, "laplace", start=laplace, progress=False)


# --- ArviZ


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["laplace", "nuts", "map"])
def test_arviz_takes_every_fit(made, laplace, nuts, kind):
    fits = {"laplace": lambda: laplace, "nuts": lambda: nuts}
    fit = fits[kind]() if kind in fits else laplace.model.fit(made.data, kind, start=laplace, progress=False)
    tree = fit.to_arviz(n_draws=100, latents=True)
    chains = 2 if kind == "nuts" else 1
    assert {"posterior", "prior", "posterior_predictive", "observed_data", "constant_data"} <= set(tree.children)
    assert ("log_likelihood" in tree.children) == (kind == "laplace")  # of the others some parameters are not drawn
    assert ("log_likelihood" in tree.attrs) == (kind != "laplace")
    assert ("loadings" in tree["posterior"]) == (kind == "laplace")
    assert ("sample_stats" in tree.children) == (kind == "nuts")
    delay = tree["posterior"]["delay"]
    assert delay.dims == ("chain", "draw", "region", "across_latent")
    assert delay.shape == (chains, 100 // chains, 1, 1)
    assert list(delay["region"].values) == ["V2"]
    assert list(tree["posterior"]["within_latent"].values) == ["V1:0"]
    assert tree["prior"]["delay"].shape[1:] == (100 // chains, 1, 1)
    assert float(np.abs(tree["prior"]["delay"]).max()) <= 0.06
    assert tree["posterior_predictive"]["trial_mean"].dims == ("chain", "draw", "trial", "neuron")
    assert tree["latents"]["across_mean"].dims == ("trial", "time", "across_latent")
    names = ["delay", "timescale_across"]
    summary = az.summary(tree, var_names=names)
    assert list(summary.index) == ["delay[V2, 0]", "timescale_across[0]"]
    np.testing.assert_allclose(summary["mean"].astype(float).iloc[0], float(delay.mean()), rtol=0.1)
    if kind == "laplace":
        assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "trial")
        shared = tree["posterior"]["loadings"][..., 0]  # V2 reads no within latent: that column is of the prior
        np.testing.assert_allclose(shared.mean(), fit.sites["loadings"][:, 0].mean(), atol=0.05)
        for plot in (az.plot_trace, az.plot_forest, az.plot_pair, az.plot_prior_posterior):
            plot(tree, var_names=names, backend="none")
        az.plot_ppc_dist(tree, var_names=["trial_mean"], backend="none", num_samples=10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_leave_one_out_by_arviz(laplace):
    tree = laplace.to_arviz(n_draws=500)
    result = az.loo(tree, pointwise=True)
    assert result.elpd < float(laplace.log_likelihood().sum())
    other = mrgp.leave_one_out(laplace, n_draws=500, refit=False, progress=False)
    assert abs(other.elpd - result.elpd) < 0.5
    # Whole draws see what 27 parameters gained by having seen a trial; without a spread of loadings p was about 4.
    assert 12 < result.p < 35
    table = az.compare({"tree": tree, "result": other}, round_to="none")
    assert abs(float(table["elpd_diff"].astype(float).abs().max())) < 0.5


@pytest.mark.slow
def test_smooth_models_of_all_kinds_have_posteriors(made):
    gpfa = GPFA(1, likelihood="dense").fit(made.data, "laplace", progress=False, n_draws=50)
    assert gpfa.samples["timescale_across"].shape == (1, 50, 1)
    adm = ADM(1, (1, 0), delay_timescale=0.2, **SMALL).fit(made.data, "laplace", progress=False, n_draws=20)
    assert adm.to_arviz(n_draws=10)["posterior"]["delay"].dims[-1] == "time"
    assert "delay_spread" not in adm.samples


@pytest.mark.slow
def test_without_shared_latents_there_is_a_posterior_of_the_private_ones(made):
    fit = DLAG(0, 1, likelihood="dense").fit(made.data, "laplace", progress=False, n_draws=20, loadings="included")
    assert set(fit.samples) >= {"timescale_within", "loadings"}
    assert np.isfinite(fit.log_evidence()[0])


def test_nothing_left_to_draw_is_said(made, laplace):
    fixed = {name: laplace.sites[name] for name in ("delay", "timescale_across", "timescale_within")}
    with pytest.raises(ValueError, match="nothing is left to draw"):
        laplace.model.fit(made.data, "laplace", start=laplace, fixed=fixed, loadings="profiled", progress=False)


@pytest.mark.slow
def test_leave_one_out_says_what_was_not_drawn(nuts):
    with pytest.raises(ValueError, match="'nuts' has not drawn loadings, noise, offset: fit with loadings='sampled'"):
        mrgp.leave_one_out(nuts)


@pytest.mark.slow
def test_rotations_have_no_evidence(made):
    with pytest.raises(ValueError, match="up to a rotation"):
        FA(2).fit(made.data, progress=False).log_evidence()

