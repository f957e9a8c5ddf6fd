"""Held-out neurons of V1 and V2, mean of three splits of the trials and three sets of neurons: what models must beat.

    python tests/benchmarks/v1v2.py [baselines white smooth remembering] [--splits 3]

Trained on 300 trials, tested on 50; a fifth of each region's neurons is predicted from all others. Where a number of
latents is chosen, it is the one of highest log p of the 50 validation trials.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import record, reference, table
from mrgp.models import DLAG, FA, GFA, PCCA
from tqdm import tqdm

import mrgp
from mrgp import metrics
from mrgp.metrics import baselines

SCORES = {"PSTH RMSE": ("psth_rmse", 4), "trial RMSE": ("trial_rmse", 4), "R²": ("r2", 3), "bits/bin": ("bits_per_bin", 3)}
PUBLISHED = {  # beside the recording: PSTH RMSE of V1 and V2, and per-trial RMSE where it is known
    "training PSTH": (".0444/.0320", ""),
    "same-bin ridge, strength 100": (".0528/.0354", ""),
    "PSTH + ridge, strength 1000": (".0405/.0297", ".2649/.1915"),
}

type Maker = Callable[[mrgp.MultiRegionData, mrgp.MultiRegionData], Any]
"""From training and validation trials to whatever :func:`mrgp.metrics.cosmoothing` can score: a fit or a baseline."""


def fitted(model: Any, **settings: Any) -> Maker:
    """The fit of one model."""
    return lambda train, _: model.fit(train, progress=False, **settings)


def best_of(*candidates: Any) -> Maker:
    """The fit under which validation trials are most likely."""

    def make(train: mrgp.MultiRegionData, validation: mrgp.MultiRegionData) -> Any:
        fits = [model.fit(train, progress=False, n_starts=2) for model in candidates]
        best = max(fits, key=lambda fit: float(fit.log_likelihood(validation).sum()))
        print(f"chosen: n_across={best.model.n_across}, n_within={best.model.n_within}", flush=True)
        return best

    return make


GROUPS: dict[str, list[tuple[str, Maker]]] = {
    "baselines": [
        ("training PSTH", lambda train, _: baselines.training_psth(train)),
        ("same-bin ridge, strength 100", lambda train, _: baselines.ridge(train, 100.0)),
        ("same-bin ridge, cross-validated", lambda train, _: baselines.ridge(train)),
        ("PSTH + ridge, strength 1000", lambda train, _: baselines.psth_and_ridge(train, 1000.0)),
        ("PSTH + ridge, cross-validated", lambda train, _: baselines.psth_and_ridge(train)),
    ],
    "white": [
        ("FA, mean psth, latents chosen", best_of(*(FA(k, mean="psth") for k in (8, 11, 14, 17)))),
        ("PCCA, mean psth, latents chosen", best_of(*(PCCA(k, w, mean="psth") for k, w in ((3, (8, 2)), (6, (8, 2)), (6, (12, 3)))))),
        ("GFA, mean psth, 20 latents to choose from", fitted(GFA(20, mean="psth"))),
    ],
    "smooth": [
        ("DLAG(2, 2)", fitted(DLAG(2, 2))),
        ("DLAG(2, 2), mean psth", fitted(DLAG(2, 2, mean="psth"))),
    ],
    "remembering": [
        (
            "DLAG(4, (8, 2)), mean psth, noise ar1, order 4",
            fitted(DLAG(4, (8, 2), mean="psth", noise="ar1", order=4, max_delay=0.06), tolerance=1.0, n_starts=2),
        ),
    ],
}


def scored(make: Maker, data: mrgp.MultiRegionData, n_splits: int) -> tuple[dict[str, np.ndarray], float]:
    """Every score, (split, region), and seconds per fit."""
    found, seconds = [], 0.0
    for seed in range(n_splits):
        train, validation, test = metrics.split_trials(data.n_trials, seed).of(data)
        began = time.perf_counter()
        fit = make(train, validation)
        seconds += time.perf_counter() - began
        found.append(metrics.cosmoothing(fit, test, metrics.neuron_masks(data.layout)))
    return {name: np.array([one[score].values for one in found]) for name, (score, _) in SCORES.items()}, seconds / n_splits


def rows_of(models: list[tuple[str, Maker]], data: mrgp.MultiRegionData, n_splits: int) -> list[list[str]]:
    """One row of the table per model: V1/V2 for every score, published values, seconds."""
    rows = []
    for name, make in tqdm(models, unit=" models", leave=False):
        scores, seconds = scored(make, data, n_splits)
        cells = [
            " / ".join(f"{m:.{digits}f} ± {s:.{digits}f}".replace("0.", ".") for m, s in zip(v.mean(0), v.std(0), strict=True))
            for v, digits in ((scores[score], digits) for score, (_, digits) in SCORES.items())
        ]
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
            f"Mean and sd of {args.splits} splits (300 trials to train on, 50 to test) and 3 sets of held-out neurons (14 of V1, 4 of V2); "
            "bits per neuron and bin are a density in the units of the data, and compare models only."
        )
        body = f"{table(header, rows_of(GROUPS[group], data, args.splits))}\n\n{note}"
        record(f"Held-out neurons of V1 and V2: {group}", body, f"python tests/benchmarks/v1v2.py {group} --splits {args.splits}")


if __name__ == "__main__":
    main()
