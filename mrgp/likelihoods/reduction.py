r"""Reduction of neurons to information about readouts.

It is all that a recording says, in as many numbers as there are latents.

With y = C x + d + e, e ~ N(0, diag R), the data touch the readouts x only through

    log p(y | x) = constant + b' x - x' Lambda x / 2,      b = C' R^-1 (y - d),      Lambda = C' R^-1 C,

so no neuron-by-neuron matrix is ever formed, and missing entries simply leave the sums. Readouts are ordered: the
copies of the across latents region by region, then every within latent.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from mrgp.likelihoods.blocks import in_blocks, size_of_blocks
from mrgp.parts.emissions.autocorrelated import innovations
from mrgp.parts.latents import LatentLayout
from mrgp.parts.loadings import readout_loadings
from mrgp.parts.readout import Readout
from mrgp.recordings.missing import Missing, centred, present

BLOCK = 100_000  # numbers of a recording that are worked on at a time


class Information(NamedTuple):
    """Information of the data about the readouts.

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


def reduce(
    assignment: LatentLayout, emission: Readout, values: Array, missing: Missing, origin: Array | None = None
) -> Information:
    """Reduce observations (trial, time, neuron) to information about the readouts.

    Observations are zero where missing.

    ``origin`` (neuron,) is what the emission's offsets are measured from, though ``values`` are not: squares of values
    far from zero would leave no digits of their spread. Of ``values`` less it only sums are taken, so that no second
    recording is stored. Where the emission has a course, values are :func:`centred` by it before; where its noise
    remembers, they are reduced by :func:`reduce_innovations`.
    """
    values = jnp.asarray(values, jnp.result_type(float))  # of integers, squares would wrap round
    C = readout_loadings(assignment, emission.loadings)
    scaled = C / emission.noise[:, None]
    n_bins = values.shape[1]
    rows = scaled.T  # made outside the loop: its slope is summed there as rows x neurons, as the recording lies
    size = max(1, min(len(values), BLOCK // max(1, values[0].size)))  # the recording is read once, and never copied
    vectors = jnp.swapaxes(in_blocks(lambda trials: trials @ rows.T, size, (0,), values), 0, 1)
    squares, sums = _sums(values, missing, origin, size)
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


def reduce_innovations(assignment: LatentLayout, emission: Readout, values: Array, missing: Missing) -> Information:
    """Reduce innovations, which have white noise, to information about the readouts.

    As :func:`reduce`, but ``values`` are observations less their whole mean.

    Neurons are there in all bins of a trial, or in none.
    """
    assert emission.autocorrelation is not None
    phi = emission.autocorrelation[assignment.region_of_neuron]
    there = present(missing, values.shape[1])
    white = Readout(
        emission.loadings, (1 - phi**2) * emission.noise, jnp.zeros_like(emission.offset), emission.spread
    )
    found = reduce(assignment, white, innovations(values, phi) * there, missing)
    neurons = jnp.broadcast_to(jnp.asarray(there, values.dtype), values.shape)[:, 0]
    return found._replace(constant=found.constant + 0.5 * neurons @ jnp.log1p(-(phi**2)))


def _sums(values: Array, missing: Missing, origin: Array | None, size: int) -> tuple[Array, Array]:
    """Sum squares and values less ``origin`` over time, (trial, neuron) each, in blocks."""

    def summed(trials: Array, pattern: Array, length: Array | None) -> tuple[Array, Array]:
        if origin is not None:
            trials = centred(trials, origin[None, None], None, Missing(missing.observed, pattern, length))
        return (trials**2).sum(1), trials.sum(1)

    return in_blocks(summed, size, (0, 0, 0), values, missing.pattern, missing.length)


type Reduced = Callable[[Array, Missing, Array | None], Information]
"""From trials (trial, time, neuron), what is missing in them and their conditions to information."""


def reduce_in_blocks(reduced: Reduced, values: Array, missing: Missing, condition: Array | None) -> Information:
    """Reduce a large recording in blocks of trials; any other at once."""
    n_trials, n_bins, n_neurons = values.shape
    size = size_of_blocks(n_trials, n_bins * n_neurons)
    if size == n_trials:
        return reduced(values, missing, condition)
    observed, pattern, length = missing

    def of_block(values: Array, pattern: Array, length: Array | None, condition: Array | None) -> tuple[Array, Array]:
        found = reduced(values, Missing(observed, pattern, length), condition)
        return jnp.swapaxes(found.vectors, 0, 1), found.constant

    vectors, constant = in_blocks(of_block, size, (0, 0, 0, 0), values, pattern, length, condition)
    one = Missing(observed, pattern[:1], None if length is None else length[:1])
    precision = reduced(values[:1], one, None if condition is None else condition[:1]).precision  # that of all trials
    valid = None if length is None else (jnp.arange(n_bins)[:, None] < length).astype(vectors.dtype)
    return Information(jnp.swapaxes(vectors, 0, 1), precision, pattern, valid, constant)
