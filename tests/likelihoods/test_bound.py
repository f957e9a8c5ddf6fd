"""Counts: the bound of log p(y) against quadrature and against other ways to it, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import registry
from scipy.optimize import minimize

from mrgp.likelihoods import best_gaussian as module
from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.reduction import Information
from mrgp.likelihoods.statespace.covariance import exact_covariance
from mrgp.likelihoods.statespace.readout import Window
from mrgp.parts.emissions.negative_binomial import NegativeBinomial
from mrgp.parts.emissions.poisson import Poisson
from mrgp.parts.loadings import readout_loadings
from mrgp.recordings.missing import Missing

DEFAULT = module.TOLERANCE
FAMILIES = {case.name: case.emission for case in registry.EMISSIONS if case.emission.is_of_counts}


@pytest.fixture(autouse=True)
def tight(monkeypatch):
    """The bound at its maximum to rounding."""
    monkeypatch.setattr(module, "TOLERANCE", 1e-11)


SCORE = jax.jit(lambda distribution, y: distribution.log_prob(y))  # one program for all of the same shapes
DRAW = jax.jit(lambda distribution, key: distribution.sample(key))


def scored(distribution, y):
    return np.asarray(SCORE(distribution, jnp.asarray(y)))


def log_pmf(counts, y, eta):
    of_counts = isinstance(counts, Poisson)
    return registry.log_poisson(y, eta) if of_counts else registry.log_negative_binomial(y, eta, counts.dispersion)


def draw(distribution, seed=0):
    return np.asarray(DRAW(distribution, jax.random.key(seed)))


# --- distributions of counts given log-rates


def test_the_slopes_of_negative_binomial_counts_are_of_their_value():
    """By finite differences in mean, variance and dispersion; also where rates are beyond all counts, or zero."""
    rng = np.random.default_rng(2)
    y = jnp.asarray(rng.integers(0, 6, 6) * 1.0)
    at = {"mean": np.array([-30.0, -2.0, 0.0, 2.0, 30.0, 160.0]), "variance": np.array([0.1, 1e-3, 0.5, 2.0, 1.0, 4.0]),
          "dispersion": np.full(6, 0.3)}  # fmt: skip

    def value(of):
        return NegativeBinomial(of["dispersion"]).expected(y, of["mean"], of["variance"]).value

    slopes = jax.grad(lambda of: value(of).sum())({name: jnp.asarray(part) for name, part in at.items()})
    for name, part in at.items():
        step = 1e-5 * np.maximum(np.abs(part), 0.1)
        up, down = (value({**at, name: part + sign * step}) for sign in (1, -1))
        np.testing.assert_allclose(slopes[name], (up - down) / (2 * step), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("size", [-80.0, -40.0, 40.0, 80.0, 700.0])
def test_negative_binomial_counts_stay_finite(size, kind):
    y, mean, variance = (jnp.asarray(part, kind) for part in ([0.0, 3.0], [size, size], [0.0, 25.0]))
    found = NegativeBinomial(jnp.ones(2, kind)).expected(y, mean, variance)
    assert all(np.isfinite(part).all() for part in found)
    wanted = np.array([0.0, 3.0]) * size - np.array([1.0, 4.0]) * max(size, 0.0)
    np.testing.assert_allclose(found.value, wanted, rtol=1e-4 if kind == jnp.float32 else 1e-9, atol=1e-6)
    wild = NegativeBinomial(jnp.ones(2, kind)).expected(y, 0 * mean, jnp.full(2, 4e4, kind))
    assert all(np.isfinite(part).all() for part in wild)


def test_negative_binomial_counts_of_hardly_any_dispersion_keep_their_digits():
    y, mean, variance = jnp.array([0.0, 2.0]), jnp.array([-4.0, 1.0]), jnp.array([0.5, 0.1])
    wanted = Poisson().expected(y, mean, variance)
    found = NegativeBinomial(jnp.full(2, 1e-12)).expected(y, mean, variance)
    for own, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4)  # the quadrature's own error


# --- the bound of one neuron, against integrals


def one_neuron(small_model, offset, n_bins=2, scale=1.0):
    model = small_model(n_neurons=(1,), n_across=1, n_within=(0,), n_bins=n_bins)
    model.arguments |= {"loadings": jnp.array([[scale]]), "offset": jnp.array([offset])}
    return model


def integrated(model, counts, y):
    """log p(y) of trials (trial, time, 1) by Gauss-Hermite quadrature over all bins."""
    latent = model.dense()
    C = readout_loadings(model.prior.assignment, latent.loadings)
    root = np.linalg.cholesky(np.asarray(exact_covariance(model.prior, latent.latents, model.n_bins)) * C[0, 0] ** 2)
    place, weight = np.polynomial.hermite_e.hermegauss(200)
    grid = np.stack(np.meshgrid(*[place] * model.n_bins, indexing="ij"), -1).reshape(-1, model.n_bins)
    total = np.prod(np.stack(np.meshgrid(*[weight / weight.sum()] * model.n_bins), -1).reshape(-1, model.n_bins), 1)
    eta = float(latent.offset[0]) + grid @ root.T
    densities = np.array([log_pmf(counts, trial[:, 0], eta).sum(-1) for trial in y])
    return np.log((np.exp(densities - densities.max(1, keepdims=True)) * total).sum(1)) + densities.max(1)


def best_gaussian(model, counts, trial):
    """The bound of the best Gaussian of one trial's log-rates, any mean and covariance, by BFGS."""
    latent, n = model.dense(), model.n_bins
    C = readout_loadings(model.prior.assignment, latent.loadings)
    K = np.asarray(exact_covariance(model.prior, latent.latents, n)) * float(C[0, 0]) ** 2
    below = np.tril_indices(n)

    def loss(x):
        m, L = x[:n], np.zeros((n, n))
        L[below] = x[n:]
        V = L @ L.T
        found = counts.expected(jnp.asarray(trial), jnp.asarray(m)[:, None] + latent.offset, jnp.diag(V)[:, None])
        inside = np.trace(np.linalg.solve(K, V)) + m @ np.linalg.solve(K, m) - n
        kl = 0.5 * (inside + np.linalg.slogdet(K)[1] - np.linalg.slogdet(V)[1])
        return kl - float((found.value + counts.normalizer(jnp.asarray(trial))).sum())

    start = np.concatenate([np.zeros(n), np.linalg.cholesky(K)[below]])
    return -minimize(loss, start, method="BFGS", options={"gtol": 1e-6}).fun


