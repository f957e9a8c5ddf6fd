"""Networks of talking regions: the recursion written out, delays, counts, graphs, and refusals."""

import numpy as np
import pytest

from mrgp.recordings.load import load_recording
from mrgp.simulations.memory_ring import memory_ring
from mrgp.simulations.pass_decision import BOUND, INTEGRATED, pass_decision
from mrgp.simulations.random_networks import KINDS, random_networks
from mrgp.simulations.talking import STIMULUS_BINS, Edge, Region, delayed, run, smooth_stimuli
from mrgp.simulations.three_flows import ENDS, FLOWS, PERIOD, cycle, three_flows

SMALL = {"n_trials": 20, "n_bins": 40}
NETWORKS = {
    "memory_ring": memory_ring, "pass_decision": pass_decision, "three_flows": three_flows,
    "random_networks": random_networks,
}  # fmt: skip


def least_squares_rest(outcome, *regressors):
    """Largest residual of a regression with an intercept over trials and bins."""
    design = np.concatenate([r.reshape(-1, r.shape[-1]) for r in regressors], -1)
    design = np.c_[design, np.ones(len(design))]
    flat = outcome.reshape(-1, outcome.shape[-1])
    return np.abs(flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]).max()


def test_recursion_is_the_one_written_out():
    """Two regions that talk both ways, with delays of 0 and 1.25 bins, tanh and a common input."""
    rng = np.random.default_rng(0)
    T, start = 12, rng.standard_normal((2, 3))
    A, G = rng.standard_normal((2, 3, 3)) / 3, rng.standard_normal((2, 4, 3))
    P, B = rng.standard_normal((2, 2, 4)), rng.standard_normal((2, 3, 2))
    u, c = rng.standard_normal((1, T, 2, 2)), rng.standard_normal((1, T, 1))

    def region(r):
        def step(z, arrived):
            return z @ A[r].T + (arrived.stimulus + arrived.messages.sum(1)) @ B[r].T + arrived.common

        return Region(start[r][None], step, lambda z: z @ G[r].T)

    edges = [Edge(0, 1, P[0], 0.0), Edge(1, 0, P[1], 1.25)]
    course = run([region(0), region(1)], edges, u, c, np.tanh)
    h, z = [[G[r] @ start[r]] * 4 for r in (0, 1)], list(start)  # rates from bin -4 on, all alike before the trial
    for t in range(T):
        m = np.tanh(P[0] @ h[0][-1]), np.tanh(P[1] @ (0.75 * h[1][-2] + 0.25 * h[1][-3]))
        z = [A[r] @ z[r] + B[r] @ (u[0, t, r] + m[1 - r]) + c[0, t] for r in (0, 1)]
        h = [[*h[r], G[r] @ z[r]] for r in (0, 1)]
        np.testing.assert_allclose(course.messages[0, t], m, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose([course.states[r][0, t] for r in (0, 1)], z, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose([course.rates[r][0, 1 + t] for r in (0, 1)], [h[0][-1], h[1][-1]], rtol=1e-10)


@pytest.mark.parametrize("delay", [0.0, 0.4, 1.0, 2.75])
def test_rates_are_delayed_by_interpolation(delay):
    rates = np.arange(11.0)[None, :, None]  # those of bin t are t + 1
    for t in range(10):
        wanted = np.interp(t - delay, np.arange(11.0), np.arange(11.0))
        assert delayed(rates, t, delay)[0, 0] == pytest.approx(wanted, abs=1e-12)


def test_stimuli_are_smooth():
    """Autocorrelation over 60,000 bins: its error is below 0.03."""
    x = smooth_stimuli(np.random.default_rng(1), 600, 100, 2)
    assert x.std() == pytest.approx(1.0, abs=0.03)
    for lag in (1, 10):
        assert (x[:, lag:] * x[:, :-lag]).mean() == pytest.approx(np.exp(-lag / STIMULUS_BINS), abs=0.03)


@pytest.mark.parametrize("delay", [0.0, (0.0, 1.0, 3.0)])
def test_ring_passes_stimuli_on_two_bins_late(delay):
    truth = memory_ring(n_trials=60, seed=3, delay=delay, noise=0).truth
    for e, extra in enumerate(np.broadcast_to(delay, 3).astype(int)):
        r2 = []
        for late in range(7):
            sent = truth["inputs"].values[:, : 60 - late, e]
            arrived = truth["messages"].values[:, late:, e]
            r2.append(1 - ((arrived - sent) ** 2).sum() / ((sent - sent.mean((0, 1))) ** 2).sum())
        assert np.argmax(r2) == 2 + extra
        assert max(r2) > 0.9
    assert truth.attrs["passed_on"] > 0.9
    assert truth["delay"].values.tolist() == pytest.approx((np.broadcast_to(delay, 3) * 0.01).tolist())
    assert list(zip(truth["source_of_edge"].values, truth["target_of_edge"].values, strict=True)) == [
        ("A", "B"), ("B", "C"), ("C", "A"),
    ]  # fmt: skip


def test_messages_of_a_ring_are_read_from_rates_of_the_bin_before():
    """All units are recorded without noise: messages are linear in them, after tanh^-1 where they saturate."""
    for saturating in (False, True):
        made = memory_ring(n_regions=2, n_units=16, noise=0, saturating=saturating, seed=1, **SMALL)
        rates, sent = made.data.region("A"), made.truth["messages"].values[:, :, 0]
        sent = np.arctanh(sent) if saturating else sent
        assert least_squares_rest(sent[:, 1:], rates[:, :-1]) < 1e-8
        assert least_squares_rest(sent[:, 1:], rates[:, 1:]) > 0.1


def test_a_silenced_region_is_heard_by_nobody_and_all_else_stays():
    ring = {"n_units": 16, "noise": 0, "seed": 1, **SMALL}
    truth, silent = (memory_ring(silenced=place, **ring).truth for place in (None, 0))
    np.testing.assert_array_equal(truth["inputs"], silent["inputs"])
    assert (silent["messages"].values[:, :, 0] == 0).all()  # A to B
    changed = np.abs(silent["rates"] - truth["rates"]).groupby("region_of_neuron").max(...)
    assert float(changed.sel(region_of_neuron="B")) > 0.1
    np.testing.assert_array_equal(silent["rates"][:, 0], truth["rates"][:, 0])  # rates of the rest say nothing
    with pytest.raises(ValueError, match="silenced is one of 3 places from 0, not 3"):
        memory_ring(silenced=3, **ring)


def test_a_region_falls_silent_in_the_middle_of_a_trial():
    """The first message that is lost is that of the bin: it would arrive one bin and the delay after."""
    ring = {"n_units": 16, "noise": 0, "seed": 1, "delay": (1, 2.5, 0), **SMALL}
    truth, silent = (memory_ring(**ring, **options).truth for options in ({}, {"silenced": 0, "silenced_from": 9}))
    whole, cut = truth["messages"].values[:, :, 0], silent["messages"].values[:, :, 0]
    np.testing.assert_allclose(cut[:, :11], whole[:, :11], atol=1e-12)
    assert np.abs(cut[:, 10]).min() > 0
    assert (cut[:, 11:] == 0).all()
    later = memory_ring(silenced=1, silenced_from=9, **ring).truth["messages"].values[:, :, 1]  # of bins 9 and 8
    assert np.abs(later[:, 12]).min() > 0
    assert (later[:, 13:] == 0).all()
    for options, sentence in (
        ({"silenced": 0, "silenced_from": 40}, "silenced_from is one of 40 bins from 0, not 40"),
        ({"silenced_from": 3}, "give its place by silenced"),
    ):
        with pytest.raises(ValueError, match=sentence):
            memory_ring(**ring, **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_repeat_with_their_seed_and_have_their_truth(name, tmp_path):
    made, again = (NETWORKS[name](seed=5, n_units=20, counts=0.5, common=0.3, n_seen=7, **SMALL) for _ in range(2))
    assert made.truth.identical(again.truth)
    assert np.array_equal(made.data.values, again.data.values)
    assert not np.array_equal(made.data.values, NETWORKS[name](seed=6, n_units=20, n_seen=7, **SMALL).data.values)
    truth = made.truth
    sizes = dict(truth.sizes)
    n_regions = len(made.data.layout.regions)
    assert made.data.layout.n_neurons == (7,) * n_regions
    assert truth["messages"].shape[:3] == (20, 40, sizes["edge"])
    assert truth["inputs"].shape[:3] == (20, 40, n_regions)
    assert truth["log_rate"].shape == truth["rates"].shape == (20, 40, 7 * n_regions)
    assert truth["common"].shape == (20, 40, 1)
    messages = truth["messages"].values
    for e in range(sizes["edge"]):
        norm = np.linalg.norm(messages[:, :, e] - messages[:, :, e].mean((0, 1)), axis=-1).mean()
        ends = {"source": truth["source_of_edge"].values[e], "target": truth["target_of_edge"].values[e]}
        assert float(truth["effectome"].sel(ends)) == pytest.approx(norm, rel=1e-12)
    assert (truth["effectome"].values > 0).sum() == sizes["edge"]
    made.save(tmp_path)
    assert np.array_equal(load_recording(tmp_path / "recording.nc", drop_dead=None).values, made.data.values)


def test_counts_have_the_mean_asked_for():
    """Expected counts have it exactly, counts within 5 of their standard errors."""
    made = memory_ring(n_units=16, counts=0.76, n_seen=8, n_trials=100, n_bins=41, spread=1.5)
    expected = np.exp(made.truth["log_rate"].values)
    np.testing.assert_allclose(expected.mean((0, 1)), 0.76, rtol=1e-10)
    counts = made.data.values
    assert counts.mean() == pytest.approx(0.76, abs=5 * np.sqrt(0.76 / counts.size))
    slope = np.diff(made.truth["log_rate"].values, axis=1) / np.diff(made.truth["rates"].values, axis=1)
    np.testing.assert_allclose(slope, 1.5, rtol=1e-5)


def test_gaussian_values_have_their_noise():
    made = pass_decision(n_units=8, noise=0.2, **SMALL)
    rest = made.data.values - made.truth["rates"].values
    assert rest.std() == pytest.approx(0.2, abs=5 * 0.2 / np.sqrt(2 * rest.size))


@pytest.mark.parametrize("reverse", [False, True])
def test_the_region_that_integrates_is_the_one_asked_for(reverse):
    made = pass_decision(reverse=reverse, seed=2, **SMALL)
    truth, own = made.truth, 0 if reverse else 1
    z = truth["latents"].values[:, :, 3 * own]
    x = truth["inputs"].values[:, :, 0, 0] if reverse else truth["messages"].values[:, :, 0, 0]
    by_hand = np.clip(z[:, :-1] + INTEGRATED * x[:, 1:], -BOUND, BOUND)
    np.testing.assert_allclose(z[:, 1:], by_hand, atol=1e-12)
    coherence = np.array([float(kind) for kind in truth["condition_of_trial"].values])
    strong = np.abs(coherence) == 1
    assert (np.sign(z[strong, -1]) == np.sign(coherence[strong])).all()
    assert truth.attrs["integrator"] == ("A" if reverse else "B")
    sent, held = truth["messages"].values[:, 1:, 0, 0], truth["latents"].values[:, :-1, 0]
    assert np.corrcoef(sent.ravel(), held.ravel())[0, 1] > 0.99
    assert made.data.layout.conditions == ("+0.25", "+0.50", "+1.00", "-0.25", "-0.50", "-1.00")


def test_flows_are_the_ones_written_out():
    """Latents less flow and messages are linear in stimulus and common input; delays are 1, 2 and 3 bins."""
    truth = three_flows(seed=4, n_trials=60, n_bins=50).truth
    z, m = truth["latents"].values.reshape(60, 50, 3, 2), truth["messages"].values
    for r, flow in enumerate(FLOWS.values()):
        rest = z[:, 1:, r] - flow.step(z[:, :-1, r])
        rest[..., :1] -= flow.heard * m[:, 1:, (r - 1) % 3]
        assert least_squares_rest(rest, truth["inputs"].values[:, 1:, r], truth["common"].values[:, 1:]) < 1e-10
        late = [np.corrcoef(z[:, : 50 - k, r, 0].ravel(), m[:, k:, r, 0].ravel())[0, 1] for k in range(1, 6)]
        assert np.argmax(late) == r + 1
        assert max(late) > 0.99


def test_flows_have_their_attractors():
    turned = np.array([0.3, 0.1])
    for _ in range(200):
        turned = cycle(turned)
    after = turned
    for _ in range(int(PERIOD)):
        after = cycle(after)
    assert np.linalg.norm(turned) == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(after, turned, atol=1e-9)
    rests = FLOWS["line"].step(np.array([[0.3, 0.0], [-1.2, 0.0], [2.0, 0.0]]))
    np.testing.assert_allclose(rests, [[0.3, 0], [-1.2, 0], [ENDS, 0]])
    far = cycle(np.array([1e6, 0.0]))
    assert 1 < np.linalg.norm(far) < 2
    z = np.array([[0.05, 1.0], [-0.4, -1.0]])
    for _ in range(200):
        z = FLOWS["wells"].step(z)
    np.testing.assert_allclose(z, [[1, 0], [-1, 0]], atol=1e-9)


def test_graphs_are_as_told_and_as_drawn():
    graph = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]])
    made = random_networks(7, n_regions=3, graph=graph, longest_delay=4, n_units=8, **SMALL)
    assert ((made.truth["effectome"].values > 0) == graph).all()
    delay = made.truth["delay"].values
    assert (delay >= 0).all()
    assert (delay <= 0.04).all()
    assert len(set(delay)) == 3
    assert sorted(set(made.truth["condition_of_trial"].values)) == sorted(KINDS)
    drawn = [random_networks(seed, n_units=8, n_trials=5, n_bins=3).truth for seed in range(40)]
    n_edges = sum(d.sizes["edge"] for d in drawn)
    n_pairs = sum(d.sizes["region"] * (d.sizes["region"] - 1) for d in drawn)
    assert {d.sizes["region"] for d in drawn} == {3, 4}
    assert min(d.sizes["edge"] for d in drawn) >= 1
    assert n_edges / n_pairs == pytest.approx(0.4, abs=5 * np.sqrt(0.24 / n_pairs))
    assert not any(np.diag(d["effectome"].values).any() for d in drawn)


