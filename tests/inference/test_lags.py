"""Where regions repeat each other, over all lags: starts of a fit, and what its delays are checked against."""

import dataclasses
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from mrgp.models import DLAG, MDLAG

import mrgp
from mrgp.inference import adaptation, lags
from mrgp.inference import map as climbing
from mrgp.inference import search as searching
from mrgp.inference.apart import worth_of_sharing
from mrgp.inference.lags import RIVAL, cross_covariance, lagged_directions, whitener
from mrgp.inference.optimise import Ascent
from mrgp.inference.profile import better_lags
from mrgp.inference.run import Options

BIN, N_BINS, N_TRIALS = 0.02, 40, 30
DELAYS = np.array([[0.0, 0.0], [9.0, -4.0], [-6.0, 2.0]])  # bins, (region, latent)
TIMESCALES = np.array([3.0, 4.0])
SIZES = (6, 7, 5)


def drawn(delays, timescales, sizes, seed=0, noise=0.8):
    """Shared signals of dense Gaussian processes read at delays: recordings of each region, and loadings."""
    rng = np.random.default_rng(seed)
    time = np.arange(N_BINS)
    y = [noise * rng.standard_normal((N_TRIALS, N_BINS, n)) for n in sizes]
    loadings = [rng.standard_normal((n, delays.shape[1])) for n in sizes]
    for k, timescale in enumerate(timescales):
        at = np.concatenate([time - delay for delay in delays[:, k]])
        covariance = np.exp(-0.5 * ((at[:, None] - at) / timescale) ** 2) + 1e-6 * np.eye(len(at))
        x = rng.standard_normal((N_TRIALS, len(at))) @ np.linalg.cholesky(covariance).T
        for r, c in enumerate(loadings):
            y[r] += x.reshape(N_TRIALS, len(sizes), N_BINS)[:, r, :, None] * c[:, k]
    return y, loadings


@pytest.fixture(scope="module")
def three():
    return drawn(DELAYS, TIMESCALES, SIZES)


def test_cross_covariances_are_means_over_the_bins_that_overlap():
    rng = np.random.default_rng(1)
    x, z = rng.standard_normal((3, 9, 2)), rng.standard_normal((3, 9, 4))
    found = cross_covariance(x, z, 5)
    for lag in range(-5, 6):
        early, late = (x[:, : 9 - lag], z[:, lag:]) if lag >= 0 else (x[:, -lag:], z[:, :lag])
        slow = np.mean([np.outer(a, b) for u, v in zip(early, late, strict=True) for a, b in zip(u, v, strict=True)], 0)
        np.testing.assert_allclose(found[lag + 5], slow, atol=1e-12)


def test_whitened_signals_have_unit_variance_where_they_are_large(three):
    y = three[0][1] - three[0][1].mean((0, 1))
    flat = (y @ whitener(y, 2)).reshape(-1, 7)
    covariance = np.cov(flat.T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-10)
    assert 0.9 < covariance[0, 0] < 1.0 + 1e-10


def test_lags_directions_and_timescales_are_those_of_the_signals(three):
    y, loadings = three
    data = mrgp.MultiRegionData({f"r{r}": part for r, part in enumerate(y)}, BIN)
    found = lagged_directions(np.random.default_rng(0), y, data, 2, 15.0)
    order = [int(np.argmin(np.abs(found.delay[1] - delay))) for delay in DELAYS[1]]
    assert sorted(order) == [0, 1]
    np.testing.assert_allclose(found.delay[:, order], DELAYS, atol=1.0)
    np.testing.assert_allclose(found.timescale[order], TIMESCALES, rtol=0.3)
    own = np.concatenate(loadings)
    for k, other in enumerate(order):
        a, b = own[:, k], found.loadings[:, other]
        assert abs(a @ b) > 0.85 * np.linalg.norm(a) * np.linalg.norm(b)
    near = lagged_directions(np.random.default_rng(0), y, data, 2, 3.0)
    assert np.abs(near.delay).max() <= 3.0


