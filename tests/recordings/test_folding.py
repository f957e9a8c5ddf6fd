"""Few trials that stand for all: densities, bounds and updates of independent bins and frequencies are those of all."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import DLAG, FA, GFA, GPFA, LDS, MDLAG, PCCA
from numpyro.infer.util import log_density
from scipy.stats import norm

import mrgp
from mrgp.inference.density import known_sites
from mrgp.inference.search import reduced
from mrgp.inference.variational_bayes.bound import Setting
from mrgp.inference.variational_bayes.rounds import value_of
from mrgp.inference.variational_bayes.updates import revival, update
from mrgp.recordings import folding, observations
from mrgp.recordings.folding import ScatterOfBins, ScatterOfFrequencies, folded

N_TRIALS, N_BINS, N_NEURONS = 60, 3, 7  # so that the scatter needs three trials and one


def recording(conditions=None, seed=0, n_bins=N_BINS):
    rng = np.random.default_rng(seed)
    course = rng.standard_normal((3, n_bins, N_NEURONS))
    condition = np.arange(N_TRIALS) % 3 if conditions is None else conditions
    mixing = rng.standard_normal((N_NEURONS, N_NEURONS))
    values = 5 + course[condition] + rng.standard_normal((N_TRIALS, n_bins, N_NEURONS)) @ mixing
    regions = {"A": values[..., :4], "B": values[..., 4:]}
    return mrgp.MultiRegionData(regions, 0.02, trial_coords={"condition": condition})


def sites_of(model, data, seed=1):
    """Random sites, positive where they must be."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, site in known_sites(model, data).items():
        draw = rng.standard_normal(np.shape(site["value"]))
        found[name] = np.exp(0.3 * draw) if np.all(np.asarray(site["value"]) > 0) else draw
    return found


MODELS = {
    "fa": FA(2), "fa_psth": FA(2, mean="psth"), "pcca_dense": PCCA(1, 1, mean="psth", likelihood="dense"),
    "gfa_psth": GFA(2, mean="psth"), "gfa_spectral": GFA(2, mean="psth", likelihood="spectral"),
    "gpfa_spectral": GPFA(2, likelihood="spectral"), "dlag_spectral": DLAG(1, 1, mean="psth", likelihood="spectral"),
}  # fmt: skip


@pytest.mark.slow_cases("fa-3", "fa_psth-3", "gfa_psth-3", "gpfa_spectral-3")
@pytest.mark.parametrize(
    ("name", "n_bins"), [*((name, N_BINS) for name in MODELS), ("gpfa_spectral", 4), ("dlag_spectral", 4)]
)
def test_few_trials_have_the_density_of_all(name, n_bins):
    data = recording(n_bins=n_bins)
    model = MODELS[name].prepared(data)
    few = model.fitting.folded(data)
    remembers = name in ("gpfa_spectral", "dlag_spectral")
    assert few.n_trials == (N_NEURONS if remembers else 3) + 1 + 2  # of one condition, and the means of the others
    assert few.weight.sum() == N_TRIALS
    np.testing.assert_array_equal(few.scale, data.scale)  # priors are those of all trials
    sites = sites_of(model, data)
    density = jax.jit(jax.value_and_grad(lambda at, some: log_density(model, (some,), {}, at)[0]))
    (whole, slopes), (ours, own) = (density(sites, jax.tree.map(np.asarray, some)) for some in (data, few))
    assert float(ours) == pytest.approx(float(whole), rel=1e-12)
    for site, slope in slopes.items():
        np.testing.assert_allclose(own[site], slope, atol=1e-9 * np.abs(slope).max(initial=1e-3))