def test_stimuli_come_to_sensory_regions():
    truth = random_networks(2, n_units=8, **SMALL).truth
    power = truth["inputs"].std(("trial", "time", "input"))
    sensory = power.sel(region=truth.attrs["sensory"])
    others = power.drop_sel(region=truth.attrs["sensory"])
    assert float(others.max()) < 0.4 < float(sensory.min())


WRONG = {
    "n_trials": (memory_ring, {"n_trials": 0}, "n_trials counts at least 1"),
    "bin_width": (memory_ring, {"bin_width": -1}, "bin_width"),
    "n_seen": (three_flows, {"n_units": 8, "n_seen": 9}, "n_seen is 9, but a region has 8 units"),
    "counts": (three_flows, {"counts": 0.0}, "counts is a positive mean"),
    "spread": (three_flows, {"spread": 0.0}, "spread is positive"),
    "noise": (pass_decision, {"noise": -0.1}, "noise is a standard deviation"),
    "common": (pass_decision, {"common": -0.1}, "common is a standard deviation"),
    "delay": (pass_decision, {"delay": -1}, "delay is 0 or more bins"),
    "late": (pass_decision, {"delay": 60}, "fewer than the 60 of a trial"),
    "delays": (pass_decision, {"delay": (1, 2)}, "one for each of 1 edges"),
    "ring": (memory_ring, {"n_regions": 1}, "n_regions of a ring"),
    "units": (memory_ring, {"n_units": 4}, "n_units is 4"),
    "short": (memory_ring, {"n_bins": 3}, "n_bins is 3"),
    "few": (memory_ring, {"n_units": 5}, "give n_units more"),
    "regions": (random_networks, {"n_regions": 1}, "n_regions is from 2 to 26"),
    "graph": (random_networks, {"n_regions": 2, "graph": np.eye(2)}, "from a region to itself"),
    "no edge": (random_networks, {"n_regions": 2, "graph": np.zeros((2, 2))}, "has an edge"),
    "shape": (random_networks, {"n_regions": 2, "graph": np.ones((3, 3))}, r"graph has shape \(3, 3\)"),
    "both": (random_networks, {"longest_delay": 1, "delay": 1}, "not both"),
    "longest": (random_networks, {"longest_delay": -1}, "longest_delay is 0 or more"),
    "channels": (random_networks, {"n_units": 3}, "n_units is 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_arguments_are_refused_with_a_sentence(case):
    network, options, sentence = WRONG[case]
    with pytest.raises(ValueError, match=sentence):
        network(**options)
