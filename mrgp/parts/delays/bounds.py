"""Bounds of delays: where a delay comes close to one, and laws with wider bounds.

Where a law has no delays its bound is 0, and nothing comes close to it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mrgp.parts.delays.base import Delays, Extent
from mrgp.parts.delays.constant import DELAY
from mrgp.runtime.sentences import Argument, Refusal

FARTHEST = 0.5  # of a trial: the longest lag that is scored, and as far as a fit widens a bound by itself
NEAR_BOUND, WIDER = 0.95, 1.5  # a delay this close to its bound widens it by this factor
CLIPPED = 0.8  # of the bound: where a climb goes on from a delay beyond it


def are_read(delays: Delays, extent: Extent) -> bool:
    """True if regions read latents at delays that are to be found."""
    return min(extent.lagging) > 0 and delays.bound(extent.bin_width) > 0


def levels(delays: Delays, sites: Mapping[str, Any], extent: Extent) -> np.ndarray:
    """Delays in seconds, (region, across_latent); the mean over a trial if they vary."""
    table = delays.table(sites, extent)
    return table if table.ndim == 2 else table.mean(-1)


def longest_in(extent: Extent) -> float:
    """Longest delay in seconds that a fit admits by itself: a share of a trial.

    A latent that lags by more is hardly shared, but private to each region.
    """
    return FARTHEST * extent.n_bins * extent.bin_width


def pressing(delays: Delays, table: np.ndarray, bin_width: float) -> np.ndarray:
    """True for each delay of a table in seconds that is within 5% of the bound."""
    return np.abs(table) >= NEAR_BOUND * delays.bound(bin_width)


def presses(delays: Delays, sites: Mapping[str, Any], extent: Extent) -> bool:
    """True if a delay of ``sites`` has come within 5% of the bound."""
    return DELAY.name in sites and bool(pressing(delays, delays.table(sites, extent), extent.bin_width).any())


def clipped(delays: Delays, sites: Mapping[str, Any], bin_width: float, share: float = CLIPPED) -> dict[str, Any]:
    """Clip the levels of delays among ``sites`` to at most a share of the bound."""
    most = share * delays.bound(bin_width)
    return {**sites, DELAY.name: np.clip(np.asarray(sites[DELAY.name]), -most, most)}


def shortest(delay: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Delays (later_region, across_latent) moved to be as short as they can be.

    Where region 1 does not read a latent, delays of the others are known up to a shift; where a region does not read
    it, its delay is not known. ``read`` is (region, across_latent).
    """
    table = np.concatenate([np.zeros((1, delay.shape[1])), delay])
    low = np.min(table, 0, where=read, initial=np.inf)
    high = np.max(table, 0, where=read, initial=-np.inf)
    middle = np.zeros(len(low))
    np.add(0.5 * low, 0.5 * high, out=middle, where=read.any(0) & ~read[0])
    return np.where(read, table - middle, 0.0)[1:]


def reaching[D: Delays](delays: D, sites: Mapping[str, Any], extent: Extent) -> D:
    """Set the bound somewhat beyond the delays of ``sites``, at most at half a trial."""
    return delays.replace(longest=min(WIDER * _largest(sites), longest_in(extent)))


def far_reaching[D: Delays](delays: D, extent: Extent) -> D:
    """Return the law with the longest delays that a fit admits.

    It is the law itself if it has no delays, is to hold their bound, or admits such delays already.
    """
    if delays.hold or not 0 < delays.bound(extent.bin_width) < longest_in(extent):
        return delays
    return delays.replace(longest=longest_in(extent))


def if_free[D: Delays](delays: D, extent: Extent) -> D | None:
    """Return the law with the longest delays of a fit that does not hold its bound, or None.

    It is None if the bound is not held, or could not be wider.
    """
    if not delays.hold:
        return None
    free = delays.replace(hold=False)
    far = far_reaching(free, extent)
    return None if far is free else far


def admitting[D: Delays](delays: D, sites: Mapping[str, Any], bin_width: float) -> D:
    """Widen the bound, if needed, so that it admits the delays of another fit's ``sites``.

    Raises:
        ValueError: it is to be held, and they are beyond it.
    """
    if DELAY.name not in sites:
        return delays
    largest, bound = _largest(sites), delays.bound(bin_width)
    if largest < bound:
        return delays
    if delays.hold:
        reach = Argument("max_delay")
        raise Refusal(
            f"start has a delay of {1e3 * largest:.1f} ms, beyond the ", reach, f" of {1e3 * bound:.1f} ms that is to "
            "be held: raise ", reach, ", or leave start out",
        )  # fmt: skip
    return delays.replace(longest=WIDER * largest)


def widened[D: Delays](delays: D, sites: Mapping[str, Any], extent: Extent) -> D | None:
    """Widen the bound if a delay of ``sites`` comes close to it; None if not.

    It grows up to half of a trial. The result is None also if the bound is held or as wide already.
    """
    bound, longest = delays.bound(extent.bin_width), longest_in(extent)
    if delays.hold or bound >= longest or not presses(delays, sites, extent):
        return None
    return delays.replace(longest=min(WIDER * bound, longest))


def _largest(sites: Mapping[str, Any]) -> float:
    return float(np.abs(np.asarray(sites[DELAY.name])).max(initial=0.0))
