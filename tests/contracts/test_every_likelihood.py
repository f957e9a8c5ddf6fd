"""Every likelihood: log p(y) of dense normals, where it is exact, and the emissions that it has a density of."""

import jax
import numpy as np
import pytest
import registry
from mrgp.models import DLAG, PCCA
from numpyro import handlers
from scipy.stats import multivariate_normal

import mrgp

RNG = np.random.default_rng(0)
BIN = registry.BIN_WIDTH
LIKELIHOODS = registry.PARTS["likelihood"]


def recording(covariance, sites, holes):
    """Three trials of two regions drawn from a normal; with ``holes`` some are missing, and one trial ends early."""
    n_neurons = len(sites["offset"])
    n_bins = len(covariance) // n_neurons
    values = RNG.multivariate_normal(np.tile(sites["offset"], n_bins), covariance, 3).reshape(3, n_bins, n_neurons)
    if holes:
        values[0, 1, 2] = values[1, 2, 3] = values[2, n_bins - 2 :] = np.nan
    return mrgp.MultiRegionData({"V1": values[..., :3], "V2": values[..., 3:]}, BIN)


def normal(covariance, data, sites):
    """log p of each trial by SciPy, of covariances over (time, neuron); what is missing is left out."""
    scores = []
    for trial, mask in zip(data.values, data.mask, strict=True):
        seen = mask.ravel()
        mean = np.tile(sites["offset"], data.n_bins)[seen]
        known = multivariate_normal(mean, covariance[np.ix_(seen, seen)])
        scores.append(known.logpdf(np.asarray(trial).ravel()[seen]))
    return np.array(scores)


def some_sites(n_columns):
    loadings = RNG.standard_normal((5, n_columns))
    return {"loadings": loadings, "noise": RNG.uniform(0.3, 1.0, 5), "offset": RNG.standard_normal(5)}


@pytest.fixture(params=LIKELIHOODS, ids=lambda part: type(part).__name__)
def likelihood(request):
    """Every likelihood in turn."""
    return request.param


def test_white_latents_have_the_density_of_bins_one_by_one(likelihood):
    """All are exact there; the spectral one needs trials without holes."""
    model, sites = PCCA(1, 1, likelihood=type(likelihood)()), some_sites(2)
    shared, own = sites["loadings"].T
    region = np.array([0, 0, 0, 1, 1])
    alike, eps = region[:, None] == region, model.gp_noise
    one_bin = (1 - eps + eps * alike) * np.outer(shared, shared) + alike * np.outer(own, own) + np.diag(sites["noise"])
    covariance = np.kron(np.eye(4), one_bin)
    data = recording(covariance, sites, holes=not likelihood.is_spectral)
    np.testing.assert_allclose(model.log_likelihood(data, sites), normal(covariance, data, sites), rtol=1e-9)


def test_delayed_latents_have_the_density_of_their_covariance(likelihood):
    """Exact of a Matern kernel at whole delays; spectral where trials are long beside timescale and delay."""
    n_bins, eps, timescale, delay = 60 if likelihood.is_spectral else 6, 1e-2, 2.0, np.array([0.0, 2.0])
    model = DLAG(1, 0, kernel=mrgp.Matern32(), max_delay=3 * BIN, gp_noise=eps, likelihood=likelihood)
    sites = {**some_sites(1), "delay": BIN * delay[1:, None], "timescale_across": np.array([BIN * timescale])}
    region, bins = np.tile([0, 0, 0, 1, 1], n_bins), np.repeat(np.arange(n_bins), 5)
    time = bins - delay[region]
    u = np.sqrt(3) * np.abs(time[:, None] - time) / timescale
    same = (bins[:, None] == bins) & (region[:, None] == region)
    C = np.tile(sites["loadings"][:, 0], n_bins)
    covariance = np.outer(C, C) * ((1 - eps) * (1 + u) * np.exp(-u) + eps * same)
    covariance += np.diag(np.tile(sites["noise"], n_bins))
    data = recording(covariance, sites, holes=not likelihood.is_spectral)
    # Registers stand on whole bins; the ridge of their conditioning, 1e-11, is what is left.
    close = {"rtol": 0.01} if likelihood.is_spectral else {"atol": 1e-6}
    np.testing.assert_allclose(model.log_likelihood(data, sites), normal(covariance, data, sites), **close)


@pytest.mark.parametrize("emission", registry.PARTS["emission"], ids=lambda part: type(part).__name__)
def test_it_has_a_density_of_an_emission_or_says_that_it_has_none(likelihood, emission):
    data = mrgp.MultiRegionData({name: RNG.poisson(2.0, (2, 5, 3)) for name in ("V1", "V2")}, BIN)

    def scores(key):
        model = DLAG(1, 0, likelihood=likelihood, emission=emission)
        observed = handlers.trace(handlers.seed(model, key)).get_trace(data)["y"]
        return observed["fn"].log_prob(observed["value"])

    if likelihood.objection(emission) is None:
        assert jax.eval_shape(scores, jax.random.key(0)).shape == (2,)
    else:
        with pytest.raises(ValueError, match="likelihood"):
            scores(jax.random.key(0))
