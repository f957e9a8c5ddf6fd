r"""Sums of products, from which ridge regressions are solved, reduced in rank, and scored.

With rows x of features and y of outcomes, both less a centre that does not depend on the fold,

.. math::
    W = (X'X + \lambda s I)^{-1} X'Y, \qquad s = \operatorname{tr} X'X / \text{features},

whose squared error on other rows is tr Y'Y - 2 tr W'X'Y + tr W'X'X W of those rows. Of rank q, the map closest to
Y_hat = X W over the rows is W V V', V being the q leading right singular vectors of Y_hat, which are eigenvectors of
W'X'X W (reduced-rank regression).
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float, Int

FOLDS = 5  # of trials, to choose the ridge
GRID = np.logspace(-9, 1, 11)  # of its strengths: rates without noise want the least, counts 0.01 to 1
RANK = 1e-12  # of the largest eigenvalue: below, a feature is a copy of others


class Moments(NamedTuple):
    """Sums of products of features and outcomes over rows.

    Attributes:
        xx: X'X.
        xy: X'Y.
        yy: Diagonal of Y'Y.
    """

    xx: Float[np.ndarray, "feature feature"]
    xy: Float[np.ndarray, "feature outcome"]
    yy: Float[np.ndarray, "outcome"]

    @classmethod
    def of(cls, x: Float[np.ndarray, "row feature"], y: Float[np.ndarray, "row outcome"]) -> Self:
        """Sum over rows."""
        return cls(x.T @ x, x.T @ y, (y**2).sum(0))

    def without(self, other: Self) -> Self:
        """Moments of rows that are not among the other's."""
        return type(self)(self.xx - other.xx, self.xy - other.xy, self.yy - other.yy)

    def solutions(self, strengths: Sequence[float] | np.ndarray) -> list[Float[np.ndarray, "feature outcome"]]:
        """Weights for every strength of the ridge; 0 gives least squares, of the least norm."""
        values, vectors = np.linalg.eigh(self.xx)
        kept = values > RANK * values.max(initial=0.0)
        values, vectors = values[kept], vectors[:, kept]
        scale, turned = np.trace(self.xx) / len(self.xx), vectors.T @ self.xy
        return [vectors @ (turned / (values + strength * scale)[:, None]) for strength in strengths]

    def missed(self, weights: Float[np.ndarray, "feature outcome"]) -> Float[np.ndarray, "outcome"]:
        """Squared error of each outcome, summed over rows."""
        return self.yy - 2 * (weights * self.xy).sum(0) + (weights * (self.xx @ weights)).sum(0)


def leading(
    xx: Float[np.ndarray, "feature feature"], weights: Float[np.ndarray, "feature outcome"], rank: int | None
) -> Float[np.ndarray, "outcome mode"]:
    """Orthonormal directions along which predictions X W vary, those of most variance first."""
    _, vectors = np.linalg.eigh(weights.T @ xx @ weights)
    return vectors[:, ::-1][:, : len(vectors) if rank is None else rank]


def fold_of_trials(n_trials: int) -> Int[np.ndarray, "trial"]:
    """Fold of each trial: every fifth trial is in the same one."""
    return np.arange(n_trials) % min(FOLDS, n_trials)
