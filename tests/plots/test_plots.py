"""Figures: what they draw is what the fit says, with names and units that can be read."""

import dataclasses
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.text import Text
from mrgp.models import LDS

import mrgp
from mrgp import plots
from mrgp.inference.mode.curvature import Curvature
from mrgp.simulations.simulate import simulate
from mrgp.studies import plot_held_out

EVERY = ["convergence", "loadings", "delays", "latents", "reconstruction"]
PNG = b"\x89PNG\r\n\x1a\n"
pytestmark = pytest.mark.usefixtures("agg")


DENSE = {"likelihood": "dense"}  # of so few bins: figures do not depend on it, and it compiles in half the time


@pytest.fixture(scope="module")
def simulation():
    """A small recording of two regions, and the truth."""
    return simulate(
        regions={"V1": 6, "PFC": 5}, n_within=(1, 0), n_trials=8, n_bins=20, delay=[[0, 0], [0.03, -0.02]], snr=3.0
    )


@pytest.fixture(scope="module")
def fit(simulation):
    """A tiny fit with delays, and its intervals."""
    found = mrgp.models.DLAG(2, (1, 0), max_delay=0.06, **DENSE).fit(simulation.data, n_starts=1, progress=False)
    found.delay_intervals()
    return found


@pytest.fixture(scope="module")
def pooled(simulation):
    """A tiny fit without regions, of the same recording."""
    return mrgp.models.GPFA(2, **DENSE).fit(simulation.data, n_starts=1, progress=False)


@pytest.fixture(scope="module")
def figures(fit):
    """Every figure of the tiny fit."""
    return {name: getattr(plots, f"plot_{name}")(fit) for name in EVERY}


def shown(figure):
    """The axes of a figure that are not left empty."""
    return [ax for ax in figure.axes if ax.get_visible()]


def lines(ax, marker):
    """Points (x, y) of what is drawn with a marker, without legends' stand-ins."""
    found = [np.array(line.get_xydata()) for line in ax.lines if line.get_marker() == marker]
    return np.concatenate([points for points in found if len(points)])


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_can_be_read_on_a_page(figures, name):
    figure = figures[name]
    figure.canvas.draw()
    assert 7 <= figure.get_figwidth() <= 8
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts) >= 9
    said = " ".join(text.get_text() for text in texts)
    wanted = {
        "convergence": ["iteration", "nats"],
        "delays": ["delay (ms)", "leads V1", "lags V1", "V1\n(reference)", "PFC", "90% interval"],
        "latents": ["time in trial 0 (s)", "prior sd = 1", "PFC lags", "PFC leads", "within V1", "timescale"],
        "loadings": ["neuron", "latent", "data units per sd", "V1", "PFC", "across:1", "V1:0"],
        "reconstruction": ["time in trial 0 (s)", "data units", "best: neuron", "worst: neuron", "R²", "V1", "PFC"],
    }
    assert [phrase for phrase in wanted[name] if phrase not in said] == []


def test_a_notebook_shows_a_figure_that_is_returned(figures):
    assert figures["convergence"]._repr_png_().startswith(PNG)


def test_convergence_is_the_gap_to_the_end(fit, figures):
    (ax,) = figures["convergence"].axes
    np.testing.assert_allclose(lines(ax, "o")[:, 1], fit.trace[-1] - fit.trace)
    assert fit.reason in ax.get_title("left")
    assert ax.get_ylim()[0] < 0 < fit.trace[-1] - fit.trace[0] < ax.get_ylim()[1]


def test_delays_are_those_of_the_fit_in_ms(fit, figures):
    bounds = fit.delay_intervals(0.9)
    for k, ax in enumerate(shown(figures["delays"])):
        np.testing.assert_allclose(lines(ax, "o"), np.stack([1e3 * fit.delays[:, k], [0, 1]], axis=1))
        ends = 1e3 * np.array([bounds["lower"][1, k], bounds["upper"][1, k]])
        np.testing.assert_allclose(lines(ax, "|")[:, 0], ends)
        assert ax.get_xlim()[0] == -ax.get_xlim()[1]   # the words under the axis stand on their side of zero
        assert ax.get_ylim()[0] > ax.get_ylim()[1]   # the first region on top


