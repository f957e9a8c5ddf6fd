r"""Scores of communication between regions against a truth: graph, messages, inputs, delays.

The effectome is the matrix of how much each region sends to each other one: mean norms of messages around their mean.
Messages and inputs are known up to a linear map at best. With X what is inferred and Y what is true of one edge (or
region), the map is fitted on every second trial, the first, third and so on, and scored on the others,

.. math::
    R^2 = 1 - \frac{\sum_e \sum_{trials, bins} |y_e - a_e - B_e x_e|^2}{\sum_e \sum_{trials, bins} |y_e - \bar y_e|^2},

in which edges count by the variance of what they send; the mean is that of the trials of the fit. It is negative where
the map says less than that mean.
"""

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from mrgp.parts.communication import SOURCE, TARGET
from mrgp.recordings.arrays import SAME_STEP

DIRECTIONS = 1e-10  # of the largest singular value of what is inferred: below, it is rounding


def effectome_cosine(true: ArrayLike, found: ArrayLike) -> float:
    """Cosine between two effectomes (source, target), without their diagonals.

    It is weak by itself: against a ring of three regions a matrix of equal entries has 0.71. Look at
    :func:`false_edge_ratio` too. A matrix of zeros is like none: 0.

    Raises:
        ValueError: they have other shapes, or the true one is 0.
    """
    a, b = _off_diagonal(true), _off_diagonal(found)
    _require_alike(a, b)
    norm = np.linalg.norm(b)
    return float(a @ b / (np.linalg.norm(a) * norm)) if norm > 0 else 0.0


def false_edge_ratio(true: ArrayLike, found: ArrayLike) -> float:
    """Largest entry where there is no edge, over the mean one where there is.

    Both are of the effectome found, (source, target). The ratio is 0 where every pair has an edge, and infinite where
    nothing was found along any.

    Raises:
        ValueError: they have other shapes, or the true one has no edge.
    """
    a, b = _off_diagonal(true), _off_diagonal(found)
    _require_alike(a, b)
    largest, typical = b[a == 0].max(initial=0.0), b[a > 0].mean()
    if typical > 0:
        return float(largest / typical)
    return float("inf") if largest > 0 else 0.0


def message_r2(true: xr.DataArray, found: xr.DataArray) -> float:
    """R2 of true messages regressed on the inferred ones of the same edge.

    Args:
        true: (trial, time, edge, message), with coordinates ``source_of_edge`` and ``target_of_edge``, as in the truth
            of a simulation.
        found: The same, of any number of message dimensions and edges. An edge that was not found scores 0.

    Raises:
        ValueError: other trials or bins, an edge that stands twice, values that are not finite, fewer than 2 trials.
    """
    names = [list(zip(a[SOURCE].values.tolist(), a[TARGET].values.tolist(), strict=True)) for a in (true, found)]
    return _r2_by_name(true, found, "edge", *names)


def input_r2(true: xr.DataArray, found: xr.DataArray) -> float:
    """R2 of true inputs regressed on the inferred ones of the same region.

    Args:
        true: (trial, time, region, input), with the names of regions as a coordinate.
        found: The same, of any number of inputs per region. A region without any scores 0.

    Raises:
        ValueError: see :func:`message_r2`.
    """
    return _r2_by_name(true, found, "region", *(a["region"].values.tolist() for a in (true, found)))


def perturbation_r2(true: xr.DataArray, found: xr.DataArray) -> float:
    """R2 of a predicted change of rates, such as that of others when a region is silenced.

    Nothing is fitted: to predict no change at all has 0.

    Args:
        true: (trial, time, neuron), the change that there is.
        found: The same, as it was predicted; see ``fit.perturb``.

    Raises:
        ValueError: they are of other shapes, or nothing changes.
    """
    if true.shape != found.shape:
        raise ValueError(f"the true change is of shape {true.shape}, the predicted one of {found.shape}")
    total = float((true.values**2).sum())
    if total == 0:
        raise ValueError("the true change is 0: there is nothing to predict")
    return 1 - float(((true.values - found.values) ** 2).sum()) / total


