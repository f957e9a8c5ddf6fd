"""Does CoupledLDS find who drives whom? Recordings drawn from the program, a third of the edges absent.

python tests/benchmarks/coupled.py [--recordings 10] [--method vb] [--steinmetz 13] [--calibrate 40]

4 regions x 3 states x 20 neurons, 100 trials x 50 bins: Gaussian values of signal-to-noise 1, Poisson counts of about
1 in a bin and signal-to-noise 0.5. The area under the ROC curve ranks edges by the evidence for them. An edge is pruned
where the evidence is against it; of those that are there and carry more than 5% of their target's variance none may be.
Then a recording of a mouse at a task (Steinmetz et al. 2019), whose counts must be told better than by each neuron's
rate. By method "vb" the first state is learned, and norms, also the true ones, are in that model's units; intervals of
q itself are beside those of its fits. And small recordings whose parameters are all drawn from their priors, each edge there or not by the toss of a coin,
as ``fit.edges`` takes them: intervals must cover as often as they say, and edges be there as often as their probability.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import record, reference, table
from mrgp.models import CoupledLDS
from scipy.stats import poisson

import mrgp
from mrgp.results.fit import Fit

REGIONS = dict.fromkeys("ABCD", 20)
ABSENT = 4  # of 12 edges
LARGE = 0.05  # share of the target's variance
STATES = 3  # of each region
MOST_COUNTED = 200  # spikes in a bin
HEAD = ("seed", "AUC", "large edges", "pruned", "true edges", "90% intervals cover", "false edges, kept",
        "converged", "fit s", "edges s", "norms, found / true")  # fmt: skip


def area(scores: np.ndarray, there: np.ndarray) -> float:
    """Area under the ROC curve: how often an edge that is there scores higher than one that is not."""
    yes, no = scores[there], scores[~there]
    return float((np.sign(yes[:, None] - no) / 2 + 0.5).mean())


def one(seed: int, emission: str, method: str) -> list[float]:
    """Draw a recording, fit it, and compare its edges with the truth."""
    rng = np.random.default_rng(seed)
    pairs = [(source, target) for source in REGIONS for target in REGIONS if source != target]
    absent = tuple(pairs[i] for i in rng.choice(len(pairs), ABSENT, replace=False))
    model = CoupledLDS(STATES, absent=absent, emission=emission)
    size = {"regions": REGIONS, "n_trials": 100, "n_bins": 50, "bin_width": 0.02}
    of_values = {"snr": 0.5, "offset": 0.5} if emission == "poisson" else {"snr": 1.0}
    made = mrgp.simulate(model, **size, **of_values, seed=seed)
    if emission == "poisson" and made.data.values.max() > MOST_COUNTED:
        return one(seed + 100, emission, method)  # a draw near the edge of stability, whose rates are those of no neuron
    full = model.replace(absent=(), start=start_for(method))
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = full.fit(made.data, method, seed=seed, n_starts=2, progress=False)
    fitted = time.perf_counter()
    edges = fit.edges()
    ended = time.perf_counter()
    truth = full.fitting.admitting(full, made.data, dict(made.sites))
    squares = full.regions(made.data.layout).squares
    norms = np.sqrt(np.asarray(squares(truth["coupling"])))
    shares = replace(fit, sites=truth).shares().values
    there, evidence = norms > 0, edges.log_bayes_factor.values
    large = there & (shares > LARGE)
    covered = (edges.lower.values <= norms) & (norms <= edges.upper.values)
    return [
        area(evidence, there), large.sum(), (large & (evidence < 0)).sum(), there.sum(), (covered & there).sum(),
        (~there & (evidence > 0)).sum(), fit.converged, fitted - began, ended - fitted,
        edges.norm.values[there].sum() / norms[there].sum(), *of_q(fit, norms, there, squares),
    ]  # fmt: skip


def start_for(method: str) -> str:
    """Law of the first state that a method needs."""
    return "learned" if method == "vb" else "stationary"


def of_q(fit: Fit, norms: np.ndarray, there: np.ndarray, squares: Callable) -> list[float]:
    """How many true edges the 90% intervals of q itself cover, after variational Bayes."""
    if fit.method != "vb":
        return []
    drawn = np.sqrt([np.asarray(squares(draw)) for draw in fit.samples["coupling"][0]])
    lower, upper = np.quantile(drawn, (0.05, 0.95), axis=0)
    return [float(((lower <= norms) & (norms <= upper) & there).sum())]


def kept(place: Path | None, seed: int, emission: str, method: str) -> list[float]:
    """Take a recording's numbers from the file of those that are done, or add them to it."""
    done = {}
    if place is not None and place.is_file():
        lines = map(json.loads, place.read_text().splitlines())
        done = {(line["emission"], line["seed"], line.get("method", "map")): line["numbers"] for line in lines}
    if (emission, seed, method) not in done:
        numbers = [float(number) for number in one(seed, emission, method)]
        if place is not None:
            with place.open("a") as file:
                line = {"emission": emission, "seed": seed, "method": method, "numbers": numbers}
                file.write(json.dumps(line) + "\n")
        return numbers
    return done[emission, seed, method]


