r"""First guess of messages: what of each region predicts the others, beyond their own past.

Values y of all neurons are regressed on those of the last bins, together,

.. math::
    y_i(t) = \sum_j \sum_{l=1}^{L} W_{ji,l}\, y_j(t-l) + e_i(t),

and a message is read by W summed over lags, along the directions of the target that it moves most. It is scaled so that
the signal in it, which neighbouring bins share, has variance 1: noise that is added to messages is small beside that.
"""

import numpy as np
from jaxtyping import Float

from mrgp.parts.networks.channels import Edges
from mrgp.parts.networks.of_regions import Places
from mrgp.parts.regression_moments import GRID, Moments, fold_of_trials, leading
from mrgp.recordings.layout import Layout

LAGS = 3  # bins: of counts one bin says little
LEAST_SIGNAL = 0.1  # share of a message's variance: of less, the noise would be made large


def first_messages(
    values: Float[np.ndarray, "trial time neuron"], layout: Layout, n_messages: int
) -> Float[np.ndarray, "edge message place"] | None:
    """Weights of every edge's message on the neurons of its source.

    ``values`` are in units of each neuron around its mean, 0 where nothing was recorded. None where trials are too few,
    or too short, to tell.
    """
    if len(values) < 2 or values.shape[1] <= LAGS:
        return None
    parts = list(layout.region_slices.values())
    weights = sum(_weights(values))
    found = np.zeros((Edges.of(len(parts)).n_edges, n_messages, Places.of(layout).there.shape[1]))
    before, after = values[:, :-1], values[:, 1:]
    covariances = [
        [np.tensordot(before[..., own], other[..., own], ((0, 1), (0, 1))) for other in (before, after)]
        for own in parts
    ]
    for e, (source, target) in enumerate(zip(*Edges.of(len(parts))[:2], strict=True)):
        total, shared = covariances[source]
        W = weights[parts[source], parts[target]]
        M = W @ leading(total, W, n_messages)  # (neuron, message)
        own, signal = (np.einsum("nk,nm,mk->k", M, cov, M) / before[..., 0].size for cov in (total, shared))
        variance = np.maximum(signal, LEAST_SIGNAL * own)
        found[e, : M.shape[1], : len(M)] = (M / np.sqrt(np.where(variance > 0, variance, 1.0))).T
    return found


def _weights(values: Float[np.ndarray, "trial time neuron"]) -> Float[np.ndarray, "lag neuron target"]:
    """Ridge regression of a bin on those before it; the ridge is chosen by trials left out."""
    n_bins, n_neurons = values.shape[1:]
    past = np.concatenate([values[:, LAGS - lag : n_bins - lag] for lag in range(1, LAGS + 1)], -1)
    now = values[:, LAGS:]
    judging = fold_of_trials(len(values)) == 0
    judge, rest = (
        Moments.of(past[kept].reshape(-1, past.shape[-1]), now[kept].reshape(-1, n_neurons))
        for kept in (judging, ~judging)
    )
    missed = [judge.missed(weights).sum() for weights in rest.solutions(GRID)]
    whole = Moments(*(one + other for one, other in zip(judge, rest, strict=True)))
    [weights] = whole.solutions(GRID[[int(np.argmin(missed))]])
    return weights.reshape(LAGS, n_neurons, n_neurons)
