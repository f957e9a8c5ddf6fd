"""MR-LFADS: its law written out region by region, its channels, and fits of networks whose messages are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from mrgp.models import MRLFADS
from numpyro import handlers

import mrgp
from mrgp.inference.amortised_parameters import first_values, packed
from mrgp.parts.delays.history import lag_weights
from mrgp.parts.networks.channels import AttentionChannels, Edges, GraphChannels, RateChannels
from mrgp.parts.networks.of_regions import Places
from mrgp.results.amortised_conditional import AmortisedConditional
from mrgp.results.channels_fit import _truncated

BIN = 0.02
SMALL = {"n_factors": 2, "n_states": 4, "n_initial": 3, "width": 6}
SIZES = {"A": 4, "B": 2, "C": 3}


def recording(n_trials=6, n_bins=9, sizes=SIZES, seed=0):
    rng = np.random.default_rng(seed)
    drive = np.cumsum(rng.standard_normal((n_trials, n_bins, 1)), 1) / 3
    return mrgp.MultiRegionData({name: rng.poisson(np.exp(0.5 * drive), (n_trials, n_bins, n))
                                 for name, n in sizes.items()}, BIN, drop_dead=None)  # fmt: skip


def run_of(model, data, seed=1, **switches):
    """Networks, and what the program draws and computes."""
    values = first_values(model, data, random.key(seed))
    known = values.all | {f"{name}": jnp.asarray(value) for name, value in switches.items()}
    seeded = handlers.substitute(handlers.seed(model, random.key(seed + 1)), data=known)
    trace = handlers.trace(seeded).get_trace(data)
    return values.networks, {name: np.asarray(site["value"]) for name, site in trace.items() if name != "y"}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gated(cell, region, g, driving):
    own = {name: np.asarray(getattr(cell, name))[region] for name in ("weight_ih", "weight_hh", "bias", "bias_n")}
    n = len(g)
    told, by = own["weight_ih"] @ driving + own["bias"], own["weight_hh"] @ g
    reset, update = (sigmoid(told[i * n : i * n + n] + by[i * n : i * n + n]) for i in range(2))
    new = np.tanh(told[2 * n :] + reset * (by[2 * n :] + own["bias_n"]))
    return np.clip(new + update * (g - new), -5, 5)


def linear(layers, region, x):
    layer = layers.layers[0]
    bias = 0 if layer.bias is None else np.asarray(layer.bias)[region]
    return np.asarray(layer.weight)[region] @ x + bias


def test_the_program_is_the_recursion_written_out():
    """Edge by edge, with a delay between bins, in one trial after the other."""
    data = recording()
    model = MRLFADS(**SMALL, n_inputs=1, n_messages=2, max_delay=3 * BIN, message_noise=0.3)
    delay = np.array([0.0, 0.5, 1.0, 1.7, 2.2, 3.0]) * BIN
    nets, run = run_of(model, data, transmission_delay=delay)
    edges, starts = Edges.of(3), np.cumsum([0, *SIZES.values()])
    M, C = np.asarray(nets["channels$params"].weights), np.asarray(nets["neurons$params"].weight)
    weights = np.asarray(lag_weights(jnp.asarray(delay / BIN), 4))
    center, scale = np.asarray(nets["input_center"]), np.asarray(nets["input_scale"])
    a, s = np.exp(-BIN / run["input_timescale"]), run["input_spread"]
    for trial in range(2):
        g = [linear(nets["start$params"], r, run["initial"][trial, r]) for r in range(3)]
        past = []  # what each edge has said, the latest last

        def eta_of(g):
            parts = [C[starts[r] : starts[r + 1]] @ linear(nets["factors$params"], r, g[r]) for r in range(3)]
            return np.concatenate(parts)

        def said(eta):
            rates = np.clip((np.exp(eta + run["offset"]) - center) / scale, -5, 5)
            of = [rates[starts[r] : starts[r + 1]] for r in range(3)]
            return [M[e, :, : len(of[s])] @ of[s] for e, s in enumerate(edges.source)]

        past = [said(eta_of(g))] * 4
        for t in range(data.n_bins):
            m = [sum(weights[e, lag] * past[-1 - lag][e] for lag in range(4)) for e in range(6)]
            m = [own + 0.3 * run["message_noise"][trial, t, e] for e, own in enumerate(m)]
            np.testing.assert_allclose(run["messages"][trial, t], m, atol=1e-5)
            new = run["innovations"][trial, t, :, 0]
            u = a * u + s * np.sqrt(1 - a**2) * new if t else s * new
            np.testing.assert_allclose(run["inputs"][trial, t, :, 0], u, atol=1e-6)
            following = []
            for r in range(3):
                arriving = [m[e] for e in range(6) if edges.target[e] == r]
                following.append(gated(nets["cell$params"].cell, r, g[r], np.concatenate([[u[r]], *arriving])))
            for e in range(6):  # what the message moves: the same step with its mean instead
                r, mean = edges.target[e], run["messages"][..., e, :].mean((0, 1))
                arriving = [mean if k == e else m[k] for k in range(6) if edges.target[k] == r]
                # single precision, and means of all trials
                moved = gated(nets["cell$params"].cell, r, g[r], np.concatenate([[u[r]], *arriving]))
                added = C[starts[r] : starts[r + 1]] @ linear(nets["factors$params"], r, following[r] - moved)
                expected = np.sqrt(np.mean(added**2))
                np.testing.assert_allclose(run["effects"][trial, t, e], expected, atol=1e-5)
            g = following
            np.testing.assert_allclose(run["eta"][trial, t], eta_of(g) + run["offset"], atol=1e-5)
            past.append(said(eta_of(g)))


def change_of_inputs(controller, bins):
    """Largest change of each bin's and region's inferred inputs, where ``bins`` of region B are others."""
    data = recording()
    model = MRLFADS(**SMALL, n_inputs=1, max_delay=0.0, controller=controller)
    values = first_values(model, data, random.key(0))
    z = np.random.default_rng(0).standard_normal((data.n_trials, 3, SMALL["n_initial"]))

    @jax.jit
    def inferred(other):
        known = values.all | {"initial": jnp.asarray(z)}
        guide = handlers.substitute(handlers.seed(model.guide, random.key(1)), data=known)
        return handlers.trace(guide).get_trace(other)["innovations"]["fn"].base_dist.loc[..., 0]

    moved = {name: np.array(data.region(name)) for name in SIZES}
    moved["B"][:, bins] += 3
    other = data.with_values(np.concatenate(list(moved.values()), -1))
    return np.abs(np.asarray(inferred(other)) - np.asarray(inferred(data))).max(0)


@pytest.mark.slow
def test_a_filter_infers_inputs_from_bins_up_to_the_present_one():
    """And from a region's own neurons: of others messages tell, one bin later at the earliest."""
    late = 5
    change = change_of_inputs("filtering", slice(late, None))
    np.testing.assert_allclose(change[:late], 0.0, atol=1e-6)
    np.testing.assert_allclose(change[late, [0, 2]], 0.0, atol=1e-6)
    assert change[late, 1] > 1e-4


