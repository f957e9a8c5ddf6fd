"""Delays that vary: the likelihood against the dense one, the modes against their process, recovery, learning."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import ADM, DLAG

import mrgp
from mrgp.families.model import Model
from mrgp.inference import map as climbing
from mrgp.inference.variational_bayes.bound import trace_of
from mrgp.parts.delays.courses import most_evident, smooth_modes
from mrgp.parts.delays.varying import VaryingDelay, timescales
from mrgp.simulations.scenarios import simulate_scenario
from mrgp.simulations.simulate import simulate

BIN = 0.02


@pytest.mark.parametrize(("n_bins", "timescale"), [(40, 4.0), (40, 200.0), (7, 3.0), (1, 5.0)])
def test_modes_are_those_of_the_process(n_bins, timescale):
    modes = smooth_modes(n_bins, timescale)
    lag = np.subtract.outer(np.arange(n_bins), np.arange(n_bins)) / timescale
    # The knots leave 1e-3 of the variance between them.
    np.testing.assert_allclose(modes @ modes.T, np.exp(-0.5 * lag**2), atol=2e-3)
    overlap = modes.T @ modes
    np.testing.assert_allclose(overlap, np.diag(np.diag(overlap)), atol=1e-9)


def test_each_latent_has_its_own_timescale():
    layout = mrgp.recordings.recording.Layout(("A", "B"), (3, 3), BIN)
    model = ADM(n_across=2, delays=VaryingDelay(learned_timescales=(0.1, 0.4)))
    modes = model.delays.modes(model.tables.extent(layout, 40))
    for table, timescale in zip(modes, timescales(model.delays, 2), strict=True):
        alone = smooth_modes(40, timescale / BIN)
        np.testing.assert_array_equal(table[:, : alone.shape[1]], alone)
        assert not table[:, alone.shape[1] :].any()
    assert Model.from_settings(json.loads(json.dumps(model.to_settings()))) == model
    assert timescales(ADM(n_across=2, delay_timescale=0.1).delays, 2) == (0.1, 0.1)
    with pytest.raises(ValueError, match="2 positive numbers"):
        ADM(n_across=2, delays=VaryingDelay(learned_timescales=(0.1,)))


def measured(model, true, level, n_bins=100, sd=0.05 * BIN):
    """A recording's shape, sites and curvature as after a climb on courses of 6 regions, measured with noise ``sd``.

    The courses have a spread of one bin and a timescale of ``true`` bins, around ``level`` seconds.
    """
    rng = np.random.default_rng(0)
    data = mrgp.MultiRegionData({name: rng.standard_normal((2, n_bins, 1)) for name in "ABCDEFG"}, BIN)
    lag = np.subtract.outer(np.arange(n_bins), np.arange(n_bins)) / true
    root = np.linalg.cholesky(np.exp(-0.5 * lag**2) + 1e-9 * np.eye(n_bins))
    courses = BIN * (root @ rng.standard_normal((n_bins, 6))).T + sd * rng.standard_normal((6, n_bins))
    modes = model.delays.modes(model.tables.extent(data.layout, n_bins))[0]
    square = modes.T @ modes / sd**2 + np.eye(modes.shape[1]) / BIN**2   # the climb's s is one bin
    change = np.linalg.solve(square, modes.T @ courses.T / sd**2).T / BIN
    sites = {
        "delay": np.full((6, 1), level), "delay_spread": np.full((6, 1), BIN), "delay_change": change[:, None, :]
    }  # fmt: skip
    # delay = D tanh(phi / 2 + f / D): phi is known as well as all bins of 2 f / D together.
    curvature = np.full((6, 1), n_bins / sd**2 / (2 / model.max_delay) ** 2)
    return data, sites, lambda name: {"delay": curvature}[name]


@pytest.mark.parametrize("level", [0.0, 0.8])
@pytest.mark.parametrize("true", [5.0, 20.0])
def test_timescale_and_spread_of_courses_are_learned(true, level):
    model = ADM(n_across=1, max_delay=10 * BIN, delays=VaryingDelay(learned_timescales=(10 * BIN,)))
    data, sites, curvature = measured(model, true, level * 10 * BIN)
    found, changed = model.fitting.learned(data, sites, curvature, ())
    assert found.delays.learned_timescales[0] / BIN == pytest.approx(true, rel=0.35)   # the grid's steps are 26%
    np.testing.assert_allclose(np.median(changed["delay_spread"]), BIN, rtol=0.35)
    course, kept = (
        m.tables.delays(s, data.layout, 100)[1:] for m, s in ((model, sites), (found, {**sites, **changed}))
    )
    same = changed["delay_spread"][:, 0] >= BIN   # of less spread, a course is a smaller one
    assert same.any()
    np.testing.assert_allclose(kept[same], course[same], atol=0.15 * BIN)   # another process makes less of the noise


def test_a_delay_found_constant_remains_so():
    model = ADM(n_across=1, max_delay=10 * BIN, delays=VaryingDelay(learned_timescales=(10 * BIN,)))
    data, sites, curvature = measured(model, 5.0, 0.0)
    still = {name: value.copy() for name, value in sites.items()}
    still["delay_spread"][:2] = 1e-3 * BIN
    still["delay_change"][:2] = 1e-2   # what a climb leaves where the density is flat
    _, changed = model.fitting.learned(data, still, curvature, ())
    np.testing.assert_array_equal(changed["delay_spread"][:2], still["delay_spread"][:2])
    assert (changed["delay_spread"][2:] > 0.1 * BIN).all()
    still["delay_spread"][:] = 1e-3 * BIN
    assert model.fitting.learned(data, still, curvature, ()) is None


@pytest.mark.parametrize("timescale", [5, 10])
@pytest.mark.parametrize("known", [0.01, 1.0])
def test_what_a_climb_missed_is_no_evidence_of_change(timescale, known):
    """Weights of modes that should be 0 are off by 0.05, where even the largest mode is hardly known or not."""
    modes = smooth_modes(64, timescale)
    change = 0.05 * np.random.default_rng(1).standard_normal((6, modes.shape[1]))
    precision = np.full(6, known / BIN**2 / (modes**2).sum(0)[0])
    learned, spreads = most_evident(
        modes, change, np.full(6, BIN), precision, timescale * BIN, bin_width=BIN, typical=BIN, learn_spread=True,
        learn_timescale=True,
    )  # fmt: skip
    assert learned == pytest.approx(0.2)   # as before any recording
    np.testing.assert_allclose(spreads, 1e-3 * BIN)


def test_what_is_fixed_is_not_learned():
    model = ADM(n_across=1, max_delay=10 * BIN, delays=VaryingDelay(learned_timescales=(10 * BIN,)))
    data, sites, curvature = measured(model, 5.0, 0.0)
    _, changed = model.fitting.learned(data, sites, curvature, ("delay_spread",))
    np.testing.assert_array_equal(changed["delay_spread"], sites["delay_spread"])
    assert model.fitting.learned(data, sites, curvature, ("delay_change",)) is None
    set_model = model.replace(delay_timescale=10 * BIN)
    found, changed = set_model.fitting.learned(data, sites, curvature, ())
    assert found == set_model
    assert not np.array_equal(changed["delay_spread"], sites["delay_spread"])
    assert set_model.fitting.learned(data, sites, curvature, ("delay_spread",)) is None


def test_a_timescale_longer_than_the_trial_is_left_where_it_is_set():
    n_bins, own = 100, 300 * BIN
    change = np.random.default_rng(0).standard_normal((6, smooth_modes(n_bins, 300.0).shape[1]))
    spread, precision = np.full(6, BIN), np.full(6, 1 / (0.05 * BIN) ** 2)
    settings = {"bin_width": BIN, "typical": BIN, "learn_spread": True}
    fit = smooth_modes(n_bins, 300.0), change, spread, precision, own
    kept, spreads = most_evident(*fit, learn_timescale=False, **settings)
    assert kept == own
    assert not np.array_equal(spreads, spread)
    learned, _ = most_evident(*fit, learn_timescale=True, **settings)
    assert learned <= n_bins * BIN


@pytest.fixture(scope="module")
def small():
    """A recording, a model, and sites with delays that vary."""
    rng = np.random.default_rng(0)
    data = mrgp.MultiRegionData({n: rng.standard_normal((3, 12, 3)) for n in "AB"}, BIN)
    model = ADM(n_across=1, n_within=1, max_delay=4 * BIN, delay_timescale=0.1).prepared(data)
    count = model.delays.modes(model.tables.extent(data.layout, data.n_bins)).shape[-1]
    sites = {
        "loadings": rng.standard_normal((6, 2)), "noise": rng.uniform(0.3, 1, 6), "offset": rng.standard_normal(6),
        "timescale_across": np.array([3 * BIN]), "timescale_within": np.array([2 * BIN, 4 * BIN]),
        "delay": np.array([[0.8 * BIN]]), "delay_spread": np.array([[0.7 * BIN]]),
        "delay_change": rng.standard_normal((1, 1, count)),
    }  # fmt: skip
    return data, model, sites


def test_program_reads_the_delays_of_the_table(small):
    data, model, sites = small
    table = model.tables.delays(sites, data.layout, data.n_bins)
    assert table.shape == (2, 1, 12)
    assert not table[0].any()
    change = 0.7 * BIN * model.delays.modes(model.tables.extent(data.layout, 12))[0] @ sites["delay_change"][0, 0]
    bound = 4 * BIN
    np.testing.assert_allclose(table[1, 0], bound * np.tanh(np.arctanh(0.2) + change / bound), rtol=1e-12)
    distribution = trace_of(model, data, {n: jnp.asarray(v) for n, v in sites.items()})["y"]["fn"]
    np.testing.assert_allclose(distribution.delay[:, :, 0].T * BIN, table[:, 0], rtol=1e-12)


@pytest.mark.slow
def test_markov_is_near_dense(small):
    data, model, sites = small
    exact, lifted = (
        model.replace(likelihood=kind, gp_noise=1e-2).log_likelihood(data, sites).values for kind in ("dense", "markov")
    )
    np.testing.assert_allclose(lifted, exact, atol=0.02)
    with pytest.raises(ValueError, match="constant in time"):
        model.replace(likelihood="spectral").log_likelihood(data, sites)


def test_without_spread_it_is_dlag(small):
    data, model, sites = small
    still = {**sites, "delay_change": np.zeros_like(sites["delay_change"])}
    plain = {n: v for n, v in sites.items() if n not in ("delay_change", "delay_spread")}
    model = model.replace(likelihood="dense")
    dlag = DLAG(n_across=1, n_within=1, max_delay=4 * BIN, likelihood="dense")
    np.testing.assert_allclose(model.log_likelihood(data, still), dlag.log_likelihood(data, plain), rtol=1e-10)


@pytest.mark.slow
def test_gradient_is_that_of_finite_differences(small):
    data, model, sites = small

    @jax.jit
    def total(change):
        filled = {**{n: jnp.asarray(v) for n, v in sites.items()}, "delay_change": change}
        return model.likelihood_at(data, filled).log_prob(jnp.asarray(data.values)).sum()

    change = jnp.asarray(sites["delay_change"])
    slope = np.asarray(jax.jit(jax.grad(total))(change))[0, 0]
    for mode in (0, 2):
        step = jnp.zeros_like(change).at[0, 0, mode].set(1e-5)
        assert slope[mode] == pytest.approx(float(total(change + step) - total(change - step)) / 2e-5, rel=1e-5)


def test_a_shorter_trial_has_the_beginning_of_the_course(small):
    data, model, sites = small
    whole, short = (model.tables.delays(sites, data.layout, bins) for bins in (12, 5))
    np.testing.assert_array_equal(short, whole[..., :5])
    longer = model.tables.delays(sites, data.layout, 20)
    np.testing.assert_array_equal(longer[..., 12:], np.repeat(whole[..., -1:], 8, -1))


@pytest.fixture(scope="module")
def bump():
    made = simulate(
        regions={"A": 15, "B": 15}, n_across=1, n_within=0, n_trials=30, n_bins=40, timescale_across=0.06,
        delay=[[0], [1.5 * BIN]], delay_shape="gaussian_bump", shape_parameters={"center": 0.5, "width": 0.12},
        snr=2.0, seed=1,
    )  # fmt: skip
    return made, ADM(n_across=1, delay_timescale=0.1).fit(made.data, progress=False)


@pytest.mark.slow
def test_a_bump_is_found_with_its_interval(bump):
    made, fit = bump
    assert fit.converged
    assert fit.delays.dims == ("region", "across_latent", "time")
    error = (fit.delays - made.truth["delay"].values).values[1, 0]
    intervals = fit.delay_intervals(0.9)
    sd = intervals["sd"].values[1, 0]
    assert np.sqrt(np.mean(error**2)) < 0.15 * BIN
    # Neighbouring bins err together: some 7 modes, of which 90% are inside, 99% more than half of them.
    inside = (intervals["lower"] <= made.truth["delay"].values) & (intervals["upper"] >= made.truth["delay"].values)
    assert inside.values[1, 0].mean() > 0.6
    assert 0.2 < np.sqrt(np.mean((error / sd) ** 2)) < 2.0
    assert float(fit.sites["delay_spread"][0, 0]) > 0.2 * BIN


@pytest.mark.slow
def test_round_trip_and_draws(bump, tmp_path):
    made, fit = bump
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    np.testing.assert_array_equal(again.delays, fit.delays)
    assert again.model == fit.model
    drawn = fit.draws(400)
    tables = fit.model.tables.delays(drawn, fit.layout, fit.n_bins)
    assert tables.shape == (400, *fit.delays.shape)
    sd = fit.delay_intervals().sd.values[1]
    np.testing.assert_allclose(tables.std(0)[1], sd, rtol=0.25)   # 3.5% by Monte Carlo; to first order in time
    assert again.log_likelihood(made.data).sum() == pytest.approx(float(fit.log_likelihood().sum()), abs=1e-8)


@pytest.mark.slow
def test_a_delay_that_is_constant_stays_so():
    """The evidence takes the spread to its least value: no joint maximum would."""
    made = simulate_scenario("small_constant", seed=200)
    dlag = DLAG(n_across=2, n_within=1).fit(made.data, progress=False)
    fit = ADM(n_across=2, n_within=1).fit(made.data, start=dlag, progress=False)
    assert fit.sites["delay_spread"].max() < 0.05 * BIN
    assert np.ptp(fit.delays.values, axis=-1).max() < 0.05 * BIN


@pytest.mark.slow
def test_spread_and_timescale_can_be_set(bump):
    made, fit = bump
    held = ADM(n_across=1, delay_timescale=0.1).fit(
        made.data, start=fit, fixed={"delay_spread": BIN}, progress=False, tolerance=0.1
    )
    assert (held.sites["delay_spread"] == BIN).all()
    with pytest.raises(ValueError, match="delay_timescale is a positive number"):
        ADM(n_across=1, delay_timescale=-1.0)


@pytest.mark.slow
def test_a_fixed_delay_may_still_vary_around_it(bump):
    made, free = bump
    level = free.sites["delay"]
    fit = ADM(n_across=1).fit(made.data, progress=False, fixed={"delay": level}, start=free, tolerance=1.0)
    np.testing.assert_array_equal(fit.sites["delay"], level)
    assert fit.converged


@pytest.mark.slow
def test_latents_of_one_region_only_need_no_delays():
    rng = np.random.default_rng(1)
    data = mrgp.MultiRegionData({name: rng.standard_normal((4, 15, 3)) for name in "AB"}, BIN)
    fit = ADM(n_across=0, n_within=1).fit(data, progress=False, n_starts=1, tolerance=1.0)
    assert fit.delays.shape == (2, 0, 15)
    assert np.isfinite(fit.log_likelihood()).all()


@pytest.mark.slow
def test_interrupted_fit_goes_on_with_the_timescales_it_learned(bump, tmp_path, monkeypatch):
    made, _ = bump
    place, model, plain, climbs = tmp_path / "fit.checkpoint.npz", ADM(n_across=1), climbing.maximise, []

    def stop_in_the_second_climb(objective, **settings):
        climbs.append(objective.density.model.likelihood.written_name())
        if climbs.count("markov") == 2:
            settings["on_iteration"] = stop
        return plain(objective, **settings)

    def stop(sites):
        raise KeyboardInterrupt

    monkeypatch.setattr(climbing, "maximise", stop_in_the_second_climb)
    with pytest.warns(UserWarning, match="interrupted"):
        first = model.fit(made.data, checkpoint=place, progress=False)
    assert first.model.delays.learned_timescales is not None
    monkeypatch.undo()
    again = model.fit(made.data, checkpoint=place, progress=False)
    assert again.converged
    assert not place.exists()
    warm = model.fit(made.data, start=again, progress=False)   # from a fit whose modes are others
    np.testing.assert_allclose(warm.delays, again.delays, atol=0.05 * BIN)
    assert warm.iterations < 0.5 * again.iterations + 10
