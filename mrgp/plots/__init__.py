"""Figures of fits, for the eyes of a neuroscientist: each function returns a matplotlib Figure, none shows it."""

from mrgp.plots.calibration import plot_calibration
from mrgp.plots.comparison import plot_comparison
from mrgp.plots.delays import direction, plot_delays
from mrgp.plots.parameters import plot_convergence, plot_loadings, plot_shared_variance
from mrgp.plots.save import save_figures
from mrgp.plots.selection import plot_cross_validation
from mrgp.plots.signals import plot_latents, plot_reconstruction

__all__ = [
    "direction",
    "plot_calibration",
    "plot_comparison",
    "plot_convergence",
    "plot_cross_validation",
    "plot_delays",
    "plot_latents",
    "plot_loadings",
    "plot_reconstruction",
    "plot_shared_variance",
    "save_figures",
]
