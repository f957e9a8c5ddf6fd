r"""Predictions without latents, which every model of held-out neurons should beat.

With c the centre of each neuron (its mean over training trials: one number, or a time course, the PSTH), h what is to
be predicted and r what is seen in the same bin,

    y_h(t) = c_h(t) + W' (y_r(t) - c_r(t)) + e,     W = argmin |Y_h - Y_r W|^2 + strength |W|^2,     e ~ N(0, s_h^2),

Y being the training residuals y - c, and s_h^2 their variance around the prediction. Without W the prediction is the
centre itself. The fit keeps only the moments of the residuals, so that any neurons can be held out afterwards.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import xarray as xr
from jaxtyping import Float

from mrgp.metrics.component_regression import component_regression
from mrgp.metrics.scorer import Scorer
from mrgp.metrics.tables_of_hidden import entries_to_score, hidden_neurons, of_trials, prediction, require_neurons
from mrgp.parts.emissions.counts import uncounted
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

FOLDS = 5  # of training trials, to choose the ridge's strength
GRID = np.logspace(-6, 1, 15)  # of strengths tried, times the sum of squares of a typical neuron
TINY = 1e-12  # of that sum: where nothing penalises, neurons that copy each other still can be told apart


@dataclass(frozen=True, eq=False)
class Baseline:
    """Prediction of hidden neurons that is scored like a fit (see :mod:`mrgp.metrics`).

    It has the methods by which fits are scored.

    Attributes:
        name: How it appears in reports.
        layout: Of the recording it was made from.
        center: c, (condition, time or 1, neuron); the last condition is for trials of none that was seen in training.
        moments: Sums of products of the residuals of each fold of training trials, (fold, neuron, neuron).
        rows: Bins that went into each fold's moments, (fold,).
        variance: Of every neuron's residuals, (neuron,).
        regress: Whether other neurons are used.
        strength: Of the ridge, in squared data units times bins; None: chosen by cross-validation over trials.
        condition: The trial coordinate whose values have centres of their own.
        levels: Those values.
    """

    name: str
    layout: Layout
    center: Float[np.ndarray, "condition time neuron"]
    moments: Float[np.ndarray, "fold neuron neuron"]
    rows: Float[np.ndarray, "fold"]
    variance: Float[np.ndarray, "neuron"]
    regress: bool
    strength: float | None = None
    condition: str | None = None
    levels: tuple = ()
    _weights: dict = field(default_factory=dict, repr=False, compare=False)  # by what is hidden: found once

    def predict(self, data: MultiRegionData) -> xr.Dataset:
        """Predict hidden neurons from the others, bin by bin; what is recorded stays as it is.

        A neuron that is recorded, but not in this bin, counts as being at its centre.

        Returns:
            ``<region>_mean`` and ``<region>_sd``, (trial, time, neuron_<region>).

        Raises:
            DataError: the recording has other neurons, or longer trials than a PSTH was seen for.
        """
        center, mask = self._center(data), data.mask
        residual = np.where(mask, data.floats - center, 0.0)
        hidden = hidden_neurons(data)
        weights, variance = self._regression(hidden)
        mean = center + residual
        mean[..., hidden] += residual[..., ~hidden] @ weights
        spread = np.where(hidden, np.sqrt(variance), np.sqrt(self.variance))
        return prediction(data, mean, np.broadcast_to(spread, mean.shape))

    def log_predictive(self, seen: MultiRegionData, given: MultiRegionData) -> xr.DataArray:
        """log p of the neurons that ``given`` hides and ``seen`` does not, in nats, (trial,).

        Entries are independent.
        """
        predicted = self.predict(given)
        mean, sd = (
            np.concatenate([predicted[f"{name}_{what}"].values for name in self.layout.regions], -1)
            for what in ("mean", "sd")
        )
        return _gaussian(seen.floats, mean, sd**2, entries_to_score(seen, given))

    def log_likelihood(self, data: MultiRegionData) -> xr.DataArray:
        """log p of every trial in nats, (trial,), all entries independent around their centres.

        Raises:
            ValueError: a regression has no joint density of its neurons.
        """
        if self.regress:
            raise ValueError(f"{self.name} predicts neurons from others: it has log_predictive, but no joint density")
        return _gaussian(data.floats, self._center(data), self.variance, data.mask)

    def _center(self, data: MultiRegionData) -> np.ndarray:
        """Centre of every neuron, (trial or 1, time or 1, neuron)."""
        require_neurons(self.name, self.layout, data)
        if 1 < self.center.shape[1] < data.n_bins:
            raise DataError(
                f"trials have {data.n_bins} bins, but {self.name} was made from {self.center.shape[1]}: train on "
                "trials as long as these"
            )
        center = self.center[:, : data.n_bins]
        if self.condition is None:
            return center
        known = {level: i for i, level in enumerate(self.levels)}
        labels = data.trial_labels(self.condition).tolist()
        return center[[known.get(label, len(known)) for label in labels]]

    def _regression(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights W (seen, hidden), and the variance of every neuron around its prediction."""
        key = hidden.tobytes()
        if key not in self._weights:
            self._weights[key] = self._solved(hidden)
        return self._weights[key]

    def _solved(self, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = int((~hidden).sum()), int(hidden.sum())
        if not self.regress or 0 in shape:
            return np.zeros(shape), self.variance
        total, typical = self.moments.sum(0), np.trace(self.moments.sum(0)) / len(hidden)
        strength = self.strength
        if strength is None:
            tried = GRID * typical
            strength = float(tried[np.argmin([self._unexplained(hidden, s) for s in tried])])
        weights = _ridge(total, hidden, strength + TINY * typical)
        variance = self.variance.copy()
        variance[hidden] = np.maximum(_missed(total, hidden, weights) / self.rows.sum(), TINY * typical)
        return weights, variance

    def _unexplained(self, hidden: np.ndarray, strength: float) -> float:
        """Squared error of folds that the weights were not learned from.

        Each neuron's error is in units of its variance.
        """
        total, scale = self.moments.sum(0), np.maximum(self.variance[hidden], np.finfo(float).tiny)
        return sum(
            float((_missed(fold, hidden, _ridge(total - fold, hidden, strength)) / scale).sum())
            for fold in self.moments
        )


def training_mean(train: MultiRegionData) -> Baseline:
    """Make the baseline of every neuron at its mean, the reference of log-likelihoods."""
    return _baseline("training mean", train, "mean", False)


def training_psth(train: MultiRegionData, condition: str | None = None) -> Baseline:
    """Make the baseline of every neuron's PSTH over training trials.

    The PSTH is that of the trial's ``condition`` where one is named.
    """
    return _baseline("training PSTH", train, "psth", False, condition=condition)


def ridge(train: MultiRegionData, strength: float | None = None) -> Baseline:
    """Make the baseline of ridge regression on all other neurons in the same bin."""
    return _baseline("same-bin ridge", train, "mean", True, strength)


def psth_and_ridge(
    train: MultiRegionData, strength: float | None = None, condition: str | None = None
) -> Baseline:
    """Make the baseline of the training PSTH, with ridge regression of what remains.

    The regression is on what remains of the other neurons.
    """
    return _baseline("PSTH + ridge", train, "psth", True, strength, condition)


def baselines(train: MultiRegionData, condition: str | None = None) -> dict[str, Scorer]:
    """Make the baselines that belong into every report, by name.

    Three are for all recordings; of spike counts :func:`component_regression` is the fourth.
    """
    made = [training_psth(train, condition), ridge(train), psth_and_ridge(train, condition=condition)]
    table: dict[str, Scorer] = {baseline.name: baseline for baseline in made}
    if uncounted(train) is None:
        counted = component_regression(train)
        table[counted.name] = counted
    return table


def _baseline(
    name: str,
    train: MultiRegionData,
    center: Literal["mean", "psth"],
    regress: bool,
    strength: float | None = None,
    condition: str | None = None,
) -> Baseline:
    if strength is not None and not 0 <= strength < np.inf:
        raise ValueError(f"the strength of a ridge is 0 or more, not {strength}")
    values, mask = train.floats, train.mask
    levels: tuple = ()
    place = np.zeros(train.n_trials, int)
    if condition is not None:
        found, place = np.unique(train.trial_labels(condition), return_inverse=True)
        levels = tuple(found.tolist())
    mean = values.sum((0, 1)) / np.maximum(mask.sum((0, 1)), 1)
    table = mean[None, None]
    if center == "psth":
        course = _mean_over(values, mask, np.ones(train.n_trials), mean)
        own = [_mean_over(values, mask, 1.0 * (place == i), course) for i in range(len(levels))]
        table = np.stack([*own, course])
    residual = np.where(mask, values - (table[place] if condition is not None else table), 0.0)
    n_rows = np.maximum(mask.sum((0, 1)), 1)
    variance = np.maximum((residual**2).sum((0, 1)) / n_rows, np.finfo(float).tiny)
    # Bins in which some neuron was not recorded would bias the products.
    complete = mask.all(-1)
    if regress and not complete.any():
        raise DataError("no bin of the training trials has every neuron recorded: a regression needs some")
    folds = np.array_split(np.arange(train.n_trials), min(FOLDS, train.n_trials)) if regress else []
    rows = [residual[fold][complete[fold]] for fold in folds]
    size = train.layout.total_neurons
    moments = np.array([row.T @ row for row in rows]).reshape(len(rows), size, size)
    return Baseline(
        name, train.layout, table, moments, np.array([float(len(row)) for row in rows]), variance, regress, strength,
        condition, levels,
    )  # fmt: skip


def _mean_over(values: np.ndarray, mask: np.ndarray, weight: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Weighted mean over trials, (time, neuron); ``otherwise`` where nothing was recorded."""
    count = np.einsum("b,btn->tn", weight, mask)
    total = np.einsum("b,btn->tn", weight, values)
    return np.where(count > 0, total / np.maximum(count, 1), otherwise)


def _ridge(moments: np.ndarray, hidden: np.ndarray, strength: float) -> np.ndarray:
    inner = moments[np.ix_(~hidden, ~hidden)]
    return np.linalg.solve(inner + strength * np.eye(len(inner)), moments[np.ix_(~hidden, hidden)])


def _missed(moments: np.ndarray, hidden: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of squared errors of every hidden neuron, |Y_h - Y_r W|^2 from the moments."""
    cross = moments[np.ix_(~hidden, hidden)]
    inner = moments[np.ix_(~hidden, ~hidden)]
    return np.diag(moments)[hidden] - 2 * (weights * cross).sum(0) + (weights * (inner @ weights)).sum(0)


def _gaussian(values: np.ndarray, mean: np.ndarray, variance: np.ndarray, scored: np.ndarray) -> xr.DataArray:
    """log N(values; mean, variance) summed over the entries scored, (trial,)."""
    density = -0.5 * ((values - mean) ** 2 / variance + np.log(2 * np.pi * variance))
    return of_trials(density, scored)
