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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from mrgp.families.model import Model
from mrgp.plots.save import save_all
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit
from mrgp.runtime.account import Account
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_atomically, write_json, write_netcdf
from mrgp.runtime.records import as_read
from mrgp.studies.cross_validation.account import account_of
from mrgp.studies.cross_validation.candidate import COLUMNS, LATENTS, Candidate
from mrgp.studies.cross_validation.figure import plot_cross_validation

OWN = "log_likelihood"  # the score that models have


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(Shown):
    """Result of :func:`mrgp.cross_validate`; scores in nats per trial, the higher the better.

    Attributes:
        table: By ``candidate`` ("3+17/1", see :class:`mrgp.Candidate`), with a coordinate for each setting that was
            tried, such as ``n_across`` (candidate,) and ``n_within`` (candidate, region), that of ``mean`` being
            ``mean_of_model``: ``trial_score`` (candidate, trial), of every trial or block when it was held out, and
            ``fold`` (trial); ``score`` (candidate, fold), the mean over a fold's trials; ``mean`` and its standard
            error ``se`` over trials; ``difference`` of the means to the best candidate's and ``difference_se``, of
            paired differences; ``n_parameters``, the size, and ``n_loadings``, those of them that are loadings;
            ``valid``, whether every fold was fitted and converged; by candidate and fold also ``converged``,
            ``failure`` (why, or "") and ``seconds``. NaN where there is no score.
        candidates: In the order of ``table``.
        model: The model whose settings were varied.
        settings: Of its fits.
        described: All that the scores depend on, JSON-ready.
        notes: Warnings of the fits, and how many had each.
        data: The recording, in whole trials.
        dimensions: Of a search, the cross-validation of factor analysis in every region.
    """

    table: xr.Dataset
    candidates: tuple[Candidate, ...]
    model: Model
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
    def best(self) -> Candidate:
        """Candidate with the highest mean score."""
        return self.candidates[int(np.argmax(np.where(self.table["valid"], self.table["mean"], -np.inf)))]

    @property
    def chosen(self) -> Candidate:
        """Smallest candidate within one standard error of the best.

        Small is one with few parameters, most of which are loadings (neurons of a region times latents it reads); of
        two as small, the one with fewer latents across: that regions share a signal is to be shown, not assumed.
        """
        near = self.table["valid"] & (-self.table["difference"] <= self.table["difference_se"])
        size, difference = (self.table[name].values.tolist() for name in ("n_parameters", "difference"))
        across = [dict(one.settings).get(LATENTS[0], 0) for one in self.candidates]
        return self.candidates[min(np.flatnonzero(near), key=lambda i: (size[i], across[i], -difference[i]))]

    @property
    def scored(self) -> str:
        """Name of the score: log p of trials, a lower bound of it, or a function."""
        name = str(self.described.get("score", OWN))
        return name if name != OWN else "lower bound of log p" if self.model.is_bound else "log p"

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
        names = ["mean", "se", "difference", "difference_se", "n_loadings", "n_parameters", "valid"]
        index = pd.Index(table.candidate.values, name="candidate")
        rows = pd.DataFrame({name: table[name].values for name in names}, index)
        settings: dict[str, Any] = {}
        for name in (COLUMNS.get(name, name) for name, _ in self.candidates[0].settings):
            by_region = table[name].ndim > 1
            own = table[name].values.T if by_region else [table[name].values]
            named = [f"{name}_{region}" for region in table.region.values] if by_region else [name]
            settings |= dict(zip(named, own, strict=True))
        rows = pd.concat([pd.DataFrame(settings, index), rows], axis=1)
        for fold in table.fold_number.values:
            rows[f"fold_{fold}"] = table["score"].values[:, fold]
        rows["seconds"] = table["seconds"].values.sum(1)
        return rows

    def summary(self) -> dict[str, Any]:
        """Settings, table row by row, best and chosen candidate, failures; ready for JSON."""
        rows = json.loads(self.to_dataframe().reset_index().to_json(orient="records", double_precision=12))
        return {
            "chosen": {"candidate": str(self.chosen), **as_read(self.chosen.written())},
            "best": {"candidate": str(self.best), **as_read(self.best.written())},
            "score": self.scored,
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
        unit = f"nats per held-out {'trial' if self.table.sizes['trial'] == self.data.n_trials else 'block'}"
        if self.described.get("score", OWN) == OWN and self.model.is_bound:
            unit += f", of a {self.scored}"
        lines = [shown.to_string(index=False), f"{unit}; ± one standard error of the paired difference"]
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
