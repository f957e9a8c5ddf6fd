"""Laws of the delays at which regions read the latents that they share.

A region r reads latent k at x_{r,k}(t) = g_k(t - delta_{r,k}(t)). A positive delta means that the region lags the first
one, whose own are 0: other regions and their latents have a row and a column each.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from jax import Array

from mrgp.part import Part

DEFAULT_LONGEST = 5  # bins: the state grows with it, and a fit that needs more widens it and says so


class Extent(NamedTuple):
    """Size of the table of delays, and the bins that it is for.

    Attributes:
        n_regions: Regions that read latents, the first included.
        n_across: Latents that they share.
        bin_width: Seconds of a bin.
        n_bins: Bins of a trial.
        covered: Bins of the trials that courses over a trial are defined for; past their end a delay stays.
    """

    n_regions: int
    n_across: int
    bin_width: float
    n_bins: int
    covered: int

    @property
    def lagging(self) -> tuple[int, int]:
        """Shape of the delays behind the first region, (later_region, across_latent)."""
        return self.n_regions - 1, self.n_across


class Delays(Part, family="delays", tag="name", short=True):
    """Law of delays; here that of regions which read all latents at once.

    Attributes:
        moves: Whether delays change during a trial.
        longest: Bound of delays in seconds, where it was chosen.
        hold: Whether a fit keeps to the bound of delays.
    """

    moves: ClassVar[bool] = False
    longest: float | None = None
    hold: bool = False

    def bound(self, bin_width: float) -> float:
        """Bound of |delay| in seconds; 0 where there are no delays."""
        return 0.0

    def objection(self, n_across: int) -> str | None:
        """Reason why these delays are not for so many latents, or None."""
        return None

    def keeping(self, across: np.ndarray) -> Self:
        """Return the law of some of the latents, by index."""
        return self

    # ---- the program ---------------------------------------------------------------------------------------------

    def sample(self, extent: Extent) -> Array:
        """Sample the sites of delays, and return delays in bins, (1 or time, region, across_latent).

        Called inside a NumPyro program.
        """
        raise NotImplementedError

    def dynamics(self, extent: Extent) -> tuple[str, ...]:
        """Names of the sites that a posterior is asked about."""
        return ()

    def table(self, sites: Mapping[str, Any], extent: Extent) -> np.ndarray:
        """Delays in seconds, (..., region, across_latent), with a last axis of time if they move.

        Sites may have leading axes of draws.
        """
        return np.zeros((extent.n_regions, extent.n_across))

    # ---- what inference asks -------------------------------------------------------------------------------------

    @property
    def held(self) -> tuple[str, ...]:
        """Sites that climbs leave alone: the start sets them, or :meth:`learned` between climbs."""
        return ()

    def for_search(self) -> "Delays":
        """Law of the delays while a start is looked for: none, or constant ones."""
        return self

    def first_guess(self, sites: Mapping[str, Any], extent: Extent) -> dict[str, Any]:
        """First guess of the sites that :meth:`for_search` does not have."""
        return {}

    def from_other(self, other: "Delays", sites: Mapping[str, Any], extent: Extent) -> tuple[Self, dict[str, Any]]:
        """Return this law, and the sites that those of a fit with another law become."""
        return self, dict(sites)

    def learned(
        self,
        sites: Mapping[str, Any],
        curvature: Callable[[str], np.ndarray],
        fixed: Collection[str],
        extent: Extent,
    ) -> tuple[Self, dict[str, Any]] | None:
        """Improve held sites, and what the law learns, after a climb; None if they are good already.

        Returns this law and all sites. ``curvature(site)`` gives the negative log density's second derivative by each
        free coordinate of a site.
        """
        return None

    def scales(
        self, sites: Mapping[str, Any], extent: Extent, information: Callable[[], np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Approximate posterior sd of the sites of delays, in unconstrained coordinates.

        ``information()`` computes what the recording says of each constant delay in seconds, as a precision,
        (later_region, across_latent).
        """
        return {}
