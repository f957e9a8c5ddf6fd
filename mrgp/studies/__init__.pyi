"""The figures of studies, and where each is defined."""

from .calibration.figure import plot_calibration as plot_calibration
from .communication.figure import plot_communication as plot_communication
from .compare.figure import plot_comparison as plot_comparison
from .cross_validation.figure import plot_cross_validation as plot_cross_validation
from .evaluation.figure import plot_held_out as plot_held_out
from .evaluation.figure import plot_scores as plot_scores
from .figure_of_runs import plot_aggregate as plot_aggregate
from .tuning.figure import plot_tuning as plot_tuning
