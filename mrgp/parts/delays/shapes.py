"""Shapes of delays over a trial: functions of time in seconds that return seconds.

Every shape has the signature ``shape(time, duration, amplitude, **parameters)`` and is at most ``amplitude``
in size. Its parameters say where in the trial something happens, as fractions of ``duration``, so that one
choice serves trials of any length. Amplitudes and parameters are numbers, or arrays of one common shape
``...`` such as (region, across_latent); the result is (..., time).
"""

from collections.abc import Callable, Mapping
from inspect import signature

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

type Delay = Float[np.ndarray, "*batch time"]


def constant(time: ArrayLike, duration: float, amplitude: ArrayLike) -> Delay:
    """delay(t) = amplitude.

    Args:
        time: (time,), seconds.
        duration: Length of a trial, seconds.
        amplitude: The delay, seconds; a number or (...).
    """
    u, a = _read(time, duration, amplitude)
    return a + np.zeros_like(u)


def sine(
    time: ArrayLike, duration: float, amplitude: ArrayLike, *, cycles: ArrayLike = 1.0, phase: ArrayLike = 0.0
) -> Delay:
    """delay(t) = amplitude sin(2 pi (cycles t / duration + phase)).

    Args:
        time: (time,), seconds.
        duration: Length of a trial, seconds.
        amplitude: The largest delay, seconds; a number or (...).
        cycles: Periods per trial, > 0.
        phase: Where in its period the trial begins, in periods.

    Raises:
        ValueError: cycles is not positive.
    """
    u, a, n, p = _read(time, duration, amplitude, cycles, phase)
    _require(bool((n > 0).all()), f"sine needs cycles > 0, not {n}")
    return a * np.sin(2 * np.pi * (n * u + p))


def box(
    time: ArrayLike, duration: float, amplitude: ArrayLike, *, center: ArrayLike = 0.5, width: ArrayLike = 0.4
) -> Delay:
    """delay(t) = amplitude while |t / duration - center| <= width / 2, else 0.

    Args:
        time: (time,), seconds.
        duration: Length of a trial, seconds.
        amplitude: The delay inside the box, seconds; a number or (...).
        center: Middle of the box, fraction of the trial.
        width: Full width of the box, fraction of the trial, > 0.

    Raises:
        ValueError: width is not positive.
    """
    u, a, c, w = _read(time, duration, amplitude, center, width)
    _require(bool((w > 0).all()), f"box needs width > 0, not {w}")
    return a * (np.abs(u - c) <= w / 2)


def ramp(
    time: ArrayLike, duration: float, amplitude: ArrayLike, *, start: ArrayLike = 0.0, stop: ArrayLike = 1.0
) -> Delay:
    """delay(t) = amplitude clip((t / duration - start) / (stop - start), 0, 1).

    Args:
        time: (time,), seconds.
        duration: Length of a trial, seconds.
        amplitude: The delay once the ramp is climbed, seconds; a number or (...).
        start: Where the delay leaves 0, fraction of the trial.
        stop: Where it arrives at the amplitude, fraction of the trial, > start.

    Raises:
        ValueError: stop is not after start.
    """
    u, a, first, last = _read(time, duration, amplitude, start, stop)
    _require(bool((last > first).all()), f"ramp needs start < stop, not {first} and {last}")
    return a * np.clip((u - first) / (last - first), 0.0, 1.0)


def gaussian_bump(
    time: ArrayLike, duration: float, amplitude: ArrayLike, *, center: ArrayLike = 0.5, width: ArrayLike = 0.1
) -> Delay:
    """delay(t) = amplitude exp(-(t / duration - center)^2 / (2 width^2)).

    Args:
        time: (time,), seconds.
        duration: Length of a trial, seconds.
        amplitude: The delay at the peak, seconds; a number or (...).
        center: The peak, fraction of the trial.
        width: Standard deviation of the bump, fraction of the trial, > 0.

    Raises:
        ValueError: width is not positive.
    """
    u, a, c, w = _read(time, duration, amplitude, center, width)
    _require(bool((w > 0).all()), f"gaussian_bump needs width > 0, not {w}")
    return a * np.exp(-0.5 * ((u - c) / w) ** 2)


SHAPES: dict[str, Callable[..., Delay]] = {
    "constant": constant,
    "sine": sine,
    "box": box,
    "ramp": ramp,
    "gaussian_bump": gaussian_bump,
}
"""Every delay shape by name."""


def trajectory(
    shape: str, time: ArrayLike, duration: float, amplitude: ArrayLike, parameters: Mapping[str, ArrayLike]
) -> Delay:
    """Compute the delay of a shape from its name, and from its parameters by name.

    Raises:
        ValueError: there is no such shape, or it does not take these parameters.
    """
    _require(shape in SHAPES, f"there is no delay shape {shape!r}: choose from {', '.join(SHAPES)}")
    known = list(signature(SHAPES[shape]).parameters)[3:]
    for name in parameters:
        takes = ", ".join(known) or "none"
        _require(name in known, f"delay shape {shape!r} has no parameter {name!r}: it takes {takes}")
    return SHAPES[shape](time, duration, amplitude, **parameters)


def check_delay(
    delay: ArrayLike, n_regions: int, n_across: int, n_bins: int
) -> Float[np.ndarray, "region across_latent *time"]:
    """Check delays (region, across_latent) or (region, across_latent, time).

    Returns them as an array.

    Raises:
        ValueError: the shape is another, a delay is not finite, or one of the first region, where all are
            measured from, is not 0.
    """
    delays, shape = np.asarray(delay, float), (n_regions, n_across)
    wanted = f"(region, across_latent) = {shape} or (region, across_latent, time) = {(*shape, n_bins)}"
    _require(delays.shape in (shape, (*shape, n_bins)), f"delay has shape {delays.shape}, not {wanted}")
    _require(bool(np.isfinite(delays).all()), "delay must be finite")
    _require(not delays[0].any(), "the first region's delays must be 0: all others are measured from it")
    return delays


def _read(time: ArrayLike, duration: float, *parameters: ArrayLike) -> list[np.ndarray]:
    """Time as a fraction of the trial (time,), and parameters with an axis for it (..., 1)."""
    _require(0 < duration < np.inf, f"a trial's duration must be positive seconds, not {duration}")
    values = [np.asarray(value, float) for value in parameters]
    _require(all(np.isfinite(value).all() for value in values), "a delay shape needs finite parameters")
    shapes = {value.shape for value in values} - {()}
    _require(len(shapes) < 2, f"a delay shape needs numbers or arrays of one shape, not {sorted(shapes)}")
    return [np.asarray(time, float) / duration, *(value[..., None] for value in values)]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
