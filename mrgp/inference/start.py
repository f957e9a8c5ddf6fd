r"""A start from the data: find where slow signals are, then search for what they mean.

Averaging over time shows in which directions a region varies slowly; what remains of each neuron's variance is a first
guess of its noise. In the subspace of slow and large signals a recording is a few pseudo-neurons per region, so the
model itself can be fitted to it many times over, under the cheap spectral likelihood and from different rotations.
Local optima with merged or white latents are real: starts are slow, so that a latent becomes white only where that
pays, and the best of several climbs is taken.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import block_diag
from scipy.ndimage import uniform_filter1d

from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData

SLOW_WIDTHS = (3, 9, 21)  # bins: signals this slow get pseudo-neurons of their own, however small their variance
MOST_FACTORS = 40  # pseudo-neurons of a region, or two for each latent where that is more: those that most widths name
MOST_WHOLE = 150  # neurons up to which a recording is searched as it is
ROUNDING = 1e-13  # of a mean: a neuron whose standard deviation is below is the same in every bin
LEAST_NOISE = 0.3  # share of a neuron's variance that starts as noise


@dataclass(frozen=True)
class Compressed:
    """A recording reduced to pseudo-neurons.

    Attributes:
        data: Pseudo-neurons (trial, time, pseudo-neuron) per population, of noise variance near 1.
        decode: Per population (neuron, pseudo-neuron): loadings of neurons = decode @ loadings of pseudo-neurons.
        variance: (neuron,), of what was observed.
        few: What is climbed: few trials with the density of ``data`` where there are such, or else ``data``.
    """

    data: MultiRegionData
    decode: tuple[np.ndarray, ...]
    variance: np.ndarray
    few: MultiRegionData

    def encoded(self, loadings: np.ndarray) -> np.ndarray:
        """Loadings of pseudo-neurons that best give those of neurons, (neuron, column)."""
        edges = np.cumsum([0, *(len(part) for part in self.decode)])
        blocks = zip(self.decode, pairwise(edges), strict=True)
        return np.concatenate([np.linalg.lstsq(part, loadings[a:b])[0] for part, (a, b) in blocks])


def moving_average(signals: np.ndarray, width: int) -> np.ndarray:
    """Average (trial, time, channel) over ``width`` bins (odd) within trials.

    Edges repeat the last bin.
    """
    width = min(width, 2 * ((signals.shape[1] - 1) // 2) + 1)
    return uniform_filter1d(signals, width, axis=1, mode="nearest")


def compress(data: MultiRegionData, n_neurons: tuple[int, ...], n_factors: tuple[int, ...]) -> Compressed:
    """Reduce a recording to pseudo-neurons.

    Each neuron is whitened by a first guess of its noise, and each population projected on the subspace that matters.
    Missing entries stand at their neuron's mean, which only a start may do.

    Args:
        data: The recording.
        n_neurons: Neurons per population, in the order of ``data.values``: the model's idea of what a region is.
        n_factors: Latents that each population reads.
    """
    centred = data.floats - data.center
    if not data.is_complete:
        centred = np.where(data.mask, centred, 0.0)
    variance = centred.var(axis=(0, 1))
    alive = variance > (ROUNDING * data.center) ** 2  # counts may have silent neurons, of which a start knows nothing
    variance = np.where(alive, variance, 1.0)
    small = centred.shape[2] <= MOST_WHOLE
    arrays, decode = [], []
    edges = np.cumsum([0, *n_neurons])
    for first, last, wanted in zip(edges[:-1], edges[1:], n_factors, strict=True):
        scaled = centred[:, :, first:last] / np.sqrt(variance[first:last])
        width = scaled.shape[2]
        wanted = min(wanted, width)
        slow = [_leading_directions(moving_average(scaled, bins), wanted) for bins in SLOW_WIDTHS]
        explained = ((slow[0][0] * slow[0][1]) ** 2).sum(axis=1)
        noise = np.maximum(1 - explained, LEAST_NOISE)
        whitened = scaled / np.sqrt(noise)
        most = max(2 * wanted, MOST_FACTORS)
        if small or width <= min(2 * wanted * len(SLOW_WIDTHS), most):
            basis = np.eye(width)[:, alive[first:last]]
        else:
            parts = [directions / np.sqrt(noise)[:, None] for directions, _ in slow]
            parts.append(_leading_directions(whitened, wanted)[0])
            left, sizes, _ = np.linalg.svd(
                np.concatenate([p / np.linalg.norm(p, axis=0) for p in parts], axis=1), full_matrices=False
            )
            basis = left[:, sizes > 1e-3][:, :most]
        arrays.append(whitened @ basis)
        decode.append(np.sqrt(variance[first:last] * noise)[:, None] * basis)
    known = data.layout.n_neurons == n_neurons
    names = data.layout.regions if known else tuple(f"population {number + 1}" for number in range(len(arrays)))
    layout = Layout(names, tuple(array.shape[2] for array in arrays), data.bin_width)
    pseudo = MultiRegionData.unchecked(layout, np.concatenate(arrays, axis=2))
    return Compressed(pseudo, tuple(decode), np.where(alive, variance, 0.0), pseudo)


def _leading_directions(signals: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal directions (channel, count) in which signals vary most, and their sds.

    Signals are (trial, time, channel).
    """
    flat = signals.reshape(-1, signals.shape[-1])
    if flat.shape[1] <= len(flat):
        values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
        return vectors[:, ::-1][:, :count], np.sqrt(np.maximum(values[::-1][:count], 0.0))
    _, sizes, rows = np.linalg.svd(flat, full_matrices=False)
    return rows[:count].T, sizes[:count] / np.sqrt(len(flat))


