"""Learned dynamics: a velocity field of states, and its integration over bins."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mrgp.recordings.arrays import SAME_STEP

type Velocity = Callable[[Array], Array]


class Dynamics(NamedTuple):
    """Dynamics that a model has learned, without inputs.

    Attributes:
        velocity: From states (point, state) to their change per second, of the same shape.
        n_states: Size of a state.
        step: Seconds of a step where the model goes from bin to bin, so that a state moves by ``step * velocity`` at
            once; None where it moves continuously.
        site: Deterministic site of the program that has the states, (trial, time, state).
    """

    velocity: Velocity
    n_states: int
    step: float | None = None
    site: str = "latents"


def integrated(velocity: Velocity, start: Array, gaps: Array | np.ndarray, n_substeps: int | np.ndarray = 1) -> Array:
    """Integrate dz/dt = velocity(z) by the Runge-Kutta method of order 4, (trial, time, state).

    The error of a step of size h is of order h^5, of a state at a given time of order h^4.

    Args:
        velocity: From states (trial, state) to their change per unit of time.
        start: States at the first bin, (trial, state).
        gaps: Time from each bin to the next, (time - 1,).
        n_substeps: Steps of equal size, in every gap as many, or (time - 1,).
    """

    def onward(z: Array, h: Array) -> tuple[Array, Array]:
        first = velocity(z)
        second = velocity(z + h / 2 * first)
        third = velocity(z + h / 2 * second)
        fourth = velocity(z + h * third)
        there = z + h / 6 * (first + 2 * second + 2 * third + fourth)
        return there, there

    counts = np.broadcast_to(n_substeps, np.shape(gaps))
    steps = jnp.repeat(jnp.asarray(gaps, start.dtype) / counts, counts, total_repeat_length=int(counts.sum()))
    later = lax.scan(onward, start, steps.astype(start.dtype))[1][np.cumsum(counts) - 1]
    return jnp.swapaxes(jnp.concatenate([start[None], later]), 0, 1)


def steps_of(gaps: np.ndarray, bin_width: float, n_substeps: int) -> np.ndarray:
    """Number of Runge-Kutta steps from each bin to the next, more over a longer gap.

    The result is (time - 1,).

    Args:
        gaps: Seconds from the start of each bin to that of the next, (time - 1,).
        bin_width: Seconds.
        n_substeps: Steps of a gap of one bin's width.
    """
    bins = np.ceil(gaps / bin_width - SAME_STEP)
    return n_substeps * np.maximum(bins, 1).astype(int)
