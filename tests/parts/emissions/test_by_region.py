"""Emissions by region: neurons are in the recording's order, whatever that of the mapping."""

import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from scipy import stats

import mrgp
from mrgp.parts.latents import LatentLayout

RNG = np.random.default_rng(4)
VALUES, COUNTS = RNG.normal(3.0, 2.0, (6, 5, 2)), RNG.poisson(2.0, (6, 5, 3))
DATA = mrgp.MultiRegionData({"images": VALUES, "spikes": COUNTS}, 0.02)
OTHER_WAY = mrgp.ByRegion(("spikes", "images"), (mrgp.Poisson(), mrgp.Gaussian()))


def test_neurons_are_in_the_order_of_the_recording():
    np.testing.assert_allclose(OTHER_WAY.unit(DATA), [*VALUES.std((0, 1)), 1, 1, 1], rtol=1e-6)
    with handlers.seed(rng_seed=0), handlers.trace() as trace:
        readout = OTHER_WAY.sample(DATA, LatentLayout((2, 3), 1, (0, 0)), jnp.zeros((5, 1)))
    offsets = [trace[name]["value"] for name in ("images_offset", "spikes_offset")]
    np.testing.assert_array_equal(readout.offset, np.concatenate(offsets))
    noise = trace["images_noise"]["value"]
    np.testing.assert_array_equal(readout.noise[:2], noise)
    eta = RNG.normal(size=(6, 5, 5))
    found = OTHER_WAY.given(readout, jnp.asarray(eta)).log_prob(DATA.floats)
    np.testing.assert_allclose(found[..., :2], stats.norm.logpdf(VALUES, eta[..., :2], np.sqrt(noise)), rtol=1e-9)
    np.testing.assert_allclose(found[..., 2:], stats.poisson.logpmf(COUNTS, np.exp(eta[..., 2:])), rtol=1e-9)


def test_trivial_log_likelihoods_are_of_each_region_in_its_place():
    own = np.concatenate([
        mrgp.Gaussian().trivial_log_likelihood(mrgp.MultiRegionData({"images": VALUES}, 0.02)),
        mrgp.Poisson().trivial_log_likelihood(mrgp.MultiRegionData({"spikes": COUNTS}, 0.02)),
    ])  # fmt: skip
    np.testing.assert_allclose(OTHER_WAY.trivial_log_likelihood(DATA), own, rtol=1e-12)
