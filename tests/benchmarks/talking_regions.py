"""Regions that talk: messages, inputs and the graph found by baselines, on networks whose truth is known.

    python tests/benchmarks/talking_regions.py [--networks memory_ring,...] [--seeds 1] [--random 10] [--models] [--epochs 150]

Three quarters of the trials train, the others are scored.

    cosine           of effectomes (mean norms of messages), off the diagonal
    false edges      the largest entry where there is no edge, over the mean one where there is
    message R2       true messages regressed on the inferred ones of the same edge; inputs likewise, of the same region
    input R2, summed of inputs that are residuals: summed up with a time constant of ten bins, as stimuli have

A method is a function of training and test trials that returns a Found: a model is one more entry of METHODS or MODELS.
With --models MRLFADS is fitted too, some minutes each; its effectome is of what messages move in their target.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import xarray as xr
from common import record, table
from mrgp.models import MRLFADS, CoupledLDS

import mrgp
from mrgp.metrics import (
    effectome_cosine,
    false_edge_ratio,
    input_r2,
    lagged_regression,
    message_r2,
    reduced_rank_regression,
)
from mrgp.parts.communication import SOURCE, TARGET, effectome_of
from mrgp.simulations.simulation import Simulation
from mrgp.simulations.talking import STIMULUS_BINS

# Nothing is hidden from the guide: all neurons are seen in the trials that are scored too.
TRAINING = {"learning_rate": 0.01, "batch_size": 32, "warm_up": 20, "patience": 15, "hidden_share": 0}
TRAINED = 0.75  # of the trials, which are in random order
HIDDEN_UNITS = {"counts": 0.76, "n_seen": 20}
HEAD = ["network", "seed", "method", "cosine", "false edges", "message R2", "input R2", "input R2, summed", "s"]


class Found(NamedTuple):
    """Communication found by a method; inputs are None where it has none.

    Attributes:
        effectome: (source, target).
        messages: Of the test trials, (trial, time, edge, message), with the names of edges.
        inputs: Of the test trials, (trial, time, region, input).
        summed: The same from residuals, summed up over time.
    """

    effectome: np.ndarray
    messages: xr.DataArray
    inputs: xr.DataArray | None = None
    summed: xr.DataArray | None = None


def lagged(train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, n_lags: int, rank: int) -> Found:
    """Ridge regression on all pasts, with messages of low rank."""
    fit = lagged_regression(train, n_lags, rank)
    return Found(fit.effectome().values, fit.messages(test), fit.inputs(test), fit.inputs(test, bins=STIMULUS_BINS))


def reduced_rank(train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, rank: int) -> Found:
    """Every pair of regions by itself, one bin late, without the target's own past."""
    names = train.layout.regions
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    fits = [reduced_rank_regression(train, names[i], names[j], rank, lag=1) for i, j in pairs]
    of_train, of_test = (np.stack([fit.messages(data) for fit in fits], 2) for data in (train, test))
    coords = {end: ("edge", [names[pair[k]] for pair in pairs]) for k, end in enumerate((SOURCE, TARGET))}
    messages = xr.DataArray(of_test, coords, ("trial", "time", "edge", "message"))
    return Found(effectome_of(of_train, pairs, len(names)), messages)


def mrlfads(train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, epochs: int) -> Found:
    """Messages of rates, with as many inputs and message numbers as the networks have."""
    emission = "poisson" if train.values.dtype.kind == "u" else "gaussian"
    model = MRLFADS(16, 48, 2, 2, emission=emission)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit(train, progress=False, max_iterations=epochs, **TRAINING)
    return Found(fit.effectome(test).values, fit.messages(test)["mean"], fit.inputs(test)["mean"])


def coupled(train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, epochs: int) -> Found:
    """Linear dynamics of each region that drive each other."""
    emission = "poisson" if train.values.dtype.kind == "u" else "gaussian"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = CoupledLDS(6, emission=emission).fit(train, progress=False, n_starts=1, max_iterations=epochs)
    return Found(fit.effectome().values, fit.messages(test)["mean"])


