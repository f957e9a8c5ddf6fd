"""Description of a recording, as a prompt or a notebook shows it."""

from typing import Any

import numpy as np

from mrgp.runtime.display import Card

MOST_LISTED = 6  # conditions that a recording shows one by one


def card_of(data: Any) -> Card:
    """Describe a recording: sizes, regions, conditions, and what is missing."""
    if not isinstance(data.values, np.ndarray):  # what a model sees while it is compiled
        return Card(f"{type(data).__name__} inside JAX: {data.layout}")
    holes = "" if data.observed is None else f", {len(data.observed)} pattern(s) of missing entries"
    ragged = "" if data.length is None else ", trials of different length"
    sizes = f"{data.n_trials} trials x {data.n_bins} bins of {1e3 * data.bin_width:g} ms"
    sizes += "" if data.layout.is_regular else " at irregular times"
    counts = zip(data.layout.regions, data.layout.n_neurons, strict=True)
    facts = {name: f"{n} neurons" for name, n in counts}
    if around := data.layout.window(data.n_bins):
        facts["aligned to"] = around
    if kinds := data.layout.conditions:
        trials = np.bincount(data.condition, minlength=len(kinds))
        each = ", ".join(f"{kind} ({n} trials)" for kind, n in zip(kinds, trials, strict=True))
        many = f"{len(kinds)}, of {trials.min()} to {trials.max()} trials"
        facts["conditions"] = f"{each if len(kinds) <= MOST_LISTED else many} (told apart with mean psth)"
    if not data.is_complete:
        facts["missing"] = f"{100 * data.missing_share:.3g}% of entries"
    return Card(f"{type(data).__name__}: {sizes}{holes}{ragged}", facts)
