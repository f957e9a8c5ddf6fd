"""Reader of folders of Kilosort and Phy: sorted spikes in samples, and tables of clusters."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mrgp.recordings.checks import DataError, damage_named, warn
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.readers.sorted_spikes import REGION, SortedSpikes, SortedUnits, by_cluster, named_areas
from mrgp.recordings.readers.tables import given_trials, read_array, read_table
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.unit_choice import area_name
from mrgp.runtime.sentences import Argument

RATE = re.compile(r"^\s*sample_rate\s*=\s*([0-9][0-9.eE+]*)\s*(?:#.*)?$", re.MULTILINE)
IDS = ("cluster_id", "id")  # columns with the number of the cluster, of newer and older versions
REGION_COLUMNS = ("location", "region", "brain_region", "brain_area", "acronym")
TRIALS = ("trials.csv", "trials.tsv")  # that a user puts beside the spikes
TABLES = "cluster_*.[ct]sv"
WHOLE = "cluster_info."  # the table of all columns, as they were when Phy was last closed


@dataclass(frozen=True)
class Phy(SortedSpikes):
    """Spikes of the clusters in a folder of Kilosort or Phy, counted in bins of ``bin_width``.

    The folder holds ``spike_times.npy`` in samples and ``spike_clusters.npy``. Its ``params.py`` is read as text for
    the ``sample_rate``, and never run. Columns of clusters are those of its tables ``cluster_*.tsv`` (or ``.csv``):
    ``group`` (good, mua, noise), ``KSLabel``, and those of ``cluster_info.tsv``, so that ``units={"group": "good"}``
    chooses. Without a column of regions, ``region_of_unit`` names that of each cluster: cluster -> region.

    ``trials`` are a table of text (the folder's ``trials.csv`` or ``trials.tsv`` where not said) or a mapping of
    columns: ``start_time`` and ``stop_time``, or the event to align to, in seconds since the first sample.

    Args:
        sample_rate: Samples per second; goes before ``params.py``.
    """

    folder: ClassVar[str] = "Phy"
    marks: ClassVar[tuple[str, ...]] = ("spike_times.npy",)
    about: ClassVar[str] = "folder of Kilosort or Phy (spike_times.npy), with --trials, counted in bins of --bin-width"

    sample_rate: float | None = Reader.option("samples per second (as params.py says)", "HZ")

    def read(self, path: Path) -> MultiRegionData:
        if not (path / "spike_clusters.npy").is_file():
            raise DataError(f"{path.name} has no spike_clusters.npy: give the folder that Kilosort or Phy wrote, whole")
        samples = read_array(path / "spike_times.npy")
        if samples.dtype.kind not in "iu" and not np.array_equal(samples, np.round(samples)):
            raise DataError(f"spike_times.npy of {path.name} holds fractions: give samples, as Kilosort writes them")
        times = samples / self._rate(path)
        spikes = by_cluster(times, read_array(path / "spike_clusters.npy"), path.name)
        labels = list(spikes)
        tables = _tables(path)
        listed = {cluster for column in tables.values() for cluster in column}
        if silent := len(listed - set(labels)):
            warn(f"left out {silent} clusters of {path.name} without spikes")
        columns = {name: [column.get(cluster, "") for cluster in labels] for name, column in tables.items()}
        units = SortedUnits(dict(spikes), self._areas(columns, labels, path), columns)
        return self.counts(units, self._trials(path), path.name)

    def _rate(self, path: Path) -> float:
        """Samples per second."""
        if self.sample_rate is not None:
            return float(self.sample_rate)
        params = path / "params.py"
        missing = Argument("sample_rate", 30000)
        if not params.is_file():
            raise DataError(f"{path.name} has no params.py, which says the sample rate: pass ", missing, " for 30 kHz")
        with damage_named(params):
            found = RATE.search(params.read_text(errors="replace"))
        if found is None or not (rate := _number(found[1])) > 0:
            raise DataError(f"params.py of {path.name} has no line such as sample_rate = 30000: pass ", missing)
        return rate

    def _areas(self, columns: dict[str, list[Any]], labels: list[int], path: Path) -> list[str]:
        """Name the region of each unit; '' where the folder has none."""
        if self.region_of_unit is not None and not isinstance(self.region_of_unit, str):
            return named_areas(self.region_of_unit, labels, path.name)
        likely = REGION_COLUMNS if self.region_of_unit is None else (self.region_of_unit,)
        if (name := next((name for name in likely if name in columns), None)) is None:
            there = ", ".join(columns) or "no columns"
            lacking = f"{path.name} does not say where its units are: there is {there}; pass "
            add = ", one of these or cluster -> region, or add a table cluster_region.tsv (cluster_id, region)"
            raise DataError(lacking, REGION, add)
        return list(map(area_name, columns[name]))

    def _trials(self, path: Path) -> dict[str, np.ndarray]:
        """Read the columns of the trials."""
        trials = self.trials or next((name for name in TRIALS if (path / name).is_file()), None)
        if trials is None:
            lacking = f"{path.name} has no trials: put trials.csv there, with start_time and stop_time in seconds, "
            raise DataError(lacking, "or pass ", Argument("trials", python="trials="))
        return given_trials(trials, path)


def _tables(path: Path) -> dict[str, dict[int, Any]]:
    """Columns of all tables of clusters: name -> cluster -> value."""
    columns: dict[str, dict[int, Any]] = {}
    # Of a column in two tables, that of its own is taken: it is written as soon as a label is given.
    for file in sorted(path.glob(TABLES), key=lambda file: (not file.name.startswith(WHOLE), file.name)):
        table = read_table(file)
        key = next((name for name in IDS if name in table), None)
        if key is None or table[key].dtype.kind != "f" or np.isnan(table[key]).any():
            lacking = f"{file.name} of {path.name} has no column cluster_id of whole numbers"
            raise DataError(f"{lacking}: mend it, or take it out")
        clusters = table[key].astype(int).tolist()
        for name, column in table.items():
            if name != key:
                columns.setdefault(name, {}).update(zip(clusters, column.tolist(), strict=True))
    return columns


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
