"""Variational Bayes of coupled regions: every term of the bound against a dense sum, the evidence, and fits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import CoupledLDS
from numpyro.infer.util import log_density
from scipy import stats
from scipy.integrate import quad
from scipy.linalg import block_diag
from scipy.special import digamma, gammaln, logsumexp

import mrgp
from mrgp.cli.argument_types import typed
from mrgp.inference.density import known_sites
from mrgp.inference.variational_bayes.noise_law import drawn_noise, noise_law
from mrgp.inference.variational_bayes.regions_bound import Covariances, expectation, value_of
from mrgp.inference.variational_bayes.regions_evidence import around
from mrgp.inference.variational_bayes.regions_mixing import MIXING, MixedRegions
from mrgp.inference.variational_bayes.regions_rounds import RegionRounds, _ordered, first_setting
from mrgp.inference.variational_bayes.regions_updates import updated
from mrgp.likelihoods.statespace.coupled_coordinates import ordering, settled_coordinates

BIN = 0.02
SIZES = {"A": 3, "B": 2}
PLAIN = CoupledLDS((2, 1), start="learned", edge_shape=1.5, edge_rate=0.2)
RICH = CoupledLDS((2, 1), n_global=1, lag=BIN, start="learned", absent=(("B", "A"),), edge_shape=1.5, edge_rate=0.2)


def recording(kind, n_trials=3, n_bins=5, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {name: 2 + 1.5 * rng.standard_normal((n_trials, n_bins, size)) for name, size in SIZES.items()}
    if kind == "holes":
        arrays["A"][0, 2] = arrays["A"][1, :2, 0] = arrays["B"][0, :, 1] = np.nan
        for array in arrays.values():
            array[2, 3:] = np.nan
    return mrgp.MultiRegionData(arrays, BIN)


def some_q(model, data, seed=0):
    """Any means and covariances of q."""
    rng = np.random.default_rng(seed)
    sites = mrgp.simulate(model, regions=SIZES, n_trials=2, n_bins=5, seed=seed).sites
    bound = model.posterior_updates.bound(model, data.layout)
    setting = first_setting(bound, data, sites)
    prior, used = bound.prior, model.assignment(data.layout).used
    transition = np.zeros((prior.n_rows, prior.size, prior.size))
    for row, own in enumerate(prior.used):
        M = rng.standard_normal((own.sum(), own.sum()))
        transition[row][np.ix_(own, own)] = 0.02 * (M @ M.T + np.eye(own.sum()))
    columns = np.append(used, np.ones((len(used), 1), bool), 1)
    M = rng.standard_normal((len(used), columns.shape[1], columns.shape[1]))
    readout = 0.05 * (M @ np.swapaxes(M, 1, 2) + np.eye(columns.shape[1]))
    readout = np.where(columns[:, :, None] & columns[:, None], readout, np.eye(columns.shape[1]))
    covariances = Covariances(jnp.asarray(transition), jnp.asarray(readout))
    return bound, {name: jnp.asarray(value) for name, value in sites.items()}, setting._replace(covariances=covariances)


def of_states(F, V, sites, phi, C, extra, cross, d, spare, data, trial, lag):
    """log of the integral over a trial's states of exp E[log p(y, s)], all bins at once; but for constants of y."""
    rows, size = F.shape
    n = size - rows if lag else rows  # without lag there are no global states here
    mask, y = data.mask[trial], np.where(data.mask[trial], data.values[trial], 0.0)
    bins = int(np.flatnonzero(mask.any(1)).max()) + 1
    total = size + (bins - 1) * rows  # of s_0, then of what is new

    def state(t):  # the whole state of a bin, from the numbers that there are
        table = np.zeros((size, total))
        if t == 0:
            table[:, :size] = np.eye(size)
            return table
        table[:rows, size + (t - 1) * rows : size + t * rows] = np.eye(rows)
        for k in range(1, lag + 1):
            place = rows + (k - 1) * n
            table[place : place + n] = state(t - k)[:n] if t >= k else state(0)[rows + (k - t - 1) * n :][:n]
        return table

    P = sites["first_state_root"] @ sites["first_state_root"].T + 1e-6 * np.eye(size)
    m0 = np.asarray(sites["first_state_mean"])
    J, h = np.zeros((total, total)), np.zeros(total)
    J[:size, :size] += np.linalg.inv(P)
    h[:size] += np.linalg.solve(P, m0)
    value = -0.5 * m0 @ np.linalg.solve(P, m0) - 0.5 * np.linalg.slogdet(2 * np.pi * P)[1]
    for t in range(bins):
        S = state(t)
        if t + 1 < bins:
            step = state(t + 1)[:rows] - F @ S
            J += step.T @ step + S.T @ V @ S
            value -= 0.5 * rows * np.log(2 * np.pi)
        for neuron in np.flatnonzero(mask[t]):
            c = np.zeros(size)
            c[: C.shape[1]] = C[neuron]
            wide, along = np.zeros((size, size)), np.zeros(size)
            wide[: C.shape[1], : C.shape[1]], along[: C.shape[1]] = extra[neuron], cross[neuron]
            left = y[t, neuron] - d[neuron]
            J += phi[neuron] * S.T @ (np.outer(c, c) + wide) @ S
            h += phi[neuron] * S.T @ (c * left - along)
            value -= 0.5 * phi[neuron] * (left**2 + spare[neuron])
    return value + 0.5 * h @ np.linalg.solve(J, h) - 0.5 * np.linalg.slogdet(J / (2 * np.pi))[1]


