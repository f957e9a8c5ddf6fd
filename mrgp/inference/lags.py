r"""Lagged canonical directions: lags, up to half a trial, at which regions repeat each other.

With z_r the whitened slow signals of region r, the cross-covariances

    M_rs(l) = mean over trials and bins of z_r(t) z_s(t + l)'

have singular values rho that are canonical correlations at lag l. The pair of regions and the lag where they are
largest is where a shared latent shows itself, whatever a bound says of delays; the other regions are read at the lag at
which they follow it best; and what it explains is taken off before the next latent is looked for.
"""

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from mrgp.parts.delays.bounds import FARTHEST
from mrgp.recordings.recording import MultiRegionData

SIGNALS = 3  # signals kept of a region, per latent that is looked for, and
FEWEST = 8  # at least so many
RIDGE = 0.02  # of the mean variance: signals smaller than this are not blown up by whitening
FEWEST_BINS = 6  # of a trial in which lags are looked for
RIVAL = 0.5  # of the highest score: lesser peaks are no place to start
SURE = 0.99  # correlations are held below it, so that a score is finite
SHORTEST_SEEN = 1.0  # bins


@dataclass(frozen=True)
class Shared:
    """Latents that regions seem to share, a column each.

    Attributes:
        loadings: Of a latent of variance 1, (neuron, latent).
        delay: Bins by which each region lags the first, (region, latent).
        timescale: Bins, of a squared exponential with the signal's first two autocovariances, (latent,).
    """

    loadings: np.ndarray
    delay: np.ndarray
    timescale: np.ndarray


def lagged_directions(
    rng: np.random.Generator, signals: list[np.ndarray], raw: MultiRegionData, n_latents: int, longest: float,
    greedy: bool = True,
) -> Shared:  # fmt: skip
    """Find latents that regions share at a lag each, most evident first.

    Args:
        rng: Chooses among rival lags where the search is not greedy.
        signals: Of each region, (trial, time, neuron), smooth or not: directions and lags are found in them.
        raw: The recording; loadings are its regression on the latents found.
        n_latents: How many.
        longest: Largest |delay| behind the first region, bins.
        greedy: Take the best lag; else one of its rivals at random.
    """
    white = [(y - y.mean((0, 1))) @ whitener(y, n_latents) for y in signals]
    centred = raw.floats - raw.center
    edges = np.cumsum([0, *(y.shape[2] for y in signals)])
    n_bins = raw.n_bins
    reach = int(max(1, min(np.ceil(longest), FARTHEST * n_bins, n_bins - 2)))
    loadings = np.zeros((centred.shape[2], n_latents))
    delay, timescale = np.zeros((len(signals), n_latents)), np.ones(n_latents)
    for latent in range(n_latents):
        first, second, lag, (u, v) = _best_pair(rng, white, reach, greedy)
        course = white[first] @ u + _shifted(white[second] @ v, lag)  # on the first region's clock
        at = np.zeros(len(signals))
        directions = {first: u, second: v}
        at[second] = lag
        for region in set(range(len(signals))) - {first, second}:
            along = cross_covariance(course[..., None], white[region], reach)[:, 0]  # (lag, signal)
            score = (along**2).sum(1)
            at[region] = int(score.argmax()) - reach
            best = along[score.argmax()]
            directions[region] = best / max(np.linalg.norm(best), 1e-12)
        timescale[latent] = _timescale(course)
        delay[:, latent] = np.clip(at - at[0], -longest, longest)
        for region, (a, b) in enumerate(pairwise(edges)):
            own = _shifted(centred[..., a:b], int(at[region]))
            loadings[a:b, latent] = np.einsum("bti,bt->i", own, course) / max(course.size * course.std(), 1e-12)
            direction = directions[region]
            white[region] = white[region] - (white[region] @ direction)[..., None] * direction
    return Shared(loadings, delay, timescale)


def cross_covariance(x: np.ndarray, z: np.ndarray, reach: int) -> np.ndarray:
    """Mean of x(t) z(t + l)' for lags l from -reach to reach, (lag, i, j).

    The mean is over trials and the bins that both have. ``x`` and ``z`` are (trial, time, channel).
    """
    n_trials, n_bins = x.shape[:2]
    size = next_fast_len(n_bins + reach, real=True)
    spectrum = np.einsum("bfi,bfj->fij", rfft(x, size, axis=1).conj(), rfft(z, size, axis=1))
    products = irfft(spectrum, size, axis=0)
    lags = np.arange(-reach, reach + 1)
    return products[lags] / (n_trials * (n_bins - np.abs(lags)))[:, None, None]


def whitener(y: np.ndarray, n_latents: int) -> np.ndarray:
    """Leading directions W (neuron, signal) of ``y`` (trial, time, neuron).

    W' y are white, nearly.
    """
    count = max(FEWEST, SIGNALS * n_latents)
    flat = (y - y.mean((0, 1))).reshape(-1, y.shape[2])
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    return vectors[:, ::-1][:, :count] / np.sqrt(values[::-1][:count].clip(0) + RIDGE * max(values.mean(), 1e-300))


def _best_pair(
    rng: np.random.Generator, white: list[np.ndarray], reach: int, greedy: bool
) -> tuple[int, int, int, tuple[np.ndarray, np.ndarray]]:
    """Find two regions, the second's lag behind the first, and a direction in each.

    The two regions follow each other along these directions.
    """
    lags = np.arange(-reach, reach + 1)
    count = white[0].shape[1] - np.abs(lags)
    peaks = []
    for first, second in combinations(range(len(white)), 2):
        covariance = cross_covariance(white[first], white[second], reach)
        rho = np.linalg.svd(covariance, compute_uv=False)[:, 0]
        score = -count * np.log1p(-np.minimum(rho, SURE) ** 2)
        padded = np.pad(score, 1, constant_values=-np.inf)
        for peak in np.flatnonzero((score >= padded[:-2]) & (score >= padded[2:])):
            peaks.append((float(score[peak]), first, second, int(lags[peak]), covariance[peak]))
    highest = max(score for score, *_ in peaks)
    rivals = [peak for peak in peaks if peak[0] >= (highest if greedy else RIVAL * highest)]
    _, first, second, lag, covariance = rivals[int(rng.integers(len(rivals)))]
    left, _, right = np.linalg.svd(covariance)
    return first, second, lag, (left[:, 0], right[0])


def _shifted(y: np.ndarray, lag: int) -> np.ndarray:
    """y(t + lag) within trials, (trial, time, ...); zero where t + lag lies outside the trial."""
    moved = np.zeros_like(y)
    if lag >= 0:
        moved[:, : y.shape[1] - lag] = y[:, lag:]
    else:
        moved[:, -lag:] = y[:, :lag]
    return moved


def _timescale(course: np.ndarray) -> float:
    """Timescale in bins of a signal, from its covariances at lags of 1 and 2.

    It is that of a squared exponential whose covariances at these lags have the ratio of the signal's. White noise
    beside the signal stands at lag 0 alone, and does not count.
    """
    rest = course - course.mean()
    near, far = (float((rest[:, lag:] * rest[:, :-lag]).mean()) for lag in (1, 2))
    longest = 0.25 * course.shape[1]
    if not 0 < far < near:
        return SHORTEST_SEEN if near <= 0 or far <= 0 else longest
    return float(np.clip(np.sqrt(1.5 / np.log(near / far)), SHORTEST_SEEN, max(longest, SHORTEST_SEEN)))
