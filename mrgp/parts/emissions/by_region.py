"""Emissions of their own for every region, such as images beside counts."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random
from numpyro import handlers

from mrgp.parts.emissions.base import OWN, Emission, Priors
from mrgp.parts.emissions.beginning import Beginning
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS, NOISE, OFFSET, Readout
from mrgp.recordings.checks import DataError
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import Sentence

DIVIDER = "_"  # between a region and a site, ``images_noise``: a file's names cannot have "/" or "."


@dataclass(frozen=True)
class ByRegion(Emission):
    """One emission for each region.

    Models with networks take it as a mapping region -> emission.

    The sites of a region begin with its name, ``images_noise``.

    Args:
        regions: Names of the regions.
        emissions: Emission of each of them, or its name.
    """

    regions: tuple[str, ...]
    emissions: tuple[Emission, ...]

    is_uniform: ClassVar[bool] = False
    is_of_counts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "regions", tuple(self.regions))
        object.__setattr__(self, "emissions", tuple(Emission.named(emission) for emission in self.emissions))
        if len(self.regions) != len(self.emissions):
            raise ValueError(f"{len(self.regions)} regions, but {len(self.emissions)} emissions: give each region one")
        for region, emission in zip(self.regions, self.emissions, strict=True):
            if emission.is_autocorrelated:
                raise ValueError(f"region {region} has autocorrelated noise, which no emission by region can have")

    @classmethod
    def of(cls, emissions: Mapping[str, Emission | str]) -> Self:
        """Make it from a mapping region -> emission, or the emission's name."""
        return cls(tuple(emissions), tuple(emissions.values()))  # type: ignore[arg-type]

    # ---- the recording -------------------------------------------------------------------------------------------

    def each[T](self, data: MultiRegionData, ask: Callable[[Emission, MultiRegionData], T]) -> list[T]:
        """Ask the emission of each region of a recording about the region."""
        return [ask(self._of(name), region_alone(data, name)) for name in data.layout.regions]

    def _of(self, region: str) -> Emission:
        if region not in self.regions:
            raise DataError(f"region {region} has no emission: there are those of {', '.join(self.regions)}")
        return self.emissions[self.regions.index(region)]

    def check_values(self, data: MultiRegionData) -> None:
        self.each(data, lambda emission, own: emission.check_values(own))

    def check(self, data: MultiRegionData) -> None:
        self.each(data, lambda emission, own: emission.check(own))

    def unsuited(self, data: MultiRegionData) -> Sentence | None:
        return next((why for why in self.each(data, lambda emission, own: emission.unsuited(own)) if why), None)

    def trivial_log_likelihood(self, data: MultiRegionData) -> np.ndarray:
        return np.concatenate(self.each(data, lambda emission, own: emission.trivial_log_likelihood(own)))

    # ---- the program ---------------------------------------------------------------------------------------------

    def unit(self, data: MultiRegionData) -> Array:
        return jnp.concatenate(self.each(data, lambda emission, own: emission.unit(own)))

    def loadings_scale(self, data: MultiRegionData) -> Array:
        return jnp.concatenate(self.each(data, lambda emission, own: emission.loadings_scale(own)))

    def usual_spread_of_mean(self, data: MultiRegionData) -> Array:
        return jnp.concatenate(self.each(data, lambda emission, own: emission.usual_spread_of_mean(own)))

    def sample(
        self, data: MultiRegionData, assignment: LatentLayout, loadings: Array, priors: Priors = OWN
    ) -> Readout:
        readouts = {}
        for region, part in data.layout.region_slices.items():
            own = region_alone(data, region)
            alone = LatentLayout(own.layout.n_neurons, 1, (0,))
            with handlers.scope(prefix=region, divider=DIVIDER):
                readouts[region] = self._of(region).sample(own, alone, loadings[part], priors)
        noise = jnp.concatenate([own.noise for own in readouts.values()])
        offset = jnp.concatenate([own.offset for own in readouts.values()])
        return Readout(loadings, noise, offset, counts=readouts)

    def given(self, readout: Readout, eta: Array) -> dist.Distribution:
        edges = np.cumsum([len(own.offset) for own in readout.counts.values()])[:-1]
        parts = zip(readout.counts.items(), jnp.split(eta, edges, -1), strict=True)
        return SideBySide(tuple(self._of(region).given(own, part) for (region, own), part in parts))

    # ---- what inference asks -------------------------------------------------------------------------------------

    @property
    def beginning(self) -> Beginning:
        return BeginningByRegion(self)


class BeginningByRegion(Beginning):
    """Beginning of a fit with an emission for each region."""

    emission: ByRegion

    def nearly_gaussian(self, data: MultiRegionData) -> MultiRegionData:
        def transformed(emission: Emission, own: MultiRegionData) -> np.ndarray:
            return emission.beginning.nearly_gaussian(own).with_nan()

        return data.with_values(np.concatenate(self.emission.each(data, transformed), -1))

    def from_nearly_gaussian(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        """Convert loadings; noise and offsets are left out."""
        parts = iter(data.layout.region_slices.values())

        def converted(emission: Emission, own: MultiRegionData) -> np.ndarray:
            part = next(parts)
            of_region = {name: np.asarray(sites[name])[part] for name in (LOADINGS.name, NOISE.name, OFFSET.name)}
            return np.asarray(emission.beginning.from_nearly_gaussian(of_region, own)[LOADINGS.name])

        return {LOADINGS.name: np.concatenate(self.emission.each(data, converted))}


class SideBySide(dist.Distribution):
    """Distributions of entries (..., neuron) side by side along the last axis."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = dist.constraints.real
    pytree_data_fields = ("parts",)

    def __init__(self, parts: tuple[dist.Distribution, ...]) -> None:
        self.parts = parts
        shape = (*parts[0].batch_shape[:-1], sum(part.batch_shape[-1] for part in parts))
        super().__init__(batch_shape=shape, validate_args=False)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        keys = random.split(key, len(self.parts))
        return jnp.concatenate([p.sample(k, sample_shape) for p, k in zip(self.parts, keys, strict=True)], -1)

    def log_prob(self, value: Array) -> Array:
        edges = np.cumsum([part.batch_shape[-1] for part in self.parts])[:-1]
        values = jnp.split(value, edges, -1)
        return jnp.concatenate([p.log_prob(v) for p, v in zip(self.parts, values, strict=True)], -1)

    @property
    def mean(self) -> Array:
        return jnp.concatenate([part.mean for part in self.parts], -1)

    @property
    def variance(self) -> Array:
        return jnp.concatenate([part.variance for part in self.parts], -1)


def region_alone(data: MultiRegionData, region: str) -> MultiRegionData:
    """One region of a recording, which may be traced; patterns are those of all regions."""
    part = data.layout.region_slices[region]
    other: Any = copy.copy(data)
    size = part.stop - part.start
    other.layout = replace(data.layout, regions=(region,), n_neurons=(size,))
    other.values, other.center, other.scale = data.values[..., part], data.center[part], data.scale[part]
    other.observed = None if data.observed is None else data.observed[..., part]
    return other
