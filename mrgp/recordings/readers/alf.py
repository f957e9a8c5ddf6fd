"""Reader of ALF folders, as ONE and the International Brain Laboratory write them."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mrgp.recordings.checks import DataError, warn
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.readers.sorted_spikes import REGION, SortedSpikes, SortedUnits, by_cluster, named_areas
from mrgp.recordings.readers.tables import PARQUET, given_trials, is_readable, read_array, read_table
from mrgp.recordings.recording import MultiRegionData
from mrgp.recordings.unit_choice import area_name
from mrgp.runtime.sentences import Argument

# _namespace_object.attribute.parts.suffix, of which namespace and parts may be absent.
NAME = re.compile(r"(?:_[A-Za-z0-9]+_)?([A-Za-z0-9]+)\.(\w+)(?:\.[\w-]+)*(\.npy|\.csv|\.tsv|\.pqt|\.parquet)")
DEPTH = 5  # levels below a session at which spikes lie at most: alf, probe, sorting, revision
NUMBERED = "brainLocationIds_ccf_2017"
REGION_ATTRIBUTES = ("acronym", "brainLocationAcronyms_ccf_2017", NUMBERED)
NOWHERE = ("void", "0")  # an acronym and a number of the Allen atlas: outside the brain
PROBES = Argument("probes", python="probes=")
INTERVALS = {"intervals_0": "start_time", "intervals_1": "stop_time"}


@dataclass(frozen=True)
class Alf(SortedSpikes):
    """Spikes of the clusters in a folder of ALF, counted in bins of ``bin_width``.

    The folder is a session, its ``alf``, or that of one probe or sorting. Names may have a namespace
    (``_ibl_trials.intervals.npy``); of datasets with revisions (``#2020-01-01#``) the newest are read.

    - Spikes: ``spikes.times.npy`` in seconds, ``spikes.clusters.npy``.
    - Regions: ``clusters.acronym.npy``, or through ``clusters.channels.npy`` those of ``channels.acronym.npy`` or
      ``channels.brainLocationIds_ccf_2017.npy``. The latter are numbers of the Allen atlas, negative in the left
      hemisphere, where they name the same region. ``atlas`` says the acronym of each; without it numbers are names, and
      ``region_map={"VISp": (593, 821, 721, 778, 33, 305)}`` gives them others. ``region_of_unit`` is another attribute
      of clusters or channels, or one name per unit.
    - Columns of units: other attributes of clusters, and ``clusters.metrics.csv``, so that ``units={"label": 1}``
      chooses.
    - Trials: ``trials.intervals.npy`` are ``start_time`` and ``stop_time``; other attributes (``stimOn_times``,
      ``choice``) are events to align to and coordinates; ``trials.table.csv`` is read too. ``trials`` may be another
      table of text, or a mapping of columns.

    Units are labelled by their cluster; where there are several probes, by probe and cluster, ``probe00:12``. Tables
    of parquet need pyarrow, which the extra ``mrgp[parquet]`` installs, or a table of text beside them.

    Args:
        probes: Probes, or sortings such as "probe00/pykilosort", in the folder; None for all.
        atlas: Number of a region -> its acronym, or a table with columns ``id`` and ``acronym``, such as the structures
            of the Allen atlas.

    Source: Rossant et al., the Open Neurophysiology Environment (the format).
    """

    folder: ClassVar[str] = "ALF"
    marks: ClassVar[tuple[str, ...]] = tuple("*/" * level + "*spikes.times*.npy" for level in range(DEPTH))
    about: ClassVar[str] = "session or probe, a folder with spikes.times.npy (ONE, IBL), counted in bins of --bin-width"

    probes: Sequence[str] | None = Reader.option("probes or sortings of a session (all)", "A,B")
    atlas: str | Mapping[Any, str] | None = Reader.option("acronyms of regions: a .csv, id and acronym", "FILE")

    def read(self, path: Path) -> MultiRegionData:
        base = path / "alf" if (path / "alf").is_dir() else path
        sortings = self._sortings(base)
        times: dict[Any, np.ndarray] = {}
        areas: list[str] = []
        tables: list[tuple[int, dict[str, list[Any]]]] = []
        for name, folder in sortings.items():
            units = self._units(folder)
            own = units.times if len(sortings) == 1 else {f"{name}:{c}": train for c, train in units.times.items()}
            times |= own
            areas += units.areas
            tables.append((len(own), units.columns))
        # A column that a probe has not is empty there.
        names = dict.fromkeys(name for _, table in tables for name in table)
        columns = {name: [value for n, table in tables for value in table.get(name, [""] * n)] for name in names}
        if self.region_of_unit is not None and not isinstance(self.region_of_unit, str):
            areas = named_areas(self.region_of_unit, list(times), path.name)
        return self.counts(SortedUnits(times, areas, columns), self._trials(base), path.name)

    def _sortings(self, base: Path) -> dict[str, Path]:
        """Folders of spikes that are read, by the names of their probes."""
        files = [file for mark in self.marks for file in base.glob(mark)]
        folders = {file.parent.parent if _is_revision(file.parent) else file.parent for file in files}
        known = {folder.relative_to(base).as_posix(): folder for folder in sorted(folders)}
        if self.probes is not None:
            chosen = {probe: _one_of(known, probe, base) for probe in self.probes}
            if not chosen:
                raise DataError(PROBES, f" names none: choose from {', '.join(known)}")
            return chosen
        inside = base.name == "alf" or not any(part.name == "alf" for part in base.parents)
        probes = [name.partition("/")[0] if inside else "" for name in known]
        if len(set(probes)) < len(probes) or (len(known) > 1 and "." in known):
            several = f"{base.name} has several sortings of a probe: choose by "
            raise DataError(several, PROBES, f" from {', '.join(known)}")
        return dict(zip(probes, known.values(), strict=True))

    def _units(self, folder: Path) -> SortedUnits:
        """Units of one sorting."""
        files = _datasets(folder)
        if "spikes.clusters" not in files:
            raise DataError(f"{folder.name} has no spikes.clusters.npy: download it beside spikes.times.npy")
        times, clusters = (read_array(files[name]) for name in ("spikes.times", "spikes.clusters"))
        spikes = by_cluster(np.asarray(times, float), clusters, folder.name)
        labels, metrics = list(spikes), files.get("clusters.metrics")
        # What is not asked for is not read, but its name is listed where another is not there.
        columns: dict[str, list[Any]] = {name.partition(".")[2]: [] for name in files if name.startswith("clusters.")}
        attributes = _attributes(files, "clusters", {"channels", *self._region_names(), *(self.units or ())})
        columns |= {name: _at(column, labels, f"clusters.{name}") for name, column in attributes.items()}
        lengths = [len(column) for column in attributes.values()]
        if metrics is not None and (metrics.suffix not in PARQUET or not set(self.units or ()) <= set(columns)):
            table = read_table(metrics)
            ids = table.pop("cluster_id", np.arange(len(next(iter(table.values()), []))))
            lengths.append(len(ids))
            for name, column in table.items():
                values = dict(zip(ids.tolist(), column.tolist(), strict=True))
                columns[name] = [values.get(label, "") for label in labels]
        if (silent := max(lengths, default=0) - len(labels)) > 0:
            warn(f"left out {silent} clusters of {folder.name} without spikes")
        if self.region_of_unit is not None and not isinstance(self.region_of_unit, str):
            return SortedUnits(dict(spikes), [""] * len(labels), columns)  # named together for all probes
        return SortedUnits(dict(spikes), self._areas(folder, columns), columns)

    def _areas(self, folder: Path, columns: dict[str, list[Any]]) -> list[str]:
        """Name the region of each unit; '' where there is none."""
        wanted = self._region_names()
        name = next((name for name in wanted if columns.get(name)), None)
        values = columns.get(name or "")
        if values is None:
            # Channels are the probe's, and may lie above those of its sortings.
            files = _datasets(folder.parent) | _datasets(folder)
            channels = _attributes(files, "channels", set(wanted))
            name = next((name for name in wanted if name in channels), None)
            if name is None or "channels" not in columns:
                lacking = "clusters.channels.npy" if name is not None else "channels.brainLocationIds_ccf_2017.npy"
                missing = f"{folder.name} does not say where its units are: add {lacking}, or clusters.acronym.npy, "
                raise DataError(missing, "or pass ", REGION, ", an attribute of clusters or channels or names of units")
            values = _at(channels[name], columns["channels"], f"channels.{name}")
        if name == NUMBERED:
            values = self._acronyms([abs(int(number)) if number == number else 0 for number in values])  # NaN: nowhere
        return ["" if area in NOWHERE else area for area in map(area_name, values)]

    def _acronyms(self, numbers: list[int]) -> list[Any]:
        """Return the acronyms of regions of the atlas; their numbers where nothing says them."""
        if self.atlas is None:
            return numbers
        known = dict(self.atlas) if isinstance(self.atlas, Mapping) else _atlas(Path(self.atlas))
        if unknown := [number for number in numbers if number and number not in known]:
            raise DataError(f"the atlas has no acronym for region {unknown[0]}: add it, or leave the atlas out")
        return [known.get(number, "") for number in numbers]

    def _region_names(self) -> tuple[str, ...]:
        """Attributes that may name regions, the first of which is taken; none where they are given."""
        if self.region_of_unit is None:
            return REGION_ATTRIBUTES
        return (self.region_of_unit,) if isinstance(self.region_of_unit, str) else ()

    def _trials(self, base: Path) -> dict[str, np.ndarray]:
        """Read the columns of the trials, which may lie above the folder of a probe."""
        if self.trials is not None:
            return given_trials(self.trials, base)
        above = [folder for folder in base.parents if "alf" in (folder.name, *(part.name for part in folder.parents))]
        places = [folder for folder in (base, *above) if any(map(_is_of_trials, _datasets(folder)))]
        if not places:
            missing = f"{base.name} has no trials.intervals.npy: download the trials, or pass "
            raise DataError(missing, Argument("trials", python="trials="))
        files = _datasets(places[0])
        whole = files.get("trials.table")
        text = read_table(whole) if whole is not None and is_readable(whole) else {}
        table: dict[str, np.ndarray] = {}
        for name, column in (text | _attributes(files, "trials")).items():
            parts = {name: column} if column.ndim == 1 else {f"{name}_{side}": column[:, side] for side in (0, 1)}
            table |= {INTERVALS.get(part, part): values for part, values in parts.items()}
        if whole is not None and not set(self.timed_by()) <= set(table):
            read_table(whole)  # of parquet that cannot be read: it says what is to be done
        lengths = {name: len(column) for name, column in table.items()}
        if len(set(lengths.values())) > 1:
            (one, first), (other, second) = min(lengths.items(), key=_size), max(lengths.items(), key=_size)
            raise DataError(f"trials.{one} has {first} trials but trials.{other} has {second}: get both again")
        return table


def _atlas(path: Path) -> dict[int, str]:
    """Read the acronym of each region by its number from a table of structures."""
    if not path.is_file():
        raise DataError(f"there is no table {path} of an atlas: check its name")
    table = read_table(path)
    if not {"id", "acronym"} <= set(table) or table["id"].dtype.kind != "f":
        raise DataError(f"{path.name} is no table with columns id, a number, and acronym: give one of structures")
    return dict(zip(table["id"].astype(int).tolist(), table["acronym"].tolist(), strict=True))


def _is_revision(folder: Path) -> bool:
    """True for the folder of a revision, such as ``#2020-01-01#``."""
    return folder.name.startswith("#") and folder.name.endswith("#")


def _is_of_trials(name: str) -> bool:
    return name.startswith("trials.")


def _size(entry: tuple[str, int]) -> int:
    return entry[1]


def _datasets(folder: Path) -> dict[str, Path]:
    """Newest files of a folder by object and attribute, such as "spikes.times"."""
    datasets: dict[str, Path] = {}
    for place in [folder, *sorted(filter(_is_revision, folder.glob("#*#")))]:
        here: dict[str, Path] = {}
        for file in sorted(place.iterdir()):
            if (parts := NAME.fullmatch(file.name)) is None:
                continue
            name = f"{parts[1]}.{parts[2]}"
            other = here.get(name)
            if other is not None and other.suffix == file.suffix:
                raise DataError(f"{place.name} has both {other.name} and {file.name}: take one of them out")
            if other is None or file.suffix not in PARQUET:  # text beside parquet holds the same, and can be read
                here[name] = file
        datasets |= here
    return datasets


def _attributes(files: dict[str, Path], kind: str, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays (row,) and (row, 2) of a kind of object by attribute, all or those ``wanted``."""
    arrays = {}
    for name, file in files.items():
        own, _, attribute = name.partition(".")
        if file.suffix == ".npy" and own == kind and (wanted is None or attribute in wanted):
            arrays[attribute] = read_array(file)
    return {name: array for name, array in arrays.items() if array.ndim == 1 or array.shape[1:] == (2,)}


def _at(values: np.ndarray, places: Sequence[Any], what: str) -> list[Any]:
    """Return the entries at whole numbers, from 0.

    Raises:
        DataError: one is beyond the end.
    """
    numbers = np.asarray(places, int)
    if beyond := numbers[(numbers < 0) | (numbers >= len(values))].tolist():
        raise DataError(f"{what}.npy has {len(values)} entries, and none for number {beyond[0]}: get it again")
    return values[numbers].tolist()


def _one_of(known: dict[str, Path], probe: str, base: Path) -> Path:
    """Find the folder of spikes of a probe or sorting."""
    if probe in known:
        return known[probe]
    below = [name for name in known if name.startswith(f"{probe}/")]
    if len(below) != 1:
        what = f"several sortings of {probe}" if below else f"no probe {probe!r}"
        raise DataError(f"{base.name} has {what}: choose by ", PROBES, f" from {', '.join(below or known)}")
    return known[below[0]]
