"""Parts that all inference methods share: options, start, checkpoint and run."""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from mrgp.inference.mode.curvature import Curvature, Diagonal
from mrgp.parts.delays.base import Delays, Extent
from mrgp.parts.emissions import Emission
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.files import write_atomically

CHECKPOINT_SECONDS = 5.0  # what a fit that is stopped can lose


@dataclass(frozen=True)
class Options:
    """Options of :meth:`mrgp.families.model.Model.fit`."""

    seed: int
    n_starts: int
    tolerance: float
    max_iterations: int
    checkpoint: Path | None
    progress: bool
    fixed: Mapping[str, np.ndarray] = field(default_factory=dict)
    settings: Any = None  # of the method
    quiet: bool = False  # begin with small loadings (see ``trivial``)

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """Names of the sites that are not inferred, sorted."""
        return tuple(sorted(self.fixed))


class Start(Protocol):
    """Earlier fit from which a method goes on: its model and sites."""

    model: Any
    sites: dict[str, np.ndarray]


@dataclass(kw_only=True, eq=False, repr=False)
class Run:
    """Result of an inference method.

    Times are in seconds. Two runs are equal if they are the same object.

    Attributes:
        model: The preset, with the window and delay bound it ended with.
        sites: The model's sample sites by name, constrained, in seconds.
        method: How they were inferred.
        trace: After every iteration, nats: log p(y, parameters); of method "em" log p(y | parameters), of "vb" and
            "svi" a lower bound of log p(y), of "nuts" the log density of each draw.
        converged, reason: Whether the tolerance was reached, and why the method stopped.
        iterations, evaluations: How many it took.
        notes: What was changed on the way (a bound widened, registers refined).
        loadings_covariance: Of method "vb", (neuron, column, column): then sites are posterior means.
        samples: Draws of the posterior, (chain, draw, ...) for each site drawn; of "laplace", "svi", "nuts".
        sample_stats: What the sampler says of each draw, (chain, draw); of method "nuts".
        saved_curvature: Of delays and kernel parameters around the maximum, once it is known.
    """

    model: Any
    sites: dict[str, np.ndarray]
    method: str
    trace: np.ndarray
    converged: bool
    reason: str
    iterations: int
    evaluations: int
    notes: tuple[str, ...] = ()
    loadings_covariance: np.ndarray | None = None
    samples: dict[str, np.ndarray] | None = None
    sample_stats: dict[str, np.ndarray] = field(default_factory=dict)
    saved_curvature: Curvature | None = None

    def ended(self) -> Self:
        """Return the run; raise KeyboardInterrupt if the user stopped this fit."""
        if self.reason == "interrupted":
            raise KeyboardInterrupt
        return self


class Checkpoint:
    """Parameters of a fit that is running, in one file that is replaced whole.

    There is no file if there is no path.

    With them are kept the choices that the fit has made for the model, by its ``found_by_fit``.

    Attributes:
        phase: Of the fit that was read: "start", or what it was doing when the file was written; None if none was.
    """

    def __init__(self, options: Options, model: Any, data: MultiRegionData) -> None:
        self.path = path = options.checkpoint
        settings = model.replace(likelihood=model.likelihood.unadapted()).to_settings()
        held = {name: value.tolist() for name, value in options.fixed.items()}
        self.key = json.dumps([settings, held, data.fingerprint if path else ""], default=str)
        self.last = -np.inf
        self.phase: str | None = None

    def read(self, model: Any) -> tuple[Any, dict[str, np.ndarray]] | None:
        """Return the model and sites in the file, or None if there is none.

        A file of another fit is an error.
        """
        if self.path is None or not self.path.is_file():
            return None
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                sites = {name: stored[name] for name in stored.files if name != "header"}
                key, phase, choices = json.loads(str(stored["header"]))
        except Exception as error:
            raise ValueError(f"{self.path} is not a readable checkpoint: remove it to start afresh") from error
        if key != self.key:
            other = "belongs to another model, recording or version of mrgp"
            raise ValueError(f"{self.path} {other}: remove it to start afresh")
        self.phase = phase
        return model.from_settings({**model.to_settings(), **choices}), sites

    def write(self, model: Any, sites: Mapping[str, Any], phase: str = "climb", force: bool = False) -> None:
        """Write ``model`` and ``sites``, at most every few seconds unless ``force`` is set."""
        if self.path is None or (not force and time.monotonic() - self.last < CHECKPOINT_SECONDS):
            return
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in sites.items()}
        choices = {name: value for name, value in model.to_settings().items() if name in model.found_by_fit}
        header = np.array(json.dumps([self.key, phase, choices]))
        write_atomically(self.path, lambda file: np.savez(file, header=header, **arrays))
        self.last = time.monotonic()

    def remove(self) -> None:
        """Remove the file, as the fit is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Model(Protocol):
    """Interface that the methods need of a model."""

    kernel: Any
    delays: Delays
    emission: Emission
    likelihood: Any
    held_at_first: tuple[str, ...]
    found_by_fit: tuple[str, ...]

    @property
    def held_in_search(self) -> tuple[str, ...]: ...
    @property
    def held(self) -> tuple[str, ...]: ...

    def __call__(self, data: MultiRegionData) -> None: ...
    def replace(self, **changes: Any) -> Self: ...
    def to_settings(self) -> dict[str, Any]: ...
    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self: ...
    def assignment(self, layout: Layout) -> Any: ...
    def extent(self, layout: Layout, n_bins: int) -> Extent: ...
    def hyperparameters(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> dict[str, np.ndarray]: ...
    def draw_start(self, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> dict[str, np.ndarray]: ...
    def scales(self, data: MultiRegionData, sites: Mapping[str, Any]) -> dict[str, np.ndarray]: ...
    def dynamics_sites(self, layout: Layout) -> tuple[str, ...]: ...
    def learned(
        self, data: MultiRegionData, sites: Mapping[str, Any], curvature: Diagonal, fixed: Collection[str]
    ) -> tuple[Self, dict[str, Any]] | None: ...
    def adapted(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> Self: ...
    def prepared(self, data: MultiRegionData) -> Self: ...
    def for_search(self) -> Self: ...
    def around_mean(self, data: MultiRegionData) -> tuple[MultiRegionData, dict[str, np.ndarray]]: ...
    def first_guess(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]: ...
    def from_other_fit(
        self, model: Any, sites: Mapping[str, Any], data: MultiRegionData
    ) -> tuple[Self, dict[str, Any]]: ...
    def canonical(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]: ...
    def likelihood_at(self, data: MultiRegionData, sites: Mapping[str, Any]) -> Any: ...
    def unread_variance(self, data: MultiRegionData, sites: Mapping[str, Any]) -> float: ...
