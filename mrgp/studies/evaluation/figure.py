"""Figures of an evaluation: scores with those of baselines, and PSTHs of held-out neurons."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrgp.metrics.metric import Metric
from mrgp.plots.style import GREY, LARGE, PALETTE, SMALL, Page, event_of, hide, styled, time_label, tint
from mrgp.studies.evaluation.report import scored, scored_of_regions

MOST_NUMBERS = 16  # bars of a panel that can be numbered
CLIPPED = 0.005  # share of a heat map's cells allowed to saturate, so that one neuron does not pale all others


@styled
def plot_scores(cosmoothing: xr.Dataset, left_out: xr.Dataset | None = None) -> Figure:
    """Plot scores of held-out neurons and of regions left out, with those of the baselines.

    Model and baselines stand beside each other in every region.

    Args:
        cosmoothing: (predictor, region), as in :attr:`mrgp.Evaluation.cosmoothing`; the model is first.
        left_out: The same of regions left out.
    """
    methods = [str(method) for method in cosmoothing["predictor"].values]
    panels = [_panel(metric, cosmoothing, _heading(metric)) for metric in scored(cosmoothing)]
    if left_out is not None:
        shown = [metric for metric in scored_of_regions(left_out) if metric.region_panel]
        panels += [_panel(metric, left_out, metric.region_panel) for metric in shown]
    rows = -(-len(panels) // 2)
    figure = Page(0.6 + 2.2 * rows)
    axes = figure.subplots(rows, 2, squeeze=False)
    for ax, (table, title) in zip(axes.flat, panels, strict=False):
        _bars(ax, table.transpose("predictor", "region"))
        ax.set_title(title, loc="left")
    hide(axes.flat[len(panels) :])
    handles, _ = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, methods, loc="outside upper center", ncols=len(methods))
    return figure


def _heading(metric: Metric) -> str:
    unit = "" if metric.unit == "1" else f" ({metric.unit})"
    first = metric.panel or f"{metric.title}{unit}"
    return first if metric.above_baseline else f"{first}\n{'less' if metric.less_is_better else 'more'} is better"


def _panel(metric: Metric, scores: xr.Dataset, heading: str) -> tuple[xr.DataArray, str]:
    """Numbers of a panel, and its heading.

    Of some metrics it shows what they have above the first baseline.
    """
    table = scores[metric.name]
    if not metric.above_baseline:
        return table, heading
    first = table.isel(predictor=1, drop=True)
    return table - first, f"{heading}\nabove the {scores['predictor'].values[1]}"


def _bars(ax: Axes, table: xr.DataArray) -> None:
    """Draw one group of bars per region; the model's bars are in colour."""
    count, values = table.sizes["predictor"], table.values
    width = 0.8 / count
    for m in range(count):
        color = PALETTE[0] if m == 0 else tint(PALETTE[6], 0.45 + 0.4 * (m - 1) / max(count - 2, 1))
        place = np.arange(values.shape[1]) + (m - (count - 1) / 2) * width
        ax.bar(place, np.nan_to_num(values[m]), 0.92 * width, color=color, label=str(table["predictor"].values[m]))
        for x, value in zip(place, values[m], strict=True):
            if np.isfinite(value) and values.size <= MOST_NUMBERS:
                text = f"{value:.{2 if abs(value) >= 1 else 3}f}".replace("-", "−")
                ax.annotate(text, (x, max(value, 0.0)), (0, 3), textcoords="offset points", fontsize=SMALL,
                            ha="center", va="bottom", rotation=90)  # fmt: skip
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_xticks(range(values.shape[1]), [str(region) for region in table["region"].values])
    low, high = min(0.0, np.nanmin(values)), max(0.0, np.nanmax(values))
    room = 0.5 * max(high - low, 1e-12)  # for the numbers
    ax.set_ylim(1.1 * low, high + room)


@styled
def plot_held_out(psths: xr.Dataset) -> Figure:
    """Plot PSTHs of held-out neurons as recorded and as predicted from all others.

    There is one row of heat maps per region.

    Each neuron's mean over time, as recorded, is taken off every map; neurons are ordered by the time of their peak.

    Args:
        psths: As in :attr:`mrgp.studies.evaluation.evaluate.Evaluation.psths`.
    """
    sources = [str(source) for source in psths["source"].values]
    regions = [str(region) for region in psths.data_vars]
    counts = [psths[region].shape[1] for region in regions]
    figure = Page(0.8 + sum(max(1.1, 0.11 * count) + 0.45 for count in counts))
    axes = figure.subplots(len(regions), len(sources), squeeze=False, sharex=True,
                           height_ratios=[max(1.1, 0.11 * count) for count in counts])  # fmt: skip
    tables = {}
    for region in regions:
        values = psths[region].transpose("source", ..., "time").values
        centered = values - np.nanmean(values[0], axis=1)[:, None]
        order = np.argsort(np.nan_to_num(centered[0], nan=-np.inf).argmax(1), kind="stable")
        tables[region] = centered[:, order]
    sizes = np.abs(np.concatenate([table[0].ravel() for table in tables.values()]))
    limit = max(float(np.nanquantile(sizes, 1 - CLIPPED)), 1e-12)
    time = psths["time"].values
    width = time[1] - time[0] if len(time) > 1 else 1.0
    for r, region in enumerate(regions):
        for s, source in enumerate(sources):
            ax, table = axes[r, s], tables[region][s]
            extent = (time[0], time[-1] + width, len(table) - 0.5, -0.5)
            image = ax.imshow(table, aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-limit, vmax=limit,
                              extent=extent)  # fmt: skip
            ax.spines[:].set_visible(True)
            ax.set_yticks([])
            if r == 0:
                ax.set_title("recorded" if source == "data" else source)
        axes[r, 0].set_ylabel(f"{region}\n{counts[r]} neurons")
    figure.supxlabel(time_label(event_of(psths)), fontsize=LARGE)
    bar = figure.colorbar(image, ax=axes, pad=0.02, extend="both")
    bar.set_label("PSTH − its mean (data units)")
    return figure
