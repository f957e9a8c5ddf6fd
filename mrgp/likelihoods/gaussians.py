"""Gaussian q of latents given counts: what a search for the best one carries along."""

from typing import NamedTuple

from jax import Array


class Fitted(NamedTuple):
    """A Gaussian q, with the derivatives that improve it.

    Vectors of readouts are (time, trial, readout).

    Attributes:
        mean: m = E[x].
        dual: K^-1 m, K being the prior covariance of x.
        precision: lambda, (time, pattern, neuron).
        covariance: V = (K^-1 + Lambda)^-1 at every time, (time, pattern, readout, readout).
        slope: Of the bound by m: C' E[d log p / d eta] - K^-1 m.
        wanted: Mean of -E[d^2 log p / d eta^2] over the trials of a pattern, (time, pattern, neuron).
        curvature: -E[d^2 log p / d eta^2], (time, trial, neuron); None of a large recording, where it is made anew.
        bound: Of every trial, (trial,), without what does not depend on q.
        is_guess: Whether this is what a guess leads to a first q from: its curvature is the guess's precision.
    """

    mean: Array
    dual: Array
    precision: Array
    covariance: Array
    slope: Array
    wanted: Array
    curvature: Array | None
    bound: Array
    is_guess: Array


class Guess(NamedTuple):
    """First q of the search: prior times exp(b' x - x' Lambda x / 2).

    Lambda = C' diag(lambda) C.

    Attributes:
        vectors: b, (time, trial, readout).
        precision: lambda, (time, pattern, neuron).
    """

    vectors: Array
    precision: Array


class Direction(NamedTuple):
    """Conjugate direction of the means, (time, trial, readout), with its dual.

    ``slope`` and ``power`` are for the next direction.

    Attributes:
        mean, dual: p and K^-1 p.
        slope: The slope it was made from.
        power: slope' V slope, (trial,).
    """

    mean: Array
    dual: Array
    slope: Array
    power: Array


class Told(NamedTuple):
    """Expected log likelihood of counts under q, and its derivatives.

    It is E_q log p(y | eta) of each trial, without terms that do not depend on eta.

    Attributes:
        value: (trial,).
        slope: By the mean of x, C' E_q[d log p / d eta], (time, trial, readout).
        wanted: Mean of the curvature over the trials of a pattern, (time, pattern, neuron).
        curvature: -E_q[d^2 log p / d eta^2], (time, trial, neuron); None of a large recording.
    """

    value: Array
    slope: Array
    wanted: Array
    curvature: Array | None