def slopes_of_log_z(distribution, told):
    """Moments of readouts and log determinants, from the derivatives of log Z by b and Lambda."""

    def total(b, precision):
        scores = distribution.normalizer(told._replace(vectors=b, precision=precision))
        return scores.sum(), scores

    (_, scores), (mean, squares) = jax.value_and_grad(total, (0, 1), has_aux=True)(told.vectors, told.precision)
    member = jax.nn.one_hot(told.pattern, told.precision.shape[1])
    # The slope by Lambda is -E[x x'] / 2, summed over the trials of a pattern.
    spread = squares + jnp.swapaxes(squares, -1, -2) + jnp.einsum("bg,tbi,tbj->tgij", member, mean, mean)
    return mean, -spread / member.sum(0)[:, None, None], scores - 0.5 * (told.vectors * mean).sum((0, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "window",
    [Window(4, 1), pytest.param(Window(3, 2), marks=pytest.mark.slow)],
    ids=["bin by bin", "two bins a step"],
)
def test_moments_are_those_of_a_dense_gaussian(small_model, window):
    """By smoothing, at once and by slopes, of trials in two patterns; V = (K^-1 + Lambda)^-1 by inversion."""
    model = small_model(n_across=1, n_within=(1, 0), n_bins=7)
    dense = model.dense(n_trials=3)
    K = np.asarray(exact_covariance(model.prior, dense.latents, 7)) + 1e-9 * np.eye(21)
    rng = np.random.default_rng(0)
    root = rng.normal(size=(7, 2, 3, 3))
    precision, b, pattern = root @ np.swapaxes(root, -1, -2), rng.normal(size=(7, 3, 3)), np.array([0, 1, 0])
    told = Information(jnp.asarray(b), jnp.asarray(precision), jnp.asarray(pattern), None, jnp.zeros(3))
    filtered, markov = (model.markov(window=window, order=6, n_trials=3, parallel=way) for way in (False, None))
    both = jax.jit(lambda distribution, told: (distribution.smoother(2)(told), slopes_of_log_z(distribution, told)))
    for distribution, near in ((dense, 1e-6), (filtered, 5e-3), (markov, 5e-3)):
        found, by_slopes = both(distribution, told)
        for own, other in zip(found, by_slopes, strict=True):
            np.testing.assert_allclose(own, other, atol=1e-9)
        for trial, group in enumerate(pattern):
            inside = np.zeros((7, 3, 7, 3))
            inside[np.arange(7), :, np.arange(7)] = precision[:, group]
            V = np.linalg.inv(np.linalg.inv(K) + inside.reshape(21, 21))
            np.testing.assert_allclose(found.mean[:, trial], (V @ b[:, trial].ravel()).reshape(7, 3), atol=near)
            blocks = V.reshape(7, 3, 7, 3)[np.arange(7), :, np.arange(7)]
            np.testing.assert_allclose(found.covariance[:, group], blocks, atol=near)
            wanted = -0.5 * np.linalg.slogdet(np.eye(21) + K @ inside.reshape(21, 21))[1]
            assert float(found.log_determinant[trial]) == pytest.approx(wanted, abs=10 * near)


@pytest.mark.parametrize("offset", [-1.0, 3.0])
@pytest.mark.parametrize(
    "counts", [pytest.param(Poisson(), marks=pytest.mark.slow), NegativeBinomial(jnp.array([0.5]))], ids=FAMILIES
)
def test_the_bound_is_below_the_integral_and_close(small_model, offset, counts):
    """To 0.03 nats per trial of two bins, where every trial has a covariance of its own."""
    model = one_neuron(small_model, offset)
    y = draw(CountGP(model.dense(n_trials=5), counts))
    truth = integrated(model, counts, y)
    own = scored(CountGP(model.dense(n_trials=5), counts, shared_covariance=False), y)
    shared = scored(CountGP(model.dense(n_trials=5), counts), y)
    assert (truth - own).min() > -1e-6
    assert (truth - own).max() < 0.03
    assert (truth - shared).min() > -1e-6
    assert own.sum() > shared.sum() - 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("counts", [Poisson(), NegativeBinomial(jnp.array([0.5]))], ids=FAMILIES)
def test_with_a_covariance_of_its_own_q_is_the_best_gaussian(small_model, counts):
    model = one_neuron(small_model, 0.3, n_bins=3, scale=1.2)
    y = draw(CountGP(model.dense(n_trials=2), counts), seed=3)
    found = scored(CountGP(model.dense(n_trials=2), counts, shared_covariance=False), y)
    np.testing.assert_allclose(found, [best_gaussian(model, counts, trial) for trial in y], atol=2e-4)


# --- the bound of recordings


@pytest.mark.slow
def test_state_spaces_and_missing_data(small_model, missing_data):
    """Both likelihoods of the latents agree to what the state space misses."""
    model = small_model()
    mask, missing = missing_data("ragged_holes", 6, 7, 5)
    dense, markov = (CountGP(getattr(model, name)(missing=missing), Poisson()) for name in ("dense", "markov"))
    y = draw(dense) * mask
    np.testing.assert_allclose(scored(markov, y), scored(dense, y), atol=5e-3)


@pytest.mark.slow
def test_a_neuron_that_nothing_shows_changes_nothing(small_model):
    model, family = small_model(), FAMILIES["negative_binomial"]
    observed = np.ones((1, 7, 5), bool)
    observed[..., 3] = False
    missing = Missing(jnp.asarray(observed), jnp.zeros(4, int), None)
    y = draw(CountGP(model.dense(n_trials=4), family))
    hidden = scored(CountGP(model.dense(missing=missing), family), y * observed)
    kept = np.array([0, 1, 2, 4])
    few = small_model(n_neurons=(3, 1))
    few.arguments = {n: v[kept] if n in ("loadings", "noise", "offset") else v for n, v in model.arguments.items()}
    counts = NegativeBinomial(family.dispersion[kept])
    np.testing.assert_allclose(hidden, scored(CountGP(few.dense(n_trials=4), counts), y[..., kept]), atol=1e-8)
    nothing = CountGP(model.dense(missing=missing._replace(observed=jnp.zeros((1, 7, 5), bool))), family)
    np.testing.assert_allclose(scored(nothing, 0 * y), 0.0, atol=1e-9)


@pytest.mark.slow
def test_every_trial_has_the_course_of_its_condition(small_model):
    """With covariances of their own trials score as they do alone; shared ones, across conditions too, are a bound."""
    model, rng = small_model(), np.random.default_rng(3)
    course, condition = jnp.asarray(rng.standard_normal((2, 7, 5))), np.array([0, 1, 1, 0, 1, 0])
    both = CountGP(model.dense(n_trials=6, course=course, condition=jnp.asarray(condition)), Poisson())
    y = draw(both)
    own = CountGP(both.latent, Poisson(), shared_covariance=False)
    for kind in (0, 1):
        chosen = condition == kind
        alone = CountGP(model.dense(n_trials=3, course=course[kind][None]), Poisson(), shared_covariance=False)
        np.testing.assert_allclose(scored(own, y)[chosen], scored(alone, y[chosen]), atol=1e-7)
    assert scored(both, y).sum() < scored(own, y).sum()


@pytest.mark.slow
def test_counts_of_little_dispersion_are_poisson(small_model):
    model = small_model()
    poisson = CountGP(model.dense(n_trials=4), Poisson())
    nearly = CountGP(model.dense(n_trials=4), NegativeBinomial(jnp.full(5, 1e-6)))
    y = draw(poisson)
    np.testing.assert_allclose(scored(nearly, y), scored(poisson, y), atol=2e-3)


@pytest.mark.parametrize(
    ("kind", "own"), [pytest.param("poisson", False, marks=pytest.mark.slow), ("negative_binomial", True)]
)
def test_gradients_are_those_of_finite_differences(small_model, missing_data, kind, own):
    """Along one random direction of each parameter, to 1e-5 of it."""
    model, rng, family = small_model(), np.random.default_rng(4), FAMILIES[kind]
    _, missing = missing_data("holes", 4, 7, 5)
    course = jnp.asarray(0.3 * rng.standard_normal((1, 7, 5)))
    y = draw(CountGP(model.dense(n_trials=4), family)) * np.asarray(missing.observed)[np.asarray(missing.pattern)]
    parameters = {n: model.arguments[n] for n in ("loadings", "offset", "delay", "across")} | {"course": course}
    if isinstance(family, NegativeBinomial):
        parameters["dispersion"] = family.dispersion

    @jax.jit
    def total(parameters):
        rest = {**model.arguments, **parameters}
        counts = NegativeBinomial(rest.pop("dispersion")) if "dispersion" in rest else family
        latent = type(model.dense())(prior=model.prior, n_bins=7, missing=missing, **rest)
        return CountGP(latent, counts, shared_covariance=not own).log_prob(jnp.asarray(y)).sum()

    slopes = jax.grad(total)(parameters)
    for name in parameters:
        along = jax.tree.map(lambda v: jnp.asarray(rng.standard_normal(v.shape)), parameters[name])
        step = 1e-4
        ends = [
            float(total({**parameters, name: jax.tree.map(lambda v, u, s=s: v + s * u, parameters[name], along)}))
            for s in (step, -step)
        ]
        slope = sum(jax.tree.leaves(jax.tree.map(lambda g, u: float((g * u).sum()), slopes[name], along)))
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-5, abs=2e-5), name


