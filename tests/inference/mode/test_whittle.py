"""What latents tell of delays and of kernel parameters, against the Fisher information of dense Gaussian processes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import ADM, DLAG, FA, GFA, GPFA, LDS, MDLAG

import mrgp
from mrgp.families.scales import WIDEST_STEP
from mrgp.inference.density import LogJoint, free_sites
from mrgp.inference.mode.curvature import diagonal
from mrgp.inference.mode.whittle import heard, of_delay, of_kernel, spectrum
from mrgp.inference.optimise import Objective
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
