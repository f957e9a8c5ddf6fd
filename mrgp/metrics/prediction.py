r"""Prediction of neurons and regions that are hidden from a model in these trials.

What is predicted is hidden (NaN) in every bin of every trial; ``predict`` fills it in given all the rest of the trial,
bins before and after included. With y_h held out and y_r the rest,

    log p(y_h | y_r) = log p(y_h, y_r) - log p(y_r),

the joint predictive density of a trial: it rewards a model that also knows how its errors go together in time and
between neurons, which no error bar of single entries does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int
from numpy.typing import ArrayLike
from tqdm import tqdm

from mrgp.metrics.metric import HiddenNeurons, HiddenRegion, Metric
from mrgp.metrics.scorer import Predictor, Scorer, known_to, require_known, scorer
from mrgp.metrics.scores import r_squared
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.splits import HELD_OUT, MASKS, HeldOut, checked_held_out, neuron_masks

BESIDE = {"log_likelihood": "nats per trial", "joint_log_likelihood": "nats per trial", "neuron_r2": "1"}
"""Units of what stands beside the metrics."""


def cosmoothing(
    fit: Predictor,
    test: MultiRegionData,
    held_out: Mapping[str, ArrayLike] | Sequence[Mapping[str, ArrayLike]],
    condition: str | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Score predictions of held-out neurons from all others.

    The others are those of their own and of other regions.

    Args:
        fit: A fit, or a baseline.
        test: Trials that the parameters were not inferred from.
        held_out: Region -> neurons by position; or several such sets, of whose scores the mean is returned.
        condition: Name of a trial coordinate: PSTHs are then those of each of its values.
        progress: Show a progress bar over the sets.

    Returns:
        Over (region,) every metric of hidden neurons (see :mod:`mrgp.metrics.scores`): ``psth_rmse`` and ``trial_rmse``
        in units of the data, pooled ``r2``, ``bits_per_bin``, and those of your own (:class:`mrgp.Metric`);
        ``log_likelihood`` (region, trial), log p of the region's held-out neurons given all that are not held out, in
        nats, of which the bits are the sum over the number of entries predicted.
        ``joint_log_likelihood`` (trial,), log p of all held-out neurons of all regions together.
        ``neuron_r2`` (held_out_neuron,) with coordinates ``held_region``, ``held_neuron`` and ``mask``. A density
        in units of the data: bits compare models of one recording only.

    Raises:
        DataError: no neuron is held out, there is no such neuron or condition, or nothing of a trial would be left.
    """
    masks = [held_out] if isinstance(held_out, Mapping) else list(held_out)
    if not masks:
        raise DataError("no neuron is held out: name some, or draw them with hold_out_neurons")
    require_known(fit, test)
    checked = [checked_held_out(test, mask) for mask in masks]
    groups, scored = condition_of(test, condition), scorer(fit)
    bar = tqdm(checked, desc="held-out neurons", unit=" sets", disable=not progress, leave=False)
    found = [_one_mask(scored, test, mask, groups, HiddenNeurons) for mask in bar]
    table = xr.concat([scores for scores, _ in found], "mask").mean("mask", keep_attrs=True)
    parts = [(i, region, neuron, value) for i, (_, own) in enumerate(found)
             for region, neuron, value in own]  # fmt: skip
    place, regions, neurons, values = zip(*parts, strict=True)
    along = "held_out_neuron"
    table["neuron_r2"] = (along, np.array(values))
    table = table.assign_coords(
        held_region=(along, list(regions)), held_neuron=(along, list(neurons)), mask=(along, list(place))
    )
    return _with_units(table, n_masks=len(masks), n_trials=test.n_trials, condition=condition or "")


def leave_region_out(
    fit: Predictor, test: MultiRegionData, condition: str | None = None, progress: bool = False
) -> xr.Dataset:
    """Score predictions of each region from all the others.

    Returns:
        Over (region,): ``r2`` of all its neurons together, ``normalised_error`` = sqrt(1 - r2), the RMS error over the
        RMS of what was recorded around each neuron's mean; ``psth_rmse``, ``trial_rmse``; ``log_likelihood``
        (region, trial), log p(region | others) in nats, and ``bits_per_bin``; metrics of your own as in
        :func:`cosmoothing`, and ``neuron_r2``.

    Raises:
        DataError: there is one region only, or a trial in which only one has anything recorded.
    """
    test.require(2, "prediction of a region from others")
    test = known_to(fit, test)
    groups, scored = condition_of(test, condition), scorer(fit)
    names = test.layout.regions
    bar = tqdm(names, desc="regions left out", disable=not progress, leave=False)
    every = {name: np.arange(n) for name, n in zip(names, test.layout.n_neurons, strict=True)}
    found = [_one_mask(scored, test, {name: every[name]}, groups, HiddenRegion) for name in bar]
    table = xr.concat([scores.drop_vars("joint_log_likelihood").sel(region=[name])
                       for name, (scores, _) in zip(names, found, strict=True)], "region")  # fmt: skip
    parts = [part for _, own in found for part in own]
    table["neuron_r2"] = ("left_out_neuron", np.array([value for *_, value in parts]))
    table = table.assign_coords(
        held_region=("left_out_neuron", [region for region, *_ in parts]),
        held_neuron=("left_out_neuron", [neuron for _, neuron, _ in parts]),
    )
    return _with_units(table, n_trials=test.n_trials, condition=condition or "")


