"""Adaptive delay model: latents shared across regions with delays that vary during a trial (Li et al. 2025, ICML)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.linalg import solve_triangular

from mrgp.data import Layout, MultiRegionData
from mrgp.preset import Preset

KNOTS_PER_TIMESCALE = 4 / 3  # leaves 1e-3 of the variance of a squared exponential between two knots
LEAST_MODE = 1e-6  # of the first mode's variance: a mode below it cannot be seen in the delays


@dataclass(frozen=True)
class ADM(Preset):
    r"""Latents shared by all regions with a delay each that moves smoothly during the trial, and private latents.

    .. math::
        x_{r,k}(t) &= \sqrt{1-\epsilon}\, g_k(t - \delta_{r,k}(t)) + \sqrt{\epsilon}\, \eta, \qquad g_k \sim GP(0, k) \\
        \delta_{r,k}(t) &= D \tanh\big(u_{r,k} + f_{r,k}(t) / D\big), \qquad
        f_{r,k} \sim GP\big(0, s^2 e^{-(t-t')^2 / 2 \ell^2}\big) \\
        y_r(t) &= C_r [x_r(t); w_r(t)] + d_r + e_r(t), \qquad e_r \sim N(0, \mathrm{diag}\, R_r)

    The delays of a trial's clock are the same in every trial. D is ``max_delay``; D tanh u is the level around which
    the delay moves. f is a sum of the process's principal modes over the trial, the smoothest first.
    Sample sites: those of DLAG, ``delay`` (region - 1, across_latent) being the level in seconds, and
    ``delay_change`` (region - 1, across_latent, mode), standard normal.

    Args:
        delay_timescale: l in seconds: how fast delays may change.
        delay_spread: s in seconds, prior sd of the change; None for one bin.
        duration: Seconds that the modes cover; None for the trials of the recording (``fit`` sets it).
        varying: False holds delays constant, which is DLAG: where the search for a start begins.
    """

    delay_timescale: float = 0.2
    delay_spread: float | None = None
    duration: float | None = None
    varying: bool = True

    regions_needed: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("delay_timescale", "delay_spread", "duration"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"ADM: {name} is a positive number of seconds, not {value}")

    def __call__(self, data: MultiRegionData) -> None:
        layout, bin_width = data.layout, data.bin_width
        assignment = self.assignment(layout)
        across = self.kernel_sites("across", self.n_across, bin_width)
        within = self.kernel_sites("within", sum(assignment.n_within), bin_width)
        bound, lagging = self.delay_bound(layout), (assignment.n_regions - 1, self.n_across)
        level = numpyro.sample("delay", dist.Uniform(-bound, bound).expand(lagging).to_event(2))
        delay = level[..., None]
        if self.varying:
            basis = self.basis(layout, data.n_bins)
            white = dist.Normal().expand((*lagging, basis.shape[1])).to_event(3)
            change = numpyro.sample("delay_change", white) @ basis.T
            delay = bound * jnp.tanh(jnp.arctanh(delay / bound) + change / bound)
        steps = jnp.moveaxis(jnp.pad(delay, [(1, 0), (0, 0), (0, 0)]), -1, 0) / bin_width
        loadings, noise, offset = self.emission_sites(data, assignment.n_columns)
        self.observe(data, loadings, noise, offset, steps, across, within)

    def basis(self, layout: Layout, n_bins: int) -> np.ndarray:
        """The modes of f in seconds, (time, mode); past their end a delay stays where it was."""
        covered = n_bins if self.duration is None else round(self.duration / layout.bin_width)
        spread = layout.bin_width if self.delay_spread is None else self.delay_spread
        modes = spread * smooth_modes(covered, self.delay_timescale / layout.bin_width)
        return modes[np.minimum(np.arange(n_bins), covered - 1)]

    # ---- what differs from constant delays ---------------------------------------------------------------------------

    def prepared(self, data: MultiRegionData) -> Self:
        return self if self.duration is not None else self.replace(duration=data.n_bins * data.bin_width)

    def for_search(self) -> Self:
        return super().for_search().replace(varying=False)

    def completed(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        still = np.zeros((*np.shape(sites["delay"]), self.basis(data.layout, data.n_bins).shape[1]))
        return {"delay_change": still, **sites} if self.varying else dict(sites)

    def dynamics_sites(self, layout: Layout) -> tuple[str, ...]:
        varying = ("delay_change",) if self.varying else ()
        return (*super().dynamics_sites(layout), *varying)

    def scales(self, data: MultiRegionData, noise: np.ndarray) -> dict[str, np.ndarray]:
        scales = super().scales(data, noise)
        # A level known to sd / bin says as much per bin; modes are orthogonal, so each gains by its own size.
        level = scales["delay"] * 0.5 * self.delay_bound(data.layout)
        gained = (self.basis(data.layout, data.n_bins) ** 2).sum(0) / (level**2 * data.n_bins)
        return {**scales, "delay_change": 1 / np.sqrt(1 + gained)}

    def delay_table(self, sites: Mapping[str, Any], layout: Layout, n_bins: int) -> np.ndarray:
        level = super().delay_table(sites, layout, n_bins)
        if not self.varying:
            return level
        bound = self.delay_bound(layout)
        change = np.asarray(sites["delay_change"]) @ self.basis(layout, n_bins).T
        first = np.zeros_like(change[..., :1, :, :])
        return bound * np.tanh(np.arctanh(level / bound)[..., None] + np.concatenate([first, change], -3) / bound)


@lru_cache
def smooth_modes(n_bins: int, timescale: float) -> np.ndarray:
    """Principal modes of a squared exponential of unit variance over ``n_bins`` bins, (time, mode).

    Their squares sum to the variance. The process is first represented by its values at knots, K(t, knots) L^-T with
    K(knots, knots) = L L', that reach one timescale beyond both ends, so that the cost is linear in time.
    """
    spacing = timescale / KNOTS_PER_TIMESCALE
    knots = np.arange(-timescale, n_bins + timescale + spacing, spacing)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * ((a[:, None] - b) / timescale) ** 2)

    root = np.linalg.cholesky(kernel(knots, knots) + 1e-6 * np.eye(len(knots)))
    values = solve_triangular(root, kernel(knots, np.arange(n_bins)), lower=True).T
    left, sizes, _ = np.linalg.svd(values, full_matrices=False)
    return (left * sizes)[:, sizes**2 > LEAST_MODE * sizes[0] ** 2]
