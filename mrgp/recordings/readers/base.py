"""Reader of one format of files: a class with its suffixes, its options, and ``read``.

A reader of one's own is written once, and known to :func:`mrgp.load_recording` from then on::

    @dataclass(frozen=True)
    class Csv(mrgp.Reader):
        suffixes = (".csv",)
        separator: str = ","                              # an option of its own

        def read(self, path):
            trials = ...                                  # one array (bins, neurons) each
            return self.recording({"V1": trials, "bin_width": 0.02}, path.name)

What is heavy to import is imported in ``read``. A reader of the package says by :meth:`Reader.option` what the command
line needs to know of an option, and the command line's list of names is made anew (``mrgp.cli.make_catalogue``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mrgp.part import Part
from mrgp.recordings.checks import DataError
from mrgp.recordings.layout import BEGIN, EVENT
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.folders import holds
from mrgp.runtime.sentences import Argument


@dataclass(frozen=True)
class Reader(Part, family="reader"):
    """Way to read the files, or folders, of one format.

    Its fields are options of :func:`mrgp.load_recording`. Those of this class every reader has.

    Args:
        bin_width: Seconds per bin; goes before what the file says.
        regions: Which regions, in this order; None for all.
        drop_dead: Leave out neurons that never change, with a warning that names them; None keeps them.

    Attributes:
        suffixes: Endings of the files, in lower case with their dot. Of several readers of one, the last that was
            defined is taken.
        folder: Name of the format, where a recording is a folder, such as "ALF".
        marks: Patterns of files, one of which every such folder holds, such as ``("spike_times.npy",)``: folders are
            known by these, as files are by their suffixes.
        about: What such a file holds, for the help of the command line.
        counted: What it holds that is counted in bins, such as "spike times"; its files then need ``bin_width``.
        told: Own options that say what files of other formats say by themselves: these pass them over. Other options
            are refused where they are for files of another format.
        writes: :func:`mrgp.save_recording` can write such files.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    folder: ClassVar[str] = ""
    marks: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = ""
    counted: ClassVar[str] = ""
    told: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[bool] = False

    bin_width: float | str | None = None
    regions: Sequence[str] | None = None
    drop_dead: bool | None = False

    def read(self, path: Path) -> MultiRegionData:
        """Read a file or folder, which is there.

        Raises:
            DataError: it is damaged, or holds no usable recording.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read(self, path)")

    @classmethod
    def write(cls, data: MultiRegionData, path: Path) -> None:
        """Write a recording, if ``writes``: into a file that takes its place once it is complete."""
        raise NotImplementedError(f"{cls.__name__} must define write(cls, data, path)")

    def recording(self, arrays: Mapping[str, Any], source: str) -> MultiRegionData:
        """Make a recording from named arrays, as an ``.npz`` has them.

        Options of every reader apply. Each name must be understood, so that no slip passes in silence.

        Args:
            arrays: Region -> (trials, bins, neurons), or a list with (bins, neurons) of each trial; ``bin_width``;
                ``times`` (bins,) in seconds; ``neuron_<region>`` and ``trial_<name>``, one label each; the name
                ``aligned_to`` of what is at time 0, and ``first_bin_at`` in seconds.
            source: The name of the file, for messages.

        Raises:
            DataError: an array is none of these, or the recording cannot be used.
        """
        bin_width, regions = self.bin_width, self.regions
        found, labels, trials = {}, {}, {}
        times, aligned = None, dict[str, Any]()
        for name, value in arrays.items():
            n_dims = 3 if isinstance(value, list | tuple) else np.ndim(value)  # lists: trials of different length
            kind, _, rest = str(name).partition("_")
            if name == "bin_width":
                bin_width = value if bin_width is None else bin_width
            elif name == "times" and n_dims == 1:
                times = value
            elif name in (EVENT, BEGIN) and n_dims == 0:
                aligned[name] = np.asarray(value).item()
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
            remedy = Argument("bin_width", 0.02)
            raise DataError(f"{source} has no bin_width: add it (seconds per bin), or pass ", remedy, " for 20 ms")
        names = list(found if regions is None else regions)
        for name in names:
            if name not in found:
                raise DataError(f"{source} has no region {name!r}: choose from {', '.join(map(str, found)) or 'none'}")
        if len(set(names)) < len(names):
            raise DataError(Argument("regions"), f" names {max(names, key=names.count)} twice: name each once")
        chosen = {name: found[name] for name in names}
        labels = {name: labels[name] for name in names if name in labels}
        event = (aligned[EVENT], aligned.get(BEGIN, 0.0)) if EVENT in aligned else None
        return MultiRegionData(
            chosen, bin_width, neuron_coords=labels, trial_coords=trials, drop_dead=self.drop_dead, times=times,
            event=event,
        )  # fmt: skip

    @staticmethod
    def option(about: str, typed: str | tuple[str, ...], default: Any = None) -> Any:
        """Make a field that is an option of the command line too, for readers of the package.

        Args:
            about: What it is, for the help.
            typed: Words for what is typed, such as "COLUMN"; one word for each of several values.
            default: Where it is not asked for.
        """
        return field(default=default, metadata={"about": about, "typed": typed})

    @classmethod
    def own_options(cls) -> tuple[str, ...]:
        """Names of the options that not every reader has."""
        every = {option.name for option in fields(Reader)}
        return tuple(option.name for option in fields(cls) if option.name not in every)

    @classmethod
    def formats(cls) -> tuple[str, ...]:
        """Words for what the reader reads: suffixes of files, and the name of its folders."""
        return (*cls.suffixes, cls.folder) if cls.folder else cls.suffixes

    @classmethod
    def of_path(cls, path: Path) -> type["Reader"] | None:
        """Find the reader of a file by its suffix, of a folder by what it holds, or None."""
        if path.is_dir():
            return next((reader for reader in [*cls.members().values()][::-1] if holds(path, reader.marks)), None)
        return cls.by_suffix().get(path.suffix.lower())

    @classmethod
    def by_suffix(cls) -> dict[str, type["Reader"]]:
        """Every reader that was ever defined, by suffix."""
        return {suffix: reader for reader in cls.members().values() for suffix in reader.suffixes}
