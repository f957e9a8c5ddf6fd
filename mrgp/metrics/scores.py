r"""Scores of a prediction, on plain arrays: how far it is from what was recorded.

Arrays are (trial, time, neuron) in units of the data, NaN where nothing was recorded; there the prediction does not
count either. With observations y, predictions m and averages over what was recorded,

    PSTH RMSE^2  = mean over (condition, time, neuron) of (mean_b y - mean_b m)^2,
    trial RMSE^2 = mean over (trial, time, neuron) of (y - m)^2,
    R^2          = 1 - sum (y - m)^2 / sum (y - ybar)^2,

ybar being the neuron's own mean over the trials and bins scored. Pooled, both sums run over all neurons of a region, so
that neurons count by their variance.
"""

import numpy as np
from jaxtyping import Float, Int

from mrgp.metrics.metric import HiddenNeurons, HiddenRegion, Metric


def psth_rmse(
    observed: Float[np.ndarray, "trial time neuron"],
    predicted: Float[np.ndarray, "trial time neuron"],
    condition: Int[np.ndarray, "trial"] | None = None,
) -> float:
    """Root mean square error of the peristimulus time histogram (PSTH).

    Each condition has its own PSTH where trials have several.
    """
    errors = []
    groups = np.zeros(len(observed), int) if condition is None else condition
    seen = ~np.isnan(observed)
    error = np.where(seen, observed - predicted, 0.0)
    for group in np.unique(groups):
        count = seen[groups == group].sum(0)
        errors.append((error[groups == group].sum(0)[count > 0] / count[count > 0]) ** 2)
    return _root_mean(np.concatenate(errors))


def trial_rmse(
    observed: Float[np.ndarray, "trial time neuron"], predicted: Float[np.ndarray, "trial time neuron"]
) -> float:
    """Root mean square error over all entries recorded."""
    error = observed - predicted
    return _root_mean(error[~np.isnan(error)] ** 2)


def r_squared(
    observed: Float[np.ndarray, "trial time neuron"], predicted: Float[np.ndarray, "trial time neuron"]
) -> Float[np.ndarray, "neuron"]:
    """R^2 of each neuron; NaN where it never changes."""
    missed, total = _squares(observed, predicted)
    return 1 - _ratio(missed, total)


def pooled_r_squared(
    observed: Float[np.ndarray, "trial time neuron"], predicted: Float[np.ndarray, "trial time neuron"]
) -> float:
    """R^2 of all neurons together."""
    missed, total = _squares(observed, predicted)
    return float(1 - _ratio(missed.sum(), total.sum()))


def _squares(observed: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares per neuron: of the errors, and around the neuron's own mean."""
    seen = ~np.isnan(observed)
    mean = np.where(seen, observed, 0.0).sum((0, 1)) / np.maximum(seen.sum((0, 1)), 1)
    missed, total = (np.where(seen, (observed - m) ** 2, 0.0).sum((0, 1)) for m in (predicted, mean))
    return missed, total


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)


def _root_mean(squares: np.ndarray) -> float:
    return float(np.sqrt(squares.mean())) if squares.size else float("nan")


class PsthRmse(Metric):
    """Root mean square error of the PSTHs of hidden neurons."""

    heading, unit, digits = "PSTH RMSE", "data units", 4
    less_is_better = True

    def score(self, hidden: HiddenNeurons) -> float:
        return psth_rmse(hidden.observed, hidden.predicted, hidden.condition)


class TrialRmse(Metric):
    """Root mean square error of hidden neurons in single trials."""

    heading, unit, digits = "trial RMSE", "data units", 4
    less_is_better = True

    def score(self, hidden: HiddenNeurons) -> float:
        return trial_rmse(hidden.observed, hidden.predicted)


class R2(Metric):
    """Variance of hidden neurons that their prediction explains, of all of a region together."""

    heading = "R²"
    panel = "R² of single trials"
    region_panel = "R² of a region\npredicted from the others"
    region_column = "R², region out"

    def score(self, hidden: HiddenNeurons) -> float:
        return pooled_r_squared(hidden.observed, hidden.predicted)


class NormalisedError(Metric):
    """RMS error over the RMS of what was recorded around each neuron's mean, sqrt(1 - R^2)."""

    needs = HiddenRegion
    digits = None

    def score(self, hidden: HiddenNeurons) -> float:
        return float(np.sqrt(1 - pooled_r_squared(hidden.observed, hidden.predicted)))


class BitsPerBin(Metric):
    """log p of hidden neurons given the others, in bits over the number of entries predicted."""

    heading, unit = "bits/bin", "bits per neuron and bin"
    above_baseline = True
    panel = "bits per neuron and bin"
    region_panel = "bits, region given the others"

    def score(self, hidden: HiddenNeurons) -> float:
        return float(hidden.log_likelihood.sum() / np.log(2) / max((~np.isnan(hidden.observed)).sum(), 1))
