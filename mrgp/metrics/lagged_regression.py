r"""Lagged ridge regression of regions on their own past and, in few dimensions, the others'.

It is the baseline of models of communication. With y_i the values of region i less their mean (roots
2 sqrt(y + 3/8) of counts),

.. math::
    y_i(t) = b_i + \sum_{l=1}^{L} y_i(t-l) A_{i,l} + \sum_{j \ne i} m_{ji}(t) V_{ji}' + e_i(t), \qquad
    m_{ji}(t) = \sum_{l=1}^{L} y_j(t-l) W_{ji,l} V_{ji}.

A and W are ridge regressions, together; V has orthonormal columns, the directions along which the source's part of the
prediction varies most (its right singular vectors). So messages m are in units of what they move in the target.
Before a trial, and where nothing was recorded, values count as being at their mean. The ridge is the one that predicts
trials left out best, region by region.
"""

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.signal import lfilter

from mrgp.metrics.scores import pooled_r_squared
from mrgp.parts.communication import SOURCE, TARGET, effectome_of
from mrgp.parts.emissions.counts import uncounted
from mrgp.parts.regression_moments import GRID, Moments, fold_of_trials, leading
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.preprocessing import TRANSFORMS
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.times import bins_since, require_regular


@dataclass(frozen=True, eq=False)
class LaggedRegression:
    """Regression of every region on the past of all.

    Attributes:
        layout: Of the recording it was made from.
        n_lags: L.
        roots: Values are roots of counts.
        center: Mean of values, (neuron,).
        offset: b, (neuron,).
        weights: A and W before their rank is reduced, (lag, neuron, neuron of target).
        directions: V of every edge (source, target).
        ridge: Strength of each region's ridge, relative to the mean square of features, (region,).
        strengths: Mean norms of training messages around their mean, (source, target).
    """

    layout: Layout
    n_lags: int
    roots: bool
    center: Float[np.ndarray, "neuron"]
    offset: Float[np.ndarray, "neuron"]
    weights: Float[np.ndarray, "lag neuron target"]
    directions: dict[tuple[int, int], Float[np.ndarray, "target message"]]
    ridge: Float[np.ndarray, "region"]
    strengths: Float[np.ndarray, "source target"]

    def messages(self, data: MultiRegionData) -> xr.DataArray:
        """Messages m of a recording, (trial, time, edge, message), in the units of values.

        Edges are all pairs; ``source_of_edge`` and ``target_of_edge`` name their regions. A message of fewer dimensions
        than others is filled up with 0.
        """
        names = self.layout.regions
        coords = {end: ("edge", [names[edge[k]] for edge in self.directions]) for k, end in enumerate((SOURCE, TARGET))}
        return xr.DataArray(self._messages(self._values(data)), coords, ("trial", "time", "edge", "message"))

    def effectome(self) -> xr.DataArray:
        """Mean norms of the messages of training trials around their mean, (source, target)."""
        names = list(self.layout.regions)
        return xr.DataArray(self.strengths, {"source": names, "target": names}, ("source", "target"))

    def predict(self, data: MultiRegionData) -> Float[np.ndarray, "trial time neuron"]:
        """Predict values one bin ahead, from past bins; of counts, their roots."""
        return self._predicted(self._values(data)) + self.center

    def inputs(self, data: MultiRegionData, bins: float | None = None) -> xr.DataArray:
        """Residuals, that neither own past nor messages predict, (trial, time, region, input).

        An input that lasts is predicted from its own beginning, so that only what is new of it is left: ``bins`` is a
        time constant with which residuals of earlier bins are summed up, weighted by exp(-age / bins). A region has as
        many inputs as neurons; those of smaller regions are filled up with 0.
        """
        values = self._values(data)
        left = values - self._predicted(values)
        if bins is not None:
            left = lfilter([1.0], [1.0, -np.exp(-1 / bins)], left, axis=1)
        whole = np.zeros((*left.shape[:2], len(self.layout.regions), max(self.layout.n_neurons)))
        for region, part in enumerate(self.layout.region_slices.values()):
            whole[:, :, region, : part.stop - part.start] = left[..., part]
        return xr.DataArray(whole, {"region": list(self.layout.regions)}, ("trial", "time", "region", "input"))

    def perturb(self, region: str, data: MultiRegionData, *, since: float | None = None) -> xr.Dataset:
        """Predict what regions do when a region is heard at its mean only, in the units of values.

        All else stays as it was: residuals, and what the others say. A change passes on from region to region, and
        lasts as long as their own pasts keep it.

        Args:
            region: Whose messages say nothing.
            data: The trials.
            since: Time of the trial in seconds, in bins from which on they say nothing; None for the whole trial.

        Returns:
            ``rate``, the values, and ``rate_without``, with the change, (trial, time, neuron). Coordinate ``region`` of
            neurons.

        Raises:
            DataError: there is no such region, or no bin so late.
        """
        data.region(region)  # says what there is
        values, silent, source = self._values(data), bins_since(data, since), self.layout.region_slices[region]
        change, (own, across) = np.zeros_like(values), self._pasts()
        for t in range(values.shape[1]):
            for lag in range(1, min(self.n_lags, t) + 1):
                past = change[:, t - lag]
                heard = past.copy()
                if silent[t - lag]:
                    heard[:, source] = -values[:, t - lag, source]
                change[:, t] += past @ own[lag - 1] + heard @ across[lag - 1]
        dims = "trial", "time", "neuron"
        coords: dict[str, Any] = {"trial": np.arange(len(values)), "time": data.times}
        coords["region"] = ("neuron", np.array(self.layout.regions)[self.layout.region_of_neuron])
        whole = values + self.center
        return xr.Dataset({"rate": (dims, whole), "rate_without": (dims, whole + change)}, coords)

    def _pasts(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of own pasts, and of messages, (lag, neuron, neuron of the target)."""
        own, across = np.zeros_like(self.weights), np.zeros_like(self.weights)
        parts = list(self.layout.region_slices.values())
        for part in parts:
            own[:, part, part] = self.weights[:, part, part]
        for (source, target), V in self.directions.items():
            across[:, parts[source], parts[target]] = self.weights[:, parts[source], parts[target]] @ V @ V.T
        return own, across

    def score(self, data: MultiRegionData) -> xr.DataArray:
        """R2 of each region one bin ahead, over bins whose past lies within the trial."""
        values = np.where(data.mask, self._values(data), np.nan)[:, self.n_lags :]
        predicted = self._predicted(self._values(data))[:, self.n_lags :]
        scores = [pooled_r_squared(values[..., p], predicted[..., p]) for p in self.layout.region_slices.values()]
        return xr.DataArray(scores, {"region": list(self.layout.regions)}, ("region",))

    def _values(self, data: MultiRegionData) -> np.ndarray:
        """Values less their mean; 0 where nothing was recorded."""
        if data.layout.regions != self.layout.regions or data.layout.n_neurons != self.layout.n_neurons:
            raise DataError("the recording has other regions or neurons than the lagged regression was made from")
        return np.where(data.mask, _in_roots(data.floats, self.roots) - self.center, 0.0)

    def _messages(self, values: np.ndarray) -> np.ndarray:
        past, parts = lagged(values, self.n_lags), list(self.layout.region_slices.values())
        messages = np.zeros((*values.shape[:2], len(self.directions), self._n_dims))
        for e, ((source, target), V) in enumerate(self.directions.items()):
            into = self.weights[:, parts[source], parts[target]] @ V
            messages[:, :, e, : V.shape[1]] = np.einsum("btln,lnm->btm", past[..., parts[source]], into, optimize=True)
        return messages

    @property
    def _n_dims(self) -> int:
        return max((V.shape[1] for V in self.directions.values()), default=0)

    def _predicted(self, values: np.ndarray) -> np.ndarray:
        weights = np.sum(self._pasts(), 0)
        return self.offset + np.einsum("btln,lnm->btm", lagged(values, self.n_lags), weights, optimize=True)


def lagged_regression(
    data: MultiRegionData,
    n_lags: int = 1,
    rank: int | None = 2,
    *,
    ridge: float | None = None,
    roots: bool | None = None,
) -> LaggedRegression:
    """Regress every region on its own past and on messages from the others.

    Args:
        data: Training trials.
        n_lags: L, past bins.
        rank: Dimensions of a message; None for as many as the target has neurons.
        ridge: Strength, relative to the mean square of features; None chooses one per region by trials left out.
        roots: Take Anscombe's roots of counts first; None for a recording of nothing but counts.

    Raises:
        DataError: bins do not follow each other, there is one trial only while the ridge is to be chosen, or no bin has
            every neuron and its past recorded.
        ValueError: a number is out of its range.
    """
    if n_lags < 1:
        raise ValueError(f"n_lags counts at least 1 past bin, not {n_lags}")
    if rank is not None and rank < 1:
        raise ValueError(f"rank counts at least 1 dimension, not {rank}; None gives all")
    if ridge is not None and not ridge >= 0:
        raise ValueError(f"ridge is 0 or more, not {ridge}")
    if ridge is None and data.n_trials < 2:
        raise DataError("the ridge is chosen by trials left out, but there is one: give ridge")
    require_regular(data.layout, "lagged regression")
    roots, layout = uncounted(data) is None if roots is None else roots, data.layout
    mask, parts = data.mask, list(layout.region_slices.values())
    values = _in_roots(data.floats, roots)
    center = np.where(mask, values, 0.0).sum((0, 1)) / np.maximum(mask.sum((0, 1)), 1)
    values = np.where(mask, values - center, 0.0)
    past = lagged(values, n_lags).reshape(*values.shape[:2], -1)
    complete = mask.all(-1)
    usable = complete.copy()
    for lag in range(1, n_lags + 1):  # a row needs its past: bins that lack some would bias products of neurons
        usable[:, lag:] &= complete[:, :-lag]
    usable[:, :n_lags] = False
    if not usable.any():
        raise DataError(f"no bin has every neuron and its past {n_lags} bins recorded: a regression needs some")
    mean_past, mean_now = past[usable].mean(0), values[usable].mean(0)
    folds, strengths = fold_of_trials(data.n_trials), GRID if ridge is None else np.array([ridge])
    rows = [usable & (folds == fold)[:, None] for fold in range(folds.max() + 1)]
    of_folds = [Moments.of(past[row] - mean_past, values[row] - mean_now) for row in rows]
    whole = Moments(*(np.sum(terms, 0) for terms in zip(*of_folds, strict=True)))
    blocks = _Blocks(parts, n_lags, rank)
    chosen = np.zeros(len(parts), int)
    if ridge is None:
        missed = np.zeros((len(strengths), layout.total_neurons))
        for left_out in of_folds:
            kept = whole.without(left_out)
            missed += [left_out.missed(blocks.reduced(kept, weights)) for weights in kept.solutions(strengths)]
        chosen = np.array([missed[:, part].sum(1).argmin() for part in parts])
    solved, weights = whole.solutions(strengths), np.empty((past.shape[-1], layout.total_neurons))
    for part, place in zip(parts, chosen, strict=True):
        weights[:, part] = solved[place][:, part]
    offset = mean_now - mean_past @ blocks.reduced(whole, weights)
    shaped = weights.reshape(n_lags, layout.total_neurons, layout.total_neurons)
    directions, none = blocks.directions(whole, weights), np.zeros((len(parts), len(parts)))
    made = LaggedRegression(layout, n_lags, roots, center, offset, shaped, directions, strengths[chosen], none)
    return replace(made, strengths=effectome_of(made._messages(values), list(directions), len(parts)))


class _Blocks(NamedTuple):
    """Blocks of the weights, of pairs of regions whose rank is reduced.

    Attributes:
        parts: Places of regions among the neurons.
        n_lags: Of features, which are all neurons of the last bin, then of the one before, and so on.
        rank: Of a block; None for all.
    """

    parts: list[slice]
    n_lags: int
    rank: int | None

    def directions(self, moments: Moments, weights: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
        """Directions V of every pair (source, target)."""
        found = {}
        for source, target in permutations(range(len(self.parts)), 2):
            own = self._features(source)
            found[source, target] = leading(moments.xx[np.ix_(own, own)], weights[own, self.parts[target]], self.rank)
        return found

    def reduced(self, moments: Moments, weights: np.ndarray) -> np.ndarray:
        """Weights whose blocks between regions are of the rank."""
        result = weights.copy()
        for (source, target), V in self.directions(moments, weights).items():
            own, part = self._features(source), self.parts[target]
            result[own, part] = weights[own, part] @ V @ V.T
        return result

    def _features(self, source: int) -> np.ndarray:
        """Places of a region among the features, all of its lags."""
        part, n_neurons = self.parts[source], self.parts[-1].stop
        return (np.arange(self.n_lags)[:, None] * n_neurons + np.arange(part.start, part.stop)).ravel()


def lagged(values: Float[np.ndarray, "trial time neuron"], n_lags: int) -> Float[np.ndarray, "trial time lag neuron"]:
    """Values of the past bins, the last first; 0 before the trial."""
    past = np.zeros((*values.shape[:2], n_lags, values.shape[2]))
    for lag in range(1, n_lags + 1):
        past[:, lag:, lag - 1] = values[:, :-lag]
    return past


def _in_roots(values: np.ndarray, roots: bool) -> np.ndarray:
    return TRANSFORMS["anscombe"](values) if roots else values
