"""Regions that talk: messages, inputs and the graph found by baselines, on networks whose truth is known.

    python tests/benchmarks/talking_regions.py [--networks 'memory_ring$'] [--seeds 1]
        [--random 10] [--first 0] [--methods 'VAR|MRLFADS'] [--epochs 100]

Three quarters of the trials train, the others are scored.

    cosine           of effectomes (mean norms of messages), off the diagonal
    false edges      the largest entry where there is no edge, over the mean one where there is
    message R2       true messages regressed on the inferred ones of the same edge; inputs likewise, of the same region
    input R2, summed of inputs that are residuals: summed up with a time constant of ten bins, as stimuli have
    delay            largest error of a true edge's, in bins
    silenced R2      change of rates of the others where A is heard by nobody, predicted by a fit that never saw it

A method is a function of training and test trials that returns a Found: a model is one more entry of METHODS. Models
take some minutes each; the effectome of MRLFADS is of what messages move in their target. It is measured with each kind
of channels, the first of which is its default ('MRLFADS$' is that alone). "smoothing" infers inputs from later bins too,
its messages begin at a regression and have as many numbers as the widest baseline's, and inputs cost what they cost
from the first epoch on; rows of it are of 60 epochs, others of 100. "messages told" is no method: it is given the true messages, regresses them on
the source's values at each delay, and takes the delay that predicts them best; no fit that has to find messages as well
can be expected to know delays better. Rows are kept in talking_regions.jsonl, beside this file, and the table is of all
of them: the newest of each network, seed and method.
"""

import argparse
import json
import re
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
    perturbation_r2,
    reduced_rank_regression,
)
from mrgp.parts.communication import SOURCE, TARGET, effectome_of
from mrgp.parts.networks.channels import RateChannels
from mrgp.simulations.simulation import Simulation
from mrgp.simulations.talking import STIMULUS_BINS

# Nothing is hidden from the guide: all neurons are seen in the trials that are scored too.
TRAINING = {"learning_rate": 0.01, "batch_size": 32, "patience": 15, "hidden_share": 0}
BY_REGRESSION = RateChannels(by_regression=True)
TRAINED = 0.75  # of the trials, which are in random order
HIDDEN_UNITS = {"counts": 0.76, "n_seen": 20}
SCORES = ["cosine", "false edges", "message R2", "input R2", "input R2, summed", "delay", "silenced R2"]
HEAD = ["network", "seed", "method", *SCORES, "s"]
TITLE = "Regions that talk: models beside baselines"
RANDOM = "random_networks, counts, 20 of 32, common"
TOLD = "messages told"
MOST_LATE, RIDGE = 6, 1e-6  # bins, and by how much a regression on values is held, in units of their variance
KEPT = Path(__file__).with_suffix(".jsonl")


class Found(NamedTuple):
    """Communication found by a method; inputs are None where it has none.

    Attributes:
        effectome: (source, target).
        messages: Of the test trials, (trial, time, edge, message), with the names of edges.
        inputs: Of the test trials, (trial, time, region, input).
        summed: The same from residuals, summed up over time.
        delays: Of the edges in bins, (edge,), with the names of edges.
        silenced: Predicted change of the test trials' rates where region A is heard by nobody, (trial, time, neuron).
    """

    effectome: np.ndarray
    messages: xr.DataArray
    inputs: xr.DataArray | None = None
    summed: xr.DataArray | None = None
    delays: xr.DataArray | None = None
    silenced: xr.DataArray | None = None


def lagged(train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, n_lags: int, rank: int) -> Found:
    """Ridge regression on all pasts, with messages of low rank."""
    fit = lagged_regression(train, n_lags, rank)
    without, summed = fit.perturb("A", test), fit.inputs(test, bins=STIMULUS_BINS)
    change = without["rate_without"] - without["rate"]
    return Found(fit.effectome().values, fit.messages(test), fit.inputs(test), summed, None, change)


def reduced_rank(train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, rank: int) -> Found:
    """Every pair of regions by itself, one bin late, without the target's own past."""
    names = train.layout.regions
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    fits = [reduced_rank_regression(train, names[i], names[j], rank, lag=1) for i, j in pairs]
    of_train, of_test = (np.stack([fit.messages(data) for fit in fits], 2) for data in (train, test))
    coords = {end: ("edge", [names[pair[k]] for pair in pairs]) for k, end in enumerate((SOURCE, TARGET))}
    messages = xr.DataArray(of_test, coords, ("trial", "time", "edge", "message"))
    return Found(effectome_of(of_train, pairs, len(names)), messages)


