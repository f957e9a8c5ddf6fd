"""Figure of a calibration: ranks, their ECDF, and the coverage of intervals.

Each is shown with its range under chance alone.
"""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from mrgp.plots.style import GREY, Page, region_color, styled, tint
from mrgp.studies.calibration.rank_tests import SIMULTANEOUS, ecdf_band, ecdf_difference, rank_bins

CHANCE = 0.99   # of one bar of the histogram to be inside its band
BAND = "0.87"   # grey of what chance allows


def counted_in(results: xr.Dataset) -> str:
    """Word for the simulations of a calibration: fits, or trials of one fit."""
    return str(results.attrs.get("counted", "fits"))


@styled
def plot_calibration(results: xr.Dataset) -> Figure:
    """Plot ranks, their ECDF and coverage, one row per kind of quantity.

    Kinds are delays, timescales of across latents and of within latents; all quantities of a kind are taken together.

    Left, the histogram of ranks with the band that holds 99% of the bars of a calibrated posterior. Middle, the ECDF of
    the ranks less that of uniform ones, with the band that holds all of it with 95%. Right, the share of central
    intervals that hold the truth less their probability, with two binomial standard errors either way.

    Args:
        results: As in :attr:`mrgp.studies.calibration.calibrate.Calibration.results`.
    """
    kept = results.isel(simulation=np.isfinite(results["rank"].values).all(1))
    kinds = list(dict.fromkeys(results["kind"].values.tolist()))
    highest = int(results.attrs["draws"])
    figure = Page(0.6 + 2.3 * len(kinds))
    axes = figure.subplots(len(kinds), 3, squeeze=False, sharex="col")
    for row, kind in enumerate(kinds):
        part, color = kept.isel(quantity=kept["kind"].values == kind), region_color(row)
        ranks = part["rank"].values.ravel().astype(int)
        _histogram(axes[row, 0], ranks, highest, color)
        _ecdf(axes[row, 1], ranks, highest, color)
        _coverage(axes[row, 2], part["inside"], color)
        count = part.sizes["quantity"]
        each = "" if count == 1 else f"{count} × "
        title = f"{kind}: {each}{part.sizes['simulation']} {counted_in(results)}"
        axes[row, 0].set_title(title, loc="left", fontweight="bold")
    axes[0, 1].set_title("ECDF of ranks − uniform", loc="left")
    axes[0, 2].set_title("coverage − nominal", loc="left")
    for ax in axes[-1, :2]:
        ax.set_xlabel(f"rank of the truth\namong {highest} draws")
    axes[-1, 2].set_xlabel("probability\nof the interval (%)")
    for ax in axes[0]:
        bottom, top = ax.get_ylim()
        ax.set_ylim(bottom, top + 0.2 * (top - bottom))   # room for the legend
        ax.legend(loc="upper right", handlelength=1.2, borderpad=0.1)
    return figure


def _histogram(ax: Axes, ranks: np.ndarray, highest: int, color: str) -> None:
    edges = rank_bins(len(ranks), highest)
    counts, _ = np.histogram(ranks, edges - 0.5)
    share = np.diff(edges) / (highest + 1)
    lower, upper = (binom.ppf(tail, len(ranks), share) for tail in (0.5 - CHANCE / 2, 0.5 + CHANCE / 2))
    ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=tint(color, 0.35), edgecolor="white", linewidth=0.5)
    label = f"{100 * CHANCE:g}% of bars"
    shade: dict[str, Any] = {"color": "black", "alpha": 0.13, "linewidth": 0}
    ax.stairs(upper, edges, baseline=lower, fill=True, label=label, **shade)   # over the bars, and seen through
    ax.stairs(len(ranks) * share, edges, color=GREY, linewidth=1)
    ax.set(xlim=(0, highest + 1), ylim=(0, 1.15 * max(counts.max(), upper.max())), ylabel="truths")


def _ecdf(ax: Axes, ranks: np.ndarray, highest: int, color: str) -> None:
    places = np.arange(highest)
    lower, upper = ecdf_band(len(ranks), highest)
    difference = ecdf_difference(ranks, highest)
    label = f"{100 * SIMULTANEOUS:g}%, all along"
    ax.fill_between(places, lower, upper, step="post", color=BAND, linewidth=0, label=label)
    ax.axhline(0, color=GREY, linewidth=1)
    ax.plot(places, difference, color=color, linewidth=1.5, drawstyle="steps-post")
    limit = max(np.abs(difference).max(), upper.max(), -lower.min())
    ax.set(ylim=(-1.15 * limit, 1.15 * limit), ylabel="difference")


def _coverage(ax: Axes, inside: xr.DataArray, color: str) -> None:
    nominal = inside["probability"].values
    found = inside.mean(("simulation", "quantity")).values
    error = np.sqrt(nominal * (1 - nominal) / (inside.sizes["simulation"] * inside.sizes["quantity"]))
    place, off = np.arange(len(nominal)), 100 * (found - nominal)
    ax.axhline(0, color=GREY, linewidth=1)
    ax.errorbar(
        place, off, 200 * error, color=color, linestyle="none", marker="o", markersize=5, capsize=3, label="±2 errors"
    )
    limit = float(np.max(np.abs(off) + 200 * error))
    ax.set(xlim=(-0.6, len(nominal) - 0.4), ylim=(-1.15 * limit, 1.15 * limit), ylabel="difference (%)")
    ax.set_xticks(place, [f"{100 * p:g}" for p in nominal])
