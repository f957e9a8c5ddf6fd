"""Figure of a comparison of hypotheses: probability, prediction, and the delays."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mrgp.plots.style import GREY, PALETTE, SMALL, Page, region_color, styled


@styled
def plot_comparison(comparison: Any) -> Figure:
    """Plot probability and elpd of all hypotheses, and below the delays with their intervals.

    Probabilities are posterior probabilities; delays are those of all pairs of regions.

    Args:
        comparison: A :class:`mrgp.DelayComparison`.
    """
    table, delays = comparison.table, comparison.delays
    below = 0.9 + 0.32 * len(delays) if len(delays) else 0.0
    above = 1.1 + 0.4 * len(table)
    figure = Page(0.4 + above + below)
    grid = figure.add_gridspec(2 if below else 1, 2, height_ratios=[above, below] if below else None)
    left = figure.add_subplot(grid[0, 0])
    _probabilities(left, table)
    _predictions(figure.add_subplot(grid[0, 1], sharey=left), table)
    if below:
        _delays(figure, figure.add_subplot(grid[1, :]), comparison)
    return figure


def _probabilities(ax: Axes, table: Any) -> None:
    place = np.arange(len(table))
    ax.barh(place, table["probability"], color=PALETTE[0], height=0.55)
    for row, probability in enumerate(table["probability"]):
        words = f"{probability:.2f}" if probability >= 0.005 else "not known" if np.isnan(probability) else "< 0.01"
        probability = np.nan_to_num(probability)
        ax.annotate(words, (probability, row), (4, 0), textcoords="offset points", va="center", fontsize=SMALL)
    ax.set_yticks(place, list(table.index))
    ax.set(xlim=(0, 1.15), ylim=(len(table) - 0.5, -0.5), xlabel="posterior probability", xticks=[0, 0.5, 1])
    ax.set_title("evidence", loc="left")


def _predictions(ax: Axes, table: Any) -> None:
    ax.axvline(0, color="0.6", linewidth=1)
    columns = -table["elpd_diff"].abs(), table["dse"], table["pareto_k"]
    for row, (worse, error, k) in enumerate(zip(*columns, strict=True)):
        ax.errorbar(worse, row, xerr=error, fmt="o", color=PALETTE[1], capsize=3, markersize=5)
        if k > 0.7:
            ax.annotate(f"k = {k:.1f}", (worse, row), (0, 7), textcoords="offset points", ha="center", fontsize=SMALL)
    ax.yaxis.set_tick_params(labelleft=False)
    ax.set(xlabel="elpd behind the best ± se (nats)")
    ax.set_title("prediction of unseen trials", loc="left")


def _delays(figure: Figure, ax: Axes, comparison: Any) -> None:
    delays, rope = comparison.delays, 1e3 * comparison.settings["rope"]
    share = round(100 * comparison.settings["probability"])
    ax.axvspan(-rope, rope, color="0.92")
    ax.axvline(0, color="0.6", linewidth=1)
    regions = list(dict.fromkeys([*delays["first"], *delays["second"]]))
    for place, row in enumerate(delays.itertuples()):
        color = region_color(regions.index(row.second))
        ax.plot([row.lower_ms, row.upper_ms], [place, place], color=color, linewidth=2, marker="|", markersize=9)
        ax.plot(row.delay_ms, place, "o", color=color, markersize=5)
        words = "at max_delay" if np.isnan(row.sd_ms) else f"P(lags) = {row.positive:.3g}"
        ax.annotate(words, (1, place), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL, color=GREY)
    names = [f"latent {row.latent}: {row.second} behind {row.first}" for row in delays.itertuples()]
    ax.set_yticks(range(len(delays)), names)
    ax.set(ylim=(len(delays) - 0.5, -0.5), xlabel="delay (ms)")
    mean = ": means over the trial" if comparison.fits[comparison.delays_of].delays_vary else ""
    ax.set_title(f"delays if they are {comparison.delays_of}{mean}", loc="left")
    handles = [
        Line2D([], [], color=GREY, marker="o", linewidth=2, label=f"{share}% interval"),
        Patch(color="0.92", label=f"no delay to speak of (±{rope:g} ms)"),
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=2)
