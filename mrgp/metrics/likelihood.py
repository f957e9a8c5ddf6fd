"""Scores of whole trials: their log-likelihood, and how closely a fit follows them."""

from typing import Any

import numpy as np
import xarray as xr

from mrgp.metrics.baselines import training_mean
from mrgp.metrics.metric import Column, Metric, ScoredTrials, beside, plain
from mrgp.metrics.scorer import Predictor, known_to, scorer
from mrgp.metrics.scores import pooled_r_squared, r_squared, trial_rmse
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit


def trial_log_likelihood(fit: Predictor, test: MultiRegionData, train: MultiRegionData) -> xr.Dataset:
    """log p of trials that the fit was not made from, compared with independent neurons.

    The reference is an independent Gaussian for every neuron, with its mean and variance over the training trials.

    Args:
        fit: With ``log_likelihood``.
        test: The trials scored.
        train: The trials that the fit was made from.

    Returns:
        ``log_likelihood`` and ``reference`` (trial,) in nats, and ``gain_bits_per_bin``: their difference in bits over
        the number of entries recorded, all trials together. Units of the data do not matter to it.
    """
    test, train = known_to(fit, test), known_to(fit, train)
    ours, reference = scorer(fit).log_likelihood(test), training_mean(train).log_likelihood(test)
    gain = float((ours.values - reference.values).sum()) / np.log(2) / test.mask.sum()
    coords = {"trial": np.arange(test.n_trials)}
    nats = {"units": "nats per trial"}
    return xr.Dataset(
        {
            "log_likelihood": ("trial", ours.values, nats),
            "reference": ("trial", reference.values, nats),
            "gain_bits_per_bin": ((), gain, {"units": "bits per neuron and bin"}),
        },
        coords,
    )


def reconstruction(fit: Predictor, data: MultiRegionData) -> xr.Dataset:
    """Score how closely the latents follow a recording, given all of it.

    The predicted bin is included. Noise that a model follows counts in its favour here: compare models by
    :func:`mrgp.metrics.cosmoothing`.

    Returns:
        Over (region,): ``rmse`` in units of the data, pooled ``r2``; and ``neuron_r2_<region>`` (neuron_<region>,).
    """
    data = known_to(fit, data)
    predicted, names = fit.predict(data), data.layout.regions
    pairs = {name: (data.region(name), predicted[f"{name}_mean"].values) for name in names}
    scores: dict[str, Any] = {
        "rmse": ("region", [trial_rmse(*pair) for pair in pairs.values()], {"units": "data units"}),
        "r2": ("region", [pooled_r_squared(*pair) for pair in pairs.values()], {"units": "1"}),
    }
    own = {f"neuron_r2_{name}": (f"neuron_{name}", r_squared(*pair), {"units": "1"}) for name, pair in pairs.items()}
    return xr.Dataset(scores | own, {"region": list(names)})


def explained_variance(fit: Fit, data: MultiRegionData | None = None) -> xr.DataArray:
    """Share of each region's variance that the reconstruction explains, (region,).

    The variance is over bins and trials. Every neuron's own mean is taken off first; NaN entries are left out. The
    reconstruction knows the bin that it explains, so noise that a model follows counts in its favour: compare models on
    neurons or trials held out.

    Raises:
        DataError: the fit was loaded from a file and there is no recording.
    """
    data = fit.data if data is None else data
    if data is None:
        raise DataError("this fit was loaded from a file and holds no recording: pass data=, as it was fitted to")
    return reconstruction(fit, data)["r2"].rename("explained_variance")


class TrialLogLikelihood(Metric):
    """log p of whole trials, in nats and in bits above independent neurons."""

    known_as = "likelihood"
    needs = ScoredTrials
    heading = "log p(trials)"
    columns = (
        Column("test_log_likelihood", "log_likelihood", "log p(test) (nats)", 2),
        Column("gain_bits_per_bin", "gain_bits_per_bin"),
    )

    def score(self, case: ScoredTrials) -> xr.Dataset:
        return trial_log_likelihood(case.fit, case.test, case.train)

    def summary(self, table: xr.Dataset) -> dict[str, Any]:
        return {
            "log_likelihood": float(table["log_likelihood"].sum()),
            "reference_log_likelihood": float(table["reference"].sum()),
            "gain_bits_per_bin": float(table["gain_bits_per_bin"]),
        }

    def sentence(self, table: xr.Dataset) -> str:
        total, gain = float(table["log_likelihood"].sum()), float(table["gain_bits_per_bin"])
        return f"{self.heading} = {total:.2f} nats, {gain:+.{self.digits}f} bits/bin above independent neurons"


class Reconstruction(Metric):
    """Variance of each region that the latents explain, given all of the recording."""

    needs = ScoredTrials
    heading = "reconstruction R²"
    optional = False

    def score(self, case: ScoredTrials) -> xr.Dataset:
        return reconstruction(case.fit, case.test)

    def summary(self, table: xr.Dataset) -> dict[str, Any]:
        return {self.name: {name: plain(table[name]) for name in ("rmse", "r2")}}

    def sentence(self, table: xr.Dataset) -> str:
        return f"{self.heading} {beside(table['r2'].values, 3)}"