@pytest.mark.parametrize("kind", [pytest.param("complete", marks=pytest.mark.slow), "holes"])
@pytest.mark.parametrize("model", [pytest.param(PLAIN, marks=pytest.mark.slow), RICH], ids=["plain", "rich"])
def test_the_bound_is_the_dense_sum_of_all_its_terms(model, kind):
    data = recording(kind)
    bound, sites, setting = some_q(model, data)
    prior, lag = bound.prior, model.lag_in_bins(data.layout)
    F, (T, S) = np.asarray(prior.mean(sites)), map(np.asarray, setting.covariances)
    bins, scales = data.mask.sum((0, 1)), setting.scales
    states, widths = {0: slice(0, 2), 1: slice(2, 3)}, (2, 1)
    C, extra, cross = np.zeros((5, 3)), np.zeros((5, 3, 3)), np.zeros((5, 3))
    expected = 0.0
    phi = np.zeros(5)
    for neuron, region in enumerate([0, 0, 0, 1, 1]):
        own, k = states[region], widths[region]
        kept = [*range(k), 2]
        C[neuron, own], extra[neuron, own, own] = sites["loadings"][neuron, :k], S[neuron][:k, :k]
        cross[neuron, own] = S[neuron][:k, -1]
        # q(R), by quadrature: E[log p(R) - log q(R)] - N/2 E[log R].
        left, h, N = float(sites["noise"][neuron]) * bins[neuron], float(scales.noise[neuron]), bins[neuron]
        of_noise = stats.halfnorm(scale=h)

        def mean(f, Z=1.0, left=left, N=N, of_noise=of_noise, h=h):
            def density(R):
                return f(R) * of_noise.pdf(R) * R ** (-N / 2) * np.exp(-left / (2 * R)) / Z

            return quad(density, 1e-9, 12 * h, epsabs=0, epsrel=1e-12, limit=500, points=[left / N])[0]

        Z = mean(np.ones_like)
        phi[neuron] = mean(lambda R: 1 / R, Z)
        expected += np.log(Z) + mean(lambda R, left=left: left / (2 * R), Z) - N / 2 * np.log(2 * np.pi)
        # q(c, d).
        m = np.append(np.asarray(sites["loadings"])[neuron, :k], float(sites["offset"][neuron]) - data.center[neuron])
        W = np.diag([*[float(scales.loadings[neuron])] * k, float(scales.offset[neuron])]) ** 2
        cov = S[neuron][np.ix_(kept, kept)]
        expected -= 0.5 * (np.trace(np.linalg.solve(W, cov + np.outer(m, m))) - len(m))
        expected -= 0.5 * (np.linalg.slogdet(W)[1] - np.linalg.slogdet(cov)[1])
    V = T.sum(0)
    pick = slice(0, 3)
    for trial in range(data.n_trials):
        expected += of_states(
            F, V, sites, phi, C[:, pick], extra, cross, np.asarray(sites["offset"]), S[:, -1, -1], data, trial, lag
        )
    # q(F) and q(alpha).
    for row, own in enumerate(prior.used):
        expected += stats.multivariate_normal(cov=T[row][np.ix_(own, own)]).entropy()
    square = F**2 + np.diagonal(T, axis1=1, axis2=2)
    n, a, b = 3, model.edge_shape, model.edge_rate
    first = 0 if lag == 0 else n + 1
    free = np.zeros(F.shape)
    free[:2, :2] = free[2, 2] = 1 / 9
    if model.n_global:
        free[:3, 3], free[3, 3] = 1.0, 1 / 9
    on = free > 0
    expected += 0.5 * (np.log(free[on] / (2 * np.pi)) - free[on] * square[on]).sum()
    blocks = [(slice(2, 3), slice(first, first + 2))]  # A to B
    blocks += [] if model.absent else [(slice(0, 2), slice(first + 2, first + 3))]
    for block in blocks:
        own = square[block]
        shape, rate = a + own.size / 2, b + own.sum() / 2
        alpha, log_alpha = shape / rate, digamma(shape) - np.log(rate)
        expected += 0.5 * own.size * (log_alpha - np.log(2 * np.pi)) - 0.5 * alpha * own.sum()
        expected += a * np.log(b) - gammaln(a) + (a - 1) * log_alpha - b * alpha
        expected += stats.gamma(shape, scale=1 / rate).entropy()
    # Points, as the program has them.
    known = known_sites(model, data)
    for name in ("first_state_mean", "first_state_root"):
        expected += float(known[name]["fn"].log_prob(sites[name]).sum())
    np.testing.assert_allclose(float(value_of(bound, sites, setting)), expected, rtol=0, atol=1e-7)


