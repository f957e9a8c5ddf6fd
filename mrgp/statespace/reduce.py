r"""From neurons to information about readouts: all that a recording says, in as many numbers as there are latents.

With y = C x + d + e, e ~ N(0, diag R), the data touch the readouts x only through

    log p(y | x) = constant + b' x - x' Lambda x / 2,      b = C' R^-1 (y - d),      Lambda = C' R^-1 C,

so no neuron-by-neuron matrix is ever formed, and missing entries simply leave the sums. Readouts are ordered: the
copies of the across latents region by region, then every within latent.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import gammaln

from mrgp.statespace.memory import innovations


@dataclass(frozen=True)
class Assignment:
    """Which neuron reads which latent; static.

    Attributes:
        n_neurons: Neurons per region.
        n_across: Latents shared by all regions.
        n_within: Private latents per region; 0 is allowed.
    """

    n_neurons: tuple[int, ...]
    n_across: int
    n_within: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.n_neurons) != len(self.n_within):
            raise ValueError(f"{len(self.n_neurons)} regions but n_within for {len(self.n_within)}")
        if self.n_across < 0 or min(self.n_within) < 0:
            raise ValueError("numbers of latents cannot be negative")
        if self.n_across + max(self.n_within) == 0:
            raise ValueError("a model needs at least one latent: n_across and n_within are all 0")

    @property
    def n_regions(self) -> int:
        return len(self.n_neurons)

    @property
    def n_readouts(self) -> int:
        return self.n_regions * self.n_across + sum(self.n_within)

    @property
    def n_columns(self) -> int:
        """Columns of the loadings: the across latents, then as many as the richest region has of its own."""
        return self.n_across + max(self.n_within)

    @property
    def log_symmetries(self) -> float:
        """Log of the number of parameter values alike in all but the signs and the order of latents."""
        kinds = (self.n_across, *self.n_within)
        return float(sum(count * np.log(2) + gammaln(count + 1) for count in kinds))

    @property
    def region_of_neuron(self) -> np.ndarray:
        return np.repeat(np.arange(self.n_regions), self.n_neurons)

    @property
    def member(self) -> np.ndarray:
        """Which neuron is in which region, 0 or 1, (region, neuron)."""
        return 1.0 * (self.region_of_neuron == np.arange(self.n_regions)[:, None])

    @property
    def region_of_within(self) -> np.ndarray:
        """(within_latent,): the region that owns each within latent."""
        return np.repeat(np.arange(self.n_regions), self.n_within)

    @property
    def region_of_readout(self) -> np.ndarray:
        return np.concatenate([np.repeat(np.arange(self.n_regions), self.n_across), self.region_of_within])

    @property
    def column_of_readout(self) -> np.ndarray:
        """The column of the loadings that each readout uses."""
        within = [self.n_across + np.arange(width) for width in self.n_within]
        return np.concatenate([np.tile(np.arange(self.n_across), self.n_regions), *within]).astype(int)

    @property
    def used(self) -> np.ndarray:
        """(neuron, column), bool: a region with fewer within latents leaves its last columns unused."""
        width = np.asarray(self.n_within)[self.region_of_neuron] + self.n_across
        return np.arange(self.n_columns) < width[:, None]


class Emission(NamedTuple):
    """Loadings C (neuron, column), noise variances R (neuron,), offsets d (neuron,).

    ``spread`` (neuron, column, column) are the covariances of loadings that are not known exactly: Lambda then is the
    expectation of C' R^-1 C, as variational Bayes needs it. ``course`` (condition, time, neuron) is what the mean of a
    trial of each condition adds to the offsets as time goes by; None for nothing. ``memory`` (region,) is phi of noise
    that remembers (see ``statespace.memory``); None for white noise. ``counts`` is the distribution of counts whose
    log-rates the others describe (:class:`mrgp.distributions.families.Counts`); None for Gaussian values.
    """

    loadings: Array
    noise: Array
    offset: Array
    spread: Array | None = None
    course: Array | None = None
    memory: Array | None = None
    counts: Any = None


class Missing(NamedTuple):
    """Which entries were observed; None where everything was.

    Attributes:
        observed: (pattern, time, neuron), bool.
        pattern: (trial,), index into ``observed``.
        length: (trial,), number of bins of each trial.
    """

    observed: Array | None
    pattern: Array
    length: Array | None


class Information(NamedTuple):
    """What the data say about the readouts.

    Attributes:
        vectors: b, (time, trial, readout).
        precision: Lambda, (time or 1, pattern, readout, readout).
        pattern: (trial,).
        valid: (time, trial), 0 after a trial's last bin, else 1; None when trials are equally long.
        constant: (trial,), log p(y | x = 0).
    """

    vectors: Array
    precision: Array
    pattern: Array
    valid: Array | None
    constant: Array


def exact_patterns(missing: Missing, n_bins: int, n_neurons: int) -> Missing:
    """The same missing data with every trial's end written into its pattern, as whatever looks back needs it.

    Filtering forward, a short trial shares the pattern of a long one; smoothing it does not.
    """
    if missing.length is None:
        return missing
    full = jnp.ones((1, n_bins, n_neurons), bool) if missing.observed is None else jnp.asarray(missing.observed)
    ends: Any = jnp.stack([missing.pattern, missing.length], -1)  # (trial, 2)
    pattern: Any = jnp.arange(len(missing.length))
    if not isinstance(ends, jax.core.Tracer):  # inside a traced function every trial keeps a pattern of its own
        ends, pattern = np.unique(np.asarray(ends), axis=0, return_inverse=True)
    inside = jnp.arange(n_bins) < ends[:, 1:]
    return Missing(full[ends[:, 0]] & inside[..., None], jnp.asarray(pattern), None)


def readout_loadings(assignment: Assignment, loadings: Array) -> Array:
    """The block loadings (neuron, readout) of y = C x with all regions' readouts stacked in x."""
    own = assignment.region_of_neuron[:, None] == assignment.region_of_readout
    return jnp.where(own, loadings[:, assignment.column_of_readout], 0.0)