def hidden_log_likelihood(
    fit: Predictor, test: MultiRegionData, share: float = HELD_OUT, n_masks: int = MASKS, seed: int = 0
) -> xr.DataArray:
    """log p of neurons that are hidden given all others, in nats, (trial,).

    It is a score that every model has, autoencoders too, and that says how much of a recording a model knows: the mean
    over ``n_masks`` sets of neurons, a ``share`` of each region's. For :func:`mrgp.cross_validate`, give it as
    ``score``.

    Raises:
        DataError: no neuron can be hidden, or nothing of a trial would be left.
    """
    test, scored = known_to(fit, test), scorer(fit)
    masks = [checked_held_out(test, mask) for mask in neuron_masks(test.layout, n_masks, seed, share)]
    scores = [np.asarray(log_predictive(scored, test, test.without(mask))) for mask in masks]
    coords = {"trial": np.arange(test.n_trials)}
    return xr.DataArray(np.mean(scores, 0), coords, ("trial",), "hidden_log_likelihood", {"units": "nats"})


def condition_of(data: MultiRegionData, condition: str | None) -> Int[np.ndarray, "trial"] | None:
    """Number of each trial's condition; None where no coordinate is named.

    Raises:
        DataError: trials have no such coordinate.
    """
    return None if condition is None else np.unique(data.trial_labels(condition), return_inverse=True)[1]


def log_predictive(fit: Scorer, seen: MultiRegionData, given: MultiRegionData) -> xr.DataArray:
    """log p of what only ``seen`` has, given what ``given`` has, in nats, (trial,).

    The difference of two marginal log-likelihoods, but of baselines, which know it in closed form, and of models with a
    guide, which estimate it by draws.
    """
    if hasattr(fit, "log_predictive"):
        return fit.log_predictive(seen, given)
    return fit.log_likelihood(seen) - fit.log_likelihood(given)


def _one_mask(
    fit: Scorer, test: MultiRegionData, held_out: HeldOut, groups: np.ndarray | None, kind: type[HiddenNeurons]
) -> tuple[xr.Dataset, list[tuple[str, int, float]]]:
    """Scores over regions, and R^2 of every held-out neuron."""
    given = test.without(held_out)
    predicted = fit.predict(given)
    names, n_trials, metrics = test.layout.regions, test.n_trials, Metric.scored_on(kind)
    scores = {metric.name: np.full(len(names), np.nan) for metric in metrics}
    if taken := scores.keys() & BESIDE.keys():
        raise ValueError(f"metric {min(taken)!r} has the name of what stands beside metrics: give the class another")
    log_likelihood, own = np.full((len(names), n_trials), np.nan), []
    joint = log_predictive(fit, test, given)
    for r, name in enumerate(names):
        if name not in held_out:
            continue
        neurons = held_out[name]
        observed = test.region(name)[:, :, neurons]
        mean = predicted[f"{name}_mean"].values[:, :, neurons]
        others = {region: hidden for region, hidden in held_out.items() if region != name}
        log_likelihood[r] = log_predictive(fit, test.without(others), given) if others else joint
        hidden = kind(observed, mean, log_likelihood[r], groups)
        for metric in metrics:
            scores[metric.name][r] = metric.score(hidden)
        own += [(name, int(i), float(value)) for i, value in zip(neurons, r_squared(observed, mean), strict=True)]
    arrays: dict[str, Any] = {m.name: ("region", scores[m.name]) for m in metrics if m.needs is HiddenNeurons}
    arrays["log_likelihood"] = (("region", "trial"), log_likelihood)
    arrays["joint_log_likelihood"] = ("trial", joint.values)
    arrays |= {name: ("region", values) for name, values in scores.items() if name not in arrays}
    return xr.Dataset(arrays, {"region": list(names), "trial": np.arange(n_trials)}), own


def _with_units(table: xr.Dataset, **attributes: Any) -> xr.Dataset:
    units = {metric.name: metric.unit for metric in Metric.scored_on(HiddenRegion)} | BESIDE
    for name in table.data_vars:
        table[name].attrs["units"] = units[str(name)]
    return table.assign_attrs(attributes)