def test_priors_are_those_of_the_program():
    """The bound has them in a form of its own, conjugate to q."""
    data = recording("complete")
    bound, sites, setting = some_q(RICH, data)
    known = {name: site["fn"] for name, site in known_sites(RICH, data).items()}
    F, own = np.asarray(bound.prior.mean(sites)), bound.prior.own_precision
    table = np.where(own > 0, 0.5 * np.log(np.where(own > 0, own, 1) / (2 * np.pi)) - 0.5 * own * F**2, 0.0).sum()
    weak = sum(float(known[n].log_prob(sites[n]).sum()) for n in ("own_dynamics", "drive", "global_dynamics"))
    np.testing.assert_allclose(table, weak, rtol=1e-12)
    scales = setting.scales
    each = stats.norm.logpdf(sites["loadings"], scale=np.asarray(scales.loadings)[:, None])
    np.testing.assert_allclose(known["loadings"].log_prob(sites["loadings"]), each.sum(1), rtol=1e-12)
    offset = stats.norm.logpdf(sites["offset"], data.center, scales.offset)
    np.testing.assert_allclose(known["offset"].log_prob(sites["offset"]), offset, rtol=1e-12)
    noise = stats.halfnorm.logpdf(sites["noise"], scale=scales.noise)
    np.testing.assert_allclose(known["noise"].log_prob(sites["noise"]), noise, rtol=1e-12)
    # alpha integrated out is the density of the program's edges.
    a, b = RICH.edge_shape, RICH.edge_rate
    block = np.asarray(sites["coupling"])[2, :2]

    def both(alpha):
        return stats.norm.pdf(block, scale=alpha**-0.5).prod() * stats.gamma.pdf(alpha, a, scale=1 / b)

    marginal = quad(both, 0, np.inf)[0]
    np.testing.assert_allclose(float(known["coupling"].log_prob(sites["coupling"])), np.log(marginal), rtol=1e-6)