def one_by_one(rng, white, n_latents, reach, greedy):
    """First, second region and lag of each latent: every correlation is found anew from what is left of the signals."""
    white, at, chosen = list(white), np.arange(-reach, reach + 1), []
    for _ in range(n_latents):
        peaks = []
        for first, second in ((0, 1), (0, 2), (1, 2)):
            covariance = cross_covariance(white[first], white[second], reach)
            rho = np.linalg.svd(covariance, compute_uv=False)[:, 0]
            score = -(N_BINS - np.abs(at)) * np.log1p(-np.minimum(rho, 0.99) ** 2)
            padded = np.pad(score, 1, constant_values=-np.inf)
            is_peak = (score >= padded[:-2]) & (score >= padded[2:])
            peaks += [(score[i], first, second, at[i], covariance[i]) for i in np.flatnonzero(is_peak)]
        least = (1.0 if greedy else RIVAL) * max(peak[0] for peak in peaks)
        rivals = [peak for peak in peaks if peak[0] >= least]
        _, first, second, lag, covariance = rivals[rng.integers(len(rivals))]
        left, _, right = np.linalg.svd(covariance)
        directions = {first: left[:, 0], second: right[0]}
        (third,) = {0, 1, 2} - {first, second}
        moved = white[second] @ right[0]
        course = white[first] @ left[:, 0]
        after = slice(max(-lag, 0), N_BINS - max(lag, 0)), slice(max(lag, 0), N_BINS + min(lag, 0))
        course[:, after[0]] += moved[:, after[1]]
        along = cross_covariance(course[..., None], white[third], reach)[:, 0]
        best = along[(along**2).sum(1).argmax()]
        directions[third] = best / np.linalg.norm(best)
        white = [y - (y @ directions[r])[..., None] * directions[r] for r, y in enumerate(white)]
        chosen.append((first, second, lag))
    return chosen


@pytest.mark.parametrize("greedy", [True, False])
def test_latents_are_taken_off_as_if_all_were_found_anew(greedy, monkeypatch):
    y, _ = drawn(np.tile(DELAYS, 2) + np.array([0, 0, 3, -2]), (3.0, 4.0, 5.0, 3.0), (9, 8, 10), seed=7)
    data = mrgp.MultiRegionData({f"r{r}": part for r, part in enumerate(y)}, BIN)
    white = [(part - part.mean((0, 1))) @ whitener(part, 4) for part in y]
    slow = one_by_one(np.random.default_rng(1), white, 4, 15, greedy)
    chosen, best = [], lags._best_pair
    monkeypatch.setattr(lags, "_best_pair", lambda *given: chosen.append(best(*given)) or chosen[-1])
    found = lagged_directions(np.random.default_rng(1), y, data, 4, 15.0, greedy)
    assert [pair[:3] for pair in chosen] == slow
    assert [found.delay[b, k] - found.delay[a, k] for k, (a, b, _) in enumerate(slow)] == [lag for *_, lag in slow]


def test_a_fit_at_the_right_lags_has_nowhere_to_go_and_one_at_a_wrong_lag_has(three):
    y, loadings = three
    centred = [part - part.mean((0, 1)) for part in y]

    def correlation(lag):
        return np.exp(-0.5 * (lag / TIMESCALES) ** 2)

    assert better_lags(centred, loadings, DELAYS, TIMESCALES, correlation) == []
    wrong, turned = DELAYS.copy(), [c.copy() for c in loadings]
    wrong[1, 0] = -1.0
    turned[1][:, 0] = np.random.default_rng(2).standard_normal(7) * 0.3
    moves = better_lags(centred, turned, wrong, TIMESCALES, correlation)
    assert moves[0].latent == 0
    np.testing.assert_allclose(moves[0].delay, DELAYS[:, 0], atol=1.0)
    a, b = moves[0].loadings[1], loadings[1][:, 0]
    assert abs(a @ b) > 0.85 * np.linalg.norm(a) * np.linalg.norm(b)
    assert better_lags(centred, loadings, np.clip(DELAYS, -8.0, 8.0), TIMESCALES, correlation) == []
    short = better_lags(centred, loadings, np.clip(DELAYS, -7.0, 7.0), TIMESCALES, correlation, bound=7.0)
    assert [move.delay[1] for move in short] == [pytest.approx(9.0, abs=1.0)]  # 2 bins off, but no climb gets there
    first = DELAYS - np.array([[5.0, 0.0], [0.0, 0.0], [0.0, 0.0]])  # the first region 5 bins off: all others are
    moves = better_lags(centred, loadings, first - first[[0]], TIMESCALES, correlation)
    assert any(move.latent == 0 and np.abs(move.delay - DELAYS[:, 0]).max() <= 1.0 for move in moves)


