"""Reader of the public V1/V2 recording.

It is fetched once, its checksum is verified, and only arrays are admitted from its pickle.
"""

import hashlib
import importlib.util
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mrgp.recordings.checks import DataError, damage_named
from mrgp.recordings.load import load_recording, save_recording
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.devices import cache_folder

# The public V1/V2 recording is a file in the source distribution of this package.
_SOURCE = "mbrila==0.1.0"
_SOURCE_SHA256 = "0f8b6071a7a4b44f3e49dfc5707a5bd8a054179f77a24287a412ce0626cab033"
_SOURCE_MEMBER = "mbrila-0.1.0/data/demo_v1v2_data.pkl"
_V1V2_BIN_WIDTH = 0.02  # seconds

# All that a pickled NumPy array needs, in the spellings of NumPy 1 and 2.
_ARRAY_PARTS = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")
}


def fetch_v1v2(cache_dir: str | Path | None = None, source: str | Path | None = None) -> MultiRegionData:
    """Fetch the public recording of V1 (72 neurons) and V2 (22 neurons).

    It has 400 trials x 64 bins of 20 ms, smoothed counts.

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
    cached = Path(cache_dir or cache_folder()) / "v1v2.npz"
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
    """Read the arrays in the source distribution, once its checksum is right."""
    if not archive.is_file():
        raise DataError(f"there is no file {archive}: check the path")
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    if checksum != _SOURCE_SHA256:
        wrong = f"{archive.name} has SHA-256 {checksum} instead of {_SOURCE_SHA256}"
        raise DataError(f"{wrong}: download the source distribution of {_SOURCE} again")
    with damage_named(archive), tarfile.open(archive) as files:
        stored = files.extractfile(_SOURCE_MEMBER)
        arrays = None if stored is None else _ArrayUnpickler(stored).load()
    if not isinstance(arrays, dict) or not {"V1", "V2"} <= arrays.keys():
        raise DataError(f"{archive.name} does not hold the arrays V1 and V2: get it again")
    return {name: np.asarray(arrays[name]) for name in ("V1", "V2")}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that reads only NumPy arrays and plain containers of them.

    It refuses every other class or function.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_PARTS:
            raise DataError(f"refused a pickle that asks for {module}.{name}: only NumPy arrays are read")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
