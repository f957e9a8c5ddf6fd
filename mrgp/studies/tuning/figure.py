"""Figure of a search for settings: scores over the values of each."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mrgp.plots.style import GREY, PALETTE, Page, styled


@styled
def plot_tuning(result: Any) -> Figure:
    """Plot the score of every fit over the values of each setting that was tried.

    Args:
        result: A :class:`mrgp.Tuning`.
    """
    table, names = result.table, result.names
    figure = Page(2.6)
    axes = np.ravel(figure.subplots(1, len(names), sharey=True, squeeze=False))
    for ax, name in zip(axes, names, strict=True):
        values = list(dict.fromkeys(table[name].map(str)))
        if table[name].dtype.kind in "if":
            values = [str(value) for value in sorted(set(table[name]))]
        place = table[name].map(str).map(values.index)
        ax.plot(place, table["score"], "o", color=GREY, markersize=4)
        ax.plot(place.iloc[:1], table["score"].iloc[:1], "o", color=PALETTE[1], markersize=7, label="best")
        ax.set_xticks(range(len(values)), values)
        ax.set(xlabel=name, xlim=(-0.5, len(values) - 0.5))
    axes[0].set_ylabel("score (nats per held-out trial)")
    axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return figure