@pytest.mark.parametrize("bins", [1, 3, 5000])
def test_moments_of_noise_are_integrals(bins):
    left, scale = bins * 0.7, 2.0
    grid = np.linspace(-12, 5, 2_000_001) if bins < 10 else np.linspace(-0.6, -0.1, 2_000_001)
    weights = stats.halfnorm.logpdf(np.exp(grid), scale=scale) + grid * (1 - bins / 2) - left / 2 * np.exp(-grid)
    weights += np.log(grid[1] - grid[0])
    law = noise_law(*(jnp.asarray([float(x)]) for x in (left, bins, scale)))
    np.testing.assert_allclose(law.log_normalizer[0], logsumexp(weights), rtol=0, atol=1e-8)
    np.testing.assert_allclose(law.precision[0], np.exp(logsumexp(weights - grid) - logsumexp(weights)), rtol=1e-8)
    drawn = drawn_noise(np.random.default_rng(0), *(jnp.asarray([float(x)]) for x in (left, bins, scale)), 4000)[:, 0]
    below = np.cumsum(np.exp(weights - weights.max()))
    assert stats.kstest(np.log(drawn), lambda u: np.interp(u, grid, below / below[-1])).pvalue > 0.01


@pytest.mark.slow
def test_updates_never_lower_the_bound_and_end_where_its_slope_is_zero():
    data = recording("holes", n_trials=4, n_bins=6)
    bound, sites, setting = some_q(RICH, data)
    assignment, heights = RICH.assignment(data.layout), [float(value_of(bound, sites, setting))]
    for _ in range(12):
        sites, covariances = updated(bound.prior, assignment, sites, setting, expectation(bound, sites, setting))
        setting = setting._replace(covariances=covariances)
        heights.append(float(value_of(bound, sites, setting)))
    assert np.diff(heights).min() > -1e-9
    assert heights[1] > heights[0] + 1  # the first is worth much
    # Covariances are at their best for q(F) and q(c, d): the bound falls to either side.
    for field in ("transition", "readout"):
        for factor in (0.97, 1.03):
            table = np.array(getattr(covariances, field))
            alone = (field == "readout") & (table == 1.0)  # of columns that no state has
            other = covariances._replace(**{field: jnp.where(alone, table, factor * table)})
            assert float(value_of(bound, sites, setting._replace(covariances=other))) < heights[-1]
    state = RegionRounds(model=RICH, sites=sites, bound=bound, setting=setting, tolerance=0.01)
    turned = _ordered(bound.prior, RICH, data.layout, state)
    there = setting._replace(covariances=turned.covariances)
    value = float(value_of(bound, {name: jnp.asarray(v) for name, v in turned.sites.items()}, there))
    np.testing.assert_allclose(value, heights[-1], rtol=0, atol=1e-8)
    assert np.abs(turned.sites["own_dynamics"] - sites["own_dynamics"]).max() > 1e-3


@pytest.mark.slow
def test_the_bound_has_the_least_noise_of_the_program():
    """Where states explain a neuron altogether it would rise without end."""
    data = recording("complete")
    bound, sites, setting = some_q(RICH, data)
    least = 1e-6 * np.asarray(data.scale) ** 2
    bins = data.n_trials * data.n_bins
    for noise in (1e-30, 0.5 * least[3]):
        below = {**sites, "noise": sites["noise"].at[3].set(noise)}
        np.testing.assert_allclose(setting.left(below)[3], bins * least[3], rtol=1e-12)
        np.testing.assert_array_equal(setting.left(below)[:3], bins * sites["noise"][:3])
    # By states that are known, and a neuron that is a state itself.
    moments = expectation(bound, sites, setting)
    known = moments._replace(product=moments.product.at[4].set(moments.square[0, 2]), power=moments.square[0, 2, 2])
    found, _ = updated(bound.prior, RICH.assignment(data.layout), sites, setting, known)
    np.testing.assert_allclose(found["loadings"][4, 0], 1.0, rtol=1e-3)
    assert found["noise"][4] >= least[4] > 0


