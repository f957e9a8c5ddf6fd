"""Prior of loadings: how much all latents together add to a neuron."""

import mrgp.models
import numpy as np
import pytest
from numpyro import handlers
from numpyro.infer.util import log_density
from scipy.stats import norm

import mrgp

RNG = np.random.default_rng(0)
COUNTS = mrgp.MultiRegionData({"V1": RNG.poisson(2.0, (6, 8, 3)), "V2": RNG.poisson(0.1, (6, 8, 2))}, 0.02)
READ = np.array([4, 4, 4, 3, 3])  # two shared latents, and two or one of the region's own
MODELS = {
    "counts": (mrgp.models.DLAG(2, (2, 1), emission="poisson", loadings=mrgp.Weak(signal_spread=0.7)), np.ones(5)),
    "values": (mrgp.models.DLAG(2, (2, 1), loadings=mrgp.Weak(signal_spread=0.7)), np.asarray(COUNTS.scale)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_latents_of_any_number_add_the_same_spread(name):
    model, unit = MODELS[name]
    model = model.prepared(COUNTS)
    trace = handlers.trace(handlers.seed(model, 0)).get_trace(COUNTS)
    loadings = RNG.standard_normal(trace["loadings"]["value"].shape)
    free = [site for site in trace.values() if site["type"] == "sample" and not site["is_observed"]]
    sites = {site["name"]: site["value"] for site in free}
    _, found = log_density(model, (COUNTS,), {}, sites | {"loadings": loadings})
    prior = np.asarray(found["loadings"]["fn"].log_prob(loadings))
    scale = 0.7 * unit / np.sqrt(READ)
    np.testing.assert_allclose(prior, norm.logpdf(loadings, 0.0, scale[:, None]).sum(1), rtol=1e-12)
    # Latents have variance 1 and are independent: variances of what they add, one by one, sum to the spread's square.
    np.testing.assert_allclose(READ * scale**2, (0.7 * unit) ** 2, rtol=1e-12)


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.inf, np.nan])
def test_a_spread_is_a_positive_number(wrong):
    with pytest.raises(ValueError, match="signal_spread is a positive number"):
        mrgp.Weak(signal_spread=wrong)
