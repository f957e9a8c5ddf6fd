"""Splits of trials for training, validation and test, and choice of held-out neurons."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from mrgp.recordings.arguments import by_name, known_name
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

SHARES = (0.75, 0.125, 0.125)  # of trials for training, validation and test: 300, 50 and 50 of the V1/V2 recording
HELD_OUT = 0.2  # of each region's neurons
MASKS = 3  # sets of held-out neurons whose scores are averaged

HeldOut = Mapping[str, Int[np.ndarray, "neuron"]]
"""Region -> held-out neurons, by position within the region."""


class Split(NamedTuple):
    """Positions of the trials for training, validation and test, in the order drawn.

    Models are fitted to the first, chosen by the second, and scored at last on the third.
    """

    train: Int[np.ndarray, "trial"]
    validation: Int[np.ndarray, "trial"]
    test: Int[np.ndarray, "trial"]

    def of(self, data: MultiRegionData) -> tuple[MultiRegionData, MultiRegionData, MultiRegionData]:
        """Return the recordings of the three kinds of trials; all three must have some.

        Raises:
            DataError: a part of the split has no trials, or the recording has too few for it.
        """
        train, validation, test = (data.select_trials(part) for part in self)
        return train, validation, test


def split_trials(n_trials: int, seed: int = 0, shares: Sequence[float] = SHARES) -> Split:
    """Divide trials at random: ``default_rng(seed).permutation(n_trials)``, cut in order.

    Args:
        n_trials: Of the recording.
        seed: Another seed, another division.
        shares: Of training, validation and test; validation and test are rounded, training takes the rest.

    Raises:
        DataError: shares are negative or do not sum to 1, or no trial is left for training or for test.
    """
    if len(shares) != 3 or min(shares) < 0 or not np.isclose(sum(shares), 1):
        raise DataError(f"shares of training, validation and test trials must sum to 1, not {tuple(shares)}")
    n_validation, n_test = (int(np.floor(share * n_trials + 0.5)) for share in shares[1:])
    n_train = n_trials - n_validation - n_test
    if n_train < 1 or n_test < 1:
        raise DataError(f"{n_trials} trials are too few to train on some and test on others: record more")
    order = np.random.default_rng(seed).permutation(n_trials)
    return Split(order[:n_train], order[n_train : n_train + n_validation], order[n_train + n_validation :])


def hold_out_neurons(layout: Layout, seed: int = 0, share: float = HELD_OUT) -> dict[str, Int[np.ndarray, "neuron"]]:
    """Draw a random share of each region's neurons to be held out.

    They are drawn region after region by ``default_rng(seed).choice``.

    One neuron at least; a region of one neuron keeps it, as nothing would be left of it.

    Raises:
        DataError: the share is not between 0 and 1, or no region has two neurons.
    """
    if not 0 < share < 1:
        raise DataError(f"the share of neurons held out is between 0 and 1, not {share}")
    rng, held = np.random.default_rng(seed), {}
    for name, count in zip(layout.regions, layout.n_neurons, strict=True):
        if count > 1:
            size = min(max(1, round(share * count)), count - 1)
            held[name] = rng.choice(count, size, replace=False)
    if not held:
        raise DataError("no region has two neurons: none can be held out and predicted from the others of its region")
    return held


def neuron_masks(layout: Layout, n_masks: int = MASKS, seed: int = 0, share: float = HELD_OUT) -> list[HeldOut]:
    """Draw ``n_masks`` sets of held-out neurons, with seeds ``seed``, ``seed + 1``, and so on."""
    return [hold_out_neurons(layout, seed + i, share) for i in range(n_masks)]


def checked_held_out(data: MultiRegionData, held_out: Mapping[str, ArrayLike]) -> dict[str, Int[np.ndarray, "neuron"]]:
    """Return ``held_out`` as sorted positions; regions with none are left out.

    Raises:
        DataError: an unknown region or neuron, one named twice, or none at all.
    """
    return dict(_checked(data.layout, held_out))


def _checked(layout: Layout, held_out: Mapping[str, ArrayLike]) -> Iterator[tuple[str, np.ndarray]]:
    counts = dict(zip(layout.regions, layout.n_neurons, strict=True))
    for name in by_name("held_out", held_out, '{"V1": [0, 2]}'):
        known_name(name, layout.regions)
    if not any(np.size(neurons) for neurons in held_out.values()):
        raise DataError("no neuron is held out: name some, or draw them with hold_out_neurons")
    for name, count in counts.items():
        neurons = np.sort(np.atleast_1d(np.asarray(held_out.get(name, ()), int)))
        if neurons.size and (neurons[0] < 0 or neurons[-1] >= count):
            raise DataError(f"region {name} has neurons 0 to {count - 1}, not all of {neurons.tolist()}: name others")
        if len(np.unique(neurons)) < len(neurons):
            raise DataError(f"a neuron of region {name} is held out twice: name each once")
        if neurons.size:
            yield name, neurons