def test_lags_on_the_far_side_of_zero_are_tried_too():
    """From -18 bins to +9 in trials of 40: 27 bins apart, more than half a trial."""
    y, loadings = drawn(np.array([[0.0], [9.0]]), [3.0], (6, 6), seed=4)
    centred = [part - part.mean((0, 1)) for part in y]
    for own in (-18.0, -10.4, 2.0, 17.3):
        moves = better_lags(
            centred, loadings, np.array([[0.0], [own]]), np.array([3.0]), lambda lag: np.exp(-0.5 * (lag / 3.0) ** 2)
        )
        assert abs(moves[0].delay[1] - 9.0) <= 1.0


@pytest.fixture(scope="module")
def far():
    """A delay of 10.6 bins, twice the default bound, in trials of 26."""
    y, _ = drawn(np.array([[0.0], [0.6]]), [4.0], (6, 6), seed=3, noise=0.6)
    data = mrgp.MultiRegionData({"A": y[0][:, 12:38], "B": y[1][:, 2:28]}, BIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that its bound was widened
        return data, DLAG(1, 0).fit(data, progress=False, n_starts=3)


@pytest.mark.slow
def test_a_delay_beyond_the_default_bound_is_found(far):
    _, fit = far
    assert abs(float(fit.delays[1, 0]) - 10.6 * BIN) < 0.3 * BIN
    assert fit.model.max_delay == pytest.approx(0.26)  # half a trial
    assert any("max_delay widened" in note for note in fit.notes)
    assert float(fit.delay_intervals().sd[1, 0]) < 0.2 * BIN


def quick(model, data, start, **options):
    """A fit from another, of few iterations, and what it said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit = model.fit(data, progress=False, start=start, **options)
    return fit, [str(warning.message) for warning in said]


@pytest.mark.slow
def test_a_second_climb_that_ends_lower_leaves_no_trace(far, monkeypatch):
    """Neither parameters, nor the bound, nor a note; and it takes nothing from the first one's convergence."""
    data, fit = far
    worse = {**fit.sites, "loadings": 0.1 * fit.sites["loadings"]}
    monkeypatch.setattr(adaptation, "elsewhere", lambda model, *_: ((model.replace(max_delay=0.4), worse), []))
    monkeypatch.setattr(adaptation, "MOST_ROUNDS", 2)
    climb, lengths = climbing.maximise, []

    def short(objective, **options):
        lengths.append(options["max_iterations"])
        return climb(objective, **(options | {"max_iterations": 2} if len(lengths) > 1 else options))

    monkeypatch.setattr(climbing, "maximise", short)
    again, said = quick(fit.model, data, fit)
    assert len(lengths) == 2
    assert (again.model.max_delay, again.converged, again.notes, said) == (fit.model.max_delay, True, (), [])
    np.testing.assert_allclose(again.sites["loadings"], fit.sites["loadings"], atol=0.02)


def test_an_interrupt_while_other_lags_are_tried_keeps_the_fit(far, monkeypatch, tmp_path):
    data, fit = far

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(adaptation, "elsewhere", interrupted)
    again, _ = quick(fit.model, data, fit, checkpoint=tmp_path / "checkpoint.npz")
    assert (again.reason, again.converged) == ("interrupted", False)
    assert float(again.log_likelihood().sum()) == pytest.approx(float(fit.log_likelihood().sum()), abs=0.5)
    assert (tmp_path / "checkpoint.npz").is_file()


@pytest.mark.slow
def test_variational_rounds_look_at_other_lags_too(far, monkeypatch):
    """From a lag 16 bins off they come back; without the look they stay, many nats lower."""
    data, _ = far
    model = MDLAG(1, likelihood="spectral", max_delay=0.26)
    fit, _ = quick(model, data, None, n_starts=3)
    sites = {**fit.sites, "delay": fit.sites["delay"] - 16 * BIN, "loadings": fit.sites["loadings"].copy()}
    sites["loadings"][6:] *= 0.1
    astray = dataclasses.replace(fit, sites=sites)
    again, _ = quick(fit.model, data, astray)
    assert again.converged
    assert again.trace[-1] == pytest.approx(fit.trace[-1], abs=0.5)
    np.testing.assert_allclose(again.delays, fit.delays, atol=0.1 * BIN)
    assert np.diff(again.trace).min() > -1e-6
    monkeypatch.setattr(adaptation, "elsewhere", lambda *_: (None, []))
    stuck, _ = quick(fit.model, data, astray)
    assert stuck.trace[-1] < fit.trace[-1] - 20


@pytest.mark.parametrize("bound", [0.216, 0.1])
def test_a_better_lag_is_taken_within_a_held_bound_and_told_beyond(far, bound):
    """The lag is 10.6 bins: 0.212 s, near the first bound and beyond the second."""
    data, fit = far
    model = fit.model.replace(hold_max_delay=True, max_delay=bound, window=None)
    sites = {**fit.sites, "delay": np.array([[-0.95 * bound]]), "loadings": fit.sites["loadings"] * 0.5}
    options = Options(0, 1, 0.01, 100, None, False)
    found, notes = searching.elsewhere(model, data, sites, options)
    moved, there = found
    assert moved.max_delay == bound
    if bound > 0.2:
        assert notes == []
        assert abs(there["delay"][0, 0] - 0.212) < 0.006  # of 26 bins the spectral likelihood knows it no better
    else:
        assert 0.095 < there["delay"][0, 0] < 0.1  # as near as it may come, from the other side of zero
        assert re.match(r"a lag of 2[0-2]\d ms .* max_delay that is held", notes[0])


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1.0, 1e-3])
def test_relevance_moves_in_any_unit(far, unit):
    data, fit = far
    scaled = data.with_values(unit * data.with_nan())
    model = MDLAG(1, shape=1.0, rate=unit**2, max_delay=0.26)
    sites = {
        **{name: fit.sites[name] for name in ("timescale_across",)}, "delay": np.array([[-0.1]]),
        "loadings": unit * fit.sites["loadings"], "noise": unit**2 * fit.sites["noise"], "offset": scaled.center,
        "alpha": np.full((2, 1), unit**-2.0),
    }  # fmt: skip
    found, _ = searching.elsewhere(model, scaled, sites, Options(0, 1, 0.01, 100, None, False))
    assert abs(found[1]["delay"][0, 0] - 0.212) < BIN  # of the spectral likelihood of factors


