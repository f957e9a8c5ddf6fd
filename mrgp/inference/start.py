r"""A data-driven start: factor analysis per region, then a search over what the factors mean.

Factor analysis finds the subspace that each region's latents span, but neither their rotation nor their dynamics. In
that subspace a recording is a few pseudo-neurons of unit noise per region, so the model itself can be fitted to it many
times over, under the cheap spectral likelihood and from different rotations: local optima with merged or white latents
are real, and the best of several climbs avoids them.
"""

from dataclasses import dataclass

import numpy as np

from mrgp.data import MultiRegionData

FACTOR_ITERATIONS = 200
LEAST_UNIQUE = 0.005   # share of a neuron's variance that factor analysis must leave to its noise (Heywood cases)


@dataclass(frozen=True)
class Compressed:
    """A recording reduced to its factors.

    Attributes:
        data: Pseudo-neurons (trial, time, factor) of unit noise per region.
        decode: Per region (neuron, factor): loadings of neurons = decode @ loadings of pseudo-neurons.
        noise: (neuron,), of factor analysis.
        offset: (neuron,), mean of what was observed.
    """

    data: MultiRegionData
    decode: tuple[np.ndarray, ...]
    noise: np.ndarray
    offset: np.ndarray


def factor_analysis(samples: np.ndarray, n_factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood factor analysis by EM (Rubin & Thayer 1982).

    Args:
        samples: (sample, neuron), centred.
        n_factors: Fewer than neurons.

    Returns:
        Loadings (neuron, factor) and noise variances (neuron,).
    """
    n, neurons = samples.shape
    if neurons <= n:
        second = samples.T @ samples / n
        variance = np.diag(second).copy()
        values, vectors = np.linalg.eigh(second)
        rest = values[:-n_factors].mean() if n_factors < neurons else 0.1 * values.mean()
        loadings = vectors[:, -n_factors:] * np.sqrt(np.maximum(values[-n_factors:] - rest, 1e-6 * values[-1]))

        def project(beta: np.ndarray) -> np.ndarray:
            return second @ beta.T
    else:
        variance = (samples**2).mean(0)
        _, scales, rows = np.linalg.svd(samples, full_matrices=False)
        loadings = rows[:n_factors].T * scales[:n_factors] / np.sqrt(n)

        def project(beta: np.ndarray) -> np.ndarray:
            return samples.T @ (samples @ beta.T) / n

    floor = LEAST_UNIQUE * variance
    noise = np.maximum(variance - (loadings**2).sum(1), floor)
    for _ in range(FACTOR_ITERATIONS):
        weighted = loadings / noise[:, None]
        beta = np.linalg.solve(np.eye(n_factors) + loadings.T @ weighted, weighted.T)
        cross = project(beta)   # E[y x'], (neuron, factor)
        moment = np.eye(n_factors) - beta @ loadings + beta @ cross
        loadings = np.linalg.solve(moment, cross.T).T
        updated = np.maximum(variance - (loadings * cross).sum(1), floor)
        change = np.abs(updated / noise - 1).max()
        noise = updated
        if change < 1e-5:
            break
    return loadings, noise


def compress(data: MultiRegionData, n_neurons: tuple[int, ...], n_factors: tuple[int, ...]) -> Compressed:
    """Factor analysis of each population; missing entries stand at their neuron's mean, which only a start may do.

    Args:
        data: The recording.
        n_neurons: Neurons per population, in the order of ``data.values``: the model's idea of what a region is.
        n_factors: Factors wanted per population; fewer where there are fewer neurons.
    """
    centred = np.where(data.mask, data.values - data.center, 0.0) if not data.is_complete else data.values - data.center
    flat = centred.reshape(-1, centred.shape[-1])
    arrays, decode, noise = {}, [], np.empty(flat.shape[1])
    edges = np.cumsum([0, *n_neurons])
    for population, (neurons, wanted) in enumerate(zip(n_neurons, n_factors, strict=True)):
        columns = slice(edges[population], edges[population] + neurons)
        own = flat[:, columns]
        if neurons == 1:
            loadings, unique = np.sqrt(0.5 * own.var(keepdims=True)).reshape(1, 1), 0.5 * own.var(axis=0)
        else:
            loadings, unique = factor_analysis(own, min(wanted, neurons - 1))
        noise[columns] = unique
        values, vectors = np.linalg.eigh(loadings.T @ (loadings / unique[:, None]))
        keep = values > 1e-8 * values[-1]
        root = np.sqrt(values[keep])
        scores = own @ (loadings / unique[:, None]) @ vectors[:, keep] / root
        arrays[f"population{population + 1}"] = scores.reshape(*centred.shape[:2], -1)
        decode.append(loadings @ vectors[:, keep] / root)
    return Compressed(MultiRegionData(arrays, data.bin_width), tuple(decode), noise, np.array(data.center))


def decompress(compressed: Compressed, loadings: np.ndarray) -> np.ndarray:
    """Loadings of the neurons (neuron, column) from those of the pseudo-neurons (factor, column)."""
    parts = compressed.data.layout.region_slices.values()
    return np.concatenate([d @ loadings[part] for d, part in zip(compressed.decode, parts, strict=True)])


def draw_loadings(
    rng: np.random.Generator,
    data: MultiRegionData,
    n_across: int,
    n_within: tuple[int, ...],
    smooth: int,
    aligned: bool,
) -> np.ndarray:
    """Loadings of pseudo-neurons (factor, column) that explain each region's covariance, up to a rotation.

    The rotation is random, or ``aligned``: the leading directions of generalized canonical correlation between the
    regions, on signals averaged over ``smooth`` bins so that delays do not hide them.
    """
    n_columns = n_across + max(n_within)
    parts = list(data.layout.region_slices.values())
    values = data.values.reshape(-1, data.values.shape[-1])
    roots = []
    for part in parts:
        spectrum, vectors = np.linalg.eigh(values[:, part].T @ values[:, part] / len(values))
        roots.append(vectors * np.sqrt(np.maximum(spectrum - 1, 0.05)))
    rotations = [np.linalg.qr(rng.standard_normal((root.shape[1],) * 2))[0] for root in roots]
    if aligned and len(parts) > 1 and n_across > 0:
        kernel = np.ones(smooth) / smooth
        smoothed = np.apply_along_axis(np.convolve, 1, data.values, kernel, mode="same").reshape(values.shape)
        whitened = [smoothed[:, part] @ np.linalg.pinv(root).T for part, root in zip(parts, roots, strict=True)]
        widths = [w.shape[1] for w in whitened]
        stacked = np.concatenate(whitened, axis=1)
        cross = stacked.T @ stacked / len(stacked)
        edges = np.cumsum([0, *widths])
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            cross[a:b, a:b] = 0.0
        leading = np.linalg.eigh(cross)[1][:, ::-1][:, :n_across]
        spin = np.linalg.qr(rng.standard_normal((n_across, n_across)))[0]
        rotations = [_complete(leading[a:b] @ spin, r) for a, b, r in zip(edges[:-1], edges[1:], rotations, strict=True)]
    loadings = np.zeros((values.shape[1], n_columns))
    for part, root, rotation, width in zip(parts, roots, rotations, n_within, strict=True):
        columns = min(n_across + width, root.shape[1])
        loadings[part, :columns] = (root @ rotation)[:, :columns]
        missing = slice(columns, n_across + width)   # more latents than factors: start the rest small
        size = (part.stop - part.start, missing.stop - missing.start)
        loadings[part, missing] = 0.1 * rng.standard_normal(size)
    return loadings


def _complete(directions: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """An orthogonal matrix that begins with ``directions`` as nearly as orthogonality allows."""
    basis = np.linalg.qr(np.concatenate([directions, rest], axis=1))
    return basis[0] * np.sign(np.diag(basis[1]))[: basis[0].shape[1]]
