"""Amortised inference against a model in which everything is known: static Gaussian latents, read linearly."""

import errno
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from jax import random
from mrgp.models import MRLFADS
from numpyro import distributions as dist
from numpyro.distributions import kl_divergence
from scipy import optimize, stats
from tqdm import tqdm

import mrgp
from mrgp.inference import amortised_svi
from mrgp.inference.amortised_bound import terms
from mrgp.inference.amortised_parameters import first_values, freed, packed, unpacked
from mrgp.inference.amortised_svi import AmortisedSVI
from mrgp.inference.density import log_prior
from mrgp.inference.hidden_entries import hidden_entries
from mrgp.inference.own_posteriors import OWN_STEP, beginning, epoch_alone, optimiser
from mrgp.inference.refinement import at_numbers, bound_of_trials, guided, refined
from mrgp.parts.networks.autoregression import Autoregression
from mrgp.results.amortised_conditional import AmortisedConditional

C = np.array([[1.0, 0.5], [0.5, -1.0], [0.3, 0.6], [0.8, 0.0]])
C[3, 1] = -(C[:3, 0] @ C[:3, 1]) / C[3, 0]  # columns are orthogonal: latents stay independent, given a trial
NOISE = np.array([0.5, 0.5, 0.5, 0.5])
N_BINS = 5


@dataclass(frozen=True)
class Static(mrgp.Amortised):
    """x ~ N(0, I) for a whole trial, y = C x + d + e, and a guide that knows the form of the posterior."""

    gain: float = 1.0  # of the guide's means: 1 is right
    stretch: float = 1.0  # of the guide's sds

    def __call__(self, data):
        readout = self.emission_sites(data)
        with self.trials(data) as some:
            x = numpyro.sample("x", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
            signal = jnp.broadcast_to((x @ C.T)[:, None], some.values.shape)
            self.observe(some, signal, readout, latents=jnp.broadcast_to(x[:, None], (len(x), data.n_bins, 2)))

    def guide(self, data):
        shift = numpyro.param("shift", jnp.zeros(2))
        with self.trials(data) as some:
            self.inputs(some)
            told = (some.floats * self.observed(some)).sum(1) @ (C / NOISE[:, None])
            precision = 1 + N_BINS * (C**2 / NOISE[:, None]).sum(0)
            mean, sd = self.gain * told / precision + shift, self.stretch * precision**-0.5
            numpyro.sample("x", dist.Normal(mean, sd).to_event(1))


@pytest.fixture(scope="module", autouse=True)
def _known():
    yield
    mrgp.families.model.Model._members.pop("static", None)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(12, 1, 2))
    return mrgp.MultiRegionData({"V1": x @ C.T + np.sqrt(NOISE) * rng.normal(size=(12, N_BINS, 4))}, 0.02)


@pytest.fixture(scope="module")
def values(data):
    first = first_values(Static(), data, random.key(0))
    return first._replace(shared={"noise": jnp.asarray(NOISE), "offset": jnp.zeros(4)})


def exact(data):
    """log p(y) of each trial, from the dense Gaussian."""
    whole = np.kron(np.ones((N_BINS, N_BINS)), C @ C.T) + np.kron(np.eye(N_BINS), np.diag(NOISE))
    return stats.multivariate_normal(np.zeros(4 * N_BINS), whole).logpdf(data.values.reshape(data.n_trials, -1))


def test_bound_is_log_p_where_the_guide_is_the_posterior(data, values):
    weighted = AmortisedConditional(Static(), data, values).importance_weighted()
    np.testing.assert_allclose(weighted.log_likelihood, exact(data), rtol=1e-12)
    np.testing.assert_allclose(weighted.standard_error, 0.0, atol=1e-10)
    assert weighted.attrs["n_draws"] == 200
    q = {"x": dist.Normal(*posterior(data)).to_event(1)}
    draws = [bound_of_trials(Static(), values, data, q, random.key(seed)) for seed in range(400)]
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert (np.abs(np.mean(draws, 0) - exact(data)) < 5 * error + 1e-9).all()


def posterior(data):
    told = data.values.sum(1) @ (C / NOISE[:, None])
    precision = 1 + N_BINS * (C**2 / NOISE[:, None]).sum(0)
    return jnp.asarray(told / precision), jnp.broadcast_to(precision**-0.5, told.shape)