def test_rows_that_differ_turn_with_their_covariances():
    """By the covariance of all entries of F together."""
    data = recording("complete")
    bound, sites, setting = some_q(RICH, data)
    state = RegionRounds(model=RICH, sites=sites, bound=bound, setting=setting, tolerance=0.01)
    assignment, T = RICH.assignment(data.layout), np.asarray(setting.covariances.transition)
    U, V = ordering(sites, assignment)
    assert np.abs(U - np.diag(np.diag(U))).max() > 0.01
    turn = np.kron(block_diag(U, V).T, block_diag(U, V, U).T)
    whole = (turn @ block_diag(*T) @ turn.T).reshape(*T.shape[:2], *T.shape[:2])
    found = _ordered(bound.prior, RICH, data.layout, state).covariances.transition
    np.testing.assert_allclose(found, np.einsum("ikil->ikl", whole), atol=1e-12)


@pytest.mark.slow
def test_a_neuron_that_is_there_twice_has_a_bound():
    data = mrgp.simulate(CoupledLDS(1), regions={"A": 2, "B": 2}, n_trials=4, n_bins=12, seed=2).data
    twice = {"A": np.repeat(data.values[:, :, :1], 2, 2), "B": data.values[:, :, 2:]}
    data = mrgp.MultiRegionData(twice, BIN)
    fit = CoupledLDS(1, start="learned").fit(data, "vb", progress=False, n_starts=1)
    assert fit.converged
    assert (np.diff(fit.trace) >= -1e-6).all()
    assert (fit.sites["noise"] >= 0.99e-6 * np.asarray(data.scale) ** 2).all()


def log_q(fit, setting, bound, sites, draws):
    """Log density of draws of F, readouts and noise, (draw,)."""
    T, S = map(np.asarray, setting.covariances)
    F = np.asarray(bound.prior.mean(sites))
    rows = np.array([bound.prior.mean({name: draws[name][i] for name in draws}) for i in range(len(draws["noise"]))])
    total = np.zeros(len(rows))
    for row, own in enumerate(bound.prior.used):
        total += stats.multivariate_normal(F[row, own], T[row][np.ix_(own, own)]).logpdf(rows[:, row, own])
    bins, scales = np.asarray(setting.bins), setting.scales
    law = noise_law(jnp.asarray(sites["noise"]) * bins, bins, scales.noise)
    for n in range(len(bins)):
        mean = np.append(np.asarray(sites["loadings"])[n], np.asarray(sites["offset"])[n])
        each = np.concatenate([draws["loadings"][:, n], draws["offset"][:, n, None]], 1)
        total += stats.multivariate_normal(mean, S[n]).logpdf(each)
        R, left = draws["noise"][:, n], float(sites["noise"][n] * bins[n])
        total += stats.halfnorm.logpdf(R, scale=float(scales.noise[n])) - bins[n] / 2 * np.log(R) - left / (2 * R)
        total -= float(law.log_normalizer[n])
    return total


@pytest.mark.slow
def test_the_bound_is_below_the_evidence():
    """By importance sampling from q, states integrated out exactly."""
    model = CoupledLDS(1, start="learned")
    data = mrgp.simulate(CoupledLDS(1), regions={"A": 2, "B": 2}, n_trials=8, n_bins=10, seed=2, snr=3.0).data
    fit = model.fit(data, "vb", progress=False, n_starts=1)
    known, setting = around(model.posterior_updates.bound(model, data.layout), data, fit.sites)
    bound = model.posterior_updates.bound(model, data.layout)
    draws = {name: value[0] for name, value in fit.samples.items()}
    points = {name: jnp.asarray(fit.sites[name]) for name in ("first_state_mean", "first_state_root")}

    @jax.jit
    def joint(one):
        return log_density(model, (data,), {}, {**one, **points})[0]

    values = np.asarray(jax.lax.map(joint, {name: jnp.asarray(value) for name, value in draws.items()}))
    weights = values - log_q(fit, setting, bound, known.sites, draws)
    evidence = logsumexp(weights) - np.log(len(weights))
    error = np.exp(weights - logsumexp(weights)).std() * np.sqrt(len(weights))
    height = float(value_of(bound, known.sites, setting))
    assert abs(height - fit.trace[-1]) < 0.05
    assert height < evidence + 3 * error
    assert height > evidence - 10  # it is mean-field, but no worse
    assert np.mean(weights) > height - 3 * weights.std() / np.sqrt(len(weights))


