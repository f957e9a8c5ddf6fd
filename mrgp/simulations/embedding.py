"""Embedding of few states in the rates of many units; a linear readout inverts it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

SAMPLES = 2000  # states on which the readout is fitted
RANGE = 2.0  # of a state: readouts are right from minus this to this
RANK = 0.01  # of the largest singular value of rates: with less, readouts grow large and wrong beyond the range
OFFSET = 0.5  # sd of a unit's offset, in units of a state


class Embedding(NamedTuple):
    r"""Rates h = tanh(W z + b) of units, with W normal and rows of norm 1 on average.

    Attributes:
        weights: W.
        offset: b.
    """

    weights: Float[np.ndarray, "unit state"]
    offset: Float[np.ndarray, "unit"]

    def rates(self, z: Float[np.ndarray, "... state"]) -> Float[np.ndarray, "... unit"]:
        """Rates of units in states."""
        return np.tanh(z @ self.weights.T + self.offset)

    def readout(
        self, rng: np.random.Generator, content: Callable[[np.ndarray], np.ndarray]
    ) -> Float[np.ndarray, "message unit"]:
        """Fit the linear readout of a content (..., message), over states drawn from a cube."""
        z = rng.uniform(-RANGE, RANGE, (SAMPLES, self.weights.shape[1]))
        return np.linalg.lstsq(self.rates(z), content(z), rcond=RANK)[0].T  # no offset: messages have none


def embedding(rng: np.random.Generator, n_units: int, n_states: int) -> Embedding:
    """Draw the map of states into units."""
    weights = rng.standard_normal((n_units, n_states)) / np.sqrt(n_states)
    return Embedding(weights, OFFSET * rng.standard_normal(n_units))


def first(z: Float[np.ndarray, "... state"]) -> Float[np.ndarray, "... message"]:
    """First dimension of states, as a message."""
    return z[..., :1]
