"""Figure of learned dynamics: a plane of the flow with its fixed points, and their modes."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mrgp.metrics.dynamics import STABILITY
from mrgp.plots.style import GREY, PALETTE, Page, styled

TRIALS = 12  # drawn as lines; more hide the flow
MARKERS = dict(zip(STABILITY, ("o", "D", "s"), strict=True))
FILLS = dict(zip(STABILITY, (PALETTE[2], PALETTE[4], PALETTE[1]), strict=True))


@styled
def plot_dynamics(field: xr.Dataset, points: xr.Dataset | None = None) -> Figure:
    """Draw the flow in a plane of states, and the modes of its fixed points.

    Arrows have the direction of the flow in the plane, their colour the speed; lines are trajectories, from a dot on.
    Fixed points are where they are, or where they fall upon the plane. A mode right of the dashed line grows, one left
    of it decays, the faster the farther from it, while it turns with its frequency.

    Args:
        field: From :func:`mrgp.metrics.flow_field`.
        points: From :func:`mrgp.metrics.fixed_points`; None for the flow alone.
    """
    figure = Page(3.4)
    with_modes = points is not None and points.sizes["fixed_point"] > 0
    axes = figure.subplots(1, 2, width_ratios=(1.5, 1)) if with_modes else [figure.subplots()]
    _flow(axes[0], field)
    if points is not None and with_modes:
        placed = (points["place"].values - field["center"].values) @ field["axes"].values.T
        for kind, which in _by_stability(points):
            _mark(axes[0], placed[which], kind)
            modes = np.stack([points["growth"].values[which], points["frequency"].values[which]], -1).reshape(-1, 2)
            _mark(axes[1], modes, kind)
        axes[0].legend(loc="upper right", frameon=True, framealpha=0.8, edgecolor="none", title="fixed points")
        axes[1].axvline(0, color=GREY, linestyle="--", linewidth=1, zorder=0)
        axes[1].set(xlabel="growth (1/s)", ylabel="frequency (Hz)")
        axes[1].set_title("modes of fixed points", loc="left")
        low, high = axes[1].get_ylim()
        axes[1].set_ylim(min(low, -0.05 * high), high)
    return figure


def _flow(ax: Axes, field: xr.Dataset) -> None:
    first, second = field["first"].values, field["second"].values
    velocity, speed = field["velocity"].values, field["speed"].values
    step = (np.ptp(first) / (len(first) - 1), np.ptp(second) / (len(second) - 1))
    length = np.linalg.norm(velocity / step, axis=-1, keepdims=True)  # in cells, so that arrows fit between each other
    arrows = velocity / np.maximum(length, np.finfo(float).tiny)
    drawn = ax.quiver(
        first, second, arrows[..., 0], arrows[..., 1], speed, angles="xy", scale_units="xy", scale=1.25, pivot="mid",
        cmap="viridis_r", width=0.005,
    )  # fmt: skip
    states = field["states"].values
    for trial in np.linspace(0, len(states) - 1, min(TRIALS, len(states))).astype(int):
        ax.plot(*states[trial].T, color=GREY, linewidth=0.8, alpha=0.7)
        ax.plot(*states[trial, 0], ".", color=GREY, markersize=5)
    share = 100 * field["share"].values
    ax.set(xlabel=f"component 1 ({share[0]:.0f}% of variance)", ylabel=f"component 2 ({share[1]:.0f}%)")
    ax.set(xlim=(first[0], first[-1]), ylim=(second[0], second[-1]), aspect="equal")
    ax.set_title("flow of latents", loc="left")
    assert ax.figure is not None
    ax.figure.colorbar(drawn, ax=ax, label="speed (latent units per s)", shrink=0.8)


def _by_stability(points: xr.Dataset) -> list[tuple[str, np.ndarray]]:
    kinds = points["stability"].values
    return [(kind, np.flatnonzero(kinds == kind)) for kind in STABILITY if (kinds == kind).any()]


def _mark(ax: Axes, places: np.ndarray, kind: str) -> None:
    look = {"marker": MARKERS[kind], "color": FILLS[kind], "edgecolors": "black"}
    ax.scatter(places[:, 0], places[:, 1], 64, zorder=5, label=kind, **look)  # type: ignore[arg-type]
