"""GPVAE: what it says of simulations whose truth is known, of missing regions, and of what it is made from."""

import jax
import numpy as np
import pytest
from mrgp.models import DLAG, GPVAE
from numpyro import handlers

import mrgp
from mrgp.inference.amortised_parameters import Values
from mrgp.part import rebuilt
from mrgp.parts.emissions import ByRegion
from mrgp.recordings.checks import DataError
from mrgp.results.structured_fit import StructuredConditional

pytest.importorskip("equinox")
pytest.importorskip("optax")
pytestmark = pytest.mark.filterwarnings("ignore:the fit has not converged")

REGIONS = {"A": 10, "B": 12}
DELAY = 0.03  # seconds, one bin and a half


def linear(n_within=0, **settings):
    return GPVAE(1, n_within, hidden=(), encoder=(8,), max_delay=0.06, **settings)


@pytest.fixture(scope="module")
def mixed():
    """Gaussian values in one region, counts in the other; one trial is short, some bins have holes."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 8, 4)) + 3.0
    counts = rng.poisson(2.0, (6, 8, 5)).astype(float)
    values[0, 5:], counts[0, 5:] = np.nan, np.nan
    values[1, 2], counts[2, :, 1] = np.nan, np.nan
    return mrgp.MultiRegionData({"images": values, "spikes": counts}, 0.02)


BOTH = {"images": "gaussian", "spikes": "poisson"}


def untrained(model, data):
    """The model with its first parameters, given a recording."""
    traces = [handlers.trace(handlers.seed(part, 0)).get_trace(data) for part in (model.guide, model)]
    sites = {name: site for trace in traces for name, site in trace.items()}
    networks = {name: site["value"] for name, site in sites.items() if site["type"] == "param"}
    own = {"delay", "timescale_across", "timescale_within", "images_noise", "images_offset", "spikes_offset"}
    shared = {name: site["value"] for name, site in sites.items() if name in own}
    return StructuredConditional(model=model, data=data, values=Values(networks, shared))


@pytest.mark.slow
def test_regions_have_emissions_and_networks_of_their_own(mixed):
    model = GPVAE(1, (1, 2), emission=BOTH, hidden={"images": (5, 6), "spikes": ()}, encoder=(8,))
    assert model.emission == ByRegion(("images", "spikes"), (mrgp.Gaussian(), mrgp.Poisson()))
    assert rebuilt("model", model.to_settings()) == model
    known = untrained(model, mixed)
    sizes = {r: [leaf.shape for leaf in jax.tree.leaves(known.values.networks[f"readout_{r}$params"])] for r in (0, 1)}
    assert sizes == {0: [(5, 2), (5,), (6, 5), (6,), (4, 6)], 1: [(5, 3)]}
    mean, sd = known.predictive()
    assert np.isfinite(mean).all()
    assert (sd > 0).all()
    assert (mean[..., 4:] > 0).all()  # counts are
    y = known.sample(jax.random.key(0))
    assert (y[..., 4:] == np.round(y[..., 4:])).all()
    assert (y[..., :4] != np.round(y[..., :4])).all()


@pytest.mark.slow
def test_a_region_of_which_nothing_is_seen_is_left_to_the_prior(mixed):
    model = GPVAE(0, 1, emission=BOTH, encoder=(8,))
    hidden = {"images": mixed.with_nan()[..., :4].copy(), "spikes": mixed.with_nan()[..., 4:].copy()}
    hidden["spikes"][1:] = np.nan
    known = untrained(model, mrgp.MultiRegionData(hidden, 0.02, drop_dead=None))
    latents = known.latents()
    np.testing.assert_allclose(latents["within_mean"][1:, :, 1], 0.0, atol=1e-12)
    np.testing.assert_allclose(latents["within_sd"][1:, :, 1], 1.0, rtol=1e-6)
    assert (latents["within_sd"][1:, :, 0] < 0.95).mean() > 0.9  # of the other region factors tell
    mean, sd = known.predictive()
    expected, variance = known.moments()
    # Both are means over the same number of draws: they differ by what draws differ by.
    error = 6 * np.sqrt(variance / 200)
    assert (np.abs(mean - expected)[1:, :, 4:] < error[1:, :, 4:]).all()
    assert np.abs(np.log(sd / np.sqrt(variance)))[1:, :, 4:].max() < 0.5


def test_bins_of_which_nothing_is_seen_have_no_factor(mixed):
    roots = np.asarray(untrained(linear(1, emission=BOTH), mixed).factors().roots)
    images, spikes = [0, 2], [1, 3]  # readouts of each region
    assert not roots[0, 5:].any()
    assert not roots[1, 2][images].any()
    assert (np.diagonal(roots[1, 2])[spikes] > 0).all()
    assert (np.diagonal(roots[3], axis1=1, axis2=2) > 0).all()
    assert not roots[..., 0, spikes].any()  # and none across regions
    assert not roots[..., spikes, 0].any()


@pytest.mark.slow
def test_delays_are_found_with_their_intervals(tmp_path):
    truth = {"delay": DELAY, "timescale_across": 0.08}
    model = DLAG(1, 0, max_delay=0.06, kernel=mrgp.Matern52())
    made = mrgp.simulate(model, sites=truth, regions=REGIONS, n_trials=60, n_bins=15, seed=4)
    fit = linear(kernel=mrgp.Matern52()).fit(
        made.data, progress=False, max_iterations=150, warm_up=10, learning_rate=2e-2, batch_size=32
    )
    bounds = fit.delay_intervals(0.98)
    found, low, high = (float(bounds[name][1, 0]) for name in ("delay", "lower", "upper"))
    assert low < DELAY < high
    assert high - low < 0.02  # a bin: it says something
    exact = model.fit(made.data, progress=False)
    # Linear networks read what DLAG reads, whose interval profiles out the loadings too.
    theirs = exact.delay_intervals(0.98)
    assert abs(found - float(exact.delays[1, 0])) < 0.3 * (high - low)
    assert 0.6 < (high - low) / float((theirs["upper"] - theirs["lower"])[1, 0]) < 1.4
    scales = fit.timescale_intervals(0.98)
    assert scales["across_lower"][0] < exact.timescales["across"][0] < scales["across_upper"][0]
    # The bound is a bound, and within 1 nat a trial of what no bound is above.
    log_p = exact.log_likelihood().values
    bound = fit.log_likelihood().values
    assert bound.mean() < log_p.mean() + 0.1
    assert bound.mean() > log_p.mean() - 1.0
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.latents(made.data)["across_mean"], fit.latents()["across_mean"])
    assert again.delays.equals(fit.delays)
    assert again.model == fit.model


def test_it_is_refused_what_it_has_no_use_for(mixed):
    with pytest.raises(ValueError, match="delays that stay"):
        GPVAE(1, delays=mrgp.VaryingDelay(longest=0.1))
    with pytest.raises(ValueError, match="encoder needs"):
        GPVAE(1, encoder=())
    with pytest.raises(ValueError, match="cannot be negative"):
        GPVAE(0, 0)
    with pytest.raises(ValueError, match="autocorrelated"):
        GPVAE(1, emission={"images": mrgp.AutocorrelatedGaussian()})
    with pytest.raises(DataError, match="region spikes has no emission"):
        GPVAE(1, emission={"images": "gaussian"}).fit(mixed, progress=False)
    with pytest.raises(DataError, match="region spikes has no hidden units"):
        GPVAE(1, emission=BOTH, hidden={"images": (4,)}).fit(mixed, progress=False)
