"""Reader of MATLAB files.

It understands struct arrays of trials as the DLAG, mDLAG and pCCA toolboxes have them, and one array per region.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mrgp.recordings.arguments import counts_of_neurons
from mrgp.recordings.checks import DataError, damage_named
from mrgp.recordings.readers.base import Reader
from mrgp.recordings.readers.npy import PER_REGION
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Argument

if TYPE_CHECKING:
    import h5py

# The toolboxes' struct arrays of trials, in the order of preference; of pairs, the second holds test trials.
_TRIAL_ARRAYS = (("seqTrue",), ("seq",), ("seqTrain", "seqTest"), ("Ytrain", "Ytest"))
_OF_TRIALS = tuple(name for group in _TRIAL_ARRAYS for name in group)
_FIELDS = ("trialId", "T", "y")
_NEURON_COUNTS = ("yDims", "y_dims", "ydims", "n_neurons")
_PARAMETERS = ("trueParams", "params", "estParams", "initParams", "res")  # structs that know the neurons per region too
_SETTINGS = (*_NEURON_COUNTS, "binWidth")

SPLIT = "split"  # the trial coordinate that tells training from test trials

type Struct = dict[str, list[Any]]  # field -> one entry per element


@dataclass(frozen=True)
class Matlab(Reader):
    """Files of the DLAG, mDLAG and pCCA toolboxes, or arrays as in an ``.npz``; any version.

    A toolbox's file has a struct array ``seqTrue``, ``seq``, ``seqTrain`` or ``Ytrain`` with fields ``trialId``, ``T``,
    ``y`` (neurons x bins); ``binWidth`` in ms; and ``yDims``, neurons per region, by themselves or in a struct such as
    ``trueParams``. Trials of ``seqTest`` or ``Ytest`` follow those of training, and the trial coordinate ``split``
    tells which are which. Without such an array: arrays as in an ``.npz``, by themselves or in a struct, with
    ``bin_width`` in seconds or ``binWidth`` in ms; or, for trials of different length, a cell array per region with one
    matrix (bins x neurons) for each trial.

    Args:
        regions: Of a toolbox's file, the names of all its regions (default region1, region2, ...).
        n_neurons: Neurons per region; goes before what the file says.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".mat",)
    about: ClassVar[str] = (
        "of the DLAG, mDLAG and pCCA toolboxes (seqTrue or Ytrain, binWidth in ms, yDims), or arrays as in an .npz"
    )
    told: ClassVar[tuple[str, ...]] = ("n_neurons",)

    n_neurons: Sequence[int] | None = Reader.option(PER_REGION, "N,N")

    def read(self, path: Path) -> MultiRegionData:
        with damage_named(path):
            arrays = self._arrays(_variables(path), path.name)
        return self.recording(arrays, path.name)

    def _arrays(self, contents: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Arrange the variables of a file as the arrays of an ``.npz``."""
        for group in _TRIAL_ARRAYS:
            parts = {name: contents[name] for name in group if _is_of_trials(contents.get(name))}
            if parts:
                return _trial_arrays(parts, contents, source, self.bin_width, self.regions, self.n_neurons)
        variables = _with_fields(contents)
        if any(np.ndim(value) == 3 or _is_cell_of_trials(value) for value in variables.values()):
            return _plain_arrays(variables)
        wanted = " or ".join(group[0] for group in _TRIAL_ARRAYS)
        other = "nor an array (trials, bins, neurons) per region: save it in one of these forms"
        raise DataError(f"{source} has no struct array {wanted} with a field y, {other}")


def _is_of_trials(value: Any) -> bool:
    return isinstance(value, dict) and "y" in value


def _setting(contents: Mapping[str, Any], names: Sequence[str]) -> np.ndarray | None:
    """Find a variable by one of these names, also inside the structs of parameters.

    A struct in such a struct is searched too.
    """
    for name in names:
        if name in contents and not isinstance(contents[name], dict):
            return np.asarray(contents[name])
    for struct in (contents[name] for name in _PARAMETERS if isinstance(contents.get(name), dict)):
        inside = {field: of[0] for field, of in struct.items() if len(of) == 1}
        if (found := _setting(inside, names)) is not None:
            return found
    return None


def _trial_arrays(
    parts: Mapping[str, Struct],
    contents: Mapping[str, Any],
    source: str,
    bin_width: float | str | None,
    regions: Sequence[str] | None,
    n_neurons: Sequence[int] | None,
) -> dict[str, Any]:
    """Convert a toolbox's file to trials (bins, neurons) of each region.

    Seconds per bin and the trials' numbers come with them.
    """
    milliseconds = _setting(contents, ("binWidth",))
    if bin_width is None and milliseconds is None:
        raise DataError(f"{source} has no binWidth: add it (ms), or pass ", Argument("bin_width", 0.02), " for 20 ms")
    width = np.asarray(milliseconds).item() / 1000 if bin_width is None else bin_width
    sizes = _setting(contents, _NEURON_COUNTS) if n_neurons is None else n_neurons
    if sizes is None:
        remedy = Argument("n_neurons", ("N", "N", "..."), python="n_neurons=(n1, n2, ...)")
        raise DataError(f"{source} does not say the neurons per region: pass ", remedy)
    counts = counts_of_neurons(np.ravel(sizes))
    if min(counts, default=0) < 1:
        raise DataError(f"{source}: neurons per region are {counts}: give 1 or more for each")
    for name, fields in parts.items():
        for trial, y in enumerate(fields["y"]):
            bins = int(fields["T"][trial].item()) if "T" in fields else y.shape[-1]
            if y.shape != (sum(counts), bins):
                wanted = f"{sum(counts)} neurons ({' + '.join(map(str, counts))}) x {bins} bins"
                raise DataError(f"{source}: y of trial {trial} in {name} is {y.shape}, not {wanted}: mend one")
    names = list(regions or (f"region{r + 1}" for r in range(len(counts))))
    if len(names) != len(counts):
        named = Argument("regions", python="regions=")
        raise DataError(f"{source} has {len(counts)} regions, ", named, f" names {len(names)}: name each")
    trials = [y for fields in parts.values() for y in fields["y"]]
    ends = np.cumsum(counts)
    rows = {name: slice(end - n, end) for name, n, end in zip(names, counts, ends, strict=True)}
    arrays: dict[str, Any] = {name: [y[part].T for y in trials] for name, part in rows.items()}
    if all("trialId" in fields for fields in parts.values()):
        arrays["trial_trial_id"] = _labels([label for fields in parts.values() for label in fields["trialId"]])
    if len(parts) > 1:
        which = [np.full(len(of["y"]), kind) for kind, of in zip(("train", "test"), parts.values(), strict=True)]
        arrays[f"trial_{SPLIT}"] = np.concatenate(which)
    return arrays | {"bin_width": width}


def _plain_arrays(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Read one array (trials, bins, neurons) per region.

    MATLAB's changes to other shapes are undone.
    """
    shapes = {value.shape[:2] for value in contents.values() if np.ndim(value) == 3}
    arrays: dict[str, Any] = {}
    for name, value in contents.items():
        if name == "binWidth" and "bin_width" not in contents:
            arrays["bin_width"] = np.asarray(value).item() / 1000  # the toolboxes', in ms
        elif name.startswith(("neuron_", "trial_")) and np.ndim(value) < 3:
            arrays[name] = _labels(np.ravel(value))
        elif _is_cell_of_trials(value):
            arrays[name] = list(np.ravel(value))
        elif np.size(value) == 1:
            arrays[name] = np.asarray(value).item()
        elif np.ndim(value) == 2 and value.shape in shapes:
            arrays[name] = value[:, :, None]  # one neuron: MATLAB drops a last axis of length 1
        else:
            arrays[name] = value
    return arrays


def _with_fields(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Take the fields of a single struct for variables, where a region is among them."""
    variables = dict(contents)
    for name, struct in contents.items():
        if isinstance(struct, dict) and all(len(entries) == 1 for entries in struct.values()):
            fields = {field: entries[0] for field, entries in struct.items()}
            if any(np.ndim(value) == 3 or _is_cell_of_trials(value) for value in fields.values()):
                del variables[name]
                variables |= fields
    return variables


def _is_cell_of_trials(value: Any) -> bool:
    """True for a row or column of cells, each a matrix of numbers (bins, neurons)."""
    if not isinstance(value, np.ndarray) or value.dtype != object or value.size < 1 or max(value.shape) < value.size:
        return False
    cells = [np.asarray(cell) for cell in value.ravel()]
    return all(cell.ndim == 2 and cell.dtype.kind in "biuf" for cell in cells) and max(map(np.size, cells)) > 1


def _labels(cells: Any) -> np.ndarray:
    """Read one label per cell.

    MATLAB has numbers as doubles, and fills the rows of a matrix of text up with spaces.
    """
    labels = [label.item() if isinstance(label := np.squeeze(cell), np.ndarray) else label for cell in cells]
    if all(isinstance(label, float) and label.is_integer() and abs(label) < 2**53 for label in labels):
        return np.array(labels).astype(int)
    array = np.array(labels)
    if array.dtype.kind == "U":
        array = np.array([label.rstrip() if isinstance(label, str) else label for label in labels], object)
    return array


def _variables(path: Path) -> dict[str, Any]:
    """Read the variables of a file of any version.

    Structs are returned as {field: [entry per element]}, others as arrays.

    A toolbox's file may hold much besides trials: only what is asked for is read of it.
    """
    import h5py
    from scipy.io import loadmat, whosmat

    if not h5py.is_hdf5(path):
        is_toolbox = any(name in _OF_TRIALS and kind == "struct" for name, _, kind in whosmat(path))
        wanted = (*_OF_TRIALS, *_SETTINGS, *_PARAMETERS) if is_toolbox else None
        contents = loadmat(path, variable_names=wanted)
        return {name: _unpacked(value) for name, value in contents.items() if not name.startswith("__")}
    with h5py.File(path) as file:
        groups = [name for name in _OF_TRIALS if isinstance(file.get(name), h5py.Group)]
        if not groups:
            return {name: _read(file, item) for name, item in file.items() if not name.startswith("#")}
        known = {name: _read(file, file[name]) for name in _SETTINGS if name in file}
        known |= {name: _settings(file, file[name]) for name in _PARAMETERS if isinstance(file.get(name), h5py.Group)}
        return known | {
            name: {field: _cells(file, file[name][field]) for field in _FIELDS if field in file[name]}
            for name in groups
        }


def _unpacked(value: Any) -> Any:
    """Convert a struct array of version 5 to a mapping by field; leave other arrays as they are."""
    if getattr(value, "dtype", None) is None or not value.dtype.names:
        return value
    return {field: [_unpacked(entry) for entry in value[field].ravel()] for field in value.dtype.names}


# Version 7.3: arrays transposed, one reference per element and field.


def _settings(file: "h5py.File", group: "h5py.Group") -> Struct:
    """Read the settings in a struct of parameters, and in the structs that it contains."""
    import h5py

    own = [name for name in _SETTINGS if isinstance(group.get(name), h5py.Dataset)]
    found: Struct = {name: [_read(file, group[name])] for name in own}
    inner = [name for name in _PARAMETERS if isinstance(group.get(name), h5py.Group)]
    return found | {name: [_settings(file, group[name])] for name in inner}


def _cells(file: "h5py.File", item: "h5py.Dataset") -> list[np.ndarray]:
    """Read the entries of one field of a struct array; one entry for a single struct."""
    import h5py

    is_list = h5py.check_ref_dtype(item.dtype) is not None
    if is_list and item.attrs.get("MATLAB_class") == b"cell":  # of one struct, whose field is a cell array
        return [_read(file, item)]
    return [_content(file[reference]) for reference in item[()].ravel()] if is_list else [_content(item)]


def _read(file: "h5py.File", item: "h5py.Group | h5py.Dataset") -> Any:
    """Read a variable: an array, or an array of the contents of its cells."""
    import h5py

    if isinstance(item, h5py.Group):
        return {field: _cells(file, item[field]) for field in item if isinstance(item[field], h5py.Dataset)}
    if h5py.check_ref_dtype(item.dtype) is None:
        return _content(item) if _is_text(item) else item[()].T
    found = np.empty(item.size, object)
    found[:] = [_content(file[reference]) for reference in item[()].T.ravel()]
    return found


def _content(item: "h5py.Dataset") -> np.ndarray:
    """Read one cell; text, stored as the numbers of its characters, is decoded."""
    numbers = item[()].T
    if not _is_text(item):
        return numbers
    rows = ["".join(map(chr, row)) for row in np.atleast_2d(numbers)]
    return np.array(rows[0] if len(rows) == 1 else rows)


def _is_text(item: "h5py.Dataset") -> bool:
    return item.attrs.get("MATLAB_class", b"") == b"char"
