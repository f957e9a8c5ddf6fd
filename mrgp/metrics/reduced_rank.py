r"""Reduced-rank regression of one region on another, through few directions.

With x the values of the source and y those of the target, less their means (roots 2 sqrt(y + 3/8) of counts),

.. math::
    y(t) = x(t - l)\, U V' + e(t),

of rank q: U V' is the ridge regression, projected on the q directions V along which its predictions vary most. The rank
is the smallest whose performance on trials left out is within one standard error of the best (Semedo et al. 2019,
Neuron 102). Unlike :mod:`mrgp.metrics.lagged_regression` it knows nothing of the target's own past.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float

from mrgp.metrics.scores import pooled_r_squared
from mrgp.parts.emissions.counts import uncounted
from mrgp.parts.regression_moments import GRID, Moments, fold_of_trials, leading
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.preprocessing import TRANSFORMS
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.times import require_regular


@dataclass(frozen=True, eq=False)
class ReducedRankRegression:
    """Regression of a target on few dimensions of a source.

    Attributes:
        layout: Of the recording it was made from.
        ends: Names of source and target.
        lag: l, bins by which the source is earlier.
        roots: Values are roots of counts.
        means: Of the values of source and target over the bins used, (neuron,) each.
        source_weight: U, (source neuron, mode).
        target_mode: V, orthonormal, (target neuron, mode).
        ridge: Its strength, relative to the mean square of the source's neurons.
        performance: ``mean`` and ``error``, the standard error over folds, of R2 on trials left out, (rank,) from 0.
    """

    layout: Layout
    ends: tuple[str, str]
    lag: int
    roots: bool
    means: tuple[np.ndarray, np.ndarray]
    source_weight: Float[np.ndarray, "source mode"]
    target_mode: Float[np.ndarray, "target mode"]
    ridge: float
    performance: xr.Dataset

    @property
    def rank(self) -> int:
        """Dimensions of what the regions communicate."""
        return self.source_weight.shape[1]

    def messages(self, data: MultiRegionData) -> Float[np.ndarray, "trial time mode"]:
        """Messages of the source, x(t - l) U.

        They are 0 before the trial, and where a neuron of the source is missing.
        """
        x, seen = _region(data, self.ends[0], self.roots)
        sent = np.where(seen.all(-1, keepdims=True), (x - self.means[0]) @ self.source_weight, 0.0)
        return np.concatenate([np.zeros_like(sent[:, : self.lag]), sent[:, : sent.shape[1] - self.lag]], 1)

    def predict(self, data: MultiRegionData) -> Float[np.ndarray, "trial time target"]:
        """Predict values of the target; of counts, their roots."""
        return self.means[1] + self.messages(data) @ self.target_mode.T

    def score(self, data: MultiRegionData) -> float:
        """R2 of the target, over bins whose source lies within the trial."""
        y, seen = _region(data, self.ends[1], self.roots)
        values = np.where(seen, y, np.nan)[:, self.lag :]
        return pooled_r_squared(values, self.predict(data)[:, self.lag :])


def reduced_rank_regression(
    data: MultiRegionData,
    source: str,
    target: str,
    rank: int | None = None,
    *,
    lag: int = 0,
    ridge: float | None = None,
    roots: bool | None = None,
) -> ReducedRankRegression:
    """Regress a region on few dimensions of another, at the same time or ``lag`` bins before.

    Args:
        data: Training trials, two or more.
        source: Region that predicts.
        target: Region that is predicted.
        rank: Dimensions; None chooses them by trials left out.
        lag: Bins by which the source is earlier, 0 or more.
        ridge: Strength, relative to the mean square of the source's neurons; None chooses it by trials left out.
        roots: Take Anscombe's roots of counts first; None for a recording of nothing but counts.

    Raises:
        DataError: there is no such region, they are one and the same, there is one trial, or no bin has every neuron
            of both recorded.
        ValueError: a number is out of its range.
    """
    parts = data.layout.region_slices
    for name in (source, target):
        if name not in parts:
            raise DataError(f"there is no region {name!r}: the recording has {', '.join(parts)}")
    if source == target:
        raise DataError(f"a regression is of two regions, not of {source} on itself: name another")
    most = min(parts[name].stop - parts[name].start for name in (source, target))
    if rank is not None and not 1 <= rank <= most:
        raise ValueError(f"rank is from 1 to {most}, the neurons of the smaller region, not {rank}")
    if not 0 <= lag < data.n_bins:
        raise ValueError(f"lag is 0 or more bins and fewer than the {data.n_bins} of a trial, not {lag}")
    if ridge is not None and not ridge >= 0:
        raise ValueError(f"ridge is 0 or more, not {ridge}")
    if data.n_trials < 2:
        raise DataError("ranks are scored on trials left out, but there is one trial: record more")
    if lag:
        require_regular(data.layout, "regression on earlier bins")
    roots = uncounted(data) is None if roots is None else roots
    (x, x_seen), (y, y_seen) = (_region(data, name, roots) for name in (source, target))
    x, x_seen, y, y_seen = x[:, : data.n_bins - lag], x_seen[:, : data.n_bins - lag], y[:, lag:], y_seen[:, lag:]
    usable = x_seen.all(-1) & y_seen.all(-1)
    folds = fold_of_trials(data.n_trials)
    rows = [usable & (folds == fold)[:, None] for fold in range(folds.max() + 1)]
    rows = [row for row in rows if row.any()]
    if len(rows) < 2:
        raise DataError(f"too few bins have every neuron of {source} and {target} recorded: a regression needs some")
    means = x[usable].mean(0), y[usable].mean(0)
    of_folds = [Moments.of(x[row] - means[0], y[row] - means[1]) for row in rows]
    whole = Moments(*(np.sum(terms, 0) for terms in zip(*of_folds, strict=True)))
    strengths = GRID if ridge is None else np.array([ridge])
    missed = [[f.missed(w).sum() for w in whole.without(f).solutions(strengths)] for f in of_folds]
    strength = float(strengths[np.sum(missed, 0).argmin()])
    scores = np.zeros((len(of_folds), 1 + most))
    for f, left_out in enumerate(of_folds):
        kept = whole.without(left_out)
        weights = kept.solutions([strength])[0]
        V = leading(kept.xx, weights, most)
        reduced = (weights @ V[:, :q] @ V[:, :q].T for q in range(1 + most))
        scores[f] = [1 - left_out.missed(own).sum() / left_out.yy.sum() for own in reduced]
    mean, error = scores.mean(0), scores.std(0, ddof=1) / np.sqrt(len(scores))
    best = mean.argmax()
    chosen = int(np.argmax(mean >= mean[best] - error[best])) if rank is None else rank
    weights = whole.solutions([strength])[0]
    V = leading(whole.xx, weights, chosen)
    performance = xr.Dataset({"mean": ("rank", mean), "error": ("rank", error)}, {"rank": np.arange(1 + most)})
    return ReducedRankRegression(
        data.layout, (source, target), lag, roots, means, weights @ V, V, strength, performance
    )


def _region(data: MultiRegionData, name: str, roots: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values of a region, roots if so wanted, and which of them were recorded."""
    part = data.layout.region_slices[name]
    values = data.floats[..., part]
    return TRANSFORMS["anscombe"](values) if roots else values, data.mask[..., part]
