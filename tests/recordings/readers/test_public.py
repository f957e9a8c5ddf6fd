"""The fetched recording: verified, kept, and nothing of its pickle run; all without a network."""

import codecs
import hashlib
import io
import os
import pickle
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

import mrgp.recordings.readers.public as recordings
from mrgp.recordings.load import load_recording
from mrgp.recordings.readers.public import fetch_v1v2
from mrgp.recordings.recording import DataError, MultiRegionData


def arrays(n_trials=4, n_bins=6, sizes=(3, 2)):
    rng = np.random.default_rng(0)
    return {f"V{r + 1}": rng.standard_normal((n_trials, n_bins, n)) for r, n in enumerate(sizes)}


def assert_same(a: MultiRegionData, b: MultiRegionData):
    assert a.layout == b.layout
    for name in a.layout.regions:
        np.testing.assert_array_equal(a.region(name), b.region(name))


class Trap:
    """Unpickling an instance calls ``os.mkdir(folder)``."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def source_distribution(path: Path, content: bytes, monkeypatch, member=recordings._SOURCE_MEMBER) -> Path:
    """A stand-in for the published file, whose checksum is made the expected one."""
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(recordings, "_SOURCE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("spelling", [b"numpy._core", b"numpy.core"])
def test_fetch_reads_and_keeps_the_recording(tmp_path, monkeypatch, protocol, spelling):
    pickled = pickle.dumps(arrays(), protocol=protocol)
    if protocol == 2:  # only here names have no length in front, so that they can be respelled
        pickled = pickled.replace(b"numpy._core", spelling)
    source = source_distribution(tmp_path / "sdist.tar.gz", pickled, monkeypatch)
    fetched = fetch_v1v2(tmp_path / "cache" / "deep", source)
    assert_same(fetched, MultiRegionData(arrays(), 0.02))
    source.unlink()
    assert_same(fetch_v1v2(tmp_path / "cache" / "deep"), fetched)
    assert [entry.name for entry in (tmp_path / "cache" / "deep").iterdir()] == ["v1v2.npz"]


def test_fetch_uses_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetch_v1v2(source=source_distribution(tmp_path / "sdist.tar.gz", pickle.dumps(arrays()), monkeypatch))
    assert (tmp_path / "mrgp" / "v1v2.npz").is_file()


@pytest.mark.parametrize("inside", [False, True])
def test_fetch_refuses_a_pickle_that_runs_code(tmp_path, monkeypatch, inside):
    trap = Trap(tmp_path / "sprung")
    content = {**arrays(), "V2": np.array([trap], dtype=object)} if inside else trap
    source = source_distribution(tmp_path / "sdist.tar.gz", pickle.dumps(content), monkeypatch)
    with pytest.raises(DataError, match=r"refused a pickle that asks for \w+.mkdir: only NumPy arrays"):
        fetch_v1v2(tmp_path / "cache", source)
    assert not (tmp_path / "sprung").exists()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["eval", "getattr"])
def test_fetch_refuses_builtins_and_dotted_names(tmp_path, monkeypatch, name):
    for content in (
        b"cbuiltins\n%s\n." % name.encode(),
        b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile_\x93.",
    ):
        source = source_distribution(tmp_path / "sdist.tar.gz", content, monkeypatch)
        with pytest.raises(DataError, match="refused a pickle"):
            fetch_v1v2(tmp_path / "cache", source)


def test_fetch_refuses_other_contents(tmp_path, monkeypatch):
    source = tmp_path / "sdist.tar.gz"
    for content in (pickle.dumps([1, 2]), pickle.dumps({"V1": np.ones(3)})):
        with pytest.raises(DataError, match="does not hold the arrays V1 and V2"):
            fetch_v1v2(tmp_path, source_distribution(source, content, monkeypatch))
    with pytest.raises(DataError, match="damaged"):
        fetch_v1v2(tmp_path, source_distribution(source, b"no pickle", monkeypatch))
    with pytest.raises(DataError, match="damaged"):
        fetch_v1v2(tmp_path, source_distribution(source, b"", monkeypatch, member="elsewhere"))
    with pytest.raises(DataError, match="there is no file"):
        fetch_v1v2(tmp_path, tmp_path / "absent.tar.gz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["sdist.tar.gz"]


def test_fetch_refuses_a_wrong_checksum(tmp_path):
    source = tmp_path / "sdist.tar.gz"
    source.write_bytes(codecs.encode(b"anything", "hex"))
    with pytest.raises(DataError, match=r"sdist.tar.gz has SHA-256 \w{64} instead of 0f8b6071\w+: download"):
        fetch_v1v2(tmp_path / "cache", source)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("has_pip", [True, False])
def test_fetch_asks_pip_for_exactly_the_known_file(tmp_path, monkeypatch, has_pip):
    source = source_distribution(tmp_path / "sdist.tar.gz", pickle.dumps(arrays()), monkeypatch)
    commands = []

    def run(command, **options):
        commands.append(command)
        if "download" in command:
            requirement = Path(command[command.index("-r") + 1]).read_text()
            assert requirement == f"mbrila==0.1.0 --hash=sha256:{recordings._SOURCE_SHA256}\n"
            (Path(command[command.index("--dest") + 1]) / source.name).write_bytes(source.read_bytes())

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(recordings.importlib.util, "find_spec", lambda name: has_pip or None)
    cached = tmp_path / "cache" / "v1v2.npz"
    cached.parent.mkdir()
    cached.write_bytes(b"damaged copies are fetched again")
    fetch_v1v2(cached.parent)
    assert len(commands) == (1 if has_pip else 2)
    assert "--require-hashes" in commands[-1]
    assert_same(load_recording(cached), MultiRegionData(arrays(), 0.02))


def test_fetch_without_a_network_says_so(tmp_path, monkeypatch):
    def run(command, **options):
        raise subprocess.CalledProcessError(
            1, command, stderr="WARNING: retry\nERROR: No distribution\nERROR: more"
        )

    monkeypatch.setattr(subprocess, "run", run)
    message = r"could not download mbrila==0.1.0 \(ERROR: No distribution\): check the network, or .* source="
    with pytest.raises(DataError, match=message):
        fetch_v1v2(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetch_names_a_cache_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot make the cache folder .*file/mrgp"):
        fetch_v1v2(tmp_path / "file" / "mrgp")


