"""Loadings: priors, the columns that drive each neuron, and the variance they explain."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from mrgp.part import Part
from mrgp.parts.emissions.base import Emission, Priors
from mrgp.parts.latents import LatentLayout
from mrgp.parts.readout import LOADINGS, Readout
from mrgp.parts.sites import Site
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import MAP, Argument, Sentence

RELEVANCE = Site("alpha", "region", "column")  # the precision of loadings, by automatic relevance determination

VANISHED = 1e-3  # share of a region's shared variance, or of its noise: what explains less may not be there at all
SHARED = 0.02  # of a region's shared variance: below it a latent is not read there (Gokcen et al. 2023)
AUDIBLE = 1e-3  # of its noise: a region whose latents explain less reads none (their demo's value)
LEAST_RATE = 1e-3  # of alpha's prior, in squared data units: below it "map" runs to loadings of zero
FLAT = 1e-9  # rate of alpha's prior up to which loadings of log-rates can be held at zero
TYPICAL_POWER = 0.1  # of loadings of log-rates, squared: what relevance begins from
UNREAD = 1e6  # of the precision of loadings that are read: loadings a thousandth as large
VAGUE = 3.0  # prior sd of loadings in each region's units while a start is searched for


class Loadings(Part, family="loadings", tag="name", short=True):
    """Prior of loadings, which may also set priors of the emission's parameters."""

    own_sites: ClassVar[tuple[str, ...]] = ()  # beside loadings
    is_rotatable: ClassVar[bool] = True  # the prior stays where latents of a kind are rotated among themselves

    def sample(self, data: MultiRegionData, assignment: LatentLayout, emission: Emission) -> Readout:
        """Sample loadings (neuron, column) and the emission's own parameters.

        Called inside a NumPyro program.
        """
        raise NotImplementedError

    def unsuited(self, emission: Emission) -> str | None:
        """Reason why these loadings do not go with an emission, or None."""
        return None

    def objection(self, methods: Collection[str], emission: Emission, data: MultiRegionData) -> Sentence | None:
        """Reason why the joint density of a model that has ``methods`` cannot be climbed, or None."""
        return None

    def objection_to_updates(self, emission: Emission) -> Sentence | None:
        """Reason why variational Bayes cannot update these loadings, or None."""
        return None

    def first_guess(self, data: MultiRegionData, assignment: LatentLayout, emission: Emission) -> dict[str, np.ndarray]:
        """First guess of the sites beside loadings."""
        return {}

    def scales(self, assignment: LatentLayout) -> dict[str, np.ndarray]:
        """Approximate posterior sd of the sites beside loadings, in unconstrained coordinates."""
        return {}


@dataclass(frozen=True)
class Weak(Loadings):
    r"""Weak prior of loadings: C ~ N(0, scale^2), neuron by neuron.

    Args:
        signal_spread: Prior sd of what all latents together add to a neuron, sd(C x), in units of eta: the scale is
            that over the root of the number of latents that the neuron reads. Of counts a number near 1 holds the
            loadings of neurons that hardly fire, however many latents there are. None: every loading has the emission's
            own scale, and what latents add grows with their number.
    """

    signal_spread: float | None = None

    def __post_init__(self) -> None:
        if self.signal_spread is not None and not 0 < self.signal_spread < np.inf:
            raise ValueError(f"signal_spread is a positive number, or None, not {self.signal_spread}")

    def sample(self, data: MultiRegionData, assignment: LatentLayout, emission: Emission) -> Readout:
        scale = emission.loadings_scale(data)
        if self.signal_spread is not None:
            scale = self.signal_spread * emission.unit(data) / np.sqrt(assignment.used.sum(1).clip(1))
        with numpyro.plate("neuron", len(scale)):
            weak = dist.Normal(0.0, scale[:, None]).expand((len(scale), assignment.n_columns))
            loadings = LOADINGS.sample(weak.to_event(1))
        return emission.sample(data, assignment, loadings)

    def objection_to_updates(self, emission: Emission) -> Sentence | None:
        return "method 'vb' is of ", Argument("loadings", "relevance"), ": use ", MAP


