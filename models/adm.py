"""Adaptive delay model (Li et al. 2025, ICML).

Latents are shared across regions with delays that vary during a trial.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from mrgp.families.model import Preset
from mrgp.inference.mode.curvature import Diagonal
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.delays.varying import (
    DELAY_CHANGE,
    DELAY_SPREAD,
    FIRST_TIMESCALE,
    LEAST_SPREAD,
    most_evident,
    smooth_modes,
)
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

SAME_SPREAD, SAME_TIMESCALE = 0.2, 0.1  # of the logarithm: the evidence is flat within it


@dataclass(frozen=True)
class ADM(Preset):
    r"""Latents shared by all regions at delays that vary smoothly, and private latents.

    Each region reads each shared latent at a delay that moves smoothly during the trial.

    .. math::
        x_{r,k}(t) &= \sqrt{1-\epsilon}\, g_k(t - \delta_{r,k}(t)) + \sqrt{\epsilon}\, \eta, \qquad g_k \sim GP(0, k) \\
        \delta_{r,k}(t) &= D \tanh\big(u_{r,k} + f_{r,k}(t) / D\big), \qquad
        f_{r,k} \sim GP\big(0, s_{r,k}^2 e^{-(t-t')^2 / 2 \ell_k^2}\big) \\
        y_r(t) &= C_r [x_r(t); w_r(t)] + d_r + e_r(t), \qquad e_r \sim N(0, \mathrm{diag}\, R_r)

    The delays of a trial's clock are the same in every trial. D is ``max_delay``; D tanh u is the level around which
    the delay moves. f is a sum of the process's principal modes over the trial, the smoothest first.
    Sample sites: those of DLAG, ``delay`` (region - 1, across_latent) being the level in seconds;
    ``delay_spread`` s (region - 1, across_latent) in seconds; ``delay_change`` (region - 1, across_latent, mode),
    standard normal. ``fit`` sets s and l where the evidence is highest, the changes integrated out: a delay that does
    not change gets an s near 0, which no joint maximum would give it.

    Args:
        delay_timescale: l in seconds, of all latents: how fast delays may change; None to learn it for each latent.
        learned_timescales: What ``fit`` found for each latent's l where it was not set.
        typical_spread: Scale of the half-normal prior of s in seconds, and its start; None for one bin.
        varying: False holds delays constant, which is DLAG: where the search for a start begins.
    """

    delay_timescale: float | None = None
    learned_timescales: tuple[float, ...] | None = None
    typical_spread: float | None = None
    varying: bool = True

    regions_needed: ClassVar[int] = 2
    found_by_fit: ClassVar[tuple[str, ...]] = (*Preset.found_by_fit, "learned_timescales")
    in_seconds: ClassVar[tuple[str, ...]] = (*Preset.in_seconds, "delay_timescale", "typical_spread")

    def __post_init__(self, *short: Any) -> None:
        super().__post_init__(*short)
        for name in ("delay_timescale", "typical_spread"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"ADM: {name} is a positive number of seconds, not {value}")
        learned = self.learned_timescales
        if learned is not None and (len(learned) != self.n_across or not 0 < min(learned) <= max(learned) < np.inf):
            raise ValueError(f"ADM: learned_timescales are {self.n_across} positive numbers of seconds, not {learned}")

    def __call__(self, data: MultiRegionData) -> None:
        layout, bin_width = data.layout, data.bin_width
        assignment = self.assignment(layout)
        across, within = self.latent_sites(data)
        bound, lagging = self.delay_bound(layout), (assignment.n_regions - 1, self.n_across)
        level = DELAY.sample(dist.Uniform(-bound, bound).expand(lagging).to_event(2))
        delay = level[..., None]
        if self.varying:
            modes = self.modes(layout, data.n_bins)
            usual = dist.HalfNormal(self.usual_spread(layout)).expand(lagging).to_event(2)
            spread = DELAY_SPREAD.sample(usual)
            white = dist.Normal().expand((*lagging, modes.shape[-1])).to_event(3)
            change = spread[..., None] * jnp.einsum("rkm,ktm->rkt", DELAY_CHANGE.sample(white), modes)
            delay = bound * jnp.tanh(jnp.arctanh(delay / bound) + change / bound)
        steps = jnp.moveaxis(jnp.pad(delay, [(1, 0), (0, 0), (0, 0)]), -1, 0) / bin_width
        emission = self.emission_sites(data)
        self.observe(data, emission, steps, across, within)

    def modes(self, layout: Layout, n_bins: int) -> np.ndarray:
        """Modes of f / s, (across_latent, time, mode).

        Past their end a delay stays where it was. A latent whose delays change slowly has fewer modes than others: its
        last ones are zero.
        """
        covered = n_bins if self.duration is None else round(self.duration / layout.bin_width)
        tables = [smooth_modes(covered, timescale / layout.bin_width) for timescale in self.timescales_of_delay]
        count = max((table.shape[1] for table in tables), default=0)
        padded = [np.pad(table, [(0, 0), (0, count - table.shape[1])]) for table in tables]
        modes = np.reshape(padded, (self.n_across, covered, count))
        return modes[:, np.minimum(np.arange(n_bins), covered - 1)]

    @property
    def timescales_of_delay(self) -> tuple[float, ...]:
        """Present value of l for each latent, in seconds."""
        if self.delay_timescale is None and self.learned_timescales is not None:
            return self.learned_timescales
        return (self.delay_timescale or FIRST_TIMESCALE,) * self.n_across

    def usual_spread(self, layout: Layout) -> float:
        """Typical spread s in seconds: ``typical_spread``, or one bin if that is None."""
        return layout.bin_width if self.typical_spread is None else self.typical_spread

    # ---- what differs from constant delays ---------------------------------------------------------------------------

    def for_search(self) -> Self:
        return super().for_search().replace(varying=False)

    @property
    def has_courses(self) -> bool:
        return self.varying or super().has_courses

    def completed(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        sites = super().completed(sites, data)
        if not self.varying:
            return sites
        series = np.shape(sites["delay"])
        still = np.zeros((*series, self.modes(data.layout, data.n_bins).shape[-1]))
        return {"delay_change": still, "delay_spread": np.full(series, self.usual_spread(data.layout)), **sites}

    def following(
        self, model: Any, sites: Mapping[str, Any], data: MultiRegionData
    ) -> tuple[Self, dict[str, Any]]:
        """Return this model, with sites at which a fit of ``model`` to such a recording ended.

        Courses keep their shape where modes differ; timescales that another fit learned are taken over.
        """
        if not self.varying or "delay_change" not in sites or model.n_across != self.n_across:
            return super().following(model, sites, data)
        chosen, sites = super().following(model, sites, data)
        chosen = chosen if self.delay_timescale else chosen.replace(learned_timescales=model.timescales_of_delay)
        unit = np.einsum("rkm,ktm->rkt", sites["delay_change"], model.modes(data.layout, data.n_bins))
        return chosen, {**sites, "delay_change": chosen._in_modes(unit, data)}

    def _in_modes(self, unit: np.ndarray, data: MultiRegionData) -> np.ndarray:
        """Least-squares ``delay_change`` for given courses f / s.

        The courses are (region - 1, across_latent, time).
        """
        modes = self.modes(data.layout, data.n_bins)
        square = np.einsum("ktm,ktn->kmn", modes, modes) + 1e-6 * np.eye(modes.shape[-1])
        return np.einsum("rkt,kmt->rkm", unit, np.linalg.solve(square, np.swapaxes(modes, 1, 2)))

    @property
    def held(self) -> tuple[str, ...]:
        return (*super().held, "delay_spread") if self.varying else super().held

    def learned(
        self, data: MultiRegionData, sites: Mapping[str, Any], curvature: Diagonal, fixed: Collection[str]
    ) -> tuple[Self, dict[str, Any]] | None:
        """Find spreads and timescales of highest evidence; None if they hardly differ.

        Timescales that are set are kept, and a delay that was found constant remains so.
        """
        learn = {"learn_spread": "delay_spread" not in fixed, "learn_timescale": self.delay_timescale is None}
        settled = "delay_change" in fixed or not any(learn.values())
        if not self.varying or not self.n_across or settled:
            return None
        layout = data.layout
        # The free coordinate of a level is 2 u, and f adds f / D to u.
        precision = np.maximum(curvature("delay"), 1e-12) * (2 / self.delay_bound(layout)) ** 2 / data.n_bins
        spread, change = np.asarray(sites["delay_spread"]), np.asarray(sites["delay_change"])
        modes, own = self.modes(layout, data.n_bins), self.timescales_of_delay
        found, timescales = spread.copy(), list(own)
        for k, moving in enumerate((spread > 2 * LEAST_SPREAD * layout.bin_width).T):
            if moving.any():
                timescales[k], found[moving, k] = most_evident(
                    modes[k], change[moving, k], spread[moving, k], precision[moving, k], own[k],
                    bin_width=layout.bin_width, typical=self.usual_spread(layout), **learn,
                )  # fmt: skip
        moved = np.abs(np.log(np.array(timescales) / own)).max()
        if moved < SAME_TIMESCALE and np.all(np.abs(np.log(found / spread)) < SAME_SPREAD):
            return None
        model = self if self.delay_timescale else self.replace(learned_timescales=tuple(timescales))
        unit = np.einsum("rkm,ktm->rkt", change, modes)
        course = np.minimum(spread / found, 1.0)[..., None] * unit  # of more spread the same, of less a smaller one
        return model, {**sites, "delay_spread": found, "delay_change": model._in_modes(course, data)}

    def dynamics_sites(self, layout: Layout) -> tuple[str, ...]:
        varying = ("delay_change",) if self.varying else ()
        return (*super().dynamics_sites(layout), *varying)

    def scales(self, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]:
        scales = super().scales(data, sites)
        if not self.varying or not self.n_across:
            return scales
        # A level known to sd / bin says as much per bin; modes are orthogonal, so each gains by its own size.
        level = scales["delay"] * 0.5 * self.delay_bound(data.layout)
        gained = (self.modes(data.layout, data.n_bins) ** 2).sum(1) / (level[..., None] ** 2 * data.n_bins)
        return {**scales, "delay_change": 1 / np.sqrt(1 + np.asarray(sites["delay_spread"])[..., None] ** 2 * gained)}

    def delay_table(self, sites: Mapping[str, Any], layout: Layout, n_bins: int) -> np.ndarray:
        level = super().delay_table(sites, layout, n_bins)
        if not self.varying:
            return level
        bound = self.delay_bound(layout)
        unit = np.einsum("...rkm,ktm->...rkt", sites["delay_change"], self.modes(layout, n_bins))
        change = np.asarray(sites["delay_spread"])[..., None] * unit
        first = np.zeros_like(change[..., :1, :, :])
        return bound * np.tanh(np.arctanh(level / bound)[..., None] + np.concatenate([first, change], -3) / bound)
