"""Figures of communication: who moves whom, and messages over time."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from mrgp.parts.communication import SOURCE, TARGET
from mrgp.plots.style import BAND, GREY, PALETTE, Page, event_of, region_color, styled, time_label

FAINT = 0.1  # of the strongest edge, below which a graph draws none
THICKEST = 5.0  # points
MOST = 12  # edges of which messages are drawn, the strongest first


@styled
def plot_effectome(effectome: xr.DataArray) -> Figure:
    """Draw who moves whom as a matrix, and as a graph.

    A cell says how far the messages of its row's region move the neurons of its column's in a bin. An arrow is as thick
    as the cell is high; edges of less than a tenth of the strongest are left out.

    Args:
        effectome: (source, target), from ``fit.effectome()``.
    """
    figure = Page(3.4)
    matrix, graph = figure.subplots(1, 2, width_ratios=(1.2, 1))
    values, names = effectome.to_numpy(), [str(name) for name in effectome["source"].values]
    shown = np.where(np.eye(len(names), dtype=bool), np.nan, values)
    drawn = matrix.imshow(shown, cmap="Blues", vmin=0)
    top = np.nanmax(shown) if len(names) > 1 else 1.0
    if len(names) <= 8:
        for (row, column), value in np.ndenumerate(shown):
            if np.isfinite(value):
                colour = "white" if value > 0.6 * top else "black"
                matrix.text(column, row, f"{value:.2g}", ha="center", va="center", color=colour, fontsize="small")
    matrix.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 4 else 0)
    matrix.set_yticks(range(len(names)), names)
    matrix.set(xlabel="target", ylabel="source")
    matrix.set_title("who moves whom", loc="left")
    figure.colorbar(drawn, ax=matrix, label="change of neurons in a bin", shrink=0.8)
    _graph(graph, values, names, top)
    return figure


@styled
def plot_messages(messages: xr.Dataset, trial: int = 0, routing: xr.Dataset | None = None) -> Figure:
    """Draw the messages of a trial, an edge a row, strongest first.

    Lines are posterior means, bands two sds on either side; with ``routing`` a grey line says how far the edge is open.

    Args:
        messages: From ``fit.messages()``.
        trial: By position.
        routing: From ``fit.routing()``.
    """
    mean, sd = (messages[name].isel(trial=trial).to_numpy() for name in ("mean", "sd"))
    spread = np.linalg.norm(mean - mean.mean(0), axis=-1).mean(0)
    order = np.argsort(-spread)[:MOST]
    figure = Page(0.9 * len(order) + 0.8)
    rows = figure.subplots(len(order), 1, sharex=True, squeeze=False)[:, 0]
    time = messages["time"].to_numpy()
    for ax, edge in zip(rows, order, strict=True):
        for number in range(mean.shape[-1]):
            low, high = (mean[:, edge, number] + way * BAND * sd[:, edge, number] for way in (-1, 1))
            colour = PALETTE[number % len(PALETTE)]
            ax.fill_between(time, low, high, color=colour, alpha=0.25, linewidth=0)
            ax.plot(time, mean[:, edge, number], color=colour, linewidth=1.2)
        source, target = (str(messages[name].values[edge]) for name in (SOURCE, TARGET))
        ax.set_ylabel(f"{source} to\n{target}", rotation=0, ha="right", va="center")
        if routing is not None:
            other = ax.twinx()
            other.plot(time, routing["mean"].isel(trial=trial, edge=int(edge)), color=GREY, linestyle="--", linewidth=1)
            other.set(ylim=(-0.05, 1.05), yticks=(0, 1))
            other.spines["right"].set_visible(True)
    rows[-1].set_xlabel(time_label(event_of(messages)))
    open_too = "" if routing is None else "; dashed, right: how far open"
    rows[0].set_title(f"messages of trial {trial}, a colour for each number{open_too}", loc="left")
    return figure


def _graph(ax: Axes, values: np.ndarray, names: list[str], top: float) -> None:
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / len(names)
    places = np.stack([np.cos(angles), np.sin(angles)], -1)
    for (source, target), value in np.ndenumerate(values):
        if source == target or value < FAINT * top:
            continue
        arrow = FancyArrowPatch(
            tuple(places[source]), tuple(places[target]), connectionstyle="arc3,rad=0.15", arrowstyle="-|>",
            shrinkA=24, shrinkB=24, mutation_scale=14, linewidth=max(0.8, THICKEST * value / top),
            color=region_color(source), zorder=1,
        )  # fmt: skip
        ax.add_patch(arrow)
    for region, (name, (x, y)) in enumerate(zip(names, places.tolist(), strict=True)):
        ax.scatter(x, y, 700, color=region_color(region), zorder=2)
        ax.text(x, y, name, ha="center", va="center", color="white", fontsize="small", zorder=3)
    ax.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")
    ax.set_axis_off()
    ax.set_title("as a graph", loc="left")
