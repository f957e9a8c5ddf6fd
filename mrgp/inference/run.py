"""Options, start, state, checkpoint and result of a run of any method."""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import xarray as xr

from mrgp.inference.mode.curvature import Curvature, Diagonal
from mrgp.inference.optimise import INTERRUPTED
from mrgp.likelihoods.base import DelayedGP
from mrgp.likelihoods.bound import CountGP
from mrgp.likelihoods.likelihood import Likelihood
from mrgp.parts.delays.base import Delays, Extent
from mrgp.parts.emissions import Emission
from mrgp.parts.kernels import Kernel
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import Loadings
from mrgp.parts.means import Mean
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.files import write_atomically
from mrgp.runtime.sentences import Sentence

CHECKPOINT_SECONDS = 5.0  # what a fit that is stopped can lose


@dataclass(frozen=True)
class Options:
    """Options of :meth:`mrgp.families.model.Model.fit`."""

    seed: int
    n_starts: int = 6
    tolerance: float = 0.01
    max_iterations: int = 1000
    checkpoint: Path | None = None
    progress: bool = True
    fixed: Mapping[str, np.ndarray] = field(default_factory=dict)
    quiet: bool = False  # begin with small loadings (see ``trivial``)
    search_iterations: int = 300  # at most, of every climb of the search for a start
    search_races: bool = False  # whether a climb of it ends where another has left it behind

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """Names of the sites that are not inferred, sorted."""
        return tuple(sorted(self.fixed))


class Start(Protocol):
    """Earlier fit from which a method goes on: its model and sites."""

    @property
    def model(self) -> "AnyModel": ...
    @property
    def sites(self) -> dict[str, np.ndarray]: ...


@dataclass(kw_only=True)
class State[M: AnyModel]:
    """Place that a run has reached; methods add fields of their own.

    Attributes:
        model: The model, as the run has adapted it so far.
        sites: Its sample sites by name, constrained, in seconds.
        notes: What was changed on the way.
        trace: Of what the method climbs, after every iteration, nats.
        iterations, evaluations: How many it took.
        phase: What the run is doing, for its checkpoint.
        converged, reason: Whether the tolerance was reached, and why the run has ended; None while it goes on.
        home: Where the run had converged before it tried another place.
    """

    model: M
    sites: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    trace: list[float] = field(default_factory=list)
    iterations: int = 0
    evaluations: int = 0
    phase: str = "climb"
    converged: bool = False
    reason: str | None = None
    home: Self | None = None

    @property
    def complete(self) -> dict[str, Any]:
        """All sites of the model, also those that follow from others."""
        return self.sites

    @property
    def kept(self) -> dict[str, Any]:
        """Arrays that a checkpoint holds."""
        return self.complete

    @property
    def height(self) -> float:
        """Last value of the trace."""
        return self.trace[-1] if self.trace else -np.inf

    @property
    def best(self) -> Self:
        """The higher of this place and its home.

        It has the iterations and evaluations of both, and a trace that never falls on the way.
        """
        home = self.home
        if home is None:
            return self
        both: dict[str, Any] = {
            "iterations": home.iterations + self.iterations, "evaluations": home.evaluations + self.evaluations,
            "home": None,
        }  # fmt: skip
        if self.height > home.height:
            return replace(self, trace=home.trace + [value for value in self.trace if value > home.height], **both)
        stopped = self.reason == INTERRUPTED
        return replace(home, converged=not stopped, reason=INTERRUPTED if stopped else home.reason, **both)


