"""Reader of pynapple's objects: spikes of units, counted in the bins of trials."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mrgp.recordings.arguments import several
from mrgp.recordings.checks import DataError, need
from mrgp.recordings.layout import CONDITION
from mrgp.recordings.readers.sorted_spikes import conditions_of
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.spikes import from_spike_times, trial_columns
from mrgp.recordings.texts import as_text


def from_pynapple(
    units: Any,
    trials: Any,
    bin_width: float,
    *,
    region_of_unit: str | Sequence[str] = "location",
    regions: Sequence[str] | None = None,
    align: Sequence[float] | None = None,
    window: tuple[float, float] | None = None,
    condition_of_trial: str | None = None,
    drop_dead: bool | None = False,
) -> MultiRegionData:
    """Count the spikes of a pynapple ``TsGroup`` in the bins of trials.

    Needs pynapple, which the extra ``mrgp[nwb]`` installs. Units are labelled by their keys; metadata of the trials
    become ``trial_coords``. Where ``units.time_support`` was set (by ``restrict``, say), bins outside it are missing.

    Args:
        units: ``pynapple.TsGroup``.
        trials: ``pynapple.IntervalSet``, one interval per trial; or, with ``align``, None. Shorter trials end in NaN.
        bin_width: Seconds per bin.
        region_of_unit: Metadata of the units that name the region, or one name per unit.
        regions: Which regions, in this order (delays are measured from the first); units of others are left out.
            None for all, in the order of their first units.
        align: One event per trial in seconds, such as the ``t`` of a ``Ts``; with ``window``, instead of ``trials``.
        window: From, to in seconds around ``align``.
        condition_of_trial: Metadata of the trials whose values are their conditions, which a mean of psth tells apart,
            "none" where there is no value; None for those called "condition", if there are any.
        drop_dead: Leave out units without spikes in any trial, with a warning that names them; None keeps them.

    Raises:
        DataError: pynapple is not installed, or units, trials or regions cannot be used.
    """
    pynapple = need("pynapple", "a TsGroup")
    if not isinstance(units, pynapple.TsGroup):
        raise DataError(f"units are a {type(units).__name__}: pass a pynapple.TsGroup")
    if not (trials is None or isinstance(trials, pynapple.IntervalSet)):
        raise DataError(f"trials are a {type(trials).__name__}: pass a pynapple.IntervalSet, or None and align=")
    times = {label: np.asarray(units[label].t) for label in units.keys()}  # noqa: SIM118  iterating gives no labels
    areas = region_of_unit
    if isinstance(areas, str):
        if areas not in units.metadata_columns:
            known = ", ".join(map(str, units.metadata_columns))
            raise DataError(f"the units have no metadata {areas!r} for regions: there is {known}")
        areas = list(np.asarray(units.get_info(areas)))
    several("region_of_unit", areas, "metadata of the units, or one name per unit")
    span = np.asarray(units.time_support.values, float)
    ends = [time for spikes in times.values() if spikes.size for time in (spikes[0], spikes[-1])]
    given = len(span) > 0 and not (len(span) == 1 and ends and span.tolist() == [[min(ends), max(ends)]])
    observed = dict.fromkeys(times, span) if given else None  # by default pynapple's ends with the spikes
    timing: dict[str, Any] = {"align": align, "window": window}
    coords, table = {}, dict[str, np.ndarray]()
    if trials is not None:
        timing |= {"start": np.asarray(trials.start), "stop": np.asarray(trials.end)}
        table = {str(name): np.asarray(trials.get_info(name)) for name in trials.metadata_columns}
        coords = trial_columns(table, [as_text(area) for area in dict.fromkeys(areas)])
    if condition_of_trial is not None:
        coords[CONDITION] = conditions_of(table, condition_of_trial, "the intervals")
    return from_spike_times(
        times, areas, bin_width, regions=regions, observed=observed, trial_coords=coords, drop_dead=drop_dead, **timing
    )
