"""Figures of one trial: its latents, and the recording with its reconstruction."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mrgp.metrics.scores import r_squared
from mrgp.plots.style import (
    BAND,
    DASHES,
    GREY,
    LARGE,
    SMALL,
    Page,
    duration,
    hide,
    region_color,
    styled,
    time_label,
    tint,
)
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit
from mrgp.results.gaussian_process_fit import GaussianProcessFit

FINE = 4   # points per bin at which a latent that lives between bins is drawn
TOGETHER = 3   # within latents drawn over each other; more cannot be told apart
SCORED_TRIALS = 50   # spread over the recording, on which reconstructions are scored

type Tables = Mapping[str, np.ndarray]


@styled
def plot_latents(fit: GaussianProcessFit, data: MultiRegionData | None = None, trial: int = 0, most: int = 6) -> Figure:
    """Draw the latents in one trial: posterior mean and 2 sd.

    Latents across regions come first, then those within one. An across latent is drawn on the first region's clock,
    with its band; every other region reads a copy of it, shifted by its delay. Of the across latents the ``most`` with
    the largest loadings are drawn, of those within each region three. Their order and their signs mean nothing.

    Args:
        fit: Of Gaussian processes.
        data: The recording, where the fit does not hold it, as one that was loaded.
        trial: Which trial.
        most: Latents across regions, at most.
    """
    data = fit.recording(data)
    seconds = _trial_end(data, trial)
    points = FINE if fit.reads_between_bins else 1
    latents = fit.latents(data.select_trials([trial]), refine=points).isel(trial=0)
    inside = latents["time"].values < seconds - 1e-9
    time = latents["time"].values[inside]
    tables = {str(name): table.values[inside] for name, table in latents.data_vars.items()}
    across = _strongest(fit, [f"across:{k}" for k in range(fit.delays.sizes["across_latent"])], most)
    own = [[name for name in fit.within_names if _region(name) == region] for region in fit.populations]
    within = [_strongest(fit, names, TOGETHER) for names in own if names]
    lines = max([len(fit.populations), *map(len, within)])
    rows = len(across) + len(within)
    figure = Page(0.7 + rows * max(1.35, 0.35 + 0.17 * lines))
    axes = figure.subplots(rows, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for ax, name in zip(axes, across, strict=False):
        _draw_across(ax, fit, int(name.rpartition(":")[2]), time, tables)
    for ax, names in zip(axes[len(across) :], within, strict=True):
        _draw_within(ax, fit, names, time, tables)
    for ax in axes:
        ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
        _draw_time(ax, data, seconds)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.08), handlelength=1.8, borderaxespad=0.2)
    axes[-1].set_xlabel(time_label(data.layout.event, f" in trial {trial}"))
    figure.supylabel(f"latent (prior sd = 1; band: ± {BAND} sd)", fontsize=LARGE)
    return figure


def _draw_across(ax: Axes, fit: GaussianProcessFit, k: int, time: np.ndarray, tables: Tables) -> None:
    mean, sd = tables["across_mean"][:, k], tables["across_sd"][:, k]
    regions = fit.populations if fit.has_delays or len(fit.populations) == 1 else ("all",)  # copies that coincide
    reads = fit.shared_by().values[:, k] if fit.has_relevance else np.ones(len(fit.populations), bool)
    reference = int(np.argmax(reads))   # the first region that reads the latent
    for r, (region, delay) in enumerate(zip(regions, fit.delays.values[:, k], strict=False)):
        color, label = region_color(r), "all regions" if region == "all" else region
        if r == 0:
            color, label = (color, label) if reads[0] else (GREY, f"{region} does not read it")
            ax.fill_between(time, mean - BAND * sd, mean + BAND * sd, color=color, alpha=0.2, linewidth=0)
            ax.plot(time, mean, color=color, linewidth=1.8, label=label)
        elif reads[r]:
            # A copy at t is the latent at t - delay(t).
            course = np.interp(time, fit.delays["time"].values, delay) if fit.delays_vary else delay
            copy = np.interp(time - course, time, mean) if fit.delays_vary else mean
            late = np.mean(delay) - np.mean(fit.delays.values[reference, k])
            if r != reference:
                label += f" {'lags' if late >= 0 else 'leads'}{f' {regions[reference]}' * (reference > 0)}"
                label += f" {1e3 * abs(late):.1f} ms{' on average' * fit.delays_vary}"
            ax.plot(time if fit.delays_vary else time + course, copy, color=color, linewidth=1.2, label=label)
    ax.set_title(f"across latent {k}, {duration(fit.timescales['across'][k])}", loc="left")


def _draw_within(ax: Axes, fit: GaussianProcessFit, names: Sequence[str], time: np.ndarray, tables: Tables) -> None:
    region = _region(names[0])
    total = sum(_region(name) == region for name in fit.within_names)
    for i, name in enumerate(names):
        column = fit.within_names.index(name)
        mean, sd = tables["within_mean"][:, column], tables["within_sd"][:, column]
        color = tint(region_color(fit.populations.index(region)), 0.5 * i / len(names))
        ax.fill_between(time, mean - BAND * sd, mean + BAND * sd, color=color, alpha=0.15, linewidth=0)
        label = f"{name}, {duration(fit.timescales['within'][column])}"
        ax.plot(time, mean, DASHES[i % len(DASHES)], color=color, linewidth=1.5, label=label)
    some = f": {len(names)} of {total}, those with the largest loadings" if len(names) < total else ""
    ax.set_title(f"within {region}{some}", loc="left")


@styled
def plot_reconstruction(
    fit: Fit,
    data: MultiRegionData | None = None,
    trial: int = 0,
    neurons: Mapping[str, Sequence[int]] | None = None,
) -> Figure:
    """Draw one trial as recorded, and as reconstructed from all neurons.

    The band is 2 sd of a new observation.

    Args:
        fit: Of any model.
        data: The recording, where the fit does not hold it.
        trial: Which trial.
        neurons: Region -> neurons, by position; None takes each region's best, median and worst by R^2, the
            share of a neuron's variance that its reconstruction explains over up to 50 trials.
    """
    data = fit.recording(data)
    seconds = _trial_end(data, trial)
    spread = np.linspace(0, data.n_trials - 1, min(data.n_trials, SCORED_TRIALS)).astype(int)
    scored = np.union1d(spread, trial)
    some, row = data.select_trials(scored), int(np.searchsorted(scored, trial))
    predicted = fit.predict(some)
    means = {r: predicted[f"{r}_mean"].values for r in data.layout.regions}
    scores = {r: np.nan_to_num(r_squared(some.region(r), mean), nan=-np.inf) for r, mean in means.items()}
    panels = {r: _ranked(s) for r, s in scores.items()} if neurons is None else _asked(neurons, scores)
    columns = max(map(len, panels.values()))
    figure = Page(0.9 + 1.45 * len(panels))
    axes = figure.subplots(len(panels), columns, sharex=True, squeeze=False)
    inside = data.times < seconds - 1e-9
    time = data.times[inside]
    least = 0.0 if fit.model.emission.is_of_counts else -np.inf  # no count is below
    for line, (region, titles) in zip(axes, panels.items(), strict=True):
        color = region_color(data.layout.regions.index(region))
        recorded = some.region(region)[row, inside]
        means, sds = (predicted[f"{region}_{kind}"].values[row, inside] for kind in ("mean", "sd"))
        for ax, (neuron, rank) in zip(line, titles.items(), strict=False):
            mean, sd = means[:, neuron], BAND * sds[:, neuron]
            ax.fill_between(time, np.maximum(mean - sd, least), mean + sd, color=color, alpha=0.2, linewidth=0)
            ax.plot(time, mean, color=color, linewidth=1.5)
            ax.plot(time, recorded[:, neuron], ".", color=GREY, markersize=3.5)
            ax.set_title(f"{rank}neuron {neuron}, R² {scores[region][neuron]:.2f}", loc="left", fontsize=SMALL)
            _draw_time(ax, data, seconds)
        line[0].set_ylabel(region)
        hide(line[len(titles) :])
    figure.supxlabel(time_label(data.layout.event, f" in trial {trial}"), fontsize=LARGE)
    figure.supylabel("activity (data units)", fontsize=LARGE)
    handles = [
        Line2D([], [], marker=".", linestyle="none", color=GREY, label="recorded"),
        Line2D([], [], color=GREY, label="reconstructed from all neurons"),
        Patch(color=GREY, alpha=0.2, label=f"± {BAND} sd of a new observation"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


def _ranked(scores: np.ndarray) -> dict[int, str]:
    """Find the best, median and worst neuron, as far as they are different ones."""
    order = np.argsort(-scores, kind="stable").tolist()
    chosen = {order[0]: "best: "}
    if len(order) > 2:
        chosen[order[len(order) // 2]] = "median: "
    if len(order) > 1:
        chosen[order[-1]] = "worst: "
    return chosen


def _asked(neurons: Mapping[str, Sequence[int]], scores: Mapping[str, np.ndarray]) -> dict[str, dict[int, str]]:
    for region, wanted in neurons.items():
        if region not in scores:
            raise ValueError(f"there is no region {region!r} here: choose from {', '.join(scores)}")
        if not wanted or min(wanted) < 0 or max(wanted) >= len(scores[region]):
            last = len(scores[region]) - 1
            raise ValueError(f"choose one or more of neurons 0 to {last} of region {region}, not {list(wanted)}")
    return {region: dict.fromkeys(wanted, "") for region, wanted in neurons.items()}


def _draw_time(ax: Axes, data: MultiRegionData, end: float) -> None:
    """Let an axis begin with the trial, with a line at the event that trials are aligned to."""
    begin = float(data.times[0]) if data.layout.event else 0.0
    ax.set_xlim(begin, end)
    if begin < 0 < end:
        ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)


def _trial_end(data: MultiRegionData, trial: int) -> float:
    """End of a trial's last bin in seconds."""
    if not 0 <= trial < data.n_trials:
        raise ValueError(f"the recording has trials 0 to {data.n_trials - 1}, not {trial}")
    n_bins = data.n_bins if data.length is None else int(data.length[trial])
    return float(data.times[n_bins - 1] + data.bin_width)


def _region(name: str) -> str:
    """Name of the region that a within latent is named after."""
    return name.rpartition(":")[0]


def _strongest(fit: GaussianProcessFit, names: list[str], most: int) -> list[str]:
    """Names of the ``most`` latents with the largest loadings, in their own order."""
    power = dict.fromkeys(names, 0.0)
    for table in fit.loadings.values():
        for name in power.keys() & set(table["latent"].values.tolist()):
            power[name] += float((table.sel(latent=name).values ** 2).sum())
    kept = sorted(names, key=lambda name: -power[name])[:most]
    return [name for name in names if name in kept]
