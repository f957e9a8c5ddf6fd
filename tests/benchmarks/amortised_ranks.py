"""Ranks of true latents among draws of the posteriors of guides, before and after gradient steps.

    python tests/benchmarks/amortised_ranks.py [--trials 200] [--epochs 300] [--steps 100]

Each model is trained on a small simulated recording; trials are drawn from the fit, and their latents inferred by it
(``mrgp.calibrate_latents``). Ranks are uniform where the posterior is right. Of the projections of a site the table has
the smallest p of chi-square tests, times their number; how far an ECDF is from uniform at most, with ! outside of its
simultaneous 95% band; and means of z squared, about 1 if widths are right and above if they are too narrow, and of how
often intervals of 90% hold the truth.
"""

import argparse
import re
import time
import warnings
from typing import Any

from common import record, table
from mrgp.models import GPVAE, LFADS, NeuralODE

import mrgp

HEADER = ("model", "posterior", "ranked", "p", "ECDF off by", "mean z²", "covered 90%", "seconds")


def cases(epochs: int) -> list[tuple[str, Any, mrgp.MultiRegionData, dict[str, Any]]]:
    """Name, model, recording and settings of the training of each."""
    chaos = mrgp.chaotic_network(1.5, n_units=30, n_conditions=20, n_repeats=10, n_bins=50, seed=0).data
    spiral = mrgp.simulate_spiral(n_neurons=40, per_axis=6, n_bins=60, seed=0).data
    delayed = mrgp.simulate(regions={"V1": 15, "V2": 12}, n_across=1, n_within=1, n_trials=150, n_bins=40, seed=0).data
    how = {"max_iterations": epochs}
    return [
        ("LFADS", LFADS(n_factors=10, n_states=10, n_inputs=1, n_initial=10, width=32), chaos, how),
        ("NeuralODE", NeuralODE(n_latents=3, width=32, reader=32), spiral, how),
        ("GPVAE, linear", GPVAE(1, 1, hidden=(), encoder=(32,)), delayed, how),
    ]


def row_of(rows: Any) -> list[str]:
    """Numbers of the quantities of one site."""
    outside = "" if rows["ecdf_inside"].all() else " !"
    p = min(1.0, len(rows) * rows["p"].min())
    off = f"{rows['ecdf_distance'].max():.3f}{outside}"
    return [f"{p:.2g}", off, f"{rows['mean_square_z'].mean():.2f}", f"{rows['covered_90'].mean():.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", nargs="+", default=None, help="names of models")
    args = parser.parse_args()
    rows: list[list[object]] = []
    for name, model, data, how in cases(args.epochs):
        if args.only is not None and name.partition(",")[0] not in args.only:
            continue
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = model.fit(data, progress=False, **how)
        print(f"{name}: {fit.reason}, {time.perf_counter() - began:.0f} s", flush=True)
        for posterior, one in (("guide", fit), (f"refined({args.steps})", fit.refined(args.steps))):
            began = time.perf_counter()
            found = mrgp.calibrate_latents(one, args.trials)
            seconds = time.perf_counter() - began
            for site, own in found.table.groupby(lambda quantity: re.sub(r" \d+$", "", quantity), sort=False):
                rows.append([name, posterior, site.replace("|", "\\|"), *row_of(own), f"{seconds:.0f}"])
                print(rows[-1], flush=True)
        how_called = f"--trials {args.trials} --epochs {args.epochs} --steps {args.steps}"
        command = f"python tests/benchmarks/amortised_ranks.py {how_called}"
        record("Guides: ranks of the true latents of trials", table(HEADER, rows), command)


if __name__ == "__main__":
    main()
