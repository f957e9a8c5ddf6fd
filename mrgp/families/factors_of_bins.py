"""Gaussian factors of bins, by an encoder for each region."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mrgp.likelihoods.expansion import expanded
from mrgp.likelihoods.structured import Factors
from mrgp.parts.latents import LatentLayout
from mrgp.parts.networks import AroundBins

FIRST_ROOT = 1.0  # log of the root of a factor's precision: networks first learn from what is hardly uncertain
LOG_ROOTS = (-10.0, 10.0)  # of which an exponential is a number that double precision can work with
FARTHEST = 3.0  # sds of a latent: no expansion is around more, where counts would be beyond all numbers
PASSES = 2  # of the smoother, before the last expansion: each squares what the means are wrong by

type Slopes = Callable[[Array], tuple[Array, Array]]
"""From eta less the offsets to slopes and precisions of its log-densities, (trial, time, neuron) each."""


def readouts_of(layout: LatentLayout, region: int) -> np.ndarray:
    """Indices of a region's readouts: copies of across latents, then its own latents."""
    return np.flatnonzero(layout.region_of_readout == region)


def n_outputs(n_readouts: int) -> int:
    """Count the outputs of a region's encoder: a center and a root of a factor."""
    return n_readouts + n_readouts * (n_readouts + 1) // 2


def factors_of_bins(
    nets: Sequence[AroundBins | None], loadings: Sequence[Array | None], shown: tuple[Array, Array],
    layout: LatentLayout, slopes: Slopes, smoothed: Callable[[Factors], Array],
) -> Factors:  # fmt: skip
    """Read the factors of bins from what the guide sees, region by region.

    An encoder gives the factor itself: the fewer neurons are seen, the weaker it is. Linear readouts need none: log p
    is expanded (:mod:`mrgp.likelihoods.expansion`) around the mean of q that follows from the expansion before, from
    the mean of the prior on, as Newton's method does. Means are taken as they are: nothing is learned through them.

    Args:
        nets: Encoder of each region; None where the readout is linear.
        loadings: Linear readout of each region, (neuron, readout) in units of eta; None where it is a network.
        shown: Values, 0 where none is seen, and 1 where one is, (trial, time, neuron) each.
        layout: Latents of the regions.
        slopes: Of log p(y), by eta.
        smoothed: From factors to the means of readouts under q, (trial, time, readout).
    """
    values, seen = shown
    parts = [slice(*edges) for edges in pairwise(np.cumsum([0, *layout.n_neurons]))]
    places, size = [readouts_of(layout, r) for r in range(layout.n_regions)], layout.n_readouts
    nothing = jnp.zeros((*seen.shape[:2], size))
    centers, roots = nothing, jnp.zeros((*nothing.shape, size))
    for net, part, own in zip(nets, parts, places, strict=True):
        if net is not None:
            share = seen[..., part].mean(-1, keepdims=True)
            scaled = values[..., part] / jnp.maximum(share, 1 / (part.stop - part.start))
            out = net(jnp.concatenate([scaled, seen[..., part]], -1), share)
            center, root = _free(jnp.asarray(out, nothing.dtype), share, len(own))
            centers, roots = centers.at[..., own].set(center), roots.at[..., own[:, None], own].set(root)

    def around(mean: Array) -> Factors:
        guess = jnp.clip(mean, -FARTHEST, FARTHEST)
        told = zip(loadings, parts, places, strict=True)
        linear = [(C, part, own) for C, part, own in told if C is not None]
        eta = jnp.zeros(seen.shape, guess.dtype)
        for C, part, own in linear:
            eta = eta.at[..., part].set(guess[..., own] @ C.T)
        slope, precision = slopes(eta)
        c, F = centers, roots
        for C, part, own in linear:
            center, root = expanded(C, guess[..., own], slope[..., part], precision[..., part], seen[..., part] > 0)
            c, F = c.at[..., own].set(center), F.at[..., own[:, None], own].set(root)
        return Factors(c, F)

    if all(C is None for C in loadings):
        return Factors(centers, roots)
    mean = lax.fori_loop(0, PASSES, lambda _, mean: smoothed(around(mean)), nothing)
    return around(lax.stop_gradient(mean))


def _free(out: Array, share: Array, size: int) -> tuple[Array, Array]:
    """Center and root of the factors of a region from the outputs of its encoder."""
    center, log_root, below = jnp.split(out, [size, 2 * size], -1)
    scale = jnp.sqrt(share) * jnp.exp(jnp.clip(log_root + FIRST_ROOT, *LOG_ROOTS))
    rows, columns = np.tril_indices(size, -1)
    unit = jnp.broadcast_to(jnp.eye(size), (*out.shape[:2], size, size))
    return center, unit.at[..., rows, columns].set(below) * scale[..., None, :]
