"""Does cross-validation find how many latents there are? Small simulated recordings whose numbers of latents are known.

python tests/benchmarks/crossval.py [--recordings 10] [--out DIR]

Every recording is judged twice: along the path that factor analysis finds, and on a grid. With --out, a run that is
stopped goes on where it was.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from common import record, table

import mrgp
from mrgp.simulate import simulate

TRUTHS = [(2, 1), (1, 1), (1, 2), (2, 2), (0, 2)]   # across, within each region
BIN = 0.02


def recording(seed: int) -> mrgp.MultiRegionData:
    """2 regions x 12 neurons, 40 trials x 30 bins, delays of 1 to 2.5 bins either way."""
    rng = np.random.default_rng(seed)
    n_across, n_within = TRUTHS[seed % len(TRUTHS)]
    later = rng.choice([-1, 1], n_across) * rng.uniform(1, 2.5, n_across) * BIN
    return simulate(
        regions={"A": 12, "B": 12}, n_across=n_across, n_within=n_within, n_trials=40, n_bins=30, bin_width=BIN,
        timescale_across=rng.uniform(2, 5, n_across) * BIN, timescale_within=rng.uniform(2, 5, 2 * n_within) * BIN,
        delay=np.stack([np.zeros(n_across), later]), snr=0.5, seed=seed,
    ).data  # fmt: skip


def own_errors(found: mrgp.CrossValidation) -> mrgp.Candidate:
    """What the rule would choose if standard errors were those of the scores themselves, not of paired differences."""
    scores = found.table
    near = -scores["difference"].values <= scores["se"].values[int(np.argmax(scores["mean"].values))]
    order = np.lexsort([scores["n_across"].values, scores["n_loadings"].values])
    return found.candidates[next(i for i in order if near[i])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=10)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model = mrgp.models.DLAG(likelihood="dense", max_delay=5 * BIN)
    rows, right = [], dict.fromkeys(["path", "grid", "best of the grid", "own errors"], 0)
    for seed in range(args.recordings):
        data, (n_across, n_within) = recording(seed), TRUTHS[seed % len(TRUTHS)]
        truth = mrgp.Candidate(n_across, (n_within, n_within))
        places = {name: args.out and args.out / f"{name}_{seed}" for name in ("path", "grid")}
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = mrgp.cross_validate(model, data, search=True, seed=seed, out=places["path"], progress=False)
            seconds = time.perf_counter() - began
            grid = mrgp.cross_validate(model, data, range(4), range(1, 4), seed=seed, out=places["grid"], progress=False)
        factors = ", ".join(str(own.chosen.n_across) for own in path.dimensions.values())
        found = {"path": path.chosen, "grid": grid.chosen, "best of the grid": grid.best, "own errors": own_errors(grid)}
        for name, candidate in found.items():
            right[name] += candidate == truth
        behind = grid.table.sel(candidate=str(truth))
        gap = f"{-float(behind['difference']):.2f} ± {float(behind['difference_se']):.2f}"
        failed = len(path.failures) + len(grid.failures)
        cells = [seed, truth, factors, *found.values(), gap, failed, f"{seconds:.0f}", f"{time.perf_counter() - began - seconds:.0f}"]
        rows.append(list(map(str, cells)))
        print(*rows[-1], sep=" | ", flush=True)
    header = ["recording", "truth", "factors", *right, "truth behind the best of the grid", "failed fits", "path s", "grid s"]
    rows.append(["right", "", "", *(f"{count} of {args.recordings}" for count in right.values()), "", "", "", ""])
    note = (
        "DLAG on 2 regions x 12 neurons, 40 trials x 30 bins, signal-to-noise 0.5, delays of 1 to 2.5 bins; 4 folds. Candidates are across+within; "
        "path: by factor analysis of each region (its dimensionalities under `factors`); grid: 0 to 3 across, 1 to 3 within. Both choose the smallest within one "
        "standard error of paired differences; `best of the grid` takes the highest score, and `own errors` the smallest within the standard error of the best score itself. Nats per trial."
    )
    record("Numbers of latents by cross-validation", f"{table(header, rows)}\n\n{note}", f"python tests/benchmarks/crossval.py --recordings {args.recordings}")


if __name__ == "__main__":
    main()
