"""Figure of a cross-validation: scores of candidates on unseen trials, and the choice."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mrgp.plots.style import DASHES, PALETTE, Page, styled
from mrgp.studies.cross_validation.candidate import KINDS, LATENTS, in_words

CLOSE_UP = 8.0  # standard errors below the best that the second panel shows, about
MOST_NAMED = 8  # lines that a legend can tell apart


@styled
def plot_cross_validation(found: Any) -> Figure:
    """Plot held-out log-likelihood below the best, against what was tried.

    That is the number of across latents, or another setting. Candidates that differ in a second setting are lines of
    their own. The best is that of the best candidate.

    Bars are one standard error of the paired difference to the best; a candidate whose bar reaches 0 is as good. Left,
    all candidates; right, those near the best. Below, after a search, the same of factor analysis in every region.

    Args:
        found: A :class:`mrgp.CrossValidation`.
    """
    regions = list(found.dimensions.items())
    figure = Page(3.6 + (2.5 if regions else 0.0))
    grid = figure.add_gridspec(2 if regions else 1, 1, height_ratios=[3.3, 2.5] if regions else None)
    top = grid[0].subgridspec(1, 2)
    axes = [figure.add_subplot(top[0, place]) for place in range(2)]
    for ax in axes:
        _draw(ax, found, "latents across regions")
    axes[0].set_ylabel(f"{_score_of(found)}\nbehind the best (nats per trial)")
    axes[0].set_title(f"best: {found.best}, {float(found.table['mean'].max()):.1f} nats per trial", loc="left")
    axes[1].set_title(f"near the best; chosen: {found.chosen}", loc="left")
    axes[1].set_ylim(*_close_up(found.table))
    handles, names = axes[0].get_legend_handles_labels()
    handles = handles if 1 < len(handles) <= MOST_NAMED or (names and names[0]) else []
    mark: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "linewidth": 0}
    handles.append(Line2D([], [], label="chosen: smallest within one standard error", color="black", **mark))
    if not (valid := found.table["valid"].values).all():
        handles.append(Line2D([], [], linewidth=0, label=f"failed: {', '.join(found.table.candidate.values[~valid])}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    if regions:
        row = grid[1].subgridspec(1, len(regions))
        for place, (region, own) in enumerate(regions):
            ax = figure.add_subplot(row[0, place])
            _draw(ax, own, "factors")
            ax.set_ylabel("behind the best\n(nats per trial)" if place == 0 else "")
            ax.set_title(f"{region} alone, factor analysis: {own.chosen}", loc="left")
    return figure


def _draw(ax: Axes, found: Any, label: str) -> None:
    """Draw one line per series of candidates, and mark the chosen one."""
    table, axis = found.table, _axis(found)
    if axis == LATENTS[0]:
        place = table[axis].values
        names, series = [str(number) for number in np.unique(place)], _series(found)
    else:
        values = [dict(one.settings)[axis] for one in found.candidates]
        ways = sorted(set(values), key=_in_order)
        place, names = np.array([ways.index(value) for value in values]), [in_words(way) for way in ways]
        regions = f" ({'/'.join(table.region.values)})" if isinstance(values[0], tuple) and axis in KINDS else ""
        label, series = f"{KINDS.get(axis, axis)}{regions}", _others(found, {axis})
    ax.axhline(0, color="0.6", linewidth=1)
    ax.set_xticks(np.unique(place), names)
    ax.set_xlabel(label)
    for number, (name, members) in enumerate(series.items()):
        own = members & table["valid"].values
        order = np.flatnonzero(own)[np.argsort(place[own])]
        shift = 0.06 * (number - 0.5 * (len(series) - 1))
        behind, error = (table[part].values[order] for part in ("difference", "difference_se"))
        color, dash = PALETTE[number % len(PALETTE)], DASHES[number // len(PALETTE) % len(DASHES)]
        ax.errorbar(place[order] + shift, behind, error, color=color, linestyle=dash, marker="o", markersize=4,
                    capsize=3, linewidth=1.2, label=name)  # fmt: skip
        chosen = table.candidate.values[order] == str(found.chosen)
        ax.plot(place[order][chosen] + shift, behind[chosen], "o", markersize=11, markerfacecolor="none",
                markeredgecolor="black", label="_chosen")  # fmt: skip


def _close_up(table: Any) -> tuple[float, float]:
    """Find limits of an axis that show the candidates near the best."""
    valid = table["valid"].values
    behind, error = -table["difference"].values[valid], table["difference_se"].values[valid]
    typical = float(np.median(error[error > 0])) if (error > 0).any() else 1.0
    second = float(np.sort(behind)[:2].max())
    deepest = max(float(np.max((behind + error)[behind <= max(CLOSE_UP * typical, second)])), 2 * typical)
    return -1.15 * deepest, 0.35 * deepest


def _varied(found: Any) -> dict[str, int]:
    """Settings that differ among candidates, and how many values each takes."""
    counts = {name: len({dict(one.settings)[name] for one in found.candidates}) for name, _ in found.best.settings}
    return {name: count for name, count in counts.items() if count > 1}


def _axis(found: Any) -> str:
    """Name the setting along which candidates are drawn: a number, if one differs."""
    own, varied = dict(found.best.settings), _varied(found)
    if LATENTS[0] in varied or not varied:
        return LATENTS[0] if LATENTS[0] in own else next(iter(own))
    return max(varied, key=lambda name: (isinstance(own[name], int | float), varied[name]))


def _in_order(value: Any) -> tuple[Any, ...]:
    """Key by which values of a setting are put in order: numbers by size, else by text."""
    numbers = value if isinstance(value, tuple) else (value,)
    if all(isinstance(number, int | float) for number in numbers):
        return 0, sum(numbers), numbers
    return 1, len(numbers), in_words(value)


def _others(found: Any, left_out: set[str]) -> dict[str, np.ndarray]:
    """Group candidates into series that are equal in all settings but some."""
    names = [name for name in _varied(found) if name not in left_out]
    words = [", ".join(f"{KINDS.get(name, name)} {in_words(dict(one.settings)[name])}" for name in names)
             for one in found.candidates]  # fmt: skip
    return {word: np.array([word == other for other in words]) for word in dict.fromkeys(words)}


def _score_of(found: Any) -> str:
    """Words for what is drawn."""
    return "held-out log-likelihood" if found.scored == "log p" else f"held-out {found.scored}"


def _series(found: Any) -> dict[str, np.ndarray]:
    """Group candidates into series that differ in the number of across latents only.

    A series has the same private latents, or the same number of latents that each region reads, whichever gives fewer
    lines.
    """
    table = found.table
    if not _varied(found).keys() <= set(LATENTS) or table[LATENTS[1]].ndim == 1:
        return _others(found, {LATENTS[0]})
    within, across = table["n_within"].values, table["n_across"].values
    if not within.any():
        return {"": np.ones(len(across), bool)}
    kinds = []
    for words, counts in (("private", within), ("read in all", within + across[:, None])):
        rows = [tuple(row) for row in counts.tolist()]
        ways = {row: np.array([other == row for other in rows]) for row in sorted(set(rows))}
        kinds.append({_named(words, row, table.region.values): members for row, members in ways.items()})
    return min(kinds, key=len)


def _named(words: str, counts: tuple[int, ...], regions: np.ndarray) -> str:
    if len(set(counts)) == 1:
        return f"{counts[0]} {words}"
    return f"{', '.join(f'{region} {n}' for n, region in zip(counts, regions, strict=True))} {words}"
