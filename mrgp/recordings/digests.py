"""Digests of trials, by which a fit recognizes the trials that it was made from.

It recognizes them whatever was done to their numbers since.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Int, Shaped, UInt64

SIZE = 8  # bytes of a digest: two of a billion trials are one by chance with a probability of 3 percent


@dataclass(frozen=True, eq=False)
class Digests:
    """Digests of trials, one per trial and neuron.

    One per neuron, so that trials of some neurons are recognized among trials of more.

    Attributes:
        of_neurons: (trial, neuron), each of one neuron's values in one trial.
        whole: (trial,), of all values of a trial at once, by which files of earlier versions know it.
    """

    of_neurons: UInt64[np.ndarray, "trial neuron"]
    whole: tuple[str, ...]

    @classmethod
    def of(cls, values: Shaped[np.ndarray, "trial time neuron"]) -> Self:
        """Compute the digests of values, 0 where missing.

        They are those of the values in double precision, however these are kept.
        """
        rows = (np.ascontiguousarray(trial.T, np.float64) for trial in np.asarray(values))
        each = b"".join(hashlib.blake2b(row, digest_size=SIZE).digest() for trial in rows for row in trial)
        return cls(np.frombuffer(each, "<u8").reshape(len(values), values.shape[2]), whole_trials(values))

    @property
    def of_trials(self) -> tuple[str, ...]:
        """One digest per trial, of the digests of all its neurons."""
        return tuple(hashlib.blake2b(row.tobytes(), digest_size=SIZE).hexdigest() for row in self.of_neurons)

    def of_some(self, trials: Int[np.ndarray, "trial"]) -> Self:
        """Select the digests of some trials."""
        return type(self)(self.of_neurons[trials], tuple(self.whole[trial] for trial in trials))


def whole_trials(values: Shaped[np.ndarray, "trial time neuron"]) -> tuple[str, ...]:
    """Compute one digest per trial, of all its values at once."""
    trials = (np.ascontiguousarray(trial, np.float64) for trial in np.asarray(values))
    return tuple(hashlib.blake2b(trial, digest_size=SIZE).hexdigest() for trial in trials)