@pytest.mark.slow
def test_a_climb_from_a_wrong_lag_goes_on_elsewhere(far):
    data, fit = far
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = DLAG(1, 0, hold_max_delay=True).fit(data, progress=False, n_starts=2)
        again = DLAG(1, 0).fit(data, progress=False, start=held)
    assert abs(float(held.delays[1, 0])) < 5 * BIN
    assert float(again.log_likelihood().sum()) == pytest.approx(float(fit.log_likelihood().sum()), abs=0.5)
    assert again.trace[-1] == again.trace.max()


# --- latents that regions read so far apart that they do not share them


def test_what_a_far_lag_is_worth_is_what_two_private_signals_miss(three):
    """Dense, against the same parameters with regions scored one by one."""
    y, loadings = three
    data = mrgp.MultiRegionData({"A": y[0][:5], "B": y[1][:5]}, BIN)
    model = DLAG(1, 0, likelihood="dense", max_delay=0.4)
    C = np.concatenate([part[:, :1] for part in loadings[:2]])
    sites = {"loadings": C, "noise": np.full(13, 0.64), "offset": np.zeros(13), "delay": np.array([[9 * BIN]]),
             "timescale_across": np.array([3 * BIN])}  # fmt: skip
    lag = np.arange(N_BINS)[:, None] - np.arange(N_BINS)
    K = 0.999 * np.exp(-0.5 * (lag / 3) ** 2) + 1e-3 * np.eye(N_BINS)
    alone = 0.0
    for part, rows in zip(y[:2], (slice(0, 6), slice(6, 13)), strict=True):
        V = np.kron(K, C[rows] @ C[rows].T) + 0.64 * np.eye(N_BINS * part.shape[2])
        values = part[:5].reshape(5, -1)
        alone += -0.5 * (np.linalg.slogdet(2 * np.pi * V)[1] * 5 + (values * np.linalg.solve(V, values.T).T).sum())
    together = float(model.log_likelihood(data, sites).sum())
    assert worth_of_sharing(model, data, sites, 0.1) == pytest.approx([together - alone], abs=1e-5)
    assert together - alone > 20
    assert worth_of_sharing(model, data, sites, 0.2) == np.inf