def test_importance_weights_mend_a_guide_that_is_off_and_tell_of_one_that_is_far_off(data, values):
    near = AmortisedConditional(Static(gain=0.9), data, values).importance_weighted()
    assert (np.abs(near.log_likelihood - exact(data)) < 5 * near.standard_error + 0.01).all()
    assert (near.standard_error < 0.5).all()
    far = AmortisedConditional(Static(gain=0.0), data, values).importance_weighted()
    assert far.attrs["n_draws"] == 1000
    assert (far.log_likelihood <= exact(data) + 3 * far.standard_error + 0.1).all()
    assert far.pareto_k.max() > 0.7 > near.pareto_k.max()


@pytest.mark.slow_cases("0.0")
@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_refinement_finds_the_posterior_and_never_lowers_the_bound(data, values, gain):
    found = refined(Static(gain=gain), values, data, random.key(0), 400)
    mean, sd = posterior(data)
    assert (found.gained >= 0).all()
    base, moved = found.sites["x"].base_dist, np.asarray(found.gained) > 0
    assert moved.sum() >= 10 * (1 - gain)
    np.testing.assert_allclose(base.loc[moved], mean[moved], atol=0.2 * float(sd.max()))  # slopes are of one draw
    np.testing.assert_allclose(base.scale[moved], sd[moved], rtol=0.1)
    missed = kl_divergence(base, dist.Normal(mean, sd)).sum(-1)
    assert (missed < 0.5).all()  # of trials that keep the guide's posterior, where no rise was clear
    better = AmortisedConditional(Static(gain=gain), data, values, refinement=400).importance_weighted()
    np.testing.assert_allclose(better.log_likelihood, exact(data), atol=0.1)
    assert better.pareto_k.max() < 0.7


def test_posteriors_with_numbers_of_their_own_are_those_of_the_dense_gaussian(data, values):
    """With the program as it is, batches of trials from far off: every trial's mean and sd, and log p(y) of all."""
    model = Static(gain=0.0, stretch=3.0)
    free = freed(model, data, values)
    place, kept = beginning(model, free, data, random.key(0)), []
    for part, length in enumerate([1.0, 0.3, *[0.1] * 20]):
        reached = epoch_alone(model, 300, 5, place, data, random.key(part), 1.0, 0.0, OWN_STEP * length)
        place = reached.place
        kept.append(place.numbers)
    averaged = jax.tree.map(lambda *numbers: jnp.stack(numbers).mean(0), *kept[-18:])  # slopes are of one draw
    base = at_numbers(guided(model, values, data, random.key(1)), averaged)["x"].base_dist
    mean, sd = posterior(data)
    np.testing.assert_allclose((base.loc - mean) / sd, 0.0, atol=0.15)
    np.testing.assert_allclose(base.scale / sd, 1.0, atol=0.08)
    assert float(reached.bound) == pytest.approx(exact(data).sum(), rel=0.02)  # 300 batches
    assert reached.skipped == 0
    jax.tree.map(np.testing.assert_array_equal, place.free, free)


def test_steps_that_are_not_finite_are_left_out_without_a_guide(data, values):
    """Of a trial whose numbers are none; 5 of 12 trials are in a step."""
    model = Static()
    place = beginning(model, freed(model, data, values), data, random.key(0))
    broken = {"x": {**place.numbers["x"], "loc": place.numbers["x"]["loc"].at[0].set(jnp.nan)}}
    reached = epoch_alone(model, 300, 5, place._replace(numbers=broken), data, random.key(1), 1.0, 0.01, OWN_STEP)
    assert abs(int(reached.skipped) - 125) < 45  # 5 sds
    there = reached.place
    assert np.isfinite(there.numbers["x"]["loc"][1:]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((there.free, there.optimisers)))
    assert (there.numbers["x"]["loc"][1:] != place.numbers["x"]["loc"][1:]).all()


