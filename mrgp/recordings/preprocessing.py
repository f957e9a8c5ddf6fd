"""Preprocessing of a recording: root of counts, smoothing, condition means, z-scores.

Every function returns a new recording of the same layout, coordinates and missing entries. Where numbers are taken from
trials (means, standard deviations), they can be taken from others (``reference``), so that held-out trials are treated
with the numbers of the training trials and know nothing of each other.

All of these change what the likelihood is a density of: log-likelihoods are comparable only between models of the
recording preprocessed in the same way.
"""

from collections.abc import Callable
from reprlib import repr as shortened
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter1d

from mrgp.recordings.checks import DataError, warn
from mrgp.recordings.recording import LEAVE_OUT, MultiRegionData
from mrgp.recordings.times import require_regular, require_same_times
from mrgp.recordings.units import one_time

REACH = 4.0  # sd: the kernel's weight beyond is 6e-5 of the whole
LEAST_SMOOTHING = 0.2  # bins: below, a neighbouring bin has less than 4e-6 of the weight and nothing is smoothed

ROUNDING = 1e-12  # of a value: a neuron that differs by less does not change

type Transform = Literal["sqrt", "anscombe"]

TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sqrt": np.sqrt,
    "anscombe": lambda counts: 2 * np.sqrt(counts + 3 / 8),
}
"""Of counts, by name."""


def preprocess(
    data: MultiRegionData,
    *,
    transform: Transform | None = None,
    smooth: float | None = None,
    remove_condition_mean: bool | str = False,
    zscore: bool = False,
    reference: MultiRegionData | None = None,
) -> MultiRegionData:
    """Take several steps in a fixed order: transform, smooth, remove mean, z-score.

    The mean that is removed is that of a trial's condition.

    Args:
        data: The recording; it is left as it is.
        transform: Of counts: see :func:`square_root`.
        smooth: sd of a Gaussian over time in seconds: see :func:`smooth_over_time`.
        remove_condition_mean: True for the mean of all trials, or the trial coordinate whose values are conditions:
            see :func:`remove_mean`.
        zscore: See :func:`standardize`; after the mean is removed, so that what is left has variance 1.
        reference: Trials, as raw as ``data``, that means and standard deviations are taken from; None for ``data``.
            ``preprocess(test, reference=train, ...)`` treats test trials as ``preprocess(train, ...)`` treats training
            trials.

    Raises:
        DataError: a step cannot be taken; the message names neuron, trial or condition.
    """
    taken_from = None if reference is None or reference is data else reference
    if transform is not None:
        data = square_root(data, transform)
        taken_from = None if taken_from is None else square_root(taken_from, transform)
    if smooth is not None:
        data = smooth_over_time(data, smooth)
        taken_from = None if taken_from is None else smooth_over_time(taken_from, smooth)
    if remove_condition_mean:
        condition = None if remove_condition_mean is True else remove_condition_mean
        data = remove_mean(data, condition, taken_from)
        taken_from = None if taken_from is None else remove_mean(taken_from, condition)
    return standardize(data, taken_from) if zscore else data


def square_root(data: MultiRegionData, transform: Transform = "sqrt") -> MultiRegionData:
    """Take the root of counts, whose variance then hardly depends on their mean.

    A count of mean m has, if it is Poisson, variance m: a model with one noise variance per neuron then misses bins of
    high rate most. ``"sqrt"`` is sqrt(y), with variance near 1/4 from m = 6 on; ``"anscombe"`` is 2 sqrt(y + 3/8), with
    variance near 1 from m = 2 on. Right for raw counts and Gaussian noise; not for what has been smoothed or centred
    before. Below about one spike per bin no root makes counts Gaussian: take wider bins, or a model of counts.

    Raises:
        DataError: a value is negative, or the transform unknown.

    Source: Anscombe 1948, Biometrika 35; Yu et al. 2009, J. Neurophysiol. 102 (counts in GPFA).
    """
    if not isinstance(transform, str) or transform not in TRANSFORMS:
        raise DataError(f"transform is 'sqrt' or 'anscombe', not {transform!r}")
    values = data.with_nan()
    if (values < 0).any():
        entry = np.argwhere(values < 0)[0].tolist()
        neuron, place = data.name_entry(*entry)
        where = f"{neuron} is {values[*entry]:g} in {place}"
        raise DataError(f"{where}: the root is of counts, which are never negative; leave the transform out")
    return data.with_values(TRANSFORMS[transform](values))


