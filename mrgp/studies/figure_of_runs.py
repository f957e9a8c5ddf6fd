"""Figure of many runs: the numbers that they report, beside each other."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mrgp.metrics.metric import HiddenNeurons, HiddenRegion, Metric, SimulatedTrials
from mrgp.plots.style import GREY, Page, region_color, styled

OF_FITS = {"log_likelihood": "log p(y) (nats)"}   # columns that metrics do not have, with their headings
OF_COMPARISONS = {"probability": "probability", "elpd": "elpd (nats)"}
LONGEST = 28   # letters of a run's name; of longer ones the end is shown


@styled
def plot_aggregate(table: Any) -> Figure:
    """Plot many runs: one row per run and model, one panel per score, a dot per region.

    A model may be a baseline or a hypothesis; a score has a panel if any run has it.

    Of means over runs, a line on either side of the dot is their standard deviation.

    Args:
        table: As in :attr:`mrgp.studies.table_of_runs.Aggregate.table`.
    """
    of_regions, of_runs = _panels_of_regions(), _panels_of_runs()
    titles = of_regions | of_runs
    panels = [name for name in titles if name in table and table[name].notna().any()]
    entries = list(dict.fromkeys(zip(table["run"], table["model"], strict=True)))
    shown = [region for region in dict.fromkeys(table["region"]) if region != "all"]
    columns = min(len(panels), 3) or 1
    lines = -(-len(panels) // columns) or 1
    figure = Page(0.8 + lines * (0.7 + 0.24 * len(entries)))
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for ax, name in zip(axes.flat, panels, strict=False):
        for place, (run, model) in enumerate(entries):
            rows = table[(table["run"] == run) & (table["model"] == model)]
            # What is said of a whole run stands in the rows of all its regions.
            whole = name in of_runs
            spread = rows[f"{name}_sd"] if f"{name}_sd" in rows else np.full(len(rows), np.nan)
            for region, value, sd in zip(rows["region"], rows[name], spread, strict=True):
                single = whole or region == "all"
                color = GREY if single else region_color(shown.index(region))
                off = 0.0 if single else 0.4 * ((shown.index(region) + 0.5) / len(shown) - 0.5)
                style = {"fmt": "o", "color": color, "markersize": 5, "elinewidth": 1}
                ax.errorbar(value, place + off, xerr=np.nan_to_num(sd), **style)
        ax.set_title(titles[name], loc="left")
        ax.grid(axis="y", color="0.92")
        ax.tick_params(axis="x", rotation=30)
        ax.locator_params(axis="x", nbins=4)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    names = [_named(run, model, entries) for run, model in entries]
    axes[0, 0].set_yticks(np.arange(len(entries)), names)
    axes[0, 0].set_ylim(len(entries) - 0.5, -0.5)
    handles = [Line2D([], [], marker="o", linestyle="none", color=region_color(r), label=region)
               for r, region in enumerate(shown)]  # fmt: skip
    if handles:
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


def _named(run: str, model: str, entries: list[tuple[str, str]]) -> str:
    """Name the model, with its run where there are several."""
    if not run or len({run for run, _ in entries}) == 1:
        return model
    short = run if len(run) <= LONGEST else f"…{run[-LONGEST:]}"
    return f"{short}: {model}"


def _panels_of_regions() -> dict[str, str]:
    """Columns with a number per region, and their headings."""
    held_out = {metric.name: metric.title for metric in Metric.scored_on(HiddenNeurons)}
    left_out = [metric for metric in Metric.scored_on(HiddenRegion) if metric.region_column]
    return held_out | {f"left_out_{metric.name}": metric.region_column for metric in left_out}


def _panels_of_runs() -> dict[str, str]:
    """Columns with a number of a whole run, and their headings."""
    columns = [column for metric in Metric.scored_on(SimulatedTrials) for column in metric.columns]
    return OF_FITS | {column.name: column.panel for column in columns if column.panel} | OF_COMPARISONS