def likeliest(data):
    """Offset and noise at the highest log p(y, offset, noise), from the dense Gaussian."""

    def depth(free):
        offset, noise = free[:4], jnp.exp(free[4:])
        sites = {"offset": offset, "noise": noise, "x": jnp.zeros((data.n_trials, 2))}
        prior = log_prior(Static(), ("offset", "noise"), sites, data)
        whole = jnp.kron(jnp.ones((N_BINS, N_BINS)), C @ C.T) + jnp.kron(jnp.eye(N_BINS), jnp.diag(noise))
        told = dist.MultivariateNormal(jnp.tile(offset, N_BINS), whole)
        return -told.log_prob(data.values.reshape(data.n_trials, -1)).sum() - prior

    found = optimize.minimize(jax.jit(jax.value_and_grad(depth)), np.r_[np.zeros(4), np.log(NOISE)], jac=True)
    return found.x[:4], np.exp(found.x[4:])


@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_a_guide_is_trained_for_the_program_that_was_trained_without_it(data):
    """What comes after the epochs without a guide moves the guide alone; the program is the likeliest one."""
    how = {**QUICK, "own_epochs": 400, "max_iterations": 800, "learning_rate": 0.02, "shortenings": 0, "warm_up": 5}
    some, more = (Static(stretch=1.5).fit(data, **how, patience=n) for n in (2, 20))
    assert 400 < some.iterations < more.iterations
    for name in ("offset", "noise"):
        np.testing.assert_array_equal(some.sites[name], more.sites[name])
    assert np.abs(more.sites["shift"]).max() > 1e-3  # it began at 0
    offset, noise = likeliest(data)
    np.testing.assert_allclose(more.sites["noise"], noise, rtol=0.04)
    np.testing.assert_allclose(more.sites["offset"], offset, atol=0.04)


@pytest.mark.slow
def test_terms_of_the_bound_stand_for_all_trials_and_entries(data, values):
    model, keys = Static(), random.split(random.key(2), 300)
    whole = jax.vmap(lambda key: terms(model, values, data, key))(keys)
    np.testing.assert_allclose((whole.likelihood - whole.divergence).mean(), exact(data).sum(), rtol=0.01)
    batch = data.in_batches_of(4)
    some = jax.vmap(lambda key: terms(model, values, batch, key))(keys)
    error = some.divergence.std() / np.sqrt(len(keys))
    assert abs(some.divergence.mean() - whole.divergence.mean()) < 5 * error

    def hiding(key):
        own, other = random.split(key)
        return terms(model, values, data, other, hidden_entries(own, 0.3, data, 1), share=0.3)

    masked = jax.vmap(hiding)(keys)
    error = masked.likelihood.std() / np.sqrt(len(keys))
    assert abs(masked.likelihood.mean() - whole.likelihood.mean()) < 5 * error  # for this guide sees what is hidden


def test_hidden_entries_are_whole_neurons_in_half_of_the_trials():
    data = mrgp.MultiRegionData({"V1": np.random.default_rng(0).normal(size=(400, 6, 20))}, 0.02)
    hidden = np.asarray(hidden_entries(random.key(0), 0.25, data, 1))
    whole = (hidden == hidden[:, :1]).all((1, 2))
    assert 0.4 < whole.mean() < 0.6
    assert abs(hidden.mean() - 0.25) < 0.02
    again = data.in_batches_of(7)
    assert hidden_entries(random.key(0), 0.25, again, 1).shape == (7, 6, 20)
    values = np.random.default_rng(0).normal(size=(400, 6, 20))
    regions = mrgp.MultiRegionData({"V1": values[..., :12], "V2": values[..., 12:]}, 0.02)
    hidden = np.asarray(hidden_entries(random.key(0), 0.25, regions, 2))
    first, second = hidden[..., :12].all((1, 2)), hidden[..., 12:].all((1, 2))
    assert not (first & second).any()
    assert 0.15 < (first | second).mean() < 0.35
    alone = np.asarray(hidden_entries(random.key(0), 0.25, regions, 1))  # of a guide that reads each region by itself
    assert not (alone[..., :12].all((1, 2)) | alone[..., 12:].all((1, 2))).any()


