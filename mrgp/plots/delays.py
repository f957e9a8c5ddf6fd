"""Figures of delays: one number per region and latent, or their course during the trial."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mrgp.plots.style import GREY, SMALL, Page, duration, hide, region_color, styled, time_label
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.gaussian_process_fit import GaussianProcessFit

SHORT_NAME = 6   # letters of a region's name up to which three panels of delays fit beside each other


@styled
def plot_delays(
    fit: GaussianProcessFit, truth: Any = None, intervals: bool = True, data: MultiRegionData | None = None
) -> Figure:
    """Draw the delay of every region behind the first, with 90% intervals.

    There is one panel per across latent. Delays that vary are drawn against time. A region that does not read a latent
    (see ``fit.shared_by``) has no delay.

    Args:
        fit: Of a model with delays.
        truth: Delays as the fit has them, (region, across_latent) or (region, across_latent, time), in seconds and in
            the order of the fit's latents, to be marked too.
        intervals: Draw intervals; they are computed from the recording unless the fit has them already.
        data: The recording, where the fit does not hold it.

    Raises:
        ValueError: the model has no delays, or ``truth`` has another shape.
        DataError: intervals are wanted, but there is no recording to compute them from.
    """
    regions, n_latents = list(fit.populations), fit.delays.sizes["across_latent"]
    if not fit.has_delays:
        raise ValueError(f"this {type(fit.model).__name__} has no delays to draw")
    delay = 1e3 * fit.delays.values
    bounds = fit.delay_intervals(0.9, data) if intervals else None
    lower, upper = (delay if bounds is None else 1e3 * bounds[name].values for name in ("lower", "upper"))
    true = delay if truth is None else 1e3 * np.asarray(truth, float)
    if true.shape != delay.shape:
        dims = ", ".join(map(str, fit.delays.dims))
        raise ValueError(f"truth has shape {true.shape}, the delays are ({dims}) {delay.shape}")
    if fit.delays_vary:
        return _courses(fit, delay, None if bounds is None else (lower, upper), None if truth is None else true)
    reads = _readers(fit)
    first, place = regions[0], np.arange(len(regions))
    columns = min(n_latents, 3 if len(first) <= SHORT_NAME else 2)
    rows = -(-n_latents // columns)
    figure = Page(0.5 + rows * (1.1 + 0.45 * len(regions)))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    dot: dict[str, Any] = {"marker": "o", "markersize": 5, "linestyle": "none"}
    mark: dict[str, Any] = {"marker": "^", "markersize": 7, "markerfacecolor": "none", "markeredgecolor": "black"}
    mark["linestyle"] = "none"
    plain = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}   # so that the zero line does not cross numbers
    label: dict[str, Any] = {"textcoords": "offset points", "bbox": plain}
    for k, ax in enumerate(axes.flat[:n_latents]):
        ax.axvline(0, color="0.6", linewidth=1)
        for r in np.flatnonzero(~reads[:, k]).tolist():
            words = "does not read it" if r == 0 or reads[0, k] or not fit.shared_by().values[r, k] else "delay unknown"
            ax.annotate(words, (0, r), ha="center", va="center", color=GREY, fontsize=SMALL, bbox=plain)
        for r in np.flatnonzero(reads[:, k]).tolist():
            color, row = region_color(r), [r, r]
            if bounds is not None and r > 0:
                ax.plot([lower[r, k], upper[r, k]], row, color=color, linewidth=2, marker="|", markersize=9)
            ax.plot(delay[r, k], r, color=color, **dot)
            if r > 0:
                number = f"{delay[r, k]:+.1f}".replace("-", "−")
                ax.annotate(number, (delay[r, k], r), (0, 6), ha="center", fontsize=SMALL, **label)
        if truth is not None:
            ax.plot(true[1:, k][reads[1:, k]], place[1:][reads[1:, k]] + 0.25, **mark)
        ax.set_title(f"across latent {k}\n{duration(fit.timescales['across'][k])}", loc="left")
        ax.set_xlabel(f"delay (ms)\n← leads {first}  |  lags {first} →")
        ax.xaxis.set_tick_params(labelbottom=True)
    hide(axes.flat[n_latents:])
    reach = 1.3 * max(np.nanmax(np.abs(np.stack([lower, upper, delay, true]) * reads)), 1e-3)
    names = [f"{name}\n(reference)" if r == 0 else name for r, name in enumerate(regions)]
    axes[0, 0].set_yticks(place, names)
    axes[0, 0].set(xlim=(-reach, reach), ylim=(len(regions) - 0.5, -0.5))
    handles = axes[0, 0].plot([], [], color=GREY, label="estimate", **dot)
    if bounds is not None:
        handles += axes[0, 0].plot([], [], color=GREY, linewidth=2, label="90% interval")
    if truth is not None:
        handles += axes[0, 0].plot([], [], label="truth", **mark)
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    return figure


def _readers(fit: GaussianProcessFit) -> np.ndarray:
    """True where a region's delay is known, (region, across_latent).

    It is known in regions that read a latent as the first one does.
    """
    if not fit.has_relevance:
        return np.ones(fit.delays.shape[:2], bool)
    reads = fit.shared_by().values
    return reads & reads[0]


def _courses(
    fit: GaussianProcessFit, delay: np.ndarray, bounds: tuple[np.ndarray, np.ndarray] | None, true: np.ndarray | None
) -> Figure:
    """Draw delays in ms, (region, across_latent, time), against time."""
    time, (first, *others) = fit.delays["time"].values, fit.populations
    n_latents = delay.shape[1]
    columns = min(n_latents, 2)
    rows = -(-n_latents // columns)
    figure = Page(0.6 + 2.4 * rows)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for k, ax in enumerate(axes.flat[:n_latents]):
        ax.axhline(0, color=region_color(0), linewidth=1.5)
        for r in range(1, len(others) + 1):
            color = region_color(r)
            if bounds is not None:
                ax.fill_between(time, bounds[0][r, k], bounds[1][r, k], color=color, alpha=0.2, linewidth=0)
            ax.plot(time, delay[r, k], color=color, linewidth=1.8)
            if true is not None:
                ax.plot(time, true[r, k], "--", color=color, linewidth=1.2)
        ax.set_title(f"across latent {k}, {duration(fit.timescales['across'][k])}", loc="left")
        ax.set_xlim(time[0], time[-1])
        ax.xaxis.set_tick_params(labelbottom=True)
        ax.set_xlabel(time_label(fit.layout.event, " in trial"))
    hide(axes.flat[n_latents:])
    for ax in axes[:, 0]:
        ax.set_ylabel(f"delay (ms)\n← leads {first} | lags {first} →")
    handles = [Line2D([], [], color=region_color(0), linewidth=1.5, label=f"{first} (reference)")]
    handles += [Line2D([], [], color=region_color(r + 1), linewidth=1.8, label=name) for r, name in enumerate(others)]
    more: list[Any] = [] if bounds is None else [Patch(color=GREY, alpha=0.2, label="90% interval")]
    more += [] if true is None else [Line2D([], [], color=GREY, linestyle="--", linewidth=1.2, label="truth")]
    figure.legend(handles=handles + more, loc="outside upper right", ncols=min(len(handles + more), 5))
    return figure