def smooth_over_time(data: MultiRegionData, sd: float) -> MultiRegionData:
    r"""Average each neuron over time with Gaussian weights, trial by trial.

    smoothed(t) = sum_s w(t - s) y(s) / sum_s w(t - s),  w(u) = exp(-u^2 / 2 sd^2), over the observed s of the trial: at
    edges and beside missing entries the weights that are left are scaled to 1. What is missing stays missing.

    Right where published results to be reproduced were smoothed, and for pictures. The models here need no smoothing:
    they infer how smooth latents are. It correlates each neuron's private noise over bins, which they take as
    independent: latents then chase noise, timescales shorter than about sd cannot be told, the likelihood counts
    each bin as new evidence and intervals come out too narrow. Delays stay in place, as weights are symmetric.

    Args:
        data: The recording.
        sd: Of the Gaussian, in seconds.

    Raises:
        DataError: sd is not positive, so short that nothing is smoothed, or longer than the trials.
    """
    wanted = "its standard deviation in seconds, such as 0.02 for 20 ms"
    given, sd = sd, one_time("the smoothing", sd, wanted)
    bins = sd / data.bin_width
    if not bins > 0:
        raise DataError(f"the smoothing is {given!r}: give {wanted}")
    if bins < LEAST_SMOOTHING:
        raise DataError(f"smoothing by {sd:g} s does nothing to bins of {data.bin_width:g} s: leave it out")
    require_regular(data.layout, "smoothing")
    if bins > data.n_bins:
        seconds = data.n_bins * data.bin_width
        raise DataError(f"smoothing by {sd:g} s is longer than the trials, {seconds:g} s: give it in seconds")
    return data.with_values(gaussian_average(data.floats, data.mask, bins))


def gaussian_average(
    values: Float[np.ndarray, "trial time neuron"], mask: Bool[np.ndarray, "trial time neuron"], sd: float
) -> Float[np.ndarray, "trial time neuron"]:
    """Average over time with Gaussian weights of ``sd`` bins, as above.

    ``mask`` is True where an entry was observed; there is NaN elsewhere.
    """
    weighted = gaussian_filter1d(np.where(mask, values, 0.0), sd, axis=1, mode="constant", truncate=REACH)
    seen = mask[:1, :, :1] if mask.all() else mask
    weights = gaussian_filter1d(seen.astype(float), sd, axis=1, mode="constant", truncate=REACH)
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing is observed within reach
        return np.where(mask, weighted / weights, np.nan)


def remove_mean(
    data: MultiRegionData, condition: str | None = None, reference: MultiRegionData | None = None
) -> MultiRegionData:
    """Subtract each neuron's mean time course over the trials of a condition (its PSTH).

    It is subtracted bin by bin.

    Right where the question is how areas vary together around their response: common drive by a stimulus otherwise
    looks like a shared latent, and the latency of responses like a delay. Where the response itself is the question,
    keep it, or let the model have the mean course. Residuals of n trials from their own mean have 1 - 1/n of the
    variance and are a little correlated between trials, which the likelihood knows nothing of: have ten trials or more.

    Args:
        data: The recording.
        condition: The trial coordinate whose values are conditions; None for all trials as one.
        reference: Trials that the means are taken from; None for those of ``data``.

    Raises:
        DataError: there is no such coordinate, a condition has a single trial or is not among the reference's, or the
            reference has other neurons, or bins at other times.

    Warns:
        Entries that only one trial of its condition has (or none of the reference) become missing: their residual would
        be 0 whatever they were.
    """
    source = data if reference is None else reference
    _require_same(data, source, bins=True)
    known, conditions = _conditions(source, condition)
    wanted = conditions if reference is None else _find(known, data, condition)
    values, result = source.with_nan(), data.with_nan().copy()
    before = np.isnan(result)
    for c, name in enumerate(known):
        chosen = conditions == c
        if reference is None and chosen.sum() == 1:
            what = "the recording" if condition is None else f"condition {condition} = {name}"
            raise DataError(f"{what} has one trial, which is its own mean: leave it out, or do not remove the mean")
        seen = ~np.isnan(values[chosen])
        count = seen.sum(axis=0)
        mean = np.where(seen, values[chosen], 0.0).sum(axis=0) / np.maximum(count, 1)
        mean = np.where(count >= (2 if reference is None else 1), mean, np.nan)
        residual = result[wanted == c] - mean
        result[wanted == c] = np.where(np.abs(residual) <= ROUNDING * np.abs(mean), 0.0, residual)
    if lost := int(np.sum(np.isnan(result) & ~before)):
        few = "in one trial of their condition only" if reference is None else "in no trial of the reference"
        warn(f"{lost} entries, observed {few}, have no mean to take off: now missing")
    return data.with_values(result)


