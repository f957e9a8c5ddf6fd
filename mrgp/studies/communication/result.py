"""Result of a study of communication: edges with spread and control, and a verdict."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

from mrgp.inference.trivial import SLACK
from mrgp.parts.communication import SOURCE, TARGET
from mrgp.parts.delays.constant import DELAY
from mrgp.parts.networks.channels import Edges
from mrgp.plots.save import save_all
from mrgp.recordings.layout import Layout
from mrgp.runtime.account import Account
from mrgp.runtime.display import Card, Shown
from mrgp.runtime.files import write_atomically, write_json
from mrgp.studies.communication.account import account_of
from mrgp.studies.communication.figure import LOWER, STANDS_OUT, UPPER, plot_communication

MANY_TIMES = 2.0  # the strongest edge of a control, above which an edge is not put down to stimulus and course
FAINT = 0.1  # of the strongest edge, below which an edge may be what others leave over
LEVEL = 0.9  # of intervals
AS_CONTROL, IS_FAINT = "as in a control", "faint"
NOTHING = ": nothing here speaks for communication"
LIMITS = (
    "None of this excludes an input that both regions get, earlier the one and later the other, nor a region between "
    "them that was not recorded. An edge back to a strong source can stand for the source's own memory."
)
COARSE = (
    "Delays are not to be read more finely than a bin: where rates are not known exactly, a later message that "
    "averages over two bins does better than the true one."
)


@dataclass(frozen=True, eq=False, repr=False)
class Communication(Shown):
    """Result of :func:`mrgp.assess_communication`.

    Attributes:
        edges: Over ``edge``, with coordinates ``source_of_edge`` and ``target_of_edge``: ``effect``, its mean over
            trainings, ``effect_sd``, ``effect_least`` and ``effect_most`` of them; ``control``, the largest of this
            edge in a control; ``delay``, ``delay_lower`` and ``delay_upper`` in seconds, of all trainings together;
            ``outcome`` in words: an edge "stands out" if in every training its effect is more than twice the largest of
            any edge in any control, and on average a tenth of the strongest edge's or more, below which it is "faint".
        fits: A row for each training: ``is_control``, ``seed``, ``bound``, ``gain`` of it over each neuron's own mean,
            in nats, ``epochs``, ``converged``, ``learned``, ``seconds``, and ``failure``, or "". A training has learned
            if it came to rest, and gained more than a nat per neuron.
        settings: Of the study.
    """

    edges: xr.Dataset
    fits: pd.DataFrame
    settings: Mapping[str, Any]

    def effectome(self) -> xr.Dataset:
        """Tables of who moves whom, (source, target).

        They are ``mean`` and ``sd`` over trainings, and ``control``.
        """
        names = list(dict.fromkeys(self.edges[TARGET].values.tolist()))
        places = [[names.index(name) for name in self.edges[end].values] for end in (SOURCE, TARGET)]
        found = {}
        for name, column in (("mean", "effect"), ("sd", "effect_sd"), ("control", "control")):
            table = np.zeros((len(names), len(names)))
            table[tuple(places)] = self.edges[column]
            found[name] = (("source", "target"), table)
        return xr.Dataset(found, {"source": names, "target": names})

    def _account(self) -> Account:
        return account_of(self)

    @property
    def verdict(self) -> str:
        """Text on what may be said of the edges."""
        return " ".join(self.sentences)

    @property
    def sentences(self) -> list[str]:
        """Sentences on what may be said of the edges."""
        by = {o: np.flatnonzero(self.edges["outcome"].values == o) for o in (STANDS_OUT, IS_FAINT, AS_CONTROL)}
        said = [self._of_edge(int(edge)) for edge in by[STANDS_OUT]]
        if not len(by[STANDS_OUT]):
            idle = self._not_learned(is_control=False)
            told = f", and nothing can be concluded from that: {idle}" if idle else NOTHING
            said = [f"No edge stands out from the controls{told}."]
        elif idle := self._not_learned(is_control=True):
            said.append(f"Edges may stand out only because controls have not learned what they could: {idle}.")
        if len(by[IS_FAINT]):
            said.append(f"Faint beside the strongest, and not to be relied on: {self._named(by[IS_FAINT])}.")
        if len(by[AS_CONTROL]):
            names = self._named(by[AS_CONTROL])
            said.append(f"Not told apart from stimulus, course of the trial and chance of training: {names}.")
        if int(self.fits["is_control"].sum()) == 1:
            said.append("There is one control, which does not say how far controls differ by chance: give more.")
        if len(by[STANDS_OUT]):
            said += [LIMITS, COARSE] if self._has_delays else [LIMITS]
        return said

    def figures(self) -> dict[str, Figure]:
        return {"communication": self.plot()}

    def plot(self) -> Figure:
        """Plot effects and delays; see :func:`mrgp.studies.plot_communication`."""
        return plot_communication(self)

    def table(self) -> pd.DataFrame:
        """Return ``edges`` with a row for each."""
        return self.edges.to_dataframe().reset_index(drop=True)

    def save(self, folder: str | Path) -> None:
        """Write ``edges.csv``, ``summary.json``, ``report.json`` and ``communication.png``."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / "edges.csv", lambda path: self.table().to_csv(path, index=False))
        fits = json.loads(self.fits.to_json(orient="records", double_precision=12))
        rows = json.loads(self.table().to_json(orient="records", double_precision=12))
        found = {"verdict": self.verdict, "edges": rows, "fits": fits, "settings": dict(self.settings)}
        write_json(place / "summary.json", found)
        save_all(self.figures(), place)
        self.account().save(place)

    def _of_edge(self, edge: int) -> str:
        own = {str(name): column.values[edge] for name, column in self.edges.items()}
        source, target = (str(self.edges[end].values[edge]) for end in (SOURCE, TARGET))
        n = int((~self.fits["is_control"] & (self.fits["failure"] == "")).sum())
        low, high = own["effect_least"], own["effect_most"]
        said = f"In all {n} trainings" if n > 1 else "In the one training"
        spread = f"{low:.2g} to {high:.2g}" if n > 1 else f"{low:.2g}"
        said += f" what {source} does tells what {target} will do, beyond its own past: messages move it by {spread}"
        most = float(self.edges["control"].max())
        said += f" a bin (in controls no edge by more than {most:.2g})"
        if not self._has_delays:
            return f"{said}."
        late = ", ".join(f"{1e3 * own[name]:.1f}" for name in (LOWER, UPPER))
        return f"{said}, {1e3 * own[DELAY.name]:.1f} ms [{late}] later than the one bin that every message takes."

    def _not_learned(self, *, is_control: bool) -> str:
        """Say of trainings of a kind that they have not learned, and what to do; "" where all have."""
        own = self.fits[(self.fits["is_control"] == is_control) & (self.fits["failure"] == "")]
        idle, n = own[~own["learned"]], len(own)
        if not len(idle):
            return ""
        early = int((~idle["converged"].astype(bool)).sum())
        said = [f"{early} of {n} trainings ended before they came to rest, raise max_iterations"] * (early > 0)
        if flat := len(idle) - early:
            said.append(f"{flat} of {n} trainings came to rest no better than each neuron's own mean, change settings")
        return "; ".join(said)

    @property
    def _has_delays(self) -> bool:
        """True unless messages always take one bin."""
        return bool((self.edges[UPPER] > 0).any())

    def _named(self, edges: np.ndarray) -> str:
        ends = (self.edges[end].values for end in (SOURCE, TARGET))
        return ", ".join(f"{source} to {target}" for source, target in np.transpose(list(ends))[edges].tolist())

    def _card(self) -> Card:
        shown = self.table()[[SOURCE, TARGET, "effect", "effect_sd", "control", DELAY.name, "outcome"]]
        shown = shown.rename(columns={DELAY.name: "delay (s)"})
        text = shown.to_string(index=False, float_format=lambda number: f"{number:.3g}")
        failed = int((self.fits["failure"] != "").sum())
        notes = [f"{failed} of {len(self.fits)} trainings failed: see fits"] if failed else []
        return Card("Communication", {"verdict": self.verdict}, notes=notes, text=text)


