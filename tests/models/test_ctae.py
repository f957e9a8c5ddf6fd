"""CTAE: its program written out trial by trial, what it does not know, and fits to recordings with holes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from mrgp.models import CTAE
from numpyro import handlers
from oracles import written_transformer
from scipy import stats

import mrgp
from mrgp.inference.amortised_bound import terms
from mrgp.inference.amortised_parameters import Values, first_values
from mrgp.metrics import hidden_log_likelihood

BIN = 0.02
SIZES = {"A": 4, "B": 1, "C": 3}
SMALL = {"width": 6, "depth": 1, "heads": 2}
BLOCKS = {("A", "B"): 2, ("A", "B", "C"): 1}, (1, 0, 2)
WEIGHTS = {"shared_only": 0.5, "alignment": 0.3, "orthogonality": 0.2}


def recording(sizes=SIZES, n_trials=5, n_bins=7, seed=0, counts=True):
    """Regions that follow one wave, with a missing neuron, a missing bin, a short trial, and a region that is late."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(n_bins) / 2 + rng.uniform(0, 6, (n_trials, 1)))[..., None]
    eta = {name: 0.3 + wave * rng.normal(0, 0.7, n) for name, n in sizes.items()}
    values = {name: rng.poisson(np.exp(x)).astype(float) if counts else x + 0.3 * rng.standard_normal(x.shape)
              for name, x in eta.items()}  # fmt: skip
    first, last = next(iter(values)), list(values)[-1]
    values[first][0, :, 1] = values[first][1, 2] = np.nan
    values[last][0, :2] = np.nan  # nothing of it is seen at first
    for region in values.values():
        region[2, n_bins - 3 :] = np.nan
    return mrgp.MultiRegionData(values, BIN, drop_dead=None)


def values_of(model, data, seed=1):
    """Networks and all other values, with numbers of the order of 1."""
    values = first_values(model, data, random.key(seed))
    big = {name: jax.tree.map(lambda leaf: 4 * leaf, net) if name == "neurons$params" else net
           for name, net in values.networks.items()}  # fmt: skip
    return big, values


def program(model, nets, values):
    """Whatever the program computes of a recording, compiled at once."""
    seeded = handlers.substitute(handlers.seed(model, random.key(0)), data={**nets, **values.shared})

    @jax.jit
    def run(data):
        sites = handlers.trace(seeded).get_trace(data).items()
        return {name: {part: site[part] for part in ("fn", "value") if part in site} for name, site in sites
                if site["type"] in ("sample", "deterministic")}  # fmt: skip

    return run


def run_of(model, data, seed=1):
    """Networks, values, and what the program computes with them."""
    nets, values = values_of(model, data, seed)
    return nets, values, program(model, nets, values)(data)


def written(model, data, nets, w):
    """Latents of each region and fused ones, (trial, time, ...), and who has been seen."""
    layout, mask = data.layout, data.mask
    center, scale = np.asarray(nets["input_center"]), np.asarray(nets["input_scale"])
    values = np.where(mask, (data.floats - center) / scale, 0.0)
    widest, parts, n_latents = max(layout.n_neurons), list(layout.region_slices.values()), w.shape[1]
    shape = *mask.shape[:2], len(parts)
    readings, known = np.zeros((*shape, n_latents)), np.zeros(shape, bool)
    for b in range(len(mask)):
        for r, part in enumerate(parts):
            n, told = layout.n_neurons[r], []
            for t in range(mask.shape[1]):
                seen = mask[b, t, part]
                pad = np.zeros(widest - n)
                told.append(np.concatenate([values[b, t, part] * n / max(seen.sum(), 1), pad, seen, pad]))
                known[b, t, r] = seen.any() or (t > 0 and known[b, t - 1, r])
            features = written_transformer(nets["encoder$params"], np.array(told), r)
            features = np.concatenate([features, told], 1)
            layer = nets["reading$params"].layers[0]
            found = features @ np.asarray(layer.weight)[r].T + np.asarray(layer.bias)[r]
            found = (found - found.mean(1)[:, None]) / np.sqrt(found.var(1)[:, None] + 1e-5)
            readings[b, :, r] = found[:, :n_latents]
    share = w * known[..., None]
    weight = np.where(share.sum(2, keepdims=True) > 0, share, w)
    return readings, (weight * readings).sum(2) / weight.sum(2), known


def eta_of(data, nets, Z, w):
    out = np.zeros(data.mask.shape)
    for b in range(len(Z)):
        for r, part in enumerate(data.layout.region_slices.values()):
            features = written_transformer(nets["decoder$params"], Z[b] * w[r], r)
            features = np.concatenate([features, Z[b] * w[r]], 1)
            weight = np.asarray(nets["neurons$params"].weight)[r, : data.layout.n_neurons[r]]
            out[b][:, part] = features @ weight.T * np.asarray(nets["unit"])[part]
    return out


