r"""Scores of single trials against the truth of a simulation: latents, and rates.

Latents are known up to an affine map. It is fitted on every second trial, the first, third and so on, and scored on the
others: with x what is inferred and z what is true,

.. math::
    R^2 = 1 - \sum |z - a - B x|^2 / \sum |z - \bar z|^2.

Rates, or their logarithms, need no map: R^2 is of all neurons of a region around each one's mean.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from mrgp.metrics.communication import regression_squares
from mrgp.metrics.few_shot import posterior_means
from mrgp.metrics.metric import Metric, SimulatedTrials, beside
from mrgp.metrics.scores import pooled_r_squared
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.draws import ETA, LATENTS
from mrgp.results.fit import Fit

STATES = (LATENTS, "state", "across", "within")
"""Names that simulations have for latents (trial, time, ...); those that there are, are taken together."""


class Signal(NamedTuple):
    """Array of a truth that says what neurons do, (trial, time, neuron).

    Attributes:
        name: In the truth.
        of_mean: From the expected values that a fit predicts, and whether they are of counts.
    """

    name: str
    of_mean: Callable[[np.ndarray, bool], np.ndarray]


def _logarithm(mean: np.ndarray, counts: bool) -> np.ndarray:
    return np.log(np.maximum(mean, np.finfo(float).tiny)) if counts else mean


SIGNALS = (Signal("log_rate", _logarithm), Signal(ETA, _logarithm), Signal("rates", lambda mean, counts: mean))
"""The first that is there is scored."""
SCORED = frozenset({*STATES, *(signal.name for signal in SIGNALS)})


def recovery_of_trials(fit: Fit, test: MultiRegionData, truth: xr.Dataset) -> xr.Dataset:
    """Score latents and rates of trials against what a simulation knows.

    Args:
        fit: Of any model.
        test: Trials of the simulation, all or some: they are found by their places among all.
        truth: Of the simulation, ``Simulation.truth``.

    Returns:
        ``latents_r2``, and ``signal_r2`` (region,), of log-rates where values are counts: each where the truth has it.
        Attribute ``signal``, the name of what was scored.

    Raises:
        DataError: the truth has neither, is of fewer trials or other neurons, or all is of one trial.
    """
    names = [name for name in STATES if name in truth and truth[name].dims[:2] == ("trial", "time")]
    signal = next((signal for signal in SIGNALS if signal.name in truth), None)
    if not names and signal is None:
        raise DataError(f"the truth has no latents or rates of trials ({', '.join(sorted(SCORED))})")
    if truth.sizes["trial"] <= test.trial_origin.max() or truth.sizes["time"] < test.n_bins:
        have = f"{truth.sizes['trial']} trials of {truth.sizes['time']} bins"
        raise DataError(f"the truth has {have}, not those of this recording: give the truth of the whole recording")
    own, there = truth.isel(trial=test.trial_origin, time=slice(test.n_bins)), test.mask.any(-1)
    table = xr.Dataset(coords={"region": list(test.layout.regions)})
    if names and test.n_trials > 1:
        z = np.concatenate([_flat(own[name].values) for name in names], -1)
        table["latents_r2"] = ((), affine_r2(posterior_means(fit.latents(test)), z, there), {"units": "1"})
    if signal is not None:
        if (count := own[signal.name].sizes["neuron"]) != test.layout.total_neurons:
            raise DataError(f"the truth has {count} neurons, the fit {test.layout.total_neurons}: give it all of them")
        predicted, rows = fit.predict(test), []
        for region, part in test.layout.region_slices.items():
            mean = signal.of_mean(predicted[f"{region}_mean"].values, fit.model.emission.is_of_counts)
            true = np.where(there[..., None], own[signal.name].values[..., part], np.nan)
            rows.append(pooled_r_squared(true, mean))
        table["signal_r2"] = ("region", rows, {"units": "1"})
        table.attrs["signal"] = signal.name.replace("_", "-")
    if not table.data_vars:
        raise DataError("latents of one trial cannot be compared with the truth: score two or more")
    return table


def affine_r2(found: np.ndarray, true: np.ndarray, there: np.ndarray) -> float:
    """R2 of true latents by the best affine map from those that were found.

    Args:
        found: (trial, time, latent).
        true: (trial, time, true_latent).
        there: True for bins that count, (trial, time).
    """
    missed, total = regression_squares(true, found, there)
    return 1 - missed / total


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(*values.shape[:2], -1)


class RecoveryOfTrials(Metric):
    """Latents and rates of single trials against the truth of a simulation."""

    needs = SimulatedTrials
    heading = "single trials against the truth"

    def score(self, case: SimulatedTrials) -> xr.Dataset:
        return recovery_of_trials(case.fit, case.test, case.truth)

    def lines(self, table: xr.Dataset) -> list[str]:
        found = []
        if "latents_r2" in table:
            found.append(f"R² of latents {float(table['latents_r2']):.3f}")
        if "signal_r2" in table:
            found.append(f"of {table.attrs['signal']} {beside(table['signal_r2'].values, 3)}")
        return [f"{self.heading}: {', '.join(found)}"]
