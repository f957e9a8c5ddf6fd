"""Style of all figures: sizes that stay readable at half size, and one colour per region.

The colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

WIDTH = 7.5   # inches, the text width of a page
DPI = 150
BAND = 2   # standard deviations either way, wherever a band is drawn
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
GREY = "0.35"
LARGE, SMALL = 10, 9   # points

styled = rc_context(
    {
        "font.size": LARGE,
        "axes.titlesize": LARGE,
        "axes.labelsize": LARGE,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "white",
        "axes.facecolor": "white",
    }
)
"""Decorates a function that draws: it draws in this style, and leaves the caller's settings as they were."""


class Page(Figure):
    """Figure that notebooks show, although pyplot does not know of it."""

    def __init__(self, height: float) -> None:
        super().__init__((WIDTH, height), layout="constrained")

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def region_color(index: int) -> str:
    """The colour of region ``index`` in every figure."""
    return PALETTE[index % len(PALETTE)]


def tint(color: str, share: float) -> tuple[float, float, float]:
    """``color`` mixed with a share of white."""
    red, green, blue = (1 - share) * np.array(to_rgb(color)) + share
    return float(red), float(green), float(blue)


def hide(axes: Iterable[Axes]) -> None:
    """Hide these axes, so that their places in a grid stay empty."""
    for ax in axes:
        ax.set_visible(False)


def time_label(event: str, where: str = "") -> str:
    """Label of an axis of time, measured from the event that trials are aligned to; "" for none."""
    return f"time{f' from {event}' * bool(event)}{where} (s)"


def event_of(table: xr.Dataset) -> str:
    """Event that the times of a table are measured from; "" for none."""
    return str(table["time"].attrs.get("event", ""))


def duration(timescale: Any) -> str:
    """Put a latent's timescale (seconds) into words.

    One that remembers nothing is "white", one that never settles "grows".
    """
    if np.isinf(timescale):
        return "grows"
    return f"timescale {1e3 * float(timescale):.0f} ms" if timescale > 0 else "white"
