r"""Poisson regression of hidden neurons on principal components of the others.

It is a baseline of spike counts.

With x(t) the counts of the seen neurons, smoothed over time by a Gaussian of sd ``SMOOTHING`` bins, c their mean over
training bins and V their first ``COMPONENTS`` principal directions (of the eigenvalues l_1 >= l_2 >= ... of their
covariance),

    z(t) = V' (x(t) - c) / sqrt(sum_k l_k),        y_h(t) ~ Poisson(exp(b_h + w_h' z(t))),

where b and w maximise, neuron by neuron over training bins,

    sum_t (y(t) eta(t) - exp eta(t)) + b / 2 - |w|^2 / 2,        eta(t) = b + w' z(t).

The penalty is a normal prior: variances of z sum to 1, so that a log-rate has the sd 1 a priori, and most of it along
the first components. The term b / 2 is Jeffreys' prior of a Poisson rate: predicted spikes of all training bins sum to
those recorded and half of one, so that a neuron that never fired has that half at the same rate in every bin. Log-rates
of other trials are kept between the lowest and the highest of training bins, as nothing is known beyond.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from scipy.special import gammaln, xlogy

from mrgp.metrics.tables_of_hidden import entries_to_score, hidden_neurons, of_trials, prediction, require_neurons
from mrgp.parts.emissions.counts import require_counts
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.preprocessing import gaussian_average
from mrgp.recordings.recording import MultiRegionData

NAME = "Poisson on PCs"
SMOOTHING = 3.0  # bins: sd of the Gaussian; 30 ms of the recordings of tests/benchmarks/component_regression.py
COMPONENTS = 20  # at most
HALF = 0.5  # of a spike: Jeffreys' prior of a Poisson rate, rate^(-1/2), in coordinates of the log-rate
RANK = 1e-10  # of the largest eigenvalue: below, a direction is rounding
STEPS = 100  # of Newton's method; ten are usual
TOLERANCE = 1e-12  # nats: gain that the next step promises
REMEDY = (f"take the recording as it was before its counts were changed, or leave the baseline {NAME!r} out",)


class Regression(NamedTuple):
    """Poisson regression of the neurons that are hidden together.

    Attributes:
        directions: From smoothed counts less their mean to components z.
        weights: b, then w.
        lowest: Log-rate of training bins, the lowest of each hidden neuron.
        highest: The highest.
    """

    directions: Float[np.ndarray, "seen component"]
    weights: Float[np.ndarray, "term hidden"]
    lowest: Float[np.ndarray, "hidden"]
    highest: Float[np.ndarray, "hidden"]

    def rates(self, smoothed: Float[np.ndarray, "... seen"]) -> Float[np.ndarray, "... hidden"]:
        """Rates in spikes per bin, from smoothed counts less their mean."""
        log_rate = self.weights[0] + smoothed @ self.directions @ self.weights[1:]
        return np.exp(np.clip(log_rate, self.lowest, self.highest))


@dataclass(frozen=True, eq=False)
class ComponentRegression:
    """Baseline of spike counts that predicts hidden neurons from components of the others.

    It has the methods by which fits are scored; the regression is made once for every set of hidden neurons.

    Attributes:
        name: How it appears in reports.
        layout: Of the recording it was made from.
        mean: Of every neuron's counts, over all that was recorded.
        center: Of its smoothed counts, over the bins below.
        counts: In bins of the training trials in which every neuron was recorded.
        smoothed: The smoothed counts there, less their mean.
    """

    name: str
    layout: Layout
    mean: Float[np.ndarray, "neuron"]
    center: Float[np.ndarray, "neuron"]
    counts: Float[np.ndarray, "bin neuron"]
    smoothed: Float[np.ndarray, "bin neuron"]
    _found: dict[bytes, Regression] = field(default_factory=dict, repr=False, compare=False)  # by what is hidden

    @classmethod
    def of(cls, train: MultiRegionData) -> Self:
        """Make the baseline from training trials; see :func:`component_regression`."""
        require_counts(train, *REMEDY)
        values, mask = train.floats, train.mask
        # As in ridge regression: bins in which some neuron was not recorded would bias products of neurons.
        complete = mask.all(-1)
        if not complete.any():
            raise DataError("no bin of the training trials has every neuron recorded: a regression needs some")
        smoothed = gaussian_average(values, mask, SMOOTHING)[complete]
        center = smoothed.mean(0)
        mean = values.sum((0, 1)) / np.maximum(mask.sum((0, 1)), 1)
        return cls(NAME, train.layout, mean, center, values[complete], smoothed - center)

    def predict(self, data: MultiRegionData) -> xr.Dataset:
        """Predict counts of hidden neurons from the others; what is recorded stays as it is.

        A neuron that is recorded, but not in this bin, counts as being at its mean.

        Returns:
            ``<region>_mean`` and ``<region>_sd``, (trial, time, neuron_<region>): of Poisson counts the sd is the
            root of the mean.

        Raises:
            DataError: the recording has other neurons, or values that are no counts.
        """
        mean = self._mean(data)
        return prediction(data, mean, np.sqrt(np.where(hidden_neurons(data), mean, self.mean)))

    def log_predictive(self, seen: MultiRegionData, given: MultiRegionData) -> xr.DataArray:
        """log p of the neurons that ``given`` hides and ``seen`` does not, in nats, (trial,).

        Entries are independent Poisson counts.
        """
        require_counts(seen, *REMEDY)
        counts, scored = seen.floats, entries_to_score(seen, given)
        rate = np.where(scored, self._mean(given), 1.0)
        return of_trials(xlogy(counts, rate) - rate - gammaln(counts + 1), scored)

    def log_likelihood(self, data: MultiRegionData) -> xr.DataArray:
        """Raise ValueError: a regression has no joint density of its neurons."""
        raise ValueError(f"{self.name} predicts neurons from others: it has log_predictive, but no joint density")

    def _mean(self, data: MultiRegionData) -> np.ndarray:
        """Counts where they are recorded, else what is expected, (trial, time, neuron)."""
        require_neurons(self.name, self.layout, data)
        require_counts(data, *REMEDY)
        values, mask, hidden = data.floats, data.mask, hidden_neurons(data)
        mean = np.where(mask, values, self.mean)
        if hidden.any():
            recorded = mask[..., ~hidden]
            smoothed = gaussian_average(values[..., ~hidden], recorded, SMOOTHING) - self.center[~hidden]
            mean[..., hidden] = self._regression(hidden).rates(np.where(recorded, smoothed, 0.0))
        return mean

    def _regression(self, hidden: Bool[np.ndarray, "neuron"]) -> Regression:
        key = hidden.tobytes()
        if key not in self._found:
            directions = principal_directions(self.smoothed[:, ~hidden])
            ones = np.ones((len(self.counts), 1))
            design = np.concatenate([ones, self.smoothed[:, ~hidden] @ directions], 1)
            weights = np.stack([poisson_regression(design, own) for own in self.counts[:, hidden].T], -1)
            log_rate = design @ weights
            self._found[key] = Regression(directions, weights, log_rate.min(0), log_rate.max(0))
        return self._found[key]


def component_regression(train: MultiRegionData) -> ComponentRegression:
    """Make the baseline of Poisson regression on principal components of the other neurons.

    Raises:
        DataError: a value is no count, or no bin has every neuron recorded.
    """
    return ComponentRegression.of(train)


def principal_directions(rows: Float[np.ndarray, "bin seen"]) -> Float[np.ndarray, "seen component"]:
    """Principal directions of centred rows, scaled so that variances of all components sum to 1.

    There are fewer than ``COMPONENTS`` where the rows have less rank.
    """
    variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    largest = slice(None, -COMPONENTS - 1, -1)
    variances, directions = variances[largest], directions[:, largest]
    kept = variances > RANK * variances.max(initial=np.finfo(float).tiny)
    return directions[:, kept] / np.sqrt(variances[kept].sum() if kept.any() else 1.0)


def poisson_regression(design: Float[np.ndarray, "bin term"], counts: Float[np.ndarray, "bin"]) -> np.ndarray:
    """Weights of a log-rate under the priors above, by Newton's method, (term,).

    The first column of ``design`` is 1. The log-posterior is concave: steps are halved until it rises.
    """
    precision = np.ones(design.shape[1])
    precision[0] = 0.0
    slope_of_counts = counts @ design
    slope_of_counts[0] += HALF
    weights = np.zeros(design.shape[1])
    weights[0] = np.log((counts.sum() + HALF) / len(counts))

    def lost(weights: np.ndarray) -> float:
        with np.errstate(over="ignore"):  # a step too long, which is halved
            return np.exp(design @ weights).sum() - slope_of_counts @ weights + 0.5 * (precision * weights**2).sum()

    loss = lost(weights)
    for _ in range(STEPS):
        rate = np.exp(design @ weights)
        slope = rate @ design - slope_of_counts + precision * weights
        step = np.linalg.solve((design.T * rate) @ design + np.diag(precision), slope)
        if slope @ step < TOLERANCE:
            break
        while (new := lost(weights - step)) > loss:
            step = step / 2
        weights, loss = weights - step, new
    return weights