@pytest.mark.parametrize("across", [True, False])
def test_whole_regions_are_hidden_only_from_a_guide_that_reads_across_them(monkeypatch, across):
    values = np.random.default_rng(0).normal(size=(6, N_BINS, 4))
    regions = mrgp.MultiRegionData({"V1": values[..., :1], "V2": values[..., 1:]}, 0.02)
    model, asked = Static(), []
    free = freed(model, regions, first_values(model, regions, random.key(0)))

    def hidden(key, share, data, n_read):
        asked.append(n_read)
        return hidden_entries(key, share, data, n_read)

    monkeypatch.setattr(Static, "reads_across", across)
    monkeypatch.setattr(amortised_svi, "hidden_entries", hidden)
    state = optimiser().init(free)
    of = free, state, regions, random.key(0), 1.0, 0.01, N_BINS
    jax.eval_shape(lambda: amortised_svi._epoch.__wrapped__(model, 1, 0.2, False, *of))
    assert set(asked) == {2 if across else 1}
    assert not MRLFADS.reads_across


def test_what_a_guide_is_told_is_values_and_mask(data):
    values = np.array(data.with_nan())
    values[0, 1, 2] = np.nan
    holes = mrgp.MultiRegionData({"V1": values}, 0.02)
    told = {}

    @dataclass(frozen=True)
    class Told(Static):
        def guide(self, data):
            with self.trials(data) as some:
                told["inputs"] = self.inputs(some)
                numpyro.sample("x", dist.Normal(jnp.zeros((data.n_trials, 2)), 1.0).to_event(1))

    with numpyro.handlers.seed(rng_seed=0):
        Told().guide(holes)
    mrgp.families.model.Model._members.pop("told", None)
    inputs = np.asarray(told["inputs"])
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs[..., 4:], holes.mask)
    assert inputs[0, 1, 2] == 0
    units = (values - holes.center) / holes.scale
    np.testing.assert_allclose(inputs[0, 1, [0, 1, 3]], units[0, 1, [0, 1, 3]] * 4 / 3, rtol=1e-5)
    np.testing.assert_allclose(inputs[1, :, :4], units[1], rtol=1e-5)


def test_sums_of_what_is_seen_are_scores_by_their_sd(data, values):
    """Values and what was expected of them, summed by loadings; the sd of a sum is one where nothing is known."""
    holes = data.without({"V1": [3]})
    loadings = jnp.asarray(C, jnp.float32)
    with numpyro.handlers.seed(rng_seed=0):
        read = Static().reading(holes, loadings)
        unit = np.asarray(Static().unit(holes))
    units = np.where(holes.mask, (np.nan_to_num(holes.with_nan()) - holes.center) / holes.scale, 0.0)
    weights = C * (holes.scale / unit)[:, None]
    size = np.sqrt((weights[:3] ** 2).sum(0))
    np.testing.assert_allclose(read.all[..., :2], units @ weights / size, atol=2e-3)
    np.testing.assert_allclose(read.all[..., 2:], np.broadcast_to(size**2 / (weights**2).sum(0), (12, 5, 2)), rtol=1e-3)
    expected = np.random.default_rng(0).normal(size=(12, 4))
    news = read.beyond(jnp.asarray(expected), read.values[:, 1], read.shown[:, 1], read.size[:, 1])
    np.testing.assert_allclose(news, (units[:, 1] - expected * holes.mask[:, 1]) @ weights / size, atol=2e-3)


def test_log_predictive_is_that_of_the_dense_gaussian(data, values):
    given = data.without({"V1": [0, 3]})
    fit = AmortisedConditional(Static(), given, values, refinement=200)
    whole = np.kron(np.ones((N_BINS, N_BINS)), C @ C.T) + np.kron(np.eye(N_BINS), np.diag(NOISE))
    seen = np.tile([False, True, True, False], N_BINS)
    part = stats.multivariate_normal(np.zeros(seen.sum()), whole[np.ix_(seen, seen)])
    y = data.values.reshape(data.n_trials, -1)
    np.testing.assert_allclose(fit.log_predictive(data), exact(data) - part.logpdf(y[:, seen]), atol=0.4)  # 1000 draws


QUICK = {"max_iterations": 40, "warm_up": 10, "progress": False, "batch_size": 4}


@pytest.fixture(params=[0, 20])
def own_epochs(request):
    """Epochs without a guide."""
    return request.param