@dataclass(kw_only=True, eq=False, repr=False)
class Run[M: AnyModel]:
    """Result of an inference method.

    Times are in seconds. Two runs are equal if they are the same object.

    Attributes:
        model: With the registers and the bound of delays that it ended with.
        sites: The model's sample sites by name, constrained, in seconds.
        method: How they were inferred, by name.
        trace: After every iteration, nats: what the method climbs (:attr:`mrgp.inference.method.Method.climbs`).
        converged, reason: Whether the tolerance was reached, and why the method stopped.
        iterations, evaluations: How many it took.
        notes: What was changed on the way (a bound widened, registers refined).
        loadings_covariance: Of method "vb", (neuron, column, column): then sites are posterior means.
        samples: Draws of the posterior, (chain, draw, ...) for each site drawn; of "laplace", "svi", "nuts".
        sample_stats: What the sampler says of each draw, (chain, draw); of method "nuts".
        saved_curvature: Of delays and kernel parameters around the maximum, once it is known.
        start_heights: What every start had reached as the best of them went on, (start,), nats.
    """

    model: M
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
    start_heights: np.ndarray | None = None

    def raise_if_interrupted(self) -> Self:
        """Return the run; raise KeyboardInterrupt if the user stopped this fit."""
        if self.reason == INTERRUPTED:
            raise KeyboardInterrupt
        return self


