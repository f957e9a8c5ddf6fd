"""Figures of a fit, for the eyes of a neuroscientist: each function returns a matplotlib Figure, none shows it."""

from mrgp.plots.parameters import direction, plot_convergence, plot_delays, plot_loadings
from mrgp.plots.save import save_figures
from mrgp.plots.signals import plot_latents, plot_reconstruction

__all__ = [
    "direction",
    "plot_convergence",
    "plot_delays",
    "plot_latents",
    "plot_loadings",
    "plot_reconstruction",
    "save_figures",
]
