"""What presets with automatic relevance determination share: priors, start, and variational Bayes as their method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from mrgp.families.model import Preset
from mrgp.parts.emissions.base import OFFSET
from mrgp.parts.loadings import LOADINGS, RELEVANCE
from mrgp.parts.readout import Readout
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import AR1, MAP, Argument, Sentence

LEAST_RATE = 1e-3  # of alpha's prior, in squared data units: below it "map" runs to loadings of zero
TYPICAL_POWER = 0.1  # of loadings of log-rates, squared: what relevance begins from
VAGUE = 3.0  # prior sd of loadings in each region's units while a start is searched for


@dataclass(frozen=True)
class RelevancePreset(Preset, abstract=True):
    r"""A preset whose regions choose among the latents.

    .. math::
        C_{r,:,k} \sim N(0, \alpha_{r,k}^{-1} I), \qquad \alpha_{r,k}, \phi_n \sim \mathrm{Gamma}(a, b), \qquad
        d_n \sim N(\bar y_n, \beta^{-1})

    (Gokcen et al. 2023, eqs. 5-8), phi_n = 1 / R_n being the precision of a neuron's noise. There d has mean 0; here it
    has that of each neuron, so that nothing depends on a constant. Log-rates of counts have the prior of all models of
    counts, which holds those of neurons that hardly fire.

    Args:
        shape, rate: a and b, b in squared units of the recording. The reference values of 1e-12 hold no information;
            but the joint density of loadings and alpha is the higher at zero loadings the smaller b is, without limit,
            so for "map", SVI or NUTS take a near 1, and b near the variance of the recording, or near 0.1 for counts.
        offset_precision: beta; refused with counts, whose log-rates have a prior of their own.
    """

    shape: float = 1e-12
    rate: float = 1e-12
    offset_precision: float = 1e-12

    methods: ClassVar[tuple[str, ...]] = ("vb", "map")
    held_in_search: ClassVar[tuple[str, ...]] = (OFFSET.name, RELEVANCE.name)

    def __post_init__(self, *short: Any) -> None:
        super().__post_init__(*short)
        for name in ("shape", "rate", "offset_precision"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{type(self).__name__}: {name} is a positive number, not {getattr(self, name)}")
        if self.emission.is_of_counts and self.offset_precision != RelevancePreset.offset_precision:
            raise ValueError(f"{type(self).__name__} of counts has no use for offset_precision: leave it out")

    def objection(self, method: str, data: MultiRegionData) -> Sentence | None:
        if method == "vb" and self.emission.is_autocorrelated:
            return "method 'vb' has no update for ", AR1, ": use ", MAP
        if self.emission.is_of_counts and method == "vb":
            return "method 'vb' has no updates for counts: use ", MAP, *_near(f"{TYPICAL_POWER:g}", ", with ")
        variance = TYPICAL_POWER if self.emission.is_of_counts else float(np.mean(data.scale**2))
        if method != "vb" and self.rate < LEAST_RATE * variance:
            instead: Sentence = () if self.emission.is_of_counts else (Argument("method", "vb"), ", or ")
            near = f"{variance:.2g}" if self.emission.is_of_counts else f"the recording's variance of {variance:.2g}"
            highest = " the density is highest where all loadings are zero: use "
            return "with ", Argument("rate", self.rate), highest, *instead, *_near(near)
        return super().objection(method, data)

    def relevance_sites(self, data: MultiRegionData) -> Readout:
        """Sample alpha (region, column), and with it loadings (neuron, column), noise variances and the mean."""
        assignment = self.assignment(data.layout)
        table = (assignment.n_regions, assignment.n_columns)
        alpha = RELEVANCE.sample(dist.Gamma(self.shape, self.rate).expand(table).to_event(2))
        with numpyro.plate("neuron", data.values.shape[-1]):
            spread = 1 / jnp.sqrt(alpha[assignment.region_of_neuron])
            loadings = LOADINGS.sample(dist.Normal(0.0, spread).to_event(1))
        noise = dist.InverseGamma(self.shape, self.rate)
        offset = dist.Normal(data.center, self.offset_precision**-0.5)
        readout = self.emission.sample(data, assignment, loadings, noise, offset)
        return readout._replace(course=self.mean_course(data))

    def draw_start(self, rng: np.random.Generator, data: MultiRegionData, attempt: int) -> dict[str, np.ndarray]:
        return {**super().draw_start(rng, data, attempt), RELEVANCE.name: self._vague(data)}

    def completed(self, sites: Mapping[str, Any], data: MultiRegionData) -> dict[str, Any]:
        return {RELEVANCE.name: self._vague(data), **super().completed(sites, data)}

    def _vague(self, data: MultiRegionData) -> np.ndarray:
        assignment = self.assignment(data.layout)
        if self.emission.is_of_counts:
            return np.full((assignment.n_regions, assignment.n_columns), 1 / TYPICAL_POWER)
        size = np.array([np.mean(data.scale[part] ** 2) for part in data.layout.region_slices.values()])
        return np.tile(1 / (VAGUE**2 * size)[:, None], (1, assignment.n_columns))


def _near(rate: str, before: str = "") -> Sentence:
    return before, Argument("shape"), " near 1 and ", Argument("rate"), f" near {rate}"
