"""Metrics: scores of fits, each a class that says what it needs and how it is shown.

A metric of one's own is written once, and :func:`mrgp.evaluate` has it from then on, in tables, reports, summaries and
figures::

    class MedianError(mrgp.Metric):
        heading, unit, digits, less_is_better = "median error", "data units", 3, True

        def score(self, hidden):
            return np.nanmedian(np.abs(hidden.observed - hidden.predicted))

``needs`` is the class of what it is scored on: neurons that are hidden from a predictor (the default), all neurons of a
region that is, trials under a fit, or such trials of a simulation whose truth is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from mrgp.part import Part
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit


@dataclass(frozen=True, eq=False)
class HiddenNeurons:
    """Neurons of one region that are hidden from a predictor, and what it says of them.

    Attributes:
        observed: (trial, time, neuron) in units of the data, NaN where nothing was recorded.
        predicted: Their mean given all that is not hidden.
        log_likelihood: log p of them given all that is not hidden, in nats, (trial,).
        condition: Number of each trial's condition; None where none is told apart.
    """

    observed: Float[np.ndarray, "trial time neuron"]
    predicted: Float[np.ndarray, "trial time neuron"]
    log_likelihood: Float[np.ndarray, "trial"]
    condition: Int[np.ndarray, "trial"] | None


class HiddenRegion(HiddenNeurons):
    """All neurons of one region, predicted from the other regions."""


@dataclass(frozen=True, eq=False)
class ScoredTrials:
    """Trials under a fit.

    Attributes:
        fit: Of any model.
        test: The trials scored, as the fit knows them.
        train: Those that the fit was made from, or ``test`` where they are not known.
    """

    fit: Fit
    test: MultiRegionData
    train: MultiRegionData


@dataclass(frozen=True, eq=False)
class SimulatedTrials(ScoredTrials):
    """Trials of a simulation under a fit, with its ``truth`` (``Simulation.truth``)."""

    truth: xr.Dataset


class Column(NamedTuple):
    """Number of a whole run, as tables of many runs have it.

    Attributes:
        name: Of the column.
        key: In the summary of the run.
        panel: Heading of its panel in the figure of many runs; "" for none.
        decimals: Written of it; None for as many as others have.
    """

    name: str
    key: str
    panel: str = ""
    decimals: int | None = None


class Metric(Part, family="metric", tag="name", short=True):
    """Score of a fit.

    Attributes:
        needs: What it is scored on.
        heading: In reports and figures; "" for its name.
        unit: Of the score; "1" for a pure number.
        digits: Decimals in reports; None keeps it out of them.
        optional: A DataError of ``score`` becomes a note of the evaluation; otherwise it ends the evaluation.
        less_is_better: The smaller the score the better.
        above_baseline: Its zero depends on the units of the data: figures show what it has above the first baseline.
        panel: First line over its panel of held-out neurons; "" for heading and unit.
        region_panel: Lines over its panel of regions left out; "" where it is not shown for these.
        region_column: Heading of that score in the figure of many runs; "" where their tables do not have it.
        columns: Numbers of a whole run that tables of many runs have; of what is scored on trials.
    """

    needs: ClassVar[type[HiddenNeurons] | type[ScoredTrials]] = HiddenNeurons
    heading: ClassVar[str] = ""
    unit: ClassVar[str] = "1"
    digits: ClassVar[int | None] = 3
    optional: ClassVar[bool] = True

    less_is_better: ClassVar[bool] = False
    above_baseline: ClassVar[bool] = False
    panel: ClassVar[str] = ""
    region_panel: ClassVar[str] = ""
    region_column: ClassVar[str] = ""
    columns: ClassVar[tuple[Column, ...]] = ()

    @classmethod
    def scored_on(cls, case: type[HiddenNeurons] | type[ScoredTrials]) -> list["Metric"]:
        """List every metric ever defined that is scored on such a case, in the order of definition."""
        return [member() for member in cls.members().values() if issubclass(case, member.needs)]

    @property
    def name(self) -> str:
        """Name in tables and summaries."""
        return self.written_name()

    @property
    def title(self) -> str:
        """Heading, or else the name in words."""
        return self.heading or self.name.replace("_", " ")

    def suits(self, case: Any) -> bool:
        """True if the metric is about such a case; else an evaluation passes it over."""
        return True

    def score(self, case: Any) -> Any:
        """Score a case of the class ``needs``.

        Returns:
            A number for hidden neurons; for trials a number, or a DataArray or a Dataset with units.

        Raises:
            DataError: the model has no such thing; the message says why.
        """
        raise NotImplementedError(f"{type(self).__name__} must define score(self, case)")

    # --- of what is scored on trials

    def table(self, case: ScoredTrials) -> xr.Dataset:
        """Score trials, as a dataset: a single number or array stands in it under the metric's name."""
        found = self.score(case)
        if isinstance(found, xr.Dataset):
            return found
        array = found if isinstance(found, xr.DataArray) else xr.DataArray(found)
        return xr.Dataset({self.name: array.assign_attrs({"units": self.unit} | array.attrs)})

    def remark(self, case: ScoredTrials) -> str:
        """Remark on a score of this case, for the notes of the evaluation; "" for none."""
        return ""

    def summary(self, table: xr.Dataset) -> dict[str, Any]:
        """Entries of the evaluation's summary, for JSON."""
        every = {str(name): plain(array) for name, array in table.data_vars.items()}
        return {self.name: every[self.name] if every.keys() == {self.name} else every}

    def sentence(self, table: xr.Dataset) -> str:
        """Words for the sentence of the report that says how well trials are explained; "" for none."""
        if self.digits is None or self.name not in table:
            return ""
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.title} {beside(table[self.name].values, self.digits)}{unit}"

    def lines(self, table: xr.Dataset) -> Sequence[str]:
        """Further lines of the report."""
        return ()


def plain(array: xr.DataArray) -> Any:
    """Convert an array to numbers that JSON can hold, None where one is not finite."""
    values = np.asarray(array.values, float)
    if values.ndim == 0:
        return float(values) if np.isfinite(values) else None
    return [plain(part) for part in array]


def beside(values: Any, digits: int) -> str:
    """Write numbers beside each other, divided by slashes."""
    return " / ".join("-" if np.isnan(value) else f"{value:.{digits}f}" for value in np.ravel(values))
