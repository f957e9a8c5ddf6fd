"""Figures of switching dynamics: states over time, the flow in each, and populations found."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mrgp.plots.style import GREY, PALETTE, Page, event_of, hide, region_color, styled, time_label, tint

COLUMNS = 3  # panels beside each other
PALE = 0.3  # of colours of states
MOST = 200  # trials of a raster


def state_color(state: int) -> str:
    """The colour of a state in every figure."""
    return PALETTE[state % len(PALETTE)]


@styled
def plot_states(states: xr.Dataset, trial: int = 0) -> Figure:
    """Draw the likeliest states of all trials, and the probabilities of one trial over time.

    Args:
        states: From ``fit.states()``.
        trial: By position, of which probabilities are drawn.
    """
    path, probability = states["most_likely"].to_numpy()[:MOST], states["probability"].isel(trial=trial).to_numpy()
    time, n_states = states["time"].to_numpy(), states.sizes["state"]
    several = len(path) > 1
    figure = Page(1.8 + (2.2 if several else 0.6))
    raster, course = figure.subplots(2, 1, sharex=True, height_ratios=(2.2 if several else 0.4, 1.4))
    colours = ListedColormap([tint(state_color(k), PALE) for k in range(n_states)])
    width = np.diff(time).min() if len(time) > 1 else 1.0
    extent = (time[0], time[-1] + width, len(path) - 0.5, -0.5)
    shown = np.ma.masked_less(path, 0)
    raster.imshow(shown, colours, aspect="auto", vmin=-0.5, vmax=n_states - 0.5, extent=extent, interpolation="nearest")
    raster.set_title("likeliest states", loc="left")
    if several:
        raster.set_ylabel("trial")
    else:
        raster.set_yticks([])
    inside = np.isfinite(probability[:, 0])
    below = np.zeros(inside.sum())
    for state in range(n_states):
        above = below + probability[inside, state]
        course.fill_between(
            time[inside], below, above, color=tint(state_color(state), PALE), linewidth=0, label=f"state {state}"
        )
        below = above
    course.set(xlabel=time_label(event_of(states)), ylabel="probability", ylim=(0, 1), xlim=(time[0], time[-1] + width))
    course.set_title(f"trial {trial}", loc="left")
    figure.legend(*course.get_legend_handles_labels(), loc="outside upper right", ncols=min(n_states, 6))
    return figure


@styled
def plot_clusters(clusters: xr.Dataset) -> Figure:
    """Draw the probabilities of the populations of all neurons, sorted by the likeliest.

    Populations that hardly any neuron belongs to stay as empty rows. Below, the region that each neuron was recorded
    in, where there are several.

    Args:
        clusters: From ``fit.clusters()``.
    """
    probability, own = clusters["probability"].to_numpy(), clusters["most_likely"].to_numpy()
    regions, of_neuron = np.unique(clusters["region"].to_numpy(), return_inverse=True)
    order = np.lexsort((-probability.max(1), own))
    n_populations, several = probability.shape[1], len(regions) > 1
    figure = Page(1.3 + 0.24 * n_populations + 0.45 * several)
    axes = figure.subplots(1 + several, 1, sharex=True, squeeze=False, height_ratios=(n_populations, 1)[: 1 + several])
    table = axes[0, 0]
    shown = table.imshow(probability[order].T, "Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    pairs = zip(clusters["population"].to_numpy(), 100 * clusters["share"].to_numpy(), strict=True)
    table.set_yticks(range(n_populations), [f"{name} ({share:.0f}%)" for name, share in pairs])
    for last in np.flatnonzero(np.diff(own[order])):
        table.axvline(last + 0.5, color=GREY, linewidth=0.8)
    figure.colorbar(shown, ax=list(axes[:, 0]), label="probability")
    if several:
        colours = ListedColormap([region_color(number) for number in range(len(regions))])
        strip = axes[1, 0]
        strip.imshow(of_neuron[order][None], colours, vmin=-0.5, vmax=len(regions) - 0.5, aspect="auto",
                     interpolation="nearest")  # fmt: skip
        strip.set_yticks([0], ["region"])
        patches = [Patch(color=region_color(number), label=name) for number, name in enumerate(regions)]
        figure.legend(handles=patches, loc="outside upper right", ncols=min(len(regions), 6))
    axes[-1, 0].set_xlabel("neuron, sorted by population")
    return figure


@styled
def plot_state_flows(flows: xr.Dataset) -> Figure:
    """Draw the flow of latents in each state, with the latents of the bins in that state.

    Args:
        flows: From :func:`mrgp.metrics.state_flows`.
    """
    n_states = flows.sizes["state"]
    rows = -(-n_states // COLUMNS)
    figure = Page(0.4 + 2.6 * rows)
    axes = figure.subplots(rows, min(COLUMNS, n_states), squeeze=False, sharex=True, sharey=True)
    share = 100 * flows["share"].to_numpy()
    for state, ax in zip(range(n_states), axes.flat, strict=False):
        _flow(ax, flows, state)
        ax.set_title(f"state {state}", loc="left")
    for ax in axes[-1]:
        ax.set_xlabel(f"component 1 ({share[0]:.0f}%)")
    for ax in axes[:, 0]:
        ax.set_ylabel(f"component 2 ({share[1]:.0f}%)")
    hide(axes.flat[n_states:])
    return figure


def _flow(ax: Axes, flows: xr.Dataset, state: int) -> None:
    first, second = flows["first"].to_numpy(), flows["second"].to_numpy()
    velocity = flows["velocity"].isel(state=state).to_numpy()
    there = flows["most_likely"].to_numpy() == state
    places = flows["latents"].to_numpy()[there]
    ax.plot(places[:, 0], places[:, 1], ".", color=tint(state_color(state), PALE), markersize=2, zorder=0)
    ax.quiver(first, second, velocity[..., 0], velocity[..., 1], angles="xy", color=GREY, width=0.006, zorder=1)
    ax.set(xlim=(first[0], first[-1]), ylim=(second[0], second[-1]))