@pytest.mark.slow
def test_a_smoother_infers_inputs_from_later_bins_too():
    """From a region's own neurons; the others hear one bin later of what they led it to infer."""
    change = change_of_inputs("smoothing", slice(5, None))
    assert (change[[0, 4, 5], 1] > 1e-4).all()
    np.testing.assert_allclose(change[0, [0, 2]], 0.0, atol=1e-6)


def test_values_between_bins_are_those_of_a_parabola():
    delay = jnp.linspace(1.0, 3.0, 21)  # away from the ends
    weights = np.asarray(lag_weights(delay, 6))
    lags = np.arange(6.0)
    for power in range(3):
        np.testing.assert_allclose(weights @ lags**power, np.asarray(delay) ** power, atol=1e-12)
    whole = np.asarray(lag_weights(jnp.arange(6.0), 6))
    np.testing.assert_allclose(whole, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(np.asarray(lag_weights(jnp.linspace(0, 5, 50), 6)).sum(-1), 1.0, atol=1e-12)
    np.testing.assert_array_equal(lag_weights(jnp.zeros(2), 1), np.ones((2, 1)))
    slope = jax.grad(lambda d: lag_weights(d, 6) @ jnp.asarray(lags) ** 2)
    np.testing.assert_allclose(slope(jnp.asarray(1.999999)), slope(jnp.asarray(2.000001)), atol=1e-4)


@pytest.mark.parametrize("fitted", [0.0, 0.02, 0.05])
@pytest.mark.parametrize(("mode", "sd"), [(0.02, 0.004), (0.001, 0.003), (0.05, 0.002), (-0.003, 0.002)])
def test_the_posterior_of_a_delay_is_a_parabola_cut_off(fitted, mode, sd):
    """Wherever its three heights are taken; against the density on a grid."""
    law = _truncated(lambda delay: -0.5 * ((delay - mode) / sd) ** 2, fitted, 0.005, 0.05)
    grid = np.linspace(0, 0.05, 200_001)
    density = np.exp(-0.5 * ((grid - np.clip(mode, 0, 0.05)) / sd) ** 2)
    share = np.cumsum(density) / density.sum()
    for tail in (0.05, 0.5, 0.95):
        np.testing.assert_allclose(law.ppf(tail), grid[np.searchsorted(share, tail)], atol=2e-5)


def test_a_delay_that_nothing_holds_may_be_any():
    law = _truncated(lambda delay: delay**2, 0.02, 0.005, 0.05)
    np.testing.assert_allclose([law.ppf(0.1), law.median()], [0.005, 0.025])
    none = _truncated(lambda delay: 0.0, 0.0, 0.0, 0.0)
    assert (none.median(), none.std(), none.ppf(0.95)) == (0.0, 0.0, 0.0)


@pytest.mark.slow
def test_a_region_that_is_held_says_the_same_in_every_bin_and_moves_others():
    data = recording()
    model = MRLFADS(**SMALL, n_inputs=0, message_noise=0.0, max_delay=0.0)
    nets, before = run_of(model, data)
    sites = {"input_center": nets["input_center"]}
    held = model.held_at(data.layout, sites, "A", 0.0, np.ones(9, bool))
    _, after = run_of(model, data, **held)
    own = Edges.of(3).source == 0
    said = after["messages"][:, :, own]
    np.testing.assert_allclose(said, np.broadcast_to(said[:1, :1], said.shape), atol=1e-6)
    assert np.abs(after["eta"][..., 4:] - before["eta"][..., 4:]).max() > 1e-4
    np.testing.assert_allclose(after["states"][:, 0, 0], before["states"][:, 0, 0], atol=1e-6)  # nothing came yet
    with pytest.raises(mrgp.DataError, match="there is no region 'D' here: choose from A, B, C"):
        model.held_at(data.layout, sites, "D", 0.0, np.ones(9, bool))
    since = model.held_at(data.layout, sites, "A", 0.0, np.arange(9) >= 4)  # what is said in bin 4 arrives in bin 5
    _, later = run_of(model, data, **since)
    np.testing.assert_allclose(later["messages"][:, :5], before["messages"][:, :5], atol=1e-6)
    np.testing.assert_allclose(later["messages"][:, 5:, own], said[:, 5:], atol=1e-6)
    assert np.abs(later["messages"][:, 5:, own] - before["messages"][:, 5:, own]).max() > 1e-4


def test_an_edge_costs_by_a_student_density():
    """Weights of an edge, whose precision has a Gamma prior that is integrated out numerically."""
    layout = recording().layout
    places, edges = Places.of(layout), Edges.of(3)
    net = RateChannels().make(layout, 2, 4, random.key(0))
    other = net._replace(weights=2.5 * net.weights)
    found = float(other.log_prior(places, edges) - net.log_prior(places, edges))
    expected = 0.0
    grid = np.exp(np.linspace(-12, 18, 20_001))  # precisions
    for e, source in enumerate(edges.source):
        count = layout.n_neurons[source]
        size, rate = 2 * count, 0.3**2 / count
        logs = []
        for weights in (net.weights[e], other.weights[e]):
            square = float((np.asarray(weights) ** 2).sum())
            density = (size / 2) * np.log(grid) - grid * square / 2 - rate * grid  # Gamma(1, rate)
            top = density.max()
            logs.append(top + np.log(np.trapezoid(np.exp(density - top), grid)))
        expected += logs[1] - logs[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def drawn(model, data):
    """Program and guide at first values: shapes of their latents, eta and routing."""
    values = first_values(model, data, random.key(0))
    both = (handlers.substitute(handlers.seed(p, random.key(1)), data=values.all) for p in (model.guide, model))
    guide, program = (handlers.trace(p).get_trace(data) for p in both)
    latents = {name: site["fn"].shape() for name, site in program.items() if name != "y"
               and site["type"] == "sample" and any(f.name == "trial" for f in site["cond_indep_stack"])}  # fmt: skip
    assert {name: guide[name]["fn"].shape() for name in latents} == latents
    assert program["states"]["value"].dtype == jnp.float32  # draws in double precision do not take networks along
    return program["eta"]["value"], program["routing"]["value"]


@pytest.mark.parametrize(
    ("channels", "controller"), [("rates", "smoothing"), ("graph", "filtering"), ("attention", "filtering")]
)
@pytest.mark.parametrize("sizes", [{"A": 3}, SIZES])
def test_guides_infer_the_latents_of_programs(channels, controller, sizes):
    """With every kind of channel, of one region and of several."""
    data = recording(sizes=sizes)
    model = MRLFADS(**SMALL, channels=channels, controller=controller)
    eta, routing = jax.eval_shape(lambda: drawn(model, data))
    assert eta.shape == data.values.shape
    assert routing.shape == (6, 9, len(sizes) * (len(sizes) - 1))


@pytest.mark.slow
@pytest.mark.parametrize("channels", ["rates", "graph", "attention"])
def test_rates_are_finite_and_routing_is_a_share(channels):
    data = recording()
    eta, routing = jax.jit(lambda: drawn(MRLFADS(**SMALL, channels=channels), data))()
    assert np.isfinite(eta).all()
    assert ((routing >= 0) & (routing <= 1)).all()


def test_messages_begin_at_a_regression_where_they_are_told_to():
    data = recording()
    model = MRLFADS(**SMALL, n_messages=2, channels=RateChannels(by_regression=True))
    [(name, weights)] = model.first_guess(data).items()
    values = packed(first_values(model, data, random.key(0)))
    assert weights.shape == values[name].shape == (6, 2, 4)
    assert MRLFADS(**SMALL).first_guess(data) == {}


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="MRLFADS: n_messages counts at least 1, not 0"):
        MRLFADS(n_messages=0)
    with pytest.raises(ValueError, match=r"MRLFADS: max_delay is a number from 0 on, not -0\.1"):
        MRLFADS(max_delay=-0.1)
    with pytest.raises(ValueError, match="channels is 'rates', 'graph' or 'attention', not 'telepathy'"):
        MRLFADS(channels="telepathy")
    with pytest.raises(ValueError, match="n_messages = 3 cannot be shared out to 2 heads: take a multiple"):
        MRLFADS(n_messages=3, channels=AttentionChannels(heads=2))
    wide = MRLFADS(channels=GraphChannels(width=8))
    assert type(wide).from_settings(wide.to_settings()) == wide


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the fit has not converged")
def test_a_ring_is_found_and_goes_through_files(tmp_path, monkeypatch):
    ring = mrgp.memory_ring(n_units=24, n_inputs=1, n_trials=200, n_bins=30, noise=0.05, seed=1)
    model = MRLFADS(8, 16, 1, 1, 8, emission="gaussian", width=32, max_delay=0.0)
    fit = model.fit(ring.data, max_iterations=120, warm_up=15, learning_rate=0.01, batch_size=32, progress=False)
    assert mrgp.metrics.effectome_cosine(ring.truth["effectome"], fit.effectome()) > 0.9
    messages = fit.messages()
    assert mrgp.metrics.message_r2(ring.truth["messages"], messages["mean"]) > 0.8
    passes, of_sites = [], AmortisedConditional.of_sites
    monkeypatch.setattr(AmortisedConditional, "of_sites", lambda *asked: passes.append(1) or of_sites(*asked))
    inputs, table = fit.inputs(), fit.edges()
    assert inputs["mean"].dims == ("trial", "time", "region", "input")
    assert not passes  # over draws: one has told all
    for name, own in ("messages", messages), ("inputs", inputs):
        alone = fit.posterior(name)["mean"].values
        np.testing.assert_allclose(own["mean"].values.reshape(alone.shape), alone, atol=1e-6)
    np.testing.assert_allclose([table["share"].values[table.target_of_edge == r].sum() for r in "ABC"], 1.0)
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_allclose(again.messages(ring.data)["mean"], messages["mean"], atol=1e-6)
    without = fit.perturb("A", None)
    moved = np.abs(without["rate"] - without["rate_without"]).mean(("trial", "time"))
    by_region = moved.groupby("region").mean()
    assert float(by_region.sel(region="B")) > 2 * float(by_region.sel(region="C"))  # A speaks to B
    later = fit.perturb("A", None, since=ring.data.times[10])
    np.testing.assert_allclose(later["rate_without"][:, :11], without["rate"][:, :11], atol=1e-6)
    assert np.abs(later["rate_without"] - without["rate"])[:, 11:].max() > 1e-3