type Method = Callable[[mrgp.MultiRegionData, mrgp.MultiRegionData], Found]

METHODS: dict[str, Method] = {
    "reduced rank, pairs": partial(reduced_rank, rank=2),
    **{f"VAR, {n} lag{'s' * (n > 1)}, rank {r}": partial(lagged, n_lags=n, rank=r) for n, r in ((1, 2), (3, 2), (3, 4))},
}

MODELS: dict[str, Callable[..., Found]] = {"MRLFADS": mrlfads, "CoupledLDS": coupled}

NETWORKS: dict[str, Callable[[int], Simulation]] = {
    "memory_ring, no noise": lambda seed: mrgp.memory_ring(noise=0, seed=seed),
    "memory_ring": lambda seed: mrgp.memory_ring(seed=seed),
    "memory_ring, delays 1 to 4": lambda seed: mrgp.memory_ring(delay=(1, 2.5, 4), seed=seed),
    "memory_ring, counts, 20 of 32": lambda seed: mrgp.memory_ring(**HIDDEN_UNITS, seed=seed),
    "pass_decision": lambda seed: mrgp.pass_decision(seed=seed),
    "pass_decision, reverse": lambda seed: mrgp.pass_decision(reverse=True, seed=seed),
    "three_flows, counts": lambda seed: mrgp.three_flows(seed=seed),
}


def random_network(seed: int) -> Simulation:
    """A random network, counted, with a common input."""
    return mrgp.random_networks(seed, **HIDDEN_UNITS, common=0.5)


def scores(made: Simulation, method: Method) -> tuple[list[float], float]:
    """The scores of HEAD, NaN where a method has none, and seconds."""
    n_train = round(TRAINED * made.data.n_trials)
    train, test = made.data.select_trials(slice(0, n_train)), made.data.select_trials(slice(n_train, None))
    truth = made.truth.isel(trial=slice(n_train, None))
    began = time.perf_counter()
    found = method(train, test)
    seconds = time.perf_counter() - began
    graph = made.truth["effectome"].values
    of_inputs = [np.nan if own is None else input_r2(truth["inputs"], own) for own in (found.inputs, found.summed)]
    return [
        effectome_cosine(graph, found.effectome), false_edge_ratio(graph, found.effectome),
        message_r2(truth["messages"], found.messages), *of_inputs,
    ], seconds  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="", help="only those whose names begin with one of these, comma-separated")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--random", type=int, default=10, help="random networks")
    parser.add_argument("--models", action="store_true", help="fit models too")
    parser.add_argument("--epochs", type=int, default=100, help="of models")
    args = parser.parse_args()
    methods = METHODS | {name: partial(fit, epochs=args.epochs) for name, fit in MODELS.items() if args.models}
    starts = tuple(args.networks.split(","))
    made = [(name, seed, make) for name, make in NETWORKS.items() for seed in range(args.seeds)]
    made += [("random_networks, counts, 20 of 32, common", seed, random_network) for seed in range(args.random)]
    rows = []
    for name, seed, make in made:
        if not name.startswith(starts):
            continue
        simulation = make(seed)
        for label, method in methods.items():
            values, seconds = scores(simulation, method)
            shown = ["" if np.isnan(value) else f"{value:.3f}" for value in values]
            rows.append([name, seed, label, *shown, f"{seconds:.1f}"])
            print(rows[-1], flush=True)
    about = "512 trials x 60 bins of networks of 32 units per region; the last quarter of the trials is scored."
    only = f" --networks {args.networks}" if args.networks else ""
    only += f" --models --epochs {args.epochs}" if args.models else ""
    command = f"python tests/benchmarks/talking_regions.py --seeds {args.seeds} --random {args.random}{only}"
    title = f"Regions that talk: {'a model beside baselines' if args.models else 'baselines'}"
    record(title, f"{about}\n\n{table(HEAD, rows)}", command)


if __name__ == "__main__":
    main()
