r"""Clusters of neurons where a fit begins, by factor analysis of each.

Every neuron has noise of its own: the share of its variance that all other neurons together leave, 1 less its squared
multiple correlation, :math:`\psi_n = 1 / (\Sigma^{-1})_{nn}` (Guttman 1956, Psychometrika 21, 273-285). Of a cluster
whose values, in sds of this noise, have the eigenvalues :math:`\lambda_1 \ge \dots \ge \lambda_m` of their covariance,
w factors explain, per bin, more than none does by

.. math:: \tfrac12 \sum_{i \le w,\; \lambda_i > 1} (\lambda_i - 1 - \log \lambda_i)

(Lawley 1940, Proc. R. Soc. Edinb. 60, 64-82). Were the noise of a cluster one number, neurons that read latents weakly
would make a cluster of their own: what they have in common is much noise. Neurons move one by one to where the sum over
clusters grows most, and clusters become one where it grows by that, until nothing moves.
"""

import numpy as np

SWEEPS = 30  # through all neurons, at most
ATTEMPTS = 6  # random beginnings, of which the best is taken
LEAST = 1e-6  # nats per bin, by which a move has to gain
SHRUNK = 0.1  # of a neuron's variance, added to it where noise is looked for: of few bins others explain too much


def found_clusters(covariance: np.ndarray, most: int, width: int, seed: int = 0) -> np.ndarray:
    """Find the cluster of each neuron, (neuron,), the largest cluster first.

    Args:
        covariance: Of standardized values, (neuron, neuron).
        most: Clusters.
        width: Factors of each.
        seed: Of where it begins.
    """
    rng, covariance = np.random.default_rng(seed), in_noise(covariance)
    tries = [_climbed(covariance, rng.integers(most, size=len(covariance)), most, width) for _ in range(ATTEMPTS)]
    best = max(tries, key=lambda cluster: sum(_heights(covariance, cluster, most, width)))
    order = np.argsort(-np.bincount(best, minlength=most), kind="stable")
    return np.argsort(order)[best]


def _climbed(covariance: np.ndarray, cluster: np.ndarray, most: int, width: int) -> np.ndarray:
    for _ in range(SWEEPS):
        before = cluster
        cluster = _merged(covariance, _moved(covariance, cluster, most, width), most, width)
        if (cluster == before).all():
            return cluster
    return cluster


def _moved(covariance: np.ndarray, cluster: np.ndarray, most: int, width: int) -> np.ndarray:
    """Move each neuron in turn to the cluster where it is explained best."""
    cluster = cluster.copy()
    heights = _heights(covariance, cluster, most, width)
    for neuron in range(len(cluster)):
        own = cluster[neuron]
        alone = height(covariance, np.flatnonzero((cluster == own) & (np.arange(len(cluster)) != neuron)), width)
        gains = np.full(most, -np.inf)
        joined = np.zeros(most)
        for k in range(most):
            joined[k] = heights[own] if k == own else height(
                covariance, np.append(np.flatnonzero(cluster == k), neuron), width
            )  # fmt: skip
            gains[k] = joined[k] - (alone if k == own else heights[k])
        best = int(gains.argmax())
        if gains[best] > gains[own] + LEAST:
            heights[own], heights[best], cluster[neuron] = alone, joined[best], best
    return cluster


def _merged(covariance: np.ndarray, cluster: np.ndarray, most: int, width: int) -> np.ndarray:
    """Make clusters one, pair by pair, where they are explained better together."""
    cluster = cluster.copy()
    while True:
        heights = _heights(covariance, cluster, most, width)
        there = [k for k in range(most) if (cluster == k).any()]
        gains = {
            (i, j): height(covariance, np.flatnonzero((cluster == i) | (cluster == j)), width) - heights[i] - heights[j]
            for i in there for j in there if i < j
        }  # fmt: skip
        if not gains or max(gains.values()) <= LEAST:
            return cluster
        i, j = max(gains, key=gains.__getitem__)
        cluster[cluster == j] = i


def _heights(covariance: np.ndarray, cluster: np.ndarray, most: int, width: int) -> list[float]:
    return [height(covariance, np.flatnonzero(cluster == k), width) for k in range(most)]


def in_noise(covariance: np.ndarray) -> np.ndarray:
    """Covariance of values in sds of the noise of each neuron, of one of standardized values."""
    sd = np.sqrt(1 / np.diagonal(np.linalg.inv(covariance + SHRUNK * np.eye(len(covariance)))))
    return covariance / sd / sd[:, None]


def height(covariance: np.ndarray, members: np.ndarray, width: int) -> float:
    """Nats per bin by which so many factors explain neurons better than none, noise being 1."""
    values = np.linalg.eigvalsh(covariance[np.ix_(members, members)])[::-1]
    values = np.maximum(values[: min(width, len(members) - 1)], 1.0) if len(members) > 1 else np.ones(0)
    return 0.5 * float((values - 1 - np.log(values)).sum())
