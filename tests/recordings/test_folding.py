"""Few trials that stand for all: densities, bounds and updates of white latents are those of the whole recording."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import FA, GFA, GPFA, LDS, PCCA
from numpyro.infer.util import log_density
from scipy.stats import norm

import mrgp
from mrgp.inference.density import known_sites
from mrgp.inference.search import reduced
from mrgp.inference.variational_bayes.bound import Setting
from mrgp.inference.variational_bayes.rounds import value_of
from mrgp.inference.variational_bayes.updates import revival, update
from mrgp.recordings import observations
from mrgp.recordings.folding import folded

N_TRIALS, N_BINS, N_NEURONS = 60, 3, 7  # so that the scatter needs three pairs of trials


def recording(conditions=None, seed=0):
    rng = np.random.default_rng(seed)
    course = rng.standard_normal((3, N_BINS, N_NEURONS))
    condition = np.arange(N_TRIALS) % 3 if conditions is None else conditions
    mixing = rng.standard_normal((N_NEURONS, N_NEURONS))
    values = 5 + course[condition] + rng.standard_normal((N_TRIALS, N_BINS, N_NEURONS)) @ mixing
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
}  # fmt: skip


@pytest.mark.slow_cases("fa", "fa_psth", "gfa_psth")
@pytest.mark.parametrize("name", MODELS)
def test_few_trials_have_the_density_of_all(name):
    model, data = MODELS[name].prepared(recording()), recording()
    few = model.fitting.folded(data)
    assert few.n_trials == 2 * 3 + 2  # pairs of one condition, and the means of the others
    assert few.weight.sum() == N_TRIALS
    np.testing.assert_array_equal(few.scale, data.scale)  # priors are those of all trials
    sites = sites_of(model, data)
    density = jax.jit(jax.value_and_grad(lambda at, some: log_density(model, (some,), {}, at)[0]))
    (whole, slopes), (ours, own) = (density(sites, jax.tree.map(np.asarray, some)) for some in (data, few))
    assert float(ours) == pytest.approx(float(whole), rel=1e-12)
    for site, slope in slopes.items():
        np.testing.assert_allclose(own[site], slope, atol=1e-9 * np.abs(slope).max(initial=1e-3))


@pytest.mark.slow
def test_rounds_of_variational_bayes_see_no_difference():
    model, data = GFA(2, mean="psth"), recording()
    model = model.prepared(data)
    sites = {name: value for name, value in sites_of(model, data).items() if name != "alpha"}
    sites["loadings"] = np.array(sites["loadings"])
    sites["loadings"][:4, 1] = 0.0  # held, so that there is something to revive
    covariance = np.tile(0.1 * np.eye(2), (N_NEURONS, 1, 1))
    settings = [Setting.of(some, sites["loadings"], covariance) for some in (data, folded(data))]
    np.testing.assert_allclose(settings[1].observed, settings[0].observed)
    values = [value_of(model, sites, setting) for setting in settings]
    assert values[1] == pytest.approx(values[0], rel=1e-12)
    for ours, whole in zip(*(jax.tree.leaves(update(model, sites, s)) for s in settings[::-1]), strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-8, atol=1e-10)
    for ours, whole in zip(*(revival(model, sites, s) for s in settings[::-1]), strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-8, atol=1e-10)


def test_two_neurons_without_noise_keep_their_digits():
    """Their difference has 1e-10 of their variance: the scatter is kept as a root, so that little cancels."""
    data = recording()
    values = np.array(data.values)
    values[..., 0] = values[..., 1] + 1e-5 * np.random.default_rng(3).standard_normal(values.shape[:2])
    data = data.with_values(values)
    sites = {"loadings": np.zeros((N_NEURONS, 2)), "noise": np.full(N_NEURONS, 10.0), "offset": values.mean((0, 1))}
    sites["loadings"][:2, 0], sites["noise"][:2] = 1.0, 1e-10
    rest = (values - sites["offset"]).reshape(-1, N_NEURONS)
    both = np.stack([rest[:, 0] - rest[:, 1], rest[:, 0] + rest[:, 1]]) / np.sqrt(2)
    exact = norm.logpdf(both[0], 0, 1e-5).sum() + norm.logpdf(both[1], 0, np.sqrt(2 + 1e-10)).sum()
    exact += norm.logpdf(rest[:, 2:], 0, np.sqrt(10.0)).sum()
    few = folded(data)
    # GFA, whose noise has no least. Of all trials it is 5e-4 off.
    sites["alpha"] = np.ones((2, 2))
    scores = jax.jit(lambda distribution: distribution.log_prob(few.values))(GFA(2).likelihood_at(few, sites))
    ours = float(scores @ few.weight)
    assert abs(ours - exact) < 1e-3


def test_blocks_of_a_large_recording_fold_alike(monkeypatch):
    data, blocks = recording(), mrgp.MultiRegionData.blocks
    whole = folded(data)
    monkeypatch.setattr(mrgp.MultiRegionData, "blocks", lambda self: blocks(self, at_once=100))
    few = folded(data)
    rest = few.values[:3] - few.values[3:6], whole.values[:3] - whole.values[3:6]
    scatter = [np.einsum("bti,btj->ij", part, part) for part in rest]
    np.testing.assert_allclose(*scatter, rtol=1e-12)
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


def test_what_is_not_folded():
    data = recording()
    assert data.select_trials(slice(0, 17)).n_trials == folded(data.select_trials(slice(0, 17))).n_trials
    for model in (GPFA(2), LDS(2), FA(2, emission="poisson")):  # bins know of each other, or counts of their rates
        assert model.fitting.folded(data) is data
    holed = np.array(data.values)
    holed[0, 0, 0] = np.nan
    assert folded(data.with_values(holed)).weight is None
    batched = data.in_batches_of(5)
    assert folded(batched) is batched
    assert folded(recording(np.arange(N_TRIALS) % 29 % 3)).n_trials == 8  # conditions of unequal numbers of trials


@pytest.mark.slow
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