@dataclass(frozen=True)
class Relevance(Loadings):
    r"""Automatic relevance determination: every region finds out which latents it reads.

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
        offset_precision: beta; counts have no use for it.
    """

    shape: float = 1e-12
    rate: float = 1e-12
    offset_precision: float = 1e-12

    own_sites: ClassVar[tuple[str, ...]] = (RELEVANCE.name,)
    is_rotatable: ClassVar[bool] = False
    short_forms: ClassVar[Mapping[str, str]] = {name: name for name in ("shape", "rate", "offset_precision")}

    def __post_init__(self) -> None:
        for name in ("shape", "rate", "offset_precision"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} is a positive number, not {getattr(self, name)}")

    def sample(self, data: MultiRegionData, assignment: LatentLayout, emission: Emission) -> Readout:
        table = (assignment.n_regions, assignment.n_columns)
        alpha = RELEVANCE.sample(dist.Gamma(self.shape, self.rate).expand(table).to_event(2))
        with numpyro.plate("neuron", data.values.shape[-1]):
            spread = 1 / jnp.sqrt(alpha[assignment.region_of_neuron])
            loadings = LOADINGS.sample(dist.Normal(0.0, spread).to_event(1))
        noise = dist.InverseGamma(self.shape, self.rate)
        offset = dist.Normal(data.center, self.offset_precision**-0.5)
        return emission.sample(data, assignment, loadings, Priors(noise, offset))

    def unsuited(self, emission: Emission) -> str | None:
        default = Relevance().offset_precision
        named = emission.is_of_counts and self.offset_precision != default
        return "of counts has no use for offset_precision: leave it out" if named else None

    def objection_to_updates(self, emission: Emission) -> Sentence | None:
        if emission.is_of_counts and self.rate > FLAT:
            return "method 'vb' of counts needs ", Argument("rate", FLAT), " or less: use ", MAP
        return None

    def objection(self, methods: Collection[str], emission: Emission, data: MultiRegionData) -> Sentence | None:
        variance = TYPICAL_POWER if emission.is_of_counts else float(np.mean(data.scale**2))
        if self.rate < LEAST_RATE * variance:
            instead: Sentence = (Argument("method", "vb"), ", or ") if "vb" in methods else ()
            near = f"{variance:.2g}" if emission.is_of_counts else f"the recording's variance of {variance:.2g}"
            highest = " the density is highest where all loadings are zero: use "
            return "with ", Argument("rate", self.rate), highest, *instead, *_near(near)
        return None

    def first_guess(self, data: MultiRegionData, assignment: LatentLayout, emission: Emission) -> dict[str, np.ndarray]:
        table = (assignment.n_regions, assignment.n_columns)
        if emission.is_of_counts:
            return {RELEVANCE.name: np.full(table, 1 / TYPICAL_POWER)}
        size = np.array([np.mean(data.scale[part] ** 2) for part in data.layout.region_slices.values()])
        return {RELEVANCE.name: np.tile(1 / (VAGUE**2 * size)[:, None], (1, table[1]))}

    def scales(self, assignment: LatentLayout) -> dict[str, np.ndarray]:
        # A precision is told by as many loadings as its region has neurons.
        return {RELEVANCE.name: np.sqrt(2 / np.array(assignment.n_neurons))[:, None]}


def _near(rate: str, before: str = "") -> Sentence:
    return before, Argument("shape"), " near 1 and ", Argument("rate"), f" near {rate}"


# ---- loadings as numbers ---------------------------------------------------------------------------------------------


def readout_loadings(assignment: LatentLayout, loadings: Array) -> Array:
    """Block loadings of y = C x, (neuron, readout), with the readouts of all regions in x."""
    own = assignment.region_of_neuron[:, None] == assignment.region_of_readout
    return jnp.where(own, loadings[:, assignment.column_of_readout], 0.0)


def relevance_of(assignment: LatentLayout, loadings: np.ndarray) -> np.ndarray:
    """Precision of given loadings (neuron, column), (region, column).

    Columns that a region does not read have UNREAD times the precision of its smallest ones.
    """
    mean_square = assignment.member @ loadings**2 / assignment.member.sum(1, keepdims=True)
    read = mean_square > 0
    least = np.where(read, mean_square, np.inf).min(1, keepdims=True)
    return 1 / np.where(read, mean_square, least / UNREAD)


def ordered(assignment: LatentLayout, loadings: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Rotate loadings (neuron, column) so that each next latent explains as much as it can.

    The latents of each kind are rotated among themselves, so that C' R^-1 C is diagonal, largest first (Lawley &
    Maxwell 1971, ch. 2): this changes nothing where the latents of a kind are exchangeable. Across latents are rotated
    together in all regions, private ones region by region.
    """
    C, shared = np.array(loadings), assignment.n_across
    edges = np.cumsum([0, *assignment.n_neurons])
    own = zip(edges[:-1], edges[1:], assignment.n_within, strict=True)
    blocks = [(slice(None), slice(0, shared)), *((slice(a, b), slice(shared, shared + w)) for a, b, w in own)]
    for rows, columns in blocks:
        block = C[rows, columns]
        _, vectors = np.linalg.eigh(block.T @ (block / noise[rows, None]))
        C[rows, columns] = block @ vectors[:, ::-1]
    return C


def shared_variance(assignment: LatentLayout, loadings: np.ndarray, spread: np.ndarray | None) -> np.ndarray:
    """Share of each column of loadings in its region's E[|c|^2], (region, column).

    Rows sum to 1.
    """
    power = _power(assignment, loadings, spread)
    return power / np.maximum(power.sum(1, keepdims=True), np.finfo(float).tiny)


def signal_to_noise(
    assignment: LatentLayout, loadings: np.ndarray, noise: np.ndarray, spread: np.ndarray | None
) -> np.ndarray:
    """Ratio of the variance that latents explain to the noise variance, (region,)."""
    return _power(assignment, loadings, spread).sum(1) / (assignment.member @ noise)


def _power(assignment: LatentLayout, loadings: np.ndarray, spread: np.ndarray | None) -> np.ndarray:
    """E[|c|^2] of each column of loadings of each region, (region, column)."""
    square = loadings**2 if spread is None else loadings**2 + np.diagonal(spread, axis1=1, axis2=2)
    return assignment.member @ (square * assignment.used)
