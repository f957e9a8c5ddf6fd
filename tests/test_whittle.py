"""What latents tell of delays and of kernel parameters, against the Fisher information of dense Gaussian processes."""

import jax.numpy as jnp
import numpy as np
import pytest

import mrgp
from mrgp.inference.whittle import heard, of_delay, of_kernel, spectrum
from mrgp.kernels import Matern32, RationalQuadratic, Spectral, SquaredExponential

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


@pytest.mark.parametrize("model", [mrgp.models.DLAG(2, 1), mrgp.models.GPFA(2), mrgp.models.DLAG(1, (0, 2))])
def test_every_latent_has_a_scale(made_two_regions, model):
    data, sites = made_two_regions(model)
    scales = model.scales(data, sites)
    for name in model.dynamics_sites(data.layout):
        assert np.shape(scales[name]) == np.shape(sites[name])
        assert np.isfinite(scales[name]).all()
        assert (scales[name] > 0).all()
    silent = {**sites, "loadings": np.zeros_like(sites["loadings"])}
    assert all(np.all(model.scales(data, silent)[name] == 0.3) for name in model.dynamics_sites(data.layout))


@pytest.fixture
def made_two_regions():
    def make(model):
        rng = np.random.default_rng(0)
        data = mrgp.MultiRegionData({"A": rng.normal(size=(4, 20, 5)), "B": rng.normal(size=(4, 20, 4))}, 0.02)
        within = sum(model.assignment(data.layout).n_within)
        sites = {"loadings": rng.normal(size=(9, model.assignment(data.layout).n_columns)), "noise": np.ones(9),
                 "offset": np.zeros(9), "timescale_across": np.full(model.n_across, 0.08),
                 "timescale_within": np.full(within, 0.05), "delay": np.full((1, model.n_across), 0.01)}  # fmt: skip
        return data, {name: value for name, value in sites.items() if value.size}
    return make
