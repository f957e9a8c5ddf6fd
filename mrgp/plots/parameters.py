"""Figures of a fit: its convergence, its loadings, and which regions read which latent."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mrgp.parts.loadings import SHARED
from mrgp.plots.style import GREY, LARGE, PALETTE, SMALL, Page, hide, styled
from mrgp.results.fit import Fit
from mrgp.results.gaussian_process_fit import GaussianProcessFit

LEAST_GAP = 0.01   # nats: below it the convergence axis is linear, so that the end itself can be shown
MOST_COLUMNS = 36   # of heat maps beside each other, so that the names of latents do not touch
MOST_ACROSS = 12   # names of latents that fit beside each other
DARK = 55   # percent from which on a cell is so dark that its number is white
CLIPPED = 0.005   # share of loadings allowed to saturate, so that one neuron does not pale all others


@styled
def plot_convergence(fit: Fit) -> Figure:
    """Draw the fit's climb by iteration, in nats below its end, on a logarithmic axis."""
    climbed = fit.climbed
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
    end = f"{climbed} = {fit.trace[-1]:.2f} nats at the end{fit.climbs.remark}"
    ax.set_title(f"{state}: {fit.reason}\n{end}", loc="left")
    return figure


@styled
def plot_loadings(fit: GaussianProcessFit) -> Figure:
    """Draw the loadings of every neuron on every latent, one heat map per region.

    All maps are on one scale with 0 in the middle. A line divides the across latents, on the left, from the region's
    own.
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
    bar.set_label(f"loading ({fit.model.emission.eta_unit} per sd of the latent)")
    return figure


@styled
def plot_shared_variance(fit: GaussianProcessFit, least: float = SHARED) -> Figure:
    """Draw each latent's percent of the variance that a region's latents explain together.

    Rows sum to 100. Latents that most regions read come first; a line divides them from the regions' own. Cells below
    ``least``, where a region does not read a latent, are grey.
    """
    share = fit.shared_variance
    count = fit.assignment.n_across
    readers = fit.shared_by(least).values.sum(0)
    order = [*np.lexsort((-share.values[:, :count].max(0), -readers)), *range(count, share.sizes["latent"])]
    percent = 100 * share.values[:, order]
    rows, columns = percent.shape
    figure = Page(1.1 + 0.45 * rows + 0.5)
    ax = figure.add_subplot()
    below = percent < 100 * least
    ax.imshow(np.where(below, np.nan, percent), aspect="auto", cmap="Blues", vmin=0, vmax=100)
    ax.set_facecolor("0.88")
    used = np.array([[name.startswith("across") or int(name[7:]) < width for name in share["latent"].values[order]]
                     for width in fit.assignment.n_within])   # fmt: skip
    for r, k in np.argwhere(used):
        value = percent[r, k]
        color = GREY if below[r, k] else "white" if value > DARK else "black"
        text = f"{value:.0f}" if value >= 1 or value < 0.05 else f"{value:.1f}"
        ax.text(k, r, text, ha="center", va="center", color=color, fontsize=SMALL)
    names = [str(name).replace(":", "\n" if columns <= MOST_ACROSS else " ") for name in share["latent"].values[order]]
    ax.set_xticks(range(columns), names, rotation=0 if columns <= MOST_ACROSS else 90)
    ax.set_yticks(range(rows), list(fit.populations))
    ax.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    if 0 < count < columns:
        ax.axvline(count - 0.5, color="black", linewidth=1)
    below_cut = f"grey: below {100 * least:g}%, not read there"
    ax.set_title(f"percent of the variance that a region's latents explain\n{below_cut}", loc="left")
    ax.set_xlabel("latent")
    return figure


def _arranged(widths: list[int]) -> tuple[int, list[float]]:
    """Rows and relative column widths of a grid of heat maps.

    The heat maps have ``widths`` columns each.
    """
    for columns in range(min(len(widths), 5), 0, -1):
        rows = -(-len(widths) // columns)
        padded = np.array(widths + [0] * (rows * columns - len(widths))).reshape(rows, columns)
        ratios = padded.max(axis=0) + 1.0
        if ratios.sum() <= MOST_COLUMNS:
            break
    return rows, ratios.tolist()
