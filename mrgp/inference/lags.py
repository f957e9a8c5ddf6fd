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
    pairs = [
        Pair(first, second, n_bins, cross_covariance(white[first], white[second], reach))
        for first, second in combinations(range(len(white)), 2)
    ]
    left = [np.eye(y.shape[2]) for y in white]  # by which a region's signals are multiplied for what is left of them
    for latent in range(n_latents):
        first, second, lag, (u, v) = _best_pair(rng, pairs, greedy)
        course = white[first] @ (left[first] @ u)
        course = course + _shifted(white[second] @ (left[second] @ v), lag)  # on the first region's clock
        at = np.zeros(len(signals))
        directions = {first: u, second: v}
        at[second] = lag
        for region in set(range(len(signals))) - {first, second}:
            along = cross_covariance(course[..., None], white[region], reach)[:, 0] @ left[region]  # (lag, signal)
            score = (along**2).sum(1)
            at[region] = int(score.argmax()) - reach
            best = along[score.argmax()]
            directions[region] = best / max(np.linalg.norm(best), 1e-12)
        timescale[latent] = _timescale(course)
        delay[:, latent] = np.clip(at - at[0], -longest, longest)
        for region, (a, b) in enumerate(pairwise(edges)):
            own = _shifted(centred[..., a:b], int(at[region])).reshape(-1, b - a)
            loadings[a:b, latent] = course.ravel() @ own / max(course.size * course.std(), 1e-12)
            left[region] = left[region] - np.outer(left[region] @ directions[region], directions[region])
        for pair in pairs:
            pair.take_off(directions[pair.first], directions[pair.second])
    return Shared(loadings, delay, timescale)


def cross_covariance(x: np.ndarray, z: np.ndarray, reach: int) -> np.ndarray:
    """Mean of x(t) z(t + l)' for lags l from -reach to reach, (lag, i, j).

    The mean is over trials and the bins that both have. ``x`` and ``z`` are (trial, time, channel).
    """
    n_trials, n_bins = x.shape[:2]
    size = next_fast_len(n_bins + reach, real=True)
    before, after = (np.moveaxis(rfft(signals, size, axis=1), 1, 0) for signals in (x, z))
    products = irfft(np.swapaxes(before.conj(), 1, 2) @ after, size, axis=0)
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


class Pair:
    """Two regions' cross-covariances at all lags, of what no latent has taken off yet.

    The correlations of a lag only fall as latents are taken off, so that those found earlier bound them from above, and
    are found anew only where they may be among the best.

    Args:
        first, second: The regions.
        n_bins: Of a trial.
        covariance: Of whitened signals, (lag, signal, signal), lags from -reach to reach.
    """

    def __init__(self, first: int, second: int, n_bins: int, covariance: np.ndarray) -> None:
        self.first, self.second, self.covariance = first, second, covariance
        self.lags = np.arange(len(covariance)) - len(covariance) // 2
        self.count = n_bins - np.abs(self.lags)
        self.score = self._score(np.arange(len(covariance)))
        self.known = np.ones(len(covariance), bool)  # whether a score is that of what is left

    def _score(self, lags: np.ndarray) -> np.ndarray:
        rho = np.linalg.svd(self.covariance[lags], compute_uv=False)[:, 0]
        return -self.count[lags] * np.log1p(-np.minimum(rho, SURE) ** 2)

    def take_off(self, of_first: np.ndarray, of_second: np.ndarray) -> None:
        """Take a direction (signal,) off each region's signals."""
        self.covariance = self.covariance - (self.covariance @ of_second)[..., None] * of_second
        self.covariance -= of_first[:, None] * (of_first @ self.covariance)[:, None, :]
        self.known[:] = False

    def learn(self, least: float) -> bool:
        """Find the scores that may be ``least`` or more; return True if there were any to find."""
        lags = np.flatnonzero(~self.known & (self.score >= least))
        self.score[lags], self.known[lags] = self._score(lags), True
        return bool(lags.size)

    def peaks(self) -> np.ndarray:
        """Indices of lags that are no worse than their neighbours."""
        padded = np.pad(self.score, 1, constant_values=-np.inf)
        return np.flatnonzero((self.score >= padded[:-2]) & (self.score >= padded[2:]))


def _best_pair(
    rng: np.random.Generator, pairs: list[Pair], greedy: bool
) -> tuple[int, int, int, tuple[np.ndarray, np.ndarray]]:
    """Find two regions, the second's lag behind the first, and a direction in each.

    The two regions follow each other along these directions.
    """
    highest = max(pair.score.max() for pair in pairs)  # or more: some scores are bounds
    while any(pair.learn(highest) for pair in pairs):
        highest = max(pair.score.max() for pair in pairs)
    least = highest if greedy else RIVAL * highest
    for pair in pairs:
        pair.learn(least)
    rivals = [(pair, peak) for pair in pairs for peak in pair.peaks() if pair.score[peak] >= least]
    pair, peak = rivals[int(rng.integers(len(rivals)))]
    left, _, right = np.linalg.svd(pair.covariance[peak])
    return pair.first, pair.second, int(pair.lags[peak]), (left[:, 0], right[0])


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
