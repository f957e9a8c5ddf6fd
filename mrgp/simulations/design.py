"""Design of simulated neurons: who reads what, how strong signals are, and what is missing.

Loadings, noise and offsets have weak priors in the units of a recording, from which none could be drawn. They are
designed: loadings normal and scaled to a signal-to-noise ratio, noise and offsets as a user wants them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from mrgp.parts.latents import LatentLayout


class Neurons(NamedTuple):
    """Design of the neurons of a recording, whatever their values are.

    Attributes:
        loadings: (neuron, column), 0 where nothing is read.
        noise: Variance of the error with which one bin measures eta, (neuron,).
        level: Offset of eta, (neuron,).
    """

    loadings: Float[np.ndarray, "neuron column"]
    noise: Float[np.ndarray, "neuron"]
    level: Float[np.ndarray, "neuron"]


def require(condition: bool | np.bool_, message: str) -> None:
    """Raise ValueError with a message unless a condition holds."""
    if not condition:
        raise ValueError(message)


def positive(name: str, value: ArrayLike, count: int = 1) -> np.ndarray:
    """Check that numbers are positive and finite, and return (count,) of them.

    One number given may serve for all.
    """
    array = np.asarray(value, float)
    require((np.isfinite(array) & (array > 0)).all(), f"{name} must be positive and finite, not {array}")
    require(array.shape in ((), (count,)), f"{name} has shape {array.shape}: give one number, or {count}")
    return np.broadcast_to(array, count)


def readers_of(
    shared_by: ArrayLike | None, assignment: LatentLayout, names: Sequence[str]
) -> Bool[np.ndarray, "region across_latent"]:
    """Check ``shared_by``, and return it as bool, (region, across_latent).

    Every region must read something, and every latent must be read.
    """
    shape = assignment.n_regions, assignment.n_across
    table = np.asarray(True if shared_by is None else shared_by)
    given = shared_by is None or table.shape == shape
    require(given, f"shared_by has shape {table.shape}, not (region, across_latent) = {shape}")
    require(np.isin(table, (0, 1)).all(), f"shared_by says yes or no, True or False, not {table}")
    readers = np.broadcast_to(table.astype(bool), shape)
    for name, reads, n_within in zip(names, readers, assignment.n_within, strict=True):
        require(reads.any() or n_within > 0, f"region {name} reads no latent, so it has no signal: give it one")
    for k, read in enumerate(readers.any(0)):
        require(read, f"across latent {k + 1} of {shape[1]} is read by no region: give it one, or leave it out")
    return readers


def designed(
    assignment: LatentLayout,
    region: np.ndarray,
    readers: Bool[np.ndarray, "region across_latent"],
    snr: Float[np.ndarray, "region"],
    noise: Float[np.ndarray, "neuron"],
    offset: float,
    heterogeneity: float,
    rng: np.random.Generator,
) -> Neurons:
    """Draw neurons with signal-to-noise ratios ``snr``, given that all latents have variance 1.

    ``region`` (neuron,) is that of the recording, of which the assignment may have only one.
    """
    used = np.hstack([readers[assignment.region_of_neuron], assignment.used[:, assignment.n_across :]])

    def spread(*shape: int) -> np.ndarray:
        return np.exp(heterogeneity * rng.standard_normal(shape))

    variance = noise * spread(len(used))
    loadings = used * rng.standard_normal(used.shape) * spread(len(used), 1)
    loadings *= spread(len(snr), used.shape[1])[region]
    for r, wanted in enumerate(snr):
        own = region == r
        signal = (loadings[own] ** 2).sum()
        loadings[own] *= np.sqrt(wanted * variance[own].sum() / signal)
    return Neurons(loadings, variance, offset * rng.standard_normal(len(variance)))


def observed(
    shape: tuple[int, ...], ragged: float, missing: float, rng: np.random.Generator
) -> Bool[np.ndarray, "trial time neuron"]:
    """Draw which entries are kept, bool (trial, time, neuron).

    They are drawn last, so that what is kept does not depend on it.
    """
    n_trials, n_bins, n_neurons = shape
    length = rng.integers(max(1, round((1 - ragged) * n_bins)), n_bins + 1, n_trials)
    length[length.argmax()] = n_bins
    inside = np.arange(n_bins) < length[:, None]
    place, total = inside.cumsum().reshape(inside.shape) - 1, inside.sum()  # of a bin in the session
    start = ((rng.permutation(n_neurons) + rng.random()) / n_neurons * total).astype(int)
    lost = (place[..., None] - start) % total < round(missing * total)
    return inside[..., None] & ~lost
