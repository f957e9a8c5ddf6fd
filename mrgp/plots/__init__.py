"""Figures of fits, for neuroscientists.

Each function returns a matplotlib Figure, and none shows it.
"""

from mrgp.plots.communication import plot_effectome, plot_messages
from mrgp.plots.delays import plot_delays
from mrgp.plots.dynamics import plot_dynamics
from mrgp.plots.flow import plot_flow
from mrgp.plots.parameters import plot_convergence, plot_loadings, plot_shared_variance
from mrgp.plots.save import save_figures
from mrgp.plots.signals import plot_latents, plot_reconstruction
from mrgp.plots.switching import plot_clusters, plot_state_flows, plot_states
from mrgp.results.rows import direction

__all__ = [
    "direction",
    "plot_clusters",
    "plot_convergence",
    "plot_delays",
    "plot_dynamics",
    "plot_effectome",
    "plot_flow",
    "plot_latents",
    "plot_loadings",
    "plot_messages",
    "plot_reconstruction",
    "plot_shared_variance",
    "plot_state_flows",
    "plot_states",
    "save_figures",
]
