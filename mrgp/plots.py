"""Figures of a fit, for the eyes of a neuroscientist: each function returns a matplotlib Figure and shows nothing.

Times are in seconds or ms, delays in ms and in words; a region keeps its colour from figure to figure. Colours are
those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mrgp.checks import DataError
from mrgp.data import MultiRegionData
from mrgp.fit import Fit
from mrgp.io import write_atomically

WIDTH = 7.5   # inches, the text width of a page: at half of it, type of 9 points can still be read
DPI = 150
PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", ":", "-.")   # once the colours are used up
FINE = 4   # points per bin at which a latent is drawn
BAND = 2   # posterior standard deviations either way
SCORED_TRIALS = 50   # trials, spread over the recording, on which reconstructions are scored
LEAST_GAP = 0.01   # nats: below it, the convergence axis is linear

styled = rc_context(
    {
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "white",
        "axes.facecolor": "white",
    }
)


def direction(region: str, first: str, lower: float, upper: float) -> str:
    """In words, which of two regions goes ahead, given an interval of the delay of ``region`` behind ``first``."""
    if lower > 0:
        return f"{region} lags {first}"
    return f"{region} leads {first}" if upper < 0 else "not clear"


@styled
def plot_convergence(fit: Fit) -> Figure:
    """log p(y, parameters) by iteration, as nats below the value at the end, on a logarithmic axis."""
    figure = Figure((WIDTH, 3.4), layout="constrained")
    ax = figure.add_subplot()
    gap = fit.trace[-1] - fit.trace
    ax.axhline(0, color="0.7", linewidth=0.8)
    ax.plot(np.arange(len(gap)), gap, color=PALETTE[2], linewidth=1.5, marker="o", markersize=3)
    ax.set_yscale("symlog", linthresh=LEAST_GAP, linscale=0.5)
    ax.set_ylim(min(0.0, 1.5 * gap.min()) - 0.1 * LEAST_GAP, 2 * max(gap.max(), LEAST_GAP))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="iteration", ylabel="log p(y, parameters)\n(nats below the end)")
    state = "converged" if fit.converged else "NOT converged"
    ax.set_title(f"{state}: {fit.reason}\nlog p(y, parameters) = {fit.trace[-1]:.2f} nats at the end", loc="left")
    return figure


@styled
def plot_delays(fit: Fit, truth: Any = None, intervals: bool = True, data: MultiRegionData | None = None) -> Figure:
    """Delay of every region behind the first, one panel per across latent, with 90% intervals.

    Args:
        fit: Of a model with delays.
        truth: (region, across_latent) in seconds, in the order of the fit's latents, to be marked too.
        intervals: Draw intervals; they are computed from the recording unless the fit has them already.
        data: The recording, where the fit does not hold it.

    Raises:
        ValueError: the model has no delays.
        DataError: intervals are wanted, but there is no recording to compute them from.
    """
    regions, n_latents = list(fit.populations), fit.delays.sizes["across_latent"]
    if len(regions) < 2 or n_latents == 0:
        raise ValueError(f"this {type(fit.model).__name__} has no delays to draw: it has no latent that regions share")
    first, delay = regions[0], 1e3 * fit.delays.values
    bounds = fit.delay_intervals(0.9, data) if intervals else None
    lower, upper = (1e3 * (fit.delays if bounds is None else bounds[name]).values for name in ("lower", "upper"))
    true = None if truth is None else 1e3 * np.asarray(truth)
    reach = 1.25 * max(np.abs(np.stack([lower, upper, delay, delay if true is None else true])).max(), 1e-3)
    columns = min(n_latents, 3 if len(first) <= 6 else 2)
    rows = -(-n_latents // columns)
    figure = Figure((WIDTH, 0.9 + rows * (0.9 + 0.42 * len(regions))), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    place = np.arange(len(regions))
    for k, ax in enumerate(axes.flat[:n_latents]):
        ax.axvline(0, color="0.6", linewidth=1)
        for r in place:
            color = PALETTE[r % len(PALETTE)]
            if bounds is not None and r > 0:
                ax.plot([lower[r, k], upper[r, k]], [r, r], color=color, linewidth=2.5, solid_capstyle="butt")
            ax.plot(delay[r, k], r, "o", color=color, markersize=6, label="_")
            if r > 0:
                ax.annotate(f"{delay[r, k]:+.1f}", (delay[r, k], r), (0, 6), textcoords="offset points", ha="center", fontsize=9)
        if true is not None:
            ax.plot(true[1:, k], place[1:], "D", markerfacecolor="none", markeredgecolor="0.35", markersize=9)
        ax.set_title(f"across latent {k} ({1e3 * float(fit.timescales['across'][k]):.0f} ms)", loc="left")
        ax.set_xlabel(f"delay (ms)\n← leads {first}  |  lags {first} →")
        ax.xaxis.set_tick_params(labelbottom=True)
    _hide(axes.flat[n_latents:])
    ax = axes[0, 0]
    ax.set_yticks(place, [f"{name}\n(reference)" if r == 0 else name for r, name in enumerate(regions)])
    ax.set(xlim=(-reach, reach), ylim=(len(regions) - 0.5, -0.5))
    handles = [ax.plot([], [], "o", color="0.3", markersize=6, label="estimate")[0]]
    if bounds is not None:
        handles += ax.plot([], [], color="0.3", linewidth=2.5, label="90% interval")
    if true is not None:
        handles += ax.plot([], [], "D", markerfacecolor="none", markeredgecolor="0.35", markersize=9, label="truth")
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


@styled
def plot_latents(fit: Fit, trial: int = 0, data: MultiRegionData | None = None, most: int = 6) -> Figure:
    """Posterior mean and 2 sd of the latents in one trial: across latents as each region reads them, then within.

    An across latent is drawn on the first region's clock, with its band; every other region reads a delayed copy of
    it. Of each kind the ``most`` latents with the largest loadings are drawn.
    """
    data = _recording(fit, data)
    seconds = _trial_length(data, trial)
    latents = fit.latents(data.select_trials([trial]), refine=FINE).isel(trial=0)
    inside = latents["time"].values < seconds - 1e-9
    time, tables = latents["time"].values[inside], {n: v.values[inside] for n, v in latents.data_vars.items()}
    regions = list(fit.populations)
    across = _strongest(fit, [f"across:{k}" for k in range(fit.delays.sizes["across_latent"])], most)
    within = {r: _strongest(fit, [n for n in fit.within_names if n.rpartition(":")[0] == r], most) for r in regions}
    panels = [[name] for name in across] + [names for names in within.values() if names]
    lines = max(len(regions), *map(len, panels))
    figure = Figure((WIDTH, 0.7 + len(panels) * max(1.35, 0.35 + 0.17 * lines)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, names in zip(axes, panels, strict=True):
        kind, _, number = names[0].rpartition(":")
        if kind == "across" and names[0] in across:
            _draw_across(ax, fit, int(number), time, tables)
        else:
            _draw_within(ax, fit, names, time, tables)
        ax.set_xlim(0, seconds)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.08), handlelength=1.6, borderaxespad=0.2)
    axes[-1].set_xlabel(f"time in trial {trial} (s)")
    figure.supylabel("latent (prior sd = 1)", fontsize=10)
    return figure


def _draw_across(ax: Axes, fit: Fit, k: int, time: np.ndarray, tables: Mapping[str, np.ndarray]) -> None:
    mean, sd = tables["across_mean"][:, k], tables["across_sd"][:, k]
    for r, (region, delay) in enumerate(zip(fit.populations, fit.delays.values[:, k], strict=True)):
        color = PALETTE[r % len(PALETTE)]
        if r == 0:
            ax.fill_between(time, mean - BAND * sd, mean + BAND * sd, color=color, alpha=0.15, linewidth=0)
        words = "" if r == 0 else f" {'lags' if delay >= 0 else 'leads'} {1e3 * abs(delay):.1f} ms"
        name = "all regions" if region == "all" else region
        ax.plot(time + delay, mean, color=color, linewidth=1.6 if r == 0 else 1.2, label=name + words)
    ax.set_title(f"across latent {k}, timescale {1e3 * float(fit.timescales['across'][k]):.0f} ms", loc="left")


def _draw_within(ax: Axes, fit: Fit, names: Sequence[str], time: np.ndarray, tables: Mapping[str, np.ndarray]) -> None:
    region = names[0].rpartition(":")[0]
    total = sum(name.rpartition(":")[0] == region for name in fit.within_names)
    for i, name in enumerate(names):
        column = fit.within_names.index(name)
        mean, sd = tables["within_mean"][:, column], tables["within_sd"][:, column]
        color, dash = PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)]
        ax.fill_between(time, mean - BAND * sd, mean + BAND * sd, color=color, alpha=0.12, linewidth=0)
        label = f"{name}, {1e3 * float(fit.timescales['within'][column]):.0f} ms"
        ax.plot(time, mean, dash, color=color, linewidth=1.3, label=label)
    some = f", the {len(names)} of {total} with the largest loadings" if len(names) < total else ""
    ax.set_title(f"within {region}{some}", loc="left")


@styled
def plot_loadings(fit: Fit) -> Figure:
    """Loadings of every neuron on every latent, one heat map per region, all on one scale with 0 in the middle."""
    tables = {name: (table.values, [str(n) for n in table["latent"].values]) for name, table in fit.loadings.items()}
    if len(tables) < fit.layout.n_regions:   # one population of several regions
        ((values, names),) = tables.values()
        tables = {region: (values[part], names) for region, part in fit.layout.region_slices.items()}
    columns = min(len(tables), 5)
    rows = -(-len(tables) // columns)
    widths = np.zeros(rows * columns)
    widths[: len(tables)] = [len(names) for _, names in tables.values()]
    figure = Figure((WIDTH, 0.6 + 3.2 * rows), layout="constrained")
    ratios = widths.reshape(rows, columns).max(axis=0) + 0.15 * widths.max()
    axes = figure.subplots(rows, columns, squeeze=False, width_ratios=ratios)
    sizes = np.abs(np.concatenate([values.ravel() for values, _ in tables.values()]))
    limit = max(float(np.quantile(sizes, 0.995)), 1e-12)
    n_across = fit.delays.sizes["across_latent"]
    for ax, (region, (values, names)) in zip(axes.flat, tables.items(), strict=False):
        image = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        ax.set_xticks(np.arange(len(names)), names, rotation=90)
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.spines[:].set_visible(True)
        if 0 < n_across < len(names):
            ax.axvline(n_across - 0.5, color="black", linewidth=1)
        ax.set_title(region)
    for ax in axes[:, 0]:
        ax.set_ylabel("neuron")
    _hide(axes.flat[len(tables) :])
    figure.supxlabel("latent", fontsize=10)
    extend = "both" if sizes.max() > limit else "neither"
    figure.colorbar(image, ax=axes, label="loading (data units per sd of the latent)", extend=extend, pad=0.02)
    return figure


@styled
def plot_reconstruction(
    fit: Fit,
    data: MultiRegionData | None = None,
    trial: int = 0,
    neurons: Mapping[str, Sequence[int]] | None = None,
) -> Figure:
    """One trial as recorded, and as reconstructed from all neurons, with 2 sd of a new observation.

    Args:
        fit: Of any model.
        data: The recording, where the fit does not hold it.
        trial: Which trial.
        neurons: Region -> neurons, by position; None takes each region's best, median and worst by R^2, the share
            of a neuron's variance that its reconstruction explains over up to 50 trials.
    """
    data = _recording(fit, data)
    seconds = _trial_length(data, trial)
    scored = np.union1d(np.linspace(0, data.n_trials - 1, min(data.n_trials, SCORED_TRIALS)).astype(int), trial)
    some = data.select_trials(scored)
    row, predicted = int(np.searchsorted(scored, trial)), fit.predict(some)
    panels: list[list[tuple[str, int, str]]] = []
    for region in data.layout.regions if neurons is None else neurons:
        observed = some.region(region)
        score = _explained(observed, predicted[f"{region}_mean"].values)
        if neurons is None:
            order = np.argsort(-score, kind="stable")
            ranks = dict.fromkeys([0, len(order) // 2, len(order) - 1])
            chosen = dict(zip(order[list(ranks)].tolist(), ("best: ", "median: ", "worst: "), strict=False))
        else:
            chosen = dict.fromkeys(neurons[region], "")
            if outside := [n for n in chosen if not 0 <= n < len(score)]:
                raise ValueError(f"region {region} has neurons 0 to {len(score) - 1}, not {outside[0]}")
        panels.append([(region, n, f"{rank}neuron {n}, R² {score[n]:.2f}") for n, rank in chosen.items()])
    columns = max(map(len, panels))
    figure = Figure((WIDTH, 0.8 + 1.45 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), columns, sharex=True, squeeze=False)
    inside = data.times < seconds - 1e-9
    time = (data.times + 0.5 * data.bin_width)[inside]
    for line, own in zip(axes, panels, strict=True):
        for ax, (region, neuron, title) in zip(line, own, strict=False):
            mean, sd = (predicted[f"{region}_{kind}"].values[row, inside, neuron] for kind in ("mean", "sd"))
            color = PALETTE[1 + data.layout.regions.index(region) % (len(PALETTE) - 1)]
            band = ax.fill_between(time, mean - BAND * sd, mean + BAND * sd, color=color, alpha=0.2, linewidth=0)
            (curve,) = ax.plot(time, mean, color=color, linewidth=1.5)
            (dots,) = ax.plot(time, some.region(region)[row, inside, neuron], ".", color="0.25", markersize=3)
            ax.set_title(title, loc="left", fontsize=9)
            ax.set_xlim(0, seconds)
        line[0].set_ylabel(own[0][0])
        _hide(line[len(own) :])
    figure.supxlabel(f"time in trial {trial} (s)", fontsize=10)
    figure.supylabel("activity (data units)", fontsize=10)
    labels = ["recorded", "reconstructed from all neurons", f"± {BAND} sd of a new observation"]
    figure.legend([dots, curve, band], labels, loc="outside upper right", ncols=3)
    return figure


def save_figures(
    fit: Fit, folder: str | Path, data: MultiRegionData | None = None, truth: Any = None, intervals: bool = True
) -> list[Path]:
    """Write every figure that there is of this fit into ``folder`` as PNG, each replaced whole; returns their paths.

    Without delays in the model there is no figure of them, without the recording none of latents and reconstruction.
    """
    figures = {"convergence": plot_convergence(fit), "loadings": plot_loadings(fit)}
    if len(fit.populations) > 1 and fit.delays.size:
        figures["delays"] = plot_delays(fit, truth, intervals, data)
    if data is not None or fit.data is not None:
        figures |= {"latents": plot_latents(fit, data=data), "reconstruction": plot_reconstruction(fit, data)}
    paths = [Path(folder) / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        write_atomically(path, lambda file, figure=figure: figure.savefig(file, dpi=DPI))
    return paths


def _recording(fit: Fit, data: MultiRegionData | None) -> MultiRegionData:
    found = fit.data if data is None else data
    if found is None:
        raise DataError("this fit was loaded from a file and holds no recording: pass data=")
    return found


def _trial_length(data: MultiRegionData, trial: int) -> float:
    """Seconds that a trial lasts."""
    if not 0 <= trial < data.n_trials:
        raise ValueError(f"the recording has trials 0 to {data.n_trials - 1}, not {trial}")
    return float(data.n_bins if data.length is None else data.length[trial]) * data.bin_width


def _strongest(fit: Fit, names: list[str], most: int) -> list[str]:
    """The ``most`` latents with the largest loadings, in their own order."""
    power = {name: 0.0 for name in names}
    for table in fit.loadings.values():
        for name in set(names) & set(table["latent"].values.tolist()):
            power[name] += float((table.sel(latent=name).values ** 2).sum())
    kept = sorted(names, key=lambda name: -power[name])[:most]
    return [name for name in names if name in kept]


def _explained(observed: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """R^2 of every neuron over what was observed, (neuron,); -inf where nothing was."""
    seen = ~np.isnan(observed)
    count = np.maximum(seen.sum(axis=(0, 1)), 1)
    center = np.where(seen, observed, 0.0).sum(axis=(0, 1)) / count
    total, missed = (np.where(seen, (observed - other) ** 2, 0.0).sum(axis=(0, 1)) for other in (center, mean))
    return np.where(total > 0, 1 - missed / np.where(total > 0, total, 1.0), -np.inf)


def _hide(axes: Any) -> None:
    for ax in axes:
        ax.set_visible(False)
