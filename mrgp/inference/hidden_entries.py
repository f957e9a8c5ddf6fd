"""Entries that are hidden from a guide in training.

Coordinated dropout: Keshtkaran & Pandarinath (2019, NeurIPS).
"""

import jax.numpy as jnp
from jax import Array, random

from mrgp.recordings.recording import MultiRegionData


def hidden_share_of(share: float, n_regions: int) -> float:
    """Compute the share of entries that is hidden on average (see :func:`hidden_entries`)."""
    return share if n_regions == 1 else 1 - (1 - share) * (1 - share / n_regions)


def hidden_entries(key: Array, share: float, data: MultiRegionData, n_read: int) -> Array:
    """Draw the entries that are hidden from the guide, (trial, time, neuron).

    In half of the trials they are whole neurons, in the others single bins; and in some, as many as a share of all
    trials, a whole region besides, where the guide reads several (``n_read``) together.
    """
    n_trials = data.n_trials if data.batch_size is None else data.batch_size
    n_neurons = data.layout.total_neurons
    by_trial, by_neuron, by_entry, by_region, chosen = random.split(key, 5)
    whole = random.bernoulli(by_trial, 0.5, (n_trials, 1, 1))
    neurons = random.bernoulli(by_neuron, share, (n_trials, 1, n_neurons))
    entries = random.bernoulli(by_entry, share, (n_trials, data.n_bins, n_neurons))
    hidden = jnp.where(whole, neurons, entries)
    if n_read == 1:
        return hidden
    region = jnp.asarray(data.layout.region_of_neuron) == random.randint(chosen, (n_trials, 1, 1), 0, n_read)
    return hidden | (region & random.bernoulli(by_region, share, (n_trials, 1, 1)))