class Checkpoint:
    """Parameters of a fit that is running, in one file that is replaced whole.

    There is no file if there is no path.

    With them are kept the choices that the fit has made for the model, by its ``found_by_fit``.

    Args:
        options: Of the fit.
        model: As the user gave it.
        data: The recording.
        settings: Of the method, those that a run cannot change on its way, by name.

    Attributes:
        phase: Of the fit that was read: "start", or what it was doing when the file was written; None if none was.
    """

    def __init__(
        self, options: Options, model: "AnyModel", data: MultiRegionData, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.path = path = options.checkpoint
        self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings or {}), default=float))
        asked = model.asked.to_settings()
        held = {name: value.tolist() for name, value in options.fixed.items()}
        self.key = json.dumps([asked, held, data.fingerprint if path else ""], default=str)
        self.last = -np.inf
        self.phase: str | None = None

    def read[M: AnyModel](self, model: M) -> tuple[M, dict[str, np.ndarray]] | None:
        """Return the model and sites in the file, or None if there is none.

        A file of another fit is an error.
        """
        if self.path is None or not self.path.is_file():
            return None
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                sites = {name: stored[name] for name in stored.files if name != "header"}
                key, phase, choices, *settings = json.loads(str(stored["header"]))
        except Exception as error:
            raise ValueError(f"{self.path} is not a readable checkpoint: remove it to start afresh") from error
        if key != self.key:
            other = "belongs to another model, recording or version of mrgp"
            raise ValueError(f"{self.path} {other}: remove it to start afresh")
        if (difference := _difference(settings[0] if settings else {}, self.settings)) is not None:
            raise ValueError(f"{self.path} is of a run with {difference}: give the same, or remove it to start afresh")
        self.phase = phase
        return model.with_settings(choices), sites

    def write(self, model: "AnyModel", sites: Mapping[str, Any], phase: str = "climb", force: bool = False) -> None:
        """Write ``model`` and ``sites``, at most every few seconds unless ``force`` is set."""
        if self.path is None or (not force and time.monotonic() - self.last < CHECKPOINT_SECONDS):
            return
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in sites.items()}
        choices = {name: value for name, value in model.to_settings().items() if name in model.found_by_fit}
        header = np.array(json.dumps([self.key, phase, choices, self.settings]))
        write_atomically(self.path, lambda file: np.savez(file, header=header, **arrays))
        self.last = time.monotonic()

    def remove(self) -> None:
        """Remove the file, as the fit is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """Say which settings of a checkpoint are not those asked for; None if they are the same."""
    if theirs == ours:
        return None
    others = [name for name in ours if name in theirs and theirs[name] != ours[name]]
    return ", ".join(f"{name}={theirs[name]}, not {ours[name]}" for name in others) or "other settings"


class Moments(Protocol):
    """Interface that the methods need of a model given a recording."""

    def log_likelihood(self) -> np.ndarray: ...
    def moments(self) -> tuple[np.ndarray, np.ndarray]: ...


class AnyModel(Protocol):
    """Interface that every method needs of a model."""

    methods: ClassVar[tuple[str, ...]]
    found_by_fit: ClassVar[tuple[str, ...]]
    is_autoencoder: ClassVar[bool]

    @property
    def asked(self) -> Self: ...
    @property
    def emission(self) -> Emission: ...
    @property
    def held(self) -> tuple[str, ...]: ...
    @property
    def usual_settings(self) -> Mapping[str, Any]: ...
    @property
    def updates(self) -> Any: ...

    def __call__(self, data: MultiRegionData) -> None: ...
    def replace(self, **changes: Any) -> Self: ...
    def to_settings(self) -> dict[str, Any]: ...
    def with_settings(self, settings: Mapping[str, Any]) -> Self: ...
    def prepared(self, data: MultiRegionData) -> Self: ...
    def why_no_maximum(self, data: MultiRegionData) -> Sentence | None: ...
    def canonical(self, sites: Mapping[str, Any], layout: Layout) -> dict[str, np.ndarray]: ...
    def log_likelihood(self, data: MultiRegionData, params: Mapping[str, Any]) -> xr.DataArray: ...
    def conditional(self, data: MultiRegionData, sites: Mapping[str, Any]) -> Moments: ...


class Tables(Protocol):
    """Interface that the methods need of a model's parameters as numbers."""

    def extent(self, layout: Layout, n_bins: int) -> Extent: ...
    def dynamics_sites(self, layout: Layout) -> tuple[str, ...]: ...
    def remember(self, layout: Layout) -> bool: ...
    def hyperparameters(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> dict[str, np.ndarray]: ...


class Fitting[M](Protocol):
    """Interface that the methods need of the steps of a fit of a model."""

    @property
    def held_in_search(self) -> tuple[str, ...]: ...

    def for_search(self) -> M: ...
    def draw_start(self, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> dict[str, np.ndarray]: ...
    def around_mean(self, data: MultiRegionData) -> tuple[MultiRegionData, dict[str, np.ndarray]]: ...
    def first_guess(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]: ...
    def from_other_fit(
        self, other: Any, sites: Mapping[str, Any], data: MultiRegionData
    ) -> tuple[M, dict[str, Any]]: ...
    def folded(self, data: MultiRegionData) -> MultiRegionData: ...
    def scales(
        self, data: MultiRegionData, sites: Mapping[str, Any], known: bool = False
    ) -> dict[str, np.ndarray]: ...
    def learned(
        self, data: MultiRegionData, sites: Mapping[str, Any], curvature: Diagonal, fixed: Collection[str]
    ) -> tuple[M, dict[str, Any]] | None: ...
    def adapted(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> M: ...
    def narrowed(self, data: MultiRegionData, sites: Mapping[str, Any], margin: float) -> M: ...
    def unread_variance(self, data: MultiRegionData, sites: Mapping[str, Any]) -> float: ...
    def keeping(self, sites: Mapping[str, Any], layout: Layout, across: np.ndarray) -> tuple[M, dict[str, Any]]: ...


class Model(AnyModel, Protocol):
    """Interface that the methods need of a model with Gaussian processes."""

    held_at_first: ClassVar[tuple[str, ...]]
    is_state_space: ClassVar[bool]

    @property
    def n_across(self) -> int: ...
    @property
    def posterior_updates(self) -> Any: ...
    @property
    def shared_covariance(self) -> bool: ...
    @property
    def symmetry(self) -> Any: ...
    @property
    def kernel(self) -> Kernel: ...
    @property
    def delays(self) -> Delays: ...
    @property
    def mean(self) -> Mean: ...
    @property
    def loadings(self) -> Loadings: ...
    @property
    def likelihood(self) -> Likelihood: ...
    @property
    def tables(self) -> Tables: ...
    @property
    def fitting(self) -> Fitting[Self]: ...

    def assignment(self, layout: Layout) -> LatentLayout: ...
    def likelihood_at(self, data: MultiRegionData, sites: Mapping[str, Any]) -> DelayedGP | CountGP: ...