def of_a_mouse(session: int, emission: str) -> tuple[list[str], list[list[object]]]:
    """Fit the three largest regions of a session, with edges and without; log p of test trials beside the trivial one's.

    The trivial model has a rate for each neuron.
    """
    data = mrgp.load_recording(reference(f"steinmetz_{session}.npz"), drop_dead=True)
    largest = sorted(data.layout.regions, key=lambda name: -data.region(name).shape[2])[:3]
    data = mrgp.load_recording(reference(f"steinmetz_{session}.npz"), regions=largest, drop_dead=True)
    order, cut = np.random.default_rng(0).permutation(data.n_trials), round(0.8 * data.n_trials)
    train, test = data.select_trials(np.sort(order[:cut])), data.select_trials(np.sort(order[cut:]))
    rate = np.maximum(train.floats.mean((0, 1)), 1e-3)
    plain = poisson.logpmf(np.asarray(test.values, int), rate).sum() / test.n_trials
    none = tuple((source, target) for source in largest for target in largest if source != target)
    model = CoupledLDS(STATES, emission=emission)
    fits, seconds = [], []
    for one in (model.replace(absent=none), model):
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fits.append(one.fit(train, progress=False, n_starts=1))
        seconds.append(f"{time.perf_counter() - began:.0f}")
    edges = fits[1].edges()
    columns = (edges.source_of_edge, edges.target_of_edge, edges.share, edges.log_bayes_factor)
    strong = [f"{s} to {t} ({100 * share:.0f}%)" for s, t, share, value in zip(*(c.values for c in columns), strict=True) if value > 0]
    scores = [f"{float(fit.log_likelihood(test).mean()):.1f}" for fit in fits]
    row = [session, train.layout.total_neurons, STATES, f"{plain:.1f}", *scores, ", ".join(strong), *seconds]
    print(row, flush=True)
    head = ["session", "neurons", "states", "each neuron's rate", "without edges", "with edges", "edges (share)"]
    return [*head, "s without", "s with"], [row]