def decompress(compressed: Compressed, loadings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loadings (neuron, column) and noise variances (neuron,) of the neurons.

    They follow from loadings of the pseudo-neurons.
    """
    parts = compressed.data.layout.region_slices.values()
    full = np.concatenate([d @ loadings[part] for d, part in zip(compressed.decode, parts, strict=True)])
    left = compressed.variance - (full**2).sum(axis=1)
    return full, np.maximum(left, 0.05 * compressed.variance)


def draw_loadings(
    rng: np.random.Generator, data: MultiRegionData, n_across: int, n_within: tuple[int, ...], width: int | None,
    shared: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Draw loadings of pseudo-neurons (pseudo-neuron, column) to begin a climb from.

    Across latents begin at the canonical directions that the regions share in signals averaged over ``width`` bins (so
    that neither delays nor noise hide them), spun at random; or, with ``width`` None, at random mixtures of what varies
    most. Within latents begin at what varies most in the remainder of the same averaged signals. ``shared``
    (pseudo-neuron, across_latent) are loadings of across latents that were found elsewhere.
    """
    parts = list(data.layout.region_slices.values())
    centred = data.floats - data.center
    slow = centred if width is None else moving_average(centred, width)
    flat = slow.reshape(-1, slow.shape[-1])
    found_in = [np.zeros((part.stop - part.start, 0)) for part in parts]
    if shared is not None:
        found_in = [shared[part] for part in parts]
    elif width is not None and n_across > 0:
        found_in = _canonical(rng, flat, parts, n_across)
    loadings = np.zeros((flat.shape[1], n_across + max(n_within)))
    for part, across, within in zip(parts, found_in, n_within, strict=True):
        columns, found = n_across + within, across.shape[1]
        signal = flat[:, part].T @ flat[:, part] / len(flat) - across @ across.T
        spin = np.linalg.qr(rng.standard_normal((columns - found,) * 2))[0]
        loadings[part, :found] = across
        loadings[part, found:columns] = _leading(signal, columns - found, rng) @ spin
    return loadings


def _leading(covariance: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Leading ``count`` columns of a factor of ``covariance``.

    Where it has fewer, small random columns are added.
    """
    values, vectors = np.linalg.eigh(covariance)
    found = min(count, len(values))
    columns = vectors[:, ::-1][:, :found] * np.sqrt(np.maximum(values[::-1][:found], 0.05))
    return np.concatenate([columns, 0.1 * rng.standard_normal((len(values), count - found))], axis=1)


def _canonical(rng: np.random.Generator, slow: np.ndarray, parts: list[slice], n_across: int) -> list[np.ndarray]:
    """Loadings of the leading generalized canonical variates of ``slow``, per region.

    Each region's are (pseudo-neuron, across).
    """
    covariance = slow.T @ slow / len(slow)
    whiten, colour = [], []
    for part in parts:
        own = covariance[part, part]
        values, vectors = np.linalg.eigh(own + 0.02 * np.trace(own) / len(own) * np.eye(len(own)))
        whiten.append(vectors / np.sqrt(values))
        colour.append(vectors * np.sqrt(values))
    between = block_diag(*whiten).T @ covariance @ block_diag(*whiten)
    edges = np.cumsum([0, *(part.stop - part.start for part in parts)])
    if len(parts) > 1:  # one region shares with nobody: there its own leading directions serve
        for a, b in pairwise(edges):
            between[a:b, a:b] = 0.0
    leading = np.linalg.eigh(between)[1][:, ::-1][:, :n_across]
    spin = np.linalg.qr(rng.standard_normal((leading.shape[1],) * 2))[0]
    shared = []
    for a, b, root in zip(edges[:-1], edges[1:], colour, strict=True):
        directions = leading[a:b] / np.maximum(np.linalg.norm(leading[a:b], axis=0), 1e-6)
        found = root @ (directions @ spin)
        extra = 0.1 * rng.standard_normal((b - a, n_across - found.shape[1]))
        shared.append(np.concatenate([found, extra], axis=1))
    return shared
