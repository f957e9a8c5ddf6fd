"""Simulation-based calibration: posteriors known to be right or wrong, numbers by hand, runs that stop and go on."""

import json
import warnings
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import xarray as xr
from mrgp.models import ADM, DLAG, FA, GPFA, MDLAG
from numpyro.infer import Predictive
from scipy.stats import binom

import mrgp
from mrgp.cli.main import main
from mrgp.simulations.simulate import simulate
from mrgp.studies import plot_calibration
from mrgp.studies.calibration.calibrate import calibrate
from mrgp.studies.calibration.rank_tests import (
    PROBABILITIES,
    chi_square,
    ecdf_band,
    ecdf_difference,
    judged,
    rank_bins,
    rank_of,
    summarised,
)

BOUNDS = (0.03, 0.3)
MODEL = DLAG(1, (1, 0), max_delay=0.1, timescale_bounds=BOUNDS)
SMALL = {"regions": {"V1": 4, "V2": 3}, "n_trials": 3, "n_bins": 6, "progress": False}
QUANTITIES = ["delay V2:0", "timescale across:0", "timescale within V1:0"]


def results_of(judgements, draws, kinds=("delay", "timescale across")):
    """Judgements of quantities as the results of a calibration."""
    dims = ("simulation", "quantity")
    tables = {name: (dims, np.array([j[name] for j in judgements], float)) for name in ("rank", "z")}
    tables["inside"] = ((*dims, "probability"), np.array([j["inside"] for j in judgements], float))
    names = [f"{kind}:{i}" for i, kind in enumerate(kinds)]
    coords = {"quantity": names, "probability": list(PROBABILITIES), "kind": ("quantity", list(kinds))}
    return xr.Dataset(tables, coords, {"draws": draws})


def conjugate(n, stretch, shift=0.0, draws=99):
    """Truths from N(0, 1) observed with noise of variance 1, and a posterior ``stretch`` times the right width."""
    rng = np.random.default_rng(1)
    truths = rng.standard_normal((n, 2))
    means = (truths + rng.standard_normal((n, 2))) / 2 + shift
    widths = np.sqrt(0.5) * stretch
    posteriors = [m + widths * rng.standard_normal((1000, 2)) for m in means]
    return results_of([judged(t, drawn, draws, rng) for t, drawn in zip(truths, posteriors, strict=True)], draws)


# --- what ranks say


def test_an_exact_posterior_is_calibrated():
    table = summarised(conjugate(300, 1.0))
    assert list(table.index) == ["delay:0", "timescale across:1", "all"]
    assert (table["p"] > 0.01).all()
    assert table["ecdf_inside"].all()
    for p in PROBABILITIES:
        assert (np.abs(table[f"covered_{100 * p:g}"] - p) < 3 * table[f"error_{100 * p:g}"]).all()
    assert np.all(np.abs(table["mean_z"]) < 3 / np.sqrt(300))
    assert np.all(np.abs(table["mean_square_z"] - 1) < 3 * np.sqrt(2 / 300))


@pytest.mark.parametrize(("stretch", "shift"), [(0.6, 0.0), (1.8, 0.0), (1.0, 0.4)], ids=["narrow", "wide", "biased"])
def test_a_wrong_posterior_is_found_out(stretch, shift):
    table = summarised(conjugate(300, stretch, shift))
    assert (table["p"] < 1e-3).all()
    assert not table["ecdf_inside"].any()
    assert (table["ecdf_distance"] > table["ecdf_band"]).all()
    if not shift:
        assert ((table["covered_80"] < 0.75) if stretch < 1 else (table["covered_80"] > 0.9)).all()


def test_ties_fall_on_either_side():
    rng = np.random.default_rng(0)
    draws = np.array([0.0, 1.0, 1.0, 1.0, 2.0])[:, None]
    ranks = np.array([rank_of(np.array([1.0]), draws, rng)[0] for _ in range(4000)])
    assert set(ranks) == {1, 2, 3, 4}
    assert np.all(np.abs(np.bincount(ranks)[1:] - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75))
    assert rank_of(np.array([-1.0]), draws, rng) == 0
    assert rank_of(np.array([3.0]), draws, rng) == 5


