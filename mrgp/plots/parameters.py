"""Figures of what was inferred: how the fit came to its end, the delays, the loadings."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mrgp.data import MultiRegionData
from mrgp.fit import Fit
from mrgp.plots.style import GREY, LARGE, PALETTE, SMALL, Page, duration, hide, region_color, styled

LEAST_GAP = 0.01   # nats: below it the convergence axis is linear, so that the end itself can be shown
SHORT_NAME = 6   # letters of a region's name up to which three panels of delays fit beside each other
MOST_COLUMNS = 36   # of heat maps beside each other, so that the names of latents do not touch
CLIPPED = 0.005   # share of loadings allowed to saturate, so that one neuron does not pale all others


def direction(region: str, first: str, lower: float, upper: float) -> str:
    """In words which of two regions goes ahead, from an interval of the delay of ``region`` behind ``first``."""
    if lower > 0:
        return f"{region} lags {first}"
    return f"{region} leads {first}" if upper < 0 else "unclear"


@styled
def plot_convergence(fit: Fit) -> Figure:
    """What the fit climbed, by iteration, as nats below its value at the end, on a logarithmic axis."""
    climbed = "log p(y | parameters)" if fit.method == "em" else "log p(y, parameters)"
    figure = Page(3.4)
    ax = figure.add_subplot()
    gap = fit.trace[-1] - fit.trace
    ax.axhline(0, color="0.7", linewidth=0.8)
    ax.plot(np.arange(len(gap)), gap, color=PALETTE[0], linewidth=1.5, marker="o", markersize=3)
    ax.set_yscale("symlog", linthresh=LEAST_GAP, linscale=0.5)
    ax.set_ylim(min(0.0, 1.5 * gap.min()) - 0.1 * LEAST_GAP, 2 * max(gap.max(), LEAST_GAP))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="iteration", ylabel=f"{climbed}\n(nats below the end)")
    state = "converged" if fit.converged else "NOT converged"
    end = f"{climbed} = {fit.trace[-1]:.2f} nats at the end"
    ax.set_title(f"{state}: {fit.reason}\n{end}", loc="left")
    return figure


@styled
def plot_delays(
    fit: Fit, truth: Any = None, intervals: bool = True, data: MultiRegionData | None = None
) -> Figure:
    """Delay of every region behind the first, one panel per across latent, with 90% intervals.

    Args:
        fit: Of a model with delays.
        truth: (region, across_latent) in seconds, in the order of the fit's latents, to be marked too.
        intervals: Draw intervals; they are computed from the recording unless the fit has them already.
        data: The recording, where the fit does not hold it.

    Raises:
        ValueError: the model has no delays, or ``truth`` has another shape.
        DataError: intervals are wanted, but there is no recording to compute them from.
    """
    regions, n_latents = list(fit.populations), fit.delays.sizes["across_latent"]
    if not fit.has_delays:
        raise ValueError(f"this {type(fit.model).__name__} has no delays to draw")
    delay = 1e3 * fit.delays.values
    bounds = fit.delay_intervals(0.9, data) if intervals else None
    lower, upper = (delay if bounds is None else 1e3 * bounds[name].values for name in ("lower", "upper"))
    true = delay if truth is None else 1e3 * np.asarray(truth, float)
    if true.shape != delay.shape:
        raise ValueError(f"truth has shape {true.shape}, the delays are (region, across_latent) {delay.shape}")
    first, place = regions[0], np.arange(len(regions))
    columns = min(n_latents, 3 if len(first) <= SHORT_NAME else 2)
    rows = -(-n_latents // columns)
    figure = Page(0.5 + rows * (1.1 + 0.45 * len(regions)))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    dot: dict[str, Any] = {"marker": "o", "markersize": 5, "linestyle": "none"}
    mark: dict[str, Any] = {"marker": "^", "markersize": 7, "markerfacecolor": "none", "markeredgecolor": "black"}
    mark["linestyle"] = "none"
    plain = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}   # so that the zero line does not cross numbers
    label: dict[str, Any] = {"textcoords": "offset points", "bbox": plain}
    for k, ax in enumerate(axes.flat[:n_latents]):
        ax.axvline(0, color="0.6", linewidth=1)
        for r in range(len(regions)):
            color, row = region_color(r), [r, r]
            if bounds is not None and r > 0:
                ax.plot([lower[r, k], upper[r, k]], row, color=color, linewidth=2, marker="|", markersize=9)
            ax.plot(delay[r, k], r, color=color, **dot)
            if r > 0:
                number = f"{delay[r, k]:+.1f}".replace("-", "−")
                ax.annotate(number, (delay[r, k], r), (0, 6), ha="center", fontsize=SMALL, **label)
        if truth is not None:
            ax.plot(true[1:, k], place[1:] + 0.25, **mark)
        ax.set_title(f"across latent {k}\n{duration(fit.timescales['across'][k])}", loc="left")
        ax.set_xlabel(f"delay (ms)\n← leads {first}  |  lags {first} →")
        ax.xaxis.set_tick_params(labelbottom=True)
    hide(axes.flat[n_latents:])
    reach = 1.3 * max(np.abs(np.stack([lower, upper, delay, true])).max(), 1e-3)
    names = [f"{name}\n(reference)" if r == 0 else name for r, name in enumerate(regions)]
    axes[0, 0].set_yticks(place, names)
    axes[0, 0].set(xlim=(-reach, reach), ylim=(len(regions) - 0.5, -0.5))
    handles = axes[0, 0].plot([], [], color=GREY, label="estimate", **dot)
    if bounds is not None:
        handles += axes[0, 0].plot([], [], color=GREY, linewidth=2, label="90% interval")
    if truth is not None:
        handles += axes[0, 0].plot([], [], label="truth", **mark)
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


@styled
def plot_loadings(fit: Fit) -> Figure:
    """Loadings of every neuron on every latent, one heat map per region, all on one scale with 0 in the middle.

    A line divides the across latents, on the left, from the region's own.
    """
    tables = {name: (table.values, table["latent"].values) for name, table in fit.loadings.items()}
    if len(tables) < fit.layout.n_regions:   # one population made of several regions
        ((values, names),) = tables.values()
        tables = {region: (values[part], names) for region, part in fit.layout.region_slices.items()}
    rows, ratios = _arranged([len(names) for _, names in tables.values()])
    figure = Page(0.6 + 3.2 * rows)
    axes = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
    sizes = np.abs(np.concatenate([values.ravel() for values, _ in tables.values()]))
    limit = max(float(np.quantile(sizes, 1 - CLIPPED)), 1e-12)
    shared = fit.delays.sizes["across_latent"]
    for ax, (region, (values, names)) in zip(axes.flat, tables.items(), strict=False):
        colors: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        image = ax.imshow(values, aspect="auto", interpolation="nearest", **colors)
        every = -(-len(names) // MOST_COLUMNS)
        ax.set_xticks(np.arange(0, len(names), every), names[::every], rotation=90)
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.spines[:].set_visible(True)
        if 0 < shared < len(names):
            ax.axvline(shared - 0.5, color="black", linewidth=1)
        ax.set_title(region)
    for ax in axes[:, 0]:
        ax.set_ylabel("neuron")
    hide(axes.flat[len(tables) :])
    figure.supxlabel("latent", fontsize=LARGE)
    extend = "both" if sizes.max() > limit else "neither"
    bar = figure.colorbar(image, ax=axes, extend=extend, pad=0.02, aspect=20 * rows)
    bar.set_label("loading (data units per sd of the latent)")
    return figure


def _arranged(widths: list[int]) -> tuple[int, list[float]]:
    """Rows, and relative widths of the columns, of a grid of heat maps that have ``widths`` columns each."""
    for columns in range(min(len(widths), 5), 0, -1):
        rows = -(-len(widths) // columns)
        padded = np.array(widths + [0] * (rows * columns - len(widths))).reshape(rows, columns)
        ratios = padded.max(axis=0) + 1.0
        if ratios.sum() <= MOST_COLUMNS:
            break
    return rows, ratios.tolist()