def mrlfads(
    train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, epochs: int, n_messages: int = 2, warm_up: int = 20, **own: Any
) -> Found:
    """Messages of rates, with as many inputs and message numbers as the rings have."""
    counts = train.values.dtype.kind == "u"
    model = MRLFADS(16, 48, 2, n_messages, emission="poisson" if counts else "gaussian", **own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit(train, progress=False, max_iterations=epochs, warm_up=warm_up, **TRAINING)
    delays, change = fit.edges(test)["delay"] / test.bin_width, None
    if not counts:  # rates of the networks are 0 at rest; of counts nobody knows what they are without A
        without = fit.perturb("A", 0.0, test)
        change = without["rate_without"] - without["rate"]
    inputs = fit.inputs(test)["mean"]
    return Found(fit.effectome(test).values, fit.messages(test)["mean"], inputs, None, delays, change)


def coupled(train: mrgp.MultiRegionData, test: mrgp.MultiRegionData, epochs: int) -> Found:
    """Linear dynamics of each region that drive each other."""
    emission = "poisson" if train.values.dtype.kind == "u" else "gaussian"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = CoupledLDS(6, emission=emission).fit(train, progress=False, n_starts=1, max_iterations=epochs)
    return Found(fit.effectome().values, fit.messages(test)["mean"])


def told(made: Simulation, train: mrgp.MultiRegionData, test: mrgp.MultiRegionData) -> Found:
    """True messages, and the delays at which ridge regression on the source's values predicts them best."""
    messages = made.truth["messages"]
    source, target = (messages.coords[name].values for name in (SOURCE, TARGET))
    found = []
    for edge, own in enumerate(source):
        values, wanted = train.region(own), messages.values[: train.n_trials, :, edge]
        scores = [predicted(values, wanted, lag) for lag in range(MOST_LATE + 1)]
        best = int(np.argmax(scores))
        below, top, above = (scores[np.clip(place, 0, MOST_LATE)] for place in (best - 1, best, best + 1))
        bend = below - 2 * top + above  # of a parabola through the best and its neighbours
        found.append(best + 0.5 * (below - above) / bend if 0 < best < MOST_LATE and bend < 0 else best)
    delays = xr.DataArray(np.array(found, float), {SOURCE: ("edge", source), TARGET: ("edge", target)}, "edge")
    return Found(made.truth["effectome"].values, messages[train.n_trials :], delays=delays)


def predicted(values: np.ndarray, wanted: np.ndarray, lag: int) -> float:
    """R2 of a message about ridge regression on values that were there one bin and ``lag`` more before."""
    first, late = MOST_LATE + 1, lag + 1
    x = values[:, first - late : values.shape[1] - late].reshape(-1, values.shape[2])
    y = wanted[:, first:].reshape(len(x), -1)
    x, y = x - x.mean(0), y - y.mean(0)
    left = y - x @ np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]) * x.var(), x.T @ y)
    return float(1 - (left**2).sum() / (y**2).sum())


type Method = Callable[[mrgp.MultiRegionData, mrgp.MultiRegionData], Found]

PLAIN: dict[str, Method] = {
    "reduced rank, pairs": partial(reduced_rank, rank=2),
    **{f"VAR, {n} lag{'s' * (n > 1)}, rank {r}": partial(lagged, n_lags=n, rank=r) for n, r in ((1, 2), (3, 2), (3, 4))},
}

MODELS: dict[str, Callable[..., Found]] = {
    "MRLFADS": mrlfads,
    "MRLFADS, smoothing": partial(mrlfads, n_messages=4, warm_up=0, controller="smoothing", channels=BY_REGRESSION),
    **{f"MRLFADS, {channels}": partial(mrlfads, channels=channels) for channels in ("graph", "attention")},
    "CoupledLDS": coupled,
}

NETWORKS: dict[str, Callable[..., Simulation]] = {
    "memory_ring, no noise": partial(mrgp.memory_ring, noise=0),
    "memory_ring": mrgp.memory_ring,
    "memory_ring, delays 1 to 4": partial(mrgp.memory_ring, delay=(1, 2.5, 4)),
    "memory_ring, counts, 20 of 32": partial(mrgp.memory_ring, **HIDDEN_UNITS),
    "pass_decision": mrgp.pass_decision,
    "pass_decision, reverse": partial(mrgp.pass_decision, reverse=True),
    "three_flows, counts": mrgp.three_flows,
    RANDOM: partial(mrgp.random_networks, **HIDDEN_UNITS, common=0.5),
}