def ordered(assignment: Assignment, loadings: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Loadings (neuron, column) with the latents of each kind rotated to explain as much as they can one by one.

    The rotation that makes C' R^-1 C diagonal, largest first (Lawley & Maxwell 1971, ch. 2): it changes nothing where
    the latents of a kind are exchangeable. Across latents are rotated together in all regions, private ones region by
    region.
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


def centred(values: Array, mean: Array, condition: Array | None, missing: Missing) -> Array:
    """Observations (trial, time, neuron) less the mean (condition, time or 1, neuron); those missing stay zero."""
    mean = mean if condition is None else mean[condition]
    return values - mean * present(missing, values.shape[1])


def present(missing: Missing, n_bins: int) -> Array | float:
    """Which entries were observed, to multiply (trial, time, neuron) with."""
    there: Array | float = 1.0
    if missing.observed is not None:
        there = there * missing.observed[missing.pattern]
    if missing.length is not None:
        there = there * (jnp.arange(n_bins) < missing.length[:, None])[..., None]
    return there


def reduce(
    assignment: Assignment, emission: Emission, values: Array, missing: Missing, origin: Array | None = None
) -> Information:
    """Reduce observations (trial, time, neuron), zero where missing, to information about the readouts.

    ``origin`` (neuron,) is what the emission's offsets are measured from, though ``values`` are not: squares of values
    far from zero would leave no digits of their spread. Of ``values`` less it only sums are taken, so that no second
    recording is stored. Where the emission has a course, values are :func:`centred` by it before; where its noise
    remembers, they are reduced by :func:`reduce_innovations`.
    """
    C = readout_loadings(assignment, emission.loadings)
    scaled = C / emission.noise[:, None]
    n_bins = values.shape[1]
    vectors = jnp.swapaxes(values @ scaled, 0, 1)
    rest = values if origin is None else centred(values, origin[None, None], None, missing)
    squares, sums = (rest**2).sum(1), rest.sum(1)  # (trial, neuron)
    whole = emission.offset if origin is None else origin + emission.offset
    length = missing.length
    valid = None if length is None else (jnp.arange(n_bins)[:, None] < length).astype(values.dtype)
    if missing.observed is None:
        shift = (whole @ scaled)[None, None]
        weight = jnp.ones((1, 1, len(scaled)), values.dtype)
        precision = (scaled.T @ C)[None, None]
        bins = jnp.asarray(n_bins if missing.length is None else missing.length[:, None], values.dtype)
        count = jnp.broadcast_to(bins, squares.shape)
    else:
        seen = weight = jnp.swapaxes(missing.observed, 0, 1).astype(values.dtype)  # (time, pattern, neuron)
        shift = (seen * whole) @ scaled
        precision = jnp.einsum("tgn,ni,nj->tgij", seen, scaled, C)
        shift = shift[:, missing.pattern]
        if missing.length is None:
            count = seen.sum(0)[missing.pattern]
        else:
            so_far = jnp.pad(jnp.cumsum(seen, axis=0), [(1, 0), (0, 0), (0, 0)])
            count = so_far[missing.length, missing.pattern]
    if emission.spread is not None:
        own = assignment.region_of_neuron[:, None] == assignment.region_of_readout  # (neuron, readout)
        column = assignment.column_of_readout
        wide = emission.spread[:, column][:, :, column] * (own[:, :, None] & own[:, None, :])
        precision = precision + jnp.einsum("tgn,nij->tgij", weight / emission.noise, wide)
    vectors = vectors - shift if valid is None else vectors - shift * valid[..., None]
    d, R = emission.offset, emission.noise
    constant = -0.5 * ((squares - 2 * d * sums + count * d**2) / R + count * jnp.log(2 * jnp.pi * R)).sum(-1)
    return Information(vectors, precision, missing.pattern, valid, constant)


def reduce_innovations(assignment: Assignment, emission: Emission, values: Array, missing: Missing) -> Information:
    """:func:`reduce` of innovations, which have white noise; ``values`` are less their whole mean.

    Neurons are there in all bins of a trial, or in none.
    """
    assert emission.memory is not None
    memory = emission.memory[assignment.region_of_neuron]
    there = present(missing, values.shape[1])
    white = Emission(
        emission.loadings, (1 - memory**2) * emission.noise, jnp.zeros_like(emission.offset), emission.spread
    )
    found = reduce(assignment, white, innovations(values, memory) * there, missing)
    neurons = jnp.broadcast_to(jnp.asarray(there, values.dtype), values.shape)[:, 0]
    return found._replace(constant=found.constant + 0.5 * neurons @ jnp.log1p(-(memory**2)))


VANISHED = 1e-3  # share of a region's shared variance, or of its noise: what explains less may not be there at all
SHARED = 0.02  # of a region's shared variance: below it a latent is not read there (Gokcen et al. 2023)
AUDIBLE = 1e-3  # of its noise: a region whose latents explain less reads none (their demo's value)


def shared_variance(assignment: Assignment, loadings: np.ndarray, spread: np.ndarray | None) -> np.ndarray:
    """E[|c|^2] of each column of loadings as a share of its region's, (region, column); rows sum to 1."""
    power = _power(assignment, loadings, spread)
    return power / np.maximum(power.sum(1, keepdims=True), np.finfo(float).tiny)


def signal_to_noise(
    assignment: Assignment, loadings: np.ndarray, noise: np.ndarray, spread: np.ndarray | None
) -> np.ndarray:
    """Variance that latents explain in each region over that of its noise, (region,)."""
    return _power(assignment, loadings, spread).sum(1) / (assignment.member @ noise)


def _power(assignment: Assignment, loadings: np.ndarray, spread: np.ndarray | None) -> np.ndarray:
    """E[|c|^2] of each column of loadings of each region, (region, column)."""
    square = loadings**2 if spread is None else loadings**2 + np.diagonal(spread, axis1=1, axis2=2)
    return assignment.member @ (square * assignment.used)
