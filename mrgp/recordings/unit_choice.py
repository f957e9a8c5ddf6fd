"""Choice of sorted units by their columns and regions, which may be joined."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from reprlib import repr as shortened
from typing import Any

import numpy as np

from mrgp.recordings.arguments import named_by, names_of_regions
from mrgp.recordings.checks import DataError, warn
from mrgp.recordings.labels import MISSING, is_missing
from mrgp.recordings.texts import as_text
from mrgp.runtime.sentences import Argument

# Layered areas of the Allen atlas, Wang et al. 2020, Cell 181: those of the isocortex, and the entorhinal ones. Other
# acronyms end in numbers that are no layers, such as CA1.
LAYERED = re.compile(
    r"((?:FRP|MO|SS|GU|VISC|AUD|VIS|ACA|PL|ILA|ORB|AI|RSP|PTLp|TEa|PERI|ECT|ENT)[a-z-]*)"
    r"(?:1|2/3|2[ab]?|3|4/5|4|5/6|5|6[ab]?)"
)
MOST_LISTED = 12  # values or regions that a message lists


@dataclass(frozen=True)
class UnitChoice:
    """Choice of the units that are counted, and of the regions they are in.

    Where the name of a region has a slash, which files cannot hold, it becomes "_": VISp2/3 is VISp2_3.

    Args:
        regions: Regions in this order, under their names of ``region_map``; None for all.
        region_map: Region -> the name, or names, that its units have in the file; units of other names keep theirs.
        merge_layers: Join the layers of a cortical area of the Allen atlas: VISp2/3 and VISp5 are VISp.
        min_neurons: Regions of fewer units are left out.
        units: Column of the units -> the value, or values, of the units that are counted.
    """

    regions: Sequence[str] | None = None
    region_map: Mapping[str, Any] | None = None
    merge_layers: bool = False
    min_neurons: int = 1
    units: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        named_by("region_map", self.region_map, '{"VISp": ["VISp1", "VISp5"]}')
        named_by("units", self.units, '{"quality": "good"}, a column and its values')
        if not isinstance(self.min_neurons, Integral) or self.min_neurons < 1:
            wrong = f" counts units, not {shortened(self.min_neurons)}: give 1 or more"
            raise DataError(Argument("min_neurons"), wrong)

    def choose(
        self, areas: Sequence[str], columns: Mapping[str, Sequence[Any]], source: str
    ) -> tuple[list[int], list[str], list[str]]:
        """Choose units of a file.

        Args:
            areas: Region of each unit, '' for none.
            columns: Name -> one value per unit.
            source: The name of the file, for messages.

        Returns:
            Positions of the units that stay, the region of each, and the names of the regions.

        Raises:
            DataError: a column or region is not there, or no unit stays.

        Warns:
            Regions of fewer units than ``min_neurons``, with their numbers of units; names of ``region_map`` that no
            unit has; names in which "_" took the place of a slash, unless ``regions`` has them so.
        """
        kept = self._of_columns(len(areas), columns, source)
        own = [areas[unit] for unit in kept]
        written = self._renamed(own, source)
        renamed = list(map(_plain, written))
        wanted = dict.fromkeys(renamed) if self.regions is None else names_of_regions(self.regions)
        names = list(map(_plain, wanted))
        if absent := [name for name in names if name not in renamed]:
            _refuse_absent(absent[0], own, renamed)
        sizes = {name: renamed.count(name) for name in names}
        small = {name: size for name, size in sizes.items() if name and 0 < size < self.min_neurons}
        if small and self.regions is not None:
            name, size = next(iter(small.items()))
            fewer = f"region {name} of {source} has {size} unit(s), fewer than "
            raise DataError(fewer, Argument("min_neurons", self.min_neurons), ": leave it out of the regions")
        if small:
            listed = _shortened([f"{name} ({size})" for name, size in small.items()])
            warn(f"left out {len(small)} regions of fewer than {self.min_neurons} units: {listed}")
        names = [name for name in names if name not in small]
        if small and not any(names):
            most = f"no region of {source} has {self.min_neurons} units, the most are {max(small.values())}: lower "
            raise DataError(most, Argument("min_neurons"))
        asked = set(map(as_text, self.regions or ()))
        if slashed := [old for old in dict.fromkeys(written) if _plain(old) != old and _plain(old) in {*names} - asked]:
            warn(f"a slash in the name of a region becomes _, since files cannot hold it: {_shortened(slashed)}")
        return kept, renamed, names

    def _of_columns(self, n_units: int, columns: Mapping[str, Sequence[Any]], source: str) -> list[int]:
        """Return positions of the units with the wanted values in all columns."""
        stay = np.ones(n_units, bool)
        for name, wanted in (self.units or {}).items():
            if name not in columns:
                raise DataError(f"the units of {source} have no column {name!r}: there is {_shortened(columns)}")
            keys = [_key(value) for value in columns[name]]
            stay &= np.isin(keys, [_key(value) for value in _several(wanted)])
            if not stay.any():
                values = _shortened([f"{key or 'nothing'} ({keys.count(key)})" for key in dict.fromkeys(keys)])
                raise DataError(f"no unit of {source} is left with {name} {wanted!r}: its values are {values}")
        return np.flatnonzero(stay).tolist()

    def _renamed(self, areas: list[str], source: str) -> list[str]:
        """Name the region of each unit as ``region_map`` and ``merge_layers`` have it."""
        new: dict[str, str] = {}
        for name, olds in (self.region_map or {}).items():
            texts = list(map(as_text, _several(olds)))
            if twice := [old for old in texts if new.get(old, name) != name]:
                raise DataError(Argument("region_map"), f" has {twice[0]} in {new[twice[0]]} and in {name}: choose one")
            if not set(texts) & set(areas):
                warn(f"no unit of {source} is in {_shortened(texts)}, which region_map calls {name}")
            new |= dict.fromkeys(texts, as_text(name))
        merged = [without_layer(area) if self.merge_layers else area for area in areas]
        return [new.get(area, new.get(other, other)) for area, other in zip(areas, merged, strict=True)]


def area_name(value: Any) -> str:
    """Name a region; '' where there is none."""
    text = "" if is_missing(value) else as_text(value).strip()
    return "" if text in MISSING else text


def without_layer(area: str) -> str:
    """Return the cortical area of the Allen atlas that a layer is of; other names as they are."""
    layered = LAYERED.fullmatch(area)
    return layered[1] if layered else area


def _refuse_absent(name: str, areas: Sequence[str], renamed: Sequence[str]) -> None:
    """Raise DataError for a region that no unit is in.

    It names those of the file, and says how layers are joined where these are what was asked for.
    """
    known = ", ".join(area for area in dict.fromkeys(renamed) if area)
    missing = f"no unit is in a region {name!r}: choose from {known or 'none'}"
    if name in map(without_layer, areas):
        raise DataError(missing, ", or join the layers of ", name, " by ", Argument("merge_layers", True))
    raise DataError(missing)


def _several(values: Any) -> list[Any]:
    """Return one value, or several, as a list."""
    return np.ravel(list(values) if isinstance(values, set | frozenset) else np.array(values, object)).tolist()


def _plain(area: Any) -> str:
    return as_text(area).replace("/", "_")


def _key(value: Any) -> str:
    """Text of a value that is the same for 1, 1.0 and "1.0"."""
    text = area_name(value)
    try:
        return as_text(float(text))
    except ValueError:
        return text


def _shortened(names: Collection[str]) -> str:
    """List the first names, and say how many there are more."""
    first = list(names)[:MOST_LISTED]
    return (", ".join(first) or "none") + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")
