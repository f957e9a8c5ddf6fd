r"""Clusters of neurons where a fit begins, by probabilistic principal components of each.

Of a cluster whose standardized values have the eigenvalues :math:`\lambda_1 \ge \dots \ge \lambda_m` of their
covariance, w components explain, per bin and up to a constant,

.. math:: -\tfrac12 \Big(\sum_{i \le w} \log \lambda_i + (m - w) \log \sigma^2\Big), \qquad
    \sigma^2 = \frac{1}{m - w} \sum_{i > w} \lambda_i

(Tipping & Bishop 1999, J. R. Stat. Soc. B 61, 611-622). Neurons move one by one to where the sum over clusters grows
most, and clusters become one where it grows by that, until nothing moves.
"""

import numpy as np

SWEEPS = 30  # through all neurons, at most
ATTEMPTS = 6  # random beginnings, of which the best is taken
LEAST = 1e-6  # of a neuron's variance: noise that is always there


def found_clusters(covariance: np.ndarray, most: int, width: int, seed: int = 0) -> np.ndarray:
    """Find the cluster of each neuron, (neuron,), the largest cluster first.

    Args:
        covariance: Of standardized values, (neuron, neuron).
        most: Clusters.
        width: Components of each.
        seed: Of where it begins.
    """
    rng = np.random.default_rng(seed)
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


def height(covariance: np.ndarray, members: np.ndarray, width: int) -> float:
    """Log-likelihood per bin of neurons under so many components, up to a constant each."""
    if not len(members):
        return 0.0
    values = np.linalg.eigvalsh(covariance[np.ix_(members, members)])[::-1] + LEAST
    width = min(width, len(members) - 1)
    rest = values[width:]
    return -0.5 * float(np.log(values[:width]).sum() + len(rest) * np.log(rest.mean()))