@pytest.mark.slow
@pytest.mark.parametrize("model", [GFA(2, mean="psth"), MDLAG(2, mean="psth", likelihood="spectral")])
def test_rounds_of_variational_bayes_see_no_difference(model):
    data = recording()
    model = model.prepared(data)
    sites = {name: value for name, value in sites_of(model, data).items() if name != "alpha"}
    sites["loadings"] = np.array(sites["loadings"])
    sites["loadings"][:4, 1] = 0.0  # held, so that there is something to revive
    covariance = np.tile(0.1 * np.eye(2), (N_NEURONS, 1, 1))
    few = model.fitting.folded(data)
    assert few.n_trials < N_TRIALS / 2
    settings = [Setting.of(some, sites["loadings"], covariance) for some in (data, few)]
    np.testing.assert_allclose(settings[1].observed, settings[0].observed)
    values = [value_of(model, sites, setting) for setting in settings]
    assert values[1] == pytest.approx(values[0], rel=1e-12)
    for ours, whole in zip(*(jax.tree.leaves(update(model, sites, s)) for s in settings[::-1]), strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-8, atol=1e-10)
    for ours, whole in zip(*(revival(model, sites, s) for s in settings[::-1]), strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scatter", [ScatterOfBins(), ScatterOfFrequencies()])
def test_two_neurons_without_noise_keep_their_digits(scatter):
    """Their difference has 1e-10 of their variance: the scatter is kept as a root, so that little cancels."""
    data = recording()
    values = np.array(data.values)
    values[..., 0] = values[..., 1] + 1e-5 * np.random.default_rng(3).standard_normal(values.shape[:2])
    data = data.with_values(values)
    offset, few = values.mean((0, 1)), folded(data, scatter)

    def exact(some):
        rest = some.values - offset
        apart, together = (rest[..., 0] - rest[..., 1]) / np.sqrt(2), (rest[..., 0] + rest[..., 1]) / np.sqrt(2)
        told = norm.logpdf(apart, 0, 1e-5) + norm.logpdf(together, 0, np.sqrt(2 + 1e-10))
        return float(some.total(told.sum(1) + norm.logpdf(rest[..., 2:], 0, np.sqrt(10.0)).sum((1, 2))))

    assert abs(exact(few) - exact(data)) < 1e-7
    sites = {"loadings": np.zeros((N_NEURONS, 2)), "noise": np.full(N_NEURONS, 10.0), "offset": offset}
    sites["loadings"][:2, 0], sites["noise"][:2] = 1.0, 1e-10
    sites["alpha"] = np.ones((2, 2))  # GFA, whose noise has no least. Of all trials it is up to 2e-3 off.
    scores = jax.jit(lambda distribution: distribution.log_prob(few.values))(GFA(2).likelihood_at(few, sites))
    assert abs(float(few.total(scores)) - exact(data)) < 5e-3


@pytest.mark.parametrize("scatter", [ScatterOfBins(), ScatterOfFrequencies()])
def test_blocks_of_a_large_recording_fold_alike(scatter, monkeypatch):
    data, blocks = recording(), mrgp.MultiRegionData.blocks
    whole = folded(data, scatter)
    monkeypatch.setattr(mrgp.MultiRegionData, "blocks", lambda self, at_once=0: blocks(self, at_once=100))
    few = folded(data, scatter)
    n_most = len(few.values) - 2
    waves = [np.fft.rfft(part.values[:n_most] - part.values[:n_most].mean(0), axis=1) for part in (few, whole)]
    products = [np.einsum("bfi,bfj->fij", part.conj(), part) for part in waves]
    if isinstance(scatter, ScatterOfBins):  # which bin a row is in has no meaning
        products = [part[0] + 2 * part[1:].sum(0).real for part in products]
    np.testing.assert_allclose(*products, rtol=1e-12, atol=1e-12 * np.abs(products[0]).max())
    np.testing.assert_allclose(few.values.sum(0), whole.values.sum(0), rtol=1e-12)
    assert data.values.size < observations.AT_ONCE  # the usual block was the whole


@dataclass(frozen=True)
class FourBins(mrgp.Kernel):
    """Four bins as a timescale that is known: bins tell of each other, though nothing is to be found."""

    @property
    def has_timescale(self):
        return False

    def cov(self, tau):
        return jnp.exp(-jnp.abs(tau) / 4)


def test_bins_that_remember_without_a_timescale_are_not_taken_for_white():
    data = recording()
    exact, states = (GPFA(1, kernel=FourBins(), likelihood=name) for name in ("dense", "markov"))
    assert exact.fitting.folded(data) is data
    sites = {"loadings": np.ones((N_NEURONS, 1)), "noise": np.full(N_NEURONS, 2.0), "offset": np.full(N_NEURONS, 5.0)}
    np.testing.assert_allclose(states.log_likelihood(data, sites), exact.log_likelihood(data, sites), rtol=1e-6)


def test_what_is_not_folded(monkeypatch):
    data, scatter = recording(), ScatterOfBins()
    few = data.select_trials(slice(0, 11))
    assert folded(few, scatter) is few
    for model in (GPFA(2), LDS(2), FA(2, emission="poisson")):  # bins know of each other, or counts of their rates
        assert model.fitting.folded(data) is data
    holed = np.array(data.values)
    holed[0, 0, 0] = np.nan
    assert folded(data.with_values(holed), scatter).weight is None
    batched = data.in_batches_of(5)
    assert folded(batched, scatter) is batched
    few = folded(data, scatter)
    assert folded(few, ScatterOfFrequencies()) is few
    assert folded(recording(np.arange(N_TRIALS) % 29 % 3), scatter).n_trials == 6  # conditions of unequal numbers
    monkeypatch.setattr(folding, "LARGEST", 8 * N_BINS * N_NEURONS - 1)
    assert folded(data, ScatterOfFrequencies()) is data


@pytest.mark.filterwarnings("ignore:latents explain all")  # of few neurons
def test_a_fit_climbs_few_trials_to_where_all_have_their_maximum():
    data = recording()
    assert reduced(FA(1, mean="psth").prepared(data), data)[0].few.n_trials < N_TRIALS / 2  # those of the search too
    fit = FA(1, mean="psth").fit(data, progress=False)
    density = jax.jit(jax.grad(lambda at: log_density(fit.model, (data,), {}, at)[0]))
    slopes = density({name: np.asarray(value) for name, value in fit.sites.items()})
    noise, steps = np.asarray(fit.sites["noise"]), N_TRIALS * N_BINS
    assert fit.trace[-1] == pytest.approx(float(log_density(fit.model, (data,), {}, fit.sites)[0]), rel=1e-8)
    assert np.abs(slopes["loadings"] * np.sqrt(noise / steps)[:, None]).max() < 0.05  # nats per standard deviation
