"""Figure of a study of communication: effects beside their controls, and delays."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mrgp.parts.communication import SOURCE, TARGET
from mrgp.parts.delays.constant import DELAY
from mrgp.plots.style import GREY, Page, region_color, styled

STANDS_OUT = "stands out"  # outcome of an edge
LOWER, UPPER = f"{DELAY.name}_lower", f"{DELAY.name}_upper"
TICKS = 4  # intervals of the axis of effects, whose numbers may have many digits
MOST = 20  # edges that are drawn, the strongest first


@styled
def plot_communication(study: Any) -> Figure:
    """Plot effects of edges beside their controls, and the delays of those that stand out.

    Left, a dot is the mean effect, its line reaches from the least to the most of the trainings; a grey tick is the
    largest effect of the same edge in a control. Right, delays of edges that stand out, with their 90% intervals.

    Args:
        study: A :class:`mrgp.studies.communication.result.Communication`.
    """
    edges = study.edges.isel(edge=np.argsort(-study.edges["effect"].values)[:MOST])
    figure = Page(1.2 + 0.26 * edges.sizes["edge"])
    out = edges["outcome"].values == STANDS_OUT
    has_delays = bool((edges[UPPER].values[out] > 0).any())
    columns = figure.subplots(1, 1 + has_delays, sharey=True, squeeze=False, width_ratios=(1.4, 1)[: 1 + has_delays])[0]
    left = columns[0]
    places = np.arange(edges.sizes["edge"])
    names = list(dict.fromkeys(study.edges[TARGET].values.tolist()))
    colours = [region_color(names.index(source)) for source in edges[SOURCE].values]
    _lines(left, places, colours, edges, ("effect", "effect_least", "effect_most"), np.ones(len(places), bool), 1.0)
    left.plot(edges["control"], places, linestyle="", marker="|", markersize=11, markeredgewidth=2, color=GREY)
    words = [f"{source} to {target}" for source, target in zip(edges[SOURCE].values, edges[TARGET].values, strict=True)]
    left.set_yticks(places, words)
    left.set(ylim=(len(places) - 0.5, -0.5), xlabel="change of the target in a bin")
    left.set_xlim(left=0)
    left.xaxis.set_major_locator(MaxNLocator(TICKS))
    left.set_title("effect of messages; grey: control", loc="left")
    for right in columns[1:]:
        _lines(right, places, colours, edges, (DELAY.name, LOWER, UPPER), out, 1e3)
        right.set(xlabel="delay beyond one bin (ms)")
        right.set_xlim(left=0)
        right.set_title("delay, where an edge stands out", loc="left")
    return figure


def _lines(
    ax: Axes, places: np.ndarray, colours: list, edges: Any, names: tuple[str, str, str], shown: np.ndarray,
    unit: float,
) -> None:  # fmt: skip
    middle, low, high = (unit * np.asarray(edges[name]) for name in names)
    for place in places[shown]:
        ax.plot([low[place], high[place]], [place, place], color=colours[place], linewidth=2)
        ax.plot(middle[place], place, marker="o", color=colours[place])
