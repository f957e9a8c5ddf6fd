"""Warnings about a recording that can be used but looks wrong.

One sentence each, so that slips do not pass in silence.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mrgp.recordings.units import LONGEST_BIN

LONG_BIN, SHORT_BIN = 1.0, 1e-4  # s: a bin width beyond was more likely meant in milliseconds, or in microseconds
MANY_SILENT = 0.1  # of the trials, FEW of them at least: wholly silent
BUSY = 20.0  # spikes in a trial that is not: with fewer, a population falls silent now and then
FEW = 3
MOSTLY = 0.5  # of a trial's entries observed: of less, silence says little
TOLD_APART = 10  # entries unlike a neuron's usual value: with fewer, two neurons can be the same by chance
COVERED = 0.5  # of the time that trials span: where spikes span less
OUTSIDE = 0.1  # of the spikes: as many lie outside trials in any session
BUSIER = 2.0  # times as fast between trials as in them: neurons may fire so
ENOUGH = 50  # spikes, to say what they span
SLOWEST, FASTEST = 0.1, 1000.0  # Hz, of the unit that fires most: beyond, times are likely in another unit
AT_ONCE = 0.01  # of a unit's spikes, and LEAST_AT_ONCE: at the instant of another one, which no neuron does
LEAST_AT_ONCE = 5


def doubts(data: Any) -> Iterator[str]:
    """Sentences on what looks wrong in a recording (a :class:`mrgp.MultiRegionData`)."""
    width = data.layout.bin_width
    if not SHORT_BIN <= width <= LONG_BIN and width <= LONGEST_BIN:  # longer ones were given with their unit
        yield f"bins of {width:g} s: is that right? bin_width is in seconds"
    spoken = np.asarray(data.values).any(axis=(1, 2))
    if data.observed is not None and not spoken.all():
        spoken |= data.mask.mean(axis=(1, 2)) < MOSTLY
    silent, n_trials = int(np.sum(~spoken)), len(spoken)
    if FEW <= silent < n_trials and silent >= MANY_SILENT * n_trials:
        typical = float(np.median(np.concatenate([np.abs(b.values).sum((1, 2)) for b in data.blocks()])[spoken]))
        if typical >= BUSY:
            yield (
                f"{silent} of {n_trials} trials hold no spike of any neuron, while the others hold {typical:.0f} each: "
                "check that spikes and trials are on one clock, or leave those trials out"
            )
    if pairs := _same_columns(data):
        (one, other), more = pairs[0], f" (and {len(pairs) - 1} more pair(s))" if len(pairs) > 1 else ""
        yield f"{one} and {other} hold the same values{more}: one unit in two regions pulls delays to 0, leave one out"


def outside_doubts(times: Mapping[Any, np.ndarray], trials: np.ndarray) -> Iterator[str]:
    """Sentence on spikes outside all trials, if they are more than gaps between trials explain.

    Args:
        times: unit label -> its sorted spike times in seconds.
        trials: (trial, 2), from and to in seconds; they may overlap.
    """
    order = np.argsort(trials[:, 0], kind="stable")
    begin, reached = trials[order, 0], np.maximum.accumulate(trials[order, 1])
    gaps = float(np.maximum(begin[1:] - reached[:-1], 0).sum())
    covered = float(reached[-1] - begin[0]) - gaps
    if covered <= 0:  # trials that end before they begin, which are refused
        return
    spoken = [spikes for spikes in times.values() if spikes.size]
    ends = np.concatenate([[-np.inf], reached])  # of the trials that have begun, by how many have
    inside = sum(int(np.sum(spikes < ends[np.searchsorted(begin, spikes, side="right")])) for spikes in spoken)
    total = sum(spikes.size for spikes in spoken)
    outside = total - inside
    if total >= ENOUGH and outside > OUTSIDE * total + BUSIER * gaps * inside / covered:
        first, last = min(spikes[0] for spikes in spoken), max(spikes[-1] for spikes in spoken)
        yield (
            f"{outside} of {total} spikes of the units ({100 * outside / total:.0f}%) lie in no trial, more than gaps "
            f"between trials explain: spikes are from {first:.4g} to {last:.4g} s, trials from {begin[0]:.4g} to "
            f"{reached[-1]:.4g} s with gaps of {gaps:.4g} s in all; check that no trial is missing"
        )


def spike_doubts(times: Mapping[Any, np.ndarray], trials: np.ndarray, zeros: bool = True) -> Iterator[str]:
    """Sentences on what looks wrong in spike times and trials, both in seconds.

    Args:
        times: unit label -> its sorted spike times.
        trials: (trial, 2), from and to.
        zeros: Bins beyond the first and last spike count as zeros; False where it is known when units were recorded.
    """
    begin, end = trials.min(), trials.max()
    spoken = [spikes for spikes in times.values() if spikes.size]
    total = sum(spikes.size for spikes in spoken)
    if total >= ENOUGH:
        first, last = min(spikes[0] for spikes in spoken), max(spikes[-1] for spikes in spoken)
        lasted = max(last - first, np.finfo(float).tiny)
        most = max(spikes.size for spikes in spoken) / lasted
        lacking = np.maximum(first - trials[:, 0], trials[:, 1] - last) * total / lasted  # spikes, at the mean rate
        beyond = int(np.sum(lacking >= FEW))
        as_zeros = f"{beyond} of {len(trials)} trials reach beyond, where bins count as zero spikes"
        if min(last, end) - max(first, begin) < COVERED * (end - begin):
            yield (
                f"spikes are from {first:.4g} to {last:.4g} s only, but trials from {begin:.4g} to {end:.4g} s"
                f"{f' ({as_zeros})' * zeros}: check that both are on one clock and in seconds"
            )
        elif zeros and lacking.max() >= BUSY and ((trials[:, 0] > last) | (trials[:, 1] < first)).any():
            yield (
                f"spikes are from {first:.4g} to {last:.4g} s, and {as_zeros}: leave those trials out, or say when "
                "units were recorded"
            )
        elif not SLOWEST <= most <= FASTEST:
            yield f"the unit that fires most has {most:.2g} spikes per second: check that spike times are in seconds"
    worst: tuple[int, Any] = (0, None)
    for label, spikes in times.items():
        again = int(np.sum(np.diff(spikes) == 0))
        if again >= LEAST_AT_ONCE and again > AT_ONCE * spikes.size:
            worst = max(worst, (again, label), key=lambda pair: pair[0])
    if worst[0]:
        again, label = worst
        yield (
            f"unit {label} has {again} of its {times[label].size} spikes at the instant of another one: check for "
            "spikes that are listed twice, or times that were rounded"
        )


def _same_columns(data: Any) -> list[tuple[str, str]]:
    """Find neurons of different regions with the same value in every entry, as pairs of names."""
    region_of, seen, pairs = data.layout.region_of_neuron, dict[tuple[float, float], list[int]](), []
    values = np.asarray(data.values)
    for column, numbers in enumerate(zip(data.center.tolist(), data.scale.tolist(), strict=True)):
        for other in seen.get(numbers, ()):
            if region_of[other] != region_of[column] and _are_one(values[:, :, other], values[:, :, column]):
                pairs.append((data.name_neuron(other), data.name_neuron(column)))
                break
        seen.setdefault(numbers, []).append(column)
    return pairs


def _are_one(first: np.ndarray, second: np.ndarray) -> bool:
    """True if two neurons (trial, time) are equal in too many entries for it to be chance."""
    return np.array_equal(first, second) and int(np.sum(first != np.median(first))) >= TOLD_APART