def calibrated(count: int, method: str) -> tuple[list[str], list[list[object]]]:
    """How often intervals of norms cover the truth, and edges are there, over small recordings drawn from the prior."""
    names, inside, there, said = "ABC", {0.5: [], 0.9: []}, [], []
    pairs = [(source, target) for source in names for target in names if source != target]
    full = CoupledLDS(1, start=start_for(method))
    for seed in range(count):
        tosses = np.random.default_rng(seed).random(len(pairs)) < 0.5
        absent = tuple(pair for pair, toss in zip(pairs, tosses, strict=True) if not toss)
        size = {"regions": dict.fromkeys(names, 8), "n_trials": 30, "n_bins": 30, "bin_width": 0.02}
        made = mrgp.simulate(CoupledLDS(1, absent=absent), **size, snr=1.0, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = full.fit(made.data, method, seed=seed, n_starts=2, progress=False)
            tables = {share: fit.edges(share) for share in inside}
        truth = full.fitting.admitting(full, made.data, dict(made.sites))
        norms = np.sqrt(np.asarray(full.regions(made.data.layout).squares(truth["coupling"])))
        for share, edges in tables.items():
            inside[share].append((edges.lower.values <= norms) & (norms <= edges.upper.values))
        there.append(norms > 0)
        said.append(tables[0.9].probability.values)
    found, probability = np.concatenate(there), np.concatenate(said)
    rows: list[list[object]] = []
    for share, covered in inside.items():
        every = np.concatenate(covered)
        error = np.sqrt(share * (1 - share) / len(every))
        rows.append([f"{100 * share:.0f}% intervals cover", len(every), f"{every.mean():.2f}", f"{share:.2f} +- {error:.2f}"])
        rows.append([f"{100 * share:.0f}% intervals cover, edges that are there", found.sum(), f"{every[found].mean():.2f}", ""])
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.0)):
        told = (probability >= low) & (probability <= high)
        if told.any():
            rows.append([f"edges said to be there with probability {low:g} to {high:g}", told.sum(), f"{found[told].mean():.2f}",
                         f"{probability[told].mean():.2f}"])  # fmt: skip
    return ["of edges", "number", "share", "said"], rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=10)
    parser.add_argument("--emissions", default="gaussian,poisson")
    parser.add_argument("--method", default="map", choices=("map", "em", "vb"))
    parser.add_argument("--rows", type=Path, help="a file that keeps what is done, from which the same command goes on")
    parser.add_argument("--steinmetz", type=int, default=13, help="session; 0 for none")
    parser.add_argument("--counts", default="poisson", help="emission of the session")
    parser.add_argument("--calibrate", type=int, default=0, help="number of small recordings drawn from the prior")
    args = parser.parse_args()
    own = "" if args.method == "map" else f" --method {args.method}"
    if args.calibrate:
        head, lines = calibrated(args.calibrate, args.method)
        about = f"{args.calibrate} recordings of 3 regions x 1 state x 8 neurons, 30 trials x 30 bins. "
        about += "Of edges that may not be there an interval begins at 0, and so covers more often than it says."
        command = f"python tests/benchmarks/coupled.py --recordings 0{own} --steinmetz 0 --calibrate {args.calibrate}"
        record(f"Calibration of edges of coupled regions{own.replace(' --', ', ')}", f"{table(head, lines)}\n\n{about}", command)
    for emission in args.emissions.split(",") if args.recordings else ():
        found, rows = np.array([kept(args.rows, seed, emission, args.method) for seed in range(args.recordings)]), []
        for seed, line in enumerate(found):
            whole = (f"{number:.0f}" for number in line[1:6])
            last = f"{line[9]:.2f}", *(f"{number:.0f}" for number in line[10:])
            rows.append([seed, f"{line[0]:.3f}", *whole, bool(line[6]), *(f"{number:.0f}" for number in line[7:9]), *last])
        good, share = ((found[:, 0] >= 0.95) & (found[:, 2] == 0)).sum(), found[:, 4].sum() / found[:, 3].sum()
        note = f"{good} of {args.recordings} recordings with AUC >= 0.95 and no large edge pruned; {100 * share:.0f}% of the intervals of true edges cover."
        size = f"--recordings {args.recordings} --emissions {emission}"
        command = f"python tests/benchmarks/coupled.py {size}{own} --steinmetz 0"
        head = (*HEAD, "intervals of q cover") if args.method == "vb" else HEAD
        record(f"Edges of coupled regions, {emission}{own.replace(' --', ', ')}", f"{table(head, rows)}\n\n{note}", command)
    if args.steinmetz:
        head, lines = of_a_mouse(args.steinmetz, args.counts)
        about = "log p of test trials in nats per trial; all neurons of the three largest regions, 80% of the trials to train"
        record("Coupled regions of a mouse", f"{table(head, lines)}\n\n{about}", "python tests/benchmarks/coupled.py")


if __name__ == "__main__":
    main()
