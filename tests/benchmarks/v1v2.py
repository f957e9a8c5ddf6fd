"""Held-out neurons of V1 and V2, mean of three splits of the trials and three sets of neurons: what models must beat.

    python tests/benchmarks/v1v2.py [baselines] [--splits 3]

Trained on 300 trials, tested on 50; a fifth of each region's neurons is predicted from all others.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import record, reference, table
from tqdm import tqdm

import mrgp
from mrgp import baselines, metrics

SCORES = {"PSTH RMSE": ("psth_rmse", 4), "trial RMSE": ("trial_rmse", 4), "R²": ("r2", 3), "bits/bin": ("bits_per_bin", 3)}
PUBLISHED = {  # beside the recording: PSTH RMSE of V1 and V2, and per-trial RMSE where it is known
    "training PSTH": (".0444/.0320", ""),
    "same-bin ridge, strength 100": (".0528/.0354", ""),
    "PSTH + ridge, strength 1000": (".0405/.0297", ".2649/.1915"),
}

type Maker = Callable[[mrgp.MultiRegionData], Any]
"""From training trials to whatever :func:`mrgp.metrics.cosmoothing` can score: a fit or a baseline."""

GROUPS: dict[str, list[tuple[str, Maker]]] = {
    "baselines": [
        ("training PSTH", baselines.training_psth),
        ("same-bin ridge, strength 100", lambda train: baselines.ridge(train, 100.0)),
        ("same-bin ridge, cross-validated", baselines.ridge),
        ("PSTH + ridge, strength 1000", lambda train: baselines.psth_and_ridge(train, 1000.0)),
        ("PSTH + ridge, cross-validated", baselines.psth_and_ridge),
    ],
}


def scored(make: Maker, data: mrgp.MultiRegionData, n_splits: int) -> tuple[dict[str, np.ndarray], float]:
    """Every score, (region,), mean over the splits, and seconds per fit."""
    found, seconds = [], 0.0
    for seed in range(n_splits):
        split, masks = metrics.v1v2_splits(seed)
        train, _, test = split.of(data)
        began = time.perf_counter()
        fit = make(train)
        seconds += time.perf_counter() - began
        found.append(metrics.cosmoothing(fit, test, masks))
    means = {name: np.mean([one[score].values for one in found], 0) for name, (score, _) in SCORES.items()}
    return means, seconds / n_splits


def rows_of(models: list[tuple[str, Maker]], data: mrgp.MultiRegionData, n_splits: int) -> list[list[str]]:
    """One row of the table per model: V1/V2 for every score, published values, seconds."""
    rows = []
    for name, make in tqdm(models, unit=" models", leave=False):
        means, seconds = scored(make, data, n_splits)
        cells = ["/".join(f"{value:.{digits}f}".replace("0.", ".", 1) for value in means[score])
                 for score, (_, digits) in SCORES.items()]  # fmt: skip
        rows.append([name, *cells, *PUBLISHED.get(name, ("", "")), f"{seconds:.1f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", default=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--splits", type=int, default=3)
    args = parser.parse_args()
    if unknown := sorted(set(args.groups) - GROUPS.keys()):
        parser.error(f"there is no group {', '.join(unknown)}: choose from {', '.join(GROUPS)}")
    data = mrgp.load_recording(reference("v1v2_smoothed.npz"))
    header = ["V1/V2", *SCORES, "PSTH RMSE, reference", "trial RMSE, reference", "s per fit"]
    for group in args.groups:
        note = (
            f"Mean of {args.splits} splits (300 trials to train on, 50 to test) and 3 sets of held-out neurons (14 of V1, 4 of V2); "
            "bits per neuron and bin are a density in the units of the data, and compare models only."
        )
        body = f"{table(header, rows_of(GROUPS[group], data, args.splits))}\n\n{note}"
        record(f"Held-out neurons of V1 and V2: {group}", body, f"python tests/benchmarks/v1v2.py {group} --splits {args.splits}")


if __name__ == "__main__":
    main()