@pytest.mark.parametrize("emission", [pytest.param("poisson", marks=pytest.mark.slow), "gaussian"])
def test_the_program_is_the_autoencoder_written_out(emission):
    """Latents, rates and every term of the objective, with blocks that some regions share, and holes of all kinds."""
    data = recording(counts=emission == "poisson")
    model = CTAE(*BLOCKS, **SMALL, **WEIGHTS, emission=emission)
    w = model.readers(data.layout)
    np.testing.assert_array_equal(w, [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 1, 1]])
    nets, values, run = run_of(model, data)
    readings, Z, known = written(model, data, nets, w)
    np.testing.assert_allclose(run["readings"]["value"], readings, atol=2e-5)  # single precision
    np.testing.assert_allclose(run["latents"]["value"], Z, atol=2e-5)
    assert not known[0, 1, 2]
    np.testing.assert_allclose(Z[0, 1, 2], readings[0, 1, :2, 2].mean(), atol=1e-6)  # C has no say yet
    offset = np.asarray(values.shared["offset"])
    np.testing.assert_allclose(run["eta"]["value"], eta_of(data, nets, Z, w) + offset, atol=1e-4)

    counted = known & (data.mask.any(-1) | (np.arange(7) < 4))[..., None]  # trial 2 ends after four bins
    shared_eta = eta_of(data, nets, Z * (np.arange(6) < 3), w) + offset
    if emission == "poisson":
        density = stats.poisson.logpmf(np.where(data.mask, data.floats, 0), np.exp(shared_eta))
    else:
        density = stats.norm.logpdf(data.floats, shared_eta, np.sqrt(np.asarray(values.shared["noise"])))
    own = [[readings[b, t, r, k] for b in range(5) for t in range(7) for r in range(3) if counted[b, t, r] and w[r, k]]
           for k in range(3)]  # fmt: skip
    variance = [np.var(part) for part in own]
    for b, mask in enumerate(data.mask):
        count, length = mask.sum(), mask.any(1).nonzero()[0].max() + 1
        np.testing.assert_allclose(run["shared_only"]["fn"].log_factor[b], 0.5 * density[b][mask].sum(), rtol=1e-4)
        far = [(readings[b, t, r, k] - Z[b, t, k]) ** 2 / variance[k] for t in range(7) for r in range(3)
               for k in range(3) if w[r, k] and counted[b, t, r]]  # fmt: skip
        np.testing.assert_allclose(run["alignment"]["fn"].log_factor[b], -0.3 * count * np.mean(far), rtol=1e-4)
        rows = Z[b, :length].T
        cosines = [(rows[k] @ rows[j]) ** 2 / (rows[k] @ rows[k]) / (rows[j] @ rows[j]) for k in range(6)
                   for j in range(k)]  # fmt: skip
        expected = -0.2 * count * np.mean(cosines)
        np.testing.assert_allclose(run["orthogonality"]["fn"].log_factor[b], expected, rtol=1e-3)


def test_a_bin_moves_no_latent_and_no_rate_before_it():
    data = recording()
    model = CTAE(*BLOCKS, **SMALL)
    run = program(model, *values_of(model, data))

    def outputs(changed):
        other = mrgp.MultiRegionData({name: np.where(np.isnan(data.region(name)), np.nan, part) for name, part in
                                      changed.items()}, BIN, drop_dead=None)  # fmt: skip
        computed = run(other)
        return [np.asarray(computed[name]["value"]) for name in ("readings", "latents", "eta")]

    before = {name: np.array(data.region(name)) for name in SIZES}
    after = {name: part + (np.arange(7) == 4)[:, None] for name, part in before.items()}
    for one, other in zip(outputs(before), outputs(after), strict=True):
        np.testing.assert_allclose(one[:, :4], other[:, :4], atol=1e-6)
        assert (np.abs(one[3, 4:] - other[3, 4:]).max(tuple(range(1, one.ndim - 1))) > 1e-5).all()


@pytest.mark.slow
def test_terms_are_left_out_by_a_weight_of_0():
    """Each adds to the objective of a training what its site has, whatever share of the entries is scored."""
    data = recording()
    plain, full = (CTAE(*BLOCKS, **SMALL, **weights) for weights in (dict.fromkeys(WEIGHTS, 0.0), WEIGHTS))
    for name in WEIGHTS:
        _, _, run = run_of(plain.replace(**{name: 0.7}), data)
        assert {*WEIGHTS} & {*run} == {name}
        assert (np.asarray(run[name]["fn"].log_factor) < 0).all()
    nets, values, run = run_of(full, data)
    known = Values(nets, values.shared)
    found = terms(full, known, data, random.key(1))
    expected = sum(float(run[name]["fn"].log_prob(run[name]["value"]).sum()) for name in ("y", *WEIGHTS))
    np.testing.assert_allclose(found.likelihood, expected, rtol=1e-6)
    assert float(found.divergence) == 0
    assert float(run["y"]["fn"].log_prob(run["y"]["value"]).sum()) > expected


