"""Simulated populations with switching dynamics, whose neurons are recorded in one lot."""

import numpy as np
import xarray as xr

from mrgp.recordings.recording import MultiRegionData
from mrgp.simulations.design import require
from mrgp.simulations.simulation import Simulation
from mrgp.simulations.switching import simulate_switching

REGION = "all"


def simulate_population_clusters(
    n_clusters: int = 3,
    n_neurons: int = 20,
    n_latents: int = 2,
    n_states: int = 3,
    *,
    n_trials: int = 1,
    n_bins: int = 1500,
    bin_width: float = 0.02,
    stickiness: float = 5.0,
    noise: float = 0.3,
    mean_count: float | None = 0.5,
    seed: int = 0,
) -> Simulation:
    """Simulate populations with switching dynamics, their neurons in random order.

    Args:
        n_clusters: Populations.
        n_neurons: Of each.
        n_latents: Of each.
        n_states, n_trials, n_bins, bin_width, stickiness, noise, mean_count: As
            :func:`mrgp.simulations.switching.simulate_switching` has them.
        seed: Of everything.

    Returns:
        The recording, of one region ``all``; as truth those of ``simulate_switching`` that have no neurons, and
        ``clusters`` (neuron,).

    Raises:
        ValueError: a size or a number is out of range.
    """
    for name, size in {"n_clusters": n_clusters, "n_neurons": n_neurons}.items():
        require(size >= 1, f"{name} counts at least 1, not {size}")
    made = simulate_switching(
        {f"population {k}": n_neurons for k in range(n_clusters)}, n_latents, n_states, n_trials=n_trials,
        n_bins=n_bins, bin_width=bin_width, stickiness=stickiness, noise=noise, mean_count=mean_count, seed=seed,
    )  # fmt: skip
    order = np.random.default_rng(seed).permutation(n_clusters * n_neurons)
    data = MultiRegionData({REGION: made.data.floats[..., order]}, bin_width)
    truth = made.truth.drop_vars([name for name, values in made.truth.items() if "neuron" in values.dims])
    clusters = xr.DataArray(np.repeat(np.arange(n_clusters), n_neurons)[order], dims="neuron")
    return Simulation(data, truth.drop_dims("neuron", errors="ignore").assign(clusters=clusters))
