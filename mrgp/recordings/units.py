"""Conversion of times to seconds.

A unit that an object carries is converted; one that is no unit of time is refused.
"""

import datetime
from typing import Any

import numpy as np

from mrgp.recordings.checks import DataError
from mrgp.recordings.texts import as_text
from mrgp.recordings.written_times import IN_SECONDS, written_seconds
from mrgp.runtime.sentences import Argument

LONGEST_BIN = 5.0  # s: a plain number beyond is milliseconds, for slow images come every two seconds; a unit says more
SECOND = np.timedelta64(1, "s")
DATED = "these are dates; give seconds on one clock, such as since the recording began"


def seconds(what: str, value: Any) -> np.ndarray:
    """Convert to seconds, float64 of the shape given; plain numbers are seconds already.

    Understood are ``datetime.timedelta`` and numpy's, arrays of quantities, neo, pint and astropy, pynapple's times,
    xarray's with ``attrs["units"]``, text such as "60 s", and sequences of those.

    Args:
        what: What the times are of, for messages.
        value: A number, or an array or sequence of them.

    Raises:
        DataError: these are no numbers, or of a unit that is no time.
    """
    found = _numbers(what, value)
    if found is None:
        raise DataError(f"{what} are not numbers: give them in seconds")
    return found


def one_time(what: str, value: Any, wanted: str) -> float:
    """Read one finite number of seconds.

    Raises:
        DataError: it is none, or of a unit that is no time; the message says what is ``wanted``.
    """
    found = _numbers(what, value)
    if found is None or found.size != 1 or not np.isfinite(found).all():
        raise DataError(f"{what} is {value!r}: give {wanted}")
    return float(found.reshape(()))


def positive_seconds(what: str, value: Any) -> float:
    """Read a setting that is one positive, finite number of seconds.

    Raises:
        ValueError: it is none.
    """
    number = value if isinstance(value, int | float) else float(seconds(what, value))
    if not 0 < number < np.inf:
        raise ValueError(f"{what} is a positive number of seconds, not {number}")
    return number


def read_bin_width(value: Any) -> float:
    """Read the seconds per bin, above 0.

    A plain number is no more than what is surely meant in milliseconds; what carries its unit can be of any length.

    Raises:
        DataError: it is none.
    """
    wanted = "the seconds per bin, such as 0.02 for 20 ms"
    value = value.item() if type(value) is np.ndarray and value.ndim == 0 and value.dtype.kind in "fiuU" else value
    width = one_time("bin_width", value, wanted)
    if width <= 0:
        raise DataError(f"bin_width is {value!r}: give {wanted}")
    if width > LONGEST_BIN and not _has_unit(value):
        long = f"bins of {width:g} s are longer than {LONGEST_BIN:g} s: give {wanted}, or name their unit, "
        raise DataError(long, Argument("bin_width", f"{width:g}s"), ", if they are meant")
    return width


def unmistaken(width: float) -> float | str:
    """Return seconds per bin that are refused nowhere: long ones as text with their unit."""
    return width if width <= LONGEST_BIN else f"{float(width)!r} s"


def _has_unit(value: Any) -> bool:
    """True for times that carry their unit, False for plain numbers."""
    if isinstance(value, datetime.timedelta) or _converted("bin_width", value) is not None:
        return True
    return np.asarray(value).dtype.kind == "m"


def _numbers(what: str, value: Any) -> np.ndarray | None:
    """Convert to seconds as float64; None where there are no numbers."""
    try:
        return np.asarray(_plain(what, value), float)
    except DataError:
        raise
    except (TypeError, ValueError):
        return None


def _plain(what: str, value: Any) -> Any:
    """Return the numbers of seconds in ``value``, without a unit."""
    if isinstance(value, np.timedelta64 | np.datetime64):
        value = np.asarray(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, datetime.date | datetime.time):
        raise DataError(f"{what}: {DATED}")
    if (converted := _converted(what, value)) is not None:
        return converted
    if isinstance(value, np.ma.MaskedArray):
        return np.ma.filled(value.astype(float), np.nan)
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        kinds = {type(part) for part in np.ravel(value)} if isinstance(value, np.ndarray) else set(map(type, value))
        if kinds <= {int, float, bool, np.float64, np.int64}:
            return value
        return [_plain(what, part) for part in value]
    array = np.asarray(value)
    if array.dtype.kind == "m":
        return array / SECOND  # NaN where there is none
    if array.dtype.kind == "M":
        raise DataError(f"{what}: {DATED}")
    return array[()] if array.dtype == object and array.ndim == 0 else array


def _converted(what: str, value: Any) -> Any:
    """Numbers of seconds from an object that carries a unit; None if it carries none."""
    if isinstance(value, str) or (isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "US"):
        return written_seconds(as_text(value))
    if hasattr(value, "time_support") and hasattr(value, "t"):  # pynapple's, in seconds whatever it prints
        return np.asarray(value.t, float)
    units = getattr(getattr(value, "attrs", None), "get", lambda _: None)("units")
    if units is not None and hasattr(value, "dims"):
        if units not in IN_SECONDS:
            raise DataError(f"{what}: the unit is {units}, which is no time known here; give seconds")
        return np.asarray(value, float) * IN_SECONDS[units]
    for convert, read in ((_rescaled, "rescale"), (_to, "to_value"), (_to_pint, "to")):
        if hasattr(value, read) and (hasattr(value, "units") or hasattr(value, "unit")):
            try:
                return convert(value)
            except Exception as error:  # each library has errors of its own
                unit = getattr(value, "units", getattr(value, "unit", None))
                raise DataError(f"{what}: the unit is {unit}, which is no time; give seconds") from error
    return None


def _rescaled(value: Any) -> np.ndarray:
    return np.asarray(value.rescale("s").magnitude, float)  # quantities, neo


def _to(value: Any) -> np.ndarray:
    return np.asarray(value.to_value("s"), float)  # astropy


def _to_pint(value: Any) -> np.ndarray:
    return np.asarray(value.to("second").magnitude, float)
