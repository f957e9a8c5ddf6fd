"""Interfaces that fits need of their models; families of models have more."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from mrgp.inference.run import AnyModel, Model, Tables
from mrgp.parts.dynamics import Dynamics
from mrgp.recordings.layout import Layout
from mrgp.recordings.recording import MultiRegionData
from mrgp.results.conditional import Conditional

if TYPE_CHECKING:
    from mrgp.results.fit import Fit


class FittedModel(AnyModel, Protocol):
    """Interface that every fit needs of its model."""

    fit_class: ClassVar[type["Fit"]]
    pools_regions: ClassVar[bool]
    knows_times: ClassVar[bool]
    has_dynamics: ClassVar[bool]

    @property
    def is_bound(self) -> bool: ...
    @property
    def knows_conditions(self) -> bool: ...

    def learned_dynamics(self, layout: Layout, sites: Mapping[str, Any]) -> Dynamics: ...
    def conditional(self, data: MultiRegionData, sites: Mapping[str, Any]) -> Conditional: ...


class FittedTables(Tables, Protocol):
    """Interface that fits need of the parameters of Gaussian processes as numbers."""

    def timescales(self, sites: Mapping[str, Any], kind: str, layout: Layout) -> np.ndarray: ...
    def delays(self, sites: Mapping[str, Any], layout: Layout, n_bins: int) -> np.ndarray: ...
    def mean(self, sites: Mapping[str, Any], data: MultiRegionData) -> np.ndarray: ...


class FittedProcesses(Model, FittedModel, Protocol):
    """Interface that fits need of a model with Gaussian processes."""

    @property
    def gp_noise(self) -> float: ...
    @property
    def timescale_bounds(self) -> tuple[float, float] | None: ...
    @property
    def tables(self) -> FittedTables: ...

    def fit(
        self,
        data: MultiRegionData,
        method: str,
        *,
        start: "Fit | None" = None,
        fixed: Mapping[str, Any] | None = None,
        progress: bool = True,
    ) -> "Fit": ...
