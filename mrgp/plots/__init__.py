"""Figures of fits, for the eyes of a neuroscientist: each function returns a matplotlib Figure, none shows it."""

from mrgp.plots.aggregate import plot_aggregate
from mrgp.plots.calibration import plot_calibration
from mrgp.plots.comparison import plot_comparison
from mrgp.plots.delays import plot_delays
from mrgp.plots.evaluation import plot_held_out, plot_scores
from mrgp.plots.flow import plot_flow
from mrgp.plots.parameters import plot_convergence, plot_loadings, plot_shared_variance
from mrgp.plots.save import save_figures
from mrgp.plots.selection import plot_cross_validation
from mrgp.plots.signals import plot_latents, plot_reconstruction
from mrgp.tables import direction

__all__ = [
    "direction",
    "plot_aggregate",
    "plot_calibration",
    "plot_comparison",
    "plot_convergence",
    "plot_cross_validation",
    "plot_delays",
    "plot_flow",
    "plot_held_out",
    "plot_latents",
    "plot_loadings",
    "plot_reconstruction",
    "plot_scores",
    "plot_shared_variance",
    "save_figures",
]