@pytest.fixture
def stopped(data, tmp_path, monkeypatch, own_epochs):
    """Checkpoint of a training that was interrupted after 17 epochs."""
    step, place = AmortisedSVI.step, tmp_path / "run.npz"

    def interrupted(self, driver, state):
        if state.epoch == 17:
            raise KeyboardInterrupt
        return step(self, driver, state)

    monkeypatch.setattr(AmortisedSVI, "step", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        part = Static().fit(data, checkpoint=place, own_epochs=own_epochs, **QUICK)
    monkeypatch.setattr(AmortisedSVI, "step", step)
    assert part.iterations == 17
    return place


@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_a_training_that_is_interrupted_goes_on_as_if_it_had_not_been(data, stopped, own_epochs):
    assert stopped.is_file()
    whole = Static().fit(data, own_epochs=own_epochs, **QUICK)
    again = Static().fit(data, checkpoint=stopped, own_epochs=own_epochs, **QUICK)
    assert not stopped.exists()
    np.testing.assert_array_equal(again.trace, whole.trace)
    for name, value in whole.sites.items():
        np.testing.assert_array_equal(again.sites[name], value)


@pytest.mark.parametrize("own_epochs", [20], indirect=True)
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_epochs_without_a_guide_are_those_that_the_run_began_with(data, stopped, own_epochs, monkeypatch):
    """Another upper bound on epochs, when it goes on, changes neither their number nor their steps."""
    rates = []
    monkeypatch.setattr(amortised_svi, "epoch_alone", lambda *of: (rates.append(of[-1]), epoch_alone(*of))[1])
    again = Static().fit(data, checkpoint=stopped, own_epochs=own_epochs, **QUICK | {"max_iterations": 30})
    whole = Static().fit(data, own_epochs=own_epochs, **QUICK)
    assert min(rates) > 0
    assert len(rates) == 3 + 20
    np.testing.assert_array_equal(again.trace, whole.trace[: len(again.trace)])


@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_a_model_without_posteriors_of_single_trials_has_no_epochs_without_a_guide(data):
    with pytest.raises(ValueError, match="MRLFADS: a trial has no posterior of its own without the guide: take own_"):
        MRLFADS(2, 4, emission="gaussian").fit(data, own_epochs=5, progress=False)


@pytest.mark.parametrize("own_epochs", [0], indirect=True)
def test_a_training_goes_on_with_its_own_settings_only(data, stopped):
    for settings, told in (
        ({"own_epochs": 5}, r"is of a run with own_epochs=0, not 5: give the same, or remove it"),
        ({"learning_rate": 0.01}, r"is of a run with learning_rate=0.003, not 0.01: give the same, or remove it"),
        ({"hidden_share": 0.1, "apart": 0.3}, r"with hidden_share=0.2, not 0.1, apart=0.2, not 0.3: give the same"),
    ):
        with pytest.raises(ValueError, match=told):
            Static().fit(data, checkpoint=stopped, **QUICK, **settings)
    assert stopped.is_file()


@pytest.mark.parametrize("own_epochs", [0], indirect=True)
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_the_bar_of_a_resumed_training_begins_where_it_was(data, stopped, monkeypatch):
    bars = []
    monkeypatch.setattr("mrgp.inference.driver.tqdm", lambda **told: bars.append(told) or tqdm(**told))
    Static().fit(data, checkpoint=stopped, **QUICK)
    assert (bars[0]["initial"], bars[0]["total"]) == (17, 40)


def test_options_that_mean_nothing_to_a_training_are_refused(data):
    told = "method 'amortised_svi' has no use for n_starts: a training begins once; to choose among seeds"
    with pytest.raises(ValueError, match=told):
        Static().fit(data, n_starts=3, **QUICK)
    with pytest.raises(ValueError, match=r"has no use for tolerance: trials kept apart say when .* lower patience"):
        Static().fit(data, tolerance=1.0, **QUICK)


def test_steps_become_shorter_before_a_training_ends(data):
    fit = Static().fit(data, patience=3, shortenings=1, **{**QUICK, "max_iterations": 300})
    assert fit.converged
    assert fit.iterations >= 10 + 2 * 3
    assert np.abs(fit.sites["shift"]).max() < 0.3


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"hidden_share": 1.0}, "hidden_share is a share"), ({"shortenings": -1}, "shortenings counts at least 0"),
        ({"warm_up": -1}, "warm_up counts at least 0"), ({"patience": 0}, "patience counts at least 1"),
        ({"own_epochs": -1}, "own_epochs counts at least 0"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        AmortisedSVI(**wrong)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_a_fit_says_how_sure_its_bound_is_and_can_be_refined(data, tmp_path):
    fit = Static(gain=0.8).fit(data, **QUICK)
    refined_fit = fit.refined(100)
    before, after = fit.importance_weighted(), refined_fit.importance_weighted()
    assert float(after.effective_draws.mean()) > float(before.effective_draws.mean())
    assert (after.standard_error <= before.standard_error + 0.01).all()
    assert after.log_likelihood.attrs["units"] == "nats"
    refined_fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_allclose(again.log_likelihood(data), after.log_likelihood, rtol=1e-9)
    found = refined_fit.posterior("x")
    assert found["mean"].dims == ("trial", "x_0")
    latents = refined_fit.latents()
    np.testing.assert_allclose(latents.across_mean[:, 0], found["mean"], rtol=1e-9)
    with pytest.raises(ValueError, match="has no site 'z' of trials: it has x, latents"):
        fit.posterior("z")


@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_a_full_disk_leaves_the_files_that_were_there(data, tmp_path, monkeypatch):
    fit, place, run = Static().fit(data, **QUICK), tmp_path / "fit.nc", tmp_path / "run.npz"
    fit.save(place)
    before, write, save = place.read_bytes(), Path.write_bytes, np.savez

    def full(path, content):
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_of_arrays(file, **arrays):
        save(file, **arrays)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(np, "savez", full_of_arrays)
    told = "cannot write {} into folder {}: No space left on device; what was there before is {}"
    with pytest.raises(OSError, match=told.format("fit.nc", tmp_path, "whole")):
        fit.save(place)
    with pytest.raises(OSError, match=told.format("run.npz", tmp_path, "still nothing")):
        Static().fit(data, checkpoint=run, **QUICK)
    assert list(tmp_path.iterdir()) == [place]
    assert place.read_bytes() == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_ranks_of_latents_are_uniform_where_the_guide_is_the_posterior(data, values):
    trained = Static().fit(data, **QUICK)
    fit = replace(trained, sites={**trained.sites, **packed(values)})
    right = mrgp.calibrate_latents(fit)
    assert list(right.results["quantity"].values) == ["x 0", "x 1", "eta 0", "eta 1", "eta 2", "log p(y | latents)"]
    table = right.table
    assert list(table.index) == list(right.results["quantity"].values)
    assert (table["p"] > 0.005).all()  # one of six is below in 3 of 100 recordings
    assert (np.abs(table["mean_square_z"] - 1) < 4 * np.sqrt(2 / 200)).iloc[:5].all()
    for p in (50, 80, 90):
        assert (np.abs(table[f"covered_{p}"] - p / 100) < 4 * table[f"error_{p}"].iloc[0]).all()
    narrow = replace(fit, model=Static(stretch=0.5))
    wrong = mrgp.calibrate_latents(narrow).table
    assert (wrong.loc[["x 0", "x 1", "eta 0", "eta 1", "eta 2"], "p"] < 1e-6).all()
    assert not wrong.loc["x 0":"eta 2", "ecdf_inside"].any()
    assert wrong.loc[["x 0", "x 1"], "mean_square_z"].mean() == pytest.approx(4.0, rel=0.2)
    mended = mrgp.calibrate_latents(narrow.refined(200)).table  # but for trials whose bound has not clearly risen
    assert (mended["ecdf_distance"] < wrong["ecdf_distance"]).all()
    assert mended.loc[["x 0", "x 1"], "mean_square_z"].mean() < 2.0
    assert "intervals hold the truth in % of trials" in right.report()
    assert "n_failed" not in right.summary()
    with pytest.raises(ValueError, match="draws counts at least 1, not 0"):
        mrgp.calibrate_latents(fit, draws=0)


@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_a_recording_drawn_from_a_fit_comes_with_its_latents(data, values):
    trained = Static().fit(data, **QUICK)
    fit = replace(trained, sites={**trained.sites, **packed(values)})
    made = mrgp.simulate_from(fit, 400, 6, seed=3)
    assert made.truth["x"].dims == ("trial", "x_0")
    assert made.truth["eta"].dims == ("trial", "time", "neuron")
    np.testing.assert_allclose(made.truth["eta"][:, 0], made.truth["x"].values @ C.T, atol=1e-12)
    error = 5 * np.sqrt(2 / (400 * 6)) * NOISE
    assert (np.abs((made.data.values - made.truth["eta"].values).var((0, 1)) - NOISE) < error).all()
    assert (np.abs(np.cov(made.truth["x"].values.T) - np.eye(2)) < 5 * np.sqrt(2 / 400)).all()
    np.testing.assert_array_equal(made.truth["noise"], NOISE)
    np.testing.assert_array_equal(fit.sample(400, 6, seed=3).values, made.data.values)


def test_parameters_are_the_same_through_arrays_and_coordinates(data):
    first = first_values(Static(), data, random.key(3))
    again = unpacked(Static(), data, packed(first))
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    free = freed(Static(), data, first)
    assert np.isfinite(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(free)])).all()
    with pytest.raises(ValueError, match="parameter 'noise' is missing, but the model needs"):
        unpacked(Static(), data, {name: value for name, value in packed(first).items() if name != "noise"})