@pytest.fixture(scope="module")
def made():
    coupling = np.zeros((3, 3))
    coupling[1, 0], coupling[2, 1] = 0.8, -0.5
    sites = {"own_dynamics": np.diag([0.8, 0.6, 0.7]), "coupling": coupling}
    sizes = {"regions": {"A": 5, "B": 5, "C": 5}, "n_trials": 30, "n_bins": 30, "bin_width": BIN, "seed": 1}
    return mrgp.simulate(CoupledLDS(1), sites=sites, **sizes, snr=2.0)


@pytest.fixture(scope="module")
def fitted(made):
    return CoupledLDS(1, start="learned").fit(made.data, "vb", progress=False, n_starts=1)


@pytest.mark.slow
def test_it_finds_the_edges_that_map_finds(made, fitted):
    assert fitted.converged
    assert (np.diff(fitted.trace) >= -1e-8 * np.abs(fitted.trace[:-1])).all()
    assert fitted.climbs.is_bound
    edges, other = fitted.edges(), CoupledLDS(1, start="learned").fit(made.data, progress=False, n_starts=1).edges()
    there = {("A", "B"), ("B", "C")}
    for i, ends in enumerate(zip(edges.source_of_edge.values, edges.target_of_edge.values, strict=True)):
        assert (edges.log_bayes_factor[i] > 0) == (ends in there)
    np.testing.assert_allclose(edges.norm, other.norm, atol=0.02)
    np.testing.assert_allclose(edges.upper - edges.lower, other.upper - other.lower, atol=0.02)
    np.testing.assert_allclose(edges.log_bayes_factor, other.log_bayes_factor, rtol=0.1, atol=0.5)
    settled, _ = settled_coordinates(fitted.sites, fitted.assignment)
    np.testing.assert_allclose(np.abs(settled["coupling"]), np.abs(made.sites["coupling"]), atol=0.12)


@pytest.mark.slow
def test_what_is_saved_comes_back(made, fitted, tmp_path):
    fitted.save(tmp_path / "fit.nc")
    back = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(back.samples["coupling"], fitted.samples["coupling"])
    np.testing.assert_allclose(back.edges(data=made.data).lower, fitted.edges().lower)
    np.testing.assert_allclose(fitted.samples["coupling"].mean((0, 1)), fitted.sites["coupling"], atol=0.01)
    tree = fitted.to_arviz(n_draws=50)
    assert tree["posterior"]["coupling"].sizes["draw"] == 50
    assert "first_state_mean" in tree["constant_data"]
    assert fitted.predict().sizes["trial"] == 30


@pytest.mark.slow
def test_a_fit_goes_on_from_where_it_was(made, fitted, tmp_path):
    again = CoupledLDS(1, start="learned").fit(made.data, "vb", start=fitted, progress=False)
    assert again.trace[0] > fitted.trace[-1] - 0.5
    assert abs(again.trace[-1] - fitted.trace[-1]) < 0.05
    settled = CoupledLDS(1).fit(made.data, progress=False, n_starts=1)
    other = CoupledLDS(1, start="learned").fit(made.data, "vb", start=settled, progress=False)
    assert abs(other.trace[-1] - fitted.trace[-1]) < 0.1


@pytest.mark.slow
def test_a_fit_that_was_stopped_goes_on(made, fitted, tmp_path, monkeypatch):
    place, plain, rounds = tmp_path / "fit.checkpoint.npz", RegionRounds.step, []

    def stopping(self, driver):
        if len(rounds) == 2:
            raise KeyboardInterrupt
        rounds.append(self.height)
        return plain(self, driver)

    monkeypatch.setattr(RegionRounds, "step", stopping)
    model = CoupledLDS(1, start="learned")
    with pytest.warns(UserWarning, match="interrupted"):
        first = model.fit(made.data, "vb", checkpoint=place, progress=False, n_starts=1)
    assert place.is_file()
    monkeypatch.undo()
    again = model.fit(made.data, "vb", checkpoint=place, progress=False, n_starts=1)
    assert not place.is_file()
    assert again.trace[0] > rounds[1]
    assert again.trace[-1] > first.trace[-1] - 1e-3
    assert abs(again.trace[-1] - fitted.trace[-1]) < 0.05


