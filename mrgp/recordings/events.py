"""The event that trials are aligned to, said of a recording once it is made."""

from dataclasses import replace

import numpy as np

from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.times import read_event


def with_event(data: MultiRegionData, event: tuple[str, float] | None) -> MultiRegionData:
    """Return the recording with another event at time 0 of its trials; its values stay.

    A recording of arrays has trials from 0.2 s before a cue: ``with_event(data, ("cue", -0.2))``. Recordings around
    events of several names, which are to be joined, have none in common: ``with_event(data, None)``.

    Args:
        data: The recording.
        event: Its name, and when the first bin begins in seconds after it; None for no event, time 0 then being the
            begin of the first bin. Bins at irregular times keep these.

    Raises:
        DataError: it is no name with a number of seconds.
    """
    name, begin = read_event(event, data.layout.is_regular)
    mask = None if data.is_complete else data.mask
    named = data.with_contents(np.asarray(data.values), mask, layout=replace(data.layout, event=name, begin=begin))
    named.known_as, named.batch_size = data.known_as, data.batch_size
    return named