def scores(make: Callable[..., Simulation], method: Method | None) -> tuple[list[float], float]:
    """The SCORES of a network, NaN where a method has none, and seconds."""
    made = make()
    n_train = round(TRAINED * made.data.n_trials)
    train, test = made.data.select_trials(slice(0, n_train)), made.data.select_trials(slice(n_train, None))
    truth = made.truth.isel(trial=slice(n_train, None))
    began = time.perf_counter()
    found = told(made, train, test) if method is None else method(train, test)
    seconds = time.perf_counter() - began
    if method is None:
        return [delay_error(made, found) if name == "delay" else np.nan for name in SCORES], seconds
    graph = made.truth["effectome"].values
    of_inputs = [np.nan if own is None else input_r2(truth["inputs"], own) for own in (found.inputs, found.summed)]
    return [
        effectome_cosine(graph, found.effectome), false_edge_ratio(graph, found.effectome),
        message_r2(truth["messages"], found.messages), *of_inputs, delay_error(made, found),
        silenced_r2(made, make, found),
    ], seconds  # fmt: skip


def delay_error(made: Simulation, found: Found) -> float:
    """The largest error of a true edge's delay in bins."""
    if found.delays is None:
        return np.nan
    by_name = found.delays.set_index(edge=[SOURCE, TARGET])
    true = made.truth["delay"] / made.data.bin_width
    own = [by_name.sel({SOURCE: s, TARGET: t}).item() for s, t in zip(true[SOURCE].values, true[TARGET].values, strict=True)]
    return float(np.abs(np.array(own) - true.values).max())


def silenced_r2(made: Simulation, make: Callable[..., Simulation], found: Found) -> float:
    """R2 of the change of the other regions, of networks whose values are rates."""
    if found.silenced is None or "log_rate" in made.truth:
        return np.nan
    others = made.truth["region_of_neuron"].values != "A"
    change = (make(silenced=0).truth["rates"] - made.truth["rates"]).isel(neuron=others)
    own = found.silenced.isel(neuron=others)
    return perturbation_r2(change.isel(trial=slice(-own.sizes["trial"], None)), own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="", help="a pattern of the beginnings of names")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--random", type=int, default=10, help="random networks")
    parser.add_argument("--first", type=int, default=0, help="seed, for runs that go on from where others have ended")
    parser.add_argument("--methods", default="VAR|reduced", help="the same of methods; models are fitted if it is theirs")
    parser.add_argument("--epochs", type=int, default=100, help="of models")
    args = parser.parse_args()
    methods: dict[str, Method | None] = {TOLD: None, **PLAIN}
    methods |= {name: partial(fit, epochs=args.epochs) for name, fit in MODELS.items()}
    chosen = [name for name in NETWORKS if re.match(args.networks, name)]
    for name, make in ((name, NETWORKS[name]) for name in chosen):
        for seed in range(args.first, args.random if name == RANDOM else args.seeds):
            for label, method in methods.items():
                if re.match(args.methods, label):
                    values, seconds = scores(partial(make, seed=seed), method)
                    own = {key: None if np.isnan(v) else round(v, 4) for key, v in zip(SCORES, values, strict=True)}
                    row = {"network": name, "seed": seed, "method": label, **own, "s": round(seconds, 1)}
                    print(row, flush=True)
                    with KEPT.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    about = "512 trials x 60 bins of networks of 32 units per region; the last quarter of the trials is scored. Rows are "
    about += "of several runs, the newest of each kind."
    rows = [[cell(row[name]) for name in HEAD] for row in newest()]
    only = f" --networks '{args.networks}'" if args.networks else ""
    command = f"python tests/benchmarks/talking_regions.py --seeds {args.seeds} --random {args.random}{only}"
    record(TITLE, f"{about}\n\n{table(HEAD, rows)}", f"{command} --methods '{args.methods}' --epochs {args.epochs}")


def newest() -> list[dict[str, Any]]:
    """The newest row of each network, seed and method, in the order of networks and methods."""
    rows = [json.loads(line) for line in KEPT.read_text().splitlines()]
    kept = {(row["network"], row["seed"], row["method"]): row for row in rows}
    networks, methods = list(NETWORKS), [TOLD, *PLAIN, *MODELS]
    return [kept[key] for key in sorted(kept, key=lambda k: (networks.index(k[0]), k[1], methods.index(k[2])))]


def cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