def test_numbers_by_hand():
    ranks = np.array([0, 0, 1, 2, 3, 3, 3, 4])
    counts, expected = np.array([2, 1, 1, 3, 1]), 8 / 5
    statistic, p = chi_square(ranks, 4)
    assert statistic == pytest.approx(((counts - expected) ** 2 / expected).sum())
    assert 0.7 < p < 0.9   # of 4 degrees of freedom, 2
    np.testing.assert_allclose(ecdf_difference(ranks, 4), [0.05, -0.025, -0.1, 0.075])

    inside = np.array([[True, True, True, True], [False, True, True, True], [False] * 4, [False, False, True, True]])
    cases = zip([1, 9, 0, 4], [1.0, -1.0, 2.0, 0.0], inside, strict=True)
    row = summarised(results_of([{"rank": [r], "z": [z], "inside": [i]} for r, z, i in cases], 9, ["delay"])).iloc[0]
    assert (row["n"], row["mean_z"], row["mean_square_z"]) == (4, 0.5, 1.5)
    assert [row[f"covered_{p}"] for p in (50, 80, 90, 95)] == [0.25, 0.5, 0.75, 0.75]
    assert row["error_90"] == pytest.approx(0.15)
    assert row["ecdf_distance"] == pytest.approx(0.3)   # 0, 1 and 4 are in the lower six tenths up to 8


def test_a_failed_fit_is_left_out_of_the_table():
    whole = conjugate(40, 1.0)
    holed = whole.copy(deep=True)
    for name in ("rank", "z", "inside"):
        holed[name][3] = np.nan
    kept = whole.isel(simulation=np.arange(40) != 3)
    assert summarised(holed).equals(summarised(kept))


def test_bins_cover_all_ranks():
    np.testing.assert_array_equal(rank_bins(200, 99), np.arange(0, 101, 5))
    np.testing.assert_array_equal(rank_bins(50, 99), np.arange(0, 101, 10))
    np.testing.assert_array_equal(rank_bins(500, 4), np.arange(6))
    uneven = rank_bins(50, 24)
    assert (uneven[0], uneven[-1]) == (0, 25)
    assert set(np.diff(uneven)) == {2, 3}


@pytest.mark.parametrize("n", [20, 200])
def test_uniform_ranks_stay_in_the_band_with_95_percent(n):
    lower, upper = ecdf_band(n, 49)
    rng = np.random.default_rng(3)
    off = np.array([ecdf_difference(rng.integers(0, 50, n), 49) for _ in range(2000)])
    held = np.all((lower - 1e-9 <= off) & (off <= upper + 1e-9), axis=1).mean()
    # Counts are whole numbers, so that a band of few ranks holds a little more.
    assert 0.95 - 4 * np.sqrt(0.95 * 0.05 / 2000) < held < 0.985
    middle = binom.ppf(0.975, n, 0.5) / n - 0.5   # of one place alone
    assert upper[24] > middle


def test_the_figure_is_drawn(tmp_path):
    results = conjugate(30, 1.0)
    figure = plot_calibration(results)
    assert len(figure.axes) == 6
    assert figure.axes[0].get_title(loc="left") == "delay: 30 fits"
    figure.savefig(tmp_path / "figure.png", dpi=30)


# --- the run, with fits that need no time


class Posterior:
    """Stands in for ``Model.fit``: draws from the prior, latents in another order and of another sign."""

    def __init__(self):
        self.seeds, self.fail_at, self.stop_at, self.wider = [], (), (), 1.0

    def __call__(self, model, data, method, *, seed, progress, **settings):
        i = len(self.seeds)
        self.seeds.append(seed)
        assert (method, progress) == ("laplace", False)
        if i in self.stop_at:
            raise KeyboardInterrupt
        if i in self.fail_at:
            raise FloatingPointError(f"no top number {i}")
        if i % 2:
            warnings.warn("an odd fit", stacklevel=1)
        rng, count = np.random.default_rng(seed), settings["n_draws"]
        low, high = np.log(BOUNDS)
        bound = self.wider * model.max_delay
        shapes = {"across": model.n_across, "within": sum(model.assignment(data.layout).n_within)}
        drawn = {f"timescale_{kind}": np.exp(rng.uniform(low, high, (count, k))) for kind, k in shapes.items()}
        drawn["delay"] = rng.uniform(-bound, bound, (count, 1, model.n_across))
        assignment = model.assignment(data.layout)
        drawn["loadings"] = np.broadcast_to(
            rng.standard_normal((7, assignment.n_columns)), (count, 7, assignment.n_columns)
        )
        return SimpleNamespace(
            converged=i % 3 > 0, model=model.replace(max_delay=bound), n_samples=count, draws=lambda n: drawn,
            assignment=assignment, data=data,
        )  # fmt: skip