# --- inputs


def test_autoregression_has_the_density_of_its_dense_gaussian_and_draws_from_it():
    a, s, n = np.array([0.9, 0.2]), np.array([1.5, 0.4]), 6
    law = Autoregression(jnp.asarray(a), jnp.asarray(s), n)
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    covariances = [s[k] ** 2 * a[k] ** lags for k in range(2)]
    u = np.random.default_rng(0).normal(size=(3, n, 2))
    dense = sum(stats.multivariate_normal(np.zeros(n), covariances[k]).logpdf(u[..., k]) for k in range(2))
    np.testing.assert_allclose(law.log_prob(jnp.asarray(u)), dense, rtol=1e-10)
    drawn = np.asarray(law.sample(random.key(0), (20_000,)))
    for k in range(2):
        error = 5 * np.sqrt(2 / 20_000) * s[k] ** 2
        np.testing.assert_allclose(np.cov(drawn[..., k].T), covariances[k], atol=error)
    mean, sd = jnp.asarray(u), 0.1 + 0.5 * jnp.abs(jnp.asarray(u[::-1]))
    found = kl_divergence(dist.Normal(mean, sd).to_event(2), law)
    for b in range(3):
        expected = 0.0
        for k in range(2):
            own, inverse = np.diag(np.asarray(sd)[b, :, k] ** 2), np.linalg.inv(covariances[k])
            gap = np.linalg.slogdet(covariances[k])[1] - np.linalg.slogdet(own)[1] - n
            expected += 0.5 * (np.trace(inverse @ own) + u[b, :, k] @ inverse @ u[b, :, k] + gap)
        assert float(found[b]) == pytest.approx(expected, rel=1e-9)
    length = jnp.array([6, 3, 1])
    ragged = Autoregression(jnp.asarray(a), jnp.asarray(s), n, length)
    there = (jnp.arange(n) < length[:, None])[..., None]
    for b, last in enumerate([6, 3, 1]):
        short = Autoregression(jnp.asarray(a), jnp.asarray(s), last)
        q = dist.Normal(mean[b : b + 1, :last], sd[b : b + 1, :last]).to_event(2)
        masked = kl_divergence(dist.Normal(mean, sd).mask(there).to_event(2), ragged)[b]
        np.testing.assert_allclose(masked, kl_divergence(q, short)[0], rtol=1e-9)
        density = ragged.log_prob(jnp.asarray(u))[b]
        np.testing.assert_allclose(density, short.log_prob(jnp.asarray(u)[b, :last]), rtol=1e-9)
    with pytest.raises(NotImplementedError):
        kl_divergence(dist.Laplace(mean, sd).to_event(2), law)


@pytest.mark.slow
def test_recordings_without_refinement_keep_the_guide(data, values):
    given = AmortisedConditional(Static(), data, values)
    assert given.refined is None
    assert replace(given, refinement=3).refined.gained.shape == (12,)
    with pytest.raises(ValueError, match="refinement counts at least 0 steps, not -1"):
        Static(refinement=-1)
