"""Time stamps of bins, for recordings whose bins do not follow each other."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mrgp.recordings.arrays import SAME_STEP
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.observations import Observations
from mrgp.recordings.units import one_time, seconds


def read_times(times: Any, n_bins: int, width: float) -> tuple[float, ...]:
    """Read the start of every bin in seconds; () where each begins as the one before it ends.

    Args:
        times: In seconds, or with a unit of time, (time,).
        n_bins: Of the longest trial.
        width: Seconds per bin.

    Raises:
        DataError: they are not one number per bin, or do not increase.
    """
    starts = seconds("times", times)
    if starts.shape != (n_bins,):
        raise DataError(f"times have shape {starts.shape}: give one start per bin, ({n_bins},), the same in all trials")
    if not np.isfinite(starts).all():
        raise DataError(f"times have no number for bin {int(np.argmin(np.isfinite(starts)))}: give it, or cut the bin")
    steps = np.diff(starts)
    if (steps <= 0).any():
        late = int(np.argmax(steps <= 0)) + 1
        step = f"bin {late} begins at {starts[late]:g} s, after one that begins at {starts[late - 1]:g} s"
        raise DataError(f"times do not increase: {step}: sort the bins by time, and give each once")
    return () if follow_each_other(starts, width) else tuple(starts.tolist())


def read_event(event: tuple[str, float] | None, is_regular: bool) -> tuple[str, float]:
    """Read what trials are aligned to, and when their first bin begins, in seconds after it.

    Args:
        event: Both; None where nobody says.
        is_regular: Bins follow each other; else their times say when the first begins.

    Raises:
        DataError: it is no name with a number of seconds.
    """
    if event is None:
        return "", 0.0
    pair = event if isinstance(event, tuple | list) and len(event) == 2 else ("", 0.0)
    if not isinstance(pair[0], str) or not pair[0].strip():
        raise DataError(f"event is {event!r}: give its name and when trials begin, such as ('cue', -0.2)")
    begin = one_time("the begin of trials", pair[1], "seconds after the event, such as -0.2")
    return str(pair[0]), begin if is_regular else 0.0


def read_window(window: Any) -> Float[np.ndarray, "2"]:
    """Read from when to when trials last, in seconds around an event.

    Raises:
        DataError: these are no two numbers of seconds.
    """
    around = seconds("window", window)
    if around.shape != (2,) or not np.isfinite(around).all():
        raise DataError(f"window is {window}: give two numbers in seconds, such as (-0.2, 0.5)")
    return around


def follow_each_other(starts: np.ndarray, width: float) -> bool:
    """True if every bin begins as the one before it ends.

    Starts that were stored in single precision are as far off as they were rounded.
    """
    with np.errstate(over="ignore"):
        single = np.asarray(starts, np.float32)
    rounded = float(np.spacing(np.abs(single).max(initial=0))) if np.array_equal(single, starts) else 0.0
    return bool((np.abs(np.diff(starts) - width) <= SAME_STEP * width + rounded).all())


def bins_since(data: Observations, since: Any | None) -> Bool[np.ndarray, "time"]:
    """True for bins that begin at a time of the trial or later; None for all.

    Raises:
        DataError: there is none, or the time is no number of seconds.
    """
    starts = data.times
    if since is None:
        return np.ones(len(starts), bool)
    begin = one_time("since", since, "a time of the trial in seconds, such as 0.2")
    later = starts >= begin - SAME_STEP * data.bin_width
    if not later.any():
        raise DataError(f"since is {begin:g} s, but the last bin begins at {starts[-1]:g} s: give an earlier time")
    return later


def require_same_times(data: Observations, layout: Layout, message: str) -> None:
    """Raise DataError with a message if bins of a recording are not where those of a layout are."""
    if not data.layout.same_times(layout, data.n_bins):
        raise DataError(message)


def require_regular(layout: Layout, what: str) -> None:
    """Raise DataError if bins are at irregular times, which ``what`` cannot use."""
    if layout.is_regular:
        return
    gaps = np.diff(layout.times)
    found = f"times have steps of {1e3 * gaps.min():g} to {1e3 * gaps.max():g} ms, and bins last"
    mend = "leave times out, with NaN in the bins that are missing, or use NeuralODE"
    raise DataError(f"{what} needs bins that follow each other, but {found} {1e3 * layout.bin_width:g} ms: {mend}")
