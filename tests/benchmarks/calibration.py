"""Are DLAG's posteriors calibrated? Ranks of true delays and timescales among draws (Talts et al. 2018).

python tests/benchmarks/calibration.py [--simulations 200] [--method laplace] [--seed 0] [--out out/calibration_laplace]

A run that is stopped goes on where it was when it is called again; results are recorded when it comes to its end.
"""

import argparse
from pathlib import Path

import numpy as np
from common import HERE, record, table
from mrgp.models import DLAG

from mrgp.studies.calibration.calibrate import calibrate, methods_with_draws
from mrgp.studies.calibration.rank_tests import PROBABILITIES

MODEL = DLAG(n_across=1, n_within=1, max_delay=0.1, timescale_bounds=(0.03, 0.3))
DESIGN = {"regions": {"V1": 10, "V2": 10}, "n_trials": 40, "n_bins": 50, "bin_width": 0.02, "snr": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--method", choices=methods_with_draws(), default="laplace")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder that keeps the simulations; one per method by default")
    args = parser.parse_args()
    out = args.out or HERE.parents[1] / "out" / f"calibration_{args.method}"
    found = calibrate(MODEL, args.simulations, method=args.method, seed=args.seed, out=out, **DESIGN)
    found.save(out)
    rows = []
    for name, row in found.table.T.items():
        covered = [f"{100 * row[f'covered_{100 * p:g}']:.1f} ± {100 * row[f'error_{100 * p:g}']:.1f}" for p in PROBABILITIES]
        ecdf = f"{row['ecdf_distance']:.3f} ({'inside' if row['ecdf_inside'] else 'OUTSIDE'})"
        rows.append([name, row["n"], f"{row['chi_square']:.1f}", f"{row['p']:.3f}", ecdf, *covered,
                     f"{row['mean_z']:+.2f}", f"{row['mean_square_z']:.2f}"])  # fmt: skip
    header = ["quantity", "ranks", "chi-square", "p", "ECDF off by (95% band)", *(f"in {100 * p:g}%" for p in PROBABILITIES),
              "mean z", "mean z²"]  # fmt: skip
    told, seconds = found.summary(), found.results["seconds"].values
    note = (
        "2 regions x 10 neurons, 40 trials x 50 bins of 20 ms, signal-to-noise 1, one across and one within latent per region; "
        "delays uniform within 100 ms, timescales log-uniform from 30 to 300 ms. Percent of intervals that hold the truth, "
        f"± the error by chance if calibrated. {told['n_failed']} of {told['n_simulations']} fits failed, "
        f"{told['n_not_converged']} did not converge, {told['n_widened']} widened max_delay; "
        f"{np.median(seconds):.1f} s each (median), {seconds.sum():.0f} s in all."
    )
    command = f"python tests/benchmarks/calibration.py --simulations {args.simulations} --method {args.method}"
    record(f"Calibration: {args.method}", f"{table(header, rows)}\n\n{note}", command)


if __name__ == "__main__":
    main()
