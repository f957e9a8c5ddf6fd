r"""Evidence for each edge, and the posterior of its block, from the curvature at a maximum.

All else being profiled out, the likelihood of the blocks B of edges is taken as Gaussian,

    log p(y | B) = constant + h'B - B' Lambda B / 2.

Of one edge, the blocks of the others are integrated out over Gaussian priors of the precisions that they have at the
maximum. What is left is exact: given the precision alpha of the edge's own prior N(0, 1/alpha),

    p(y | alpha) / p(y | B = 0) = |I + Lambda / alpha|^-1/2 exp(h' (Lambda + alpha I)^-1 h / 2),

and an integral over alpha ~ Gamma(a, b), of one dimension, is the Bayes factor of the edge. So the prior, which has a
cusp where an edge vanishes, is never taken as Gaussian. The posterior of the block is the mixture over alpha, and with
the edge as likely as not beforehand a share of it has no edge at all.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from scipy.special import expit, gammaln, logsumexp

from mrgp.inference.mode.curvature import Curvature

UPWARDS = 1e-7  # of the largest curvature: what a curvature that is not positive is given in its place
GRID = np.linspace(-16.0, 24.0, 801)  # of log alpha, about the logarithm of a / b


class Relevance(NamedTuple):
    """Prior of the blocks of edges: alpha ~ Gamma(shape, rate)."""

    shape: float
    rate: float

    def precision(self, block: np.ndarray) -> float:
        """E[alpha | B], by which the slope of the log density at a block is -E[alpha | B] B."""
        return (self.shape + 0.5 * block.size) / (self.rate + 0.5 * block @ block)

    def curvature(self, block: np.ndarray) -> np.ndarray:
        """Second derivatives of minus the log density at a block, (entry, entry)."""
        precision = self.precision(block)
        fall = precision**2 / (self.shape + 0.5 * block.size)
        return precision * np.eye(block.size) - fall * np.outer(block, block)


class EdgePosterior(NamedTuple):
    """Posterior of one edge.

    Attributes:
        log_bayes_factor: Of the edge against none, nats.
        norms: Of its block, (draw,), zeros where there is no edge.
    """

    log_bayes_factor: float
    norms: np.ndarray

    @property
    def probability(self) -> float:
        """Probability of the edge, were it as likely as not beforehand."""
        return float(expit(self.log_bayes_factor))


class Told(NamedTuple):
    """Gaussian likelihood of the blocks of all edges, and their Gaussian priors.

    Attributes:
        curvature, linear: Lambda (entry, entry) and h (entry,).
        own: Precisions of the priors, (entry, entry).
    """

    curvature: np.ndarray
    linear: np.ndarray
    own: np.ndarray

    @classmethod
    def at_maximum(
        cls, blocks: np.ndarray, precision: np.ndarray, edges: Sequence[np.ndarray], priors: Sequence[Relevance]
    ) -> Self:
        """Likelihood from a maximum of the posterior.

        Args:
            blocks: Entries of all blocks there, (entry,).
            precision: Second derivatives of minus the log density by them, all else profiled out, (entry, entry).
            edges: Entries of each edge, by index.
            priors: Of each block, as the log density has it.
        """
        likelihood, linear = np.array(precision), precision @ blocks
        own = np.zeros_like(precision)
        for entries, prior in zip(edges, priors, strict=True):
            block, square = blocks[entries], np.ix_(entries, entries)
            curvature = prior.curvature(block)
            likelihood[square] -= curvature
            linear[entries] += prior.precision(block) * block - curvature @ block
            own[square] = prior.precision(block) * np.eye(block.size)
        return cls(likelihood, linear, own)


def precision_of(curvature: Curvature, size: int) -> np.ndarray:
    """Precision of the first ``size`` entries of a curvature, all else integrated out.

    Raises:
        FloatingPointError: the density bends upwards along some of them: it has no maximum there.
    """
    precision = np.linalg.inv(curvature.covariance[:size, :size])
    values = np.linalg.eigvalsh(precision)
    if not curvature.positive and values[0] < UPWARDS * values[-1]:
        raise FloatingPointError(
            "the fit has not come to its maximum, and nothing can be said of its edges: fit on from it with a smaller "
            "tolerance, and leave out neurons that are there twice"
        )
    return precision


def edge_posteriors(
    told: Told, edges: Sequence[np.ndarray], prior: Relevance, n_draws: int, seed: int
) -> list[EdgePosterior]:
    """Posterior of every edge.

    Args:
        told: Likelihood of the blocks.
        edges: Entries of each edge, by index.
        prior: Of each block.
        n_draws: Draws of each norm.
        seed: Of the draws.
    """
    linear, own = told.linear, told.own
    values, vectors = np.linalg.eigh(0.5 * (told.curvature + told.curvature.T))
    likelihood = vectors * np.maximum(values, 0.0) @ vectors.T  # differences of slopes may leave it a little below
    rng, found = np.random.default_rng(seed), []
    for entries in edges:
        others = np.setdiff1d(np.arange(len(linear)), entries)
        rest = (likelihood + own)[np.ix_(others, others)]
        cross = likelihood[np.ix_(entries, others)]
        solved = np.linalg.solve(rest, np.column_stack([cross.T, linear[others]]))
        Lambda = likelihood[np.ix_(entries, entries)] - cross @ solved[:, :-1]
        found.append(_of_one(Lambda, linear[entries] - cross @ solved[:, -1], prior, n_draws, rng))
    return found


def _of_one(
    Lambda: np.ndarray, h: np.ndarray, prior: Relevance, n_draws: int, rng: np.random.Generator
) -> EdgePosterior:
    values, vectors = np.linalg.eigh(0.5 * (Lambda + Lambda.T))
    values, along = np.maximum(values, 0.0), vectors.T @ h
    a, b = prior
    log_alpha = GRID + np.log(a / b)
    alpha = np.exp(log_alpha)
    weight = a * np.log(b) - gammaln(a) + a * log_alpha - b * alpha  # of log alpha
    told = 0.5 * (along**2 / (values + alpha[:, None]) - np.log1p(values / alpha[:, None])).sum(1)
    terms = weight + told + np.log(GRID[1] - GRID[0])
    log_bayes_factor = float(logsumexp(terms))
    chosen = rng.choice(len(alpha), n_draws, p=np.exp(terms - log_bayes_factor))
    wide = values + alpha[chosen, None]
    drawn = along / wide + rng.standard_normal((n_draws, len(h))) / np.sqrt(wide)
    norms = np.linalg.norm(drawn, axis=1)
    without = np.arange(n_draws) >= expit(log_bayes_factor) * n_draws
    return EdgePosterior(log_bayes_factor, np.where(without, 0.0, norms))
