"""Recordings of the neurons of a fit, to be filled with values that are drawn."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mrgp.recordings.labels import labels_of
from mrgp.recordings.layout import CONDITION
from mrgp.recordings.recording import MultiRegionData, stand_in

if TYPE_CHECKING:
    from mrgp.results.fit import Fit


def frame_of(fit: "Fit", n_trials: int, n_bins: int, conditions: Sequence[str] | None = None) -> MultiRegionData:
    """Make a recording of the neurons of a fit, whose values mean nothing.

    Its trials are of ``conditions``, one each, or of all in turn. They have no place in a session: whatever drifts over
    one is at its prior mean in them.

    Raises:
        ValueError: there is not one condition for each trial.
    """
    frame = stand_in(fit.layout, n_trials, n_bins)
    if conditions is None:
        return _nowhere(frame)
    if len(conditions) != n_trials:
        raise ValueError(f"conditions are {len(conditions)} for {n_trials} trials: give one for each")
    own = replace(fit.layout, conditions=tuple(sorted(set(labels_of(conditions)))))
    frame = MultiRegionData.unchecked(own, frame.values, {CONDITION: np.asarray(conditions)})
    return _nowhere(frame.among(fit.layout.conditions))


def filled(frame: MultiRegionData, values: np.ndarray) -> MultiRegionData:
    """Fill a frame with values that were drawn: a recording that nobody takes for the fit's."""
    made = _nowhere(frame.with_values(values))
    made.known_as = None
    return made


def _nowhere(frame: MultiRegionData) -> MultiRegionData:
    """Take from trials their places in a session."""
    frame.trial_place = np.full(frame.n_trials, np.nan)
    return frame