def test_truth_is_marked_and_intervals_can_be_left_out(fit, simulation):
    truth = simulation.truth["delay"]
    figure = plots.plot_delays(fit, truth, intervals=False)
    for k, ax in enumerate(shown(figure)):
        np.testing.assert_allclose(lines(ax, "^")[:, 0], 1e3 * truth[1:, k])
        assert "|" not in [line.get_marker() for line in ax.lines]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["estimate", "truth"]
    with pytest.raises(ValueError, match=r"truth has shape \(1, 2\)"):
        plots.plot_delays(fit, truth[1:], intervals=False)


@pytest.mark.parametrize(
    ("lower", "upper", "words"), [(1, 2, "B lags A"), (-2, -1, "B leads A"), (-1, 1, "unclear"), (0, 0, "unclear")]
)
def test_direction_in_words(lower, upper, words):
    assert plots.direction("B", "A", lower, upper) == words


@pytest.mark.slow
def test_latents_are_shifted_by_their_delays(fit, simulation, figures):
    latents = fit.latents(simulation.data, refine=4).isel(trial=0)
    *across, within = shown(figures["latents"])
    for k, ax in enumerate(across):
        first, other = (line.get_xydata() for line in ax.lines[:2])
        np.testing.assert_allclose(first, np.stack([latents["time"], latents["across_mean"][:, k]], axis=1))
        shift = np.broadcast_to([float(fit.delays[1, k]), 0], first.shape)
        np.testing.assert_allclose(other - first, shift, atol=1e-12)
        band = ax.collections[0].get_paths()[0].vertices
        assert band[:, 1].max() == pytest.approx(float((latents["across_mean"] + 2 * latents["across_sd"])[:, k].max()))
        assert ax.get_xlim() == (0, 0.4)
    np.testing.assert_allclose(within.lines[0].get_ydata(), latents["within_mean"][:, 0])


def test_only_the_strongest_latents_are_drawn(fit):
    strength = [sum(float((table[:, k] ** 2).sum()) for table in fit.loadings.values()) for k in range(2)]
    across, within = shown(plots.plot_latents(fit, trial=3, most=1))
    assert f"across latent {np.argmax(strength)}" in across.get_title("left")
    assert "within V1" in within.get_title("left")


@pytest.mark.slow
def test_a_short_trial_is_drawn_as_far_as_it_goes(fit, simulation):
    regions = {name: simulation.data.region(name).copy() for name in ("V1", "PFC")}
    for values in regions.values():
        values[2, 12:] = np.nan
    regions["V1"][2, 3] = np.nan
    cut = mrgp.MultiRegionData(regions, 0.02)
    for figure in (plots.plot_latents(fit, cut, 2), plots.plot_reconstruction(fit, cut, 2)):
        ax = shown(figure)[0]
        assert ax.get_xlim() == pytest.approx((0, 0.24))
        assert ax.lines[0].get_xdata().max() < 0.24


@pytest.mark.slow
def test_time_is_measured_from_the_event_of_an_aligned_recording(fit, simulation):
    regions = {name: simulation.data.region(name) for name in ("V1", "PFC")}
    aligned = mrgp.MultiRegionData(regions, 0.02, event=("cue", -0.1))
    plain = shown(plots.plot_latents(fit, simulation.data))[0]
    for figure in (plots.plot_latents(fit, aligned), plots.plot_reconstruction(fit, aligned)):
        assert "time from cue in trial 0 (s)" in words(figure)
        ax = shown(figure)[0]
        assert ax.get_xlim() == pytest.approx((-0.1, 0.3))
        assert any(np.array_equal(line.get_xdata(), [0, 0]) for line in ax.lines)
    moved = shown(plots.plot_latents(fit, aligned))[0]
    np.testing.assert_allclose(moved.lines[0].get_xdata(), plain.lines[0].get_xdata() - 0.1, atol=1e-12)
    np.testing.assert_array_equal(moved.lines[0].get_ydata(), plain.lines[0].get_ydata())


@pytest.mark.slow
def test_counts_are_drawn_in_their_units():
    fit = mrgp.load_fit(Path(__file__).parents[1] / "data" / "fits" / "DLAG-poisson.nc")
    assert "log-rate per sd of the latent" in words(plots.plot_loadings(fit))
    with pytest.raises(TypeError, match="data is a recording, not 2: give other arguments by name, such as trial=2"):
        plots.plot_latents(fit, 2)
    sizes = zip(fit.layout.regions, fit.layout.n_neurons, strict=True)
    rng = np.random.default_rng(0)
    counts = {name: rng.poisson(0.3, (4, fit.n_bins, n)) for name, n in sizes}
    data = mrgp.MultiRegionData(counts, fit.layout.bin_width, drop_dead=None)
    bands = [ax.collections[0].get_paths()[0].vertices[:, 1] for ax in shown(plots.plot_reconstruction(fit, data))]
    assert min(band.min() for band in bands) == 0.0


