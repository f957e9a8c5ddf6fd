"""Comparison of coupled regions with and without each edge, on unseen trials.

An edge from one region to another pays if the past of the first tells of the other's future beyond what that one's own
past does, and that of all other regions (Granger 1969). Both models are fitted, so that whatever else can take the
place of the edge does; and unseen trials weigh them, where an edge that is not needed gains nothing.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from scipy.stats import norm

from mrgp.families.checks import MayHaveCourse, require_no_course
from mrgp.recordings.blocks import in_blocks
from mrgp.recordings.checks import DataError
from mrgp.recordings.folds import deal_folds
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit
from mrgp.runtime.display import Card, Shown

type Edge = tuple[str, str]

BY_CHANCE = 0.05  # that any edge is named, all of them together


class WithEdges(MayHaveCourse, Protocol):
    """Interface of models whose edges can be left out."""

    @property
    def absent(self) -> tuple[Edge, ...]: ...

    def replace(self, **changes: Any) -> Self: ...
    def fit(self, data: MultiRegionData, **settings: Any) -> Fit: ...


@dataclass(frozen=True, eq=False, repr=False)
class EdgeComparison(Shown):
    """Result of :func:`compare_edges`.

    Attributes:
        table: One row per edge, the one that pays most first: ``source`` and ``target``; ``gain``, by how much log p of
            all trials, each held out once, is higher with the edge, in nats; ``error``, its standard error over trials;
            ``better``, the probability that it is higher, taking the sum over trials as Gaussian.
        gains: log p of each trial with all edges less that without one, (trial, edge), in nats; of counts of bounds.
        settings: Folds, blocks and seed.
    """

    table: pd.DataFrame
    gains: np.ndarray
    settings: dict[str, Any]

    def _card(self) -> Card:
        return Card("EdgeComparison", {"verdict": self.verdict}, text=self.table.round(3).to_string(index=False))

    @property
    def verdict(self) -> str:
        """Result of the comparison in a sentence, in which few edges are named by chance.

        The probability that any is, were none there, is one in twenty, trials being independent.
        """
        there = self.table[self.table["better"] > 1 - BY_CHANCE / max(len(self.table), 1)]
        named = [f"{row.source} to {row.target}" for row in there.itertuples()]
        return f"Edges that pay on unseen trials: {', '.join(named) or 'none'}."

    def summary(self) -> dict[str, Any]:
        """Table row by row, the verdict and the settings, ready for JSON."""
        rows = json.loads(self.table.to_json(orient="records", double_precision=12))
        return {"verdict": self.verdict, "edges": rows, "settings": self.settings}


def compare_edges(
    data: MultiRegionData,
    model: WithEdges,
    edges: Iterable[Edge] | None = None,
    *,
    n_folds: int = 4,
    block: float | None = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> EdgeComparison:
    """Fit a model with all its edges, and without each of some, and weigh them on unseen trials.

    Args:
        data: The recording, of two regions at least.
        model: Such as ``CoupledLDS(3)``, or with edges that are ``absent`` from all fits.
        edges: (source, target) of those asked about; None for all that the model has.
        n_folds: Folds of trials; of each all models are scored on what they were not fitted to.
        block: Seconds. Trials are cut into blocks of about this length, each of which is then a trial: for recordings
            of few long trials, or of one (see :func:`mrgp.cross_validate`).
        seed: Of folds and starts.
        progress: Show progress bars.
        settings: Of the fits, such as ``n_starts``.

    Raises:
        DataError: the recording has one region.
        ValueError: an edge is not one of the model's, or the model has a course over trials that are cut into blocks.
    """
    data.require(2, "a comparison of edges")
    names = data.layout.regions
    known = [(s, t) for s in names for t in names if s != t and (s, t) not in model.absent]
    asked = known if edges is None else [(str(source), str(target)) for source, target in edges]
    if unknown := [edge for edge in asked if edge not in known]:
        named = ", ".join(f"{source} to {target}" for source, target in unknown)
        raise DataError(f"the model has no edge {named}: give edges (source, target) between {', '.join(names)}")
    if block is not None:
        require_no_course(model)
        data = in_blocks(data, block)
    folds = deal_folds(data, n_folds, seed=seed)
    gains = np.zeros((data.n_trials, len(asked)))
    for fold in range(n_folds):
        held_out = folds == fold
        train, test = data.select_trials(~held_out), data.select_trials(held_out)
        whole = model.fit(train, seed=seed, progress=progress, **settings).raise_if_interrupted()
        scores = whole.log_likelihood(test).values
        for number, edge in enumerate(asked):
            without = model.replace(absent=(*model.absent, edge))
            fit = without.fit(train, seed=seed, start=whole, progress=progress, **settings).raise_if_interrupted()
            gains[held_out, number] = scores - fit.log_likelihood(test).values
    total, error = gains.sum(0), gains.std(0, ddof=1) * np.sqrt(len(gains))
    table = pd.DataFrame({
        "source": [source for source, _ in asked], "target": [target for _, target in asked], "gain": total,
        "error": error, "better": norm.cdf(total / np.maximum(error, np.finfo(float).tiny)),
    })  # fmt: skip
    order = np.argsort(-total, kind="stable")
    made_with = {"n_folds": n_folds, "block": block, "seed": seed}
    return EdgeComparison(table.iloc[order].reset_index(drop=True), gains[:, order], made_with)
