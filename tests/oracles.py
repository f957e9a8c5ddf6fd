"""The generative models written again by hand, in NumPy alone: an independent check of what programs draw."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import gammaln

JITTER = 1e-9   # of variance: copies of a latent at equal times are one


def squared_exponential(u: np.ndarray) -> np.ndarray:
    return np.exp(-(u**2) / 2)


def white(u: np.ndarray) -> np.ndarray:
    return 1.0 * (u == 0)


def latent(
    rng: np.random.Generator, n_trials: int, clock: np.ndarray, timescale: float, correlation: Callable
) -> np.ndarray:
    """One latent of unit variance, jointly at all times of ``clock`` (copy, time); (trial, copy, time)."""
    points = clock.ravel()
    K = correlation((points[:, None] - points) / timescale) + JITTER * np.eye(len(points))
    return (rng.standard_normal((n_trials, len(points))) @ np.linalg.cholesky(K).T).reshape(n_trials, *clock.shape)


def remembered(rng: np.random.Generator, shape: tuple[int, int, int], phi: np.ndarray | float) -> np.ndarray:
    """Noise (trial, time, channel) of unit variance: every bin keeps the share phi of the bin before."""
    noise = rng.standard_normal(shape)
    for t in range(1, shape[1]):
        noise[:, t] = phi * noise[:, t - 1] + np.sqrt(1 - np.asarray(phi) ** 2) * noise[:, t]
    return noise


def delayed(
    rng: np.random.Generator,
    n_trials: int,
    n_bins: int,
    *,
    n_neurons: Sequence[int],
    loadings: np.ndarray,
    offset: np.ndarray,
    delay: np.ndarray,
    across: np.ndarray,
    within: Sequence[np.ndarray],
    gp_noise: float,
    correlation: Callable = squared_exponential,
    phi: np.ndarray | None = None,
) -> np.ndarray:
    """C x + d of delayed latents, (trial, time, neuron).

    ``delay`` (region, latent[, time]), timescales ``across`` (latent,) and ``within``, region by region, are in bins;
    ``offset`` is (neuron,) or (time, neuron); ``phi`` (region,) is the autocorrelation of GP noise.
    """
    bins = np.arange(n_bins, dtype=float)
    eta = np.zeros((n_trials, n_bins, len(loadings))) + offset
    clock = bins - (delay if delay.ndim == 3 else delay[..., None])
    copies = [latent(rng, n_trials, clock[:, k], tau, correlation) for k, tau in enumerate(across)]
    edges = np.cumsum([0, *n_neurons])
    for r, own in enumerate(within):
        private = [latent(rng, n_trials, bins[None], tau, correlation)[:, 0] for tau in own]
        signals = np.stack([*(copy[:, r] for copy in copies), *private], -1)
        noise = remembered(rng, signals.shape, 0.0 if phi is None else phi[r])
        x = np.sqrt(1 - gp_noise) * signals + np.sqrt(gp_noise) * noise
        rows = slice(edges[r], edges[r + 1])
        eta[..., rows] += x @ loadings[rows, : x.shape[-1]].T
    return eta


def linear(
    rng: np.random.Generator,
    n_trials: int,
    n_bins: int,
    *,
    transition: np.ndarray,
    process_noise: np.ndarray,
    start_mean: np.ndarray,
    start_covariance: np.ndarray,
    loadings: np.ndarray,
    offset: np.ndarray,
) -> np.ndarray:
    """C s + d of a linear dynamical system, (trial, time, neuron)."""
    size = len(transition)
    state = start_mean + rng.standard_normal((n_trials, size)) @ np.linalg.cholesky(start_covariance).T
    states = []
    for _ in range(n_bins):
        states.append(state)
        state = state @ transition.T + rng.standard_normal((n_trials, size)) @ np.linalg.cholesky(process_noise).T
    return np.stack(states, 1) @ loadings.T + offset


def best_poisson_bound(
    y: np.ndarray, mean: np.ndarray, prior: np.ndarray, loadings: np.ndarray
) -> tuple[float, np.ndarray]:
    """Highest bound E_q log p(y | x) - KL(q || N(0, prior)) of Poisson counts (entry,), over all Gaussians q of x.

    With it comes the mean of that q.

    Log-rates are ``mean`` + ``loadings`` x. At the best q its precision is prior^-1 + C' diag(rate) C, and the slope by
    its mean is 0.
    """
    inverse, m, V = np.linalg.inv(prior), np.zeros(len(prior)), np.array(prior)
    for _ in range(500):
        rate = np.exp(mean + loadings @ m + 0.5 * np.einsum("ei,ij,ej->e", loadings, V, loadings))
        wanted = np.linalg.inv(inverse + loadings.T @ (rate[:, None] * loadings))
        V = 0.5 * (V + wanted)
        m = m + 0.5 * wanted @ (loadings.T @ (y - rate) - inverse @ m)
    volume = np.linalg.slogdet(prior)[1] - np.linalg.slogdet(V)[1]
    divergence = np.trace(inverse @ V) + m @ inverse @ m - len(m) + volume
    spread = 0.5 * np.einsum("ei,ij,ej->e", loadings, V, loadings)
    eta = mean + loadings @ m
    return float((y * eta - np.exp(eta + spread) - gammaln(y + 1)).sum() - 0.5 * divergence), m


def assert_same_moments(one: np.ndarray, other: np.ndarray) -> None:
    """Samples (sample, size) of two kinds have the same means and covariances, within their Monte-Carlo errors.

    Both are whitened alike, so that entries are nearly uncorrelated. A difference of averages over n samples each has
    the variance (v + v') / n, v being that of what is averaged. Of some hundred entries one leaves 5 standard errors by
    chance with a probability of 1e-4. Their mean square is 1 within 5 sqrt(2 / entries), which catches what is spread
    thinly; twice that is let pass, for counts, whose products have heavy tails.
    """
    both = np.concatenate([one, other])
    root = np.linalg.cholesky(np.cov(both.T))
    rows, columns = np.tril_indices(one.shape[1])
    moments = []
    for samples in (one, other):
        white = np.linalg.solve(root, (samples - both.mean(0)).T).T
        centred = white - white.mean(0)
        averaged = np.concatenate([white, centred[:, rows] * centred[:, columns]], 1)
        moments.append((averaged.mean(0), averaged.var(0) / len(samples)))
    (a, u), (b, v) = moments
    z = (a - b) / np.sqrt(u + v)
    assert np.abs(z).max() < 5, np.abs(z).max()
    assert np.mean(z**2) < 1 + 10 * np.sqrt(2 / len(z)), np.mean(z**2)


# --- networks


def written_transformer(net: Any, inputs: np.ndarray, region: int | None = None) -> np.ndarray:
    """Numbers of the bins of one trial (time, width), by ``CausalTransformer``'s arrays, bin by bin and head by head.

    Of networks side by side, those of one ``region``.
    """

    def numbers(array: Any) -> np.ndarray:
        return np.asarray(array, float) if region is None else np.asarray(array, float)[region]

    def linear(layer: Any, x: np.ndarray) -> np.ndarray:
        return numbers(layer.weight) @ x + numbers(layer.bias)

    def normed(norm: Any, x: np.ndarray) -> np.ndarray:
        return numbers(norm.scale) * (x - x.mean()) / np.sqrt(x.var() + 1e-5) + numbers(norm.level)

    width = len(numbers(net.into.layers[0].bias))
    x = []
    for t, given in enumerate(inputs):
        phases = [t / 10_000.0 ** (2 * (k // 2) / width) for k in range(width)]
        x.append(linear(net.into.layers[0], given) + [np.cos(p) if k % 2 else np.sin(p) for k, p in enumerate(phases)])
    for block in net.blocks:
        reads, writes = numbers(block.attention.reads), numbers(block.attention.writes)
        following = []
        for t in range(len(x)):
            heard = np.zeros(width)
            for head in range(reads.shape[1]):
                query, key, value = reads[:, head]
                scores = np.array([(query @ x[t]) @ (key @ x[s]) for s in range(t + 1)]) / np.sqrt(len(query))
                share = np.exp(scores - scores.max())
                share /= share.sum()
                heard += writes[:, head] @ sum(share[s] * (value @ x[s]) for s in range(t + 1))
            first = normed(block.norm, x[t] + heard)
            hidden = linear(block.perceptron.layers[0], first)
            hidden = linear(block.perceptron.layers[1], hidden / (1 + np.exp(-hidden)))
            following.append(normed(block.last_norm, first + hidden))
        x = following
    return np.array(x)
