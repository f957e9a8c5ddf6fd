"""What a recording tells of its parameters, against dense Gaussian processes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import ADM, DLAG, FA, GFA, GPFA, LDS, MDLAG
from scipy.stats import multivariate_normal

import mrgp
from mrgp.families.scales import WIDEST_STEP
from mrgp.inference.density import LogJoint, free_sites
from mrgp.inference.mode.curvature import diagonal
from mrgp.inference.mode.whittle import heard, of_delay, of_kernel, of_readouts, spectrum
from mrgp.inference.optimise import Objective, maximise
from mrgp.parts.kernels import Matern32, RationalQuadratic, Spectral, SquaredExponential

N_BINS = 200
KERNELS = {
    "squared exponential": SquaredExponential(), "Matern": Matern32(), "rational quadratic": RationalQuadratic(0.5),
    "rhythm": Spectral(SquaredExponential()),
}  # fmt: skip


def copies(kernel, hyper, delay, precision):
    """Covariance of what two regions say of one latent, each with noise of variance 1 / precision, dense."""
    at = np.concatenate([np.arange(N_BINS), np.arange(N_BINS) - delay])
    k = kernel.correlation(jnp.asarray(at[:, None, None] - at[None, :, None]), hyper)[..., 0]
    return np.asarray(k) + np.diag(np.repeat(1 / np.asarray(precision), N_BINS))


def fisher(covariance, step):
    """tr(V^-1 V' V^-1 V') / 2 of a Gaussian whose covariance is a function of one number, at 0."""
    slope = np.linalg.solve(covariance(0.0), (covariance(step) - covariance(-step)) / (2 * step))
    return 0.5 * (slope * slope.T).sum()


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("loud", [0.05, 3.0])
def test_information_is_that_of_a_gaussian(name, loud):
    kernel, hyper = KERNELS[name], {"timescale": np.array([4.0]), "frequency": np.array([0.08])}
    precision = np.array([[0.7 * loud], [0.3 * loud]])
    wanted = ["timescale", *kernel.parameters()]
    found = of_kernel(kernel, hyper, wanted, precision.sum(0), N_BINS)
    for parameter in wanted:
        def changed(step, parameter=parameter):
            return copies(kernel, {**hyper, parameter: hyper[parameter] * np.exp(step)}, 0.0, precision[:, 0])

        assert found[parameter] == pytest.approx(fisher(changed, 1e-4), rel=0.1), parameter
    delay = of_delay(kernel, hyper, precision, N_BINS)
    dense = fisher(lambda step: copies(kernel, hyper, 1.3 + step, precision[:, 0]), 1e-3)
    np.testing.assert_allclose(delay[:, 0], dense, rtol=0.1)  # of either, the other being known


def test_noise_of_copies_limits_what_is_heard():
    np.testing.assert_allclose(heard(np.array([0.0, 2.0, 1e9]), 0.01), [0.0, 0.99 / (0.5 + 0.01), 0.99 / 0.01])


def test_a_periodogram_has_the_variance():
    S = spectrum(SquaredExponential(), {"timescale": np.array([2.0, 30.0])}, 50)
    np.testing.assert_allclose(S.mean(0), 1.0)


def made(model, delay=0.01, timescale=0.08, n_trials=30):
    """A recording of the model, and the parameters that it was drawn with."""
    rng = np.random.default_rng(0)
    noise = {name: rng.normal(size=(n_trials, 60, count)) for name, count in (("A", 5), ("B", 4))}
    data = mrgp.MultiRegionData(noise, 0.02)
    assignment = model.assignment(data.layout)
    sites = {"loadings": rng.normal(size=(9, assignment.n_columns)), "noise": np.ones(9), "offset": np.zeros(9),
             "timescale_across": np.full(model.n_across, timescale), "delay": np.full((1, model.n_across), delay),
             "timescale_within": np.full(sum(assignment.n_within), 0.05)}  # fmt: skip
    sites |= {f"{name}_across": np.full(model.n_across, 2.0) for name in model.kernel.parameters()}
    wanted = (*model.tables.dynamics_sites(data.layout), "loadings", "noise", "offset")
    sites = {name: value for name, value in sites.items() if name in wanted}
    program = model.replace(likelihood="dense")
    drawn = program.likelihood_at(data, sites).sample(jax.random.key(1))
    return data.with_values(np.asarray(drawn)), sites


SCALED = {
    "private latents of one region": (DLAG(1, (0, 1)), {}),
    "near the bound of delays": (DLAG(1, 0, max_delay=0.1), {"delay": 0.09}),
    "near the bound of timescales": (DLAG(1, 0, timescale_bounds=(0.01, 0.085)), {}),
    "a rhythm": (GPFA(1, kernel=Spectral(SquaredExponential())), {}),
}


KNOWN = {"near the bound of timescales", "a rhythm"}  # as near that of delays; a rhythm's information is above


@pytest.mark.slow_cases("private latents of one region")
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in KNOWN else case for case in SCALED]
)
def test_scales_are_posterior_standard_deviations(case):
    """To a factor of two: the information is of one latent, others being known, and expected, not observed."""
    model, more = SCALED[case]
    data, sites = made(model, **more)
    scales = model.fitting.scales(data, sites)
    objective = Objective(LogJoint(model.replace(likelihood="dense")), data, sites, scales)
    for name in model.tables.dynamics_sites(data.layout):
        assert np.shape(scales[name]) == np.shape(sites[name])
        wanted = 1 / np.sqrt(diagonal(objective, name) + WIDEST_STEP**-2)
        np.testing.assert_allclose(np.log2(scales[name] / wanted), 0, atol=1, err_msg=name)


@pytest.mark.parametrize("regions", [2, 3])
@pytest.mark.parametrize("model", [ADM(2, 0), ADM(1, 1), MDLAG(2), GPFA(2), FA(2), LDS(2), GFA(2)], ids=repr)
def test_every_site_has_a_scale_of_its_shape(model, regions):
    rng = np.random.default_rng(0)
    data = mrgp.MultiRegionData({f"r{r}": rng.normal(size=(4, 20, 5)) for r in range(regions)}, 0.02)
    model = model.prepared(data)
    sites = {name: np.full(np.shape(site["value"]), 0.05) for name, site in free_sites(model, data).items()}
    scales = model.fitting.scales(data, sites)
    for name, value in sites.items():
        np.broadcast_to(scales.get(name, 1.0), value.shape)
        assert np.isfinite(scales.get(name, 1.0)).all()
        assert np.all(np.asarray(scales.get(name, 1.0)) > 0)


def test_of_a_silent_latent_nothing_is_known():
    model = DLAG(2, 1)
    data, sites = made(model)
    silent = {**sites, "loadings": np.zeros_like(sites["loadings"])}
    assert all(
        np.all(model.fitting.scales(data, silent)[name] == WIDEST_STEP)
        for name in model.tables.dynamics_sites(data.layout)
    )


def test_readouts_are_told_by_what_the_other_entries_leave_open():
    """Noise over the variance of a neuron given all others, from the inverse of the whole covariance of a frequency."""
    model, rng = DLAG(2, (1, 0, 2)), np.random.default_rng(3)
    sizes = {"A": 4, "B": 1, "C": 5}
    data = mrgp.MultiRegionData({name: rng.normal(size=(1, 20, size)) for name, size in sizes.items()}, 0.02)
    assignment, eps = model.assignment(data.layout), 0.02
    C, noise = rng.normal(size=(10, assignment.n_columns)) * assignment.used, rng.uniform(0.2, 2.0, 10)
    noise[6] = 1e-6  # all but a latent itself
    delay = np.array([[0.0, 0.0], [1.5, -2.0], [-0.5, 3.0]])
    timescales = np.array([2.0, 5.0]), np.array([1.0, 3.0, 8.0])
    across, within = (spectrum(SquaredExponential(), {"timescale": timescale}, 20) for timescale in timescales)
    found = of_readouts(assignment, C, noise, delay, across, within, eps)
    region, share, power = assignment.region_of_neuron, np.zeros((20, 10)), np.zeros((20, *C.shape))
    for f, frequency in enumerate(np.fft.fftfreq(20)):
        turn = np.exp(-2j * np.pi * frequency * delay)[region]
        V = np.diag(noise) + 0j
        V += (1 - eps) * (C[:, :2] * turn) @ np.diag(across[f]) @ (C[:, :2] * turn).conj().T
        own = np.zeros((10, 3))
        for latent, (r, column) in enumerate([(0, 2), (2, 2), (2, 3)]):
            own[:, latent] = np.where(region == r, C[:, column], 0)
            power[f, region == r, column] = within[f, latent]
        power[f, :, :2] = across[f]
        V += (1 - eps) * own @ np.diag(within[f]) @ own.T + eps * (C @ C.T) * (region[:, None] == region)
        share[f] = noise / (1 / np.diag(np.linalg.inv(V)).real)
    used = assignment.used
    told = ((((1 - eps) * power + eps) * share[:, :, None]).sum(0))[used]
    np.testing.assert_allclose(found.loadings[used], told, rtol=3e-4)
    np.testing.assert_allclose(found.noise, (share**2).sum(0), rtol=3e-4)
    np.testing.assert_allclose(found.offset, 20 * share[0], rtol=3e-4)  # of the neuron without noise digits are lost
    assert found.noise[6] < 1e-3 < 1 < found.noise[[0, 1, 2, 3, 4, 5, 7, 8, 9]].min()
    np.testing.assert_array_equal(found.loadings[~used], 20)


def with_a_copy(error):
    """Nine neurons of two latents, the first of which is there once more; and where climbs may begin."""
    data, sites = made(GPFA(2), n_trials=20)
    copy = data.values[:, :, :1] + error * np.random.default_rng(1).normal(size=(20, 60, 1))
    data = mrgp.MultiRegionData({"A": np.concatenate([data.values, copy], 2)}, 0.02)
    loadings = np.pad(sites["loadings"], ((0, 1), (0, 1))) + 0.1
    begin = {"loadings": loadings, "noise": np.full(10, 0.5), "offset": np.zeros(10),
             "timescale_across": np.full(3, 0.05)}  # fmt: skip
    return data, begin


@pytest.mark.slow
def test_neurons_without_noise_do_not_hold_a_climb_up():
    """Their loadings may go far further than their noise says."""
    data, begin = with_a_copy(0.02)
    model, spent = GPFA(3).prepared(data), {}
    for known in (False, True):
        place, evaluations, heights = begin, 0, [-np.inf]
        for _ in range(20):
            objective = Objective(LogJoint(model), data, place, model.fitting.scales(data, place, known=known))
            ascent = maximise(objective, tolerance=0.01, max_iterations=30)
            place, evaluations = ascent.sites, evaluations + ascent.evaluations
            heights.append(ascent.log_joint)
            if heights[-1] < heights[-2] + 0.01:
                break
        spent[known] = (heights[-1], evaluations)
    assert spent[False][0] > spent[True][0] - 0.5
    assert spent[False][1] < spent[True][1]


@pytest.mark.slow
def test_a_neuron_that_is_there_twice_has_a_likelihood():
    data, _ = with_a_copy(0.0)
    model = FA(3).prepared(data)
    with pytest.warns(UserWarning, match="latents explain all of region A, neurons 0, 9: the same spikes"):
        fit, other = (model.fit(data, progress=False, n_starts=1, tolerance=1e-4, seed=seed) for seed in (0, 1))
    noise = np.maximum(fit.sites["noise"], 1e-6 * np.asarray(data.scale) ** 2)
    V = fit.sites["loadings"] @ fit.sites["loadings"].T + np.diag(noise)
    dense = multivariate_normal(np.asarray(fit.sites["offset"]), V).logpdf(data.values.reshape(-1, 10)).sum()
    assert fit.trace[-1] == pytest.approx(other.trace[-1], abs=0.5)
    assert float(fit.log_likelihood().sum()) == pytest.approx(dense, rel=1e-5)
    below = {**fit.sites, "noise": np.where(np.arange(10) == 9, 1e-30, noise)}
    at = {**fit.sites, "noise": np.where(np.arange(10) == 9, 1e-6 * np.asarray(data.scale) ** 2, noise)}
    assert float(model.log_likelihood(data, below).sum()) == float(model.log_likelihood(data, at).sum())
    slope = jax.grad(lambda low: LogJoint(model)({**below, "noise": low}, data))(jnp.asarray(below["noise"]))
    assert slope[9] > 0  # back to where it is heard