def test_what_it_cannot_do_is_refused():
    data = recording("complete")
    with pytest.raises(ValueError, match="give start='learned', or use method='map'") as refused:
        CoupledLDS(1).fit(data, "vb")
    assert refused.value.typed(typed).endswith("give --start-state learned, or use --method map")
    with pytest.raises(ValueError, match="method 'vb' has no update for mean='psth': use method='map'"):
        PLAIN.replace(mean="psth").fit(data, "vb")
    with pytest.raises(ValueError, match="updates every parameter of coupled regions"):
        PLAIN.fit(data, "vb", fixed={"coupling": np.zeros((3, 3))})
    with pytest.raises(ValueError, match="method 'em' has no update of regions for start='learned'"):
        PLAIN.fit(data, "em")
    counts = mrgp.MultiRegionData({name: np.arange(6 * size).reshape(2, 3, size) for name, size in SIZES.items()}, BIN)
    with pytest.raises(ValueError, match="method 'vb' has no update for emission='poisson'"):
        PLAIN.replace(emission="poisson").fit(counts, "vb")


@pytest.mark.slow
def test_mixing_changes_coordinates_of_q():
    """With covariances of no size it is the same system in other coordinates; at zero it changes nothing."""
    data = recording("holes")
    bound, sites, setting = some_q(RICH, data)
    mixed = MixedRegions(bound)
    rng, size = np.random.default_rng(1), bound.prior.n_rows
    assert mixed.places.mask.sum() == 3 + 1 + 1
    zero = {**sites, MIXING: jnp.zeros((size, size))}
    same, there = mixed.mixed(zero, setting)
    for name, value in sites.items():
        np.testing.assert_allclose(same[name], value, atol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, there.covariances, setting.covariances)
    M = 0.3 * rng.standard_normal((size, size)) * mixed.places.mask
    other, there = mixed.mixed({**sites, MIXING: jnp.asarray(M)}, setting)
    T = np.eye(size) + M
    W = block_diag(T, T[:3, :3])
    F = np.asarray(bound.prior.mean(sites))
    np.testing.assert_allclose(bound.prior.mean(other), np.linalg.solve(T, F @ W), atol=1e-12)
    np.testing.assert_allclose(other["loadings"][:3], np.asarray(sites["loadings"])[:3] @ T[:2, :2], atol=1e-12)
    np.testing.assert_allclose(other["loadings"][3:, 0], np.asarray(sites["loadings"])[3:, 0] * T[2, 2], atol=1e-12)
    root = np.asarray(other["first_state_root"])
    P = np.asarray(sites["first_state_root"]) @ np.asarray(sites["first_state_root"]).T
    np.testing.assert_allclose(W @ root @ root.T @ W.T, P, atol=1e-10)
    np.testing.assert_allclose(W @ other["first_state_mean"], sites["first_state_mean"], atol=1e-12)
    # A draw of a row of F, in the new coordinates: variances of what is new add up.
    drawn = np.einsum("ij,jkl->ikl", np.linalg.inv(T) ** 2, W.T @ np.asarray(setting.covariances.transition) @ W)
    np.testing.assert_allclose(there.covariances.transition, drawn, atol=1e-12)
    S = np.asarray(setting.covariances.readout)[0]
    turn = block_diag(T[:2, :2], 1.0)
    np.testing.assert_allclose(there.covariances.readout[0], turn.T @ S @ turn, atol=1e-12)
    turn = np.diag([T[2, 2], 1.0, 1.0])
    S = np.asarray(setting.covariances.readout)[4]
    np.testing.assert_allclose(there.covariances.readout[4], turn @ S @ turn, atol=1e-12)
    assert np.isfinite(float(mixed({**sites, MIXING: jnp.asarray(M)}, setting)))