def gathered(layout: Layout, records: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Communication:
    """Put the trainings together.

    Raises:
        ValueError: none on the recording succeeded, or none on a control.
    """
    of = {kind: [r for r in records if r["is_control"] == kind and not r["failure"]] for kind in (False, True)}
    for kind, name in ((False, "the recording"), (True, "a control")):
        if not of[kind]:
            why = next(r["failure"] for r in records if r["is_control"] == kind)
            raise ValueError(f"no training on {name} succeeded: {why}")
    edges, names = Edges.of(layout.n_regions), np.array(layout.regions)
    effect = np.array([record["effect"] for record in of[False]], float)
    control = np.array([record["effect"] for record in of[True]], float)
    beyond = effect.min(0) > MANY_TIMES * control.max()
    strong = effect.mean(0) >= FAINT * effect.mean(0).max()
    low, middle, high = delays_of(of[False])
    table: dict[str, Any] = {
        "effect": effect.mean(0), "effect_sd": effect.std(0, ddof=1) if len(effect) > 1 else np.full(len(low), np.nan),
        "effect_least": effect.min(0), "effect_most": effect.max(0), "control": control.max(0),
        DELAY.name: middle, LOWER: low, UPPER: high,
        "outcome": np.where(beyond & strong, STANDS_OUT, np.where(beyond, IS_FAINT, AS_CONTROL)),
    }  # fmt: skip
    coords = {SOURCE: ("edge", names[edges.source]), TARGET: ("edge", names[edges.target])}
    found = xr.Dataset({name: ("edge", values) for name, values in table.items()}, coords)
    for name in (DELAY.name, LOWER, UPPER):
        found[name].attrs["units"] = "s"
    columns = ("is_control", "seed", "bound", "gain", "epochs", "converged", "seconds", "failure")
    fits = pd.DataFrame([{name: record.get(name) for name in columns} for record in records])
    fits["gain"] = fits["gain"].astype(float)  # there is none in records of before
    fits["learned"] = [has_learned(record, SLACK * layout.total_neurons) for record in records]
    return Communication(found, fits, settings)


def has_learned(record: Mapping[str, Any], least: float) -> bool:
    """True if a training came to rest more than ``least`` nats above each neuron's own mean."""
    gain = record.get("gain")
    return bool(record.get("converged")) and (gain is None or gain > least)


def delays_of(records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower end, middle and upper end of the delay of every edge, of all trainings together.

    Variances within and between trainings are added as those of imputations are (Rubin 1987, eqs. 3.1.5 to 3.1.7).
    """
    medians, sds = (np.array([record[name] for record in records], float) for name in (DELAY.name, "sd"))
    n, middle, within = len(medians), medians.mean(0), (sds**2).mean(0)
    between = (1 + 1 / n) * (medians.var(0, ddof=1) if n > 1 else np.zeros_like(middle))
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(between > 0, (n - 1) * (1 + within / between) ** 2, np.inf)
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(within + between)
    longest = records[0]["longest"]
    return np.clip(middle - half, 0, longest), middle, np.clip(middle + half, 0, longest)
