"""Constant delays: one number for each later region and each shared latent.

By this number the region lags the first one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mrgp.parts.delays.base import DEFAULT_LONGEST, Delays, Extent
from mrgp.parts.sites import LONG, Site
from mrgp.recordings.units import positive_seconds

DELAY = Site("delay", "later_region", "across_latent", unit="s", trait=True, bounded_by="max_delay", stride=LONG)

WIDEST_STEP = 0.3  # of delays as the logistic function has them: what nothing is known of
NEAR_EDGE = 0.1  # of a bound: there the free coordinate of a delay hardly moves it


class BoundedDelays(Delays, abstract=True):
    """Delays around levels that have a bound.

    The site ``delay`` (later_region, across_latent) is uniform within it.

    Attributes:
        longest: Bound of |level| in seconds; None for 5 bins of whatever recording comes.
        hold: Whether a fit keeps to it, rather than widening it where a delay comes close.
    """

    longest: float | None
    hold: bool

    short_forms: ClassVar[Mapping[str, str]] = {"max_delay": "longest", "hold_max_delay": "hold"}

    def __post_init__(self) -> None:
        if self.longest is not None:
            object.__setattr__(self, "longest", positive_seconds("longest", self.longest))

    def bound(self, bin_width: float) -> float:
        return DEFAULT_LONGEST * bin_width if self.longest is None else self.longest

    def sample_level(self, extent: Extent) -> Array:
        """Sample the site ``delay``, seconds, (later_region, across_latent)."""
        bound = self.bound(extent.bin_width)
        return DELAY.sample(dist.Uniform(-bound, bound).expand(extent.lagging).to_event(2))

    def level(self, sites: Mapping[str, Any]) -> np.ndarray:
        """Levels of delays in seconds, (..., region, across_latent)."""
        delay = np.asarray(sites[DELAY.name])
        return np.concatenate([np.zeros_like(delay[..., :1, :]), delay], axis=-2)

    def scale_of_level(
        self, sites: Mapping[str, Any], extent: Extent, information: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Approximate posterior sd of unconstrained levels, (later_region, across_latent)."""
        bound = self.bound(extent.bin_width)
        table = self.table(sites, extent)
        level = (table if table.ndim == 2 else table.mean(-1))[1:]
        by_free = 0.5 * bound * np.maximum(1 - (level / bound) ** 2, NEAR_EDGE)  # slope of a delay
        return 1 / np.sqrt(information() * by_free**2 + WIDEST_STEP**-2)


@dataclass(frozen=True)
class ConstantDelay(BoundedDelays):
    """Delays that stay during a trial, delta = ``delay``, uniform between -longest and longest.

    Args:
        longest: Bound of |delay| in seconds; None for 5 bins of whatever recording comes.
        hold: True keeps to ``longest``; False lets a fit widen it where a delay comes close.
    """

    longest: float | None = None
    hold: bool = False

    known_as: ClassVar[str] = "constant"

    def sample(self, extent: Extent) -> Array:
        if extent.n_regions == 1:  # which lags behind nobody
            return jnp.zeros((1, 1, extent.n_across))
        steps = self.sample_level(extent) / extent.bin_width
        return jnp.concatenate([jnp.zeros((1, extent.n_across)), steps])[None]

    def dynamics(self, extent: Extent) -> tuple[str, ...]:
        return (DELAY.name,) if min(extent.lagging) > 0 else ()

    def table(self, sites: Mapping[str, Any], extent: Extent) -> np.ndarray:
        return self.level(sites) if DELAY.name in sites else super().table(sites, extent)

    def scales(
        self, sites: Mapping[str, Any], extent: Extent, information: Callable[[], np.ndarray]
    ) -> dict[str, np.ndarray]:
        return {DELAY.name: self.scale_of_level(sites, extent, information)} if self.dynamics(extent) else {}