def test_loadings_share_one_scale_around_zero(fit, figures):
    maps = [ax for ax in figures["loadings"].axes if ax.images]
    for ax, (region, table) in zip(maps, fit.loadings.items(), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), table.values)
        lowest, highest = ax.images[0].get_clim()
        assert -lowest == highest == maps[0].images[0].get_clim()[1]
        assert ax.get_title() == region
        assert [label.get_text() for label in ax.get_xticklabels()] == table["latent"].values.tolist()


def test_many_latents_get_more_rows(fit):
    assert plots.parameters._arranged([3, 3]) == (1, [4.0, 4.0])
    assert plots.parameters._arranged([20, 4]) == (1, [21.0, 5.0])
    rows, ratios = plots.parameters._arranged([24, 8, 9, 10])
    assert rows == 2
    assert sum(ratios) <= plots.parameters.MOST_COLUMNS
    assert plots.parameters._arranged([100, 100]) == (2, [101.0])


def test_reconstruction_shows_the_chosen_neurons(fit, simulation):
    figure = plots.plot_reconstruction(fit, trial=1, neurons={"PFC": [4], "V1": [0, 2]})
    axes = shown(figure)
    predicted = fit.predict(simulation.data)
    assert [ax.get_title("left").split(",")[0] for ax in axes] == ["neuron 4", "neuron 0", "neuron 2"]
    for ax, (region, neuron) in zip(axes, [("PFC", 4), ("V1", 0), ("V1", 2)], strict=True):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), predicted[f"{region}_mean"][1, :, neuron], atol=1e-9)
        np.testing.assert_array_equal(ax.lines[1].get_ydata(), simulation.data.region(region)[1, :, neuron])
        share = float(ax.get_title("left").split()[-1])
        observed, mean = simulation.data.region(region)[..., neuron], predicted[f"{region}_mean"].values[..., neuron]
        assert share == pytest.approx(1 - ((observed - mean) ** 2).sum() / (observed.var() * observed.size), abs=0.006)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trial": 8}, "trials 0 to 7, not 8"),
        ({"trial": -1}, "trials 0 to 7, not -1"),
        ({"neurons": {"V9": [0]}}, "no region 'V9' here: choose from V1, PFC"),
        ({"neurons": {"PFC": [5]}}, r"neurons 0 to 4 of region PFC, not \[5\]"),
        ({"neurons": {"PFC": []}}, r"one or more of neurons 0 to 4"),
    ],
)
def test_wrong_choices_are_named(fit, arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_reconstruction(fit, **arguments)


@pytest.mark.slow
def test_one_population_has_no_delays_but_all_else(pooled, tmp_path):
    with pytest.raises(ValueError, match="GPFA has no delays to draw"):
        plots.plot_delays(pooled)
    maps = [ax for ax in plots.plot_loadings(pooled).axes if ax.images]
    assert [ax.get_title() for ax in maps] == ["V1", "PFC"]
    np.testing.assert_array_equal(maps[1].images[0].get_array(), pooled.loadings["all"][6:])
    paths = plots.save_figures(pooled, tmp_path)
    assert [path.stem for path in paths] == ["convergence", "loadings", "latents", "reconstruction"]


def by_hand(model, simulation, sites, **changes):
    """A fit that was not fitted: the truth's parameters, and others."""
    truth, data = simulation.truth, simulation.data
    names = ("loadings", "noise", "offset", "timescale_across", "timescale_within")
    sites = {name: truth[name].values for name in names} | sites
    settings = {"method": "map", "trace": np.arange(3.0), "converged": True, "reason": "", "iterations": 2}
    settings |= {"evaluations": 2, "wall_s": 0.0, "seed": 0, "data": data}
    return mrgp.Fit(model=model, layout=data.layout, n_bins=data.n_bins, sites=sites, **(settings | changes))


@pytest.fixture(scope="module")
def varying(simulation):
    """Delays that vary, and their curvature."""
    model = mrgp.models.ADM(2, (1, 0), max_delay=0.06, duration=0.4, **DENSE)
    modes = model.delays.modes(model.tables.extent(simulation.data.layout, 20)).shape[-1]
    change = np.random.default_rng(0).standard_normal((1, 2, modes))
    fit = by_hand(model, simulation, {"delay": simulation.truth["delay"].values[1:], "delay_change": change,
                                    "delay_spread": np.full((1, 2), 0.02)})
    size = 2 + change.size
    fit.saved_curvature = Curvature(("delay", "delay_change"), np.zeros(size), 0.01 * np.eye(size), True, {})
    return fit


@pytest.fixture(scope="module")
def chosen(simulation):
    """Relevance: PFC does not read the second latent, V1 not the third."""
    model = mrgp.models.MDLAG(3, (1, 0), max_delay=0.06, **DENSE)
    loadings = simulation.truth["loadings"].values
    loadings = np.concatenate([loadings[:, :2], loadings[:, 1:2], loadings[:, 2:]], axis=1)
    loadings[6:, 1] = loadings[:6, 2] = 1e-3
    sites = {"loadings": loadings, "alpha": np.ones((2, 4)), "timescale_across": np.full(3, 0.1)}
    sites |= {"delay": np.array([[0.02, 0.01, -0.03]])}
    return by_hand(model, simulation, sites, method="vb", loadings_covariance=np.tile(1e-6 * np.eye(4), (11, 1, 1)))


def words(figure):
    figure.canvas.draw()
    return " ".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def test_delays_that_vary_are_drawn_against_time(varying):
    truth = 0.9 * varying.delays
    figure = plots.plot_delays(varying, truth)
    band = varying.delay_intervals(0.9)
    for k, ax in enumerate(shown(figure)):
        _, course, true = (line.get_xydata() for line in ax.lines)
        np.testing.assert_allclose(course, np.stack([varying.delays["time"], 1e3 * varying.delays[1, k]], axis=1))
        np.testing.assert_allclose(true[:, 1], 1e3 * truth[1, k])
        assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(1e3 * band["upper"][1, k].max())
    said = words(figure)
    wanted = ["time in trial (s)", "delay (ms)", "leads V1", "lags V1", "PFC", "90% interval", "truth", "latent 1"]
    assert [phrase for phrase in wanted if phrase not in said] == []
    with pytest.raises(ValueError, match=r"the delays are \(region, across_latent, time\)"):
        plots.plot_delays(varying, truth[..., 0])


@pytest.mark.slow
def test_latents_whose_delays_vary(varying, simulation):
    figure = plots.plot_latents(varying)
    latents = varying.latents(refine=4).isel(trial=0)
    ax = shown(figure)[0]
    time, copy = ax.lines[1].get_xydata().T
    delay = np.interp(time, varying.delays["time"], varying.delays[1, 0])
    np.testing.assert_allclose(copy, np.interp(time - delay, latents["time"], latents["across_mean"][:, 0]), atol=1e-9)
    assert "ms on average" in words(figure)


def test_shared_variance_is_percent_of_each_region(chosen):
    figure = plots.plot_shared_variance(chosen)
    (ax,) = figure.axes
    names = [label.get_text().replace("\n", ":") for label in ax.get_xticklabels()]
    assert names[0] == "across:0"   # both regions read it
    assert names[-1] == "within:0"
    share = 100 * chosen.shared_variance.sel(latent=names).values
    drawn = ax.images[0].get_array()
    np.testing.assert_allclose(drawn.filled(0.0), np.where(share < 2, 0.0, share))
    np.testing.assert_array_equal(drawn.mask, share < 2)
    cells = {tuple(text.get_position()): text.get_text() for text in ax.texts}
    assert (3, 1) not in cells   # PFC has no latent of its own
    assert all(cells[k, r] == f"{share[r, k]:.0f}" for k, r in cells if share[r, k] >= 1)


@pytest.mark.slow
def test_a_region_that_does_not_read_a_latent_has_no_delay_in_figures(chosen):
    figure = plots.plot_delays(chosen, intervals=False)
    first, second, third = shown(figure)
    np.testing.assert_allclose(lines(first, "o")[:, 0], [0, 20])
    np.testing.assert_allclose(lines(second, "o")[:, 0], [0])
    assert not any(len(line.get_xdata()) for line in third.lines if line.get_marker() == "o")
    assert words(figure).count("does not read it") == 2
    assert "delay unknown" in words(figure)
    assert "V1 does not read it" in words(plots.plot_latents(chosen))


@pytest.mark.parametrize(
    ("method", "climbed"),
    [("map", "log p(y, parameters)"), ("vb", "bound of log p(y)"), ("em", "log p(y | parameters)")],
)
def test_convergence_says_what_was_climbed(fit, method, climbed):
    model = LDS(1) if method == "em" else fit.model  # a model that has it
    (ax,) = plots.plot_convergence(dataclasses.replace(fit, method=method, model=model)).axes
    assert ax.get_ylabel() == f"{climbed}\n(nats below the end)"
    assert f"{climbed} = " in ax.get_title("left")


@pytest.mark.slow
def test_what_applies_is_saved(chosen, tmp_path):
    names = [path.stem for path in plots.save_figures(chosen, tmp_path, intervals=False)]
    assert names == ["convergence", "loadings", "delays", "shared_variance", "latents", "reconstruction"]


@pytest.mark.slow
def test_saving_writes_whole_pictures_and_leaves_pyplot_alone(fit, tmp_path):
    before = dict(mpl.rcParams)
    paths = plots.save_figures(fit, tmp_path)
    assert sorted(path.stem for path in paths) == sorted(EVERY)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(PNG)
        assert len(content) > 5000
    assert dict(mpl.rcParams) == before
    assert mpl.pyplot.get_fignums() == []
    with pytest.raises(OSError, match=r"cannot write convergence\.png into folder"):
        plots.save_figures(fit, tmp_path / "absent")


@pytest.mark.slow
def test_a_loaded_fit_draws_what_needs_no_recording(fit, simulation, tmp_path):
    fit.save(tmp_path / "fit.nc")
    loaded = mrgp.load_fit(tmp_path / "fit.nc")
    with pytest.raises(mrgp.DataError, match="pass data="):
        plots.plot_latents(loaded)
    assert [path.stem for path in plots.save_figures(loaded, tmp_path)] == ["convergence", "loadings", "delays"]
    assert len(plots.save_figures(loaded, tmp_path, simulation.data)) == 5


@pytest.mark.parametrize("regions", [["A"] * 4, ["A", "B", "A", "B"]])
def test_clusters_are_sorted_with_their_probabilities(regions):
    table = np.array([[0.0, 1.0, 0.0], [0.9, 0.1, 0.0], [0.3, 0.7, 0.0], [1.0, 0.0, 0.0]])
    clusters = xr.Dataset(
        {"probability": (("neuron", "population"), table), "most_likely": ("neuron", table.argmax(1)),
         "share": ("population", table.mean(0))},
        {"population": ["a", "b", "c"], "region": ("neuron", regions)},
    )  # fmt: skip
    figure = plots.plot_clusters(clusters)
    figure.canvas.draw()
    first = figure.axes[0]
    np.testing.assert_array_equal(first.images[0].get_array(), table[[3, 1, 0, 2]].T)
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["a (55%)", "b (45%)", "c (0%)"]
    strips = [ax.images[0].get_array().tolist() for ax in figure.axes[1:] if ax.images and len(set(regions)) > 1]
    assert strips[:1] == ([[[1, 1, 0, 0]]] if len(set(regions)) > 1 else [])


def test_tables_over_time_say_their_event_to_figures():
    rng, names = np.random.default_rng(0), ["A", "B"]
    for event, label in ((("cue", -0.1), "time from cue (s)"), (None, "time (s)")):
        data = mrgp.MultiRegionData({name: rng.standard_normal((3, 8, 2)) for name in names}, 0.05, event=event)
        time = data.layout.time_axis(data.n_bins)
        np.testing.assert_array_equal(time[1], data.times)
        states = {"probability": (("trial", "time", "state"), rng.dirichlet([1, 1], (3, 8)))}
        states["most_likely"] = (("trial", "time"), rng.integers(0, 2, (3, 8)))
        drawn = plots.plot_states(xr.Dataset(states, {"time": time, "state": [0, 1]}))
        assert label in words(drawn)
        dims, edge = ("trial", "time", "edge", "message"), {"source_of_edge": ("edge", names[::-1])}
        found = {"mean": (dims, rng.standard_normal((3, 8, 2, 1))), "sd": (dims, np.ones((3, 8, 2, 1)))}
        messages = xr.Dataset(found, {"time": time, **edge, "target_of_edge": ("edge", names)})
        routing = xr.Dataset({"mean": (dims[:3], rng.random((3, 8, 2)))}, {"time": time})
        assert label in words(plots.plot_messages(messages, 1, routing))
        psths = {"A": (("source", "held_A", "time"), rng.standard_normal((2, 3, 8)))}
        assert label in words(plot_held_out(xr.Dataset(psths, {"source": ["data", "DLAG"], "time": time})))
