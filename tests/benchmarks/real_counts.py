"""Fits of counts hold on real recordings: regions, models, emissions and means drawn at random, each against own rates.

    python tests/benchmarks/real_counts.py [--trials 0] [--minutes 60] [--only steinmetz_3] [--sets all] [--workers 4]

Of every recording ten pairs and triples of regions, and all regions at once, x GPFA / DLAG / MDLAG x Poisson / negative
binomial x constant / psth means; of these cells a share, drawn by seed. A cell is right when its fit is finite, has
converged or says that it has not, and is above each neuron's own rate on training and on test trials (80 / 20). Cells
already in the results file are not fitted again, so that a run can be stopped and gone on with. Every cell has a process
of its own: programs of so many shapes do not fit beside each other.
"""

import argparse
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import combinations, product
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np
from common import machine, record, reference, table
from mrgp.models import DLAG, GPFA, MDLAG
from scipy.special import gammaln, xlogy

import mrgp
from mrgp.inference.density import prior_density
from mrgp.metrics import split_trials
from mrgp.parts.emissions import Poisson

FILES = ("steinmetz_1", "steinmetz_3", "steinmetz_12", "steinmetz_13")
DRAWN = 10  # pairs and triples of each file
DONE = Path(__file__).with_name("real_counts.jsonl")
MODELS = {
    "gpfa": lambda **choices: GPFA(3, **choices),
    "dlag": lambda **choices: DLAG(2, 1, max_delay=0.05, **choices),
    "mdlag": lambda **choices: MDLAG(3, shape=1.0, rate=0.1, max_delay=0.05, **choices),
}


def cells(share: float) -> list[tuple[str, tuple[str, ...], str, str, str]]:
    """(file, regions, model, emission, mean), in an order that visits all files early."""
    rng = np.random.default_rng(0)
    chosen = []
    for name in FILES:
        with np.load(reference(f"{name}.npz")) as stored:
            regions = [key for key in stored.files if stored[key].ndim == 3]
        sets = [*combinations(regions, 2), *combinations(regions, 3)]
        drawn = [sets[i] for i in rng.choice(len(sets), min(DRAWN, len(sets)), replace=False)]
        every = list(product([*drawn, tuple(regions)], MODELS, ("poisson", "negative_binomial"), ("constant", "psth")))
        kept = rng.choice(len(every), max(1, round(share * len(every))), replace=False)
        chosen += [(name, *every[i]) for i in kept]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def own_rates(train: mrgp.MultiRegionData, test: mrgp.MultiRegionData) -> float:
    """Log probability of test counts at each neuron's training rate, with half a spike more."""
    rate = (train.values.sum((0, 1)) + 0.5) / (train.n_trials * train.n_bins)
    return float((xlogy(test.values, rate) - rate - gammaln(test.values + 1)).sum())


def fitted(cell: tuple[str, tuple[str, ...], str, str, str], n_trials: int, iterations: int) -> dict:
    """One row of the results file."""
    warnings.simplefilter("ignore")
    name, regions, model, emission, mean = cell
    whole = mrgp.load_recording(reference(f"{name}.npz"), drop_dead=True)
    data = whole.select_neurons({region: [] for region in whole.layout.regions if region not in regions})
    if n_trials:
        data = data.select_trials(np.sort(np.random.default_rng(0).permutation(data.n_trials)[:n_trials]))
    order = split_trials(data.n_trials, seed=0, shares=(0.8, 0.0, 0.2))
    train, test = data.select_trials(order.train), data.select_trials(order.test)
    row: dict = {
        "file": name, "regions": list(regions), "model": model, "emission": emission, "mean": mean,
        "trials": train.n_trials, "neurons": data.layout.total_neurons,
        "machine": f"{jax.default_backend()}, {machine()}",
    }  # fmt: skip
    began = time.perf_counter()
    try:
        fit = MODELS[model](emission=emission, mean=mean).fit(train, "map", progress=False, max_iterations=iterations)
        row |= {
            "seconds": time.perf_counter() - began, "converged": fit.converged, "reason": fit.reason,
            "train": fit.trace[-1] - prior_density(fit.model, train, fit.sites, fit.sites), "test": float(fit.log_likelihood(test).sum()),
            "train_own": float(Poisson().trivial_log_likelihood(train).sum()), "test_own": own_rates(train, test),
            "spikes_test": float(test.values.sum()), "loading": float(np.abs(fit.sites["loadings"]).max()),
            "finite": bool(all(np.isfinite(value).all() for value in fit.sites.values())), "first": float(fit.trace[0]),
        }  # fmt: skip
    except Exception as error:
        row |= {"seconds": time.perf_counter() - began, "error": f"{type(error).__name__}: {error}"}
    return row


