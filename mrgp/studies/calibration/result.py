"""Result of a calibration: tables, a figure and files.

One of the files lets a run go on where it stopped.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from mrgp.plots.save import save_all
from mrgp.recordings.checks import warn
from mrgp.runtime.account import Account
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_json, write_netcdf
from mrgp.studies.calibration.account import account_of
from mrgp.studies.calibration.figure import counted_in, plot_calibration
from mrgp.studies.calibration.rank_tests import PROBABILITIES, summarised

FILE = "simulations.json"
MOST_NOTES = 5  # warnings of fits that a report shows; the summary has all


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Shown):
    """Comparison of a model's posteriors with truths drawn from its priors.

    Attributes:
        results: By ``simulation`` and ``quantity`` ("delay V2:0", "timescale across:0", ... in s or Hz): ``truth``,
            posterior ``mean`` and ``sd``, ``rank`` of the truth among ``draws`` draws, ``z`` = (mean - truth) / sd,
            and ``inside`` (simulation, quantity, probability), whether the central interval holds the truth; all but
            the truth NaN where the fit failed. By simulation: ``converged``, ``widened`` (the fit raised max_delay),
            ``seconds``, ``failure`` (why, or ""). Coordinate ``kind`` (quantity). Where one fit was asked about trials
            drawn from it, they are the simulations, and the last four are not there.
        settings: All that the simulations depend on, JSON-ready.
        notes: Warnings of the fits, and how many had each.
    """

    results: xr.Dataset
    settings: dict[str, Any]
    notes: dict[str, int]

    def _card(self) -> Card:
        return Card(f"Calibration of {self.settings['model']['model']}", text=self.report())

    def _account(self) -> Account:
        return account_of(self)

    @property
    def failures(self) -> dict[int, str]:
        """Reasons why fits failed, by the number of the simulation."""
        if not self._has_fits:
            return {}
        return {i: str(why) for i, why in enumerate(self.results["failure"].values) if why}

    @property
    def _has_fits(self) -> bool:
        """True if every simulation was fitted."""
        return "failure" in self.results

    @cached_property
    def table(self) -> pd.DataFrame:
        """Tests of uniform ranks and of coverage, by quantity, by kind and for all.

        See :func:`mrgp.studies.calibration.rank_tests.summarised`.
        """
        return summarised(self.results)

    def figures(self) -> dict[str, Figure]:
        return {"calibration": self.plot()}

    def plot(self) -> Figure:
        """Plot ranks, their ECDF and coverage; see :func:`mrgp.studies.plot_calibration`."""
        return plot_calibration(self.results)

    def summary(self) -> dict[str, Any]:
        """Settings, counts and table, ready for JSON."""
        return {
            "settings": self.settings,
            "n_simulations": self.results.sizes["simulation"],
            **(self._of_fits() if self._has_fits else {}),
            "table": {str(name): {k: _plain(v) for k, v in row.items()} for name, row in self.table.T.items()},
        }

    def _of_fits(self) -> dict[str, Any]:
        """Counts of fits, and what they said."""
        results = self.results
        fitted = results["failure"].values == ""
        return {
            "n_failed": len(self.failures),
            "n_not_converged": int((~results["converged"].values[fitted]).sum()),
            "n_widened": int(results["widened"].values.sum()),
            "seconds_median": float(np.median(results["seconds"])),
            "failures": self.failures,
            "notes": self.notes,
        }

    def report(self) -> str:
        """Format the table as text for a screen."""
        shown = {}
        for name, row in self.table.T.items():
            covered = {f"{100 * p:g}%": f"{100 * row[f'covered_{100 * p:g}']:.1f}" for p in PROBABILITIES}
            shown[name] = {
                "ranks": row["n"], "chi-square p": f"{row['p']:.3f}",
                "ECDF off by": f"{row['ecdf_distance']:.3f}{'' if row['ecdf_inside'] else ' !'}",
                **covered, "mean z": f"{row['mean_z']:+.2f}", "mean z²": f"{row['mean_square_z']:.2f}",
            }  # fmt: skip
        errors = ", ".join(
            f"{100 * self.table[f'error_{100 * p:g}'].iloc[0]:.1f} at {100 * p:g}%" for p in PROBABILITIES
        )
        lines = [
            pd.DataFrame(shown).T.to_string(),
            f"intervals hold the truth in % of {counted_in(self.results)}; of one quantity with an error of {errors}",
            "ECDF: ! outside of its simultaneous 95% band",
        ]
        if self._has_fits:
            told = self.summary()
            lines.append(
                f"{told['n_simulations']} simulations, {told['n_failed']} fits failed, {told['n_not_converged']} did "
                f"not converge, {told['n_widened']} widened max_delay, {told['seconds_median']:.1f} s each"
            )
        if self.failures:
            i, why = next(iter(self.failures.items()))
            lines.append(f"failed fits are left out of the table; the first, of simulation {i}: {why}")
        lines += [f"{count} of the fits: {note}" for note, count in list(self.notes.items())[:MOST_NOTES]]
        return "\n".join(lines)

    def save(self, folder: str | Path) -> None:
        """Write ``summary.json``, ``report.json``, ``ranks.nc`` and ``calibration.png``.

        Each file is replaced whole.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "summary.json", self.summary())
        write_netcdf(folder / "ranks.nc", self.results)
        save_all(self.figures(), folder)
        self.account().save(folder)


def gathered_from(done: list[dict[str, Any]], quantities: Mapping[str, str], settings: dict[str, Any]) -> Calibration:
    """Gather records of simulations in a :class:`Calibration`; NaN where a fit failed."""
    if failures := [record["failure"] for record in done if record["failure"]]:
        if len(failures) == len(done):
            raise FloatingPointError(f"all {len(done)} fits failed; the first: {failures[0]}")
        warn(f"{len(failures)} of {len(done)} fits failed and are left out: {failures[0]}")
    results = tabulated(done, quantities, {"draws": settings["draws"], "method": settings["method"]})
    own = ("converged", "widened", "seconds", "failure")
    results = results.assign({name: ("simulation", np.array([record[name] for record in done])) for name in own})
    notes = Counter(note for record in done for note in record["notes"])
    return Calibration(results, settings, dict(notes.most_common()))


def tabulated(done: list[dict[str, Any]], quantities: Mapping[str, str], attrs: Mapping[str, Any]) -> xr.Dataset:
    """Tabulate judgements of posteriors, NaN where there is none.

    ``quantities`` are names and kinds.
    """
    empty = np.full(len(quantities), np.nan)
    dims = ("simulation", "quantity")

    def gathered(name: str, absent: np.ndarray = empty) -> np.ndarray:
        return np.array([record.get(name, absent) for record in done], float)

    tables: dict[str, Any] = {name: (dims, gathered(name)) for name in ("truth", "rank", "mean", "sd", "z")}
    tables["inside"] = ((*dims, "probability"), gathered("inside", np.full((len(empty), len(PROBABILITIES)), np.nan)))
    coords = {"simulation": np.arange(len(done)), "quantity": list(quantities), "probability": list(PROBABILITIES),
              "kind": ("quantity", list(quantities.values()))}  # fmt: skip
    return xr.Dataset(tables, coords, attrs)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
