"""All figures of a fit, as files."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mrgp.metrics.dynamics import fixed_points, flow_field
from mrgp.metrics.switching import state_flows
from mrgp.plots.communication import plot_effectome
from mrgp.plots.delays import plot_delays
from mrgp.plots.dynamics import plot_dynamics
from mrgp.plots.parameters import plot_convergence, plot_loadings, plot_shared_variance
from mrgp.plots.signals import plot_latents, plot_reconstruction
from mrgp.plots.style import DPI
from mrgp.plots.switching import plot_clusters, plot_state_flows, plot_states
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.coupled_fit import of_coupled
from mrgp.results.fit import Fit, of_processes
from mrgp.results.switching_fit import of_switching
from mrgp.runtime.files import write_atomically


def save_figures(
    fit: Fit,
    folder: str | Path,
    data: MultiRegionData | None = None,
    truth: Any = None,
    intervals: bool = True,
) -> list[Path]:
    """Write the figures of a fit into ``folder`` as PNG, and return their paths.

    Each is replaced whole. They are ``convergence``, unless the fit is of draws; ``loadings``; ``delays`` if the model
    has any; ``shared_variance`` if it finds out which regions read which latent; ``effectome`` if they drive each
    other; ``latents``, if they are Gaussian processes, and ``reconstruction`` if there is a recording, which is
    ``data`` or the fit's own; then ``dynamics`` too if the model learns them, of two states or more, and ``states`` and
    ``state_flows`` if dynamics switch, and ``clusters`` if populations were found.

    Args:
        fit: Of any model.
        folder: Must exist.
        data: The recording, where the fit does not hold it.
        truth: Delays in seconds, as the fit has them, to be marked.
        intervals: Draw the delays with 90% intervals.
    """
    figures = figures_of(fit, data, truth, intervals)
    save_all(figures, folder)
    return [Path(folder) / f"{name}.png" for name in figures]


def figures_of(
    fit: Fit, data: MultiRegionData | None = None, truth: Any = None, intervals: bool = True
) -> dict[str, Figure]:
    """Draw the figures of a fit, by name; see :func:`save_figures`."""
    figures = {"convergence": plot_convergence(fit)} if fit.climbs.rises else {}  # draws climb nothing
    has_data = data is not None or fit.data is not None
    if of_processes(fit):
        figures["loadings"] = plot_loadings(fit)
        if fit.has_delays:
            figures["delays"] = plot_delays(fit, truth, intervals, data)
        if fit.has_relevance:
            figures["shared_variance"] = plot_shared_variance(fit)
        if of_coupled(fit) and fit.effectome().any():
            figures["effectome"] = plot_effectome(fit.effectome())
        if has_data:
            figures["latents"] = plot_latents(fit, data=data)
    if has_data:
        figures["reconstruction"] = plot_reconstruction(fit, data)
    if has_data and fit.model.has_dynamics and fit.model.learned_dynamics(fit.layout, fit.sites).n_states > 1:
        figures["dynamics"] = plot_dynamics(flow_field(fit, data), fixed_points(fit, data))
    if has_data and of_switching(fit):
        figures["states"] = plot_states(fit.states(data))
        if not fit.knows_populations:
            figures["clusters"] = plot_clusters(fit.clusters())
        if sum(fit.assignment.n_within) > 1:
            figures["state_flows"] = plot_state_flows(state_flows(fit, data))
    return figures


def save_all(figures: Mapping[str, Figure], folder: str | Path) -> None:
    """Write figures as PNG into a folder, each under its name and replaced whole."""
    for name, figure in figures.items():
        save_figure(figure, Path(folder) / f"{name}.png")


def save_figure(figure: Figure, path: Path) -> None:
    """Write one figure as PNG; a file that exists is replaced only once the new one is whole."""
    write_atomically(path, partial(figure.savefig, dpi=DPI))