@pytest.fixture
def fits(monkeypatch):
    """Fits of DLAG that are draws from its prior."""
    posterior = Posterior()
    monkeypatch.setattr(DLAG, "fit", lambda self, *args, **kwargs: posterior(self, *args, **kwargs))
    return posterior


def compared(calibration):
    """All that does not depend on how fast the machine is."""
    return calibration.results.drop_vars("seconds")


def test_draws_of_the_prior_are_calibrated(fits):
    found = calibrate(MODEL, 48, **SMALL)
    results = found.results
    assert results["quantity"].values.tolist() == QUANTITIES
    assert results["kind"].values.tolist() == ["delay", "timescale across", "timescale within"]
    assert results["rank"].min() >= 0
    assert results["rank"].max() <= 99
    truth = results["truth"].values
    assert np.abs(truth[:, 0]).max() < 0.1
    assert np.all((truth[:, 1:] > BOUNDS[0]) & (truth[:, 1:] < BOUNDS[1]))
    assert found.table.loc["all", "p"] > 0.01
    assert found.table["ecdf_inside"].all()
    assert len(set(fits.seeds)) == 48
    assert found.notes == {"an odd fit": 24}
    assert "24 of the fits: an odd fit" in found.report()
    assert found.summary()["n_not_converged"] == 16
    assert (found.failures, int(results["widened"].sum())) == ({}, 0)
    z = (results["mean"] - results["truth"]) / results["sd"]
    np.testing.assert_allclose(results["z"], z)


def test_draws_beyond_the_prior_do_not_count(fits):
    fits.wider = 1.5
    found = calibrate(MODEL, 40, settings={"n_draws": 400}, **SMALL)
    assert found.results["widened"].all()
    # Of a flat prior within 0.1 s, not 0.15 s.
    np.testing.assert_allclose(found.results["sd"].sel(quantity="delay V2:0"), 0.1 / np.sqrt(3), rtol=0.15)
    assert found.table.loc["delay V2:0", "p"] > 0.01
    fits.wider = 20.0
    with pytest.raises(FloatingPointError, match=r"all 2 fits failed; the first: .* within max_delay"):
        calibrate(MODEL, 2, settings={"n_draws": 400}, **SMALL)


def test_latents_are_paired_by_loadings(monkeypatch):
    """A posterior that knows the truth, its latents in another order and of another sign."""
    model = MODEL.replace(n_across=2, n_within=(2, 0))
    made = {}

    def remember(**arguments):
        made["last"] = simulate(**arguments)
        return made["last"]

    def fit(self, data, method, *, seed, progress, n_draws, **_):
        truth = made["last"].truth
        rng = np.random.default_rng(seed)
        columns, signs = [1, 0, 3, 2], np.array([-1, 1, -1, 1])
        sites = {"loadings": truth["loadings"].values[:, columns] * signs, "delay": truth["delay"].values[1:, ::-1]}
        sites |= {f"timescale_{kind}": truth[f"timescale_{kind}"].values[::-1] for kind in ("across", "within")}
        near = {n: v * (1 + 1e-4 * rng.standard_normal((n_draws, *v.shape))) for n, v in sites.items()}
        return SimpleNamespace(
            converged=True, model=self, n_samples=n_draws, draws=lambda n: near, assignment=self.assignment(data.layout)
        )

    monkeypatch.setattr("mrgp.studies.calibration.calibrate.simulate", remember)
    monkeypatch.setattr(DLAG, "fit", fit)
    found = calibrate(model, 3, **{**SMALL, "regions": {"V1": 6, "V2": 5}})
    assert found.results["quantity"].values.tolist() == [
        "delay V2:0", "delay V2:1", "timescale across:0", "timescale across:1", "timescale within V1:0",
        "timescale within V1:1",
    ]  # fmt: skip
    np.testing.assert_allclose(found.results["mean"], found.results["truth"], rtol=1e-3)
    assert list(found.table.index[6:]) == [
        "delay (all)", "timescale across (all)", "timescale within (all)", "all"
    ]  # fmt: skip