def test_wrong_requests_are_refused():
    with pytest.raises(ValueError, match="CTAE: n_across counts at least 1 latent, and n_within at least 0"):
        CTAE(0, 1)
    with pytest.raises(ValueError, match="width = 10 cannot be shared out to 3 heads: take a multiple"):
        CTAE(width=10, heads=3)
    with pytest.raises(ValueError, match="alignment is a weight from 0 on, not -1"):
        CTAE(alignment=-1)
    with pytest.raises(ValueError, match="n_across has 2 latents of A: two regions share 1 or more"):
        CTAE({("A",): 2})
    with pytest.raises(ValueError, match="CTAE has no use for refinement: leave it out"):
        CTAE(refinement=3)
    with pytest.raises(ValueError, match="CTAE takes the bins of a trial as independent given eta"):
        CTAE(emission=mrgp.AutocorrelatedGaussian())
    data = recording()
    with pytest.raises(mrgp.DataError, match="n_across names D, but there are A, B, C"):
        CTAE({("A", "D"): 1}).fit(data)
    with pytest.raises(mrgp.DataError, match="region C has no latent: let it share some by n_across"):
        CTAE({("A", "B"): 1}, 0).fit(data)
    with pytest.raises(ValueError, match=r"n_within=\(1, 2\) is for 2 regions, but the recording has 3"):
        CTAE(1, (1, 2)).fit(data)
    with pytest.raises(mrgp.DataError, match="CTAE compares regions; this recording has only one"):
        CTAE().fit(recording({"A": 4}))
    with pytest.raises(ValueError, match=r"no log p\(y\): give score=mrgp.metrics.hidden_log_likelihood"):
        mrgp.cross_validate(CTAE(1, 1), data)
    written = CTAE({("A", "B"): 2}, (1, 0, 2))
    assert CTAE.from_settings(json.loads(json.dumps(written.to_settings()))) == written


def few(data, **how):
    settings = {"max_iterations": 12, "warm_up": 1, "batch_size": 4, "learning_rate": 0.02, "progress": False}
    return CTAE({("A", "B", "C"): 2}, 1, **SMALL).fit(data, **{**settings, **how})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_a_fit_goes_through_files_and_says_what_it_is_not(tmp_path):
    """To a recording with holes of all kinds, and a region of one neuron."""
    data = recording(n_trials=12)
    fit = few(data)
    latents = fit.latents()
    assert {*latents.data_vars} == {"across_mean", "across_of_region", "within_mean"}  # and no sd
    assert latents.within_latent.values.tolist() == ["A:0", "B:0", "C:0"]
    assert latents.region_of_within.values.tolist() == ["A", "B", "C"]
    assert latents.across_of_region.dims == ("trial", "time", "region", "across_latent")
    predicted = fit.predict()
    assert predicted["A_mean"].shape == (12, 7, 4)
    assert all(np.isfinite(table).all() for table in predicted.values())
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_allclose(again.latents(data).across_mean, latents.across_mean, atol=1e-6)
    one = data.select_trials([3])
    np.testing.assert_allclose(again.latents(one).across_mean[0], latents.across_mean[3], atol=1e-5)
    tree = fit.to_arviz(n_draws=2, latents=True)
    assert "posterior" not in tree.children
    assert tree["constant_data"]["latents"].shape == (12, 7, 5)
    assert "no log p(y)" in tree.attrs["log_likelihood"]
    summary = fit.summary()
    assert summary["log_likelihood"] is None
    assert summary["objective"] == pytest.approx(fit.trace[-1])
    assert "bound" not in summary
    for refused in (fit.log_likelihood, fit.importance_weighted):
        with pytest.raises(mrgp.DataError, match=r"CTAE has no log p\(y\): its latents are what encoders read"):
            refused()
    with pytest.raises(mrgp.DataError, match="CTAE cannot draw new trials"):
        fit.sample(2, 5)
    with pytest.raises(ValueError, match="CTAE has no posterior of latents to calibrate"):
        mrgp.calibrate_latents(fit, 3)
    with pytest.raises(ValueError, match="refinement"):
        fit.refined(5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_hidden_neurons_are_scored_exactly_and_settings_chosen_by_them():
    data = recording(n_trials=20)
    fit = few(data)
    hidden = {"A": np.array([2])}
    given = data.without(hidden)
    rate, count = fit.predict(given)["A_mean"].values[..., 2], data.region("A")[..., 2]
    seen = ~np.isnan(count)
    expected = np.where(seen, stats.poisson.logpmf(np.where(seen, count, 0), rate), 0).sum(1)
    np.testing.assert_allclose(fit.log_predictive(data, given), expected, rtol=1e-5, atol=1e-5)
    assert hidden_log_likelihood(fit, data).shape == (20,)
    evaluated = mrgp.evaluate(fit, data, n_masks=1, progress=False)
    assert evaluated.likelihood is None
    assert any("no log p(y)" in note for note in evaluated.notes)
    assert "CTAE" in evaluated.report()
    how = {"max_iterations": 6, "warm_up": 1, "batch_size": 8}
    tuned = mrgp.tune(CTAE(2, 1, **SMALL), data, {"alignment": [0.1, 1.0]}, progress=False, **how)
    assert np.isfinite(tuned.table["score"]).all()


def test_the_weights_of_a_network_are_single():
    """What is in double precision, such as offsets, takes no network along."""
    data = recording()
    _, _, run = run_of(CTAE(*BLOCKS, **SMALL), data)
    assert run["latents"]["value"].dtype == jnp.float32