def kept_of_messages(silent: xr.DataArray, silent_since: xr.DataArray, since: float) -> xr.DataArray:
    """Share of what neurons were told that they still keep, bin by bin after they hear no more.

    A region that integrates what it hears keeps all of it, one that follows loses it as fast as it follows. The part of
    their rates that came by messages is the difference between hearing them up to a time, and never.

    Args:
        silent: Rates of some neurons where a region is silent in the whole trial, (trial, time, neuron), with times of
            bins in seconds: ``rate_without`` of ``fit.perturb``, or of a simulation.
        silent_since: The same where it is silent from a time on.
        since: That time.

    Returns:
        Root mean square of the difference, relative to the bin of that time, (time,), with times after it.

    Raises:
        ValueError: rates are of other shapes, no bin is so late, or nothing was heard before.
    """
    if silent.shape != silent_since.shape:
        shapes = f"{silent.shape} and {silent_since.shape}"
        raise ValueError(f"rates are of shape {shapes}: give the same trials and neurons")
    times = silent_since["time"].values
    later = times >= since - SAME_STEP * np.diff(times).min(initial=1.0)
    if not later.any():
        raise ValueError(f"since is {since:g} s, but the last bin begins at {times[-1]:g} s: give an earlier time")
    told = np.sqrt(((silent_since.values - silent.values) ** 2).mean((0, 2)))[later]
    if told[0] == 0:
        raise ValueError("these neurons were told nothing before that time: there is nothing to keep")
    coords = {"time": ("time", times[later] - times[later][0], {"units": "s"})}
    return xr.DataArray(told / told[0], coords, ("time",), "kept")


def transmission_delay_rmse(true: xr.DataArray, found: xr.DataArray) -> float:
    """Root mean square error of the delays of messages, over the true edges.

    Args:
        true: (edge,) in seconds, with coordinates ``source_of_edge`` and ``target_of_edge``.
        found: The same; may have more edges.

    Raises:
        ValueError: a true edge has no delay, or an edge stands twice.
    """
    names = [list(zip(a[SOURCE].values.tolist(), a[TARGET].values.tolist(), strict=True)) for a in (true, found)]
    places = [_places(own) for own in names]
    absent = [name for name in names[0] if name not in places[1]]
    if absent:
        raise ValueError(f"the edge from {absent[0][0]} to {absent[0][1]} has no delay: give one")
    errors = [found.values[places[1][name]] - true.values[places[0][name]] for name in names[0]]
    return float(np.sqrt(np.mean(np.square(errors))))


def regression_squares(
    true: Float[np.ndarray, "trial time dimension"],
    found: Float[np.ndarray, "trial time feature"],
    there: Bool[np.ndarray, "trial time"] | None = None,
) -> tuple[float, float]:
    """Squares that a linear map of ``found`` misses, and that a constant misses, summed.

    They are of trials 2, 4, ...; both are fitted on trials 1, 3, ... Only bins that are ``there`` count.
    """
    there = np.ones(true.shape[:2], bool) if there is None else there
    if true.shape[:2] != found.shape[:2]:
        raise ValueError(f"truth is of {true.shape[:2]} trials and bins, what is inferred of {found.shape[:2]}")
    if len(true) < 2:
        raise ValueError("a map fitted on half of the trials needs two or more")
    if not (np.isfinite(true[there]).all() and np.isfinite(found[there]).all()):
        raise ValueError("values that are scored are finite: fill what is inferred where it is not")
    x, y, x_left, y_left = (a[half::2][there[half::2]] for half in (0, 1) for a in (found, true))
    center, mean = x.mean(0), y.mean(0)
    weights = np.linalg.lstsq(x - center, y - mean, rcond=DIRECTIONS)[0]
    missed = y_left - mean - (x_left - center) @ weights
    return float((missed**2).sum()), float(((y_left - mean) ** 2).sum())


def _r2_by_name(true: xr.DataArray, found: xr.DataArray, dim: str, names: list, of_found: list) -> float:
    """R2 of all edges or regions together; each is regressed on what was found under its name."""
    places, missed, total = _places(of_found), 0.0, 0.0
    _places(names)
    theirs, ours = (np.moveaxis(a.values, a.dims.index(dim), 0) for a in (true, found))
    for name, own in zip(names, theirs, strict=True):
        nothing = np.zeros((*own.shape[:2], 1))
        less, whole = regression_squares(own, ours[places[name]] if name in places else nothing)
        missed, total = missed + less, total + whole
    return 1 - missed / total if total > 0 else float("nan")


def _places(names: list) -> dict:
    """Place of every name."""
    places = {name: place for place, name in enumerate(names)}
    if len(places) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} stands twice: join its dimensions into one")
    return places


def _off_diagonal(matrix: ArrayLike) -> np.ndarray:
    """Entries of a square matrix off its diagonal, row by row."""
    array = np.asarray(matrix, float)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"an effectome is square, (source, target), not {array.shape}")
    if not (array >= 0).all():
        raise ValueError("entries of an effectome are norms: none is negative or missing")
    return array[~np.eye(len(array), dtype=bool)]


def _require_alike(true: np.ndarray, found: np.ndarray) -> None:
    if true.shape != found.shape:
        raise ValueError("the two effectomes are of other numbers of regions")
    if not true.any():
        raise ValueError("the true effectome has no edge: there is nothing to find")