def is_right(row: dict) -> bool:
    return "error" not in row and row["finite"] and row["train"] > row["train_own"] and row["test"] > row["test_own"]


def report(rows: list[dict], total: int, command: str) -> None:
    groups: dict[tuple[str, ...], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["file"], row["model"], row["emission"], row["mean"]), []).append(row)
    lines = []
    for key, group in sorted(groups.items()):
        fine = [row for row in group if "error" not in row]
        gains = [(row["test"] - row["test_own"]) / row["spikes_test"] / np.log(2) for row in fine]
        lines.append([
            *key, f"{len(group)}", f"{sum(map(is_right, group))}", f"{sum(row['converged'] for row in fine)}",
            f"{np.min(gains):.3f} to {np.max(gains):.3f}" if fine else "", f"{max((row['loading'] for row in fine), default=0):.1f}",
            f"{np.median([row['seconds'] for row in group]):.0f}",
        ])  # fmt: skip
    wrong = [row for row in rows if not is_right(row)]
    named = "".join(f"\n- {'+'.join(row['regions'])}, {row['file']}, {row['model']}, {row['emission']}, {row['mean']}: "
                    f"{row.get('error', 'below own rates')}" for row in wrong)  # fmt: skip
    said = f"{len(rows)} of {total} cells fitted; {len(rows) - len(wrong)} finite and above own rates on training and test trials."
    heads = ["recording", "model", "emission", "mean", "cells", "right", "converged", "bits per spike over own rates, test trials",
             "largest loading", "s, median"]  # fmt: skip
    sizes = ", ".join(sorted({str(row["trials"]) for row in rows}))
    said += "".join(f" {sum(row.get('machine') == one for row in rows)} on {one}." for one in sorted({row["machine"] for row in rows if "machine" in row}))
    record("Counts of real recordings", f"{said} Training trials: {sizes}.{named}\n\n{table(heads, lines)}", command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1 / 3)
    parser.add_argument("--trials", type=int, default=0, help="at most so many trials of each recording; 0 for all")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no cell after so long; 0 only writes the table")
    parser.add_argument("--only", choices=FILES)
    parser.add_argument("--sets", choices=("few", "all"), help="pairs and triples of regions only, or all regions at once only")
    parser.add_argument("--workers", type=int, default=1, help="cells fitted at the same time")
    args = parser.parse_args()
    every = cells(args.share)
    rows = [json.loads(line) for line in DONE.read_text().splitlines()] if DONE.is_file() else []
    known = {(row["file"], tuple(row["regions"]), row["model"], row["emission"], row["mean"]) for row in rows}
    wanted = [cell for cell in every if cell not in known and args.only in (None, cell[0])]
    wanted = [cell for cell in wanted if args.sets in (None, "few" if len(cell[1]) < 4 else "all")]
    began = time.perf_counter()
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        due = wanted if args.minutes > 0 else []
        running = {pool.submit(fitted, cell, args.trials, args.iterations) for cell in due}
        for done in as_completed(running):
            if done.cancelled():
                break
            row = done.result()
            rows.append(row)
            with DONE.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            if time.perf_counter() - began > 60 * args.minutes:
                pool.shutdown(wait=False, cancel_futures=True)
    report(rows, len(every), f"python tests/benchmarks/real_counts.py --share {args.share:.3g} --trials {args.trials}")


if __name__ == "__main__":
    main()
