"""GPVAE: what it says of simulations whose truth is known, of missing regions, and of what it is made from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import DLAG, GPVAE
from mrgp.models.gpvae import WEIGHT
from numpyro import handlers

import mrgp
from mrgp.inference.amortised_parameters import Values, first_values, strides
from mrgp.inference.method import Method
from mrgp.part import rebuilt
from mrgp.parts.emissions import ByRegion
from mrgp.recordings.checks import DataError
from mrgp.results.amortised_conditional import AmortisedConditional
from mrgp.results.draws import weights_of
from mrgp.results.processes_with_guide import factors_of

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
    return AmortisedConditional(model=model, data=data, values=Values(networks, shared))


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
    hidden["spikes"][:] = np.nan
    known = untrained(model, mrgp.MultiRegionData(hidden, 0.02, drop_dead=None))
    latents = known.latents()
    np.testing.assert_allclose(latents["within_mean"][..., 1], 0.0, atol=1e-12)
    np.testing.assert_allclose(latents["within_sd"][..., 1], 1.0, rtol=1e-6)
    assert (latents["within_sd"][..., 0] < 0.95).mean() > 0.9  # of the other region factors tell
    mean, sd = known.predictive()
    expected, variance = known.moments()
    # Both are means over the same number of draws: they differ by what draws differ by.
    error = 6 * np.sqrt(variance / 200)
    assert (np.abs(mean - expected)[..., 4:] < error[..., 4:]).all()
    assert np.abs(np.log(sd / np.sqrt(variance)))[..., 4:].max() < 0.5


@pytest.mark.slow
def test_training_begins_at_the_lags_of_the_recording(mixed):
    truth = {"delay": DELAY, "timescale_across": 0.1, "timescale_within": 0.06}
    for emission in ("gaussian", "poisson"):
        model = DLAG(1, 1, max_delay=0.06, emission=emission)
        data = mrgp.simulate(model, sites=truth, regions=REGIONS, snr=0.3, n_trials=100, n_bins=50, seed=0).data
        guess = linear(1, emission=emission).first_guess(data)
        assert abs(guess["delay"][0, 0] - DELAY) <= 0.0101  # the nearest bin, or the next
        assert guess["timescale_across"][0] == pytest.approx(0.1, rel=0.2)
    model = GPVAE(1, (1, 2), emission=BOTH, hidden={"images": (4,), "spikes": ()})
    several = model.first_guess(mixed)  # of values and counts, with holes
    assert {name: np.shape(value) for name, value in several.items()} == {
        "delay": (1, 1), "timescale_across": (1,), "timescale_within": (3,), WEIGHT.format(1): (5, 3)
    }  # fmt: skip
    assert all(np.isfinite(value).all() for value in several.values())
    assert "delay" not in GPVAE(1, emission=BOTH, delays=mrgp.NoDelay()).first_guess(mixed)


@pytest.mark.slow
def test_bins_of_which_nothing_is_seen_have_no_factor(mixed):
    roots = np.asarray(factors_of(untrained(linear(1, emission=BOTH), mixed)).roots)
    images, spikes = [0, 2], [1, 3]  # readouts of each region
    assert not roots[0, 5:].any()
    assert not roots[1, 2][images].any()
    assert (np.diagonal(roots[1, 2])[spikes] > 0).all()
    assert (np.diagonal(roots[3], axis1=1, axis2=2) > 0).all()
    assert not roots[..., 0, spikes].any()  # and none across regions
    assert not roots[..., spikes, 0].any()


@pytest.mark.slow
def test_q_of_a_linear_readout_of_gaussian_values_is_the_posterior():
    sizes = {"A": 3, "B": 4}
    exact = DLAG(1, 1, kernel=mrgp.Matern32(), max_delay=0.04, likelihood=mrgp.Kalman(order=4))
    truth = {"delay": DELAY, "timescale_across": 0.1, "timescale_within": 0.06}
    made = mrgp.simulate(exact, sites=truth, regions=sizes, n_trials=4, n_bins=7, missing=0.2, seed=1)
    data, model = made.data, GPVAE(1, 1, kernel=mrgp.Matern32(), hidden=(), encoder=(4,), max_delay=0.04)
    first = first_values(model, data, jax.random.key(0))
    per_unit = made.sites["loadings"] / np.asarray(data.scale)[:, None]
    networks = dict(first.networks)
    for r, part in enumerate(data.layout.region_slices.values()):
        name = f"readout_{r}$params"
        networks[name] = jax.tree.map(lambda _, part=part: jnp.asarray(per_unit[part], jnp.float32), networks[name])
    known = AmortisedConditional(model, data, Values(networks, {n: jnp.asarray(made.sites[n]) for n in first.shared}))
    weights = np.asarray(known.over_draws(weights_of, 3))
    np.testing.assert_allclose(weights, np.tile(weights[0], (3, 1)), rtol=1e-6)  # whatever is drawn, p / q is p(y)
    # The two models read delays by registers of their own, which miss a thousandth of a latent's variance at most.
    np.testing.assert_allclose(weights[0], exact.log_likelihood(data, made.sites), atol=0.02)
    latents = exact.conditional(data, made.sites).latents()
    np.testing.assert_allclose(known.latents()["across_mean"], latents["across_mean"], atol=0.02)


@pytest.mark.slow
def test_delays_are_found_with_their_intervals(tmp_path):
    truth = {"delay": DELAY, "timescale_across": 0.08}
    model = DLAG(1, 0, max_delay=0.06, kernel=mrgp.Matern52())
    made = mrgp.simulate(model, sites=truth, regions=REGIONS, n_trials=60, n_bins=15, seed=4)
    fit = linear(kernel=mrgp.Matern52()).fit(
        made.data, progress=False, max_iterations=60, learning_rate=5e-3, batch_size=16, patience=8
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


def test_linear_readouts_say_how_they_are_trained():
    """Nothing is hidden, and nothing warms up, unless a user says so; networks have the method's own settings."""
    plain, by_region = GPVAE(1, hidden=()), GPVAE(1, hidden={"A": (), "B": ()})
    for model in (plain, by_region):
        assert Method.chosen("amortised_svi", {}, model) == mrgp.AmortisedSVI(hidden_share=0.0, warm_up=0)
    own = Method.chosen("amortised_svi", {"warm_up": 7, "patience": 3}, plain)
    assert own == mrgp.AmortisedSVI(hidden_share=0.0, warm_up=7, patience=3)
    assert Method.chosen(mrgp.AmortisedSVI(), {}, plain) == mrgp.AmortisedSVI()
    for model in (GPVAE(1), GPVAE(1, hidden={"A": (), "B": (8,)})):
        assert Method.chosen("amortised_svi", {}, model) == mrgp.AmortisedSVI()


def test_delays_and_timescales_take_long_steps_once_the_divergence_counts():
    free = Values({"net": jnp.zeros(2)}, {name: jnp.zeros(1) for name in ("delay", "timescale_across", "A_noise")})
    at_first, later = strides(free, 0.0), strides(free)
    assert at_first == Values({"net": 1.0}, {"delay": 0.0, "timescale_across": 0.0, "A_noise": 1.0})
    assert later == Values({"net": 1.0}, {"delay": 3.0, "timescale_across": 3.0, "A_noise": 1.0})


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
