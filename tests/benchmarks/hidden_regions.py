"""Hidden regions of real recordings: all neurons of one region predicted from the others, in bits per spike.

    python tests/benchmarks/hidden_regions.py [--recordings 13] [--models mrlfads:8,ctae:8,gpfa:10]

Regions, divisions of trials, models and score are those of hidden_neurons.py, and fits that it has kept (--fits) are
read. A fit is made once, from all neurons in training trials; in test trials each region is hidden in its turn, and what
its neurons do is predicted from the other regions. Scored are the neurons that fired in training. The baseline, Poisson
regression on 20 principal components of the other regions, is made anew for each. ``all`` pools the spikes of all
regions. Rows are kept in hidden_regions.jsonl, and are not made again.
"""

import argparse
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, record, table
from component_regression import bits
from hidden_neurons import BASELINE, RECORDINGS, Cell, fitted, trials_of

from mrgp.metrics.component_regression import component_regression
from mrgp.metrics.scorer import Predictor

DONE = Path(__file__).with_suffix(".jsonl")
ALL = "all"


def scored(cell: Cell, fits: Path | None, epochs: int | None) -> dict[str, Any]:
    """One row of the results file."""
    warnings.simplefilter("ignore")
    train, test, _ = trials_of(cell)
    sizes = dict(zip(train.layout.regions, train.layout.n_neurons, strict=True))
    row: dict[str, Any] = {**cell._asdict(), "machine": machine(), "neurons": sizes, "trials": [train.n_trials, test.n_trials]}
    began, reason = time.perf_counter(), ""
    method: Predictor = component_regression(train)
    if cell.model != BASELINE:
        method, seconds = fitted(cell, train, fits, epochs)
        reason, began = method.reason, time.perf_counter() - seconds
    fired = {region: np.flatnonzero(train.region(region).any((0, 1))) for region in sizes}
    found = {region: bits(method, train, test, {region: own}, True) for region, own in fired.items()}
    found[ALL] = bits(method, train, test, fired, True)
    return row | {"bits": found, "reason": reason, "seconds": time.perf_counter() - began}


def of_recording(recording: str, rows: list[dict[str, Any]]) -> str:
    """Table of one recording: a line for each draw and model."""
    own = sorted((row for row in rows if row["recording"] == recording), key=lambda row: (row["draw"], row["model"] != BASELINE))
    regions, trials = own[0]["neurons"], own[0]["trials"]
    lines = [
        [row["model"].replace(":", ", "), row["draw"], *(f"{row['bits'][region]:.3f}" for region in [*regions, ALL]), f"{row['seconds']:.0f}", row["reason"]]
        for row in own
    ]
    heads = ["model, latents", "draw", *(f"{region} ({count})" for region, count in regions.items()), ALL, "s", "ended"]
    return f"steinmetz_{recording}: regions (neurons), {trials[0]} / {trials[1]} trials.\n\n{table(heads, lines)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", default="13")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--models", default="mrlfads:8,ctae:8,gpfa:10", help="names and numbers of latents; the baseline is always there")
    parser.add_argument("--fits", type=Path, help="keeps fits, and is read first")
    parser.add_argument("--epochs", type=int, help="of models with networks, at most")
    args = parser.parse_args()
    rows = [json.loads(line) for line in DONE.read_text().splitlines()] if DONE.is_file() else []
    known = {tuple(row[name] for name in Cell._fields) for row in rows}
    models = [BASELINE, *args.models.split(",")]
    cells = [Cell(recording, draw, model, False) for recording in args.recordings.split(",") for draw in range(args.draws) for model in models]
    for cell in (cell for cell in cells if cell not in known):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            rows.append(alone.submit(scored, cell, args.fits, args.epochs).result())
        with DONE.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps(rows[-1]), flush=True)
    about = "Bits per spike of all neurons of a region in test trials, predicted from the other regions."
    there = [recording for recording in RECORDINGS if any(row["recording"] == recording for row in rows)]
    done = ",".join(dict.fromkeys(row["model"] for row in rows if row["model"] != BASELINE))
    command = f"python tests/benchmarks/hidden_regions.py --recordings {','.join(there)} --draws {1 + max(row['draw'] for row in rows)} --models {done}"
    command += f" --epochs {args.epochs}" if args.epochs else ""
    record("Hidden regions by what the others do", "\n\n".join([about, *(of_recording(recording, rows) for recording in there)]), command)


if __name__ == "__main__":
    main()
