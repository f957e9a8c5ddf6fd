r"""Holes in clouds of points, by persistent homology: a ring has one, a plane none.

Balls around points grow; a hole of dimension k is born at a radius and filled at another, and is there if their ratio
pi = death / birth is larger than chance would have it. Whatever points are drawn from, without holes of its own,

    l = log log pi + B,    B = -gamma - mean(log log pi)

has nearly one distribution, P(l > x) = exp(-e^x), gamma being Euler's constant (Bobrowski & Skraba 2023, Sci. Rep. 13,
for Vietoris-Rips complexes). A hole counts whose probability is below the level, divided by the number of them. All
holes of the cloud tell what chance is: where it has one or two, nothing is said.
"""

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from mrgp.recordings.checks import DataError, need

N_POINTS = 400  # time and memory rise with their third power and more
LEVEL = 0.05


def persistent_holes(
    points: ArrayLike | xr.DataArray,
    *,
    dimension: int = 1,
    n_points: int = N_POINTS,
    level: float = LEVEL,
    seed: int = 0,
) -> xr.Dataset:
    """Find holes in a cloud of points; the Betti number counts those that are no chance.

    Needs ripser, which the extra ``mrgp[geometry]`` installs.

    Args:
        points: (..., dimension), such as latents (trial, time, latent); rows with NaN are left out.
        dimension: Of the holes: 1 for rings, 2 for hollow spheres.
        n_points: Points that are drawn at random from all of them.
        level: Chance of a hole too many.
        seed: Of the points that are drawn.

    Returns:
        ``birth`` and ``death`` (hole,) in units of the points, the most persistent ratio first; ``p_value`` (hole,);
        ``betti``, the number of holes below the level; and ``chosen`` (point,), the rows that were drawn, of those
        without NaN.

    Raises:
        DataError: ripser is not installed, or there are too few points.
        ValueError: a number is out of its range.
    """
    if dimension < 1 or n_points < 4 or not 0 < level < 1:
        wrong = f"dimension = {dimension}, n_points = {n_points}, level = {level}"
        raise ValueError(f"{wrong}: give a dimension from 1, 4 points or more, and a level between 0 and 1")
    x = np.asarray(points, float)
    rows = x.reshape(-1, x.shape[-1]) if x.ndim > 1 else np.empty((0, 1))
    rows = rows[np.isfinite(rows).all(1)]
    if len(rows) < 4:
        raise DataError(f"points have shape {x.shape}, of which {len(rows)} rows are numbers: give 4 at least")
    ripser = need("ripser", "persistent_holes", "geometry")
    drawn = np.random.default_rng(seed).choice(len(rows), min(n_points, len(rows)), replace=False)
    chosen = np.sort(drawn)
    diagram = np.asarray(ripser.ripser(rows[chosen], maxdim=dimension)["dgms"][dimension], float).reshape(-1, 2)
    diagram = diagram[(diagram[:, 0] > 0) & np.isfinite(diagram[:, 1]) & (diagram[:, 1] > diagram[:, 0])]
    diagram = diagram[np.argsort(-diagram[:, 1] / diagram[:, 0])]
    chance = chances(diagram)
    return xr.Dataset(
        {
            "birth": ("hole", diagram[:, 0]),
            "death": ("hole", diagram[:, 1]),
            "p_value": ("hole", chance),
            "betti": ((), int(np.sum(chance < level / max(1, len(chance)))), {"units": "1"}),
            "chosen": ("point", chosen),
        },
        attrs={"dimension": dimension, "level": level},
    )


def chances(diagram: np.ndarray) -> np.ndarray:
    """Find the chance that noise is as persistent, (hole,), from births and deaths (hole, 2)."""
    if not len(diagram):
        return np.empty(0)
    loglog = np.log(np.log(diagram[:, 1] / diagram[:, 0]))
    return np.exp(-np.exp(loglog - np.euler_gamma - loglog.mean()))
