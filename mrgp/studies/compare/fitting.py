"""Fits of hypotheses on delays: from a common start, kept in a folder as they come."""

import hashlib
import importlib.metadata
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrgp.families.gaussian_process import GaussianProcesses
from mrgp.parts.delays.bounds import are_read
from mrgp.parts.delays.constant import DELAY
from mrgp.recordings.checks import DataError, warn
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.fit import Fit, load_fit, of_processes
from mrgp.results.gaussian_process_fit import GaussianProcessFit
from mrgp.runtime.files import write_json
from mrgp.runtime.records import as_read

ASKED = "asked.json"  # of a folder of fits: what each was asked for
FOUND = "found"  # there, the digest of the parameters that were found


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A model, with sites that are given rather than inferred, such as ``{"delay": 0}``."""

    model: GaussianProcesses
    fixed: Mapping[str, Any] = field(default_factory=dict)


class Phase:
    """Part of the work on a hypothesis, whose warnings name it.

    A line tells how long it took.

    Args:
        name: Of the hypothesis.
        what: The part.
        tell: Called with the line, once it is done; None for nobody.
    """

    def __init__(self, name: str, what: str, tell: Callable[[str], Any] | None) -> None:
        self.name, self.what, self.tell = name, what, tell
        self.began = time.perf_counter()
        self.recorder = warnings.catch_warnings(record=True)
        self.caught: list[warnings.WarningMessage] = []

    def __enter__(self) -> None:
        self.caught = self.recorder.__enter__()

    def __exit__(self, *failure: Any) -> None:
        self.recorder.__exit__(*failure)
        for each in self.caught:
            if each.category is UserWarning:
                warn(f"hypothesis {self.name!r}: {each.message}")
            else:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        if self.tell is not None and failure[0] is None:
            self.tell(f"{self.name}: {self.what}, {time.perf_counter() - self.began:.1f} s")


class Kept:
    """Fits in a folder, each with what it was asked for, so that none is made twice.

    Args:
        folder: None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.asked: dict[str, Any] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / ASKED).is_file():
                try:
                    self.asked = dict(json.loads((folder / ASKED).read_text()))
                except (ValueError, TypeError) as error:
                    raise ValueError(f"{folder / ASKED} is not readable: remove it to start afresh") from error

    def fit(self, name: str, asked: Mapping[str, Any], data: MultiRegionData) -> GaussianProcessFit | None:
        """Return the fit of a hypothesis that was asked for in the same way, or None."""
        if self.folder is None or name not in self.asked:
            return None
        try:
            fit = load_fit(file_of(self.folder, name))
        except DataError:  # it is not there, or of another version
            return None
        # Something else may have written a fit in its place since.
        same = self.asked[name] == as_read({**asked, FOUND: digest_of(fit)})
        return replace(fit, data=data) if same and of_processes(fit) else None

    def keep(self, name: str, asked: Mapping[str, Any], fit: GaussianProcessFit) -> None:
        """Write a fit, then what it was asked for."""
        if self.folder is None:
            return
        fit.save(file_of(self.folder, name))
        self.asked[name] = as_read({**asked, FOUND: digest_of(fit)})
        write_json(self.folder / ASKED, self.asked)


def digest_of(fit: Fit) -> str:
    """Digest of the parameters of a fit."""
    digest = hashlib.sha256()
    for name in sorted(fit.sites):
        digest.update(name.encode())
        digest.update(np.asarray(fit.sites[name], np.float64).tobytes())
    return digest.hexdigest()


def file_of(folder: Path, name: str) -> Path:
    """Path of the fit of a hypothesis: another one for every name, whatever is in it."""
    return folder / f"fit_{name.replace('%', '%25').replace('/', '%2F')}.nc"


def fitted(
    listed: Mapping[str, Hypothesis],
    data: MultiRegionData,
    seed: int,
    progress: bool,
    kept: Kept,
    tell: Callable[[str], Any] | None = None,
) -> dict[str, GaussianProcessFit]:
    """Fit every hypothesis, those with the same latents from a common start.

    They go on from the fit of one of them, so that none owes its place to luck.

    The one that the others start from is the first with free, constant delays, if there is one; all that can start
    there share the bound that its delays needed, which is part of what is compared.
    """
    plain = [name for name, one in listed.items() if is_constant(one, data)]
    fits: dict[str, GaussianProcessFit] = {}
    common = {"recording": data.fingerprint, "seed": seed, "mrgp": importlib.metadata.version("mrgp")}
    origin: dict[str, Any] | None = None  # what the common start was asked for
    for name in sorted(listed, key=lambda name: name not in plain[:1]):
        model, start = listed[name].model, None
        if plain and name != plain[0] and same_latents(model, listed[plain[0]].model, data.bin_width):
            start = fits[plain[0]]
            if model.delays.bound(data.bin_width):
                model = model.replace(delays=model.delays.replace(longest=start.model.delays.bound(data.bin_width)))
        fixed = dict(listed[name].fixed)
        numbers = {site: np.asarray(value).tolist() for site, value in fixed.items()}  # as text, long ones are cut
        asked = common | {"model": model.to_settings(), "fixed": numbers, "start": start and origin}
        if name in plain[:1]:
            origin = asked
        with Phase(name, "fit", tell):
            fit = kept.fit(name, asked, data)
            if fit is None:
                made = model.fit(data, "map", seed=seed, start=start, fixed=fixed, progress=progress)
                made = made.raise_if_interrupted()
                assert of_processes(made)
                kept.keep(name, asked, fit := made)
        fits[name] = fit
    return {name: fits[name] for name in listed}


def is_constant(one: Hypothesis, data: MultiRegionData) -> bool:
    """True if delays are to be found, and stay during a trial."""
    delays, extent = one.model.delays, one.model.tables.extent(data.layout, data.n_bins)
    return are_read(delays, extent) and not delays.moves and DELAY.name not in one.fixed


def same_latents(one: GaussianProcesses, other: GaussianProcesses, bin_width: float) -> bool:
    """True if a fit of one model says where the other's latents are, and at which delays."""
    alike = ("n_across", "n_within", "kernel", "gp_noise", "timescale_bounds", "loadings", "pools_regions")
    bounds = {(one.delays.bound(bin_width), one.delays.hold), (other.delays.bound(bin_width), other.delays.hold)}
    same_reach = len(bounds) == 1 or not one.delays.bound(bin_width)
    return same_reach and all(getattr(one, name) == getattr(other, name) for name in alike)
