"""Scores of a fit: predictions, recovery of a truth, variance explained, and signal flow.

:class:`Metric` says how one is written; the members here are known by name.
"""
# ruff: noqa: I001  metrics in the order in which reports and tables have them

from mrgp.metrics.metric import HiddenNeurons, HiddenRegion, Metric, ScoredTrials, SimulatedTrials
from mrgp.metrics.scores import pooled_r_squared, psth_rmse, r_squared, trial_rmse
from mrgp.metrics.likelihood import explained_variance, reconstruction, trial_log_likelihood
from mrgp.metrics.variance import variance_explained
from mrgp.metrics.flow import flow_matrix, signal_flow
from mrgp.metrics.geometry import cross_validated_dimensionality, participation_ratio, signal_angles, tangling
from mrgp.metrics.homology import persistent_holes
from mrgp.metrics.dynamics import fixed_points, flow_field
from mrgp.metrics.prediction import cosmoothing, hidden_log_likelihood, leave_region_out, log_predictive
from mrgp.metrics.decoding import decode_conditions
from mrgp.metrics.few_shot import few_shot
from mrgp.metrics.recovery import match_loadings, matched_delays, principal_angles, recovery_errors, subspace_error
from mrgp.metrics.recovery_of_trials import recovery_of_trials
from mrgp.metrics.communication import (
    effectome_cosine, false_edge_ratio, input_r2, kept_of_messages, message_r2, perturbation_r2,
    transmission_delay_rmse,
)  # fmt: skip
from mrgp.metrics.lagged_regression import lagged_regression
from mrgp.metrics.reduced_rank import reduced_rank_regression
from mrgp.metrics.switching import adjusted_rand_index, match_states, state_flows
from mrgp.metrics.subspaces import correlative_modes, dominant_modes, predictive_modes
from mrgp.parts.matching import delay_rmse
from mrgp.recordings.splits import Split, hold_out_neurons, neuron_masks, split_trials

__all__ = [
    "HiddenNeurons",
    "HiddenRegion",
    "Metric",
    "ScoredTrials",
    "SimulatedTrials",
    "Split",
    "adjusted_rand_index",
    "correlative_modes",
    "cosmoothing",
    "cross_validated_dimensionality",
    "decode_conditions",
    "delay_rmse",
    "dominant_modes",
    "effectome_cosine",
    "explained_variance",
    "false_edge_ratio",
    "few_shot",
    "fixed_points",
    "flow_field",
    "flow_matrix",
    "hidden_log_likelihood",
    "hold_out_neurons",
    "input_r2",
    "kept_of_messages",
    "lagged_regression",
    "leave_region_out",
    "log_predictive",
    "match_loadings",
    "match_states",
    "matched_delays",
    "message_r2",
    "neuron_masks",
    "participation_ratio",
    "persistent_holes",
    "perturbation_r2",
    "pooled_r_squared",
    "predictive_modes",
    "principal_angles",
    "psth_rmse",
    "r_squared",
    "reconstruction",
    "recovery_errors",
    "recovery_of_trials",
    "reduced_rank_regression",
    "signal_angles",
    "signal_flow",
    "split_trials",
    "state_flows",
    "subspace_error",
    "tangling",
    "transmission_delay_rmse",
    "trial_log_likelihood",
    "trial_rmse",
    "variance_explained",
]