@pytest.mark.parametrize("model", [DLAG(1, 0), pytest.param(MDLAG(1), marks=pytest.mark.slow)])
@pytest.mark.slow
def test_private_signals_are_not_made_into_a_delay(model):
    """One shared latent for two private signals does best to forget one on the way to the other, but that is no lag."""
    ya, _ = drawn(np.array([[0.0]]), [4.0], (7,), seed=11)
    yb, _ = drawn(np.array([[0.0]]), [4.0], (6,), seed=12)
    data = mrgp.MultiRegionData({"A": ya[0], "B": yb[0]}, BIN)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit = model.fit(data, progress=False, n_starts=3)
    assert fit.model.delays.bound(BIN) == pytest.approx(5 * BIN)
    assert not any("widened" in str(warning.message) for warning in said)


def test_only_shared_latents_are_followed_beyond_the_bound():
    """One latent is shared at 8 bins; the copies of the other, 18 bins apart, are two private signals."""
    y, loadings = drawn(np.array([[0.0], [8.0]]), [4.0], (7, 6), seed=5)
    private = [drawn(np.array([[0.0]]), [4.0], (size,), seed=seed, noise=0.0) for size, seed in ((7, 6), (6, 7))]
    data = mrgp.MultiRegionData({name: own + more[0][0] for name, own, more in zip("AB", y, private, strict=True)}, BIN)
    columns = [np.hstack([c, more[1][0]]) for c, more in zip(loadings, private, strict=True)]
    far = DLAG(2, 0, likelihood="spectral", max_delay=20 * BIN)
    sites = {"loadings": np.concatenate(columns), "noise": np.full(13, 0.64), "offset": np.zeros(13),
             "delay": BIN * np.array([[8.0, -18.0]]), "timescale_across": np.full(2, 4 * BIN)}  # fmt: skip
    worth = worth_of_sharing(far, data, sites, 5 * BIN)
    assert worth[0] > 20
    assert worth[1] < 5
    near, stand_in = far.replace(max_delay=5 * BIN), SimpleNamespace(data=data)
    tamed = searching._brought_back(far, near, Ascent(sites, 0.0), stand_in)["delay"]
    np.testing.assert_allclose(tamed, BIN * np.array([[8.0, -4.0]]))
    assert searching._shares(far, near, Ascent(sites, 0.0), stand_in)
    assert not searching._shares(far, near, Ascent({**sites, "delay": BIN * np.array([[2.0, -18.0]])}, 0.0), stand_in)