def test_a_run_that_is_stopped_goes_on(fits, tmp_path):
    whole = calibrate(MODEL, 7, seed=3, **SMALL)
    seeds = list(fits.seeds)
    fits.seeds.clear()
    fits.stop_at = (4,)
    with pytest.raises(KeyboardInterrupt):
        calibrate(MODEL, 7, seed=3, out=tmp_path, **SMALL)
    kept = json.loads((tmp_path / "simulations.json").read_text())["simulations"]
    assert len(kept) == 4
    fits.stop_at = ()
    fits.seeds[4:] = []
    resumed = calibrate(MODEL, 7, seed=3, out=tmp_path, **SMALL)
    assert fits.seeds == seeds
    xr.testing.assert_identical(compared(resumed), compared(whole))
    assert resumed.notes == whole.notes
    # More of them, and fewer: no fit is made twice.
    longer = calibrate(MODEL, 9, seed=3, out=tmp_path, **SMALL)
    assert len(fits.seeds) == 9
    xr.testing.assert_identical(compared(longer).isel(simulation=slice(7)), compared(whole))
    shorter = calibrate(MODEL, 5, seed=3, out=tmp_path, **SMALL)
    assert len(fits.seeds) == 9
    xr.testing.assert_identical(compared(shorter), compared(whole).isel(simulation=slice(5)))


def test_simulations_of_other_settings_are_refused(fits, tmp_path):
    calibrate(MODEL, 1, out=tmp_path, **SMALL)
    before = (tmp_path / "simulations.json").read_bytes()
    with pytest.raises(ValueError, match=r"other settings \(n_trials, seed\): choose another folder"):
        calibrate(MODEL, 1, out=tmp_path, seed=1, **{**SMALL, "n_trials": 4})
    with pytest.raises(ValueError, match=r"other settings \(model\)"):
        calibrate(MODEL.replace(max_delay=0.05), 1, out=tmp_path, **SMALL)
    assert (tmp_path / "simulations.json").read_bytes() == before
    (tmp_path / "simulations.json").write_text("{")
    with pytest.raises(ValueError, match="not a readable calibration: remove it"):
        calibrate(MODEL, 1, out=tmp_path, **SMALL)


@pytest.mark.slow
def test_failures_are_counted_and_shown(fits, tmp_path):
    fits.fail_at = (1, 2)
    with pytest.warns(UserWarning, match="2 of 5 fits failed and are left out: no top number 1"):
        found = calibrate(MODEL, 5, out=tmp_path, **SMALL)
    assert found.failures == {1: "no top number 1", 2: "no top number 2"}
    assert np.isnan(found.results["rank"].values[1:3]).all()
    assert np.isfinite(found.results["truth"].values).all()
    assert (found.table["n"] == [3, 3, 3, 9]).all()
    assert "2 fits failed" in found.report()
    assert "of simulation 1: no top number 1" in found.report()
    found.save(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["n_simulations"], summary["n_failed"]) == (5, 2)
    assert summary["table"]["all"]["n"] == 9
    assert summary["settings"]["method"] == "laplace"
    with xr.open_dataset(tmp_path / "ranks.nc", engine="h5netcdf") as read:
        np.testing.assert_array_equal(read["rank"], found.results["rank"])
    assert (tmp_path / "calibration.png").stat().st_size > 10_000
    fits.fail_at, fits.seeds = (0, 1), []
    with pytest.raises(FloatingPointError, match="all 2 fits failed; the first: no top number 0"):
        calibrate(MODEL, 2, **SMALL)


@pytest.mark.parametrize(
    ("model", "arguments", "match"),
    [
        (MODEL.replace(timescale_bounds=None), {}, "needs timescale_bounds"),
        (ADM(1, 0), {}, "ADM needs timescale_bounds"),
        (MDLAG(1, timescale_bounds=BOUNDS), {}, "with rate=1e-12 the density is highest where all loadings are zero"),
        (MDLAG(1, kernel=mrgp.White()), {"regions": {"V1": 4}}, "MDLAG has no delays or timescales to calibrate"),
        (FA(1), {}, "FA has no method 'laplace'"),
        (MODEL, {"method": "map"}, "method is laplace, nuts, svi, not 'map'"),
        (MODEL, {"n": 0}, "count at least 1"),
        (MODEL, {"settings": {"seed": 1}}, "settings cannot have seed"),
        (MODEL, {"settings": {"n_draws": 50}}, "50 draws, too few to rank among 99"),
        (MODEL, {"regions": {"V1": 4}}, "DLAG: n_within"),
        (MODEL.replace(n_within=0), {"regions": {"V1": 4}}, "DLAG compares regions"),
    ],
)
def test_what_cannot_be_calibrated(fits, model, arguments, match):
    with pytest.raises(ValueError, match=match):
        calibrate(model, **{"n": 1, **SMALL, **arguments})


