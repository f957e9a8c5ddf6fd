r"""Search for better delays of a fit, over all lags of up to half a trial.

Each lag has the loadings that suit it.

Of the cross-covariances M_rs(l) of the whitened signals of regions r and s a fit explains

    sum_k c_rk c_sk' k_k(l - d_k),    d_k = delay_sk - delay_rk.

 With what the other latents explain taken off, a delay of latent k in region s explains

    score(delay_sk) = largest singular value^2 of A / power,    A_r = sum_l w(l) k_k(l - d_k) M_rs(l),
    power = mean over r of sum_l w(l) k_k(l - d_k)^2,

A stacking all other regions r at the delays that they have, and w(l) being the bins that overlap: the least squares of
one latent over all directions. It costs no likelihood, and sees the directions that a climb from the wrong lag has
lost. A lag that explains clearly more than the fit's own is a place to climb from again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mrgp.inference.lags import FARTHEST, cross_covariance, whitener
from mrgp.inference.start import moving_average

CLEARLY = 1.1  # times the score of the fit's own lag
NEIGHBOURS, LEAST_APART = 1.0, 1.5  # timescales, and bins at least, within which a better lag is the same optimum
MOST_MOVES = 2  # that are tried
WIDTH = 3  # bins over which signals are averaged to see where they are large
TINY = 1e-300


@dataclass(frozen=True)
class Move:
    """One latent that a region seems to read at another lag.

    Attributes:
        latent: Which.
        delay: Bins behind the first region, (region,). To move the first region is to move all others.
        loadings: Of every region on the latent, in its signals.
        ratio: The score there over that of the fit's own lag.
    """

    latent: int
    delay: np.ndarray
    loadings: list[np.ndarray]
    ratio: float


def better_lags(
    signals: list[np.ndarray], loadings: list[np.ndarray], delay: np.ndarray, timescale: np.ndarray,
    correlation: Callable[[np.ndarray], np.ndarray], bound: float = np.inf,
) -> list[Move]:  # fmt: skip
    """Find moves that seem to explain clearly more, most gainful first, at most MOST_MOVES.

    Args:
        signals: Of each region, centred, (trial, time, signal).
        loadings: Of each region on the across latents, (signal, latent).
        delay: Bins, (region, latent).
        timescale: Bins, (latent,): how wide an optimum is.
        correlation: Of lags in bins (..., latent), of the same shape.
        bound: Bins, beyond which no delay is admitted: a lag there is another place however near it is, for no climb
            goes on to it.
    """
    n_bins, (n_regions, n_latents) = signals[0].shape[1], delay.shape
    reach = int(FARTHEST * n_bins)
    lags = np.arange(-reach, reach + 1)
    weight = (n_bins - np.abs(lags)).astype(float)
    white = [whitener(moving_average(y, WIDTH), n_latents) for y in signals]
    heard = [y @ w for y, w in zip(signals, white, strict=True)]
    read = [w.T @ c for w, c in zip(white, loadings, strict=True)]
    moves = []
    for region in range(1 if n_regions == 2 else 0, n_regions):  # of two, moving one is moving the other
        others = [other for other in range(n_regions) if other != region]
        measured = {other: cross_covariance(heard[other], heard[region], reach) for other in others}
        explained = {
            other: np.einsum(
                "lk,ik,jk->klij", correlation(lags[:, None] - (delay[region] - delay[other])), read[other], read[region]
            )
            for other in others
        }
        sums = {other: parts.sum(0) for other, parts in explained.items()}
        for latent in range(n_latents):
            own = delay[region, latent]
            # Candidates are whole bins from the fit's own delay, so that it is one of them.
            shifts = np.arange(min(np.ceil(-reach - own), 0), max(np.floor(reach - own), 0) + 1)
            reached = np.arange(shifts[0] - reach, shifts[-1] + reach + 1)
            apart = (shifts[:, None] - lags - reached[0]).astype(int)  # place of shift less lag there, (shift, lag)
            stack, powers = [], []
            for other in others:
                rest = measured[other] - sums[other] + explained[other][latent]  # less all other latents
                kernel = correlation(reached[:, None] + (delay[region] - delay[other]))[:, latent][apart]  # it is even
                stack.append(np.tensordot(kernel * weight, rest, 1))
                powers.append(kernel**2 @ weight)
            power, stacked = np.mean(powers, axis=0), np.concatenate(stack, axis=1)
            squares = np.linalg.eigvalsh(np.swapaxes(stacked, 1, 2) @ stacked)[:, -1]  # largest singular value^2
            candidate = own + shifts
            score = np.where(np.abs(candidate) <= reach, squares / np.maximum(power, TINY), 0.0)
            behind = candidate[:, None] if region > 0 else delay[1:, latent] - candidate[:, None]
            near = np.abs(shifts) <= max(NEIGHBOURS * timescale[latent], LEAST_APART)
            near &= (np.abs(behind).max(1) <= bound) | (shifts == 0)
            best = int(np.argmax(np.where(near, -np.inf, score)))
            ratio = float(score[best] / max(score[near].max(), TINY))
            if ratio < CLEARLY:
                continue
            moved = delay[:, latent].copy()
            moved[region] = candidate[best]
            left, values, right = np.linalg.svd(stacked[best], full_matrices=False)
            size = np.linalg.norm(np.concatenate([read[other][:, latent] for other in others]))
            share = values[0] / max(power[best], TINY)
            size = size if size > 0 else np.sqrt(share)
            ends = np.cumsum([read[other].shape[0] for other in others])[:-1]
            whitened = dict(zip(others, np.split(size * left[:, 0], ends), strict=True))
            whitened[region] = min(share / size, 1.0) * right[0]
            coloured = [np.linalg.pinv(white[r]).T @ whitened[r] for r in range(n_regions)]
            moves.append(Move(latent, moved - moved[0], coloured, ratio))
    return sorted(moves, key=lambda move: -move.ratio)[:MOST_MOVES]