def standardize(data: MultiRegionData, reference: MultiRegionData | None = None) -> MultiRegionData:
    """Z-score each neuron over trials and bins: subtract its mean, divide by its sd.

    The sd is the standard deviation over all trials and bins that were observed.

    Right where the units of neurons mean nothing and those that fire most should not carry shared latents in methods or
    plots that weigh neurons by variance. A model here has a mean, loadings and a noise variance per neuron and
    explains the recording as well before as after; delays and timescales hardly move. The log-likelihood changes by
    sum over neurons of (entries x log sd), the Jacobian.

    Args:
        data: The recording.
        reference: Trials that means and standard deviations are taken from; None for those of ``data``.

    Raises:
        DataError: a neuron never changes in the trials that its numbers come from, or the reference has other neurons.
    """
    source = data if reference is None else reference
    _require_same(data, source, bins=False)
    values = source.with_nan()
    flat = values.reshape(-1, values.shape[2])
    largest, smallest = np.fmax.reduce(flat, axis=0), np.fmin.reduce(flat, axis=0)
    still = ~(largest - smallest > ROUNDING * np.maximum(np.abs(largest), np.abs(smallest)))
    if still.any():
        where = source.name_neuron(int(np.argmax(still)))
        raise DataError(f"{where} never changes in the trials its sd is taken from: leave it out by ", LEAVE_OUT)
    return data.with_values((data.with_nan() - np.nanmean(flat, axis=0)) / np.nanstd(flat, axis=0))


def _conditions(data: MultiRegionData, condition: str | None) -> tuple[np.ndarray, Int[np.ndarray, "trial"]]:
    """Distinct conditions, and the index of each trial's condition among them, (trial,)."""
    known, which = np.unique(_coordinate(data, condition), return_inverse=True)
    return known, which


def _find(known: np.ndarray, data: MultiRegionData, condition: str | None) -> Int[np.ndarray, "trial"]:
    """Index of each trial's condition among the conditions of the reference, (trial,)."""
    coordinate = _coordinate(data, condition)
    where = {value: c for c, value in enumerate(known.tolist())}
    unknown = [value for value in coordinate.tolist() if value not in where]
    if unknown:
        what = f"condition {condition} = {unknown[0]}"
        raise DataError(f"{what} is not among the trials that means are taken from: leave its trials out")
    return np.array([where[value] for value in coordinate.tolist()])


def _coordinate(data: MultiRegionData, condition: str | None) -> np.ndarray:
    return np.zeros(data.n_trials, int) if condition is None else data.trial_labels(condition)


def _require_same(data: MultiRegionData, reference: MultiRegionData, *, bins: bool) -> None:
    if not isinstance(reference, MultiRegionData):
        raise DataError(f"the reference is {shortened(reference)}: give a recording, such as the training trials")
    wanted, found = ((of.layout.regions, of.layout.n_neurons, of.bin_width) for of in (data, reference))
    if wanted != found or (bins and data.n_bins != reference.n_bins):
        ours, theirs = (" ".join(repr(recording).split()) for recording in (data, reference))
        raise DataError(f"the reference has other regions, neurons or bins ({theirs}) than the recording ({ours})")
    if bins:
        other = "the reference has bins at other times than the recording: take one with the same times"
        require_same_times(data, reference.layout, other)
