"""MATLAB files: the DLAG toolbox's struct array of trials, or one plain array per region."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import loadmat, whosmat

from mrgp.checks import DataError, damage_named
from mrgp.sentences import Argument

# The DLAG toolbox's names for its struct array of trials, and for the neurons per region.
_TRIAL_ARRAYS = ("seqTrue", "seq", "seqTrain")
_NEURON_COUNTS = ("yDims", "y_dims", "ydims", "n_neurons")


def read_mat(
    path: Path, bin_width: float | None, regions: Sequence[str] | None, n_neurons: Sequence[int] | None
) -> dict[str, Any]:
    """The arrays of a ``.mat`` file under the names that an ``.npz`` would have; see :func:`mrgp.load_recording`."""
    with damage_named(path):
        contents = _variables(path)
        fields = next((contents[name] for name in _TRIAL_ARRAYS if name in contents), None)
        if isinstance(fields, dict) and "y" in fields:
            return _dlag_arrays(fields, contents, path.name, bin_width, regions, n_neurons)
        if any(np.ndim(value) == 3 for value in contents.values()):
            return _plain_arrays(contents)
    wanted = " or ".join(_TRIAL_ARRAYS)
    other = "nor an array (trials, bins, neurons) per region: save it in one of these forms"
    raise DataError(f"{path.name} has no struct array {wanted} with a field y, {other}")


def _dlag_arrays(
    fields: Mapping[str, list[np.ndarray]],
    contents: Mapping[str, Any],
    source: str,
    bin_width: float | None,
    regions: Sequence[str] | None,
    n_neurons: Sequence[int] | None,
) -> dict[str, Any]:
    """A DLAG file: trials (bins, neurons) of each region, seconds per bin, the trials' numbers."""
    if bin_width is None and "binWidth" not in contents:
        raise DataError(f"{source} has no binWidth: add it (ms), or pass ", Argument("bin_width", 0.02), " for 20 ms")
    width = np.asarray(contents["binWidth"]).item() / 1000 if bin_width is None else bin_width
    sizes = n_neurons or next((contents[name] for name in _NEURON_COUNTS if name in contents), None)
    if sizes is None:
        remedy = Argument("n_neurons", ("N", "N", "..."), python="n_neurons=(n1, n2, ...)")
        raise DataError(f"{source} does not say the neurons per region: pass ", remedy)
    counts = [int(n) for n in np.ravel(sizes)]
    if min(counts, default=0) < 1:
        raise DataError(f"{source}: neurons per region are {counts}: give 1 or more for each")
    for trial, y in enumerate(fields["y"]):
        bins = int(fields["T"][trial].item()) if "T" in fields else y.shape[-1]
        if y.shape != (sum(counts), bins):
            wanted = f"{sum(counts)} neurons ({' + '.join(map(str, counts))}) x {bins} bins"
            raise DataError(f"{source}: y of trial {trial} is {y.shape}, not {wanted}: mend one")
    names = list(regions or (f"region{r + 1}" for r in range(len(counts))))
    if len(names) != len(counts):
        named = Argument("regions", python="regions=")
        raise DataError(f"{source} has {len(counts)} regions, ", named, f" names {len(names)}: name each")
    ends = np.cumsum(counts)
    parts = {name: slice(end - n, end) for name, n, end in zip(names, counts, ends, strict=True)}
    arrays: dict[str, Any] = {name: [y[part].T for y in fields["y"]] for name, part in parts.items()}
    if "trialId" in fields:
        arrays["trial_trial_id"] = np.array([int(i.item()) for i in fields["trialId"]])
    return arrays | {"bin_width": width}


def _plain_arrays(contents: Mapping[str, Any]) -> dict[str, Any]:
    """One array (trials, bins, neurons) per region, and what MATLAB does to other shapes undone."""
    shapes = {value.shape[:2] for value in contents.values() if np.ndim(value) == 3}
    arrays: dict[str, Any] = {}
    for name, value in contents.items():
        if name == "binWidth" and "bin_width" not in contents:
            arrays["bin_width"] = np.asarray(value).item() / 1000  # the DLAG toolbox's, in ms
        elif np.size(value) == 1:
            arrays[name] = np.asarray(value).item()
        elif name.startswith(("neuron_", "trial_")) and np.ndim(value) < 3:
            cells = np.ravel(value)
            arrays[name] = np.array([np.squeeze(c).item() for c in cells]) if cells.dtype == object else cells
        elif np.ndim(value) == 2 and value.shape in shapes:
            arrays[name] = value[:, :, None]  # one neuron: MATLAB drops a last axis of length 1
        else:
            arrays[name] = value
    return arrays


def _variables(path: Path) -> dict[str, Any]:
    """The variables of a file of any version: structs as {field: [array per element]}, others as arrays."""
    dlag = (*_TRIAL_ARRAYS, *_NEURON_COUNTS, "binWidth")
    if not h5py.is_hdf5(path):
        is_dlag = any(name in _TRIAL_ARRAYS and kind == "struct" for name, _, kind in whosmat(path))
        contents = loadmat(path, variable_names=dlag if is_dlag else None)  # a DLAG file may hold much besides
        found = {name: value for name, value in contents.items() if not name.startswith("__")}
        structs = {name: value for name, value in found.items() if value.dtype.names}
        return found | {
            name: {field: list(value[field].ravel()) for field in value.dtype.names} for name, value in structs.items()
        }
    with h5py.File(path) as file:  # version 7.3: arrays transposed, one reference per element and field

        def cells(item: h5py.Dataset) -> list[np.ndarray]:
            is_list = h5py.check_ref_dtype(item.dtype) is not None
            return [file[reference][()].T for reference in item[()].ravel()] if is_list else [item[()].T]

        def read(item: h5py.Group | h5py.Dataset) -> Any:
            if isinstance(item, h5py.Group):
                return {field: cells(item[field]) for field in item}
            if h5py.check_ref_dtype(item.dtype) is None:
                return item[()].T
            found = np.empty(item.size, object)
            found[:] = [content(file[reference]) for reference in item[()].T.ravel()]
            return found

        def content(item: h5py.Dataset) -> np.ndarray:
            """One cell: text is stored as the numbers of its characters."""
            numbers = item[()].T
            is_text = item.attrs.get("MATLAB_class", b"") == b"char"
            return np.array("".join(map(chr, numbers.ravel()))) if is_text else numbers

        known = [name for name in dlag if name in file]
        if any(isinstance(file[name], h5py.Group) for name in known):
            return {name: read(file[name]) for name in known}
        return {name: read(item) for name, item in file.items() if not name.startswith("#")}