def test_a_kernel_s_own_parameters_are_drawn_too(fits, monkeypatch):
    model = MODEL.replace(kernel=mrgp.Spectral(), n_within=0)
    made = []
    target = "mrgp.studies.calibration.calibrate.simulate"
    monkeypatch.setattr(target, lambda **a: made.append(simulate(**a)) or made[-1])
    fits.fail_at = (0,)
    with pytest.raises(FloatingPointError):
        calibrate(model, 1, **SMALL)
    truth = made[0].truth
    assert truth["frequency_across"].values > 0
    assert json.loads(truth.attrs["model"])["kernel"]["class"] == "Spectral"


EVERY = [
    pytest.param(DLAG(1, (1, 0), emission="poisson"), marks=pytest.mark.slow),
    pytest.param(DLAG(1, 0, mean="psth"), marks=pytest.mark.slow), DLAG(1, 0, noise="ar1"),
    pytest.param(ADM(2, 0, mean="psth"), marks=pytest.mark.slow),
    MDLAG(1, 1, shape=1.0, rate=1.0), GPFA(2, emission="negative_binomial"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model", EVERY, ids=repr)
def test_every_model_with_draws_is_calibrated(model, monkeypatch):
    """By fits that are draws from the program's priors, of recordings that the model suits."""

    def fit(self, data, method, *, seed, progress, n_draws, **_):
        self.check(data)
        assert self.objection(method, data) is None
        drawn = Predictive(self, num_samples=n_draws)(jax.random.key(seed), data)
        return SimpleNamespace(
            converged=True, model=self, n_samples=n_draws, draws=lambda n: drawn,
            assignment=self.assignment(data.layout),
        )  # fmt: skip

    monkeypatch.setattr(type(model), "fit", fit)
    size = SMALL | {"regions": {"V1": 4, "V2": 4}}
    found = calibrate(model.replace(timescale_bounds=BOUNDS), 4, draws=9, settings={"n_draws": 40}, **size)
    results, delayed = found.results, not isinstance(model, GPFA)
    kinds = set(results["kind"].values)
    assert kinds == {*["delay"] * delayed, "timescale across", *["timescale within"] * bool(model.n_within)}
    assert results["rank"].notnull().all()
    assert len(np.unique(results["truth"].values)) == results["truth"].size
    times = results["truth"].where(results["kind"] != "delay", drop=True)
    assert BOUNDS[0] < float(times.min()) < float(times.max()) < BOUNDS[1]
    if delayed:
        assert float(np.abs(results["truth"].where(results["kind"] == "delay")).max()) < 0.1   # five bins


def test_delays_that_vary_are_ranked_by_their_mean(monkeypatch):
    """By fits that know the truth, but for the order of their latents and how fast delays may change."""
    model, made = ADM(2, 0, timescale_bounds=BOUNDS, typical_spread=0.03), {}

    def remember(**arguments):
        made["last"] = simulate(**arguments)
        return made["last"]

    def fit(self, data, method, *, seed, progress, n_draws, **_):
        rng, sites = np.random.default_rng(seed), made["last"].sites
        order = {name: value[:, ::-1] if value.ndim > 1 else value for name, value in sites.items()}
        order["timescale_across"] = sites["timescale_across"][::-1]
        known = {n: v * (1 + 1e-5 * rng.standard_normal((n_draws, *v.shape))) for n, v in order.items()}
        return SimpleNamespace(
            converged=True, model=self, n_samples=n_draws, draws=lambda n: known,
            assignment=self.assignment(data.layout),
        )  # fmt: skip

    monkeypatch.setattr("mrgp.studies.calibration.calibrate.simulate", remember)
    monkeypatch.setattr(ADM, "fit", fit)
    found = calibrate(model, 2, **SMALL | {"regions": {"V1": 6, "V2": 5}}).results
    np.testing.assert_allclose(found["mean"], found["truth"], rtol=1e-3)
    truth = made["last"].truth["delay"]
    assert float(np.ptp(truth.values[1], axis=-1).min()) > 1e-4
    np.testing.assert_allclose(found["truth"].values[1, :2], truth.mean("time")[1])


def test_a_model_that_pools_regions_has_one(monkeypatch):
    seen = []

    def fit(self, data, *arguments, **options):
        seen.append(data.layout)
        raise FloatingPointError

    monkeypatch.setattr(GPFA, "fit", fit)
    with pytest.raises(FloatingPointError, match="all 1 fits failed; the first: FloatingPointError"):
        calibrate(GPFA(2, timescale_bounds=BOUNDS), 1, **SMALL)
    assert (seen[0].regions, seen[0].n_neurons) == (("all",), (7,))


# --- the real thing, small: the two share what is compiled

CLEAR = {"regions": {"V1": 5, "V2": 4}, "n_trials": 8, "n_bins": 20, "snr": 4.0}


@pytest.mark.slow
def test_adm_end_to_end():
    """Its draws are of delays that vary, by modes that the fit has learned."""
    found = calibrate(ADM(1, 0, timescale_bounds=(0.05, 0.15)), 1, progress=False, **CLEAR)
    assert found.failures == {}
    assert found.results["quantity"].values.tolist() == ["delay V2:0", "timescale across:0"]
    assert float(np.abs(found.results["z"]).max()) < 4


@pytest.mark.slow
def test_dlag_end_to_end():
    found = calibrate(DLAG(1, 0, timescale_bounds=(0.05, 0.15)), 3, progress=False, **CLEAR)
    results = found.results
    assert results["quantity"].values.tolist() == ["delay V2:0", "timescale across:0"]
    assert found.failures == {}
    assert results["converged"].all()
    # Delays of a clear signal are known to a fraction of a bin, and within a few of their standard deviations.
    assert float(results["sd"].sel(quantity="delay V2:0").max()) < 0.01
    assert float(np.abs(results["z"]).max()) < 4


@pytest.mark.slow
def test_a_command_line_calibrates(tmp_path, capsys, monkeypatch):
    place = tmp_path / "out"
    command = ["calibrate", "--out", str(place), "--n-within", "0", "--neurons", "5,4", "--trials", "8", "--bins", "20"]
    command += ["--snr", "4", "--timescale-bounds", "0.05,0.15", "--n"]
    assert main([*command, "1"]) == 0
    assert "simulating and fitting ..." in capsys.readouterr().out
    assert main([*command, "2"]) == 0
    out = capsys.readouterr().out
    assert f"going on from {place / 'simulations.json'}" in out
    assert "timescale across:0" in out
    assert "2 simulations, 0 fits failed" in out
    for name in ("simulations.json", "summary.json", "ranks.nc", "calibration.png"):
        assert (place / name).is_file()
    assert json.loads((place / "summary.json").read_text())["settings"]["regions"] == {"V1": 5, "V2": 4}
    assert main([*command, "2", "--seed", "1"]) == 1
    assert "of other settings (seed)" in capsys.readouterr().err

    def stopped(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(DLAG, "fit", stopped)
    assert main([*command, "3", "--quiet"]) == 1
    assert "keeps what was done, the same command goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--model", "fa"], "fa has no delays or timescales with a posterior: calibrate dlag, adm, mdlag or gpfa"),
        (["--model", "lds"], "lds has no delays or timescales with a posterior"),
        (["--model", "mdlag"], "with --relevance-rate 1e-12 the density is highest where all loadings are zero"),
        (["--mean-timescale", "0.1"], "--mean-timescale is of --mean psth"),
        (["--noise", "ar1", "--emission", "poisson"], "counts have no noise beside their own"),
        (["--model", "gpfa", "--max-delay", "0.1"], "--max-delay is not for gpfa"),
        (["--model", "gpfa", "--n-within", "1"], "gpfa has no latents private to a region"),
        (["--neurons", "10"], "DLAG compares regions"),
        (["--neurons", "10,0"], "'0' is not a whole number, 1 or more"),
        (["--max-delay", "3"], "not shorter than the trials"),
        (["--n-across", "30"], "latents for 20 neurons"),
        (["--n-within", "1,1,1"], "--n-within 1,1,1 is for 3 regions"),
        (["--method", "map"], "invalid choice: 'map'"),
        (["--timescale-bounds", "0.3,0.03"], "the first is not below the second"),
        (["--n", "0"], "whole number, 1 or more"),
    ],
)
def test_wrong_use_of_the_command(tmp_path, capsys, options, match):
    assert main(["calibrate", "--out", str(tmp_path / "out"), *options]) == 2
    assert match in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["calibrate", "--out", str(tmp_path / "file")]) == 1
    assert "choose another --out" in capsys.readouterr().err