@pytest.mark.slow
def test_the_default_tolerance_is_enough(small_model, monkeypatch):
    """From silence to counts of hundreds, 0.02 nats in 8 trials; their rates differ a hundredfold, which is hard."""
    monkeypatch.setattr(module, "TOLERANCE", DEFAULT)
    default = jax.jit(lambda distribution, y: distribution.log_prob(y))
    for level in (-4.0, 0.0, 5.0):
        model = small_model()
        model.arguments["offset"] = jnp.full(5, level)
        distribution = CountGP(model.dense(n_trials=4), Poisson())
        y = draw(distribution)
        best = scored(distribution, y).sum()
        assert best - 0.02 < float(default(distribution, jnp.asarray(y)).sum()) <= best + 1e-9, level


@pytest.mark.slow
def test_searches_end_at_the_same_q_wherever_they_begin(small_model):
    """At its own end, and at that of other parameters: the bound is that of a fresh search."""
    model = small_model(n_across=2, n_within=(1, 1), n_bins=7)
    distribution = CountGP(model.dense(n_trials=4), Poisson())
    y = draw(distribution)
    search = jax.jit(lambda distribution, y, guess: distribution.bound_from(y, guess))
    fresh, guess = search(distribution, y, distribution.problem(jnp.asarray(y)).guess())
    np.testing.assert_allclose(fresh, scored(distribution, y), atol=1e-9)
    again, same = search(distribution, y, guess)
    np.testing.assert_allclose(again, fresh, atol=1e-8)
    np.testing.assert_allclose(same.precision, guess.precision, rtol=1e-4)
    model.arguments |= {"loadings": 1.3 * model.dense().loadings}
    other = CountGP(model.dense(n_trials=4), Poisson())
    np.testing.assert_allclose(search(other, y, guess)[0], scored(other, y), atol=1e-7)
