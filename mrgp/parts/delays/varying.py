"""Delays that vary smoothly during a trial (Li et al. 2025, ICML)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mrgp.parts.delays.base import Delays, Extent
from mrgp.parts.delays.constant import DELAY, BoundedDelays, ConstantDelay
from mrgp.parts.delays.courses import FIRST_TIMESCALE, LEAST_SPREAD, most_evident, smooth_modes
from mrgp.parts.sites import Site
from mrgp.recordings.units import positive_seconds

DELAY_SPREAD = Site("delay_spread", "later_region", "across_latent", unit="s")
DELAY_CHANGE = Site("delay_change", "later_region", "across_latent", "mode")

SAME_SPREAD, SAME_TIMESCALE = 0.2, 0.1  # of the logarithm: the evidence is flat within it
EDGE = 1 - 1e-15  # of the bound: a draw may lie on it to the last bit
LEAST_CURVATURE = 1e-12  # of a level's free coordinate: a maximum is never flat


@dataclass(frozen=True)
class VaryingDelay(BoundedDelays):
    r"""Delays that move smoothly around a level, alike in every trial.

    .. math::
        \delta_{r,k}(t) = D \tanh\big(u_{r,k} + f_{r,k}(t) / D\big), \qquad
        f_{r,k} \sim GP\big(0, s_{r,k}^2 e^{-(t-t')^2 / 2 \ell_k^2}\big)

    D is ``longest``; D tanh u is the level around which the delay moves, site ``delay`` (later_region, across_latent)
    in seconds. f is a sum of the process's principal modes over the trial, the smoothest first: site ``delay_change``
    (later_region, across_latent, mode), standard normal, times s, site ``delay_spread`` (later_region, across_latent)
    in seconds. A fit sets s and l where the evidence is highest, the changes integrated out: a delay that does not
    change gets an s near 0, which no joint maximum would give it.

    Args:
        longest: D in seconds; None for 5 bins of whatever recording comes.
        hold: True keeps to ``longest``; False lets a fit widen it where a delay comes close.
        timescale: l in seconds, of all latents: how fast delays may change; None to learn it for each latent.
        spread: Scale of the half-normal prior of s in seconds, and its start; None for one bin.
        learned_timescales: What a fit found for each latent's l where ``timescale`` is None.
    """

    longest: float | None = None
    hold: bool = False
    timescale: float | None = None
    spread: float | None = None
    learned_timescales: tuple[float, ...] | None = None

    known_as: ClassVar[str] = "varying"
    moves: ClassVar[bool] = True
    short_forms: ClassVar[Mapping[str, str]] = {
        **BoundedDelays.short_forms, "delay_timescale": "timescale", "typical_spread": "spread",
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("timescale", self.timescale), ("spread", self.spread)):
            if value is not None:
                object.__setattr__(self, name, positive_seconds(name, value))
        if self.learned_timescales is not None:
            object.__setattr__(self, "learned_timescales", tuple(self.learned_timescales))

    def objection(self, n_across: int) -> str | None:
        learned = self.learned_timescales
        if learned is None or (len(learned) == n_across and all(0 < each < np.inf for each in learned)):
            return None
        return f"learned_timescales are {n_across} positive numbers of seconds, not {learned}"

    def keeping(self, across: np.ndarray) -> Self:
        learned = self.learned_timescales
        return self if learned is None else self.replace(learned_timescales=tuple(learned[k] for k in across))

    # ---- the process ---------------------------------------------------------------------------------------------

    def modes(self, extent: Extent) -> np.ndarray:
        """Modes of f / s, (across_latent, time, mode).

        Past their end a delay stays where it was. A latent whose delays change slowly has fewer modes than others: its
        last ones are zero.
        """
        own = timescales(self, extent.n_across)
        tables = [smooth_modes(extent.covered, timescale / extent.bin_width) for timescale in own]
        count = max((table.shape[1] for table in tables), default=0)
        padded = [np.pad(table, [(0, 0), (0, count - table.shape[1])]) for table in tables]
        modes = np.reshape(padded, (extent.n_across, extent.covered, count))
        return modes[:, np.minimum(np.arange(extent.n_bins), extent.covered - 1)]

    def _in_modes(self, unit: np.ndarray, extent: Extent) -> np.ndarray:
        """Least-squares ``delay_change`` for given courses f / s.

        The courses are (later_region, across_latent, time).
        """
        modes = self.modes(extent)
        square = np.einsum("ktm,ktn->kmn", modes, modes) + 1e-6 * np.eye(modes.shape[-1])
        return np.einsum("rkt,kmt->rkm", unit, np.linalg.solve(square, np.swapaxes(modes, 1, 2)))

    # ---- the program ---------------------------------------------------------------------------------------------

    def sample(self, extent: Extent) -> Array:
        if extent.n_regions == 1:  # which lags behind nobody
            return jnp.zeros((1, 1, extent.n_across))
        bound, modes = self.bound(extent.bin_width), self.modes(extent)
        level = self.sample_level(extent)[..., None]
        usual = dist.HalfNormal(usual_spread(self, extent.bin_width)).expand(extent.lagging).to_event(2)
        spread = DELAY_SPREAD.sample(usual)
        white = dist.Normal().expand((*extent.lagging, modes.shape[-1])).to_event(3)
        change = spread[..., None] * jnp.einsum("rkm,ktm->rkt", DELAY_CHANGE.sample(white), modes)
        delay = bound * jnp.tanh(jnp.arctanh(level / bound) + change / bound)
        return jnp.moveaxis(jnp.pad(delay, [(1, 0), (0, 0), (0, 0)]), -1, 0) / extent.bin_width

    def dynamics(self, extent: Extent) -> tuple[str, ...]:
        return (DELAY.name, DELAY_CHANGE.name) if min(extent.lagging) > 0 else ()

    def table(self, sites: Mapping[str, Any], extent: Extent) -> np.ndarray:
        if DELAY.name not in sites:
            return super().table(sites, extent)
        bound, level = self.bound(extent.bin_width), self.level(sites)
        unit = np.einsum("...rkm,ktm->...rkt", sites[DELAY_CHANGE.name], self.modes(extent))
        change = np.asarray(sites[DELAY_SPREAD.name])[..., None] * unit
        first = np.zeros_like(change[..., :1, :, :])
        inside = np.clip(level / bound, -EDGE, EDGE)
        return bound * np.tanh(np.arctanh(inside)[..., None] + np.concatenate([first, change], -3) / bound)

    # ---- what inference asks -------------------------------------------------------------------------------------

    @property
    def held(self) -> tuple[str, ...]:
        return (DELAY_SPREAD.name,)

    def for_search(self) -> Delays:
        return ConstantDelay(self.longest, self.hold)

    def first_guess(self, sites: Mapping[str, Any], extent: Extent) -> dict[str, Any]:
        if extent.n_regions == 1:
            return {}
        series = np.shape(sites[DELAY.name])
        still = np.zeros((*series, self.modes(extent).shape[-1]))
        return {DELAY_CHANGE.name: still, DELAY_SPREAD.name: np.full(series, usual_spread(self, extent.bin_width))}

    def from_other(self, other: Delays, sites: Mapping[str, Any], extent: Extent) -> tuple[Self, dict[str, Any]]:
        """Take over courses, and the timescales that another fit learned.

        Courses keep their shape where modes differ.
        """
        series = np.shape(sites.get(DELAY_CHANGE.name, ()))[:2]
        if not isinstance(other, VaryingDelay) or series != extent.lagging:
            return self, dict(sites)
        same = self if self.timescale else self.replace(learned_timescales=timescales(other, extent.n_across))
        unit = np.einsum("rkm,ktm->rkt", sites[DELAY_CHANGE.name], other.modes(extent))
        return same, {**sites, DELAY_CHANGE.name: same._in_modes(unit, extent)}

    def learned(
        self,
        sites: Mapping[str, Any],
        curvature: Callable[[str], np.ndarray],
        fixed: Collection[str],
        extent: Extent,
    ) -> tuple[Self, dict[str, Any]] | None:
        """Find spreads and timescales of highest evidence; None if they hardly differ.

        A timescale that is set is kept, and a delay that was found constant remains so.
        """
        learn = {"learn_spread": DELAY_SPREAD.name not in fixed, "learn_timescale": self.timescale is None}
        if not min(extent.lagging) or DELAY_CHANGE.name in fixed or not any(learn.values()):
            return None
        # The free coordinate of a level is 2 u, and f adds f / D to u.
        per_level = np.maximum(curvature(DELAY.name), LEAST_CURVATURE) * (2 / self.bound(extent.bin_width)) ** 2
        precision = per_level / extent.n_bins
        spread, change = np.asarray(sites[DELAY_SPREAD.name]), np.asarray(sites[DELAY_CHANGE.name])
        modes, own = self.modes(extent), timescales(self, extent.n_across)
        likely, learned = spread.copy(), list(own)
        for k, moving in enumerate((spread > 2 * LEAST_SPREAD * extent.bin_width).T):
            if moving.any():
                learned[k], likely[moving, k] = most_evident(
                    modes[k], change[moving, k], spread[moving, k], precision[moving, k], own[k],
                    bin_width=extent.bin_width, typical=usual_spread(self, extent.bin_width), **learn,
                )  # fmt: skip
        moved = np.abs(np.log(np.array(learned) / own)).max()
        if moved < SAME_TIMESCALE and np.all(np.abs(np.log(likely / spread)) < SAME_SPREAD):
            return None
        law = self if self.timescale else self.replace(learned_timescales=tuple(learned))
        unit = np.einsum("rkm,ktm->rkt", change, modes)
        course = np.minimum(spread / likely, 1.0)[..., None] * unit  # of more spread the same, of less a smaller one
        return law, {**sites, DELAY_SPREAD.name: likely, DELAY_CHANGE.name: law._in_modes(course, extent)}

    def scales(
        self, sites: Mapping[str, Any], extent: Extent, information: Callable[[], np.ndarray]
    ) -> dict[str, np.ndarray]:
        if not min(extent.lagging):
            return {}
        free = self.scale_of_level(sites, extent, information)
        # A level known to sd / bin says as much per bin; modes are orthogonal, so each gains by its own size.
        level = free * 0.5 * self.bound(extent.bin_width)
        gained = (self.modes(extent) ** 2).sum(1) / (level[..., None] ** 2 * extent.n_bins)
        spread = np.asarray(sites[DELAY_SPREAD.name])[..., None]
        return {DELAY.name: free, DELAY_CHANGE.name: 1 / np.sqrt(1 + spread**2 * gained)}


def timescales(law: VaryingDelay, n_across: int) -> tuple[float, ...]:
    """Present value of l for each latent, in seconds."""
    if law.timescale is None and law.learned_timescales is not None:
        return law.learned_timescales
    return (law.timescale or FIRST_TIMESCALE,) * n_across


def usual_spread(law: VaryingDelay, bin_width: float) -> float:
    """Typical spread s in seconds: ``spread``, or one bin if that is None."""
    return bin_width if law.spread is None else law.spread
