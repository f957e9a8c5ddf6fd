"""CTAE on reaches that two regions share, beside its ablations and DLAG: who knows the target?

    python tests/benchmarks/ctae.py [--seeds 0 1 2] [--epochs 110] [--models full DLAG ...] [--counts]

208 trials of reaches to eight targets (mrgp.centre_out_reach): 66 and 52 neurons whose rates are networks of four
shared latents and four private ones each. Models see roots of counts, smoothed by 40 ms (sd), or with --counts the
counts. The target is decoded by multinomial regression, cross-validated, from the latents of all trials: the shared
ones, and those of each region (the true ones: 0.93 to 0.95, and 0.10 to 0.13). "shared R2": the true shared latents
regressed on those found; "private R2" likewise, the mean of both regions. Every fit has a process of its own.
"""

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np
from common import HERE, in_fresh_process, peak_gb, record, table
from mrgp.models import CTAE, DLAG

import mrgp
from mrgp.metrics import decode_conditions

KEPT = HERE / "ctae.jsonl"  # every row that was ever computed
SMOOTHED = 0.04  # s
WEIGHTS = {False: {"alignment": 0.3, "orthogonality": 0.1}, True: {"alignment": 0.03, "orthogonality": 0.01}}
"""Of CTAE, by whether it sees counts."""
ABLATIONS: dict[str, dict[str, float]] = {
    "full": {}, "no alignment": {"alignment": 0.0}, "no orthogonality": {"orthogonality": 0.0},
    "no shared-only": {"shared_only": 0.0},
}  # fmt: skip
PUBLISHED = (
    "Published of motor cortex: full .69, private .22 and .21; no alignment .61, no shared-only .34, no orthogonality .31: "
    "there other terms matter most than here."
)
HOW = {"batch_size": 16, "warm_up": 5, "hidden_share": 0.0}
HEAD = ["seed", "model", "shared", "private A", "private B", "shared R2", "private R2", "epochs", "s", "peak GB"]


def r2(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the variance of true latents that those found explain by the best affine map."""
    X, Y = (part.reshape(-1, part.shape[-1]) for part in (found, truth))
    X = np.concatenate([X, np.ones((len(X), 1))], 1)
    rest = Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    return 1 - float((rest**2).sum() / ((Y - Y.mean(0)) ** 2).sum())


def one(model: str, seed: int, epochs: int, counts: bool) -> list[Any]:
    made = mrgp.centre_out_reach(seed=seed)
    data = made.data if counts else mrgp.preprocess(made.data, transform="sqrt", smooth=SMOOTHED)
    target, true = made.data.trial_coords["condition"], made.truth
    began = time.perf_counter()
    if model == "DLAG":
        fit: Any = DLAG(4, 4, max_delay=0.06, emission="poisson" if counts else "gaussian").fit(
            data, seed=seed, n_starts=1, tolerance=5.0, max_iterations=150, progress=False
        )
    else:
        emission = "poisson" if counts else "gaussian"
        settings = {**WEIGHTS[counts], **ABLATIONS[model], "width": 32, "emission": emission}
        fit = CTAE(4, 4, **settings).fit(data, seed=seed, max_iterations=epochs, progress=False, **HOW)
    seconds = time.perf_counter() - began
    latents = fit.latents()
    shared, private = latents["across_mean"].values, np.split(latents["within_mean"].values, 2, -1)
    own = np.split(true["within"].values, 2, -1)
    accuracy = [float(decode_conditions(part, target).accuracy) for part in (shared, *private)]
    kept = np.mean([r2(part, truth) for part, truth in zip(private, own, strict=True)])
    scores = [f"{value:.3f}" for value in (*accuracy, r2(shared, true["across"].values), kept)]
    return [seed, model, *scores, fit.iterations, f"{seconds:.0f}", f"{peak_gb():.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--models", nargs="+", default=[*ABLATIONS, "DLAG"], choices=[*ABLATIONS, "DLAG"])
    parser.add_argument("--counts", action="store_true", help="raw counts")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.one:
        print(json.dumps(one(*json.loads(args.one))))
        return
    for seed in args.seeds:
        for model in args.models:
            row = in_fresh_process(__file__, json.dumps([model, seed, args.epochs, args.counts]))
            with KEPT.open("a") as file:
                file.write(json.dumps({"counts": args.counts, "epochs": args.epochs, "row": row}) + "\n")
            print(row, flush=True)
            written(args)  # so that a run that is stopped leaves what it has found


def written(args: argparse.Namespace) -> None:
    """Record all rows that there are of such data and so many epochs, the last of each seed and model."""
    kept = [json.loads(line) for line in KEPT.read_text().splitlines()]
    same = [one["row"] for one in kept if (one["counts"], one["epochs"]) == (args.counts, args.epochs)]
    last = {(row[0], row[1]): row for row in same}
    order = [*ABLATIONS, "DLAG"]
    rows = sorted(last.values(), key=lambda row: (row[0], order.index(row[1])))
    what = "counts" if args.counts else "smoothed roots of counts"
    seeds = " ".join(map(str, sorted({row[0] for row in rows})))
    command = f"python tests/benchmarks/ctae.py --seeds {seeds} --epochs {args.epochs}{' --counts' * args.counts}"
    about = f"208 trials x 45 bins of 20 ms, 66 + 52 neurons, {what}. Bars: shared >= 0.65, private <= 0.3. {PUBLISHED}"
    record(f"CTAE on shared reaches, {what}", f"{about}\n\n{table(HEAD, rows)}", command)


if __name__ == "__main__":
    main()
