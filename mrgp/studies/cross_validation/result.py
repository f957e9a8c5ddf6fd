r"""Result of a cross-validation: scores of candidates, the chosen one, and files.

The smallest candidate that will do is chosen.

Trials differ in how probable they are by far more than two models differ on the same trial: trials are longer or
shorter, louder or quieter, and that is so under every model. Scores are therefore compared in pairs. With
:math:`\Delta_b = s_b(\text{best}) - s_b(\text{candidate})` on held-out trial b, a candidate is within one standard
error of the best if

.. math:: \frac{1}{B} \sum_b \Delta_b \le \frac{\mathrm{sd}_b(\Delta_b)}{\sqrt{B}} .

The smallest of those is chosen (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3, whose rule
this is but for the pairing): a latent that the recording has no need of predicts new trials hardly worse, so that the
best score alone often has one too many. The standard error of a candidate's own score would call far too many
candidates as good as the best.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.plots.save import save_all
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit
from mrgp.runtime.account import Account
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_atomically, write_json, write_netcdf
from mrgp.studies.cross_validation.account import account_of
from mrgp.studies.cross_validation.figure import plot_cross_validation


class Candidate(NamedTuple):
    """Numbers of latents: across latents, and private ones for every region of the model.

    Across latents are those that regions share.
    """

    n_across: int
    n_within: tuple[int, ...]

    def __str__(self) -> str:
        """Name such as ``3+17/1``: 3 across latents, 17 within region 1, 1 within region 2.

        ``3`` if none is private.

        ``3`` if none is private.
        """
        return f"{self.n_across}+{'/'.join(map(str, self.n_within))}" if any(self.n_within) else str(self.n_across)

    def of[M: GaussianProcesses](self, model: M) -> M:
        """Return ``model`` with these latents."""
        return model.replace(n_across=self.n_across, n_within=self.n_within if any(self.n_within) else 0)


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(Shown):
    """Result of :func:`mrgp.cross_validate`; scores in nats per trial, the higher the better.

    Attributes:
        table: By ``candidate`` ("3+17/1", see :class:`Candidate`), with coordinates ``n_across`` and ``n_within``
            (candidate, region): ``trial_score`` (candidate, trial), of every trial when it was held out, and ``fold``
            (trial); ``score`` (candidate, fold), the mean over a fold's trials; ``mean`` and its standard error ``se``
            over trials; ``difference`` of the means to the best candidate's and ``difference_se``, of paired
            differences; ``n_loadings``, the size; ``valid``, whether every fold was fitted and converged; by candidate
            and fold also ``converged``, ``failure`` (why, or "") and ``seconds``. NaN where there is no score.
        model: The model whose latents were varied.
        settings: Of its fits.
        described: All that the scores depend on, JSON-ready.
        notes: Warnings of the fits, and how many had each.
        data: The recording.
        dimensions: Of a search, the cross-validation of factor analysis in every region.
    """

    table: xr.Dataset
    model: GaussianProcesses
    settings: Mapping[str, Any]
    described: Mapping[str, Any]
    notes: Mapping[str, int]
    data: MultiRegionData
    dimensions: Mapping[str, Self] = field(default_factory=dict)

    def _card(self) -> Card:
        facts = {"chosen": f"{self.chosen}", "best": f"{self.best}"}
        return Card(f"CrossValidation of {type(self.model).__name__}", facts, text=self.report())

    def _account(self) -> Account:
        return account_of(self)

    @property
    def candidates(self) -> list[Candidate]:
        """Candidates in the order of ``table``."""
        within = self.table["n_within"].values.tolist()
        across = self.table["n_across"].values.tolist()
        return [Candidate(k, tuple(widths)) for k, widths in zip(across, within, strict=True)]

    @property
    def best(self) -> Candidate:
        """Candidate with the highest mean score."""
        return self.candidates[int(np.argmax(np.where(self.table["valid"], self.table["mean"], -np.inf)))]

    @property
    def chosen(self) -> Candidate:
        """Smallest candidate within one standard error of the best.

        Small is one with few loadings (neurons of a region times latents it reads); of two as small, the one with
        fewer latents across: that regions share a signal is to be shown, not assumed.
        """
        near = self.table["valid"] & (-self.table["difference"] <= self.table["difference_se"])
        names = ("n_loadings", "n_across", "difference")
        n_loadings, n_across, difference = (self.table[name].values.tolist() for name in names)
        return self.candidates[min(np.flatnonzero(near), key=lambda i: (n_loadings[i], n_across[i], -difference[i]))]

    @property
    def failures(self) -> dict[tuple[str, int], str]:
        """Reasons why fits failed or did not converge, by candidate and fold."""
        why = self.table["failure"]
        places = np.argwhere(why.values != "")
        return {(str(why.candidate.values[i]), int(j)): str(why.values[i, j]) for i, j in places}

    def fit(self, **changes: Any) -> Fit:
        """Fit the chosen model to all trials.

        ``changes`` are to the settings of the fits, such as ``progress``.
        """
        return self.chosen.of(self.model).fit(self.data, **{**self.settings, **changes})

    def figures(self) -> dict[str, Figure]:
        return {"cv": self.plot()}

    def plot(self) -> Figure:
        """Plot the scores; see :func:`mrgp.studies.plot_cross_validation`."""
        return plot_cross_validation(self)

    def to_dataframe(self) -> pd.DataFrame:
        """Convert to a DataFrame with a row per candidate, in the order of ``table``."""
        table = self.table
        names = ["mean", "se", "difference", "difference_se", "n_loadings", "valid"]
        index = pd.Index(table.candidate.values, name="candidate")
        rows = pd.DataFrame({name: table[name].values for name in names}, index)
        rows.insert(0, "n_across", table["n_across"].values)
        for place, region in enumerate(table.region.values):
            rows.insert(1 + place, f"n_within_{region}", table["n_within"].values[:, place])
        for fold in table.fold_number.values:
            rows[f"fold_{fold}"] = table["score"].values[:, fold]
        rows["seconds"] = table["seconds"].values.sum(1)
        return rows

    def summary(self) -> dict[str, Any]:
        """Settings, table row by row, best and chosen candidate, failures; ready for JSON."""
        rows = json.loads(self.to_dataframe().reset_index().to_json(orient="records", double_precision=12))
        return {
            "chosen": {"candidate": str(self.chosen), **self.chosen._asdict()},
            "best": {"candidate": str(self.best), **self.best._asdict()},
            "regions": self.table.region.values.tolist(),
            "candidates": rows,
            "failures": [{"candidate": c, "fold": f, "failure": why} for (c, f), why in self.failures.items()],
            "settings": self.described,
            "notes": dict(self.notes),
            "dimensions": {region: found.summary() for region, found in self.dimensions.items()},
        }

    def report(self) -> str:
        """Format the table as text for a screen."""
        rows = self.to_dataframe()
        shown = pd.DataFrame({"candidate": rows.index, "score": rows["mean"].map("{:.3f}".format)})
        pairs = zip(rows["difference"], rows["difference_se"], strict=True)
        shown["behind the best"] = [f"{-d:.3f} ± {e:.3f}" if np.isfinite(d) else "failed" for d, e in pairs]
        marks = {str(self.best): "best"}
        marks[str(self.chosen)] = ", ".join([*marks.get(str(self.chosen), "").split(), "chosen"])
        shown[""] = [marks.get(name, "") for name in rows.index]
        lines = [shown.to_string(index=False), "nats per held-out trial; ± one standard error of the paired difference"]
        if self.failures:
            (name, fold), why = next(iter(self.failures.items()))
            lines.append(
                f"{len(self.failures)} fits failed, and their candidates are not chosen: {name} in fold {fold}, {why}"
            )
        return "\n".join(lines)

    def save(self, folder: str | Path) -> None:
        """Write ``summary.json``, ``report.json``, ``scores.csv``, ``scores.nc`` and ``cv.png``.

        Each file is replaced whole.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "summary.json", self.summary())
        write_atomically(folder / "scores.csv", self.to_dataframe().to_csv)
        write_netcdf(folder / "scores.nc", self.table)
        save_all(self.figures(), folder)
        self.account().save(folder)


