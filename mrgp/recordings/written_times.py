"""Times written with their unit, "60 s".

Imports nothing heavy: the command line reads them too.
"""

import re

IN_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
"""Units by the text that arrays have in ``attrs["units"]``."""

WITH_UNIT = re.compile(r"\s*([-+.\d]+(?:[eE][-+]?\d+)?)\s*([a-zµμ]+)\s*")  # "60 s", "1.5min"


def written_seconds(text: str) -> float | None:
    """Seconds of text with a unit; None if there is no unit of time in it, or no number."""
    parts = WITH_UNIT.fullmatch(text)
    if parts is None or parts[2] not in IN_SECONDS:
        return None
    try:
        return float(parts[1]) * IN_SECONDS[parts[2]]
    except ValueError:
        return None
