"""Does cross-validation find how many latents there are? Small simulated recordings whose numbers of latents are known.

python tests/benchmarks/crossval.py [--recordings 10] [--neighbours] [--out DIR]

With --out, a run that is stopped goes on where it was.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from common import record, table

import mrgp
from mrgp.simulations.simulate import simulate

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


def found_in(seed: int, out: Path | None, neighbours: bool) -> mrgp.CrossValidation:
    """A search in one recording."""
    model = mrgp.models.DLAG(likelihood="dense", max_delay=5 * BIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mrgp.cross_validate(
            model, recording(seed), search=True, neighbours=neighbours, seed=seed, out=out and out / f"path_{seed}", progress=False
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=10)
    parser.add_argument("--neighbours", action="store_true", help="also try one latent more and less of every kind")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows, right = [], {}
    for seed in range(args.recordings):
        n_across, n_within = TRUTHS[seed % len(TRUTHS)]
        truth = mrgp.Candidate(n_across, (n_within, n_within))
        last = path = found_in(seed, args.out, False)
        asked = {"chosen": path.chosen, "best": path.best, "own errors": own_errors(path)}
        if args.neighbours:
            last = found_in(seed, args.out, True)
            asked |= {"chosen, neighbours": last.chosen, "best, neighbours": last.best, "own errors, neighbours": own_errors(last)}
        seconds = sum(float(found.table["seconds"].sum()) for found in (*last.dimensions.values(), last))
        for name, candidate in asked.items():
            right[name] = right.get(name, 0) + (candidate == truth)
        factors = ", ".join(str(own.chosen.n_across) for own in path.dimensions.values())
        rows.append(list(map(str, [seed, truth, factors, *asked.values(), len(last.failures), f"{seconds:.0f}"])))
        print(*rows[-1], sep=" | ", flush=True)
    header = ["recording", "truth", "factors", *right, "failed fits", "s of all fits"]
    rows.append(["right", "", "", *(f"{count} of {args.recordings}" for count in right.values()), "", ""])
    note = (
        "DLAG on 2 regions x 12 neurons, 40 trials x 30 bins, signal-to-noise 0.5, delays of 1 to 2.5 bins; 4 folds. Candidates, across+within, are those of the path: "
        "factor analysis says how many latents each region reads (`factors`), and how many of them are shared varies. `chosen` is the smallest candidate within one "
        "standard error of paired differences, `best` the one of highest score, `own errors` the smallest within the standard error of the best score itself."
    )
    if args.neighbours:
        note += " The last three: also one latent more and less of every kind, until none is better."
    command = f"python tests/benchmarks/crossval.py --recordings {args.recordings}{' --neighbours' * args.neighbours}"
    record("Numbers of latents by cross-validation", f"{table(header, rows)}\n\n{note}", command)


if __name__ == "__main__":
    main()
