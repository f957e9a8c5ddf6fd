"""The figure of a cross-validation: how well every candidate predicts unseen trials, and which one will do."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrgp.plots.style import DASHES, GREY, PALETTE, SMALL, Page, styled

CLOSE_UP = 8.0  # standard errors below the best that the second panel shows, about


@styled
def plot_cross_validation(found: Any) -> Figure:
    """Held-out log-likelihood behind the best candidate's against the number of across latents, with standard errors.

    Bars are one standard error of the paired difference to the best; a candidate whose bar reaches 0 is as good. Left,
    all candidates; right, those near the best. Below, after a search, the same of factor analysis in every region.

    Args:
        found: A :class:`mrgp.CrossValidation`.
    """
    regions = list(found.dimensions.items())
    figure = Page(3.3 + (2.5 if regions else 0.0))
    grid = figure.add_gridspec(2 if regions else 1, 1, height_ratios=[3.3, 2.5] if regions else None)
    top = grid[0].subgridspec(1, 2)
    _panels([figure.add_subplot(top[0, 0]), figure.add_subplot(top[0, 1])], found, "latents across regions")
    if regions:
        row = grid[1].subgridspec(1, len(regions))
        for place, (region, own) in enumerate(regions):
            ax = figure.add_subplot(row[0, place])
            _draw(ax, own, own.table["valid"].values, legend=False)
            ax.set(xlabel="factors", ylabel="behind the best\n(nats per trial)" if place == 0 else "")
            ax.set_title(f"{region} alone, factor analysis: {own.chosen}", loc="left")
    return figure


def _panels(axes: list[Axes], found: Any, label: str) -> None:
    table = found.table
    shown = table["valid"].values
    for ax in axes:
        _draw(ax, found, shown, legend=ax is axes[0])
        ax.set_xlabel(label)
    axes[0].set_ylabel("held-out log-likelihood\nbehind the best (nats per trial)")
    axes[0].set_title(f"best {found.best}: {float(table['mean'].max()):.1f} nats per trial", loc="left")
    behind, error = -table["difference"].values[shown], table["difference_se"].values[shown]
    typical = float(np.median(error[error > 0])) if (error > 0).any() else 1.0
    near = behind <= CLOSE_UP * typical
    deepest = float(np.max((behind + error)[near]))
    axes[1].set_ylim(-1.15 * max(deepest, 2 * typical), 0.35 * max(deepest, 2 * typical))
    axes[1].set_title(f"chosen {found.chosen}: smallest within one error", loc="left")
    if not shown.all():
        failed = ", ".join(table.candidate.values[~shown])
        axes[0].annotate(f"failed: {failed}", (0, 1), (2, -2), xycoords="axes fraction", textcoords="offset points",
                         va="top", fontsize=SMALL, color=GREY)  # fmt: skip


def _draw(ax: Axes, found: Any, shown: np.ndarray, legend: bool) -> None:
    """One line per series of candidates, the chosen one marked."""
    table = found.table
    across = table["n_across"].values
    series = _series(table)
    ax.axhline(0, color="0.6", linewidth=1)
    spread = 0.06 * (np.arange(len(series)) - 0.5 * (len(series) - 1))
    for place, (name, members) in enumerate(series.items()):
        own = members & shown
        order = np.flatnonzero(own)[np.argsort(across[own])]
        color, dash = PALETTE[place % len(PALETTE)], DASHES[place // len(PALETTE) % len(DASHES)]
        ax.errorbar(
            across[order] + spread[place], table["difference"].values[order], table["difference_se"].values[order],
            color=color, linestyle=dash, marker="o", markersize=4, capsize=3, linewidth=1.2, label=name,
        )  # fmt: skip
        chosen = own & (table.candidate.values == str(found.chosen))
        if chosen.any():
            ax.plot(across[chosen] + spread[place], table["difference"].values[chosen], "o", markersize=11,
                    markerfacecolor="none", markeredgecolor="black", label="_chosen")  # fmt: skip
    ax.set_xticks(np.unique(across))
    if legend and any(series) and len(series) <= len(PALETTE) * len(DASHES):
        ax.legend(loc="lower right")


def _series(table: Any) -> dict[str, np.ndarray]:
    """Candidates that differ in latents across only: given private latents, or all that a region reads; fewer lines."""
    within, across = table["n_within"].values, table["n_across"].values
    regions = table.region.values
    if not within.any():
        return {"": np.ones(len(across), bool)}
    kinds = {}
    for words, counts in (("private", within), ("read in all", within + across[:, None])):
        rows = [tuple(row) for row in counts.tolist()]
        kinds[words] = {
            _named(words, row, regions): np.array([other == row for other in rows]) for row in dict.fromkeys(rows)
        }
    return min(kinds.values(), key=len)


def _named(words: str, counts: tuple[int, ...], regions: np.ndarray) -> str:
    if len(set(counts)) == 1:
        return f"{counts[0]} {words}"
    return f"{', '.join(f'{n} {region}' for n, region in zip(counts, regions, strict=True))} {words}"