def tabulated(
    model: GaussianProcesses,
    layout: Layout,
    records: Sequence[Mapping[str, Any]],
    candidates: Sequence[Candidate],
    folds: np.ndarray,
) -> xr.Dataset:
    """Make the table of :class:`CrossValidation` from records, one per candidate and fold.

    Records may be in any order.

    Raises:
        FloatingPointError: no candidate could be fitted in all folds.
    """
    n_folds = int(folds.max()) + 1
    shape = len(candidates), n_folds
    scores, seconds = np.full((shape[0], len(folds)), np.nan), np.full(shape, np.nan)
    converged, failure = np.zeros(shape, bool), np.full(shape, "", dtype=object)
    place = {candidate: i for i, candidate in enumerate(candidates)}
    for record in records:
        row, fold = place[candidate_of(record)], record["fold"]
        if record["scores"] is not None:
            scores[row, folds == fold] = record["scores"]
        converged[row, fold], failure[row, fold] = record["converged"], record["failure"]
        seconds[row, fold] = record["seconds"]
    valid = (failure == "").all(1)
    if not valid.any():
        raise FloatingPointError(f"no candidate could be fitted in every fold; the first: {failure[failure != ''][0]}")
    mean, se = _mean_and_error(scores)
    best = int(np.argmax(np.where(valid, mean, -np.inf)))
    difference, difference_se = _mean_and_error(scores - scores[best])
    by_fold = np.stack([scores[:, folds == fold].mean(1) for fold in range(n_folds)], axis=1)
    sizes = [int(candidate.of(model).assignment(layout).used.sum()) for candidate in candidates]
    nats = {"units": "nats per trial"}
    variables = {
        "trial_score": (("candidate", "trial"), scores, nats),
        "fold": ("trial", folds),
        "score": (("candidate", "fold_number"), by_fold, nats),
        "mean": ("candidate", mean, nats),
        "se": ("candidate", se, nats),
        "difference": ("candidate", difference, nats),
        "difference_se": ("candidate", difference_se, nats),
        "n_loadings": ("candidate", sizes),
        "valid": ("candidate", valid),
        "converged": (("candidate", "fold_number"), converged),
        "failure": (("candidate", "fold_number"), failure.astype(str)),
        "seconds": (("candidate", "fold_number"), seconds, {"units": "s"}),
    }
    coords = {
        "candidate": [str(candidate) for candidate in candidates],
        "n_across": ("candidate", [candidate.n_across for candidate in candidates]),
        "n_within": (("candidate", "region"), [list(candidate.n_within) for candidate in candidates]),
        "region": list(layout.regions) if len(candidates[0].n_within) == layout.n_regions else ["all"],
        "fold_number": np.arange(n_folds),
        "trial": np.arange(len(folds)),
    }
    return xr.Dataset(variables, coords)


def candidate_of(record: Mapping[str, Any]) -> Candidate:
    """Find the candidate of a record, which may come from a file."""
    return Candidate(record["n_across"], tuple(record["n_within"]))


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over trials, the last axis, and its standard error."""
    return values.mean(-1), values.std(-1, ddof=1) / np.sqrt(values.shape[-1])
