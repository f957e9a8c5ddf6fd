"""Figure of signal flow: arrows from leading to following regions, and a matrix.

The matrix has all latents together.
"""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from mrgp.metrics.flow import DIRECTIONS, flow_matrix
from mrgp.plots.style import GREY, LARGE, SMALL, Page, hide, region_color, styled

THICKEST = 6.0  # points, of an arrow along which all shared variance goes
FAINT = 0.02  # of strength: below it no line is drawn (what Gokcen et al. 2023 count as not read)
COLUMNS = 3  # panels beside each other
OFFSET = 0.5  # of labels from their arrows; regions stand on a circle of radius 1
MOST_LABELS = 3  # pairs of regions whose delays can be written beside their arrows


@styled
def plot_flow(flow: xr.Dataset, most: int = 5) -> Figure:
    """Draw signal flow: a panel of arrows for each strong latent, and the sum over latents.

    The ``most`` strongest latents have panels; the sum is over all latents. An arrow goes from the region that is ahead
    to the one that follows; its width is the latent's strength, the geometric mean of its shares of what latents
    explain in the two. A grey line without a head joins regions that share the latent without a clear direction. The
    matrix adds up the strengths of arrows, from row to column.

    Args:
        flow: From :func:`mrgp.metrics.signal_flow`.
        most: Latents drawn, in their own order.
    """
    total = flow["strength"].sum("pair").values
    chosen = sorted(np.argsort(-total, kind="stable")[:most].tolist())
    panels = len(chosen) + 1
    rows = -(-panels // COLUMNS)
    figure = Page(0.5 + 2.6 * rows)
    axes = figure.subplots(rows, COLUMNS, squeeze=False)
    for ax, k in zip(axes.flat, chosen, strict=False):
        _arrows(ax, flow, k)
    _matrix(axes.flat[len(chosen)], flow_matrix(flow))
    hide(axes.flat[panels:])
    left = flow.sizes["across_latent"] - len(chosen)
    share = flow.attrs["probability"]
    sure = f"directions whose {100 * share:g}% interval excludes 0" if np.isfinite(share) else "signs of the estimates"
    figure.supxlabel(f"arrows: {sure}{f'; {left} weaker latents not drawn' * bool(left)}", fontsize=LARGE)
    return figure


def _arrows(ax: Axes, flow: xr.Dataset, k: int) -> None:
    regions = [str(region) for region in np.atleast_1d(flow.attrs["regions"])]
    angle = np.pi - 2 * np.pi * np.arange(len(regions)) / len(regions)
    place = np.stack([np.cos(angle), np.sin(angle)], 1)
    for p in range(flow.sizes["pair"]):
        cell = flow.isel(pair=p, across_latent=k)
        i, j = regions.index(str(cell["first"].values)), regions.index(str(cell["second"].values))
        strength, direction = float(cell["strength"]), str(cell["direction"].values)
        if direction == DIRECTIONS[3] or strength < FAINT:
            continue
        start, end = (place[j], place[i]) if direction == DIRECTIONS[1] else (place[i], place[j])
        clear = direction in DIRECTIONS[:2]
        width = max(THICKEST * strength, 0.6)
        ax.add_patch(FancyArrowPatch(
            start, end, arrowstyle="-|>" if clear else "-", mutation_scale=8 + 2 * width, linewidth=width,
            color="black" if clear else "0.7", shrinkA=17, shrinkB=17, zorder=1 + clear,
        ))  # fmt: skip
        if flow.sizes["pair"] <= MOST_LABELS:
            low, high = 1e3 * float(cell["lower"]), 1e3 * float(cell["upper"])
            middle = (low + high) / 2
            text = f"{abs(1e3 * float(cell['delay'])) if clear else 1e3 * float(cell['delay']):.1f} ms"
            text += f"\n± {high - middle:.1f}" if high > low else ""
            x, y = _beside(start, end)
            ax.text(x, y, text.replace("-", "−"), ha="center", va="center", fontsize=SMALL,
                    color="black" if clear else GREY, zorder=4)  # fmt: skip
    for r, region in enumerate(regions):
        (x, y), color = place[r], region_color(r)
        box = {"boxstyle": "circle,pad=0.35", "facecolor": "white", "edgecolor": color}
        ax.text(x, y, region, ha="center", va="center", color=color, fontweight="bold", zorder=5, bbox=box)
    ax.set(xlim=(-1.6, 1.6), ylim=(-1.45, 1.45), aspect="equal")
    ax.set_axis_off()
    ax.set_title(f"across latent {k}", loc="left")


def _beside(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Place of a label that stands clear of an arrow.

    It is on the arrow's side away from the middle of the panel, or above it.
    """
    middle = 0.5 * (start + end)
    away = np.linalg.norm(middle)
    return middle + OFFSET * (middle / away if away > 0.1 else np.array([0.0, 0.8]))


def _matrix(ax: Axes, matrix: xr.DataArray) -> None:
    values = 100 * matrix.values
    names = [str(region) for region in matrix["sender"].values]
    shown = np.where(np.eye(len(names), dtype=bool), np.nan, values)
    ax.imshow(shown, cmap="Blues", vmin=0, vmax=max(100.0, values.max()))
    ax.set_facecolor("0.92")
    for i, j in np.argwhere(~np.eye(len(names), dtype=bool)):
        color = "white" if values[i, j] > 55 else "black"
        ax.text(j, i, f"{values[i, j]:.0f}", ha="center", va="center", color=color, fontsize=SMALL)
    ax.set_xticks(range(len(names)), names, rotation=90 if len(names) > 4 else 0)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="follows", ylabel="leads")
    ax.set_title("all latents: strength (%)", loc="left")
